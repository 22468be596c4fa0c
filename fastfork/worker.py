"""One worker process, from just after the fork to the interpreter's exit.

The order matters.  The guard comes before the import: from then on not even a worker that hangs
in it outlives its master.  Our signal handlers come after the import, because applications
leave handlers of their own behind; until then SIGTERM simply ends the process.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
from select import POLLIN, poll  # by name: gevent replaces it
from typing import NamedTuple, Protocol, cast

from fastfork import _core, app, hooks, log, remains, stacks
from fastfork.bells import Siblings
from fastfork.channel import Channel, Report
from fastfork.config import Settings
from fastfork.handlers import Closable, Handler, Strangers, ignore
from fastfork.identity import Identity
from fastfork.kinds import ConfigError
from fastfork.pairs import Pair
from fastfork.sockets import Listener

# The master is gone: answer what is nearly done, and be dead within a second in any case.
ORPHAN_DRAIN = 0.5  # seconds
ORPHAN_KILL = 0.7
GONE_PATIENCE = 100  # ms between the end of the channel and that of the life-line
# Of the graceful timeout, this is left for the interpreter's exit (the application's atexit).
EXIT_SHARE, EXIT_LONGEST = 0.2, 2.0

EXIT_FAILED = 1

# What the master sends: others take this worker's place; the deadline of the running handler has
# passed.  Signals, so that they reach a handler in progress, and real-time ones, because the
# others belong to the application.
RETIRE = signal.SIGRTMIN + 8
TIME_OUT = signal.SIGRTMIN + 9

NEEDLESS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Plan(NamedTuple):
    """All that a worker takes along from its master."""

    name: str  # of the service
    tag: str  # of its log entries
    settings: Settings
    reference: app.Served
    access_log: str | None  # an absolute path, or "-"
    identity: Identity | None
    listeners: tuple[Listener, ...]
    number: int
    generation: int
    multiprocess: bool
    lifeline: int  # read end of a pipe whose write end only the master has
    channel: Channel
    slot: memoryview  # of the scoreboard
    stacks: int  # descriptor of the file for its stacks
    signal_mask: set[int | signal.Signals]  # what was blocked before the fork
    siblings: Siblings
    pair: Pair | None  # None: connections stay where they are
    # from a mold:
    application: app.Application | None = None
    strangers: Strangers | None = None


def run(plan: Plan) -> int:
    """Be a worker.  Returns its exit status; the caller leaves through sys.exit."""
    _core.name_process("fastfork worker")
    log.set_tag(plan.tag)
    plan.channel.send({"hello": os.getpid()})
    if plan.application is None:
        reset_signals()
    stacks.register(plan.stacks)
    if plan.strangers is None:
        Strangers(belongings(plan))
    else:
        plan.strangers.belongings = belongings(plan)
    signal.pthread_sigmask(signal.SIG_SETMASK, plan.signal_mask)
    me = hooks.Worker(plan.name, plan.number, plan.generation, os.getpid())
    try:
        _core.guard(plan.lifeline, ORPHAN_KILL)
        core, access_log = _boot(plan, me)
    except app.BootError as failure:
        plan.channel.send(Report(False, failure.sentence, failure.trace).message())
        return EXIT_FAILED
    except Exception as error:
        sentence = f"Cannot start a worker for {plan.reference}: {error!r}."
        plan.channel.send(Report(False, sentence, traceback.format_exc()).message())
        return EXIT_FAILED
    _install_signals(core, plan.settings, plan.stacks)
    _watch_lifeline(core, plan.lifeline)
    _watch_channel(core, plan, access_log)
    plan.channel.send(Report(True, _greeting(plan)).message())
    try:
        _serve(core, plan.settings)
    except BaseException as error:
        log.logger.critical("The worker's loop failed.", exc_info=error)
        return EXIT_FAILED
    finally:
        # A second one (whoever signals the whole process group sends it, beside the master) must
        # not end us in the middle of the interpreter's exit.
        for late in (signal.SIGTERM, RETIRE, TIME_OUT):
            signal.signal(late, signal.SIG_IGN)
        for listener in plan.listeners:
            listener.close()  # the interpreter's exit may take seconds: free the port before
        core.flush_access_log()
        hooks.run_worker_stop(me)
    return 0


class Belonging(Protocol):
    """The plan of a worker or of a mold."""

    @property
    def listeners(self) -> tuple[Listener, ...]: ...
    @property
    def channel(self) -> Channel: ...
    @property
    def pair(self) -> Pair | None: ...


def belongings(plan: Belonging) -> list[Closable]:
    """What processes that the application forks do not keep."""
    pairs = [] if plan.pair is None else [plan.pair]
    return [*plan.listeners, plan.channel, *pairs]


def _serve(core: _core.Worker, settings: Settings) -> None:
    """Until it is told to leave and has done so."""
    if settings.green == "off":
        core.run()
        return
    from fastfork import hub

    hub.run(core)


def _boot(plan: Plan, me: hooks.Worker) -> tuple[_core.Worker, int]:
    """The core, ready to run, and the descriptor of its access log."""
    application = plan.application
    if application is None:
        assume(plan.settings, plan.identity)
        application = load(plan.settings, plan.reference)
    else:
        if plan.settings.green != "off":
            from fastfork import hub

            hub.after_fork()
        hooks.reseed()
        hooks.run_fork_after(me)
    access_log = _open_access_log(plan.access_log)
    hooks.run_worker_start(me)
    core = _core.Worker(
        application,
        [listener.socket for listener in plan.listeners],
        cast("_core.CoreSettings", plan.settings),
        log=log.from_core,
        access_log_fd=access_log,
        multiprocess=plan.multiprocess,
        slot=plan.slot,
        siblings=plan.siblings.of_sockets(one.socket.fileno() for one in plan.listeners),
        pair=plan.pair,
    )
    return core, access_log


def assume(settings: Settings, identity: Identity | None) -> None:
    """Become the user that is to run the application, with the environment that it is to have.
    In a mold or in a worker.  BootError."""
    if settings.umask is not None:
        os.umask(settings.umask)
    try:
        if identity is not None:
            identity.assume()
    except ConfigError as error:
        raise app.BootError(str(error)) from None
    os.environ.update(settings.environment)
    if any(name == "TZ" for name, _ in settings.environment):
        time.tzset()  # which nobody else would, as the process is running already


def load(settings: Settings, served: app.Served) -> app.Application:
    """Import the application, where it is to run.  In a mold or in a worker.  BootError."""
    app.prepare(settings.chdir, settings.pyargv, settings.python_path)
    if settings.green != "off":
        from fastfork import hub

        hub.patch()
    application = app.load(served, dict(settings.global_conf))
    hooks.load(settings)
    return application


def left_behind(settings: Settings, snapshot: remains.Snapshot) -> list[str]:
    """What `load` has left since `snapshot` that workers forked from this process cannot share."""
    if settings.green == "off":
        return snapshot.found()
    from fastfork import hub

    return snapshot.found(hub.made_anew())


def _greeting(plan: Plan) -> str:
    """What to try: the demo says it in the terminal too.  (Here, because the master does not
    import applications.)"""
    urls = [listener.url for listener in plan.listeners if listener.url.startswith("http:")]
    served = plan.reference
    if not isinstance(served, app.Reference) or served.module != "fastfork.demo" or not urls:
        return ""
    from fastfork import demo

    return demo.banner(urls[0])


def _open_access_log(path: str | None) -> int:
    """A descriptor, or -1 for no access log."""
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
def reset_signals() -> None:
    """Before the import: drop the master's handlers.  Ctrl-C reaches the whole foreground process
    group, but it is the master that decides what it means."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGCHLD, signal.SIGTTIN, signal.SIGTTOU,
                   signal.SIGWINCH):  # fmt: skip
        signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGINT, *NEEDLESS):
        signal.signal(number, ignore)


def take_over_signals() -> None:
    """In a mold, after the import: what stops the application in a worker is not for this one."""
    for number in (signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, ignore)


def _install_signals(core: _core.Worker, settings: Settings, stacks_fd: int) -> None:
    """Take over from whatever the application left.  Handlers of its own for signals that mean
    nothing to us (SIGUSR2 for a status report, say) stay."""
    drain = drain_time(settings.graceful_timeout)
    signal.signal(signal.SIGTERM, Handler(lambda: core.drain(drain)))
    linger = min(settings.reload_linger, drain)
    signal.signal(RETIRE, Handler(lambda: core.retire(drain, linger)))
    signal.signal(signal.SIGQUIT, Handler(core.stop))
    signal.signal(signal.SIGINT, ignore)
    if settings.request_timeout:
        signal.signal(TIME_OUT, Handler(core.time_out))
    for number in NEEDLESS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, ignore)
    stacks.register(stacks_fd, core)
    # whatever the import did to the mask, these must reach us
    ours = {signal.SIGTERM, signal.SIGQUIT, RETIRE, TIME_OUT, stacks.ASK}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ours)


def drain_time(graceful_timeout: float) -> float:
    return graceful_timeout - min(EXIT_SHARE * graceful_timeout, EXIT_LONGEST)


def _watch_lifeline(core: _core.Worker, lifeline: int) -> None:
    def orphaned() -> None:
        core.unwatch(lifeline)
        log.logger.warning("The master is gone, this worker leaves too.")
        core.drain(ORPHAN_DRAIN)

    core.watch(lifeline, orphaned)


def _watch_channel(core: _core.Worker, plan: Plan, access_log: int) -> None:
    """Orders of the master.  They are taken by the loop, between two requests."""
    plan.channel.set_blocking(False)

    def receive() -> None:
        orders, ended = plan.channel.pending()
        for order in orders:
            if "reopen" in order:
                core.flush_access_log()
                _reopen_access_log(plan.access_log, access_log)
        if ended:
            core.unwatch(plan.channel.fd)
            if not _has_ended(plan.lifeline):  # else that tells why
                log.logger.warning("The master has given this worker up, it leaves.")
                core.drain(ORPHAN_DRAIN)

    core.watch(plan.channel.fd, receive)


def _has_ended(pipe: int) -> bool:
    """Now, or in a moment: the kernel closes what a process had one by one."""
    ended = poll()
    ended.register(pipe, POLLIN)
    return bool(ended.poll(GONE_PATIENCE))


def _reopen_access_log(path: str | None, fd: int) -> None:
    """The file may have been renamed: go on in a new one of that name, with the same
    descriptor."""
    if path is None or path == "-":
        return
    try:
        new = _open_access_log(path)
    except app.BootError as error:
        log.logger.error("%s The old file is kept.", error.sentence)
        return
    os.dup2(new, fd, inheritable=False)
    os.close(new)
