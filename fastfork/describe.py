"""What the settings table says, for people and for editors: the tables of docs/configuration.md and
the JSON schema of fastfork.toml (draft 2020-12).

    python -m fastfork.describe docs

writes both into the directory docs; what stands above the tables is left as it is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastfork import deployment, kinds
from fastfork.config import GROUPS, TABLE, Setting
from fastfork.kinds import Kind

MARKDOWN = "configuration.md"
SCHEMA = "fastfork.schema.json"
BELOW = "<!-- from here on written by `make docs` -->\n"
DRAFT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


def run() -> int:
    """`fastfork config --schema`."""
    from fastfork import terminal
    from fastfork.effective import EXIT_PRINTED

    terminal.show_document(schema_text())
    return EXIT_PRINTED


def main(argv: Sequence[str]) -> int:
    """Write both files into a directory."""
    directory = Path(argv[0] if argv else "docs")
    page = directory / MARKDOWN
    page.write_text(markdown(page.read_text(encoding="utf-8")), encoding="utf-8")
    (directory / SCHEMA).write_text(schema_text(), encoding="utf-8")
    return 0


# -- kinds of values ---------------------------------------------------------------------
class _Type(NamedTuple):
    """What a kind is called in the documentation, and what TOML has for one value of it.  What
    is bounded by numbers gets the bounds of its row."""

    word: str
    schemas: tuple[Schema, ...]


_DIGITS: Schema = {"type": "string", "pattern": "^[0-9]{1,18}$"}
_NUMBER = r"[0-9]{1,18}(\.[0-9]{1,9})?\s*"
_SOME_TEXT: Schema = {"type": "string", "minLength": 1}
_TEXTS: Schema = {"type": "array", "items": {"type": "string"}}
_NAMED = "^[^=]+="

_TYPES: dict[Kind, _Type] = {
    kinds.COUNT: _Type("number", ({"type": "integer"}, _DIGITS)),
    kinds.AUTO_COUNT: _Type("number or `auto`", ({"const": "auto"}, {"type": "integer"}, _DIGITS)),
    kinds.DURATION: _Type("duration", (
        {"type": "number"}, {"type": "string", "pattern": f"^{_NUMBER}(ms|s|m|h)?$"})),
    kinds.DURATION_OR_OFF: _Type("duration or `off`", (
        {"enum": ["off", 0]}, {"type": "number"},
        {"type": "string", "pattern": f"^{_NUMBER}(ms|s|m|h)?$"})),
    kinds.SIZE: _Type("size", (
        {"type": "integer"},
        {"type": "string", "pattern": f"^{_NUMBER}([kKmMgG]([iI][bB])?)?$"})),
    kinds.TEXT: _Type("text", (_SOME_TEXT,)),
    kinds.APPLICATION: _Type("application", (_SOME_TEXT,)),
    kinds.ADDRESS: _Type("address", (_SOME_TEXT, {"type": "integer"})),
    kinds.ACCOUNT: _Type("name or number", (_SOME_TEXT, {"type": "integer"})),
    kinds.PATH: _Type("path", (_SOME_TEXT,)),
    kinds.CONTROL_PATH: _Type("path, `auto` or `none`", (_SOME_TEXT,)),
    kinds.LOG_PATH: _Type("path or `-`", (_SOME_TEXT,)),
    kinds.SWITCH: _Type("switch", ({"type": "boolean"}, {"enum": ["on", "off"]})),
    kinds.MODE: _Type("octal digits", ({"type": "string", "pattern": "^(0o?)?[0-7]{3,4}$"},)),
    kinds.FIELD_VALUE: _Type("text", (
        {"type": "string", "pattern": "^[!-~]([ -~]{0,198}[!-~])?$"},)),
    kinds.PEERS: _Type("addresses and networks", ({"type": "string"}, _TEXTS)),
    kinds.FORWARDED: _Type("field names", (_SOME_TEXT, {**_TEXTS, "minItems": 1})),
    kinds.ARGUMENTS: _Type("arguments", ({"type": "string"}, _TEXTS)),
    kinds.PAIR: _Type("names and values", ({"type": "string", "pattern": _NAMED},)),
    kinds.VARIABLE: _Type("names and values", (
        {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*="},)),
    kinds.PREFIXED: _Type("prefixes and applications", (
        {"type": "string", "pattern": r"^(/|(/[^/=?#%\s]+)+)=[\s\S]"},)),
}  # fmt: skip
_NAMES: dict[Kind, str] = {
    kinds.PAIR: "^[^=]+$",
    kinds.VARIABLE: "^[A-Za-z_][A-Za-z0-9_]*$",
    kinds.PREFIXED: r"^(/|(/[^/=?#%\s]+)+)$",
}


# -- the schema --------------------------------------------------------------------------
def schema_text() -> str:
    return json.dumps(schema(), indent=2) + "\n"


def schema() -> Schema:
    """What a file may look like.  It does not know what only shows when all tables are merged, nor
    whether what is named is there."""
    return {
        "$schema": DRAFT,
        "title": deployment.FILE,
        "description": "Configuration of fastfork, a pre-fork WSGI server.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "server": {**_table("server"), "description": "The server as a whole."},
            "defaults": {
                "$ref": "#/$defs/service", "description": "What holds for every service."},
            "services": {
                "description": "The services, by name.",
                "type": "object",
                "propertyNames": {"pattern": f"^{deployment.SERVICE_NAME.pattern}$"},
                "additionalProperties": {"$ref": "#/$defs/service"},
            },
        },
        "$defs": {"service": {**_table("service"), "not": {"required": ["app", "mount"]}}},
    }  # fmt: skip


def _table(scope: str) -> Schema:
    rows = [row for row in TABLE.values() if row.scope == scope]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {row.name: _row(row) for row in rows},
    }


def _row(row: Setting) -> Schema:
    schemas = _one(row)
    if row.many:
        item = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        schemas = [*schemas, {"type": "array", "items": item}]
    if row.named:
        schemas = [{
            "type": "object",
            "propertyNames": {"pattern": _NAMES[row.kind]},
            "additionalProperties": {"type": ["string", "integer"]},
        }, *schemas]  # fmt: skip
    described: Schema = {"description": row.help}
    if row.default not in (None, ""):
        described["default"] = row.plain(row.default)
    return {**described, **(schemas[0] if len(schemas) == 1 else {"anyOf": schemas})}


def _one(row: Setting) -> list[Schema]:
    """What one value of the row may be."""
    if row.choices:
        switch = [True, False] if "on" in row.choices else []
        return [{"enum": [*row.choices, *switch]}]
    bounds = {
        word: bound for word, bound in (("minimum", row.low), ("maximum", row.high))
        if bound is not None
    }  # fmt: skip
    return [
        {**one, **bounds} if one.get("type") in ("integer", "number") else one
        for one in _TYPES[row.kind].schemas
    ]


# -- the documentation -------------------------------------------------------------------
def markdown(text: str) -> str:
    """The documentation, with what stands below `BELOW` written anew.  ValueError if there is no
    such line."""
    return text[: text.index(BELOW) + len(BELOW)] + "".join(_groups())


def _groups() -> Iterator[str]:
    for row in TABLE.values():
        if row.name in GROUPS:
            yield f"\n### {GROUPS[row.name]}\n\n"
            yield "| key | flag | environment | type | default | bounds | meaning |\n"
            yield "|---|---|---|---|---|---|---|\n"
        yield _line(row)


def _line(row: Setting) -> str:
    flag = row.metavar if row.positional else row.flag
    flags = f"`{row.short}`, `{flag}`" if row.short else f"`{flag}`"
    server = " (in `[server]`)" if row.scope == "server" else ""
    cells = (
        f"`{row.name}`{server}", flags, f"`{row.variable}`", _type(row), _default(row),
        _bounds(row), row.help,
    )  # fmt: skip
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _type(row: Setting) -> str:
    if row.choices:
        return ", ".join(f"`{choice}`" for choice in row.choices)
    word = _TYPES[row.kind].word
    return f"list: {word}" if row.many and not row.named else word


def _default(row: Setting) -> str:
    if row.default in (None, "", ()):
        return ""
    return f"`{row.kind.show(row.default)}`"


def _bounds(row: Setting) -> str:
    show = row.kind.show
    if row.low is None or row.high is None:
        return ""
    return f"{show(row.low)} to {show(row.high)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
