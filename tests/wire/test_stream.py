"""request_buffering = "stream" on real connections: handlers that wait for their bodies, and the
others that go on meanwhile."""

import hashlib
import json
import socket
import threading
from contextlib import ExitStack, suppress
from signal import SIGTERM

import pytest
from harness import wait_for
from tools import (
    MIB,
    Settled,
    content,
    curl,
    get,
    post,
    quiet_for,
    slow_client,
    status_kib,
    vanish,
    wake,
    worker_of,
)  # fmt: skip

FLAGS = ["--request-buffering=stream", "--body-min-rate=0"]


def begun(client, target="/upload", length=9, body=b"abc"):
    """A request of which the rest of the body is still to come."""
    client.send(post(target, body, f"Content-Length: {length}"))
    return client


def refuses(server):
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return True
    return False


def upload_of(answer):
    found = json.loads(answer.body)
    return found["length"], found["sha256"]


def expected(data):
    return len(data), hashlib.sha256(data).hexdigest()


def test_others_go_on_while_a_handler_waits(server):
    with server.connect() as slow, server.connect() as quick:
        begun(slow)
        for _ in range(3):
            quick.send(get("/"))
            assert quick.read_response().body == b"hello"
        slow.send(b"def")
        quick.send(post("/upload", content(300_000)))
        assert upload_of(quick.read_response()) == expected(content(300_000))
        slow.send(b"ghi")
        assert upload_of(slow.read_response()) == expected(b"abcdefghi")
        slow.send(get("/"))
        assert slow.read_response().body == b"hello"


def test_many_at_once_in_any_order(server):
    """As many as there are greenlets, and more."""
    with ExitStack() as stack:
        clients = [begun(stack.enter_context(server.connect())) for _ in range(150)]
        for client in reversed(clients[:75]):
            client.send(b"defghi")
        for client in clients[75:]:
            client.send(b"defghi")
        for client in clients:
            assert upload_of(client.read_response()) == expected(b"abcdefghi")


def test_deep_handlers_do_not_add_up(server):
    """Each handler has Python's recursion limit for itself, however many wait."""
    with ExitStack() as stack:
        clients = [begun(stack.enter_context(server.connect()), "/deep?n=200") for _ in range(95)]
        assert server.get("/deep?n=200").body == b"hello"
        for client in clients:
            client.send(b"defghi")
        assert {client.read_response().body for client in clients} == {b"hello"}


def test_one_at_a_time_if_so_told(begin):
    server = begin(*FLAGS, "--greenlets=1")
    with server.connect() as slow, server.connect() as quick:
        begun(slow)
        quick.send(get("/"))
        assert quiet_for(quick)
        slow.send(b"defghi")
        assert upload_of(slow.read_response()) == expected(b"abcdefghi")
        assert quick.read_response().body == b"hello"


@pytest.mark.parametrize("fields", [["Transfer-Encoding: chunked"], []])
def test_curl_uploads(server, fields, tmp_path):
    data = content(20_000_000)
    path = tmp_path / "data"
    path.write_bytes(data)
    seen = curl("-T", path, "-H", "Expect: 100-continue",
                *(a for f in fields for a in ("-H", f)), f"{server.url}/upload")
    assert json.loads(seen)["sha256"] == expected(data)[1]


def test_memory_does_not_grow_with_the_body(server):
    pid = worker_of(server)
    with server.connect() as client:
        client.send(post("/upload", b"", "Content-Length: 100000000"))
        client.send(content(MIB))
        before = status_kib(pid, "VmRSS")
        block = content(MIB)
        left = 100_000_000 - MIB
        while left:
            client.send(block[:left])
            left -= len(block[:left])
        assert upload_of(client.read_response())[0] == 100_000_000
        assert status_kib(pid, "VmHWM") - before < 8 * 1024


def test_echo_of_more_than_all_buffers_hold(server):
    """Both directions at once; the reader is the slower one."""
    with slow_client(server) as client:
        client.send(post("/echo", b"", "Transfer-Encoding: chunked"))
        for _ in range(40):
            client.send(b"%x\r\n%b\r\n" % (100_000, content(100_000)))
        client.send(b"0\r\n\r\n")
        wake(client)
        answer = client.read_response()
        assert answer.body == content(100_000) * 40
        assert client.at_eof()


def test_body_that_stops(begin):
    server = begin(*FLAGS, "--body-timeout=300ms")
    with Settled(server), server.connect() as client, server.connect() as other:
        begun(client, "/raised")
        other.send(get("/"))
        assert other.read_response().body == b"hello"
        answer = client.read_response()
        assert answer.status == 408
        assert answer.header("connection") == "close"
        assert client.at_eof()
    server.wait_stderr("raised BodyError: the body stopped coming")


def test_body_that_comes_too_slowly(begin):
    server = begin("--request-buffering=stream", "--body-timeout=300ms", "--body-min-rate=1k")
    with Settled(server), server.connect() as client:
        begun(client, "/raised", 10_000)
        sent = 0
        while quiet_for(client, 0.05) and sent < 1000:
            client.send(b"x")
            sent += 1
        assert client.read_response().status == 408
        assert client.at_eof()
    server.wait_stderr("raised BodyError: the body comes more slowly")


def test_client_vanishes(server):
    with server.connect() as client:
        begun(client, "/raised")
        vanish(client)
    server.wait_stderr("raised BodyError: the client has disconnected")


def test_client_closes_half(server):
    with server.connect() as client:
        begun(client, "/raised")
        client.sock.shutdown(socket.SHUT_WR)
        assert client.read_response().status == 400
        assert client.at_eof()


def test_response_before_the_body_is_there(server):
    with server.connect() as client:
        begun(client, "/ignore", 1_000_000)
        answer = client.read_response()
        assert answer.body == b"ignored"
        assert answer.header("connection") == "close"
        client.send(content(100_000))  # not reset while it lingers
        client.sock.shutdown(socket.SHUT_WR)
        assert client.at_eof()


def test_client_that_sends_all_before_it_reads(server):
    """The handler has answered, at length, and read nothing."""
    with server.connect() as client:
        client.send(post("/whole?n=20000000", b"", "Content-Length: 30000000"))
        client.send(content(30_000_000))
        answer = client.read_response()
        assert answer.body == content(20_000_000)
        assert answer.header("connection") == "close"
        assert client.at_eof()


def test_client_that_half_closes_while_it_is_answered(server):
    with slow_client(server) as client:
        client.send(post("/whole?n=20000000", b"", "Content-Length: 30000000"))
        client.send(content(100_000))
        client.sock.shutdown(socket.SHUT_WR)
        wake(client)
        assert client.read_response().body == content(20_000_000)
        assert client.at_eof()


def test_pipelined_behind_a_streamed_body(server):
    with server.connect() as client:
        begun(client)
        client.send(b"defghi" + get("/") + post("/upload", b"xyz"))
        assert upload_of(client.read_response()) == expected(b"abcdefghi")
        assert client.read_response().body == b"hello"
        assert upload_of(client.read_response()) == expected(b"xyz")


def test_reading_in_another_thread(server):
    """As asynchronous views of Django do.  The worker waits with its handler."""
    with server.connect() as client:
        begun(client, "/in-thread", 3_000_000, content(3_000_000)[:100_000])
        client.send(content(3_000_000)[100_000:1_000_000])
        client.send(content(3_000_000)[1_000_000:] + get("/"))
        assert client.read_response().body == content(3_000_000)
        assert client.read_response().body == b"hello"


def test_reading_in_another_thread_that_stalls(begin):
    server = begin(*FLAGS, "--body-timeout=300ms")
    with Settled(server), server.connect() as client:
        begun(client, "/in-thread")
        assert b"BodyError" in client.read_response().body
        assert client.at_eof()


def test_stop_waits_for_a_body_that_is_coming(begin):
    server = begin(*FLAGS)
    with server.connect() as client:
        begun(client)
        assert server.get("/").body == b"hello"
        server.signal(SIGTERM)
        wait_for(lambda: refuses(server))
        client.send(b"defghi")
        answer = client.read_response()
        assert upload_of(answer) == expected(b"abcdefghi")
        assert answer.header("connection") == "close"
        assert client.at_eof()
    assert server.wait() == 0


def test_a_file_that_is_closed_by_the_loop_cannot_read(server, tmp_path):
    """Its handler has long returned: nobody could wait for the body."""
    path = tmp_path / "file"
    path.write_bytes(content(40_000_000))
    with slow_client(server) as client:
        begun(client, f"/late-read?path={path}")
        client.read_head()
        wake(client)
        assert client.read_exactly(40_000_000) == content(40_000_000)
        assert client.at_eof()
    server.wait_stderr("wsgi.input was read after the request was over")


def test_an_upload_that_keeps_up_does_not_keep_the_loop(server):
    """Somebody who sends as fast as the handler reads, for as long as it takes another to be
    answered."""
    def send():
        with suppress(OSError):
            while True:
                client.send(block)

    block = content(MIB)
    with server.connect() as client:
        client.send(post("/upload", b"", "Content-Length: 1000000000"))
        sender = threading.Thread(target=send)
        sender.start()
        for _ in range(3):
            assert server.get("/").body == b"hello"
        client.sock.shutdown(socket.SHUT_RDWR)
        sender.join()
