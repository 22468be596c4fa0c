"""A reload reads the configuration again: services come, change and go, and what is wrong with
the file changes nothing."""

import os
import re
import signal
import socket
import sys

import pytest
from harness import alive, children, wait_for
from load import Load
from seen import kinds, kinds_at_rest

OK = {"ok": True, "why": ""}


def good(generation):
    return {"generation": generation, **OK}


def refused(realm, service):
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        realm.connect(service)


def test_settings_change_with_a_reload(realm):
    realm.write(one="small_apps:process")
    realm.start()
    assert realm.get("one").header("Server") == "fastfork"
    realm.write(one="app = 'small_apps:process'\nserver_header = 'other'\nworkers = 3")
    assert realm.reload() == {"one": good(2)}
    assert realm.get("one").header("Server") == "other"
    assert len(realm.workers("one")) == realm.status("one")["size"] == 3


def test_services_come_and_go(realm):
    realm.write(one="small_apps:pid", two="small_apps:pid")
    realm.start()
    assert realm.names() == ["one", "two"]
    gone = realm.workers("one")
    realm.write(three="small_apps:pid", two="small_apps:pid")
    assert realm.reload() == {"three": good(1), "two": good(2)}
    assert realm.get("three").status == realm.get("two").status == 200
    wait_for(lambda: realm.names() == ["three", "two"], message=lambda: realm.server.stderr)
    assert not any(alive(pid) for pid in gone)
    refused(realm, "one")
    assert "one is not in the configuration any more, it is stopped." in realm.server.stderr
    assert "one is gone." in realm.server.stderr


def test_one_that_left_may_come_again(realm, gate):
    """Also while the last of its requests is being answered."""
    realm.write(one="small_apps:wait", two="small_apps:pid")
    realm.start()
    with realm.connect("one") as client:
        client.send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        realm.write(two="small_apps:pid")
        realm.reload()
        realm.write(one="small_apps:wait", two="small_apps:pid")
        assert realm.reload() == {"one": good(1), "two": good(3)}
        new = realm.get("one").body
        gate.open()
        response = client.read_response()
        assert response.complete and response.body != new
    wait_for(lambda: realm.names() == ["one", "two"], message=lambda: realm.names())
    assert realm.get("one").body == new


def test_who_still_has_an_address_is_named(realm, gate):
    """A worker in a request closes its sockets when that is over."""
    more = "app = 'small_apps:wait'\nbind = '127.0.0.1:{}'"
    realm.write(one=more.format(0), two="small_apps:pid")
    server = realm.start()
    port = server.address[1]
    with server.connect() as client:
        client.send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        realm.write(two="small_apps:pid")
        realm.reload()
        realm.write(one=more.format(port), two="small_apps:pid")
        error = realm.ask("reload")["error"]
        assert f"[services.one]: Cannot listen on 127.0.0.1:{port}: workers of one that finish" in (
            error)
        gate.open()
        assert client.read_response().complete
    wait_for(lambda: realm.names() == ["two"])
    assert realm.reload() == {"one": good(1), "two": good(3)}
    assert server.get("/").status == 200


def test_an_address_changes_and_the_others_are_not_dropped(realm):
    """A request every moment at the address that stays; and the new one serves."""
    app = "app = 'small_apps:pid'\n"
    realm.write(one=app + "bind = ['127.0.0.1:0', 'unix:old.sock']\nworkers = 2")
    server = realm.start()
    with Load(server.address, clients=8) as load:
        load.wait_answered(100)
        realm.write(one=app + "bind = ['unix:new.sock', '127.0.0.1:0']\nworkers = 2")
        assert realm.reload() == {"one": good(2)}
        load.wait_answered(load.answered + 500)
    assert load.failures == []
    assert realm.get("new").status == 200
    refused(realm, "old")
    assert not (realm.directory / "old.sock").exists()
    new, tcp = realm.status("one")["listen"]
    assert new == f"unix:{realm.directory}/new.sock"
    assert tcp == f"http://127.0.0.1:{server.address[1]}"
    assert f"one is on {new}, {tcp} now." in server.stderr


def test_addresses_move_between_services(realm):
    """Two change places, a third takes over that of one that is renamed: nothing is dropped."""
    app = "app = 'small_apps:where'\nenvironment = {{ WHERE = '{}' }}\nbind = 'unix:{}.sock'"
    realm.write(one=app.format("one", "a"), two=app.format("two", "b"),
                three=app.format("three", "c"))
    server = realm.start()
    assert [realm.get(name).body for name in "abc"] == [b"one", b"two", b"three"]
    before = kinds_at_rest(server)
    realm.write(one=app.format("one", "b"), two=app.format("two", "a"),
                drei=app.format("drei", "c"))
    assert realm.reload() == {"one": good(2), "two": good(2), "drei": good(1)}
    wait_for(lambda: realm.names() == ["one", "two", "drei"])
    wait_for(lambda: [realm.get(name).body for name in "abc"] == [b"two", b"one", b"drei"])
    wait_for(lambda: kinds(server.pid) == before)


def test_an_address_that_another_has_is_refused_with_its_name(realm):
    app = "app = 'small_apps:pid'\nbind = "
    realm.write(one=app + "'127.0.0.1:0'", two=app + "'unix:two.sock'")
    port = realm.start().address[1]
    realm.write(one=app + f"'0.0.0.0:{port}'", two=app + "'unix:two.sock'")
    error = realm.ask("reload")["error"]
    assert f"{realm.file}, [services.one]: Cannot listen on 0.0.0.0:{port}: " in error
    assert "this server listens on 127.0.0.1:0 for one" in error
    realm.write(one=app + "'unix:one.sock'", two=app + "['unix:two.sock', '127.0.0.1:0']")
    assert "one is still" not in realm.ask("reload", "two").get("error", "")


def test_what_is_scaled_to_none_stays_so(realm):
    realm.write(one="small_apps:pid", two="small_apps:pid")
    realm.start()
    realm.ask("scale", "one", workers=0)
    wait_for(lambda: not realm.workers("one"))
    assert realm.reload() == {"one": good(2), "two": good(2)}
    assert realm.status("one")["size"] == 0
    realm.ask("scale", "one", workers=1)
    wait_for(lambda: realm.workers("one"))


def test_a_refused_file_does_not_change_the_sockets(realm):
    app = "app = 'small_apps:pid'\n"
    realm.write(one=app + "socket_mode = '0600'", two=app)
    realm.start()
    file = realm.directory / "one.sock"
    realm.write(one=app + "socket_mode = '0666'", two=app + "bind = 'unix:absent/s'")
    assert "absent" in realm.ask("reload")["error"]
    assert file.stat().st_mode & 0o777 == 0o600
    realm.write(one=app + "socket_mode = '0666'", two=app)
    realm.reload()
    assert file.stat().st_mode & 0o777 == 0o666


def test_what_systemd_has_passed_is_there_as_long_as_the_server(realm):
    """Of a service that is stopped or removed, and of one that comes later."""
    app = "app = 'small_apps:pid'\nbind = 'systemd:{}'"
    with socket.create_server(("127.0.0.1", 0)) as web, socket.create_server(
        ("127.0.0.1", 0)
    ) as late:
        realm.write(one=app.format("web"), two="small_apps:pid")
        launch = ("import fcntl, os, sys; "
                  "a, b = (fcntl.fcntl(int(fd), fcntl.F_DUPFD, 100) for fd in sys.argv[1:3]); "
                  "os.dup2(a, 3); os.dup2(b, 4); os.environ['LISTEN_PID'] = str(os.getpid()); "
                  "os.execv(sys.argv[3], sys.argv[3:])")
        server = realm.start(
            pass_fds=(web.fileno(), late.fileno()),
            launcher=[sys.executable, "-c", launch, str(web.fileno()), str(late.fileno())],
            env={"LISTEN_FDS": "2", "LISTEN_FDNAMES": "web:late"})
        url = realm.status("one")["listen"]
        assert url == [f"http://127.0.0.1:{web.getsockname()[1]}"]
        assert "systemd:late was passed but nothing is bound to it." in server.stderr
        realm.ask("stop", "one")
        wait_for(lambda: realm.status("one")["state"] == "stopped")
        assert realm.reload("one") == {"one": good(2)}
        assert realm.status("one")["listen"] == url
        realm.write(two="small_apps:pid")
        realm.reload()
        wait_for(lambda: realm.names() == ["two"])
        realm.write(one=app.format("web"), two="small_apps:pid", three=app.format("late"))
        assert realm.reload() == {"one": good(1), "two": good(3), "three": good(1)}
        assert realm.status("one")["listen"] == url
        assert realm.status("three")["listen"] == [f"http://127.0.0.1:{late.getsockname()[1]}"]
        assert "Traceback" not in server.stderr


@pytest.mark.parametrize("preload", ["on", "off"])
def test_nobody_keeps_an_address_that_is_given_up(realm, preload):
    """Not the new mold and the new worker either, which were made while it was there."""
    app = f"app = 'small_apps:pid'\npreload = '{preload}'\n"
    realm.write(one=app + "bind = '127.0.0.1:0'")
    server = realm.start()
    realm.write(one=app + "bind = 'unix:one.sock'")
    assert realm.reload() == {"one": good(2)}
    assert realm.get("one").status == 200
    wait_for(lambda: len(children(server.pid)) == (2 if preload == "on" else 1))
    with pytest.raises(ConnectionRefusedError):
        server.connect()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"two": "app = 'small_apps:pid'\nwrokers = 3"}, "wrokers"),
        ({"two": "app = 'small_apps:pid'\nworkers = 0"}, "workers"),
        ({"two": "app = 'small_apps:pid'\nbind = 'unix:absent/x.sock'"}, "no such directory"),
        ({"two": "app = 'small_apps:pid'\nbind = '192.0.2.1:1'"}, "192.0.2.1"),
        ({"two": "app = 'small_apps:pid'\nuser = 'nobody-of-that-name'"}, "nobody-of-that-name"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("by", ["SIGHUP", "control"])
def test_a_bad_file_changes_nothing(realm, change, sentence, by):
    """Not even what is right in it: the service before the bad one has a new address."""
    realm.write(one="small_apps:pid", two="small_apps:pid")
    server = realm.start()
    open_before = kinds_at_rest(server)
    before = realm.workers("one"), realm.workers("two")
    realm.write(**{"zero": "small_apps:pid", "one": "app = 'small_apps:pid'\nbind = 'unix:n.sock'",
                   **change})
    if by == "SIGHUP":
        server.signal(signal.SIGHUP)
        server.wait_stderr("SIGHUP: nothing is reloaded, everything goes on as before.")
        assert any("SIGHUP: " in line and sentence in line for line in server.stderr.splitlines())
    else:
        assert sentence in realm.ask("reload")["error"]
    assert (realm.workers("one"), realm.workers("two")) == before
    assert realm.get("one").status == realm.get("two").status == 200
    refused(realm, "n")
    refused(realm, "zero")
    assert not (realm.directory / "n.sock").exists()
    assert realm.names() == ["one", "two"]
    wait_for(lambda: kinds(server.pid) == open_before)   # who asked has just gone
    realm.write(one="small_apps:pid", two="small_apps:pid")
    assert realm.reload() == {"one": good(2), "two": good(2)}


@pytest.mark.parametrize("preload", ["on", "off"])
def test_new_code_that_does_not_boot_leaves_the_old_addresses(realm, tmp_path, preload):
    (tmp_path / "bad.py").write_text("1 / 0\n")
    realm.write(one=f"app = 'small_apps:pid'\npreload = '{preload}'", two="small_apps:pid")
    realm.start()
    before = realm.workers("one")
    realm.write(one="app = 'bad:app'\nbind = 'unix:new.sock'\npython_path = '.'\n"
                f"preload = '{preload}'", two="small_apps:pid")
    outcome = realm.reload()
    assert outcome["two"] == good(2)
    assert not outcome["one"]["ok"] and "ZeroDivisionError" in outcome["one"]["why"]
    assert realm.workers("one") == before
    assert realm.get("one").status == 200
    refused(realm, "new")
    assert realm.status("one")["listen"] == [f"unix:{realm.directory}/one.sock"]
    realm.write(one="app = 'small_apps:pid'\nbind = 'unix:new.sock'", two="small_apps:pid")
    assert realm.reload("one") == {"one": good(3)}
    assert realm.get("new").status == 200


def test_a_reload_in_the_middle_of_another(realm, tmp_path):
    """The second shares a new address with the first, which never gets ready."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "slow.py").write_text(f"open({str(tmp_path / 'fifo')!r}).read()\n")
    realm.write(one="small_apps:pid")
    realm.start()
    more = "bind = ['unix:one.sock', 'unix:new.sock']\npython_path = '.'"
    realm.write(one=f"app = 'slow:app'\n{more}")
    assert realm.ask("reload") == {"services": {"one": 2}}
    wait_for(lambda: len(realm.server.molds()) == 2, message=lambda: realm.server.stderr)
    realm.write(one=f"app = 'small_apps:pid'\n{more}")
    assert realm.reload() == {"one": good(3)}
    assert realm.get("new").status == realm.get("one").status == 200
    wait_for(lambda: len(realm.server.molds()) == 1)


def test_one_service_is_reloaded_alone(realm):
    realm.write(one="small_apps:pid", two="small_apps:pid")
    realm.start()
    before = realm.workers("two")
    old = realm.workers("one")
    realm.write(one="app = 'small_apps:pid'\nserver_header = 'new'",
                two="app = 'small_apps:pid'\nserver_header = 'new'")
    assert realm.reload("one") == {"one": good(2)}
    assert realm.workers("two") == before and realm.workers("one") != old
    assert realm.get("one").header("Server") == "new"
    assert realm.get("two").header("Server") == "fastfork"


def test_restart_ends_the_old_workers_first(realm, gate):
    """Meanwhile clients wait in the queue of the socket."""
    realm.write(one="small_apps:wait")
    server = realm.start()
    (old,) = realm.workers("one")
    with realm.connect("one") as client, realm.connect("one") as waiting:
        client.send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        assert realm.ask("restart", "one") == {"services": {"one": 2}}
        wait_for(lambda: not realm.workers("one"))
        assert server.workers() == [old]
        gate.open()
        assert client.read_response().complete
        outcome = realm.wait_outcome("one", 2)
        assert outcome == good(2)
        waiting.sock.close()
    assert not alive(old)
    assert int(realm.get("one").body) != old


def test_a_restart_that_fails_is_tried_again(realm, tmp_path):
    code = tmp_path / "web.py"
    code.write_text("from small_apps import pid as app\n")
    more = "\npython_path = '.'\npreload = 'off'"
    realm.write(one="app = 'web:app'" + more, two="small_apps:pid")
    realm.start()
    code.write_text("1 / 0\n")
    outcome = realm.reload("one", "restart")["one"]
    assert not outcome["ok"] and "ZeroDivisionError" in outcome["why"]
    assert realm.status("one")["state"] == "failed"
    assert realm.get("two").status == 200
    code.write_text("from small_apps import pid as app\n")
    wait_for(lambda: realm.workers("one"), message=lambda: realm.server.stderr)
    assert realm.status("one")["state"] == "serving"
    assert realm.get("one").status == 200


def test_a_service_that_is_stopped_stays_stopped_until_it_is_named(realm):
    realm.write(one="small_apps:pid", two="small_apps:pid")
    realm.start()
    old = realm.workers("one")
    assert realm.ask("stop", "one") == {"services": ["one"]}
    wait_for(lambda: realm.status("one")["state"] == "stopped")
    assert not any(alive(pid) for pid in old)
    refused(realm, "one")
    assert realm.reload() == {"two": good(2)}
    assert "one stays stopped." in realm.server.stderr
    assert "one is stopped" in realm.ask("scale", "one", workers=2)["error"]
    assert realm.reload("one") == {"one": good(2)}
    assert realm.get("one").status == 200
    assert realm.names() == ["one", "two"]


def test_one_that_is_still_stopping_cannot_be_reloaded(realm, gate):
    realm.write(one="small_apps:wait", two="small_apps:pid")
    realm.start()
    with realm.connect("one") as client:
        client.send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        realm.ask("stop", "one")
        assert realm.status("one")["state"] == "stopping"
        assert realm.ask("reload", "one") == {"error": "one is still stopping"}
        gate.open()
        assert client.read_response().complete
    wait_for(lambda: realm.status("one")["state"] == "stopped")
    assert realm.reload("one") == {"one": good(2)}


def test_a_stop_ends_a_reload(realm, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "slow.py").write_text(f"open({str(tmp_path / 'fifo')!r}).read()\n")
    realm.write(one="small_apps:pid", two="small_apps:pid")
    realm.start()
    realm.write(one="app = 'slow:app'\npython_path = '.'", two="small_apps:pid")
    realm.ask("reload", "one")
    realm.ask("stop", "one")
    outcome = realm.wait_outcome("one", 2)
    assert outcome == {"generation": 2, "ok": False, "why": "it is being stopped."}


def test_scale(realm):
    realm.write(one="small_apps:pid", two="small_apps:pid")
    realm.start()
    assert realm.ask("scale", "one", workers=3) == {"service": "one", "before": 1, "after": 3}
    wait_for(lambda: len(realm.workers("one")) == 3)
    assert realm.ask("scale", "one", by=-1) == {"service": "one", "before": 3, "after": 2}
    wait_for(lambda: len(realm.workers("one")) == 2)
    assert "cannot have -1 workers" in realm.ask("scale", "one", by=-3)["error"]
    assert "several services" in realm.ask("scale", workers=1)["error"]
    assert "perhaps 'two'" in realm.ask("scale", "tow", workers=1)["error"]
    # what was scaled stays so at a reload, unless the file says something else than before
    realm.reload("one")
    assert realm.status("one")["size"] == 2
    realm.write(one="app = 'small_apps:pid'\nworkers = 4", two="small_apps:pid")
    realm.reload("one")
    wait_for(lambda: len(realm.workers("one")) == 4)


def test_stop_without_a_name_is_the_end(realm):
    realm.write(one="small_apps:pid", two="small_apps:pid")
    server = realm.start()
    assert realm.ask("stop") == {"services": ["one", "two"]}
    assert server.wait() == 0
    refused(realm, "one")
    assert not realm.control.exists()


def test_the_log_level_changes_and_what_cannot_is_told(realm):
    realm.write(one="small_apps:pid")
    server = realm.start()
    realm.write(server="log_level = 'warning'\npid = 'other.pid'", one="small_apps:pid")
    realm.reload()
    assert "The change of pid will take effect when the server is started again." in server.stderr
    realm.reload()
    assert "generation 3" not in server.stderr


def test_an_exclusive_service_becomes_one_with_its_next_generation(realm, gate):
    """Its first exclusive worker comes when nobody else is there."""
    realm.write(one="small_apps:wait")
    server = realm.start()
    (old,) = realm.workers("one")
    with realm.connect("one") as client:
        client.send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        realm.write(one="app = 'small_apps:wait'\nexclusive = true")
        realm.ask("reload")
        wait_for(lambda: not realm.workers("one"))
        assert server.workers() == [old]
        gate.open()
        assert client.read_response().complete
    assert realm.wait_outcome("one", 2) == good(2)
    assert realm.workers("one") != [old]


def test_an_exclusive_generation_is_alone_however_many_reloads_follow(realm, gate):
    """It is not exclusive any more with the second generation; with the third the first is still
    there."""
    realm.write(one="app = 'small_apps:wait'\nexclusive = true")
    server = realm.start()
    (old,) = realm.workers("one")
    with realm.connect("one") as client:
        client.send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        realm.write(one="app = 'small_apps:wait'\npreload = 'off'")
        realm.ask("reload")
        wait_for(lambda: not realm.workers("one"))
        realm.ask("reload")
        realm.ask("status")  # which is answered after the turn of the service
        assert children(server.pid) == [old]
        gate.open()
        assert client.read_response().complete
    assert realm.wait_outcome("one", 3) == good(3)
    assert not alive(old)


# -- isolation ---------------------------------------------------------------------------
def test_a_service_that_does_not_boot_does_not_keep_the_others_from_serving(realm, tmp_path):
    (tmp_path / "bad.py").write_text("1 / 0\n")
    realm.write(bad="app = 'bad:app'\npython_path = '.'", good="small_apps:pid")
    server = realm.start()
    assert realm.get("good").status == 200
    assert realm.status("bad")["state"] == "failed"
    assert "ZeroDivisionError" in realm.status("bad")["outcome"]["why"]
    assert "Next try in" in server.stderr
    (tmp_path / "bad.py").write_text("from small_apps import pid as app\n")
    wait_for(lambda: realm.status("bad")["state"] == "serving", message=lambda: server.stderr)
    assert realm.get("bad").status == 200


@pytest.mark.parametrize("preload", ["on", "off"])
def test_the_outcome_is_that_of_the_newest_generation(realm, tmp_path, preload):
    """Not that of an old one that has never served and is tried again."""
    (tmp_path / "bad.py").write_text("1 / 0\n")
    realm.write(bad=f"app = 'bad:app'\npython_path = '.'\npreload = '{preload}'",
                good="small_apps:pid")
    server = realm.start()
    assert not realm.reload("bad")["bad"]["ok"]
    tries = server.stderr.count("Next try in")
    wait_for(lambda: server.stderr.count("Next try in") > tries)
    assert realm.status("bad")["outcome"]["generation"] == 2


@pytest.mark.parametrize("wish", [{"command": "stop"}, {"command": "scale", "workers": 0}])
def test_ready_without_one_that_is_not_wanted_any_more(realm, tmp_path, wish):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "slow.py").write_text(f"open({str(tmp_path / 'fifo')!r}).read()\n")
    realm.write(slow="app = 'slow:app'\npython_path = '.'", good="small_apps:pid")
    server = realm.start(wait=False)
    wait_for(lambda: realm.control.exists() and realm.workers("good"))
    realm.ask(service="slow", **wish)
    assert server.wait_ready()["workers"] == realm.workers("good")


def test_the_line_of_ready_fd_has_the_workers_that_are_ready(realm, tmp_path):
    (tmp_path / "bad.py").write_text("1 / 0\n")
    realm.write(bad="app = 'bad:app'\npython_path = '.'\npreload = 'off'",
                good="small_apps:pid", defaults="workers = 2")
    server = realm.start()
    assert server.ready["workers"] == realm.workers("good")


def test_exit_on_boot_error_of_one_ends_the_server(realm, tmp_path):
    (tmp_path / "bad.py").write_text("1 / 0\n")
    realm.write(bad="app = 'bad:app'\npython_path = '.'\nexit_on_boot_error = true",
                good="small_apps:pid")
    assert realm.start(wait=False).wait() == 2


def test_who_stops_takes_no_more_orders(realm, gate):
    realm.write(one="small_apps:wait")
    server = realm.start()
    with realm.connect("one") as client:
        client.send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        realm.ask("stop")
        wait_for(lambda: realm.status("one")["state"] == "stopping")
        for command in "reload", "restart", "stop":
            assert realm.ask(command) == {"error": "The server is stopping"}
        gate.open()
        assert client.read_response().complete
    assert server.wait() == 0


def test_if_none_boots_that_is_the_end(realm, tmp_path):
    (tmp_path / "bad.py").write_text("1 / 0\n")
    app = "app = 'bad:app'\npython_path = '.'"
    realm.write(one=app, two=app)
    server = realm.start(wait=False)
    assert server.wait() == 2
    assert "None of the services can be started." in server.stderr
    refused(realm, "one")


def test_one_address_that_cannot_be_had_is_the_end_for_all(realm):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        realm.write(one="small_apps:pid", two=f"app = 'small_apps:pid'\nbind = '127.0.0.1:{port}'")
        server = realm.start(wait=False)
        assert server.wait() == 2
    assert f"127.0.0.1:{port}" in server.stderr
    refused(realm, "one")


def test_a_binary_upgrade_takes_all_services_along(realm):
    realm.write(one="small_apps:pid", two="small_apps:pid")
    server = realm.start()
    server.signal(signal.SIGUSR2)
    server.wait_stderr("serves; this one leaves.")
    assert server.wait() == 0
    assert realm.get("one").status == realm.get("two").status == 200
    wait_for(lambda: realm.control.exists())
    new = realm.ask("status", brief=True)
    try:
        assert new["pid"] != server.pid and realm.names() == ["one", "two"]
        assert realm.reload() == {"one": good(2), "two": good(2)}
    finally:
        os.kill(new["pid"], signal.SIGTERM)
        wait_for(lambda: not alive(new["pid"]))


def test_a_binary_upgrade_that_would_lose_a_service_is_none(realm, tmp_path):
    """The old master goes on, and with it the service that does not boot any more."""
    (tmp_path / "web.py").write_text("from small_apps import pid as app\n")
    realm.write(one="app = 'web:app'\npython_path = '.'", two="small_apps:pid")
    server = realm.start()
    (tmp_path / "web.py").write_text("1 / 0\n")
    server.signal(signal.SIGUSR2)
    server.wait_stderr("SIGUSR2: a new master starts, pid ")
    new = int(re.search(r"starts, pid ([0-9]+)", server.stderr)[1])
    try:
        server.wait_stderr(f"The new master {new} ended with exit status 2; this one goes on.")
    finally:
        if alive(new):
            os.kill(new, signal.SIGTERM)
    assert realm.get("one").status == realm.get("two").status == 200


def test_a_binary_upgrade_with_another_file_leaves_no_socket_behind(realm):
    realm.write(one="small_apps:pid", two="small_apps:pid")
    server = realm.start()
    realm.write(one="small_apps:pid", three="small_apps:pid")
    server.signal(signal.SIGUSR2)
    assert server.wait() == 0
    wait_for(lambda: realm.control.exists(), message=lambda: server.stderr)
    new = realm.ask("status", brief=True)["pid"]
    try:
        wait_for(lambda: not (realm.directory / "two.sock").exists())
        assert realm.get("one").status == realm.get("three").status == 200
        assert realm.reload() == {"one": good(2), "three": good(2)}
    finally:
        os.kill(new, signal.SIGTERM)
        wait_for(lambda: not alive(new))
    assert not list(realm.directory.glob("*.sock"))


@pytest.mark.parametrize("what", ["fifo", "nothing", "deep"])
def test_a_file_that_cannot_be_read_stops_nobody(realm, what):
    realm.write(one="small_apps:pid")
    server = realm.start()
    realm.file.unlink()
    if what == "fifo":
        os.mkfifo(realm.file)
    elif what == "deep":
        realm.file.write_text("a" + ".a" * 450 + " = 1")
    server.signal(signal.SIGHUP)
    server.wait_stderr("SIGHUP: nothing is reloaded, everything goes on as before.")
    assert realm.get("one").status == 200


def test_entries_of_workers_carry_the_name_of_their_service(realm):
    realm.write(one="small_apps:failing", two="small_apps:pid")
    server = realm.start()
    assert realm.get("one").status == 500
    server.wait_stderr("[ERROR] [one] ")
