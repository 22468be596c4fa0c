"""The schema and the documentation: that they are those of the table, and that they are right."""

import json
import re
import shutil
from pathlib import Path

import jsonschema
import pytest
from configurations import files
from hypothesis import given, settings

from fastfork import deployment, describe, tomlfile
from fastfork.cli import main
from fastfork.config import GROUPS, TABLE
from fastfork.kinds import ConfigError

ROOT = Path(__file__).resolve().parents[2]
VALIDATOR = jsonschema.Draft202012Validator(describe.schema())
EXAMPLES = sorted(path for path in (ROOT / "examples").rglob("fastfork.toml"))


def document(text, tmp_path):
    path = tmp_path / "x.toml"
    path.write_text(text)
    return tomlfile.read(str(path))


def test_the_committed_files_are_of_this_table(tmp_path):
    for name in (describe.MARKDOWN, describe.SCHEMA):
        shutil.copy(ROOT / "docs" / name, tmp_path)
    describe.main([str(tmp_path)])
    for name in (describe.MARKDOWN, describe.SCHEMA):
        assert (tmp_path / name).read_text() == (ROOT / "docs" / name).read_text(), "make docs"


def test_what_stands_above_the_tables_is_left_as_it_is():
    text = f"# Mine\n{describe.BELOW}Yesterday\n"
    written = describe.markdown(text)
    assert written.startswith(f"# Mine\n{describe.BELOW}\n### Application\n")
    assert "Yesterday" not in written
    with pytest.raises(ValueError):
        describe.markdown("# Mine\n")


def test_every_setting_is_documented_once():
    text = (ROOT / "docs" / describe.MARKDOWN).read_text()
    for row in TABLE.values():
        (line,) = [line for line in text.splitlines() if line.startswith(f"| `{row.name}`")]
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        assert len(cells) == 7
        assert (row.metavar if row.positional else row.flag) in cells[1]
        assert cells[2] == f"`{row.variable}`"
        assert cells[3] and cells[6].replace("\\|", "|") == row.help
    assert [line[4:] for line in text.splitlines() if line.startswith("### ")] == list(
        GROUPS.values())
    assert list(GROUPS) == [name for name in TABLE if name in GROUPS]  # in the table's order


def test_the_example_of_the_documentation_can_be_used(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / describe.MARKDOWN).read_text()
    example = re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1]
    VALIDATOR.validate(document(example, tmp_path))
    assert len(deployment.load({}, file="x.toml", environ={}).services) == 2


def test_the_schema_is_one(capfdbinary):
    jsonschema.Draft202012Validator.check_schema(describe.schema())
    assert main(["config", "--schema"]) == 0
    text = capfdbinary.readouterr().out.decode()
    assert text == (ROOT / "docs" / describe.SCHEMA).read_text()
    found = json.loads(text)
    names = {*found["properties"]["server"]["properties"],
             *found["$defs"]["service"]["properties"]}  # fmt: skip
    assert names == set(TABLE)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_the_examples_are_valid(path):
    VALIDATOR.validate(tomlfile.read(str(path)))
    assert deployment.load({}, file=str(path), environ={}).services


def test_there_are_examples():
    assert EXAMPLES


def test_every_default_is_valid():
    found = describe.schema()
    rows = {**found["properties"]["server"]["properties"],
            **found["$defs"]["service"]["properties"]}  # fmt: skip
    assert sum("default" in row for row in rows.values()) > 40
    for row in rows.values():
        if "default" in row:
            jsonschema.Draft202012Validator(row).validate(row["default"])


@settings(max_examples=50, deadline=None)
@given(tables=files())
def test_what_can_be_used_is_valid(tables):
    found = {"services": {}}
    for path, table in tables.items():
        (found if len(path) == 1 else found["services"])[path[-1]] = table
    VALIDATOR.validate(found)


@pytest.mark.parametrize(
    "text",
    [
        "workers = 4",
        "[service.a]",
        "[[services]]\napp = 'x'",
        "[services]\na = 1",
        "[services.'a b']\napp = 'x'",
        "[services.-a]\napp = 'x'",
        "[services.a]\napp = 'x'\nmax-head = 1",
        "[services.a]\napp = 'x'\npid = 'x'",
        "[server]\nworkers = 4",
        "[server]\nlog_level = 'loud'",
        "[defaults]\nlog_level = 'info'",
        "[services.a]\napp = 'x'\nmount = { '/' = 'y' }",
        "[services.a]\napp = ''",
        "[services.a]\nworkers = 0",
        "[services.a]\nworkers = 'many'",
        "[services.a]\nworkers = 2.5",
        "[services.a]\nworkers = 4097",
        "[services.a]\nkeep_alive = 'soon'",
        "[services.a]\nkeep_alive = 0",
        "[services.a]\nkeep_alive = -1",
        "[services.a]\nkeep_alive = [1]",
        "[services.a]\nmax_head = '64KB'",
        "[services.a]\nmax_head = 1",
        "[services.a]\nexclusive = 'yes'",
        "[services.a]\nexclusive = 1",
        "[services.a]\npreload = 'perhaps'",
        "[services.a]\nheader_map = true",
        "[services.a]\nsocket_mode = 432",
        "[services.a]\nsocket_mode = '0999'",
        "[services.a]\nbind = 3.5",
        "[services.a]\nbind = [[]]",
        "[services.a]\nchdir = true",
        "[services.a]\nserver_header = ' x'",
        "[services.a]\npyargv = [1]",
        "[services.a]\nforwarded_fields = []",
        "[services.a]\nenvironment = 5",
        "[services.a]\nenvironment = { '1A' = 'x' }",
        "[services.a]\nenvironment = { A = true }",
        "[services.a]\nenvironment = ['A']",
        "[services.a]\nglobal_conf = { 'a=b' = 'x' }",
        "[services.a]\nmount = { 'v1' = 'x' }",
        "[services.a]\nmount = { '/v1/' = 'x' }",
    ],
)
def test_what_cannot_be_used_is_not_valid(text, tmp_path):
    """By the schema, and by the server too."""
    assert not VALIDATOR.is_valid(document(text, tmp_path))
    # as it would be if nothing else was missing
    with pytest.raises(ConfigError) as caught:
        deployment.load({}, file=str(tmp_path / "x.toml"), environ={})
    assert not all("app is missing" in sentence for sentence in caught.value.sentences)
