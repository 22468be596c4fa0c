"""What an import left behind that must not be shared across a fork.

A thread does not come along into a forked process, and whatever lock it held stays locked there.
A connection does come along, into every one of them, and their bytes mix on it.  An epoll or
io_uring descriptor is one kernel object, whichever process changes it.  An application that has
left any of these behind at its import cannot be forked; each worker must import it for itself.

Descriptors that can be shared are not looked for: files, pipes, listening sockets, and datagram
sockets, of which every message is whole (syslog).
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc/self")
SETTLE = 0.2  # seconds: a thread that was joined may be a moment away from its end
_LOOK_AGAIN = 0.005

_Socket, _sleep = socket.socket, time.sleep  # gevent, perhaps, replaces them

_EPOLL = "anon_inode:[eventpoll]"
_IO_URING = "anon_inode:[io_uring]"
_SYN_SENT = 2  # a state of a TCP connection, net/tcp_states.h


class Snapshot(NamedTuple):
    """What was there before the import, and so is not its doing."""

    threads: frozenset[threading.Thread]  # that Python knows
    tasks: frozenset[int]  # the kernel's numbers of all
    descriptors: frozenset[tuple[int, str]]  # with what /proc says that they are
    sockets: frozenset[str]  # a duplicate of one of them is nothing new

    def found(self, spared: Collection[int] = ()) -> list[str]:
        """What has come since and must not be shared, each as a part of a sentence; but for the
        descriptors that are `spared`.

        Waits up to `SETTLE` seconds for threads that are about to end.
        """
        end = time.monotonic() + SETTLE
        while (threads := self._threads()) and time.monotonic() < end:
            _sleep(_LOOK_AGAIN)
        try:
            return [*threads, *self._descriptors(spared)]
        except FileNotFoundError:
            return [*threads, "what cannot be seen, as /proc is not mounted"]
        except OSError as error:
            return [*threads, f"what cannot be seen, as /proc cannot be read ({error.strerror})"]

    def _threads(self) -> list[str]:
        # The kernel's list first: one that Python starts in between is then in Python's.
        tasks = _tasks() - self.tasks  # none without /proc, of which the descriptors tell
        ours = threading.enumerate()
        left = [
            f"the thread {thread.name!r} ({type(thread).__name__}, started by the import)"
            for thread in ours
            if thread not in self.threads
        ]
        names: Counter[str] = Counter()
        for task in sorted(tasks - {thread.native_id for thread in ours}):
            with contextlib.suppress(OSError):  # it has ended
                comm = PROC / "task" / str(task) / "comm"  # cut after 15 bytes, wherever that is
                names[comm.read_text(errors="backslashreplace").rstrip("\n")] += 1
        for name, count in names.items():
            left.append(f"{count} native threads" if count > 1 else "a native thread")
            left[-1] += f" (comm {name!r})"
        return left

    def _descriptors(self, spared: Collection[int]) -> list[str]:
        left = []
        for fd, target in sorted(_descriptors() - self.descriptors):
            if fd in spared:
                continue
            what = None
            if target == _EPOLL:
                what = "an event loop's epoll"
            elif target == _IO_URING:
                what = "an io_uring"
            elif target.startswith("socket:") and target not in self.sockets:
                what = _connection(fd)
            if what is not None:
                left.append(f"{what} (descriptor {fd})")
        return left


def before() -> Snapshot:
    """To be called just before the import; what `found()` says later is relative to it."""
    descriptors = set()
    with contextlib.suppress(OSError):  # then `found` says so
        descriptors = _descriptors()
    return Snapshot(
        threads=frozenset(threading.enumerate()),
        tasks=frozenset(_tasks()),
        descriptors=frozenset(descriptors),
        sockets=frozenset(target for _, target in descriptors if target.startswith("socket:")),
    )


def _tasks() -> set[int]:
    """The threads of this process as the kernel counts them; empty without /proc."""
    try:
        return {int(name) for name in os.listdir(PROC / "task")}
    except OSError:
        return set()


def _descriptors() -> set[tuple[int, str]]:
    """Every open descriptor with what /proc says that it is.  OSError if that cannot be read."""
    found = set()
    for name in os.listdir(PROC / "fd"):
        with contextlib.suppress(OSError):  # the one by which the directory was read
            found.add((int(name), os.readlink(PROC / "fd" / name)))
    return found


def _connection(fd: int) -> str | None:
    """What the socket `fd` is connected to; None if it may be shared."""
    try:
        sock = _Socket(fileno=fd)
    except OSError:  # a family without addresses has no peers
        return None
    try:
        if sock.type not in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
            return None
        return _peer(sock)
    except OSError:  # not connected; listening sockets are not
        return "a connection that is being made" if _is_connecting(sock) else None
    finally:
        sock.detach()


def _peer(sock: socket.socket) -> str:
    """OSError if it has none."""
    peer = sock.getpeername()
    if sock.family == socket.AF_UNIX:
        if peer:
            return f"a connection to {_path(peer)}"
        own = sock.getsockname()
        return f"a connection accepted at {_path(own)}" if own else "one end of a socket pair"
    if sock.family == socket.AF_INET:
        return f"a connection to {peer[0]}:{peer[1]}"
    if sock.family == socket.AF_INET6:
        return f"a connection to [{peer[0]}]:{peer[1]}"
    return f"a connection to {peer!r}"


def _path(name: str | bytes) -> str:
    """A unix socket's name; one that is in no file system begins with "@"."""
    if isinstance(name, bytes):
        return "@" + name[1:].decode("utf-8", "backslashreplace")
    return name


def _is_connecting(sock: socket.socket) -> bool:
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    try:
        state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    except OSError:
        return False
    return state[0] == _SYN_SENT
