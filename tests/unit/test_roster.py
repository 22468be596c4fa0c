import pytest

from fastfork.roster import FIRST_DELAY, LONGEST_DELAY, QUICK_ENDS, STEADY, Roster, State


class Table:
    """A roster with a clock and a supply of pids."""

    def __init__(self, size):
        self.roster = Roster(size)
        self.now = 100.0
        self.next_pid = 1

    def start(self):
        """Start whom the roster wants; returns their pids."""
        pids = []
        while slots := self.roster.to_start(self.now):
            self.roster.started(slots[0], self.next_pid, self.now)
            pids.append(self.next_pid)
            self.next_pid += 1
        return pids

    def ready(self, *pids):
        for pid in pids:
            self.roster.ready(pid, self.now)

    def end(self, pid):
        return self.roster.ended(pid, self.now)

    def later(self, seconds):
        self.now += seconds
        self.roster.settle(self.now)


@pytest.fixture
def table():
    return Table


def test_all_slots_are_filled_at_once(table):
    t = table(3)
    assert t.start() == [1, 2, 3]
    assert t.start() == []
    assert t.roster.pids() == [1, 2, 3]
    assert not t.roster.all_ready()
    t.ready(1, 2, 3)
    assert t.roster.all_ready()
    assert t.roster.next_event(t.now) is None


def test_a_worker_that_ran_well_is_replaced_at_once(table):
    t = table(2)
    t.ready(*t.start())
    for _ in range(20):
        t.later(STEADY)
        assert t.end(t.roster.pids()[0]) == 0
        (pid,) = t.start()
        t.ready(pid)


def test_the_same_slot_is_filled_again(table):
    t = table(3)
    t.ready(*t.start())
    assert t.roster.slot(2).number == 1
    t.end(2)
    assert t.start() == [4]
    assert t.roster.slot(4).number == 1
    with pytest.raises(KeyError):
        t.roster.slot(2)


def test_failed_boots_back_off_exponentially_to_a_cap(table):
    t = table(1)
    delays = []
    for _ in range(10):
        (pid,) = t.start()
        delays.append(t.end(pid))
        assert t.start() == []
        assert t.roster.next_event(t.now) == t.now + delays[-1]
        t.later(delays[-1])
    assert delays[:4] == [FIRST_DELAY, FIRST_DELAY * 2, FIRST_DELAY * 4, FIRST_DELAY * 8]
    assert delays[-1] == LONGEST_DELAY == max(delays)


def test_workers_that_fail_alike_are_one_failure(table):
    t = table(4)
    for pid in t.start():
        t.later(0.01)
        delay = t.end(pid)
    assert delay == pytest.approx(FIRST_DELAY - 0.03)
    t.later(delay)
    assert len(t.start()) == 1  # one tries for all
    assert t.start() == []


def test_when_the_boot_works_again_the_others_follow_one_by_one_then_all(table):
    t = table(4)
    for pid in t.start():
        t.end(pid)
    t.later(FIRST_DELAY)
    (first,) = t.start()
    t.ready(first)
    (second,) = t.start()
    t.later(STEADY)  # the first has run well: the back-off is over
    assert len(t.start()) == 2
    t.ready(second)
    assert len(t.roster.pids()) == 4


def test_a_reported_failure_counts_once(table):
    t = table(1)
    (pid,) = t.start()
    assert t.roster.failed(pid, t.now, t.now + 9) == FIRST_DELAY
    assert t.start() == []  # it has not gone yet
    t.later(FIRST_DELAY)
    assert t.end(pid) == 0
    (pid,) = t.start()
    assert t.roster.failed(pid, t.now, t.now + 9) == FIRST_DELAY * 2


def test_a_failing_worker_that_does_not_leave_is_overdue(table):
    t = table(1)
    (pid,) = t.start()
    t.roster.failed(pid, t.now, t.now + 2)
    assert t.roster.overdue(t.now) == []
    t.later(2)
    assert [slot.pid for slot in t.roster.overdue(t.now)] == [pid]


def test_one_failing_slot_is_not_forgiven_because_its_siblings_run_well(table):
    t = table(2)
    t.ready(t.start()[0])
    delays = [t.end(2)]
    for _ in range(6):
        t.later(LONGEST_DELAY)
        (pid,) = t.start()
        delays.append(t.end(pid))
    assert delays == sorted(delays) and delays[-1] > 10 * delays[0]


def test_a_few_quick_deaths_are_replaced_at_once_a_crash_loop_is_not(table):
    t = table(2)
    t.ready(*t.start())
    pid, delays = 2, []
    for _ in range(QUICK_ENDS + 3):
        delays.append(t.end(pid))
        t.later(delays[-1])
        (pid,) = t.start()
        t.ready(pid)
    assert delays == [0] * QUICK_ENDS + [FIRST_DELAY, FIRST_DELAY * 2, FIRST_DELAY * 4]


def test_running_well_ends_a_crash_loop_s_back_off(table):
    t = table(1)
    for _ in range(QUICK_ENDS + 2):
        (pid,) = t.start()
        t.ready(pid)
        t.later(t.end(pid))
    (pid,) = t.start()
    t.ready(pid)
    t.later(STEADY)
    assert t.roster.strikes == 0
    assert t.end(pid) == 0
    assert len(t.start()) == 1


def test_all_killed_at_the_same_time_are_replaced_at_once(table):
    t = table(4)
    t.ready(*t.start())
    assert [t.end(pid) for pid in (1, 2, 3, 4)] == [0, 0, 0, 0]
    assert len(t.start()) == 4


def test_no_process_to_be_had(table):
    t = table(2)
    assert t.roster.not_started(t.now) == FIRST_DELAY
    assert t.start() == []
    t.later(FIRST_DELAY)
    assert len(t.start()) == 1


def test_stopping_and_overdue(table):
    t = table(2)
    t.ready(*t.start())
    t.roster.close()
    for pid in t.roster.pids():
        t.roster.stopping(pid, t.now, t.now + 30)
    assert t.roster.next_event(t.now) == t.now + 30
    assert t.end(1) == 0
    assert t.start() == []
    t.later(29)
    assert t.roster.overdue(t.now) == []
    t.later(1)
    assert [slot.pid for slot in t.roster.overdue(t.now)] == [2]
    t.roster.killed(2)
    assert t.roster.overdue(t.now) == []
    assert t.roster.next_event(t.now) is None
    t.end(2)
    assert t.roster.pids() == []


def test_a_deadline_moves_forward_only(table):
    t = table(1)
    (pid,) = t.start()
    t.roster.stopping(pid, t.now, t.now + 30)
    t.roster.stopping(pid, t.now, t.now + 1)
    t.roster.stopping(pid, t.now, t.now + 60)
    assert t.roster.next_event(t.now) == t.now + 1


def test_a_worker_told_to_stop_while_it_boots_is_no_failed_boot(table):
    t = table(1)
    (pid,) = t.start()
    t.roster.stopping(pid, t.now, t.now + 30)
    t.ready(pid)
    assert t.roster.slot(pid).state is State.STOPPING
    assert t.end(pid) == 0
    assert len(t.start()) == 1


def test_next_event_is_never_in_the_past(table):
    t = table(3)
    for pid in t.start():
        t.end(pid)
    t.later(FIRST_DELAY + 7)
    t.start()
    assert t.roster.next_event(t.now) is None  # one boots, only what it does matters


def test_generation_is_noted(table):
    t = table(1)
    t.roster.generation = 7
    t.start()
    assert t.roster.slot(1).generation == 7
