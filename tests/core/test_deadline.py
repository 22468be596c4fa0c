"""request_timeout: RequestTimeout in the handler, 504 for the client, and the worker goes on.  The
handlers here call time_out() where a signal's handler would."""

import logging
import math
import re
import time
import traceback
from types import SimpleNamespace

import pytest
from answers import DEFAULTS, request

import fastfork
from fastfork import _core

SENTENCE = re.compile(
    r"(\w+) (\S+), (\d+\.\d) s old, request (\S+), is beyond request_timeout \((\S+) s\): "
    r"RequestTimeout is raised in it\.$")
BRIEF = 0.02    # seconds


def pass_deadline():
    busy_until(time.monotonic() + 2 * BRIEF)


def busy_until(when):
    while time.monotonic() < when:
        pass


def ok(start_response):
    start_response("200 OK", [])
    return [b"ok"]


@pytest.fixture
def late(wire):
    """`late(app)`: a worker whose application takes too long and is told so when it calls
    `environ["signal"]()`; other paths than / answer at once."""

    def make(app, **settings):
        def application(environ, start_response):
            if environ["PATH_INFO"] != "/":
                return ok(start_response)
            environ["signal"] = made.worker.time_out
            pass_deadline()
            return app(environ, start_response)

        made = wire(application, **{"request_timeout": BRIEF, **settings})
        return made

    return make


def asleep(environ, start_response):
    environ["signal"]()
    raise AssertionError("not reached")


def warnings(wire):
    """The only kind of entry there may be: (match of the sentence, exception) of each."""
    assert {level for level, _, _ in wire.log} <= {logging.WARNING}, wire.log
    return [(SENTENCE.match(text), error) for _, text, error in wire.log]


# -- in the handler ----------------------------------------------------------------------
def test_too_late(late):
    wire = late(asleep)
    answer = wire.one(request("GET", "/", "X-Request-ID: mine"))
    assert (answer.status, answer.body) == (504, b"504 Gateway Timeout\n")
    assert answer.header("Connection") is None
    ((found, error),) = warnings(wire)
    assert found.groups() == ("GET", "/", "0.0", "mine", str(BRIEF))
    assert type(error) is _core.RequestTimeout
    assert "asleep" in {frame.name for frame in traceback.extract_tb(error.__traceback__)}
    assert wire.usable


def test_again_and_again(late):
    wire = late(asleep)
    for _ in range(3):
        assert wire.one(request()).status == 504
        assert wire.one(request("GET", "/x")).status == 200
    assert len(warnings(wire)) == 3


def test_its_name():
    assert fastfork.RequestTimeout is _core.RequestTimeout
    assert not issubclass(_core.RequestTimeout, Exception)


def test_what_an_application_makes_of_exceptions_is_not_made_of_this(late):
    def app(environ, start_response):
        try:
            environ["signal"]()
        except Exception:
            start_response("500 Caught", [])
            return []

    assert late(app).one(request()).status == 504


@pytest.mark.parametrize("timeout", [0.0, 3600.0], ids=["none", "long"])
def test_not_before_the_deadline(late, timeout):
    def app(environ, start_response):
        environ["signal"]()
        return ok(start_response)

    wire = late(app, request_timeout=timeout)
    assert wire.one(request()).status == 200
    assert not wire.log


def test_not_when_nothing_runs(late):
    wire = late(asleep)
    wire.worker.time_out()
    wire.feed(request())
    wire.worker.time_out()
    assert len(warnings(wire)) == 1


def test_not_for_a_request_that_just_began(wire):
    """The signal came for the one before."""
    def app(environ, start_response):
        if environ["PATH_INFO"] == "/late":
            pass_deadline()
        else:
            made.worker.time_out()
        return ok(start_response)

    made = wire(app, request_timeout=BRIEF)
    assert [a.status for a in made.ask(request("GET", "/late") + request("GET", "/next"))] == [
        200, 200]
    assert not made.log


def test_a_handler_may_catch_it_and_answer(late):
    def app(environ, start_response):
        try:
            environ["signal"]()
        except fastfork.RequestTimeout:
            return ok(start_response)

    wire = late(app)
    assert wire.one(request()).body == b"ok"
    ((found, error),) = warnings(wire)
    assert found and type(error) is fastfork.RequestTimeout
    assert wire.usable


def test_only_once(late):
    """It is told when the handler goes on in spite of it."""
    counts = []

    def app(environ, start_response):
        with pytest.raises(fastfork.RequestTimeout):
            environ["signal"]()
        counts.append(len(wire.log))
        environ["signal"]()
        counts.append(len(wire.log))
        environ["signal"]()
        return ok(start_response)

    wire = late(app)
    assert wire.one(request()).status == 200
    assert counts == [0, 1]
    assert len(warnings(wire)) == 1


def test_another_error_because_of_it(late):
    def app(environ, start_response):
        try:
            environ["signal"]()
        except fastfork.RequestTimeout as error:
            raise ValueError("secret") from error

    wire = late(app)
    assert wire.one(request()).status == 500
    assert [level for level, _, _ in wire.log] == [logging.ERROR, logging.WARNING]


def test_raised_by_the_application_itself(wire):
    def app(environ, start_response):
        raise fastfork.RequestTimeout("mine")

    made = wire(app)
    assert made.one(request("GET", "/x")).status == 504
    ((level, text, error),) = made.log
    assert (level, str(error)) == (logging.WARNING, "mine")
    assert text == "the application raised it itself: GET /x"


def test_not_while_the_core_logs(balance):
    """Who logs swallows whatever is raised in it; the next signal raises."""
    logged, raised = [], []

    def log(level, text, error):
        logged.append(level)
        try:
            worker.time_out()
        except BaseException as error:
            raised.append(error)
            raise

    def app(environ, start_response):
        pass_deadline()
        start_response("200 OK", [("Content-Length", "1")])(b"ab")
        with pytest.raises(fastfork.RequestTimeout):
            worker.time_out()
        return []

    worker = _core.Worker(
        app, [], SimpleNamespace(**{**DEFAULTS, "request_timeout": BRIEF}), log=log)
    assert worker.connect().feed(request()).endswith(b"\r\n\r\na")
    assert logged == [logging.ERROR, logging.WARNING]
    assert not raised


# -- a response that has begun -----------------------------------------------------------
class Pieces:
    """Yields one piece, then is too late; notes its close()."""

    closed = 0

    def __init__(self, environ):
        self.environ = environ
        self.pieces = iter([b"piece"])

    def __iter__(self):
        return self

    def __next__(self):
        for piece in self.pieces:
            return piece
        self.environ["signal"]()

    def close(self):
        Pieces.closed += 1


def begun(environ, start_response):
    start_response("200 OK", [])
    return Pieces(environ)


@pytest.mark.parametrize("version, reset", [("1.1", False), ("1.0", True)])
def test_it_is_broken_off(late, version, reset):
    Pieces.closed = 0
    wire = late(begun)
    raw = wire.feed(f"GET / HTTP/{version}\r\nHost: x\r\n\r\n".encode())
    assert raw.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"piece" in raw and not raw.endswith(b"0\r\n\r\n")
    assert wire.closed and wire.reset == reset
    assert Pieces.closed == 1
    assert len(warnings(wire)) == 1


def test_generators_are_closed(late):
    ended = []

    def app(environ, start_response):
        start_response("200 OK", [])
        try:
            yield b""
            environ["signal"]()
        finally:
            ended.append(True)

    wire = late(app)
    assert wire.one(request()).status == 504        # the head has not gone
    assert ended == [True]
    assert wire.usable


# -- extend_deadline ---------------------------------------------------------------------
def test_more_time(late):
    def app(environ, start_response):
        environ["fastfork.extend_deadline"](100)
        environ["signal"]()
        return ok(start_response)

    wire = late(app)
    assert wire.one(request()).status == 200
    assert not wire.log


def test_the_scoreboard_has_the_new_deadline(late):
    slot = bytearray(_core.SLOT_SIZE)
    seen = []

    def app(environ, start_response):
        for seconds in (0, 100, 50, 1e300):
            environ["fastfork.extend_deadline"](seconds)
            seen.append(_core.slot_read(slot)["deadline"] - time.monotonic())
        return ok(start_response)

    assert late(app, slot=slot, request_timeout=10.0).one(request()).status == 200
    assert seen[0] == pytest.approx(10, abs=1)      # never less than before
    assert seen[1:3] == pytest.approx([100, 100], abs=1)
    assert seen[3] > 1e8


def test_it_holds_for_one_request_only(late):
    def app(environ, start_response):
        if environ["QUERY_STRING"]:
            environ["fastfork.extend_deadline"](100)
        environ["signal"]()
        return ok(start_response)

    wire = late(app)
    assert wire.one(request("GET", "/?more")).status == 200
    assert wire.one(request()).status == 504


def test_the_new_deadline_holds_after_it_was_raised(late):
    def app(environ, start_response):
        with pytest.raises(fastfork.RequestTimeout):
            environ["signal"]()
        environ["fastfork.extend_deadline"](BRIEF)
        environ["signal"]()
        pass_deadline()
        environ["signal"]()

    wire = late(app)
    assert wire.one(request()).status == 504
    assert len(warnings(wire)) == 2


@pytest.mark.parametrize("timeout", [0.0, 10.0])
@pytest.mark.parametrize("seconds, error", [
    (-1, ValueError), (-math.inf, ValueError), (math.inf, ValueError), (math.nan, ValueError),
    ("1", TypeError), (None, TypeError),
])
def test_what_is_no_number_of_seconds(late, timeout, seconds, error):
    def app(environ, start_response):
        with pytest.raises(error):
            environ["fastfork.extend_deadline"](seconds)
        return ok(start_response)

    assert late(app, request_timeout=timeout).one(request()).status == 200


def test_where_there_is_no_deadline_nothing_happens(late):
    slot = bytearray(_core.SLOT_SIZE)
    seen = []

    def app(environ, start_response):
        environ["fastfork.extend_deadline"](100)
        seen.append(_core.slot_read(slot)["deadline"])
        return ok(start_response)

    late(app, slot=slot, request_timeout=0.0).one(request())
    assert seen == [0.0]


def test_where_there_is_no_request_nothing_happens(late):
    late(asleep)
    _core.extend_deadline(1)
    with pytest.raises(ValueError, match="not a number of seconds"):
        _core.extend_deadline(-1)


# -- handlers that wait ------------------------------------------------------------------
def reads(environ, start_response):
    environ["wsgi.input"].read()
    return ok(start_response)


@pytest.fixture
def stream(wire):
    return lambda app: wire(app, request_buffering="stream", request_timeout=BRIEF)


def test_a_handler_that_waits_for_its_body(stream):
    wire = stream(reads)
    assert wire.feed(request("POST", "/", "Content-Length: 9") + b"abc") == b""
    pass_deadline()
    answer = wire.one(b"")
    assert (answer.status, answer.header("Connection")) == (504, "close")
    assert len(warnings(wire)) == 1
    wire.connect()
    assert wire.usable


def test_where_it_waits_it_can_be_caught(stream):
    def app(environ, start_response):
        with pytest.raises(fastfork.RequestTimeout):
            environ["wsgi.input"].read()
        return ok(start_response)

    wire = stream(app)
    wire.feed(request("POST", "/", "Content-Length: 9"))
    pass_deadline()
    assert wire.one(b"").body == b"ok"
    assert len(warnings(wire)) == 1


def test_one_that_has_time_goes_on_waiting(stream):
    def app(environ, start_response):
        if environ["QUERY_STRING"]:
            environ["fastfork.extend_deadline"](100)
        return reads(environ, start_response)

    wire = stream(app)
    wire.feed(request("POST", "/?more", "Content-Length: 3"))
    patient = wire.connection
    wire.connect()
    wire.feed(request("POST", "/", "Content-Length: 3"))
    pass_deadline()
    assert wire.one(b"").status == 504
    wire.connection = patient
    assert wire.one(b"abc").status == 200


def test_each_has_its_own_deadline(stream):
    def app(environ, start_response):
        environ["fastfork.extend_deadline"](int(environ["QUERY_STRING"]) * BRIEF)
        return reads(environ, start_response)

    wire = stream(app)
    waiting = []
    for number in (1, 10, 5):
        wire.feed(request("POST", f"/?{number}", "Content-Length: 3"))
        waiting.append((number, time.monotonic() + (number + 1) * BRIEF, wire.connection))
        wire.connect()
    for _, over, connection in sorted(waiting):
        busy_until(over)
        wire.connection = connection
        assert wire.one(b"").status == 504
    assert len(warnings(wire)) == 3


def test_what_comes_in_time_is_read(wire):
    wire = wire(reads, request_buffering="stream", request_timeout=60)
    wire.feed(request("POST", "/", "Content-Length: 3"))
    assert wire.one(b"abc").status == 200
    assert not wire.log


# -- in_hand -----------------------------------------------------------------------------
def test_nothing_is_in_hand(late):
    wire = late(asleep)
    assert wire.worker.in_hand() == []
    wire.feed(request() + b"GET / HT")
    assert wire.worker.in_hand() == []


def test_the_request_whose_handler_asks(wire):
    found = []

    def app(environ, start_response):
        busy_until(time.monotonic() + BRIEF)
        found.extend(made.worker.in_hand())
        return ok(start_response)

    made = wire(app)
    start = time.monotonic()
    made.feed(request("PUT", "/a?" + 300 * "b", "X-Request-ID: \xe4"))
    outside = time.monotonic() - start
    ((method, target, age, name, waits),) = found
    assert (method, target, name, waits) == ("PUT", "/a?" + 197 * "b", r"\xe4", None)
    assert BRIEF <= age <= outside + 0.001


def test_those_that_wait(wire):
    found = []

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/asks":
            found.extend(made.worker.in_hand())
        return reads(environ, start_response)

    made = wire(app, request_buffering="stream")
    for path in "/one", "/two":
        made.feed(request("POST", path, "Content-Length: 3"))
        made.connect()
    made.feed(request("GET", "/asks"))
    assert [entry[1] for entry in found] == ["/asks", "/one", "/two"]
    assert found[0][4] is None
    for entry in found[1:]:
        frames = []
        frame = entry[4].gr_frame
        while frame:
            frames.append(frame.f_code.co_name)
            frame = frame.f_back
        assert "reads" in frames
    assert len({entry[3] for entry in found}) == 3
    del found[:], entry, frame
    for connection in made.connections:
        connection.eof()
