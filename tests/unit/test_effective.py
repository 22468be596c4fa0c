import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from configurations import (
    FLAGS,
    VARIABLES_OF_ENVIRONMENT,
    files,
    raw,
    some_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from fastfork import deployment, effective, toml_text, tomlfile
from fastfork.cli import main
from fastfork.config import TABLE
from fastfork.kinds import ConfigError


def load(flags=None, file=None, environ=None, **more):
    return deployment.load(flags or {}, file=file, environ=environ or {}, here=False, **more)


def same(one, other):
    """The names, the settings and their order; not where they come from."""
    return (one.server, [(each.name, each.settings) for each in one.services]) == (
        other.server, [(each.name, each.settings) for each in other.services])


@pytest.mark.parametrize("name", TABLE)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_value_that_is_written_down_is_read_back(name, data):
    row = TABLE[name]
    value = row.take(data.draw(raw(row)), name)
    written = toml_text.dumps({("x",): {name: row.plain(value)}})
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "x.toml"
        path.write_text(written, encoding="utf-8")
        found = tomlfile.read(str(path))["x"][name]
    again = row.take(found, name)
    # (A name that was given twice is there once, with what was said last.)
    assert (dict(again) == dict(value)) if row.named else (again == value)


@settings(max_examples=50, deadline=None)
@given(tables=files(), flags=some_of(FLAGS), environ=some_of(VARIABLES_OF_ENVIRONMENT))
def test_what_is_printed_gives_the_same_settings(tables, flags, environ):
    with tempfile.TemporaryDirectory() as directory:
        first, second = Path(directory) / "etc" / "first.toml", Path(directory) / "second.toml"
        first.parent.mkdir()
        first.write_text(toml_text.dumps(tables), encoding="utf-8")
        wanted = load(flags, str(first), environ)
        assert len(wanted.services) == len(tables) - 2
        second.write_text(effective.as_toml(wanted), encoding="utf-8")
        again = load(file=str(second))
        assert same(wanted, again)
        second.write_text(effective.as_toml(again), encoding="utf-8")
        assert same(wanted, load(file=str(second)))


@pytest.fixture
def printed(tmp_path, monkeypatch, capfdbinary):
    """`printed(*argv)`: what `fastfork config` prints, as text."""
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        assert main(["config", *argv]) == 0
        return capfdbinary.readouterr().out.decode()

    return run


def test_where_each_value_comes_from(printed, tmp_path, monkeypatch):
    (tmp_path / "fastfork.toml").write_text(
        '[server]\npid = "x.pid"\n[defaults]\nbacklog = 5\nenvironment = { A = 1 }\n'
        '[services."a.b"]\napp = "x"\nbind = 1\nenvironment = { B = "\u00fc" }\n')
    monkeypatch.setenv("FASTFORK_KEEP_ALIVE", "5m")
    lines = printed("-w", "3").splitlines()
    for line in [
        f"# The settings in effect, with {tmp_path}/fastfork.toml",
        f'pid = "{tmp_path}/x.pid"  # fastfork.toml [server]',
        "# without a value: ready_fd",
        '[services."a.b"]',
        'app = "x"  # fastfork.toml [services."a.b"]',
        "workers = 3  # flag --workers",
        "backlog = 5  # fastfork.toml [defaults]",
        'keep_alive = "300s"  # environment FASTFORK_KEEP_ALIVE',
        'max_body = "1GiB"  # default',
        "body_min_rate = 500  # default",
        "exclusive = false  # default",
        'environment = { A = "1", B = "\u00fc" }  # fastfork.toml [defaults] and fastfork.toml '
        '[services."a.b"]',
    ]:
        assert line in lines
    assert not any(line.startswith(("chdir", "ready_fd")) for line in lines)


def test_a_command_line_is_printed_as_a_service(printed, tmp_path):
    text = printed("web.main:make('a')", "--chdir", "x", "-b", "unix:s")
    assert '[services.web_main_make]\napp = "web.main:make(\'a\')"  # argument APP\n' in text
    assert f'chdir = "{tmp_path}/x"  # flag --chdir\n' in text
    assert f'bind = ["unix:{tmp_path}/s"]  # flag --bind\n' in text
    (tmp_path / "again.toml").write_text(text)
    (one,) = load(file="again.toml").services
    (before,) = load({"app": "web.main:make('a')", "chdir": "x", "bind": ["unix:s"]}).services
    assert one.settings == before.settings


@pytest.mark.parametrize(
    ("flags", "name"),
    [({"app": "web"}, "web"), ({"app": "paste:x/y.ini#public"}, "public"),
     ({"app": "paste:y.ini"}, "main"), ({"mount": ["/=a.b:c", "/x=d"]}, "a_b_c"),
     ({"app": "\u00fc:\u00fc"}, "main"), ({"app": "a" * 70}, "a" * 64)])  # fmt: skip
def test_names_for_the_service_of_a_command_line(flags, name):
    (one,) = load(flags).services
    assert effective.name_of(one) == name
    assert deployment.SERVICE_NAME.fullmatch(name)


def test_json(printed, tmp_path):
    (tmp_path / "x.toml").write_text('[services.a]\napp = "x"\nbind = [1, 2]\n')
    facts = json.loads(printed("--json", "-c", "x.toml", "--keep-alive", "1m"))
    assert facts["file"] == str(tmp_path / "x.toml")
    assert facts["server"]["pid"] == {"value": None, "from": "default"}
    service = facts["services"]["a"]
    assert service["bind"] == {"value": ["1", "2"], "from": "x.toml [services.a]"}
    assert service["keep_alive"] == {"value": "60s", "from": "flag --keep-alive"}
    assert service["exclusive"] == {"value": False, "from": "default"}
    assert service["chdir"] == {"value": None, "from": "default"}
    assert service["python_path"] == {"value": [], "from": "default"}  # empty is a value too
    assert service["environment"] == {"value": {}, "from": "default"}
    assert {*facts["server"], *service} == set(TABLE)


def test_accounts_of_another_machine_are_printed(printed, sentences):
    assert 'user = "no such"  # flag --user\n' in printed("x", "--user", "no such")
    assert sentences("check", "x", "--user", "no such") == (
        "fastfork: --user 'no such' is not usable: there is no user 'no such'.\n")


@pytest.fixture
def sentences(capfdbinary):
    """`sentences(*argv)`: what a command that is refused says."""

    def run(*argv):
        assert main(argv) == 2
        return capfdbinary.readouterr().err.decode()

    return run


def test_what_is_warned_of_stands_apart(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTFORK_WORKRS", "1")
    assert main(["config", "x", "--json"]) == 0
    captured = capfd.readouterr()
    json.loads(captured.out)
    assert captured.err == ("fastfork: The environment variable FASTFORK_WORKRS is no setting "
                            "(perhaps 'FASTFORK_WORKERS' is meant).\n")  # fmt: skip


def test_what_toml_cannot_hold(capfd):
    wanted = load({"app": "x", "chdir": "/\udcff"})
    with pytest.raises(ConfigError, match=r"TOML cannot hold these settings: .*; --json can\."):
        effective.as_toml(wanted)
    assert json.loads(effective.as_json_text(wanted))["services"]["x"]["chdir"]["value"] == (
        "/\udcff")


def test_a_reader_who_leaves_is_no_error(tmp_path):
    command = f"{sys.executable} -m fastfork config x --json | true; exit ${{PIPESTATUS[0]}}"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(["bash", "-c", command], env={"PYTHONPATH": str(root)}, cwd=tmp_path,
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["config x", "config --schema", "check json:loads"])
def test_an_output_that_cannot_be_written_is_one_sentence(tmp_path, command):
    root = Path(__file__).resolve().parents[2]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fastfork", *command.split()], env={"PYTHONPATH": str(root)},
            cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "fastfork: Cannot write to standard output: No space left on device.\n"
