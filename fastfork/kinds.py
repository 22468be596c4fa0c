"""The sorts of values that settings have: how each is read from text and shown.

Every source of settings (flags, environment, file) brings texts, so there is one way to read each.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

AUTO: Literal["auto"] = "auto"


class ConfigError(ValueError):
    """A setting that cannot be used; its text is one sentence for the person who wrote it."""


class Kind(NamedTuple):
    """How a sort of value is read from text, how it is shown, and what would be right."""

    read: Callable[[str], Any]
    show: Callable[[Any], str]
    right: str


# -- reading and showing values ----------------------------------------------------------
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {"": 1, "k": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mib": 1 << 20,
          "g": 1 << 30, "gib": 1 << 30}  # fmt: skip


def _number_and_unit(text: str) -> tuple[float, str]:
    match = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)", text, re.ASCII)
    if not match:
        raise ValueError(text)
    return float(match[1]), match[2]


def read_duration(text: str) -> float:
    """Seconds from "90s", "5m", "1h", "250ms" or bare seconds.  ValueError if it is neither."""
    number, unit = _number_and_unit(text)
    if unit not in _SECONDS:
        raise ValueError(text)
    return number * _SECONDS[unit]


def show_duration(seconds: float) -> str:
    return f"{seconds:g} s"


def read_size(text: str) -> int:
    """Bytes from "64KiB", "1MiB", "10k" (k, M and G count in 1024s) or bare bytes.

    ValueError if it is neither, or no whole number of bytes.
    """
    number, unit = _number_and_unit(text)
    factor = _BYTES.get(unit.lower())
    if factor is None or not (number * factor).is_integer():
        raise ValueError(text)
    return int(number * factor)


def show_size(size: int) -> str:
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= factor and size % factor == 0:
            return f"{size // factor} {unit}"
    return f"{size} bytes"


def read_count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
        raise ValueError(text)
    return int(text)


def _read_auto_count(text: str) -> int | str:
    return AUTO if text == AUTO else read_count(text)


def _read_switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError(text)
    return text == "on"


def _show_switch(value: bool) -> str:
    return "on" if value else "off"


def _read_mode(text: str) -> int:
    if not re.fullmatch(r"(0o?)?[0-7]{3,4}", text, re.ASCII):
        raise ValueError(text)
    return int(text.removeprefix("0o"), 8)


def _show_mode(mode: int) -> str:
    return f"{mode:04o}"


def _read_text(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError(text)
    return text


def _read_arguments(text: str) -> tuple[str, ...]:
    return tuple(shlex.split(text))


def _read_field_value(text: str) -> str:
    if not re.fullmatch(r"[!-~](?:[ -~]{,198}[!-~])?", text):
        raise ValueError(text)
    return text


def _read_list(text: str) -> tuple[str, ...]:
    items = tuple(item.strip() for item in text.split(","))
    if "" in items:
        raise ValueError(text)
    return items


def _read_peers(text: str) -> tuple[str, ...]:
    peers = _read_list(text) if text else ()
    if "%" in text:  # a zone: peers are told apart by their addresses alone
        raise ValueError(text)
    return tuple(
        peer if peer in ("*", "unix") else str(ipaddress.ip_network(peer)) for peer in peers
    )


FORWARDED_FIELDS = (
    "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port",
    "x-forwarded-prefix", "forwarded",
)  # fmt: skip


def _read_forwarded_fields(text: str) -> tuple[str, ...]:
    names = tuple(name.lower() for name in _read_list(text))
    if not set(names) <= set(FORWARDED_FIELDS):
        raise ValueError(text)
    return names


def _read_pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals or "\0" in text:
        raise ValueError(text)
    return name, value


def _read_variable(text: str) -> tuple[str, str]:
    name, value = _read_pair(text)
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name, re.ASCII):
        raise ValueError(text)
    return name, value


def _read_prefixed(text: str) -> tuple[str, str]:
    prefix, value = _read_pair(text)
    if not re.fullmatch(r"/|(/[^/=?#\s]+)+", prefix) or not value:
        raise ValueError(text)
    return prefix, value


def show_pair(pair: tuple[str, str]) -> str:
    return "=".join(pair)


COUNT = Kind(read_count, str, "a whole number")
AUTO_COUNT = Kind(_read_auto_count, str, '"auto" or a whole number')
DURATION = Kind(read_duration, show_duration, "a duration such as 90s, 5m, 250ms or 2.5 (seconds)")
SIZE = Kind(read_size, show_size, "a size such as 64KiB, 1MiB, 10k or 512 (bytes)")
TEXT = Kind(_read_text, str, "some text")
SWITCH = Kind(_read_switch, _show_switch, "on or off")
MODE = Kind(_read_mode, _show_mode, "three or four octal digits, such as 0660")
FIELD_VALUE = Kind(
    _read_field_value, str, "at most 200 printable ASCII characters without blanks around them")
PEERS = Kind(
    _read_peers, ",".join, "a comma-separated list of addresses and networks (no bits set behind "
    "the prefix), unix, or *, such as 127.0.0.1,10.0.0.0/8,unix")  # fmt: skip
FORWARDED = Kind(
    _read_forwarded_fields, ",".join,
    "a comma-separated list out of " + ", ".join(FORWARDED_FIELDS))  # fmt: skip
ARGUMENTS = Kind(_read_arguments, shlex.join, "arguments as in a shell, quotes closed")
PAIR = Kind(_read_pair, show_pair, "NAME=VALUE")
VARIABLE = Kind(
    _read_variable, show_pair, "NAME=VALUE, the name of letters, digits and underscores")
PREFIXED = Kind(
    _read_prefixed, show_pair, "PREFIX=APP, the prefix / or a path such as /v2 without a slash at "
    "its end")  # fmt: skip


def perhaps(name: str, known: Iterable[str]) -> str:
    """" (perhaps 'x' is meant)", or nothing if no known name is near."""
    import difflib  # only where there is something to complain of

    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (perhaps {near[0]!r} is meant)" if near else ""
