"""A worker under gevent: its hub drives the core, and handlers run in greenlets of the hub.

epoll's own descriptor can be waited for: it is readable when the core has something to do.  So
one watcher on it is all that the hub needs, and one timer for what is due at a time.  `patch` runs
before the application is imported; our own modules have been by then, and keep those functions of
the standard library by name that must not become gevent's (a log entry, for one, is also written
in the hub, where nothing may wait).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from fastfork import _core
from fastfork.app import BootError

_EARLIER = 0.001  # seconds: a timer is not set anew for less


def patch() -> None:
    """Make the standard library cooperative.  BootError if gevent is not there."""
    try:
        from gevent import monkey
    except ImportError as error:
        raise BootError(
            f"green = gevent needs gevent (pip install 'fastfork[gevent]'): {error}."
        ) from None
    monkey.patch_all()


def made_anew() -> tuple[int, ...]:
    """Descriptors that `after_fork` replaces: epoll's of the hub, which whatever is imported may
    have called into being (a queue.SimpleQueue is enough)."""
    import gevent

    fd = gevent.get_hub().loop.fileno()
    return () if fd is None else (fd,)


def after_fork() -> None:
    """In a worker that was forked after `patch`: what gevent has made for the mold is not ours."""
    import gevent

    gevent.reinit()


def run(core: _core.Worker) -> None:
    """As `core.run()`."""
    _Driver(core).run()


class _Driver:
    def __init__(self, core: _core.Worker) -> None:
        import gevent
        import gevent.event
        import gevent.socket

        self._core = core
        self._hub = gevent.get_hub()
        self._events = self._hub.loop.io(core.fileno(), 1)
        self._timer: Any = None
        self._due = math.inf  # when it fires
        self._over = gevent.event.Event()
        self._failure: BaseException | None = None
        self._wait_read = gevent.socket.wait_read
        self._wait_write = gevent.socket.wait_write
        # for the core
        self.sleep: Callable[[float], object] = gevent.sleep

    def run(self) -> None:
        self._core.begin_under(self._hub, self)
        try:
            self._events.start(self._turn)
            self.want_turn()
            self._over.wait()
        finally:
            self._events.stop()
            self._events.close()
            self._set_timer(math.inf)
            self._core.end_under()
        if self._failure is not None:
            raise self._failure

    def _turn(self) -> None:
        """In the hub."""
        try:
            wait = self._core.turn()
        except BaseException as error:
            self._failure, wait = error, None
        if wait is None:
            self._events.stop()
            self._over.set()
        elif wait == 0:
            self.want_turn()
        elif wait > 0:
            due = time.monotonic() + wait
            if due < self._due - _EARLIER:
                self._set_timer(due)

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None
        self._due = due
        if due < math.inf:
            self._timer = self._hub.loop.timer(max(0.0, due - time.monotonic()))
            self._timer.start(self._time_is_up)

    def _time_is_up(self) -> None:
        self._set_timer(math.inf)
        self._turn()

    # -- what the core asks for ----------------------------------------------------------
    def want_turn(self) -> None:
        """Soon, though there is no event."""
        self._hub.loop.run_callback(self._turn)

    def wait(self, fd: int, writable: bool, timeout: float | None) -> bool:
        """Until the descriptor is ready; False if the time is up."""
        wait = self._wait_write if writable else self._wait_read
        try:
            wait(fd, timeout=timeout)
        except TimeoutError:
            return False
        return True
