"""The workers of one service: who is there, who must be started, who must go.

A pure table: it makes no system call and has no clock, so every rule can be tested without a
process.  Times are seconds on any clock that does not jump; the caller passes them in.

    EMPTY ── started ──> STARTING ── ready ──> READY
      ^                     │                    │
      └──────── ended ──────┴──── STOPPING <─────┘  (ended from any state)

1. An empty slot is filled at once, unless the service is in back-off.
2. A worker that says it failed, or ends, before it was ready is a failed boot, and the service
   goes into back-off: 0.5 s, then twice as long each time, at most 30 s.
3. A worker that ends when it has been ready for a while is replaced at once.
4. One that ends soon after it was ready is replaced at once too, but a slot in which that
   happens again and again (a crash loop) puts the service into back-off.
5. While a back-off has not been lived down, workers boot one at a time: if the boot still
   fails, it fails once.
6. A worker that became ready after the last failure and stays so for a while ends the back-off.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

FIRST_DELAY = 0.5  # seconds
LONGEST_DELAY = 30.0
STEADY = 5.0  # seconds: a worker that was ready for so long has run well
QUICK_ENDS = 3  # ends soon after ready, in a row and in one slot, that are forgiven


class State(enum.Enum):
    EMPTY = "empty"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


@dataclass(slots=True)
class Slot:
    """One worker's place.  It outlives the workers that fill it."""

    number: int
    state: State = State.EMPTY
    pid: int = 0
    generation: int = 0
    since: float = 0.0  # when the present state began
    deadline: float | None = None  # a STOPPING worker is killed then
    quick_ends: int = 0


class Roster:
    """`size` slots for workers of `generation`."""

    def __init__(self, size: int, generation: int = 1) -> None:
        self.slots = [Slot(number) for number in range(size)]
        self.generation = generation
        self.strikes = 0  # back-offs in a row
        self.struck_at = 0.0  # when the last of them began
        self.retry_at = 0.0  # nobody is started before
        self.closed = False  # True: nobody is started any more

    # -- reading -------------------------------------------------------------------------
    @property
    def size(self) -> int:
        return len(self.slots)

    def pids(self) -> list[int]:
        """All workers that have not ended."""
        return [slot.pid for slot in self.slots if slot.state is not State.EMPTY]

    def all_ready(self) -> bool:
        return all(slot.state is State.READY for slot in self.slots)

    def slot(self, pid: int) -> Slot:
        """The slot of the worker `pid`.  KeyError if it is not one of ours."""
        for slot in self._filled():
            if slot.pid == pid:
                return slot
        raise KeyError(pid)

    def _filled(self) -> Iterator[Slot]:
        return (slot for slot in self.slots if slot.state is not State.EMPTY)

    # -- decisions -----------------------------------------------------------------------
    def to_start(self, now: float) -> list[Slot]:
        """Slots in which a worker must be started now."""
        if self.closed or now < self.retry_at:
            return []
        empty = [slot for slot in self.slots if slot.state is State.EMPTY]
        if self.strikes:
            booting = any(slot.state is State.STARTING for slot in self.slots)
            return [] if booting else empty[:1]
        return empty

    def overdue(self, now: float) -> list[Slot]:
        """Slots whose worker was told to stop and must be killed now."""
        return [s for s in self._filled() if s.deadline is not None and now >= s.deadline]

    def next_event(self, now: float) -> float | None:
        """When, after `now`, time alone will change one of the decisions; None: never.

        `now` must be the time with which the decisions were taken, or an event that falls
        between the two is missed.
        """
        times = [slot.deadline for slot in self._filled() if slot.deadline is not None]
        if not self.closed and len(self.pids()) < self.size:
            times.append(self.retry_at)
            times += [s.since + STEADY for s in self.slots if s.state is State.READY]
            times = [time for time in times if time > now]
        return min(times, default=None)

    # -- what happened -------------------------------------------------------------------
    def started(self, slot: Slot, pid: int, now: float) -> None:
        slot.pid, slot.generation, slot.deadline = pid, self.generation, None
        slot.state, slot.since = State.STARTING, now

    def not_started(self, now: float) -> float:
        """No process could be made for a slot.  Returns the back-off in seconds."""
        return self._strike(now)

    def ready(self, pid: int, now: float) -> None:
        slot = self.slot(pid)
        if slot.state is State.STARTING:
            slot.state, slot.since = State.READY, now

    def failed(self, pid: int, now: float, deadline: float) -> float:
        """The worker says that it cannot boot; it is leaving, and is killed at `deadline`.
        Returns the back-off in seconds."""
        self.stopping(pid, now, deadline)
        return self._strike(now)

    def stopping(self, pid: int, now: float, deadline: float) -> None:
        """The worker was told to stop, and is to be killed at `deadline`, which may be moved
        forward but not back."""
        slot = self.slot(pid)
        if slot.state is not State.STOPPING:
            slot.state, slot.since, slot.deadline = State.STOPPING, now, deadline
        elif slot.deadline is not None:
            slot.deadline = min(slot.deadline, deadline)

    def killed(self, pid: int) -> None:
        """The worker was killed: it needs no deadline any more."""
        self.slot(pid).deadline = None

    def ended(self, pid: int, now: float) -> float:
        """The worker is gone.  Returns for how many seconds nobody takes its place."""
        slot = self.slot(pid)
        failed_boot = slot.state is State.STARTING
        if slot.state is State.READY:
            self._settle(slot, now)
            slot.quick_ends += now - slot.since < STEADY
        slot.state, slot.pid, slot.since, slot.deadline = State.EMPTY, 0, now, None
        if failed_boot or slot.quick_ends > QUICK_ENDS:
            return self._strike(now)
        return max(0.0, self.retry_at - now)

    def close(self) -> None:
        """Nobody is started any more."""
        self.closed = True

    def settle(self, now: float) -> None:
        """Apply rule 6; to be called now and then."""
        for slot in self.slots:
            self._settle(slot, now)

    def _settle(self, slot: Slot, now: float) -> None:
        if slot.state is State.READY and now - slot.since >= STEADY:
            slot.quick_ends = 0
            if slot.since >= self.struck_at:
                self.strikes = 0

    def _strike(self, now: float) -> float:
        """Begin a back-off; one that runs already goes on (workers that fail alike, at about
        the same time, are one failure)."""
        if now >= self.retry_at:
            self.struck_at = now
            self.retry_at = now + min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(self.strikes, 10))
            self.strikes += 1
        return self.retry_at - now
