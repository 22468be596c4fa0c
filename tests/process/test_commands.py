"""`fastfork reload|scale|stop|restart`, to servers that run."""

import contextlib
import signal
import socket

from harness import alive, wait_for
from seen import ask

from fastfork import control

PID = 'app = "small_apps:pid"'
WEB = 'app = "web:app"'
GOOD = "from small_apps import pid as app\n"


def pids(deployed):
    return {name: deployed.workers(name) for name in deployed.services()}


# -- reload ------------------------------------------------------------------------------
def test_one_service_is_reloaded_and_no_other(deployed):
    several = deployed({"one": PID, "other": PID}, workers=2)
    before = pids(several)
    assert several.do("reload", "one") == "one: generation 2 serves, 2 workers\n"
    after = pids(several)
    assert after["other"] == before["other"]
    assert len(after["one"]) == 2 and not set(after["one"]) & set(before["one"])
    assert several.services()["one"]["outcome"] == {"generation": 2, "ok": True, "why": ""}
    assert "one is reloaded: generation 2, 2 workers." in several.server.stderr


def test_a_file_with_other_services(deployed):
    several = deployed({"stays": PID, "goes": PID})
    (old,) = several.workers("goes")
    kept = several.address("stays")
    several.write({"stays": PID + "\nworkers = 2", "comes": PID})
    assert sorted(several.do("reload").splitlines()) == [
        "comes: generation 1 serves, 1 worker", "stays: generation 2 serves, 2 workers"]
    wait_for(lambda: not alive(old))
    wait_for(lambda: set(several.services()) == {"stays", "comes"})
    assert several.address("stays") == kept
    assert int(several.get("comes").body) in several.workers("comes")


def test_a_file_that_cannot_be_used_changes_nothing(deployed):
    several = deployed({"one": PID, "two": PID})
    before = pids(several)
    several.write({"one": PID + "\nworker = 2", "two": "app = 3"})
    status, out, error = several.run("reload")
    assert (status, out) == (1, "")
    first, second, last = error.splitlines()
    assert "[services.one]" in first and "'worker' (perhaps 'workers' is meant)" in first
    assert "[services.two]" in second
    assert last == (f"fastfork: Nothing is reloaded, the server with the pid {several.server.pid} "
                    "goes on as before.")
    assert pids(several) == before
    assert {one["generation"] for one in several.services().values()} == {1}


def test_code_that_does_not_boot(deployed, tmp_path):
    (tmp_path / "web.py").write_text(GOOD)
    several = deployed({"web": WEB, "other": PID})
    before = pids(several)
    (tmp_path / "web.py").write_text("raise RuntimeError('new and broken')\n")
    status, out, error = several.run("reload")
    assert (status, error) == (1, "")
    told = dict(line.split(": ", 1) for line in out.splitlines())
    assert told["other"] == "generation 2 serves, 1 worker"
    assert told["web"].startswith("not reloaded: ") and "new and broken" in told["web"]
    assert told["web"].endswith(" Generation 1 goes on.")
    assert pids(several)["web"] == before["web"]
    assert "last reload: generation 2 does not serve: " in several.do("status", "web")


def test_not_waiting_and_the_time_limit(deployed, tmp_path, gate):
    (tmp_path / "web.py").write_text(GOOD)
    several = deployed({"web": WEB})
    (tmp_path / "web.py").write_text(f"open({str(gate.path)!r}).read()\n{GOOD}")
    assert several.do("reload", "--no-wait") == "web: generation 2 is on its way\n"
    gate.reached()
    assert several.services()["web"]["state"] == "reloading"
    assert several.run("reload", "--timeout", "100ms") == (
        1, "", "fastfork: The reload of web is not over after 0.1 s; it goes on.\n")
    (tmp_path / "web.py").write_text(GOOD)
    gate.open()
    wait_for(lambda: several.services()["web"]["state"] == "serving")


def test_a_server_that_is_killed_during_the_reload(deployed, tmp_path, gate):
    (tmp_path / "web.py").write_text(GOOD)
    several = deployed({"web": WEB})
    (tmp_path / "web.py").write_text(f"open({str(gate.path)!r}).read()\n{GOOD}")
    with several.command("reload") as process:
        gate.reached()
        several.server.process.kill()
        out, error = process.communicate()
    assert (process.returncode, out) == (1, "")
    assert error == (f"fastfork: The server with the pid {several.server.pid} has ended before "
                     "that was done.\n")
    assert several.run("reload")[0] == 3


# -- restart -----------------------------------------------------------------------------
def test_a_restart_ends_the_old_workers_first(deployed, tmp_path):
    (tmp_path / "web.py").write_text(GOOD)
    several = deployed({"web": WEB + '\npreload = "off"', "other": PID}, workers=2)
    before = pids(several)
    (tmp_path / "web.py").write_text(f"""
import os
with open({str(tmp_path / "seen")!r}, "a") as seen:
    print([pid for pid in {before["web"]} if os.path.exists(f"/proc/{{pid}}")], file=seen)
{GOOD}""")
    assert several.do("restart", "web") == "web: generation 2 serves, 2 workers\n"
    assert (tmp_path / "seen").read_text() == "[]\n[]\n"
    after = pids(several)
    assert after["other"] == before["other"]
    assert len(after["web"]) == 2 and not set(after["web"]) & set(before["web"])
    assert int(several.get("web").body) in after["web"]


# -- scale -------------------------------------------------------------------------------
def test_scale(deployed):
    several = deployed({"one": PID, "other": PID})
    before = pids(several)
    assert several.do("scale", "one", 3) == "one: 3 workers, 1 before\n"
    several.wait_workers("one", 3)
    assert several.do("scale", "one", "-1") == "one: 2 workers, 3 before\n"
    several.wait_workers("one", 2)
    assert several.do("scale", "one", "+1") == "one: 3 workers, 2 before\n"
    several.wait_workers("one", 3)
    assert several.workers("other") == before["other"]


def test_scale_needs_the_name_of_one_of_several(deployed):
    several = deployed({"one": PID, "other": PID})
    status, out, error = several.run("scale", 3)
    assert (status, out) == (1, "") and "one, other" in error and error.count("\n") == 1
    status, out, error = several.run("scale", "othr", 3)
    assert (status, out) == (1, "")
    assert error == "fastfork: There is no service 'othr' (perhaps 'other' is meant).\n"


def test_scale_the_only_service(deployed):
    several = deployed({"one": PID})
    assert several.do("scale", "+1") == "one: 2 workers, 1 before\n"
    several.wait_workers("one", 2)


# -- stop --------------------------------------------------------------------------------
def test_a_stopped_service_comes_back_with_a_restart(deployed):
    several = deployed({"one": PID, "other": PID})
    before = pids(several)
    assert several.do("stop", "one") == "one: stopped\n"
    assert not alive(before["one"][0])
    assert several.services()["one"]["state"] == "stopped"
    assert int(several.get("other").body) == before["other"][0]
    assert several.do("restart", "one") == "one: generation 2 serves, 1 worker\n"
    assert int(several.get("one").body) in several.workers("one")


def test_stop_waits_for_what_is_in_hand(deployed, gate):
    several = deployed({"one": 'app = "small_apps:wait"', "other": PID})
    with several.connect("one") as client:
        client.send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        with several.command("stop", "one") as process:
            wait_for(lambda: several.services()["one"]["state"] == "stopping")
            gate.open()
            assert client.read_response().status == 200
            client.close()
            out, _ = process.communicate()
    assert (process.returncode, out) == (0, "one: stopped\n")


def test_stop_the_server(deployed):
    several = deployed({"one": PID, "other": PID})
    pid = several.server.pid
    assert several.do("stop") == f"The server with the pid {pid} has stopped.\n"
    assert several.server.wait() == 0
    assert several.run("stop") == (3, "", f"fastfork: No server listens at {several.control}.\n")


# -- the socket --------------------------------------------------------------------------
def test_who_says_nothing_keeps_nobody_out(deployed):
    several = deployed({"one": PID})
    with contextlib.ExitStack() as silent:
        for _ in range(3 * control.MOST_CLIENTS):
            client = silent.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(several.control))
            assert several.services()["one"]["state"] == "serving"
        assert several.do("scale", "2") == "one: 2 workers, 1 before\n"


def test_what_is_refused(deployed):
    several = deployed({"one": PID})
    before = pids(several)
    for request, error in [
        ({"command": "scale", "workers": "2"},
         "'workers' must be a whole number from 0 to 4096, not '2'"),
        ({"command": "scale", "by": -2}, "one cannot have -1 workers, only 0 to 4096"),
        ({"command": "reload", "service": "absent"}, "There is no service 'absent'"),
        ({"command": "reboot"}, "there is no command 'reboot'"),
    ]:  # fmt: skip
        assert ask(several.control, request) == {"error": error}
    assert pids(several) == before


def test_a_sighup_shows_too(deployed):
    several = deployed({"one": PID})
    several.server.signal(signal.SIGHUP)
    wait_for(lambda: several.services()["one"]["outcome"]["generation"] == 2)
    assert several.services()["one"]["generation"] == 2
