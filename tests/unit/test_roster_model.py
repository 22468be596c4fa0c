"""The roster against a simulated master: whatever happens in whatever order, the bounds hold.

The master does what the roster says; chance decides what becomes of the processes, what the
operator wishes, how time passes, in which order the master asks, and what it cannot do for a while.
The world keeps its own books of who lives, and every claim is checked against those.

The same examples each time.  To look further, at random:

    ROSTER_EXAMPLES=20000 pytest tests/unit/test_roster_model.py
"""

import copy
import math
import os
import sys

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from fastfork.roster import LONGEST_DELAY, STEADY, Roster, State

EXAMPLES = int(os.environ.get("ROSTER_EXAMPLES", "0"))
GRACE = 12.0
SIZES = st.sampled_from([4, 2, 1, 3, 5, 6, 8, 9, 12, 0])
SECONDS = st.one_of(
    st.sampled_from([0.0, 0.1, 0.5, 1.0, STEADY, GRACE, 31.0]), st.floats(0.0, 40.0)
)
FATES = ["dies", "fails", "was never there", "is stopped", "dies"]
CHOICE = st.integers(0, 1000)  # of the members that fit, the one at this index, modulo


class Master:
    """Carries out what the roster decides, and checks each decision when it is made."""

    def __init__(self, size, max_unavailable, exclusive):
        self.roster = Roster(size, max_unavailable=max_unavailable, exclusive=exclusive)
        self.now = 0.3
        self.next_pid = 1
        self.alive = []  # all that was asked for and has not ended, in order
        self.broken = set()  # generations that do not boot
        self.dead = set()  # generations that were abandoned or superseded
        self.served = {1}  # generations of which a worker was READY, or that needed none
        self.replaced = []  # told to go because they were worn or of older code
        self.not_before = 0.0  # nobody of the generation that serves is started before
        self.absent = set()  # generations without a mold: nothing is started of them

    # -- the books -----------------------------------------------------------------------
    def those(self, *states, generation=None):
        return [
            m for m in self.alive
            if m.state in states and (generation is None or m.generation == generation)
        ]  # fmt: skip

    def active(self, generation=None):
        return self.those(State.STARTING, State.READY, generation=generation)

    def others(self):
        return [m for m in self.active() if m.generation != self.roster.candidate]

    def outdated(self):
        return [m for m in self.others() if m.worn or m.generation != self.roster.generation]

    def ready_count(self):
        return len(self.those(State.READY))

    def floor(self):
        unavailable = self.roster.max_unavailable
        return self.roster.size - (max(1, unavailable) if self.roster.exclusive else unavailable)

    def replacing(self):
        """One fresh worker more than wanted may be there."""
        roster = self.roster
        return (
            not roster.exclusive
            and roster.max_unavailable == 0
            and roster.candidate is None
            and bool(self.outdated())
        )

    def most_leaving(self):
        return max(1, self.roster.max_unavailable, self.roster.size // 4)

    def most(self):
        """The bound of active workers: one surplus, and only for a reason."""
        trying = self.roster.candidate is not None and self.roster.size > 0
        return self.roster.size + (trying or self.replacing())

    # -- a round -------------------------------------------------------------------------
    def round(self, stop_first=True):
        self.roster.settle(self.now)
        if stop_first:
            self.stop()
            self.start()
            self.check_complete()
        else:
            self.start()
            self.stop()
        self.kill()
        self.check_sleep()

    def stop(self):
        roster = self.roster
        going = roster.to_stop(self.now)
        assert len(set(map(id, going))) == len(going)
        assert all(m in self.alive and m.state is not State.STOPPING for m in going)
        if roster.closed:
            assert going == []
        self.check_gate(going)
        self.check_pace(going)
        wrong = [m for m in going if m.generation != roster.generation]
        ready = self.ready_count()
        for member in going:
            if member in self.outdated() and roster.size:
                self.replaced.append(member)
            roster.stopping(member, self.now, self.now + GRACE)
        if roster.exclusive and wrong:
            assert self.active() == [m for m in self.active() if m.generation == roster.generation]
        else:
            assert self.ready_count() >= min(ready, self.floor())
        assert len(self.active()) <= self.most() or roster.closed
        assert roster.to_stop(self.now) == []

    def check_gate(self, going):
        """Behind the gate nobody is stopped but a surplus and an abandoned candidate."""
        roster = self.roster
        if roster.candidate is not None and roster.size and len(self.others()) <= roster.size:
            assert all(m.generation in self.dead and m.state is State.STARTING for m in going)

    def check_pace(self, going):
        """Not too many leave at a time because they are replaced; a surplus may."""
        roster = self.roster
        if len(self.others()) > roster.size + self.replacing() or not roster.size:
            return
        told = [
            m for m in going
            if m in self.outdated() and not (m.generation in self.dead and not m.is_ready)
        ]  # fmt: skip
        if roster.exclusive:
            told = [m for m in told if m.worn and m.generation == roster.generation]
        leaving = [m for m in self.replaced if m in self.alive]
        assert not told or len(leaving) + len(told) <= self.most_leaving()

    def start(self):
        wanted = self.roster.to_start(self.now)
        for number, generation in wanted:
            if generation not in self.absent:
                self.start_one(number, generation)

    def start_one(self, number, generation):
        roster = self.roster
        assert not roster.closed and roster.size > 0
        assert generation in (roster.generation, roster.candidate)
        assert generation not in self.dead and number >= 0
        if generation == roster.candidate:
            assert self.active(generation) == []
        else:
            assert self.now >= self.not_before
        if roster.exclusive:
            assert all(m.generation == generation for m in self.alive)
            assert len(self.alive) < roster.size
            assert number not in [m.number for m in self.alive]
        assert len(self.active()) < self.most()
        if generation == roster.generation and len(self.others()) >= roster.size:
            assert len([m for m in self.replaced if m in self.alive]) < self.most_leaving()
        assert (number, generation) not in [(m.number, m.generation) for m in self.active()]
        self.alive.append(roster.starting(number, generation, self.now))

    def kill(self):
        overdue = self.roster.overdue(self.now)
        for member in self.alive:
            late = member.deadline is not None and member.deadline <= self.now
            assert (member in overdue) == late
        for member in overdue:
            assert member.state is State.STOPPING
            self.roster.killed(member)
        assert self.roster.overdue(self.now) == []

    def check_complete(self):
        """After a round nothing that could be done is left undone."""
        roster = self.roster
        left = [g for _, g in roster.to_start(self.now) if g not in self.absent]
        assert left == []
        assert roster.to_stop(self.now) == []
        if roster.closed:
            return
        assert not [m for m in self.those(State.STARTING) if m.generation in self.dead
                    and m.generation > roster.generation]  # fmt: skip
        if roster.size == 0 or roster.generation in self.absent:
            return
        if roster.candidate is not None and roster.candidate not in self.absent:
            assert len(self.active(roster.candidate)) == 1
        places = self.alive if roster.exclusive else self.others()
        older = roster.exclusive and any(m.generation != roster.generation for m in self.alive)
        if len(places) < roster.size and not older:
            booting = self.those(State.STARTING, generation=roster.generation)
            assert self.now < self.not_before or (roster.strikes and booting)

    def check_sleep(self):
        """Until the next event every decision stays what it is."""
        event = self.roster.next_event(self.now)
        assert event is None or event > self.now
        end = self.now + 100.0 if event is None else math.nextafter(event, 0.0)
        roster = copy.deepcopy(self.roster, {id(m): m for m in self.alive})
        before = decisions(roster, self.now)
        for part in (0.3, 0.7, 0.999, 1.0):
            time = min(end, self.now + (end - self.now) * part)
            roster.settle(time)
            assert decisions(roster, time) == before

    # -- what happens --------------------------------------------------------------------
    def boot(self, member):
        """The worker says that it is ready."""
        first = member.generation == self.roster.candidate and member.state is State.STARTING
        self.roster.ready(member, self.now)
        if first:
            self.served.add(member.generation)
            self.not_before = 0.0
        assert member.state in (State.READY, State.STOPPING)

    def boot_or_fail(self, member):
        """As its code is."""
        if member.generation in self.broken:
            self.fail(member)
        else:
            self.boot(member)

    def bury(self, member):
        self.fall(member, self.roster.ended, member, self.now)
        self.alive.remove(member)

    def lose(self, member):
        self.fall(member, self.roster.not_started, member, self.now)
        self.alive.remove(member)

    def fail(self, member):
        self.fall(member, self.roster.failed, member, self.now, self.now + 0.5)

    def fall(self, member, report, *arguments):
        """Report a misfortune; that of a candidate, of older code or of one that was told to
        go is no back-off for the others."""
        roster = self.roster
        before = (roster.strikes, roster.retry_at)
        candidate, generation = roster.candidate, roster.generation
        innocent = member.generation != generation or member.state is State.STOPPING
        proves = member.generation == candidate and member.state is State.STARTING
        roster.settle(self.now)
        settled = roster.strikes
        delay = report(*arguments)
        assert 0.0 <= delay < LONGEST_DELAY + 0.001  # (now + 30) - now may be more than 30
        if innocent:
            assert (roster.strikes, roster.retry_at) == (settled, before[1])
        elif member.state is State.STARTING or report == roster.failed:
            assert delay > 0.0
        if proves:
            assert roster.candidate is None
            self.dead.add(candidate)
        else:
            assert roster.candidate == candidate
        assert roster.generation == generation
        self.not_before = max(self.not_before, self.now + delay)

    def befall(self, member, fate):
        if fate == "dies":
            self.bury(member)
        elif fate == "is stopped":
            self.stop_by_hand(member)
        elif fate == "fails" and not member.is_ready:
            self.fail(member)
        elif fate == "was never there" and not member.is_ready and not member.pid:
            self.lose(member)

    def reload(self, works):
        roster = self.roster
        if roster.candidate is not None:
            self.dead.add(roster.candidate)
        generation = max(self.served | self.dead | {roster.generation}) + 1
        if not works:
            self.broken.add(generation)
        roster.reload(generation)
        if roster.exclusive:
            self.served.add(generation)
            self.not_before = 0.0

    def abandon(self):
        if self.roster.candidate is not None:
            self.dead.add(self.roster.candidate)
        self.roster.abandon()

    def stop_by_hand(self, member):
        """The master's own decision, for one that is stuck, say."""
        trying = member.generation == self.roster.candidate and self.roster.size > 0
        if trying and member.state is State.STARTING:
            self.dead.add(member.generation)
        self.roster.stopping(member, self.now, self.now)

    # -- a world that behaves well ---------------------------------------------------------
    def calm_down(self):
        """From now on what is started boots and what was told to stop ends, one after the
        other; the operator wants workers and replaces code that does not boot, and time
        passes only when nothing else is left to happen.  The table must come to rest, and
        soon."""
        self.absent.clear()
        self.roster.resize(self.roster.size or 2)
        if self.roster.generation in self.broken:
            self.reload(works=True)
        steps = 12 + 4 * len(self.alive) + 6 * self.roster.size
        for _ in range(steps):
            self.round()
            if not self.happen():
                break
        else:
            raise AssertionError(f"no rest after {steps} steps: {self.roster.members}")
        roster = self.roster
        if roster.closed:
            return
        assert roster.all_ready() and not roster.rolling(), roster.members
        assert len(self.alive) == roster.size
        assert roster.candidate is None and roster.generation not in self.broken

    def happen(self):
        """The next thing; False if there is none."""
        booting, stopping = self.those(State.STARTING), self.those(State.STOPPING)
        if booting:
            self.boot_or_fail(booting[0])
        elif stopping:
            self.bury(stopping[0])
        else:
            event = self.roster.next_event(self.now)
            if event is None:
                return False
            self.now = event
        return True


def decisions(roster, now):
    index = {id(member): i for i, member in enumerate(roster.members)}
    return (
        roster.to_start(now),
        [index[id(member)] for member in roster.to_stop(now)],
        [index[id(member)] for member in roster.overdue(now)],
    )


def some(*states):
    """A rule for members in one of these states."""
    return precondition(lambda self: self.master.those(*states))


class Chaos(RuleBasedStateMachine):
    @initialize(
        size=SIZES,
        max_unavailable=st.one_of(st.just(0), st.sampled_from([1, 2, 3, 20])),
        exclusive=st.sampled_from([False, True, False]),
        stop_first=st.booleans(),
        well=st.booleans(),
        closes=st.booleans(),
    )
    def begin(self, size, max_unavailable, exclusive, stop_first, well, closes):
        self.master = Master(size, max_unavailable, exclusive)
        self.late = 0  # rounds that the master is late
        self.stop_first = stop_first
        self.closes_after = 20 if closes else 1000  # steps
        self.master.round()
        if well:
            for member in self.master.those(State.STARTING):
                self.master.boot(member)

    def pick(self, choice, *states, generation=None):
        """Some member in one of these states, or None."""
        found = self.master.those(*states, generation=generation)
        return found[choice % len(found)] if found else None

    @property
    def roster(self):
        return self.master.roster

    # -- processes -----------------------------------------------------------------------
    @rule(steps=st.integers(1, 20), rounds=st.booleans())
    def all_goes_well(self, steps, rounds):
        for _ in range(steps):
            if rounds:
                self.master.round(self.stop_first)
            self.master.happen()

    @some(State.STARTING)
    @rule(choice=CHOICE, count=st.integers(1, 4))
    def boots_end(self, choice, count):
        """Booting workers become ready, or fail if their code is no good."""
        for _ in range(count):
            member = self.pick(choice, State.STARTING)
            if member is not None:
                self.master.boot_or_fail(member)

    @some(State.STOPPING)
    @rule(count=st.integers(1, 12))
    def stopped_ones_end(self, count):
        for member in self.master.those(State.STOPPING)[:count]:
            self.master.bury(member)

    @rule(
        choice=CHOICE,
        state=st.sampled_from(list(State)),
        fate=st.sampled_from(FATES),
        count=st.integers(1, 3),
    )
    def misfortune(self, choice, state, fate, count):
        for _ in range(count):
            member = self.pick(choice, state)
            if member is not None:
                self.master.befall(member, fate)

    @precondition(lambda self: self.roster.candidate is not None)
    @rule(fate=st.sampled_from(FATES))
    def misfortune_of_the_candidate(self, fate):
        for member in self.master.active(self.roster.candidate):
            self.master.befall(member, fate)

    @some(State.STARTING, State.READY)
    @rule(choice=CHOICE, times=st.integers(1, 6), boots=st.booleans())
    def crash_loop(self, choice, times, boots):
        """A worker dies, as soon as it is ready or before, and so does who takes its place."""
        for _ in range(times):
            member = self.pick(choice, State.STARTING) or self.pick(choice, State.READY)
            if member is None:
                break
            if boots and member.generation not in self.master.broken:
                self.master.boot(member)
            self.master.bury(member)
            self.master.round(self.stop_first)

    @rule(choice=CHOICE)
    def one_speaks(self, choice):
        """Its pid is told, and if it was told to stop it says that it is ready after all."""
        nameless = [m for m in self.master.alive if not m.pid]
        if nameless:
            self.roster.started(nameless[choice % len(nameless)], self.master.next_pid)
            self.master.next_pid += 1
        member = self.pick(choice, State.STOPPING)
        if member is not None:
            self.roster.ready(member, self.master.now)
            assert member.state is State.STOPPING

    # -- wishes --------------------------------------------------------------------------
    @some(State.READY)
    @rule(choice=CHOICE, count=st.integers(1, 9))
    def wear(self, choice, count):
        ready = self.master.those(State.READY)
        for i in range(min(count, len(ready))):
            self.roster.wear(ready[(choice + i) % len(ready)], "max_requests")

    @rule(
        works=st.sampled_from([True, True, False]),
        then=st.sampled_from(["roll", "wait", "boot", "roll", "abandon", *FATES]),
    )
    def reload(self, works, then):
        self.master.reload(works)
        self.master.round(self.stop_first)
        if then == "abandon":
            self.master.abandon()
        elif then != "wait":
            for member in self.master.active(self.roster.candidate):
                if then in FATES:
                    self.master.befall(member, then)
                else:
                    self.master.boot_or_fail(member)
        if then == "roll":
            self.all_goes_well(8, True)

    @rule(size=SIZES, winch=st.sampled_from([False, False, True]))
    def resize(self, size, winch):
        if winch:
            self.roster.resize(0)
            self.master.round(self.stop_first)
            if not self.roster.closed:
                assert self.master.active() == []
        self.roster.resize(size)

    @precondition(lambda self: self.closes_after < 0)
    @rule()
    def close(self):
        self.roster.close()

    # -- the master ----------------------------------------------------------------------
    @rule(
        absent=st.sampled_from(["nobody", "nobody", "generation", "candidate"]),
        late=st.sampled_from([0, 0, 1, 3]),
        stop_first=st.booleans(),
    )
    def change_habits(self, absent, late, stop_first):
        """A mold goes or all come back; the master is busy, asks in another order."""
        self.late, self.stop_first = late, stop_first
        if absent == "nobody":
            self.master.absent.clear()
        elif getattr(self.roster, absent) is not None:
            self.master.absent.add(getattr(self.roster, absent))

    @rule(seconds=SECONDS, sleep=st.booleans())
    def time_passes(self, seconds, sleep):
        event = self.roster.next_event(self.master.now)
        self.master.now = event if sleep and event else self.master.now + seconds

    # -- always --------------------------------------------------------------------------
    @invariant()
    def go_round(self):
        self.closes_after -= 1
        if self.late:
            self.late -= 1
        else:
            self.master.round(self.stop_first)

    @invariant()
    def nobody_is_lost(self):
        roster, alive = self.roster, self.master.alive
        assert [id(m) for m in roster.members] == [id(m) for m in alive]
        assert roster.pids() == [m.pid for m in alive if m.pid]
        assert all(roster.member(m.pid) is m for m in alive if m.pid)
        assert roster.ready_count() == self.master.ready_count()

    @invariant()
    def places_and_generations_are_apart(self):
        active = [(m.number, m.generation) for m in self.master.active()]
        assert len(set(active)) == len(active)
        if self.roster.exclusive:
            assert len({m.generation for m in self.master.alive}) <= 1
            assert len({m.number for m in self.master.alive}) == len(self.master.alive)

    @invariant()
    def what_serves_has_proved_itself(self):
        roster = self.roster
        assert roster.generation in self.master.served
        assert roster.candidate is None or roster.candidate > roster.generation
        assert roster.candidate not in self.master.dead
        if roster.all_ready():
            assert not roster.rolling()
            assert len(self.master.active()) == roster.size
            ready = self.master.those(State.READY, generation=roster.generation)
            assert len([m for m in ready if not m.worn]) == roster.size

    def teardown(self):
        if sys.exc_info()[0] is None:  # a failure is not to be hidden behind another
            self.master.calm_down()


TestChaos = Chaos.TestCase
TestChaos.settings = settings(
    max_examples=EXAMPLES or 200,
    stateful_step_count=40,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    print_blob=False,
    suppress_health_check=list(HealthCheck),
)
