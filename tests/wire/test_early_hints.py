"""103 Early Hints over a socket: they are there while the handler is still at work."""

import os

import pytest
from tools import curl, get, post

LINKS = [("Link", "</style.css>; rel=preload"), ("Link", "</b>")]


def test_hints_come_before_the_handler_has_ended(server, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with server.connect() as client:
        client.send(get(f"/hints?fifo={fifo}"))
        assert client.read_head()[1:] == (103, "Early Hints", LINKS)
        assert client.buffer == b""         # the handler waits for the FIFO
        fifo.write_bytes(b"go on")
        answer = client.read_response()
        assert (answer.status, answer.body) == (200, b"after the hints")
        assert answer.all("link") == []
        assert client.get("/").body == b"hello"


@pytest.mark.parametrize("method, status", [
    ("GET", "200 OK"), ("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")])
def test_in_front_of_any_answer(server, method, status):
    with server.connect() as client:
        client.send(get(f"/hints?status={status.replace(' ', '+')}", method=method) + get("/"))
        answer = client.read_response(method)
        assert f"{answer.status} {answer.reason}" == status
        assert client.interim == [(103, LINKS)]
        assert client.read_response().body == b"hello"


def test_not_for_1_0(server):
    with server.connect() as client:
        client.send(get("/hints", version="1.0"))
        assert client.read_response().body == b"after the hints"
        assert client.interim == []


def test_pipelined(server):
    with server.connect() as client:
        client.send(get("/hints") * 3 + post("/hints", b"body") + get("/"))
        for _ in range(4):
            assert client.read_response().body == b"after the hints"
        assert client.interim == [(103, LINKS)] * 4
        assert client.read_response().body == b"hello"


def test_curl(server):
    """A client that knows them."""
    seen = curl("-i", "--http1.1", f"{server.url}/hints", f"{server.url}/hints")
    heads = seen.split(b"\r\n\r\n")
    assert [head.rsplit(b"HTTP/1.1 ", 1)[1][:3] for head in heads[:-1]] == [
        b"103", b"200", b"103", b"200"]
    assert seen.count(b"after the hints") == 2


@pytest.mark.parametrize("leave", ["before the answer", "before the hints"])
def test_client_leaves(server, tmp_path, leave):
    """Nothing is left of it (the fixture looks)."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    client = server.connect()
    client.send(get(f"/hints?fifo={fifo}"))
    if leave == "before the answer":
        client.read_head()
    client.close()
    fifo.write_bytes(b"go on")
    assert server.get("/").body == b"hello"
