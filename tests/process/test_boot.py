"""Bad input: one sentence, exit status 2, nothing left running."""

import os

import pytest
from harness import children, wait_for

ENTRY = "[CRITICAL] "


@pytest.fixture
def refused(start):
    """`refused(app, ...)` starts a server that must fail; returns what stands on stderr."""

    def run(*args, **kwargs):
        server = start(*args, wait=False, **kwargs)
        seen = set()
        wait_for(lambda: seen.update(children(server.pid)) or server.process.poll() is not None)
        assert server.wait() == 2, server.stderr
        assert not any(os.path.exists(f"/proc/{pid}") for pid in seen)
        return server.stderr

    return run


def sentences(text):
    """The entries and sentences of the server's own, without times and pids."""
    return [line.split(ENTRY)[1] for line in text.splitlines() if ENTRY in line]


@pytest.mark.parametrize("workers", [1, 4])
def test_import_error(refused, application, workers):
    directory = application("import helper\n")
    (directory / "helper.py").write_text("def f():\n    return 1 / 0\nf()\n")
    text = refused("web:app", cwd=directory, workers=workers)
    assert text.count("Traceback (most recent call last)") == 1
    assert text.count("return 1 / 0") == 1
    assert "importlib" not in text and "fastfork/" not in text
    assert sentences(text) == [
        "Cannot serve web:app: importing it raised ZeroDivisionError: division by zero."]
    assert text.endswith("by zero.\n")  # the traceback first


@pytest.mark.parametrize(
    ("app", "sentence"),
    [
        ("absent:app", "Cannot import absent:app: there is no module named 'absent' in"),
        ("small_apps:pidd", "small_apps has no attribute 'pidd' (perhaps 'pid' is meant)."),
        ("small_apps", "small_apps has neither 'application' nor 'app'"),
        ("small_apps:os", "small_apps:os is a module, which is not callable."),
        ("small_apps:pid()", "Cannot serve small_apps:pid(): calling the factory raised TypeError"),
    ],
)
def test_app_that_cannot_be_served(refused, app, sentence):
    text = refused(app, workers=4)
    assert text.count("\n") == 1
    assert sentence in text


@pytest.mark.parametrize("code", ["", "0", "3"])
def test_exit_during_the_import_is_a_failed_boot(refused, application, code):
    text = refused("web:app", cwd=application(f"raise SystemExit({code})\n"), workers=4)
    (sentence,) = sentences(text)
    assert sentence == (
        f"Cannot serve web:app: importing it ended the process with SystemExit({code or None}).")


@pytest.mark.parametrize(
    ("statement", "end"),
    [
        ("os._exit(0)", "ended with exit status 0"),
        ("os._exit(9)", "ended with exit status 9"),
        ("os.kill(os.getpid(), 9)", "was killed by SIGKILL from outside"),
        ("os.abort()", "was killed by SIGABRT"),
    ],
)
@pytest.mark.parametrize(("preload", "who"), [("auto", "its mold"), ("off", "worker")])
def test_any_end_during_the_import_is_a_failed_boot(
    refused, application, statement, end, preload, who
):
    text = refused("web:app", "--preload", preload, workers=3,
                   cwd=application(f"import os\n{statement}\n"))  # fmt: skip
    (sentence,) = sentences(text)
    assert sentence.startswith(f"Cannot serve web:app: {who} ")
    assert sentence.endswith(f" {end} before it was ready.")


def test_a_failed_boot_does_not_wait_for_threads_that_never_end(refused, application):
    directory = application("""
import signal, threading
signal.signal(signal.SIGTERM, signal.SIG_IGN)
threading.Thread(target=threading.Event().wait).start()
raise ValueError("no")
""")
    assert len(sentences(refused("web:app", cwd=directory, workers=2))) == 1


def test_one_failing_worker_of_several_is_a_failed_boot(refused, application):
    directory = application("""
import os
try:
    os.mkdir("first")
except FileExistsError:
    raise RuntimeError("only one of us can be") from None
def app(environ, start_response): return []
""")
    (sentence,) = sentences(refused("web:app", "--preload", "off", cwd=directory, workers=3))
    assert "only one of us can be" in sentence


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["-w", "0"], "--workers '0' is not usable"),
        (["-b", "localhost"], "--bind 'localhost' is not an address"),
        (["-b", "192.0.2.1:0"], "Cannot listen on 192.0.2.1:0: it is not an address of this"),
        (["-b", "unix:/absent/directory/s"], "Cannot listen on unix:/absent/directory/s"),
        (["-b", "fd://0"], "Cannot listen on fd://0"),
        (["-b", "fd://77"], "descriptor 77 is not open"),
        (["--keep-alive", "soon"], "--keep-alive 'soon' is not usable"),
        (["--log-level", "loud"], "--log-level 'loud' is not usable"),
        (["--ready-fd", "77"], "--ready-fd 77 is not usable: it is not open."),
        (["--frobnicate"], "There is no flag or argument '--frobnicate'"),
        (["--chdir", "/absent"], "Cannot change to the directory '/absent'"),
        (["--access-log", "/absent/log"], "Cannot write the access log '/absent/log'"),
    ],
)
def test_bad_flags(refused, flags, sentence):
    text = refused("small_apps:pid", *flags, workers=2)
    assert text.count("\n") == 1
    assert sentence in text


def test_a_traceback_cannot_forge_entries(refused, application):
    directory = application(r"raise ValueError('a\n[2026-01-01 00:00:00 +0000] [1] [INFO] b')")
    text = refused("web:app", cwd=directory)
    assert [line for line in text.splitlines() if line.startswith("[")] == [
        line for line in text.splitlines() if ENTRY in line]
