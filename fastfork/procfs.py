"""What the kernel says of other processes."""

from __future__ import annotations

import os
from pathlib import Path


def is_stopped(pid: int) -> bool:
    """Has somebody sent it SIGSTOP?  (A debugger, which is another state, is left alone.)"""
    return _state(pid) == b"T"


def is_running(pid: int) -> bool:
    """Has it not ended?  (Its memory is gone before it is.)"""
    return _state(pid) in (b"R", b"S", b"D")


def _state(pid: int) -> bytes:
    """As in proc_pid_stat(5); empty if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()  # in which its name may be anything
    except OSError:
        return b""
    return (stat.rpartition(b")")[2].split() or [b""])[0]


def is_child(pid: int) -> bool:
    """Is it a child of ours that was not waited for?"""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (OSError, OverflowError):
        return False
    return True
