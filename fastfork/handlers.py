"""Signal handlers of ours in a process that also has the application's, and its forks.

Handlers of ours do little: they set a flag of the core's, or nothing.  They are told from the
application's by their class, so that a process that the application forks can drop them.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol


class Handler:
    """A handler of ours, to be told from the application's."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.act()


# Unlike SIG_IGN this does not pass to programs that the application starts.
ignore = Handler(lambda: None)


class Closable(Protocol):
    def close(self) -> None: ...


class Strangers:
    """What happens in processes that the application forks (os.fork, multiprocessing): they are
    no workers.  Signals end them as they end any process, and they do not keep our sockets.

    A signal that came before such a child has dropped our handlers would be noted for them and
    lost, so all of ours are blocked for the moment of the fork.
    """

    def __init__(self, belongings: list[Closable]) -> None:
        """In force from now on, in this process and in those that it forks itself."""
        self.belongings = belongings
        self._forking = False  # by us
        self._before = threading.local()
        os.register_at_fork(before=self._block, after_in_parent=self._restore,
                            after_in_child=self._become_stranger)  # fmt: skip

    @contextmanager
    def own_fork(self) -> Iterator[None]:
        """A fork within this is ours, not the application's."""
        self._forking = True
        try:
            yield
        finally:
            self._forking = False

    def _block(self) -> None:
        if not self._forking:
            self._before.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _handled())

    def _restore(self) -> None:
        if not self._forking:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._before.mask)

    def _become_stranger(self) -> None:
        if self._forking:
            return
        signal.set_wakeup_fd(-1)
        for number in _handled():
            signal.signal(number, signal.SIG_DFL)
        for belonging in self.belongings:
            belonging.close()
        self.belongings = []  # not again in a process that this one forks
        self._restore()


def _handled() -> set[signal.Signals | int]:
    """Signals that have a handler of ours."""
    return {n for n in signal.valid_signals() if isinstance(signal.getsignal(n), Handler)}
