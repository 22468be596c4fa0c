import ast
from pathlib import Path

import pytest

from fastfork import config, kinds
from fastfork.config import Settings, load
from fastfork.kinds import ConfigError

PYI = Path(config.__file__).with_name("_core.pyi")


def test_defaults_are_the_documented_ones():
    settings = load({"app": "hello:app"})
    assert settings.app == "hello:app"
    assert settings.workers == "auto"
    assert settings.bind == ()
    assert settings.backlog == 2048
    assert settings.graceful_timeout == 30
    assert settings.keep_alive == 75
    assert settings.head_timeout == 10
    assert settings.body_timeout == 30
    assert settings.write_timeout == 60
    assert settings.linger_timeout == 2
    assert settings.max_request_line == 16 * 1024
    assert settings.max_head == 64 * 1024
    assert settings.max_fields == 128
    assert settings.max_body == 1 << 30
    assert settings.body_memory == 1 << 24
    assert settings.output_memory == 256 * 1024
    assert settings.output_spool == 1 << 30
    assert settings.max_connections == 16384
    assert settings.access_log is None
    assert settings.access_log_format == "combined"


def test_table_and_settings_are_the_same_thing():
    assert list(config.TABLE) == list(vars(Settings()))
    for row in config.TABLE.values():
        assert row.help, row.name
        assert row.flag == "--" + row.name.replace("_", "-")


def test_defaults_keep_their_own_bounds():
    for row in config.TABLE.values():
        if row.default is None or row.many or row.positional:
            continue
        text = row.kind.show(row.default)
        text = text.replace(" bytes", "").replace(" ", "")
        assert row.parse(text, row.flag) == row.default, row.name


def test_everything_the_core_reads_is_a_setting():
    tree = ast.parse(PYI.read_text())
    wanted = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "CoreSettings")
    names = {n.target.id for n in wanted.body if isinstance(n, ast.AnnAssign)}
    names |= {n.name for n in wanted.body if isinstance(n, ast.FunctionDef)}
    assert len(names) > 10
    assert names <= set(config.TABLE)


def test_settings_cannot_be_changed():
    settings = load({"app": "hello"})
    with pytest.raises(AttributeError):
        settings.keep_alive = 1.0
    assert settings.keep_alive == 75.0
    with pytest.raises(TypeError, match="keep_alife"):
        Settings(keep_alife=1.0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("5m", 300), ("1h", 3600), ("250ms", 0.25), ("2.5", 2.5), ("7", 7), ("1 m", 60)],
)
def test_durations(text, seconds):
    assert kinds.read_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "seconds", "plain"),
    [("off", 0.0, "off"), ("0", 0.0, "off"), ("0s", 0.0, "off"), ("1ms", 0.001, "0.001s"),
     ("60", 60.0, "60s")])  # fmt: skip
def test_a_duration_that_may_be_off(text, seconds, plain):
    row = config.TABLE["handoff_after"]
    assert row.parse(text, row.flag) == seconds
    assert row.plain(seconds) == plain and row.take(plain, row.name) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1d", "5M", "1e3", "1_0", "\u0661", "nan", "inf"])
def test_no_durations(text):
    with pytest.raises(ValueError):
        kinds.read_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512", 512), ("10k", 10240), ("64KiB", 65536), ("1MiB", 1 << 20), ("2m", 2 << 20),
     ("1GiB", 1 << 30), ("1.5KiB", 1536), ("0", 0)],
)  # fmt: skip
def test_sizes(text, size):
    assert kinds.read_size(text) == size


@pytest.mark.parametrize("text", ["", "k", "-1", "1.5", "64KB", "1kb", "0.0001k", "1TiB", "0x10"])
def test_no_sizes(text):
    with pytest.raises(ValueError):
        kinds.read_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(512, "512 bytes"), (1536, "1536 bytes"), (65536, "64 KiB"), (3 << 20, "3 MiB")],
)
def test_sizes_shown(size, text):
    assert kinds.show_size(size) == text


@pytest.mark.parametrize(
    ("name", "text", "right"),
    [
        ("workers", "0", "from 1 to 4096"),
        ("workers", "-1", '"auto" or a whole number'),
        ("workers", "many", '"auto" or a whole number'),
        ("workers", "2.5", "a whole number"),
        ("keep_alive", "soon", "a duration such as 90s"),
        ("keep_alive", "0", "from 0.01 s"),
        ("handoff_after", "0.9ms", '"off" or a duration'),
        ("handoff_after", "61", "from 0.001 s to 60 s"),
        ("handoff_after", "none", '"off" or a duration'),
        ("max_head", "64KB", "a size such as 64KiB"),
        ("max_head", "1", "from 64 bytes to 16 MiB"),
        ("backlog", "0", "from 1"),
        ("access_log_format", "json", "one of common, combined"),
        ("log_level", "INFO", "one of debug, info"),
        ("pyargv", "'open", "quotes closed"),
        ("ready_fd", "1", "from 3"),
        ("chdir", "", "a path"),
    ],
)
def test_an_error_names_flag_value_and_what_is_right(name, text, right):
    with pytest.raises(ConfigError) as caught:
        load({"app": "hello", name: text})
    sentence = str(caught.value)
    assert sentence.startswith("--" + name.replace("_", "-") + " ")
    assert repr(text) in sentence
    assert right in sentence
    assert sentence.endswith(".") and "\n" not in sentence


def test_texts_become_values():
    settings = load({
        "app": "hello:app", "workers": "4", "bind": ["127.0.0.1:1", "unix:/x"],
        "pyargv": "--config 'my file'", "max_body": "10MiB", "graceful_timeout": "1m",
        "ready_fd": "5", "chdir": None,
    })  # fmt: skip
    assert settings.workers == 4
    assert settings.bind == ("127.0.0.1:1", "unix:/x")
    assert settings.pyargv == ("--config", "my file")
    assert settings.max_body == 10 << 20
    assert settings.graceful_timeout == 60
    assert settings.ready_fd == 5
    assert settings.chdir is None


def test_unknown_setting_is_an_error_with_a_hint():
    with pytest.raises(ConfigError, match=r"'keepalive' \(perhaps 'keep_alive' is meant\)"):
        load({"keepalive": "5"})


def test_request_line_longer_than_the_head_makes_no_sense():
    with pytest.raises(ConfigError, match=r"--max-request-line \(64 KiB\).*--max-head \(32 KiB\)"):
        load({"app": "hello", "max_request_line": "64k", "max_head": "32k"})


def test_an_address_twice_is_an_error_but_port_0_is_not():
    with pytest.raises(ConfigError, match="given twice"):
        load({"app": "hello", "bind": ["127.0.0.1:80", "127.0.0.1:80"]})
    load({"app": "hello", "bind": ["127.0.0.1:0", "127.0.0.1:0"]})


def test_a_preamble_needs_peers_to_send_it():
    with pytest.raises(ConfigError, match=r"--proxy-protocol v1 needs --forwarded-allow-ips"):
        load({"app": "hello", "proxy_protocol": "v1"})


@pytest.mark.parametrize("text, peers", [
    ("", ()), ("*", ("*",)), ("unix", ("unix",)), ("127.0.0.1", ("127.0.0.1/32",)),
    ("::1, 10.0.0.0/8 ,unix", ("::1/128", "10.0.0.0/8", "unix")),
])
def test_peers(text, peers):
    assert load({"app": "hello", "forwarded_allow_ips": text}).forwarded_allow_ips == peers


@pytest.mark.parametrize("text", [
    "10.0.0.1/8", "1.2.3", "localhost", "127.0.0.1,", ",", "unix:/x", "**", "::1%lo", "1.2.3.4/33"])
def test_peers_that_are_none(text):
    with pytest.raises(ConfigError, match=r"--forwarded-allow-ips .* must be a comma-separated"):
        load({"app": "hello", "forwarded_allow_ips": text})


def test_forwarded_fields_by_any_case():
    settings = load({"app": "hello", "forwarded_fields": "X-Forwarded-For, Forwarded"})
    assert settings.forwarded_fields == ("x-forwarded-for", "forwarded")


@pytest.mark.parametrize("text", ["", " ", " a", "a\n", "\xe9", "a" * 201])
def test_server_header_that_is_no_field_value(text):
    with pytest.raises(ConfigError, match="at most 200 printable ASCII"):
        load({"app": "hello", "server_header": text})
