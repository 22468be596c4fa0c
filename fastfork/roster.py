"""The workers of one service: who is there, who must be started, who must go.

A pure table: it makes no system call and has no clock, so every rule can be tested without a
process.  Times are seconds on any clock that does not jump; the caller passes them in.

    starting ──> STARTING ── ready ──> READY
                    │                    │
                    └────> STOPPING <────┘         ended, from any state: out of the table

A member is `active` while it is STARTING or READY.  It is `fresh` if it is active, of the
generation that serves, and not worn; `outdated` if it is active and neither fresh nor of the
candidate.  What is decided is a consequence of the table alone, never of what was decided
before: a decision that was not carried out is there again when it is asked for again.

Who is there:

1. Missing workers (fewer than `size` active, the candidate's not counted) are started at once,
   of the generation that serves, unless the service is in back-off (rules 8 to 13).
2. Outdated workers are replaced.  With `max_unavailable` 0 one fresh worker more than `size` is
   started, and one outdated told to go when more than `size` are READY.  Otherwise outdated
   ones are told to go while more than `size - max_unavailable` are READY, and rule 1 fills
   their places.  In no case does a decision leave fewer than `size - max_unavailable` READY;
   an outdated worker that is not READY goes first, and at any time.
3. A reload has a gate.  One worker of the candidate is started as a surplus, in a back-off too,
   and until it is READY nobody is replaced.  Then its generation is the one that serves, with
   no back-off.  If it fails, or is told to go by the caller, the candidate is abandoned, and
   the generation that serves is in no back-off for it.  The workers of an abandoned candidate
   go at once as long as they are STARTING, and are outdated like others when they are READY.
   At `size` 0 the candidate waits, unless the caller lets it serve without a proof (`adopt`).
4. An exclusive service never has two generations alive, in whatever state, nor more than `size`
   processes.  A reload has no gate: the new generation is the one that serves, all older
   workers are told to go at once, and when the last has ended the new ones are started.  A worn
   worker is told to go first and replaced when it has ended, max(1, max_unavailable) at a time.
5. No more than max(1, max_unavailable, size // 4) outdated workers are STOPPING because they
   are replaced; the next replacement begins when one of them has ended.
6. A surplus (more active than `size`, and than the one more of rule 2 or 3) is told to go at
   once: outdated ones first, those that are not READY before others, then the highest numbers.
   At `size` 0 that is everybody.
7. When the table is closed nobody is started, and nobody is told to go: that is the caller's.

When a start does not help:

8. A worker that says it failed, or ends, before it was ready is a failed boot, and the service
   goes into back-off: 0.5 s, then twice as long each time, at most 30 s.
9. A worker that ends when it has been ready for a while is replaced at once.
10. One that ends soon after it was ready is replaced at once too, but a place in which that
    happens again and again (a crash loop) puts the service into back-off.
11. While a back-off has not been lived down, workers boot one at a time: if the boot still
    fails, it fails once.
12. A worker that became ready after the last failure and stays so for a while ends the
    back-off.
13. Only workers of the generation that serves count for rules 8 to 12.

In a round the caller asks `to_stop` and carries it out, then `to_start`: what was stopped is
filled in the same round.  In the other order it is filled in the next.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterator

FIRST_DELAY = 0.5  # seconds
LONGEST_DELAY = 30.0
STEADY = 5.0  # seconds: a worker that was ready for so long has run well
QUICK_ENDS = 3  # ends soon after ready, in a row and in one place, that are forgiven


class State(enum.Enum):
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


class Member:
    """One worker process, from the decision to start it until it is buried."""

    __slots__ = ("born", "deadline", "generation", "number", "pid", "since", "state", "worn")

    def __init__(self, number: int, generation: int, now: float) -> None:
        self.number = number  # its place; that of the one it replaces, if that can be
        self.generation = generation
        self.state = State.STARTING
        self.since = now  # when the present state began
        self.born = now  # when it was started
        self.pid = 0  # 0: asked for, not known yet
        self.deadline: float | None = None  # a STOPPING one is killed then
        self.worn: str | None = None  # why it is to be replaced; None: it is not

    @property
    def active(self) -> bool:
        return self.state is not State.STOPPING

    @property
    def is_ready(self) -> bool:
        return self.state is State.READY


class Roster:
    """`size` workers of `generation`, and those on their way in or out."""

    def __init__(
        self,
        size: int,
        *,
        generation: int = 1,
        max_unavailable: int = 0,
        exclusive: bool = False,
    ) -> None:
        self.members: list[Member] = []  # all that are not buried
        self.size = size  # wanted workers
        self.generation = generation  # the one that serves
        self.candidate: int | None = None  # a newer one that has not proved itself yet
        self.max_unavailable = max_unavailable
        self.exclusive = exclusive
        self.closed = False  # True: nobody is started any more
        self.strikes = 0  # back-offs in a row
        self.struck_at = 0.0  # when the last of them began
        self.retry_at = 0.0  # nobody of `generation` is started before
        self._newest = generation
        self._quick_ends: dict[int, int] = {}  # by number, which outlives the members

    # -- reading -------------------------------------------------------------------------
    def member(self, pid: int) -> Member:
        """The worker `pid`.  KeyError if it is not one of ours."""
        for member in self.members:
            if pid and member.pid == pid:
                return member
        raise KeyError(pid)

    def pids(self) -> list[int]:
        """All workers that have not ended and whose pid is known."""
        return [member.pid for member in self.members if member.pid]

    def ready_count(self) -> int:
        """How many are READY, of whatever generation."""
        return sum(member.is_ready for member in self.members)

    def all_ready(self) -> bool:
        """`size` workers of `generation` are READY, none is worn, nobody else is active, and no
        candidate is there."""
        active = self._active()
        return (
            self.candidate is None
            and len(active) == self.size
            and all(member.is_ready and self._is_fresh(member) for member in active)
        )

    def rolling(self) -> bool:
        """A candidate is there, or active workers that must be replaced."""
        return self.candidate is not None or bool(self._outdated())

    def _active(self) -> list[Member]:
        return [member for member in self.members if member.active]

    def _others(self) -> list[Member]:
        """Active members that are not the candidate's."""
        return [m for m in self._active() if m.generation != self.candidate]

    def _outdated(self) -> list[Member]:
        return [m for m in self._others() if not self._is_fresh(m)]

    def _is_fresh(self, member: Member) -> bool:
        return member.generation == self.generation and member.worn is None

    # -- whom to start -------------------------------------------------------------------
    def to_start(self, now: float) -> list[tuple[int, int]]:
        """(number, generation) of the workers that must be started now."""
        if self.closed:
            return []
        holders = self.members if self.exclusive else self._active()
        held = {(member.number, member.generation) for member in holders}
        numbers = {number for number, _ in held}
        free = (number for number in range(self.size) if number not in numbers)
        found = []
        for _ in range(self._startable(now)):
            found.append(self._place(free, held, self.generation))
        if self.candidate is not None and self._candidate_is_missing():
            found.append(self._place(free, held, self.candidate))
        return found

    def _startable(self, now: float) -> int:
        """How many of `generation` may be started now (rules 8 to 11)."""
        wanted = self._wanted()
        if now < self.retry_at:
            return 0
        if self.strikes:
            return 0 if self._is_booting() else min(1, wanted)
        return wanted

    def _wanted(self) -> int:
        """How many of `generation` should be started, back-off or not (rules 1, 2, 4 and 5)."""
        if self.exclusive:
            if any(member.generation != self.generation for member in self.members):
                return 0
            return max(0, self.size - len(self.members))
        others = self._others()
        missing = self.size - len(others)
        if missing >= 0 and self._may_exceed(others) and self._leaving() < self._most_leaving():
            return missing + 1
        return max(0, missing)

    def _may_exceed(self, others: list[Member]) -> bool:
        """One fresh worker more than `size` may be there, if these are (rule 2)."""
        gate = self.candidate is not None
        if gate or self.exclusive or self.max_unavailable > 0:
            return False
        return not all(self._is_fresh(member) for member in others)

    def _is_booting(self) -> bool:
        return any(
            member.state is State.STARTING and member.generation == self.generation
            for member in self.members
        )

    def _candidate_is_missing(self) -> bool:
        """The gate's one worker must be started (rule 3)."""
        others = self._others()
        alone = len(others) == len(self._active())
        return alone and self.size > 0 and len(others) <= self.size

    def _place(
        self, free: Iterator[int], held: set[tuple[int, int]], generation: int
    ) -> tuple[int, int]:
        """The next number that nobody has, or else one that nobody of this generation has."""
        number = next(free, None)
        if number is None:
            number = next(n for n in itertools.count() if (n, generation) not in held)
        held.add((number, generation))
        return number, generation

    # -- who must go ---------------------------------------------------------------------
    def to_stop(self, now: float) -> list[Member]:
        """Active workers that must be told to go now.  They count as leaving only after
        `stopping` was called for each."""
        if self.closed:
            return []
        if self.size == 0:
            return self._active()
        going = self._unwanted()
        going += self._surplus(going)
        going += self._replaced(going)
        return going

    def _unwanted(self) -> list[Member]:
        """Workers of a generation that must not be there (rules 3 and 4)."""
        if self.exclusive:
            return [m for m in self._active() if m.generation != self.generation]
        return [
            m for m in self._others()
            if m.generation > self.generation and m.state is State.STARTING
        ]  # fmt: skip

    def _surplus(self, going: list[Member]) -> list[Member]:
        """Rule 6.  One by one: whether there may be one more depends on who stays."""
        staying = [m for m in self._others() if m not in going]
        staying.sort(key=lambda m: (self._is_fresh(m), m.is_ready, -m.number))
        found: list[Member] = []
        while len(staying) > self.size + self._may_exceed(staying):
            member = self._dispensable(staying, going + found)[0]
            staying.remove(member)
            found.append(member)
        return found

    def _replaced(self, going: list[Member]) -> list[Member]:
        """Rules 2 and 5: whose replacement is there goes first."""
        if self.candidate is not None:
            return []
        leaving = self._leaving() + sum(not self._is_fresh(m) for m in going)
        fresh = {m.number for m in self._active() if self._is_fresh(m)}
        outdated = [m for m in self._outdated() if m not in going]
        outdated.sort(key=lambda m: (m.is_ready, m.number not in fresh, m.number))
        return self._dispensable(outdated, going)[: max(0, self._most_leaving() - leaving)]

    def _dispensable(self, members: list[Member], going: list[Member]) -> list[Member]:
        """Those of `members`, in their order, without whom enough are READY."""
        unavailable = max(1, self.max_unavailable) if self.exclusive else self.max_unavailable
        spare = self.ready_count() - sum(m.is_ready for m in going) - (self.size - unavailable)
        found = []
        for member in members:
            if not member.is_ready:
                found.append(member)
            elif spare > 0:
                found.append(member)
                spare -= 1
        return found

    def _leaving(self) -> int:
        """How many are STOPPING that were worn or are not of `generation`."""
        return sum(not member.active and not self._is_fresh(member) for member in self.members)

    def _most_leaving(self) -> int:
        return max(1, self.max_unavailable, self.size // 4)

    # -- times ---------------------------------------------------------------------------
    def overdue(self, now: float) -> list[Member]:
        """Workers that were told to go and must be killed now."""
        return [m for m in self.members if m.deadline is not None and now >= m.deadline]

    def next_event(self, now: float) -> float | None:
        """When, after `now`, time alone will change one of the decisions; None: never.

        `now` must be the time with which the decisions were taken, or an event that falls
        between the two is missed.
        """
        times = [m.deadline for m in self.members if m.deadline is not None]
        if not self.closed and self._wanted():
            times.append(self.retry_at)
            if self.strikes:
                times += [m.since + STEADY for m in self.members if self._may_settle(m)]
        return min((time for time in times if time > now), default=None)

    # -- what happened -------------------------------------------------------------------
    def starting(self, number: int, generation: int, now: float) -> Member:
        """A process is asked for; `number` and `generation` are from `to_start`."""
        member = Member(number, generation, now)
        self.members.append(member)
        return member

    def started(self, member: Member, pid: int) -> None:
        """There is a process, and this is its pid."""
        member.pid = pid

    def not_started(self, member: Member, now: float) -> float:
        """No process could be made.  Returns the back-off in seconds."""
        self.members.remove(member)
        if member.state is State.STARTING:
            self._boot_failed(member, now)
        return self._delay(now)

    def forget(self, member: Member) -> None:
        """No process was made, and nobody is to blame: ask again."""
        self.members.remove(member)

    def ready(self, member: Member, now: float) -> None:
        """The worker serves.  The first of the candidate proves it: its generation serves."""
        if member.state is not State.STARTING:
            return
        member.state, member.since = State.READY, now
        if member.generation == self.candidate:
            self._serve(member.generation)

    def failed(self, member: Member, now: float, deadline: float) -> float:
        """The worker says that it cannot boot; it is leaving, and is killed at `deadline`.
        Returns the back-off in seconds."""
        was_starting = member.state is State.STARTING
        self.stopping(member, now, deadline)
        if was_starting:
            self._boot_failed(member, now)
        return self._delay(now)

    def stopping(self, member: Member, now: float, deadline: float) -> None:
        """The worker was told to stop, and is to be killed at `deadline`, which may be moved
        forward but not back."""
        if member.active:
            member.state, member.since, member.deadline = State.STOPPING, now, deadline
            if member.generation == self.candidate and self.size > 0:
                self.abandon()
        elif member.deadline is not None:
            member.deadline = min(member.deadline, deadline)

    def killed(self, member: Member) -> None:
        """The worker was killed: it needs no deadline any more."""
        member.deadline = None

    def ended(self, member: Member, now: float) -> float:
        """The worker is gone.  Returns for how many seconds nobody takes its place."""
        self.settle(now)
        self.members.remove(member)
        if member.state is State.STARTING:
            self._boot_failed(member, now)
        elif self._may_settle(member) and now < member.since + STEADY:
            quick_ends = self._quick_ends.get(member.number, 0) + 1
            self._quick_ends[member.number] = quick_ends
            if quick_ends > QUICK_ENDS:
                self._strike(now)
        return self._delay(now)

    # -- wishes --------------------------------------------------------------------------
    def resize(self, size: int) -> None:
        """From now on `size` workers are wanted; 0 is allowed."""
        self.size = size

    def reload(self, generation: int) -> None:
        """`generation` becomes the candidate, in place of another that is not proved yet; all
        others are outdated once it is proved.  With `exclusive` it needs no proof.  Nothing
        changes if it serves or is the candidate already.

        ValueError if it is neither, nor newer than all before.
        """
        if generation in (self.generation, self.candidate):
            return
        if generation <= self._newest:
            raise ValueError(f"generation {generation} is not newer than {self._newest}")
        self._newest = generation
        if self.exclusive:
            self._serve(generation)
        else:
            self.candidate = generation

    def adopt(self, generation: int) -> None:
        """`generation` serves without a proof: for when nobody is wanted or there that it could
        replace.  It may be the candidate, or a new one."""
        self._newest = max(self._newest, generation)
        self._serve(generation)

    def abandon(self) -> None:
        """Drop the candidate; its workers are outdated."""
        self.candidate = None

    def wear(self, member: Member, why: str) -> None:
        """The worker is to be replaced.  Only one that is READY wears, and the first reason
        stays."""
        if member.is_ready and member.worn is None:
            member.worn = why

    def close(self) -> None:
        """Nobody is started any more."""
        self.closed = True

    def settle(self, now: float) -> None:
        """Apply rule 12; to be called before decisions are asked for."""
        for member in self.members:
            if self._may_settle(member) and now >= member.since + STEADY:
                self._quick_ends.pop(member.number, None)
                if member.since >= self.struck_at:
                    self.strikes = 0

    # -- back-off ------------------------------------------------------------------------
    def _may_settle(self, member: Member) -> bool:
        return member.is_ready and member.generation == self.generation

    def _serve(self, generation: int) -> None:
        """New code has a clean record."""
        self.generation, self.candidate = generation, None
        self.strikes, self.retry_at = 0, 0.0
        self._quick_ends.clear()

    def _boot_failed(self, member: Member, now: float) -> None:
        if member.generation == self.candidate:
            self.abandon()
        elif member.generation == self.generation:
            self._strike(now)

    def _strike(self, now: float) -> None:
        """Begin a back-off; one that runs already goes on (workers that fail alike, at about
        the same time, are one failure)."""
        self.settle(now)
        if now >= self.retry_at:
            self.struck_at = now
            self.retry_at = now + min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(self.strikes, 10))
            self.strikes += 1

    def _delay(self, now: float) -> float:
        """Seconds until the end of the back-off."""
        return max(0.0, self.retry_at - now)
