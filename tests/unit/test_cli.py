import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastfork
from fastfork import __version__, cli, config
from fastfork.cli import main
from fastfork.config import Settings

ROOT = Path(__file__).resolve().parents[2]


def everything(wanted):
    """The settings of the server and of its only service, in one."""
    (service,) = wanted.services
    of = {"server": wanted.server, "service": service.settings}
    return Settings(**{row.name: vars(of[row.scope])[row.name] for row in config.TABLE.values()})


@pytest.fixture
def settings(monkeypatch):
    """`settings(*flags)`: what the server would be started with."""
    seen = []
    monkeypatch.setattr(cli, "_serve", lambda load: seen.append(everything(load())) or 0)

    def parse(*argv):
        seen.clear()
        assert main(["serve", "hello:app", *argv]) == 0
        return seen[0]

    return parse


@pytest.fixture
def sentence(capfd):
    """`sentence(*argv)`: the one sentence with which a command line is refused."""

    def refused(*argv):
        assert main(argv) == 2
        captured = capfd.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("fastfork: ") and captured.err.endswith(".\n")
        assert captured.err.count("\n") == 1
        return captured.err[len("fastfork: ") : -1]

    return refused


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"fastfork {__version__}\n"


def test_every_setting_has_its_flag(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for row in config.TABLE.values():
        assert row.positional or row.flag in text
    assert "(default: 64 KiB)" in text and "(default: 75 s)" in text
    assert "(default: auto)" in text and "else 127.0.0.1:8000)" in text


def test_defaults(settings):
    assert settings() == config.load({"app": "hello:app"})


def test_flags(settings):
    given = settings(
        "-w", "3", "-b", "127.0.0.1:0", "--bind=unix:/x", "--chdir", "/srv", "--keep-alive", "5m",
        "--max-body", "10MiB", "--access-log", "-", "--access-log-format", "common",
        "--log-level", "debug", "--ready-fd", "7")  # fmt: skip
    assert given.workers == 3
    assert given.bind == ("127.0.0.1:0", "unix:/x")
    assert given.chdir == "/srv"
    assert given.keep_alive == 300
    assert given.max_body == 10 << 20
    assert (given.access_log, given.access_log_format) == ("-", "common")
    assert given.log_level == "debug"
    assert given.ready_fd == 7


@pytest.mark.parametrize("argv", [["--pyargv", "--config x"], ["--pyargv=--config x"],
                                  ["--pyargv", "--config 'x'"]])  # fmt: skip
def test_pyargv_may_look_like_flags(settings, argv):
    assert settings(*argv).pyargv == ("--config", "x")


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ([], "required: COMMAND"),
        (["server"], "no command 'server' (perhaps 'serve' is meant)"),
        (["serve"], "There is nothing to serve"),
        (["serve", "a:b", "-w"], "expected one argument"),
        (["serve", "a:b", "-w", "-1"], "--workers '-1' is not usable"),
        (["serve", "a:b", "-w", "zero"], "--workers 'zero' is not usable"),
        (["serve", "a:b", "--worker", "2"],
         "no flag or argument '--worker' (perhaps '--workers' is meant)"),
        (["serve", "a:b", "--frobnicate=3"], "no flag or argument '--frobnicate', see"),
        (["serve", "a:b", "c:d"], "no flag or argument 'c:d'"),
        (["serve", "a:b", "--max-head", "1KB"], "--max-head '1KB' is not usable"),
        (["serve", "a:b", "--bind", "nowhere"], "--bind 'nowhere' is not an address"),
        (["serve", "a.py", "--bind", "127.0.0.1:0"], "APP 'a.py' is not usable"),
        (["serve", "a:b", "--ready-fd", "99999"], "--ready-fd 99999 is not usable"),
        (["serve", "a:b\x1b[31m"], r"a:b\x1b"),
        (["serve", "--only", "a", "a:b"], "--only needs a file with services"),
        (["serve", "a:b", "--timeout=30"], "(perhaps '--request-timeout' is meant)"),
        (["check", "a:b", "-k", "gevent"], "(perhaps '--green' or '--threads' is meant)"),
        (["status", "-k"], "no flag or argument '-k', see fastfork status --help"),
        (["serve", "a:b", "--onyl=a"], "no flag or argument '--onyl' (perhaps '--only' is"),
        (["check", "a:b", "--worker", "2"],
         "no flag or argument '--worker' (perhaps '--workers' is meant), see fastfork check"),
        (["check"], "There is nothing to serve"),
        (["config"], "There is nothing to serve"),
        (["config", "a:b", "--jsn"], "no flag or argument '--jsn' (perhaps '--json' is meant)"),
        (["config", "--json", "--schema"], "not allowed with argument --json"),
        (["config", "-c", "/none.toml"], "/none.toml cannot be read: No such file or directory"),
        (["import-nova"], "required: FILE"),
        (["import-nova", "x", "--outptu=y"], "(perhaps '--output' is meant), see fastfork import"),
        (["import-gunicorn", "x", "y"], "no flag or argument 'y', see fastfork import-gunicorn"),
        (["status", "1", "2"], "no flag or argument '2', see fastfork status --help"),
        (["status", "--contrl=/x"], "no flag or argument '--contrl' (perhaps '--control' is"),
    ],
)
def test_bad_command_lines(sentence, argv, text):
    assert text in sentence(*argv)


@pytest.fixture
def served(monkeypatch, tmp_path):
    """`served(*argv)`: the deployment that `fastfork serve` would start in an empty directory."""
    seen = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "_serve", lambda load: seen.append(load) or 0)

    def run(*argv):
        assert main(["serve", *argv]) == 0
        return seen[-1]()

    return run


TWO = '[services.a]\napp = "x"\nbind = 1\n[services.b]\napp = "y"\nbind = 2\n'


def test_which_file(served, tmp_path, monkeypatch):
    (tmp_path / "fastfork.toml").write_text(TWO)
    (tmp_path / "other.toml").write_text('[services.c]\napp = "z"\n')
    for argv, names in [
        ([], ["a", "b"]), (["-c", "other.toml"], ["c"]), (["--config=other.toml"], ["c"]),
        (["x"], [""]), (["--only", "b"], ["b"]), (["--only=b, a", "-w", "3"], ["a", "b"]),
    ]:  # fmt: skip
        assert [one.name for one in served(*argv).services] == names
    monkeypatch.setenv("FASTFORK_CONFIG", "other.toml")
    assert served().file == str(tmp_path / "other.toml")


def test_what_is_loaded_again_is_read_again(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "_serve", seen := Seen())
    (tmp_path / "fastfork.toml").write_text(TWO)
    assert main(["serve", "-w", "3"]) == 0
    assert [one.settings.workers for one in seen.load().services] == [3, 3]
    (tmp_path / "fastfork.toml").write_text('[services.c]\napp = "z"\n')
    assert [(one.name, one.settings.workers) for one in seen.load().services] == [("c", 3)]


class Seen:
    def __call__(self, load):
        self.load = load
        return 0


def test_each_fault_has_its_line(capfd, tmp_path):
    path = tmp_path / "x.toml"
    path.write_text("[services.a]\napp = 1\nworkers = 0\nkeep_alive = '\\u001b[31m'\n")
    for command in ("serve", "check", "config"):
        assert main([command, "-c", str(path), "--max-head", "1"]) == 2
        captured = capfd.readouterr()
        lines = captured.err.splitlines()
        assert captured.out == "" and len(lines) == 4
        assert lines[0].startswith("fastfork: --max-head '1' is not usable: it must be a size")
        for line, key in zip(lines[1:], ("app", "workers", "keep_alive"), strict=True):
            assert line.startswith(f"fastfork: {path}, [services.a]: {key} = ")
            assert line.endswith(".") and line.isprintable()


def test_the_exit_status_of_check(tmp_path):
    (tmp_path / "web.py").write_text("def app(environ, start_response): ...")
    (tmp_path / "fastfork.toml").write_text('[services.a]\napp = "web:app"\n')
    for argv, status in [([], 0), (["nothing:app"], 1), (["--workers", "0"], 2)]:
        done = subprocess.run([sys.executable, "-m", "fastfork", "check", *argv], cwd=tmp_path,
                              env={"PYTHONPATH": str(ROOT)}, capture_output=True, timeout=60)
        assert done.returncode == status


def test_the_importers_get_their_files(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nova.conf").write_text("[DEFAULT]\nenabled_apis = metadata\n")
    (tmp_path / "more.conf").write_text("[DEFAULT]\nmetadata_workers = 3\n")
    assert main(["import-nova", "nova.conf", "more.conf", "-o", "nova.toml"]) == 0
    assert "metadata_workers" in (tmp_path / "nova.toml").read_text()
    (tmp_path / "g.conf.py").write_text("workers = 3\n")
    assert main(["import-gunicorn", "g.conf.py"]) == 0
    assert "workers = 3" in capfd.readouterr().out


# -- what a command costs ----------------------------------------------------------------
COMMANDS = ["serve", "check", "config", "status", "reload", "scale", "stop", "restart",
            "import-nova", "import-gunicorn"]  # fmt: skip


def test_help_lists_all_commands(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = re.findall(r"^    (\S+)", capsys.readouterr().out, re.MULTILINE)
    assert listed == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys, command):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: fastfork {command} ")


def test_only_what_is_asked_for_is_made():
    """The parsers of other commands, and the modules that only they need."""
    code = ("import sys; from fastfork import cli; cli._loader(cli._parse(['serve', 'x']))(); "
            "print(*sys.modules)")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True, check=True, timeout=60)  # fmt: skip
    others = {"tomllib", "tomli", *(f"fastfork.{name}" for name in (
        "check", "commands", "describe", "effective", "import_gunicorn", "import_nova",
        "status", "tomlfile", "toml_text"))}  # fmt: skip
    assert "fastfork.deployment" in done.stdout.split()
    assert not others & set(done.stdout.split())
    assert "check" not in cli.parser("serve").format_help()


def test_other_systems(sentence, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert sentence("serve", "a:b") == "fastfork runs on Linux only."


def test_a_missing_core_is_said_in_one_sentence(sentence, monkeypatch):
    for name in ("_core", "worker", "master"):
        monkeypatch.delitem(sys.modules, f"fastfork.{name}", raising=False)
        monkeypatch.delattr(fastfork, name, raising=False)
    monkeypatch.setitem(sys.modules, "fastfork._core", None)
    assert "The compiled core of fastfork cannot be loaded" in sentence("serve", "a:b")
