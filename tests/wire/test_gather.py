"""Small answers to requests that came together are sent together; what else is sent, or waits,
comes in its order all the same."""

import contextlib
import json
import os
import re
import signal
import socket
import struct
import threading
import time
from pathlib import Path

import pytest
from harness import PATIENCE, Client, answers, wait_for
from tools import (
    MIB,
    PATIENT,
    Settled,
    content,
    get,
    post,
    quiet_for,
    slow_client,
    start,
    vanish,
    wake,
    worker_of,
)

WARM = 110  # requests that let the worker believe that its handlers are quick
TURN = 16  # pipelined requests of a connection that are served in one go
LINE = re.compile(r'"GET /whole\?n=\d+&i=(\d+) ')


def warm(server):
    """So many quick handlers that answers may wait for others; without --send-delay=0."""
    with server.connect() as client:
        for _ in range(WARM):
            assert client.get("/").body == b"hello"


def segments(client):
    """Segments with data that have come (tcpi_data_segs_in)."""
    told = client.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return struct.unpack_from("I", told, 152)[0]


@contextlib.contextmanager
def one_batch(server):
    """Whatever is sent meanwhile, the worker finds at the same time."""
    pid = worker_of(server)
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: b") T " in Path(f"/proc/{pid}/stat").read_bytes())
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def connected(server, stack, count):
    clients = [stack.enter_context(server.connect()) for _ in range(count)]
    for client in clients:
        assert client.get("/").body == b"hello"
    return clients


# -- in one piece --------------------------------------------------------------------------
def in_one_segment(server):
    """Are pipelined answers?  Not if the machine has kept one of the handlers from being quick."""
    warm(server)
    with server.connect() as client:
        client.get("/")
        before = segments(client)
        client.send(b"".join(get(f"/whole?n={n}") for n in range(TURN)))
        found = [client.read_response().body for _ in range(TURN)]
        assert found == [content(n) for n in range(TURN)]
        return segments(client) - before == 1


def test_pipelined_answers_are_one_segment(begin):
    server = begin()
    wait_for(lambda: in_one_segment(server))


def test_without_a_delay_each_answer_is_its_own(begin):
    server = begin("--send-delay=0")
    assert not any(in_one_segment(server) for _ in range(5))


def test_nothing_waits_for_a_worker_that_was_not_seen_to_be_quick(begin):
    server = begin()
    with server.connect() as client:
        client.send(get("/") * TURN)
        assert [client.read_response().body for _ in range(TURN)] == [b"hello"] * TURN
        assert segments(client) > 1


def test_answers_of_many_connections(server):
    with contextlib.ExitStack() as stack:
        clients = connected(server, stack, 100)     # more than may wait
        warm(server)
        for _ in range(3):
            with one_batch(server):
                for number, client in enumerate(clients):
                    client.send(get(f"/whole?n={number}") + get(f"/whole?n={number + 1000}"))
            for number, client in enumerate(clients):
                assert client.read_response().body == content(number)
                assert client.read_response().body == content(number + 1000)


def test_every_kind_of_answer_in_its_order(server, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content(3 * MIB))
    kinds = [
        ("/", "GET", b"hello"), ("/", "HEAD", b""), ("/hints?status=204+No+Content", "GET", b""),
        ("/hints?status=304+Not+Modified", "GET", b""), ("/", "GET", b"hello"),
        (f"/whole?n={MIB}", "GET", content(MIB)), ("/", "GET", b"hello"),
        ("/streamed?n=100000", "GET", content(100000)), (f"/whole?n={MIB}", "HEAD", b""),
        ("/written?n=100", "GET", content(100)), (f"/file?path={path}", "GET", content(3 * MIB)),
        ("/hints", "GET", b"after the hints"), ("/fails", "GET", b"500 Internal Server Error\n"),
        ("/sized?n=70", "GET", content(70)), ("/forks", "GET", b"forked"), ("/", "GET", b"hello"),
    ]
    kinds = [kind for kind in kinds for _ in range(3)]
    for version in ("1.1", "1.0"):
        warm(server)
        with server.connect() as client:
            fields = ["Connection: keep-alive"] if version == "1.0" else []
            asked = [kind for kind in kinds
                     if version == "1.1" or not kind[0].startswith(("/streamed", "/written"))]
            client.send(b"".join(get(target, *fields, version=version, method=method)
                                 for target, method, _ in asked))
            for target, method, body in asked:
                assert client.read_response(method).body == body, target
            hinted = sum(target.startswith("/hints") for target, _, _ in asked)
            assert [status for status, _ in client.interim] == (
                [103] * hinted if version == "1.1" else [])
            assert client.get("/").body == b"hello"
            assert not client.buffer


def test_interim_answers_come_after_those_before_them(server):
    warm(server)
    with server.connect() as client:
        client.send(get("/") * 3 + get("/hints") + get("/") * 2 + post(
            "/upload", b"", "Content-Length: 5", "Expect: 100-continue"))
        found = b""
        while not found.endswith(b"100 Continue\r\n\r\n"):
            found += client.sock.recv(65536)
        order = re.findall(rb"HTTP/1.1 (\d+)", found)
        assert order == [b"200"] * 3 + [b"103"] + [b"200"] * 3 + [b"100"]
        client.send(b"12345")
        assert json.loads(client.read_response().body)["length"] == 5


@pytest.mark.parametrize("last, status", [
    (b"\0\r\n\r\n", 400), (get("/", "Connection: close"), 200), (get("/last?n=10"), 200),
    (post("/upload", b"x", "Content-Length: 1", "Transfer-Encoding: chunked"), 400),
], ids=["bad", "close", "last", "smuggled"])
def test_the_last_answer(server, last, status):
    warm(server)
    with server.connect() as client:
        client.send(get("/") * 5 + last + get("/never"))
        assert [client.read_response().body for _ in range(5)] == [b"hello"] * 5
        assert client.read_response().status == status
        assert client.at_eof()


def test_the_end_of_keep_alive_requests(begin):
    server = begin(f"--keep-alive-requests={WARM + 5}")
    warm(server)
    for _ in range(3):
        with server.connect() as client:
            client.send(get("/") * 2 * (WARM + 5))
            for number in range(WARM + 5):
                found = client.read_response()
                assert found.body == b"hello"
                assert found.header("connection") == ("close" if number == WARM + 4 else None)
            assert client.at_eof()


def test_behind_a_proxy_protocol(begin):
    server = begin("--proxy-protocol=v1", "--forwarded-allow-ips=127.0.0.1")
    preamble = b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 80\r\n"
    for _ in range(WARM // 10 + 2):
        with server.connect() as client:
            client.send(preamble + get("/") * 10 + get("/environ"))
            assert [client.read_response().body for _ in range(10)] == [b"hello"] * 10
            assert json.loads(client.read_response().body)["REMOTE_ADDR"] == "192.0.2.1"


# -- who is not kept waiting ---------------------------------------------------------------
def test_a_handler_that_keeps_the_loop_holds_up_no_answer(server, tmp_path):
    """Not even the first such handler, and not those of one that is pipelined before it."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with contextlib.ExitStack() as stack:
        first, slow, last = connected(server, stack, 3)
        for _ in range(3):
            warm(server)
            with one_batch(server):
                first.send(get("/"))
                slow.send(get("/") + get(f"/works-on?how=writes&fifo={fifo}") + get("/"))
                last.send(get("/"))
            try:
                for client in (first, slow):
                    client.sock.settimeout(5)
                    assert client.read_response().body == b"hello"
                assert slow.read_response().body == b"answer"
                assert quiet_for(slow) and quiet_for(last)
            finally:
                fifo.write_bytes(b"x")
            assert slow.read_response().body == b"hello"
            assert last.read_response().body == b"hello"


@pytest.mark.parametrize("how", ["yields", "closes", "writes"])
def test_what_an_application_has_sent_does_not_wait_for_what_it_does_then(server, tmp_path, how):
    """PEP 3333, Buffering and Streaming."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    warm(server)
    with server.connect() as client:
        client.send(get(f"/works-on?how={how}&fifo={fifo}") + get("/"))
        try:
            client.sock.settimeout(5)
            assert client.read_response().body == b"answer"
            assert quiet_for(client)
        finally:
            fifo.write_bytes(b"x")
        assert client.read_response().body == b"hello"


def test_a_deadline_sends_what_waits(begin):
    server = begin("--request-timeout=500ms")
    with contextlib.ExitStack() as stack:
        first, slow, last = connected(server, stack, 3)
        warm(server)
        with one_batch(server):
            first.send(get("/") * 2)
            slow.send(get("/") + get("/slow?t=10") + get("/"))
            last.send(get("/"))
        begun = time.monotonic()
        assert [first.read_response().body for _ in range(2)] == [b"hello"] * 2
        assert slow.read_response().body == b"hello"
        assert slow.read_response().status == 504
        assert slow.read_response().body == b"hello"
        assert last.read_response().body == b"hello"
        assert time.monotonic() - begun < 8


def test_handlers_that_park_in_a_batch(begin, tmp_path):
    server = begin("--greenlets=50", "--request-buffering=stream", *PATIENT)
    there = tmp_path / "there"
    with contextlib.ExitStack() as stack:
        clients = connected(server, stack, 30)
        warm(server)
        parked = [client for number, client in enumerate(clients) if number % 3 == 1]
        reading = [client for number, client in enumerate(clients) if number % 3 == 2]
        with one_batch(server):
            for client in clients:
                client.send(get("/") * 3)
                if client in parked:
                    client.send(get(f"/parks?file={there}"))
                elif client in reading:
                    client.send(post("/echo", b"12", "Content-Length: 5"))
                if client not in reading:
                    client.send(get("/whole?n=5"))
        for client in clients:
            assert [client.read_response().body for _ in range(3)] == [b"hello"] * 3
        for client in reading:
            client.send(b"345" + get("/whole?n=5"))
            if client.read_response().header("Connection") == "close":
                assert client.at_eof()              # it answered before it had read all
            else:                                   # all was there before its handler began
                assert client.read_response().body == content(5)
        there.touch()
        for client in parked:
            assert client.read_response().body == b"parked"
        for client in clients:
            if client not in reading:
                assert client.read_response().body == content(5)


# -- clients that do not keep up -----------------------------------------------------------
class Asker(threading.Thread):
    """Sends, for as long as it takes."""

    def __init__(self, client, data):
        super().__init__(daemon=True)
        self.client, self.data = client, data
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            self.client.sock.sendall(self.data)


@pytest.fixture
def logged(tmp_path):
    """A server, and its access log."""
    path = tmp_path / "access.log"
    with start(f"--access-log={path}", *PATIENT) as server:
        server.get("/")  # with its line the log has its buffer
        before = held(server)
        with Settled(server):
            yield server, path
        wait_for(lambda: held(server) == before, message=lambda: f"{held(server)}, not {before}")
        assert "internal error" not in server.stderr


def held(server):
    counters = json.loads(server.get("/counters").body)
    if not counters:
        return None
    # An exchange that waits for the next request keeps the buffer of its heads.
    return (counters["connections"], counters["outboxes"],
            counters["buffers"] - counters["exchanges"])


def numbered(count):
    return [f"/whole?n={1000 + number % 7}&i={number}" for number in range(count)]


def logged_numbers(path):
    return [int(number) for number in LINE.findall(path.read_text())]


@pytest.mark.parametrize("between", [
    None, f"/whole?n={MIB}", f"/streamed?n={MIB}", "/file?path={file}", "/fails", "/hints"],
    ids=["quick", "large", "chunked", "file", "error", "hints"])
def test_thousands_of_requests_and_nobody_reads(logged, tmp_path, between):
    server, path = logged
    file = tmp_path / "file"
    file.write_bytes(content(MIB))
    targets = numbered(9000)
    bodies = [content(1000 + number % 7) for number in range(9000)]
    if between:
        for at in range(8500, 0, -900):
            targets.insert(at, between.format(file=file))
            bodies.insert(at, {"/fails": b"500 Internal Server Error\n",
                               "/hints": b"after the hints"}.get(between, content(MIB)))
    warm(server)
    client = slow_client(server)
    with client:
        asker = Asker(client, b"".join(map(get, targets)) + get("/last?n=5"))
        wait_for(lambda: logged_numbers(path) or between)
        with server.connect() as other:
            for _ in range(50):
                assert other.get("/").body == b"hello"
        assert len(logged_numbers(path)) < 9000     # the worker does not read either
        wake(client)
        for target, body in zip(targets, bodies, strict=True):
            assert client.read_response().body == body, target
        assert client.read_response().body == content(5)
        assert client.at_eof()
        asker.join(PATIENCE)
    wait_for(lambda: len(logged_numbers(path)) >= 9000)
    assert logged_numbers(path) == list(range(9000))


def half_close(client):
    client.sock.shutdown(socket.SHUT_WR)
    client.close()


@pytest.mark.parametrize("leave", [vanish, Client.close, half_close])
def test_thousands_of_requests_and_nobody_stays(logged, leave):
    server, path = logged
    targets = numbered(9000)
    warm(server)
    client = slow_client(server)
    asker = Asker(client, b"".join(map(get, targets)))
    wait_for(lambda: len(logged_numbers(path)) > 100)
    leave(client)
    asker.join(PATIENCE)
    warm(server)
    server.get("/whole?n=1&i=9999")
    wait_for(lambda: logged_numbers(path)[-1] == 9999)
    found = logged_numbers(path)[:-1]
    assert found == list(range(len(found)))
    assert len(found) < 9000


def test_a_client_that_sends_its_end_and_reads_later(logged):
    server, path = logged
    targets = numbered(300)
    warm(server)
    with slow_client(server) as client:
        client.send(b"".join(map(get, targets)))
        client.sock.shutdown(socket.SHUT_WR)
        wake(client)
        for number in range(300):
            assert client.read_response().body == content(1000 + number % 7)
        assert client.at_eof()
    wait_for(lambda: len(logged_numbers(path)) >= 300)
    assert logged_numbers(path) == list(range(300))


def unix_client(path):
    """Whose server can send it so much and no more, the same each time."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PATIENCE)
    sock.connect(str(path))
    return Client(sock)


@pytest.mark.parametrize("what", ["body", "continue", "parks", "reads"])
def test_owed_answers_come_while_the_request_behind_them_waits(begin, tmp_path, what):
    """The buffer of its socket is full at the very moment when that request begins, for some of
    these numbers."""
    path, there = tmp_path / "socket", tmp_path / "there"
    flags = {"parks": ["--greenlets=10"],
             "reads": ["--greenlets=10", "--request-buffering=stream"]}.get(what, [])
    server = begin(*flags, *PATIENT, bind=("127.0.0.1:0", f"unix:{path}"))
    for number in range(6 * TURN + 1, 25 * TURN, 5):
        warm(server)
        last = {"body": post("/upload", b"12", "Content-Length: 5"),
                "reads": post("/upload", b"12", "Content-Length: 5"),
                "continue": post("/upload", b"", "Content-Length: 5", "Expect: 100-continue"),
                "parks": get(f"/parks?file={there}")}[what]
        with unix_client(path) as client:
            client.sock.settimeout(5)
            asker = Asker(client, get("/whole?n=1000") * number + last)
            warm(server)
            for _ in range(number):
                assert client.read_response().body == content(1000)
            asker.join()
            if what == "parks":
                assert quiet_for(client, 0.01)
                there.touch()
                assert client.read_response().body == b"parked"
                there.unlink()
                continue
            if what == "continue":
                assert client.read_head()[1] == 100
            client.send(b"12345" if what == "continue" else b"345")
            assert json.loads(client.read_response().body)["length"] == 5


# -- the end of the worker -----------------------------------------------------------------
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_nothing_is_lost_where_the_worker_is_told_to_go(begin, number):
    server = begin(*PATIENT)
    with contextlib.ExitStack() as stack:
        clients = connected(server, stack, 20)
        warm(server)
        with one_batch(server):
            for client in clients:
                client.send(get("/") * 5)
            server.signal(number)
            time.sleep(0.1)                         # for the master to hand it on
        for client in clients:
            for _ in range(5):
                found = client.read_response()
                assert found.body == b"hello"
                if found.header("connection") == "close":       # what is behind was not begun
                    break
            if number == signal.SIGHUP:                     # it goes on with the next worker
                assert client.get("/").body == b"hello"
            else:
                assert client.at_eof()


@pytest.mark.parametrize("how", ["exits", "killed"])
def test_a_handler_that_ends_the_worker(begin, how):
    """Of other batches nothing is lost, and no answer is cut in two."""
    server = begin(*PATIENT)
    with contextlib.ExitStack() as stack:
        *clients, fatal = connected(server, stack, 10)
        warm(server)
        with one_batch(server):
            for client in clients:
                client.send(get("/whole?n=1000") * 3)
        for client in clients:
            assert [client.read_response().body for _ in range(3)] == [content(1000)] * 3
        with one_batch(server):
            for client in clients[:5]:
                client.send(get("/whole?n=1000") * 3)
            fatal.send(get(f"/dies?how={how}"))
            for client in clients[5:]:
                client.send(get("/whole?n=1000") * 3)
        for client in clients:
            for found in answers(client.read_all()):
                assert (found.body, found.complete) == (content(1000), True)
        assert fatal.at_eof()
        wait_for(lambda: server.workers() and server.workers() != server.ready["workers"])
        assert server.get("/").body == b"hello"
