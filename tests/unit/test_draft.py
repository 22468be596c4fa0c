import os

import pytest

from fastfork import deployment, draft
from fastfork.draft import DEFAULTS, SERVER, Draft, service

SHOP = service("shop")


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda output=None: Draft("Nova", "nova.conf", output)


def test_a_file(make, tmp_path, capfd):
    made = make(str(tmp_path / "fastfork.toml"))
    made.put(SHOP, "app", "shop:app", "shop_app")
    made.put(SHOP, "bind", ["127.0.0.1:1", "unix:/x"], "listen", "why", "and how")
    made.put_default(DEFAULTS, "backlog", 128, "backlog")
    made.put(SERVER, "log_level", "debug", "debug")
    made.leave("tls", "there is none")
    made.leave("tls", "a second reason")
    made.note("This is so.")
    made.note("This is so.")
    assert made.finish() == 0
    assert (tmp_path / "fastfork.toml").read_text() == (
        "# Made by fastfork import-nova from nova.conf.\n"
        "#\n"
        "# This is so.\n"
        "#\n"
        "# Not carried over:\n"
        "# - tls: there is none\n"
        "\n"
        "[server]\n"
        'log_level = "debug"  # debug\n'
        "\n"
        "[defaults]\n"
        "backlog = 128  # backlog, Nova's default\n"
        "\n"
        "[services.shop]\n"
        'app = "shop:app"  # shop_app\n'
        "# why\n"
        "# and how\n"
        'bind = ["127.0.0.1:1", "unix:/x"]  # listen\n'
    )
    out, err = capfd.readouterr()
    assert out == ""
    assert err == (
        "fastfork: nova.conf: tls is not carried over: there is none.\n"
        "fastfork: nova.conf: This is so.\n"
    )
    assert deployment.load({}, environ={}).services[0].settings.backlog == 128


def test_standard_output(make, capfd):
    made = make()
    made.put(DEFAULTS, "chdir", "/\u00e4", "x")
    assert made.finish() == 0
    out, err = capfd.readouterr()
    assert out.endswith('\n\n[defaults]\nchdir = "/\u00e4"  # x\n')
    assert err == ""


def test_with_a_fault_nothing_is_written(make, tmp_path, capfd):
    made = make("x.toml")
    made.put(SHOP, "app", "shop:app", "shop_app")
    made.note("This is so.")
    made.fault("One.")
    made.fault("Two\n.")
    made.fault("One.")
    assert made.finish() == 2
    assert capfd.readouterr() == ("", "fastfork: One.\nfastfork: Two\\x0a.\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value", "shown", "right"),
    [
        ("backlog", 65536, "65536", "a whole number, from 1 to 65535"),
        ("workers", 0, "0", '"auto" or a whole number, from 1 to 4096'),
        ("log_level", "loud", "'loud'", "one of debug, info, warning, error, critical"),
        ("chdir", "x" * 99 + "\0", "'" + "x" * 96 + "...", "a path"),
        ("chdir", "\udcff", "'\\udcff'", "Unicode"),
        ("environment", {"A-B": "c"}, "{'A-B': 'c'}",
         "NAME=VALUE, the name of letters, digits and underscores"),
    ],
)  # fmt: skip
def test_what_is_out_of_bounds_is_left(make, capfd, name, value, shown, right):
    made = make()
    made.put(SHOP, name, value, "its_name")
    assert made.finish() == 0
    out, err = capfd.readouterr()
    why = f"{name} = {shown} is not usable: it must be {right}"
    assert err == f"fastfork: nova.conf: its_name is not carried over: {why}.\n"
    assert f"# - its_name: {why}\n" in out
    assert "[services" not in out


def test_what_is_there_is_not_overwritten(make, tmp_path, capfd):
    path = tmp_path / "fastfork.toml"
    path.write_text("mine")
    assert make("fastfork.toml").finish() == 2
    assert path.read_text() == "mine"
    assert capfd.readouterr().err == (
        "fastfork: 'fastfork.toml' is there already and is not overwritten; remove it, or name "
        "another file.\n"
    )


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("nowhere/x", "Cannot write to 'nowhere/x': No such file or directory."),
        ("a\0b", "Cannot write to 'a\\x00b': embedded null byte."),
    ],
)
def test_what_cannot_be_written(make, capfd, output, why):
    assert make(output).finish() == 2
    assert capfd.readouterr().err == f"fastfork: {why}\n"


@pytest.mark.parametrize(
    ("path", "why"),
    [("/dev/full", "No space left on device"), (None, "Bad file descriptor")],
)
def test_a_standard_output_that_takes_nothing(make, capfd, path, why):
    before = os.dup(1)
    try:
        if path is None:
            os.close(1)
        else:
            with open(path, "wb") as file:
                os.dup2(file.fileno(), 1)
        assert make().finish() == 2
    finally:
        os.dup2(before, 1)
        os.close(before)
    assert capfd.readouterr().err == f"fastfork: Cannot write to standard output: {why}.\n"


def test_paths_count_from_the_file(make, tmp_path):
    (tmp_path / "etc").mkdir()
    here, there = make(), make(str(tmp_path / "etc" / "x.toml"))
    assert here.path(str(tmp_path), "a/b") == "a/b"
    assert here.path(str(tmp_path), "/a") == there.path(str(tmp_path), "/a") == "/a"
    assert there.path(str(tmp_path), "a/../b") == str(tmp_path / "b")
    assert there.path(str(tmp_path / "etc"), "a") == "a"
    assert here.path(str(tmp_path), "@a") == str(tmp_path / "@a")  # unix:@a is something else
    os.symlink(tmp_path / "etc", tmp_path / "link")
    assert there.path(str(tmp_path / "link"), "a") == "a"


def test_values():
    assert draft.seconds(90) == "90s"
    assert [draft.size(number) for number in (0, 8190, 8192, 1 << 20, 3 << 19)] == [
        "0", "8190", "8KiB", "1MiB", "1536KiB"]  # fmt: skip
