"""The request line, the field lines and the framing of a request (RFC 9112, 2 to 7).

The rules one by one are in the corpus (test_replay.py); here is what one request does not show.
"""

import logging

import pytest
from answers import chunked, request
from corpus import INVALID, SETTINGS


@pytest.mark.parametrize("method", [
    "GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "MKCOL", "COPY", "MOVE",
    "LOCK", "UNLOCK", "REPORT", "SEARCH", "PURGE"])
def test_known_methods(recorded, recorder, method):
    assert recorded.one(request(method, "/m")).status == 200
    assert recorder.environ["REQUEST_METHOD"] == method
    assert recorded.usable


@pytest.mark.parametrize("case", INVALID.values(), ids=INVALID)
def test_refusal_is_logged_and_no_error(wire, recorder, case):
    """A client's fault is told, at INFO or WARNING, without an exception."""
    connection = wire(recorder, **SETTINGS)
    connection.feed(case.raw)
    assert connection.log, "nothing logged"
    for level, message, exception in connection.log:
        assert level in (logging.INFO, logging.WARNING)
        assert message.isprintable(), ascii(message)
        assert exception is None


def test_the_log_of_a_refusal_holds_no_raw_control_characters(recorded):
    recorded.feed(b"GET /\x1b[31m\n\nfake line HTTP/1.1\r\nHost: x\r\n\r\n")
    assert recorded.log
    for _, message, _ in recorded.log:
        assert message.isprintable(), ascii(message)


def test_a_refused_head_request_has_no_body(recorded):
    """RFC 9110, 9.3.2; trap "a 500 page with a body on HEAD"."""
    answer = recorded.one(request("HEAD", "/", host=None), "HEAD")
    assert answer.status == 400
    assert answer.body == b""


def test_end_of_file_in_mid_head(recorded, recorder):
    """Trap 7: end of file in the middle of a message says nothing by itself."""
    assert recorded.feed(b"GET / HTTP/1.1\r\nHost: x\r\n") == b""
    left = recorded.connection.eof()
    assert left == b"" or left.startswith(b"HTTP/1.1 400 ")
    assert recorded.closed
    assert recorder.environs == []


def test_end_of_file_without_a_request(recorded):
    assert recorded.connection.eof() == b""
    assert recorded.closed
    assert recorded.logged(logging.INFO) == []


def test_end_of_file_between_requests(recorded):
    assert recorded.one(request()).status == 200
    assert recorded.connection.eof() == b""
    assert recorded.closed
    assert recorded.logged(logging.INFO) == []


def test_target_in_pieces(recorded, recorder):
    """Trap 5: the parser hands out a target, a name and a value in pieces."""
    for piece in (b"GE", b"T /ab", b"c/d", b"ef?g", b"=h HT", b"TP/1.1\r", b"\nHo", b"st: x\r\nX-",
                  b"Lo", b"ng", b": va", b"lu", b"e \t ", b"\r\n\r"):
        assert recorded.feed(piece) == b""
    assert recorded.one(b"\n").status == 200
    environ = recorder.environ
    assert environ["PATH_INFO"] == "/abc/def"
    assert environ["QUERY_STRING"] == "g=h"
    assert environ["HTTP_X_LONG"] == "value"


def test_value_keeps_inner_and_loses_outer_blanks(recorded, recorder):
    """Trap 5: the parser leaves trailing blanks on values (RFC 9112, 5.1)."""
    recorded.one(request("GET", "/", "A: \t b  c \t ", "B: \t "))
    assert recorder.environ["HTTP_A"] == "b  c"
    assert recorder.environ["HTTP_B"] == ""


def test_parsers_are_alike_between_connections(recorded, recorder):
    """A connection that broke off leaves no trace in the parser the next one gets."""
    for raw in (b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc",
                b"GET /b HTTP/1.1\r\nHo",
                request("POST", "/c", "Transfer-Encoding: chunked", body=b"5\r\nab"),
                b"GET / HTTP/1.1\nHost: x\n\n",
                b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n",
                request("GET", "/d", "Connection: close")):
        recorded.feed(raw)
        if not recorded.closed:
            recorded.connection.eof()
        recorded.connect()
    assert recorded.one(request("GET", "/last")).body == b"/last"
    assert recorder.paths == ["/d", "/last"]


def test_two_connections_interleaved(recorded, recorder):
    """Each connection has its own message, byte by byte beside another."""
    first, second = recorded.connection, recorded.connect()
    one = request("POST", "/one", "A: 1", body=b"1" * 20)
    two = request("POST", "/two", "A: 2", "Transfer-Encoding: chunked", body=chunked(b"2" * 9))
    got = [b"", b""]
    for i in range(max(len(one), len(two))):
        got[0] += first.feed(one[i:i + 1]) if i < len(one) else b""
        got[1] += second.feed(two[i:i + 1]) if i < len(two) else b""
    assert got[0].endswith(b"/one")
    assert got[1].endswith(b"/two")
    assert sorted(recorder.bodies) == [b"1" * 20, b"2" * 9]


@pytest.mark.parametrize("raw", [
    b"HEAD / HTTP/2.0\r\nHost: x\r\n\r\n", b"HEAD / HTTP/1.1 \r\nHost: x\r\n\r\n",
    b"HEAD /" + b"a" * 20_000, request("HEAD", "/", "A: " + "a" * 70_000),
    request("HEAD", "/", *["A: b"] * 200), request("HEAD", "/", host=None),
    b"\r\nHEAD / HTTP/3.0\r\n\r\n", request("HEAD", "/", "Expect: miracles")])
def test_refusal_of_a_head_has_no_body(recorded, raw):
    answer = recorded.one(raw, "HEAD")
    assert answer.status >= 400
    assert int(answer.header("content-length")) > 0
    assert recorded.closed


@pytest.mark.parametrize("raw, line", [
    (request("GET", "/a\0b"), "'GET /a\\x00b HTTP/1.1'"),
    (request("POST", "/a", "Content-Length: 9999999999999"), "'POST /a HTTP/1.1'"),
    (b"\x16\x03\x01\xff", "'\\x16\\x03\\x01\\xff'"),
])
def test_the_error_log_says_what_was_refused(recorded, raw, line):
    recorded.feed(raw)
    (message,) = recorded.logged(logging.INFO)
    assert message.endswith(": " + line)
