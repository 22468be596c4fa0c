"""One worker process, from just after the fork to the interpreter's exit.

The order matters.  The guard comes first: from then on not even a worker that hangs in an
import outlives its master.  Our signal handlers come after the import, because applications
leave handlers of their own behind; until then SIGTERM simply ends the process.
"""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import cast

from fastfork import _core, app, log
from fastfork.config import Settings
from fastfork.report import Report, Sender
from fastfork.sockets import Listener

# The master is gone: answer what is nearly done, and be dead within a second in any case.
ORPHAN_DRAIN = 0.5  # seconds
ORPHAN_KILL = 0.7
# Of the graceful timeout, this is left for the interpreter's exit (the application's atexit).
EXIT_SHARE, EXIT_LONGEST = 0.2, 2.0

EXIT_FAILED = 1

NEEDLESS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a worker takes along from its master."""

    settings: Settings
    reference: app.Reference
    listeners: tuple[Listener, ...]
    multiprocess: bool
    lifeline: int  # read end of a pipe whose write end only the master has
    sender: Sender
    signal_mask: set[int | signal.Signals]  # what was blocked before the fork


def run(plan: Plan) -> int:
    """Be a worker.  Returns its exit status; the caller leaves through sys.exit."""
    _core.guard(plan.lifeline, ORPHAN_KILL)
    _reset_signals()
    _prepare_for_strangers(plan.listeners)
    signal.pthread_sigmask(signal.SIG_SETMASK, plan.signal_mask)
    try:
        core = _boot(plan)
    except app.BootError as failure:
        plan.sender.send(Report(False, failure.sentence, failure.trace))
        return EXIT_FAILED
    except Exception as error:
        sentence = f"Cannot start a worker for {plan.reference}: {error!r}."
        plan.sender.send(Report(False, sentence, traceback.format_exc()))
        return EXIT_FAILED
    _install_signals(core, plan.settings.graceful_timeout)
    _watch_lifeline(core, plan.lifeline)
    plan.sender.send(Report(True, _greeting(plan)))
    try:
        core.run()
    except BaseException as error:
        log.logger.critical("The worker's loop failed.", exc_info=error)
        return EXIT_FAILED
    finally:
        for listener in plan.listeners:
            listener.close()  # the interpreter's exit may take seconds: free the port before
        core.flush_access_log()
    return 0


def _boot(plan: Plan) -> _core.Worker:
    access_log = _open_access_log(plan.settings.access_log)
    app.prepare(plan.settings.chdir, plan.settings.pyargv)
    application = app.load(plan.reference)
    return _core.Worker(
        application,
        [listener.socket for listener in plan.listeners],
        cast("_core.CoreSettings", plan.settings),
        log=log.from_core,
        access_log_fd=access_log,
        multiprocess=plan.multiprocess,
    )


def _greeting(plan: Plan) -> str:
    """What to try: the demo says it in the terminal too.  (Here, because the master does not
    import applications.)"""
    urls = [listener.url for listener in plan.listeners if listener.url.startswith("http:")]
    if plan.reference.module != "fastfork.demo" or not urls:
        return ""
    from fastfork import demo

    return demo.banner(urls[0])


def _open_access_log(path: str | None) -> int:
    """A descriptor, or -1 for no access log.  A relative path counts from the directory in
    which the server was started (it is opened before --chdir)."""
    if path is None:
        return -1
    if path == "-":
        return 1
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise app.BootError(
            f"Cannot write the access log {path!r}: {error.strerror}."
        ) from None


# -- signals -----------------------------------------------------------------------------
class _Handler:
    """A handler of ours, to be told from the application's."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.act()


# Unlike SIG_IGN this does not pass to programs that the application starts.
_ignore = _Handler(lambda: None)


def _reset_signals() -> None:
    """Drop the master's handlers.  Ctrl-C reaches the whole foreground process group, but it
    is the master that decides what it means."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGCHLD, signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGINT, *NEEDLESS):
        signal.signal(number, _ignore)


def _install_signals(core: _core.Worker, graceful_timeout: float) -> None:
    """Take over from whatever the application left.  Handlers of its own for signals that mean
    nothing to us (SIGUSR2 for a status report, say) stay."""
    drain = graceful_timeout - min(EXIT_SHARE * graceful_timeout, EXIT_LONGEST)
    signal.signal(signal.SIGTERM, _Handler(lambda: core.drain(drain)))
    signal.signal(signal.SIGQUIT, _Handler(core.stop))
    signal.signal(signal.SIGINT, _ignore)
    for number in NEEDLESS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _ignore)
    # whatever the import did to the mask, these must reach us
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGQUIT})


def _prepare_for_strangers(listeners: tuple[Listener, ...]) -> None:
    """An application may fork (multiprocessing does), and may signal its child at once.  A signal
    that came before the child has dropped our handlers would be noted for them and lost, so they
    are blocked for the moment of the fork."""
    ours = {signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, *NEEDLESS}
    before = threading.local()

    def block() -> None:
        before.mask = signal.pthread_sigmask(signal.SIG_BLOCK, ours)

    def restore() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before.mask)

    def become_stranger() -> None:
        _become_stranger(listeners)
        restore()

    os.register_at_fork(before=block, after_in_parent=restore, after_in_child=become_stranger)


def _become_stranger(listeners: tuple[Listener, ...]) -> None:
    """In a process that the application forks (multiprocessing does): it is no worker.  Signals
    end it as they end any process, and it does not keep our port in use."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, *NEEDLESS):
        if isinstance(signal.getsignal(number), _Handler):
            signal.signal(number, signal.SIG_DFL)
    for listener in listeners:
        listener.close()


def _watch_lifeline(core: _core.Worker, lifeline: int) -> None:
    def orphaned() -> None:
        core.unwatch(lifeline)
        log.logger.warning("The master is gone, this worker leaves too.")
        core.drain(ORPHAN_DRAIN)

    core.watch(lifeline, orphaned)
