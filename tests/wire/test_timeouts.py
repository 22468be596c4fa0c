"""Each timeout, alone: the others of that server never come."""

import json
import os
import select

import pytest
from harness import wait_for
from tools import (
    NEVER,
    PATIENT,
    SHORT,
    Settled,
    client_is_open,
    content,
    descriptors,
    get,
    only,
    post,
    quiet_for,
    slow_client,
    start,
    wake,
    worker_of,
)


def assert_408_or_silence(raw):
    assert raw == b"" or raw.startswith(b"HTTP/1.1 408 "), raw


def test_only_one_of_them_is_short():
    assert all(f.endswith(NEVER) for f in PATIENT)
    assert sum(f.endswith(SHORT) for f in only("head")) == 1
    assert sum(f.endswith(SHORT) for f in only("keep")) == 1


def test_client_that_only_connects(servers):
    """Browsers connect ahead: no answer, the connection goes."""
    with servers("head").connect() as client:
        assert client.at_eof()


@pytest.mark.parametrize("raw", [b"G", b"GET / HTTP/1.1\r\nHost: x\r\n", b"\r\n"])
def test_head_that_does_not_end(servers, raw):
    with Settled(servers("head")), servers("head").connect() as client:
        client.send(raw)
        assert_408_or_silence(client.read_all())


def test_second_head_that_does_not_end(servers):
    """The head's time counts from its first byte, not from the connection's."""
    with servers("head").connect() as client:
        assert client.get("/").body == b"hello"
        client.send(b"GET / HTTP/1.1\r\n")
        assert_408_or_silence(client.read_all())


def test_resting_connection_is_not_under_the_head_timeout(servers):
    """keep_alive rules between requests."""
    with servers("head").connect() as client:
        assert client.get("/").body == b"hello"
        assert quiet_for(client, 0.8)
        assert client.get("/").body == b"hello"


def test_body_is_not_under_the_head_timeout(servers):
    with servers("head").connect() as client:
        client.send(post("/upload", b"12345678")[:-4])
        assert quiet_for(client, 0.8)
        client.send(b"5678")
        assert json.loads(client.read_response().body)["length"] == 8


def test_connection_that_rests_too_long(servers):
    """Closed in silence: a client may be about to send its next request."""
    with Settled(servers("keep")), servers("keep").connect() as client:
        assert client.get("/").body == b"hello"
        assert client.read_all() == b""


def test_each_request_renews_the_rest(servers):
    with servers("keep").connect() as client:
        for _ in range(8):
            assert client.get("/").body == b"hello"
            assert quiet_for(client, 0.1)
        assert client.get("/").body == b"hello"


@pytest.mark.parametrize("raw", [
    post("/upload", b"12345678")[:-4],
    post("/upload", b"12345678")[:-8],
    post("/upload", b"5\r\nab", "Transfer-Encoding: chunked"),
    post("/upload", b"5\r\nabcde\r\n0\r\n", "Transfer-Encoding: chunked"),
    post("/upload", content(1_500_000))[:-1],
])
def test_body_that_stops(servers, raw):
    with Settled(servers("body")), servers("body").connect() as client:
        client.send(raw)
        answer = client.read_response()
        assert answer.status == 408
        assert answer.header("connection") == "close"
        assert client.at_eof()


def test_body_that_drips_is_read(servers):
    """Only a body of which nothing comes for so long is given up, if any pace is allowed."""
    with servers("body", "--body-min-rate=0").connect() as client:
        raw = post("/upload", b"12345678")
        client.send(raw[:-8])
        for byte in b"1234567":
            client.send(bytes([byte]))
            assert quiet_for(client, 0.1)
        client.send(b"8")
        assert json.loads(client.read_response().body)["length"] == 8


def test_body_is_judged_by_all_that_came(servers):
    """--body-min-rate is that of the whole body: a client that was fast may become slow."""
    with servers("body").connect() as client:
        raw = post("/upload", b"x" * 100_000)
        client.send(raw[:-8])
        for byte in raw[-8:-1]:
            assert quiet_for(client, 0.1)
            client.send(bytes([byte]))
        assert quiet_for(client, 0.1)
        client.send(raw[-1:])
        assert json.loads(client.read_response().body)["length"] == 100_000


def test_body_is_not_called_slow_where_the_worker_was(begin, tmp_path):
    """What came while a handler kept the loop is read before its pace is judged."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    server = begin("--body-timeout=300ms", "--body-min-rate=10k", "--read-ahead=1k")
    with server.connect() as other, server.connect() as client:
        client.send(post("/upload", b"", "Content-Length: 50000", "Expect: 100-continue"))
        assert client.read_head()[1] == 100     # from now on it is waited for
        client.send(content(1))
        other.send(get(f"/gate?fifo={fifo}"))
        other.read_head()
        client.send(content(50_000)[1:])
        assert quiet_for(other, 1.0)    # until the body is long overdue
        fifo.write_bytes(b"done")
        assert json.loads(client.read_response().body)["length"] == 50_000


def test_body_after_continue_that_never_comes(servers):
    with servers("body").connect() as client:
        client.send(post("/upload", b"", "Content-Length: 5", "Expect: 100-continue"))
        assert client.read_response().status == 408
        assert [status for status, _ in client.interim] == [100]
        assert client.at_eof()


@pytest.mark.parametrize("target", ["/whole?n=20000000", "/streamed?n=20000000"])
def test_client_that_takes_nothing(servers, target):
    """Dropped, and everything of it is freed."""
    server = servers("write")
    with Settled(server):
        client = slow_client(server)
        client.send(get(target))
        client.read_head()
        pid = worker_of(server)
        wait_for(lambda: not client_is_open(server, client),
                 message=lambda: f"{descriptors(pid)} descriptors")
        assert len(client.read_all()) < 20_000_000
        client.close()


def test_file_that_nobody_takes(servers, tmp_path):
    path = tmp_path / "content"
    path.write_bytes(content(20_000_000))
    server = servers("write")
    with Settled(server):
        client = slow_client(server)
        client.send(get(f"/file?path={path}"))
        client.read_head()
        wait_for(lambda: not client_is_open(server, client))
        client.close()


def test_handler_that_waits_for_a_client_that_takes_nothing():
    """Past --output-spool the handler waits; the write timeout frees it."""
    with start(*only("write"), "--output-memory=16KiB", "--output-spool=64KiB") as server, \
            Settled(server):
        client = slow_client(server)
        client.send(get("/endless"))
        client.read_head()
        server.wait_stderr("closed /endless")
        client.close()


def test_client_that_takes_little_but_steadily_is_served(servers):
    server = servers("write")
    client = slow_client(server)
    client.send(get("/whole?n=9000000"))
    _, _, _, headers = client.read_head()
    assert ("Content-Length", "9000000") in headers
    got = b""
    for _ in range(8):
        select.select([], [], [], 0.1)
        got += client.read_exactly(300_000)
    wake(client)
    got += client.read_exactly(9_000_000 - len(got))
    assert got == content(9_000_000)
    client.close()
