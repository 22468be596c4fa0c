"""How much memory a process uses."""

from __future__ import annotations

import os
import re
from pathlib import Path

PROC = Path("/proc")
PAGE = os.sysconf("SC_PAGE_SIZE")


def measure(pid: int, how: str) -> int | None:
    """Bytes in memory, by the measure `how`; None if they cannot be read: the process has
    ended, or it is not ours to look at.

    "rss" counts every page in full, "pss" divides a page by the number of processes that share
    it (rss where the kernel has no smaps_rollup, that is before 4.14).
    """
    if how == "pss":
        try:
            return _pss((PROC / str(pid) / "smaps_rollup").read_text())
        except FileNotFoundError:
            pass
        except OSError:
            return None
    try:
        resident = int((PROC / str(pid) / "statm").read_text().split()[1]) * PAGE
    except OSError:
        return None
    return resident or None  # a process that has ended and was not waited for has nothing


def _pss(text: str) -> int | None:
    match = re.search(r"^Pss:\s+([0-9]+) kB$", text, re.MULTILINE)
    return int(match[1]) * 1024 if match else None
