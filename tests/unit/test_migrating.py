"""docs/migrating.md names what is there."""

import re
from pathlib import Path

import pytest

from fastfork import import_nova
from fastfork.config import TABLE
from fastfork.import_gunicorn import NAMES

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "migrating.md").read_text()
SECTIONS = dict(re.findall(r"^## From (\S+).*?$(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE))


def cells(section, column):
    """What stands in a column of the table of a section, without its header."""
    rows = [line.split("|") for line in SECTIONS[section].splitlines() if line.startswith("|")]
    return [row[column + 1] for row in rows[2:]]


def names(cell):
    """The names in a cell: `x` and `x = ...`, not the likes of `[x]` and `auto`."""
    found = re.findall(r"`([a-z][a-z_]*)(?: = [^`]*)?`", cell)
    return [name for name in found if name != "auto"]


@pytest.mark.parametrize(
    ("section", "column"), [("gunicorn", 1), ("Nova's", 2), ("uWSGI", 1), ("mod_wsgi", 1)])
def test_settings(section, column):
    named = [name for cell in cells(section, column) for name in names(cell)]
    assert len(named) > 10
    assert set(named) <= set(TABLE)


def test_gunicorn():
    named = [name for cell in cells("gunicorn", 0) for name in names(cell)]
    assert len(named) > 30
    assert set(named) <= set(NAMES)


def test_nova():
    known = {name.option for option in vars(import_nova).values() if isinstance(option, tuple)
             for name in option if isinstance(name, import_nova.Name)}  # fmt: skip
    named = [name for cell in cells("Nova's", 0) for name in names(cell)]
    assert len(named) > 10
    assert set(named) <= known
