"""The master: binds, starts workers, watches them, and ends them.

It never imports application code.  One loop, in which everything happens in a fixed order:
signals, reports of starting workers, deaths, decisions of the rosters, then sleep until a
descriptor or a time wakes it.  Signal handlers only note the number and write a byte.

`Master.run` returns twice, as fork does: in the master with an exit status, in each worker
with the `Plan` of what to be.  So the fork leaves no frame of the master's behind in a worker,
and the worker leaves through the interpreter's own exit.
"""

from __future__ import annotations

import json
import os
import platform
import select
import signal
import time
from collections import deque
from collections.abc import Iterable, Iterator
from types import FrameType

from fastfork import __version__, app, cpus, sockets
from fastfork.config import AUTO, Settings
from fastfork.log import indented, logger, write
from fastfork.report import Receiver, Report, Sender, pipe
from fastfork.roster import Roster, Slot, State
from fastfork.worker import Plan

EXIT_OK, EXIT_FAILED, EXIT_UNUSABLE = 0, 1, 2

BOOT_FAILURE_GRACE = 0.5  # seconds for workers to leave after a failed boot
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
IGNORED = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU)


class Service:
    """An application, its sockets and its workers."""

    def __init__(self, settings: Settings) -> None:
        """ConfigError or AddressError if the application or an address is malformed."""
        self.settings = settings
        self.reference = app.parse(settings.app)
        self.addresses = [sockets.parse(text) for text in settings.bind]
        self.listeners: list[sockets.Listener] = []
        self.urls: list[str] = []
        workers = settings.workers
        self.roster = Roster(cpus.usable() if workers == AUTO else workers)
        self.announced = False  # all its workers have been ready once
        self.last_failure: Report | None = None
        self.greeting = ""

    def bind(self) -> None:
        """AddressError if one of the addresses cannot be bound."""
        for address in self.addresses:
            self.listeners.append(sockets.bind(address, self.settings.backlog))
        self.urls = [listener.url for listener in self.listeners]

    def unbind(self) -> None:
        for listener in self.listeners:
            try:
                listener.remove()
            except OSError as error:
                logger.warning("Cannot remove %s: %s.", listener.address, error.strerror)
            listener.close()
        self.listeners = []


class Master:
    """Runs services until it is told to stop.  `ready_fd` gets a line of JSON when all
    workers of all services are ready."""

    def __init__(self, services: Iterable[Service], ready_fd: int | None = None) -> None:
        self.services = list(services)
        self.ready_fd = ready_fd
        self.pid = os.getpid()
        self._signals: deque[int] = deque()
        self._poll = select.poll()
        self._receivers: dict[int, Receiver] = {}  # by the worker's pid
        self._exit_status: int | None = None  # not None: stopping
        self._now = time.monotonic()  # one time for all decisions of a round
        self._interrupted = False  # by one SIGINT; the second one means it

    def run(self) -> int | Plan:
        """Serve.  Returns the exit status in the master, a `Plan` in every worker.

        AddressError if a service cannot be bound; nothing is left open or running then.
        """
        self._bind()
        self._lifeline, self._lifeline_write = os.pipe()
        self._wake, self._wake_write = os.pipe()
        self._take_signals()
        try:
            outcome = self._supervise()
        except BaseException as error:
            if os.getpid() == self.pid:
                logger.critical("The master failed, its workers are killed.", exc_info=error)
                self._kill_everyone()
                self._unbind()
                return EXIT_FAILED
            raise
        return outcome

    def _supervise(self) -> int | Plan:
        while True:
            self._now = time.monotonic()
            self._act_on_signals()
            self._read_reports()
            self._reap()
            plan = self._start_workers()
            if plan is not None:
                return plan
            self._kill_overdue()
            self._announce()
            if self._exit_status is not None and not any(self._workers()):
                return self._exit_status
            self._sleep()

    # -- sockets -------------------------------------------------------------------------
    def _bind(self) -> None:
        try:
            for service in self.services:
                service.bind()
        except sockets.AddressError:
            self._unbind()
            raise
        backlog = max(service.settings.backlog for service in self.services)
        limit = sockets.cut_backlog(backlog)
        if limit is not None:
            logger.warning(
                "The kernel cuts the backlog of %d to %d (net.core.somaxconn).", backlog, limit
            )

    def _unbind(self) -> None:
        for service in self.services:
            service.unbind()

    # -- signals -------------------------------------------------------------------------
    def _take_signals(self) -> None:
        os.set_blocking(self._wake, False)
        os.set_blocking(self._wake_write, False)
        self._poll.register(self._wake, select.POLLIN)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in (*STOPPING, *IGNORED, signal.SIGCHLD):
            signal.signal(number, self._note_signal)

    def _note_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals.append(number)

    def _act_on_signals(self) -> None:
        while self._signals:
            number = signal.Signals(self._signals.popleft())
            if number in IGNORED:
                logger.warning(
                    "%s ignored, it means nothing to this version; SIGTERM, SIGINT and SIGQUIT "
                    "stop the server.", number.name)  # fmt: skip
            elif number in STOPPING:
                self._act_on_stop(number)

    def _act_on_stop(self, number: signal.Signals) -> None:
        again = number == signal.SIGINT and self._interrupted
        self._interrupted |= number == signal.SIGINT
        if number == signal.SIGQUIT or again:
            logger.info("%s: stopping at once.", number.name)
            self._kill_everyone()
            self._stop(EXIT_OK)
        elif self._exit_status is None:
            longest = max(service.settings.graceful_timeout for service in self.services)
            logger.info("%s: stopping within %g s.", number.name, longest)
            self._stop(EXIT_OK)

    # -- stopping ------------------------------------------------------------------------
    def _stop(self, exit_status: int, timeout: float | None = None) -> None:
        """Let every worker finish within `timeout` seconds (None: its graceful timeout)."""
        if self._exit_status is None:
            self._exit_status = exit_status
        self._unbind()
        for service in self.services:
            service.roster.close()
            wait = service.settings.graceful_timeout if timeout is None else timeout
            for pid in service.roster.pids():
                _send(pid, signal.SIGTERM)
                service.roster.stopping(pid, self._now, self._now + wait)

    def _kill_everyone(self) -> None:
        for service, slot in self._workers():
            _send(slot.pid, signal.SIGKILL)
            service.roster.stopping(slot.pid, self._now, self._now)
            service.roster.killed(slot.pid)

    def _kill_overdue(self) -> None:
        for service in self.services:
            for slot in service.roster.overdue(self._now):
                logger.warning(
                    "Worker %d of %s has not left within %.1f s and is killed.",
                    slot.pid, service.reference, self._now - slot.since)  # fmt: skip
                _send(slot.pid, signal.SIGKILL)
                service.roster.killed(slot.pid)

    # -- starting ------------------------------------------------------------------------
    def _start_workers(self) -> Plan | None:
        """Start who is missing.  Returns a plan in the new worker, None in the master."""
        for service in self.services:
            service.roster.settle(self._now)
            while slots := service.roster.to_start(self._now):
                plan = self._start_worker(service, slots[0])
                if plan is not None:
                    return plan
        return None

    def _start_worker(self, service: Service, slot: Slot) -> Plan | None:
        receiver, sender = pipe()
        # A signal that came before the worker has its own handlers would be noted in the
        # worker's copy of our queue and lost.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            receiver.close()
            sender.close()
            delay = service.roster.not_started(self._now)
            sentence = f"Cannot start a worker for {service.reference}: {error.strerror}."
            self._boot_failed(service, Report(False, sentence), delay)
            return None
        if pid == 0:
            return self._become_worker(service, receiver, sender, mask)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        sender.close()
        self._receivers[pid] = receiver
        self._poll.register(receiver.fd, select.POLLIN)
        service.roster.started(slot, pid, self._now)
        return None

    def _become_worker(
        self,
        service: Service,
        receiver: Receiver,
        sender: Sender,
        mask: set[int | signal.Signals],
    ) -> Plan:
        """In the new process: let go of all that is the master's or another worker's."""
        signal.set_wakeup_fd(-1)
        for fd in (self._lifeline_write, self._wake, self._wake_write, receiver.fd):
            os.close(fd)
        for other in self._receivers.values():
            other.close()
        if self.ready_fd is not None:
            os.close(self.ready_fd)
        for stranger in self.services:
            if stranger is not service:
                for listener in stranger.listeners:
                    listener.close()
        return Plan(
            settings=service.settings,
            reference=service.reference,
            listeners=tuple(service.listeners),
            multiprocess=service.roster.size > 1,
            lifeline=self._lifeline,
            sender=sender,
            signal_mask=mask,
        )

    # -- what workers report -------------------------------------------------------------
    def _read_reports(self) -> None:
        for pid in list(self._receivers):
            self._read_report(pid)

    def _read_report(self, pid: int) -> None:
        report, ended = self._receivers[pid].receive()
        if report is not None:
            self._act_on_report(pid, report)
        if ended or report is not None:
            self._forget_receiver(pid)

    def _act_on_report(self, pid: int, report: Report) -> None:
        service = self._service(pid)
        if report.ready:
            service.roster.ready(pid, self._now)
            service.last_failure = None
            service.greeting = report.sentence
            level = "info" if service.announced else "debug"
            getattr(logger, level)("Worker %d of %s is ready.", pid, service.reference)
        elif self._exit_status is None:
            delay = service.roster.failed(pid, self._now, self._now + BOOT_FAILURE_GRACE)
            self._boot_failed(service, report, delay)

    def _forget_receiver(self, pid: int) -> None:
        receiver = self._receivers.pop(pid, None)
        if receiver is not None:
            self._poll.unregister(receiver.fd)
            receiver.close()

    def _boot_failed(self, service: Service, report: Report, delay: float) -> None:
        """A worker could not start.  If none of its service ever did, that is the end: what
        does not start now was told wrongly.  Later, what works goes on."""
        if report.trace and (service.last_failure is None
                             or service.last_failure.trace != report.trace):  # fmt: skip
            write(indented(report.trace))
        service.last_failure = report
        if service.announced:
            logger.error("%s Next try in %.1f s.", report.sentence, delay)
        elif self._exit_status is None:
            logger.critical("%s", report.sentence)
            self._stop(EXIT_UNUSABLE, BOOT_FAILURE_GRACE)

    # -- deaths --------------------------------------------------------------------------
    def _reap(self) -> None:
        """Only our own workers are waited for: other children, of whoever exec'd us, are none
        of our business.  Process 1 of a container inherits every orphan and buries it."""
        for service, slot in list(self._workers()):
            pid, status = os.waitpid(slot.pid, os.WNOHANG)
            if pid:
                self._bury(service, slot, status)
        if self.pid == 1:
            ours = {slot.pid for _, slot in self._workers()}
            while (stranger := _ended_child()) and stranger not in ours:
                os.waitpid(stranger, 0)

    def _bury(self, service: Service, slot: Slot, status: int) -> None:
        pid = slot.pid
        if pid in self._receivers:
            self._read_report(pid)  # its last words
            self._forget_receiver(pid)
        state = slot.state
        delay = service.roster.ended(pid, self._now)
        end = describe_end(status)
        if state is State.STOPPING:
            logger.debug("Worker %d of %s %s.", pid, service.reference, end)
        elif state is State.STARTING:
            sentence = (
                f"Cannot serve {service.reference}: worker {pid} {end} before it was ready."
            )
            self._boot_failed(service, Report(False, sentence), delay)
        else:
            when = "at once" if delay == 0 else f"in {delay:.1f} s"
            logger.error("Worker %d of %s %s, it is replaced %s.", pid, service.reference, end,
                         when)  # fmt: skip

    # -- telling -------------------------------------------------------------------------
    def _announce(self) -> None:
        for service in self.services:
            if service.announced or not service.roster.all_ready():
                continue
            service.announced = True
            count = service.roster.size
            logger.info(
                "%s on %s: %d %s, Python %s, fastfork %s, pid %d", service.reference,
                ", ".join(service.urls), count, "worker" if count == 1 else "workers",
                platform.python_version(), __version__, self.pid)  # fmt: skip
            if service.greeting:
                write(service.greeting + "\n")
        if self.ready_fd is not None and all(service.announced for service in self.services):
            self._tell_ready(self.ready_fd)
            self.ready_fd = None

    def _tell_ready(self, fd: int) -> None:
        facts = {
            "pid": self.pid,
            "listen": [url for service in self.services for url in service.urls],
            "workers": [slot.pid for _, slot in self._workers()],
        }
        try:
            os.write(fd, json.dumps(facts).encode() + b"\n")
        except OSError as error:
            logger.warning("Nobody reads --ready-fd %d: %s.", fd, error.strerror)
        os.close(fd)

    # -- the rest ------------------------------------------------------------------------
    def _sleep(self) -> None:
        """Until a signal, a report, or the time of the next decision."""
        events = (service.roster.next_event(self._now) for service in self.services)
        times = [event for event in events if event is not None]
        timeout = max(0.0, min(times) - time.monotonic()) * 1000 + 1 if times else None
        self._poll.poll(timeout)
        try:
            while len(os.read(self._wake, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass

    def _workers(self) -> Iterator[tuple[Service, Slot]]:
        for service in self.services:
            for slot in service.roster.slots:
                if slot.state is not State.EMPTY:
                    yield service, slot

    def _service(self, pid: int) -> Service:
        return next(service for service, slot in self._workers() if slot.pid == pid)


def _send(pid: int, number: signal.Signals) -> None:
    """`pid` is one of our children and not yet waited for, so it is no stranger's."""
    os.kill(pid, number)


def _ended_child() -> int:
    """Pid of some child that has ended and was not waited for; 0 if there is none."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0
    return found.si_pid if found else 0


def describe_end(status: int) -> str:
    """A status from waitpid(2) in words: "was killed by SIGKILL", "ended with exit status 3"."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"ended with exit status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}"
