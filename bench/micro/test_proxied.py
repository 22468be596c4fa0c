"""What a request costs behind a proxy, and what a body costs that is streamed."""

import pytest

FIELDS = {
    "x-forwarded": b"X-Forwarded-For: 192.0.2.1, 127.0.0.2\r\nX-Forwarded-Proto: https\r\n",
    "forwarded": b'Forwarded: for="[2001:db8::1]:567";proto=https\r\n',
    "neither": b"",
}
TRUSTED = {"forwarded_allow_ips": ("127.0.0.0/8",)}
KIB = 1024


def scheme(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return [environ["wsgi.url_scheme"].encode().ljust(5)]


def length_of_body(environ, start_response):
    body = b"%d" % len(environ["wsgi.input"].read())
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)
def test_from_a_trusted_peer(feed, measure, fields):
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n" + fields + b"\r\n"
    answer = measure(feed(scheme, **TRUSTED), request)
    assert answer.endswith(b"https" if fields else b"http ")


@pytest.mark.parametrize("buffering", ["full", "stream"])
@pytest.mark.parametrize("size", [KIB, 256 * KIB])
def test_upload(feed, measure, buffering, size):
    """The larger one comes in four pieces; without sockets each is a wait of the handler."""
    request = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size
    answer = measure(feed(length_of_body, request_buffering=buffering), request + b"x" * size)
    assert answer.endswith(b"%d" % size)
