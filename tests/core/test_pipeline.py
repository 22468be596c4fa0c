"""Pipelined requests: answered in order, and none that must not be (RFC 9112, 9.3.2)."""

import random

import pytest
from answers import Recorder, answers, chunked, request
from corpus import MIXED, UPGRADES

PATHS = [f"/{n}" for n in range(len(MIXED))]
BODIES = [b"" if n == 2 else p.encode() for n, p in enumerate(PATHS)]


def test_in_one_piece(recorded, recorder):
    found = recorded.ask(b"".join(MIXED), *(r.split()[0].decode() for r in MIXED))
    assert [a.body for a in found] == BODIES
    assert recorder.paths == PATHS
    assert not recorded.closed


def test_cut_at_every_byte(wire):
    """Two pieces, whatever the cut: the same answers."""
    raw = b"".join(MIXED)
    methods = [r.split()[0].decode() for r in MIXED]
    app = Recorder()
    connection = wire(app)
    for cut in range(1, len(raw)):
        connection.connect()
        found = answers(connection.feed(raw[:cut]) + connection.feed(raw[cut:]), *methods)
        assert [a.body for a in found] == BODIES, cut
        assert app.paths == PATHS, cut
        assert connection.connection.eof() == b""
        app.environs.clear()
        app.bodies.clear()


def test_thousands_in_one_piece(recorded, recorder):
    """Trap 1: one call parses every pipelined request in the buffer, and nothing pauses it."""
    raw = b"".join(request("GET", f"/{n}") for n in range(5000))
    found = recorded.ask(raw)
    assert [a.body for a in found] == [b"/%d" % n for n in range(5000)]
    assert recorder.paths == [f"/{n}" for n in range(5000)]
    assert recorded.usable


def test_thousands_with_bodies_in_random_pieces(wire, recorder):
    connection = wire(recorder, body_memory=64)
    seeded = random.Random(3)
    bodies = [seeded.randbytes(seeded.choice([0, 1, 10, 200])) for _ in range(1000)]
    raw = b"".join(
        request("POST", f"/{n}", body=body) if n % 3 else
        request("POST", f"/{n}", "Transfer-Encoding: chunked",
                body=chunked(*([body] if body else [])))
        for n, body in enumerate(bodies))
    sent, at = b"", 0
    while at < len(raw):
        step = seeded.choice([1, 7, 100, 5000])
        sent += connection.feed(raw[at:at + step])
        at += step
    assert [a.body for a in answers(sent)] == [b"/%d" % n for n in range(1000)]
    assert recorder.bodies == bodies


def test_pipelined_unknown_lengths(wire):
    def app(environ, start_response):
        start_response("200 OK", [])
        for _ in range(3):
            yield environ["PATH_INFO"].encode()

    raw = b"".join(request("GET", f"/{n}") for n in range(50))
    assert [a.body for a in wire(app).ask(raw)] == [b"/%d" % n * 3 for n in range(50)]


@pytest.mark.parametrize("bad, status", [
    (b"\0", 400),
    (b"GET / HTTP/1.1\nHost: x\n\n", 400),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (request("FROB", "/bad"), 501),
    (b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n", 501),
    (request("POST", "/bad", "Content-Length: 1", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
     400),
    (request("POST", "/bad", "Transfer-Encoding: chunked", body=b"zz\r\n"), 400),
    (request("POST", "/bad", "Transfer-Encoding: chunked", body=b"3\r\nabcGET /x\r\n"), 400),
    (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    (request("POST", "/bad", "Content-Length: 99999999"), 413),
])
def test_a_refused_request_ends_the_line(wire, recorder, bad, status):
    """Those before it are answered, it is refused, those behind it are never executed.

    (Trap: bytes behind a broken chunk executed after the handler caught the read error.)
    """
    connection = wire(recorder, max_body=1000)
    found = connection.ask(request("GET", "/1") + request("POST", "/2", body=b"b") + bad
                           + request("GET", "/never") * 3)
    assert [a.status for a in found] == [200, 200, status]
    assert [a.body for a in found[:2]] == [b"/1", b"/2"]
    assert found[2].header("connection") == "close"
    assert connection.closed
    assert connection.feed(request("GET", "/never")) == b""
    assert recorder.paths == ["/1", "/2"]


@pytest.mark.parametrize("fields", [
    ["Connection: close"],
    ["Connection: a, close"],
    ["Connection: keep-alive", "Connection: close"],
])
def test_bytes_after_connection_close_are_not_executed(recorded, recorder, fields):
    """Trap 3: the request completes and the parser raises; serve it, then close."""
    answer = recorded.one(request("GET", "/last", *fields) + request("GET", "/never") * 2)
    assert answer.body == b"/last"
    assert answer.header("connection") == "close"
    assert recorded.closed
    assert recorder.paths == ["/last"]


def test_bytes_after_a_1_0_request_are_not_executed(recorded, recorder):
    answer = recorded.one(request("GET", "/last", version="1.0") + request("GET", "/never"))
    assert answer.body == b"/last"
    assert recorded.closed
    assert recorder.paths == ["/last"]


def test_rubbish_after_connection_close_is_ignored(recorded):
    assert recorded.one(request("GET", "/last", "Connection: close") + b"\0\0\0").status == 200
    assert recorded.closed


def test_no_follower_after_a_broken_answer(wire):
    calls = []

    def app(environ, start_response):
        calls.append(environ["PATH_INFO"])
        start_response("200 OK", [("Content-Length", "10")])
        return [b"short"]

    connection = wire(app)
    connection.feed(request("GET", "/1") + request("GET", "/2"))
    assert calls == ["/1"]
    assert connection.closed


@pytest.mark.parametrize("fields", UPGRADES)
@pytest.mark.parametrize("cut", [None, "head", "bytes"])
def test_upgrade_is_an_ordinary_request(recorded, recorder, fields, cut):
    """Trap 2: `Upgrade: h2c` of an ordinary client (curl --http2) gets its answer."""
    raw = request("GET", "/one", *fields)
    follower = request("GET", "/two")
    found = answers(feed_cut(recorded, raw, follower, cut))
    assert found[0].status == 200
    assert found[0].body == b"/one"
    assert_followed_or_closed(recorded, recorder, found)


@pytest.mark.parametrize("fields", UPGRADES)
@pytest.mark.parametrize("coding", ["length", "chunked"])
@pytest.mark.parametrize("cut", [None, "head", "bytes"])
def test_body_of_an_upgrade_is_not_a_request(recorded, recorder, fields, coding, cut):
    """Trap 2: feeding the tail again parses the body as a request: smuggling."""
    body = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    if coding == "length":
        raw = request("POST", "/one", *fields, body=body)
    else:
        raw = request("POST", "/one", *fields, "Transfer-Encoding: chunked", body=chunked(body))
    found = answers(feed_cut(recorded, raw, request("GET", "/two"), cut))
    assert "/smuggled" not in recorder.paths
    assert found[0].status == 200
    assert found[0].body == b"/one"
    assert recorder.bodies[0] == body
    assert recorder.environs[0]["CONTENT_LENGTH"] == str(len(body))
    assert_followed_or_closed(recorded, recorder, found)


@pytest.mark.parametrize("fields", UPGRADES)
def test_upgrade_in_mid_pipeline(recorded, recorder, fields):
    raw = (request("GET", "/0") + request("POST", "/1", *fields, body=b"body")
           + request("GET", "/2", *fields) + request("GET", "/3"))
    found = recorded.ask(raw)
    assert [a.body for a in found] == [b"/0", b"/1", b"/2", b"/3"][:len(found)]
    assert len(found) >= 2
    assert (len(found) == 4) is not recorded.closed
    assert recorder.bodies[:2] == [b"", b"body"]


def test_large_body_of_an_upgrade_is_spooled(wire, recorder):
    body = random.Random(4).randbytes(50_000)
    connection = wire(recorder, body_memory=100)
    raw = request("POST", "/one", *UPGRADES[0], body=body)
    found = answers(feed_cut(connection, raw, b"", "thousands"))
    assert [a.body for a in found] == [b"/one"]
    assert recorder.bodies == [body]


def test_upgrade_with_a_body_too_large(wire, recorder):
    connection = wire(recorder, max_body=10)
    raw = request("POST", "/one", *UPGRADES[0], body=request("GET", "/smuggled"))
    assert connection.one(raw).status == 413
    assert connection.closed
    assert recorder.environs == []


def test_broken_chunks_of_an_upgrade(recorded, recorder):
    raw = request("POST", "/one", *UPGRADES[0], "Transfer-Encoding: chunked",
                  body=b"zz\r\n" + request("GET", "/smuggled"))
    assert recorded.one(raw).status == 400
    assert recorded.closed
    assert recorder.environs == []


@pytest.mark.parametrize("raw", [
    b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n",
    b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\nContent-Length: 3\r\n\r\nabc",
    b"CONNECT / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT x:443 HTTP/1.0\r\n\r\n",
])
@pytest.mark.parametrize("cut", [None, "head", "bytes"])
def test_what_follows_connect_is_never_executed(recorded, recorder, raw, cut):
    """Trap 2: CONNECT "completes" the message and hands the rest back."""
    (answer,) = answers(feed_cut(recorded, raw, request("GET", "/never"), cut))
    assert answer.status in (400, 501)
    assert recorded.closed
    assert recorder.environs == []


def feed_cut(connection, raw, follower, cut):
    """What the server sends to `raw` and `follower`, given in differently cut pieces."""
    whole = raw + follower
    if cut is None:
        return connection.feed(whole)
    if cut == "head":
        end = raw.index(b"\r\n\r\n") + 4
        return connection.feed(whole[:end]) + connection.feed(whole[end:])
    step = 1 if cut == "bytes" else 1000
    return b"".join(connection.feed(whole[i:i + step]) for i in range(0, len(whole), step))


def assert_followed_or_closed(connection, recorder, found):
    """After an upgrade that was not taken: go on properly, or close having said so."""
    if connection.closed:
        assert len(found) == 1
        assert recorder.paths == ["/one"]
        assert found[0].header("connection") == "close"
    else:
        assert [a.body for a in found] == [b"/one", b"/two"]
        assert recorder.paths == ["/one", "/two"]
