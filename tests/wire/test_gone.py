"""Clients that leave in mid-answer: close() is called, everything is freed, the access log says
499."""

import json
import os
import re
import socket

import pytest
from harness import Client, wait_for
from tools import (
    PATIENT,
    Settled,
    content,
    get,
    post,
    slow_client,
    start,
    vanish,
    wake,
)

LARGE = 20_000_000
LINE = re.compile(r'\S+ - - \[[^]]+\] "(?P<request>[^"]*)" (?P<status>\d+) (?P<bytes>\d+)')


def half_close(client):
    """Close without reading what has come, after having said so."""
    client.sock.shutdown(socket.SHUT_WR)
    client.close()


LEAVE = pytest.mark.parametrize("leave", [vanish, Client.close, half_close],
                                ids=["reset", "close", "half"])


class Logged:
    """A server with an access log; `with` it, as it was before when that ends."""

    def __init__(self, path, *flags):
        self.path = path
        self.server = start(f"--access-log={path}", "--access-log-format=common", *flags, *PATIENT)
        self.settled = Settled(self.server)

    def __enter__(self):
        self.settled.__enter__()
        return self

    def __exit__(self, *exc):
        try:
            self.settled.__exit__(*exc)
        finally:
            self.server.close()

    def lines(self, begin):
        """Those of requests that begin so (a regular expression)."""
        found = [LINE.fullmatch(line) for line in self.path.read_text().splitlines()]
        assert all(found)
        return [m for m in found if re.match(begin, m["request"])]

    def wait_lines(self, begin, count):
        wait_for(lambda: len(self.lines(begin)) >= count)
        found = self.lines(begin)
        assert len(found) == count
        return found


@pytest.fixture(scope="module")
def module_logged(tmp_path_factory):
    with Logged(tmp_path_factory.mktemp("log") / "access.log") as logged:
        yield logged


@pytest.fixture
def logged(module_logged):
    server = module_logged.server
    before = held(server)
    with Settled(server):
        module_logged.path.write_bytes(b"")         # it is opened for appending
        yield module_logged
    wait_for(lambda: held(server) == before, message=lambda: f"{held(server)}, {before} before")


def held(server):
    """What the core holds for connections and answers (known in a debug build only)."""
    counters = json.loads(server.get("/counters").body)
    return counters and [counters[name] for name in ("connections", "outboxes", "bodies")]


@LEAVE
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_in_mid_answer(logged, tmp_path, leave, version):
    """The handler may be done long before: the answer is not, and its line comes at its end."""
    server = logged.server
    told, errors = server.stderr.count("closed /"), server.stderr.count("ERROR")
    path = tmp_path / "large"
    path.write_bytes(content(LARGE))
    targets = [f"/{kind}?n={LARGE}" for kind in ("sized", "streamed", "written", "whole")]
    targets += [f"/file?path={path}", f"/file?path={path}&length={LARGE}"]
    for target in targets:
        client = slow_client(server)
        client.send(get(target, version=version))
        client.read_head()
        leave(client)
    lines = logged.wait_lines(r"GET /\S+\?", len(targets))
    assert {m["request"].split()[1] for m in lines} == set(targets)
    assert {m["status"] for m in lines} == {"499"}
    wait_for(lambda: server.stderr.count("closed /") == told + 3)
    assert server.stderr.count("ERROR") == errors


@LEAVE
def test_a_stream_that_has_no_end(logged, tmp_path, leave):
    """An event stream: the next event or the one after finds nobody there, and is the last."""
    server = logged.server
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    told = server.stderr.count("closed /dripping")
    client = server.connect()
    client.send(get(f"/dripping?fifo={fifo}"))
    with fifo.open("wb", buffering=0) as steps:
        steps.write(b"x")
        client.read_head()
        client.read_exactly(1000)
        leave(client)

        def ended():
            try:
                steps.write(b"x")
            except BrokenPipeError:
                return True
            return server.stderr.count("closed /dripping") == told + 1

        wait_for(ended)
    wait_for(lambda: server.stderr.count("closed /dripping") == told + 1)
    (line,) = logged.wait_lines("GET /dripping", 1)
    assert line["status"] == "499"


def test_while_the_handler_waits_for_it(tmp_path):
    """Beyond its output bound the handler waits; it is woken to find its client gone."""
    with Logged(tmp_path / "log", "--output-memory=16KiB", "--output-spool=256KiB") as logged:
        for target, leave in ((f"/written?n={LARGE}", vanish), ("/endless", Client.close),
                              (f"/streamed?n={LARGE}", half_close)):
            path = target.partition("?")[0]
            client = slow_client(logged.server)
            client.send(get(target) + get("/"))
            client.read_head()
            leave(client)
            logged.server.wait_stderr(f"closed {path}")
            (line,) = logged.wait_lines(f"GET {path}", 1)
            assert line["status"] == "499"
        assert "Traceback" not in logged.server.stderr


def test_a_client_that_stays_is_no_499(logged):
    """Neither one that reads slowly, nor one that says early that it sends nothing more."""
    client = slow_client(logged.server)
    client.send(get(f"/streamed?n={LARGE}", "Connection: close"))
    client.sock.shutdown(socket.SHUT_WR)
    wake(client)
    assert client.read_response().body == content(LARGE)
    assert client.at_eof()
    client.close()
    (line,) = logged.wait_lines("GET /streamed", 1)
    assert (line["status"], line["bytes"]) == ("200", str(LARGE))


def test_a_client_that_leaves_with_its_answer(logged):
    """All of it was handed over; whether it was read, only the client knows."""
    for leave in (vanish, Client.close):
        client = logged.server.connect()
        client.request(get("/?whole"))
        leave(client)
    assert [m["status"] for m in logged.wait_lines(r"GET /\?whole", 2)] == ["200", "200"]


@pytest.mark.parametrize("leave", [vanish, Client.close])
@pytest.mark.parametrize("body, fields", [
    (b"x" * 100, ["Content-Length: 1000"]), (b"5\r\nab", ["Transfer-Encoding: chunked"])],
    ids=["length", "chunked"])
def test_within_its_request(logged, leave, body, fields):
    """The application has never seen it, but the log has."""
    client = logged.server.connect()
    client.send(post("/upload", b"", *fields) + body)
    assert logged.server.get("/").body == b"hello"
    leave(client)
    (line,) = logged.wait_lines("POST /upload", 1)
    assert line["status"] in ("400", "499")


@LEAVE
def test_many_at_once(logged, leave):
    """As many lines and close()s as requests, and (the fixture looks) no descriptor left."""
    server = logged.server
    told = server.stderr.count("closed /streamed")
    clients = [slow_client(server) for _ in range(10)]
    for client in clients:
        client.send(get(f"/streamed?n={LARGE // 2}&many") + get("/?behind"))
    for client in clients:
        client.read_head()
        leave(client)
    lines = logged.wait_lines("GET /streamed", 10)
    assert {m["status"] for m in lines} == {"499"}
    wait_for(lambda: server.stderr.count("closed /streamed") == told + 10)


def test_pipelined_behind_an_answer_nobody_takes(logged):
    """It is not executed after the client has gone: its answer could go nowhere."""
    client = slow_client(logged.server)
    client.send(get(f"/whole?n={LARGE}") + get("/streamed?n=1&behind"))
    client.read_head()
    vanish(client)
    (line,) = logged.wait_lines("GET /whole", 1)
    assert line["status"] == "499"
    assert logged.server.get("/?after").body == b"hello"
    logged.wait_lines(r"GET /\?after", 1)
    assert logged.lines("GET /streamed") == []
