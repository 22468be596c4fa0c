"""Answers over a socket: large ones, slow readers, streams, breaks."""

import os
import select
import signal
import threading

import pytest
from harness import wait_for
from tools import (
    MIB,
    PATIENT,
    Settled,
    content,
    get,
    slow_client,
    start,
    status_kib,
    wake,
    worker_of,
)


def target(kind, size):
    return f"/{kind}?n={size}"


KINDS = pytest.mark.parametrize("kind", ["whole", "sized", "streamed", "written"])


@KINDS
@pytest.mark.parametrize("size", [0, 1, 100_000, 5_000_000])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_download(server, kind, size, version):
    with server.connect() as client:
        answer = client.request(get(target(kind, size), version=version))
        assert answer.body == content(size)
        assert answer.complete
        if version == "1.1":
            assert client.get("/").body == b"hello"
        else:
            assert client.at_eof()


@KINDS
def test_slow_reader_holds_up_nobody(server, kind):
    """One worker: the answer waits in memory and in a file while others are served."""
    slow = slow_client(server)
    slow.send(get(target(kind, 12_000_000)))
    slow.read_head()
    for _ in range(5):
        assert server.get("/").body == b"hello"
    wake(slow)
    if kind not in ("streamed", "written"):
        assert slow.read_exactly(12_000_000) == content(12_000_000)
    else:
        body = b""
        while size := int(slow.read_line(), 16):
            body += slow.read_exactly(size)
            assert slow.read_exactly(2) == b"\r\n"
        assert slow.read_line() == b""
        assert body == content(12_000_000)
    assert slow.get("/").body == b"hello"
    slow.close()


def test_handler_is_done_before_its_reader(server):
    """The handler never waits for a client: its close() comes while the client sleeps."""
    slow = slow_client(server)
    told = server.stderr.count("closed /streamed")
    slow.send(get(target("streamed", 20_000_000)))
    slow.read_head()
    wait_for(lambda: server.stderr.count("closed /streamed") == told + 1)
    slow.close()


def test_pipelined_large_answers_to_a_slow_reader(server):
    slow = slow_client(server)
    slow.send(get(target("whole", 3_000_000)) * 3 + get("/"))
    assert server.get("/").body == b"hello"
    wake(slow)
    for _ in range(3):
        assert slow.read_response().body == content(3_000_000)
    assert slow.read_response().body == b"hello"
    slow.close()


def test_chunks_leave_while_the_handler_goes_on(server, tmp_path):
    """PEP 3333, Buffering and Streaming: a block is not held back."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with server.connect() as client:
        client.send(get(f"/gate?fifo={fifo}"))
        client.read_head()
        assert client.read_exactly(11) == b"6\r\nbefore\r\n"
        fifo.write_bytes(b"after")
        assert client.read_exactly(15) == b"5\r\nafter\r\n0\r\n\r\n"


def test_what_is_kept_goes_on_while_the_handler_does(server, tmp_path):
    """PEP 3333, Buffering and Streaming: what could not be sent at once is not held back until
    the handler has ended; a client that reads again gets more with the next block."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    client = slow_client(server)
    client.send(get(f"/on-demand?fifo={fifo}"))
    client.read_head()
    with fifo.open("wb", buffering=0) as steps:     # opened by the handler behind its 20 MB
        wake(client)
        while select.select([client.sock], [], [], 0.3)[0]:     # what is under way
            client.sock.recv(MIB)
        steps.write(b"x")
        assert client.sock.recv(65536)
    client.close()


def test_exception_in_mid_stream_truncates_the_chunks(server):
    """Trap: a mid-stream exception that ends the chunked body as if it were whole."""
    with server.connect() as client:
        client.send(get("/breaks"))
        _, status, _, headers = client.read_head()
        assert status == 200
        assert ("Transfer-Encoding", "chunked") in headers
        assert client.read_all() == b"a\r\nsome bytes\r\n"
    server.wait_stderr("secret")


def test_exception_in_mid_body_of_known_length(server):
    with server.connect() as client:
        answer = client.request(get("/breaks?length=100"))
        assert answer.body == b"some bytes"
        assert not answer.complete


def test_exception_in_mid_body_without_length_is_a_reset(server):
    """On 1.0 the end of the connection would look like the end of the body."""
    with server.connect() as client:
        client.send(get("/breaks", version="1.0"))
        client.read_head()
        with pytest.raises(ConnectionResetError):
            while client.recv_more():
                pass
        assert client.buffer in (b"", b"some bytes")


def test_exception_before_the_head(server):
    with server.connect() as client:
        answer = client.request(get("/fails"))
        assert answer.status == 500
        assert b"secret" not in answer.body
    server.wait_stderr("ValueError: secret")


def test_system_exit_in_a_handler(server):
    """Trap: SystemExit in a handler kills a thread and hangs the client."""
    assert server.get("/leaves").status == 500


def test_handler_waits_when_the_spool_is_full_and_the_loop_goes_on():
    """Past --output-spool the handler waits for its client, the worker for nobody."""
    with start("--output-memory=16KiB", "--output-spool=256KiB", *PATIENT) as server, \
            Settled(server):
        slow = slow_client(server)
        slow.send(get(target("sized", 15_000_000)))
        slow.read_head()
        assert "closed /sized" not in server.stderr
        with server.connect() as other:  # refused by the loop, without a handler
            other.send(b"\0")
            assert other.read_response().status == 400
        waiting = [server.connect() for _ in range(3)]
        for client in waiting:
            client.send(get("/"))
        wake(slow)
        assert slow.read_exactly(15_000_000) == content(15_000_000)
        server.wait_stderr("closed /sized")
        for client in waiting:
            assert client.read_response().body == b"hello"
            client.close()
        assert slow.get("/").body == b"hello"
        slow.close()


def test_termination_lets_a_waiting_handler_finish():
    """SIGTERM while a handler waits for its client: the answer comes whole, the exit is clean."""
    with start("--output-memory=16KiB", "--output-spool=256KiB", *PATIENT) as server:
        slow = slow_client(server)
        slow.send(get(target("sized", 15_000_000)))
        slow.read_head()
        server.signal(signal.SIGTERM)
        wake(slow)
        assert slow.read_exactly(15_000_000) == content(15_000_000)
        assert server.wait() == 0
        assert "closed /sized" in server.stderr
        slow.close()


def test_termination_has_an_end_while_a_handler_waits():
    """The graceful timeout holds for a handler whose client takes nothing, too."""
    with start("--output-memory=16KiB", "--output-spool=256KiB", "--graceful-timeout=500ms",
               *PATIENT) as server:
        slow = slow_client(server)
        slow.send(get("/endless"))
        slow.read_head()
        server.signal(signal.SIGTERM)
        server.wait()
        assert "closed /endless" in server.stderr
        slow.close()


def test_write_waits_when_the_spool_is_full():
    """The same through write(), in the midst of the application."""
    with start("--output-memory=16KiB", "--output-spool=256KiB", *PATIENT) as server, \
            Settled(server):
        slow = slow_client(server)
        slow.send(get(target("written", 12_000_000)) + get("/"))
        with server.connect() as other:
            other.send(b"\0")
            assert other.read_response().status == 400
        wake(slow)
        assert slow.read_response().body == content(12_000_000)
        assert slow.read_response().body == b"hello"
        slow.close()


def test_memory_stays_down_over_many_requests(server):
    """Nothing is kept of requests that are over."""
    pid = worker_of(server)

    def round_():
        with server.connect() as client:
            for _ in range(5):
                client.send((get("/environ", "X-Field: " + "x" * 5000) + get("/fails")) * 100)
                for _ in range(200):
                    client.read_response()

    round_()
    before = status_kib(pid, "VmRSS")
    for _ in range(3):
        round_()
    assert status_kib(pid, "VmRSS") - before < 4 * 1024


def test_readers_in_threads(server):
    """Several clients at once, each with its own answers."""
    failures = []

    def read(number):
        try:
            with server.connect() as client:
                for n in range(20):
                    size = number * 10_000 + n
                    assert client.get(target("streamed", size)).body == content(size)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read, args=[n]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
