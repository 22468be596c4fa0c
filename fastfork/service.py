"""A service: an application, its sockets, its workers, and the mold they are forked from.

Who is to be started or stopped, the roster decides; the overseer looks after those that are there.
Here processes are started, heard, told to go and buried, and it is told in the log.  The master
gives every service its turn (`work`) and the ends of its processes (`bury`).

A reload makes a new generation: a new mold imports the application; when it has, the roster
starts one worker of it, and only when that is ready the old ones go, one by one.  Whatever fails
before that leaves the old generation as it was, mold and all.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Iterator
from typing import Any

from fastfork import __version__, app, cpus, identity, memory, mold, sockets, watch, worker
from fastfork.channel import Channel, ChannelError, Message, Report
from fastfork.config import Settings
from fastfork.family import Family, SignalMask
from fastfork.handle import (
    Handle,
    MoldHandle,
    WorkerHandle,
    describe_end,
    with_channel,
)
from fastfork.kinds import AUTO
from fastfork.log import indented, logger, write
from fastfork.overseer import Overseer
from fastfork.procfs import is_child
from fastfork.roster import Member, Roster, State

BOOT_FAILURE_GRACE = 0.5  # seconds for workers to leave after a failed boot
RELOAD_LOOK = 0.05  # seconds between two looks at whether the old generation has noticed
MOST_WORKERS = 4096
MOST_ORDERS = 32  # that a mold has not carried out yet

Plan = worker.Plan | mold.Plan


class Service:
    def __init__(self, settings: Settings, family: Family) -> None:
        """ConfigError or AddressError if the application or an address is malformed."""
        self.settings = settings
        self.family = family
        family.services.append(self)
        family.private.append(self.let_go)
        self.reference = app.parse_service(settings)
        self.name = str(self.reference)
        self.identity = identity.resolve(settings.user, settings.group)
        for text in settings.bind:
            sockets.parse(text)
        self.access_log = settings.access_log
        if self.access_log not in (None, "-"):
            self.access_log = os.path.abspath(self.access_log)  # before anybody's --chdir
        self.preload = settings.preload
        if settings.exclusive and self.preload == "auto":
            # State that is made by the import would be the mold's, and be there twice at a reload.
            self.preload = "off"
        self.listeners: list[sockets.Listener] = []
        self.urls: list[str] = []
        self.wanted = cpus.usable() if settings.workers == AUTO else settings.workers
        self.roster = Roster(
            self.wanted, max_unavailable=settings.max_unavailable, exclusive=settings.exclusive)
        self.workers: dict[Member, WorkerHandle] = {}
        self.molds: dict[int, MoldHandle] = {}  # by generation; those that load or serve
        self.leaving: list[MoldHandle] = []  # killed, not buried
        self.direct: set[int] = set()  # generations whose workers import for themselves
        self.generations = 0  # so far
        self.reloading: int | None = None  # the generation that is on its way
        self._revive = False  # a reload brings the workers back that SIGWINCH has sent away
        self.announced = False  # all its workers have been ready once
        self.failed = ""  # why the whole server must end
        self.last_failure: Report | None = None
        self.greeting = ""
        self.overseer = Overseer(self)

    # -- sockets -------------------------------------------------------------------------
    def bind(self, passed: sockets.Passed) -> None:
        """AddressError if one of the addresses cannot be bound."""
        settings = self.settings
        owner = None if settings.socket_owner is None else identity.owner(settings.socket_owner)
        self.listeners = sockets.open_all(
            settings.bind, backlog=settings.backlog, mode=settings.socket_mode, owner=owner,
            passed=passed)  # fmt: skip
        self.urls = [listener.url for listener in self.listeners]

    def unbind(self) -> None:
        for listener in self.listeners:
            try:
                listener.remove()
            except OSError as error:
                logger.warning("Cannot remove %s: %s.", listener.address, error.strerror)
            listener.close()
        self.listeners = []

    # -- its turn ------------------------------------------------------------------------
    def start(self, now: float) -> Plan | None:
        """The first generation.  Returns a plan in a new process, None in the master."""
        return self._new_generation(now)

    def work(self, now: float) -> Plan | None:
        """All that is due.  Returns a plan in a new process, None in the master."""
        self.roster.settle(now)
        self.overseer.kill_condemned(now)
        if now >= self.overseer.look_at:
            self.overseer.look(now)
        for member in self.roster.overdue(now):
            given = (member.deadline or now) - member.since
            self.roster.killed(member)
            self.workers[member].condemn(f"it has not left within {given:g} s", now)
        for member in self.roster.to_stop(now):
            self._retire(member, now)
        self._tell_reload()
        return self._keep_mold(now) or self._start_missing(now)

    def next_event(self, now: float) -> float | None:
        """When, after `now`, it must have its turn even if nothing happens; None: never."""
        times = [handle.kill_at for handle in self.handles() if handle.kill_at is not None]
        if now < self.roster.retry_at:
            times.append(self.roster.retry_at)
        if self.workers or self.molds:
            times.append(self.overseer.look_at)
        if self.reloading is not None and self.roster.all_ready():
            times.append(now + RELOAD_LOOK)
        decision = self.roster.next_event(now)
        if decision is not None:
            times.append(decision)
        return min(times, default=None)

    def handles(self) -> Iterator[Handle]:
        """Its processes that are not buried yet."""
        yield from self.workers.values()
        yield from self.molds.values()
        yield from self.leaving

    def over(self) -> bool:
        """Is nothing left of it?"""
        return next(self.handles(), None) is None

    # -- generations ---------------------------------------------------------------------
    def reload(self, now: float) -> Plan | None:
        """Begin a new generation.  Returns a plan in a new process, None in the master."""
        logger.info("SIGHUP: reloading %s.", self.name)
        self._revive = self.roster.size == 0  # SIGWINCH was before
        self._drop_candidate()
        return self._new_generation(now)

    def _new_generation(self, now: float) -> Plan | None:
        self.generations += 1
        if self.generations > 1:
            self.reloading = self.generations
        if self.preload == "off":
            self._loaded_nowhere(self.generations)
            return None
        return self._start_mold(self.generations, now)

    def _loaded_nowhere(self, generation: int) -> None:
        """Its workers import the application each for itself."""
        self.direct.add(generation)
        self._loaded(generation)

    def _loaded(self, generation: int) -> None:
        """Workers can be made of it: of a new one, the first."""
        if not generation == self.reloading != self.roster.generation:
            return
        if self._revive:  # nobody of the old one is to serve again
            self._revive = False
            self.roster.adopt(generation)
            self.roster.resize(self.wanted)
        else:
            self.roster.reload(generation)

    def _drop_candidate(self) -> None:
        """Of a generation that has not proved itself nothing stays."""
        if self.roster.candidate is not None:
            self.roster.abandon()
        self.reloading = None
        self._close_molds()

    def _close_molds(self) -> None:
        """Those of no generation that workers may still be made of."""
        for generation in list(self.molds):
            if generation not in (self.roster.generation, self.roster.candidate, self.reloading):
                self._let_mold_go(generation)

    def _not_reloaded(self, why: str) -> None:
        logger.error("%s is not reloaded: %s Generation %d goes on.", self.name, why,
                     self.roster.generation)  # fmt: skip
        self._drop_candidate()

    def _tell_reload(self) -> None:
        if self.reloading is None:
            return
        if self.roster.size == 0 and self.roster.candidate is not None:
            self.roster.adopt(self.roster.candidate)  # who could prove it is not wanted
        if self.reloading not in (self.roster.candidate, self.roster.generation):
            return  # its mold still imports
        if self.roster.generation == self.reloading:
            self._close_molds()
            if self.roster.all_ready() and not self._still_accepting():
                logger.info("%s is reloaded: generation %d, %s.", self.name, self.reloading,
                            _workers(self.roster.size))  # fmt: skip
                self.reloading = None

    def _still_accepting(self) -> bool:
        """Has one of the old generation not acted yet on being told to go?"""
        return any(
            member.generation != self.roster.generation and handle.facts()["state"] != "draining"
            for member, handle in self.workers.items()
        )

    # -- the mold ------------------------------------------------------------------------
    def _start_mold(self, generation: int, now: float) -> Plan | None:
        try:
            handle, theirs = with_channel(lambda ours: MoldHandle(ours, generation, now))
        except OSError as error:
            self._mold_failed(generation, self._no_mold(error), now)
            return None
        self.molds[generation] = handle
        try:
            born = self._fork(handle)
        except OSError as error:
            del self.molds[generation]
            handle.close()
            theirs.close()
            self._mold_failed(generation, self._no_mold(error), now)
            return None
        if born is not None:
            return mold.Plan(
                settings=self.settings, reference=self.reference, access_log=self.access_log,
                identity=self.identity, listeners=tuple(self.listeners), generation=generation,
                master=self.family.master, lifeline=self.family.lifeline, channel=theirs,
                scoreboard=self.family.scoreboard, stacks=born[1], signal_mask=born[0],
            )  # fmt: skip
        theirs.close()
        return None

    def _no_mold(self, error: OSError) -> Report:
        return Report(False, f"Cannot start a mold for {self.name}: {error.strerror}.")

    def _fork(self, handle: Handle) -> tuple[SignalMask, int] | None:
        """In the new process: the signal mask to go back to and a descriptor for its stacks.
        None in the master, where the handle then knows the pid.  OSError."""
        stacks = os.dup(handle.stacks)
        try:
            pid, mask = self.family.fork()
        except OSError:
            os.close(stacks)
            raise
        if pid:
            handle.pid = pid
            os.close(stacks)
            return None
        for stranger in self.family.services:
            if stranger is not self:
                for listener in stranger.listeners:
                    listener.close()
        return mask, stacks

    def _keep_mold(self, now: float) -> Plan | None:
        """Make it anew if it has died: its service cannot replace a worker without it."""
        generation = self.roster.generation
        missing = generation not in self.molds and generation not in self.direct
        if missing and not self.roster.closed and not self.failed and now >= self.roster.retry_at:
            return self._start_mold(generation, now)
        return None

    def _hear_mold(self, handle: MoldHandle, now: float) -> None:
        try:
            for message in handle.receive():
                if handle.reported:
                    raise ChannelError("a second report")
                handle.reported = True
                self._hear_mold_report(handle, Report.read(message), now)
        except ChannelError as error:
            self._mistrust(handle, error, now)

    def _hear_mold_report(self, handle: MoldHandle, report: Report, now: float) -> None:
        if report.ready:
            handle.loaded = True
            logger.debug("The mold %d of %s has imported it in %.1f s.", handle.pid, self.name,
                         now - handle.born)  # fmt: skip
            self._loaded(handle.generation)
            return
        self._let_mold_go(handle.generation)
        if report.remains:
            self._tell_remains(report.remains)
            self._loaded_nowhere(handle.generation)
        else:
            self._mold_failed(handle.generation, report, now)

    def _mistrust(self, handle: Handle, error: ChannelError, now: float) -> None:
        """Its application has written to descriptors that are not its own: who knows to which."""
        handle.condemn(f"its channel to the master holds {error}", now)

    def _let_mold_go(self, generation: int) -> None:
        handle = self.molds.pop(generation)
        handle.kill()
        self.leaving.append(handle)

    def _tell_remains(self, remains: tuple[str, ...]) -> None:
        logger.info(
            "%s is imported by each worker for itself, not preloaded: its import leaves behind %s. "
            "(--preload on shares it all the same, off does not look.)",
            self.name, ", ".join(remains))  # fmt: skip

    def _mold_failed(self, generation: int, report: Report, now: float) -> None:
        """A generation cannot be imported, or an old one cannot again, its mold having died."""
        if generation == self.reloading and generation != self.roster.generation:
            self._tell_trace(report)
            self._not_reloaded(report.sentence)
            return
        member = self.roster.starting(0, self.roster.generation, now)
        self._boot_failed(report, self.roster.not_started(member, now))

    # -- starting ------------------------------------------------------------------------
    def _start_missing(self, now: float) -> Plan | None:
        """Start who is missing.  Returns a plan in a new process, None in the master."""
        for number, generation in self.roster.to_start(now):
            if self.failed:
                return None
            if generation in self.direct:
                plan = self._start_worker(number, generation, now)
                if plan is not None:
                    return plan
            elif self._can_order(generation):
                self._order_worker(number, generation, now)
            if generation == self.roster.generation and now < self.roster.retry_at:
                return None  # that one has failed
        return None

    def _can_order(self, generation: int) -> bool:
        handle = self.molds.get(generation)
        asked_for = sum(not handle.pid for handle in self.workers.values())
        return handle is not None and handle.loaded and asked_for < MOST_ORDERS

    def _new_worker(
        self, number: int, generation: int, now: float
    ) -> tuple[WorkerHandle, Channel] | None:
        """A place in the tables, and the worker's end of its channel.  None if there can be none,
        which has been told."""
        member = self.roster.starting(number, generation, now)
        try:
            handle, theirs = with_channel(
                lambda ours: WorkerHandle(ours, member, self.family.scoreboard, now))
        except OSError as error:
            self._not_started(member, str(error.strerror), now)
            return None
        self.workers[member] = handle
        if self.settings.max_requests:
            jitter = random.randint(0, self.settings.max_requests_jitter)
            handle.most_requests = self.settings.max_requests + jitter
        return handle, theirs

    def _order_worker(self, number: int, generation: int, now: float) -> None:
        """From the mold.  That there is one we hear from itself; that there will be none, from
        the end of its channel."""
        new = self._new_worker(number, generation, now)
        if new is not None:
            handle, theirs = new
            order = {"number": number, "slot": handle.slot, "multiprocess": self.roster.size > 1}
            self.molds[generation].ordered = True
            self.molds[generation].channel.send(order, (theirs.fd, handle.stacks))
            theirs.close()

    def _start_worker(self, number: int, generation: int, now: float) -> Plan | None:
        """From ourselves: it will import the application."""
        new = self._new_worker(number, generation, now)
        if new is None:
            return None
        handle, theirs = new
        try:
            born = self._fork(handle)
        except OSError as error:
            theirs.close()
            del self.workers[handle.member]
            handle.close()
            self._not_started(handle.member, str(error.strerror), now)
            return None
        if born is not None:
            return worker.Plan(
                settings=self.settings, reference=self.reference, access_log=self.access_log,
                identity=self.identity, listeners=tuple(self.listeners), number=number,
                generation=generation, multiprocess=self.roster.size > 1,
                lifeline=self.family.lifeline, channel=theirs, slot=handle.view(),
                stacks=born[1], signal_mask=born[0],
            )  # fmt: skip
        theirs.close()
        self.roster.started(handle.member, handle.pid)
        return None

    def _never_was(self, handle: WorkerHandle, now: float) -> None:
        """A worker that was asked of a mold has not come.  If the mold has ended, that is told and
        acted upon by itself."""
        del self.workers[handle.member]
        handle.close()
        mold_handle = self.molds.get(handle.member.generation)
        if mold_handle is None or mold_handle.ended or mold_handle.condemned:
            self.roster.forget(handle.member)
        else:
            self._not_started(handle.member, "its mold has not forked it", now)

    def _not_started(self, member: Member, why: str, now: float) -> None:
        candidate = member.generation == self.roster.candidate
        delay = self.roster.not_started(member, now)
        report = Report(False, f"Cannot start a worker for {self.name}: {why}.")
        self._boot_failed(report, delay, candidate)

    # -- what processes report -----------------------------------------------------------
    def hear(self, now: float) -> None:
        """Read what has come from workers and molds."""
        for mold_handle in list(self.molds.values()):
            self._hear_mold(mold_handle, now)
        for handle in list(self.workers.values()):
            self._hear_worker(handle, now)
            if handle.ended and not handle.pid:
                self._never_was(handle, now)

    def _hear_worker(self, handle: WorkerHandle, now: float) -> None:
        try:
            for message in handle.receive():
                if message.keys() == {"hello"}:
                    self._met(handle, message["hello"], now)
                elif handle.reported:
                    raise ChannelError("a second report")
                else:
                    handle.reported = True
                    self._hear_report(handle, Report.read(message), now)
        except ChannelError as error:
            self._mistrust(handle, error, now)

    def _met(self, handle: WorkerHandle, pid: Any, now: float) -> None:
        """A worker says who it is.  ChannelError if it cannot be that."""
        if handle.pid == pid:
            return  # we have forked it ourselves
        known = {other.pid for service in self.family.services for other in service.handles()}
        if handle.pid or type(pid) is not int or pid in known or not is_child(pid):
            raise ChannelError("a wrong pid")
        handle.pid = pid
        self.roster.started(handle.member, pid)
        if handle.member.generation in self.molds:
            mold_handle = self.molds[handle.member.generation]
            mold_handle.forked, mold_handle.forked_at = True, now
        if handle.told_to_go:  # before we knew whom to tell
            handle.send(signal.SIGTERM)

    def _hear_report(self, handle: WorkerHandle, report: Report, now: float) -> None:
        member = handle.member
        if report.ready:
            handle.boot = now - handle.born
            self.roster.ready(member, now)
            self.last_failure = None
            self.greeting = report.sentence
            level = "info" if self.announced else "debug"
            getattr(logger, level)("Worker %d of %s is ready.", handle.pid, self.name)
        elif not self.roster.closed:
            candidate = member.generation == self.roster.candidate
            delay = self.roster.failed(member, now, now + BOOT_FAILURE_GRACE)
            self._boot_failed(report, delay, candidate)

    def _boot_failed(self, report: Report, delay: float, candidate: bool = False) -> None:
        """A worker could not start.  If none of its service ever did, that is the end: what
        does not start now was told wrongly.  Later, what works goes on."""
        if self.roster.closed:
            return
        self._tell_trace(report)
        if candidate:
            self._not_reloaded(report.sentence)
        elif self.announced and not self.settings.exit_on_boot_error:
            logger.error("%s Next try in %.1f s.", report.sentence, delay)
        elif not self.failed:
            logger.critical("%s", report.sentence)
            self.failed = report.sentence

    def _tell_trace(self, report: Report) -> None:
        """Once, however many workers fail alike."""
        before = self.last_failure
        if report.trace and (before is None or before.trace != report.trace):
            write(indented(report.trace))
        self.last_failure = report

    # -- stopping ------------------------------------------------------------------------
    def _retire(self, member: Member, now: float) -> None:
        """In good order: it gives its resting connections a while, and goes."""
        handle = self.workers[member]
        handle.tell_to_go(worker.RETIRE if member.state is State.READY else signal.SIGTERM)
        self.roster.stopping(member, now, now + self.settings.graceful_timeout)

    def retire_all(self, now: float) -> None:
        """Others have taken over."""
        self._close()
        for member in list(self.workers):
            self._retire(member, now)

    def stop(self, now: float, timeout: float | None = None) -> None:
        """Let every worker finish within `timeout` seconds (None: its graceful timeout)."""
        self._close()
        wait = self.settings.graceful_timeout if timeout is None else timeout
        for handle in self.workers.values():
            handle.tell_to_go(signal.SIGTERM)
            self.roster.stopping(handle.member, now, now + wait)

    def _close(self) -> None:
        self.reloading = None
        self.roster.close()
        self.unbind()
        for generation in list(self.molds):
            self._let_mold_go(generation)

    def kill(self, now: float) -> None:
        """At once."""
        for handle in self.handles():
            handle.kill()
        for member in self.workers:
            self.roster.stopping(member, now, now)
            self.roster.killed(member)

    def resize(self, size: int) -> None:
        self._revive = False
        self.roster.resize(min(MOST_WORKERS, size))

    def reopen_logs(self) -> None:
        for handle in self.workers.values():
            handle.channel.send({"reopen": True})

    # -- deaths --------------------------------------------------------------------------
    def bury(self, handle: Handle, status: int | None, sigkill: str, now: float) -> None:
        """The process has ended; `sigkill` says by whom, if it was SIGKILL and not by us."""
        handle.buried = True
        end = describe_end(status)
        if not handle.killed and end == "was killed by SIGKILL":
            end = f"was killed {sigkill}"
        if isinstance(handle, WorkerHandle):
            self._hear_worker(handle, now)  # its last words
            self._bury_worker(handle, end, now)
        elif isinstance(handle, MoldHandle):
            if handle in self.leaving:
                self.leaving.remove(handle)
            else:
                self._hear_mold(handle, now)
            if self.molds.get(handle.generation) is handle:
                self._bury_mold(handle, end, now)
            elif handle in self.leaving:
                self.leaving.remove(handle)
        handle.close()

    def _bury_mold(self, handle: MoldHandle, end: str, now: float) -> None:
        del self.molds[handle.generation]
        if handle.loaded and handle.ordered and not handle.forked:
            sentence = (
                f"Cannot serve {self.name}: its mold {handle.pid} {end} before it had forked a "
                "worker.")
            self._mold_failed(handle.generation, Report(False, sentence), now)
        elif handle.loaded and handle.generation == self.roster.generation:
            logger.error("The mold %d of %s %s; a new one is made.", handle.pid, self.name, end)
        elif handle.loaded:
            self._not_reloaded(f"its mold {handle.pid} {end}.")
        else:
            sentence = f"Cannot serve {self.name}: its mold {handle.pid} {end} before it was ready."
            self._mold_failed(handle.generation, Report(False, sentence), now)

    def _bury_worker(self, handle: WorkerHandle, end: str, now: float) -> None:
        member = handle.member
        del self.workers[member]
        state, candidate = member.state, member.generation == self.roster.candidate
        facts = handle.facts()
        delay = self.roster.ended(member, now)
        if state is State.STOPPING:
            logger.debug("Worker %d of %s %s.", handle.pid, self.name, end)
        elif state is State.STARTING:
            sentence = (
                f"Cannot serve {self.name}: worker {handle.pid} {end} before it was ready.")
            self._boot_failed(Report(False, sentence), delay, candidate)
        else:
            request = watch.request_told(facts, now)
            where = f" in {request}" if request else ""
            when = "at once" if delay == 0 else f"in {delay:.1f} s"
            logger.error("Worker %d of %s %s%s; it is replaced %s.", handle.pid, self.name, end,
                         where, when)  # fmt: skip

    # -- telling -------------------------------------------------------------------------
    def announce(self) -> None:
        if self.announced or self.roster.closed or self.roster.size == 0:
            return
        if not self.roster.all_ready():
            return
        self.announced = True
        logger.info(
            "%s on %s: %s, Python %s, fastfork %s, pid %d", self.name, ", ".join(self.urls),
            _workers(self.roster.size), "{}.{}.{}".format(*sys.version_info), __version__,
            self.family.master)  # fmt: skip
        if self.greeting:
            write(self.greeting + "\n")

    def status(self, now: float) -> Message:
        """What `fastfork status` shows of it."""
        state = "serving" if self.reloading is None else "reloading"
        return {
            "name": self.name,
            "listen": self.urls,
            "generation": self.roster.generation,
            "size": self.roster.size,
            "state": "stopping" if self.roster.closed else state,
            "workers": [self._worker_status(handle, now) for handle in self.workers.values()],
        }

    def _worker_status(self, handle: WorkerHandle, now: float) -> dict[str, Any]:
        member, facts = handle.member, handle.facts()
        return {
            **facts,
            "number": member.number,
            "pid": handle.pid,
            "generation": member.generation,
            "doing": facts["state"],
            "state": member.state.value,
            "age": now - handle.born,
            "boot": handle.boot,
            "worn": member.worn,
            "memory": memory.measure(handle.pid, self.settings.memory_measure),
        }

    # -- in a new process ----------------------------------------------------------------
    def let_go(self) -> None:
        """Of the descriptors that are the master's alone."""
        for handle in self.handles():
            handle.let_go()


def _workers(count: int) -> str:
    return f"{count} worker" if count == 1 else f"{count} workers"
