import pytest

from fastfork.oom import OomWatch, Verdict


class Machine:
    """Files as the kernel shows them."""

    def __init__(self, directory, membership):
        self.membership = directory / "cgroup"
        self.membership.write_text(membership)
        self.mounted = directory / "fs"
        self.mounted.mkdir()
        self.vmstat = directory / "vmstat"
        self.count("vmstat", 7)

    def count(self, name, kills):
        path = self.vmstat if name == "vmstat" else self.mounted / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("oom_control"):
            path.write_text(f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n")
        elif name == "vmstat":
            path.write_text(f"nr_free_pages 1\noom_kill {kills}\nnuma_hit 3\n")
        else:
            path.write_text(f"low 0\nhigh 0\nmax 9\noom 1\noom_kill {kills}\noom_group_kill 0\n")

    def watch(self):
        return OomWatch(self.membership, self.mounted, self.vmstat)


@pytest.fixture
def machine(tmp_path):
    return lambda membership: Machine(tmp_path, membership)


@pytest.mark.parametrize(
    ("membership", "own"),
    [
        ("0::/app/web\n", "app/web/memory.events"),
        ("0::/app/web\n", "app/memory.events"),  # the nearest that has the controller
        ("0::/docker/host/path\n", "memory.events"),  # a container sees its own group as the root
        ("5:memory:/app\n1:cpu:/\n0::/\n", "memory/app/memory.oom_control"),
        ("5:memory,hugetlb:/app\n", "memory,hugetlb/app/memory.oom_control"),
        ("5:memory:/app\n0::/\n", "memory/memory.oom_control"),
    ],
)
def test_a_kill_in_our_own_group(machine, membership, own):
    system = machine(membership)
    system.count(own, 3)
    watch = system.watch()
    assert watch.poll() is Verdict.NO
    system.count(own, 4)
    assert watch.poll() is Verdict.YES
    assert watch.poll() is Verdict.NO
    system.count(own, 9)
    assert watch.poll() is Verdict.YES


def test_a_kill_in_a_group_above_is_perhaps_ours(machine):
    system = machine("0::/pod/app\n")
    system.count("pod/app/memory.events", 1)
    system.count("pod/memory.events", 1)
    watch = system.watch()
    system.count("pod/memory.events", 2)
    assert watch.poll() is Verdict.PERHAPS
    system.count("pod/app/memory.events", 2)
    system.count("pod/memory.events", 3)
    assert watch.poll() is Verdict.YES


def test_a_kill_elsewhere_on_the_machine_is_not_ours(machine):
    """Not if our own group says that nothing was killed in it."""
    system = machine("0::/app\n")
    system.count("app/memory.events", 0)
    watch = system.watch()
    system.count("vmstat", 8)
    assert watch.poll() is Verdict.NO


@pytest.mark.parametrize("membership", ["0::/\n", "3:cpu:/\n", "0::/app\n"])
def test_without_a_count_of_a_group_the_machine_s_must_do(machine, membership):
    system = machine(membership)
    watch = system.watch()
    assert watch.poll() is Verdict.NO
    system.count("vmstat", 8)
    assert watch.poll() is Verdict.PERHAPS
    assert watch.poll() is Verdict.NO


def test_a_count_that_appears_says_nothing(machine):
    """Which part of it is news cannot be known."""
    system = machine("0::/app\n")
    watch = system.watch()
    system.count("app/memory.events", 5)
    assert watch.poll() is Verdict.NO
    system.count("app/memory.events", 6)
    assert watch.poll() is Verdict.YES


def test_moved_to_another_group(machine):
    system = machine("0::/one\n")
    system.count("one/memory.events", 0)
    system.count("two/memory.events", 5)
    watch = system.watch()
    system.membership.write_text("0::/two\n")
    assert watch.poll() is Verdict.NO
    system.count("two/memory.events", 6)
    assert watch.poll() is Verdict.YES


def test_where_nothing_can_be_read(machine):
    system = machine("0::/\n")
    system.vmstat.write_text("nr_free_pages 1\noom_kill many\n")
    watch = system.watch()
    assert watch.poll() is Verdict.NO
    system.vmstat.unlink()
    assert watch.poll() is Verdict.NO


def test_words_for_the_log():
    assert Verdict.YES.value == "by the kernel for lack of memory"
    assert Verdict.PERHAPS.value == "perhaps by the kernel for lack of memory"
    assert Verdict.NO.value == "from outside"


def test_this_machine():
    """Whatever it shows must be readable."""
    assert OomWatch().poll() in Verdict
