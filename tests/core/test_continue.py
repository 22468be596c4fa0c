"""Expect: 100-continue (RFC 9110, 10.1.1)."""

import pytest
from answers import Canned, chunked, request
from harness import Client

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
EXPECT = "Expect: 100-continue"


@pytest.mark.parametrize("expect", [EXPECT, "expect: 100-Continue", "EXPECT:100-CONTINUE  "])
@pytest.mark.parametrize("framing, body", [
    ("Content-Length: 4", b"body"),
    ("Transfer-Encoding: chunked", chunked(b"body")),
])
@pytest.mark.parametrize("memory", [1, 1000])
def test_waiting_client_is_told_to_go_on(wire, recorder, expect, framing, body, memory):
    connection = wire(recorder, body_memory=memory)
    assert connection.feed(request("POST", "/", expect, framing)) == CONTINUE
    assert recorder.environs == []
    answer = connection.one(body)
    assert answer.status == 200
    assert recorder.body == b"body"
    assert connection.usable


def test_it_is_told_once(recorded):
    assert recorded.feed(request("POST", "/", EXPECT, "Content-Length: 4")) == CONTINUE
    for byte in (b"b", b"o", b"d"):
        assert recorded.feed(byte) == b""
    assert recorded.one(b"y").status == 200


def test_head_byte_by_byte(recorded):
    raw = request("POST", "/", EXPECT, "Content-Length: 4")
    assert b"".join(recorded.feed(raw[i:i + 1]) for i in range(len(raw))) == CONTINUE


def test_body_that_came_along(recorded, recorder):
    """May be left out when the body is there already; must come before the answer, if at all."""
    sent = recorded.feed(request("POST", "/", EXPECT, body=b"body"))
    if sent.startswith(CONTINUE):
        sent = sent[len(CONTINUE):]
    assert sent.startswith(b"HTTP/1.1 200 ")
    assert sent.count(b"HTTP/1.1 ") == 1
    assert recorder.body == b"body"


@pytest.mark.parametrize("fields", [[], ["Content-Length: 0"]])
def test_without_a_body_there_is_nothing_to_wait_for(recorded, fields):
    """"or if the framing indicates that there is no content"."""
    sent = recorded.feed(request("POST", "/", EXPECT, *fields))
    assert sent.startswith(b"HTTP/1.1 200 ")
    assert b" 100 " not in sent


def test_a_1_0_client_is_not_told(recorded):
    """A server must ignore the expectation in a 1.0 request."""
    raw = request("POST", "/", EXPECT, "Content-Length: 4", version="1.0")
    assert recorded.feed(raw) == b""
    assert recorded.one(b"body").status == 200


def test_another_expectation(recorded, recorder):
    """A server may answer 417; it must not say 100."""
    sent = recorded.feed(request("POST", "/", "Expect: 200-ok", "Content-Length: 4"))
    assert b" 100 " not in sent
    if sent:
        assert sent.startswith(b"HTTP/1.1 417 ")
        assert recorded.closed
    else:
        assert recorded.one(b"body").status == 200


@pytest.mark.parametrize("fields, status", [
    (["Content-Length: 1001"], 413),
    (["Content-Length: x"], 400),
    (["Content-Length: 5", "Transfer-Encoding: chunked"], 400),
    (["Transfer-Encoding: gzip, chunked"], 501),
    (["Content-Length: 5", "Host: y"], 400),
])
def test_a_refused_request_is_not_told(wire, recorder, fields, status):
    """The final status at once, so that the body need not be sent."""
    connection = wire(recorder, max_body=1000)
    answer = connection.one(request("POST", "/", EXPECT, *fields))
    assert answer.status == status
    assert connection.closed
    assert recorder.environs == []


def test_chunked_body_over_the_limit(wire, recorder):
    connection = wire(recorder, max_body=10)
    assert connection.feed(request("POST", "/", EXPECT, "Transfer-Encoding: chunked")) == CONTINUE
    assert connection.one(chunked(b"12345678", b"9ab")).status == 413
    assert connection.closed


def test_it_comes_after_the_answers_before_it(recorded, recorder):
    """Trap: 100 Continue written into a response that has begun."""
    def parts(raw):
        client = Client(Canned(raw))
        first, second = client.read_response(), client.read_response()
        return first, second, client.buffer + client.sock.data

    first, second, rest = parts(recorded.feed(
        request("GET", "/1") + request("POST", "/2", body=b"x")
        + request("POST", "/3", EXPECT, "Content-Length: 4")))
    assert (first.body, second.body, rest) == (b"/1", b"/2", CONTINUE)
    assert recorded.one(b"body").body == b"/3"


def test_pipelined_expectations(recorded, recorder):
    raw = request("POST", "/", EXPECT, body=b"body")
    sent = recorded.feed(raw * 3).replace(CONTINUE, b"")
    assert sent.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert recorder.bodies == [b"body"] * 3


def test_client_that_does_not_wait(recorded, recorder):
    """The body may come in the next packet whether or not 100 was seen."""
    sent = recorded.feed(request("POST", "/", EXPECT, "Content-Length: 8") + b"half")
    assert sent in (b"", CONTINUE)
    assert recorded.one(b"rest").status == 200
    assert recorder.body == b"halfrest"


def test_client_that_gives_up(recorded, recorder):
    assert recorded.feed(request("POST", "/", EXPECT, "Content-Length: 4")) == CONTINUE
    recorded.connection.eof()
    assert recorded.closed
    assert recorder.environs == []


def test_the_application_sees_no_trace_or_the_plain_field(recorded, recorder):
    recorded.feed(request("POST", "/", EXPECT, "Content-Length: 4"))
    recorded.feed(b"body")
    assert recorder.environ.get("HTTP_EXPECT", "100-continue") == "100-continue"
