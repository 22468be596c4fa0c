import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastfork import toml_text, tomlfile

tomllib = tomlfile.tomllib

texts = st.text()  # without surrogates
numbers = st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False)
values = st.recursive(
    texts | numbers | st.booleans(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
comments = st.text(st.characters())  # with surrogates


def read(text):
    # As a file: bytes, in which "\r\n" of a string would become "\n".
    text.encode("utf-8")
    return tomllib.loads(text)


# -- values ------------------------------------------------------------------------------
@given(values)
def test_a_value_is_read_back_as_it_was(value):
    text = toml_text.value(value)
    again = read(f"x = {text}\n")["x"]
    assert again == value
    assert repr(again) == repr(value)  # 1, 1.0 and True are told apart, 0.0 and -0.0 too
    assert text.splitlines() == [text]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", '""'),
        ("a \u00e9 \U0001f600", '"a \u00e9 \U0001f600"'),
        ('say "a\\b"', r'"say \"a\\b\""'),
        ("\n\r\t\0\x1b\x7f\x85\u2028", r'"\n\r\t\u0000\u001b\u007f\u0085\u2028"'),
        ("\u202e\U000e0001", r'"\u202e\U000e0001"'),
        (True, "true"), (False, "false"), (0, "0"), (-5, "-5"), (1.5, "1.5"), (1e300, "1e+300"),
        (float("-inf"), "-inf"), ([], "[]"), (("a", 1), '["a", 1]'), ({}, "{}"),
        ({"A": "b", "c d": [1]}, '{ A = "b", "c d" = [1] }'),
    ],
)  # fmt: skip
def test_values(value, text):
    assert toml_text.value(value) == text


def test_not_a_number():
    assert repr(read(f"x = {toml_text.value(float('nan'))}")["x"]) == "nan"


@pytest.mark.parametrize("value", ["\ud800", ["\udcff"], {"\udfff": 1}, {"a": "\ud800"}])
def test_what_is_not_unicode_is_refused(value):
    with pytest.raises(ValueError, match=r"no character of Unicode: U\+D"):
        toml_text.value(value)


@pytest.mark.parametrize("value", [1 << 63, -(1 << 63) - 1])
def test_integers_have_64_bits(value):
    with pytest.raises(ValueError, match="64 bits"):
        toml_text.value(value)


@pytest.mark.parametrize("value", [None, b"x", {1}, object(), [None]])
def test_other_types_are_refused(value):
    with pytest.raises(TypeError, match="TOML has no"):
        toml_text.value(value)


# -- documents ---------------------------------------------------------------------------
@given(
    st.dictionaries(texts, values, max_size=3), st.dictionaries(texts, values, max_size=3),
    st.dictionaries(texts, st.dictionaries(texts, values, max_size=3), max_size=3),
    st.lists(comments, max_size=2), comments,
)  # fmt: skip
def test_a_document_is_read_back_whatever_the_comments_are(server, defaults, services, lines, end):
    tables = {("server",): server, ("defaults",): defaults}
    tables.update({("services", name): entries for name, entries in services.items()})
    places = [*tables, *((*path, key) for path, entries in tables.items() for key in entries)]
    above = dict.fromkeys([(), *places], lines)
    beside = dict.fromkeys(places, end)
    expected = {"server": server, "defaults": defaults}
    if services:
        expected["services"] = services
    plain = toml_text.dumps(tables)
    commented = toml_text.dumps(tables, above=above, beside=beside)
    assert read(plain) == read(commented) == expected
    added = (len(places) + 1) * len(lines)
    assert len([line for line in commented.splitlines() if line.startswith("#")]) == added
    assert len([line for line in commented.splitlines() if line]) == added + len(
        [line for line in plain.splitlines() if line])  # fmt: skip


def test_a_document():
    text = toml_text.dumps(
        {("server",): {"pid": "/run/x"}, ("services", "a.b"): {"workers": 4, "bind": ["x", "y"]},
         ("services", "c"): {}},
        above={(): ["head"], ("server",): ["one", "two"], ("services", "a.b", "bind"): [""]},
        beside={("services", "a.b", "workers"): "default", ("services", "c"): "x\ny"},
    )  # fmt: skip
    assert text == (
        "# head\n"
        "\n"
        "# one\n"
        "# two\n"
        "[server]\n"
        'pid = "/run/x"\n'
        "\n"
        '[services."a.b"]\n'
        "workers = 4  # default\n"
        "#\n"
        'bind = ["x", "y"]\n'
        "\n"
        "[services.c]  # x\\ny\n"
    )


def test_keys_without_a_table_come_first():
    assert toml_text.dumps({(): {"a": 1}, ("b",): {"c": 2}}) == "a = 1\n\n[b]\nc = 2\n"
    with pytest.raises(ValueError, match="must come first"):
        toml_text.dumps({("b",): {"c": 2}, (): {"a": 1}})


def test_nothing_at_all():
    assert toml_text.dumps({}) == ""
    assert toml_text.dumps({(): {}}) == ""


def test_a_name_is_a_table_or_a_key():
    with pytest.raises(ValueError, match=r"both a table and a key: a\.b"):
        toml_text.dumps({("a",): {"b": {}}, ("a", "b"): {}})
    with pytest.raises(ValueError, match=r"both a table and a key: a\.b"):
        toml_text.dumps({("a", "b", "c"): {}, ("a",): {"b": 1}})


@pytest.mark.parametrize("comment", ["\n", "\r", "\0", "\x7f", "\x85", "\u2028", "\ud800", "\x0b"])
def test_comments_stay_on_their_line(comment):
    text = toml_text.dumps(
        {("a",): {"b": 1}}, above={("a",): [f"x{comment}[c]"]},
        beside={("a", "b"): f"x{comment}d = 2"})  # fmt: skip
    assert read(text) == {"a": {"b": 1}}
    assert len(text.splitlines()) == 3
