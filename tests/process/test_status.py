"""`fastfork status`, over the control socket."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys

import pytest
from harness import ROOT, alive, wait_for
from seen import ask, service


@pytest.fixture
def control(tmp_path):
    return tmp_path / "control"


def status(*args):
    return subprocess.run(
        [sys.executable, "-m", "fastfork", "status", *map(str, args)], capture_output=True,
        text=True, env={**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT))})


def test_as_json(start, control):
    server = start("small_apps:pid", "--control", str(control), workers=3)
    for _ in range(5):
        server.get("/")
    wait_for(lambda: sum(worker["requests"] for worker in service(control)["workers"]) == 5)
    done = status("--control", control, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["pid"] == server.pid
    (found,) = answer["services"]
    assert found["name"] == "small_apps:pid" and found["listen"] == [server.url]
    assert (found["generation"], found["size"], found["state"]) == (1, 3, "serving")
    assert sorted(worker["pid"] for worker in found["workers"]) == sorted(server.workers())
    assert sorted(worker["number"] for worker in found["workers"]) == [0, 1, 2]
    assert {worker["state"] for worker in found["workers"]} == {"ready"}
    assert sum(worker["requests"] for worker in found["workers"]) == 5
    assert all({"handed_out", "handed_in"} <= worker.keys() for worker in found["workers"])


def test_as_a_table(start, control, gate):
    server = start("small_apps:wait", "--control", str(control), workers=2)
    with server.connect() as client:
        client.send(f"GET /x?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        done = status("--control", control)
        assert done.returncode == 0, done.stderr
        gate.open()
        client.read_response()
    lines = done.stdout.splitlines()
    assert f"pid {server.pid}" in lines[0]
    assert lines[1].startswith(f"small_apps:wait on {server.url}: serving, generation 1, "
                               "2 of 2 workers ready")
    for pid in server.workers():
        assert sum(str(pid) in line.split() for line in lines) == 1
    assert sum("GET /x?" in line for line in lines) == 1


def test_servers_are_found_without_their_path(start):
    one, two = start("small_apps:pid"), start("small_apps:wait")
    done = status("--json")
    found = [json.loads(line)["pid"] for line in done.stdout.splitlines()]
    assert {one.pid, two.pid} <= set(found)


def test_one_is_chosen_by_its_pid(start):
    start("small_apps:pid")
    server = start("small_apps:wait")
    done = status("--pid", server.pid, "--json")
    assert [json.loads(line)["pid"] for line in done.stdout.splitlines()] == [server.pid]


def test_nobody_is_there(control):
    done = status("--control", control)
    assert done.returncode == 3 and done.stdout == ""
    assert str(control) in done.stderr


def test_the_socket_is_for_its_user_alone_and_goes_with_the_server(start, control):
    server = start("small_apps:pid", "--control", str(control))
    assert stat.S_IMODE(control.stat().st_mode) == 0o600
    assert server.stop() == 0
    assert not control.exists()


def test_a_stale_socket_is_no_obstacle(start, control):
    killed = start("small_apps:pid", "--control", str(control))
    killed.process.kill()
    killed.wait()
    server = start("small_apps:pid", "--control", str(control))
    assert ask(control, {"command": "status"})["pid"] == server.pid


@pytest.mark.parametrize("path", ["/absent/directory/control", "/proc/control"])
def test_one_that_cannot_be_made_is_a_warning_only(start, path):
    server = start("small_apps:pid", "--control", path)
    server.wait_stderr("WARNING")
    assert "There is no control socket for fastfork status: " in server.stderr
    assert server.get("/").status == 200


def test_none_at_all(start):
    server = start("small_apps:pid", "--control", "none")
    assert status("--pid", server.pid).returncode == 3


def test_a_silent_client_does_not_hold_up_the_server(start, control):
    server = start("small_apps:pid", "--control", str(control))
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(control))
        silent.sendall(b'{"command": ')
        assert ask(control, {"command": "status"})["pid"] == server.pid
        (old,) = server.workers()
        os.kill(old, signal.SIGKILL)
        wait_for(lambda: server.workers() not in ([], [old]))
        assert server.stop() == 0


def test_to_be_asked_for_somebody_else_s_service_is_nothing_to_log(start, control):
    """`fastfork status NAME` asks every server of the user."""
    server = start("small_apps:pid", "--control", str(control))
    answer = ask(control, {"command": "status", "service": "absent"})
    assert answer == {"error": "There is no service 'absent'"}
    assert "ERROR" not in server.stderr
    assert "error" in ask(control, {"command": "reload", "service": "absent"})
    server.wait_stderr("[ERROR] Control socket, reload: There is no service 'absent'.")


def test_what_is_no_command(start, control):
    server = start("small_apps:pid", "--control", str(control))
    assert "error" in ask(control, {"command": "explode"})
    assert "error" in ask(control, ["status"])
    assert server.get("/").status == 200


def test_while_it_reloads(web, control, tmp_path, gate):
    text = "from small_apps import pid as app\n"
    server = web(text, "--control", str(control), workers=2)
    (tmp_path / "web.py").write_text(f"open({str(gate.path)!r}).read()\n" + text)
    server.signal(signal.SIGHUP)
    gate.reached()
    found = service(control)
    assert (found["state"], found["generation"]) == ("reloading", 1)
    (tmp_path / "web.py").write_text(text)
    gate.open()
    server.wait_stderr("is reloaded: generation 2")
    found = service(control)
    assert (found["state"], found["generation"]) == ("serving", 2)


def test_while_it_stops(start, control, gate):
    server = start("small_apps:wait", "--control", str(control))
    with server.connect() as client:
        client.send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        server.signal(signal.SIGTERM)
        server.wait_stderr("SIGTERM: stopping")
        found = service(control)
        assert found["state"] == "stopping"
        assert [worker["state"] for worker in found["workers"]] == ["stopping"]
        gate.open()
        client.read_response()
    assert server.wait() == 0


def test_workers_do_not_hold_it(start, control):
    """A server whose master is killed leaves a socket at which nobody listens."""
    server = start("small_apps:pid", "--control", str(control), workers=2)
    workers = server.workers()
    server.process.kill()
    wait_for(lambda: not any(alive(pid) for pid in workers))
    assert status("--control", control).returncode == 3
