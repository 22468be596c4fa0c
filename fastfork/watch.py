"""What the master makes of what a worker does: is it too late, stuck, worn, too large?

Pure: facts and times go in, a finding comes out.  Times are seconds of time.monotonic.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, NamedTuple

from fastfork.config import Settings
from fastfork.kinds import show_size

KILL_FACTOR = 2  # times max_memory: a worker is not waited for any more


class Act(enum.Enum):
    TIME_OUT = "time out"  # raise RequestTimeout in the running handler
    KILL = "kill"
    WEAR = "wear"  # replace it, in good order


class Finding(NamedTuple):
    act: Act
    why: str
    may_end: bool = True  # a reason to kill: it is none any more when the worker goes on


def request_told(facts: Mapping[str, Any], now: float) -> str:
    """ "GET /x, 3.2 s old, request 12-7", or nothing if no handler runs."""
    if not facts["request_started"]:
        return ""
    age = max(0.0, now - facts["request_started"])
    return f"{facts['method']} {facts['path']}, {age:.1f} s old, request {facts['request_id']}"


def judge_request(settings: Settings, facts: Mapping[str, Any], now: float) -> Finding | None:
    """The deadline of the running handler."""
    deadline = facts["deadline"]
    if not deadline or now < deadline:
        return None
    limits = f"is beyond request_timeout ({settings.request_timeout:g} s)"
    request = request_told(facts, now)
    if now < deadline + settings.request_grace:
        return Finding(Act.TIME_OUT, f"{request}, {limits}")
    return Finding(
        Act.KILL, f"{request}, {limits} and request_grace ({settings.request_grace:g} s)")


def judge_life(
    settings: Settings, facts: Mapping[str, Any], ready_since: float, stopped: bool, now: float
) -> Finding | None:
    """Its signs of life.  In a request a worker gives none, and may take what time it likes,
    unless somebody has stopped it (SIGSTOP)."""
    silence = now - max(facts["heartbeat"], ready_since)
    if not settings.liveness_timeout or silence <= settings.liveness_timeout:
        return None
    if stopped:
        request = request_told(facts, now)
        return Finding(Act.KILL, "it has been stopped by a signal, no sign of life for "
                       f"{silence:.1f} s" + (f" in {request}" if request else ""))  # fmt: skip
    if facts["request_started"]:
        return None
    return Finding(Act.KILL, f"no sign of life for {silence:.1f} s outside a request")


def judge_wear(
    settings: Settings, facts: Mapping[str, Any], most_requests: int, age: float
) -> Finding | None:
    if most_requests and facts["requests"] >= most_requests:
        return Finding(Act.WEAR, f"{facts['requests']} requests (max_requests)")
    if settings.max_lifetime and age >= settings.max_lifetime:
        return Finding(Act.WEAR, f"it is {age:.0f} s old (max_lifetime)")
    return None


def judge_memory(settings: Settings, used: int | None) -> Finding | None:
    limit = settings.max_memory
    if not limit or used is None or used <= limit:
        return None
    if used > KILL_FACTOR * limit:
        return Finding(Act.KILL, f"it uses {_mib(used)}, more than twice max_memory "
                       f"({show_size(limit)})", may_end=False)  # fmt: skip
    return Finding(Act.WEAR, f"it uses {_mib(used)} (max_memory)")


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"
