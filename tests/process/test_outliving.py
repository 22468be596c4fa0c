"""Connections outlive workers: no reload, no scaling, no limit of a worker ends one."""

import contextlib
import json
import os
import random
import signal
import socket
import time

import keepers
import pytest
from handing import pid_of, request
from harness import MODES, PATIENCE, Client, alive, children, name, wait_for
from keepers import Keepers
from seen import ask, clients, kinds, kinds_at_rest, quiet, service

SECONDS = float(os.environ.get("FASTFORK_CHAOS_SECONDS", "5"))
SEED = int(os.environ.get("FASTFORK_CHAOS_SEED", random.randrange(1 << 32)))
# Whoever should be handed on and is not is found out by the end of the test: nobody lingers.
FLAGS = ("--reload-linger", "0", "--graceful-timeout", "2h", "--keep-alive", "24h")


class Kept:
    """A server of numbers_site:app, and what its clients have been answered."""

    def __init__(self, start, directory, *flags, workers=4):
        self.control = directory / "control"
        self.board, env = keepers.site(directory)
        self.server = start("numbers_site:app", *FLAGS, "--control", str(self.control), *flags,
                            workers=workers, env=env)
        self.generation = 1

    def keep(self, *args, **kwargs):
        return Keepers(self.server.address, *args, board=self.board, **kwargs)

    def service(self):
        return service(self.control)

    def reload(self):
        self.server.signal(signal.SIGHUP)
        self.generation += 1
        self.server.wait_stderr(f"is reloaded: generation {self.generation}, ")

    def scale(self, workers):
        assert ask(self.control, {"command": "scale", "workers": workers})["after"] == workers
        self.wait_workers(workers)

    def wait_workers(self, count, patience=PATIENCE):
        """Until so many are ready and the others gone."""
        def there():
            found = self.service()["workers"]
            return (len(found) == count and {one["state"] for one in found} == {"ready"}
                    and len(self.server.workers()) == count)

        wait_for(there, patience, lambda: f"{self.service()}\n{self.server.stderr[-5000:]}")

    def nothing_lost(self, load):
        assert load.losses == [], (load.lost(), len(load.losses), self.server.stderr[-5000:])
        assert load.twice() == []


@pytest.fixture
def kept(start, tmp_path):
    return lambda *flags, **kwargs: Kept(start, tmp_path, *flags, **kwargs)


# -- nothing is lost -----------------------------------------------------------------------
@pytest.mark.parametrize("mode", MODES)
def test_two_hundred_connections(kept, mode):
    """Half of them at rest, half asking all the time: five reloads, other numbers of workers, and
    every worker replaced for its requests."""
    one = kept(*MODES[mode], "--max-requests", "2000", workers=4)
    first = one.server.workers()
    with one.keep(busy=100, idle=100, rest=0.02) as load:
        load.wait_everybody()
        for _ in range(5):
            one.reload()
            load.wait_answered(1000)
        for workers in (2, 6):
            one.scale(workers)
            load.wait_answered(1000)
        wait_for(lambda: one.server.stderr.count("(max_requests)") >= 6, 2 * PATIENCE,
                 lambda: one.server.stderr)
        load.wait_answered(1000)
    one.nothing_lost(load)
    assert not set(first) & set(one.server.workers())
    one.wait_workers(6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", ["pipelined", "halves", "posted", "rough", "slow"])
def test_whatever_they_are_in_the_middle_of(kept, way, mode):
    one = kept(*MODES[mode], workers=3)
    with one.keep(busy=40, ways=[getattr(keepers, way)], rest=0.02) as load:
        load.wait_everybody()
        for _ in range(3):
            one.reload()
            load.wait_answered(50)
    one.nothing_lost(load)


def test_handlers_that_compute(kept):
    """So that every worker is in one, whenever it is told to go."""
    one = kept(workers=2)
    with one.keep(busy=20, idle=20, ways=[keepers.busy, keepers.plain]) as load:
        load.wait_everybody()
        for workers in (3, 2):
            one.reload()
            one.scale(workers)
            load.wait_answered(20)
    one.nothing_lost(load)


@pytest.mark.parametrize("mode", MODES)
def test_an_only_worker(kept, mode):
    one = kept(*MODES[mode], workers=1)
    with one.keep(busy=5, idle=20, rest=0.02) as load:
        load.wait_everybody()
        for _ in range(3):
            one.reload()
            one.wait_workers(1)
            load.wait_answered(100)
    one.nothing_lost(load)


def test_many_at_rest(kept):
    """More than fit into a queue at once, perhaps."""
    one = kept(workers=2)
    with one.keep(busy=0, idle=2000) as load:
        load.wait_everybody()
        one.reload()
        one.scale(1)
        one.scale(3)
    one.nothing_lost(load)


def test_more_than_the_last_worker_would_accept(site):
    """`max_connections` is for those who are new."""
    one = site("--max-connections", "20", workers=2)
    crowd = one.crowd(40)
    one.server.signal(signal.SIGTTOU)
    wait_for(lambda: len(one.server.workers()) == 1, message=lambda: one.server.stderr)
    everybody = [client for _, some in crowd for client in some]
    for client in everybody:
        client.send(request("/pid"))
    for client in everybody:
        assert [int(client.read_response().body)] == one.server.workers()


# -- what its client sees ----------------------------------------------------------------------
@pytest.mark.parametrize("mode", MODES)
def test_a_resting_connection(site, mode):
    """The old worker is gone at once, however long it might linger."""
    one = site(*MODES[mode], "--reload-linger", "1h", "--graceful-timeout", "2h", workers=1)
    ((old, (client, *others)),) = one.crowd(8)
    one.server.signal(signal.SIGHUP)
    one.server.wait_stderr("is reloaded: generation 2, 1 worker.")
    wait_for(lambda: not alive(old), message=lambda: one.server.stderr)
    for one_client in (client, *others):
        assert quiet(one_client.sock, 0)
        response = one_client.get("/pid")
        assert [int(response.body)] == one.server.workers()
        assert response.header("Connection") is None
    assert one.workers()[0]["handed_in"] == 8


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("mode", MODES)
def test_a_connection_whose_request_is_in_hand(site, gate, mode, workers):
    """It is answered by the old worker, as if nothing were, and goes on with a new one."""
    one = site(*MODES[mode], "--reload-linger", "1h", "--graceful-timeout", "2h", workers=workers)
    (old, (client, resting, *_)), *_ = one.crowd(2 * workers)
    client.send(request(f"/wait?{gate.path}"))
    gate.reached()
    one.server.signal(signal.SIGHUP)
    wait_for(lambda: [worker["doing"] for worker in one.workers() if worker["pid"] == old]
             == ["draining"], message=lambda: f"{one.workers()}\n{one.server.stderr}")
    if mode == "threads" or (workers > 1 and mode != "gevent"):
        # Nobody looks around for an only worker, and what gevent's handlers do is not our affair.
        assert pid_of(resting) != old
    assert alive(old)
    gate.open()
    response = client.read_response()
    assert int(response.body) == old and response.header("Connection") is None
    response = client.get("/pid")
    assert int(response.body) != old and response.header("Connection") is None
    wait_for(lambda: not alive(old), message=lambda: one.server.stderr)


def test_a_client_that_asks_to_close_gets_what_it_asks_for(site, gate):
    one = site("--graceful-timeout", "2h", workers=1)
    ((old, (client, _)),) = one.crowd(2)
    client.send(request(f"/wait?{gate.path}", "Connection: close"))
    gate.reached()
    one.server.signal(signal.SIGHUP)
    wait_for(lambda: int(one.server.get("/pid").body) != old)
    gate.open()
    response = client.read_response()
    assert int(response.body) == old and response.header("Connection") == "close"
    assert client.at_eof()
    wait_for(lambda: not alive(old))


def test_requests_that_wait_behind_the_one_in_hand(site, gate):
    """Pipelined: the old worker or the new one, but in order and all."""
    one = site("--graceful-timeout", "2h", workers=1)
    ((old, (client, _)),) = one.crowd(2)
    client.send(request(f"/wait?{gate.path}")
                + b"".join(request(f"/show?{n}") for n in range(40)))
    gate.reached()
    one.server.signal(signal.SIGHUP)
    wait_for(lambda: int(one.server.get("/pid").body) != old)
    gate.open()
    assert int(client.read_response().body) == old
    for n in range(40):
        response = client.read_response()
        assert json.loads(response.body)["QUERY_STRING"] == str(n)
        assert response.header("Connection") is None
    wait_for(lambda: pid_of(client) != old)  # it may have been quicker than the old worker
    wait_for(lambda: not alive(old))


def test_half_a_head(site):
    one = site("--reload-linger", "1h", "--graceful-timeout", "2h", workers=1)
    ((old, (client, other)),) = one.crowd(2)
    data = request("/show", "X-Whole: " + "value" * 100)
    client.send(data[:60])
    pid_of(other)
    one.server.signal(signal.SIGHUP)
    one.server.wait_stderr("is reloaded: generation 2, 1 worker.")
    wait_for(lambda: not alive(old), message=lambda: one.server.stderr)
    client.send(data[60:])
    response = client.read_response()
    assert json.loads(response.body)["HTTP_X_WHOLE"] == "value" * 100
    assert response.header("Connection") is None


@pytest.mark.parametrize(("flag", "begun"), [("--keep-alive", b""), ("--head-timeout", b"GET /")])
def test_deadlines_go_along(site, flag, begun):
    """A connection that is handed on again and again has no more time than another."""
    one = site(flag, "2s", workers=1)
    ((_, (client, other)),) = one.crowd(2)
    client.send(begun)
    pid_of(other)
    end = time.monotonic() + PATIENCE
    generation = 1
    while quiet(client.sock, 0.05):
        assert time.monotonic() < end, f"not over after {generation - 1} reloads"
        generation += 1
        one.server.signal(signal.SIGHUP)
        one.server.wait_stderr(f"is reloaded: generation {generation}, ")
    assert generation > 2
    if begun:
        assert client.read_response().status == 408
    assert client.at_eof()


def test_how_many_requests_there_were(site):
    one = site("--keep-alive-requests", "5", workers=1)
    ((_, (client, _)),) = one.crowd(2)
    for generation, last in ((2, False), (3, False), (4, True)):
        one.server.signal(signal.SIGHUP)
        one.server.wait_stderr(f"is reloaded: generation {generation}, ")
        assert (client.get("/pid").header("Connection") == "close") == last
    assert client.at_eof()


# -- other sockets, other settings ---------------------------------------------------------------
def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def connected(port):
    return Client(socket.create_connection(("127.0.0.1", port), PATIENCE))


def shown(client):
    return json.loads(client.get("/show").body)


@pytest.mark.parametrize("after", ["{new}, {old}", "{new}"])
def test_listeners_in_another_order_or_gone(realm, after):
    """A client keeps the address to which it has come, also one that is given up."""
    old, new = free_port(), free_port()

    def write(ports):
        binds = ", ".join(f"'127.0.0.1:{port}'" for port in ports.split(", "))
        realm.write(web=f"app = 'handoff_site:app'\nbind = [{binds}]")

    write(str(old))
    realm.start()
    with connected(old) as client:
        first = shown(client)
        assert first["SERVER_PORT"] == str(old)
        write(after.format(old=old, new=new))
        assert realm.reload()["web"]["ok"] is True
        wait_for(lambda: not alive(first["pid"]), message=lambda: realm.server.stderr)
        second = shown(client)
        assert second["SERVER_PORT"] == str(old) and second["pid"] != first["pid"]
        with connected(new) as other:
            assert shown(other)["SERVER_PORT"] == str(new)


def test_a_preamble_is_for_those_who_come_later(realm):
    proxied = "proxy_protocol = 'v1'\nforwarded_allow_ips = ['127.0.0.1']"
    port = free_port()
    lines = f"app = 'handoff_site:app'\nbind = '127.0.0.1:{port}'"
    realm.write(web=lines)
    realm.start()
    with connected(port) as client:
        first = shown(client)
        realm.write(web=f"{lines}\n{proxied}")
        assert realm.reload()["web"]["ok"] is True
        wait_for(lambda: not alive(first["pid"]), message=lambda: realm.server.stderr)
        second = shown(client)
        assert second["REMOTE_ADDR"] == "127.0.0.1" and second["pid"] != first["pid"]
        with connected(port) as other:
            other.send(b"PROXY TCP4 203.0.113.9 192.0.2.1 1234 80\r\n")
            assert shown(other)["REMOTE_ADDR"] == "203.0.113.9"


# -- a share for new workers -----------------------------------------------------------------------
@pytest.mark.parametrize("mode", MODES)
def test_new_workers_get_their_share(kept, mode):
    """Of those that are there, within seconds."""
    one = kept(*MODES[mode], workers=2)
    with one.keep(busy=0, idle=120) as load:
        load.wait_everybody()
        one.scale(6)

        def shares():
            return sorted(worker["connections"] for worker in one.service()["workers"])

        wait_for(lambda: shares()[0] >= 10 and sum(shares()) == 120,
                 message=lambda: str(shares()))
        assert len(shares()) == 6 and shares()[-1] <= 40
    one.nothing_lost(load)
    assert set(one.server.workers()) <= set(load.answers)


def test_and_of_those_that_are_busy(kept):
    one = kept(workers=1)
    with one.keep(busy=40, rest=0.02) as load:
        load.wait_everybody()
        one.scale(4)
        wait_for(lambda: set(one.server.workers()) <= set(load.answers),
                 message=lambda: f"{load.answers} {one.service()}")
        wait_for(lambda: min(worker["connections"] for worker in one.service()["workers"]) >= 4,
                 message=lambda: str(one.service()))
    one.nothing_lost(load)


# -- a new master ------------------------------------------------------------------------------
@pytest.fixture
def upgrade():
    """`upgrade(server, pid)` has the master of this pid replaced; the new one is ended with the
    test."""
    made = []

    def run(server, master):
        before = server.stderr.count("SIGUSR2: a new master starts, pid ")
        os.kill(master, signal.SIGUSR2)
        wait_for(lambda: server.stderr.count("SIGUSR2: a new master starts, pid ") > before)
        made.append(int(server.stderr.rpartition("a new master starts, pid ")[2].split(".")[0]))
        wait_for(lambda: not alive(master), 2 * PATIENCE, lambda: server.stderr)
        return made[-1]

    yield run
    for pid in made:
        if name(pid) == "fastfork":
            everybody = [pid, *children(pid)]
            os.kill(pid, signal.SIGQUIT)
            wait_for(lambda all=everybody: not any(alive(one) for one in all))


def test_a_binary_upgrade(kept, upgrade):
    one = kept(workers=3)
    master = one.server.pid
    with one.keep(busy=50, idle=50, rest=0.02) as load:
        load.wait_everybody()
        for _ in range(2):
            master = upgrade(one.server, master)
            load.wait_answered(500)
    one.nothing_lost(load)


# -- chaos ---------------------------------------------------------------------------------------
def test_only_those_of_a_killed_worker_are_lost(kept):
    """Workers are killed at random while others come and go.  Each victim is stopped before, so
    that it can be seen which connections it has at that moment: only these may be lost."""
    print(f"FASTFORK_CHAOS_SEED={SEED}")
    dice = random.Random(SEED)
    one = kept("--max-requests", "3000", "--max-requests-jitter", "1000", workers=6)
    wait_for(lambda: len(children(one.server.pid)) == 7)
    before = kinds_at_rest(one.server)
    held, kills, reloads = set(), 0, 0
    ways = [keepers.plain] * 4 + [keepers.pipelined, keepers.halves, keepers.posted, keepers.slow,
                                  keepers.busy]
    with one.keep(busy=80, idle=80, ways=ways, rest=0.05, seed=SEED) as load:
        load.wait_everybody()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end or kills < 3 or reloads < 2:
            what = dice.choice(["kill", "kill", "reload", "scale"])
            if what == "kill":
                held |= kill_one(one, dice)
                kills += 1
            elif what == "reload":
                one.server.signal(signal.SIGHUP)
                reloads += 1
            else:
                ask(one.control, {"command": "scale", "workers": dice.randint(3, 8)})
            load.wait_answered(dice.randint(20, 500), 2 * PATIENCE)
        ask(one.control, {"command": "scale", "workers": 6})
        one.wait_workers(6, 2 * PATIENCE)
    print(f"{kills} workers killed, {reloads} reloads, {load.answered} answers, "
          f"{len(load.losses)} connections lost of {len(held)} that the killed ones had")
    innocent = [str(loss) for loss in load.losses if loss.port not in held]
    assert innocent == [], (innocent[:5], len(innocent), one.server.stderr[-5000:])
    assert load.twice() == []
    assert one.server.process.poll() is None
    victim = one.server.workers()[0]  # so that the mold is made anew, if it had been killed
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: not alive(victim))
    one.wait_workers(6, 2 * PATIENCE)
    wait_for(lambda: kinds(one.server.pid) == before,
             message=lambda: f"{before}\n{kinds(one.server.pid)}")


def kill_one(one, dice):
    """Ports of the clients whose connections it had."""
    # Among those that have lived longest, so that no place is taken for one in which workers
    # always crash.
    workers = sorted(one.server.workers())
    victim = dice.choice(workers[: max(1, len(workers) // 2)])
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it has gone by itself
        os.kill(victim, signal.SIGSTOP)
        wait_for(lambda: stopped_or_gone(victim))
        held = clients(victim, one.server.port)
        os.kill(victim, signal.SIGKILL)
        return held
    return set()


def stopped_or_gone(pid):
    states = set()
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/stat") as stat:
            states.add(stat.read().rpartition(")")[2].split()[0])
    return states <= set("TtZX")
