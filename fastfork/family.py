"""What all processes of one master have in common, and the fork.

The life-line is a pipe whose write end only the master has: its end tells everybody that the
master is gone, however it went.  The scoreboard is memory that all share.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from fastfork.scoreboard import Scoreboard

if TYPE_CHECKING:
    from fastfork.service import Service

SignalMask = set["int | signal.Signals"]


class Family:
    def __init__(self) -> None:
        self.master = os.getpid()
        self.scoreboard = Scoreboard()
        self.lifeline, self._lifeline_write = os.pipe()
        self.services: list[Service] = []
        self.private: list[Callable[[], None]] = []
        """What lets go of other descriptors of the master's own, called in every process forked
        from it."""

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
