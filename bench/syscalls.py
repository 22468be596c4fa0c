"""System calls per keep-alive request, by name, counted by strace.

    python bench/syscalls.py [--only fastfork,...] [--requests N] [--json FILE]

strace -c is attached to every process of a server that has warmed up, and detached when N
requests have been answered; the counts are divided by N.  Once over one connection, once over
sixteen that ask at the same time, where an event loop can share one wait among several.
"""

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import procfs
import servers
import table

DEFAULT = ("fastfork", "bjoern")
CONNECTIONS = (1, 16)
PATIENCE = 30.0  # seconds


class Strace:
    """Count the system calls of `pids` while in the context; then `counts` has them."""

    def __init__(self, pids):
        program = shutil.which("strace")
        if program is None:
            raise RuntimeError("strace is not installed: apt-get install strace")
        self.pids = pids
        self.file = tempfile.NamedTemporaryFile(prefix="strace")  # noqa: SIM115
        self.messages = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [program, "-f", "-c", "-o", self.file.name, *(f"-p{pid}" for pid in pids)],
            stdin=subprocess.DEVNULL, stderr=self.messages)
        self.counts = {}

    def _attached(self):
        for pid in self.pids:
            for task in Path(f"/proc/{pid}/task").iterdir():
                tracer = task.joinpath("status").read_text().partition("TracerPid:")[2].split()[0]
                if int(tracer) != self.process.pid:
                    return False
        return True

    def __enter__(self):
        end = time.monotonic() + PATIENCE
        try:
            while not self._attached():
                if self.process.poll() is not None or time.monotonic() > end:
                    said = os.pread(self.messages.fileno(), 4096, 0).decode().strip()
                    raise RuntimeError(f"strace cannot attach: {said}")
                time.sleep(0.01)
        except BaseException:
            self._end()
            raise
        return self

    def _end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def __exit__(self, *exc):
        self._end()
        for line in Path(self.file.name).read_text().splitlines():
            fields = line.split()  # % time, seconds, usecs/call, calls, [errors], syscall
            if len(fields) >= 5 and fields[3].isdigit() and fields[-1] != "total":
                self.counts[fields[-1]] = int(fields[3])
        self.file.close()
        self.messages.close()


def ask_all(clients, count):
    """`count` requests in all, over all clients at the same time; every answer is checked."""
    request = servers.MINIMAL[0]
    poll = select.epoll()
    by_fd = {c.sock.fileno(): c for c in clients}
    try:
        for client in clients:
            poll.register(client.sock, select.EPOLLIN)
            client.sock.sendall(request)
        sent = len(clients)
        answered = 0
        while answered < count:
            ready = poll.poll(PATIENCE)
            if not ready:
                raise TimeoutError(f"no answer within {PATIENCE:.0f} s")
            for fd, _ in ready:
                by_fd[fd].check()
                answered += 1
            for fd, _ in ready:
                if sent < count:
                    by_fd[fd].sock.sendall(request)
                    sent += 1
    finally:
        poll.close()


def measure(contender, connections, requests):
    """One row: calls per request, in all and by name."""
    row = {"version": contender.version()}
    with servers.Server(contender) as server:
        clients = [servers.Client(server.port) for _ in range(connections)]
        try:
            ask_all(clients, 20 * connections)
            with Strace(procfs.tree(server.process.pid)) as strace:
                ask_all(clients, requests)
        finally:
            for client in clients:
                client.close()
    per_request = {name: n / requests for name, n in strace.counts.items()}
    if not per_request:
        raise RuntimeError("strace counted nothing")
    row["total"] = f"{sum(per_request.values()):.3f}"
    row["calls"] = per_request
    dearest = sorted(per_request.items(), key=lambda item: -item[1])
    row["by name"] = "  ".join(f"{name} {n:.3f}" for name, n in dearest if n >= 0.0005)
    return row


def main():
    p = table.parser(__doc__)
    p.add_argument("--requests", type=int, default=5000, help="how many to count (5000)")
    options = p.parse_args()
    servers.terminate_cleanly()
    everything = []
    for connections in CONNECTIONS:
        rows = []
        for name in table.choose(options.only, DEFAULT, servers.TABLE):
            contender = servers.TABLE[name]
            rows.append(servers.attempt(
                name, lambda c=contender, n=connections: measure(c, n, options.requests)))
        plural = "s" if connections > 1 else ""
        table.show(f"System calls per keep-alive request, {connections} connection{plural}, "
                   f"{options.requests} requests (strace -c)",
                   [("all", "total"), ("by name", "by name")], rows)
        everything += [{**row, "connections": connections} for row in rows]
    table.save(options.json, "syscalls", everything)
    return servers.exit_status(everything)


if __name__ == "__main__":
    os.chdir(servers.HERE)
    sys.exit(main())
