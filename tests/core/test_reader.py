"""Mutated requests in rows, read twice: by the core and by the reader of reader.py.

What the core executes is what the reader finds, all that the reader is sure about is executed, and
the connection is open exactly where it may be.
"""

import random

import pytest
from answers import chunked, request
from corpus import CASES, SETTINGS, VALID
from reader import read

TOKENS = [*(bytes([n]) for n in range(256)), b"\r\n", b"\r\n\r\n",
          b"0\r\n\r\n", b"chunked", b"close", b"::", b"%41", b"HTTP/1.1", b"Host: y\r\n",
          b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n",
          b"Expect: 100-continue\r\n", request("GET", "/x"), chunked(b"abc")]
SHORT = [case.raw for case in CASES.values() if len(case.raw) < 600]
GOOD = [case.raw for case in VALID.values() if len(case.raw) < 600]


def mutated(seeded):
    raw = b"".join(seeded.choice(seeded.choice([GOOD, GOOD, SHORT]))
                   for _ in range(seeded.randrange(1, 4)))
    for _ in range(seeded.choice([0, 1, 1, 1, 2, 3])):
        at = seeded.randrange(len(raw) + 1)
        behind = at + seeded.randrange(1, 30)
        raw = seeded.choice([
            raw[:at] + seeded.choice(TOKENS) + raw[at:],
            raw[:at] + seeded.choice(TOKENS) + raw[at + 1:],
            raw[:at] + raw[at + seeded.randrange(1, 6):],
            raw[:behind] + raw[at:behind] + raw[behind:]])
    return raw


def executed(recorder):
    for environ, body in zip(recorder.environs, recorder.bodies, strict=True):
        fields = {key: value for key, value in environ.items() if key.startswith("HTTP_")}
        yield (environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"], fields,
               body)


@pytest.mark.parametrize("buffering", ["full", "stream"])
@pytest.mark.parametrize("seed", range(10))
def test_both_read_the_same(wire, recorder, seed, buffering):
    seeded = random.Random(seed)
    connection = wire(recorder, request_buffering=buffering, **SETTINGS)
    for _ in range(1500):
        raw = mutated(seeded)
        recorder.environs.clear()
        recorder.bodies.clear()
        connection.connect()
        step = seeded.choice([len(raw), 1, 7, 40])
        for at in range(0, len(raw), step or 1):
            connection.feed(raw[at:at + step])
        done = list(executed(recorder))
        found, end = read(raw, SETTINGS["max_body"])
        assert len(done) <= len(found), raw
        assert done == [(f.method, f.path, f.query, f.fields, f.body)
                        for f in found[:len(done)]], raw
        if len(done) < len(found):
            assert not found[len(done)].sure, raw
            assert connection.closed, raw
        elif end != "more":
            assert connection.closed is (end != "rest"), raw
        connection.connection.eof()
        assert len(recorder.environs) == len(done), raw
