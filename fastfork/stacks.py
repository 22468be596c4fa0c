"""Where a process stands: written by it when its master asks, read by the master before it kills.

The signal has two handlers.  The first, faulthandler's, runs in C at once, wherever the process
is stuck, and writes the Python stack of every thread.  The second runs when the interpreter gets
to it, which may be never, and adds what only Python knows: the requests in hand, and the stacks
of handlers that wait in greenlets of their own.  Both write to a file in memory that the master
made, so nothing is lost in a pipe that nobody reads.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import traceback
from types import FrameType
from typing import TYPE_CHECKING

from fastfork import log

if TYPE_CHECKING:
    from fastfork._core import Worker

# A real-time signal, because the others belong to the application.
ASK = signal.SIGRTMIN + 10

PATIENCE = 0.25  # seconds that the master waits for the answer
MOST_BYTES = 64 << 10  # of it that the log shows


def make_file() -> int:
    """Descriptor of an empty file in memory."""
    return os.memfd_create("stacks", os.MFD_CLOEXEC)


def register(fd: int, core: Worker | None = None) -> None:
    """Answer the signal from now on.  To be repeated with the core when there is one, and after
    an import, which may have left a handler of its own."""

    def tell_more(number: int, frame: FrameType | None) -> None:
        if core is not None:
            with contextlib.suppress(OSError):
                os.write(fd, _in_hand(core).encode("utf-8", "backslashreplace"))

    faulthandler.unregister(ASK)
    signal.signal(ASK, tell_more)
    faulthandler.register(ASK, file=fd, all_threads=True, chain=True)


def _in_hand(core: Worker) -> str:
    text = ""
    for method, target, age, request, waiting in core.in_hand():
        text += f"in hand: {log.escape(f'{method} {target}')}, {age:.1f} s old, request {request}\n"
        frame = getattr(waiting, "gr_frame", None)
        if frame is not None:
            text += "waiting at (most recent call last):\n"
            text += "".join(traceback.format_stack(frame))
    return text


def size(fd: int) -> int:
    """How much has been written."""
    return os.fstat(fd).st_size


def read(fd: int, start: int = 0) -> str:
    """What has been written from there on; empty if the process could not."""
    data = os.pread(fd, MOST_BYTES, start)
    text = data.decode("utf-8", "replace")
    return text + "\n[...]" if size(fd) > start + len(data) else text
