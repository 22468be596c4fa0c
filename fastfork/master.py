"""The master: binds, starts processes, watches them, and ends them.

It never imports application code.  One loop, in which everything happens in a fixed order:
signals, what processes report, deaths, the turn of every service, then sleep until a descriptor
or a time wakes it.  Signal handlers only note the number and write a byte.

`Master.run` returns twice, as fork does: in the master with an exit status, in each process
forked from it with the plan of what to be.  So the fork leaves no frame of the master's behind,
and a worker leaves through the interpreter's own exit.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Any

from fastfork import __version__, _core, sockets
from fastfork.control import Control, ControlError
from fastfork.deployment import Deployment
from fastfork.family import Family
from fastfork.handle import Handle, describe_end
from fastfork.kinds import ConfigError
from fastfork.log import logger
from fastfork.notify import Notifier
from fastfork.nursery import Plan
from fastfork.oom import OomWatch, Verdict
from fastfork.pairs import Pair
from fastfork.pidfile import PidFile, PidFileError
from fastfork.service import BOOT_FAILURE_GRACE, Service
from fastfork.services import Services
from fastfork.upgrade import Successor, Upgrade

OOM_LOOK = 2.0  # seconds between two looks at what the kernel has killed

INHERITANCE = 5.0  # seconds that a pid file may take to be ours
INHERIT_AGAIN = 0.05

EXIT_OK, EXIT_FAILED, EXIT_UNUSABLE = 0, 1, 2

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
OTHERS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU,
          signal.SIGWINCH)  # fmt: skip


class Master:
    """Runs services until it is told to stop.

    `wanted` is what they are, `load` reads it again (ConfigError) at a reload.
    `ready_fd` gets a line of JSON when all workers of all services are ready; `predecessor` is
    the old master's end at a binary upgrade."""

    def __init__(
        self,
        wanted: Deployment,
        load: Callable[[], Deployment],
        *,
        passed: sockets.Passed,
        notifier: Notifier,
        predecessor: Upgrade | None = None,
    ) -> None:
        """ConfigError or AddressError if one of the services is described wrongly."""
        self.pid = os.getpid()
        self.family = Family({} if predecessor is None else predecessor.pairs)
        self.realm = Services(wanted, load, self.family)
        self.family.drop_pairs()
        self.services = self.family.services
        server = wanted.server
        self.ready_fd = server.ready_fd if predecessor is None else None
        self.pid_file = None if server.pid is None else PidFile(server.pid)
        self.notifier = notifier
        self.control_path = server.control
        self.control: Control | None = None
        self.predecessor = predecessor
        self.successor: Successor | None = None
        self.ready = False  # all workers of all services have been, once
        self.since = time.monotonic()
        self._passed = passed
        self._oom = OomWatch()
        self._verdict, self._verdict_until = Verdict.NO, 0.0
        self._signals: deque[int] = deque()
        self._exit_status: int | None = None  # not None: stopping
        self._now = time.monotonic()  # one time for all decisions of a round
        self._oom_look_at = self._now + OOM_LOOK
        self._interrupted = False  # by one SIGINT; the second one means it
        self._watchdog_at = 0.0
        self._told_ready = False  # systemd has been
        self._inherit_until = 0.0  # the pid file, at a binary upgrade (0: not now)

    def run(self) -> int | Plan:
        """Serve.  Returns the exit status in the master, a plan in every other process.

        AddressError or PidFileError if it cannot start; nothing is left open or running then.
        """
        _core.adopt_orphans()
        _core.name_process("fastfork")
        self._bind()
        self._wake, self._wake_write = os.pipe()
        self.family.private.append(self._let_go)
        self._take_signals()
        if self.predecessor is None or self.control_path == "auto":
            self.control = Control.make(self.control_path, self._answer)
        try:
            outcome = self._supervise()
        except BaseException as error:
            if os.getpid() == self.pid:
                logger.critical("The master failed, its workers are killed.", exc_info=error)
                for service in self.services:
                    service.kill(self._now)
                self._close()
                return EXIT_FAILED
            raise
        if isinstance(outcome, int):
            # Whoever is impatient now must not change how we end.
            for number in (*STOPPING, *OTHERS):
                signal.signal(number, signal.SIG_IGN)
            self._close()
        return outcome

    def _supervise(self) -> int | Plan:
        while True:
            self._now = time.monotonic()
            self._act_on_signals()
            for service in self.services:
                service.hear(self._now)
            if self._now >= self._oom_look_at:
                self._look_at_oom()
            self._reap()
            for service in self.services:
                plan = service.work(self._now)
                if plan is not None:
                    return plan
            self._look_at_trouble()
            self.realm.tidy()
            self._announce()
            self._look_at_upgrade()
            if self._exit_status is not None and self._over():
                return self._exit_status
            self._sleep()

    def _look_at_trouble(self) -> None:
        """Is there no use in going on?"""
        if self._exit_status is not None:
            return
        if any(service.failed for service in self.services):
            self._stop(EXIT_UNUSABLE, None if self.ready else BOOT_FAILURE_GRACE)
        elif self.ready:
            return
        elif all(service.trouble for service in self.services):
            if len(self.services) > 1:
                logger.critical("None of the services can be started.")
            self._stop(EXIT_UNUSABLE, BOOT_FAILURE_GRACE)
        elif self.predecessor is not None and any(service.trouble for service in self.services):
            logger.critical("Not all of the services can be started, so the old master goes on.")
            self._stop(EXIT_UNUSABLE, BOOT_FAILURE_GRACE)

    def _over(self) -> bool:
        """Is nobody left who could be waited for?  Whom we cannot reach ends with the life-line."""
        handles = [handle for service in self.services for handle in service.handles()]
        return not handles or any(handle.powerless for handle in handles)

    # -- beginning and end ---------------------------------------------------------------
    def _bind(self) -> None:
        try:
            if self.pid_file is not None and self.predecessor is None:
                self.pid_file.acquire()
            self.realm.bind(self._passed)
        except (sockets.AddressError, PidFileError):
            self._close()
            raise
        self.family.spare = self._passed.spare()
        backlog = max(service.settings.backlog for service in self.services)
        limit = sockets.cut_backlog(backlog)
        if limit is not None:
            logger.warning(
                "The kernel cuts the backlog of %d to %d (net.core.somaxconn).", backlog, limit
            )

    def _close(self) -> None:
        for service in self.services:
            service.unbind()
        sockets.close_all(self.family.spare)
        if self.control is not None:
            self.control.close()
        if self.pid_file is not None:
            self.pid_file.release()

    def _let_go(self) -> None:
        """In a process forked from this one: of what is the master's alone."""
        os.close(self._wake)
        os.close(self._wake_write)
        if self.ready_fd is not None:
            os.close(self.ready_fd)
        if self.pid_file is not None:
            self.pid_file.forget()
        for part in (self.control, self.predecessor, self.successor):
            if part is not None:
                part.let_go()

    # -- signals -------------------------------------------------------------------------
    def _take_signals(self) -> None:
        os.set_blocking(self._wake, False)
        os.set_blocking(self._wake_write, False)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in (*STOPPING, *OTHERS, signal.SIGCHLD):
            signal.signal(number, self._note_signal)

    def _note_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals.append(number)

    def _act_on_signals(self) -> None:
        while self._signals:
            number = signal.Signals(self._signals.popleft())
            if number in STOPPING:
                self._act_on_stop(number)
            elif number in OTHERS and self._exit_status is None:
                self._act_on(number)

    def _act_on(self, number: signal.Signals) -> None:
        if number == signal.SIGHUP:
            self._act_on_sighup()
        elif number == signal.SIGUSR1:
            self._act_on_sigusr1()
        elif number == signal.SIGUSR2:
            self._act_on_sigusr2()
        elif number == signal.SIGTTIN:
            self._scale("SIGTTIN", 1)
        elif number == signal.SIGTTOU:
            self._scale("SIGTTOU", -1)
        elif number == signal.SIGWINCH:
            self._act_on_sigwinch()

    def _act_on_stop(self, number: signal.Signals) -> None:
        again = number == signal.SIGINT and self._interrupted
        self._interrupted |= number == signal.SIGINT
        if number == signal.SIGQUIT or again:
            self._stop(EXIT_OK)
            for service in self.services:
                service.kill(self._now)
            logger.info("%s: stopping at once.", number.name)
        elif self._exit_status is None:
            longest = max(service.settings.graceful_timeout for service in self.services)
            self._stop(EXIT_OK)
            logger.info("%s: stopping within %g s.", number.name, longest)

    def _act_on_sighup(self) -> None:
        try:
            self._reload(None, "SIGHUP")
        except ConfigError as error:
            for sentence in error.sentences:
                logger.error("SIGHUP: %s", sentence)
            logger.error("SIGHUP: nothing is reloaded, everything goes on as before.")

    def _reload(self, name: str | None, why: str, *, restart: bool = False) -> dict[str, int]:
        """ConfigError; then nothing has changed."""
        self.notifier.reloading()
        self._told_ready = False
        return self.realm.reload(name, why, self._now, restart=restart)

    def _act_on_sigusr1(self) -> None:
        logger.info("SIGUSR1: logs are reopened.")
        for service in self.services:
            service.reopen_logs()

    def _act_on_sigusr2(self) -> None:
        if self.successor is not None:
            logger.warning("SIGUSR2: the new master %d is starting already.", self.successor.pid)
        elif any(service.settings.exclusive for service in self.services):
            logger.error("SIGUSR2: an exclusive service cannot have two masters; stop it and start "
                         "it.")  # fmt: skip
        elif self.pid == 1:
            logger.error("SIGUSR2: process 1 cannot be replaced by another; SIGHUP reloads the "
                         "application.")  # fmt: skip
        else:
            try:
                self.successor = Successor(
                    self.family.listeners(), self._pairs(), self.notifier.environ())
            except OSError as error:
                logger.error("SIGUSR2: no new master can be started: %s.", error.strerror)
                return
            logger.info("SIGUSR2: a new master starts, pid %d.", self.successor.pid)

    def _scale(self, name: str, step: int) -> None:
        for service in self.realm.serving():
            service.resize(max(min(1, service.roster.size), service.roster.size + step))
            count = service.roster.size
            logger.info("%s: %s has %d %s now.", name, service.name, count,
                        "worker" if count == 1 else "workers")  # fmt: skip

    def _act_on_sigwinch(self) -> None:
        if _in_foreground():
            logger.debug("SIGWINCH ignored: it was the terminal that changed its size.")
            return
        for service in self.realm.serving():
            logger.info("SIGWINCH: the workers of %s leave, the master stays.", service.name)
            service.send_away()

    # -- stopping ------------------------------------------------------------------------
    def _stop(self, exit_status: int, timeout: float | None = None) -> None:
        """Let every worker finish within `timeout` seconds (None: its graceful timeout)."""
        if self._exit_status is None:
            self._exit_status = exit_status
            self.notifier.stopping()
        if self.successor is not None:
            self.successor.send(signal.SIGTERM)
        if self.successor is not None:
            sockets.claim(self.family.listeners())
        # If this is a new master that cannot take over, the old one goes on.
        others_serve = exit_status == EXIT_UNUSABLE
        for service in self.services:
            service.stop(self._now, timeout, others_serve=others_serve)

    # -- deaths --------------------------------------------------------------------------
    def _reap(self) -> None:
        """Every child that has ended.  Orphans of our workers, which we adopt, and of everybody
        else's if we are process 1, are buried without a word."""
        unknown = False
        for service in self.services:
            for handle in list(service.handles()):
                unknown |= not handle.pid
                if handle.pid:
                    self._reap_one(service, handle)
        if not unknown:  # else it may be the one that has not been able to tell us its pid yet
            ours = {handle.pid for service in self.services for handle in service.handles()}
            if self.successor is not None:
                ours.add(self.successor.pid)
            while (stranger := _ended_child()) and stranger not in ours:
                os.waitpid(stranger, 0)

    def _reap_one(self, service: Service, handle: Handle) -> None:
        status: int | None = None
        try:
            pid, status = os.waitpid(handle.pid, os.WNOHANG)
        except ChildProcessError:
            pid = handle.pid  # somebody else has waited for it: it is gone all the same
        if pid:
            by = ""
            if not handle.killed and describe_end(status) == "was killed by SIGKILL":
                by = self._killer()
            service.bury(handle, status, by, self._now)

    def _killer(self) -> str:
        """Who has sent a SIGKILL that was not ours?"""
        self._look_at_oom()
        return "by SIGKILL from outside" if self._verdict is Verdict.NO else self._verdict.value

    def _look_at_oom(self) -> None:
        """Has the kernel killed?  A verdict holds for a moment; a later kill is another matter."""
        self._oom_look_at = self._now + OOM_LOOK
        verdict = self._oom.poll()
        if verdict is not Verdict.NO or self._now >= self._verdict_until:
            self._verdict, self._verdict_until = verdict, self._now + OOM_LOOK

    # -- telling -------------------------------------------------------------------------
    def _announce(self) -> None:
        if self._exit_status is not None:
            return  # whoever is told that we are ready relies on us
        for service in self.services:
            service.announce()
        settled = all(service.settled() for service in self.services)
        if not self.ready and settled and any(service.announced for service in self.services):
            self.ready = True
            self._tell_ready()
        busy = not settled or any(service.state() == "reloading" for service in self.services)
        if not self._told_ready and self.ready and not busy:
            self._told_ready = True
            self.notifier.ready(self._summary())

    def _summary(self) -> str:
        return "; ".join(
            f"{service.name} on {', '.join(service.urls)}" for service in self.realm.serving())

    def _tell_ready(self) -> None:
        if self.predecessor is not None:
            self.predecessor.tell_ready(one.name for one in self.services if one.shared)
        if self.ready_fd is None:
            return
        facts = {
            "pid": self.pid,
            "listen": [url for service in self.services for url in service.urls],
            "workers": [member.pid for service in self.services for member in service.workers
                        if member.is_ready],
        }
        try:
            os.write(self.ready_fd, json.dumps(facts).encode() + b"\n")
        except OSError as error:
            logger.warning("Nobody reads --ready-fd %d: %s.", self.ready_fd, error.strerror)
        os.close(self.ready_fd)
        self.ready_fd = None

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """To a command that came over the control socket.  ControlError if it cannot be done."""
        self._now = time.monotonic()
        try:
            return self._obey(request["command"], request.get("service"), request)
        except ConfigError as error:
            # `fastfork status NAME` asks every server of the user: that is nothing to log.
            for sentence in error.sentences if request["command"] != "status" else ():
                logger.error("Control socket, %s: %s", request["command"], sentence)
            raise ControlError(str(error).removesuffix(".")) from None

    def _obey(self, command: str, name: str | None, request: dict[str, Any]) -> dict[str, Any]:
        if command == "status":
            return self._status(name, brief=request.get("brief", False))
        if self._exit_status is not None:
            raise ConfigError("The server is stopping.")
        logger.info("Control socket: %s%s.", command, f" {name}" if name else "")
        if command in ("reload", "restart"):
            why, restart = f"Control socket, {command}", command == "restart"
            return {"services": self._reload(name, why, restart=restart)}
        if command == "scale":
            return self.realm.scale(
                name, self._now, workers=request.get("workers"), by=request.get("by", 0))
        assert command == "stop", command
        if name is not None:
            return {"services": self.realm.stop(name, self._now)}
        self._signals.append(signal.SIGTERM)
        return {"services": [service.name for service in self.services]}

    def _status(self, name: str | None, *, brief: bool) -> dict[str, Any]:
        services = self.services if name is None else [self.realm.find(name)]
        return {
            "version": __version__,
            "pid": self.pid,
            "uptime": self._now - self.since,
            "config": self.realm.path,
            "services": [service.status(self._now, brief=brief) for service in services],
        }

    # -- binary upgrade ------------------------------------------------------------------
    def _look_at_upgrade(self) -> None:
        if self.predecessor is not None and self.predecessor.over():
            self._succeed()
        if self._inherit_until:
            self._inherit_pid_file()
        successor = self.successor
        if successor is None:
            return
        if successor.ready() and self._exit_status is None:
            logger.info("The new master %d serves; this one leaves.", successor.pid)
            self._hand_over(successor)
        end = successor.ended()
        if end is not None:
            successor.let_go()
            self.successor = None
            sockets.claim(self.family.listeners())
            if self._exit_status is None:
                logger.error("The new master %d %s; this one goes on.", successor.pid,
                             describe_end(end))  # fmt: skip

    def _hand_over(self, successor: Successor) -> None:
        self._exit_status = EXIT_OK
        self.notifier.main_pid(successor.pid)
        if self.pid_file is not None:
            self.pid_file.hand_over()
        if self.control is not None:
            self.control.close()
            self.control = None
        self._hand_pairs_over(successor)
        successor.let_go()
        self.successor = None
        for service in self.services:
            service.retire_all(self._now)

    def _pairs(self) -> dict[str, Pair]:
        """By the name of the service."""
        return {one.name: one.pair for one in self.realm.serving() if one.pair is not None}

    def _hand_pairs_over(self, successor: Successor) -> None:
        """So that our workers leave their connections to those of the new master, or keep them."""
        for service in self.realm.serving():
            if service.pair is not None and successor.has_taken(service.pair):
                service.shared = True
            else:
                service.shut_pair()
                logger.info("%s: the new master does not take over connections that are open; "
                            "they end with the workers that have them.", service.name)  # fmt: skip

    def _succeed(self) -> None:
        """The old master has let go of everything."""
        assert self.predecessor is not None
        self.predecessor.let_go()
        self.predecessor = None
        self._told_ready = False  # nobody listened to us before
        for service in self.services:
            service.shared = False
        sockets.claim(self.family.listeners())
        self.family.drop_unwanted()
        self._inherit_until = self._now + INHERITANCE
        if self.control is None:  # a path of its own; with auto every master has another
            self.control = Control.make(self.control_path, self._answer)

    def _inherit_pid_file(self) -> None:
        """The old master lets go of it, or it is killed and the kernel has yet to notice."""
        try:
            if self.pid_file is not None:
                self.pid_file.acquire()
        except PidFileError as error:
            if self._now < self._inherit_until:
                return
            logger.error("%s", error)
        self._inherit_until = 0.0

    # -- the rest ------------------------------------------------------------------------
    def _sleep(self) -> None:
        """Until a signal, a report, or the time of the next decision."""
        times = [service.next_event(self._now) for service in self.services]
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        for service in self.services:
            for handle in service.handles():
                if not handle.ended:
                    poll.register(handle.channel.fd, select.POLLIN)
        for part in (self.predecessor, self.successor):
            if part is not None and part.fd >= 0:
                poll.register(part.fd, select.POLLIN)
        if self.control is not None:
            for fd, events in self.control.fds().items():
                poll.register(fd, events)
            times.append(self.control.next_event())
        times.append(self._beat())
        if self._inherit_until:
            times.append(self._now + INHERIT_AGAIN)
        soonest = min((at for at in times if at is not None), default=None)
        timeout = None
        if soonest is not None:
            timeout = max(0.0, soonest - time.monotonic()) * 1000 + 1
        happened = poll.poll(timeout)
        if self.control is not None:
            self.control.handle(dict(happened), time.monotonic())
        try:
            while len(os.read(self._wake, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass

    def _beat(self) -> float | None:
        """systemd's watchdog.  Returns when it is due again."""
        interval = self.notifier.interval
        if interval is None:
            return None
        if self._now >= self._watchdog_at:
            self._watchdog_at = self._now + interval
            self.notifier.watchdog()
        return self._watchdog_at


def _in_foreground() -> bool:
    """Do we belong to the foreground of a terminal?  It sends SIGWINCH when it is resized."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _ended_child() -> int:
    """Pid of some child that has ended and was not waited for; 0 if there is none."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0
    return found.si_pid if found else 0
