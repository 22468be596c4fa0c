"""What /proc says about processes: who belongs together, what they used, what they own."""

import os
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def _stat(pid):
    """Fields of /proc/PID/stat from the third (state) on; None if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def alive(pid):
    """True while the process runs (a zombie does not)."""
    fields = _stat(pid)
    return fields is not None and fields[0] not in "ZX"


def tree(pid):
    """`pid` and all its living descendants."""
    found = [pid] if alive(pid) else []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            found += tree(int(child))
    return found


def session(sid):
    """Living processes of the session `sid`, orphans included."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat(entry.name)
            if fields and fields[0] not in "ZX" and int(fields[3]) == sid:
                found.append(int(entry.name))
    return found


class Cpu:
    """CPU time of a set of processes at one moment.

    `threads` maps (pid, tid) to nanoseconds on a CPU and nanoseconds ready but waiting for
    one, from the scheduler's own account (schedstat), which is exact where the tick counters
    are samples.  `user` and `system` are seconds from /proc/PID/stat; use them only for the
    ratio of the two.
    """

    def __init__(self, pids):
        self.threads = {}
        self.user = self.system = 0.0
        for pid in pids:
            for task in Path(f"/proc/{pid}/task").iterdir():
                ran, waited, _slices = map(int, (task / "schedstat").read_text().split())
                self.threads[pid, int(task.name)] = (ran, waited)
            fields = _stat(pid)
            self.user += int(fields[11]) / TICK
            self.system += int(fields[12]) / TICK

    def since(self, before):
        """(CPU seconds, share of it in user mode, seconds waited for a CPU) since `before`.

        Raises RuntimeError if a thread has ended: its time would be missing.
        """
        lost = before.threads.keys() - self.threads.keys()
        if lost:
            raise RuntimeError(f"{len(lost)} threads ended while they were measured")
        ran = waited = 0
        for key, now in self.threads.items():
            then = before.threads.get(key, (0, 0))
            ran += now[0] - then[0]
            waited += now[1] - then[1]
        user, system = self.user - before.user, self.system - before.system
        return ran / 1e9, user / (user + system) if user + system else 0.0, waited / 1e9


def pss(pids):
    """Proportional set size of the processes together, in KiB."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total


def reset_peaks(pids):
    """From now on peak() counts anew for each of the processes."""
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak(pids):
    """The most resident memory that each process has had, in KiB, added up.

    Pages that processes share are counted in each of them.
    """
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                total += int(line.split()[1])
    return total


def _inodes(pid):
    """Inodes of the sockets that the process has open."""
    found = set()
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(f"/proc/{pid}/fd/{name}")
            except OSError:
                continue
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except OSError:
        pass
    return found


def _sockets(local_port):
    """(inode, remote port) of every IPv4 TCP socket with this port of its own."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) == local_port:
            yield fields[9], int(fields[2].rpartition(":")[2], 16)


def socket_owners(pids, local_port, remote_port=0):
    """Those of `pids` that have the IPv4 socket with these ports open (remote 0: listening)."""
    inodes = {inode for inode, remote in _sockets(local_port) if remote == remote_port}
    return [pid for pid in pids if inodes & _inodes(pid)]


def connection_owners(pids, local_port):
    """Those of `pids` that have a connection to this port open, by the remote port of each."""
    owned = [(pid, _inodes(pid)) for pid in pids]
    return {remote: [pid for pid, inodes in owned if inode in inodes]
            for inode, remote in _sockets(local_port) if remote}
