"""What real applications ask of a server beyond PEP 3333, one test per wish.

(The command line that the import sees, SystemExit during it, signals and the way a worker
leaves are in tests/process.)
"""

import contextlib
import hashlib
import json
import queue
import select
import socket
import threading
import time

import pytest
from harness import PATIENCE, wait_for


@pytest.fixture
def probe(serve, tmp_path):
    """probe(*flags, workers=1) serves `probe:app`; `tmp_path` is its shared directory."""

    def start(*flags, workers=1, **env):
        return serve("probe:app", *flags, workers=workers, env={"PROBE": str(tmp_path), **env})

    return start


def get(target):
    return f"GET {target} HTTP/1.1\r\nHost: test\r\n\r\n".encode()


def answer_to(client, request=b""):
    response = client.request(request)
    assert response.status == 200, response
    return json.loads(response.body)


@contextlib.contextmanager
def held(server, directory, name):
    """Keep one worker busy in a handler; its pid.  The handler ends with the block."""
    with server.connect() as client:
        client.send(get(f"/hold?name={name}"))
        begun = directory / f"{name}.begun"
        wait_for(lambda: begun.exists() and begun.read_text())
        try:
            yield int(begun.read_text())
        finally:
            (directory / f"{name}.go").touch()
        assert client.read_response().status == 200


def let_pass(seconds):
    """Where a test is about time itself; nothing is waited for with it."""
    time.sleep(seconds)


# -- the body is de-chunked, whole, and its end is known ---------------------------------------

CHUNKED = (
    b"POST %s HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n"
    b"Trailer: X-Trailer\r\n\r\n"
    b"5\r\nhello\r\n6;name=value\r\n world\r\n0\r\nX-Trailer: yes\r\n\r\n"
)
WHOLE = {
    "size": 11,
    "sha256": hashlib.sha256(b"hello world").hexdigest(),
    "CONTENT_LENGTH": "11",
    "HTTP_TRANSFER_ENCODING": None,
    "wsgi.input_terminated": True,
}


@pytest.mark.parametrize("path", [b"/upload", b"/webob"])
def test_chunked_body_is_read_whole(probe, path):
    with probe().connect() as client:
        answer = answer_to(client, CHUNKED % path)
        # What came after the body is no header field of the request, what frames it neither.
        assert answer == {**WHOLE, "HTTP_X_TRAILER": None, "HTTP_CONTENT_LENGTH": None}
        assert answer_to(client, get("/"))["served"] == 2


@pytest.mark.parametrize("site", ["django_site:application", "flask_site:app", "falcon_site:app"])
def test_chunked_body_is_read_whole_by_frameworks(serve, site):
    with serve(site).connect() as client:
        assert answer_to(client, CHUNKED % b"/raw") == WHOLE


def test_no_body_is_an_empty_one(probe):
    with probe().connect() as client:
        answer = answer_to(client, get("/upload"))
    assert (answer["size"], answer["wsgi.input_terminated"]) == (0, True)
    assert answer["CONTENT_LENGTH"] in (None, "", "0")


MEBIBYTE = 1024 * 1024
HALVES = {
    "length": b"Content-Length: 1000\r\n\r\n" + b"x" * 500,
    "length, all but one": b"Content-Length: 1000\r\n\r\n" + b"x" * 999,
    "length, nothing yet": b"Content-Length: 1000\r\n\r\n",
    "length, spooled": b"Content-Length: %d\r\n\r\n" % (20 * MEBIBYTE) + b"x" * 3 * MEBIBYTE,
    "length, large": b"Content-Length: %d\r\n\r\n" % (4 * MEBIBYTE) + b"x" * 3 * MEBIBYTE,
    "chunked, within a chunk": b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n" + b"x" * 500,
    "chunked, between chunks": b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "chunked, within the last": b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    "chunked, spooled": b"Transfer-Encoding: chunked\r\n\r\n1400000\r\n" + b"x" * 3 * MEBIBYTE,
}


@pytest.mark.parametrize("half", HALVES)
def test_body_cut_short_never_arrives_as_a_whole_one(probe, tmp_path, half):
    server = probe()
    with server.connect() as client:
        client.send(b"POST /note HTTP/1.1\r\nHost: test\r\n" + HALVES[half])
        client.sock.shutdown(socket.SHUT_WR)
        answer = client.read_all()  # until the server is done with the connection
    assert not answer.startswith(b"HTTP/1.1 2")
    assert not (tmp_path / "called").exists()
    # The application is there for the next one, and it is called for that one only.
    with server.connect() as client:
        client.request(b"POST /note HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nfour")
    assert (tmp_path / "called").read_text() == "4\n"


# -- keep-alive clients ------------------------------------------------------------------------


def until_idle_is_closed(server):
    """Wait one keep-alive time, as the server measures it, from now on."""
    with server.connect() as clock:
        answer_to(clock, get("/"))
        assert clock.at_eof()


def test_idle_connection_is_closed_in_silence(probe):
    """No 408 that a client could take for the answer to its next request."""
    with probe("--keep-alive", "500ms").connect() as client:
        answer_to(client, get("/"))
        assert client.read_all() == b""


def test_keep_alive_time_begins_with_the_answer(probe):
    """Each answer begins it anew, so the connection used last is closed last."""
    server = probe("--keep-alive", "1s")
    with server.connect() as client, server.connect() as other:
        answer_to(client, get("/"))
        let_pass(0.3)
        answer_to(other, get("/"))
        let_pass(0.3)
        answer_to(client, get("/"))
        closed, _, _ = select.select([client.sock, other.sock], [], [], PATIENCE)
        assert other.sock in closed
        assert client.at_eof() and other.at_eof()


@pytest.mark.parametrize(
    "first",
    [b"G", b"GET / HTTP/1.1\r\nHo", b"GET / HTTP/1.1\r\nHost: test\r\n"],
)
def test_request_begun_before_the_idle_time_is_up(probe, first):
    """Once its first byte is there a request is not idle time any more."""
    server = probe("--keep-alive", "500ms")
    with server.connect() as client:
        answer_to(client, get("/"))
        client.send(first)
        until_idle_is_closed(server)
        request = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
        assert answer_to(client, request[len(first) :])["served"] >= 2


def test_body_begun_before_the_idle_time_is_up(probe):
    server = probe("--keep-alive", "500ms")
    with server.connect() as client:
        answer_to(client, get("/"))
        client.send(b"POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 8\r\n\r\nfour")
        until_idle_is_closed(server)
        assert answer_to(client, b"more")["size"] == 8


def test_requests_that_came_while_the_worker_was_busy(probe, tmp_path):
    """A time that ran out while a handler kept the worker from looking is no time-out: what
    has come in the meantime is read first."""
    flags = ["--keep-alive", "--head-timeout", "--body-timeout"]
    server = probe(*[word for flag in flags for word in (flag, "1s")])
    with server.connect() as idle, server.connect() as head, server.connect() as body:
        head.send(b"GET / HT")
        body.send(b"POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 8\r\n\r\nfour")
        answer_to(idle, get("/"))
        with held(server, tmp_path, "busy"):
            idle.send(get("/"))
            head.send(b"TP/1.1\r\nHost: test\r\n\r\n")
            body.send(b"more")
            let_pass(1.3)
        assert idle.read_response().status == 200
        assert head.read_response().status == 200
        assert json.loads(body.read_response().body)["size"] == 8


# -- slow beginnings ---------------------------------------------------------------------------


def test_slow_request_is_not_timed_out(probe, tmp_path):
    """A worker's first request may take seconds: no time-out of the client's side ends it."""
    times = ["--head-timeout", "--body-timeout", "--keep-alive", "--write-timeout"]
    server = probe(*[word for flag in times for word in (flag, "200ms")])
    with held(server, tmp_path, "slow"):
        let_pass(0.6)


class Upstream:
    """A server that answers each line it is sent, as a database would, but not before as many
    lines have come as it has been told to wait for."""

    def __init__(self, lines):
        self.all_there = threading.Barrier(lines)
        self.arrived = queue.Queue()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                peer, address = self.listener.accept()
                threading.Thread(target=self.serve, args=(peer, address), daemon=True).start()

    def serve(self, peer, address):
        gone = contextlib.suppress(OSError, threading.BrokenBarrierError)
        with gone, peer, peer.makefile("rb") as lines:
            for line in lines:
                self.arrived.put(line)
                self.all_there.wait(PATIENCE)
                peer.sendall(line.strip() + b" at %d" % address[1])

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def test_what_the_import_leaves_behind_works(serve):
    """A thread and a connected socket from the import belong to each worker alone; an import
    that takes seconds is a start like any other."""
    with contextlib.closing(Upstream(lines=2)) as upstream:
        env = {"UPSTREAM": str(upstream.port), "IMPORT_SECONDS": "2"}
        server = serve("leftovers:app", workers=2, env=env)
        with server.connect() as one:
            one.send(get("/?first"))
            upstream.arrived.get(timeout=PATIENCE)
            # This worker waits for upstream, so a new connection is the other's.
            answers = [json.loads(server.get("/?second").body)]
            answers.insert(0, json.loads(one.read_response().body))
        assert [answer["thread"] for answer in answers] == ["tsrif", "dnoces"]
        for answer in answers:
            assert answer["upstream"] == f"{answer['pid']} at {answer['port']}"
        assert {answer["pid"] for answer in answers} == set(server.ready["workers"])
        assert len({answer["port"] for answer in answers}) == 2  # none shared through a fork
        assert server.stop() == 0


def test_work_goes_on_after_the_response(probe, tmp_path):
    """A thread started by a handler runs while its worker waits for requests."""
    server = probe()
    pid = json.loads(server.get("/later?name=work").body)["pid"]
    assert not (tmp_path / "work.done").exists()
    (tmp_path / "work.go").touch()
    done = tmp_path / "work.done"
    wait_for(lambda: done.exists() and done.read_text())
    assert done.read_text() == str(pid)


# -- what a worker is --------------------------------------------------------------------------


def test_all_workers_have_one_parent(probe, tmp_path):
    """Some elect a leader by a file that is named after `os.getppid()`."""
    server = probe(workers=3)
    with held(server, tmp_path, "one") as one, held(server, tmp_path, "two") as two:
        three = json.loads(server.get("/").body)
        parents = {three["ppid"]}
        pids = {one, two, three["pid"]}
    assert pids == set(server.ready["workers"])
    for pid in pids:
        with open(f"/proc/{pid}/status") as status:
            parents.add(int(next(line for line in status if line.startswith("PPid")).split()[1]))
    assert len(parents) == 1


def test_busy_worker_does_not_keep_new_connections_waiting(probe, tmp_path):
    server = probe(workers=2)
    with held(server, tmp_path, "busy") as busy:
        pids = {json.loads(server.get("/").body)["pid"] for _ in range(10)}
    assert len(pids) == 1 and busy not in pids


def test_one_worker_is_one_process(probe):
    """Applications that keep their state in the process are served with `-w 1`."""
    server = probe(workers=1)
    answers = [json.loads(server.get("/").body) for _ in range(20)]
    assert [answer["served"] for answer in answers] == list(range(1, 21))
    assert {answer["pid"] for answer in answers} == set(server.ready["workers"])
    assert {(a["multiprocess"], a["multithread"], a["run_once"]) for a in answers} == {
        (False, False, False)
    }


def test_two_workers_are_several_processes(probe):
    answer = json.loads(probe(workers=2).get("/").body)
    assert (answer["multiprocess"], answer["multithread"]) == (True, False)


def test_no_module_pretends_or_is_dragged_in(probe):
    """Libraries change their behaviour when they find `uwsgi`, eventlet or gevent imported."""
    answer = json.loads(probe().get("/modules").body)
    assert answer["uwsgi"] is False
    modules = set(answer["modules"])
    assert "fastfork._core" in modules
    assert not modules & {"uwsgi", "uwsgidecorators", "eventlet", "gevent"}
