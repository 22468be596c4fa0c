"""The pages without a framework."""

from urllib.parse import parse_qs

from work import ECHOES, STREAMS, TEXTS, UPLOADS


def app(environ, start_response):
    def query():
        return {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}

    def text(body):
        data = body.encode()
        start_response("200 OK", [("Content-Type", "text/plain"),
                                  ("Content-Length", str(len(data)))])
        return [data]

    def pieces(iterable):
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return iterable

    path, read = environ["PATH_INFO"], environ["wsgi.input"].read
    if path in TEXTS:
        return text(TEXTS[path](query, environ))
    if path in STREAMS:
        return pieces(STREAMS[path](query, environ))
    if path in UPLOADS:
        return text(UPLOADS[path](query, environ, read))
    return pieces(ECHOES[path](query, environ, read))
