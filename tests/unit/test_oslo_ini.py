import os

import pytest

from fastfork import oslo_ini
from fastfork.kinds import ConfigError
from fastfork.oslo_ini import DEFAULT, File, Name, Options


def parse(text):
    return oslo_ini.parse(text, "nova.conf")


def options(*texts, defaults=()):
    files = [File(f"{number}.conf", parse(text)) for number, text in enumerate(texts, 1)]
    return Options(files, dict(defaults))


def text(options, name, section=DEFAULT):
    return options.text(options.find([Name(section, name)]))


# -- files -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("content", "sections"),
    [
        ("", {}),
        ("# a\n; b\n\n", {}),
        ("[DEFAULT]\n", {"DEFAULT": {}}),
        ("[DEFAULT]\na = 1\nb:2\nc=d:e\nf:g=h\n",
         {"DEFAULT": {"a": "1", "b": "2", "c": "d:e", "f": "g=h"}}),
        ("[DEFAULT]\r\na = 1 \rb = 2\t\n", {"DEFAULT": {"a": "1", "b": "2"}}),
        ("[DEFAULT]\na = 1 # no comment\n", {"DEFAULT": {"a": "1 # no comment"}}),
        ("[DEFAULT]\na =\nb = \"\"\nc = \"x\"\nd = 'x y'\ne = \"x'\nf = \"\n",
         {"DEFAULT": {"a": "", "b": "", "c": "x", "d": "x y", "e": "\"x'", "f": ""}}),
        ("[DEFAULT]\na = 1,\n  2,\n\t# 3\nb = 4\n", {"DEFAULT": {"a": "1,\n2,\n# 3", "b": "4"}}),
        ("[DEFAULT]\na = 1\na = 2\n[x]\na = 3\n[DEFAULT]\nb = 4\na = 5\n",
         {"DEFAULT": {"a": "5", "b": "4"}, "x": {"a": "3"}}),
        ("[WSGI]\na = 1\n[wsgi]\nB = 2\n[default]\nc = 3\n[ x ]\n",
         {"wsgi": {"a": "1", "B": "2"}, "default": {"c": "3"}, " x ": {}}),
    ],
)  # fmt: skip
def test_the_dialect(content, sections):
    assert parse(content) == sections


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("a = 1\n", "line 1: 'a' stands in no section, write [DEFAULT] above it."),
        ("[DEFAULT\n", "line 1: '[DEFAULT' is no section, it must end with a ]."),
        ("\n[]\n", "line 2: the section has no name, write [DEFAULT]."),
        ("[DEFAULT]\nabc\n", "line 2: 'abc' is neither an option, NAME = VALUE, nor a [section] "
         "nor a comment."),
        ("[DEFAULT]\n= 1\n", "line 2: '= 1' has no name, write NAME = VALUE."),
        ("[DEFAULT]\n" + "x" * 99, "line 2: '" + "x" * 57 + "...' is neither an option, NAME = "
         "VALUE, nor a [section] nor a comment."),
        *((f"[DEFAULT]\n{above}\n  b\n", "line 3: it begins with a blank, and above it is no "
           "option that it could continue.") for above in ("", "# c", "[x]", "[DEFAULT]")),
        ("[DEFAULT]\na = 1\n\n b\n", "line 4: it begins with a blank, and above it is no option "
         "that it could continue."),
    ],
)  # fmt: skip
def test_what_is_no_such_file(content, sentence):
    with pytest.raises(ConfigError) as caught:
        parse(content)
    assert str(caught.value) == f"nova.conf, {sentence}"


def test_read(tmp_path):
    path = tmp_path / "nova.conf"
    path.write_bytes("\ufeff[DEFAULT]\na = \u00e4\n".encode())
    assert oslo_ini.read(str(path)) == File(str(path), {"DEFAULT": {"a": "\u00e4"}})


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\x7fELF\xff\xfe", "it is no text in UTF-8"),
        (b"#" * ((16 << 20) + 1), "it has more than 16 MiB"),
    ],
)
def test_what_is_no_text(tmp_path, content, why):
    path = tmp_path / "nova.conf"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        oslo_ini.read(str(path))
    assert str(caught.value) == f"Cannot read {str(path)!r}: {why}."


def test_what_cannot_be_read(tmp_path):
    for path, why in [
        (str(tmp_path / "x"), "No such file or directory"),
        (str(tmp_path), "Is a directory"),
        ("a\0b", "embedded null byte"),
        ("/proc/self/mem", "Input/output error"),
    ]:
        with pytest.raises(ConfigError) as caught:
            oslo_ini.read(path)
        assert str(caught.value) == f"Cannot read {path!r}: {why}."


def test_what_may_not_be_read(tmp_path):
    path = tmp_path / "nova.conf"
    path.touch(0o000)
    me = os.geteuid()
    if me == 0:  # who may read everything
        os.seteuid(65534)
    try:
        with pytest.raises(ConfigError, match="Permission denied"):
            oslo_ini.read(str(path))
    finally:
        os.seteuid(me)


# -- options -----------------------------------------------------------------------------
def test_a_later_file_goes_before_a_newer_name():
    names = [Name("wsgi", "new"), Name(DEFAULT, "old")]
    both = "[wsgi]\nnew = 1\n[DEFAULT]\nold = 2\n"
    assert options(both).find(names) == ("1.conf", Name("wsgi", "new"), "1")
    assert options(both, "[DEFAULT]\nold = 3\n").find(names).value == "3"
    assert options("[DEFAULT]\nold = 3\n", both).find(names).value == "1"
    assert options("[DEFAULT]\nOLD = 3\n").find(names) is None
    assert str(options(both).find(names)) == "1.conf: [wsgi] new"
    assert str(options(both).find(names[1:])) == "1.conf: old"


def test_all():
    several = options("[DEFAULT]\na = 1\nb = 2\n", "[x]\na = 3\n[DEFAULT]\na = 4\n")
    assert [(str(option.name), option.value) for option in several.all()] == [
        ("a", "4"), ("b", "2"), ("[x] a", "3")]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("$ip", "10.0.0.1"), ("${ip}:80", "10.0.0.1:80"), ("$ip, $x.port", "10.0.0.1, 80"),
        ("${x.port}", "80"), ("$$ip", "$ip"), ("\\$ip", "$ip"), ("$1 $ ${} $", "$1 $ ${} $"),
        ("$more", "10.0.0.1!"), ("$given", "yes"), ("a\n$ip", "a\n10.0.0.1"),
    ],
)  # fmt: skip
def test_substitution(value, expected):
    several = options(
        f"[DEFAULT]\nip = 1.2.3.4\na = {value!s}\n".replace("\n$ip", "\n $ip"),
        "[DEFAULT]\nip = 10.0.0.1\nmore = $ip!\n[x]\nport = 80\n", defaults={"given": "yes"},
    )  # fmt: skip
    assert text(several, "a") == expected


def test_a_name_is_of_its_own_section_first():
    several = options("[DEFAULT]\na = 1\nb = 2\n[x]\na = 3\nc = $a $b\n")
    assert text(several, "c", "x") == "3 2"


@pytest.mark.parametrize("name", ["nothing", "x.nothing", "ip."])
def test_what_refers_to_nothing(name):
    several = options(f"[DEFAULT]\nip = 1\na = ${name}\n[x]\n")
    with pytest.raises(ConfigError) as caught:
        text(several, "a")
    assert str(caught.value) == (
        f"1.conf: a '${name}' is not usable: it refers to '{name}', which is in none of the files; "
        "write what it stands for."
    )


@pytest.mark.parametrize("content", ["a = $a", "a = ${b}\nb = $c\nc = x$a", "a = $DEFAULT.a"])
def test_circles(content):
    with pytest.raises(ConfigError) as caught:
        text(options(f"[DEFAULT]\n{content}\n"), "a")
    assert "is not usable: it refers to itself by way of $." in str(caught.value)


def test_a_value_that_refers_to_too_many():
    """Each doubles the one before."""
    lines = "".join(f"a{i} = $a{i - 1}$a{i - 1}\n" for i in range(1, 40))
    with pytest.raises(ConfigError, match="refers to more than 1000 others"):
        text(options(f"[DEFAULT]\na0 = x\n{lines}"), "a39")
