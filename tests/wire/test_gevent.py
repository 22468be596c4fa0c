"""Handlers under gevent, and what they leave behind."""

import pytest

pytest.importorskip("gevent")

from harness import wait_for
from test_waits import ask, serve, stats
from tools import get, quiet_for, slow_client

STREAM = ["--request-buffering", "stream"]


@pytest.fixture(scope="module")
def server():
    with serve("gevent", *STREAM, "--linger-timeout", "200ms") as started:
        yield started


def test_a_timeout_that_was_left_behind_is_not_the_next_request_s(server):
    with server.connect() as client:
        assert client.get("/leaves-timeout?t=0.1").body == b"left"
        assert client.get("/slept?t=0.3").body == b"slept"


def test_a_timeout_or_a_kill_that_comes_late_costs_no_request(server):
    for path in ("/leaves-timeout?t=0.03", "/leaves-kill?t=0.03"):
        with server.connect() as client:
            for _ in range(3):
                assert client.get(path).body == b"left"
            quiet_for(client)
            for _ in range(5):
                assert client.get("/hello").body == b"hello"


def test_a_reader_that_was_left_behind(server):
    """It is told; and nothing of another connection's comes to it."""
    with server.connect() as client:
        client.send(get("/leaves-reader", "Content-Length: 9", method="POST") + b"abc")
        assert client.read_response().body == b"left"
    server.wait_stderr("SAID met ValueError")
    with server.connect() as client:
        client.send(get("/slept?t=0.2"))
        quiet_for(client)
        client.send(get("/hello"))
        assert client.read_response().body == b"slept"
        assert client.read_response().body == b"hello"


def test_a_greenlet_goes_on_after_the_response(server):
    assert server.get("/goes-on").body == b"left"
    server.wait_stderr("SAID went on")


def test_a_timeout_of_gevent_s(server):
    assert server.get("/bounded").body == b"bounded"


def test_a_handler_that_is_killed_where_it_waits_for_its_client(server):
    with server.connect() as client:
        client.send(get("/killed", "Content-Length: 9", method="POST") + b"abc")
        assert client.read_response().status == 500
    assert server.get("/hello").body == b"hello"
    wait_for(lambda: stats(server)["in_flight"] == 1)


def test_a_greenlet_reads_the_body(server):
    with server.connect() as client:
        client.send(get("/spawned-reader", "Content-Length: 6", method="POST") + b"abc")
        quiet_for(client)
        client.send(b"def")
        assert client.read_response().body == b"6"
        assert client.get("/hello").body == b"hello"


def test_many_at_once(server):
    clients = [ask(server, "/slept?t=0.3") for _ in range(200)]
    for client in clients:
        with client:
            assert client.read_response().body == b"slept"


def test_a_client_that_takes_nothing_while_the_handler_waits():
    """What it owes is watched over, though the handler waits for something else."""
    flags = ["--write-timeout", "400ms", "--liveness-timeout", "0",
             "--graceful-timeout", "1s"]
    with serve("gevent", *flags) as server:
        client = slow_client(server)
        client.send(get("/large?n=20000000"))
        server.wait_stderr("takes nothing of its response")
        client.close()
