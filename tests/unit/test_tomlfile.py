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
        (tmp_path / "a\0b", "embedded null byte"),
    ]:  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            tomlfile.read(str(path))
        assert str(caught.value) == f"{path} cannot be read: {reason}."
