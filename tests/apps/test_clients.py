"""What HTTP looks like to ordinary clients: http.client, requests and curl."""

import http.client
import json
import socket

import pytest
import requests
from harness import Server


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return tmp_path_factory.mktemp("clients")


@pytest.fixture(scope="module")
def server(paths):
    bind = ("127.0.0.1:0", f"unix:{paths}/http.sock")
    with Server("probe:app", workers=2, bind=bind, env={"PROBE": str(paths)}) as server:
        yield server


def test_http_client_reuses_its_connection(server):
    connection = http.client.HTTPConnection(*server.address, timeout=10)
    seen = set()
    for _ in range(20):
        connection.request("GET", "/")
        response = connection.getresponse()
        answer = json.load(response)
        response.read()
        assert response.headers["Connection"] is None
        seen.add((answer["pid"], answer["port"]))
    assert len(seen) == 1
    connection.close()


def test_requests_reuses_its_connection(server, session):
    ports = {session.get(server.url).json()["port"] for _ in range(20)}
    assert len(ports) == 1


def test_requests_after_an_upload_reuses_its_connection(server, session):
    before = session.get(server.url).json()["port"]
    for size in 1, 100_000, 3_000_000:
        assert session.post(server.url + "/upload", data=b"x" * size).json()["size"] == size
        assert session.post(server.url + "/upload", data=iter([b"x" * size])).json()["size"] == size
    assert session.get(server.url).json()["port"] == before


def test_curl_reuses_its_connection(server, curl):
    done = curl("-w", " %{num_connects}\n", *[server.url] * 3)
    assert [line.split()[-1] for line in done.stdout.splitlines()] == [b"1", b"0", b"0"]


def test_requests_connection_close(server, session):
    ports = set()
    for _ in range(3):
        response = session.get(server.url, headers={"Connection": "close"})
        assert response.headers["Connection"] == "close"
        ports.add(response.json()["port"])
    assert len(ports) == 3


def test_curl_connection_close(server, curl):
    done = curl("-v", "-H", "Connection: close", server.url)
    assert b"< Connection: close" in done.stderr
    assert b"Closing connection 0" in done.stderr
    assert json.loads(done.stdout)["protocol"] == "HTTP/1.1"


def test_curl_http10(server, curl):
    done = curl("-0", "-D", "/dev/stderr", server.url)
    assert json.loads(done.stdout)["protocol"] == "HTTP/1.0"
    head = done.stderr.decode()
    assert "Transfer-Encoding" not in head
    assert head.startswith("HTTP/1.1 200 OK")  # RFC 9110, 6.2: the server's own version


def test_curl_http10_keep_alive(server, curl):
    options = ["-0", "-H", "Connection: keep-alive"]
    done = curl(*options, "-w", " %{num_connects}\n", *[server.url] * 2)
    assert [line.split()[-1] for line in done.stdout.splitlines()] == [b"1", b"0"]


def test_curl_head(server, curl):
    done = curl("-I", server.url)
    assert done.stdout.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: " in done.stdout
    assert done.stdout.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("size", [1, 100_000, 3_000_000])
def test_curl_expect_continue(server, curl, paths, blob, size):
    file = paths / f"body{size}"
    file.write_bytes(blob.data[:size])
    done = curl("-v", "-H", "Expect: 100-continue", "--expect100-timeout", "15",
                "-w", "%{stderr}took %{time_total}\n",
                "--data-binary", f"@{file}", server.url + "/upload")  # fmt: skip
    assert json.loads(done.stdout)["size"] == size
    assert done.stderr.count(b"< HTTP/1.1 100 Continue") == 1
    # It did not come after curl had lost its patience.
    assert float(done.stderr.split(b"took ")[1]) < 14


def test_curl_chunked_from_a_pipe(server, curl, blob):
    data = blob.data[:5_000_000]
    done = curl("-v", "-T", "-", server.url + "/upload", input=data)
    assert b"> Transfer-Encoding: chunked" in done.stderr
    answer = json.loads(done.stdout)
    assert (answer["size"], answer["CONTENT_LENGTH"]) == (len(data), str(len(data)))


@pytest.mark.parametrize("body", [None, "some body"])
def test_curl_http2_gets_its_plain_answer(server, curl, body):
    """`Upgrade: h2c` is an offer that the server may ignore (RFC 9110, 7.8)."""
    options = ["--http2", "-v", "-w", " %{http_version}"]
    if body is not None:
        options += ["--data", body]
    done = curl(*options, server.url + "/upload")
    assert b"> Upgrade: h2c" in done.stderr
    assert b"HTTP/1.1 101" not in done.stderr
    answer, _, version = done.stdout.rpartition(b" ")
    assert version == b"1.1"
    assert json.loads(answer)["size"] == len(body or "")


def test_curl_http2_keeps_the_connection(server, curl):
    done = curl("--http2", "-w", " %{num_connects}\n", *[server.url] * 2)
    assert [line.split()[-1] for line in done.stdout.splitlines()] == [b"1", b"0"]


def test_curl_unix_socket(server, curl, paths):
    done = curl("--unix-socket", f"{paths}/http.sock", "-d", "four", "http://any.name/upload")
    assert json.loads(done.stdout)["size"] == 4


def test_http_client_over_a_unix_socket(server, paths):
    connection = http.client.HTTPConnection("any.name", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(f"{paths}/http.sock")
    for _ in range(3):
        connection.request("POST", "/upload", b"x" * 200_000)
        assert json.load(connection.getresponse())["size"] == 200_000
    connection.close()


def test_head_by_http_client(server):
    connection = http.client.HTTPConnection(*server.address, timeout=10)
    for _ in range(2):
        connection.request("HEAD", "/")
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"")
        assert int(response.headers["Content-Length"]) > 0
    connection.close()


def test_many_clients_at_once(server):
    """More connections than workers, all open, each answered in its turn."""
    sessions = [requests.Session() for _ in range(30)]
    ports = set()
    for _ in range(2):
        for session in sessions:
            session.trust_env = False
            ports.add(session.get(server.url).json()["port"])
    assert len(ports) == 30
    for session in sessions:
        session.close()
