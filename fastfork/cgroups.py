"""Which control groups this process is in: cgroups(7), versions 1 and 2, and both at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MEMBERSHIP = Path("/proc/self/cgroup")
MOUNTED = Path("/sys/fs/cgroup")


class Group(NamedTuple):
    """A directory in which a controller's files of `version` may be.  It need not exist."""

    version: int
    path: Path


def groups(
    controller: str, membership: Path = MEMBERSHIP, mounted: Path = MOUNTED
) -> Iterator[Group]:
    """The groups by which `controller` may govern this process, each before its parents.

    What holds for a parent group holds too, so every group up to the root is given.  In a
    container the path in /proc/self/cgroup may be the host's and absent here: then only the
    levels that exist count, of which the root is the container's own group.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            for root in (mounted, mounted / "unified"):
                yield from (Group(2, group) for group in _upwards(root, path))
        elif controller in controllers.split(","):
            for root in (mounted / controllers, mounted / controller):
                yield from (Group(1, group) for group in _upwards(root, path))


def _upwards(root: Path, path: str) -> Iterator[Path]:
    """The group at `path` under `root` and all its parents, `root` last."""
    relative = Path(path.lstrip("/"))
    if ".." not in relative.parts:  # a group outside this namespace: only the root is visible
        for part in (relative, *relative.parents):
            yield root / part
    yield root
