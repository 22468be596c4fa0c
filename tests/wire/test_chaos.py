"""Many connections at once doing this and that in a seeded disorder: each gets its own answers.

What this is after: events of a connection that went in the same batch, descriptors that are
used again at once, pooled parsers and buffers that remember something.
"""

import contextlib
import hashlib
import json
import random

import pytest
from tools import Settled, content, get, post, start, vanish

FLAGS = ["--body-memory=8KiB", "--output-memory=32KiB"]


class Visitor:
    """One connection with the answers it is owed."""

    def __init__(self, server, seeded):
        self.client = server.connect()
        self.seeded = seeded
        self.unsent = b""
        self.owed = []

    def ask(self):
        """Put one more request in line."""
        kind = self.seeded.randrange(6)
        if kind == 0:
            self.unsent += get("/")
            self.owed.append(b"hello")
        elif kind == 1:
            size = self.seeded.choice([0, 10, 5000, 150_000])
            self.unsent += get(f"/{self.seeded.choice(['whole', 'streamed', 'sized'])}?n={size}")
            self.owed.append(content(size))
        elif kind == 2:
            self.unsent += get("/fails")
            self.owed.append(500)
        elif kind == 3:
            self.unsent += get("/nowhere")
            self.owed.append(b"no such path")
        else:
            body = self.seeded.randbytes(self.seeded.choice([1, 100, 9000, 40_000]))
            if kind == 4:
                self.unsent += post("/upload", body)
            else:
                half = len(body) // 2 + 1
                chunks = [c for c in (body[:half], body[half:]) if c]
                self.unsent += post(
                    "/upload", b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks)
                    + b"0\r\n\r\n", "Transfer-Encoding: chunked")
            self.owed.append(hashlib.sha256(body).hexdigest())

    def send_some(self):
        step = self.seeded.choice([1, 30, 1000, 100_000])
        piece, self.unsent = self.unsent[:step], self.unsent[step:]
        self.client.send(piece)

    def settle(self):
        """Send what is left and check every answer."""
        self.client.send(self.unsent)
        self.unsent = b""
        for owed in self.owed:
            answer = self.client.read_response()
            assert answer.complete
            if owed == 500:
                assert answer.status == 500
            elif isinstance(owed, str):
                assert json.loads(answer.body)["sha256"] == owed
            else:
                assert answer.body == owed
        self.owed.clear()

    def leave(self):
        if self.seeded.randrange(2):
            vanish(self.client)
        else:
            self.client.close()


def live(server, seed):
    """600 steps of up to 40 visitors."""
    seeded = random.Random(seed)
    visitors = []
    try:
        for _ in range(600):
            if len(visitors) < 5 or (len(visitors) < 40 and seeded.random() < 0.2):
                visitors.append(Visitor(server, seeded))
            visitor = seeded.choice(visitors)
            what = seeded.random()
            if what < 0.35 and len(visitor.owed) < 5:
                visitor.ask()
            elif what < 0.75:
                visitor.send_some()
            elif what < 0.9:
                visitor.settle()
            elif what < 0.97:
                visitors.remove(visitor)
                visitor.leave()
            else:
                visitors.remove(visitor)
                with contextlib.suppress(OSError):
                    visitor.client.send(seeded.randbytes(50))
                visitor.leave()
        for visitor in visitors:
            visitor.settle()
    finally:
        for visitor in visitors:
            visitor.client.close()


@pytest.mark.parametrize("seed", range(4))
def test_disorder(server, seed):
    live(server, seed)


def test_disorder_with_streamed_bodies():
    """Where handlers read what is still under way, and wait for it beside each other."""
    with start("--request-buffering=stream", *FLAGS) as server, Settled(server):
        for seed in (30, 31):
            live(server, seed)


def test_disorder_in_several_workers():
    """The same with workers that share the listener; none of them dies of it."""
    with start(*FLAGS, workers=3) as server:
        workers = sorted(server.ready["workers"])
        for seed in (10, 11):
            live(server, seed)
        assert sorted(server.workers()) == workers


def test_disorder_with_a_full_house():
    """With few connections allowed, those outside wait for those inside."""
    with start("--max-connections=40", *FLAGS) as server, Settled(server):
        live(server, 20)
