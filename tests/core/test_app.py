"""Calling the application (PEP 3333, Specification Details and Handling the ... chapters)."""

import logging
import sys
import warnings
from contextvars import ContextVar
from email.utils import format_datetime, parsedate_to_datetime
from wsgiref.validate import validator

import pytest
from answers import Canned, request
from greenlet import greenlet
from harness import Client


def simple(*chunks, status="200 OK", headers=()):
    """An application that returns `chunks` as a list."""
    def app(environ, start_response):
        start_response(status, list(headers))
        return list(chunks)
    return app


class Body:
    """An iterable that notes what the server does to it; `fail_at` raises before that chunk."""

    def __init__(self, *chunks, fail_at=None, error=lambda: ValueError("from the body")):
        self.chunks = chunks
        self.fail_at = fail_at
        self.error = error
        self.calls = []

    def __iter__(self):
        self.calls.append("iter")
        for number, chunk in enumerate(self.chunks):
            if number == self.fail_at:
                raise self.error()
            self.calls.append(chunk)
            yield chunk
        if self.fail_at == len(self.chunks):
            raise self.error()

    def close(self):
        self.calls.append("close")

    @property
    def closes(self):
        return self.calls.count("close")


def returning(body, headers=(), status="200 OK"):
    def app(environ, start_response):
        start_response(status, list(headers))
        return body
    return app


def assert_error_page(answer, connection):
    """A 500 that tells nothing of the fault, with the traceback in the log."""
    assert answer.status == 500
    assert answer.header("content-type", "").startswith("text/plain")
    assert answer.header("content-length") == str(len(answer.body))
    for secret in (b"Traceback", b"Exception", b"File", b".py", b"secret"):
        assert secret not in answer.body
    assert any(level >= logging.ERROR and exception is not None
               for level, _, exception in connection.log), connection.log


# -- iterables ------------------------------------------------------------------------------

def test_list_of_one_gets_its_length(wire):
    """Trap of WSGI servers: one-element lists sent chunked instead of with Content-Length."""
    answer = wire(simple(b"hello")).one(request())
    assert answer.header("content-length") == "5"
    assert answer.all("transfer-encoding") == []
    assert answer.body == b"hello"


@pytest.mark.parametrize("make", [list, tuple])
def test_sequence_of_many_gets_its_length(wire, make):
    answer = wire(returning(make([b"a", b"", b"bc", b"def"]))).one(request())
    assert answer.body == b"abcdef"
    assert answer.header("content-length") == "6"


@pytest.mark.parametrize("empty", [[], (), [b""], [b"", b""]])
def test_empty_sequence(wire, empty):
    connection = wire(returning(empty))
    answer = connection.one(request())
    assert answer.status == 200
    assert answer.header("content-length") == "0"
    assert connection.usable


class OnlyIter:
    def __iter__(self):
        return iter([b"a", b"b"])


class OnlyGetItem:
    def __getitem__(self, index):
        return [b"a", b"b"][index]


class Iterator:
    def __init__(self):
        self.left = [b"a", b"b"]

    def __iter__(self):
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        return self.left.pop(0)


class Sized:
    """Has a len(), but is no sequence."""

    def __len__(self):
        return 2

    def __iter__(self):
        return iter([b"a", b"b"])


@pytest.mark.parametrize("make", [
    OnlyIter, OnlyGetItem, Iterator, Sized, lambda: iter([b"a", b"b"]),
    lambda: (c for c in (b"a", b"b")), lambda: map(bytes, ([97], [98])), lambda: {b"a": 1, b"b": 2},
    lambda: (c for c in (b"", b"a", b"", b"", b"b", b""))])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_iterables_of_every_kind(wire, make, version):
    connection = wire(returning(make()))
    answer = connection.one(request(version=version))
    assert answer.status == 200
    assert answer.body == b"ab"
    assert answer.complete


def test_unknown_length_is_chunked_on_1_1(wire):
    connection = wire(returning(c for c in (b"a", b"", b"bcd")))
    raw = connection.feed(request())
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"\r\nTransfer-Encoding: chunked" in head
    assert b"content-length" not in head.lower()
    assert body == b"1\r\na\r\n3\r\nbcd\r\n0\r\n\r\n"
    assert not connection.closed


@pytest.mark.parametrize("field", ["A: b", "Connection: keep-alive"])
def test_unknown_length_ends_with_the_connection_on_1_0(wire, field):
    """RFC 9112, 6.3 and 7.1.1: no chunks to a 1.0 client."""
    connection = wire(returning(c for c in (b"a", b"bcd")))
    answer = connection.one(request("GET", "/", field, version="1.0"))
    assert answer.all("transfer-encoding") == []
    assert answer.all("content-length") == []
    assert answer.header("connection", "close") == "close"
    assert answer.body == b"abcd"
    assert connection.closed
    assert not connection.reset


def test_empty_generator(wire):
    connection = wire(returning(c for c in ()))
    answer = connection.one(request())
    assert answer.status == 200
    assert answer.body == b""
    assert connection.usable


def test_empty_strings_do_not_send_the_head(wire):
    """Trap: an empty string that already sends the head (PEP 3333: on the first non-empty one)."""
    def app(environ, start_response):
        start_response("200 OK", [("A", "first")])
        yield b""
        try:
            raise ValueError("late")
        except ValueError:
            start_response("503 Later", [("B", "second")], sys.exc_info())
        yield b"changed"

    answer = wire(app).one(request())
    assert (answer.status, answer.reason) == (503, "Later")
    assert answer.all("a") == []
    assert answer.all("b") == ["second"]
    assert answer.body == b"changed"


def test_generator_calls_start_response_late(wire):
    """Trap: status lost when start_response is called by the first iteration."""
    def app(environ, start_response):
        start_response("418 Late", [("A", "b")])
        yield b"tea"
        yield b"pot"

    answer = wire(app).one(request())
    assert (answer.status, answer.reason, answer.body) == (418, "Late", b"teapot")
    assert answer.all("a") == ["b"]


def test_generator_without_chunks_calls_start_response(wire):
    def app(environ, start_response):
        start_response("404 Gone Away", [])
        return
        yield

    assert wire(app).one(request()).status == 404


def test_empty_strings_before_a_late_start_response(wire):
    """PEP 3333: start_response must have been called before the first *non-empty* string."""
    def app(environ, start_response):
        yield b""
        start_response("202 Accepted", [])
        yield b"x"

    answer = wire(app).one(request())
    assert answer.status in (202, 500)


# -- start_response -------------------------------------------------------------------------

def test_headers_go_out_as_given(wire):
    headers = [("Content-Type", "a/b"), ("X-One", "1"), ("x-ONE", "2"), ("Set-Cookie", "a=b, c"),
               ("Set-Cookie", "d"), ("Empty", "")]
    raw = wire(simple(b"x", headers=headers)).feed(request())
    for name, value in headers:
        assert f"\r\n{name}: {value}\r\n".encode() in raw


def test_head_has_date_and_server_once(wire):
    """RFC 9110, 6.6.1: an origin server with a clock sends Date."""
    answer = wire(simple(b"x")).one(request())
    (date,) = answer.all("date")
    assert format_datetime(parsedate_to_datetime(date), usegmt=True) == date
    assert answer.all("server") == ["fastfork"]


def test_application_sets_date_and_server(wire):
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    answer = wire(simple(b"x", headers=[("date", date), ("server", "mine")])).one(request())
    assert answer.all("date") == [date]
    assert answer.all("server") == ["mine"]


def test_application_sets_the_length(wire):
    answer = wire(returning((c for c in (b"ab", b"c")), [("content-length", "3")])).one(request())
    assert answer.all("content-length") == ["3"]
    assert answer.all("transfer-encoding") == []
    assert answer.body == b"abc"


@pytest.mark.parametrize("status", ["200 OK", "299 Odd", "404 Not Found", "500 Mine", "599 Z z z",
                                    "200 caf\xe9"])
def test_status_goes_out_as_given(wire, status):
    raw = wire(simple(b"x", status=status)).feed(request())
    assert raw.startswith(f"HTTP/1.1 {status}\r\n".encode("latin-1"))


@pytest.mark.parametrize("status", [
    "20 OK", "2000 OK", "OK", "", " 200 OK", "200OK", "abc OK", "-20 OK", "+20 OK", "2 0 OK",
    "\u0662\u0660\u0660 OK", "200 \u20ac", "200 a\rb", "200 a\nb", "200 a\r\nX: y", "200 a\0b",
    "200 OK\r\n", "000 Zero", "099 Low", None, 200, b"200 OK", ["200 OK"]])
def test_bad_status(wire, status):
    """Trap: a status such as "20 OK" crashes the worker; CR, LF and NUL must not split."""
    connection = wire(simple(b"x", status=status))
    assert_error_page(connection.one(request()), connection)
    if not connection.closed:
        assert answers_500_again(connection)


def answers_500_again(connection):
    return connection.one(request()).status == 500


@pytest.mark.parametrize("status", ["100 Continue", "102 Processing", "101 Switching Protocols"])
def test_interim_status_is_no_answer(wire, status):
    """RFC 9110, 15.2: a 1xx is not final, so a client would wait for ever."""
    connection = wire(simple(status=status))
    assert_error_page(connection.one(request()), connection)


@pytest.mark.parametrize("name, value", [
    ("A\r\nB", "c"), ("A", "b\r\nC: d"), ("A", "b\nc"), ("A", "b\rc"), ("A", "b\0c"), ("A\0", "b"),
    ("A", "b\r\n"), ("A", "\nb"), ("", "b"), ("A B", "c"), ("A:", "b"), ("A ", "b"), (" A", "b"),
    ("\xe9", "b"), ("A(", "b"), ("A", "\u20ac"), ("\u20ac", "b"), ("A", "b\n c"),
    ("A", None), ("A", 1), ("A", b"b"), (b"A", "b"), (None, "b")])
def test_bad_header(wire, name, value):
    """PEP 3333: native strings without control characters; nothing may split the head."""
    connection = wire(simple(b"x", headers=[("Good", "1"), (name, value)]))
    raw = connection.feed(request())
    assert raw.startswith(b"HTTP/1.1 500 ")
    assert raw.count(b"HTTP/1.1") == 1
    assert b"\r\nGood:" not in raw
    assert connection.logged(logging.ERROR)


@pytest.mark.parametrize("headers", [
    None, 5, "ab", [("A",)], [("A", "b", "c")], [None], ["ab"], [5], {"A": "b"}])
def test_headers_that_are_no_list_of_pairs(wire, headers):
    """The validator wants a list of tuples; whatever it is, it must not crash or go out."""
    def app(environ, start_response):
        start_response("200 OK", headers)
        return [b"x"]

    connection = wire(app)
    answer = connection.one(request())
    assert answer.status == 500
    assert connection.logged(logging.ERROR)


@pytest.mark.parametrize("name, value", [
    ("Transfer-Encoding", "chunked"), ("transfer-encoding", "identity"), ("Keep-Alive", "5"),
    ("Upgrade", "h2c"), ("TE", "trailers"), ("Trailers", "X"), ("Proxy-Authenticate", "Basic"),
    ("Proxy-Authorization", "x"), ("Connection", "upgrade"), ("Connection", "X-A, close, Upgrade")])
def test_hop_by_hop_header_raises(wire, name, value):
    """PEP 3333, Other HTTP Features: applications may not use hop-by-hop features."""
    connection = wire(simple(b"x", headers=[(name, value)]))
    answer = connection.one(request())
    if name == "Connection":
        # Only what the server understands of it may go out.
        assert "upgrade" not in answer.header("connection", "").lower()
    else:
        assert_error_page(answer, connection)


def test_start_response_raises_in_the_application(wire):
    """The application sees the refusal at the call and may answer otherwise."""
    def app(environ, start_response):
        try:
            start_response("200 OK", [("A", "b\r\nc")])
        except Exception:
            start_response("400 Caught", [])
        return [b"caught"]

    answer = wire(app).one(request())
    assert (answer.status, answer.body) == (400, b"caught")


def test_latin_1_header_values(wire):
    """Trap: non-ASCII header values arrive empty."""
    raw = wire(simple(b"x", headers=[("A", "caf\xe9 \xff")])).feed(request())
    assert b"\r\nA: caf\xe9 \xff\r\n" in raw


@pytest.mark.parametrize("length", ["", "-1", "abc", "1.0", "+3", "3,3", "0x3", "3 3", "9" * 40])
def test_content_length_of_the_application_must_be_a_number(wire, length):
    connection = wire(simple(b"abc", headers=[("Content-Length", length)]))
    assert_error_page(connection.one(request()), connection)


def test_two_content_lengths_of_the_application(wire):
    connection = wire(simple(b"abc", headers=[("Content-Length", "3"), ("content-length", "3")]))
    answer = connection.one(request())
    assert answer.status == 500 or answer.all("content-length") == ["3"]


def test_start_response_twice_is_an_error(wire):
    def app(environ, start_response):
        start_response("200 OK", [])
        start_response("201 Created", [])
        return [b"x"]

    connection = wire(app)
    assert_error_page(connection.one(request()), connection)


def test_start_response_with_exc_info_replaces_everything(wire):
    """Trap: exc_info that keeps the old headers (two Content-Lengths)."""
    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "3"), ("A", "old"), ("Server", "old")])
        try:
            raise ValueError
        except ValueError:
            start_response("502 New", [("Content-Length", "5"), ("B", "new")], sys.exc_info())
        return [b"12345"]

    answer = wire(app).one(request())
    assert (answer.status, answer.reason, answer.body) == (502, "New", b"12345")
    assert answer.all("content-length") == ["5"]
    assert answer.all("a") == []
    assert answer.all("b") == ["new"]
    assert answer.all("server") == ["fastfork"]


def test_exc_info_forgets_the_old_connection_header(wire):
    def app(environ, start_response):
        start_response("200 OK", [("Connection", "close")])
        try:
            raise ValueError
        except ValueError:
            start_response("500 New", [], exc_info=sys.exc_info())
        return [b"x"]

    connection = wire(app)
    assert connection.one(request()).all("connection") == []
    assert connection.usable


def test_exc_info_in_the_first_call(wire):
    def app(environ, start_response):
        try:
            raise ValueError
        except ValueError:
            start_response("500 First", [], sys.exc_info())
        return [b"x"]

    answer = wire(app).one(request())
    assert (answer.status, answer.reason) == (500, "First")


def test_exc_info_of_none_counts_as_not_given(wire):
    def app(environ, start_response):
        start_response("200 OK", [], None)
        return [b"x"]

    assert wire(app).one(request()).status == 200


def test_exc_info_after_the_head_reraises(wire):
    """PEP 3333, The start_response() Callable: then it must raise exc_info's exception."""
    seen = []

    def app(environ, start_response):
        start_response("200 OK", [])
        yield b"sent"
        try:
            raise ValueError("the one")
        except ValueError:
            try:
                start_response("500 Late", [], sys.exc_info())
            except BaseException as error:
                seen.append(error)
                raise

    connection = wire(app)
    raw = connection.feed(request())
    assert isinstance(seen[0], ValueError)
    assert str(seen[0]) == "the one"
    assert raw.endswith(b"4\r\nsent\r\n")
    assert connection.closed


def test_start_response_without_exc_info_after_the_head_raises(wire):
    seen = []

    def app(environ, start_response):
        start_response("200 OK", [])
        yield b"sent"
        try:
            start_response("500 Late", [])
        except Exception as error:
            seen.append(error)
        yield b" and on"

    answer = wire(app).one(request())
    assert len(seen) == 1
    assert answer.body == b"sent and on"


@pytest.mark.parametrize("arguments, keywords", [
    ((), {}), (("200 OK",), {}), (("200 OK", [], None, 1), {}), (("200 OK", []), {"x": 1})])
def test_start_response_with_wrong_arguments(wire, arguments, keywords):
    def app(environ, start_response):
        start_response(*arguments, **keywords)
        return [b"x"]

    connection = wire(app)
    assert_error_page(connection.one(request()), connection)


@pytest.mark.parametrize("body", [[], [b""], [b"x"], (c for c in (b"x",)), (c for c in ())],
                         ids=["[]", "empty", "list", "generator", "empty generator"])
def test_start_response_never_called(wire, body):
    connection = wire(lambda environ, start_response: body)
    assert_error_page(connection.one(request()), connection)


# -- write() --------------------------------------------------------------------------------

def test_write(wire):
    """Trap of WSGI servers: `write` is missing."""
    def app(environ, start_response):
        write = start_response("200 OK", [("A", "b")])
        write(b"one ")
        write(b"")
        write(b"two ")
        return [b"three"]

    answer = wire(app).one(request())
    assert answer.body == b"one two three"
    assert answer.all("a") == ["b"]
    assert answer.complete


def test_write_alone(wire):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "4")])(b"only")
        return []

    connection = wire(app)
    assert connection.one(request()).body == b"only"
    assert connection.usable


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_write_and_generator(wire, version):
    def app(environ, start_response):
        start_response("200 OK", [])(b"written ")
        return (c for c in (b"yield", b"ed"))

    answer = wire(app).one(request(version=version))
    assert answer.body == b"written yielded"


def test_write_sends_the_head(wire):
    def app(environ, start_response):
        start_response("200 OK", [])(b"sent")
        try:
            raise ValueError("late")
        except ValueError:
            start_response("500 Late", [], sys.exc_info())
        return [b"never"]

    connection = wire(app)
    (answer,) = connection.ask(request())
    assert answer.status == 200
    assert not answer.complete
    assert connection.closed


@pytest.mark.parametrize("data", ["text", None, 5, ["x"]])
def test_write_takes_bytes_only(wire, data):
    def app(environ, start_response):
        start_response("200 OK", [])(data)
        return []

    connection = wire(app)
    assert_error_page(connection.one(request()), connection)


def test_write_of_a_head_request(wire):
    def app(environ, start_response):
        start_response("200 OK", [])(b"body")
        return [b"more"]

    connection = wire(app)
    assert connection.feed(request("HEAD")).endswith(b"\r\n\r\n")
    assert not connection.closed


# -- close() --------------------------------------------------------------------------------

@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("chunks", [(), (b"",), (b"a", b"b")])
def test_close_is_called_once_at_the_end(wire, chunks, version, method):
    body = Body(*chunks)
    wire(returning(body)).feed(request(method, version=version))
    assert body.closes == 1
    assert body.calls[-1] == "close"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_close_is_called_without_a_body(wire, status):
    body = Body()
    wire(returning(body, status=status)).feed(request())
    assert body.closes == 1


@pytest.mark.parametrize("fail_at", [0, 1, 2])
def test_close_is_called_after_an_exception(wire, fail_at):
    body = Body(b"a", b"b", fail_at=fail_at)
    connection = wire(returning(body))
    connection.feed(request())
    assert body.closes == 1
    assert connection.logged(logging.ERROR)


def test_close_is_called_when_iter_raises(wire):
    class NoIter:
        closed = 0

        def __iter__(self):
            raise ValueError("no iterator")

        def close(self):
            self.closed += 1

    body = NoIter()
    connection = wire(returning(body))
    assert_error_page(connection.one(request()), connection)
    assert body.closed == 1


def test_close_is_called_when_start_response_was_not(wire):
    body = Body(b"a")
    connection = wire(lambda environ, start_response: body)
    assert_error_page(connection.one(request()), connection)
    assert body.closes == 1


@pytest.mark.parametrize("chunk", ["text", None, 5])
def test_close_is_called_after_a_bad_chunk(wire, chunk):
    body = Body(chunk)
    connection = wire(returning(body))
    assert_error_page(connection.one(request()), connection)
    assert body.closes == 1


def test_close_is_called_after_too_many_bytes(wire):
    body = Body(b"abc", b"def", b"ghi")
    wire(returning(body, [("Content-Length", "4")])).feed(request())
    assert body.closes == 1


def test_close_of_a_subclassed_list(wire):
    """A list may have a close() too (a subclass)."""
    calls = []

    class Closing(list):
        def close(self):
            calls.append("close")

    assert wire(returning(Closing([b"x"]))).one(request()).body == b"x"
    assert calls == ["close"]


def test_close_of_a_generator_runs_its_finally(wire):
    calls = []

    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "1")])
        try:
            yield b"a"
            yield b"b"
            yield b"c"
        finally:
            calls.append("finally")

    wire(app).feed(request())
    assert calls == ["finally"]


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_close_that_raises_is_logged(wire, error):
    """The answer is complete by then and stays as it is."""
    class Body(list):
        def close(self):
            raise error("from close")

    connection = wire(returning(Body([b"whole"])))
    answer = connection.one(request())
    assert (answer.status, answer.body, answer.complete) == (200, b"whole", True)
    assert connection.logged(logging.ERROR)


def test_close_comes_before_the_next_request(wire):
    calls = []

    class Body:
        def __init__(self, path):
            self.path = path

        def __iter__(self):
            yield self.path

        def close(self):
            calls.append(f"close {self.path.decode()}")

    def app(environ, start_response):
        calls.append(f"call {environ['PATH_INFO']}")
        start_response("200 OK", [])
        return Body(environ["PATH_INFO"].encode())

    wire(app).ask(request("GET", "/1") + request("GET", "/2"))
    assert calls == ["call /1", "close /1", "call /2", "close /2"]


# -- exceptions -----------------------------------------------------------------------------

class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("cannot be printed")

    __repr__ = __str__


ERRORS = {
    "ValueError": lambda: ValueError("secret"),
    "SystemExit(0)": lambda: SystemExit(0),
    "SystemExit(str)": lambda: SystemExit("secret"),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "StopIteration": StopIteration,
    "MemoryError": MemoryError,
    "RecursionError": RecursionError,
    "BaseException": lambda: BaseException("secret"),
    "EPIPE": lambda: OSError(32, "Broken pipe"),
    "Unprintable": Unprintable,
}


@pytest.mark.parametrize("make", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("started", [False, True])
def test_exception_before_the_head(wire, make, started):
    """Traps: SystemExit in a handler hangs the client; nothing of it on the wire."""
    error = make()

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/usable":
            start_response("200 OK", [])
            return []
        if started:
            start_response("200 OK", [("A", "b"), ("Content-Length", "99")])
        raise error

    connection = wire(app)
    answer = connection.one(request())
    assert_error_page(answer, connection)
    assert answer.all("a") == []
    if connection.closed:
        assert answer.header("connection") == "close"
        connection.connect()
    assert connection.usable
    assert any(exception is error for _, _, exception in connection.log)


@pytest.mark.parametrize("make", ERRORS.values(), ids=ERRORS)
def test_exception_in_the_first_iteration(wire, make):
    error = make()

    class Body:
        def __iter__(self):
            return self

        def __next__(self):
            raise error

    connection = wire(returning(Body()))
    (answer,) = connection.ask(request())
    if isinstance(error, StopIteration):
        assert (answer.status, answer.body) == (200, b"")
    else:
        assert_error_page(answer, connection)


@pytest.mark.parametrize("error", [ValueError, SystemExit, GeneratorExit])
def test_exception_in_mid_chunked(wire, error):
    """Trap: a mid-stream exception that ends the chunked body as if it were whole."""
    body = Body(b"half", b"rest", fail_at=1, error=error)
    connection = wire(returning(body))
    raw = connection.feed(request())
    assert raw.endswith(b"\r\n\r\n4\r\nhalf\r\n")
    assert connection.closed
    assert connection.logged(logging.ERROR)


def test_exception_in_mid_body_of_known_length(wire):
    connection = wire(returning(Body(b"half", fail_at=1), [("Content-Length", "8")]))
    raw = connection.feed(request())
    assert raw.endswith(b"\r\n\r\nhalf")
    assert connection.closed


def test_exception_in_mid_body_of_1_0_is_a_reset(wire):
    """Where the end of the connection is the end of the body, only a reset can tell."""
    connection = wire(returning(Body(b"half", fail_at=1)))
    raw = connection.feed(request(version="1.0"))
    assert raw.endswith(b"\r\n\r\nhalf")
    assert connection.closed
    assert connection.reset


def test_error_page_of_a_head_request_has_no_body(wire):
    """Trap: a 500 page with a body on HEAD."""
    def app(environ, start_response):
        if environ["REQUEST_METHOD"] == "HEAD":
            raise ValueError("secret")
        start_response("200 OK", [])
        return []

    connection = wire(app)
    raw = connection.feed(request("HEAD"))
    assert raw.startswith(b"HTTP/1.1 500 ")
    assert raw.endswith(b"\r\n\r\n")
    assert raw.count(b"\r\n\r\n") == 1
    if not connection.closed:
        assert connection.usable


def test_the_worker_goes_on_after_many_errors(wire):
    def app(environ, start_response):
        raise SystemExit(3)

    connection = wire(app)
    for _ in range(50):
        assert connection.one(request()).status == 500
        connection.connect()


def test_the_request_after_an_error_is_clean(wire):
    def app(environ, start_response):
        if environ["PATH_INFO"] == "/bad":
            start_response("201 Created", [("A", "b"), ("Content-Length", "1000")])
            raise ValueError
        return simple(b"fine")(environ, start_response)

    connection = wire(app)
    found = connection.ask(request("GET", "/bad") + request("GET", "/good"))
    assert found[0].status == 500
    if len(found) == 1:
        connection.connect()
        found.append(connection.one(request("GET", "/good")))
    assert (found[1].status, found[1].body) == (200, b"fine")
    assert found[1].all("a") == []


# -- chunks and what is returned --------------------------------------------------------------

@pytest.mark.parametrize("body", [None, 5, "text", object(), ["text"], [None], [5], [b"a", "b"],
                                  [["a"]], b"raw", lambda: [b"x"]],
                         ids=lambda body: repr(body).partition(" at 0x")[0])
def test_returned_thing_of_the_wrong_kind(wire, body):
    """PEP 3333: an iterable of bytes.  (A bytes object iterates as numbers.)"""
    connection = wire(returning(body))
    (answer,) = connection.ask(request())
    if isinstance(body, list) and body[0] == b"a":
        assert answer.status == 500 or not answer.complete
    elif body == b"raw":
        assert answer.status == 500 or answer.body == b"raw"
    else:
        assert answer.status == 500
    assert answer.status == 200 or connection.logged(logging.ERROR)


def test_bad_chunk_after_good_ones(wire):
    connection = wire(returning(Body(b"good", "bad")))
    raw = connection.feed(request())
    assert raw.endswith(b"4\r\ngood\r\n")
    assert connection.closed
    assert connection.logged(logging.ERROR)


def test_chunks_of_a_bytes_subclass(wire):
    class Chunk(bytes):
        pass

    answer = wire(returning([Chunk(b"sub")])).one(request())
    assert answer.body == b"sub"


@pytest.mark.parametrize("size", [1, 4095, 65536, 1_000_000])
def test_large_chunks(wire, size):
    body = bytes(range(251)) * (size // 251 + 1)
    connection = wire(simple(body))
    assert connection.one(request()).body == body
    connection = wire(returning(c for c in (body, body)))
    assert connection.one(request()).body == body + body


def test_more_than_the_memory_for_output(wire):
    """The handler goes on while the client has not taken anything: spooled, in order."""
    chunks = [bytes([n % 256]) * 1000 for n in range(500)]
    connection = wire(returning(iter(chunks)), output_memory=5000)
    assert connection.one(request()).body == b"".join(chunks)


def test_a_hundred_thousand_chunks(wire):
    assert wire(returning([b"x"] * 100_000)).one(request()).body == b"x" * 100_000
    answer = wire(returning(iter([b"x", b""] * 20_000))).one(request())
    assert answer.body == b"x" * 20_000


def test_list_that_iterates_otherwise(wire):
    """A subclass of list may have its own idea of what is in it."""
    class Other(list):
        def __iter__(self):
            return iter([b"its", b"own"])

    assert wire(returning(Other([b"stored"]))).one(request()).body == b"itsown"


def test_list_that_changes_while_it_is_sent(wire):
    class Closing(list):
        def close(self):
            self.clear()

    assert wire(returning(Closing([b"a", b"b"]))).one(request()).body == b"ab"


@pytest.mark.parametrize("headers", [
    [("A", "v" * 1_000_000)],
    [("N" * 100_000, "v")],
    [(f"X-{n}", "v" * (n % 50)) for n in range(5000)],
    [("Set-Cookie", "v" * 4000)] * 100,
])
def test_very_large_head(wire, headers):
    raw = wire(simple(b"body", headers=headers)).feed(request())
    head, _, body = raw.partition(b"\r\n\r\n")
    assert body == b"body"
    lines = head.split(b"\r\n")
    assert [line for line in lines if line.startswith((b"A:", b"N", b"X-", b"Set-"))] == [
        f"{name}: {value}".encode() for name, value in headers]


def test_very_long_reason(wire):
    raw = wire(simple(b"x", status="200 " + "long " * 10_000)).feed(request())
    assert raw.startswith(b"HTTP/1.1 200 " + b"long " * 9_999 + b"long")


# -- length against body ----------------------------------------------------------------------

@pytest.mark.parametrize("make", [list, iter])
@pytest.mark.parametrize("chunks", [[b"abcdef"], [b"abc", b"def"], [b"ab", b"cdef"],
                                    [b"abcd", b"ef"]])
def test_more_than_the_length_is_never_sent(wire, make, chunks):
    """PEP 3333, Handling the Content-Length Header: not more than it said."""
    connection = wire(returning(make(chunks), [("Content-Length", "4")]))
    raw = connection.feed(request())
    assert raw.endswith(b"\r\n\r\nabcd")
    assert connection.log


@pytest.mark.parametrize("make", [list, iter])
@pytest.mark.parametrize("chunks", [[b"ab"], [], [b"a", b"b"]])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_less_than_the_length_closes(wire, make, chunks, version):
    """Trap: a connection kept after a body shorter than its Content-Length."""
    connection = wire(returning(make(chunks), [("Content-Length", "4")]))
    raw = connection.feed(request("GET", "/", "Connection: keep-alive", version=version)
                          + request("GET", "/usable"))
    assert raw.count(b"HTTP/1.1 ") == 1
    assert connection.closed
    assert connection.log


def test_write_more_than_the_length_raises_or_is_cut(wire):
    def app(environ, start_response):
        write = start_response("200 OK", [("Content-Length", "3")])
        write(b"ab")
        write(b"cd")
        return [b"ef"]

    assert wire(app).feed(request()).endswith(b"\r\n\r\nabc")


def test_length_of_zero_with_a_body(wire):
    connection = wire(simple(b"body", headers=[("Content-Length", "0")]))
    assert connection.feed(request()).endswith(b"\r\n\r\n")


# -- answers without a body ---------------------------------------------------------------------

@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("make", [list, iter])
@pytest.mark.parametrize("chunks", [[], [b"body"], [b"bo", b"dy"]])
def test_status_without_a_body(wire, status, version, make, chunks):
    """RFC 9110, 15.3.5 and 15.4.5; 9112, 6.1: neither body nor Transfer-Encoding."""
    connection = wire(returning(make(chunks), status=status))
    raw = connection.feed(request("GET", "/", "Connection: keep-alive", version=version))
    assert raw.startswith(f"HTTP/1.1 {status}\r\n".encode())
    assert raw.endswith(b"\r\n\r\n")
    assert raw.count(b"\r\n\r\n") == 1
    assert b"transfer-encoding" not in raw.lower()
    if status.startswith("204"):
        assert b"content-length" not in raw.lower()


def test_204_drops_the_length(wire):
    """RFC 9110, 8.6: no Content-Length in a 204."""
    connection = wire(simple(status="204 No Content", headers=[("Content-Length", "0")]))
    assert b"content-length" not in connection.feed(request()).lower()
    assert connection.usable or connection.closed


def test_304_keeps_the_length_of_what_it_stands_for(wire):
    connection = wire(simple(status="304 Not Modified", headers=[("Content-Length", "1234")]))
    raw = connection.feed(request())
    assert b"\r\nContent-Length: 1234\r\n" in raw
    assert raw.endswith(b"\r\n\r\n")
    assert not connection.closed


@pytest.mark.parametrize("body, length", [([b"12345"], "5"), ((c for c in (b"1", b"2")), None)])
def test_head(wire, body, length):
    """RFC 9110, 9.3.2: the head of the GET, nothing behind it."""
    connection = wire(returning(body))
    raw = connection.feed(request("HEAD"))
    assert raw.endswith(b"\r\n\r\n")
    response = Client(Canned(raw)).read_response("HEAD")
    assert response.status == 200
    assert response.header("content-length") == length
    assert not connection.closed


def test_head_keeps_the_length_of_the_application(wire):
    connection = wire(simple(headers=[("Content-Length", "777")]))
    raw = connection.feed(request("HEAD"))
    assert b"\r\nContent-Length: 777\r\n" in raw
    assert not connection.closed
    assert connection.logged(logging.WARNING) == []


# -- the rest -----------------------------------------------------------------------------------

def test_validated_application(wire):
    """wsgiref's validator finds nothing wrong, neither in the server nor in the application."""
    def app(environ, start_response):
        environ["wsgi.input"].read(2)
        environ["wsgi.input"].readline()
        environ["wsgi.input"].readlines(5)
        for _ in environ["wsgi.input"]:
            pass
        environ["wsgi.errors"].write("")
        environ["wsgi.errors"].flush()
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        if environ["PATH_INFO"] == "/write":
            write(b"written ")
        return [b"fi", b"ne"]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for memory in (1, 1 << 20):
            connection = wire(validator(app), body_memory=memory)
            for raw in (request("GET", "/a?b"), request("POST", "/", body=b"a\nbc\nd\n"),
                        request("GET", "/", version="1.0"), request("GET", "/write")):
                assert connection.one(raw).body.endswith(b"fine"), connection.log
                if connection.closed:
                    connection.connect()


def test_application_of_every_kind(wire):
    class Instance:
        def __call__(self, environ, start_response):
            return simple(b"x")(environ, start_response)

    class Iterable:
        def __init__(self, environ, start_response):
            self.start_response = start_response

        def __iter__(self):
            self.start_response("200 OK", [])
            yield b"x"

    for app in (Instance(), Instance().__call__, Iterable, simple(b"x")):
        assert wire(app).one(request()).body == b"x"


def test_application_with_other_parameter_names(wire):
    """PEP 3333: the two arguments are positional."""
    def app(first, second, /):
        second("200 OK", [])
        return [first["PATH_INFO"].encode()]

    assert wire(app).one(request("GET", "/p")).body == b"/p"


def test_start_response_kept_for_later_is_harmless(wire):
    """A start_response called after its request has ended must not touch the next one."""
    kept = []

    def app(environ, start_response):
        kept.append((start_response, start_response("200 OK", [])))
        return [b"x"]

    connection = wire(app)
    connection.one(request())
    start_response, write = kept[0]
    with pytest.raises(Exception):  # noqa: B017 - which one is the server's business
        write(b"late")
    with pytest.raises(Exception):  # noqa: B017
        start_response("200 OK", [])
    assert connection.one(request()).body == b"x"
    kept.clear()


def test_application_with_greenlets_of_its_own(wire):
    """start_response, write and the iteration may be called in another greenlet."""
    def app(environ, start_response):
        write = greenlet(start_response).switch("200 OK", [("A", "b")])
        greenlet(write).switch(b"written ")

        def steps():
            yield greenlet(lambda: b"one ").switch()
            yield greenlet(lambda: b"two").switch()

        return steps()

    connection = wire(app)
    for _ in range(3):
        answer = connection.one(request())
        assert (answer.body, answer.all("a")) == (b"written one two", ["b"])


def test_greenlets_left_behind(wire):
    """One that never ends is the application's own affair."""
    left = []

    def app(environ, start_response):
        def never_ends():
            while True:
                greenlet.getcurrent().parent.switch()

        left.append(greenlet(never_ends))
        left[-1].switch()
        start_response("200 OK", [])
        return [b"x"]

    connection = wire(app)
    for _ in range(3):
        assert connection.one(request()).body == b"x"
    left.clear()


def test_context_variables_do_not_leak_between_requests(wire):
    variable = ContextVar("variable", default="unset")

    def app(environ, start_response):
        seen = variable.get()
        variable.set(environ["PATH_INFO"])
        start_response("200 OK", [])
        return [seen.encode()]

    connection = wire(app)
    found = connection.ask(request("GET", "/1") + request("GET", "/2"))
    assert [a.body for a in found] == [b"unset", b"unset"]
    assert variable.get() == "unset"


def test_context_of_the_call_is_that_of_the_iteration(wire):
    variable = ContextVar("variable", default="unset")

    def app(environ, start_response):
        variable.set("set")
        start_response("200 OK", [])
        return (variable.get().encode() for _ in range(2))

    assert wire(app).one(request()).body == b"setset"
