"""How many of the connections that are opened at once each of several workers gets.

    python bench/balance.py [--connections N] [--workers N] [--rounds N] [--only NAME,...]
                            [--json FILE]

All connects are issued before any of them is waited for; then each connection makes one request,
and when all are answered /proc says which process has which.  A worker's share is the same number
for all; how far the worker with the most is above it is the figure.  Every round has connections
of its own and begins when those of the last are gone.  In the second table wrk keeps the workers
busy with hello over eight other connections, which it opens anew in every round.
"""

import collections
import contextlib
import errno
import os
import select
import signal
import socket
import statistics
import subprocess
import sys
import time

import procfs
import servers
import table
import wrk

DEFAULT = ("fastfork", "fastfork-greenlets", "fastfork-gevent", "fastfork-threads", "bjoern",
           "granian", "gunicorn-gthread")
PATIENCE = 30.0  # seconds
BUSY_CONNECTIONS = 8
BUSY = 0.3  # seconds that wrk keeps the workers busy before the others come


class Newcomer(servers.Client):
    """A connection that is opened without waiting for it."""

    def __init__(self, port):
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        trouble = self.sock.connect_ex((servers.HOST, port))
        if trouble not in (0, errno.EINPROGRESS):
            self.sock.close()
            raise OSError(trouble, os.strerror(trouble))
        self.port = self.sock.getsockname()[1]

    def send(self):
        """Send the request once the connection is there."""
        if not select.select([], [self.sock], [], PATIENCE)[1]:
            raise TimeoutError(f"not connected within {PATIENCE:.0f} s")
        self.sock.settimeout(PATIENCE)
        if trouble := self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(trouble, os.strerror(trouble))
        self.sock.sendall(servers.MINIMAL[0])


@contextlib.contextmanager
def busy(server):
    """wrk asks for hello meanwhile; an answer that is not as it should be raises at the end."""
    load = subprocess.Popen(wrk.command(server.port, int(PATIENCE), BUSY_CONNECTIONS),
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(server, lambda ports: len(ports) >= BUSY_CONNECTIONS, "wrk did not connect")
        time.sleep(BUSY)
        yield
        load.send_signal(signal.SIGINT)  # it says then what it has seen
        said, trouble = load.communicate(timeout=PATIENCE)
        if load.returncode:
            raise RuntimeError(f"wrk: exit status {load.returncode}: {trouble.strip()}")
        wrk.figures(said)
    finally:
        load.kill()
        load.communicate()


def wait_for(server, condition, otherwise):
    """Wait until `condition` holds for the ports from which the server has connections."""
    end = time.monotonic() + PATIENCE
    while not condition({port for port, owners in procfs.connection_owners(
            server.pids(), server.port).items() if owners}):
        if time.monotonic() > end:
            raise RuntimeError(otherwise)
        time.sleep(0.02)


def one_round(server, options):
    """How many connections each worker has, the most first."""
    newcomers = []
    try:
        for _ in range(options.connections):
            newcomers.append(Newcomer(server.port))
        for newcomer in newcomers:
            newcomer.send()
        for newcomer in newcomers:
            newcomer.check()
        owners = procfs.connection_owners(server.pids(), server.port)
        counts = collections.Counter()
        for newcomer in newcomers:
            if len(found := owners.get(newcomer.port, [])) != 1:
                raise RuntimeError(f"connection owned by {len(found)} processes")
            counts[found[0]] += 1
    finally:
        for newcomer in newcomers:
            newcomer.close()
    gone = {newcomer.port for newcomer in newcomers}
    wait_for(server, gone.isdisjoint, "connections that were closed are not gone")
    held = sorted(counts.values(), reverse=True)
    return held + [0] * (options.workers - len(held))


def measure(contender, load, options):
    """One row."""
    with servers.Server(contender, workers=options.workers) as server:
        server.settle()
        rounds = []
        for _ in range(options.rounds):
            with load(server):
                rounds.append(one_round(server, options))
        version = server.version
    share = options.connections / options.workers
    most = [held[0] / share for held in rounds]
    return {"version": version, "rounds": rounds, "worst_value": max(most),
            "median": f"{statistics.median(most):.2f}", "worst": f"{max(most):.2f}",
            "most": max(held[0] for held in rounds), "least": min(held[-1] for held in rounds),
            "worst_round": "/".join(map(str, max(rounds)))}


LOADS = {
    "idle": ("while the workers have nothing to do", lambda server: contextlib.nullcontext()),
    "busy": (f"while wrk -c{BUSY_CONNECTIONS} keeps them busy", busy),
}


def main():
    p = table.parser(__doc__)
    p.add_argument("--connections", type=int, default=64, help="opened at once (64)")
    p.add_argument("--workers", type=int, default=4, help="workers of each contender (4)")
    p.add_argument("--rounds", type=int, default=10, help="rounds (10)")
    options = p.parse_args()
    servers.terminate_cleanly()
    names = table.choose(options.only, DEFAULT, servers.TABLE)
    results = {}
    for key, (title, load) in LOADS.items():
        results[key] = rows = []
        for name in names:
            contender = servers.TABLE[name]
            rows.append(servers.attempt(
                name, lambda c=contender, w=load: measure(c, w, options)))
        table.show(f"{options.connections} connections opened at once over {options.workers} "
                   f"workers, {title}, {options.rounds} rounds",
                   [("version", "version"), ("most/share", "median"), ("worst", "worst"),
                    ("most", "most"), ("least", "least"), ("worst round", "worst_round")], rows,
                   [f"A share is {options.connections / options.workers:g}.  most/share: median "
                    "of the rounds.  most, least: of any worker in any round."])
    table.save(options.json, "balance", results)
    return servers.exit_status([row for rows in results.values() for row in rows])


if __name__ == "__main__":
    os.chdir(servers.HERE)
    sys.exit(main())
