"""The limits: at each of them a request passes, one byte or field more is refused.

The request line counts without its CRLF, the head with its empty line (RFC 9112, 2.1 and 3).
"""

import logging

import pytest
from answers import KIB, MIB, Recorder, chunked, is_spooled, request


def line_of(length):
    """A request whose request line has `length` bytes."""
    target = "/" + "a" * (length - len("GET / HTTP/1.1"))
    raw = request("GET", target)
    assert raw.index(b"\r\n") == length
    return raw


def head_of(length, fields=1):
    """A request whose head has `length` bytes, its end included."""
    names = [f"X-{n}: " for n in range(fields)]
    empty = len(request("GET", "/", *names))
    each, more = divmod(length - empty, fields)
    raw = request("GET", "/", *(n + "v" * (each + (i < more)) for i, n in enumerate(names)))
    assert len(raw) == length
    return raw


def whole(raw):
    return [raw]


def by_byte(raw):
    return [raw[i:i + 1] for i in range(len(raw))]


def in_blocks(raw):
    return [raw[i:i + 1000] for i in range(0, len(raw), 1000)]


WAYS = pytest.mark.parametrize("cut", [whole, by_byte, in_blocks])


def status_of(connection, pieces):
    sent = b""
    for piece in pieces:
        sent += connection.feed(piece)
    assert sent.startswith(b"HTTP/1.1 "), sent
    assert sent.count(b"HTTP/1.1 ") == 1
    return int(sent[9:12])


@WAYS
@pytest.mark.parametrize("limit", [100, 5000])
def test_request_line(wire, cut, limit):
    connection = wire(Recorder(), max_request_line=limit)
    assert status_of(connection, cut(line_of(limit))) == 200
    assert not connection.closed
    assert status_of(connection, cut(line_of(limit + 1))) == 414
    assert connection.closed


@WAYS
@pytest.mark.parametrize("fields", [1, 7])
def test_head(wire, cut, fields):
    connection = wire(Recorder(), max_head=3000)
    assert status_of(connection, cut(head_of(3000, fields))) == 200
    assert not connection.closed
    assert status_of(connection, cut(head_of(3001, fields))) == 431
    assert connection.closed


@WAYS
def test_head_of_a_second_request_counts_from_its_beginning(wire, cut):
    connection = wire(Recorder(), max_head=3000)
    for _ in range(5):
        assert status_of(connection, cut(head_of(3000))) == 200


def test_pipelined_heads_count_each_for_itself(wire, recorder):
    connection = wire(recorder, max_head=3000, max_request_line=1000)
    found = connection.ask(head_of(3000) * 3 + line_of(1000) * 3 + head_of(2999)
                           + request("POST", "/", body=b"b" * 9000) + head_of(3000) + head_of(3001))
    assert [a.status for a in found] == [200] * 9 + [431]


@WAYS
def test_number_of_fields(wire, cut):
    """`Host` counts too."""
    connection = wire(Recorder(), max_fields=20)
    for _ in range(3):
        assert status_of(connection, cut(request("GET", "/", *["A: b"] * 19))) == 200
    assert status_of(connection, cut(request("GET", "/", *["A: b"] * 20))) == 431
    assert connection.closed


@WAYS
def test_too_many_fields_are_refused_before_the_end(wire, recorder, cut):
    """Thousands of short lines that drip must not cost a look at all of them for each byte."""
    connection = wire(recorder, max_fields=20)
    raw = b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 30
    assert status_of(connection, cut(raw)) == 431
    assert connection.closed
    assert recorder.environs == []


def test_the_defaults(recorded):
    assert recorded.one(line_of(16 * KIB)).status == 200
    assert recorded.one(head_of(64 * KIB)).status == 200
    assert recorded.one(request("GET", "/", *["A: b"] * 127)).status == 200
    for raw, status in ((line_of(16 * KIB + 1), 414), (head_of(64 * KIB + 1), 431),
                        (request("GET", "/", *["A: b"] * 128), 431)):
        assert recorded.one(raw).status == status
        assert recorded.closed
        recorded.connect()


def test_long_line_is_refused_before_its_end(recorded):
    """Trap 4: the parser has no limits; a 1 MB URL was accepted."""
    answer = recorded.one(b"GET /" + b"a" * MIB)
    assert answer.status == 414
    assert recorded.closed


def test_url_of_a_megabyte(recorded, recorder):
    """Trap 4."""
    assert recorded.one(request("GET", "/" + "a" * MIB) + request("GET", "/never")).status == 414
    assert recorded.closed
    assert recorder.environs == []


def test_field_of_four_megabytes(recorded, recorder):
    """Trap 4: a 4 MiB header was accepted."""
    raw = request("GET", "/", "A: " + "a" * (4 * MIB)) + request("GET", "/never")
    assert recorded.one(raw).status == 431
    assert recorded.closed
    assert recorder.environs == []


def test_long_field_is_refused_before_its_end(recorded):
    sent = recorded.feed(b"GET / HTTP/1.1\r\nHost: x\r\nA: ")
    for _ in range(70):
        sent += recorded.feed(b"a" * 1000)
    assert sent.startswith(b"HTTP/1.1 431 ")
    assert recorded.closed


def test_long_name_is_refused_before_its_end(recorded):
    assert recorded.one(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a" * 70_000).status == 431
    assert recorded.closed


def test_long_method_is_refused(recorded):
    assert recorded.one(b"A" * 100_000).status in (400, 414, 501)
    assert recorded.closed


def test_empty_lines_before_a_request_are_bounded(recorded):
    """RFC 9112, 2.2 asks for one at least; an endless row of them is no request."""
    sent = b""
    for _ in range(200):
        sent += recorded.feed(b"\r\n" * 500)
    assert sent.startswith(b"HTTP/1.1 4")
    assert recorded.closed


@pytest.mark.parametrize("coding", ["length", "chunked"])
@pytest.mark.parametrize("memory", [10, 10_000])
@WAYS
def test_body(wire, coding, memory, cut):
    def of(size):
        body = b"b" * size
        if coding == "length":
            return request("POST", "/", body=body)
        return request("POST", "/", "Transfer-Encoding: chunked",
                       body=chunked(*(body[i:i + 400] for i in range(0, size, 400))))

    connection = wire(Recorder(), max_body=3000, body_memory=memory)
    assert status_of(connection, cut(of(3000))) == 200
    assert not connection.closed
    assert status_of(connection, cut(of(3001))) == 413
    assert connection.closed


def test_body_too_large_is_refused_before_it_comes(wire, recorder):
    connection = wire(recorder, max_body=3000)
    answer = connection.one(request("POST", "/", "Content-Length: 3001"))
    assert answer.status == 413
    assert answer.header("connection") == "close"
    assert connection.closed
    assert recorder.environs == []


def test_chunk_too_large_is_refused_before_it_comes(wire, recorder):
    """At the latest when the limit is passed; the size alone is enough to know."""
    connection = wire(recorder, max_body=3000)
    sent = connection.feed(request("POST", "/", "Transfer-Encoding: chunked", body=b"ffffff\r\n"))
    sent += connection.feed(b"b" * 3001) if not connection.closed else b""
    assert sent.startswith(b"HTTP/1.1 413 ")
    assert connection.closed
    assert recorder.environs == []


def test_the_body_does_not_count_as_head(wire, recorder):
    connection = wire(recorder, max_head=200, max_request_line=100)
    assert connection.one(request("POST", "/", body=b"b" * 50_000)).status == 200
    raw = request("POST", "/", "Transfer-Encoding: chunked", body=chunked(*[b"b" * 10] * 500))
    assert connection.one(raw).status == 200
    assert connection.one(head_of(200)).status == 200


def test_trailers_are_bounded(recorded, recorder):
    raw = request("POST", "/", "Transfer-Encoding: chunked",
                  body=chunked(b"b", end=b"0\r\n" + b"A: " + b"t" * 200_000 + b"\r\n\r\n"))
    assert recorded.one(raw).status in (400, 413, 431)
    assert recorded.closed
    assert recorder.environs == []


def test_the_number_of_trailers_is_bounded(recorded, recorder):
    raw = request("POST", "/", "Transfer-Encoding: chunked",
                  body=chunked(b"b", end=b"0\r\n" + b"A: b\r\n" * 20_000 + b"\r\n"))
    assert recorded.one(raw).status in (400, 413, 431)
    assert recorded.closed
    assert recorder.environs == []


def test_chunk_extensions_are_bounded(recorded, recorder):
    """RFC 9112, 7.1.1: a recipient ought to limit their total length."""
    sent = recorded.feed(request("POST", "/", "Transfer-Encoding: chunked", body=b"1;"))
    for _ in range(1000):
        sent += recorded.feed(b"e" * 1000)
    assert sent.startswith(b"HTTP/1.1 4")
    assert recorded.closed
    assert recorder.environs == []


def test_thousands_of_different_field_names(recorded, recorder):
    """The cache of names is bounded, and right beyond its bound."""
    for round_ in range(100):
        names = [f"X-Name-{round_}-{n}" for n in range(120)]
        answer = recorded.one(request("GET", "/", *(f"{n}: {n}" for n in names)))
        assert answer.status == 200
        environ = recorder.environs.pop()
        for name in names:
            assert environ["HTTP_" + name.upper().replace("-", "_")] == name
        assert sum(key.startswith("HTTP_") for key in environ) == 121
        recorder.bodies.clear()


def test_names_that_differ_in_case_only(recorded, recorder):
    for name in ("X-Case", "x-case", "X-CASE", "x-CaSe"):
        recorded.one(request("GET", "/", f"{name}: {name}"))
        assert recorder.environs.pop()["HTTP_X_CASE"] == name


def test_a_name_of_sixty_kilobytes(recorded, recorder):
    assert recorded.one(request("GET", "/", "x" * 60_000 + ": long")).status == 200
    assert recorder.environ["HTTP_" + "X" * 60_000] == "long"


# -- bodies together ------------------------------------------------------------------------------


@pytest.mark.parametrize("framed", [
    lambda body: request("POST", "/", body=body),
    lambda body: request("POST", "/", "Transfer-Encoding: chunked") + chunked(body[:7], body[7:]),
], ids=["length", "chunked"])
def test_bodies_in_memory_have_a_bound_together(wire, framed):
    """Beyond it they go to temporary files, however small; the next are in memory again."""
    seen = []

    def app(environ, start_response):
        stream = environ["wsgi.input"]
        seen.append((is_spooled(stream), stream.read()))
        start_response("200 OK", [])
        return [b""]

    connection = wire(app, max_body_memory=250)
    held = []
    for _ in range(2):
        held.append(connection.connection)
        connection.feed(request("POST", "/held", "Content-Length: 101") + b"a" * 100)
        connection.connect()
    assert connection.worker.stats()["held"] == 200
    assert connection.one(framed(b"b" * 60)).status == 200
    assert connection.worker.stats()["held"] == 200
    assert connection.one(framed(b"c" * 50)).status == 200
    held[0].eof()
    assert connection.worker.stats()["held"] == 100
    assert connection.one(framed(b"d" * 60)).status == 200
    held[1].feed(b"a")
    assert seen == [(True, b"b" * 60), (False, b"c" * 50), (False, b"d" * 60),
                    (False, b"a" * 101)]
    assert connection.worker.stats()["held"] == connection.worker.stats()["spooled"] == 0


def test_a_body_moves_to_a_file_when_others_have_used_the_memory(wire, recorder):
    connection = wire(recorder, max_body_memory=250)
    first = connection.connection
    connection.feed(request("POST", "/first", "Content-Length: 200") + b"a" * 100)
    connection.connect()
    second = connection.connection
    connection.feed(request("POST", "/second", "Content-Length: 200") + b"b" * 100)
    first.feed(b"a" * 50)
    assert connection.worker.stats()["held"] == 250
    second.feed(b"b" * 50)
    assert connection.worker.stats()["held"] == 150
    assert connection.worker.stats()["spooled"] == 150
    second.feed(b"b" * 50)
    first.feed(b"a" * 50)
    assert recorder.bodies == [b"b" * 200, b"a" * 200]
    assert connection.worker.stats()["held"] == connection.worker.stats()["spooled"] == 0


def test_bodies_on_disk_have_a_bound_together(wire, recorder):
    connection = wire(recorder, body_memory=10, max_spool=250)
    held = []
    for _ in range(2):
        held.append(connection.connection)
        connection.feed(request("POST", "/held", "Content-Length: 101") + b"a" * 100)
        connection.connect()
    assert connection.worker.stats()["spooled"] == 200
    answer = connection.one(request("POST", "/", body=b"a" * 60))
    assert answer.status == 503
    assert answer.header("retry-after") == "10"
    assert connection.closed
    assert recorder.environs == []
    assert len(connection.logged(logging.ERROR)) == 1
    held[0].feed(b"a")
    connection.connect()
    assert connection.one(request("POST", "/", body=b"a" * 60)).status == 200
    held[1].eof()
    assert connection.worker.stats()["spooled"] == 0


def test_the_shortage_is_told_once(wire, recorder):
    connection = wire(recorder, body_memory=10, max_spool=20)
    for _ in range(3):
        assert connection.one(request("POST", "/", body=b"a" * 60)).status == 503
        connection.connect()
    assert len(connection.logged(logging.ERROR)) == 1
