"""A TOML file, read; what is wrong with it in one sentence."""

from __future__ import annotations

import re
import sys
from typing import Any

from fastfork.kinds import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read(path: str) -> dict[str, Any]:
    """What the file at `path` says.  ConfigError, with line and reason."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (OSError, ValueError) as error:  # ValueError: no file can be called that
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path} cannot be read: {reason}.") from None
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: this is not UTF-8 text.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}, {_where_and_why(str(error), data.decode())}.") from None
    except (ValueError, RecursionError) as error:  # a number, a nesting beyond all bounds
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise ConfigError(f"{path} is not usable TOML: {reason}.") from None


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
