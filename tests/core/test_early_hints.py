"""`wsgi.early_hints`: 103 Early Hints (RFC 8297) while the application thinks on."""

import gc
import logging
import sys
import weakref

import pytest
from answers import Canned, Wire, answers, chunked, request
from harness import Client

LINK = ("Link", "</style.css>; rel=preload; as=style")
HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload; as=style\r\n\r\n"


def hinting(*hints, then=None):
    """An application that sends each of `hints` as one 103, then answers."""
    def app(environ, start_response):
        for fields in hints:
            assert environ["wsgi.early_hints"](fields) is None
        if then is not None:
            return then(environ, start_response)
        start_response("200 OK", [("A", "b")])
        return [b"body"]
    return app


def read(raw, method="GET"):
    """The interim responses and the final one."""
    client = Client(Canned(raw))
    answer = client.read_response(method)
    assert not client.buffer
    assert not client.sock.data
    return client.interim, answer


def test_hint_and_answer(wire):
    connection = wire(hinting([LINK]))
    raw = connection.feed(request())
    assert raw.startswith(HINT + b"HTTP/1.1 200 OK\r\nA: b\r\n")
    interim, answer = read(raw)
    assert interim == [(103, [LINK])]
    assert answer.body == b"body"
    assert answer.all("link") == []
    assert connection.usable


def test_it_has_nothing_of_the_server(wire):
    """Date, Server, framing and Connection belong to the final response (RFC 9110, 15.2)."""
    assert wire(hinting([LINK])).feed(request("GET", "/", "Connection: close")).startswith(HINT)


def test_several_hints(wire):
    two = [("Link", "</a>"), ("Link", "</b>"), ("X-A", "caf\xe9")]
    interim, answer = read(wire(hinting([LINK], two, [])).feed(request()))
    assert interim == [(103, [LINK]), (103, two), (103, [])]
    assert answer.body == b"body"


@pytest.mark.parametrize("make", [list, tuple, iter, lambda fields: (f for f in fields)])
def test_any_iterable_of_pairs(wire, make):
    def app(environ, start_response):
        environ["wsgi.early_hints"](make([LINK]))
        start_response("200 OK", [])
        return [b"x"]

    assert read(wire(app).feed(request()))[0] == [(103, [LINK])]


@pytest.mark.parametrize("method", ["HEAD", "POST", "OPTIONS"])
def test_methods(wire, method):
    connection = wire(hinting([LINK]))
    raw = connection.feed(request(method))
    assert raw.startswith(HINT)
    assert read(raw, method)[0] == [(103, [LINK])]
    assert not connection.closed


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified", "404 Not Found"])
def test_statuses(wire, status):
    def then(environ, start_response):
        start_response(status, [])
        return []

    connection = wire(hinting([LINK], then=then))
    interim, answer = read(connection.feed(request()))
    assert interim == [(103, [LINK])]
    assert answer.status == int(status[:3])
    assert connection.closed is False


@pytest.mark.parametrize("fields", [(), ("Connection: keep-alive",)])
def test_not_for_1_0(wire, fields):
    """RFC 9110, 15.2: a server must not send a 1xx to an HTTP/1.0 client."""
    connection = wire(hinting([LINK], [LINK]))
    raw = connection.feed(request("GET", "/", *fields, version="1.0"))
    assert raw.startswith(b"HTTP/1.1 200 OK\r\n")
    assert raw.count(b"HTTP/1.1 ") == 1
    assert b"103" not in raw


def test_after_start_response(wire):
    """Its head has not gone yet, and is not disturbed."""
    def app(environ, start_response):
        start_response("201 Created", [("A", "b"), ("Content-Length", "4")])
        environ["wsgi.early_hints"]([LINK])
        yield b""
        environ["wsgi.early_hints"]([LINK, LINK])
        yield b"body"

    raw = wire(app).feed(request())
    interim, answer = read(raw)
    assert interim == [(103, [LINK]), (103, [LINK, LINK])]
    assert (answer.status, answer.body) == (201, b"body")
    assert [n for n, _ in answer.headers] == ["A", "Server", "Date", "Content-Length"]


@pytest.mark.parametrize("sends", ["yield", "write"])
def test_after_the_head_nothing_happens(wire, sends):
    def app(environ, start_response):
        write = start_response("200 OK", [("Content-Length", "8")])
        if sends == "write":
            write(b"sent")
        else:
            yield b"sent"
        environ["wsgi.early_hints"]([LINK])
        yield b"more"
        environ["wsgi.early_hints"]([LINK])

    connection = wire(app)
    raw = connection.feed(request())
    assert raw.endswith(b"\r\n\r\nsentmore")
    assert raw.count(b"HTTP/1.1 ") == 1
    assert connection.usable


def test_between_start_response_and_its_replacement(wire):
    def app(environ, start_response):
        start_response("200 OK", [("A", "old")])
        environ["wsgi.early_hints"]([LINK])
        try:
            raise ValueError
        except ValueError:
            start_response("503 New", [("B", "new")], sys.exc_info())
        environ["wsgi.early_hints"]([LINK])
        return [b"x"]

    interim, answer = read(wire(app).feed(request()))
    assert len(interim) == 2
    assert answer.status == 503
    assert [answer.all(n) for n in ("a", "b", "link")] == [[], ["new"], []]


def test_before_an_error(wire):
    def then(environ, start_response):
        raise ValueError

    connection = wire(hinting([LINK], then=then))
    interim, answer = read(connection.feed(request()))
    assert interim == [(103, [LINK])]
    assert answer.status == 500
    assert answer.all("link") == []


def test_pipelined(wire):
    """Each in front of its own answer."""
    connection = wire(hinting([LINK]))
    raw = connection.feed(request() + request(version="1.1") + request("POST", "/", body=b"b"))
    assert raw.count(HINT + b"HTTP/1.1 200 OK\r\n") == 3
    assert len(answers(raw)) == 3
    assert connection.usable


def test_behind_100_continue(wire):
    connection = wire(hinting([LINK]))
    raw = connection.feed(request("POST", "/", "Expect: 100-continue",
                                  "Transfer-Encoding: chunked"))
    raw += connection.feed(chunked(b"body"))
    interim, answer = read(raw)
    assert [status for status, _ in interim] == [100, 103]
    assert answer.status == 200


def test_bytes_of_the_log_are_those_of_the_body(wire, tmp_path):
    with (tmp_path / "log").open("w+b") as file:
        connection = wire(hinting([LINK]), access_log_fd=file.fileno())
        connection.feed(request())
        connection.worker.flush_access_log()
        file.seek(0)
        (line,) = file.read().splitlines()
    assert b'" 200 4 ' in line


# -- what is refused ------------------------------------------------------------------------

def refusal(wire, fields):
    """What early_hints raised; nothing is sent of it, and the answer is untouched."""
    raised = []

    def app(environ, start_response):
        start_response("200 OK", [("A", "b")])
        try:
            environ["wsgi.early_hints"](fields)
        except Exception as error:
            raised.append(error)
        environ["wsgi.early_hints"]([LINK])
        return [b"body"]

    raw = wire(app).feed(request())
    assert raw.startswith(HINT + b"HTTP/1.1 200 OK\r\nA: b\r\nServer: fastfork\r\n")
    assert raw.endswith(b"\r\n\r\nbody")
    (error,) = raised
    return error


@pytest.mark.parametrize("name, value", [
    ("A\r\nB", "c"), ("A", "b\r\nC: d"), ("A", "b\r\n\r\nHTTP/1.1 200 OK"), ("A", "b\nc"),
    ("A", "b\rc"), ("A", "b\0c"), ("A", "b\x7f"), ("A\0", "b"), ("", "b"), ("A B", "c"),
    ("A:", "b"), (" A", "b"), ("A ", "b"), ("\xe9", "b"), ("A", "\u20ac"), ("\u20ac", "b"),
    ("A", "\u010d\u010a"), ("A", "\udc80")])
def test_fields_that_cannot_be_sent(wire, name, value):
    """As in start_response; nothing may split a head."""
    for fields in ([(name, value)], [LINK, (name, value)], [(name, value), LINK]):
        assert isinstance(refusal(wire, fields), ValueError)


@pytest.mark.parametrize("name", ["Connection", "Keep-Alive", "Transfer-Encoding", "TE", "Trailer",
                                  "Trailers", "Upgrade", "Proxy-Authenticate",
                                  "Proxy-Authorization", "Content-Length"])
@pytest.mark.parametrize("case", [str, str.upper, str.lower])
def test_hop_by_hop_and_framing(wire, name, case):
    """An interim response has neither a body nor a say in the connection (RFC 9110, 15.2)."""
    for value in ("close", "4", "chunked", ""):
        assert isinstance(refusal(wire, [LINK, (case(name), value)]), ValueError)


@pytest.mark.parametrize("fields", [
    None, 5, "ab", "Link", [("A",)], [("A", "b", "c")], [None], ["ab"], [["A", "b"]], [5],
    {"A": "b"}, [(b"A", "b")], [("A", b"b")], [("A", 1)], [("A", None)], [(None, "b")]], ids=repr)
def test_fields_of_the_wrong_kind(wire, fields):
    assert isinstance(refusal(wire, fields), TypeError)


def test_an_error_of_the_iterable_comes_through(wire):
    def fields():
        yield LINK
        raise KeyError("mine")

    assert isinstance(refusal(wire, fields()), KeyError)


@pytest.mark.parametrize("arguments, keywords", [((), {}), (([], []), {}), (([],), {"x": 1})])
def test_wrong_arguments(wire, arguments, keywords):
    def app(environ, start_response):
        with pytest.raises(TypeError):
            environ["wsgi.early_hints"](*arguments, **keywords)
        start_response("200 OK", [])
        return [b"x"]

    assert wire(app).one(request()).status == 200


def test_an_uncaught_refusal_is_an_error_of_the_application(wire):
    connection = wire(hinting([("A", "b\r\nc")]))
    raw = connection.feed(request())
    assert raw.startswith(b"HTTP/1.1 500 ")
    assert b"103" not in raw
    assert connection.logged(logging.ERROR)


@pytest.mark.parametrize("inner", ["start_response", "shorter", "longer", "early_hints", "write"])
def test_an_iterable_that_calls_the_server_back(wire, inner):
    """Nobody does it; but it must not mix one head with another, or read beyond one."""
    def app(environ, start_response):
        again = (ValueError, ValueError("x"), None)
        write = start_response("200 OK", [("A", "a" * 300)])

        def fields():
            yield LINK
            if inner == "early_hints":
                environ["wsgi.early_hints"]([("Inner", "1")])
            elif inner == "write":
                write(b"written ")
            else:
                length = {"start_response": 300, "shorter": 1, "longer": 9000}[inner]
                start_response("202 Again", [("B", "b" * length)], again)
            yield LINK

        environ["wsgi.early_hints"](fields())
        return [b"body"]

    connection = wire(app)
    raw = connection.feed(request())
    assert len(raw) < 20_000
    interim, answer = read(raw)
    if inner == "write":
        assert (answer.status, answer.body) == (200, b"written body")
    elif inner == "early_hints":
        assert interim == [(103, [("Inner", "1")]), (103, [LINK, LINK])]
        assert (answer.status, answer.body) == (200, b"body")
    else:
        assert interim == [(103, [LINK, LINK])]
        assert (answer.status, answer.body) == (202, b"body")
        assert answer.all("a") == []
    for name, _ in answer.headers:
        assert name in ("A", "B", "Server", "Date", "Content-Length", "Transfer-Encoding")


# -- kept, and large ------------------------------------------------------------------------

def test_kept_for_later_is_harmless(wire):
    """A hint after the request has ended must not come into another's answer."""
    kept = []

    def app(environ, start_response):
        kept.append(environ["wsgi.early_hints"])
        start_response("200 OK", [])
        if len(kept) > 1:
            with pytest.raises(RuntimeError):
                kept[0]([LINK])
        return [b"x"]

    connection = wire(app)
    assert connection.feed(request()).count(b"HTTP/1.1 ") == 1
    with pytest.raises(RuntimeError):
        kept[0]([LINK])
    assert connection.feed(request()).count(b"HTTP/1.1 ") == 1
    kept.clear()


def test_in_close_nothing_happens(wire):
    calls = []

    class Closing(list):
        def close(self):
            calls.append("close")
            try:
                self.hints([LINK])
            except RuntimeError:
                calls.append("told")

    def app(environ, start_response):
        start_response("200 OK", [])
        body = Closing([b"x"])
        body.hints = environ["wsgi.early_hints"]
        return body

    connection = wire(app)
    assert connection.feed(request()).count(b"HTTP/1.1 ") == 1
    assert calls[0] == "close"
    assert connection.usable


def test_large_and_many(wire):
    fields = [("Link", f"</{n}>; title=" + "t" * n) for n in range(300)]
    interim, answer = read(wire(hinting(*[fields] * 20)).feed(request()))
    assert interim == [(103, fields)] * 20
    assert answer.body == b"body"


def test_it_leaves_nothing_for_the_collector(balance):
    class App:
        def __call__(self, environ, start_response):
            environ["wsgi.early_hints"]([LINK])
            start_response("200 OK", [])
            return [b"x"]

    app = App()
    gone = weakref.ref(app)
    gc.collect()
    gc.disable()
    try:
        connection = Wire(app)
        connection.feed(request())
        connection.close()
        del app, connection
        assert gone() is None
    finally:
        gc.enable()


def test_each_request_has_its_own(wire):
    kept = []

    def app(environ, start_response):
        kept.append(environ["wsgi.early_hints"])
        start_response("200 OK", [])
        return [b""]

    wire(app).ask(request() + request())
    first, second = kept
    assert first is not second
    kept.clear()


def test_a_kept_environ_does_not_keep_the_exchange(wire, recorder):
    wire(recorder).ask(request())
    with pytest.raises(RuntimeError, match="over"):
        recorder.environ["wsgi.early_hints"]([])


# -- while the body is still coming (request_buffering = "stream") ------------------------------

def reading_between(environ, start_response):
    environ["wsgi.early_hints"]([LINK])
    body = environ["wsgi.input"].read()
    environ["wsgi.early_hints"]([LINK])
    start_response("200 OK", [])
    return [body]


def test_before_and_after_a_streamed_body(wire):
    """The hint need not wait for the body; 100 Continue comes with the first read, behind it."""
    connection = wire(reading_between, request_buffering="stream")
    raw = connection.feed(request("POST", "/", "Content-Length: 4", "Expect: 100-continue"))
    assert raw == HINT + b"HTTP/1.1 100 Continue\r\n\r\n"
    assert connection.feed(b"bo") == b""
    interim, answer = read(connection.feed(b"dy"))
    assert interim == [(103, [LINK])]
    assert answer.body == b"body"
    assert connection.usable


def test_before_a_streamed_body_that_breaks_off(wire):
    connection = wire(reading_between, request_buffering="stream")
    assert connection.feed(request("POST", "/", "Transfer-Encoding: chunked")) == HINT
    interim, answer = read(connection.feed(b"zz\r\n"))
    assert interim == []
    assert answer.status == 400
    assert connection.closed
