"""Handlers in threads: what is late, and what it must not do to others."""

import collections
import os
import random
import threading
import time

import pytest
from harness import wait_for
from test_waits import ask, serve, stats
from tools import get


def test_a_handler_just_in_time_harms_nobody():
    """Handlers that end about at their deadline; RequestTimeout is none of the next request's."""
    found = collections.Counter()
    end = time.monotonic() + 5

    def load(seed):
        choice = random.Random(seed)
        client = server.connect()
        while time.monotonic() < end:
            how = choice.choice(["returns", "yields", "raises"])
            answer = client.get(f"/edge?how={how}&t={choice.uniform(0.036, 0.0405):.4f}")
            found["edge", answer.status] += 1
            if answer.header("connection") != "close" and answer.complete:
                found["hello", client.get("/hello").status] += 1
            else:
                client.close()
                client = server.connect()
        client.close()

    flags = ["--request-timeout", "40ms", "--request-grace", "30s"]
    with serve("threads", *flags) as server:
        loads = [threading.Thread(target=load, args=(seed,)) for seed in range(12)]
        for one in loads:
            one.start()
        for one in loads:
            one.join()
        assert {status for path, status in found if path == "hello"} == {200}
        assert {status for path, status in found if path == "edge"} == {200, 500, 504}
        assert "/hello" not in server.stderr and "internal" not in server.stderr
        assert stats(server)["threads"] <= 8


@pytest.mark.parametrize("how", ["returns", "writes", "raises"])
def test_a_handler_that_cannot_be_interrupted(how):
    flags = ["--request-timeout", "200ms", "--request-grace", "30s", "--access-log", "-"]
    with serve("threads", *flags) as server:
        with ask(server, f"/after-504?how={how}&t=1.2") as client:
            answer = client.read_response()
            assert (answer.status, answer.header("connection")) == (504, "close")
            assert "met RequestTimeout" not in server.stderr
            server.wait_stderr("met RequestTimeout")
            assert client.at_eof()
        assert server.get("/hello").body == b"hello"
        wait_for(lambda: "/hello" in server.stdout)
        assert "/after-504" in server.stdout.split(" 504 ")[0]
        assert stats(server)["in_flight"] == 1


def test_they_are_no_more_than_they_may_be():
    with serve("threads") as server:
        clients = [ask(server, "/slept?t=0.1") for _ in range(24)]
        for client in clients:
            with client:
                assert client.read_response().body == b"slept"
        assert stats(server)["threads"] == 8


def test_a_worker_that_is_told_to_stop_leaves_its_threads():
    with serve("threads", "--graceful-timeout", "1s") as server:
        clients = [ask(server, "/blocked?t=60") for _ in range(8)]
        wait_for(lambda: threads_of(server) >= 8)
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < 8
        assert "killed" not in server.stderr
        for client in clients:
            client.close()


def threads_of(server):
    """Those for handlers, seen from outside, as no handler is free to say it."""
    (pid,) = server.workers()
    return len(os.listdir(f"/proc/{pid}/task")) - 2  # the loop's, the life-line's


def test_http_1_0_and_files():
    with serve("threads") as server, server.connect() as client:
        answer = client.request(get("/many?n=20", version="1.0"))
        assert len(answer.body) == 20 * 65536
