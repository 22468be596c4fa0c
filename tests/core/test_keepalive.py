"""Keep or close, as a truth table (RFC 9112, 9.3).

Rows: what the client says.  Columns: what kind of answer it is.  A connection is kept if
the client lets it be and the end of the answer can be told without the connection's end.
"""

import pytest
from answers import chunked, request

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


def fixed(start_response):
    start_response("200 OK", [])
    return [b"body"]


def stated(start_response):
    start_response("200 OK", [("Content-Length", "4")])
    return iter([b"bo", b"dy"])


def empty(start_response):
    start_response("200 OK", [])
    return []


def unknown(start_response):
    start_response("200 OK", [])
    return iter([b"bo", b"dy"])


def no_content(start_response):
    start_response("204 No Content", [])
    return []


def not_modified(start_response):
    start_response("304 Not Modified", [])
    return []


def error_status(start_response):
    start_response("404 Not Found", [])
    return [b"body"]


def app_keeps(start_response):
    start_response("200 OK", [("Connection", "keep-alive")])
    return [b"body"]


def app_closes(start_response):
    start_response("200 OK", [("Connection", "close")])
    return [b"body"]


def app_closes_in_a_list(start_response):
    start_response("200 OK", [("connection", "x-a, Close")])
    return [b"body"]


def short(start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return [b"body"]


def breaks(start_response):
    start_response("200 OK", [("Content-Length", "5")])
    yield b"body"
    raise ValueError


# answer → (can it be kept on 1.1, on 1.0?, is it whole?)
ANSWER = {
    fixed: (True, True, True),
    stated: (True, True, True),
    empty: (True, True, True),
    unknown: (True, False, True),
    no_content: (True, True, True),
    not_modified: (True, True, True),
    error_status: (True, True, True),
    app_keeps: (True, True, True),
    app_closes: (False, False, True),
    app_closes_in_a_list: (False, False, True),
    short: (False, False, False),
    breaks: (False, False, False),
}


@pytest.mark.parametrize("client", CLIENT, ids=lambda c: " | ".join(c))
@pytest.mark.parametrize("answer", ANSWER, ids=lambda a: a.__name__)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_keep_or_close(wire, client, answer, method):
    """Trap: `Connection: a, close` read as one word; and all the rest of the table."""
    calls = []

    def app(environ, start_response):
        calls.append(environ["PATH_INFO"])
        return answer(start_response) if environ["PATH_INFO"] == "/" else fixed(start_response)

    version, *fields = client
    on_11, on_10, whole = ANSWER[answer]
    keep = CLIENT[client] and (on_11 if version == "1.1" else on_10)
    if method == "HEAD" and answer in (unknown, short, breaks):
        # No body is sent, so its end needs no marking; either is right, but it must be said.
        keep = None

    connection = wire(app)
    raw = request(method, "/", *(f"Connection: {f}" for f in fields), version=version)
    if not whole:
        connection.feed(raw + request("GET", "/usable"))
        if keep is False:
            assert connection.closed
            assert calls == ["/"]
        return
    response = connection.one(raw, method)
    said = [t.strip().lower() for v in response.all("connection") for t in v.split(",")]
    if keep is None:
        keep = not connection.closed
    assert connection.closed is not keep
    if keep:
        assert said == (["keep-alive"] if version == "1.0" else []) or answer is app_keeps
        assert connection.usable
        assert calls == ["/", "/usable"]
    else:
        assert "keep-alive" not in said
        if version == "1.1":
            assert "close" in said
        assert connection.feed(request("GET", "/after")) == b""
        assert calls == ["/"]
        assert not connection.reset


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
