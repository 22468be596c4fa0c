"""Servers in each of the ways to run handlers."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from harness import MODES, PATIENCE, Server, wait_for

HERE = Path(__file__).resolve().parent
SITES = HERE / "served"

# How a handler may be at work when its time is up (served/work.py).
WAYS_TO_BE_LATE = {
    "default": ["waits", "computes"],
    "greenlets": ["waits", "computes", "blocks"],
    "gevent": ["waits", "computes"],
    "threads": ["steps", "computes"],
}


def read_head(client):
    """Of an answer that comes in chunks."""
    version, status, reason, headers = client.read_head()
    assert (version, status) == ("HTTP/1.1", 200), (status, reason)
    assert ("transfer-encoding", "chunked") in {(n.lower(), v) for n, v in headers}


def piece_of(client):
    """The next chunk of it; b"" at its end."""
    piece = client.read_exactly(int(client.read_line(), 16))
    assert client.read_exactly(2) == b"\r\n"
    return piece


def rest_of(client):
    """All that are still to come."""
    return b"".join(iter(lambda: piece_of(client), b""))


class Site:
    """A server in one of the modes, and the directory in which it and the test leave notes."""

    def __init__(self, app, mode, notes, *flags, env=None, **options):
        self.mode, self.notes = mode, Path(notes)
        self._names = itertools.count()
        environment = {"MODE": mode, "NOTES": str(notes), **(env or {})}
        self.server = Server(app, *MODES[mode], *flags, cwd=SITES, env=environment, **options)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.server.close()

    @property
    def worker(self):
        """Pid of its one worker."""
        (pid,) = self.server.workers()
        return pid

    def name(self):
        """One that nobody has used."""
        return f"{os.getpid()}-{next(self._names)}"

    def note(self, name):
        (self.notes / name).touch()

    def text(self, name):
        """What the note says; "" if there is none yet."""
        try:
            return (self.notes / name).read_text()
        except FileNotFoundError:
            return ""

    def wait_note(self, name, text=None, patience=PATIENCE):
        """Until there is one (that says so)."""
        if text is None:
            true = (self.notes / name).exists
        else:
            def true():
                return self.text(name) == text
        wait_for(true, patience, lambda: f"no note {name}: {text}\n{self.server.stderr}")
