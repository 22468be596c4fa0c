"""Parsing: a request with 1, 12 and 40 header fields through the whole core, and the same
bytes through httptools alone, with callbacks that do nothing: the floor."""

import httptools
import pytest


def request_with(fields):
    """A GET with so many header fields, Host among them, of ordinary length."""
    lines = [b"Host: localhost"]
    lines += [b"X-Field-%02d: a value of ordinary length" % n for n in range(1, fields)]
    return b"\r\n".join([b"GET /some/path?and=query HTTP/1.1", *lines, b"", b""])


def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


class Nothing:
    """Takes every callback that a server needs, and does nothing."""

    def __init__(self):
        self.fields = self.messages = 0

    def on_url(self, url):
        pass

    def on_header(self, name, value):
        pass

    def on_headers_complete(self):
        pass

    def on_message_complete(self):
        self.messages += 1


@pytest.mark.parametrize("fields", [1, 12, 40])
def test_parse(feed, measure, fields):
    measure(feed(app), request_with(fields))


@pytest.mark.parametrize("fields", [1, 12, 40])
def test_parse_floor(benchmark, fields):
    protocol = Nothing()
    parser = httptools.HttpRequestParser(protocol)
    request = request_with(fields)
    calls = 0

    def once():
        nonlocal calls
        calls += 1
        parser.feed_data(request)

    benchmark(once)
    assert protocol.messages == calls > 0
