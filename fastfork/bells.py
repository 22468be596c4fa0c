"""What the workers of a service need of each other: where to read how much each has to do, and a
bell for each, by which a sibling lets it know that somebody waits to be accepted.

The bells are made with the service, before any of its processes, so that every one of them has
them, whoever forked it: one for each worker that it begins with, at most `BELLS`.  More workers
share them, which costs a needless look at the listeners and nothing else.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from typing import NamedTuple

BELLS = 16


class Siblings(NamedTuple):
    """As a worker sees them (`_core.Worker`)."""

    board: memoryview  # the scoreboard
    family: int  # the number of the service; no other has it (see `of_sockets`)
    bells: tuple[int, ...]  # descriptors; empty: nobody is told anything
    bell: int = 0  # which one is the worker's own, modulo their number

    def seen_by(self, number: int) -> Siblings:
        """As the worker with this number sees them."""
        return self._replace(bell=number)

    def of_sockets(self, descriptors: Iterable[int]) -> Siblings:
        """Only those that have the same sockets.  After a reload others may have others, and
        nobody can leave a client to a worker that does not hear him."""
        inodes = sorted(os.fstat(descriptor).st_ino for descriptor in descriptors)
        return self._replace(family=self.family << 32 | zlib.crc32(repr(inodes).encode()))


def make(workers: int) -> tuple[int, ...]:
    """For a service that begins with so many.  Where there are no descriptors left there are no
    bells either, which is no fault."""
    bells: list[int] = []
    try:
        while len(bells) < min(workers, BELLS):
            bells.append(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
    except OSError:
        close(bells)
        return ()
    return tuple(bells)


def close(bells: Iterable[int]) -> None:
    for bell in bells:
        os.close(bell)
