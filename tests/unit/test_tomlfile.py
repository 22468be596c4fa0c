import os

import pytest

from fastfork import tomlfile
from fastfork.kinds import ConfigError


@pytest.fixture
def wrong(tmp_path):
    """`wrong(data)`: the sentence about a file of these bytes, without its path."""

    def sentence(data):
        path = tmp_path / "x.toml"
        path.write_bytes(data)
        with pytest.raises(ConfigError) as caught:
            tomlfile.read(str(path))
        (text,) = caught.value.sentences
        assert text.startswith(str(path)) and text.endswith(".")
        return text.removeprefix(str(path))

    return sentence


def test_what_it_says(tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes('[server]\npid = "/run/\u00fc"\n'.encode())
    assert tomlfile.read(str(path)) == {"server": {"pid": "/run/\u00fc"}}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"[defaults]\nworkers 4\n", ", line 2, column 9: expected '='"),
        (b"\n\nworkers = 0660", ", line 3, column 12: "),
        (b"a = 1\nb =", ", line 2: invalid value, at the end of the file."),
        (b"[services.a]\n[services.a]\n", ", line 2, column 12: cannot declare"),
        (b"a = 1\na = 2\n", ", line 2, column 6: cannot overwrite a value."),
        (b"a = 1\nb = '\xff'\n", ", line 2: this is not UTF-8 text."),
        (b"a = " + b"[" * 100_000, " is not usable TOML: it is nested too deeply."),
        (b"a = " + b"1" * 10_000, " is not usable TOML: "),
    ],
)
def test_syntax_errors_have_line_and_reason(wrong, data, text):
    assert wrong(data).startswith(text)


def test_files_that_cannot_be_read(tmp_path):
    for path, reason in [
        (tmp_path / "none.toml", "No such file or directory"), (tmp_path, "Is a directory"),
        (tmp_path / "a\0b", "a path holds no null character"),
    ]:  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            tomlfile.read(str(path))
        assert str(caught.value) == f"{path} cannot be read: {reason}."


def test_a_mark_at_the_beginning_is_no_fault(tmp_path):
    (tmp_path / "f").write_bytes(b"\xef\xbb\xbfa = 1\r\n")
    assert tomlfile.read(str(tmp_path / "f")) == {"a": 1}


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, "/dev/zero"):
        with pytest.raises(ConfigError, match=f"^{path} cannot be read: "):
            tomlfile.read(str(path))


def test_bounds(tmp_path):
    file = tmp_path / "f"
    file.write_text("#" * tomlfile.LONGEST)
    assert tomlfile.read(str(file)) == {}
    file.write_text("#" * (tomlfile.LONGEST + 1))
    with pytest.raises(ConfigError, match="longer than 1024 KiB"):
        tomlfile.read(str(file))
    file.write_text(".".join("a" * (tomlfile.DEEPEST - 1)) + " = 1")
    assert tomlfile.read(str(file))
    for deep in (".".join("a" * tomlfile.DEEPEST) + " = 1", "a = " + "[" * 450 + "]" * 450):
        file.write_text(deep)
        with pytest.raises(ConfigError, match="nested too deeply"):
            tomlfile.read(str(file))
