"""The sorts of values that settings have: how each is read, shown, and written down again.

Flags and the environment bring texts, and a file can have any value as a text too, so there is
one way to read each.  What else a file may have (numbers, arrays) is the business of `take`.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shlex
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple, NoReturn

AUTO: Literal["auto"] = "auto"
PASTE = "paste:"  # applications that a paste file describes
UNIX = "unix:"  # addresses that are paths


class ConfigError(ValueError):
    """Settings that cannot be used.  `sentences`: one for each fault, for the person who wrote
    them; as text, one per line."""

    def __init__(self, *sentences: str) -> None:
        super().__init__(*sentences)
        self.sentences = sentences

    def __str__(self) -> str:
        return "\n".join(self.sentences)


def only_text(value: object) -> NoReturn:
    raise ValueError(value)


def _same(value: Any) -> Any:
    return value


class Kind(NamedTuple):
    """How a sort of value is read from text, how it is shown, and what would be right.

    `take` is for what a file has that is no text; ValueError if it means nothing here.  `plain`
    is the value as a file has it, so that reading it gives the same value again.  `anchor` makes
    it independent of the directory that its relative paths count from.  `beyond` is a value that is
    right whatever the bounds are.
    """

    read: Callable[[str], Any]
    show: Callable[[Any], str]
    right: str
    take: Callable[[object], Any] = only_text
    plain: Callable[[Any], Any] = _same
    anchor: Callable[[Any, str], Any] | None = None
    beyond: float | None = None


# -- reading and showing values ----------------------------------------------------------
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_NANO = 9  # decimals of a second; finer is nothing that a text has to hold
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
    return round(number * _SECONDS[unit], _NANO)


def _read_duration_or_off(text: str) -> float:
    return 0.0 if text == "off" else read_duration(text)


def _show_duration_or_off(seconds: float) -> str:
    return show_duration(seconds) if seconds else "off"


def _exact_duration_or_off(seconds: float) -> str:
    return exact_duration(seconds) if seconds else "off"


def show_duration(seconds: float) -> str:
    return f"{seconds:g} s"


def exact_duration(seconds: float) -> str:
    """ "90s": the text that `read_duration` makes the same number of."""
    return f"{seconds:.{_NANO}f}".rstrip("0").removesuffix(".") + "s"


def _take_duration(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e18:
        raise ValueError(value)  # not a number is none of these either
    return round(float(value), _NANO)


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


def exact_size(size: int) -> str | int:
    """ "64KiB": the text that `read_size` makes the same number of, or the number of bytes."""
    return size if size % 1024 or not size else show_size(size).replace(" ", "")


def _take_whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(value)
    return value


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


def show_switch(value: bool) -> str:
    return "on" if value else "off"


def _take_switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(value)
    return value


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


def _take_number_as_text(value: object) -> str:
    """A port, a uid: what is a number to whoever writes it."""
    return str(_take_whole(value))


def _take_texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(value)
    return tuple(value)


def _read_arguments(text: str) -> tuple[str, ...]:
    return _no_nul(shlex.split(text))


def _take_arguments(value: object) -> tuple[str, ...]:
    return _no_nul(_take_texts(value))


def _no_nul(texts: Iterable[str]) -> tuple[str, ...]:
    texts = tuple(texts)
    if any("\0" in text for text in texts):
        raise ValueError(texts)
    return texts


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
    return _peers(_read_list(text) if text else ())


def _take_peers(value: object) -> tuple[str, ...]:
    return _peers(_take_texts(value))


def _peers(peers: Iterable[str]) -> tuple[str, ...]:
    return tuple(peer if peer in ("*", "unix") else _network(peer) for peer in peers)


def _network(text: str) -> str:
    if "%" in text:  # a zone: peers are told apart by their addresses alone
        raise ValueError(text)
    return str(ipaddress.ip_network(text))


FORWARDED_FIELDS = (
    "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port",
    "x-forwarded-prefix", "forwarded",
)  # fmt: skip


def _read_forwarded_fields(text: str) -> tuple[str, ...]:
    return _forwarded_fields(_read_list(text))


def _take_forwarded_fields(value: object) -> tuple[str, ...]:
    return _forwarded_fields(_take_texts(value))


def _forwarded_fields(texts: Iterable[str]) -> tuple[str, ...]:
    names = tuple(name.lower() for name in texts)
    if not names or not set(names) <= set(FORWARDED_FIELDS):
        raise ValueError(texts)
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
    if not re.fullmatch(r"/|(/[^/=?#%\s]+)+", prefix) or not value:
        raise ValueError(text)
    return prefix, value


def show_pair(pair: tuple[str, str]) -> str:
    return "=".join(pair)


def _take_pair(value: object) -> tuple[str, str]:
    """A name and its value, from a table; the value may be a whole number."""
    if not isinstance(value, tuple):
        raise ValueError(value)
    name, content = value
    text = content if isinstance(content, str) else _take_number_as_text(content)
    if "=" in name:
        raise ValueError(value)
    return name, text


def _pair(read: Callable[[str], tuple[str, str]], right: str,
          anchor: Callable[[Any, str], Any] | None = None) -> Kind:  # fmt: skip
    """A kind of NAME=VALUE; `take` gets (NAME, VALUE), as tables have them."""
    return Kind(read, show_pair, right, lambda value: read(show_pair(_take_pair(value))),
                anchor=anchor)  # fmt: skip


# -- relative paths ----------------------------------------------------------------------
def _path_or(*words: str) -> Callable[[str, str], str]:
    """An `anchor` for paths, beside which `words` mean something else."""

    def anchor(text: str, base: str) -> str:
        return text if text in words else _absolute(text, base)

    return anchor


def _absolute(path: str, base: str) -> str:
    return path if os.path.isabs(path) else os.path.normpath(os.path.join(base, path))


def _anchor_application(text: str, base: str) -> str:
    if not text.startswith(PASTE):
        return text
    file, mark, name = text.removeprefix(PASTE).partition("#")
    return PASTE + (_absolute(file, base) if file else "") + mark + name


def _anchor_prefixed(pair: tuple[str, str], base: str) -> tuple[str, str]:
    return pair[0], _anchor_application(pair[1], base)


def _anchor_address(text: str, base: str) -> str:
    path = text.removeprefix(UNIX)
    if path == text or not path or path.startswith("@"):
        return text
    return UNIX + _absolute(path, base)


COUNT = Kind(read_count, str, "a whole number", _take_whole)
AUTO_COUNT = Kind(_read_auto_count, str, '"auto" or a whole number', _take_whole)
DURATION = Kind(
    read_duration, show_duration, "a duration such as 90s, 5m, 250ms or 2.5 (seconds)",
    _take_duration, exact_duration)  # fmt: skip
DURATION_OR_OFF = Kind(
    _read_duration_or_off, _show_duration_or_off,
    '"off" or a duration such as 5ms, 2s or 0.25 (seconds)', _take_duration,
    _exact_duration_or_off, beyond=0.0)  # fmt: skip
SIZE = Kind(
    read_size, show_size, "a size such as 64KiB, 1MiB, 10k or 512 (bytes)",
    _take_whole, exact_size)  # fmt: skip
TEXT = Kind(_read_text, str, "some text")
APPLICATION = Kind(_read_text, str, "some text", anchor=_anchor_application)
ADDRESS = Kind(
    _read_text, str, "an address or a port", _take_number_as_text, anchor=_anchor_address)
ACCOUNT = Kind(_read_text, str, "a name or a number", _take_number_as_text)
PATH = Kind(_read_text, str, "a path", anchor=_path_or())
CONTROL_PATH = Kind(_read_text, str, "a path, auto or none", anchor=_path_or(AUTO, "none"))
LOG_PATH = Kind(_read_text, str, "a path or -", anchor=_path_or("-"))
SWITCH = Kind(_read_switch, show_switch, "on or off", _take_switch)
# No numbers: in a file, 0o640 and 416 are the same, and 640 is something else.
MODE = Kind(_read_mode, _show_mode, "three or four octal digits, such as 0660", plain=_show_mode)
FIELD_VALUE = Kind(
    _read_field_value, str, "at most 200 printable ASCII characters without blanks around them")
PEERS = Kind(
    _read_peers, ",".join, "a comma-separated list of addresses and networks (no bits set behind "
    "the prefix), unix, or *, such as 127.0.0.1,10.0.0.0/8,unix", _take_peers, list)  # fmt: skip
FORWARDED = Kind(
    _read_forwarded_fields, ",".join,
    "a comma-separated list out of " + ", ".join(FORWARDED_FIELDS),
    _take_forwarded_fields, list)  # fmt: skip
ARGUMENTS = Kind(
    _read_arguments, shlex.join, "arguments as in a shell, quotes closed", _take_arguments, list)
PAIR = _pair(_read_pair, "NAME=VALUE")
VARIABLE = _pair(_read_variable, "NAME=VALUE, the name of letters, digits and underscores")
PREFIXED = _pair(
    _read_prefixed, "PREFIX=APP, the prefix / or a path such as /v2 without a slash at its end and "
    "without percent escapes",
    _anchor_prefixed)  # fmt: skip
PAIRS = (PAIR, VARIABLE, PREFIXED)


def perhaps(name: str, known: Iterable[str]) -> str:
    """" (perhaps 'x' is meant)", or nothing if no known name is near."""
    import difflib  # only where there is something to complain of

    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (perhaps {near[0]!r} is meant)" if near else ""
