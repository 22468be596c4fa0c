"""The application behind the socket fuzzing: says what it was asked, in one of several ways."""

import zlib


def app(environ, start_response):
    method, stream = environ["REQUEST_METHOD"], environ["wsgi.input"]
    way = zlib.crc32(repr(sorted(environ)).encode())
    fields = [("X-Method", method)]
    if way % 5 == 0:
        environ["wsgi.early_hints"]([("Link", "</a>; rel=preload")])
    if way % 4 == 0:
        return late(stream, start_response, fields)
    if way % 4 == 1:
        body = stream.read()
    elif way % 4 == 2:
        body = b"".join(stream)
    else:
        body = stream.read(5)
    body = b"%d bytes\n" % len(body) + body * (1 + way % 30)
    start_response("200 OK", [*fields, ("Content-Length", str(len(body)))])
    return [body]


def late(stream, start_response, fields):
    """Begins its answer before it reads."""
    start_response("200 OK", fields)
    yield b"begun\n"
    while piece := stream.read(100):
        yield piece
