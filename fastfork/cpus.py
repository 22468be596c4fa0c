"""How many cores this process may really use: affinity and cgroup CPU quota.

os.cpu_count() tells of the machine; a container with a quota of two cores on a machine of
64 would start 64 workers.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

from fastfork import cgroups

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
    membership: Path = cgroups.MEMBERSHIP, mounted: Path = cgroups.MOUNTED
) -> Quota | None:
    """The smallest CPU quota that holds for this process, its group's or that of a parent
    group, in cores; None if there is none."""
    quotas = [
        _quota_v2(group.path) if group.version == 2 else _quota_v1(group.path)
        for group in cgroups.groups("cpu", membership, mounted)
    ]
    return min((q for q in quotas if q is not None), default=None)


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
