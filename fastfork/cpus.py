"""How many cores this process may really use: affinity and cgroup CPU quota.

os.cpu_count() tells of the machine; a container with a quota of two cores on a machine of
64 would start 64 workers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

Quota = float  # cores


def usable() -> int:
    """Cores this process may use, at least 1."""
    return limited(len(os.sched_getaffinity(0)), quota())


def limited(cores: int, quota: Quota | None) -> int:
    """`cores`, cut by `quota`; a part of a core counts as one."""
    if quota is not None:
        cores = min(cores, math.ceil(quota))
    return max(1, cores)


def quota(
    membership: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
) -> Quota | None:
    """The smallest CPU quota that holds for this process, in cores; None if there is none.

    A quota of any parent group holds too, so every group up to the root is asked.  In a
    container the path in /proc/self/cgroup may be the host's and absent here: then only the
    levels that exist count, of which the root is the container's own group.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            for root in (mounted, mounted / "unified"):
                quotas += [_quota_v2(group) for group in _groups(root, path)]
        elif "cpu" in controllers.split(","):
            for root in (mounted / controllers, mounted / "cpu"):
                quotas += [_quota_v1(group) for group in _groups(root, path)]
    return min((q for q in quotas if q is not None), default=None)


def _groups(root: Path, path: str) -> Iterator[Path]:
    """The group at `path` under `root` and all its parents, `root` last."""
    relative = Path(path.lstrip("/"))
    if ".." not in relative.parts:  # a group outside this namespace: only the root is visible
        for part in (relative, *relative.parents):
            yield root / part
    yield root


def _quota_v2(group: Path) -> Quota | None:
    """cpu.max: "max 100000" or "150000 100000", microseconds of CPU per period."""
    try:
        share, period = (group / "cpu.max").read_text().split()
        return None if share == "max" else int(share) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(group: Path) -> Quota | None:
    """cpu.cfs_quota_us (-1: none) over cpu.cfs_period_us."""
    try:
        share = int((group / "cpu.cfs_quota_us").read_text())
        period = int((group / "cpu.cfs_period_us").read_text())
        return share / period if share > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
