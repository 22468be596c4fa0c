"""A fastfork.toml in the making: what another server's settings become, and what is left."""

from __future__ import annotations

import contextlib
import os

from fastfork import log, toml_text
from fastfork.config import TABLE
from fastfork.kinds import ConfigError
from fastfork.toml_text import Path, Value

EXIT_WRITTEN = 0
EXIT_UNUSABLE = 2
STDOUT = 1

SERVER: Path = ("server",)
DEFAULTS: Path = ("defaults",)


def service(name: str) -> Path:
    return ("services", name)


class Draft:
    """Nothing is written before `finish`, and nothing at all if there is a fault.

    `source` is what sentences begin with (the file that is imported), `server` whose it is, and
    `output` the file that will be written, None for standard output.
    """

    def __init__(self, server: str, source: str, output: str | None) -> None:
        self.server = server
        self.source = source
        self.output = output
        # Relative paths of the file count from its directory; who redirects standard output does
        # so, as like as not, to a file in the working directory.
        self.place = os.path.dirname(os.path.abspath(output)) if output else os.getcwd()
        self.faults: list[str] = []
        self._left: dict[str, str] = {}
        self._notes: list[str] = []
        self._tables: dict[Path, dict[str, Value]] = {}
        self._above: dict[Path, list[str]] = {}
        self._beside: dict[Path, str] = {}

    # -- what becomes of an option
    def put(self, table: Path, name: str, value: Value, option: str, *why: str) -> None:
        """Set `name` to `value`, from `option`, for the reasons `why` (lines of comment).  What
        fastfork does not take is left."""
        right = _right(name, value)
        if right:
            shown = repr(value) if isinstance(value, str) else str(value)
            self.leave(option, f"{name} = {_cut(shown)} is not usable: it must be {right}")
            return
        where = (*table, name)
        self._tables.setdefault(table, {})[name] = value
        self._beside[where] = option
        if why:
            self._above[where] = list(why)

    def put_default(self, table: Path, name: str, value: Value, option: str, *why: str) -> None:
        """What the other server does where its file has no `option`, and fastfork would not."""
        self.put(table, name, value, f"{option}, {self.server}'s default", *why)

    def leave(self, option: str, reason: str) -> None:
        """`option` has no place in the file, for a reason without a full stop at its end."""
        self._left.setdefault(option, reason)

    def note(self, sentence: str) -> None:
        """Something that whoever imports should know."""
        if sentence not in self._notes:
            self._notes.append(sentence)

    def fault(self, sentence: str) -> None:
        """Something for which nothing can be written."""
        if sentence not in self.faults:
            self.faults.append(sentence)

    def path(self, base: str, text: str) -> str:
        """`text`, a path that counts from `base`, as it must stand in the file."""
        here = os.path.realpath(base) == os.path.realpath(self.place)
        if os.path.isabs(text) or (here and not text.startswith("@")):  # unix:@x is abstract
            return text
        return os.path.normpath(os.path.join(base, text))

    # -- the end
    def finish(self) -> int:
        """Write the file, and what was left to standard error.  The exit status."""
        if not self.faults:
            try:
                _write(self.render(), self.output)
            except ConfigError as error:
                self.fault(str(error))
        for sentence in self.faults or self._remarks():
            log.write(f"fastfork: {log.escape(sentence)}\n")
        return EXIT_UNUSABLE if self.faults else EXIT_WRITTEN

    def render(self) -> str:
        """The text of the file."""
        head = [f"Made by fastfork import-{self.server.lower()} from {self.source}."]
        if self._notes:
            head += ["", *self._notes]
        if self._left:
            head += ["", "Not carried over:"]
            head += [f"- {option}: {reason}" for option, reason in self._left.items()]
        order = sorted(self._tables, key=_rank)
        tables = {path: self._tables[path] for path in order}
        return toml_text.dumps(tables, above={(): head, **self._above}, beside=self._beside)

    def _remarks(self) -> list[str]:
        left = [
            f"{self.source}: {option} is not carried over: {reason}."
            for option, reason in self._left.items()
        ]
        return left + [f"{self.source}: {sentence}" for sentence in self._notes]


def _rank(path: Path) -> int:
    """[server] and [defaults] stand first; the services in the order in which they came."""
    return [SERVER, DEFAULTS].index(path) if path in (SERVER, DEFAULTS) else 2


def _right(name: str, value: Value) -> str:
    """What would be right, if `value` could not be written, or not be read by who reads the
    file."""
    try:
        toml_text.value(value)
    except ValueError:
        return "Unicode"
    try:
        TABLE[name].take(value, name)
    except ConfigError:
        return TABLE[name].right
    return ""


def _cut(text: str) -> str:
    return text if len(text) <= 100 else text[:97] + "..."


def seconds(number: int) -> str:
    """A duration as it is written in the file."""
    return f"{number}s"


def size(number: int) -> str:
    """A size as it is written in the file, from a number of bytes."""
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number and number % factor == 0:
            return f"{number // factor}{unit}"
    return str(number)


def _write(text: str, output: str | None) -> None:
    """ConfigError.  A file that is there already is not touched: somebody may have worked on
    it."""
    data = text.encode()
    try:
        if output is None:
            with open(STDOUT, "wb", closefd=False) as stdout:
                stdout.write(data)
            return
        with open(output, "xb") as file:
            try:
                file.write(data)
                file.flush()
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(output)
                raise
    except FileExistsError:
        raise ConfigError(
            f"{output!r} is there already and is not overwritten; remove it, or name another file."
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        place = "standard output" if output is None else repr(output)
        raise ConfigError(f"Cannot write to {place}: {reason}.") from None
