"""Workers that die: what the log says, and who takes their place."""

import os
import signal

import pytest
from harness import PATIENCE, alive, wait_for

HERE = os.path.dirname(__file__)


def replaced(server, old, count):
    """Wait until `count` workers live and none of `old` is among them; returns their pids."""
    def new():
        workers = server.workers()
        return len(workers) == count and not set(workers) & set(old)

    wait_for(new, message=lambda: f"{server.workers()}\n{server.stderr}")
    return server.workers()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_killed_worker_is_replaced(start, number):
    server = start("small_apps:pid")
    (worker,) = server.workers()
    os.kill(worker, number)
    (new,) = replaced(server, [worker], 1)
    from_outside = " from outside" if number == signal.SIGKILL else ""
    assert (f"Worker {worker} of small_apps:pid was killed by {number.name}{from_outside}; it is "
            "replaced at once.") in server.stderr
    assert int(server.get("/").body) == new


def test_all_workers_killed_are_all_replaced(start):
    server = start("small_apps:pid", workers=4)
    old = server.workers()
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    new = replaced(server, old, 4)
    assert int(server.get("/").body) in new
    assert server.stderr.count("was killed by SIGKILL from outside; it is replaced at once") == 4


@pytest.mark.parametrize("code", [0, 1, 77])
def test_the_log_tells_the_exit_status(start, code):
    server = start("small_apps:leave")
    (worker,) = server.workers()
    with server.connect() as client:
        client.send(f"GET /?{code} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert client.at_eof()
    server.wait_stderr(f"Worker {worker} of small_apps:leave ended with exit status {code} in GET ")
    assert "; it is replaced at once." in server.stderr
    replaced(server, [worker], 1)


def test_a_worker_that_is_told_to_stop_by_hand_is_replaced(start):
    server = start("small_apps:pid")
    (worker,) = server.workers()
    os.kill(worker, signal.SIGTERM)
    server.wait_stderr(f"Worker {worker} of small_apps:pid ended with exit status 0; ")
    (new,) = replaced(server, [worker], 1)
    assert int(server.get("/").body) == new


def test_siblings_of_a_dead_worker_go_on(start, gate):
    server = start("small_apps:wait", workers=2)
    with server.connect() as client:
        client.send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        wait_for(lambda: any(holds(pid, str(gate.path)) for pid in server.workers()))
        for pid in server.workers():
            if not holds(pid, str(gate.path)):
                os.kill(pid, signal.SIGKILL)
        server.wait_stderr("was killed by SIGKILL")
        gate.open()
        assert client.read_response().status == 200


def holds(pid, path):
    fds = f"/proc/{pid}/fd"
    return any(os.path.realpath(f"{fds}/{fd}") == path for fd in os.listdir(fds))


def test_all_workers_have_the_same_parent(start):
    server = start("small_apps:process", workers=2)
    old = server.workers()
    os.kill(old[0], signal.SIGKILL)
    server.wait_stderr("is ready")
    for pid in server.workers():
        with open(f"/proc/{pid}/stat") as stat:
            assert int(stat.read().rpartition(")")[2].split()[1]) == server.pid


BREAKS_LATER = """
import os
if os.path.exists("broken"):
    raise RuntimeError("the database is away")
from small_apps import pid as app
"""


def test_a_boot_that_fails_later_backs_off_and_what_works_goes_on(start, application):
    directory = application(BREAKS_LATER)
    server = start("web:app", "--preload", "off", workers=2, cwd=directory,
                   env={"PYTHONPATH": HERE})  # fmt: skip
    (directory / "broken").touch()
    victim, survivor = server.workers()
    os.kill(victim, signal.SIGKILL)
    server.wait_stderr("the database is away. Next try in 0.5 s.")
    server.wait_stderr("the database is away. Next try in 1.0 s.")
    assert int(server.get("/").body) == survivor
    assert server.stderr.count("Traceback") == 1  # the same failure again needs no traceback
    (directory / "broken").unlink()
    wait_for(lambda: len(server.workers()) == 2 and " is ready." in server.stderr)
    assert alive(survivor)
    assert server.stop() == 0


def test_a_failing_boot_does_not_hold_up_the_stop(start, application):
    directory = application(BREAKS_LATER)
    server = start("web:app", "--preload", "off", cwd=directory, env={"PYTHONPATH": HERE})
    (directory / "broken").touch()
    os.kill(server.workers()[0], signal.SIGKILL)
    server.wait_stderr("Next try in")
    assert server.stop(patience=PATIENCE) == 0
