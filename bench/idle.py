"""Memory of idle keep-alive connections, and whether a newcomer is still answered.

    python bench/idle.py [--connections N] [--only NAME,...] [--json FILE]

N connections each make one request and then stay open and silent.  The growth of the
proportional set size of the server's process tree, divided by N, is what one of them costs.
Then new connections make one request each; their median latency stands beside the one from
before.  A row is valid only if all N connections are still open at the end and a sample of
them still gets answers.
"""

import contextlib
import os
import resource
import select
import statistics
import sys
import time

import procfs
import servers
import table

DEFAULT = ("fastfork", "bjoern", "granian", "gunicorn-gevent", "fastwsgi")
PER_ADDRESS = 10_000  # connections from one source address: ephemeral ports are about 28,000
NEWCOMERS = 100
SAMPLE = 100
OPENING = 120.0  # seconds that opening all connections may take


def raise_file_limit(needed):
    """Let this command and the servers it starts open `needed` descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, max(needed, hard)))
        except (ValueError, PermissionError):
            raise RuntimeError(
                f"needs {needed} descriptors, may have {hard}: ulimit -n {needed}") from None


def newcomer_latency(port):
    """Median milliseconds from connect() to the whole answer, each on a new connection."""
    times = []
    for _ in range(NEWCOMERS):
        start = time.perf_counter()
        with servers.Client(port) as client:
            client.ask(servers.MINIMAL)
            times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


@contextlib.contextmanager
def resting(port, connections, patience=30.0, opening=OPENING):
    """So many connections that have made one request each, as a list; closed at the end.

    Every answer may take `patience` seconds, all of them together `opening`.
    """
    clients = []
    try:
        end = time.monotonic() + opening
        for n in range(connections):
            if time.monotonic() > end:
                raise RuntimeError(f"only {n} connections within {opening:.0f} s")
            source = f"127.0.0.{1 + n // PER_ADDRESS}"
            client = servers.Client(port, timeout=patience, source=source)
            clients.append(client)
            try:
                client.ask(servers.MINIMAL)
            except TimeoutError:
                raise RuntimeError(f"connection {n + 1} of {connections} had no answer "
                                   f"within {patience:.0f} s") from None
        yield clients
    finally:
        for client in clients:
            client.close()


def check(clients):
    """Raise unless all of the connections are open and a sample of them gets answers."""
    if gone := closed(clients):
        raise RuntimeError(f"{gone} of {len(clients)} connections did not stay open")
    for client in clients[::max(1, len(clients) // SAMPLE)]:
        client.ask(servers.MINIMAL)


def closed(clients):
    """How many of the connections the server has closed (or written to unasked)."""
    poll = select.epoll()
    try:
        for client in clients:
            poll.register(client.sock, select.EPOLLIN | select.EPOLLRDHUP)
        return len(poll.poll(0, len(clients)))
    finally:
        poll.close()


def settled_pss(pids):
    """The tree's PSS once it has stopped changing, in KiB."""
    last = procfs.pss(pids)
    for _ in range(20):
        time.sleep(0.25)
        now = procfs.pss(pids)
        if abs(now - last) <= 8:
            return now
        last = now
    return last


def measure(contender, connections):
    """One row."""
    with servers.Server(contender) as server:
        pids = server.pids()
        with servers.Client(server.port) as client:
            client.ask(servers.MINIMAL, 1000)
        before_ms = newcomer_latency(server.port)
        before = settled_pss(pids)
        with resting(server.port, connections) as clients:
            after = settled_pss(pids)
            after_ms = newcomer_latency(server.port)
            if server.pids() != pids:
                raise RuntimeError("a process ended or was started while it was measured")
            check(clients)
    grown = (after - before) / connections
    return {"version": server.version, "kib": f"{grown:.2f}", "kib_value": grown,
            "before": f"{before / 1024:.1f}", "after": f"{after / 1024:.1f}",
            "before_ms": f"{before_ms:.2f}", "after_ms": f"{after_ms:.2f}"}


def main():
    p = table.parser(__doc__)
    p.add_argument("--connections", type=int, default=10_000, help="how many (10000)")
    options = p.parse_args()
    servers.terminate_cleanly()
    try:
        raise_file_limit(options.connections + 1000)
    except RuntimeError as e:
        sys.exit(str(e))
    rows = []
    for name in table.choose(options.only, DEFAULT, servers.TABLE):
        contender = servers.TABLE[name]
        rows.append(servers.attempt(name, lambda c=contender: measure(c, options.connections)))
    table.show(f"{options.connections} idle keep-alive connections",
               [("version", "version"), ("KiB each", "kib"), ("MiB before", "before"),
                ("MiB after", "after"), ("newcomer ms before", "before_ms"),
                ("newcomer ms after", "after_ms")], rows,
               ["KiB each: growth of the process tree's PSS per connection"])
    table.save(options.json, "idle", rows)
    return servers.exit_status(rows)


if __name__ == "__main__":
    os.chdir(servers.HERE)
    sys.exit(main())
