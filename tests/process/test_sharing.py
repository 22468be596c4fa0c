"""Workers share the connections of their service by what each has to do."""

import collections
import os
import signal
import socket
import time
from pathlib import Path

import pytest
from harness import MODES, PATIENCE, Client, Server, alive, wait_for

WIRE = Path(__file__).resolve().parent.parent / "wire"
ATTEMPTS = 4


def serve(*flags, workers):
    return Server("apps_waits:app", *flags, workers=workers, cwd=WIRE)


def pid_of(client):
    return int(client.get("/pid").body)


def connected(server, number):
    """Clients by the worker that has accepted them, all of them open."""
    found = collections.defaultdict(list)
    for client in [server.connect() for _ in range(number)]:
        found[pid_of(client)].append(client)
    return found


def connected_to_both(server):
    """Twelve clients of two workers.  One that has had no core for a while has none of them."""
    while True:
        found = connected(server, 12)
        if min(len(found.get(pid, ())) for pid in server.workers()) >= 2:
            return found
        close_all(found)


def close(*clients):
    for client in clients:
        client.close()


def close_all(found):
    for clients in found.values():
        close(*clients)


def all_accept(server, workers):
    """Wait until every worker has had somebody."""
    def seen():
        found = connected(server, 4 * workers)
        close_all(found)
        return len(found) == workers
    wait_for(seen)


def longest(server, number):
    """Seconds that the slowest of some requests took, each on a connection of its own that stays
    open with the others."""
    clients, slowest = [], 0.0
    for _ in range(number):
        begun = time.monotonic()
        clients.append(server.connect())
        pid_of(clients[-1])
        slowest = max(slowest, time.monotonic() - begun)
    close(*clients)
    return slowest


@pytest.mark.alone
@pytest.mark.parametrize("mode", MODES)
def test_everybody_has_a_fair_share(mode):
    with serve(*MODES[mode], workers=4) as server:
        all_accept(server, 4)
        unfair = 0
        for _ in range(5):
            found = connected(server, 64)
            unfair += max(map(len, found.values())) > 20 or len(found) < 4
            close_all(found)
        assert unfair <= 1      # the machine may have been busy with something else


def at_rest(pid):
    """Is it stopped, with all its threads, or gone?"""
    try:
        states = [task.joinpath("stat").read_text().rpartition(")")[2].split()[0]
                  for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return not alive(pid)
    return set(states) <= set("TZX")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("end", [signal.SIGSTOP, signal.SIGKILL])
def test_a_worker_that_is_stopped_or_dead_keeps_nobody_waiting(mode, end):
    with serve(*MODES[mode], workers=3) as server:
        all_accept(server, 3)
        victim = server.workers()[0]
        os.kill(victim, end)
        wait_for(lambda: at_rest(victim))  # until then it may accept somebody
        try:
            slowest = [longest(server, 20) for _ in range(3)]
        finally:
            if end == signal.SIGSTOP:
                os.kill(victim, signal.SIGCONT)
        assert sorted(slowest)[1] < 1, slowest  # else they would be left to it for ever


@pytest.mark.parametrize("flags", [["--threads", "2"], ["--greenlets", "2"],
                                   ["--green", "gevent", "--greenlets", "2"]][:len(MODES) - 1])
def test_a_worker_whose_handlers_are_taken_leaves_clients_to_its_sibling(flags, tmp_path):
    """Twice in a few attempts: a sibling that has had no core for a moment is not relied upon."""
    with serve(*flags, "--queue-timeout", "600ms", workers=2) as server:
        all_accept(server, 2)
        left = 0
        for attempt in range(ATTEMPTS):
            left += is_left_to_the_sibling(server, tmp_path / str(attempt))
            if left == 2:
                break
        assert left == 2


def is_left_to_the_sibling(server, file):
    """Is everybody whom one worker cannot serve now?"""
    # Others are open at the sibling, so that it is not chosen for having less to do.
    found = connected_to_both(server)
    full, free = sorted(found)
    taken = found[full][:2]
    hold(server, taken, file)
    close(*found[full][2:])
    late = [server.connect() for _ in range(12)]
    left = {client.get("/pid").body for client in late} == {b"%d" % free}
    if left:
        # Now all handlers of all workers are taken: whoever comes is accepted, and refused.
        taken += late[:2]
        hold(server, late[:2], file)
        refused = [server.connect() for _ in range(3)]
        for client in refused:
            client.send(b"GET /hello HTTP/1.1\r\nHost: test\r\n\r\n")
        for client in refused:
            answer = client.read_response()
            assert (answer.status, answer.header("retry-after")) == (503, "10")
        close(*refused)
    file.touch()
    for client in taken:
        assert client.read_response().body == b"released"
    close(*found[full], *found[free], *late)
    return left


def hold(server, clients, file):
    """Their handlers hold until the file is there."""
    count = server.stderr.count("SAID holds") + len(clients)
    for client in clients:
        client.send(f"GET /hold?file={file} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    wait_for(lambda: server.stderr.count("SAID holds") == count, message=lambda: server.stderr)


def test_clients_of_an_address_that_is_given_up_are_served_to_the_end(tmp_path, gate):
    """While a reload goes on, workers that have not got the socket are no siblings."""
    old, new = (free_port() for _ in range(2))
    gated = tmp_path / "gated"
    (tmp_path / "gated_app.py").write_text(
        "import os\n"
        f"if os.path.exists({str(gated)!r}):\n"
        f"    open({str(gate.path)!r}).read()\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [b'%d' % os.getpid()]\n")
    file = tmp_path / "fastfork.toml"

    def write(port):
        file.write_text("[server]\ncontrol = 'none'\n[services.web]\napp = 'gated_app:app'\n"
                        f"preload = 'off'\nworkers = 3\nbind = '127.0.0.1:{port}'\n")

    write(old)
    with Server(None, "-c", str(file), cwd=tmp_path) as server:
        resting = [server.connect() for _ in range(9)]
        for client in resting:
            pid_of(client)
        gated.touch()
        write(new)
        server.signal(signal.SIGHUP)
        gate.reached()
        gate.open()
        server.wait_stderr(f"is on http://127.0.0.1:{new} now")
        # One of three is new, and the next stands at the gate.
        for _ in range(5):
            with Client(socket.create_connection(("127.0.0.1", old), PATIENCE)) as client:
                assert client.get("/").status == 200
        close(*resting)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]
