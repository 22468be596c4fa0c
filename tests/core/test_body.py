"""Request bodies: framing, de-chunking, spooling (RFC 9112, 6 and 7)."""

import contextlib
import hashlib
import os
import random

import pytest
from answers import Recorder, chunked, is_spooled, request

EVERY_BYTE = bytes(range(256)) * 4


@pytest.mark.parametrize("body", [b"a", b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", EVERY_BYTE,
                                  b"x" * 100_000])
@pytest.mark.parametrize("memory", [10, 1 << 20])
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_body_arrives_whole(wire, recorder, body, memory, coding):
    connection = wire(recorder, body_memory=memory)
    if coding == "length":
        raw = request("POST", "/", body=body)
    else:
        third = len(body) // 3 + 1
        pieces = [body[i:i + third] for i in range(0, len(body), third)]
        raw = request("POST", "/", "Transfer-Encoding: chunked", body=chunked(*pieces))
    assert connection.one(raw).status == 200
    assert recorder.body == body
    assert recorder.environ["CONTENT_LENGTH"] == str(len(body))
    assert connection.usable


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_any_method_may_have_a_body(wire, recorder, method):
    connection = wire(recorder)
    assert connection.one(request(method, "/", body=b"body"), method).status == 200
    assert recorder.body == b"body"
    assert connection.usable


@pytest.mark.parametrize("raw", [
    request("POST", "/"),
    request("POST", "/", "Content-Length: 0"),
    request("POST", "/", "Transfer-Encoding: chunked", body=chunked()),
])
def test_empty_body(wire, recorder, raw):
    connection = wire(recorder)
    assert connection.one(raw).status == 200
    assert recorder.body == b""
    assert recorder.environ.get("CONTENT_LENGTH", "0") in ("", "0")
    assert connection.usable


@pytest.mark.parametrize("body", [
    b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n",
    b"03\r\nabc\r\n0004\r\ndefg\r\n000\r\n\r\n",
    b"3;ext\r\nabc\r\n4;a=b;c=\"d e\"\r\ndefg\r\n0;last\r\n\r\n",
    b"7\r\nabcdefg\r\n0\r\nTrailer: t\r\nOther: u\r\n\r\n",
])
def test_chunked_syntax(wire, recorder, body):
    """RFC 9112, 7.1: leading zeros, extensions and trailers are allowed."""
    connection = wire(recorder)
    raw = request("POST", "/", "Transfer-Encoding: chunked", body=body)
    assert connection.one(raw).status == 200
    assert recorder.body == b"abcdefg"
    assert connection.usable


@pytest.mark.parametrize("size", [10, 15, 16, 26, 31, 171, 255, 4096])
def test_chunk_sizes_are_hexadecimal(wire, recorder, size):
    body = b"%X\r\n%b\r\n" % (size, b"u" * size) + chunked(b"l" * size)
    wire(recorder).one(request("POST", "/", "Transfer-Encoding: chunked", body=body))
    assert recorder.body == b"u" * size + b"l" * size


def test_ten_thousand_chunks_of_one_byte(wire, recorder):
    body = random.Random(1).randbytes(10_000)
    raw = request("POST", "/", "Transfer-Encoding: chunked",
                  body=chunked(*(body[i:i + 1] for i in range(len(body)))))
    assert wire(recorder).one(raw).status == 200
    assert recorder.body == body


@pytest.mark.parametrize("raw", [
    request("POST", "/", body=b"abcdefgh"),
    request("POST", "/", "Transfer-Encoding: chunked", body=chunked(b"abc", b"defgh")),
], ids=["length", "chunked"])
@pytest.mark.parametrize("memory", [4, 1 << 20])
def test_body_cut_short_never_reaches_the_handler(wire, recorder, raw, memory):
    """Trap 7 of httptools; where it looked like end of file, half an upload became an image."""
    connection = wire(recorder, body_memory=memory)
    for cut in range(1, len(raw)):
        connection.connect()
        assert connection.feed(raw[:cut]) == b""
        left = connection.connection.eof()
        assert left == b"" or left.startswith(b"HTTP/1.1 400 "), cut
        assert connection.closed
    assert recorder.environs == []


def test_handler_starts_only_when_the_body_is_there(wire, recorder):
    connection = wire(recorder)
    raw = request("POST", "/", body=b"abcdefgh")
    for i in range(len(raw) - 1):
        assert connection.feed(raw[i:i + 1]) == b""
        assert recorder.environs == []
    assert connection.one(raw[-1:]).status == 200


@pytest.mark.parametrize("size, spooled", [(99, False), (100, False), (101, True), (5000, True)])
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_body_over_the_memory_limit_is_a_file(wire, recorder, size, spooled, coding):
    """Up to `body_memory` it is in memory, beyond it has a descriptor."""
    body = random.Random(size).randbytes(size)
    if coding == "length":
        raw = request("POST", "/", body=body)
    else:
        raw = request("POST", "/", "Transfer-Encoding: chunked", body=chunked(body[:90], body[90:]))
    kinds = []

    def app(environ, start_response):
        kinds.append(is_spooled(environ["wsgi.input"]))
        return recorder(environ, start_response)

    assert wire(app, body_memory=100).one(raw).status == 200
    assert recorder.body == body
    assert kinds == [spooled]


def test_spooled_file_is_without_a_name_and_goes_with_the_request(wire):
    seen = []

    def app(environ, start_response):
        descriptor = environ["wsgi.input"].fileno()
        seen.append((descriptor, os.fstat(descriptor)))
        start_response("200 OK", [])
        return []

    connection = wire(app, body_memory=100)
    connection.one(request("POST", "/", body=b"x" * 1000))
    (descriptor, status), = seen
    assert status.st_nlink == 0
    assert status.st_size == 1000
    with contextlib.suppress(OSError):  # closed, as it should be
        assert os.fstat(descriptor).st_ino != status.st_ino
    assert connection.usable


def test_spooled_file_goes_with_a_client_that_breaks_off(wire, recorder):
    connection = wire(recorder, body_memory=100)
    before = len(os.listdir("/proc/self/fd"))
    connection.feed(request("POST", "/", "Content-Length: 10000") + b"x" * 5000)
    connection.connection.eof()
    assert len(os.listdir("/proc/self/fd")) == before
    assert recorder.environs == []


def test_large_body_in_random_pieces(wire, recorder):
    seeded = random.Random(2)
    body = seeded.randbytes(3_000_000)
    raw = request("PUT", "/", body=body)
    connection = wire(recorder)
    sent, at = b"", 0
    while at < len(raw):
        piece = raw[at:at + seeded.randrange(1, 60_000)]
        sent += connection.feed(piece)
        at += len(piece)
    assert sent.startswith(b"HTTP/1.1 200 ")
    assert hashlib.sha256(recorder.body).digest() == hashlib.sha256(body).digest()


@pytest.mark.parametrize("memory", [4, 1 << 20])
@pytest.mark.parametrize("raw", [
    request("POST", "/", body=b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"),
    request("POST", "/", "Transfer-Encoding: chunked",
            body=chunked(b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")),
], ids=["length", "chunked"])
def test_unread_body_never_becomes_a_request(wire, raw, memory):
    """A handler that reads nothing, or only a little, of its body."""
    paths = []

    def app(environ, start_response):
        paths.append(environ["PATH_INFO"])
        if len(paths) == 2:
            environ["wsgi.input"].read(3)
        start_response("200 OK", [])
        return []

    connection = wire(app, body_memory=memory)
    assert len(connection.ask(raw + raw + request("GET", "/next"))) == 3
    assert paths == ["/", "/", "/next"]


def test_spooled_after_memory_and_back(wire):
    """Bodies of one connection, small and large in turn, do not mix."""
    app = Recorder()
    connection = wire(app, body_memory=50)
    bodies = [bytes([65 + n]) * size for n, size in enumerate([1, 100, 50, 51, 0, 3000, 7])]
    raw = b"".join(request("POST", "/", body=body) for body in bodies)
    assert len(connection.ask(raw)) == len(bodies)
    assert app.bodies == bodies
