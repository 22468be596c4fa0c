"""The response head: few and many header fields, a Content-Length of the application's own
and one that the server has to add."""

import pytest

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("fields", [1, 12, 40])
def test_head(feed, measure, fields):
    extra = [(f"X-Field-{n:02}", "a value of ordinary length") for n in range(1, fields)]

    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "2"), *extra])
        return [b"ok"]

    head = measure(feed(app), REQUEST)
    assert head.count(b"a value of ordinary length") == fields - 1


def test_length_added(feed, measure):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]

    measure(feed(app), REQUEST)


def test_body_64k(feed, measure):
    body = b"x" * 65536

    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "65536")])
        return [body]

    assert measure(feed(app), REQUEST).endswith(body)
