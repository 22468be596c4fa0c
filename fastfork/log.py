"""The error log: one line per entry on standard error.

    [2026-11-22 10:16:42 +0000] [123] [INFO] message
    [2026-11-22 10:16:43 +0000] [125] [INFO] [metadata] message of a worker of that service

Two things follow from sharing a process with somebody else's application.  The logger lives
in a tree of its own: `logging.config` (disable_existing_loggers), `logging.disable`, handlers
on the root logger and whatever else an application does to logging does not reach it, nor it
them.  And an entry is one write to descriptor 2, whatever sys.stderr has become: lines of
several workers do not mix, and nothing is left in a buffer at a fork.

Nothing here may be called from a signal handler.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
import time
import traceback
from select import PIPE_BUF, POLLOUT, poll  # by name: gevent replaces some of them
from time import localtime, strftime

logger = logging.Manager(logging.RootLogger(logging.WARNING)).getLogger("fastfork")

STDERR = 2
_PATIENCE_MS = 1000  # for a standard error that is full
_DEAF = 10.0  # seconds without patience after that
_deaf_until = 0.0
_tag = ""  # before each message of this process
# C0 and C1 controls, DEL, and what some viewers take for a line's end
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CONTROL_IN_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def escape(text: str) -> str:
    r"""`text` on one line: control characters as \xNN, so that no client can forge an entry."""
    return _CONTROL.sub(_visible, text)


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def indented(text: str) -> str:
    """A traceback for the log.  Its lines are indented, controls other than line ends and tabs
    escaped: a line that begins with "[" is always an entry of ours, even if an exception's
    text holds what looks like one."""
    lines = _CONTROL_IN_TEXT.sub(_visible, text.rstrip("\n")).split("\n")
    return "".join(f"  {line}\n" for line in lines)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = strftime("%Y-%m-%d %H:%M:%S %z", localtime(record.created))
        message = escape(record.getMessage())
        entry = f"[{when}] [{os.getpid()}] [{record.levelname}] {_tag}{message}\n"
        if record.exc_info and record.exc_info[1] is not None:
            entry += indented("".join(traceback.format_exception(record.exc_info[1])))
        return entry


class _Stderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        write(self.format(record))


def write(text: str) -> None:
    """Write `text` to standard error.  A standard error that is gone, or stays full, loses it:
    a server must not stop because nobody reads its log.

    A pipe that polls writable takes PIPE_BUF bytes without blocking; nothing else is known of it,
    for whether it is non-blocking is not ours to decide.
    """
    global _deaf_until
    data = text.encode("utf-8", "backslashreplace")
    full = poll()
    full.register(STDERR, POLLOUT)
    try:
        whole = stat.S_ISREG(os.fstat(STDERR).st_mode)
        while data:
            patience = 0 if time.monotonic() < _deaf_until else _PATIENCE_MS
            if not full.poll(patience):
                if patience:
                    _deaf_until = time.monotonic() + _DEAF
                return
            with contextlib.suppress(BlockingIOError):
                data = data[os.write(STDERR, data if whole else data[:PIPE_BUF]) :]
    except OSError:
        return


def set_up(level: str = "info") -> None:
    """Let entries of `level` ("debug" ... "critical") and above through; once per process."""
    set_level(level)
    logger.propagate = False
    handler = _Stderr()
    handler.setFormatter(_Formatter())
    logger.handlers[:] = [handler]


def set_level(level: str) -> None:
    """Let entries of `level` ("debug" ... "critical") and above through."""
    logger.setLevel(level.upper())


def set_tag(name: str) -> None:
    """From now on entries of this process carry the name of its service; "" for none."""
    global _tag
    _tag = f"[{escape(name)}] " if name else ""


def from_core(level: int, message: str, exception: BaseException | None) -> None:
    """What the core calls with an entry; `level` is one of `logging`'s."""
    try:
        logger.log(level, "%s", message, exc_info=exception)
    except Exception as failure:
        # An exception can be made whose traceback cannot be formatted.  That must not matter more
        # than the exception itself.
        logger.log(level, "%s: %s (its traceback cannot be shown: %s)", message,
                   type(exception).__name__, type(failure).__name__)  # fmt: skip
