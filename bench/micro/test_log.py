"""The access log: a request without it, and with a line for it in each format."""

import tempfile

import pytest

GET = (b"GET /path?query=1 HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\n"
       b"Referer: http://localhost/\r\n\r\n")
END = {
    "common": b'"GET /path?query=1 HTTP/1.1" 200 2\n',
    "combined": b'"GET /path?query=1 HTTP/1.1" 200 2 "http://localhost/" "bench"\n',
}


@pytest.mark.parametrize("format_", [None, *END])
def test_line(worker, measure, format_):
    answered = 0

    def app(environ, start_response):
        nonlocal answered
        answered += 1
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    with tempfile.TemporaryFile() as file:
        server = worker(app, file, access_log_format=format_) if format_ else worker(app)
        measure(server.connect().feed, GET)
        server.flush_access_log()
        file.seek(0)
        lines = 0
        for line in file:
            assert line.endswith(END[format_]), line
            lines += 1
        assert lines == (answered if format_ else 0)
