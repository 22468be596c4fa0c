"""The built-in demo: every link on its index page does what the page says."""

import ast
import hashlib
import html
import io
import json
import re
import shlex
from pathlib import Path

import pytest
from harness import PATIENCE, Server

from fastfork import demo

SECRET = "do-not-show-this"


@pytest.fixture(scope="module")
def server():
    with Server("fastfork.demo:app", workers=2, env={"DEMO_SECRET": SECRET}) as server:
        yield server


@pytest.fixture
def url(server):
    return server.url


# -- the index ---------------------------------------------------------------------------------


def test_index_shows_who_answers(server, session):
    response = session.get(server.url + "/")
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    pids = server.ready["workers"]
    assert any(f"pid {pid}" in response.text for pid in pids)
    assert "fastfork 0." in response.text
    assert re.search(r"Python</dt><dd>3\.\d+\.\d+", response.text)


def test_every_link_answers(url, session):
    page = session.get(url + "/").text
    links = [html.unescape(link) for link in re.findall(r'<a href="([^"]*)"', page)]
    assert len(links) == len(demo.ROUTES) - 1
    statuses = {}
    for link in links:
        assert link.startswith(url)
        statuses[link[len(url) :].partition("?")[0]] = session.get(link).status_code
    assert statuses.pop("/error") == 500
    assert set(statuses.values()) == {200}


def test_every_curl_line_works(url, session, curl, tmp_path):
    page = session.get(url + "/").text
    lines = [html.unescape(line) for line in re.findall(r"<code>(curl[^<]*)</code>", page)]
    assert len(lines) == len(demo.ROUTES) - 1
    (tmp_path / "FILE").write_bytes(b"some file")
    for line in lines:
        words = shlex.split(line)
        assert words[-1].startswith(url)
        curl(*words[1:], cwd=tmp_path)


def test_pages_load_nothing_from_elsewhere(url, session):
    for path in "/", "/upload":
        response = session.get(url + path)
        sources = re.findall(r'(?:src|href)="?([^" >]*)', response.text)
        assert sources
        assert all(s.startswith((url, "data:")) for s in map(html.unescape, sources))
        assert "@import" not in response.text and "url(" not in response.text
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        for element in "style", "script":
            text = re.search(f"<{element}>(.*?)</{element}>", response.text, re.S)[1]
            assert demo.source_hash(text) in policy


def test_index_escapes_what_the_client_sends(server):
    with server.connect() as client:
        response = client.request(b"GET / HTTP/1.1\r\nHost: x\"<b>&'\r\n\r\n")
    assert b"<b>" not in response.body


def test_banner_names_links(url, session):
    lines = demo.banner(url + "/").splitlines()
    targets = [re.search(r"http://[^' ]*", line)[0] for line in lines]
    assert len(targets) == 4
    assert targets[0] == url + "/"
    assert all(session.get(target).status_code == 200 for target in targets)


# -- its pages ---------------------------------------------------------------------------------


def test_hello(server, session):
    text = session.get(server.url + "/hello").text
    assert int(re.fullmatch(r"Hello from worker (\d+)\.\n", text)[1]) in server.ready["workers"]


def test_environ(server, session):
    response = session.get(server.url + "/environ?q=<b>&x=%3Ci%3E", headers={"X-Test": "<u>é"})
    assert response.headers["Content-Type"] == "application/json"
    assert not set("<>&").intersection(response.text)
    environ = response.json()
    assert environ["REQUEST_METHOD"] == "GET"
    assert environ["PATH_INFO"] == "/environ"
    assert environ["HTTP_X_TEST"] == "<u>é"
    assert environ["wsgi.version"] == [1, 0]
    assert environ["wsgi.multiprocess"] is True
    assert environ["wsgi.input_terminated"] is True
    assert environ["SERVER_SOFTWARE"].startswith("fastfork/")
    assert environ["SERVER_PORT"] == str(server.port)


def test_environ_shows_no_variable_of_the_process(url, session):
    text = session.get(url + "/environ").text
    assert SECRET not in text
    assert "DEMO_SECRET" not in text and '"PATH"' not in text


def test_environ_leaves_out_what_another_server_mixes_in(monkeypatch):
    monkeypatch.setenv("DEMO_SECRET", SECRET)
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/environ", "DEMO_SECRET": SECRET}
    assert json.loads(b"".join(demo.app(environ, lambda status, headers: None))) == {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/environ",
    }


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_upload(url, session, blob, method):
    with open(blob.path, "rb") as file:
        answer = session.request(method, url + "/upload", data=file).json()
    assert (answer["size"], answer["sha256"]) == (len(blob.data), blob.sha256)


def test_chunked_upload(url, session, blob):
    pieces = (blob.data[at : at + 65_000] for at in range(0, 1_300_000, 65_000))
    answer = session.put(url + "/upload", data=pieces).json()
    data = blob.data[:1_300_000]
    assert (answer["size"], answer["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


def test_upload_form(url, session, blob):
    assert "<form" in session.get(url + "/upload").text
    files = {"file": ("blob.bin", blob.data), "other": ("empty.txt", b"")}
    answer = session.post(url + "/upload", files=files).json()
    assert answer["parts"] == [
        {"name": "file", "filename": "blob.bin", "size": len(blob.data), "sha256": blob.sha256},
        {
            "name": "other",
            "filename": "empty.txt",
            "size": 0,
            "sha256": hashlib.sha256(b"").hexdigest(),
        },
    ]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 50, 1000])
def test_form_parts_wherever_the_blocks_end(step):
    body = (
        b'preamble\r\n--B\r\nContent-Disposition: form-data; name="a"\r\n\r\none\r\n--X\r\n'
        b'\r\n--B\r\n\r\n\r\n--B--\r\nepilogue'
    )
    blocks = iter([body[at : at + step] for at in range(0, len(body), step)])
    parts = list(demo.form_parts(blocks, b"B"))
    assert [(part.get("name"), part["size"]) for part in parts] == [("a", 10), (None, 0)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no delimiter at all",
        b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\nhalf',
        b"--B\r\nX: " + b"x" * 20_000 + b"\r\n\r\n\r\n--B--\r\n",
        b"--B\r\n\r\n\r\n" * 101 + b"--B--\r\n",
    ],
)
def test_broken_form(url, session, body):
    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    response = session.post(url + "/upload", data=body, headers=headers)
    assert response.status_code == 400
    assert response.text.count("\n") == 1


def test_download(url, session):
    response = session.get(url + "/download?mb=20")
    assert response.headers["Transfer-Encoding"] == "chunked"
    assert response.headers["Content-Disposition"].startswith("attachment")
    assert response.content == demo.NOISE * (20 * 1024 * 1024 // len(demo.NOISE))


def test_file(url, session):
    response = session.get(url + "/file")
    assert response.content == Path(demo.__file__).read_bytes()
    assert response.headers["Content-Length"] == str(len(response.content))
    ast.parse(response.content)
    since = {"If-Modified-Since": response.headers["Last-Modified"]}
    again = session.get(url + "/file", headers=since)
    assert (again.status_code, again.content) == (304, b"")
    head = session.head(url + "/file")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == response.headers["Content-Length"]


def test_file_goes_through_the_file_wrapper():
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/file"}
    environ["wsgi.file_wrapper"] = lambda file, size: ("wrapped", file)
    word, file = demo.app(environ, lambda status, headers: None)
    with file:
        assert word == "wrapped"
        assert isinstance(file, io.BufferedReader)


def test_slow(url, session):
    assert "has slept for 0.25 s" in session.get(url + "/slow?seconds=0.25").text


def test_error(server, session):
    response = session.get(server.url + "/error")
    assert response.status_code == 500
    assert "Traceback" not in response.text and "RuntimeError" not in response.text
    assert "demo's error" not in response.text
    server.wait_stderr("RuntimeError: the demo's error")
    assert "Traceback (most recent call last)" in server.stderr
    assert session.get(server.url + "/hello").status_code == 200


@pytest.mark.parametrize(
    "target",
    ["/download?mb=0", "/download?mb=1025", "/download?mb=many", "/download?mb=",
     "/slow?seconds=31", "/slow?seconds=-1", "/slow?seconds=nan", "/slow?seconds=inf",
     "/slow?seconds="],
)  # fmt: skip
def test_out_of_bounds(url, session, target):
    response = session.get(url + target, timeout=PATIENCE)
    assert response.status_code == 400
    assert "must be a number from" in response.text


@pytest.mark.parametrize("path", ["/nothing", "/hello/", "/../etc/passwd", "//", "/%00", "/<b>"])
def test_not_found(url, session, path):
    browser = {"Accept": "text/html"}
    assert session.get(url + path).status_code == 404
    page = session.get(url + path, headers=browser)
    assert page.status_code == 404
    assert page.headers["Content-Type"].startswith("text/html")
    assert "<b>" not in page.text


@pytest.mark.parametrize("method", ["POST", "DELETE", "PATCH"])
def test_method_not_allowed(url, session, method):
    response = session.request(method, url + "/hello", data=b"body")
    assert response.status_code == 405
    assert response.headers["Allow"] == "GET, HEAD"


def test_head_of_every_page(url, session):
    for route in demo.ROUTES[:-1]:
        query = "?seconds=0" if route.path == "/slow" else route.query
        response = session.head(url + route.path + query)
        assert (response.status_code, response.content) == (200, b""), route.path
