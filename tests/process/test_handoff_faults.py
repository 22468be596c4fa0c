"""What can go wrong while connections are handed on: nobody is lost, nothing is left open."""

import contextlib
import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest
from handing import Handler, pid_of, request, stand
from harness import PATIENCE, alive, children, wait_for
from seen import ask, clients, descriptors, pair_of, quiet, sockets

HERE = Path(__file__).parent
RETIRE = signal.SIGRTMIN + 8  # fastfork/worker.py


def tamper(client, path, inodes):
    """Have the application do something to these sockets of its worker."""
    response = client.get(f"{path}?{','.join(map(str, inodes))}")
    assert response.status == 200
    return response


@pytest.fixture
def stopped():
    """`stopped(pid)`: SIGSTOP, until `go_on()` or the end of the test."""
    halted = []

    class Stop:
        def __call__(self, pid):
            os.kill(pid, signal.SIGSTOP)
            wait_for(lambda: all_stopped(pid))
            halted.append(pid)

        def go_on(self):
            while halted:
                with contextlib.suppress(ProcessLookupError):  # killed meanwhile
                    os.kill(halted.pop(), signal.SIGCONT)

    stop = Stop()
    yield stop
    stop.go_on()


def all_stopped(pid):
    states = []
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/stat") as stat:
            states.append(stat.read().rpartition(")")[2].split()[0])
    return set(states) <= {"T", "t"}


# -- the pair ------------------------------------------------------------------------------
def test_every_worker_has_the_pair_and_no_other_process_of_the_service_s(site):
    one = site(workers=3)
    pair = pair_of(one.server)
    assert len(pair) == 2
    for pid in one.server.workers():
        assert pair <= sockets(pid)
    assert pair <= sockets(one.server.pid)


def test_a_pair_that_is_broken(site, gate):
    """All is served as without."""
    one = site(workers=2)
    (busy, (first, waits, *others)), (free, (other, *_)) = one.crowd(12)
    tamper(other, "/break_off", pair_of(one.server))
    stand(first, gate)
    waits.send(request("/pid"))
    assert pid_of(other) == free
    assert quiet(waits.sock)
    gate.open()
    assert int(first.read_response().body) == busy
    assert int(waits.read_response().body) == busy
    assert [pid_of(client) for client in others] == [busy] * len(others)
    # Idle workers are not kept busy by it: it is ready for ever.
    before = {pid: cpu(pid) for pid in one.server.workers()}
    assert quiet(first.sock, 1.0)
    for pid, used in before.items():
        assert cpu(pid) - used < 0.3
    assert one.server.stop() == 0


def cpu(pid):
    """Seconds."""
    with open(f"/proc/{pid}/stat") as stat:
        return sum(map(int, stat.read().rpartition(")")[2].split()[11:13])) / os.sysconf(
            "SC_CLK_TCK")


def test_a_reload_with_a_broken_pair(site):
    """Resting connections are kept for `reload_linger`, as they were before there was a pair."""
    one = site("--reload-linger", "1h", "--graceful-timeout", "2h", workers=1)
    (old, (first, *others)), = one.crowd(6)
    tamper(first, "/break_off", pair_of(one.server))
    one.server.signal(signal.SIGHUP)
    wait_for(lambda: doing(one, old) == "draining", message=lambda: str(one.workers()))
    for client in (first, *others):
        response = client.get("/pid")
        assert int(response.body) == old and response.header("Connection") == "close"
        assert client.at_eof()
    wait_for(lambda: not alive(old))
    one.server.wait_stderr("is reloaded: generation 2")


def test_a_pair_that_breaks_while_a_worker_is_about_to_go(site, gate):
    """It finds out when it hands on what rests, which then stays; nothing keeps it busy."""
    one = site("--reload-linger", "1h", "--graceful-timeout", "2h", "--handoff-after", "off")
    (goes, (first, *others)), (_, (other, *_)) = one.crowd(12)
    stand(first, gate)
    tamper(other, "/break_off", pair_of(one.server))
    os.kill(goes, RETIRE)
    wait_for(lambda: doing(one, goes) == "draining", message=lambda: str(one.workers()))
    gate.open()
    assert int(first.read_response().body) == goes
    used = cpu(goes)
    assert quiet(others[0].sock, 1.0)
    assert cpu(goes) - used < 0.3
    for client in (first, *others):
        response = client.get("/pid")
        assert int(response.body) == goes and response.header("Connection") == "close"
    wait_for(lambda: not alive(goes), message=lambda: one.server.stderr)


def doing(one, pid):
    """What the worker says that it does."""
    (found,) = [worker["doing"] for worker in one.workers() if worker["pid"] == pid]
    return found


def test_a_sibling_that_stands_still_while_it_takes_one_out(site, gates):
    """Nobody else takes any until it goes on, or has ended; nor does anybody try all the time."""
    one = site(workers=2)
    (busy, (first, *others)), (free, (other, *_)) = one.crowd(12)
    held = gates()
    inodes = ",".join(map(str, pair_of(one.server)))
    other.send(request(f"/hold?{inodes}", f"Gate: {held.path}"))
    held.reached()
    assert int(other.read_response().body) == free
    handler = Handler("waits", first, gates())
    for client in others:
        client.send(request("/pid"))
    assert pid_of(other) == free
    used = cpu(free)
    assert quiet(others[0].sock, 1.0)
    assert cpu(free) - used < 0.5
    held.open()
    assert {int(client.read_response().body) for client in others} == {free}
    assert handler.end() == busy
    one.wait_even(len(others))


# -- a worker that has died ----------------------------------------------------------------
def test_what_it_had_counts_for_nothing(site, stopped):
    """However long nobody has its place: it was killed when it did not go."""
    one = site("--graceful-timeout", "1h", "--liveness-timeout", "0", workers=3)
    crowd = dict(one.crowd(90))
    stays, *go = sorted((worker["number"], worker["pid"]) for worker in one.workers())
    for _, pid in go:
        stopped(pid)
    ask(one.control, {"command": "scale", "workers": 1})
    for _, pid in go:
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda pid=pid: pid not in [worker["pid"] for worker in one.workers()])
    clients = crowd[stays[1]]
    while len(clients) > 8:
        clients.pop().close()
    wait_for(lambda: [worker["connections"] for worker in one.workers()] == [8])
    ask(one.control, {"command": "scale", "workers": 2})
    # Eight would be less than the mean if one of those who died had its thirty still.
    wait_for(lambda: [worker["connections"] for worker in one.workers()] == [4, 4],
             message=lambda: f"{one.workers()}\n{one.server.stderr}")
    assert {pid_of(client) for client in clients} == set(one.server.workers())


# -- no room ---------------------------------------------------------------------------------
def lowest_free(pid):
    taken = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
    return min(set(range(len(taken) + 1)) - taken)


def without_descriptors(pid):
    """It can open nothing more; returns what undoes that."""
    usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free(pid), usual[1]))
    return lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)


@pytest.mark.parametrize("who_goes_first", ["busy", "poor"])
def test_a_sibling_that_has_no_descriptor_left(site, gate, who_goes_first):
    """They wait in the queue, or where they are, for whoever can have them first."""
    one = site(workers=2)
    (busy, (first, *others)), (poor, (other, *_)) = one.crowd(12)
    enrich = without_descriptors(poor)
    stand(first, gate)
    for client in others:
        client.send(request("/pid"))
    assert pid_of(other) == poor
    assert all(quiet(client.sock, 0.02) for client in others)
    used = cpu(poor)
    assert quiet(others[0].sock, 1.0)
    assert cpu(poor) - used < 0.5  # it does not try all the time
    if who_goes_first == "poor":
        enrich()
        expected = poor
        pid_of(other)
    else:
        gate.open()
        first.read_response()
        expected = busy
    assert {int(client.read_response().body) for client in others} <= {expected, poor}
    if who_goes_first == "poor":
        gate.open()
        first.read_response()
    else:
        assert pid_of(other) == poor
        enrich()
    one.wait_even(0)
    for client in (first, other, *others):
        assert pid_of(client) in one.server.workers()


def test_one_after_the_other_where_there_is_room_for_one(site, gate):
    """Whoever leaves makes room for the next."""
    one = site(workers=2)
    (busy, (first, *others)), (poor, (other, *_)) = one.crowd(12)
    usual = resource.prlimit(poor, resource.RLIMIT_NOFILE)
    resource.prlimit(poor, resource.RLIMIT_NOFILE, (lowest_free(poor) + 1, usual[1]))
    stand(first, gate)
    for client in others:
        client.send(request("/pid", "Connection: close"))
    for client in others:
        assert int(client.read_response().body) == poor
    gate.open()
    assert int(first.read_response().body) == busy
    assert pid_of(other) == poor


@pytest.mark.parametrize("mode", [[], ["--threads", "4"]], ids=["default", "threads"])
def test_the_last_descriptor_goes_while_a_connection_is_taken_out(site, tmp_path, mode):
    """To a thread of the application, say: the connection stays in the queue, and is not lost."""
    library = tmp_path / "snatch.so"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, HERE / "snatch.c"], check=True)
    preload = ":".join(filter(None, [os.environ.get("LD_PRELOAD"), str(library)]))
    one = site(*mode, workers=2, env={"LD_PRELOAD": preload})
    crowd = dict(one.crowd(12))
    (_, stays), (_, goes) = sorted((worker["number"], worker["pid"]) for worker in one.workers())
    assert crowd[stays][0].get("/snatch?5").body == b"%d 0" % stays
    ask(one.control, {"command": "scale", "workers": 1})
    wait_for(lambda: not alive(goes))
    assert [pid_of(client) for client in crowd[goes]] == [stays] * len(crowd[goes])
    assert crowd[stays][0].get("/snatch?0").body == b"%d 0" % stays  # they were all met
    assert "cannot accept: Too many open files" in one.server.stderr


def test_a_queue_that_is_full(site, gate, stopped):
    """More wait than fit into it, while nobody takes any: they follow."""
    one = site("--liveness-timeout", "0", workers=3)
    (busy, (first, *others)), (asks, (third, *_)), (also, _) = one.crowd(120)
    tamper(third, "/narrow", pair_of(one.server))
    for pid in (asks, also):
        stopped(pid)
    stand(first, gate)
    for client in others:
        client.send(request("/pid"))
    assert all(quiet(client.sock, 0) for client in others)
    one.wait_handed(1)
    assert one.handed() < len(others)
    stopped.go_on()
    for client in others:
        assert int(client.read_response().body) in (asks, also)
    gate.open()
    assert int(first.read_response().body) == busy
    assert one.wait_even() >= len(others)


def test_a_queue_that_is_full_when_a_worker_goes(site, stopped):
    """Its resting connections stay until there is room for them."""
    one = site("--liveness-timeout", "0", "--reload-linger", "1h", "--graceful-timeout", "2h",
               workers=3)
    (goes, (first, *others)), (asks, (third, *_)), (also, _) = one.crowd(120)
    tamper(third, "/narrow", pair_of(one.server))
    for pid in (asks, also):
        stopped(pid)
    os.kill(goes, RETIRE)
    one.wait_handed(1)
    stopped.go_on()
    for client in (first, *others):
        response = client.get("/pid")
        assert response.status == 200 and response.header("Connection") is None
    wait_for(lambda: not alive(goes), message=lambda: one.server.stderr)


def test_siblings_that_are_killed_with_some_in_the_queue(site, gate, stopped):
    """What they have not taken yet is for those who follow them."""
    one = site("--liveness-timeout", "0", workers=2)
    (busy, (first, *others)), (victim, _) = one.crowd(24)
    stopped(victim)
    stand(first, gate)
    for client in others:
        client.send(request("/pid"))
    one.wait_handed(len(others))
    os.kill(victim, signal.SIGKILL)
    stopped.go_on()
    for client in others:
        assert int(client.read_response().body) not in (busy, victim)
    gate.open()
    assert int(first.read_response().body) == busy


def test_the_busy_one_is_killed_with_some_in_the_queue(site, gate, stopped):
    """Those that it has handed on are not its any more."""
    one = site("--liveness-timeout", "0", workers=2)
    (busy, (first, *others)), (other, _) = one.crowd(24)
    stopped(other)
    stand(first, gate)
    for client in others:
        client.send(request("/pid"))
    one.wait_handed(len(others))
    wait_for(lambda: len(clients(busy, one.server.port)) == 1)
    os.kill(busy, signal.SIGKILL)
    wait_for(lambda: not alive(busy))
    stopped.go_on()
    for client in others:
        assert int(client.read_response().body) != busy
    assert first.at_eof()


# -- the end -----------------------------------------------------------------------------------
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_the_server_stops_while_some_are_in_the_queue(site, gates, number):
    one = site(workers=2)
    (busy, (first, *others)), (other, (second, *_)) = one.crowd(24)
    here, there = Handler("waits", first, gates()), Handler("waits", second, gates())
    for client in others:
        client.send(request("/pid"))
    one.wait_handed(len(others))
    everybody = children(one.server.pid)
    one.server.signal(number)
    if number == signal.SIGTERM:
        one.server.wait_stderr("SIGTERM")
        assert (here.end(), there.end()) == (busy, other)
        for client in others:  # what was asked before the stop is answered
            response = client.read_response()
            assert int(response.body) in (busy, other)
            assert response.header("Connection") == "close"
            assert client.at_eof()
    assert one.server.wait() == 0
    wait_for(lambda: not any(alive(pid) for pid in everybody))
    for client in (first, second, *others):
        assert client.at_eof()


@pytest.mark.parametrize("flags", [[], ["--greenlets", "10"]], ids=["default", "greenlets"])
def test_the_server_stops_while_those_of_all_are_in_the_queue(site, gates, flags):
    """Whichever of the workers ends first, and although no sibling may be left to take them."""
    one = site(*flags, workers=2)
    crowd = one.crowd(24)
    handlers = [Handler("waits", first, gates()) for _, (first, *_) in crowd]
    others = [client for _, (_, *some) in crowd for client in some]
    for client in others:
        client.send(request("/pid"))
    one.wait_handed(len(others))
    late = one.connect()
    late.send(request("/pid"))
    one.server.signal(signal.SIGTERM)
    one.server.wait_stderr("SIGTERM")
    for (pid, _), handler in zip(crowd, handlers, strict=True):
        assert handler.end() == pid
    for client in (late, *others):
        response = client.read_response()
        assert int(response.body) in (crowd[0][0], crowd[1][0])
        assert response.header("Connection") == "close"
    assert one.server.wait() == 0


def test_the_master_dies_while_some_are_in_the_queue(site, gates):
    one = site(workers=2)
    (_, (first, *others)), (_, (second, *_)) = one.crowd(24)
    Handler("waits", first, gates()), Handler("waits", second, gates())
    for client in others:
        client.send(request("/pid"))
    one.wait_handed(len(others))
    everybody = children(one.server.pid)
    os.kill(one.server.pid, signal.SIGKILL)
    wait_for(lambda: not any(alive(pid) for pid in everybody), PATIENCE)
    for client in (first, second, *others):
        assert client.at_eof()


# -- what nobody expects -------------------------------------------------------------------------
def test_records_that_are_none(site, gates):
    """Each is refused, with a line in the log; what came with it is closed, and others follow."""
    one = site(workers=3)
    (busy, (first, *others)), (_, (third, *_)), *_ = one.crowd(24)
    pair = pair_of(one.server)
    before = {pid: descriptors(pid) for pid in one.server.workers()}
    response = tamper(third, "/litter", pair)
    culprit = int(response.body)
    # Those that were sent into the wrong end lie where nobody reads.
    wait_for(lambda: int(third.get("/leaks").body) <= 27,
             message=lambda: f"{third.get('/leaks').body} of 54 descriptors are open")
    wait_for(lambda: all(descriptors(pid) == count for pid, count in before.items()
                         if pid != culprit))
    assert "is not a connection that this version knows" in one.server.stderr
    handler = Handler("waits", first, gates())
    for client in others:
        assert pid_of(client) != busy
    assert handler.end() == busy
    for pid in before:
        assert pid in one.server.workers()
    assert "Traceback" not in one.server.stderr


def test_a_record_of_another_version(site, gates):
    """The client's connection is closed; nothing else happens, and nothing stays open."""
    one = site(workers=2)
    (busy, (first, victim, *others)), (other, (second, *more)) = one.crowd(24)
    here, there = Handler("waits", first, gates()), gates()
    inodes = ",".join(map(str, pair_of(one.server)))
    second.send(request(f"/wait_and_forge?{inodes}", f"Gate: {there.path}"))
    there.reached()
    victim.send(request("/count?victim"))
    one.wait_handed(1)
    there.open()
    assert second.read_response().body == b"1", one.server.stderr
    assert victim.at_eof()
    assert here.end() == busy
    port = victim.sock.getsockname()[1]
    wait_for(lambda: all(port not in clients(pid, one.server.port)
                         for pid in one.server.workers()))
    one.server.wait_stderr("is not a connection that this version knows")
    assert not one.counted.exists()
    for client in (first, second, *others, *more):
        assert pid_of(client) in (busy, other)
    assert "Traceback" not in one.server.stderr
