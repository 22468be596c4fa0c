"""What a master has of a worker: it can see that it is alive, retire it, and end a request that
takes too long."""

import os
from signal import SIGUSR1

import pytest
from alone import Alone
from harness import wait_for
from tools import MIB, get, post, quiet_for, slow_client


@pytest.fixture
def alone():
    """`alone(**settings)` starts a worker that ends with the test."""
    made = []

    def make(**settings):
        made.append(Alone(**settings))
        return made[-1]

    yield make
    while made:
        made.pop().close()


@pytest.fixture
def fifo(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


def at_gate(client, fifo):
    """A request whose handler waits for the FIFO; a descriptor that opens it when it is closed."""
    client.send(get(f"/gate?fifo={fifo}"))
    return os.open(fifo, os.O_WRONLY)       # which waits for the handler


# -- signs of life -----------------------------------------------------------------------
def test_a_worker_without_work_gives_signs_of_life(alone):
    worker = alone(liveness_timeout=0.1)
    first = worker.slot()["heartbeat"]
    wait_for(lambda: worker.slot()["heartbeat"] > first)
    assert worker.slot()["heartbeat"] - first > 0.9     # not more often than each second
    assert worker.slot()["state"] == "idle"


def test_connections_are_told(alone):
    worker = alone()
    assert (worker.slot()["accepted"], worker.slot()["connections"]) == (0, 0)
    with worker.connect() as one, worker.connect() as other:
        one.get("/")
        other.get("/")
        assert (worker.slot()["accepted"], worker.slot()["connections"]) == (2, 2)
    worker.wait_slot("connections", 0)
    assert worker.slot()["accepted"] == 2
    worker.wait_slot("requests", 2)
    assert worker.slot()["pid"] == worker.process.pid


def test_what_a_worker_is_doing(alone, fifo):
    worker = alone(request_timeout=100)
    with worker.connect() as client:
        gate = at_gate(client, fifo)
        seen = worker.slot()
        assert (seen["state"], seen["in_flight"]) == ("busy", 1)
        assert (seen["method"], seen["path"]) == ("GET", f"/gate?fifo={fifo}"[:200])
        assert seen["request_id"] == f"{worker.process.pid}-1"
        assert seen["deadline"] - seen["request_started"] == pytest.approx(100, abs=0.01)
        assert seen["heartbeat"] <= seen["request_started"] + 0.001
        os.close(gate)
        client.read_response()
        worker.wait_slot("state", "idle")
        assert worker.slot()["heartbeat"] > seen["request_started"]
        assert worker.slot()["request_started"] == worker.slot()["deadline"] == 0.0


def test_a_handler_that_waits_for_its_client_does_not_run(alone):
    worker = alone(request_buffering="stream", request_timeout=100)
    with worker.connect() as client:
        client.send(post("/upload", b"abc", "Content-Length: 9"))
        worker.wait_slot("in_flight", 1)
        worker.wait_slot("request_started", 0.0)
        assert worker.slot()["state"] == "idle"
        assert worker.slot()["deadline"] == 0.0
        client.send(b"defghi")
        assert client.read_response().status == 200
    worker.wait_slot("in_flight", 0)


# -- retire ------------------------------------------------------------------------------
def test_a_resting_connection_is_answered_once_more(alone):
    worker = alone()
    with worker.connect() as client, worker.connect() as other:
        assert client.get("/").header("Connection") is None
        other.get("/")
        worker.retire()
        answer = client.get("/")
        assert (answer.body, answer.header("Connection")) == (b"hello", "close")
        assert client.at_eof()
        assert quiet_for(other)
        assert other.get("/").header("Connection") == "close"
    assert worker.ended()


def test_one_that_has_not_sent_anything_too(alone):
    worker = alone()
    with worker.connect() as client:
        worker.wait_slot("connections", 1)
        worker.retire()
        assert quiet_for(client, 0.8)       # longer than a draining worker would wait
        assert client.get("/").header("Connection") == "close"
    assert worker.ended()


def test_it_leaves_at_once_when_nobody_is_there(alone):
    worker = alone()
    worker.process.send_signal(SIGUSR1)
    assert worker.ended()


def test_when_the_linger_is_over_it_leaves(alone):
    worker = alone(linger=0.2)
    with worker.connect() as client:
        client.get("/")
        worker.retire()
        assert client.at_eof()
    assert worker.ended()


def test_the_last_call_answers_what_is_there(alone, fifo):
    """The worker was busy while the linger passed."""
    worker = alone(linger=0)
    with worker.connect() as resting, worker.connect() as client:
        resting.get("/")
        gate = at_gate(client, fifo)
        worker.retire()
        resting.send(get("/"))
        os.close(gate)
        assert client.read_response().complete
        answer = resting.read_response()
        assert (answer.body, answer.header("Connection")) == (b"hello", "close")
    assert worker.ended()


def test_drain_ends_the_linger(alone):
    worker = alone()
    with worker.connect() as client, worker.connect() as silent:
        client.get("/")
        worker.wait_slot("connections", 2)
        worker.retire()
        worker.drain()
        assert client.at_eof()
        assert silent.at_eof()
    assert worker.ended()


def test_who_waits_to_be_accepted_is_left_to_the_siblings(alone, fifo):
    """Here the test is the sibling."""
    worker = alone()
    with worker.connect() as client:
        gate = at_gate(client, fifo)
        with worker.connect() as waiting:
            waiting.send(get("/"))
            worker.process.send_signal(SIGUSR1)
            os.close(gate)
            assert client.read_response().complete
            assert client.get("/").header("Connection") == "close"
            assert worker.ended()
            worker.listener.settimeout(20)
            accepted, _ = worker.listener.accept()
            with accepted:
                assert accepted.recv(65536) == get("/")
    assert worker.slot()["accepted"] == 1


def test_a_response_begun_before_leaves_its_connection_open(alone, fifo):
    worker = alone()
    with worker.connect() as client:
        gate = at_gate(client, fifo)
        _, status, _, headers = client.read_head()
        assert status == 200 and ("Connection", "close") not in headers
        worker.process.send_signal(SIGUSR1)
        os.close(gate)
        while client.read_line() != b"0":
            pass
        client.read_line()
        assert client.get("/").header("Connection") == "close"
    assert worker.ended()


# -- deadlines ---------------------------------------------------------------------------
TICKS = {"ticks": 0.05, "request_timeout": 0.1}


@pytest.mark.parametrize("path", ["/asleep", "/busy", "/blocked"])
def test_a_handler_that_takes_too_long(alone, path):
    worker = alone(**TICKS)
    with worker.connect() as client:
        for _ in range(2):
            answer = client.get(path, X_Request_ID="mine")
            assert (answer.status, answer.header("Connection")) == (504, None)
            assert client.get("/").body == b"hello"
    assert worker.stderr.count(" s old, request mine, is beyond request_timeout (0.1 s): "
                               "RequestTimeout is raised in it. [RequestTimeout]") == 2
    assert worker.stderr.startswith(f"30 GET {path}, 0.")
    worker.wait_slot("statuses", [0, 2, 0, 0, 2])


def test_a_handler_that_catches_it_answers(alone):
    worker = alone(**TICKS)
    assert worker.get("/stubborn").body == b"RequestTimeout"
    worker.wait_stderr("request_timeout (0.1 s): RequestTimeout is raised in it.")


def test_a_response_that_has_begun_is_broken_off(alone, fifo):
    worker = alone(**TICKS)
    with worker.connect() as client:
        gate = at_gate(client, fifo)
        raw = client.read_all()
        os.close(gate)
        assert raw.startswith(b"HTTP/1.1 200 ") and not raw.endswith(b"0\r\n\r\n")
    worker.wait_stderr("closed /gate")
    assert worker.get("/").body == b"hello"


def test_not_in_another_thread(alone):
    assert alone(request_timeout=0.1).get("/thread").body == b"0"


def test_a_handler_that_waits_for_its_body(alone):
    """Nobody sends a signal: it is the loop that looks after it."""
    worker = alone(request_buffering="stream", request_timeout=0.2)
    with worker.connect() as slow, worker.connect() as other:
        slow.send(post("/upload", b"abc", "Content-Length: 9"))
        worker.wait_slot("in_flight", 1)
        assert other.get("/").body == b"hello"
        answer = slow.read_response()
        assert (answer.status, answer.header("Connection")) == (504, "close")
        assert other.get("/").body == b"hello"
    worker.wait_slot("in_flight", 0)
    assert "RequestTimeout is raised in it. [RequestTimeout]" in worker.stderr


def test_the_one_that_began_first_is_not_the_only_one(alone):
    worker = alone(request_buffering="stream", request_timeout=0.2)
    with worker.connect() as one, worker.connect() as two, worker.connect() as quick:
        for client in one, two, quick:
            client.send(post("/upload", b"abc", "Content-Length: 9"))
        quick.send(b"defghi")
        assert quick.read_response().status == 200
        assert one.read_response().status == 504
        assert two.read_response().status == 504


def test_a_handler_that_waits_for_a_slow_client(alone):
    worker = alone(request_timeout=0.3, output_spool=MIB, output_memory=MIB)
    with slow_client(worker) as client:
        client.send(get("/endless"))
        worker.wait_stderr("closed /endless")
        worker.wait_slot("in_flight", 0)
        assert worker.get("/").body == b"hello"
        assert not client.read_all().endswith(b"0\r\n\r\n")
    assert worker.stderr.count("RequestTimeout is raised in it.") == 1
