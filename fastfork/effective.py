"""`fastfork config`: the settings in effect, and where each comes from.

What is printed is a file that says the same as flags, environment, file and defaults together:
read alone, it gives the same settings.  So paths in it are absolute.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from fastfork import log, terminal, toml_text
from fastfork.config import TABLE, Settings
from fastfork.deployment import DEFAULT, Deployment, ServiceConfig
from fastfork.kinds import PASTE, ConfigError

EXIT_PRINTED = 0


def run(load: Callable[[], Deployment], *, as_json: bool = False) -> int:
    """Print what `load` returns; what it warns of goes to standard error.  ConfigError."""
    wanted = load()
    for sentence in wanted.warnings:
        log.write(f"fastfork: {log.escape(sentence)}\n")
    terminal.show_document(as_json_text(wanted) if as_json else as_toml(wanted))
    return EXIT_PRINTED


def as_toml(wanted: Deployment) -> str:
    """A file that says what `wanted` is.  ConfigError if TOML cannot hold a value."""
    tables: dict[toml_text.Path, dict[str, Any]] = {}
    above: dict[toml_text.Path, list[str]] = {(): [_headline(wanted)]}
    beside: dict[toml_text.Path, str] = {}
    parts: list[tuple[toml_text.Path, str, Settings, Mapping[str, str]]]
    parts = [(("server",), "server", wanted.server, wanted.origins)]
    parts += [(("services", name_of(one)), "service", one.settings, one.origins)
              for one in wanted.services]  # fmt: skip
    for path, scope, settings, origins in parts:
        values = _values(settings, scope)
        tables[path] = {name: value for name, value in values.items() if value is not None}
        unset = [name for name, value in values.items() if value is None]
        above[path] = [f"without a value: {', '.join(unset)}"] if unset else []
        beside.update({(*path, name): origins.get(name, DEFAULT) for name in tables[path]})
    try:
        return toml_text.dumps(tables, above=above, beside=beside)
    except ValueError as error:
        raise ConfigError(f"TOML cannot hold these settings: {error}; --json can.") from None


def as_json_text(wanted: Deployment) -> str:
    """An object with the values and origins of all settings; null for what has no value."""
    answer = {
        "file": wanted.file,
        "server": _described(wanted.server, "server", wanted.origins),
        "services": {
            name_of(one): _described(one.settings, "service", one.origins)
            for one in wanted.services
        },
    }
    return json.dumps(answer, indent=2) + "\n"


def name_of(service: ServiceConfig) -> str:
    """Its name; for that of a command line, one made of what its application is called."""
    if service.name:
        return service.name
    text = service.settings.app or service.settings.mount[0][1]
    if text.startswith(PASTE):
        text = text.partition("#")[2] or "main"
    name = re.sub(r"[^A-Za-z0-9_]+", "_", text.partition("(")[0], flags=re.ASCII)
    return name[:64].strip("_") or "main"


def _headline(wanted: Deployment) -> str:
    return "The settings in effect" + (f", with {wanted.file}" if wanted.file else "")


def _values(settings: Settings, scope: str) -> dict[str, Any]:
    """By name, as a file has them; None for what has no value."""
    found = {}
    for name, row in TABLE.items():
        if row.scope == scope:
            value = vars(settings)[name]
            found[name] = None if value in (None, "") else row.plain(value)
    return found


def _described(settings: Settings, scope: str, origins: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: {"value": value, "from": origins.get(name, DEFAULT)}
        for name, value in _values(settings, scope).items()
    }
