"""The same inputs over sockets, many connections at once: here the loop, the queues and the
handlers that wait have their part.  What is answered is well-formed, and the worker outlives it.
"""

import contextlib
import random
import socket
import struct
from pathlib import Path

import pytest
from answers import Canned
from grammar import Grammar
from harness import Client, Server
from rounds import REFUSALS

HERE = Path(__file__).resolve().parent
PROXY = "127.0.0.2"
FLAGS = ["--body-memory=100", "--output-memory=1KiB", "--linger-timeout=500ms"]
STREAM = ["--request-buffering=stream"]
SMALL = ["--max-head=2000", "--max-request-line=500", "--max-fields=20", "--max-body=5000",
         "--keep-alive-requests=3", "--read-ahead=1KiB", "--max-chunk-extensions=100"]
TRUST = [f"--forwarded-allow-ips={PROXY}", "--proxy-protocol=auto"]
CASES = {
    "buffered": [],
    "buffered, small": SMALL,
    "streamed": STREAM,
    "streamed, small": [*STREAM, *SMALL],
    "streamed, few handlers": [*STREAM, "--greenlets=3"],
    "streamed, behind a proxy": [*STREAM, *TRUST],
}


class Visitor:
    """A client that sends one input, piece by piece, and then reads or not."""

    def __init__(self, server, seeded, proxied):
        grammar = Grammar(seeded)
        raw, _ = grammar.input("auto" if proxied else "off")
        self.pieces = grammar.cuts(raw)
        self.seeded = seeded
        self.sock = socket.create_connection(
            server.address, 20, source_address=(PROXY, 0) if proxied else None)

    def step(self):
        """True if it has left."""
        if self.pieces and self.seeded.random() > 0.01:
            with contextlib.suppress(OSError):      # the server may have closed
                self.sock.sendall(self.pieces.pop(0))
            return False
        if self.seeded.random() < 0.2:              # without a look at the answers
            if self.seeded.random() < 0.5:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            self.read()
        self.sock.close()
        return True

    def read(self):
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
        raw = bytearray()
        try:
            while data := self.sock.recv(65536):
                raw += data
        except ConnectionResetError:                # which may take the rest with it
            return
        check(bytes(raw))


def check(raw):
    """Whole answers of the application, then perhaps one that breaks off or a refusal."""
    client = Client(Canned(raw))
    while client.buffer or client.sock.data:
        before = client.buffer + client.sock.data
        _, status, _, fields = client.read_head()
        method = dict(fields).get("X-Method")
        if status < 200:
            assert status in (100, 103)
            continue
        client = Client(Canned(before))
        answer = client.read_response(method or "GET")
        if method:
            assert answer.status == 200
            if not answer.complete:                 # a body that broke off in mid-answer
                assert answer.header("connection") == "close"
                assert b"begun\n" in answer.body
        else:
            assert answer.status in REFUSALS, raw
            assert answer.header("connection") == "close"
            assert answer.complete or answer.body == b"", raw
        if answer.header("connection") == "close":
            assert not client.buffer and not client.sock.data, raw


@pytest.mark.parametrize("flags", CASES.values(), ids=CASES)
@pytest.mark.parametrize("seed", range(2))
def test_crowd(flags, seed):
    """400 visitors, 20 at a time."""
    seeded = random.Random(f"{seed}/{flags}")
    with Server("echo:app", *FLAGS, *flags, cwd=HERE) as server:
        workers = server.workers()
        visitors = []
        for _ in range(400):
            visitors.append(Visitor(server, seeded, "--proxy-protocol=auto" in flags))
            while len(visitors) > 20:
                visitor = seeded.choice(visitors)
                if visitor.step():
                    visitors.remove(visitor)
        while visitors:
            visitors = [visitor for visitor in visitors if not visitor.step()]
        assert server.get("/").status == 200
        assert server.workers() == workers
        assert "internal error" not in server.stderr


@pytest.mark.parametrize("flags", CASES.values(), ids=CASES)
def test_stop_amid_a_crowd(flags):
    """Whatever is under way: it ends in time and in order."""
    seeded = random.Random(repr(flags))
    with Server("echo:app", *FLAGS, *flags, "--graceful-timeout=300ms", cwd=HERE) as server:
        visitors = [Visitor(server, seeded, "--proxy-protocol=auto" in flags) for _ in range(50)]
        for _ in range(500):
            visitor = seeded.choice(visitors)
            if visitor.pieces:
                with contextlib.suppress(OSError):
                    visitor.sock.sendall(visitor.pieces.pop(0))
        assert server.stop() == 0
        assert "internal error" not in server.stderr
        assert "Traceback" not in server.stderr
        for visitor in visitors:
            visitor.read()
            visitor.sock.close()
