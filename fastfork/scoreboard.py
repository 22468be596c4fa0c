"""The scoreboard: memory that the master shares with all its workers.

Every worker has a slot of its own, in which its core writes what it does; the master reads.
Made before the first fork, so that whoever forks a worker, it has it.
"""

from __future__ import annotations

import errno
import mmap
from typing import Any

from fastfork import _core

SLOTS = 16384  # memory that is not touched costs nothing


class Scoreboard:
    """`slots` slots, taken and given back by number."""

    def __init__(self, slots: int = SLOTS) -> None:
        self._memory = mmap.mmap(-1, slots * _core.SLOT_SIZE)
        self._slots = slots
        self._unused = 0  # the first that nobody has ever had
        self._free: list[int] = []  # given back

    def take(self) -> int:
        """A slot that nobody has, empty but perhaps for a pid.  OSError if there is none."""
        if self._free:
            number = self._free.pop()
        elif self._unused < self._slots:
            number = self._unused
            self._unused += 1
        else:
            raise OSError(errno.ENOSPC, "the scoreboard is full")
        return number

    def give_back(self, number: int) -> None:
        """The worker that had the slot is gone: its siblings must not count with it any more."""
        _core.slot_vacate(self.view(number))
        self._free.append(number)

    def whole(self) -> memoryview:
        return memoryview(self._memory)

    def view(self, number: int) -> memoryview:
        start = number * _core.SLOT_SIZE
        return memoryview(self._memory)[start : start + _core.SLOT_SIZE]

    def read(self, number: int) -> dict[str, Any]:
        """What the worker has written (see `_core.slot_read`)."""
        return _core.slot_read(self.view(number))
