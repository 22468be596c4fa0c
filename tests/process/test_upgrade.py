"""SIGUSR2: a new master on the same sockets."""

import contextlib
import os
import re
import signal
import socket

import pytest
from harness import alive, children, name, wait_for
from load import Load
from seen import holder, in_common, kinds, kinds_at_rest, targets

VERSION = """
import os
from small_apps import answer, pid, wait
VERSION = {}
def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/wait":
        return wait(environ, start_response)
    if path == "/version":
        return answer(start_response, str(VERSION))
    return pid(environ, start_response)
"""


@pytest.fixture
def upgrade():
    """`upgrade(server)` sends SIGUSR2 and returns the pid of the new master.  Every master made so
    is ended with the test."""
    made = []

    def run(server, master=None):
        before = server.stderr.count("SIGUSR2: a new master starts, pid ")
        os.kill(master or server.pid, signal.SIGUSR2)
        found = re.compile(r"SIGUSR2: a new master starts, pid (\d+)\.")
        wait_for(lambda: len(found.findall(server.stderr)) > before,
                 message=lambda: server.stderr)
        made.append(int(found.findall(server.stderr)[-1]))
        return made[-1]

    yield run
    for pid in made:
        if name(pid) == "fastfork":
            everybody = children(pid)
            os.kill(pid, signal.SIGQUIT)
            wait_for(lambda pid=pid, all=(pid, *everybody): not any(alive(one) for one in all))


def workers(master):
    return [pid for pid in children(master) if name(pid) == "fastfork worker"]


def serves(master, count):
    return len(workers(master)) == count


def test_a_new_master_takes_over(web, tmp_path, upgrade):
    server = web(VERSION.format(1), workers=2)
    old = children(server.pid)
    (tmp_path / "web.py").write_text(VERSION.format("'two'"))
    new = upgrade(server)
    assert server.wait() == 0
    assert f"The new master {new} serves; this one leaves." in server.stderr
    assert not any(alive(pid) for pid in old)
    assert serves(new, 2) and name(new) == "fastfork"
    assert server.get("/version").body == b"two"
    assert int(server.get("/").body) in workers(new)


def test_load_across_an_upgrade(web, upgrade):
    """Over keep-alive connections that never rest: not one fails, and none has to be made anew."""
    server = web(VERSION.format(1), workers=3)
    old = workers(server.pid)
    with Load(server.address, clients=16) as load:
        load.wait_answered(500)
        new = upgrade(server)
        assert server.wait() == 0
        load.wait_answered(load.answered + 500)
        newest = upgrade(server, new)
        wait_for(lambda: not alive(new))
        load.wait_answered(load.answered + 500)
    assert load.failures == [] and load.told_to_close == 0
    assert set(load.answers) & set(old) and set(load.answers) & set(workers(newest))


def finished_by_the_old_one(server, client, gate, upgrade):
    """The answer to a request that was in progress when the new master took over, of one of two
    workers; that worker, and the new master."""
    client.send(f"GET /wait?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    gate.reached()
    old = holder(server, gate)
    new = upgrade(server)
    server.wait_stderr(f"The new master {new} serves; this one leaves.")
    wait_for(lambda: workers(server.pid) == [old])  # both have been told to go
    assert int(server.get("/").body) in workers(new)
    gate.open()
    return client.read_response(), old, new


def test_a_request_in_progress_is_finished_by_the_old_master_s_worker(web, gate, upgrade):
    """And the connection goes on with one of the new master's."""
    server = web(VERSION.format(1), workers=2)
    with server.connect() as client:
        response, old, new = finished_by_the_old_one(server, client, gate, upgrade)
        assert int(response.body) == old and response.header("Connection") is None
        assert server.wait() == 0
        response = client.get("/")
        assert int(response.body) in workers(new) and response.header("Connection") is None


def test_a_resting_connection_goes_on_with_the_new_master(web, upgrade):
    """However long the old one's workers might linger."""
    server = web(VERSION.format(1), "--reload-linger", "1h", "--graceful-timeout", "2h")
    with server.connect() as client:
        client.get("/")
        new = upgrade(server)
        assert server.wait() == 0
        response = client.get("/")
        assert int(response.body) in workers(new) and response.header("Connection") is None


@pytest.mark.parametrize(
    ("text", "status"), [("raise RuntimeError('new and broken')\n", 2), ("raise SystemExit\n", 2)])
def test_a_new_master_that_does_not_start_changes_nothing(web, tmp_path, upgrade, text, status):
    server = web(VERSION.format(1), workers=2)
    everybody, held = children(server.pid), kinds_at_rest(server)
    (tmp_path / "web.py").write_text(text)
    with Load(server.address, clients=4) as load:
        new = upgrade(server)
        server.wait_stderr(f"The new master {new} ended with exit status {status}; this one goes "
                           "on.")
        load.wait_answered(load.answered + 100)
    assert load.failures == []
    assert sorted(children(server.pid)) == sorted(everybody)
    wait_for(lambda: kinds(server.pid) == held,
             message=lambda: f"{held}\n{sorted(targets(server.pid))}")
    assert server.get("/version").body == b"1"
    assert not alive(new)


def test_and_the_next_one_may_succeed(web, tmp_path, upgrade):
    server = web(VERSION.format(1))
    (tmp_path / "web.py").write_text("raise RuntimeError\n")
    upgrade(server)
    server.wait_stderr("this one goes on.")
    (tmp_path / "web.py").write_text(VERSION.format("'two'"))
    new = upgrade(server)
    assert server.wait() == 0
    assert serves(new, 1) and server.get("/version").body == b"two"


def test_a_new_master_that_is_killed_before_it_is_ready(web, tmp_path, gate, upgrade):
    server = web(VERSION.format(1), workers=2)
    gated = f"open({str(gate.path)!r}).read()\n" + VERSION.format(2)
    (tmp_path / "web.py").write_text(gated)
    new = upgrade(server)
    gate.reached()
    theirs = children(new)
    os.kill(new, signal.SIGKILL)
    server.wait_stderr(f"The new master {new} was killed by SIGKILL; this one goes on.")
    wait_for(lambda: not any(alive(pid) for pid in theirs))
    assert server.get("/version").body == b"1"


def test_the_old_master_is_killed_before_the_new_one_is_ready(web, tmp_path, gate, upgrade):
    """Then the new one has everything."""
    file = tmp_path / "pid"
    server = web(VERSION.format(1), "--pid", str(file), workers=2)
    old = children(server.pid)
    gated = f"open({str(gate.path)!r}).read()\n" + VERSION.format("'two'")
    (tmp_path / "web.py").write_text(gated)
    new = upgrade(server)
    gate.reached()
    server.process.kill()
    wait_for(lambda: not any(alive(pid) for pid in workers(server.pid) + old if pid != new))
    gate.open()
    assert server.get("/version").body == b"two"
    wait_for(lambda: int(file.read_text()) == new)


def test_in_the_middle_of_a_reload(web, upgrade):
    server = web(VERSION.format(1), workers=3)
    with Load(server.address, clients=8) as load:
        load.wait_answered(100)
        server.signal(signal.SIGHUP)
        new = upgrade(server)
        os.kill(server.pid, signal.SIGHUP)
        assert server.wait() == 0
        load.wait_answered(load.answered + 100)
    assert load.failures == [] and load.told_to_close == 0
    assert serves(new, 3)


def test_one_upgrade_at_a_time(web, tmp_path, gate, upgrade):
    server = web(VERSION.format(1))
    gated = f"open({str(gate.path)!r}).read()\n" + VERSION.format(2)
    (tmp_path / "web.py").write_text(gated)
    new = upgrade(server)
    gate.reached()
    server.signal(signal.SIGUSR2)
    server.wait_stderr(f"SIGUSR2: the new master {new} is starting already.")
    (tmp_path / "web.py").write_text(VERSION.format(2))
    gate.open()
    assert server.wait() == 0
    assert server.get("/version").body == b"2"


def test_a_stop_during_an_upgrade_stops_both(web, tmp_path, gate, upgrade):
    server = web(VERSION.format(1))
    gated = f"open({str(gate.path)!r}).read()\n" + VERSION.format(2)
    (tmp_path / "web.py").write_text(gated)
    new = upgrade(server)
    gate.reached()
    everybody = [new, *children(new), *children(server.pid)]
    assert server.stop() == 0
    wait_for(lambda: not any(alive(pid) for pid in everybody))


def test_such_a_stop_leaves_no_unix_socket(web, tmp_path, gate, upgrade):
    path = tmp_path / "socket"
    server = web(VERSION.format(1), bind=[f"unix:{path}"])
    gated = f"open({str(gate.path)!r}).read()\n" + VERSION.format(2)
    (tmp_path / "web.py").write_text(gated)
    upgrade(server)
    gate.reached()
    assert path.exists()
    assert server.stop() == 0
    assert not path.exists()


def test_after_a_failed_one_the_unix_socket_is_the_old_master_s_again(web, tmp_path, upgrade):
    path = tmp_path / "socket"
    server = web(VERSION.format(1), bind=[f"unix:{path}"])
    (tmp_path / "web.py").write_text("raise RuntimeError\n")
    new = upgrade(server)
    server.wait_stderr(f"The new master {new} ended with exit status 2; this one goes on.")
    assert path.exists()
    assert server.stop() == 0
    assert not path.exists()


def test_the_new_master_can_be_stopped(web, upgrade):
    server = web(VERSION.format(1), workers=2)
    new = upgrade(server)
    assert server.wait() == 0
    everybody = children(new)
    os.kill(new, signal.SIGTERM)
    wait_for(lambda: not any(alive(pid) for pid in (new, *everybody)))
    with pytest.raises(ConnectionRefusedError):
        server.connect()


def test_the_new_master_can_be_reloaded(web, tmp_path, upgrade):
    server = web(VERSION.format(1), workers=2)
    new = upgrade(server)
    assert server.wait() == 0
    (tmp_path / "web.py").write_text(VERSION.format("'three'"))
    os.kill(new, signal.SIGHUP)
    server.wait_stderr("is reloaded: generation 2")
    assert server.get("/version").body == b"three"


def test_unix_sockets_stay_where_they_are(web, tmp_path, upgrade):
    path = tmp_path / "s"
    server = web(VERSION.format(1), bind=[f"unix:{path}"])
    before = path.stat().st_ino
    new = upgrade(server)
    assert server.wait() == 0
    assert path.stat().st_ino == before
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
    os.kill(new, signal.SIGTERM)
    wait_for(lambda: not alive(new))
    assert not path.exists()


def test_the_pid_file_is_handed_over(web, tmp_path, upgrade):
    file = tmp_path / "pid"
    server = web(VERSION.format(1), "--pid", str(file))
    assert int(file.read_text()) == server.pid
    new = upgrade(server)
    assert server.wait() == 0
    wait_for(lambda: int(file.read_text()) == new)
    os.kill(new, signal.SIGTERM)
    wait_for(lambda: not alive(new))
    assert not file.exists()


def test_the_pid_file_stays_with_the_old_one_if_the_new_one_fails(web, tmp_path, upgrade):
    file = tmp_path / "pid"
    server = web(VERSION.format(1), "--pid", str(file))
    (tmp_path / "web.py").write_text("raise RuntimeError\n")
    upgrade(server)
    server.wait_stderr("this one goes on.")
    assert int(file.read_text()) == server.pid
    assert server.stop() == 0 and not file.exists()


def test_nothing_of_the_old_master_s_is_left_in_the_new_one(web, upgrade):
    """Of descriptors: after three upgrades a master has what the first one had."""
    server = web(VERSION.format(1), workers=2)
    before = kinds_at_rest(server)
    new = server.pid
    for _ in range(3):
        old, new = new, upgrade(server, new)
        wait_for(lambda old=old: not alive(old), message=lambda: server.stderr)
    with contextlib.suppress(ProcessLookupError):
        wait_for(lambda: kinds(new) == before, message=lambda: f"{before}\n{targets(new)}")


# -- the pair by which workers pass connections ------------------------------------------
# `/shut`: how many of its ends are shut.  Such sockets hang up; the channel to the master, which
# is of that kind too, does not.
PAIR = """
import os, select, socket, stat
from small_apps import answer, pid
def seqpackets():
    for name in os.listdir("/proc/self/fd"):
        try:
            if stat.S_ISSOCK(os.stat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as sock:
                    if (sock.family, sock.type) == (socket.AF_UNIX, socket.SOCK_SEQPACKET):
                        yield int(name)
        except OSError:  # the directory's own
            pass
def shut():
    poll = select.poll()
    for fd in seqpackets():
        poll.register(fd, 0)
    return len(poll.poll(0))
def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/wait":
        with open(environ["QUERY_STRING"]) as gate:
            gate.read()
    if path in ("/wait", "/shut"):
        return answer(start_response, str(shut()))
    return pid(environ, start_response)
"""
OTHER_VERSION = """
import os
if "FASTFORK_UPGRADE" in os.environ:
    from fastfork import _core
    _core.HANDOFF_VERSION += 1
"""
# It has never heard of pairs: it neither looks at the variable nor says what it has taken.
OLDER = """
import os
if "FASTFORK_UPGRADE" in os.environ:
    from fastfork import channel, pairs
    pairs.adopt = lambda environ: {}
    send = channel.Channel.send
    def old(self, message, descriptors=()):
        return send(self, {"ready": True} if "pairs" in message else message, descriptors)
    channel.Channel.send = old
"""
# The same of the old master: it passes nothing, and does not look at what is said.
OLDER_BEFORE = """
import os
if "FASTFORK_UPGRADE" not in os.environ:
    from fastfork import master, pairs
    master.Master._pairs = lambda self: {}
    pairs.hand_over = lambda own: {}
"""


def what_the_old_worker_sees(server, gate, upgrade):
    """How many of its sockets are shut when the new master has taken over; and what master and
    worker have in common, before and after."""
    before = in_common(server.pid, workers(server.pid)[0])
    with server.connect() as client:
        response, _, new = finished_by_the_old_one(server, client, gate, upgrade)
    after = in_common(new, workers(new)[0])
    assert server.wait() == 0
    return int(response.body), before, after


NOT_TAKEN = "the new master does not take over connections that are open; they end with"


def test_the_pair_goes_to_the_new_master(web, gate, upgrade):
    server = web(PAIR, workers=2)
    shut, before, after = what_the_old_worker_sees(server, gate, upgrade)
    assert shut == 0 and len(before) == 3 and after == before
    assert server.get("/shut").body == b"0"
    assert NOT_TAKEN not in server.stderr


@pytest.mark.parametrize("site", [OTHER_VERSION, OLDER], ids=["version", "older"])
def test_a_new_master_that_does_not_take_the_pair(web, tmp_path, gate, upgrade, site):
    """Then the workers of the old one keep their connections to themselves."""
    (tmp_path / "sitecustomize.py").write_text(site)
    server = web(PAIR, workers=2,
                 env={"PYTHONPATH": f"{tmp_path}:{os.path.dirname(__file__)}"})
    shut, before, after = what_the_old_worker_sees(server, gate, upgrade)
    assert shut == 2 and len(before) == 3
    assert len(after - before) == 2
    (shut_here,) = {int(server.get("/shut").body) for _ in range(5)}
    assert shut_here == len(after) - 3  # older software keeps descriptors that it does not know of
    assert server.stderr.count(NOT_TAKEN) == 1


@pytest.fixture
def stranger(tmp_path):
    """The environment of a server whose new master does not take the pair."""
    (tmp_path / "sitecustomize.py").write_text(OTHER_VERSION)
    return {"PYTHONPATH": f"{tmp_path}:{os.path.dirname(__file__)}"}


def test_if_it_is_not_taken_a_resting_connection_is_served_once_more(web, upgrade, stranger):
    """A request may be on its way already: it is answered, with Connection: close."""
    server = web(VERSION.format(1), "--reload-linger", "1h", "--graceful-timeout", "2h",
                 env=stranger)
    (old,) = workers(server.pid)
    with server.connect() as client:
        client.get("/")
        new = upgrade(server)
        server.wait_stderr(f"The new master {new} serves; this one leaves.")
        wait_for(lambda: int(server.get("/").body) != old)
        response = client.get("/")
        while response.header("Connection") is None:  # it was not told yet
            assert int(response.body) == old
            response = client.get("/")
        assert int(response.body) == old and response.header("Connection") == "close"
        assert client.at_eof()
    assert server.wait() == 0


def test_if_it_is_not_taken_a_connection_ends_with_its_old_worker(web, gate, upgrade, stranger):
    """Its request is finished, and the client is told."""
    server = web(VERSION.format(1), "--reload-linger", "1h", "--graceful-timeout", "2h",
                 workers=2, env=stranger)
    with server.connect() as client:
        response, old, _ = finished_by_the_old_one(server, client, gate, upgrade)
        assert int(response.body) == old
        while response.header("Connection") is None:  # it was told while the handler ran
            response = client.get("/")
            assert int(response.body) == old
        assert client.at_eof()
    assert server.wait() == 0


def test_an_old_master_that_has_no_pairs_to_pass(web, tmp_path, gate, upgrade):
    (tmp_path / "sitecustomize.py").write_text(OLDER_BEFORE)
    server = web(PAIR, workers=2,
                 env={"PYTHONPATH": f"{tmp_path}:{os.path.dirname(__file__)}"})
    _, before, after = what_the_old_worker_sees(server, gate, upgrade)
    assert len(after) == 3 and len(after & before) == 1
    assert server.get("/shut").body == b"0"


def test_the_pair_of_a_service_that_the_new_master_does_not_have(realm, upgrade):
    """It is closed there; a service that is new has one of its own."""
    realm.write(one="small_apps:pid", two="small_apps:pid")
    server = realm.start()
    before = [in_common(server.pid, realm.workers(name)[0]) for name in ("one", "two")]
    realm.write(two="small_apps:pid", three="small_apps:pid")
    new = upgrade(server)
    assert server.wait() == 0
    assert server.stderr.count(NOT_TAKEN) == 1 and f"one: {NOT_TAKEN}" in server.stderr
    wait_for(realm.control.exists)  # the old master's is gone
    wait_for(lambda: realm.names() == ["two", "three"])
    ours = [one for one in targets(new) if one.startswith("socket:")]
    assert not before[0] & set(ours)
    assert before[1] <= set(ours)
    assert in_common(new, realm.workers("two")[0]) == before[1]


@pytest.mark.parametrize("value", ["abc", "99", ""])
def test_a_variable_that_no_master_has_set(start, value):
    server = start("small_apps:pid", env={"FASTFORK_UPGRADE": value}, wait=False)
    assert server.wait() == 2
    assert server.stderr == (f"fastfork: FASTFORK_UPGRADE={value} is not usable: no master of "
                             "fastfork has started this.\n")
