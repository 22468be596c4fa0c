"""Mutated requests, seeded.

The invariant: whatever the bytes, each answer is well-formed and is the application's own or a
4xx, 501 or 505 that ends the connection; nothing is raised, and nothing but the requests that
were answered has been executed.
"""

import logging
import random

import pytest
from answers import Recorder, answers, request
from corpus import CASES, INCOMPLETE, MIXED, UPGRADES, VALID

SEEDS = [case.raw for case in (*VALID.values(), *CASES.values(), *INCOMPLETE.values())
         if len(case.raw) < 1000]
SEEDS += [b"".join(MIXED), *(request("POST", "/", *fields, body=b"body") for fields in UPGRADES)]
TOKENS = [b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b";", b",", b"0\r\n\r\n", b"\r\n\r\n",
          b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2.0", b"Host: x\r\n", b"Content-Length: 3\r\n",
          b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n",
          b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n", b"CONNECT ", b"HEAD ", b"POST / ",
          b"ffffffff", b"3\r\nabc\r\n", b"\xff", b"\x80", b"%", b"#", b"?", b"/"]
SETTINGS = {"max_head": 2000, "max_request_line": 500, "max_body": 300, "body_memory": 50,
            "max_fields": 20}


def mutated(seeded):
    raw = bytearray(b"".join(seeded.choices(SEEDS, k=seeded.randrange(1, 4))))
    for _ in range(seeded.randrange(6)):
        at = seeded.randrange(len(raw) + 1)
        what = seeded.randrange(6)
        if what == 0:
            raw[at:at] = seeded.choice(TOKENS)
        elif what == 1:
            del raw[at:at + seeded.randrange(1, 10)]
        elif what == 2:
            raw[at:at + 1] = seeded.randbytes(1)
        elif what == 3:
            raw[at:at] = raw[at:at + seeded.randrange(1, 60)]
        elif what == 4:
            raw[at:at] = seeded.choice(SEEDS)
        else:
            raw[at:at] = seeded.choice([b"a", b"0", b" ", b":"]) * seeded.randrange(1, 700)
    return bytes(raw)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_comes(wire, seed):
    seeded = random.Random(seed)
    app = Recorder()
    connection = wire(app, **SETTINGS)
    for _ in range(400):
        raw = mutated(seeded)
        connection.connect()
        app.environs.clear()
        sent, at = b"", 0
        while at < len(raw):
            step = seeded.choice([1, 10, 100, 10_000])
            sent += connection.feed(raw[at:at + step])
            at += step
        sent += connection.connection.eof()
        assert connection.closed, raw
        methods = [e["REQUEST_METHOD"] for e in app.environs]
        found = answers(sent.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b""), *methods)
        assert all(a.complete for a in found[:len(methods)]), raw
        assert [a.status for a in found[:len(methods)]] == [200] * len(methods), raw
        for refusal in found[len(methods):]:
            assert refusal.status in range(400, 500) or refusal.status in (501, 505), raw
            assert refusal.header("connection") == "close", raw
            assert refusal.complete or refusal.body == b"", raw  # that of a HEAD has no body
        assert len(found) <= len(methods) + 1, raw
    assert connection.logged(logging.ERROR) == []
