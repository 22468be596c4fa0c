"""Whether the kernel has killed for lack of memory.

The kernel kills with SIGKILL, as anybody may.  It counts its own kills, before the signal is
sent: so a worker that was killed, and a count that has risen when that is seen, belong together.

Every group with a memory controller has such a count.  In the groups above the one that this
process is in, those of their other members count as well; and the machine as a whole has one,
which must do where no group has any.
"""

from __future__ import annotations

import enum
from pathlib import Path

from fastfork import cgroups

VMSTAT = Path("/proc/vmstat")


class Verdict(enum.Enum):
    """Of a SIGKILL that nobody here has sent; the value says by whom, for the log."""

    NO = "from outside"
    PERHAPS = "perhaps by the kernel for lack of memory"
    YES = "by the kernel for lack of memory"


class OomWatch:
    """The counts as they were at the last look."""

    def __init__(
        self,
        membership: Path = cgroups.MEMBERSHIP,
        mounted: Path = cgroups.MOUNTED,
        vmstat: Path = VMSTAT,
    ) -> None:
        self._membership, self._mounted, self._vmstat = membership, mounted, vmstat
        self._counts: dict[Path, int] = {}
        self.poll()

    def poll(self) -> Verdict:
        """What has been killed since the last poll.  The shorter ago that is, the less it can
        have been another process: to be called regularly, and after every SIGKILL.

        YES: one of our own group.  PERHAPS: one of a group above it; or one of the whole
        machine, where no group's count can be read.
        """
        before, self._counts = self._counts, self._read()
        risen = [count > before.get(path, count) for path, count in self._counts.items()]
        if not any(risen):
            return Verdict.NO
        own = risen[0] and self._vmstat not in self._counts
        return Verdict.YES if own else Verdict.PERHAPS

    def _read(self) -> dict[Path, int]:
        """By file: those of the groups, our own first, or only that of the machine."""
        counts: dict[Path, int] = {}
        for group in cgroups.groups("memory", self._membership, self._mounted):
            name = "memory.events" if group.version == 2 else "memory.oom_control"
            _add(counts, group.path / name)
        if not counts:
            _add(counts, self._vmstat)
        return counts


def _add(counts: dict[Path, int], path: Path) -> None:
    """The number in the line "oom_kill 3", if `path` has one."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        name, _, number = line.partition(" ")
        if name == "oom_kill" and number.isdecimal():
            counts[path] = int(number)
