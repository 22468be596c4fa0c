"""The command as it is: a process of its own, standard output and standard error apart."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness import PATIENCE, alive, children, wait_for

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import json, sys
from fastfork import check
from fastfork.config import Settings
from fastfork.deployment import Deployment, ServiceConfig
services = json.loads(sys.argv[1])
for settings in services.values():
    for name in "mount", "environment", "global_conf":
        settings[name] = tuple(map(tuple, settings.get(name, ())))
    for name in "bind", "python_path":
        settings[name] = tuple(settings.get(name, ()))
deployment = Deployment(Settings(), tuple(
    ServiceConfig(name, Settings(**settings)) for name, settings in services.items()))
sys.exit(check.run(lambda: deployment))
"""
APP = "def app(environ, start_response): pass\n"


class Done:
    def __init__(self, done):
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr
        self.lines = self.out.splitlines()


@pytest.fixture
def check(tmp_path):
    """`check(services, **modules)`: what `fastfork check` says of them in a directory with these
    modules; services are {name: settings}."""

    def run(services, cwd=tmp_path, program=PROGRAM, **modules):
        for name, text in modules.items():
            (cwd / f"{name}.py").write_text(text)
        done = subprocess.run(
            [sys.executable, "-c", program, json.dumps(services)], cwd=cwd, text=True,
            capture_output=True, timeout=PATIENCE, stdin=subprocess.DEVNULL,
            env=dict(os.environ, PYTHONPATH=str(ROOT), PYTHONUNBUFFERED=""))  # fmt: skip
        return Done(done)

    return run


def fine(name):
    """A line for a service that could be served begins so; the time that it took varies."""
    return f"{name}: imported in "


# -- what can be served ------------------------------------------------------------------
def test_each_service_has_its_line(check):
    done = check({"one": {"app": "web:app"}, "two": {"app": "web:make('x')"},
                  "three": {"mount": [("/a", "web:app"), ("/b", "web:app")]}},
                 web=APP + "def make(x): return app\n")  # fmt: skip
    assert (done.status, done.err) == (0, "")
    for name, line in zip(("one", "two", "three"), done.lines, strict=True):
        assert line.startswith(fine(name)) and line.endswith(" s")


def test_the_only_one_of_a_command_line_is_called_what_it_serves(check):
    assert check({"": {"app": "web:app"}}, web=APP).lines[0].startswith(fine("web:app"))
    done = check({"": {"mount": [("/a", "web:app")]}}, web=APP)
    assert done.lines[0].startswith(fine("/a=web:app"))


def test_all_is_as_in_a_worker(check, tmp_path):
    for name in "lib", "there":
        (tmp_path / name).mkdir()
    (tmp_path / "lib" / "helper.py").write_text("from there_too import here\n")
    (tmp_path / "there" / "there_too.py").write_text("import os; here = os.getcwd()\n")
    web = APP + f"""
import helper, os, sys, time
assert helper.here == os.getcwd() == {str(tmp_path / 'there')!r}
assert sys.path[:2] == [helper.here, {str(tmp_path / 'lib')!r}]
assert os.environ["OWN"] == "its value" and time.tzname[0] == "XYZ"
assert sys.argv[1:] == []
assert os.umask(0) == 0o27
"""
    (tmp_path / "there" / "web.py").write_text(web)
    done = check({"one": {"app": "web:app", "chdir": "there", "python_path": ["lib"], "umask": 0o27,
                          "environment": [("OWN", "its value"), ("TZ", "XYZ3")]}})  # fmt: skip
    assert (done.status, done.err) == (0, "")


def test_nothing_of_one_import_reaches_the_next(check):
    done = check({"one": {"app": "web:app", "environment": [("OWN", "1")]},
                  "two": {"app": "web:app", "environment": []}},
                 web=APP + "import os; os.chdir('/'); assert 'OWN' in os.environ\n")  # fmt: skip
    assert done.status == 1
    assert done.lines[0].startswith(fine("one"))
    assert done.lines[1] == "two: Cannot serve web:app: importing it raised AssertionError."


def test_what_an_import_leaves_behind(check):
    thread = """
import threading
threading.Thread(target=threading.Event().wait, name="mine").start()
"""
    services = {name: {"app": "web:app", "preload": name} for name in ("auto", "on", "off")}
    done = check(services | {"exclusive": {"app": "web:app", "exclusive": True}}, web=APP + thread)
    assert done.status == 0
    assert done.lines[0].endswith(
        " s; its import leaves behind the thread 'mine' (Thread, started by the import), so each "
        "worker imports for itself")
    assert all(line.endswith(" s") for line in done.lines[1:])


def test_under_gevent_the_import_finds_it_patched(check):
    pytest.importorskip("gevent")
    web = APP + """
import time, gevent
assert time.sleep is gevent.sleep
"""
    plain = APP + "import sys; assert 'gevent' not in sys.modules\n"
    done = check({"one": {"app": "web:app", "green": "gevent"}, "two": {"app": "plain:app"}},
                 web=web, plain=plain)  # fmt: skip
    assert (done.status, done.err) == (0, "")
    for name, line in zip(("one", "two"), done.lines, strict=True):
        assert line.startswith(fine(name)) and line.endswith(" s")


def test_hooks_are_found_and_not_called(check):
    web = APP + "def hook(worker): raise SystemExit\n"
    done = check({"one": {"app": "web:app", "on_worker_start": "web:hook"},
                  "two": {"app": "web:app", "on_worker_stop": "web:hok"}}, web=web)  # fmt: skip
    assert done.lines[0].startswith(fine("one"))
    assert done.lines[1] == ("two: --on-worker-stop 'web:hok' is not usable: web has no attribute "
                             "'hok' (perhaps 'hook' is meant).")
    assert done.status == 1


# -- what cannot -------------------------------------------------------------------------
def test_a_traceback_stands_on_standard_error(check):
    done = check({"one": {"app": "broken:app"}, "two": {"app": "web:app"}}, web=APP,
                 broken="def f():\n    return 1 / 0\nf()\n")  # fmt: skip
    assert done.status == 1
    assert done.lines[0] == ("one: Cannot serve broken:app: importing it raised "
                             "ZeroDivisionError: division by zero.")
    assert done.lines[1].startswith(fine("two"))
    assert "return 1 / 0" in done.err and "fastfork" not in done.err


def test_gevent_that_is_not_installed(check, tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "gevent.py").write_text("raise ImportError(\"No module named 'gevent'\")\n")
    done = check({"one": {"app": "web:app", "green": "gevent", "python_path": ["lib"]},
                  "two": {"app": "web:app"}}, web=APP)  # fmt: skip
    assert (done.status, done.err) == (1, "")
    assert done.lines[0] == ("one: green = gevent needs gevent (pip install 'fastfork[gevent]'): "
                             "No module named 'gevent'.")  # fmt: skip
    assert done.lines[1].startswith(fine("two"))


@pytest.mark.parametrize(
    ("statement", "end"),
    [
        ("os._exit(0)", "ended with exit status 0"),
        ("os._exit(3)", "ended with exit status 3"),
        ("os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
        ("os.kill(os.getpid(), 15)", "was killed by SIGTERM"),
        ("ctypes.string_at(0)", "was killed by SIGSEGV"),
    ],
)
def test_an_end_is_that_of_one_service(check, statement, end):
    done = check({"one": {"app": "broken:app"}, "two": {"app": "web:app"}}, web=APP,
                 broken=f"import ctypes, os\n{statement}\n")  # fmt: skip
    assert done.status == 1
    assert done.lines[0] == f"one: its process {end} in the middle of the import."
    assert done.lines[1].startswith(fine("two"))


def test_a_crash_shows_where(check):
    done = check({"one": {"app": "broken:app"}}, broken="import ctypes\nctypes.string_at(0)\n")
    assert 'broken.py", line 2' in done.err


def test_system_exit(check):
    done = check({"one": {"app": "broken:app"}}, broken="raise SystemExit(0)\n")
    assert done.status == 1
    assert done.lines == ["one: Cannot serve broken:app: importing it ended the process with "
                          "SystemExit(0)."]


def test_an_import_that_takes_too_long_is_killed(check, tmp_path):
    """Wherever it hangs, and whatever signals it ignores."""
    os.mkfifo(tmp_path / "gate")
    hangs = """
import signal
for number in signal.SIGTERM, signal.SIGINT, signal.SIGQUIT:
    signal.signal(number, signal.SIG_IGN)
def wait():
    open("gate")
wait()
"""
    done = check({"one": {"app": "hangs:app", "boot_timeout": 0.2}, "two": {"app": "web:app"}},
                 web=APP, hangs=hangs)  # fmt: skip
    assert done.status == 1
    assert done.lines[0] == "one: its import has taken more than 0.2 s (boot_timeout)."
    assert done.lines[1].startswith(fine("two"))
    assert "in wait" in done.err


def test_what_an_import_prints_is_not_among_the_lines(check):
    done = check({"one": {"app": "web:app"}}, web=APP + """
import os, sys
print("by print")
os.write(1, b"by write\\n")
""")  # fmt: skip
    assert done.status == 0 and len(done.lines) == 1
    assert sorted(done.err.splitlines()) == ["by print", "by write"]


def test_standard_output_that_an_import_has_replaced(check):
    done = check({"one": {"app": "web:app"}}, web=APP + "import sys; sys.stdout = None\n")
    assert done.status == 0 and done.lines[0].startswith(fine("one"))


def test_text_cannot_forge_lines(check):
    done = check({"one": {"app": "broken:app"}}, broken=r"raise ValueError('a\rtwo: imported')")
    assert len(done.out.split("\n")) == 2 and "\r" not in done.out


def test_who_writes_to_the_channel_is_told_of(check):
    done = check({"one": {"app": "web:app"}, "two": {"app": "quiet:app"}}, quiet=APP, web=APP + """
import os, socket
for fd in range(3, 50):
    try:
        kind = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        continue
    if kind.startswith("socket:"):
        os.write(fd, b"{}")
""")  # fmt: skip
    assert done.status == 1
    assert done.lines[0] == ("one: its import has written to a descriptor that is not its own: "
                             "a message that is no report.")
    assert done.lines[1].startswith(fine("two"))


# -- without an import -------------------------------------------------------------------
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"app": "not an app"}, "APP 'not an app' is not usable: it must be pkg.mod:attr"),
        ({"app": "web:app", "user": "no such user"}, "--user 'no such user' is not usable"),
        ({"app": "web:app", "socket_owner": ":"}, "--socket-owner ':' is not usable"),
        ({"app": "web:app", "bind": ["nowhere"]}, "--bind 'nowhere' is not an address"),
        ({"mount": [("/a%20b", "web:app")]}, "--mount '/a%20b' is not usable"),
    ],
)
def test_settings_that_are_unusable(check, settings, sentence):
    done = check({"one": settings, "two": {"app": "web:app"}}, web=APP)
    assert done.status == 2
    assert done.lines[0].startswith(f"one: {sentence}")
    assert done.lines[1].startswith(fine("two"))


@pytest.mark.parametrize(
    ("path", "why"),
    [("absent/log", "No such file or directory"), ("taken", "Is a directory"), ("new.log", "")],
)
def test_the_access_log_could_be_written(check, tmp_path, path, why):
    """It counts from the directory of the start."""
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "web.py").write_text(APP)
    done = check({"one": {"app": "web:app", "access_log": path, "chdir": "taken"}})
    if why:
        assert done.lines == [f"one: Cannot write the access log '{tmp_path / path}': {why}."]
    else:
        assert done.lines[0].startswith(fine("one"))
    assert done.status == bool(why)
    assert not (tmp_path / "new.log").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_it_is_the_user_of_the_workers_who_must_be_able_to(check, public):
    web = "import os\nassert os.getuid() == 65534\nassert os.environ['HOME'] == '/own'\n" + APP
    (public / "old.log").write_text("")
    common = {"app": "web:app", "user": "65534", "group": "65534",
              "environment": [("HOME", "/own")]}
    done = check({"new": {**common, "access_log": "new.log"}, "none": common,
                  "old": {**common, "access_log": "old.log"}}, cwd=public, web=web)  # fmt: skip
    assert [done.lines[0], done.lines[2]] == [
        f"{name}: Cannot write the access log '{public}/{name}.log': Permission denied."
        for name in ("new", "old")]
    assert done.lines[1].startswith(fine("none"))


def test_nothing_to_check(check):
    assert (check({}).status, check({}).out) == (0, "")


# -- the command -------------------------------------------------------------------------
def test_a_file_of_services(tmp_path):
    """Paste files, mounts and arguments too; a relative path counts from the file."""
    (tmp_path / "web.py").write_text(APP + "def make(*args, **conf): return app\n")
    (tmp_path / "api.ini").write_text("[app:main]\npaste.app_factory = web:make\n")
    (tmp_path / "fastfork.toml").write_text("""
[defaults]
chdir = "."
[services.one]
app = "paste:api.ini"
bind = "127.0.0.1:1"
[services.two]
mount = { "/a" = "paste:api.ini#absent", "/b" = "web:app" }
bind = "127.0.0.1:2"
[services.three]
app = "web:make('x', key=[1])"
bind = "127.0.0.1:3"
""")
    command = [sys.executable, "-m", "fastfork", "check", "-c", str(tmp_path / "fastfork.toml")]
    done = Done(subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE,
                               env=dict(os.environ, PYTHONPATH=str(ROOT)), cwd="/"))
    assert done.status == 1
    assert done.lines[0].startswith(fine("one"))
    assert done.lines[1] == (f"two: Cannot serve paste:{tmp_path}/api.ini#absent: "
                             f"{tmp_path}/api.ini has no application 'absent', only 'main'.")
    assert done.lines[2].startswith(fine("three"))


def test_interrupted_while_it_forks(check):
    """What Python calls after a fork swallows exceptions."""
    with_hook = PROGRAM.replace("sys.exit(", """
import os, signal
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGINT))
sys.exit(""")
    done = check({"": {"app": "web"}}, program=with_hook, web="while True: pass\n")
    assert (done.status, done.out, done.err) == (130, "", "")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_interrupted_it_leaves_nothing_behind(tmp_path, number, status):
    os.mkfifo(tmp_path / "gate")
    (tmp_path / "hangs.py").write_text("open('gate').read()\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "fastfork", "check", "hangs:app"], cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=dict(os.environ, PYTHONPATH=str(ROOT)))  # fmt: skip
    with open(tmp_path / "gate", "w"):  # the import has come to it
        (child,) = children(process.pid)
        process.send_signal(number)
        assert process.communicate(timeout=PATIENCE) == (b"", b"")
    assert process.returncode == status
    wait_for(lambda: not alive(child))
