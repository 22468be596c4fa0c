import sys

import pytest

import fastfork
from fastfork import __version__, cli, config
from fastfork.cli import main
from fastfork.config import Settings


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
        (["status", "1", "2"], "no flag or argument '2', see fastfork status --help"),
        (["status", "--contrl=/x"], "no flag or argument '--contrl' (perhaps '--control' is"),
    ],
)
def test_bad_command_lines(sentence, argv, text):
    assert text in sentence(*argv)


def test_other_systems(sentence, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert sentence("serve", "a:b") == "fastfork runs on Linux only."


def test_a_missing_core_is_said_in_one_sentence(sentence, monkeypatch):
    for name in ("_core", "worker", "master"):
        monkeypatch.delitem(sys.modules, f"fastfork.{name}", raising=False)
        monkeypatch.delattr(fastfork, name, raising=False)
    monkeypatch.setitem(sys.modules, "fastfork._core", None)
    assert "The compiled core of fastfork cannot be loaded" in sentence("serve", "a:b")
