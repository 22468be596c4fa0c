"""Connections: reuse, order, refusal, crowds, and clients that leave."""

import contextlib
import json
import os
import resource
import socket
import threading

import pytest
from harness import PATIENCE, Client, wait_for
from tools import (
    PATIENT,
    Settled,
    content,
    descriptors,
    get,
    post,
    slow_client,
    start,
    vanish,
    wake,
    worker_of,
)


def test_a_connection_is_used_again(server):
    with server.connect() as client:
        ports = {json.loads(client.get("/environ").body)["REMOTE_PORT"] for _ in range(100)}
        assert ports == {str(client.sock.getsockname()[1])}


def test_peer_and_server_address(server):
    with server.connect() as client:
        environ = json.loads(client.request(get("/environ", version="1.0")).body)
        assert environ["REMOTE_ADDR"] == "127.0.0.1"
        assert environ["REMOTE_PORT"] == str(client.sock.getsockname()[1])
        assert environ["SERVER_NAME"] in ("127.0.0.1", "localhost")
        assert environ["SERVER_PORT"] == str(server.port)


def test_pipelined_requests_are_answered_in_order(server):
    with server.connect() as client:
        client.send(b"".join(
            get("/") if n % 2 else post("/upload", b"x" * n) for n in range(200)))
        for n in range(200):
            answer = client.read_response()
            if n % 2:
                assert answer.body == b"hello"
            else:
                assert json.loads(answer.body)["length"] == n


def test_endless_pipeline_of_a_client_that_reads_late(server):
    """Trap 1: the queue is bounded; nothing is lost, whoever is faster."""
    count = 3000
    with server.connect() as client:
        sender = threading.Thread(
            target=client.send, args=[get("/whole?n=3000") * count], daemon=True)
        sender.start()
        with server.connect() as other:  # served meanwhile
            assert other.get("/").body == b"hello"
        expected = content(3000)
        for _ in range(count):
            assert client.read_response().body == expected
        sender.join(PATIENCE)
        assert not sender.is_alive()


def test_answer_survives_what_comes_after_the_last_request(server):
    """RFC 9112, 9.6: a close must not reset what the client has not read yet."""
    with server.connect() as client:
        client.send(get("/whole?n=3000000", "Connection: close") + get("/") * 20_000)
        answer = client.read_response()
        assert answer.complete
        assert answer.body == content(3_000_000)
        assert client.at_eof()


@pytest.mark.parametrize("size", [100_000, 500_000, 3_000_000])
def test_answer_survives_requests_behind_a_close_the_client_could_not_foresee(server, size):
    """RFC 9112, 9.6: it is the server that closes, so it has to read on for a while."""
    client = slow_client(server)
    client.send(get(f"/last?n={size}"))
    client.read_head()
    client.send(get("/") * 100)
    assert server.get("/").body == b"hello"
    wake(client)
    assert client.read_exactly(size) == content(size)
    assert client.at_eof()
    client.close()


def test_head_byte_by_byte(server):
    with server.connect() as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in get("/", "X-Field: value"):
            client.send(bytes([byte]))
        assert client.read_response().body == b"hello"


@pytest.mark.parametrize("raw", [get("/"), get("/") * 3, post("/upload", b"body"),
                                 get("/whole?n=3000000")])
def test_client_that_closes_its_sending_side_is_answered(server, raw):
    """A half-closed connection still reads."""
    with server.connect() as client:
        client.send(raw)
        client.sock.shutdown(socket.SHUT_WR)
        for _ in range(raw.count(b" HTTP/1.1\r\n")):
            answer = client.read_response()
            assert (answer.status, answer.complete) == (200, True)
        assert client.at_eof()


@pytest.mark.parametrize("raw, statuses", [
    (b"GET / HTTP/1.1\nHost: x\n\n", {400}),
    (b"GET /\r\n", {400}),
    (b"\0", {400}),
    (b"GET / HTTP/1.1\rHost: x\r\r", {400}),
    (b"GET / HTTP/1.1\r\n\r\n", {400}),
    (b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", {505}),
    (b"FROB / HTTP/1.1\r\nHost: x\r\n\r\n", {501}),
    (b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n", {501}),
    (b"GET /" + b"a" * 20_000, {414}),
    (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 70_000, {431}),
    (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\n", {413}),
    (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", {400}),
])
def test_bad_input_is_refused_at_once_and_not_at_a_timeout(server, raw, statuses):
    """Every timeout of this server is an hour."""
    with server.connect() as client:
        client.send(raw)
        answer = client.read_response()
        assert answer.status in statuses
        assert answer.header("connection") == "close"
        assert client.at_eof()


def test_errors_leave_the_worker_alive(server):
    before = server.get("/pid").body
    for path in ("/fails", "/leaves", "/breaks", "/nowhere") * 5:
        assert server.get(path).status in (200, 404, 500)
    assert server.get("/pid").body == before


def test_ipv6(begin):
    server = begin(bind=["[::1]:0"])
    (url,) = server.ready["listen"]
    assert url.startswith("http://[::1]:")
    with server.connect() as client:
        environ = json.loads(client.get("/environ").body)
        assert environ["REMOTE_ADDR"] == "::1"
        assert environ["REMOTE_PORT"] == str(client.sock.getsockname()[1])
        assert environ["SERVER_NAME"] == "::1"
        assert environ["SERVER_PORT"] == str(server.port)


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_unix_socket(begin, tmp_path, kind):
    address = str(tmp_path / "socket") if kind == "path" else f"\0fastfork-test-{os.getpid()}"
    begin(bind=["unix:" + address.replace("\0", "@")])
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(address)
        client = Client(sock)
        environ = json.loads(client.request(get("/environ", version="1.0")).body)
        assert environ["SERVER_NAME"]
        assert isinstance(environ["SERVER_PORT"], str)
        assert isinstance(environ["REMOTE_ADDR"], str)
        assert environ["HTTP_HOST"] == "test"


def test_unix_socket_carries_large_bodies_and_files(begin, tmp_path):
    path = tmp_path / "content"
    path.write_bytes(content(3_000_000))
    begin(bind=[f"unix:{tmp_path}/socket"])
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(f"{tmp_path}/socket")
        client = Client(sock)
        assert json.loads(client.request(post("/upload", content(2_000_000))).body)[
            "length"] == 2_000_000
        assert client.request(get(f"/file?path={path}")).body == content(3_000_000)
        assert client.request(get("/streamed?n=3000000")).body == content(3_000_000)


def test_several_binds(begin, tmp_path):
    server = begin(bind=["127.0.0.1:0", "127.0.0.1:0", f"unix:{tmp_path}/socket"])
    assert len(server.ready["listen"]) == 3
    for url in server.ready["listen"]:
        if url.startswith("unix:"):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(url.removeprefix("unix:"))
        else:
            host, _, port = url.removeprefix("http://").rpartition(":")
            sock = socket.create_connection((host, int(port)))
        with Client(sock) as client:
            sock.settimeout(PATIENCE)
            environ = json.loads(client.get("/environ").body)
            assert url.startswith("unix:") or environ["SERVER_PORT"] == url.rpartition(":")[2]


# -- crowds ---------------------------------------------------------------------------------

def test_more_connections_than_allowed(begin):
    """Those beyond --max-connections wait in the backlog until one leaves."""
    server = begin("--max-connections=5", *PATIENT)
    clients = [server.connect() for _ in range(12)]
    for client in clients:
        client.send(get("/"))
    for client in clients:
        assert client.read_response().body == b"hello"
        client.close()
    assert server.get("/").body == b"hello"


def test_no_descriptors_left():
    """EMFILE: accepting pauses, those who wait are answered when descriptors come back."""
    with start(*PATIENT) as server, Settled(server) as settled:
        pid = settled.pid
        hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
        free_from = max(int(name) for name in os.listdir(f"/proc/{pid}/fd")) + 1
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (free_from + 10, hard))
        clients = [server.connect() for _ in range(40)]
        for client in clients:
            client.send(get("/"))
        for client in clients:
            assert client.read_response().body == b"hello"
            client.close()
        # It says so, but not a thousand times.
        assert 0 < server.stderr.lower().count("descriptor") < 40 or (
            0 < server.stderr.lower().count("open files") < 40), server.stderr
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))


def test_no_descriptor_for_a_large_body():
    """A body that cannot be spooled is the server's error, not the worker's end."""
    with start("--body-memory=1KiB", *PATIENT) as server, Settled(server) as settled:
        pid = settled.pid
        hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
        with server.connect() as client:
            assert client.get("/").body == b"hello"
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
            client.send(post("/upload", b"x" * 20_000))
            answer = client.read_response()
            assert answer.status in (500, 503, 507)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))


def test_no_descriptor_for_a_large_answer():
    """An answer that cannot be spooled: the handler waits, or it breaks; nobody dies of it."""
    with start("--output-memory=16KiB", *PATIENT) as server, Settled(server) as settled:
        pid = settled.pid
        hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
        client = slow_client(server)
        with server.connect() as other:
            assert other.get("/").body == b"hello"
            client.send(get("/"))
            assert client.read_response().body == b"hello"
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
            client.send(get("/sized?n=12000000"))
            client.read_head()
            wake(client)
            with contextlib.suppress(EOFError, ConnectionResetError):
                assert client.read_exactly(12_000_000) == content(12_000_000)
            client.close()
            assert other.get("/").body == b"hello"
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))


# -- clients that leave ---------------------------------------------------------------------

STAGES = {
    "after nothing": b"",
    "in the request line": b"GET / HT",
    "in the head": b"GET / HTTP/1.1\r\nHost: x\r\n",
    "in a body": post("/upload", b"x" * 1000)[:-500],
    "in a large body": post("/upload", content(3_000_000))[:-1000],
    "in a spooled body": post("/upload", content(3_000_000), "Content-Length: 30000000"),
    "in a chunked body": post("/upload", b"5\r\nab", "Transfer-Encoding: chunked"),
    "in front of a body it was asked for":
        post("/upload", b"", "Content-Length: 5", "Expect: 100-continue"),
    "before a small answer": get("/"),
    "before a large answer": get("/whole?n=5000000"),
    "before a large stream": get("/streamed?n=5000000"),
    "before many answers": get("/whole?n=100000") * 100,
    "before an error": get("/fails"),
    "before a break": get("/breaks"),
    "after a refusal": b"\0",
    "in an upload that is refused": get("/", "Content-Length: 9999999999999") + b"x" * 100_000,
}


@pytest.mark.parametrize("raw", STAGES.values(), ids=STAGES)
@pytest.mark.parametrize("leave", [vanish, Client.close], ids=["reset", "close"])
def test_client_leaves(server, raw, leave):
    """At any point: nothing is left (the fixture looks), the worker serves on."""
    for _ in range(3):
        client = slow_client(server)
        client.sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            client.send(raw)
        leave(client)
    assert server.get("/").body == b"hello"


@pytest.mark.parametrize("target", ["/sized?n=20000000", "/streamed?n=20000000",
                                    "/written?n=20000000"])
@pytest.mark.parametrize("leave", [vanish, Client.close], ids=["reset", "close"])
def test_client_leaves_in_mid_answer(server, target, leave):
    """close() of the iterable is called all the same, and it is no error of anyone's."""
    told = server.stderr.count("closed /")
    errors = server.stderr.count("ERROR")
    client = slow_client(server)
    client.send(get(target))
    client.read_head()
    leave(client)
    wait_for(lambda: server.stderr.count("closed /") == told + 1)
    assert server.get("/").body == b"hello"
    assert server.stderr.count("ERROR") == errors


@pytest.mark.parametrize("leave", [vanish, Client.close], ids=["reset", "close"])
def test_endless_answer_ends_with_its_client(leave):
    """A generator without an end is closed when nobody reads any more."""
    with start("--output-spool=2MiB", *PATIENT) as server, Settled(server):
        client = slow_client(server)
        client.send(get("/endless"))
        client.read_head()
        client.read_exactly(100_000)
        assert "closed /endless" not in server.stderr
        leave(client)
        server.wait_stderr("closed /endless")


def test_many_clients_leave_endless_answers():
    with start("--output-spool=1MiB", "--output-memory=16KiB", *PATIENT) as server, \
            Settled(server):
        for number in range(10):
            client = slow_client(server)
            client.send(get("/endless") * 3)
            client.read_head()
            vanish(client)
            wait_for(lambda n=number: server.stderr.count("closed /endless") >= n + 1)


def test_worker_keeps_its_descriptors_down(server):
    """After a mixed bag of everything, as many descriptors as at the beginning."""
    pid = worker_of(server)
    before = descriptors(pid)
    for _ in range(5):
        clients = [slow_client(server) for _ in range(len(STAGES))]
        for client, raw in zip(clients, STAGES.values(), strict=True):
            client.sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.send(raw)
        for number, client in enumerate(clients):
            (vanish if number % 2 else Client.close)(client)
    wait_for(lambda: descriptors(pid) <= before)
