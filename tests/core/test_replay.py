"""The corpus (tests/requests), each request replayed whole, by byte, by line and at random cuts:
alone, behind a good one, and with a poisoned one behind it.

However the bytes arrive, the same answers must leave and the same calls must be made.
"""

import random

import pytest
from answers import Recorder, answers, chunked, request
from cases import GOOD, POISON, SMUGGLED
from corpus import CASES, INCOMPLETE, MIXED, SETTINGS, UPGRADES, VALID

STREAMS = {
    "pipelined": b"".join(MIXED),
    "all valid ones": b"".join(
        case.raw for case in VALID.values() if case.keeps and case.method != "HEAD"),
    "long head": request("GET", "/" + "a" * 3000, *(f"X-{n}: {'v' * n}" for n in range(90))),
    "long chunks": request("POST", "/", "Transfer-Encoding: chunked",
                           body=chunked(b"a" * 700, b"\r\n" * 100, b"0\r\n\r\n")),
    "trailers": request("POST", "/", "Transfer-Encoding: chunked",
                        body=chunked(b"abc", end=b"0\r\nA: b\r\nC: d\r\n\r\n"))
    + request("GET", "/next"),
    "close and rubbish": request("GET", "/", "Connection: close") + b"\0rubbish",
    "spooled": request("POST", "/", body=bytes(range(256)) * 12) + request("GET", "/next"),
    **{f"upgrade {n}": request("POST", "/", *fields, body=SMUGGLED)
       + request("GET", "/next") for n, fields in enumerate(UPGRADES)},
}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"      # when it is sent depends on the cuts
AROUND = {"alone": (False, False), "behind a good one": (True, False),
          "before a poisoned one": (False, True)}


def pieces_of(raw):
    """The ways to cut `raw`."""
    yield [raw]
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


class Replay:
    """One run on a connection of its own: the answers, the calls, what became of the connection."""

    def __init__(self, connection, app, pieces, *methods):
        app.environs.clear()
        app.bodies.clear()
        connection.connect()
        sent = b"".join(map(connection.feed, pieces)).replace(CONTINUE, b"")
        methods = methods or [e["REQUEST_METHOD"] for e in app.environs]
        self.found = answers(sent, *methods)
        self.calls = list(zip(app.environs, app.bodies, strict=True))
        self.closed = connection.closed
        self.outcome = (
            [(a.status, a.reason, [h for h in a.headers if h[0] != "Date"], a.body, a.complete)
             for a in self.found],
            self.closed,
            connection.reset,
            [({k: v for k, v in environ.items() if not k.startswith("wsgi.")}, body)
             for environ, body in self.calls])


@pytest.fixture
def app():
    return Recorder()


@pytest.fixture
def connection(wire, app):
    return wire(app, **SETTINGS)


@pytest.mark.parametrize("behind, followed", AROUND.values(), ids=AROUND)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_case(connection, app, case, behind, followed):
    """It is answered as soon as it is there, and nothing behind a refused one is executed
    (RFC 9112, 11.2)."""
    raw = GOOD * behind + case.raw + POISON * followed
    first = None
    for pieces in pieces_of(raw):
        run = Replay(connection, app, pieces, *["GET"] * behind, case.method)
        case.check(run.found, run.calls, run.closed, behind=behind, followed=followed)
        if run.closed:
            assert connection.feed(POISON) == b"" and len(app.environs) == len(run.calls)
        first = first or run
        assert run.outcome == first.outcome, pieces[:10]


@pytest.mark.parametrize("raw", STREAMS.values(), ids=STREAMS)
def test_same_answers_however_it_is_cut(connection, app, raw):
    whole = Replay(connection, app, [raw])
    assert whole.found, "no answer at all"
    for pieces in pieces_of(raw):
        assert Replay(connection, app, pieces).outcome == whole.outcome, pieces[:10]


@pytest.mark.parametrize("behind", [False, True], ids=["alone", "behind a good one"])
@pytest.mark.parametrize("case", INCOMPLETE.values(), ids=INCOMPLETE)
def test_incomplete(connection, app, case, behind):
    """RFC 9112, 8: it waits for the rest; when that will not come, it is refused or dropped."""
    for pieces in pieces_of(GOOD * behind + case.raw):
        run = Replay(connection, app, pieces, "GET")
        assert [a.status for a in run.found] == [200] * behind, pieces[:10]
        assert not run.closed
        end = answers(connection.connection.eof(), case.method)
        assert all(a.status in case.statuses for a in end) and len(end) <= 1, pieces[:10]
        assert connection.closed
        assert len(app.environs) == len(run.calls) == behind
