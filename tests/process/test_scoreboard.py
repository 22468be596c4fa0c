"""What a worker does, as it says itself in memory that it shares with the master."""

import os
import signal
import subprocess
import sys
import time

import pytest
from harness import wait_for
from seen import service


@pytest.fixture
def control(tmp_path):
    return tmp_path / "control"


@pytest.fixture
def board(start, control):
    """`board(app, ...)` returns a server and a function that reads its slots."""

    def run(app, *flags, **kwargs):
        server = start(app, *flags, "--control", str(control), **kwargs)
        return server, lambda: service(control)["workers"]

    return run


def test_an_idle_worker(board):
    server, read = board("small_apps:pid")
    wait_for(lambda: read()[0]["doing"] == "idle")  # its loop runs
    (slot,) = read()
    assert slot["pid"] == server.workers()[0]
    assert slot["requests"] == slot["accepted"] == slot["in_flight"] == 0
    assert slot["request_started"] == 0.0 and slot["deadline"] == 0.0
    assert slot["statuses"] == [0, 0, 0, 0, 0]


def test_a_request_in_hand(board, gate):
    before = time.monotonic()
    server, read = board("small_apps:wait", "--request-timeout", "1h", workers=2)
    with server.connect() as client:
        client.send(f"PUT /x?{gate.path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
                    "X-Request-ID: mine\r\n\r\n".encode())
        gate.reached()
        (busy,) = [slot for slot in read() if slot["in_flight"]]
        assert busy["doing"] == "busy" and busy["connections"] == 1 and busy["in_flight"] == 1
        assert busy["method"] == "PUT" and busy["path"].startswith("/x")
        assert busy["request_id"] == "mine"
        assert before <= busy["request_started"] <= time.monotonic()
        assert busy["deadline"] == pytest.approx(busy["request_started"] + 3600, abs=1)
        gate.open()
        assert int(client.read_response().body) == busy["pid"]
        wait_for(lambda: all(slot["doing"] == "idle" for slot in read()))
    (slot,) = [slot for slot in read() if slot["pid"] == busy["pid"]]
    assert slot["requests"] == 1 and slot["in_flight"] == 0 and slot["request_started"] == 0.0


def test_counts(board):
    server, read = board("small_apps:pid")
    with server.connect() as client:
        for _ in range(10):
            client.get("/")
        wait_for(lambda: read()[0]["requests"] == 10)  # it counts when it has answered
        (slot,) = read()
        assert (slot["accepted"], slot["connections"], slot["requests"]) == (1, 1, 10)
    server.get("/")
    wait_for(lambda: read()[0]["requests"] == 11 and read()[0]["connections"] == 0)
    (slot,) = read()
    assert (slot["accepted"], slot["requests"]) == (2, 11)
    assert slot["statuses"] == [0, 11, 0, 0, 0]
    assert sum(slot["latency"]) == 11
    assert slot["sent"] == 11 * len(str(slot["pid"]))


def test_statuses_by_class(web, control):
    server = web("""
def app(environ, start_response):
    start_response(environ["QUERY_STRING"] + " X", [("Content-Length", "0")])
    return []
""", "--control", str(control))
    for status in (200, 204, 301, 404, 404, 404, 503):
        assert server.get(f"/?{status}").status == status
    wait_for(lambda: service(control)["workers"][0]["requests"] == 7)
    (slot,) = service(control)["workers"]
    assert slot["statuses"] == [0, 2, 1, 3, 1]


def test_a_latency_histogram(web, control):
    """Buckets of powers of two in microseconds."""
    server = web("""
import time
from small_apps import pid
def app(environ, start_response):
    time.sleep(0.05)
    return pid(environ, start_response)
""", "--control", str(control))
    server.get("/")
    wait_for(lambda: service(control)["workers"][0]["requests"] == 1)
    (slot,) = service(control)["workers"]
    (bucket,) = [i for i, count in enumerate(slot["latency"]) if count]
    assert 2**bucket > 50_000


def test_the_heartbeat_goes_on(board):
    _, read = board("small_apps:pid", "--liveness-timeout", "1s")
    (first,) = read()
    wait_for(lambda: read()[0]["heartbeat"] > first["heartbeat"])


def test_a_request_id_of_its_own(board, gate):
    server, read = board("small_apps:wait")
    with server.connect() as client:
        client.send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        (slot,) = read()
        number = slot["request_id"].removeprefix(f"{slot['pid']}-")
        assert number.isdigit()
        gate.open()
        client.read_response()


@pytest.mark.parametrize("target", ["/" + "a" * 9000, "/%0d%0a%1b[31m", "/'\"<>\\"])
def test_whatever_the_target_is(board, control, gates, target):
    """It is cut, and nothing of it reaches a terminal as it is."""
    server, read = board("small_apps:wait")
    gate = gates()
    with server.connect() as client:
        client.send(f"GET {target}?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        (slot,) = read()
        assert slot["path"].startswith(target[:20])
        done = subprocess.run(
            [sys.executable, "-m", "fastfork", "status", "--control", str(control)],
            capture_output=True, env=dict(os.environ))
        assert b" GET " + target[:10].encode() in done.stdout, done
        assert all(32 <= byte < 127 or byte == 10 for byte in done.stdout)
        gate.open()
        assert client.read_response().status == 200


def test_a_slot_is_emptied_for_the_next_worker(board):
    server, read = board("small_apps:pid")
    for _ in range(3):
        server.get("/")
    os.kill(server.workers()[0], signal.SIGKILL)
    server.wait_stderr(" is ready.")
    (slot,) = read()
    assert slot["requests"] == 0 and slot["pid"] == server.workers()[0]
