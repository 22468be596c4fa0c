"""request_buffering = "stream": the handler starts at the end of the head and reads the body as it
comes.  Here a handler that waits goes back to whoever feeds."""

import io
import logging

import pytest
from answers import KIB, Recorder, answers, chunked, request

import fastfork
from fastfork import _core

BODY = bytes(range(256)) * 40
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.fixture
def stream(wire):
    return lambda app, **options: wire(app, request_buffering="stream", **options)


class Reader:
    """Reads by `read` until that gives nothing; keeps what it got and what was raised."""

    def __init__(self, read=lambda body: body.read1(65536), catch=False):
        self.read = read
        self.catch = catch
        self.pieces = []
        self.errors = []
        self.environs = []
        self.over = 0

    def __call__(self, environ, start_response):
        self.environs.append(environ)
        try:
            while piece := self.read(environ["wsgi.input"]):
                self.pieces.append(piece)
        except OSError as error:
            self.errors.append(error)
            if not self.catch:
                raise
        self.over += 1
        start_response("200 OK", [])
        return [b"%d" % sum(map(len, self.pieces))]


def test_pieces_come_as_they_are_sent(stream):
    app = Reader()
    wire = stream(app)
    assert wire.feed(request("POST", "/", "Content-Length: 6")) == b""
    assert app.environs and not app.pieces
    assert wire.feed(b"ab") == wire.feed(b"cd") == b""
    assert app.pieces == [b"ab", b"cd"]
    assert wire.one(b"ef").body == b"6"
    assert wire.usable


def test_chunks_come_as_they_are_sent(stream):
    app = Reader()
    wire = stream(app)
    wire.feed(request("POST", "/", "Transfer-Encoding: chunked") + b"3\r\nabc")
    assert app.pieces == [b"abc"]
    wire.feed(b"\r\n2\r\nd")
    wire.feed(b"e\r\n0\r\nA: b\r\n")
    assert app.pieces == [b"abc", b"d", b"e"] and not app.over
    assert wire.one(b"\r\n").body == b"5"
    assert "CONTENT_LENGTH" not in app.environs[0]
    assert "HTTP_TRANSFER_ENCODING" not in app.environs[0]
    assert app.environs[0]["wsgi.input_terminated"] is True
    assert wire.usable


@pytest.mark.parametrize("framed", [
    request("POST", "/", body=BODY),
    request("POST", "/", "Transfer-Encoding: chunked", body=chunked(BODY, BODY)),
    request("POST", "/", body=b""),
    request("GET", "/"),
])
def test_what_came_with_the_head_is_as_without_streaming(wire, stream, framed):
    app, plain = Recorder(), Recorder()
    assert stream(app).one(framed).status == 200
    assert wire(plain).one(framed).status == 200
    assert app.bodies == plain.bodies
    assert type(app.environ["wsgi.input"]) is _core.Input
    if b"chunked" in framed:    # not even where it could be known: it would depend on the timing
        assert "CONTENT_LENGTH" not in app.environ
    else:
        assert app.environ.get("CONTENT_LENGTH") == plain.environ.get("CONTENT_LENGTH")


READS = {
    "all": lambda body: body.read(),
    "all, by None": lambda body: body.read(None),
    "sized": lambda body: body.read(1000),
    "by ones": lambda body: body.read(1),
    "more than there is": lambda body: body.read(1 << 20),
    "read1": lambda body: body.read1(),
    "lines": lambda body: body.readline(),
    "lines with a limit": lambda body: body.readline(7),
    "all lines": lambda body: b"".join(body.readlines()),
    "some lines": lambda body: b"".join(body.readlines(100)),
    "iterated": lambda body: b"".join(body),
    "next": lambda body: next(body, b""),
    "into a buffer": lambda body: bytes((lambda b: b[:body.readinto(b)])(bytearray(999))),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("coded", [False, True])
def test_every_way_to_read(stream, read, coded):
    app = Reader(read)
    wire = stream(app)
    if coded:
        raw = request("POST", "/", "Transfer-Encoding: chunked",
                      body=chunked(*[BODY[i:i + 700] for i in range(0, len(BODY), 700)]))
    else:
        raw = request("POST", "/", body=BODY)
    sent = b"".join(wire.feed(raw[i:i + 333]) for i in range(0, len(raw), 333))
    (answer,) = answers(sent)
    assert answer.body == b"%d" % len(BODY)
    assert b"".join(app.pieces) == BODY
    assert wire.usable


def test_read_of_a_size_waits_for_all_of_it(stream):
    app = Reader(lambda body: body.read(4))
    wire = stream(app)
    wire.feed(request("POST", "/", "Content-Length: 6"))
    wire.feed(b"abc")
    assert app.pieces == []
    wire.feed(b"de")
    assert app.pieces == [b"abcd"]
    wire.feed(b"f")
    assert app.pieces == [b"abcd", b"ef"]


def test_text_wrapper_does_not_close_it(stream):
    def app(environ, start_response):
        first = io.TextIOWrapper(environ["wsgi.input"]).readline()
        start_response("200 OK", [])
        return [first.encode(), environ["wsgi.input"].read()]

    wire = stream(app)
    wire.feed(request("POST", "/", "Content-Length: 20000"))
    (answer,) = answers(wire.feed(b"line\n" * 4000))
    assert answer.body.startswith(b"line\n")


# -- 100 Continue ---------------------------------------------------------------------------------


def expecting(length=3):
    return request("POST", "/", f"Content-Length: {length}", "Expect: 100-continue")


def test_continue_at_the_first_read(stream):
    app = Reader()
    wire = stream(app)
    assert wire.feed(expecting()) == CONTINUE
    assert wire.one(b"abc").body == b"3"
    assert wire.usable


def test_no_continue_where_nothing_is_read(stream):
    def app(environ, start_response):
        start_response("403 Forbidden", [])
        return [b"no"]

    wire = stream(app)
    answer = wire.one(expecting())
    assert answer.status == 403
    assert answer.header("connection") == "close"
    assert wire.closed


def test_no_continue_when_the_body_is_there(stream):
    app = Reader()
    wire = stream(app)
    assert wire.feed(expecting(6) + b"abc") == b""
    assert wire.one(b"def").status == 200


def test_no_continue_within_a_response(stream):
    def app(environ, start_response):
        start_response("200 OK", [])
        yield b"begun"
        yield environ["wsgi.input"].read()

    wire = stream(app)
    sent = wire.feed(expecting()) + wire.feed(b"abc")
    assert b"100 Continue" not in sent
    (answer,) = answers(sent)
    assert answer.body == b"begunabc"


# -- bodies that are not read to their end --------------------------------------------------------


@pytest.mark.parametrize("read", [None, 2])
def test_unread_body_ends_the_connection(stream, read):
    calls = []

    def app(environ, start_response):
        calls.append(environ["PATH_INFO"])
        if read:
            environ["wsgi.input"].read(read)
        start_response("200 OK", [])
        return [b"early"]

    wire = stream(app)
    smuggled = request("GET", "/smuggled")
    answer = wire.one(request("POST", "/first", f"Content-Length: {5 + len(smuggled)}") + b"ab")
    assert answer.body == b"early"
    assert answer.header("connection") == "close"
    assert wire.closed
    assert wire.feed(b"cde" + smuggled) == b""
    assert calls == ["/first"]


def test_body_that_came_but_was_not_read_is_skipped(stream):
    calls = []

    def app(environ, start_response):
        calls.append(environ["PATH_INFO"])
        if environ["REQUEST_METHOD"] == "POST":
            environ["wsgi.input"].read(1)
        start_response("200 OK", [])
        return [b""]

    wire = stream(app)
    wire.feed(request("POST", "/first", "Content-Length: 9"))
    first, _ = answers(wire.feed(b"GET /bad " + request("GET", "/second")))
    assert first.header("connection") is None
    assert calls == ["/first", "/second"]
    assert wire.usable


def test_answer_while_the_body_comes(stream):
    def app(environ, start_response):
        start_response("200 OK", [])
        while piece := environ["wsgi.input"].read1(100):
            yield piece.upper()

    wire = stream(app)
    sent = wire.feed(request("POST", "/", "Transfer-Encoding: chunked"))
    sent += wire.feed(b"3\r\nabc\r\n")
    assert b"ABC" in sent
    sent += wire.feed(b"3\r\ndef\r\n")
    assert b"DEF" in sent
    sent += wire.feed(b"0\r\n\r\n")
    (answer,) = answers(sent)
    assert answer.body == b"ABCDEF"
    assert answer.header("connection") == "close"
    assert wire.closed


# -- bodies that break off ------------------------------------------------------------------------

BROKEN = {
    "cut short": (request("POST", "/", "Content-Length: 99"), b"abc", 400),
    "cut short, chunked":
        (request("POST", "/", "Transfer-Encoding: chunked"), b"5\r\nab", 400),
    "cut before the last chunk":
        (request("POST", "/", "Transfer-Encoding: chunked"), b"2\r\nab\r\n", 400),
    "malformed chunk":
        (request("POST", "/", "Transfer-Encoding: chunked"), b"2\r\nab\r\nxx\r\n", 400),
    "too long": (request("POST", "/", "Transfer-Encoding: chunked"), b"2\r\nab\r\n500\r\n", 413),
    "long trailers":
        (request("POST", "/", "Transfer-Encoding: chunked"),
         b"0\r\n" + b"A: b\r\n" * 100, 431),
    "long extensions":
        (request("POST", "/", "Transfer-Encoding: chunked"), b"1;" + b"a" * 400, 400),
}
LIMITS = {"max_body": 1000, "max_head": 500, "max_request_line": 100, "max_chunk_extensions": 300}


@pytest.mark.parametrize("head, body, status", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("read", [READS["all"], READS["sized"], READS["read1"], READS["lines"]])
def test_broken_body_raises(stream, head, body, status, read):
    app = Reader(read)
    wire = stream(app, **LIMITS)
    sent = wire.feed(head) + wire.feed(body + request("GET", "/poison")) + wire.connection.eof()
    (error,) = app.errors
    assert isinstance(error, fastfork.BodyError) and error.status == status and str(error)
    assert app.over == 0 and len(app.environs) == 1
    (answer,) = answers(sent)
    assert answer.status == status
    assert answer.header("connection") == "close"
    assert wire.closed
    assert wire.logged(logging.WARNING) == []
    assert any(f"{status}: {error}" in line for line in wire.logged(logging.INFO))


@pytest.mark.parametrize("head, body, status", BROKEN.values(), ids=BROKEN)
def test_handler_that_catches_it_may_answer(stream, head, body, status):
    app = Reader(READS["read1"], catch=True)
    wire = stream(app, **LIMITS)
    sent = wire.feed(head) + wire.feed(body + request("GET", "/poison")) + wire.connection.eof()
    (answer,) = answers(sent)
    assert answer.status == 200
    assert answer.header("connection") == "close"
    assert wire.closed
    assert len(app.environs) == 1


def test_it_is_raised_again(stream):
    seen = []

    def app(environ, start_response):
        for _ in range(3):
            try:
                environ["wsgi.input"].read1(100)
            except OSError as error:
                seen.append(error.status)
        start_response("200 OK", [])
        return [b""]

    wire = stream(app)
    wire.feed(request("POST", "/", "Content-Length: 9"))
    wire.connection.eof()
    assert seen == [400, 400, 400]


def test_malformed_with_the_head_never_reaches_the_handler(stream):
    app = Reader()
    wire = stream(app)
    assert wire.one(request("POST", "/", "Transfer-Encoding: chunked") + b"zz\r\n").status == 400
    assert app.environs == []


def test_after_the_head_is_out_it_is_cut(stream):
    def app(environ, start_response):
        start_response("200 OK", [])
        yield b"begun"
        yield environ["wsgi.input"].read()

    wire = stream(app)
    sent = wire.feed(request("POST", "/", "Transfer-Encoding: chunked"))
    sent += wire.feed(b"zz\r\n")
    assert wire.closed
    (answer,) = answers(sent)
    assert not answer.complete


def test_reading_after_the_request_is_over(stream):
    app = Reader(lambda body: b"")
    wire = stream(app)
    wire.feed(request("POST", "/", "Content-Length: 9"))
    with pytest.raises(ValueError, match="over"):
        app.environs[0]["wsgi.input"].read()


def test_it_takes_one_piece_at_a_time(stream):
    """What came with the head is the most that is held."""
    app = Reader(lambda body: body.read1(10))
    wire = stream(app, read_ahead=KIB)
    wire.feed(request("POST", "/", f"Content-Length: {len(BODY)}"))
    wire.feed(BODY)
    assert b"".join(app.pieces) == BODY
    assert wire.usable


def test_access_log(stream, tmp_path):
    path = tmp_path / "log"
    with path.open("wb") as log:
        wire = stream(Reader(), access_log_fd=log.fileno())
        wire.feed(request("POST", "/broken", "Content-Length: 9"))
        wire.connection.eof()
        wire.worker.flush_access_log()
    assert '"POST /broken HTTP/1.1" 400 ' in path.read_text()
