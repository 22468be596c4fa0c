"""What may be asked at the control socket (docs/control.md): one table, and the check of a
request against it, so that nothing malformed gets as far as the master.  And who asks."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fastfork.kinds import perhaps

MOST_WORKERS = 4096  # of a service
_LONGEST_SHOWN = 100  # characters of what was sent, in a sentence about it


class ControlError(Exception):
    """What the control socket cannot do; its text is one sentence without its full stop."""


class Key(NamedTuple):
    """A key of requests: which values fit, and in words."""

    fits: Callable[[object], bool]
    right: str


class Command(NamedTuple):
    """The keys that its requests may have, and those of which they must have exactly one."""

    keys: tuple[str, ...]
    one_of: tuple[str, ...] = ()


def _is_number(value: object, low: int) -> bool:
    return type(value) is int and low <= value <= MOST_WORKERS  # True is an int too


KEYS: Mapping[str, Key] = {
    "service": Key(lambda value: isinstance(value, str) and value != "", "the name of a service"),
    "workers": Key(lambda value: _is_number(value, 0), f"a whole number from 0 to {MOST_WORKERS}"),
    "by": Key(
        lambda value: _is_number(value, -MOST_WORKERS),
        f"a whole number from -{MOST_WORKERS} to {MOST_WORKERS}"),
    "brief": Key(lambda value: isinstance(value, bool), "true or false"),
}  # fmt: skip

COMMANDS: Mapping[str, Command] = {
    "status": Command(("service", "brief")),
    "reload": Command(("service",)),
    "scale": Command(("service", "workers", "by"), one_of=("workers", "by")),
    "stop": Command(("service",)),
    "restart": Command(("service",)),
}


def read(line: bytes) -> dict[str, Any]:
    """The request in a line of JSON.  ControlError if it is none that can be answered."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise ControlError("a request must be one line of JSON") from None
    if not isinstance(request, dict) or "command" not in request:
        raise ControlError("a request must be an object with a command")
    name = request["command"]
    if not isinstance(name, str) or name not in COMMANDS:
        raise ControlError(f"there is no command {_shown(name)}{_near(name, COMMANDS)}")
    _check(name, COMMANDS[name], {key: request[key] for key in request if key != "command"})
    return request


def _check(name: str, command: Command, given: Mapping[str, Any]) -> None:
    for key, value in given.items():
        if key not in command.keys:
            near = _near(key, command.keys)
            raise ControlError(f"a request to {name} has no key {_shown(key)}{near}")
        if not KEYS[key].fits(value):
            raise ControlError(f"{key!r} must be {KEYS[key].right}, not {_shown(value)}")
    if command.one_of and sum(key in given for key in command.one_of) != 1:
        keys = " or ".join(repr(key) for key in command.one_of)
        raise ControlError(f"a request to {name} must have either {keys}")


def _shown(value: object) -> str:
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, str):
        return repr(value[:_LONGEST_SHOWN])
    return json.dumps(value)[:_LONGEST_SHOWN]


def _near(name: object, known: Mapping[str, Any] | tuple[str, ...]) -> str:
    return perhaps(name[:_LONGEST_SHOWN], known) if isinstance(name, str) else ""


def peer(sock: socket.socket) -> tuple[int, int]:
    """Pid and user of the process at the other end, as the kernel says; pid 0: it is in another
    pid namespace."""
    form = "iII"  # struct ucred, unix(7): pid, user, group
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(form))
    pid, user, _ = struct.unpack(form, data)
    return pid, user
