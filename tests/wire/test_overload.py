"""More requests than there are handlers: who waits, who is answered 503, and that it is counted."""

import os
import socket
import sys
import time

import pytest
from harness import wait_for
from test_waits import SIDE_BY_SIDE, serve
from tools import get, post, vanish

sys.path.insert(0, os.path.join(os.path.dirname(__file__), os.pardir, "process"))
import seen

LIMITS = ["--max-in-flight", "2", "--max-queue", "2"]


class Full:
    """A server whose two handlers are taken, until `open`."""

    def __init__(self, mode, directory, *flags):
        self.control, self.gate = directory / "control", directory / "open"
        self.server = serve(mode, *LIMITS, "--control", str(self.control), *flags)
        self.holders = []

    def __enter__(self):
        self.holders = self.queue(2, f"/hold?file={self.gate}")
        wait_for(lambda: self.server.stderr.count("SAID holds") == 2)
        return self

    def __exit__(self, *exc):
        self.open()
        for client in self.holders:
            client.close()
        self.server.close()

    def open(self):
        self.gate.touch()

    def worker(self):
        (service,) = seen.ask(self.control, {"command": "status"})["services"]
        (worker,) = service["workers"]
        return worker

    def wait_queued(self, number):
        wait_for(lambda: self.worker()["queued"] == number, message=lambda: str(self.worker()))

    def queue(self, number, target="/hello"):
        clients = []
        for _ in range(number):
            clients.append(self.server.connect())
            clients[-1].send(get(target))
        return clients


def refused(answer):
    return answer.status == 503 and int(answer.header("retry-after")) > 0 and answer.complete


@pytest.mark.parametrize("mode", SIDE_BY_SIDE)
def test_what_is_too_much_is_refused_and_the_connection_goes_on(mode, tmp_path):
    with Full(mode, tmp_path) as full:
        waiting = full.queue(2)
        full.wait_queued(2)
        with full.server.connect() as client:
            client.send(get("/hello") + get("/hello", method="HEAD")
                        + post("/hello", b"z" * 100_000) + get("/hello"))
            for method in ("GET", "HEAD", "POST", "GET"):
                answer = client.read_response(method)
                assert refused(answer) and answer.header("connection") is None
            worker = full.worker()
            assert (worker["refused"], worker["queued"], worker["in_flight"]) == (4, 2, 2)
            # One who gives up makes room, and its place is the next one's.
            vanish(waiting.pop())
            full.wait_queued(1)
            client.send(get("/hello"))
            full.wait_queued(2)
            full.open()
            for one in (client, *waiting, *full.holders):
                assert one.read_response().status == 200
            assert client.get("/hello").body == b"hello"
            full.wait_queued(0)
        for one in waiting:
            one.close()
        assert full.server.stderr.count("503:") == 1    # the others within the same minute


@pytest.mark.parametrize("mode", SIDE_BY_SIDE)
def test_who_waits_too_long_is_refused_and_the_connection_goes_on(mode, tmp_path):
    flags = ["--queue-timeout", "400ms"]
    with Full(mode, tmp_path, *flags) as full:
        begun = time.monotonic()
        first, second = full.queue(2)
        with first, second:
            assert refused(first.read_response()) and refused(second.read_response())
            assert 0.3 < time.monotonic() - begun < 5
            first.send(get("/hello"))
            full.wait_queued(1)
            assert refused(first.read_response())
            full.wait_queued(0)
        # A client that closes its side may still read; what it asked for is answered.
        half = full.queue(1)[0]
        half.sock.shutdown(socket.SHUT_WR)
        assert refused(half.read_response())
        half.close()
        assert full.worker()["refused"] == 4


@pytest.mark.parametrize("before", ["nothing", "the end", "a request"])
@pytest.mark.parametrize("mode", SIDE_BY_SIDE)
def test_who_is_gone_has_no_place_and_who_listens_has(mode, before, tmp_path):
    """A reset ends the wait, whatever came before it; the end of what a client sends does not."""
    with Full(mode, tmp_path) as full:
        half, gone = full.queue(2)
        full.wait_queued(2)
        half.sock.shutdown(socket.SHUT_WR)
        if before == "the end":
            gone.sock.shutdown(socket.SHUT_WR)
        elif before == "a request":
            gone.send(get("/hello"))
        with full.server.connect() as other:    # the loop answers, after it has heard of these
            other.send(b"\0")
            assert other.read_response().status == 400
        vanish(gone)
        full.wait_queued(1)
        full.open()
        assert half.read_response().body == b"hello" and half.at_eof()
        half.close()
        wait_for(lambda: full.worker()["in_flight"] == 0)
        assert full.worker()["requests"] == 3   # those of the holders and of half


@pytest.mark.parametrize("mode", SIDE_BY_SIDE)
def test_a_streamed_body_is_refused(mode, tmp_path):
    """When it is complete, as the last of the handlers is not for bodies to come."""
    flags = ["--max-queue", "0", "--request-buffering", "stream"]
    with Full(mode, tmp_path, *flags) as full:
        for fields in (["Content-Length: 9"], ["Content-Length: 9", "Expect: 100-continue"]):
            with full.server.connect() as client:
                client.send(get("/read?how=whole", *fields, method="POST"))
                if len(fields) > 1:
                    assert client.read_head()[1] == 100
                client.send(b"abcdefghi")
                assert refused(client.read_response())
