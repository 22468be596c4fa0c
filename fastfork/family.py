"""What all processes of one master have in common, and the fork.

The life-line is a pipe whose write end only the master has: its end tells everybody that the
master is gone, however it went.  The scoreboard is memory that all share.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from fastfork import pairs, sockets
from fastfork.pairs import Pair
from fastfork.scoreboard import Scoreboard
from fastfork.sockets import Listener

if TYPE_CHECKING:
    from fastfork.service import Service

SignalMask = set["int | signal.Signals"]


class Family:
    def __init__(self, inherited: dict[str, Pair] | None = None) -> None:
        """`inherited`: the pairs of the old master, by the name of the service."""
        self.master = os.getpid()
        self.scoreboard = Scoreboard()
        self.lifeline, self._lifeline_write = os.pipe()
        self.services: list[Service] = []
        self.pairs = inherited or {}  # those that no service has taken
        self._services_ever = 0
        self.spare: list[Listener] = []
        """Sockets that were passed to the server and that no service has now: they cannot be
        made again."""
        self.promised: list[Listener] = []
        """Sockets of generations that services are about to be given, in the middle of a reload."""
        self.private: list[Callable[[], None]] = []
        """What lets go of other descriptors of the master's own, called in every process forked
        from it."""

    def number_service(self) -> int:
        """A number that no other has or had."""
        self._services_ever += 1
        return self._services_ever

    def listeners(self) -> list[Listener]:
        """All that are open."""
        return list(dict.fromkeys([*self._used(), *self.spare]))

    def unused(self) -> list[Listener]:
        """Those of `spare` that are still that."""
        used = self._used()
        return [listener for listener in self.spare if listener not in used]

    def drop_unwanted(self) -> None:
        """Of what an old master has passed: it has left."""
        unwanted = [one for one in self.unused() if not sockets.is_passed(one)]
        self.spare = [one for one in self.spare if one not in unwanted]
        sockets.close_all(unwanted)

    def drop_pairs(self) -> None:
        """Those of services that are not served any more."""
        pairs.close_all(self.pairs.values())
        self.pairs.clear()

    def _used(self) -> list[Listener]:
        found = [listener for service in self.services for listener in service.listeners()]
        return found + self.promised

    def release(self, listeners: Iterable[Listener]) -> None:
        """A service has no use for these any more.  Nor has another?  Then they are closed."""
        used = self._used()
        unused = [listener for listener in listeners if listener not in used]
        self.spare += [one for one in unused if sockets.is_passed(one) and one not in self.spare]
        sockets.close_all(one for one in unused if one not in self.spare)

    def fork(self) -> tuple[int, SignalMask]:
        """(0 in the child, else its pid; the signal mask, to which the child must go back).

        A signal that comes before the child has handlers of its own would be noted in its copy
        of the master's queue and lost, so all are blocked there until then.  OSError.
        """
        mask: SignalMask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
        except OSError:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            raise
        if pid == 0:
            signal.set_wakeup_fd(-1)
            os.close(self._lifeline_write)
            for service in self.services:
                service.let_go()
            for let_go in self.private:
                let_go()
        else:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return pid, mask
