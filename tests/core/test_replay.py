"""Raw requests, valid and invalid, each replayed whole, by byte, by line and at random cuts.

However the bytes arrive, the same answers must leave and the same calls must be made.
"""

import random

import pytest
from answers import Recorder, answers, chunked, request
from corpus import INVALID, MIXED, UPGRADES, VALID

STREAMS = {
    **{f"valid: {name}": raw for name, (raw, *_) in VALID.items()},
    **{f"invalid: {name}": raw for name, (raw, *_) in INVALID.items()},
    **{f"behind a good one: {name}": request("GET", "/good") + raw
       for name, (raw, *_) in INVALID.items()},
    "pipelined": b"".join(MIXED),
    "all valid ones": b"".join(raw for raw, *_ in VALID.values() if b"HTTP/1.0" not in raw),
    "long head": request("GET", "/" + "a" * 3000, *(f"X-{n}: {'v' * n}" for n in range(100))),
    "long chunks": request("POST", "/", "Transfer-Encoding: chunked",
                           body=chunked(b"a" * 700, b"\r\n" * 100, b"0\r\n\r\n")),
    "trailers": request("POST", "/", "Transfer-Encoding: chunked",
                        body=chunked(b"abc", end=b"0\r\nA: b\r\nC: d\r\n\r\n"))
    + request("GET", "/next"),
    "close and rubbish": request("GET", "/", "Connection: close") + b"\0rubbish",
    "spooled": request("POST", "/", body=bytes(range(256)) * 12) + request("GET", "/next"),
    **{f"upgrade {n}": request("POST", "/", *fields, body=b"GET /x HTTP/1.1\r\n\r\n")
       + request("GET", "/next") for n, fields in enumerate(UPGRADES)},
    "head over its limit": request("GET", "/", *(f"X-{n}: {'v' * 500}" for n in range(20))),
    "line over its limit": request("GET", "/" + "a" * 5000),
    "too many fields": request("GET", "/", *(f"X-{n}: v" for n in range(200))),
    "body over its limit": request("POST", "/", body=b"b" * 5001),
    "chunked body over its limit": request("POST", "/", "Transfer-Encoding: chunked",
                                           body=chunked(*[b"b" * 500] * 11)),
}
SETTINGS = {"max_head": 8000, "max_request_line": 4000, "max_body": 5000, "body_memory": 1000}


def pieces_of(raw):
    """The ways to cut `raw`."""
    yield [raw[i:i + 1] for i in range(len(raw))]
    yield raw.splitlines(keepends=True)
    for seed in range(6):
        seeded = random.Random(seed)
        most = seeded.choice([3, 10, 50, 1000])
        pieces, at = [], 0
        while at < len(raw):
            step = seeded.randrange(1, most + 1)
            pieces.append(raw[at:at + step])
            at += step
        yield pieces


def replay(wire, pieces):
    """The answers, what became of the connection, and the calls made."""
    app = Recorder()
    connection = wire(app, **SETTINGS)
    sent = b"".join(connection.feed(piece) for piece in pieces)
    methods = [e["REQUEST_METHOD"] for e in app.environs]
    return (
        [(a.status, a.reason, [h for h in a.headers if h[0] != "Date"], a.body, a.complete)
         for a in answers(sent, *methods)],
        connection.closed,
        connection.reset,
        [{k: v for k, v in e.items() if not k.startswith("wsgi.")} for e in app.environs],
        app.bodies,
    )


@pytest.mark.parametrize("raw", STREAMS.values(), ids=STREAMS)
def test_same_answers_however_it_is_cut(wire, raw):
    whole = replay(wire, [raw])
    assert whole[0], "no answer at all"
    for pieces in pieces_of(raw):
        assert replay(wire, pieces) == whole, pieces[:10]
