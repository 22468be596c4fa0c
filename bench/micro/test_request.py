"""Whole requests: in memory, sixteen in one piece, with a body, and over the sockets of a worker
in a process of its own."""

import socket

import pytest

GET = (b"GET /path?query=1 HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\n"
       b"Accept: */*\r\n\r\n")
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1024\r\n\r\n" + b"x" * 1024


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "14")])
    return [b"Hello, World!\n"]


def length_of_body(environ, start_response):
    body = b"%d" % len(environ["wsgi.input"].read())
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def test_in_memory(feed, measure):
    assert measure(feed(hello), GET).endswith(b"\r\n\r\nHello, World!\n")


def test_pipelined_16(feed, measure):
    data = measure(feed(hello), GET * 16, answers=16)
    assert data.count(b"Hello, World!\n") == 16


def test_post_1k(feed, measure):
    assert measure(feed(length_of_body), POST).endswith(b"\r\n\r\n1024")


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX], ids=["loopback", "pair"])
def test_over_sockets(serve, measure, family):
    data = measure(serve(hello, family).feed, GET)
    assert data.endswith(b"\r\n\r\nHello, World!\n")
