"""Keep or close over a socket: the rows of the core's table (tests/core/test_keepalive.py) that the
kernel has a part in."""

import pytest
from tools import content, get, post

N = 300_000
# version, Connection options → may it be kept?
CLIENTS = {
    ("1.1",): True,
    ("1.1", "close"): False,
    ("1.1", "x, Close"): False,
    ("1.0",): False,
    ("1.0", "keep-alive"): True,
    ("1.0", "close, keep-alive"): False,
}
# target → the framing on 1.1 and on 1.0, does the end come whole, can it be kept?
ANSWERS = {
    f"/sized?n={N}": (N, N, True, True),
    f"/whole?n={N}": (N, N, True, True),
    f"/streamed?n={N}": ("chunked", "close", True, True),
    f"/written?n={N}": ("chunked", "close", True, True),
    f"/last?n={N}": (N, N, True, False),
    "/sized?n=0": (0, 0, True, True),
    "/streamed?n=0": (0, 0, True, True),
    "/fails": (26, 26, True, True),
    "/breaks": ("chunked", "close", False, False),
    "/breaks?length=100": (100, 100, False, False),
    "/hints?status=204+No+Content": (None, None, True, True),
    "/hints?status=304+Not+Modified": (None, None, True, True),
    "/nowhere": (12, 12, True, True),
}


@pytest.mark.parametrize("target", ANSWERS)
@pytest.mark.parametrize("client, body", [
    (client, body) for client in CLIENTS for body in ("none", "length", "chunked")
    if client[0] == "1.1" or body != "chunked"])        # 1.0 knows no chunks
def test_the_table(server, client, target, body):
    version, *options = client
    on_11, on_10, whole, kept = ANSWERS[target]
    framing = on_11 if version == "1.1" else on_10
    kept = kept and CLIENTS[client] and framing != "close"
    fields = [f"Connection: {o}" for o in options]
    if body == "none":
        raw = get(target, *fields, version=version)
    elif body == "length":
        raw = post(target, b"GET /leaves", "Content-Length: 11", *fields)
    else:
        raw = post(target, b"b\r\nGET /leaves\r\n0\r\n\r\n", "Transfer-Encoding: chunked", *fields)
    raw = raw.replace(b"HTTP/1.1", f"HTTP/{version}".encode(), 1)
    with server.connect() as connection:
        connection.send(raw + get("/"))
        if not whole and framing == "close":
            with pytest.raises(ConnectionResetError):
                while connection.recv_more():
                    pass
            return
        answer = connection.read_response()
        lengths = [int(v) for v in answer.all("content-length")]
        assert lengths == ([framing] if isinstance(framing, int) else [])
        assert answer.all("transfer-encoding") == (["chunked"] if framing == "chunked" else [])
        assert answer.complete is whole
        if "n=" in target:
            assert answer.body == content(int(target.partition("n=")[2]))
        if kept:
            assert connection.read_response().body == b"hello"
            assert connection.get("/").body == b"hello"
        else:
            assert connection.at_eof()
