"""The way by which connections go from one worker of a service to another: a pair of sockets,
between which they wait for whoever has time (`core/handoff.pxi`).

It is made with the service, before any of its processes, and lasts as long as the service does,
across its generations.  The master keeps both ends open and uses neither, so what waits there
outlives whoever sent it.  At a binary upgrade the new master gets it too, by the name of the
service, and says whether it has taken it: what one worker sends another must understand, so that
is only possible if both have the same version of the record.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
from collections.abc import Iterable, Mapping, MutableMapping
from typing import NamedTuple

from fastfork import _core

VARIABLE = "FASTFORK_PAIRS"  # in the environment of a new master: its old one's pairs

# Bytes that may wait, some ten thousand connections; the kernel's own limit for who has no
# privileges, net.core.wmem_max, is some hundreds.  Only what waits takes memory.
ROOM = 8 << 20
_SO_SNDBUFFORCE = 32  # socket(7)
_DESCRIPTORS = 8  # that one message may bring; ours have one


class Pair(NamedTuple):
    """Descriptors, not blocking.  Every worker has both."""

    outlet: int  # by which a worker sends its connections
    inlet: int  # by which it gets those of its siblings

    def close(self) -> None:
        for end in self:
            os.close(end)

    def shut(self) -> None:
        """For all who have it: nothing is sent any more, what waits can still be taken."""
        with contextlib.suppress(OSError):
            end = _socket(self.outlet)
            try:
                end.shutdown(socket.SHUT_RDWR)
            finally:
                end.detach()

    def empty(self) -> None:
        """Close the connections that wait: nobody is left who would take them."""
        end = _socket(self.inlet)
        try:
            with contextlib.suppress(OSError):  # BlockingIOError: that was all
                while _close_one(end):
                    pass
        finally:
            end.detach()


def _socket(end: int) -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, end)


def _close_one(end: socket.socket) -> bool:
    """False when none can come any more.  OSError: there is none."""
    descriptors = array.array("i")
    room = socket.CMSG_SPACE(_DESCRIPTORS * descriptors.itemsize)
    data, ancillary, _, _ = end.recvmsg(1, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            whole = len(content) // descriptors.itemsize * descriptors.itemsize
            descriptors.frombytes(content[:whole])
    for fd in descriptors:
        os.close(fd)
    return bool(data or descriptors)


def make() -> Pair | None:
    """Where there are no descriptors left there is none, which is no fault: then connections stay
    where they are."""
    try:
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        ends[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)  # as far as it goes
        ends[0].setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, ROOM)
    return Pair(*(end.detach() for end in ends))


# -- binary upgrade ----------------------------------------------------------------------
def hand_over(pairs: Mapping[str, Pair]) -> dict[str, str]:
    """What the environment of a new master needs to `adopt` these.  It also needs their
    descriptors, under the same numbers and inheritable: that is for whoever starts it."""
    told = {"master": os.getpid(), "version": _core.HANDOFF_VERSION, "pairs": pairs}
    return {VARIABLE: json.dumps(told)}


def adopt(environ: MutableMapping[str, str]) -> dict[str, Pair]:
    """What the old master passed at a binary upgrade, by the name of the service; nothing if its
    workers have another version of the record.

    The variable is removed from `environ`, the descriptors become close-on-exec, and those that
    cannot be used are closed.  No fault is one: the old master may be older or newer than this.
    """
    text = environ.pop(VARIABLE, None)
    if text is None:
        return {}
    try:
        told = json.loads(text)
        master, version, pairs = told["master"], told["version"], _read(told["pairs"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
    if master != os.getppid():
        return {}  # a master that did not know the variable has handed it on: it is not for us
    found = {name: pair for name, pair in pairs.items() if _is_open(pair)}
    if version != _core.HANDOFF_VERSION:
        close_all(found.values())
        return {}
    return found


def _read(pairs: Mapping[str, Iterable[int]]) -> dict[str, Pair]:
    """ValueError and others if they are none."""
    return {str(name): Pair(*(int(end) for end in ends)) for name, ends in pairs.items()}


def _is_open(pair: Pair) -> bool:
    try:
        for end in pair:
            os.set_inheritable(end, False)
    except (OSError, OverflowError):
        return False
    return True


def close_all(pairs: Iterable[Pair]) -> None:
    for pair in pairs:
        pair.close()
