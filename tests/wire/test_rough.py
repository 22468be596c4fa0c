"""What an attack on the server found, so that it stays mended.

An application that forks, closes, detaches and raises must not disturb any connection but its own.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest
from harness import ROOT, Client, Server, alive
from tools import HERE, MIB, PATIENT, content, get, post, slow_client, vanish, wake, worker_of


@pytest.fixture
def rough(serve):
    return serve("apps_rough:app", *PATIENT, "--body-memory", "1k", cwd=HERE)


@contextmanager
def lasting_child(server, client):
    """A child of the worker, forked while `client` is connected."""
    child = int(client.get("/fork-and-stay").body)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat") as file:
        return sum(map(int, file.read().rpartition(")")[2].split()[11:13]))


def test_the_end_of_a_connection_reaches_the_client_although_a_child_has_it_too(rough):
    with rough.connect() as client, rough.connect() as other:
        assert other.get("/hello").status == 200
        with lasting_child(rough, client):
            other.send(get("/hello", "Connection: close"))
            assert other.read_response().status == 200
            assert other.at_eof()


def test_a_closed_connection_is_not_heard_of_again_although_a_child_has_it(rough):
    """Its record is another connection's by then, which the stale event would hit."""
    with rough.connect() as client, rough.connect() as leaver:
        assert leaver.get("/hello").status == 200
        with lasting_child(rough, client):
            vanish(leaver)
            for _ in range(50):
                with rough.connect() as newcomer:
                    assert newcomer.get("/hello").status == 200
                    assert client.get("/hello").status == 200
            before = cpu_ticks(worker_of(rough))
            with rough.connect() as newcomer:
                newcomer.send(get("/slow?0.5"))     # the loop would spin before and after
                assert newcomer.read_response().body == b"slow"
            assert cpu_ticks(worker_of(rough)) - before < 25


def test_a_child_that_returns_from_the_handler_answers_nobody(rough):
    with rough.connect() as client:
        assert client.get("/fork-and-return").body == b"parent"
        for _ in range(20):
            assert int(client.get("/hello").body) == worker_of(rough)
        assert not client.buffer


@pytest.mark.parametrize("target, status", [("/fork-and-exit", b"7"), ("/fork-and-raise", b"1")])
def test_a_child_that_leaves_by_an_exception(rough, target, status):
    with rough.connect() as client:
        assert client.get(target).body == status
        assert int(client.get("/hello").body) == worker_of(rough)
    if target == "/fork-and-raise":
        rough.wait_stderr("in the child")


def test_a_child_of_a_generator_answers_nobody(rough):
    with rough.connect() as client:
        for _ in range(3):
            assert client.get("/fork-in-a-generator").body == b"before"
        assert int(client.get("/hello").body) == worker_of(rough)
    assert "CRITICAL" not in rough.stderr


def test_multiprocessing(rough):
    with rough.connect() as client:
        for _ in range(10):
            assert client.get("/pool").body == b"pooled"
        assert client.get("/multiprocess").body == b"made by a child"
        assert int(client.get("/hello").body) == worker_of(rough)


@pytest.mark.parametrize("target", ["/unshowable", "/odd-environ"])
def test_an_exception_that_cannot_be_shown(rough, target):
    with rough.connect() as client:
        assert client.get(target).status == 500
        assert int(client.get("/hello").body) == worker_of(rough)
    rough.wait_stderr("error in the application")


def test_a_file_that_the_application_closes_while_it_is_sent(rough, tmp_path):
    """Its number is another file's then; what goes out is what was promised."""
    path, secret = tmp_path / "file", tmp_path / "secret"
    path.write_bytes(content(20 * MIB))
    secret.write_bytes(b"SECRET" * MIB * 4)
    client = slow_client(rough)
    client.send(get(f"/keep-file?{path}"))
    _, status, _, _ = client.read_head()
    assert status == 200
    assert rough.get(f"/close-file?{secret}").body in (b"same", b"other")
    wake(client)
    assert client.read_exactly(path.stat().st_size) == path.read_bytes()
    client.close()


def test_a_file_whose_size_is_not_told(rough):
    assert b"VmRSS" in rough.get("/kernel-file").body


def test_a_body_whose_descriptor_the_application_closes(rough):
    with rough.connect() as client:
        assert client.request(post("/detach", b"x" * 5000)).body == b"detached"
        assert int(client.get("/hello").body) == worker_of(rough)


def test_more_fields_than_allowed_do_not_reach_the_next_request(serve):
    """A Content-Length beyond the bound is not looked at by us, but it is by the parser."""
    server = serve("apps_wire:app", *PATIENT, "--max-fields", "3", cwd=HERE)
    fields = [f"X-{n}: 1" for n in range(8)]
    for version in ("1.1", "1.0"):
        with server.connect() as client:
            client.send(get("/", *fields, "Content-Length: 100000", version=version))
            assert client.read_response().status == 431
        with server.connect() as victim:
            victim.send(get("/environ", "X-Here: yes", "Connection: keep-alive", version=version))
            assert b'"HTTP_X_HERE": "yes"' in victim.read_response().body


def test_pipelined_requests_take_turns_with_other_connections(rough):
    """One client sends 200 requests of 10 ms at once; another one is not kept until the end."""
    with rough.connect() as crowd, rough.connect() as other:
        assert other.get("/hello").status == 200
        crowd.send(get("/slow?0.01") * 200)
        assert crowd.read_response().body == b"slow"    # it has begun
        assert other.get("/hello").status == 200
        crowd.sock.settimeout(0.001)
        answered = 1
        while True:
            try:
                assert crowd.read_response().body == b"slow"
                answered += 1
            except TimeoutError:
                break
        assert answered < 150


def test_truncated_close_delimited_response_ends_in_a_reset(serve):
    """A client that takes nothing is given up; in HTTP/1.0 an orderly end would look whole."""
    server = serve("apps_wire:app", "--write-timeout", "300ms", cwd=HERE)
    client = slow_client(server)
    client.send(get("/streamed?n=20000000", version="1.0"))
    assert client.read_head()[1] == 200
    server.wait_stderr("takes nothing of its response")
    with pytest.raises(ConnectionResetError):
        while client.recv_more():
            client.buffer = b""
    client.close()


def test_the_drain_deadline_counts_between_requests():
    """More work is waiting than the graceful timeout allows for: the worker leaves by itself."""
    with Server("apps_rough:app", *PATIENT, "--graceful-timeout", "2s", cwd=HERE) as server:
        clients = [server.connect() for _ in range(60)]
        for client in clients:
            client.send(get("/slow?0.1"))
        assert clients[0].read_response().body == b"slow"
        assert server.stop() == 0
        assert "killed" not in server.stderr
        for client in clients:
            client.close()


def test_drain_gives_new_connections_a_moment():
    """The kernel has connected it, the request is on its way."""
    with Server("apps_rough:app", *PATIENT, cwd=HERE) as server:
        with server.connect() as busy, server.connect() as new:
            busy.send(get("/slow?0.3"))
            server.signal(signal.SIGTERM)
            server.wait_stderr("SIGTERM")
            assert busy.read_response().body == b"slow"
            new.send(get("/hello"))
            response = new.read_response()
            assert (response.status, response.header("connection")) == (200, "close")
        pid = worker_of(server)
        assert server.wait() == 0
        assert not alive(pid)


def test_drain_answers_a_request_that_is_in_the_socket_already(tmp_path):
    """Behind a response whose head went out before the signal, and so did not say close."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with Server("apps_wire:app", *PATIENT, cwd=HERE) as server, server.connect() as client:
        client.send(get(f"/gate?fifo={fifo}"))
        _, _, _, headers = client.read_head()
        assert "close" not in dict(headers).values()
        client.send(get("/"))
        server.signal(signal.SIGTERM)
        server.wait_stderr("SIGTERM")
        fifo.write_bytes(b"after")
        assert client.read_exactly(len(b"6\r\nbefore\r\n5\r\nafter\r\n0\r\n\r\n")).endswith(
            b"after\r\n0\r\n\r\n")
        response = client.read_response()
        assert (response.body, response.header("connection")) == (b"hello", "close")
        assert client.at_eof()


def test_logs_that_nobody_reads_stop_nothing():
    """Both are pipes that are full: lines are lost, requests are not, and the server can stop."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)       # as a shell's pipe is; the server must not rely on it
    ready, told = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "fastfork", "serve", "apps_wire:app", "-w", "1", "-b",
         "127.0.0.1:0", "--ready-fd", str(told), "--access-log", "-"],
        cwd=HERE, env=dict(os.environ, PYTHONPATH=os.environ.get("PYTHONPATH", str(ROOT))),
        pass_fds=[told], stdout=writer, stderr=writer)
    try:
        os.close(told)
        port = int(json.loads(os.read(ready, 65536))["listen"][0].rpartition(":")[2])
        for _ in range(5):
            with Client(socket.create_connection(("127.0.0.1", port), 20)) as client:
                assert client.get("/").body == b"hello"
                client.send(b"\0")
                assert client.read_response().status == 400
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        for fd in (reader, writer, ready):
            os.close(fd)
