"""Files in the ini dialect of oslo.config, as Nova and the other OpenStack services read them.

    [DEFAULT]
    enabled_apis = osapi_compute,     an indented line continues the value above it
        metadata
    my_ip: 10.0.0.1                   = or :, whichever comes first
    metadata_listen = $my_ip          another option; also ${my_ip} and $section.option
    metadata_listen = "10.0.0.2"      the last one holds; quotes around a whole value go

Comments have # or ; as the first character of their line: there are none behind a value, and an
indented one continues the value above it.  Names are case-sensitive, those of sections (but for
DEFAULT, which is written like this) are not.  Of several files the last that has an option holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fastfork.kinds import ConfigError

LONGEST = 16 << 20  # bytes; a nova.conf with all its comments has half a MiB
DEFAULT = "DEFAULT"

Sections = dict[str, dict[str, str]]


class File(NamedTuple):
    path: str
    sections: Sections


class Name(NamedTuple):
    """Where an option may stand."""

    section: str
    option: str

    def __str__(self) -> str:
        return self.option if self.section == DEFAULT else f"[{self.section}] {self.option}"


class Option(NamedTuple):
    """An option as it stands in a file, with nothing substituted."""

    path: str
    name: Name
    value: str

    def __str__(self) -> str:
        return f"{self.path}: {self.name}"


# -- reading -----------------------------------------------------------------------------
def read(path: str) -> File:
    """ConfigError, one sentence, if it cannot be read or is no such file."""
    try:
        with open(path, "rb") as file:
            data = file.read(LONGEST + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"Cannot read {path!r}: {reason}.") from None
    if len(data) > LONGEST:
        raise ConfigError(f"Cannot read {path!r}: it has more than {LONGEST >> 20} MiB.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"Cannot read {path!r}: it is no text in UTF-8.") from None
    return File(path, parse(text, path))


def parse(text: str, path: str) -> Sections:
    """The sections of a file.  ConfigError names `path`, the line and what is wrong with it."""
    sections: Sections = {}
    section: dict[str, str] | None = None
    name = None  # of the option that an indented line would continue
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        line = line.rstrip()
        where = f"{path}, line {number}"
        if not line:
            name = None
        elif line.startswith((" ", "\t")):
            if section is None or name is None:
                raise ConfigError(
                    f"{where}: it begins with a blank, and above it is no option that it could "
                    "continue.")  # fmt: skip
            section[name] += "\n" + line.lstrip()
        elif line.startswith("["):
            name, section = None, sections.setdefault(_section(line, where), {})
        elif line.startswith(("#", ";")):
            name = None
        else:
            name, value = _assignment(line, where)
            if section is None:
                raise ConfigError(
                    f"{where}: {name!r} stands in no section, write [DEFAULT] above it.")
            section[name] = value
    return sections


def _section(line: str, where: str) -> str:
    if not line.endswith("]"):
        raise ConfigError(f"{where}: {line!r} is no section, it must end with a ].")
    name = line[1:-1]
    if not name:
        raise ConfigError(f"{where}: the section has no name, write [DEFAULT].")
    return name if name == DEFAULT else name.lower()


def _assignment(line: str, where: str) -> tuple[str, str]:
    match = re.match(r"([^=:]*)[=:](.*)", line, re.DOTALL)
    if not match:
        raise ConfigError(
            f"{where}: {_short(line)} is neither an option, NAME = VALUE, nor a [section] nor a "
            "comment.")  # fmt: skip
    name, value = match[1].strip(), match[2].strip()
    if not name:
        raise ConfigError(f"{where}: {_short(line)} has no name, write NAME = VALUE.")
    if value and value[0] in "\"'" and value[-1] == value[0]:
        value = value[1:-1]
    return name, value


def _short(line: str) -> str:
    return repr(line if len(line) <= 60 else line[:57] + "...")


# -- asking ------------------------------------------------------------------------------
class Options:
    """What several files say together."""

    def __init__(self, files: Sequence[File], defaults: Mapping[str, str]) -> None:
        """`defaults` are for options of [DEFAULT] that others may refer to without there being
        one in the files."""
        self._files = files
        self._substituted = 0  # options in the value that is asked for
        self._defaults = defaults

    def find(self, names: Sequence[Name]) -> Option | None:
        """The option that has these names, the newest name first.  A later file goes before an
        earlier one, even if it has an older name."""
        for file in reversed(self._files):
            for name in names:
                value = file.sections.get(name.section, {}).get(name.option)
                if value is not None:
                    return Option(file.path, name, value)
        return None

    def all(self) -> list[Option]:
        """Every option that is in the files, once, in their order."""
        names = dict.fromkeys(
            Name(section, name)
            for file in self._files
            for section, options in file.sections.items()
            for name in options
        )
        return [option for name in names if (option := self.find([name]))]

    def text(self, option: Option) -> str:
        """The value, with what other options say in the place of $name.

        ConfigError if there is no such option in the files, or if they refer to each other in a
        circle.
        """
        self._substituted = 0
        return self._substitute(option, ())

    def _substitute(self, option: Option, inside: tuple[Name, ...]) -> str:
        self._substituted += 1
        if self._substituted > MOST_SUBSTITUTED:
            raise ConfigError(
                f"{option} {option.value!r} is not usable: it is part of a value that refers to "
                f"more than {MOST_SUBSTITUTED} others by way of $.")
        if option.name in inside:
            raise ConfigError(
                f"{option} {option.value!r} is not usable: it refers to itself by way of $.")
        inside = (*inside, option.name)

        def replace(match: re.Match[str]) -> str:
            if match["dollar"]:
                return "$"
            name = match["braced"] or match["bare"]
            return self._refer(option, name, inside)

        return _REFERENCE.sub(replace, option.value)

    def _refer(self, option: Option, name: str, inside: tuple[Name, ...]) -> str:
        """What stands for $name in the value of `option`."""
        section, dot, rest = name.partition(".")
        wanted = Name(section, rest) if dot else Name(option.name.section, name)
        found = self.find([wanted]) or self.find([Name(DEFAULT, name)])
        if found:
            return self._substitute(found, inside)
        if name in self._defaults:
            return self._defaults[name]
        raise ConfigError(
            f"{option} {option.value!r} is not usable: it refers to {name!r}, which is in none of "
            "the files; write what it stands for.")  # fmt: skip


MOST_SUBSTITUTED = 1000  # options in one value
_NAME = r"[A-Za-z_][._A-Za-z0-9]*"
_REFERENCE = re.compile(
    rf"(?P<dollar>\$\$|\\\$)|\$(?P<bare>{_NAME})|\$\{{(?P<braced>{_NAME})\}}")
