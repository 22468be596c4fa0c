"""The corpus (tests/requests), each request replayed whole, by byte, by line and at random cuts:
alone, behind a good one, and with a poisoned one behind it.

However the bytes arrive, the same answers must leave and the same calls must be made.
"""

import random

import pytest
from answers import answers, chunked, request
from cases import GOOD, POISON, SMUGGLED
from corpus import CASES, INCOMPLETE, INVALID, MIXED, SETTINGS, UPGRADES, VALID

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


def pieces_of(raw, at_random=6):
    """The ways to cut `raw`."""
    yield [raw]
    yield [raw[i:i + 1] for i in range(len(raw))]
    yield raw.splitlines(keepends=True)
    for seed in range(at_random):
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
        sent = b"".join(map(connection.feed, pieces))
        self.continued = sent.count(CONTINUE)
        methods = methods or [e["REQUEST_METHOD"] for e in app.environs]
        self.found = answers(sent.replace(CONTINUE, b""), *methods)
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
def connection(wire, recorder):
    return wire(recorder, **SETTINGS)


@pytest.mark.parametrize("behind, followed", AROUND.values(), ids=AROUND)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_case(connection, recorder, case, behind, followed):
    """It is answered as soon as it is there, and nothing behind a refused one is executed
    (RFC 9112, 11.2)."""
    raw = GOOD * behind + case.raw + POISON * followed
    first = None
    for pieces in pieces_of(raw):
        run = Replay(connection, recorder, pieces, *["GET"] * behind, case.method)
        case.check(run.found, run.calls, run.closed, behind=behind, followed=followed)
        asked = b"Expect" in case.raw and b" HTTP/1.1\r" in case.raw and 200 in case.statuses
        assert run.continued <= asked
        rest = connection.feed(POISON) if run.closed else connection.connection.eof()
        assert rest == b"" and len(recorder.environs) == len(run.calls)
        first = first or run
        assert run.outcome == first.outcome, pieces[:10]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_streamed(wire, recorder, case):
    """What the application reads while it comes is the same, and what is wrong is refused, though
    the handler has begun."""
    connection = wire(recorder, request_buffering="stream", **SETTINGS)
    for pieces in pieces_of(case.raw + POISON, at_random=2):
        run = Replay(connection, recorder, pieces, case.method)
        for environ, body in run.calls:
            environ.setdefault("CONTENT_LENGTH", str(len(body)))    # nobody knew, if it is chunked
        case.check(run.found, run.calls, run.closed, followed=True)


@pytest.mark.parametrize("raw", STREAMS.values(), ids=STREAMS)
def test_same_answers_however_it_is_cut(connection, recorder, raw):
    whole = Replay(connection, recorder, [raw])
    assert whole.found, "no answer at all"
    for pieces in pieces_of(raw):
        assert Replay(connection, recorder, pieces).outcome == whole.outcome, pieces[:10]


KEPT = [case for case in VALID.values() if case.keeps]


@pytest.mark.parametrize("seed", range(10))
def test_rows(wire, recorder, seed):
    """Several in a row: each has what is its own, a refused one ends it."""
    seeded = random.Random(seed)
    connection = wire(recorder, read_ahead=seeded.choice([1024, 65536]), **SETTINGS)
    for _ in range(30):
        row = seeded.choices(KEPT, k=seeded.randrange(2, 8))
        last = seeded.choice(list(INVALID.values()))
        raw = b"".join(case.raw for case in row) + last.raw + POISON
        for pieces in pieces_of(raw, at_random=1):
            run = Replay(connection, recorder, pieces, *[case.method for case in [*row, last]])
            assert len(run.found) == len(row) + 1, raw
            assert len(run.calls) == len(row), raw
            for case, answer, call in zip(row, run.found, run.calls, strict=False):
                case.check([answer], [call], False)
            last.check(run.found[-1:], [], run.closed, followed=True)


WITH_BODY = {name: case for name, case in CASES.items() if case.raw.partition(b"\r\n\r\n")[2]}


@pytest.mark.parametrize("buffering", ["full", "stream"])
@pytest.mark.parametrize("case", WITH_BODY.values(), ids=WITH_BODY)
def test_unread(wire, case, buffering):
    """A body that the application leaves unread never becomes a request, nor does what is behind a
    broken one (RFC 9112, 9.3)."""
    called = []

    def app(environ, start_response):
        called.append(environ["PATH_INFO"])
        start_response("200 OK", [])
        return [b"unread"]

    connection = wire(app, request_buffering=buffering, **SETTINGS)
    for pieces in pieces_of(case.raw + POISON, at_random=2):
        called.clear()
        connection.connect()
        for piece in pieces:
            connection.feed(piece)
        assert connection.closed
        if 200 not in case.statuses:
            assert called in ([], ["/"]), pieces[:10]
        else:
            path = case.sees["PATH_INFO"]
            assert called in ([], [path], [path, "/poison"]), pieces[:10]


@pytest.mark.parametrize("buffering", ["full", "stream"])
@pytest.mark.parametrize("behind", [False, True], ids=["alone", "behind a good one"])
@pytest.mark.parametrize("case", INCOMPLETE.values(), ids=INCOMPLETE)
def test_incomplete(wire, recorder, case, behind, buffering):
    """RFC 9112, 8: it waits for the rest; when that will not come, it is refused or dropped."""
    connection = wire(recorder, request_buffering=buffering, **SETTINGS)
    for pieces in pieces_of(GOOD * behind + case.raw):
        run = Replay(connection, recorder, pieces, "GET")
        assert [a.status for a in run.found] == [200] * behind, pieces[:10]
        assert not run.closed
        end = answers(connection.connection.eof(), case.method)
        assert all(a.status in case.statuses for a in end) and len(end) <= 1, pieces[:10]
        assert connection.closed
        assert len(recorder.environs) == len(run.calls) == behind
