"""What the wire tests share: clients with odd habits, and views into the worker's process."""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
from pathlib import Path

from harness import PATIENCE, Client, Server, wait_for

HERE = Path(__file__).resolve().parent
BLOCK = bytes(range(256)) * 64
MIB = 1024 * 1024
NEVER = "1h"  # a timeout that no test waits for: what happens, happens for another reason
PATIENT = [f"--{kind}-timeout={NEVER}" for kind in ("head", "body", "write", "linger")]
PATIENT += [f"--keep-alive={NEVER}"]
SHORT = "300ms"


def start(*flags, **options):
    """A server of the wire tests' application, with one worker unless told otherwise."""
    return Server("apps_wire:app", *flags, cwd=HERE, **options)


def only(kind):
    """Flags of a server that knows only one timeout."""
    flag = {"keep": "--keep-alive="}.get(kind, f"--{kind}-timeout=")
    return [f for f in PATIENT if not f.startswith(flag)] + [flag + SHORT]


def content(size):
    """What the application sends for `n=size`."""
    return (BLOCK * (size // len(BLOCK) + 1))[:size]


def get(target="/", *fields, version="1.1", method="GET"):
    """The bytes of a request without a body."""
    return "\r\n".join(
        [f"{method} {target} HTTP/{version}", "Host: test", *fields, "", ""]).encode("latin-1")


def post(target, body, *fields):
    return get(target, *(fields or [f"Content-Length: {len(body)}"]), method="POST") + body


def slow_client(server):
    """A client whose receive buffer is as small as the system allows."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(PATIENCE)
    sock.connect(server.address)
    return Client(sock)


def wake(client):
    """Let a slow client read as fast as it can from now on."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIB)


def curl(*arguments):
    """What curl wrote to its standard output.  The sanitizers of `make asan` are not for it."""
    done = subprocess.run(
        ["curl", "-sS", *arguments], capture_output=True, timeout=60,
        env={k: v for k, v in os.environ.items() if k != "LD_PRELOAD"})
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def quiet_for(client, seconds=0.1):
    """Wait a moment, as a slow client does; False if the server said or did something."""
    there = select.poll()   # select() knows no descriptors beyond 1023
    there.register(client.sock, select.POLLIN)
    return not there.poll(seconds * 1000)


def vanish(client):
    """Close with a reset."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def client_is_open(server, client):
    """True while the server holds a connection to this client, to be seen in /proc/net/tcp."""
    port = client.sock.getsockname()[1]
    remote = f"0100007F:{port:04X}"
    local = f"0100007F:{server.port:04X}"
    with open("/proc/net/tcp") as table:
        for line in table:
            words = line.split()
            if words[1] == local and words[2] == remote:
                return words[9] != "0"  # the inode is 0 once the process has closed it
    return False


def worker_of(server):
    (pid,) = server.ready["workers"]
    return pid


def descriptors(pid):
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def status_kib(pid, name):
    """A line of /proc/PID/status in KiB, such as VmRSS."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise KeyError(name)


def io_count(pid, name):
    """A line of /proc/PID/io, such as syscr."""
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise KeyError(name)


class Settled:
    """A block after which the worker is the same one, with as many descriptors as before."""

    def __init__(self, server):
        self.server = server

    def __enter__(self):
        assert self.server.get("/").body == b"hello"
        self.pid = worker_of(self.server)
        self.least = descriptors(self.pid)
        for _ in range(3):  # the connection of the request above may still be open there
            assert self.server.get("/").body == b"hello"
            self.least = min(self.least, descriptors(self.pid))
        return self

    def __exit__(self, kind, *exc):
        if kind is not None:
            return
        assert self.server.get("/pid").body == b"%d" % self.pid
        wait_for(lambda: descriptors(self.pid) <= self.least, message=lambda: (
            f"{descriptors(self.pid)} descriptors, {self.least} before: "
            + str([os.readlink(p) for p in Path(f'/proc/{self.pid}/fd').iterdir()])))
