"""Request bodies over a socket: large, spooled, refused, broken off."""

import contextlib
import hashlib
import json
import os
import threading

import pytest
from harness import PATIENCE
from tools import MIB, content, get, post, status_kib, worker_of

FLAGS = ["--body-memory=2MiB", "--max-body=32MiB"]


def checksum(data):
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 2 * MIB, 2 * MIB + 1, 5_000_000])
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_upload(server, size, coding):
    body = content(size)
    if coding == "length":
        raw = post("/upload", body)
    else:
        chunks = [body[i:i + 10_000] for i in range(0, size, 10_000)]
        raw = post("/upload", b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks)
                   + b"0\r\n\r\n", "Transfer-Encoding: chunked")
    with server.connect() as client:
        for _ in range(2):
            assert json.loads(client.request(raw).body) == {
                "length": size, "sha256": checksum(body), "declared": str(size),
                "file": size > 2 * MIB}


def test_large_upload_lies_in_a_file_and_not_in_memory(server):
    body = os.urandom(MIB) * 30
    pid = worker_of(server)
    before = status_kib(pid, "VmRSS")
    with server.connect() as client:
        client.send(post("/upload", body[:-1], f"Content-Length: {len(body)}"))
        assert server.get("/").body == b"hello"  # all that came has been dealt with by then
        during = status_kib(pid, "VmRSS")
        client.send(body[-1:])
        answer = json.loads(client.read_response().body)
        assert answer["sha256"] == checksum(body)
        assert answer["file"] is True
    assert during - before < 8 * 1024


def test_slow_upload_holds_up_nobody(server):
    body = content(300_000)
    raw = post("/upload", body)
    with server.connect() as slow:
        for at in range(0, len(raw), 30_000):
            slow.send(raw[at:at + 30_000])
            assert server.get("/").body == b"hello"
        assert json.loads(slow.read_response().body)["sha256"] == checksum(body)


def test_body_left_unread_by_the_application(server):
    with server.connect() as client:
        for size in (10, 200_000, 3_000_000):
            client.send(post("/ignore", get("/smuggled") * (size // 40)) + get("/"))
            assert client.read_response().body == b"ignored"
            assert client.read_response().body == b"hello"


def test_expectation_is_met_before_the_body_is_sent(server):
    with server.connect() as client:
        client.send(post("/upload", b"", "Content-Length: 100000", "Expect: 100-continue"))
        assert client.read_line() == b"HTTP/1.1 100 Continue"
        assert client.read_line() == b""
        client.send(content(100_000))
        assert json.loads(client.read_response().body)["sha256"] == checksum(content(100_000))


def test_expectation_of_too_much_is_refused_before_the_body_is_sent(server):
    with server.connect() as client:
        client.send(post("/upload", b"", f"Content-Length: {33 * MIB}", "Expect: 100-continue"))
        assert client.read_response().status == 413
        assert client.interim == []


def test_answer_to_too_much_survives_the_input_nobody_reads(server):
    """RFC 9112, 9.6: no reset while the client may still have to read the answer."""
    with server.connect() as client:
        client.send(post("/upload", content(6 * MIB), f"Content-Length: {33 * MIB}"))
        answer = client.read_response()
        assert answer.status == 413
        assert answer.complete
        assert client.at_eof()


def test_answer_to_too_many_chunks_survives_the_input_nobody_reads(server):
    piece = b"100000\r\n" + content(MIB) + b"\r\n"
    with server.connect() as client:
        sender = threading.Thread(target=send_quietly, daemon=True, args=[
            client, post("/upload", b"", "Transfer-Encoding: chunked") + piece * 36])
        sender.start()
        assert client.read_response().status == 413
        assert client.at_eof()
    sender.join(PATIENCE)
    assert not sender.is_alive()


def send_quietly(client, data):
    with contextlib.suppress(OSError):  # refused in the meantime
        client.send(data)


def test_many_uploads_at_once(server):
    """Their memory and their files do not mix."""
    clients = [server.connect() for _ in range(20)]
    bodies = [os.urandom((100_000, 2 * MIB)[n % 2] + n) for n in range(20)]
    raws = [post("/upload", body) for body in bodies]
    for at in range(0, 100_000, 20_000):
        for client, raw in zip(clients, raws, strict=True):
            client.send(raw[at:at + 20_000])
    for client, raw in zip(clients, raws, strict=True):
        client.send(raw[100_000:])
    for client, body in zip(clients, bodies, strict=True):
        assert json.loads(client.read_response().body)["sha256"] == checksum(body)
        client.close()
