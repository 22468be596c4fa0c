"""The access log of a real server: written to a file or to standard output."""

import re

from harness import wait_for
from tools import get, start

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
