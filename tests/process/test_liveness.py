"""Workers that give no sign of life, in a request or out of it."""

import os
import signal

import pytest
from harness import alive, wait_for

SOON = ("--liveness-timeout", "1s")


def replaced(server, old):
    wait_for(lambda: not alive(old), message=lambda: server.stderr)
    server.wait_stderr(" is ready.")
    (new,) = server.workers()
    assert int(server.get("/").body) == new != old


def test_a_stopped_worker_is_found_and_replaced(start):
    server = start("small_apps:pid", *SOON)
    (worker,) = server.workers()
    os.kill(worker, signal.SIGSTOP)
    replaced(server, worker)
    assert f"Worker {worker} of small_apps:pid is killed: " in server.stderr
    assert "no sign of life for " in server.stderr


def test_also_with_a_request_in_hand(start, gate):
    server = start("small_apps:wait", *SOON)
    (worker,) = server.workers()
    with server.connect() as client:
        client.send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        os.kill(worker, signal.SIGSTOP)
        assert client.at_eof()
    replaced(server, worker)


def test_a_worker_that_is_stuck_outside_a_request(web):
    server = web("""
import signal
from small_apps import pid as app
def stuck_here(number, frame):
    while True:
        pass
signal.signal(signal.SIGUSR2, stuck_here)
""", *SOON)
    (worker,) = server.workers()
    os.kill(worker, signal.SIGUSR2)
    replaced(server, worker)
    assert f"Worker {worker} of web:app is killed: no sign of life for " in server.stderr
    assert "s outside a request." in server.stderr
    assert "in stuck_here\n" in server.stderr


def test_an_idle_worker_gives_signs_of_life(start):
    """For as long as it takes to find one that does not."""
    server = start("small_apps:pid", *SOON, workers=3)
    victim, *others = server.workers()
    os.kill(victim, signal.SIGSTOP)
    wait_for(lambda: not alive(victim))
    assert server.stderr.count("is killed") == 1
    assert set(others) <= set(server.workers())


def test_one_that_goes_on_in_time_is_let_live(start):
    server = start("small_apps:pid", "--liveness-timeout", "1h")
    (worker,) = server.workers()
    os.kill(worker, signal.SIGSTOP)
    os.kill(worker, signal.SIGCONT)
    assert int(server.get("/").body) == worker


@pytest.mark.parametrize("preload", ["on", "off"])
def test_a_long_boot_is_no_lack_of_life(web, gate, preload):
    """Longer than the liveness timeout, as another server shows that was started after it."""
    slow = web(f"open({str(gate.path)!r}).read()\nfrom small_apps import pid as app\n", *SOON,
               "--preload", preload, wait=False)
    gate.reached()
    other = web("from small_apps import pid as app\n", *SOON)
    (worker,) = other.workers()
    os.kill(worker, signal.SIGSTOP)
    wait_for(lambda: not alive(worker))
    gate.open()
    assert slow.wait_ready()["workers"] == slow.workers()
    assert "is killed" not in slow.stderr


def test_a_boot_beyond_its_own_limit(web, gate):
    server = web(f"open({str(gate.path)!r}).read()\nwhile True: pass\n", "--preload", "off",
                 "--boot-timeout", "500ms", wait=False)
    gate.reached()
    gate.open()
    assert server.wait() == 2
    assert "is killed: it has not booted within 0.5 s." in server.stderr
    assert "web.py" in server.stderr  # where it was


def test_a_mold_beyond_its_limit(web, gate):
    server = web(f"open({str(gate.path)!r}).read()\nwhile True: pass\n", "--preload", "on",
                 "--boot-timeout", "500ms", wait=False)
    gate.reached()
    gate.open()
    assert server.wait() == 2
    assert "it has not booted within 0.5 s." in server.stderr
