"""A TOML file, read; what is wrong with it in one sentence."""

from __future__ import annotations

import os
import re
import stat
import sys
from typing import Any

from fastfork.kinds import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


LONGEST = 1 << 20  # bytes
DEEPEST = 8  # levels of tables and arrays


def read(path: str) -> dict[str, Any]:
    """What the file at `path` says.  ConfigError, with line and reason.

    It may be asked for by a server that runs, so it must neither wait nor be endless."""
    try:
        data = _read(path)
    except (OSError, ValueError) as error:  # ValueError: no file can be called that
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path} cannot be read: {reason}.") from None
    try:
        document = tomllib.loads(data.decode("utf-8-sig"))  # some editors begin with a mark
        if _is_deep(document):
            raise RecursionError
        return document
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: this is not UTF-8 text.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}, {_where_and_why(str(error), data.decode())}.") from None
    except (ValueError, RecursionError) as error:  # a number, a nesting beyond all bounds
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise ConfigError(f"{path} is not usable TOML: {reason}.") from None


def _read(path: str) -> bytes:
    """OSError or ValueError."""
    if "\0" in path:
        raise ValueError("a path holds no null character")
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is not a regular file")
        data = file.read(LONGEST + 1)
    if len(data) > LONGEST:
        raise ValueError(f"it is longer than {LONGEST >> 10} KiB")
    return data


def _is_deep(document: Any) -> bool:
    """Beyond what any setting needs."""
    level = [document]
    for _ in range(DEEPEST):
        level = [
            value
            for one in level
            if isinstance(one, (dict, list))
            for value in (one.values() if isinstance(one, dict) else one)
        ]
    return bool(level)


def _where_and_why(message: str, text: str) -> str:
    """The parser's "Reason (at line 3, column 5)", or "(at end of document)", with the line in
    front."""
    match = re.fullmatch(r"(.+) \(at (?:line ([0-9]+), column ([0-9]+)|end of document)\)",
                         message, re.DOTALL)  # fmt: skip
    if match is None:
        return f"which is not TOML: {message}"
    why = match[1][:1].lower() + match[1][1:]
    if match[2] is None:
        return f"line {len(text.splitlines())}: {why}, at the end of the file"
    return f"line {match[2]}, column {match[3]}: {why}"
