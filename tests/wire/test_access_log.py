"""The access log of a real server: written to a file or to standard output."""

import re

import pytest
from harness import wait_for
from tools import PATIENT, content, get, post, slow_client, start, vanish, wake

LINE = re.compile(r'127\.0\.0\.1 - - \[[^]]+\] "(?P<request>[^"]*)" (?P<status>\d+) \S+'
                  r'( "[^"]*" "[^"]*")?')


def test_file(tmp_path):
    path = tmp_path / "access.log"
    with start(f"--access-log={path}", "--access-log-format=common") as server:
        with server.connect() as client:
            for number in range(50):
                client.request(get(f"/?{number}"))
            client.request(get("/fails"))
        wait_for(lambda: path.read_text().count("\n") == 51)
        lines = path.read_text().splitlines()
        assert [LINE.fullmatch(line)["request"] for line in lines[:50]] == [
            f"GET /?{number} HTTP/1.1" for number in range(50)]
        assert LINE.fullmatch(lines[50])["status"] == "500"


def test_it_is_appended_to_and_complete_at_the_end(tmp_path):
    path = tmp_path / "access.log"
    path.write_text("kept\n")
    with start(f"--access-log={path}") as server:
        server.get("/", User_Agent="agent")
        server.get("/nowhere")
        assert server.stop() == 0
    lines = path.read_text().splitlines()
    assert lines[0] == "kept"
    assert [LINE.fullmatch(line)["status"] for line in lines[1:]] == ["200", "404"]
    assert lines[1].endswith('"-" "agent"')


def test_standard_output():
    with start("--access-log=-") as server:
        server.get("/")
        assert server.stop() == 0
        assert LINE.fullmatch(server.stdout.strip())["request"] == "GET / HTTP/1.1"


def test_off_by_default():
    with start() as server:
        server.get("/")
        assert server.stop() == 0
        assert server.stdout == ""
        assert "GET /" not in server.stderr


def lines_of(path):
    return [LINE.fullmatch(line) for line in path.read_text().splitlines()]


REFUSED = [
    (b"GET / HTTP/1.1\r\nHost: x\r\n", "408"),
    (b"G", "408"),
    (post("/upload", b"x" * 9, "Content-Length: 10"), "408"),
    (post("/upload", b"5\r\nab", "Transfer-Encoding: chunked"), "408"),
    (post("/upload", b"", "Content-Length: 10", "Expect: 100-continue"), "408"),
    (b"\0", "400"),
    (b"GET /" + b"a" * 20_000, "414"),
    (get("/", "A: " + "a" * 70_000), "431"),
    (post("/upload", b"", "Content-Length: 99999999999"), "413"),
    (post("/upload", b"", "Expect: miracles"), "417"),
    (b"FROB / HTTP/1.1\r\nHost: x\r\n\r\n", "501"),
    (b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", "505"),
]


def test_refused_requests(short):
    """Each has a line, with the request line as it came.  (One test for all: lines are written
    a moment later.)"""
    server, path = short
    path.write_bytes(b"")
    for raw, status in REFUSED:
        with server.connect() as client:
            client.send(raw)
            answer = client.read_response()
            assert answer.status == int(status), raw
            assert answer.header("connection") == "close", raw
            assert client.at_eof(), raw
    wait_for(lambda: path.read_text().count("\n") == len(REFUSED))
    for line, (raw, status) in zip(lines_of(path), REFUSED, strict=True):
        assert line["status"] == status, raw
        came = raw.partition(b"\r")[0][:1024].decode()
        assert line["request"] == came.replace("\0", "\\x00"), raw


@pytest.mark.parametrize("raw", [b"", get("/?only")])
def test_silence_has_no_line(short, raw):
    """Neither a browser that merely connects nor the end of a rest is a request."""
    server, path = short
    path.write_bytes(b"")
    with server.connect() as client:
        client.send(raw)
        assert client.read_all().count(b"HTTP/1.1 ") == bool(raw)
    server.get("/?after")
    wait_for(lambda: "GET /?after" in path.read_text())
    assert [m["request"] for m in lines_of(path)] == (
        ["GET /?only HTTP/1.1"] * bool(raw) + ["GET /?after HTTP/1.1"])


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A server with short timeouts, and its access log."""
    path = tmp_path_factory.mktemp("log") / "access.log"
    with start(f"--access-log={path}", "--head-timeout=300ms", "--body-timeout=300ms",
               "--keep-alive=300ms") as server:
        yield server, path


def test_499_counts_what_arrived(tmp_path):
    path = tmp_path / "access.log"
    with start(f"--access-log={path}", *PATIENT) as server:
        client = slow_client(server)
        client.send(get("/whole?n=20000000"))
        client.read_head()
        vanish(client)
        wait_for(lambda: path.read_text())
    (line,) = path.read_text().splitlines()
    status, size = line.split('" ')[1].split(" ")[:2]
    assert status == "499"
    assert 0 <= int(size) < 19_000_000


def test_a_client_that_leaves_before_its_turn(tmp_path):
    """Its request is complete, but the handler is taken; it is never executed, and logged as one
    whose client was gone."""
    path = tmp_path / "access.log"
    with start(f"--access-log={path}", "--output-memory=16KiB", "--output-spool=256KiB",
               *PATIENT) as server:
        slow = slow_client(server)
        slow.send(get("/sized?n=12000000"))
        slow.read_head()
        waiting = server.connect()
        waiting.send(get("/?waiting"))
        with server.connect() as other:     # refused by the loop, after it has read the one before
            other.send(b"\0")
            assert other.read_response().status == 400
        vanish(waiting)
        with server.connect() as other:
            other.send(b"\0")
            assert other.read_response().status == 400
        wake(slow)
        assert slow.read_exactly(12_000_000) == content(12_000_000)
        slow.close()
        assert server.get("/?after").body == b"hello"
        assert server.stop() == 0
    found = {m["request"]: m["status"] for m in lines_of(path)}
    assert found["GET /sized?n=12000000 HTTP/1.1"] == "200"
    assert found["GET /?after HTTP/1.1"] == "200"
    assert found.get("GET /?waiting HTTP/1.1") == "499"
