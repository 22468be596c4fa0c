"""Keep or close, and how the end of the answer is told, as a truth table (RFC 9112, 6.3 and 9.3).

Rows: what the client says.  Columns: what kind of answer it is.  A connection is kept if
the client lets it be and the end of the answer can be told without the connection's end.
"""

from typing import NamedTuple

import pytest
from answers import answers, chunked, request

# version, its Connection fields → may the connection be kept?
CLIENT = {
    ("1.1",): True,
    ("1.1", "keep-alive"): True,
    ("1.1", "Keep-Alive"): True,
    ("1.1", "x-a"): True,
    ("1.1", ""): True,
    ("1.1", "closed"): True,
    ("1.1", "not-close"): True,
    ("1.1", '"close"'): True,
    ("1.1", "TE, Keep-Alive"): True,
    ("1.1", "close"): False,
    ("1.1", "Close"): False,
    ("1.1", "CLOSE"): False,
    ("1.1", "a, close"): False,
    ("1.1", "close, a"): False,
    ("1.1", "a,close,b"): False,
    ("1.1", " ,\t close\t ,"): False,
    ("1.1", "close, keep-alive"): False,
    ("1.1", "keep-alive, close"): False,
    ("1.1", "keep-alive", "close"): False,
    ("1.1", "a", "close"): False,
    ("1.1", "close", "keep-alive"): False,
    ("1.0",): False,
    ("1.0", "close"): False,
    ("1.0", "a"): False,
    ("1.0", "keep-alive-not"): False,
    ("1.0", "keep-alive, close"): False,
    ("1.0", "keep-alive", "close"): False,
    ("1.0", "keep-alive"): True,
    ("1.0", "Keep-Alive"): True,
    ("1.0", "a, keep-alive"): True,
    ("1.0", "a,\tKEEP-ALIVE ,b"): True,
    ("1.0", "a", "keep-alive"): True,
}


class Kind(NamedTuple):
    """What an answer looks like.  A length is its Content-Length; CHUNKED and CLOSE are what they
    say; None is a head without any field that frames."""

    on_11: object
    on_10: object
    to_head: object
    body: bytes
    keeps: bool = True      # False: the application wants the connection closed
    whole: bool = True      # False: it ends before it should, and the client must see that
    status: int = 200


CHUNKED, CLOSE = "chunked", "close"
PAGE = b"500 Internal Server Error\n"
KINDS = {}


def kind(*row, **more):
    def note(answer):
        KINDS[answer] = Kind(*row, **more)
        return answer
    return note


@kind(4, 4, 4, b"body")
def one_piece(environ, start_response):
    start_response("200 OK", [])
    return [b"body"]


@kind(4, 4, 4, b"body")
def a_list(environ, start_response):
    start_response("200 OK", [])
    return [b"bo", b"", b"dy"]


@kind(200_000, 200_000, 200_000, b"b" * 200_000)
def a_large_list(environ, start_response):
    start_response("200 OK", [])
    return (b"b" * 100_000,) * 2


@kind(4, 4, 4, b"body")
def its_length(environ, start_response):
    start_response("200 OK", [("Content-Length", "4")])
    return iter([b"bo", b"dy"])


@kind(4, 4, 4, b"body")
def its_length_written(environ, start_response):
    start_response("200 OK", [("content-length", "4")])(b"body")
    return []


@kind(3, 3, 3, b"bod")
def more_than_its_length(environ, start_response):
    start_response("200 OK", [("Content-Length", "3")])
    return [b"body"]


@kind(3, 3, 3, b"bod")
def more_pieces_than_its_length(environ, start_response):
    start_response("200 OK", [("Content-Length", "3")])
    return iter([b"bo", b"dy", b"more"])


@kind(0, 0, 0, b"")
def more_than_nothing(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return [b"body"]


@kind(5, 5, 5, b"body", whole=False)
def less_than_its_length(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return [b"body"]


@kind(5, 5, 5, b"body", whole=False)
def fewer_pieces_than_its_length(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return iter([b"bo", b"dy"])


@kind(5, 5, 5, b"", whole=False)
def nothing_of_its_length(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return []


@kind(CHUNKED, CLOSE, None, b"body")
def a_generator(environ, start_response):
    start_response("200 OK", [])
    yield b"bo"
    yield b""
    yield b"dy"


@kind(CHUNKED, CLOSE, None, b"body")
def written(environ, start_response):
    write = start_response("200 OK", [])
    write(b"bo")
    write(b"dy")
    return []


@kind(CHUNKED, CLOSE, None, b"body")
def written_and_a_list(environ, start_response):
    start_response("200 OK", [])(b"bo")
    return [b"dy"]


@kind(0, 0, None, b"")
def no_piece(environ, start_response):
    """HEAD: nobody said what GET would have (docs/design.md)."""
    start_response("200 OK", [])
    return []


@kind(0, 0, None, b"")
def an_empty_piece(environ, start_response):
    start_response("200 OK", [])
    return [b""]


@kind(0, 0, None, b"")
def an_empty_generator(environ, start_response):
    start_response("200 OK", [])
    return
    yield


@kind(0, 0, 0, b"")
def its_length_is_zero(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return []


@kind(None, None, None, b"", status=204)
def no_content(environ, start_response):
    start_response("204 No Content", [])
    return []


@kind(None, None, None, b"", status=204)
def no_content_with_some(environ, start_response):
    start_response("204 No Content", [("Content-Length", "4")])
    return [b"body"]


@kind(None, None, None, b"", status=204)
def no_content_generated(environ, start_response):
    start_response("204 No Content", [])
    yield b"body"


@kind(None, None, None, b"", status=304)
def not_modified(environ, start_response):
    start_response("304 Not Modified", [])
    return []


@kind(None, None, None, b"", status=304)
def not_modified_with_a_body(environ, start_response):
    start_response("304 Not Modified", [])
    return [b"body"]


@kind(None, None, None, b"", status=304)
def not_modified_written(environ, start_response):
    start_response("304 Not Modified", [])(b"body")
    return [b"body"]


@kind(1234, 1234, 1234, b"", status=304)
def not_modified_with_the_length(environ, start_response):
    start_response("304 Not Modified", [("Content-Length", "1234")])
    return []


@kind(0, 0, 0, b"", status=205)
def reset_content(environ, start_response):
    start_response("205 Reset Content", [])
    return []


@kind(0, 0, 0, b"", status=205)
def reset_content_with_some(environ, start_response):
    start_response("205 Reset Content", [("Content-Length", "4")])
    return [b"body"]


@kind(0, 0, 0, b"", status=205)
def reset_content_generated(environ, start_response):
    start_response("205 Reset Content", [])
    yield b"body"


@kind(4, 4, 4, b"body", status=404)
def not_found(environ, start_response):
    start_response("404 Not Found", [])
    return [b"body"]


@kind(4, 4, 4, b"body", status=500)
def an_error_of_its_own(environ, start_response):
    start_response("500 Oh", [])
    return [b"body"]


@kind(len(PAGE), len(PAGE), len(PAGE), PAGE, status=500)
def raises(environ, start_response):
    raise ValueError


@kind(len(PAGE), len(PAGE), len(PAGE), PAGE, status=500)
def raises_after_start_response(environ, start_response):
    start_response("200 OK", [("Content-Length", "4")])
    raise ValueError


@kind(len(PAGE), len(PAGE), len(PAGE), PAGE, status=500)
def raises_before_the_first_piece(environ, start_response):
    start_response("200 OK", [("Content-Length", "4"), ("Connection", "close")])
    yield b""
    raise ValueError


@kind(len(PAGE), len(PAGE), len(PAGE), PAGE, status=500)
def does_not_start(environ, start_response):
    return [b"body"]


@kind(CHUNKED, CLOSE, None, b"body", whole=False)
def breaks(environ, start_response):
    start_response("200 OK", [])
    yield b"body"
    raise ValueError


@kind(5, 5, 5, b"body", whole=False)
def breaks_within_its_length(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    yield b"body"
    raise ValueError


@kind(4, 4, 4, b"body")
def wants_to_keep(environ, start_response):
    start_response("200 OK", [("Connection", "keep-alive")])
    return [b"body"]


@kind(4, 4, 4, b"body", keeps=False)
def wants_to_close(environ, start_response):
    start_response("200 OK", [("Connection", "close")])
    return [b"body"]


@kind(4, 4, 4, b"body", keeps=False)
def wants_to_close_in_a_list(environ, start_response):
    start_response("200 OK", [("connection", "x-a, Close")])
    return [b"body"]


@kind(4, 4, 4, b"body", keeps=False)
def wants_both(environ, start_response):
    start_response("200 OK", [("Connection", "close"), ("Connection", "keep-alive")])
    return [b"body"]


@kind(CHUNKED, CLOSE, None, b"body", keeps=False)
def generates_and_wants_to_close(environ, start_response):
    start_response("200 OK", [("Connection", "close")])
    yield b"body"


@kind(None, None, None, b"", keeps=False, status=204)
def no_content_and_close(environ, start_response):
    start_response("204 No Content", [("Connection", "close")])
    return []


# What the request brings, and whether the application reads it; chunks are for 1.1 only.
SMUGGLED = request("GET", "/smuggled")
REQUEST_BODIES = {
    "none": (["1.0", "1.1"], 0, (), b""),
    "empty": (["1.0", "1.1"], -1, ("Content-Length: 0",), b""),
    "length, read": (["1.0", "1.1"], -1, (f"Content-Length: {len(SMUGGLED)}",), SMUGGLED),
    "length, begun": (["1.0", "1.1"], 3, (f"Content-Length: {len(SMUGGLED)}",), SMUGGLED),
    "length, unread": (["1.0", "1.1"], 0, (f"Content-Length: {len(SMUGGLED)}",), SMUGGLED),
    "chunked, read": (["1.1"], -1, ("Transfer-Encoding: chunked",), chunked(SMUGGLED)),
    "chunked, begun": (["1.1"], 3, ("Transfer-Encoding: chunked",), chunked(SMUGGLED)),
    "chunked, unread": (["1.1"], 0, ("Transfer-Encoding: chunked",), chunked(SMUGGLED)),
}


@pytest.mark.parametrize("client", CLIENT, ids=lambda c: " | ".join(c))
@pytest.mark.parametrize("answer", KINDS, ids=lambda a: a.__name__)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_table(wire, client, answer, method):
    """Kept or closed, framed how, with which Connection; for every kind of request body, with
    another request behind it.  (Trap: `Connection: a, close` read as one word.)"""
    row = KINDS[answer]
    version, *options = client
    framing = row.to_head if method == "HEAD" else row.on_11 if version == "1.1" else row.on_10
    whole = row.whole or method == "HEAD"
    says_close = not CLIENT[client] or not row.keeps or framing == CLOSE
    kept = whole and not says_close

    def app(environ, start_response):
        calls.append(environ["PATH_INFO"])
        if environ["PATH_INFO"] == "/":
            environ["wsgi.input"].read(int(environ["QUERY_STRING"]))
            return answer(environ, start_response)
        return one_piece(environ, start_response)

    for name, (versions, size, fields, body) in REQUEST_BODIES.items():
        if version not in versions:
            continue
        calls = []
        connection = wire(app)
        raw = request(method, f"/?{size}", *(f"Connection: {o}" for o in options), *fields,
                      version=version) + body
        first, *rest = answers(connection.feed(raw + request("GET", "/usable")), method)

        assert (first.version, first.status) == ("HTTP/1.1", row.status), name
        assert framing_of(first) == framing, name
        assert first.body == (b"" if method == "HEAD" else row.body), name
        assert first.complete is (whole or framing == CLOSE), name
        assert [v.lower() for v in first.all("connection")] == (
            ["close"] if says_close else ["keep-alive"] if version == "1.0" else []), name
        assert connection.closed is not kept, name
        assert connection.reset is (not whole and framing == CLOSE), name
        if kept:
            assert [(a.status, a.body) for a in rest] == [(200, b"body")], name
            assert calls == ["/", "/usable"], name
            assert connection.usable, name
        else:
            assert rest == [], name
            assert connection.feed(request("GET", "/after")) == b"", name
            assert calls == ["/"], name


@pytest.mark.parametrize("client", [("1.1",), ("1.1", "close"), ("1.0",), ("1.0", "keep-alive")],
                         ids=" | ".join)
@pytest.mark.parametrize("answer", KINDS, ids=lambda a: a.__name__)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_table_of_streamed_bodies(wire, client, answer, method):
    """As above, and: where the answer begins before the body has come, it says close and the
    connection ends, for what follows cannot be told from the body (request_buffering = stream)."""
    row = KINDS[answer]
    version, *options = client
    framing = row.to_head if method == "HEAD" else row.on_11 if version == "1.1" else row.on_10
    whole = row.whole or method == "HEAD"

    def app(environ, start_response):
        calls.append(environ["PATH_INFO"])
        if environ["PATH_INFO"] == "/":
            read.append(environ["wsgi.input"].read(int(environ["QUERY_STRING"])))
            return answer(environ, start_response)
        return one_piece(environ, start_response)

    for name, (versions, size, fields, body) in REQUEST_BODIES.items():
        if version not in versions or not body:
            continue
        for late in (False, True):
            calls, read = [], []
            connection = wire(app, request_buffering="stream")
            head = request(method, f"/?{size}", *(f"Connection: {o}" for o in options), *fields,
                           version=version)
            follower = request("GET", "/usable")
            if late:
                sent = connection.feed(head)
                assert bool(sent) is (size == 0), name
                sent += connection.feed(body + follower)
            else:
                sent = connection.feed(head + body + follower)
            says_close = (not CLIENT[client] or not row.keeps or framing == CLOSE
                          or (late and size == 0))
            kept = whole and not says_close
            first, *rest = answers(sent, method)
            assert first.status == row.status, name
            assert framing_of(first) == framing, name
            assert first.body == (b"" if method == "HEAD" else row.body), name
            assert [v.lower() for v in first.all("connection")] == (
                ["close"] if says_close else ["keep-alive"] if version == "1.0" else []), name
            assert connection.closed is not kept, name
            assert read == [SMUGGLED[:size] if size >= 0 else SMUGGLED], name
            assert [a.body for a in rest] == ([b"body"] if kept else []), name
            assert calls == (["/", "/usable"] if kept else ["/"]), name
            if not kept:
                assert connection.feed(request("GET", "/after")) == b"", name
                assert calls == ["/"], name


def framing_of(answer):
    """Content-Length as a number, CHUNKED, or None; CLOSE where a body has neither."""
    lengths, codings = answer.all("content-length"), answer.all("transfer-encoding")
    assert len(lengths) + len(codings) <= 1
    if lengths:
        return int(lengths[0])
    if codings:
        assert codings == ["chunked"]
        return CHUNKED
    return CLOSE if answer.body else None


@pytest.mark.parametrize("client", CLIENT, ids=lambda c: " | ".join(c))
@pytest.mark.parametrize("fields, status", {
    "bad field": (("A B: c",), 400), "bad length": (("Content-Length: x",), 400),
    "both framings": (("Content-Length: 4", "Transfer-Encoding: chunked"), 400),
    "too long": (("Content-Length: 9999999999",), 413),
    "an expectation": (("Expect: miracles",), 417),
}.values())
def test_refused_whatever_the_client_says(wire, recorder, client, fields, status):
    """A refusal says Connection: close and closes, to every client."""
    version, *options = client
    connection = wire(recorder)
    answer = connection.one(request("POST", "/", *(f"Connection: {o}" for o in options), *fields,
                                    version=version) + SMUGGLED)
    assert answer.status == status
    assert answer.all("connection") == ["close"]
    assert framing_of(answer) == len(answer.body)
    assert connection.closed
    assert connection.feed(request("GET", "/after")) == b""
    assert recorder.paths == []


@pytest.mark.parametrize("raw", [
    request("POST", "/", "Connection: close", body=b"body"),
    request("POST", "/", "Connection: close", "Transfer-Encoding: chunked", body=chunked(b"body")),
])
def test_body_is_read_before_the_close(wire, recorder, raw):
    """Trap 3: the parser "completes" on Connection: close."""
    connection = wire(recorder)
    for i in range(len(raw) - 1):
        assert connection.feed(raw[i:i + 1]) == b""
    assert connection.one(raw[-1:]).status == 200
    assert recorder.body == b"body"
    assert connection.closed


def test_a_thousand_requests_on_one_connection(wire, recorder):
    connection = wire(recorder)
    for number in range(1000):
        assert connection.one(request("GET", f"/{number}")).body == b"/%d" % number
    assert not connection.closed
    assert len(recorder.environs) == 1000


# -- keep_alive_requests --------------------------------------------------------------------

@pytest.mark.parametrize("most", [1, 2, 5])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("pipelined", [True, False])
def test_requests_per_connection(wire, recorder, most, version, pipelined):
    """The last one is answered with Connection: close; nothing behind it is executed."""
    connection = wire(recorder, keep_alive_requests=most)
    requests = [request("GET", f"/{n}", "Connection: keep-alive", version=version)
                for n in range(most + 3)]
    if pipelined:
        found = answers(connection.feed(b"".join(requests)))
    else:
        found = answers(b"".join(connection.feed(raw) for raw in requests))
    kept = ["keep-alive"] if version == "1.0" else []
    assert [a.all("connection") for a in found] == [kept] * (most - 1) + [["close"]]
    assert recorder.paths == [f"/{n}" for n in range(most)]
    assert connection.closed
    assert not connection.reset


def test_each_connection_has_its_own_count(wire, recorder):
    connection = wire(recorder, keep_alive_requests=2)
    for _ in range(3):
        assert connection.one(request()).all("connection") == []
        connection.connect()
    connection.one(request())
    assert connection.one(request()).all("connection") == ["close"]


def test_requests_with_bodies_and_errors_count_once(wire):
    """Neither a body, nor 100 Continue, nor a 500 counts for more than one request."""
    def app(environ, start_response):
        environ["wsgi.input"].read()
        if environ["PATH_INFO"] == "/fails":
            raise ValueError
        start_response("200 OK", [])
        return [b"x"]

    connection = wire(app, keep_alive_requests=4)
    assert connection.feed(request("POST", "/", "Expect: 100-continue", "Content-Length: 4")) == (
        b"HTTP/1.1 100 Continue\r\n\r\n")
    found = answers(connection.feed(
        b"body" + request("GET", "/fails") + request("POST", "/", "Transfer-Encoding: chunked",
                                                     body=chunked(b"body"))
        + request("GET", "/last") + request("GET", "/never")))
    assert [a.status for a in found] == [200, 500, 200, 200]
    assert [a.all("connection") for a in found] == [[], [], [], ["close"]]
    assert connection.closed


def test_versions_may_change_on_one_connection(wire, recorder):
    connection = wire(recorder)
    assert connection.one(request(version="1.1")).all("connection") == []
    kept = connection.one(request("GET", "/", "Connection: keep-alive", version="1.0"))
    assert kept.header("connection") == "keep-alive"
    assert connection.one(request(version="1.1")).all("connection") == []
    assert connection.one(request(version="1.0")).header("connection", "close") == "close"
    assert connection.closed


def test_error_page_keeps_or_says_close(wire):
    """After a 500 the connection may stay; if it does not, the page says so."""
    def app(environ, start_response):
        raise ValueError

    connection = wire(app)
    answer = connection.one(request())
    assert (answer.header("connection") == "close") is connection.closed
