"""An application wrapped in `wsgiref.validate.validator` runs clean on real workers.

The validator raises AssertionError wherever the server strays from PEP 3333: that would be a
500 here.  What it only finds when an iterator is collected it prints, which `clean` looks for.
"""

import hashlib
import http.client

import pytest
from harness import Server


@pytest.fixture(scope="module", params=["full", "stream"])
def server(request, blob):
    with Server("validated:app", f"--request-buffering={request.param}", workers=2,
                env={"BLOB": blob.path}) as server:
        yield server


@pytest.fixture(autouse=True)
def clean(server):
    yield
    stderr = server.stderr
    for complaint in "AssertionError", "WSGIWarning", "garbage collected", "Traceback":
        assert complaint not in stderr, stderr


@pytest.fixture
def ask(server):
    """ask(method, path, body) on one connection that must stay open."""
    connection = http.client.HTTPConnection(*server.address, timeout=10)
    connection.connect()
    socket = connection.sock

    def ask(method, path, body=None, **kwargs):
        connection.request(method, path, body, **kwargs)
        response = connection.getresponse()
        response.data = response.read()
        assert connection.sock is socket, "the server closed the connection"
        return response

    yield ask
    connection.close()


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/list", 200, b"one two three"),
        ("/late", 201, b"late but whole"),
        ("/write", 200, b"written before returned"),
        ("/instead", 503, b"rather this"),
        ("/empty", 204, b""),
        ("/none", 404, b"nothing here"),
    ],
)
def test_get_and_head(ask, path, status, body):
    got = ask("GET", path + "?query=1")
    assert (got.status, got.data) == (status, body)
    head = ask("HEAD", path)
    assert (head.status, head.data) == (status, b"")
    assert (head.headers["X-Late"], head.headers["X-Withdrawn"]) == (got.headers["X-Late"], None)


def test_late_headers_arrive(ask):
    assert ask("GET", "/late").headers["X-Late"] == "yes"


@pytest.mark.parametrize("size", [0, 1, 999, 5000, 2_000_000])
def test_post(ask, blob, size):
    response = ask("POST", "/read", blob.data[:size])
    assert response.status == 200
    assert response.data == blob.data[:size]


@pytest.mark.parametrize("size", [0, 5000, 2_000_000])
def test_chunked_post(ask, blob, size):
    pieces = (blob.data[at : min(at + 4321, size)] for at in range(0, size, 4321))
    response = ask("POST", "/read", pieces, encode_chunked=True)
    assert response.status == 200
    assert response.data == blob.data[:size]


def test_lines(ask):
    response = ask("POST", "/lines", b"first\nsecond\nthird\n\nlast without end")
    assert response.data == b"first\n|seco|nd\n|third\n|\n|last without end"


@pytest.mark.parametrize("body", [b"", b"\n", b"no end", b"first\nsec"])
def test_short_lines(ask, body):
    assert ask("POST", "/lines", body).data.replace(b"|", b"") == body


def test_file_wrapper(ask, blob):
    response = ask("GET", "/file")
    assert response.status == 200
    assert hashlib.sha256(response.data).hexdigest() == blob.sha256


def test_file_wrapper_head(ask):
    assert ask("HEAD", "/file").status == 200


def test_wsgi_errors_is_the_error_log(server, ask):
    ask("GET", "/none")
    server.wait_stderr("a word in the error log")


def test_other_methods(ask):
    for method in "PUT", "PATCH", "DELETE", "OPTIONS":
        assert ask(method, "/read", b"body").data == b"body"
