"""Every rule of the roster by example.

A script is a list of (event, table after it).  The table reads "0.1R 1.1R* 0.2s 2.1x": number,
generation, s(tarting), R(eady) or x (stopping), and an asterisk if worn, in the order in which
they were started.  After each event the caller's round is done: stop whom the roster wants to go,
start whom it misses.
"""

import pytest

from fastfork.roster import FIRST_DELAY, LONGEST_DELAY, QUICK_ENDS, STEADY, Roster, State

GRACE = 30.0
LETTERS = {State.STARTING: "s", State.READY: "R", State.STOPPING: "x"}


def shown(member):
    letter, worn = LETTERS[member.state], "*" if member.worn else ""
    return f"{member.number}.{member.generation}{letter}{worn}"


class Table:
    """A roster with a clock and a supply of pids."""

    def __init__(self, size, **options):
        self.roster = Roster(size, **options)
        self.now = 100.0
        self.next_pid = 1

    def __str__(self):
        return " ".join(shown(member) for member in self.roster.members)

    def start(self):
        """Start whom the roster wants; returns them."""
        members = []
        while wanted := self.roster.to_start(self.now):
            for number, generation in wanted:
                members.append(self.roster.starting(number, generation, self.now))
                self.roster.started(members[-1], self.next_pid)
                self.next_pid += 1
        return members

    def stop(self):
        """Tell those who must go; returns them."""
        members = self.roster.to_stop(self.now)
        for member in members:
            assert member.active  # and not told twice
            self.roster.stopping(member, self.now, self.now + GRACE)
        assert self.roster.to_stop(self.now) == []
        return members

    def round(self):
        self.roster.settle(self.now)
        self.stop()
        self.start()

    def ready(self, *members):
        for member in members:
            self.roster.ready(member, self.now)

    def fill(self):
        """All that are missing are started and become ready."""
        members = self.start()
        self.ready(*members)
        return members

    def end(self, member):
        return self.roster.ended(member, self.now)

    def later(self, seconds):
        self.now += seconds
        self.roster.settle(self.now)

    def find(self, text):
        return next(m for m in self.roster.members if shown(m).startswith(text))

    def play(self, event):
        """One event of a script, and the round after it."""
        verb, _, rest = event.partition(" ")
        for word in rest.split() or [""]:
            self._do(verb, word)
        self.round()

    def _do(self, verb, word):
        roster = self.roster
        if verb == "ready":
            roster.ready(self.find(word), self.now)
        elif verb == "end":
            roster.ended(self.find(word), self.now)
        elif verb == "fail":
            roster.failed(self.find(word), self.now, self.now + GRACE)
        elif verb == "fork-fails":
            roster.not_started(self.find(word), self.now)
        elif verb == "stop":
            roster.stopping(self.find(word), self.now, self.now + GRACE)
        elif verb == "wear":
            roster.wear(self.find(word), "age")
        elif verb == "reload":
            roster.reload(int(word))
        elif verb == "resize":
            roster.resize(int(word))
        elif verb == "later":
            self.later(float(word))
        elif verb == "abandon":
            roster.abandon()
        elif verb == "close":
            roster.close()
        else:
            assert verb == "round", verb


@pytest.fixture
def table():
    return Table


@pytest.fixture
def run(table):
    """Play a script, from `size` ready workers on."""

    def play(script, size, *, filled=True, **options):
        t = table(size, **options)
        if filled:
            t.fill()
        for event, expected in script:
            t.play(event)
            assert str(t) == expected, event
        return t

    return play


# -- reading ------------------------------------------------------------------------------------
def test_a_new_table_wants_its_size(table):
    t = table(3, generation=7)
    assert t.roster.to_start(t.now) == [(0, 7), (1, 7), (2, 7)]
    assert t.roster.members == [] and not t.roster.all_ready()


def test_members_are_found_by_pid_as_soon_as_it_is_known(table):
    t = table(2)
    member = t.roster.starting(0, 1, t.now)
    assert t.roster.pids() == []
    with pytest.raises(KeyError):
        t.roster.member(0)
    t.roster.started(member, 12)
    assert t.roster.pids() == [12]
    assert t.roster.member(12) is member
    t.end(member)
    assert t.roster.pids() == []
    with pytest.raises(KeyError):
        t.roster.member(12)


def test_what_a_member_knows_of_itself(table):
    t = table(1)
    (member,) = t.start()
    assert (member.number, member.generation, member.state) == (0, 1, State.STARTING)
    assert (member.born, member.since, member.deadline, member.worn) == (100, 100, None, None)
    t.later(2)
    t.ready(member)
    assert (member.born, member.since, member.state) == (100, 102, State.READY)
    t.later(2)
    t.roster.stopping(member, t.now, t.now + 9)
    assert (member.born, member.since, member.deadline) == (100, 104, 113)


def test_ready_is_said_once(table):
    t = table(1)
    (member,) = t.fill()
    t.later(1)
    t.ready(member)
    assert member.since == 100


@pytest.mark.parametrize(
    "event, ready_count, all_ready, rolling",
    [
        ("round", 3, True, False),
        ("end 1.1", 2, False, False),
        ("stop 1.1", 2, False, False),
        ("wear 1.1", 3, False, True),
        ("reload 2", 3, False, True),
        ("resize 4", 3, False, False),
        ("resize 2", 2, True, False),
        ("resize 0", 0, True, False),
    ],
)
def test_what_is_said_of_the_whole(table, event, ready_count, all_ready, rolling):
    t = table(3)
    t.fill()
    t.play(event)
    roster = t.roster
    assert (roster.ready_count(), roster.all_ready(), roster.rolling()) == (
        ready_count, all_ready, rolling)  # fmt: skip


@pytest.mark.parametrize("wish", ["reload", "wear"])
def test_not_all_are_ready_as_soon_as_there_is_something_to_do(table, wish):
    t = table(1)
    (member,) = t.fill()
    if wish == "reload":
        t.roster.reload(2)
    else:
        t.roster.wear(member, "age")
    assert not t.roster.all_ready() and t.roster.rolling()


def test_not_all_are_ready_while_an_older_one_is_active(run):
    t = run([("reload 2", "0.1R 0.2s")], 1)
    t.ready(t.find("0.2"))
    assert not t.roster.all_ready() and t.roster.rolling()
    t.stop()
    assert t.roster.all_ready() and not t.roster.rolling()


# -- rule 1: missing ones -----------------------------------------------------------------------
def test_missing_workers_are_started_at_once_in_their_places(run):
    run(
        [
            ("round", "0.1s 1.1s 2.1s"),
            ("ready 0.1 1.1 2.1", "0.1R 1.1R 2.1R"),
            ("end 1.1", "0.1R 2.1R 1.1s"),
            ("end 0.1 2.1", "1.1s 0.1s 2.1s"),
        ],
        3,
        filled=False,
    )


def test_one_told_to_stop_by_the_caller_is_replaced_before_it_has_ended(run):
    run([("stop 0.1", "0.1x 1.1R 0.1s"), ("end 0.1x", "1.1R 0.1s")], 2)


def test_a_decision_that_was_not_carried_out_is_there_again(table):
    t = table(2)
    t.fill()
    t.end(t.find("1.1"))
    assert t.roster.to_start(t.now) == [(1, 1)] == t.roster.to_start(t.now)
    t.roster.resize(0)
    assert len(t.roster.to_stop(t.now)) == 1 == len(t.roster.to_stop(t.now))


# -- rule 2: replacing --------------------------------------------------------------------------
def test_a_worn_one_is_replaced_replacement_first(run):
    t = run(
        [
            ("wear 0.1", "0.1R* 1.1R 2.1s"),
            ("ready 2.1", "0.1x* 1.1R 2.1R"),
            ("end 0.1", "1.1R 2.1R"),
        ],
        2,
    )
    assert t.roster.all_ready()


def test_worn_ones_are_replaced_one_after_the_other(run):
    run(
        [
            ("wear 0.1 1.1", "0.1R* 1.1R* 2.1s"),
            ("ready 2.1", "0.1x* 1.1R* 2.1R"),
            ("end 0.1", "1.1R* 2.1R 0.1s"),
            ("ready 0.1", "1.1x* 2.1R 0.1R"),
            ("end 1.1", "2.1R 0.1R"),
        ],
        2,
    )


def test_missing_and_worn_ones_are_replaced_in_one_decision(table):
    t = table(2)
    first, second = t.fill()
    t.roster.wear(first, "age")
    t.end(second)
    assert t.roster.to_start(t.now) == [(1, 1), (2, 1)]


def test_whose_replacement_is_there_goes_first(run):
    run(
        [
            ("round", "0.1s 1.1s 2.1s"),
            ("ready 0.1 1.1", "0.1R 1.1R 2.1s"),
            ("end 2.1", "0.1R 1.1R"),
            ("reload 2", "0.1R 1.1R 2.2s"),
            (f"later {FIRST_DELAY}", "0.1R 1.1R 2.2s 2.1s"),
            ("ready 2.1 2.2", "0.1R 1.1R 2.2R 2.1x"),
        ],
        3,
        filled=False,
    )


def test_lower_numbers_go_before_higher_ones(run):
    run(
        [
            ("end 0.1", "1.1R 2.1R 0.1s"),
            ("ready 0.1", "1.1R 2.1R 0.1R"),
            ("wear 1.1 2.1 0.1", "1.1R* 2.1R* 0.1R* 3.1s"),
            ("ready 3.1", "1.1R* 2.1R* 0.1x* 3.1R"),
        ],
        3,
    )


def test_where_some_may_be_unavailable_worn_ones_go_first(run):
    run(
        [
            ("wear 0.1 1.1 2.1", "0.1x* 1.1x* 2.1R* 3.1R 0.1s 1.1s"),
            ("end 0.1x", "1.1x* 2.1R* 3.1R 0.1s 1.1s"),
            ("ready 0.1s", "1.1x* 2.1x* 3.1R 0.1R 1.1s 2.1s"),
        ],
        4,
        max_unavailable=2,
    )


def test_nobody_goes_while_too_few_are_ready(run):
    run(
        [
            ("wear 0.1", "0.1R* 1.1R 2.1s"),
            ("end 1.1", "0.1R* 2.1s 1.1s"),
            ("ready 2.1", "0.1R* 2.1R 1.1s"),
            ("ready 1.1", "0.1x* 2.1R 1.1R"),
        ],
        2,
    )
    run(
        [
            ("end 1.1", "0.1R 2.1R 1.1s"),
            ("wear 0.1", "0.1R* 2.1R 1.1s"),
            ("ready 1.1", "0.1x* 2.1R 1.1R 0.1s"),
        ],
        3,
        max_unavailable=1,
    )


@pytest.mark.parametrize("max_unavailable", [0, 1])
def test_outdated_ones_that_are_not_ready_go_first_and_at_any_time(run, max_unavailable):
    run(
        [
            ("round", "0.1s 1.1s"),
            ("ready 0.1", "0.1R 1.1s"),
            ("reload 2", "0.1R 1.1s 0.2s"),
            ("ready 0.2", "0.1R 1.1x 0.2R"),
        ],
        2,
        filled=False,
        max_unavailable=max_unavailable,
    )


def test_of_outdated_ones_those_that_are_not_ready_go_first(run):
    run(
        [
            ("round", "0.1s 1.1s 2.1s 3.1s"),
            ("ready 0.1 1.1", "0.1R 1.1R 2.1s 3.1s"),
            ("reload 2", "0.1R 1.1R 2.1s 3.1s 0.2s"),
            ("ready 0.2", "0.1R 1.1R 2.1x 3.1x 0.2R 2.2s"),
        ],
        4,
        filled=False,
        max_unavailable=2,
    )


def test_only_one_that_is_ready_wears_and_the_first_reason_stays(table):
    t = table(1)
    (member,) = t.start()
    t.roster.wear(member, "memory")
    assert member.worn is None
    t.ready(member)
    t.roster.wear(member, "age")
    t.roster.wear(member, "memory")
    assert member.worn == "age"
    t.roster.stopping(member, t.now, t.now + GRACE)
    (other,) = t.fill()
    t.roster.stopping(other, t.now, t.now + GRACE)
    t.roster.wear(other, "memory")
    assert other.worn is None


# -- rule 3: the gate ---------------------------------------------------------------------------
def test_a_reload_rolls_one_by_one(run):
    t = run(
        [
            ("reload 2", "0.1R 1.1R 2.1R 0.2s"),
            ("ready 0.2", "0.1x 1.1R 2.1R 0.2R"),
            ("end 0.1", "1.1R 2.1R 0.2R 1.2s"),
            ("ready 1.2", "1.1x 2.1R 0.2R 1.2R"),
            ("end 1.1", "2.1R 0.2R 1.2R 2.2s"),
            ("ready 2.2", "2.1x 0.2R 1.2R 2.2R"),
            ("end 2.1", "0.2R 1.2R 2.2R"),
        ],
        3,
    )
    assert t.roster.all_ready() and not t.roster.rolling()
    assert (t.roster.generation, t.roster.candidate) == (2, None)


def test_the_gate_holds_where_some_may_be_unavailable_too(run):
    run(
        [
            ("reload 2", "0.1R 1.1R 2.1R 3.1R 0.2s"),
            ("wear 1.1", "0.1R 1.1R* 2.1R 3.1R 0.2s"),
            ("ready 0.2", "0.1x 1.1R* 2.1R 3.1x 0.2R 3.2s"),
            ("end 0.1", "1.1x* 2.1R 3.1x 0.2R 3.2s 1.2s"),
            ("ready 3.2", "1.1x* 2.1R 3.1x 0.2R 3.2R 1.2s"),
            ("end 3.1", "1.1x* 2.1x 0.2R 3.2R 1.2s 2.2s"),
        ],
        4,
        max_unavailable=2,
    )


@pytest.mark.parametrize("max_unavailable", [0, 1, 2])
@pytest.mark.parametrize(
    "event, expected",
    [
        ("fail 0.2", "0.1R 1.1R 0.2x"),
        ("end 0.2", "0.1R 1.1R"),
        ("fork-fails 0.2", "0.1R 1.1R"),
        ("stop 0.2", "0.1R 1.1R 0.2x"),
        ("abandon", "0.1R 1.1R 0.2x"),
    ],
)
def test_a_candidate_that_does_not_boot_changes_nothing(run, event, expected, max_unavailable):
    t = run(
        [("reload 2", "0.1R 1.1R 0.2s"), (event, expected)], 2, max_unavailable=max_unavailable
    )
    assert (t.roster.generation, t.roster.candidate) == (1, None)
    assert t.roster.all_ready() and t.roster.strikes == 0
    assert t.roster.retry_at <= t.now
    t.play("end 1.1")
    assert shown(t.roster.members[-1]) == "1.1s"


def test_what_a_candidate_s_failure_returns_is_the_back_off_of_the_others(table):
    t = table(1)
    t.fill()
    for generation in range(2, 5):
        t.roster.reload(generation)
        (member,) = t.start()
        assert t.roster.failed(member, t.now, t.now + GRACE) == 0
        assert t.end(member) == 0
    t.roster.reload(5)
    (member,) = t.start()
    assert t.roster.not_started(member, t.now) == 0
    t.roster.reload(6)
    (member,) = t.start()
    assert t.end(member) == 0


def test_deaths_behind_the_gate_are_replaced_by_the_generation_that_serves(run):
    run(
        [
            ("reload 2", "0.1R 1.1R 0.2s"),
            ("end 0.1", "1.1R 0.2s 0.1s"),
            ("end 1.1", "0.2s 0.1s 1.1s"),
            ("end 0.2", "0.1s 1.1s"),
        ],
        2,
    )


def test_a_candidate_starts_in_a_back_off_and_proved_it_ends_it(run):
    t = run(
        [
            ("round", "0.1s 1.1s"),
            ("end 0.1", "1.1s"),
            ("reload 2", "1.1s 0.2s"),
            ("ready 0.2", "1.1x 0.2R 1.2s"),
        ],
        2,
        filled=False,
    )
    assert t.roster.strikes == 0


def test_late_failures_of_older_code_do_not_hold_up_the_new(run):
    t = run(
        [
            ("round", "0.1s 1.1s 2.1s"),
            ("reload 2", "0.1s 1.1s 2.1s 0.2s"),
            ("ready 0.2", "0.1x 1.1s 2.1s 0.2R"),
        ],
        3,
        filled=False,
    )
    assert t.end(t.find("1.1")) == 0
    assert t.roster.strikes == 0


def test_crashes_of_older_code_do_not_hold_up_the_new(table):
    t = table(1)
    for _ in range(QUICK_ENDS):
        (member,) = t.fill()
        t.end(member)
    t.fill()
    t.roster.reload(2)
    t.ready(*t.start())
    assert t.end(t.find("0.1")) == 0
    assert t.end(t.find("0.2")) == 0
    assert t.roster.strikes == 0


def test_older_code_that_runs_well_does_not_clear_the_new(run):
    t = run([("end 1.1", "0.1R 1.1s"), ("reload 2", "0.1R 1.1s 0.2s")], 2)
    t.ready(t.find("0.2"))
    t.end(t.find("0.2"))
    (member,) = [m for m in t.start() if m.generation == 2][:1]
    t.end(member)
    assert t.roster.strikes == 1
    t.ready(t.find("1.1"))
    t.later(STEADY)
    assert t.roster.strikes == 1


def test_a_newer_candidate_takes_the_place_of_one_that_is_not_proved(run):
    t = run([("reload 2", "0.1R 0.2s"), ("reload 3", "0.1R 0.2x 0.3s")], 1)
    assert t.roster.candidate == 3
    t.end(t.find("0.2"))
    assert t.roster.candidate == 3


def test_an_abandoned_worker_that_is_ready_after_all_is_not_taken_from_the_service(run):
    t = run([("reload 2", "0.1R 0.2s"), ("end 0.1", "0.2s 0.1s")], 1)
    t.roster.abandon()
    t.ready(t.find("0.2"))
    t.round()
    assert str(t) == "0.2R 0.1s"
    t.play("ready 0.1")
    assert str(t) == "0.2x 0.1R"
    assert t.roster.generation == 1


def test_a_candidate_does_not_wait_for_the_replacement_of_a_worn_one(run):
    run(
        [
            ("wear 0.1", "0.1R* 1.1R 2.1s"),
            ("reload 2", "0.1R* 1.1R 2.1x 0.2s"),
            ("fail 0.2", "0.1R* 1.1R 2.1x 0.2x"),
            ("end 0.2x", "0.1R* 1.1R 2.1x 2.1s"),
        ],
        2,
    )


def test_there_is_never_a_surplus_of_two(table):
    """Not even if the caller asks for starts first."""
    t = table(2)
    first, _ = t.fill()
    t.roster.wear(first, "age")
    t.start()
    t.roster.reload(2)
    assert t.roster.to_start(t.now) == []
    t.stop()
    assert t.roster.to_start(t.now) == [(0, 2)]


def test_an_abandoned_worker_goes_at_once_while_others_are_leaving(run):
    run(
        [
            ("wear 0.1 1.1", "0.1R* 1.1R* 2.1s"),
            ("ready 2.1", "0.1x* 1.1R* 2.1R"),
            ("reload 2", "0.1x* 1.1R* 2.1R 0.2s"),
            ("abandon", "0.1x* 1.1R* 2.1R 0.2x"),
        ],
        2,
    )


def test_without_wanted_workers_a_candidate_waits(run):
    t = run(
        [
            ("reload 2", "0.1R 0.2s"),
            ("resize 0", "0.1x 0.2x"),
            ("end 0.1 0.2", ""),
            ("resize 1", "0.1s 0.2s"),
            ("ready 0.2", "0.1x 0.2R"),
        ],
        1,
    )
    assert t.roster.generation == 2


def test_one_that_fails_after_it_was_told_to_go_does_not_speak_for_the_candidate(run):
    t = run([("reload 2", "0.1R 0.2s"), ("resize 0", "0.1x 0.2x")], 1)
    t.play("fail 0.2")
    assert t.roster.candidate == 2


def test_a_generation_must_be_newer_than_all_before(table):
    t = table(1, generation=2)
    t.roster.reload(4)
    t.roster.abandon()
    for generation in (1, 3, 4):
        with pytest.raises(ValueError):
            t.roster.reload(generation)
    assert t.roster.candidate is None


@pytest.mark.parametrize("exclusive", [False, True])
def test_to_reload_what_is_there_already_changes_nothing(table, exclusive):
    t = table(1, exclusive=exclusive)
    t.end(*t.start())
    for generation in (1, 2, 2):
        t.roster.reload(generation)
    assert (t.roster.generation, t.roster.candidate) == ((2, None) if exclusive else (1, 2))
    t.roster.reload(t.roster.generation)
    assert t.roster.candidate == (None if exclusive else 2)
    t.roster.abandon()
    assert t.roster.strikes == (0 if exclusive else 1)


# -- rule 4: exclusive --------------------------------------------------------------------------
def test_exclusive_all_old_ones_end_before_the_new_are_started(run):
    t = run(
        [
            ("reload 2", "0.1x 1.1x"),
            ("end 0.1", "1.1x"),
            ("end 1.1", "0.2s 1.2s"),
        ],
        2,
        exclusive=True,
    )
    assert (t.roster.generation, t.roster.candidate) == (2, None)


def test_exclusive_one_that_boots_goes_too(run):
    run(
        [("round", "0.1s"), ("reload 2", "0.1x"), ("reload 3", "0.1x"), ("end 0.1", "0.3s")],
        1,
        filled=False,
        exclusive=True,
    )


def test_exclusive_a_new_generation_that_does_not_boot_is_backed_off(table):
    t = table(1, exclusive=True)
    t.fill()
    t.roster.reload(2)
    (member,) = t.stop()
    t.end(member)
    (member,) = t.start()
    assert t.end(member) == FIRST_DELAY
    assert t.start() == []
    t.roster.reload(3)  # which may be the remedy
    assert len(t.start()) == 1


@pytest.mark.parametrize("max_unavailable", [0, 1])
def test_exclusive_a_worn_one_ends_before_its_replacement_is_started(run, max_unavailable):
    run(
        [
            ("wear 0.1 1.1", "0.1x* 1.1R*"),
            ("end 0.1", "1.1R* 0.1s"),
            ("ready 0.1", "1.1x* 0.1R"),
            ("end 1.1", "0.1R 1.1s"),
        ],
        2,
        exclusive=True,
        max_unavailable=max_unavailable,
    )


def test_exclusive_two_may_be_unavailable(run):
    run(
        [("wear 0.1 1.1 2.1", "0.1x* 1.1x* 2.1R* 3.1R"), ("end 1.1", "0.1x* 2.1R* 3.1R 1.1s")],
        4,
        exclusive=True,
        max_unavailable=2,
    )


def test_exclusive_a_place_is_empty_only_when_its_worker_has_ended(run):
    run(
        [
            ("stop 0.1", "0.1x 1.1R"),
            ("end 0.1", "1.1R 0.1s"),
            ("resize 0", "1.1x 0.1x"),
            ("resize 2", "1.1x 0.1x"),
            ("end 0.1", "1.1x 0.1s"),
        ],
        2,
        exclusive=True,
    )


def test_exclusive_there_is_no_surplus(run):
    run([("wear 0.1 1.1", "0.1x* 1.1R* 2.1R"), ("resize 1", "0.1x* 1.1x* 2.1R")], 3, exclusive=True)


# -- rule 5: not too many at a time -------------------------------------------------------------
def test_a_replacement_waits_for_the_end_of_the_one_before(run):
    run(
        [
            ("wear 0.1 1.1 2.1", "0.1R* 1.1R* 2.1R* 3.1s"),
            ("ready 3.1", "0.1x* 1.1R* 2.1R* 3.1R"),
            ("later 9", "0.1x* 1.1R* 2.1R* 3.1R"),
            ("end 0.1", "1.1R* 2.1R* 3.1R 0.1s"),
        ],
        3,
    )


def test_a_quarter_may_be_leaving(run):
    run(
        [
            ("wear 0.1 1.1 2.1", "0.1R* 1.1R* 2.1R* 3.1R 4.1R 5.1R 6.1R 7.1R 8.1s"),
            ("ready 8.1", "0.1x* 1.1R* 2.1R* 3.1R 4.1R 5.1R 6.1R 7.1R 8.1R 0.1s"),
            ("ready 0.1s", "0.1x* 1.1x* 2.1R* 3.1R 4.1R 5.1R 6.1R 7.1R 8.1R 0.1R"),
            ("end 1.1", "0.1x* 2.1R* 3.1R 4.1R 5.1R 6.1R 7.1R 8.1R 0.1R 1.1s"),
        ],
        8,
    )


def test_with_max_unavailable_no_more_than_so_many_are_leaving(run):
    run(
        [
            ("wear 0.1 1.1 2.1", "0.1x* 1.1R* 2.1R* 0.1s"),
            ("ready 0.1s", "0.1x* 1.1R* 2.1R* 0.1R"),
            ("end 0.1x", "1.1x* 2.1R* 0.1R 1.1s"),
        ],
        3,
        max_unavailable=1,
    )


def test_a_surplus_that_goes_leaves_fewer_to_be_replaced(table):
    t = table(12, max_unavailable=1)
    t.fill()
    t.roster.reload(2)
    t.ready(*t.start())
    t.stop()
    assert t.roster.ready_count() == 11


def test_a_death_is_replaced_while_others_are_leaving(run):
    run(
        [
            ("wear 0.1 1.1", "0.1R* 1.1R* 2.1s"),
            ("ready 2.1", "0.1x* 1.1R* 2.1R"),
            ("end 2.1", "0.1x* 1.1R* 0.1s"),
        ],
        2,
    )


def test_those_who_leave_for_another_reason_do_not_hold_up_a_replacement(run):
    run([("stop 0.1", "0.1x 1.1R 0.1s"), ("wear 1.1", "0.1x 1.1R* 0.1s 2.1s")], 2)


# -- rule 6: surplus ----------------------------------------------------------------------------
def test_the_highest_numbers_go_when_there_are_too_many(run):
    t = run([("resize 2", "0.1R 1.1R 2.1x 3.1x"), ("resize 3", "0.1R 1.1R 2.1x 3.1x 2.1s")], 4)
    assert not t.roster.all_ready()


def test_those_that_are_not_ready_go_before_others(run):
    script = [("end 0.1", "1.1R 2.1R 3.1R 0.1s"), ("resize 3", "1.1R 2.1R 3.1R 0.1x")]
    run(script, 4)
    run(script, 4, max_unavailable=1)


def test_outdated_ones_go_before_others(run):
    run(
        [
            ("reload 2", "0.1R 1.1R 2.1R 0.2s"),
            ("ready 0.2", "0.1x 1.1R 2.1R 0.2R"),
            ("end 0.1", "1.1R 2.1R 0.2R 1.2s"),
            ("resize 1", "1.1x 2.1x 0.2R 1.2x"),
        ],
        3,
    )


def test_a_surplus_is_no_reason_to_have_too_few_ready(run):
    run(
        [
            ("reload 2", "0.1R 1.1R 2.1R 3.1R 0.2s"),
            ("ready 0.2", "0.1x 1.1R 2.1R 3.1R 0.2R"),
            ("end 0.1 1.1", "2.1R 3.1R 0.2R 1.2s 2.2s"),
            ("end 0.2", "2.1R 3.1R 1.2s 2.2s 0.2s"),
            ("resize 2", "2.1R 3.1R 1.2x 2.2x 0.2s"),
        ],
        4,
    )


def test_all_of_a_surplus_goes_in_one_decision(run):
    t = run([("wear 0.1", "0.1R* 1.1R 2.1R 3.1R 4.1s")], 4)
    t.ready(t.find("4.1"))
    t.roster.resize(2)
    t.stop()
    assert str(t) == "0.1x* 1.1R 2.1R 3.1x 4.1x"
    assert t.stop() == []


def test_everybody_goes_and_comes_back(run):
    run(
        [
            ("wear 1.1", "0.1R 1.1R* 2.1s"),
            ("resize 0", "0.1x 1.1x* 2.1x"),
            ("resize 2", "0.1x 1.1x* 2.1x 0.1s 1.1s"),
        ],
        2,
    )


def test_more_are_started_when_more_are_wanted(run):
    run([("resize 3", "0.1R 1.1s 2.1s")], 1)


# -- rule 7: closed -----------------------------------------------------------------------------
def test_a_closed_table_decides_nothing_but_whom_to_kill(run):
    t = run(
        [
            ("close", "0.1R 1.1R"),
            ("reload 2", "0.1R 1.1R"),
            ("wear 0.1", "0.1R* 1.1R"),
            ("end 1.1", "0.1R*"),
            ("resize 0", "0.1R*"),
            ("stop 0.1", "0.1x*"),
        ],
        2,
    )
    assert t.roster.next_event(t.now) == t.now + GRACE
    t.later(GRACE)
    assert t.roster.overdue(t.now) == [t.find("0.1")]


def test_a_closed_table_wakes_nobody_for_a_start(table):
    t = table(1)
    t.end(*t.start())
    t.roster.close()
    assert t.roster.next_event(t.now) is None


# -- leaving ------------------------------------------------------------------------------------
def test_stopping_and_overdue(table):
    t = table(2)
    first, second = t.fill()
    t.roster.close()
    t.roster.stopping(first, t.now, t.now + 30)
    t.roster.stopping(second, t.now, t.now + 30)
    assert t.roster.next_event(t.now) == t.now + 30
    assert t.end(first) == 0
    assert t.start() == []
    t.later(29)
    assert t.roster.overdue(t.now) == []
    t.later(1)
    assert t.roster.overdue(t.now) == [second]
    t.roster.killed(second)
    assert t.roster.overdue(t.now) == []
    assert t.roster.next_event(t.now) is None
    t.end(second)
    assert t.roster.members == []


def test_a_deadline_moves_forward_only(table):
    t = table(1)
    (member,) = t.start()
    t.roster.stopping(member, t.now, t.now + 30)
    t.later(0.5)
    t.roster.stopping(member, t.now, t.now + 1)
    t.roster.stopping(member, t.now, t.now + 60)
    assert (member.deadline, member.since) == (101.5, 100)
    t.roster.killed(member)
    t.roster.stopping(member, t.now, t.now + 1)
    assert member.deadline is None


def test_a_worker_told_to_stop_while_it_boots_is_no_failed_boot(table):
    t = table(1)
    (member,) = t.start()
    t.roster.stopping(member, t.now, t.now + 30)
    t.ready(member)
    assert member.state is State.STOPPING
    assert t.roster.failed(member, t.now, t.now + 1) == 0
    assert t.end(member) == 0
    assert len(t.start()) == 1


def test_one_whose_pid_is_not_known_may_be_told_to_stop(table):
    t = table(2)
    first = t.roster.starting(0, 1, t.now)
    second = t.roster.starting(1, 1, t.now)
    t.roster.resize(0)
    assert t.stop() == [first, second]
    t.roster.started(first, 12)
    assert t.roster.member(12).state is State.STOPPING
    assert t.roster.not_started(second, t.now) == 0
    assert t.roster.members == [first]


def test_a_failing_worker_that_does_not_leave_is_overdue(table):
    t = table(1)
    (member,) = t.start()
    t.roster.failed(member, t.now, t.now + 2)
    assert t.roster.overdue(t.now) == []
    t.later(2)
    assert t.roster.overdue(t.now) == [member]


# -- rules 8 to 12: back-off --------------------------------------------------------------------
def test_a_worker_that_ran_well_is_replaced_at_once(table):
    t = table(2)
    t.fill()
    for _ in range(20):
        t.later(STEADY)
        assert t.end(t.roster.members[0]) == 0
        assert len(t.fill()) == 1


def test_failed_boots_back_off_exponentially_to_a_cap(table):
    t = table(1)
    delays = []
    for _ in range(10):
        (member,) = t.start()
        delays.append(t.end(member))
        assert t.start() == []
        assert t.roster.next_event(t.now) == t.now + delays[-1]
        t.later(delays[-1])
    assert delays[:4] == [FIRST_DELAY, FIRST_DELAY * 2, FIRST_DELAY * 4, FIRST_DELAY * 8]
    assert delays[-1] == LONGEST_DELAY == max(delays)


def test_however_often_a_boot_fails(table):
    t = table(1)
    for _ in range(1100):  # 2.0 ** 1024 is no float
        (member,) = t.start()
        t.later(t.end(member))


def test_workers_that_fail_alike_are_one_failure(table):
    t = table(4)
    for member in t.start():
        t.later(0.01)
        delay = t.end(member)
    assert delay == pytest.approx(FIRST_DELAY - 0.03)
    t.later(delay)
    assert len(t.start()) == 1  # one tries for all
    assert t.start() == []


def test_when_the_boot_works_again_the_others_follow_one_by_one_then_all(table):
    t = table(4)
    for member in t.start():
        t.end(member)
    t.later(FIRST_DELAY)
    (first,) = t.start()
    t.ready(first)
    (second,) = t.start()
    assert t.roster.next_event(t.now) == t.now + STEADY
    t.later(STEADY - 0.1)
    assert t.start() == []
    t.later(0.1)  # the first has run well: the back-off is over
    assert len(t.start()) == 2
    t.ready(second)
    assert len(t.roster.pids()) == 4


def test_a_reported_failure_counts_once(table):
    t = table(1)
    (member,) = t.start()
    assert t.roster.failed(member, t.now, t.now + 9) == FIRST_DELAY
    assert t.start() == []
    t.later(FIRST_DELAY)
    assert t.end(member) == 0
    (member,) = t.start()
    assert t.roster.failed(member, t.now, t.now + 9) == FIRST_DELAY * 2


def test_one_failing_place_is_not_forgiven_because_its_siblings_run_well(table):
    t = table(2)
    first, second = t.start()
    t.ready(first)
    delays = [t.end(second)]
    for _ in range(6):
        t.later(LONGEST_DELAY)
        (member,) = t.start()
        delays.append(t.end(member))
    assert delays == sorted(delays) and delays[-1] > 10 * delays[0]


def test_a_few_quick_deaths_are_replaced_at_once_a_crash_loop_is_not(table):
    t = table(2)
    _, member = t.fill()
    delays = []
    for _ in range(QUICK_ENDS + 3):
        delays.append(t.end(member))
        t.later(delays[-1])
        (member,) = t.fill()
    assert delays == [0] * QUICK_ENDS + [FIRST_DELAY, FIRST_DELAY * 2, FIRST_DELAY * 4]


def test_quick_deaths_are_forgotten_when_a_worker_runs_well(table):
    t = table(1)
    for _ in range(3):
        for _ in range(QUICK_ENDS):
            (member,) = t.fill()
            assert t.end(member) == 0
        (member,) = t.fill()
        t.later(STEADY)
        assert t.end(member) == 0


def test_running_well_ends_a_crash_loop_s_back_off(table):
    t = table(1)
    for _ in range(QUICK_ENDS + 2):
        (member,) = t.fill()
        t.later(t.end(member))
    (member,) = t.fill()
    t.later(STEADY)
    assert t.roster.strikes == 0
    assert t.end(member) == 0
    assert len(t.start()) == 1


def test_one_that_was_told_to_stop_is_no_crash(table):
    t = table(1)
    for _ in range(QUICK_ENDS + 2):
        (member,) = t.fill()
        t.roster.stopping(member, t.now, t.now + GRACE)
        assert t.end(member) == 0


def test_all_killed_at_the_same_time_are_replaced_at_once(table):
    t = table(4)
    assert [t.end(member) for member in t.fill()] == [0, 0, 0, 0]
    assert len(t.start()) == 4


def test_no_process_to_be_had(table):
    t = table(2)
    first = t.roster.starting(0, 1, t.now)
    assert t.roster.not_started(first, t.now) == FIRST_DELAY
    assert t.start() == [] == t.roster.members
    t.later(FIRST_DELAY)
    assert len(t.start()) == 1


def test_a_replacement_that_does_not_boot_backs_off_and_costs_nothing(run):
    t = run([("wear 0.1", "0.1R* 1.1R 2.1s"), ("end 2.1", "0.1R* 1.1R")], 2)
    assert t.roster.next_event(t.now) == t.now + FIRST_DELAY
    t.play(f"later {FIRST_DELAY}")
    assert str(t) == "0.1R* 1.1R 2.1s"


@pytest.mark.parametrize("how", ["failed", "not_started", "ended"])
def test_what_was_lived_down_does_not_lengthen_the_next_back_off(table, how):
    """However seldom the caller settles."""
    t = table(2)
    first, second = t.start()
    t.end(first)
    t.ready(second)
    t.now += STEADY
    (member,) = t.start()
    arguments = [t.now + GRACE] if how == "failed" else []
    assert getattr(t.roster, how)(member, t.now, *arguments) == FIRST_DELAY


def test_one_that_ran_well_until_its_end_has_ended_the_back_off(table):
    """However seldom the caller settles."""
    t = table(2)
    first, second = t.start()
    t.end(first)
    t.ready(second)
    t.now += STEADY
    t.end(second)
    assert len(t.start()) == 2


# -- times --------------------------------------------------------------------------------------
def test_nothing_happens_by_time_alone_when_all_are_ready(table):
    t = table(3)
    t.fill()
    assert t.roster.next_event(t.now) is None


def test_no_time_is_waited_for_that_changes_nothing(table):
    t = table(2)
    first, second = t.start()
    t.end(first)
    t.ready(second)
    assert t.roster.next_event(t.now) == t.now + FIRST_DELAY
    t.roster.resize(1)
    assert t.roster.next_event(t.now) is None
    t = table(2)
    t.end(t.fill()[0])
    assert t.roster.next_event(t.now) is None  # one is missing, and may be started now


def test_next_event_is_never_in_the_past(table):
    t = table(3)
    for member in t.start():
        t.end(member)
    t.later(FIRST_DELAY + 7)
    t.start()
    assert t.roster.next_event(t.now) is None  # one boots, only what it does matters


def test_an_event_comes_when_it_was_announced(table):
    """3.2 + 5.0 - 3.2 is less than 5.0."""
    t = table(3)
    t.now = 3.2
    first, second, third = t.start()
    t.end(second)
    t.end(third)
    t.ready(first)
    t.now = 4.0
    assert len(t.start()) == 1
    t.now = event = t.roster.next_event(t.now)
    assert event == 3.2 + STEADY
    t.roster.settle(t.now)
    assert len(t.start()) == 1


# -- adoption ----------------------------------------------------------------------------
def test_an_adopted_generation_serves_without_proof():
    roster = Roster(0)
    roster.adopt(2)
    roster.resize(2)
    assert (roster.generation, roster.candidate) == (2, None)
    assert roster.to_start(0.0) == [(0, 2), (1, 2)]
    with pytest.raises(ValueError, match="not newer"):
        roster.reload(1)


def test_a_candidate_is_adopted_where_nobody_is_wanted():
    roster = Roster(1)
    roster.reload(2)
    roster.resize(0)
    roster.adopt(2)
    assert (roster.generation, roster.candidate) == (2, None) and roster.all_ready()
