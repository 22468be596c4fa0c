"""TOML, written: what tomllib reads back as it was, with comments.

    dumps({("server",): {"pid": "/run/x.pid"}, ("services", "a.b"): {"workers": 4}},
          above={("server",): ["for all services"]},
          beside={("services", "a.b", "workers"): "default"})

    # for all services
    [server]
    pid = "/run/x.pid"

    [services."a.b"]
    workers = 4  # default

Whatever a string or a comment holds, it stays where it was put: nothing in it ends a line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Value: TypeAlias = "str | int | float | bool | Sequence[Value] | Mapping[str, Value]"
Path: TypeAlias = "tuple[str, ...]"

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def dumps(
    tables: Mapping[Path, Mapping[str, Value]],
    *,
    above: Mapping[Path, Sequence[str]] | None = None,
    beside: Mapping[Path, str] | None = None,
) -> str:
    """A document of `tables` in their order, each with the path of its header; that with the
    path () has none, and must come first.

    `above` are lines of comment above a table or a key, which is found by the path of its table
    and its name ("server", "pid"); those of () stand at the head of the document.  `beside` is
    a comment behind a table's header or a key's value.

    ValueError if a string is not Unicode (lone surrogates), an integer has more than 64 bits, or
    a name is that of a table and a key, TypeError for values that are none of `Value`.
    """
    _check_names(tables)
    above, beside = above or {}, beside or {}
    head = _comments(above.get((), ()))
    blocks = [head] if head else []
    for path, entries in tables.items():
        lines = []
        if path:
            header = f"[{'.'.join(map(_key, path))}]"
            lines += [*_comments(above.get(path, ())), header + _beside(beside.get(path))]
        for name, given in entries.items():
            where = (*path, name)
            lines += _comments(above.get(where, ()))
            lines.append(f"{_key(name)} = {value(given)}{_beside(beside.get(where))}")
        if lines:
            blocks.append(lines)
    return "\n".join("".join(f"{line}\n" for line in lines) for lines in blocks)


def value(given: Value) -> str:
    """`given` as it stands behind a key's "=", on one line; mappings are inline tables."""
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, str):
        return _string(given)
    if isinstance(given, int):
        if not -(1 << 63) <= given < 1 << 63:
            raise ValueError(f"integers of TOML have 64 bits: {given}")
        return str(given)
    if isinstance(given, float):
        return repr(given)
    if isinstance(given, Mapping):
        pairs = ", ".join(f"{_key(name)} = {value(item)}" for name, item in given.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(given, (list, tuple)):
        return f"[{', '.join(map(value, given))}]"
    raise TypeError(f"TOML has no {type(given).__name__}: {given!r}")


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _string(name)


def _string(text: str) -> str:
    return f'"{"".join(map(_character, text))}"'


def _character(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    if character.isprintable():
        return character
    code = ord(character)
    if 0xD800 <= code < 0xE000:
        raise ValueError(f"no character of Unicode: U+{code:04X}")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _comments(lines: Sequence[str]) -> list[str]:
    return [f"# {_shown(line)}".rstrip() for line in lines]


def _beside(comment: str | None) -> str:
    return f"  # {_shown(comment)}" if comment else ""


def _shown(comment: str) -> str:
    """Nothing that is no printable character gets into a comment as it is.  It is not read by
    programs: escapes in it need not be told from what looks like one."""
    return "".join(one if one.isprintable() else _escape(one) for one in comment)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _check_names(tables: Mapping[Path, Mapping[str, Value]]) -> None:
    """What would be two things of one name, or a key of another table than it was given for."""
    keys = {(*path, name) for path, entries in tables.items() for name in entries}
    for number, path in enumerate(tables):
        if number and not path:
            raise ValueError("what has no header must come first")
        for length in range(1, len(path) + 1):
            if path[:length] in keys:
                raise ValueError(f"both a table and a key: {'.'.join(path[:length])}")
