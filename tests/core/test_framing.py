"""How long a request's body is, as truth tables (RFC 9112, 6).

Content-Length x Transfer-Encoding x version x what is sent.  Either the body is exactly what the
fields say, and what follows is the next request, or the request is refused and nothing of what
follows is ever executed, neither as a request of its own nor as a part of this one's body.
"""

import pytest
from answers import answers, chunked, request

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: xyz\r\n\r\n"
BODY = b"0\r\n\r\n" + SMUGGLED     # whoever takes it for chunks meets a request in it
N = len(BODY)
FOLLOWER = request("GET", "/follower")

# the values of the Content-Length fields → what may be done: serve a body of n bytes (an int, None
# without the field) or refuse with one of these statuses
LENGTHS = {
    (): None,
    ("0",): 0,
    ("00",): 0,
    (f"{N}",): N,
    (f"00{N}",): N,
    (f" \t{N}\t ",): N,
    ("",): {400},
    ("-1",): {400},
    (f"+{N}",): {400},
    (f"-{N}",): {400},
    ("-0",): {400},
    (f"{N}.0",): {400},
    (f"{N}e0",): {400},
    (f"{N:#x}",): {400},
    (f"{N:x}",): {400},
    (f"{N}_",): {400},
    ("1_0",): {400},
    (f"{N} 0",): {400},
    (f"{N};a",): {400},
    (f'"{N}"',): {400},
    (f"{N},",): {400},
    (f",{N}",): {400},
    (f"{N}, {N}",): {400},
    (f"{N}, 0",): {400},
    (f"{N}\x0b",): {400},
    ("\xb2",): {400},               # superscript two: a digit to Python's isdigit()
    ("\xd9\xa3",): {400},           # Arabic three, in UTF-8
    ("chunked",): {400},
    ("9999",): {413},               # more than max_body here
    ("9223372036854775807",): {400, 413},
    ("9223372036854775808",): {400, 413},
    (f"{2 ** 64 + N}",): {400, 413},
    (f"{2 ** 32 + N}",): {400, 413},
    (f"{N}", f"{N}"): {400},
    (f"{N}", "0"): {400},
    ("0", f"{N}"): {400},
    (f"{N}", ""): {400},
    ("", ""): {400},
}
# the values of the Transfer-Encoding fields → None, "chunked", or statuses
CODINGS = {
    (): None,
    ("chunked",): "chunked",
    ("Chunked",): "chunked",
    ("CHUNKED",): "chunked",
    (" \tchunked  ",): "chunked",
    ("",): {400, 501},
    (",",): {400, 501},
    ("identity",): {400, 501},
    ("chunked, identity",): {400, 501},
    ("identity, chunked",): {400, 501},
    ("gzip",): {400, 501},
    ("gzip, chunked",): {501},
    ("gzip,chunked",): {501},
    ("chunked, gzip",): {400, 501},
    ("chunked, chunked",): {400, 501},
    ("chunked;q=1",): {400, 501},
    ("chunked ;q=1",): {400, 501},
    ('"chunked"',): {400, 501},
    ("xchunked",): {400, 501},
    ("chunkedx",): {400, 501},
    ("chunke",): {400, 501},
    ("chun ked",): {400, 501},
    ("chunked chunked",): {400, 501},
    ("\x0bchunked",): {400},
    ("\x0cchunked",): {400},
    ("\xa0chunked",): {400, 501},
    ("chunked\x85",): {400, 501},
    ("\xe2\x84\xaahunked",): {400, 501},
    ("chunked", "chunked"): {400},
    ("gzip", "chunked"): {400, 501},
    ("chunked", "gzip"): {400, 501},
    ("", "chunked"): {400, 501},
    ("chunked", ""): {400, 501},
}


class Steps:
    """An application that notes the path and body of every request."""

    def __init__(self, reads=True):
        self.reads = reads
        self.calls = []

    def __call__(self, environ, start_response):
        body = environ["wsgi.input"].read() if self.reads else b""
        self.calls.append((environ["PATH_INFO"], body))
        start_response("200 OK", [])
        return [environ["PATH_INFO"].encode()]


def head(lengths, codings, version, order="length first", method="POST"):
    fields = ([f"Content-Length: {v}" for v in lengths]
              + [f"Transfer-Encoding: {v}" for v in codings])
    if order != "length first":
        fields.reverse()
    return request(method, "/", *fields, version=version)


def verdict(lengths, codings, version):
    """What the table says: None, a number, "chunked", or a set of statuses."""
    length, coding = LENGTHS[lengths], CODINGS[codings]
    if coding is None:
        return length
    statuses = {s for kind in (length, coding) if isinstance(kind, set) for s in kind}
    if lengths or version == "1.0":
        statuses.add(400)       # RFC 9112, 6.1: both, or one that 1.0 does not know
    return statuses or coding


def assert_refused(connection, app, raw, statuses):
    """One answer, which says that the connection ends; nothing was executed, nothing will be."""
    (answer,) = answers(connection.feed(raw))
    assert answer.status in statuses
    assert answer.header("connection") == "close"
    assert answer.complete
    assert connection.closed
    assert connection.feed(SMUGGLED + FOLLOWER) == b""
    assert app.calls == []


@pytest.fixture
def steps():
    return Steps()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("codings", CODINGS, ids=repr)
@pytest.mark.parametrize("lengths", LENGTHS, ids=repr)
def test_every_pair(wire, lengths, codings, version):
    """Content-Length x Transfer-Encoding x version, with the body that the fields tell of (or,
    where they tell of none or are wrong, with each body that somebody could believe in)."""
    expected = verdict(lengths, codings, version)
    raw = head(lengths, codings, version)
    if isinstance(expected, set):
        for body in (b"", BODY, chunked(BODY), chunked(BODY) + FOLLOWER, BODY + FOLLOWER):
            app = Steps()
            for order in ("length first", "coding first"):
                assert_refused(wire(app, max_body=1000), app,
                               head(lengths, codings, version, order) + body, expected)
        return
    body = {"chunked": BODY, None: b"", 0: b"", N: BODY}[expected]
    sent = chunked(body) if expected == "chunked" else body
    app = Steps()
    connection = wire(app, max_body=1000)
    found = connection.ask(raw + sent + FOLLOWER)
    if version == "1.0":
        assert app.calls == [("/", body)]
        assert connection.closed
    else:
        assert [a.body for a in found] == [b"/", b"/follower"]
        assert app.calls == [("/", body), ("/follower", b"")]
        assert connection.usable


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS", "POST", "TRACE"])
@pytest.mark.parametrize("lengths, codings", [
    ((f"{N}", "0"), ()), ((f"{N}",), ("chunked",)), (("+1",), ()), ((), ("gzip",)),
    ((), ("chunked, chunked",)), ((), ("chunked", "chunked"))])
def test_the_method_makes_no_difference_to_a_refusal(wire, steps, method, lengths, codings):
    """RFC 9112, 6.3 knows no method for which a body does not count."""
    connection = wire(steps)
    raw = head(lengths, codings, "1.1", method=method) + SMUGGLED
    found = answers(connection.feed(raw), method)
    assert [a.status for a in found] in ([400], [501])
    assert connection.closed
    assert steps.calls == []


@pytest.mark.parametrize("value", ["chunked\t", "\tchunked \t"])
def test_tab_behind_the_coding(wire, steps, value):
    """RFC 9112, 5: blanks around a value do not belong to it.  The parser refuses this one."""
    connection = wire(steps)
    found = answers(connection.feed(head((), (value,), "1.1") + chunked(BODY) + FOLLOWER))
    if connection.closed:
        assert [a.status for a in found] == [400]
        assert steps.calls == []
    else:
        assert steps.calls == [("/", BODY), ("/follower", b"")]


# what is sent of a body → what becomes of it: (body as the application gets it, are the bytes
# behind it the next request?); None: it waits for more; a set: refused
def pieces(*sizes):
    at, parts = 0, []
    for size in sizes:
        parts.append(BODY[at:at + size])
        at += size
    assert at == N
    return chunked(*parts)


HALF = N // 2
BODIES = {
    "length": (f"Content-Length: {N}", {
        "nothing": (b"", None),
        "one byte": (BODY[:1], None),
        "a byte less": (BODY[:-1], None),
        "exactly": (BODY, True),
        "a follower": (BODY + FOLLOWER, True),
        "half a follower": (BODY + FOLLOWER[:9], True),
        "a CR LF more": (BODY + b"\r\n", True),
        "rubbish behind": (BODY + b"\0", True),
    }),
    "chunked": ("Transfer-Encoding: chunked", {
        "nothing": (b"", None),
        "a size": (b"%x" % N, None),
        "a size line": (b"%x\r\n" % N, None),
        "a byte less": (b"%x\r\n" % N + BODY[:-1], None),
        "without its end of line": (b"%x\r\n" % N + BODY, None),
        "without the CR's LF": (b"%x\r\n" % N + BODY + b"\r", None),
        "without a last chunk": (b"%x\r\n" % N + BODY + b"\r\n", None),
        "half a last chunk": (b"%x\r\n" % N + BODY + b"\r\n0", None),
        "without the last line": (b"%x\r\n" % N + BODY + b"\r\n0\r\n", None),
        "without the last LF": (b"%x\r\n" % N + BODY + b"\r\n0\r\n\r", None),
        "in the trailers": (chunked(BODY, end=b"0\r\nA: b\r\n"), None),
        "exactly": (chunked(BODY), True),
        "two chunks": (pieces(HALF, N - HALF), True),
        "many chunks": (pieces(*[1] * N), True),
        "trailers": (chunked(BODY, end=b"0\r\nA: b\r\nContent-Length: 5\r\n\r\n"), True),
        "extensions": (b"%x;a=b\r\n%b\r\n0;c\r\n\r\n" % (N, BODY), True),
        "a follower": (chunked(BODY) + FOLLOWER, True),
        "half a follower": (chunked(BODY) + FOLLOWER[:9], True),
        "a CR LF more": (chunked(BODY) + b"\r\n", True),
        "rubbish behind": (chunked(BODY) + b"\0", True),
        "a chunk longer than its size": (b"%x\r\n%b\r\n0\r\n\r\n" % (N - 1, BODY), {400}),
        "a chunk shorter than its size": (b"%x\r\n%b\r\n0\r\n\r\n" % (N + 1, BODY), {400}),
        "no end of line": (b"%x\r\n%b0\r\n\r\n" % (N, BODY), {400}),
        "a size that is none": (b"%xg\r\n%b\r\n0\r\n\r\n" % (N, BODY), {400}),
        "a size of 64 bits more": (b"1%016x\r\n%b\r\n0\r\n\r\n" % (N, BODY), {400, 413}),
        "a size of 32 bits more": (b"1%08x\r\n%b\r\n0\r\n\r\n" % (N, BODY), {400, 413}),
        "a size with a blank": (b"%x \r\n%b\r\n0\r\n\r\n" % (N, BODY), {400}),
        "line ends are LF": (b"%x\n%b\n0\n\n" % (N, BODY), {400}),
        "trailer with a blank": (chunked(BODY, end=b"0\r\nA : b\r\n\r\n"), {400}),
        "trailer is folded": (chunked(BODY, end=b"0\r\nA: b\r\n c\r\n\r\n"), {400}),
        "a bare body": (SMUGGLED, {400}),
    }),
}
ROWS = [(f"{kind}: {name}", field, sent, outcome)
        for kind, (field, table) in BODIES.items() for name, (sent, outcome) in table.items()]


@pytest.mark.parametrize("memory", [8, 1 << 20], ids=["on disk", "in memory"])
@pytest.mark.parametrize("reads", [True, False], ids=["read", "unread"])
@pytest.mark.parametrize("cut", [None, "by byte"])
@pytest.mark.parametrize("field, sent, outcome", [row[1:] for row in ROWS],
                         ids=[row[0] for row in ROWS])
def test_body(wire, field, sent, outcome, cut, reads, memory):
    """Shorter: the handler does not start, and the client's end is a 400.  Equal: served.
    Longer: the rest is the next request."""
    app = Steps(reads)
    connection = wire(app, body_memory=memory, max_body=1000)
    raw = request("POST", "/", field) + sent
    if cut:
        got = b"".join(connection.feed(raw[i:i + 1]) for i in range(len(raw)))
    else:
        got = connection.feed(raw)
    assert not any(path == "/smuggled" for path, _ in app.calls)
    if isinstance(outcome, set):
        (answer,) = answers(got)
        assert answer.status in outcome
        assert answer.header("connection") == "close"
        assert connection.closed
        assert connection.feed(SMUGGLED) == b""
        assert app.calls == []
    elif outcome is None:
        assert got == b""
        assert app.calls == []
        (answer,) = answers(connection.connection.eof())
        assert answer.status == 400
        assert answer.header("connection") == "close"
        assert connection.closed
        assert app.calls == []
    else:
        served = [("/", BODY if reads else b"")]
        behind = sent[sent.index(BODY) + N:] if BODY in sent else b""
        if FOLLOWER in behind:
            served.append(("/follower", b""))
        found = answers(got)
        assert app.calls == served
        assert [a.status for a in found][:len(served)] == [200] * len(served)
        if behind.endswith(b"\0"):
            assert [a.status for a in found] == [200, 400]
            assert connection.closed
        elif behind.endswith(FOLLOWER[:9]):
            assert len(found) == 1
            (answer,) = answers(connection.feed(FOLLOWER[9:]))
            assert answer.body == b"/follower"
        else:
            assert len(found) == len(served)
            assert connection.usable


REFUSED = {
    "bad request line": (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "no Host": (request("POST", "/", host=None, body=BODY), 400),
    "two Hosts": (request("POST", "/", "Host: y", body=BODY), 400),
    "version": (b"POST / HTTP/2.0\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % N + BODY, 505),
    "unknown coding": (request("POST", "/", "Transfer-Encoding: gzip, chunked",
                               body=chunked(BODY)), 501),
    "CONNECT": (request("CONNECT", "x:1", body=BODY), 501),
    "too long a target": (request("POST", "/" + "a" * 20_000, body=BODY), 414),
    "too large a head": (request("POST", "/", "A: " + "a" * 70_000, body=BODY), 431),
    "too many fields": (request("POST", "/", *["A: b"] * 200, body=BODY), 431),
    "too long a body": (request("POST", "/", body=BODY + b"b" * 1000), 413),
    "too long a chunk": (request("POST", "/", "Transfer-Encoding: chunked",
                                 body=chunked(BODY + b"b" * 1000)), 413),
    "too many chunks": (request("POST", "/", "Transfer-Encoding: chunked",
                                body=chunked(*[BODY] * 100)), 413),
    "an expectation": (request("POST", "/", "Expect: 200-maybe", body=BODY), 417),
    "broken chunks": (request("POST", "/", "Transfer-Encoding: chunked",
                              body=b"zz\r\n" + SMUGGLED), 400),
    "a body cut off by a chunk": (request("POST", "/", "Transfer-Encoding: chunked",
                                          body=chunked(BODY, end=b"-1\r\n\r\n")), 400),
}


@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("fields", [(), ("Connection: keep-alive",), ("Connection: close",)],
                         ids=["", "keep-alive", "close"])
@pytest.mark.parametrize("raw, status", REFUSED.values(), ids=REFUSED)
def test_refusal_ends_the_connection(wire, steps, raw, status, fields, before):
    """RFC 9112, 9.6 and 11.2: whatever the client would like, those before it are answered, it is
    refused with Connection: close, nothing behind it or in it is executed."""
    raw = raw.replace(b"\r\nHost: x\r\n", b"\r\n" + b"".join(
        f.encode() + b"\r\n" for f in fields) + b"Host: x\r\n", 1)
    connection = wire(steps, max_body=1000)
    found = answers(connection.feed(FOLLOWER * before + raw + FOLLOWER))
    assert [a.status for a in found] == [200] * before + [status]
    assert found[-1].header("connection") == "close"
    assert found[-1].header("content-length") == str(len(found[-1].body))
    assert connection.closed
    assert not connection.reset
    assert connection.feed(FOLLOWER) == b""
    assert steps.calls == [("/follower", b"")] * before
