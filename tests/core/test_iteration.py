"""Iterables, write() and close() in odd order and at odd moments (PEP 3333; what is ordinary is in
test_app.py)."""

import logging

import pytest
from answers import answers, request


class Steps:
    """An iterable that notes each step; `steps` are chunks, or exceptions to raise."""

    def __init__(self, *steps):
        self.steps = steps
        self.calls = []

    def __iter__(self):
        self.calls.append("iter")
        for step in self.steps:
            if isinstance(step, BaseException):
                self.calls.append("raise")
                raise step
            self.calls.append("next")
            yield step
        self.calls.append("end")

    def close(self):
        self.calls.append("close")


def returning(body, headers=(), status="200 OK"):
    def app(environ, start_response):
        start_response(status, list(headers))
        return body
    return app


# -- iterables ------------------------------------------------------------------------------

def test_it_is_iterated_once_and_closed_once(wire):
    body = Steps(b"a", b"", b"b")
    assert wire(returning(body)).one(request()).body == b"ab"
    assert body.calls == ["iter", "next", "next", "next", "end", "close"]


def test_close_of_the_iterable_and_not_of_its_iterator(wire):
    """PEP 3333: "if the iterable returned by the application has a close() method"."""
    calls = []

    class Inner:
        def __iter__(self):
            return self

        def __next__(self):
            if "next" in calls:
                raise StopIteration
            calls.append("next")
            return b"x"

        def close(self):
            calls.append("close of the iterator")

    class Outer:
        def __iter__(self):
            return Inner()

        def close(self):
            calls.append("close")

    assert wire(returning(Outer())).one(request()).body == b"x"
    assert calls == ["next", "close"]


def test_an_iterator_is_not_asked_again_after_its_end(wire):
    asked = []

    class Once:
        def __iter__(self):
            return self

        def __next__(self):
            asked.append(len(asked))
            if len(asked) > 1:
                raise StopIteration
            return b"x"

    assert wire(returning(Once())).one(request()).body == b"x"
    assert asked == [0, 1]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "205 Reset Content",
                                    "304 Not Modified"])
def test_an_endless_body_ends_where_nothing_of_it_is_wanted(wire, method, status):
    """With nothing to send there is nobody whose going would end it."""
    calls = []

    def app(environ, start_response):
        start_response(status, [("Content-Length", "4")] if status[0] == "2" else [])
        try:
            while True:
                calls.append("next")
                yield b"abc"
        finally:
            calls.append("finally")

    raw = wire(app).feed(request(method))
    assert raw.endswith(b"\r\n\r\nabca" if (status, method) == ("200 OK", "GET") else b"\r\n\r\n")
    assert calls[-1] == "finally"
    assert len(calls) <= 4


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_nothing_but_empty_pieces(wire, version):
    connection = wire(returning(iter([b""] * 1000)))
    answer = connection.one(request("GET", "/", "Connection: keep-alive", version=version))
    assert answer.all("content-length") == ["0"]
    assert connection.usable


def test_a_body_that_makes_itself_while_it_is_read(wire):
    """A generator over wsgi.input, as of a filter."""
    def app(environ, start_response):
        start_response("200 OK", [])
        return iter(lambda: environ["wsgi.input"].read(3).upper(), b"")

    answer = wire(app).one(request("POST", "/", body=b"abcdefgh"))
    assert answer.body == b"ABCDEFGH"


@pytest.mark.parametrize("chunk", [bytearray(b"x"), memoryview(b"x"), "x", None, 1, [b"x"]],
                         ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("make", [list, iter])
def test_pieces_are_bytes(wire, chunk, make):
    """PEP 3333, Unicode Issues: nothing else, whatever could be made of it."""
    connection = wire(returning(make([chunk])))
    answer = connection.one(request())
    assert answer.status == 500
    assert any("PEP 3333" in str(e) for _, _, e in connection.log)


# -- write() --------------------------------------------------------------------------------

@pytest.mark.parametrize("data", [bytearray(b"x"), memoryview(b"x")])
def test_write_takes_bytes_only(wire, data):
    def app(environ, start_response):
        start_response("200 OK", [])(data)
        return []

    assert wire(app).one(request()).status == 500


def test_write_returns_nothing(wire):
    returned = []

    def app(environ, start_response):
        write = start_response("200 OK", [])
        returned.extend([write(b"a"), write(b"")])
        return []

    assert wire(app).one(request()).body == b"a"
    assert returned == [None, None]


def test_write_of_nothing_does_not_send_the_head(wire):
    def app(environ, start_response):
        start_response("200 OK", [("A", "b")])(b"")
        try:
            raise ValueError
        except ValueError as error:
            start_response("503 Late", [], (ValueError, error, None))
        return [b"x"]

    answer = wire(app).one(request())
    assert answer.status == 503
    assert answer.all("a") == []


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_write_within_the_iteration(wire, version):
    """PEP 3333 forbids it to applications.  If one does it, the bytes are in the order in which
    they came."""
    def app(environ, start_response):
        write = start_response("200 OK", [])
        yield b"one "
        write(b"two ")
        yield b"three"

    assert wire(app).one(request(version=version)).body == b"one two three"


def test_write_and_start_response_in_close(wire):
    """The answer is over when close() is called."""
    errors = []

    class Closing:
        def __init__(self, start_response):
            self.start_response = start_response
            self.write = start_response("200 OK", [("Content-Length", "4")])

        def __iter__(self):
            return iter([b"body"])

        def close(self):
            for call in (lambda: self.write(b"more"), lambda: self.start_response("200 OK", [])):
                try:
                    call()
                except Exception as error:
                    errors.append(error)

    connection = wire(lambda environ, start_response: Closing(start_response))
    assert connection.one(request()).body == b"body"
    assert len(errors) == 2
    assert connection.usable


@pytest.mark.parametrize("version, end", [("1.1", b"4\r\nsent\r\n"), ("1.0", b"sent")])
def test_error_after_a_write(wire, version, end):
    """What has gone is not ended as if it were whole."""
    def app(environ, start_response):
        start_response("200 OK", [])(b"sent")
        raise ValueError

    connection = wire(app)
    assert connection.feed(request(version=version) + request("GET", "/never")).endswith(end)
    assert connection.closed
    assert connection.reset is (version == "1.0")
    assert connection.logged(logging.ERROR)


def test_write_and_nothing_returned(wire):
    """None is no iterable; but what was written can only be broken off."""
    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "8")])(b"sent")

    connection = wire(app)
    raw = connection.feed(request())
    assert raw.endswith(b"\r\n\r\nsent")
    assert raw.count(b"HTTP/1.1 ") == 1
    assert connection.closed


# -- close() --------------------------------------------------------------------------------

@pytest.mark.parametrize("close", [5, "close", object()])
def test_close_that_cannot_be_called(wire, close):
    class Odd(list):
        pass

    body = Odd([b"x"])
    body.close = close
    connection = wire(returning(body))
    assert connection.one(request()).body == b"x"
    assert connection.logged(logging.ERROR)


def test_close_that_is_none(wire):
    class Odd(list):
        close = None

    connection = wire(returning(Odd([b"x"])))
    assert connection.one(request()).body == b"x"
    assert not connection.logged(logging.WARNING)


def test_close_that_raises_when_it_is_looked_at(wire):
    class Odd(list):
        @property
        def close(self):
            raise ValueError("from the property")

    connection = wire(returning(Odd([b"x"])))
    assert connection.one(request()).body == b"x"
    assert connection.logged(logging.ERROR)


@pytest.mark.parametrize("sent", [0, 1])
def test_both_the_body_and_close_raise(wire, sent):
    """Neither error is lost: the second has the first as its context."""
    class Odd(Steps):
        def close(self):
            super().close()
            raise KeyError("from close")

    body = Odd(*[b"x"] * sent, ValueError("from the body"))
    connection = wire(returning(body))
    raw = connection.feed(request())
    assert raw.startswith(b"HTTP/1.1 200 " if sent else b"HTTP/1.1 500 ")
    assert raw.count(b"HTTP/1.1 ") == 1
    assert body.calls[-2:] == ["raise", "close"]
    (error,) = [e for _, _, e in connection.log if e is not None]
    assert [type(e) for e in (error, error.__context__)] == [KeyError, ValueError]


@pytest.mark.parametrize("headers", [[("Content-Length", "4")], []])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_error_after_the_last_byte(wire, headers, version):
    """A body of known length is whole by then; of the others the client must learn that it may not
    be.  No second answer is begun."""
    body = Steps(b"body", ValueError("late"))
    connection = wire(returning(body, headers))
    raw = connection.feed(request(version=version) + request("GET", "/next", version=version))
    (first, *rest) = answers(raw)
    assert (first.status, first.body) == (200, b"body")
    assert first.complete is (bool(headers) or version == "1.0")
    assert body.calls == ["iter", "next", "raise", "close"]
    assert connection.logged(logging.ERROR)
    assert rest == [] or not connection.closed
    if not headers:
        assert connection.closed
        assert connection.reset is (version == "1.0")


def test_close_when_the_first_piece_is_refused(wire):
    """The error of the head (start_response was never called) does not spare close()."""
    body = Steps(b"x")
    connection = wire(lambda environ, start_response: body)
    assert connection.one(request()).status == 500
    assert body.calls == ["iter", "next", "close"]


# -- length against body --------------------------------------------------------------------

@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("pieces", [[b"abcd"], [b"ab", b"cd"], [b"abcd", b"", b""], [b"", b"abcd"]])
@pytest.mark.parametrize("way", ["list", "generator", "write", "both"])
def test_exactly_its_length(wire, pieces, version, way):
    def app(environ, start_response):
        write = start_response("200 OK", [("Content-Length", "4")])
        if way == "list":
            return pieces
        if way == "generator":
            return iter(pieces)
        for piece in pieces[:1] if way == "both" else pieces:
            write(piece)
        return pieces[1:] if way == "both" else []

    connection = wire(app)
    answer = connection.one(request("GET", "/", "Connection: keep-alive", version=version))
    assert answer.body == b"abcd"
    assert not connection.logged(logging.WARNING)
    assert not connection.closed


@pytest.mark.parametrize("way", ["list", "generator", "write", "both"])
@pytest.mark.parametrize("sizes", [(5,), (4, 1), (1, 4), (100_000,), (3, 100_000), (4, 0, 1)])
def test_too_much_is_cut_told_once_and_harms_nobody(wire, way, sizes):
    """RFC 9112, 6.3: what goes beyond Content-Length would be read as the next answer."""
    pieces = [b"x" * size for size in sizes]

    def app(environ, start_response):
        if environ["PATH_INFO"] != "/":
            start_response("200 OK", [])
            return [b"next"]
        write = start_response("200 OK", [("Content-Length", "4")])
        if way == "list":
            return pieces
        if way == "generator":
            return iter(pieces)
        for piece in pieces[:1] if way == "both" else pieces:
            write(piece)
        return pieces[1:] if way == "both" else []

    connection = wire(app)
    found = answers(connection.feed(request() + request("GET", "/next")))
    assert [a.body for a in found] == [b"xxxx", b"next"][:len(found)]
    assert len(connection.logged(logging.ERROR)) == 1
    assert (len(found) == 2) is not connection.closed
