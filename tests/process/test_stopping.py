"""Stopping: what each signal does, and that nothing stays behind."""

import os
import signal
import socket

import pytest
from harness import alive, children, wait_for


def gone(*pids):
    wait_for(lambda: not any(alive(pid) for pid in pids), message=lambda: f"of {pids} some live")


def refused(server):
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(server.address).close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_idle(start, number):
    server = start("small_apps:pid", workers=4)
    assert server.get("/").status == 200
    workers = server.workers()
    assert server.stop(number) == 0
    assert len(workers) == 4 and not any(alive(pid) for pid in workers)
    refused(server)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_in_progress_is_answered(start, gate, number):
    server = start("small_apps:wait", workers=2)
    with server.connect() as client:
        client.send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        server.signal(number)
        server.wait_stderr(f"{number.name}: stopping within 30 s")
        gate.open()
        response = client.read_response()
        assert response.status == 200 and response.complete
        assert int(response.body) in server.ready["workers"]
        assert response.header("Connection") == "close"
        assert client.at_eof()
    assert server.wait() == 0


def test_a_connection_at_rest_does_not_hold_up_the_stop(start):
    server = start("small_apps:pid", "--graceful-timeout", "1h")
    with server.connect() as client:
        assert client.get("/").status == 200
        assert server.stop() == 0
        assert client.at_eof()


@pytest.mark.parametrize("app", ["busy", "busy_in_c", "asleep"])
def test_a_stuck_worker_is_killed_after_the_graceful_timeout(start, gate, app):
    server = start(f"small_apps:{app}", "--graceful-timeout", "500ms")
    (worker,) = server.workers()
    with server.connect() as client:
        client.send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        gate.open()
        assert server.stop() == 0
        assert client.at_eof()
    assert not alive(worker)
    assert f"Worker {worker} of small_apps:{app} is killed: it has not left within 0.5 s." in (
        server.stderr)


@pytest.mark.parametrize("app", ["busy", "busy_in_c", "asleep"])
def test_sigquit_does_not_wait(start, gate, app):
    server = start(f"small_apps:{app}", "--graceful-timeout", "1h")
    (worker,) = server.workers()
    with server.connect() as client:
        client.send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        gate.open()
        assert server.stop(signal.SIGQUIT) == 0
    assert not alive(worker)
    assert "SIGQUIT: stopping at once." in server.stderr
    assert "has not left" not in server.stderr


def test_the_second_sigint_does_not_wait(start, gate):
    server = start("small_apps:wait", "--graceful-timeout", "1h")
    with server.connect() as client:
        client.send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        server.signal(signal.SIGINT)
        server.wait_stderr("SIGINT: stopping within 3600 s")
        assert server.process.poll() is None
        assert server.stop(signal.SIGINT) == 0
    assert "SIGINT: stopping at once." in server.stderr


def test_a_second_sigterm_changes_nothing(start, gate):
    server = start("small_apps:wait", "--graceful-timeout", "1h")
    with server.connect() as client:
        client.send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        server.signal(signal.SIGTERM)
        server.wait_stderr("SIGTERM: stopping")
        server.signal(signal.SIGTERM)
        gate.open()
        assert client.read_response().status == 200
    assert server.wait() == 0
    assert server.stderr.count("SIGTERM") == 1


def test_ctrl_c_reaches_the_whole_group_and_the_request_is_answered_all_the_same(start, gate):
    server = start("small_apps:wait", workers=2)
    with server.connect() as client:
        client.send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        for pid in (*server.workers(), server.pid):
            os.kill(pid, signal.SIGINT)
        server.wait_stderr("SIGINT: stopping")
        gate.open()
        assert client.read_response().status == 200
    assert server.wait() == 0
    assert "replaced" not in server.stderr


@pytest.mark.parametrize("preload", ["on", "off"])
def test_stopped_while_it_boots(start, application, gate, preload):
    directory = application(f"open({str(gate.path)!r}).read()\n")
    server = start("web:app", "--preload", preload, cwd=directory, wait=False)
    gate.reached()
    workers = children(server.pid)
    assert server.stop() == 0
    assert workers and not any(alive(pid) for pid in workers)
    assert "Cannot serve" not in server.stderr


# -- the master is killed ----------------------------------------------------------------
def test_no_worker_outlives_its_master(start):
    server = start("small_apps:pid", workers=4)
    everybody = server.workers() + server.molds()
    server.process.kill()
    gone(*everybody)
    refused(server)


def test_workers_at_rest_notice_it_themselves(start):
    """They leave in good order, before the guard kills them."""
    server = start("small_apps:pid", workers=2)
    workers = server.workers()
    server.process.kill()
    gone(*workers)
    assert server.stderr.count("The master is gone, this worker leaves too.") == 2


@pytest.mark.parametrize("app", ["busy", "busy_in_c", "asleep"])
def test_not_even_one_that_is_stuck_in_a_handler(start, gate, app):
    server = start(f"small_apps:{app}", workers=2)
    everybody = server.workers() + server.molds()
    with server.connect() as client:
        client.send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        gate.open()
        server.process.kill()
        gone(*everybody)
    refused(server)


@pytest.mark.parametrize("preload", ["on", "off"])
def test_nor_one_that_is_stuck_in_its_import(start, application, gate, preload):
    directory = application(f"open({str(gate.path)!r}).read()\nwhile True: pass\n")
    server = start("web:app", "--preload", preload, cwd=directory, wait=False)
    gate.reached()
    gate.open()
    workers = children(server.pid)
    server.process.kill()
    gone(*workers)
    assert len(workers) == 1


# -- signals that mean nothing to us -----------------------------------------------------
def test_workers_survive_other_signals(start):
    server = start("small_apps:pid")
    (worker,) = server.workers()
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
        os.kill(worker, number)
    assert int(server.get("/").body) == worker
    assert server.workers() == [worker]


@pytest.mark.parametrize("preload", ["on", "off"])
def test_nor_does_a_signal_to_one_that_still_boots_end_it(start, application, gate, preload):
    directory = application(
        f"open({str(gate.path)!r}).read()\ndef app(environ, start_response): return []\n")
    server = start("web:app", "--preload", preload, cwd=directory, wait=False)
    gate.reached()
    (booting,) = children(server.pid)
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
        os.kill(booting, number)
    gate.open()
    (worker,) = server.wait_ready()["workers"]
    assert booting in (server.molds() if preload == "on" else [worker])
    assert "Traceback" not in server.stderr


@pytest.mark.parametrize("preload", ["auto", "off"])
def test_a_second_sigterm_does_not_end_a_worker_in_the_middle_of_its_exit(
    web, tmp_path, gate, preload
):
    """Whoever signals the whole group sends it to workers, beside the master."""
    server = web(f"""
import atexit
def leave():
    open({str(gate.path)!r}).read()
    open("left", "w").close()
atexit.register(leave)
from small_apps import pid as app
""", "--preload", preload)
    (worker,) = server.workers()
    server.signal(signal.SIGTERM)
    gate.reached()
    os.kill(worker, signal.SIGTERM)
    gate.open()
    assert server.wait() == 0
    assert (tmp_path / "left").exists()


@pytest.mark.parametrize("preload", ["auto", "off"])
def test_a_signal_mask_of_the_application_s_does_not_hold_up_the_stop(web, preload):
    server = web("""
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
from small_apps import pid as app
""", "--preload", preload, "--graceful-timeout", "2")
    assert server.stop() == 0
    assert "is killed" not in server.stderr
