"""`fastfork status`: what running servers say of themselves, as tables.

Methods and paths in them were written by clients, so nothing of an answer reaches the terminal
that is not printable ASCII.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastfork import control, log
from fastfork.kinds import AUTO

EXIT_OK, EXIT_UNANSWERED, EXIT_NONE = 0, 1, 3

_HEAD = ("NO", "PID", "GEN", "STATE", "AGE", "REQUESTS", "CONNS", "MEMORY", "IN HAND")
_LEFT = ("STATE", "IN HAND")  # the others are numbers
_GAP = "  "


def run(path: str | None, pid: int | None, *, as_json: bool = False) -> int:
    """Ask the server at `path`, or the one with `pid`, or all that can be found, and print what
    they say.  Returns the exit status."""
    paths = control.find(pid) if path in (None, AUTO) else [Path(str(path))]
    texts = []
    failed = False
    for one in paths:
        try:
            texts.append(_tell(control.ask(one, {"command": "status"}), as_json))
        except (FileNotFoundError, ConnectionRefusedError):
            continue  # nobody listens there
        except (OSError, EOFError, ValueError) as error:
            _complain(f"The server at {one} does not answer: {_reason(error)}.")
            failed = True
    if not texts and not failed:
        _complain(_none(path, pid))
        return EXIT_NONE
    _print(("" if as_json else "\n").join(texts))
    return EXIT_UNANSWERED if failed else EXIT_OK


def _tell(answer: bytes, as_json: bool) -> str:
    """ValueError if it is no answer to the question."""
    facts = json.loads(answer)
    if not isinstance(facts, dict) or "error" in facts:
        reason = facts["error"] if isinstance(facts, dict) else "it speaks another language"
        raise ValueError(reason)
    if as_json:
        return answer.decode() + "\n"
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    return render(facts, time.monotonic(), width)


def _none(path: str | None, pid: int | None) -> str:
    if path not in (None, AUTO):
        return f"No server listens at {path}."
    places = ", ".join(str(directory) for directory in control.directories())
    which = "of this user" if pid is None else f"of this user with the pid {pid}"
    return f"No running server {which} was found (in {places})."


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it takes too long"
    if isinstance(error, EOFError):
        return "it ended the connection"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "what it said is no JSON" if isinstance(error, json.JSONDecodeError) else str(error)


def _complain(sentence: str) -> None:
    log.write(f"fastfork: {log.escape(sentence)}\n")


def _print(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left is written at the exit


# -- tables ------------------------------------------------------------------------------
def render(answer: Mapping[str, Any], now: float, width: int | None = None) -> str:
    """The answer to "status" as text of lines at most `width` characters long.  `now` is a time
    of the clock by which the server's requests were started, time.monotonic()."""
    lines = [
        f"fastfork {_text(answer.get('version'))}, pid {_text(answer.get('pid'))}, "
        f"up {_age(answer.get('uptime'))}"
    ]
    for service in answer.get("services", ()):
        lines.append(_header(service))
        rows = [_row(worker, now) for worker in service.get("workers", ())]
        if rows:
            lines += _table([_HEAD, *rows])
    return "".join(line[:width].rstrip() + "\n" for line in lines)


def _header(service: Mapping[str, Any]) -> str:
    workers = service.get("workers", ())
    ready = sum(worker.get("state") == "ready" for worker in workers)
    listen = ", ".join(_text(url) for url in service.get("listen", ())) or "no address"
    return (
        f"{_text(service.get('name'))} on {listen}: {_text(service.get('state'))}, "
        f"generation {_text(service.get('generation'))}, "
        f"{ready} of {_text(service.get('size'))} workers ready"
    )


def _row(worker: Mapping[str, Any], now: float) -> tuple[str, ...]:
    state = _text(worker.get("state"))
    if worker.get("worn"):
        state += f" ({_text(worker['worn'])})"
    return (
        _text(worker.get("number")),
        _text(worker.get("pid") or None),  # 0: not known yet
        _text(worker.get("generation")),
        state,
        _age(worker.get("age")),
        _text(worker.get("requests")),
        _text(worker.get("connections")),
        _memory(worker.get("memory")),
        _in_hand(worker, now),
    )


def _in_hand(worker: Mapping[str, Any], now: float) -> str:
    count = worker.get("in_flight") or 0
    started = worker.get("request_started")
    if not started:  # none runs; some may wait for their clients
        return f"{count} waiting" if count else ""
    text = f"{_text(worker.get('method'))} {_text(worker.get('path'))}, {now - started:.1f} s"
    return f"{text}, {count - 1} more" if count > 1 else text


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if name in _LEFT else cell.rjust(width)
            for name, cell, width in zip(_HEAD, row, widths, strict=True)
        ]
        lines.append(_GAP + _GAP.join(cells))
    return lines


def _text(value: object) -> str:
    """Printable ASCII."""
    if value is None:
        return "-"
    return log.escape(str(value)).encode("ascii", "backslashreplace").decode()


def _age(seconds: float | None) -> str:
    """ "42s", "5m03s", "3h05m" or "4d02h"."""
    if seconds is None:
        return "-"
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d{hour:02}h"
    if hours:
        return f"{hours}h{minute:02}m"
    return f"{minutes}m{second:02}s" if minutes else f"{second}s"


def _memory(size: int | None) -> str:
    return "-" if size is None else f"{size / (1 << 20):.0f} MiB"
