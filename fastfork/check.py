"""`fastfork check`: could every service be served?

Each application is imported in a process of its own, in which all is as in a worker: the user,
the environment, the directories, the functions that are named as hooks (which are not called).
So whatever an import does, to the process or with it, is told of its service alone.  Nothing is
bound.  What can be seen without an import is looked at before.
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
from collections.abc import Callable, Iterator
from typing import NamedTuple, NoReturn

from fastfork import _core, app, identity, log, remains, sockets, stacks, worker
from fastfork.channel import Channel, ChannelError, Report
from fastfork.config import Settings
from fastfork.deployment import Deployment, ServiceConfig
from fastfork.handle import Handle, describe_end, with_channel
from fastfork.handlers import Strangers
from fastfork.identity import Identity
from fastfork.kinds import ConfigError, show_duration

EXIT_FINE, EXIT_FAILED, EXIT_UNUSABLE = 0, 1, 2
EXIT_INTERRUPTED = 128 + signal.SIGINT


class _Subject(NamedTuple):
    """A service, as far as it can be checked."""

    name: str
    settings: Settings
    served: app.Served
    identity: Identity | None
    access_log: str | None  # an absolute path, or "-"


def run(load: Callable[[], Deployment]) -> int:
    """Check all services: a line for each fault, or for each service that has none, on standard
    output; tracebacks on standard error.

    Returns the exit status: 0 all could be served, 1 one could not, 2 the settings of one are
    unusable.  ConfigError if `load` cannot tell what the services are.
    """
    deployment = load()
    log.set_up(deployment.server.log_level)
    try:
        return max([_check(service) for service in deployment.services], default=EXIT_FINE)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _check(service: ServiceConfig) -> int:
    faults: list[str] = []
    subject = _look(service, faults)
    if subject is None:
        for sentence in faults:
            _tell(service.name or service.settings.app, sentence)
        return EXIT_UNUSABLE
    report = _try(subject)
    if report.trace:
        log.write(log.indented(report.trace))
    _tell(subject.name, report.sentence)
    return EXIT_FINE if report.ready else EXIT_FAILED


def _tell(name: str, sentence: str) -> None:
    print(log.escape(f"{name}: {sentence}" if name else sentence), flush=True)


# -- without an import -------------------------------------------------------------------
def _look(service: ServiceConfig, faults: list[str]) -> _Subject | None:
    """None if something is wrong, which `faults` then say, all of it."""
    settings = service.settings
    served = who = None
    with _collected(faults):
        served = app.parse_service(settings)
    with _collected(faults):
        who = identity.resolve(settings.user, settings.group)
    if settings.socket_owner is not None:
        with _collected(faults):
            identity.owner(settings.socket_owner)
    for address in settings.bind:
        with _collected(faults):
            sockets.parse(address)
    if faults or served is None:
        return None
    access_log = settings.access_log
    if access_log is not None and access_log != "-":
        access_log = os.path.abspath(access_log)  # before anybody's --chdir
    return _Subject(service.name or str(served), settings, served, who, access_log)


@contextlib.contextmanager
def _collected(faults: list[str]) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        faults += str(error).splitlines()


# -- in the parent -----------------------------------------------------------------------
def _try(subject: _Subject) -> Report:
    """Have it imported in a process, which is gone when this returns."""
    handle, theirs = with_channel(
        lambda channel: Handle(channel, subject.settings, time.monotonic()))
    parent = os.getpid()
    handle.pid = os.fork()
    if handle.pid == 0:
        handle.channel.close()
        _be_child(subject, theirs, handle.stacks, parent)
    theirs.close()
    report = status = None
    try:
        report = _hear(handle, subject.settings.boot_timeout)
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
def _be_child(subject: _Subject, channel: Channel, stacks_fd: int, parent: int) -> NoReturn:
    """Import and report, as a mold does."""
    try:
        _core.name_process("fastfork check")
        worker.reset_signals()
        Strangers([channel])
        stacks.register(stacks_fd)
        os.dup2(2, 1)  # standard output is for our lines alone
        faulthandler.enable(2)
        report = _import(subject, parent)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # they may be anything by now
                stream.flush()
        channel.send(report.message())
    finally:  # nothing of the parent's runs here, and nothing that the application has registered
        os._exit(0)


def _import(subject: _Subject, parent: int) -> Report:
    snapshot = remains.before()
    settings, began = subject.settings, time.monotonic()
    try:
        worker.assume(settings, subject.identity)
        _core.die_with_parent(parent)  # after a change of the user, which would clear it
        worker.load(settings, subject.served)
        sentence = f"imported in {time.monotonic() - began:.1f} s"
        _check_access_log(subject.access_log)
    except app.BootError as failure:
        return Report(False, failure.sentence, failure.trace)
    except Exception as error:
        sentence = f"Cannot import {subject.served}: {error!r}."
        return Report(False, sentence, traceback.format_exc())
    if settings.preload == "auto" and not settings.exclusive and (left := snapshot.found()):
        what = ", ".join(left)
        sentence += f"; its import leaves behind {what}, so each worker imports for itself"
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
