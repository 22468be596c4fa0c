"""`fastfork check`: could every service be served?

Each application is imported in a process of its own, in which all is as in a worker: the user,
the environment, the directories, the functions that are named as hooks (which are not called).
So whatever an import does, to the process or with it, is told of its service alone.  Nothing is
bound.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from fastfork import _core, app, log, recipe, remains, stacks, terminal, worker
from fastfork.channel import Channel, ChannelError, Report
from fastfork.deployment import Deployment, ServiceConfig
from fastfork.family import SignalMask
from fastfork.handle import Handle, describe_end, with_channel
from fastfork.handlers import Strangers
from fastfork.kinds import ConfigError, show_duration
from fastfork.recipe import Recipe
from fastfork.sockets import AddressError

EXIT_FINE, EXIT_FAILED, EXIT_UNUSABLE = 0, 1, 2
EXIT_INTERRUPTED = 128 + signal.SIGINT


def run(load: Callable[[], Deployment]) -> int:
    """Check all services: a line for each on standard output, tracebacks on standard error.

    Returns the exit status: 0 all could be served, 1 one could not, 2 the settings of one are
    unusable.  ConfigError of `load`, if they are not even settings.
    """
    deployment = load()
    log.set_up(deployment.server.log_level)
    for sentence in deployment.warnings:
        log.logger.warning(sentence)
    try:
        return max([_check(service) for service in deployment.services], default=EXIT_FINE)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _check(service: ServiceConfig) -> int:
    try:
        what = recipe.make(service)
    except (ConfigError, AddressError) as error:  # what `load` has not found already
        _tell(service.name, str(error))
        return EXIT_UNUSABLE
    report = _try(what)
    if report.trace:
        log.write(log.indented(report.trace))
    _tell(what.name, report.sentence)
    return EXIT_FINE if report.ready else EXIT_FAILED


def _tell(name: str, sentence: str) -> None:
    terminal.say(f"{name}: {sentence}" if name else sentence)


# -- in the parent -----------------------------------------------------------------------
def _try(what: Recipe) -> Report:
    """Have it imported in a process, which is gone when this returns."""
    handle, theirs = with_channel(
        lambda channel: Handle(channel, what.settings, time.monotonic()))
    parent = os.getpid()
    # What Python calls after a fork would swallow KeyboardInterrupt.
    mask: SignalMask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    handle.pid = os.fork()
    if handle.pid == 0:
        handle.channel.close()
        _be_child(what, theirs, handle.stacks, parent, mask)
    theirs.close()
    report = status = None
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        report = _hear(handle, what.settings.boot_timeout)
    except ChannelError as error:
        sentence = f"its import has written to a descriptor that is not its own: {error}."
        report = Report(False, sentence)
    finally:
        handle.kill()  # it has nothing to do any more
        with contextlib.suppress(ChildProcessError):  # SIGCHLD is ignored
            status = os.waitpid(handle.pid, 0)[1]
        where = handle.told_stacks()
        handle.close()
    if report is not None:
        return report
    if handle.condemned:
        return Report(False, f"{handle.condemned}.", where)
    return Report(False, f"its process {describe_end(status)} in the middle of the import.")


def _hear(handle: Handle, boot_timeout: float) -> Report | None:
    """What it reports; None if it has ended, or is to be killed.  ChannelError."""
    if not _readable(handle, boot_timeout):
        why = f"its import has taken more than {show_duration(boot_timeout)} (boot_timeout)"
        handle.condemn(why, time.monotonic())
        _readable(handle, stacks.PATIENCE)
        return None
    messages = handle.receive()
    return Report.read(messages[0]) if messages else None


def _readable(handle: Handle, timeout: float) -> bool:
    poll = select.poll()
    poll.register(handle.channel.fd, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


# -- in the child ------------------------------------------------------------------------
def _be_child(
    what: Recipe, channel: Channel, stacks_fd: int, parent: int, mask: SignalMask
) -> NoReturn:
    """Import and report, as a mold does."""
    try:
        _core.name_process("fastfork check")
        log.set_tag(what.tag)
        worker.reset_signals()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        Strangers([channel])
        stacks.register(stacks_fd)
        os.dup2(2, 1)  # standard output is for our lines alone
        faulthandler.enable(2)
        report = _import(what, parent)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # they may be anything by now
                stream.flush()
        channel.send(report.message())
    finally:  # nothing of the parent's runs here, and nothing that the application has registered
        os._exit(0)


def _import(what: Recipe, parent: int) -> Report:
    snapshot = remains.before()
    settings, began = what.settings, time.monotonic()
    try:
        worker.assume(settings, what.identity)
        _core.die_with_parent(parent)  # after a change of the user, which would clear it
        worker.load(settings, what.reference)
        sentence = f"imported in {time.monotonic() - began:.1f} s"
        _check_access_log(what.access_log)
    except app.BootError as failure:
        return Report(False, failure.sentence, failure.trace)
    except Exception as error:
        sentence = f"Cannot import {what.reference}: {error!r}."
        return Report(False, sentence, traceback.format_exc())
    if what.preload == "auto" and (left := worker.left_behind(settings, snapshot)):
        sentence += f"; its import leaves behind {', '.join(left)}, "
        sentence += "so each worker imports for itself"
    return Report(True, sentence)


def _check_access_log(path: str | None) -> None:
    """Could the user that we are now write it?  It is not made.  BootError."""
    if path is None or path == "-":
        return
    directory = os.path.dirname(path)
    if os.path.isdir(path):
        why = "Is a directory"
    elif not os.path.isdir(directory):
        why = "No such file or directory"
    elif not (os.access(path, os.W_OK) if os.path.exists(path)
              else os.access(directory, os.W_OK | os.X_OK)):  # fmt: skip
        why = "Permission denied"
    else:
        return
    raise app.BootError(f"Cannot write the access log {path!r}: {why}.")
