"""What can be seen of a server from outside."""

import json
import os
import select
import socket
from pathlib import Path

from harness import wait_for


def targets(pid):
    """What the process has open, one string for each descriptor."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:  # the one by which the directory was read, or just closed
            continue
    return found


def kinds(pid):
    """The kinds of what it has open ("socket", "pipe", "/dev/null"), sorted."""
    return sorted(target.split(":")[0] for target in targets(pid))


def kinds_at_rest(server):
    """Those of its master, once it has closed the descriptor on which it told that it is ready."""
    assert os.read(server._ready, 1) == b""
    return kinds(server.pid)


def has_open(pid, path):
    return str(path) in targets(pid)


def holder(server, gate):
    """Pid of the worker whose handler stands at the gate."""
    found = []

    def look():
        found[:] = [pid for pid in server.workers() if has_open(pid, gate.path)]
        return found

    wait_for(look, message=lambda: "no worker is at the gate")
    (pid,) = found
    return pid


def sockets(pid):
    """Inodes of the sockets that it has open."""
    return {int(target[8:-1]) for target in targets(pid) if target.startswith("socket:[")}


def clients(pid, port):
    """Ports of those clients of the server at `port` (IPv4) whose connections it has open."""
    has, found = sockets(pid), set()
    with open("/proc/net/tcp") as table:
        next(table)
        for line in table:
            words = line.split()
            local, remote = (int(word.rpartition(":")[2], 16) for word in words[1:3])
            if local == port and remote and int(words[9]) in has:
                found.add(remote)
    return found


def pair_of(server):
    """Inodes of the two sockets by which the workers of its only service hand connections to each
    other: SEQPACKET, and of every worker (unlike its channel to the master)."""
    with open("/proc/net/unix") as table:
        next(table)
        seqpacket = {int(words[6]) for words in map(str.split, table) if words[4] == "0005"}
    return seqpacket.intersection(sockets(server.pid), *map(sockets, server.workers()))


def descriptors(pid):
    """How many it has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def quiet(sock, seconds=0.1):
    """Is there nothing to read from it for a moment?"""
    there = select.poll()  # select() knows no descriptors beyond 1023
    there.register(sock, select.POLLIN)
    return not there.poll(seconds * 1000)


def threads(pid):
    """The ids of its threads."""
    return {int(task) for task in os.listdir(f"/proc/{pid}/task")}


def field(pid, name):
    """The words behind `name` in /proc/PID/status."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return line.split()[1:]
    raise KeyError(name)


def ask(path, request):
    """The answer at the control socket: a line of JSON for a line of JSON."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(path))
        sock.sendall(json.dumps(request).encode() + b"\n")
        with sock.makefile() as answer:
            return json.loads(answer.readline())


def service(path):
    """What the one service of the server at this control socket says of itself."""
    (found,) = ask(path, {"command": "status"})["services"]
    return found


def ready(path):
    """How many of its workers are ready."""
    return sum(worker["state"] == "ready" for worker in service(path)["workers"])


def in_common(master, worker):
    """The sockets that both have: the listener and the ends of the pair."""
    sockets = [{one for one in targets(pid) if one.startswith("socket:")}
               for pid in (master, worker)]  # fmt: skip
    return sockets[0] & sockets[1]
