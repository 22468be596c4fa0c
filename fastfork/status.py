"""`fastfork status`: what running servers say of themselves, as tables."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastfork.client import NoAnswer, NoServer, Refused, Server
from fastfork.terminal import complain, printable, show

EXIT_OK, EXIT_UNANSWERED, EXIT_NONE = 0, 1, 3

_HEAD = ("NO", "PID", "GEN", "STATE", "AGE", "REQUESTS", "CONNS", "MEMORY", "IN HAND")
_LEFT = ("STATE", "IN HAND")  # the others are numbers
_GAP = "  "


def run(
    paths: Sequence[Path], service: str | None, *, as_json: bool = False, nobody: str = ""
) -> int:
    """Ask the servers at `paths` and print what they say, of `service` alone if it is given.
    Returns the exit status; if there is no server, `nobody` is the sentence that says so."""
    keys = {} if service is None else {"service": service}
    texts: list[str] = []
    refusals: list[str] = []
    failed = False
    for path in paths:
        try:
            with Server(path) as server:
                texts.append(_tell(server.ask("status", **keys), as_json))
        except NoServer:
            continue
        except Refused as error:
            refusals.append(f"The server at {path} refuses: {error}.")
        except NoAnswer as error:
            complain(f"The server at {path} does not answer: {error}.")
            failed = True
    show(("" if as_json else "\n").join(texts))
    if service is None or not texts:  # one of several servers has the service, the others refuse
        for sentence in refusals:
            complain(sentence)
            failed = True
    if not texts and not failed:
        complain(nobody)
        return EXIT_NONE
    return EXIT_UNANSWERED if failed else EXIT_OK


def _tell(answer: Mapping[str, Any], as_json: bool) -> str:
    if as_json:
        return json.dumps(answer) + "\n"
    width = shutil.get_terminal_size().columns if _is_terminal() else None
    try:
        return render(answer, time.monotonic(), width)
    except (TypeError, AttributeError, ValueError):  # something else than status() of a service
        raise NoAnswer("it speaks another language") from None


def _is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


# -- tables ------------------------------------------------------------------------------
def render(answer: Mapping[str, Any], now: float, width: int | None = None) -> str:
    """The answer to "status" as text of lines at most `width` characters long.  `now` is a time
    of the clock by which the server's requests were started, time.monotonic()."""
    lines = [
        f"fastfork {printable(answer.get('version'))}, pid {printable(answer.get('pid'))}, "
        f"up {_age(answer.get('uptime'))}" + _file(answer.get("config"))
    ]
    for service in answer.get("services", ()):
        lines.append(_header(service))
        lines += _outcome(service.get("outcome") or {})
        rows = [_row(worker, now) for worker in service.get("workers", ())]
        if rows:
            lines += _table([_HEAD, *rows])
    return "".join(line[:width].rstrip() + "\n" for line in lines)


def _file(path: str | None) -> str:
    return "" if path is None else f", {printable(path)}"


def _header(service: Mapping[str, Any]) -> str:
    workers = service.get("workers", ())
    ready = sum(worker.get("state") == "ready" for worker in workers)
    listen = ", ".join(printable(url) for url in service.get("listen", ())) or "no address"
    return (
        f"{printable(service.get('name'))} on {listen}: {printable(service.get('state'))}, "
        f"generation {printable(service.get('generation'))}, "
        f"{ready} of {printable(service.get('size'))} workers ready"
    )


def _outcome(outcome: Mapping[str, Any]) -> list[str]:
    """What became of the last reload, or of the start if that has failed."""
    number = outcome.get("generation", 1)
    what, generation = "start" if number == 1 else "last reload", printable(number)
    if not outcome.get("ok", True):
        why = printable(outcome.get("why"))
        return [f"{_GAP}{what}: generation {generation} does not serve: {why}"]
    return [] if number == 1 else [f"{_GAP}{what}: generation {generation} serves"]


def _row(worker: Mapping[str, Any], now: float) -> tuple[str, ...]:
    state = printable(worker.get("state"))
    if worker.get("worn"):
        state += f" ({printable(worker['worn'])})"
    return (
        printable(worker.get("number")),
        printable(worker.get("pid") or None),  # 0: not known yet
        printable(worker.get("generation")),
        state,
        _age(worker.get("age")),
        printable(worker.get("requests")),
        printable(worker.get("connections")),
        _memory(worker.get("memory")),
        _in_hand(worker, now),
    )


def _in_hand(worker: Mapping[str, Any], now: float) -> str:
    """What handlers have, what waits for one and what had to wait too long; then the connections
    that it has passed to siblings and got from them."""
    parts = [
        _handlers(worker, now),
        _count(worker, "queued", "queued"),
        _count(worker, "refused", "refused"),
        _count(worker, "handed_out", "handed out"),
        _count(worker, "handed_in", "handed in"),
    ]
    return ", ".join(part for part in parts if part)


def _count(worker: Mapping[str, Any], key: str, what: str) -> str:
    """Nothing where there is nothing to tell, and where an older server does not tell it."""
    number = worker.get(key)
    return f"{printable(number)} {what}" if number else ""


def _handlers(worker: Mapping[str, Any], now: float) -> str:
    """Of several requests the oldest is named."""
    count = worker.get("in_flight") or 0
    started = worker.get("request_started")
    if not started:  # none runs; some may wait, for their clients or for what fastfork waits for
        return f"{count} waiting" if count else ""
    what = f"{printable(worker.get('method'))} {printable(worker.get('path'))}"
    text = f"{what}, {now - started:.1f} s"
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
