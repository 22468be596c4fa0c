"""wsgi.input: the ways to read a body of 64 KiB, in lines of 64 bytes, that has come with its
length or in chunks of 4 KiB."""

import pytest

KIB = 1024
LINE = b"x" * 63 + b"\n"
BODY = LINE * KIB
HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\n"


def with_length(body):
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(body):
    pieces = [body[i:i + 4 * KIB] for i in range(0, len(body), 4 * KIB)]
    return (HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
            + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
            + b"0\r\n\r\n")


def read(file):
    return [file.read()]


def read_pieces(file):
    return list(iter(lambda: file.read(4 * KIB), b""))


def readline(file):
    return list(iter(file.readline, b""))


def iterate(file):
    return list(file)


def readlines(file):
    return file.readlines()


@pytest.mark.parametrize("framing", [with_length, chunked])
@pytest.mark.parametrize(("way", "pieces"), [
    (read, 1), (read_pieces, 16), (readline, KIB), (iterate, KIB), (readlines, KIB)])
def test_read(feed, measure, way, pieces, framing):
    def app(environ, start_response):
        found = way(environ["wsgi.input"])
        body = b"%d pieces, %d bytes" % (len(found), sum(map(len, found)))
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    data = measure(feed(app), framing(BODY))
    assert data.endswith(b"\r\n\r\n%d pieces, %d bytes" % (pieces, len(BODY)))
