"""A service: an application, its sockets, its workers, and the mold they are forked from.

Who is to be started or stopped, the roster decides; the nursery makes processes; the overseer
looks after those that are there.  Here they are heard, told to go and buried, and it is told in
the log.  The master gives every service its turn (`work`) and the ends of its processes (`bury`).

A reload makes a new generation, which may have other settings and sockets: a new mold imports the
application; when it has, the roster starts one worker of it, and only when that is ready the old
ones go, one by one.  Whatever fails before that leaves the old generation as it was, mold, sockets
and all.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from fastfork import __version__, bells, memory, pairs, sockets, watch, worker
from fastfork.bells import Siblings
from fastfork.channel import ChannelError, Message, Report
from fastfork.config import Settings
from fastfork.family import Family
from fastfork.handle import Handle, MoldHandle, WorkerHandle, describe_end
from fastfork.log import indented, logger, write
from fastfork.nursery import Nursery, Plan
from fastfork.overseer import Overseer
from fastfork.pairs import Pair
from fastfork.procfs import is_child
from fastfork.protocol import MOST_WORKERS
from fastfork.recipe import Generation, Recipe
from fastfork.roster import Member, Roster, State

BOOT_FAILURE_GRACE = 0.5  # seconds for workers to leave after a failed boot
RELOAD_LOOK = 0.05  # seconds between two looks at whether the old generation has noticed


class Service:
    def __init__(self, recipe: Recipe, family: Family, *, first: int = 1) -> None:
        """`first`: the number of its first generation."""
        self.name = recipe.name
        self.family = family
        self.bells = bells.make(max(1, recipe.size))
        inherited = family.pairs.pop(self.name, None)
        self.pair: Pair | None = pairs.make() if inherited is None else inherited
        self.shared = inherited is not None  # the pair, with the workers of another master
        self.number = family.number_service()
        family.services.append(self)
        self.newest = first  # number of the newest generation
        self.generation = Generation(first, recipe, [], restart=False)  # the one that serves
        self.generations = {first: self.generation}  # of which workers may still be made
        self._next: Generation | None = self.generation  # to be begun
        self.had: list[sockets.Address] = []  # before it was stopped
        self.reloading: Generation | None = None  # on its way
        self.outcome: Message | None = None  # of the last start or reload that ended
        settings = recipe.settings
        self.roster = Roster(
            recipe.size, generation=first, max_unavailable=settings.max_unavailable,
            exclusive=settings.exclusive)  # fmt: skip
        self.workers: dict[Member, WorkerHandle] = {}
        self.molds: dict[int, MoldHandle] = {}  # by generation; those that load or serve
        self.leaving: list[MoldHandle] = []  # killed, not buried
        self._sent_away = False  # by SIGWINCH: a reload brings the workers back
        self._revive = False  # this one does
        self.announced = False  # all its workers have been ready once
        self.trouble = ""  # why it does not serve yet
        self.failed = ""  # why the whole server must end
        self.last_failure: Report | None = None
        self.greeting = ""
        self.nursery = Nursery(self)
        self.overseer = Overseer(self)

    @property
    def settings(self) -> Settings:
        return self.generation.recipe.settings

    @property
    def urls(self) -> list[str]:
        return self.generation.urls

    # -- sockets -------------------------------------------------------------------------
    def bind(self, passed: sockets.Passed, have: Sequence[sockets.Listener] = ()) -> None:
        """AddressError if one of the addresses cannot be bound, or taken out of `have`."""
        unused = [listener.address for listener in self.family.unused()]
        default = list(dict.fromkeys(unused))
        self.generation.take(_open(self.generation.recipe, passed, have, default))

    def listeners(self) -> list[sockets.Listener]:
        """All that are open, of whatever generation."""
        editions = [*self.generations.values(), *([self._next] if self._next else [])]
        return list(dict.fromkeys(one for edition in editions for one in edition.listeners))

    def unbind(self) -> None:
        released = self.listeners()
        self.had += [listener.where() for listener in released]
        for generation in self.generations.values():
            generation.take([])
        self._next = None
        self.family.release(released)

    # -- its turn ------------------------------------------------------------------------
    def work(self, now: float) -> Plan | None:
        """All that is due.  Returns a plan in a new process, None in the master."""
        plan = self._begin_next(now)
        if plan is not None:
            return plan
        self.roster.exclusive = self._exclusive()
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
        self._look_at_reload()
        self._end_waiting()
        return self._keep_mold(now) or self.nursery.start_missing(now)

    def next_event(self, now: float) -> float | None:
        """When, after `now`, it must have its turn even if nothing happens; None: never."""
        times = [handle.kill_at for handle in self.handles() if handle.kill_at is not None]
        if self._next is not None:
            times.append(now)
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
        return self.roster.closed and next(self.handles(), None) is None

    # -- generations ---------------------------------------------------------------------
    def prepare(
        self, recipe: Recipe, have: Sequence[sockets.Listener], *, restart: bool = False
    ) -> Generation:
        """The next generation, its sockets open (or taken out of `have`), for `reload`.
        AddressError; whoever does not use it must release its sockets."""
        default: list[sockets.Address] = []
        if not self.settings.bind:  # as before, whatever that was
            default = list(dict.fromkeys(one.address for one in self.generation.listeners))
        late = sockets.Passed(late=True)
        listeners = _open(recipe, late, [*self.listeners(), *have], default)
        return Generation(self.newest + 1, recipe, listeners, restart=restart)

    def reload(self, generation: Generation, why: str) -> None:
        """Begin what `prepare` has made, at the next turn; `why` is a signal or a command."""
        doing = "restarting" if generation.restart else "reloading"
        logger.info("%s: %s %s.", why, doing, self.name)
        self._revive = self._sent_away
        settings = generation.recipe.settings
        sockets.adjust(
            generation.listeners, backlog=settings.backlog, mode=settings.socket_mode,
            owner=generation.recipe.owner, keepidle=settings.tcp_keepidle)  # fmt: skip
        before, self._next = self._next, generation  # which may share new sockets
        self.newest = generation.number
        if before is not None and before.number not in self.generations:
            self.family.release(before.listeners)  # it has never begun
        self._drop_candidate()

    def _begin_next(self, now: float) -> Plan | None:
        """Returns a plan in a new process, None in the master."""
        generation, self._next = self._next, None
        if generation is None:
            return None
        self.generations[generation.number] = generation
        if generation is not self.generation:
            self.reloading = generation
            self.roster.exclusive = self._exclusive()
        if generation.direct:
            self._loaded(generation)
            return None
        return self.nursery.start_mold(generation, now)

    def _exclusive(self) -> bool:
        """Does who serves, who shall, or somebody who is still there, want to be alone?"""
        coming = self.reloading
        return (
            self.settings.exclusive
            or (coming is not None and (coming.restart or coming.recipe.settings.exclusive))
            or any(handle.settings.exclusive for handle in self.workers.values())
        )

    def _loaded(self, generation: Generation) -> None:
        """Workers can be made of it: of a new one, the first."""
        if generation is not self.reloading or generation.number == self.roster.generation:
            return
        if self._revive:  # nobody of the old one is to serve again
            self._revive = self._sent_away = False
            self.roster.adopt(generation.number)
            self.roster.resize(generation.recipe.size)
        else:
            self.roster.reload(generation.number)

    def _drop_candidate(self) -> None:
        """Of a generation that has not proved itself nothing stays."""
        if self.roster.candidate is not None:
            self.roster.abandon()
        self.reloading = None
        self._close_generations()

    def _close_generations(self) -> None:
        """Those of which no worker may be made any more, with their molds and sockets."""
        self._follow()
        wanted = (self.roster.generation, self.roster.candidate,
                  None if self.reloading is None else self.reloading.number)  # fmt: skip
        for number in list(self.generations):
            if number not in wanted:
                generation = self.generations.pop(number)
                self.family.release(generation.listeners)
                if number in self.molds:
                    self._let_mold_go(number)

    def _not_reloaded(self, why: str) -> None:
        self._end_reload(why)
        logger.error("%s is not reloaded: %s Generation %d goes on.", self.name, why,
                     self.roster.generation)  # fmt: skip
        self._drop_candidate()

    def _end_reload(self, why: str = "") -> None:
        assert self.reloading is not None
        self._tell_outcome(self.reloading.number, why)
        self.reloading = None

    def _tell_outcome(self, generation: int, why: str = "") -> None:
        self.outcome = {"generation": generation, "ok": not why, "why": why}

    def _look_at_reload(self) -> None:
        if self.reloading is None:
            return
        if self.roster.size == 0 and self.roster.candidate is not None:
            self.roster.adopt(self.roster.candidate)  # who could prove it is not wanted
        if self.roster.generation != self.reloading.number:
            return  # its mold still imports, or its first worker does
        self._follow()
        if self.roster.all_ready() and not self._still_accepting():
            logger.info("%s is reloaded: generation %d, %s.", self.name, self.reloading.number,
                        _workers(self.roster.size))  # fmt: skip
            self._end_reload()

    def _follow(self) -> None:
        """Which generation serves, the roster says; its settings and sockets are the service's
        from then on."""
        if self.generation.number == self.roster.generation:
            return
        before, self.generation = self.generation, self.generations[self.roster.generation]
        generation = self.generation
        self.roster.max_unavailable = self.settings.max_unavailable
        if generation.recipe.size != before.recipe.size:
            self.roster.resize(generation.recipe.size)
        self._close_generations()
        if generation.urls != before.urls:
            logger.info("%s is on %s now.", self.name, ", ".join(self.urls))

    def _still_accepting(self) -> bool:
        """Has one of the old generation not acted yet on being told to go?"""
        return any(
            member.generation != self.roster.generation and handle.facts()["state"] != "draining"
            for member, handle in self.workers.items()
        )

    # -- the mold ------------------------------------------------------------------------
    def _keep_mold(self, now: float) -> Plan | None:
        """Make it anew if it has died: its service cannot replace a worker without it."""
        generation = self.generations[self.roster.generation]
        missing = generation.number not in self.molds and not generation.direct
        if missing and not self.roster.closed and not self.failed and now >= self.roster.retry_at:
            return self.nursery.start_mold(generation, now)
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
        generation = self.generations[handle.generation]
        if report.ready:
            handle.loaded = True
            logger.debug("The mold %d of %s has imported it in %.1f s.", handle.pid, self.name,
                         now - handle.born)  # fmt: skip
            self._loaded(generation)
            return
        self._let_mold_go(handle.generation)
        if report.remains:
            self._tell_remains(report.remains)
            generation.direct = True
            self._loaded(generation)
        else:
            self.mold_failed(handle.generation, report, now)

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

    def mold_failed(self, generation: int, report: Report, now: float) -> None:
        """A generation cannot be imported, or an old one cannot again, its mold having died."""
        if self._is_new(generation):
            self._tell_trace(report)
            self._not_reloaded(report.sentence)
            return
        if generation != self.roster.generation:
            return  # it has just been replaced
        member = self.roster.starting(0, self.roster.generation, now)
        self.boot_failed(report, self.roster.not_started(member, now))

    def _is_new(self, generation: int) -> bool:
        """Is it one that a reload has on its way, and that does not serve yet?"""
        on_its_way = self.reloading is not None and generation == self.reloading.number
        return on_its_way and generation != self.roster.generation

    # -- what processes report -----------------------------------------------------------
    def hear(self, now: float) -> None:
        """Read what has come from workers and molds."""
        for mold_handle in list(self.molds.values()):
            self._hear_mold(mold_handle, now)
        for handle in list(self.workers.values()):
            self._hear_worker(handle, now)
            if handle.ended and not handle.pid:
                self.nursery.never_was(handle, now)

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
            handle.send(handle.told_to_go)

    def _hear_report(self, handle: WorkerHandle, report: Report, now: float) -> None:
        member = handle.member
        if report.ready:
            handle.boot = now - handle.born
            self.roster.ready(member, now)
            self.last_failure = None
            self.greeting = report.sentence
            if self.announced:
                self.trouble = ""
            level = logging.INFO if self.announced else logging.DEBUG
            logger.log(level, "Worker %d of %s is ready.", handle.pid, self.name)
        elif not self.roster.closed:
            candidate = member.generation == self.roster.candidate
            delay = self.roster.failed(member, now, now + BOOT_FAILURE_GRACE)
            self.boot_failed(report, delay, candidate)

    def boot_failed(self, report: Report, delay: float, candidate: bool = False) -> None:
        """A worker could not start.  What has worked before goes on, and it is tried again; if
        nothing of the server ever worked, that is the end: it was told wrongly (the master
        sees to that)."""
        if self.roster.closed:
            return
        self._tell_trace(report)
        if candidate:
            self._not_reloaded(report.sentence)
        elif self.settings.exit_on_boot_error:
            if not self.failed:
                logger.critical("%s", report.sentence)
            self.failed = self.failed or report.sentence
        elif self.announced or len(self.family.services) > 1:
            logger.error("%s Next try in %.1f s.", report.sentence, delay)
        elif not self.trouble:
            logger.critical("%s", report.sentence)
        if self.reloading is not None and self.reloading.number == self.roster.generation:
            self._follow()
            self._end_reload(report.sentence)  # there is nothing to go back to
        told = 0 if self.outcome is None else self.outcome["generation"]
        if not self.announced and told <= self.roster.generation:  # else of a newer one
            self._tell_outcome(self.roster.generation, report.sentence)
        if not self.announced or self.roster.ready_count() == 0:
            self.trouble = report.sentence

    def _tell_trace(self, report: Report) -> None:
        """Once, however many workers fail alike."""
        before = self.last_failure
        if report.trace and (before is None or before.trace != report.trace):
            write(indented(report.trace))
        self.last_failure = report

    # -- stopping ------------------------------------------------------------------------
    def _retire(self, member: Member, now: float) -> None:
        """In good order: it leaves its connections to others, and goes."""
        handle = self.workers[member]
        handle.tell_to_go(worker.RETIRE)
        self.roster.stopping(member, now, now + handle.settings.graceful_timeout)

    def retire_all(self, now: float) -> None:
        """Others have taken over."""
        self._close()
        for member in list(self.workers):
            self._retire(member, now)

    def stop(
        self, now: float, timeout: float | None = None, *, others_serve: bool = False
    ) -> None:
        """Let every worker finish within `timeout` seconds (None: its graceful timeout).
        `others_serve`: those of another master may have its connections."""
        self._close()
        if not self.shared:
            self.shut_pair()  # from now on nothing is put where perhaps nobody looks any more
        for handle in self.workers.values():
            wait = handle.settings.graceful_timeout if timeout is None else timeout
            leave = others_serve and self.shared
            handle.tell_to_go(worker.RETIRE if leave else signal.SIGTERM)
            self.roster.stopping(handle.member, now, now + wait)

    def _close(self) -> None:
        self.roster.close()
        self.unbind()
        if self.reloading is not None:
            self._end_reload("it is being stopped.")
        for generation in list(self.molds):
            self._let_mold_go(generation)

    def kill(self, now: float) -> None:
        """At once."""
        for handle in self.handles():
            handle.kill()
        for member in self.workers:
            self.roster.stopping(member, now, now)
            self.roster.killed(member)

    def shut_pair(self) -> None:
        """Its workers keep the connections that they have: nobody else could take them."""
        if self.pair is not None:
            self.pair.shut()

    def _end_waiting(self) -> None:
        """Of connections that wait for a worker, when no one comes any more.  (While there shall be
        none for a time, they wait as those do who connect.)"""
        if self.pair is not None and not self.shared and self.over():
            self.pair.empty()

    def resize(self, size: int) -> None:
        """How many workers it shall have; at most `MOST_WORKERS`."""
        self._revive = self._sent_away = False
        self.roster.resize(min(MOST_WORKERS, size))

    def send_away(self) -> None:
        """All its workers, until a reload."""
        self.resize(0)
        self._sent_away = True

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
            self.mold_failed(handle.generation, Report(False, sentence), now)
        elif handle.loaded and handle.generation == self.roster.generation:
            logger.error("The mold %d of %s %s; a new one is made.", handle.pid, self.name, end)
        elif handle.loaded:
            if self._is_new(handle.generation):  # else it has just been replaced
                self._not_reloaded(f"its mold {handle.pid} {end}.")
        else:
            sentence = f"Cannot serve {self.name}: its mold {handle.pid} {end} before it was ready."
            self.mold_failed(handle.generation, Report(False, sentence), now)

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
            self.boot_failed(Report(False, sentence), delay, candidate)
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
        self.announced, self.trouble = True, ""
        self._tell_outcome(self.roster.generation)
        logger.info(
            "%s on %s: %s, Python %s, fastfork %s, pid %d", self.name, ", ".join(self.urls),
            _workers(self.roster.size), "{}.{}.{}".format(*sys.version_info), __version__,
            self.family.master)  # fmt: skip
        if self.greeting:
            write(self.greeting + "\n")

    def settled(self) -> bool:
        """Is it known how its start went?  Nobody waits for one that is not to serve."""
        return bool(self.announced or self.trouble or self.roster.closed or self.roster.size == 0)

    def state(self) -> str:
        """In a word, for `fastfork status`."""
        if self.roster.closed:
            return "stopped" if self.over() else "stopping"
        if self.trouble:
            return "failed"
        if not self.announced:
            return "starting"
        return "serving" if self.reloading is self._next is None else "reloading"

    def status(self, now: float, *, brief: bool = False) -> Message:
        """What `fastfork status` shows of it; `brief`: without its workers, whose memory takes
        the kernel a while to count."""
        workers = [] if brief else list(self.workers.values())
        return {
            "name": self.name,
            "listen": self.urls,
            "generation": self.roster.generation,
            "size": self.roster.size,
            "state": self.state(),
            "outcome": self.outcome,
            "workers": [self._worker_status(handle, now) for handle in workers],
        }

    def _worker_status(self, handle: WorkerHandle, now: float) -> dict[str, Any]:
        member, facts = handle.member, handle.facts()
        return {
            **facts,
            "number": member.number,
            "pid": handle.pid or None,  # not known yet
            "generation": member.generation,
            "doing": facts["state"],
            "state": member.state.value,
            "age": now - handle.born,
            "boot": handle.boot,
            "worn": member.worn,
            "memory": memory.measure(handle.pid, handle.settings.memory_measure),
        }

    # -- in a new process ----------------------------------------------------------------
    def let_go(self) -> None:
        """Of the descriptors that are the master's alone."""
        for handle in self.handles():
            handle.let_go()

    def siblings(self) -> Siblings:
        """What its workers know of each other."""
        return Siblings(self.family.scoreboard.whole(), self.number, self.bells)

    def close_ties(self) -> None:
        """What its workers have in common.  Nobody of it is left, or this process is none of it."""
        bells.close(self.bells)
        self.bells = ()
        if self.pair is not None:
            self.pair.close()
            self.pair = None


def _workers(count: int) -> str:
    return f"{count} worker" if count == 1 else f"{count} workers"


def _open(
    recipe: Recipe,
    passed: sockets.Passed,
    have: Sequence[sockets.Listener],
    default: Sequence[sockets.Address],
) -> list[sockets.Listener]:
    settings = recipe.settings
    return sockets.open_all(
        settings.bind, backlog=settings.backlog, mode=settings.socket_mode, owner=recipe.owner,
        keepidle=settings.tcp_keepidle, passed=passed, have=have, default=default)  # fmt: skip
