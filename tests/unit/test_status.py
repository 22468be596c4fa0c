import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from fastfork import status
from fastfork.control import Control

ROOT = Path(__file__).resolve().parents[2]


def worker(number, **more):
    return {
        "number": number, "pid": 100 + number, "generation": 1, "state": "ready", "age": 75.2,
        "boot": 0.4, "worn": None, "memory": 84 << 20, "heartbeat": 1000.0, "accepted": 12,
        "requests": 12034, "connections": 3, "in_flight": 0, "request_started": 0.0,
        "deadline": 0.0, "request_number": 7, "method": "", "path": "", "request_id": "",
        "statuses": [0, 1, 0, 0, 0], "sent": 1, "latency": [0],
        "handed_out": 0, "handed_in": 0, **more,
    }  # fmt: skip


def service(*workers, **more):
    return {"name": "web:app", "listen": ["http://127.0.0.1:8000"], "generation": 1, "size": 2,
            "state": "serving", "workers": list(workers), **more}  # fmt: skip


def answer(*services):
    return {"version": "0.1.0", "pid": 99, "uptime": 11106.5, "services": list(services)}


def render(*services, width=None):
    return status.render(answer(*services), 1000.0, width).splitlines()


# -- tables ------------------------------------------------------------------------------
def test_a_table():
    busy = worker(1, state="stopping", in_flight=1, request_started=999.2, method="GET",
                  path="/x", requests=7)  # fmt: skip
    assert render(service(worker(0), busy)) == [
        "fastfork 0.1.0, pid 99, up 3h05m",
        "web:app on http://127.0.0.1:8000: serving, generation 1, 1 of 2 workers ready",
        "  NO  PID  GEN  STATE       AGE  REQUESTS  CONNS  MEMORY  IN HAND",
        "   0  100    1  ready     1m15s     12034      3  84 MiB",
        "   1  101    1  stopping  1m15s         7      3  84 MiB  GET /x, 0.8 s",
    ]


def test_services_without_workers_and_several_addresses():
    assert render(service(listen=["http://127.0.0.1:80", "unix:/x"], state="reloading"),
                  service(name="meta:app", listen=[]))[1:] == [
        "web:app on http://127.0.0.1:80, unix:/x: reloading, generation 1, 0 of 2 workers ready",
        "meta:app on no address: serving, generation 1, 0 of 2 workers ready",
    ]  # fmt: skip


def test_what_became_of_the_last_reload():
    good = {"generation": 3, "ok": True, "why": ""}
    bad = {"generation": 4, "ok": False, "why": "No module named 'x'\nat all."}
    started = {"generation": 1, "ok": True, "why": ""}
    failed = {"generation": 1, "ok": False, "why": "no."}
    lines = render(service(outcome=good), service(outcome=bad), service(outcome=None),
                   service(outcome=started), service(outcome=failed))  # fmt: skip
    assert lines[2] == "  last reload: generation 3 serves"
    assert lines[4] == r"  last reload: generation 4 does not serve: No module named 'x'\x0aat all."
    assert lines[8:] == ["  start: generation 1 does not serve: no."]


def test_the_configuration_file():
    facts = {**answer(), "config": "/etc/fast\x1bfork.toml"}
    assert status.render(facts, 0.0) == (
        "fastfork 0.1.0, pid 99, up 3h05m, /etc/fast\\x1bfork.toml\n")
    assert status.render({**answer(), "config": None}, 0.0) == status.render(answer(), 0.0)


def test_what_is_not_known_yet():
    """A worker that was asked for has no slot, perhaps no pid."""
    starting = {"number": 0, "pid": 0, "generation": 2, "state": "starting", "age": 0.3,
                "boot": None, "worn": None, "memory": None}  # fmt: skip
    line = render(service(starting))[-1]
    assert line.split() == ["0", "-", "2", "starting", "0s", "-", "-", "-"]


def test_why_a_worker_is_worn():
    assert " ready (max_requests)  " in render(service(worker(0, worn="max_requests")))[-1]


@pytest.mark.parametrize(
    ("in_flight", "started", "shown"),
    [(0, 0.0, ""), (1, 940.0, "PUT /y, 60.0 s"), (3, 998.25, "PUT /y, 1.8 s, 2 more"),
     (2, 0.0, "2 waiting")])  # fmt: skip
def test_the_request_in_hand(in_flight, started, shown):
    one = worker(0, in_flight=in_flight, request_started=started, method="PUT", path="/y")
    line = render(service(one))[-1]
    assert line.partition("84 MiB")[2].strip() == shown


@pytest.mark.parametrize(
    ("facts", "shown"),
    [({"queued": 0, "refused": 0}, ""), ({"refused": 3}, "3 refused"),
     ({"in_flight": 2, "queued": 12}, "2 waiting, 12 queued"),
     ({"handed_out": 0, "handed_in": 0}, ""), ({"handed_in": 4}, "4 handed in"),
     ({"refused": 1, "handed_out": 25, "handed_in": 4}, "1 refused, 25 handed out, 4 handed in"),
     ({"in_flight": 4, "request_started": 998.0, "method": "GET", "path": "/y", "queued": 12,
       "refused": 3}, "GET /y, 2.0 s, 3 more, 12 queued, 3 refused")])  # fmt: skip
def test_requests_without_a_handler(facts, shown):
    line = render(service(worker(0, **facts)))[-1]
    assert line.partition("84 MiB")[2].strip() == shown


@pytest.mark.parametrize("key", ["queued", "refused", "handed_out", "handed_in"])
def test_what_is_no_number_does_not_reach_the_terminal_raw(key):
    line = render(service(worker(0, **{key: "\x1b"})))[-1]
    assert line.endswith(rf"\x1b {key.replace('_', ' ')}")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.9, "0s"), (59.9, "59s"), (60, "1m00s"), (3599, "59m59s"), (3600, "1h00m"),
     (86399, "23h59m"), (86400, "1d00h"), (2e6, "23d03h"), (None, "-")])  # fmt: skip
def test_ages(seconds, shown):
    assert render(service(worker(0, age=seconds)))[-1].split()[4] == shown


HOSTILE = "/\x1b]0;owned\x07\r\n\u202e\u2028\x9b31m\udcff\u00e9 \U0001f600"


@pytest.mark.parametrize("key", ["method", "path"])
def test_nothing_that_a_client_writes_reaches_the_terminal_raw(key):
    one = worker(0, in_flight=1, request_started=999.0, method="GET", path="/")
    one[key] = HOSTILE
    lines = render(service(one))
    assert len(lines) == 4
    assert all(" " <= character <= "~" for character in "".join(lines))
    assert r"/\x1b]0;owned\x07\x0d\x0a\u202e\u2028\x9b31m\udcff\xe9 \U0001f600" in lines[-1]


@pytest.mark.parametrize("width", [1, 20, 60, 80])
def test_lines_are_cut_to_the_width_of_the_terminal(width):
    one = worker(0, in_flight=1, request_started=999.0, method="GET", path="/x" * 100)
    whole = render(service(one))
    assert render(service(one), width=width) == [line[:width].rstrip() for line in whole]


# -- the command -------------------------------------------------------------------------
@pytest.fixture
def two(served, tmp_path):
    """`two(one, other)`: the paths of two servers that answer that."""

    def start(*answers):
        return [served(tmp_path / f"{n}.sock", lambda request, said=said: said)
                for n, said in enumerate(answers)]  # fmt: skip

    return start


def test_several_servers(two, capfd):
    paths = two(*({**answer(service(worker(0))), "pid": pid} for pid in (11, 12)))
    assert status.run(paths, None) == 0
    out = capfd.readouterr().out
    assert out.index("pid 11,") < out.index("\n\nfastfork 0.1.0, pid 12,")


def test_json_is_printed_as_it_came(two, capfd):
    paths = two(*({**answer(), "pid": pid, "path": HOSTILE} for pid in (11, 12)))
    assert status.run(paths, None, as_json=True) == 0
    out = capfd.readouterr().out
    lines = out.splitlines()
    assert [json.loads(line)["pid"] for line in lines] == [11, 12]
    assert lines[0] == json.dumps({**answer(), "pid": 11, "path": HOSTILE})
    assert out.isascii() and "\x1b" not in out


def test_no_server(capfd, tmp_path):
    dead = Control(tmp_path / "dead", lambda request: {})
    dead._listener.socket.close()
    for paths in ([], [tmp_path / "absent"], [dead.path]):
        assert status.run(paths, None, nobody="Nobody is there.") == 3
        captured = capfd.readouterr()
        assert captured.out == "" and captured.err == "fastfork: Nobody is there.\n"


def test_a_server_that_does_not_answer_hides_no_other(two, capfd):
    paths = two({"error": "not \x1b now"}, {**answer(), "pid": 12})
    assert status.run(paths, None) == 1
    captured = capfd.readouterr()
    assert "pid 12," in captured.out
    assert captured.err == f"fastfork: The server at {paths[0]} refuses: not \\x1b now.\n"


def test_one_service(served, tmp_path, capfd):
    asked = []
    path = served(tmp_path / "s", lambda request: asked.append(request) or answer(service()))
    assert status.run([path], "web:app") == 0
    assert asked == [{"command": "status", "service": "web:app"}]
    assert "web:app on" in capfd.readouterr().out


def test_a_service_that_one_of_several_servers_has(two, capfd):
    no = {"error": "there is no service 'a'"}
    assert status.run(two(no, answer(service(name="a"))), "a") == 0
    captured = capfd.readouterr()
    assert captured.out.splitlines()[1].startswith("a on ") and captured.err == ""


def test_a_service_that_no_server_has(two, capfd):
    no = {"error": "there is no service 'a'"}
    paths = two(no, no)
    assert status.run(paths, "a") == 1
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == "".join(
        f"fastfork: The server at {path} refuses: there is no service 'a'.\n" for path in paths)


@pytest.mark.parametrize("said", [{"services": 3}, {"services": ["a"]}, {"uptime": "long"}])
def test_an_answer_that_is_none(two, said, capfd):
    paths = two(said)
    assert status.run(paths, None) == 1
    assert capfd.readouterr().err == (
        f"fastfork: The server at {paths[0]} does not answer: it speaks another language.\n")


def test_a_path_that_cannot_be_used(capfd):
    assert status.run([Path("x" * 200)], None) == 1
    assert capfd.readouterr().err.endswith(" does not answer: AF_UNIX path too long.\n")


def command(path, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "fastfork", "status", "--control", str(path)],
        env=dict(os.environ, PYTHONPATH=str(ROOT)), stderr=subprocess.PIPE, **options)  # fmt: skip


def test_in_a_terminal_it_is_cut_and_in_a_pipe_it_is_not(tmp_path, served):
    path = "/" + "x" * 300
    one = worker(0, in_flight=1, request_started=1.0, method="GET", path=path)
    served(tmp_path / "s", lambda request: answer(service(one)))
    with command(tmp_path / "s", stdout=subprocess.PIPE) as process:
        assert path.encode() in process.stdout.read()
    master, terminal = pty.openpty()
    process = command(tmp_path / "s", stdout=terminal)
    os.close(terminal)
    output = b""
    try:
        while data := os.read(master, 65536):
            output += data
    except OSError:  # the terminal has no writer any more
        pass
    process.communicate()
    os.close(master)
    assert process.returncode == 0
    lines = output.decode().splitlines()
    assert len(lines) == 4
    columns = int(os.environ.get("COLUMNS", 0)) or 80
    assert max(map(len, lines)) == columns


def test_a_reader_that_has_seen_enough(tmp_path, served):
    long = answer(*[service(*map(worker, range(500))) for _ in range(10)])
    served(tmp_path / "s", lambda request: long)
    reading, writing = os.pipe()
    os.close(reading)
    with command(tmp_path / "s", stdout=writing) as process:
        os.close(writing)
        _, error = process.communicate()
    assert (process.returncode, error) == (0, b"")
