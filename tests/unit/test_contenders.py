"""What the contenders of the benchmarks serve, how they are asked and how they are started."""

import contextlib
import importlib
import io
import json
import socket
import subprocess
import sys
import threading
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest
from harness import PATIENCE, ROOT

BENCH = ROOT / "bench"


@pytest.fixture(scope="module")
def bench():
    """Imports a module of bench/."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCH)
        yield importlib.import_module


@pytest.fixture
def plain(bench):
    return bench("sites.plain")


def call(app, body=b"", **more):
    """(status, header fields, body) of an answer that keeps to PEP 3333."""
    environ = {"QUERY_STRING": "", "wsgi.input": io.BytesIO(body), **more}
    setup_testing_defaults(environ)
    if body:
        environ["REQUEST_METHOD"] = "POST"
    began = []
    answer = validator(app)(environ, lambda *head: began.append(head))
    try:
        content = b"".join(answer)
    finally:
        answer.close()
    [(status, fields)] = began
    return status, dict(fields), content


@pytest.mark.parametrize("size", [2, 3, 150, 1024, 65536])
def test_a_body_is_a_list_of_exactly_that_size(plain, size):
    body = plain.body(size)
    assert len(body) == size
    status, fields, answer = call(plain.post, body, CONTENT_LENGTH=str(size))
    assert (status, fields["Content-Length"]) == ("200 OK", str(len(answer)))
    assert json.loads(answer) == {"items": len(json.loads(body))}
    assert size < 200 or len(json.loads(body)) > size / 120  # not white space


def test_generated_has_the_length_that_it_says(plain):
    status, fields, answer = call(plain.generated)
    assert (status, fields["Content-Length"]) == ("200 OK", str(1 << 20))
    assert answer == plain.PIECE * plain.PIECES


@pytest.mark.parametrize("more", [{}, {"wsgi.file_wrapper": FileWrapper}])
def test_the_file_is_sent_whole(plain, monkeypatch, tmp_path, more):
    content = bytes(range(256)) * 1000
    (tmp_path / "file").write_bytes(content)
    monkeypatch.setenv("BENCH_FILE", str(tmp_path / "file"))
    assert call(plain.file, **more) == (
        "200 OK",
        {"Content-Type": "application/octet-stream", "Content-Length": str(len(content))}, content)


@pytest.mark.parametrize("more", [{}, {"CONTENT_LENGTH": "150000"}])
def test_an_upload_is_read_to_its_end(plain, more):
    assert call(plain.upload, b"x" * 150_000, **more)[2] == b"150000"


@pytest.mark.parametrize("app, kind", [
    ("sites.plain:hello", "minimal"), ("sites.plain:post", "post-64k"),
    ("sites.falcon_api:app", "twelve"), ("sites.flask_api:app", "twelve"),
    ("sites.django_api:app", "twelve")])
def test_an_application_is_called_by_itself(app, kind):
    done = subprocess.run([sys.executable, "bench/own.py", app, kind, "0.1"], cwd=ROOT,
                          capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["calls"] > 0 and figures["cpu_us"] > 0


def test_an_application_that_fails_has_no_cost():
    done = subprocess.run([sys.executable, "bench/own.py", "sites.falcon_api:app", "minimal", "1"],
                          cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (1, "")
    assert "404" in done.stderr


@contextlib.contextmanager
def answering(data):
    """The port of a server that sends `data` to the first who connects, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def serve():
            with listener.accept()[0] as sock:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join(PATIENCE)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


@pytest.mark.parametrize("data, body, kept", [
    (HEAD + b"Content-Length: 2\r\n\r\nhi", b"hi", True),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n", b"hi", True),
    (HEAD + b"Connection: close\r\n\r\nhi", b"hi", False),
])
def test_whole_answers_are_taken(bench, data, body, kept):
    contenders = bench("contenders")
    with answering(data) as port, contenders.Connection(port) as connection:
        answer = connection.answer()
        contenders.expect(answer, body)
        assert (answer.fields["content-type"], answer.kept) == ("text/plain", kept)
        assert connection.closed()


@pytest.mark.parametrize("data, why", [
    (b"", "without an answer"),
    (b"hello\r\n", "no status line"),
    (HEAD + b"Content-Length: 3\r\n\r\nhi", "2 of 3 bytes"),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nhi\r\n0\r\n\r\n", "chunk"),
    (HEAD + b"Content-Length: 2\r\n\r\nho", "another body"),
    (b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nhi", "answers 500"),
])
def test_no_other_answer_is(bench, data, why):
    contenders = bench("contenders")
    with answering(data) as port, contenders.Connection(port) as connection, \
            pytest.raises((ValueError, ConnectionError), match=why):
        contenders.expect(connection.answer(), b"hi")


def test_who_has_no_access_log_or_one_process_says_so(bench):
    servers = bench("servers")
    logged = servers.Start(port=1, log="/log")
    two = servers.Start(port=1, workers=2)
    without_log, single = set(), set()
    for name in bench("contenders").NAMES:
        for start, found in ((logged, without_log), (two, single)):
            try:
                command = servers.TABLE[name].command(start)
            except servers.Absent as e:
                if str(e) != "serves files only":
                    found.add(name)
            else:
                assert (start.log or str(start.workers)) in command
    assert without_log == {"bjoern", "fastwsgi", "waitress", "cheroot", "limit"}
    assert single == {"waitress", "cheroot", "gevent-pywsgi", "limit"}
