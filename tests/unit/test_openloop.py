"""Open loops, in Python and in C: what is planned, and from when a latency counts."""

import contextlib
import importlib.util
import itertools
import json
import shutil
import socket
import subprocess
import sys
import threading

import pytest
from harness import ROOT

BODY = b"all is well\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n" + BODY
FAST, SLOW = b"GET / HTTP/1.1\r\n\r\n", b"GET /slow HTTP/1.1\r\n\r\n"


@pytest.fixture(scope="module")
def openloop():
    spec = importlib.util.spec_from_file_location("bench_openloop", ROOT / "bench/openloop.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


class Server:
    """A thread for each connection; `respond(number of the connection, request)` is what it
    sends, and None ends the connection, which takes so many `requests`."""

    def __init__(self, respond, requests=1000):
        self.respond, self.requests = respond, requests
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.threads = [threading.Thread(target=self.accept)]
        self.ending = False

    def accept(self):
        for number in itertools.count():
            connection, _ = self.listener.accept()
            if self.ending:
                connection.close()
                return
            thread = threading.Thread(target=self.serve, args=[number, connection])
            self.threads.append(thread)
            thread.start()

    def serve(self, number, connection):
        with connection, contextlib.suppress(ConnectionError):
            for _ in range(self.requests):
                request = connection.recv(4096)
                if not request or (answer := self.respond(number, request)) is None:
                    return
                connection.sendall(answer)

    def __enter__(self):
        self.threads[0].start()
        return self

    def __exit__(self, *exc):
        self.ending = True
        socket.create_connection(self.address).close()
        for thread in self.threads:
            thread.join()
        self.listener.close()


def run(openloop, server, requests):
    load = openloop.OpenLoop(server.address, requests, FAST, SLOW, BODY)
    load.run()
    return load


def test_requests_come_at_equal_intervals_in_turn(openloop):
    requests = openloop.plan(200, 1, 64)
    assert [r.due for r in requests] == pytest.approx([n / 200 for n in range(200)])
    assert [r.connection for r in requests] == [n % 64 for n in range(200)]
    assert not any(r.slow for r in requests)


def test_every_hundredth_is_slow(openloop):
    requests = openloop.plan(200, 2, 64, slow_every=100)
    assert [n for n, r in enumerate(requests) if r.slow] == [99, 199, 299, 399]
    assert [r.connection for r in requests] == [n % 64 for n in range(400)]


def test_nothing_is_planned_behind_a_slow_request(openloop):
    requests = openloop.plan(200, 5, 64, slow_every=100, rest=0.6)
    assert [r.due for r in requests] == pytest.approx([n / 200 for n in range(1000)])
    for slow in (r for r in requests if r.slow):
        behind = [r.due for r in requests if r.connection == slow.connection and r.due > slow.due]
        assert all(due >= slow.due + 0.6 for due in behind)
        assert any(due < slow.due + 1 for due in behind) or slow.due > 4


def test_all_connections_rest(openloop):
    requests = openloop.plan(10, 1, 2, slow_every=1, rest=5)
    assert [r.connection for r in requests] == [0, 1] * 5


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (0.999, 100), (1, 100)])
def test_quantile(openloop, share, value):
    assert openloop.quantile(range(100, 0, -1), share) == value


def test_latency_counts_from_when_the_request_was_due(openloop):
    """The first answer on one connection is held back until the other has had ten requests."""
    enough, answered = threading.Event(), []

    def respond(number, request):
        if number == 0:
            enough.wait(10)
        else:
            answered.append(request)
            if len(answered) == 10:
                enough.set()
        return ANSWER

    with Server(respond) as server:
        load = run(openloop, server, openloop.plan(200, 0.2, 2))
    first, *others = [r for r in load.requests if r.connection == 0]
    held = [r for r in others if r.due < first.due + first.latency - 0.001]
    assert len(held) >= 5
    for request in held:
        assert request.waited
        assert request.due + request.latency > first.due + first.latency
    assert not first.waited
    assert load.connects == 2
    assert all(r.latency > 0 and r.late >= 0 for r in load.requests)


def test_slow_requests_are_sent_as_such(openloop):
    seen = []

    def respond(number, request):
        seen.append(request)
        return ANSWER

    with Server(respond) as server:
        run(openloop, server, openloop.plan(200, 0.05, 1, slow_every=5))
    assert seen == [FAST] * 4 + [SLOW] + [FAST] * 4 + [SLOW]


def test_a_connection_that_was_closed_is_opened_again(openloop):
    with Server(lambda number, request: ANSWER, requests=1) as server:
        load = run(openloop, server, openloop.plan(5, 0.4, 1))
    assert load.connects == 2


def test_a_connection_that_the_server_wants_closed(openloop):
    closing = ANSWER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with Server(lambda number, request: closing) as server:
        load = run(openloop, server, openloop.plan(200, 0.05, 2))
    assert load.connects == 10


@pytest.mark.parametrize(("answer", "error"), [
    (ANSWER.replace(b"200 OK", b"503 Busy"), ValueError),
    (ANSWER.replace(b"well", b"lost"), ValueError),
    (ANSWER + b"more", ValueError),
    (ANSWER + ANSWER, ValueError),
    (None, ConnectionError),
])
def test_anything_else_is_an_error(openloop, answer, error):
    with Server(lambda number, request: answer) as server, pytest.raises(error):
        run(openloop, server, openloop.plan(200, 0.02, 1))


def test_a_server_that_does_not_answer(openloop, monkeypatch):
    monkeypatch.setattr(openloop, "PATIENCE", 0.1)
    missing = pytest.raises(RuntimeError, match="2 requests had no answer")
    with Server(lambda number, request: b"") as server, missing:
        run(openloop, server, openloop.plan(200, 0.01, 2))


@pytest.fixture(scope="module")
def openload(tmp_path_factory):
    """`openload(server, rate, seconds, connections)`: what the program in C says of its load."""
    if not (compiler := shutil.which("cc")):
        pytest.skip("needs a C compiler")
    directory = tmp_path_factory.mktemp("openload")
    subprocess.run([compiler, "-O1", "-Wall", "-Wextra", "-Werror", "-o", directory / "openload",
                    ROOT / "bench/openload.c"], check=True)
    (directory / "request").write_bytes(FAST)

    def load(server, rate, seconds, connections):
        done = subprocess.run(
            [directory / "openload", *map(str, (server.address[1], rate, seconds, connections)),
             directory / "request"], capture_output=True, text=True, check=True, timeout=60)
        return json.loads(done.stdout)

    return load


def test_the_open_loop_in_c(openload):
    """It counts from when a request was due: the tenth answer of each of two connections is held
    back by 0.2 s, for which those behind it wait."""
    times = {0: 0, 1: 0}

    def respond(number, request):
        assert request == FAST
        times[number] += 1
        if times[number] == 30:
            threading.Event().wait(0.2)
        return ANSWER

    with Server(respond) as server:
        got = openload(server, 200, 0.5, 2)
    assert (got["requests"], got["sent"], got["errors"], got["connects"]) == (100, 140, 0, 2)
    assert got["max"] >= 200
    assert got["p99"] >= 180  # a closed loop has two answers of 200 ms, here others waited as well
    assert 0 < got["p50"] <= got["p99"] <= got["p999"] <= got["max"]
    assert sum(times.values()) == 140


def test_the_open_loop_in_c_opens_connections_again(openload):
    closing = ANSWER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with Server(lambda number, request: closing) as server:
        got = openload(server, 100, 0.1, 2)
    assert (got["connects"], got["errors"]) == (30, 0)
    with Server(lambda number, request: ANSWER, requests=1) as server:
        got = openload(server, 20, 0.3, 2)
    assert (got["connects"], got["errors"]) == (10, 0)


@pytest.mark.parametrize(("answer", "trouble"), [
    (ANSWER.replace(b"200 OK", b"503 Busy"), "not a 200"),
    (ANSWER.replace(b"Content-Length", b"Length"), "no Content-Length"),
    (ANSWER + b"more", "longer than it should be"),
    (None, "closed instead of an answer"),
    (b"x" * 20000, "too long"),
])
def test_the_open_loop_in_c_counts_errors(openload, answer, trouble):
    with Server(lambda number, request: answer) as server:
        got = openload(server, 100, 0.1, 2)
    assert got["errors"] >= 30 and trouble in got["trouble"]


def test_the_open_loop_in_c_wants_answers_of_one_length(openload):
    other = ANSWER.replace(b"12", b"13").replace(b"well", b"well!")
    answers = itertools.cycle([ANSWER, other])
    with Server(lambda number, request: next(answers)) as server:
        got = openload(server, 100, 0.1, 1)
    assert got["errors"] and "another one than the first" in got["trouble"]
