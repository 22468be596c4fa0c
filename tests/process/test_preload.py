"""The application is imported once, in a mold from which the workers are forked."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from harness import alive, children, name, wait_for
from seen import kinds, kinds_at_rest

COUNTS = """
import os
with open("imports", "a") as file:
    file.write(f"{os.getpid()}\\n")
from small_apps import process as app
"""


def imports(directory):
    return [int(line) for line in (directory / "imports").read_text().split()]


@pytest.mark.parametrize("preload", ["auto", "on"])
def test_one_import_for_all_workers(web, tmp_path, preload):
    server = web(COUNTS, "--preload", preload, workers=4)
    (mold,) = server.molds()
    assert imports(tmp_path) == [mold]
    assert len(server.workers()) == 4
    assert json.loads(server.get("/").body)["pid"] in server.workers()


def test_each_for_itself(web, tmp_path):
    server = web(COUNTS, "--preload", "off", workers=4)
    assert server.molds() == []
    assert sorted(imports(tmp_path)) == sorted(server.workers())


def test_replacements_come_from_the_mold(web, tmp_path):
    server = web(COUNTS, workers=3)
    (mold,) = server.molds()
    for victim in server.workers():
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda victim=victim: len(server.workers()) == 3
                 and victim not in server.workers())
    assert imports(tmp_path) == [mold] == server.molds()


def test_the_master_is_the_parent_of_all(web):
    server = web(COUNTS, workers=3)
    assert sorted(children(server.pid)) == sorted([*server.molds(), *server.workers()])
    assert json.loads(server.get("/").body)["ppid"] == server.pid
    assert name(server.pid) == "fastfork"
    (mold,) = server.molds()
    assert children(mold) == []


@pytest.mark.parametrize("preload", ["auto", "off"])
def test_the_master_never_imports_application_code(web, preload):
    """A library that only the application uses is mapped where the application is imported."""
    server = web("import sqlite3, _lsprof\n" + COUNTS, "--preload", preload, workers=2)
    for pid in (*server.workers(), *server.molds()):
        assert "_lsprof" in Path(f"/proc/{pid}/maps").read_text()
    maps = Path(f"/proc/{server.pid}/maps").read_text()
    assert "_lsprof" not in maps and "_sqlite3" not in maps


def test_what_was_imported_is_frozen(web):
    server = web("""
import gc
from small_apps import answer
kept = [[] for _ in range(10000)]
def app(environ, start_response):
    return answer(start_response, str(gc.get_freeze_count()))
""")
    assert int(server.get("/").body) > 10000


THREAD = """
import threading
event = threading.Event()
threading.Thread(target=event.wait, name="statistics of mine", daemon=True).start()
"""


def test_a_thread_left_by_the_import(web, tmp_path):
    server = web(THREAD + COUNTS, workers=2)
    server.wait_stderr("statistics of mine")
    assert set(server.workers()) <= set(imports(tmp_path)) and len(imports(tmp_path)) == 3
    wait_for(lambda: server.molds() == [])


CONNECTION = """
import os, socket
database = socket.create_connection(("127.0.0.1", int(os.environ["DATABASE_PORT"])))
"""


@pytest.fixture
def database():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def test_a_connection_left_by_the_import(web, tmp_path, database):
    port = database.getsockname()[1]
    server = web(CONNECTION + COUNTS, workers=2, env={"DATABASE_PORT": str(port)})
    server.wait_stderr(f"127.0.0.1:{port}")
    assert set(server.workers()) <= set(imports(tmp_path)) and len(imports(tmp_path)) == 3


def test_replacements_also_import_for_themselves_then(web, tmp_path):
    server = web(THREAD + COUNTS, workers=1)
    (old,) = server.workers()
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: server.workers() not in ([], [old]))
    server.wait_stderr(" is ready.")
    assert server.workers()[0] in imports(tmp_path)


def test_on_forces_it_all_the_same(web, tmp_path):
    server = web(THREAD + COUNTS, "--preload", "on", workers=2)
    assert imports(tmp_path) == server.molds()


def test_what_is_no_obstacle(web, tmp_path):
    """Files, pipes, a listening socket, a datagram socket, a thread that has ended."""
    server = web("""
import os, socket, threading
file, pipe = open("a", "w"), os.pipe()
listening, logging = socket.create_server(("127.0.0.1", 0)), socket.socket(type=socket.SOCK_DGRAM)
logging.connect(("127.0.0.1", 9))
thread = threading.Thread(target=int)
thread.start()
thread.join()
""" + COUNTS, workers=2)
    assert imports(tmp_path) == server.molds()


def test_the_hub_of_gevent_is_no_obstacle(web, tmp_path):
    """Django's import makes such a queue, and that makes the hub, which has an epoll."""
    server = web("import queue\nmine = queue.SimpleQueue()\n" + COUNTS, "--green", "gevent",
                 workers=2)
    assert imports(tmp_path) == server.molds()
    assert json.loads(server.get("/").body)["pid"] in server.workers()


def test_an_event_loop_left_by_the_import_under_gevent(web, tmp_path):
    server = web("import ctypes\nctypes.CDLL(None).epoll_create1(0)\n" + COUNTS, "--green",
                 "gevent", workers=2)
    server.wait_stderr("an event loop's epoll")
    assert set(server.workers()) <= set(imports(tmp_path)) and len(imports(tmp_path)) == 3


def test_a_mold_that_dies_is_replaced_when_it_is_needed(web, tmp_path):
    server = web(COUNTS, workers=2)
    (mold,) = server.molds()
    workers = server.workers()
    os.kill(mold, signal.SIGKILL)
    server.wait_stderr(f"The mold {mold} of web:app was killed")
    assert json.loads(server.get("/").body)["pid"] in workers
    os.kill(workers[0], signal.SIGKILL)
    wait_for(lambda: len(server.workers()) == 2 and workers[0] not in server.workers(),
             message=lambda: server.stderr)
    assert workers[1] in server.workers()
    wait_for(lambda: len(imports(tmp_path)) == 2)
    server.wait_stderr(" is ready.")


def test_a_mold_stops_with_its_master(web):
    server = web(COUNTS, workers=2)
    everybody = [*server.molds(), *server.workers()]
    assert len(everybody) == 3
    assert server.stop() == 0
    assert not any(alive(pid) for pid in everybody)


def test_a_mold_does_not_outlive_a_killed_master(web):
    server = web(COUNTS, workers=2)
    everybody = [*server.molds(), *server.workers()]
    server.process.kill()
    wait_for(lambda: not any(alive(pid) for pid in everybody))


def test_nor_does_one_that_still_imports(web, gate):
    server = web(f"open({str(gate.path)!r}).read()\nwhile True: pass\n", "--preload", "on",
                 wait=False)
    gate.reached()
    gate.open()
    (mold,) = server.molds()
    server.process.kill()
    wait_for(lambda: not alive(mold))


def test_exit_code_of_the_application_runs_in_workers_only(web):
    server = web("""
import atexit, os
atexit.register(lambda: os.write(2, b"atexit in %d\\n" % os.getpid()))
from small_apps import pid as app
""", workers=2)
    workers = server.workers()
    assert server.stop() == 0
    lines = [line for line in server.stderr.splitlines() if line.startswith("atexit")]
    assert sorted(lines) == sorted(f"atexit in {pid}" for pid in workers)


def test_random_numbers_differ_between_workers(web, gates):
    server = web("""
import random, uuid
from small_apps import answer, wait
random.random()
def app(environ, start_response):
    wait(environ, lambda *args: None)
    return answer(start_response, f"{random.random()} {random.SystemRandom().random()}")
""", workers=3)
    assert len(server.molds()) == 1
    waiting, clients = [gates() for _ in range(3)], []
    try:
        for gate in waiting:
            clients.append(server.connect())
            clients[-1].send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            gate.reached()  # so the next connection is another worker's
        for gate in waiting:
            gate.open()
        drawn = [client.read_response().body.split() for client in clients]
    finally:
        for client in clients:
            client.close()
    assert len({first for first, _ in drawn}) == 3


@pytest.mark.parametrize("preload", ["auto", "on", "off"])
@pytest.mark.parametrize("code", ["", "0", "3"])
def test_exit_during_the_import_is_a_failed_boot(web, preload, code):
    server = web(f"raise SystemExit({code})\n", "--preload", preload, workers=3, wait=False)
    assert server.wait() == 2
    assert f"SystemExit({code or None})" in server.stderr
    assert server.stderr.count("CRITICAL") == 1


@pytest.mark.parametrize("preload", ["auto", "on", "off"])
@pytest.mark.parametrize(
    ("statement", "end"),
    [("os._exit(0)", "ended with exit status 0"), ("os._exit(9)", "ended with exit status 9"),
     ("os.kill(os.getpid(), 9)", "was killed"),
     ("os.abort()", "was killed by SIGABRT")])  # fmt: skip
def test_any_end_during_the_import_is_a_failed_boot(web, preload, statement, end):
    server = web(f"import os\n{statement}\n", "--preload", preload, workers=3, wait=False)
    assert server.wait() == 2
    assert end in server.stderr and "before it was ready." in server.stderr


@pytest.mark.parametrize("preload", ["auto", "off"])
def test_a_failed_first_boot_shows_the_traceback_once(web, preload):
    server = web("def f():\n    return 1 / 0\nf()\n", "--preload", preload, workers=3, wait=False)
    assert server.wait() == 2
    assert server.stderr.count("Traceback (most recent call last)") == 1
    assert "ZeroDivisionError: division by zero" in server.stderr
    assert "fastfork/" not in server.stderr


def test_a_stopped_mold_does_not_block_the_master(web):
    """What it cannot do waits; everything else goes on."""
    server = web(COUNTS, workers=2)
    (mold,) = server.molds()
    old = server.workers()
    os.kill(mold, signal.SIGSTOP)
    os.kill(old[0], signal.SIGKILL)
    server.wait_stderr(f"Worker {old[0]} ")
    assert json.loads(server.get("/").body)["pid"] == old[1]
    os.kill(mold, signal.SIGCONT)
    wait_for(lambda: len(server.workers()) == 2, message=lambda: server.stderr)
    os.kill(mold, signal.SIGSTOP)
    assert server.stop() == 0
    assert not alive(mold)


def test_a_mold_that_does_not_fork_is_replaced(web):
    server = web(COUNTS, "--liveness-timeout", "1s", workers=2)
    (mold,), (victim, survivor) = server.molds(), server.workers()
    os.kill(mold, signal.SIGSTOP)
    os.kill(victim, signal.SIGKILL)
    server.wait_stderr(f"The mold {mold} of web:app is killed: it has not forked a worker within ")
    wait_for(lambda: len(server.workers()) == 2, message=lambda: server.stderr)
    assert survivor in server.workers() and mold not in server.molds()


BREAKS_LATER = """
import os
if os.path.exists("broken"):
    raise {}
from small_apps import pid as app
"""


@pytest.mark.parametrize("problem", ["RuntimeError('the database is away')", "SystemExit(0)"])
def test_a_mold_that_cannot_be_made_again_backs_off(web, tmp_path, problem):
    server = web(BREAKS_LATER.format(problem), workers=2)
    (tmp_path / "broken").touch()
    victim, survivor = server.workers()
    (mold,) = server.molds()
    os.kill(mold, signal.SIGKILL)
    server.wait_stderr(f"The mold {mold} of web:app ")
    os.kill(victim, signal.SIGKILL)
    server.wait_stderr("Next try in 0.5 s.")
    server.wait_stderr("Next try in 1.0 s.")
    assert int(server.get("/").body) == survivor
    (tmp_path / "broken").unlink()
    wait_for(lambda: len(server.workers()) == 2, message=lambda: server.stderr)
    assert alive(survivor)


def test_exit_on_boot_error_ends_the_server_later_too(web, tmp_path):
    text = BREAKS_LATER.format("RuntimeError('the database is away')")
    server = web(text, "--exit-on-boot-error", "--preload", "off", workers=2)
    (tmp_path / "broken").touch()
    workers = server.workers()
    os.kill(workers[0], signal.SIGKILL)
    assert server.wait() != 0
    assert "the database is away" in server.stderr
    assert not any(alive(pid) for pid in workers)


CRASHES = """
import os, signal
from small_apps import pid as app
signal.signal(signal.SIGUSR2, lambda number, frame: os._exit(7))
"""


def test_a_crash_loop_backs_off_and_siblings_go_on(web):
    """Workers that are ready, and end again and again soon after."""
    server = web(CRASHES, "--preload", "off", workers=2)
    victim, survivor = server.workers()
    for _ in range(5):  # the first has perhaps been ready for long
        ready = server.stderr.count(" is ready.")
        os.kill(victim, signal.SIGUSR2)
        wait_for(lambda ready=ready: server.stderr.count(" is ready.") > ready
                 or "it is replaced in " in server.stderr, message=lambda: server.stderr)
        if "it is replaced in " in server.stderr:
            break
        (victim,) = set(server.workers()) - {survivor}
    assert "ended with exit status 7; it is replaced at once." in server.stderr
    assert "ended with exit status 7; it is replaced in 0.5 s." in server.stderr
    assert int(server.get("/").body) in server.workers()
    wait_for(lambda: len(server.workers()) == 2, message=lambda: server.stderr)
    assert alive(survivor)


# -- when there is no room ---------------------------------------------------------------
@pytest.fixture
def limited():
    """`limited("nofile", 24)` is a launcher that takes that much away from the server."""
    if shutil.which("prlimit") is None:
        pytest.skip("there is no prlimit")
    return lambda what, most: ["prlimit", f"--{what}={most}:{most}"]


@pytest.mark.parametrize("preload", ["auto", "off"])
def test_a_master_without_descriptors_goes_on(web, limited, preload):
    """Asked for more workers, and for a reload, than it has descriptors for."""
    server = web(COUNTS, "--preload", preload, workers=2, launcher=limited("nofile", 24))
    before = kinds_at_rest(server)
    for count in range(3, 20):
        server.signal(signal.SIGTTIN)
        server.wait_stderr(f"has {count} workers now.")
    server.wait_stderr("Too many open files")
    server.wait_stderr("Next try in 1.0 s.")
    server.signal(signal.SIGHUP)
    server.wait_stderr("web:app is not reloaded: ")
    assert json.loads(server.get("/").body)["pid"] in server.workers()
    for count in range(18, 1, -1):
        server.signal(signal.SIGTTOU)
        server.wait_stderr(f"SIGTTOU: web:app has {count} workers now.")
    wait_for(lambda: kinds(server.pid) == before, message=lambda: server.stderr)
    server.signal(signal.SIGHUP)
    server.wait_stderr("web:app is reloaded: ")
    assert server.stop() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody with a limit")
def test_a_service_that_may_not_fork_goes_on(start, limited):
    """Its user, of whom there is nobody else, has no processes left."""
    user = str(1_000_000 + os.getpid())
    server = start("small_apps:pid", "--user", user, "--group", user, workers=2,
                   launcher=limited("nproc", 9))
    first = server.workers()
    for count in range(3, 12):
        server.signal(signal.SIGTTIN)
        server.wait_stderr(f"has {count} workers now.")
    server.wait_stderr("Resource temporarily unavailable")
    server.wait_stderr("Next try in 1.0 s.")
    assert set(first) <= set(server.workers()) and server.get("/").status == 200
    for count in range(10, 1, -1):
        server.signal(signal.SIGTTOU)
        server.wait_stderr(f"SIGTTOU: small_apps:pid has {count} workers now.")
    wait_for(lambda: len(server.workers()) == 2, message=lambda: server.stderr)
    assert server.stop() == 0
