"""Making the environ: twenty header fields whose names every server knows, that are an
application's own, and that are new in every request."""

from itertools import count

KNOWN = [b"Accept", b"Accept-Charset", b"Accept-Encoding", b"Accept-Language", b"Authorization",
         b"Cache-Control", b"Cookie", b"DNT", b"From", b"If-Match", b"If-Modified-Since",
         b"If-None-Match", b"Max-Forwards", b"Origin", b"Pragma", b"Referer", b"User-Agent",
         b"Via", b"X-Real-IP", b"X-Request-ID"]
OWN = [b"X-Application-%02d" % n for n in range(20)]


def request_with(names):
    fields = b"".join(b"%b: the value\r\n" % name for name in names)
    return b"GET / HTTP/1.1\r\nHost: localhost\r\n" + fields + b"\r\n"


def app(environ, start_response):
    """Answers with the size of the environ, so that it is known to be whole."""
    body = b"%d" % len(environ)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def size(data):
    return int(data.rpartition(b"\r\n\r\n")[2])


def test_no_fields(feed, measure):
    assert size(measure(feed(app), request_with([]))) > 15


def test_known_names(feed, measure):
    take = feed(app)
    assert size(measure(take, request_with(KNOWN))) == size(take(request_with([]))) + 20


def test_own_names(feed, measure):
    take = feed(app)
    assert size(measure(take, request_with(OWN))) == size(take(request_with([]))) + 20


def test_new_names(feed, measure):
    take, number = feed(app), count()

    def new_names(request):
        return take(request.replace(b"########", b"%08d" % next(number)))

    names = [b"X-########-%02d" % n for n in range(20)]
    data = measure(new_names, request_with(names))
    assert size(data) == size(take(request_with([]))) + 20
