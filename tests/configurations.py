"""Random settings that can be used: for each kind what may be written of it."""

import shlex

from hypothesis import strategies as st

from fastfork import kinds
from fastfork.config import TABLE

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
PATHS = st.lists(st.sampled_from(["a", "b c", "..", ".", "\u00fc", "x.sock", '"']), min_size=1
                 ).map("/".join)  # fmt: skip
PATHS = st.one_of(PATHS, PATHS.map("/".__add__))
VARIABLES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True)
PREFIXES = st.sampled_from(["/", "/v1", "/v1/x", "/\u00fc", "/a.b"])
APPLICATIONS = st.one_of(
    st.sampled_from(["web", "pkg.web:app", "web:make()", "web:make('a', key=1)"]),
    PATHS.filter(lambda path: not path.endswith("/")).map("paste:{}#main".format),
)
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))

INTEGERS = st.integers(-(1 << 63), (1 << 63) - 1)  # all that TOML has


def durations(row):
    numbers = st.floats(row.low, row.high)
    units = st.sampled_from([("", 1), ("s", 1), ("ms", 0.001), ("m", 60), ("h", 3600)])
    texts = st.builds(lambda number, unit: f"{number / unit[1]:.9f}{unit[0]}", numbers, units)
    # (Those that are rounded beyond a bound, or that no worker could keep.)
    return st.one_of(texts, numbers).filter(
        lambda raw: usable(row, raw) and not (
            row.name == "liveness_timeout" and 0 < row.take(raw, "") < 1))


def sizes(row):
    # The longest request line must not be above the longest head, wherever each is set.
    low = 64 << 10 if row.name == "max_head" else row.low
    high = 64 << 10 if row.name == "max_request_line" else row.high
    numbers = st.integers(low, high)
    kilobytes = st.integers(-(-low // 1024), high // 1024).map("{} KiB".format)
    return st.one_of(numbers, numbers.map(str), kilobytes)


def counts(row):
    numbers = st.integers(row.low, row.high)
    return st.one_of(numbers, numbers.map(str))


def usable(row, raw):
    try:
        row.take(raw, "")
    except kinds.ConfigError:
        return False
    return True


def lists(texts, **bounds):
    items = st.lists(texts, max_size=3, **bounds)
    return st.one_of(items, items.map(",".join))


def pairs(names, values):
    tables = st.dictionaries(names, values, max_size=3)
    return st.one_of(
        tables, tables.map(lambda table: [f"{name}={text}" for name, text in table.items()]))


NETWORKS = st.sampled_from(["unix", "*", "127.0.0.1", "10.0.0.0/8", "::1", "2001:db8::/32"])
ADDRESSES = st.one_of(
    st.sampled_from(["127.0.0.1:0", "[::1]:0", "localhost:0"]),  # any number of services
)
OF_KIND = {
    kinds.COUNT: counts,
    kinds.AUTO_COUNT: lambda row: st.one_of(st.just("auto"), counts(row)),
    kinds.DURATION: durations,
    kinds.DURATION_OR_OFF: lambda row: st.one_of(st.sampled_from(["off", 0]), durations(row)),
    kinds.SIZE: sizes,
    kinds.TEXT: lambda row: TEXTS,
    kinds.APPLICATION: lambda row: APPLICATIONS,
    kinds.ADDRESS: lambda row: st.lists(ADDRESSES, max_size=3),
    kinds.ACCOUNT: lambda row: st.one_of(TEXTS, st.integers(0, 65535)),
    kinds.PATH: lambda row: st.lists(PATHS, max_size=3) if row.many else PATHS,
    kinds.CONTROL_PATH: lambda row: st.one_of(st.sampled_from(["auto", "none"]), PATHS),
    kinds.LOG_PATH: lambda row: st.one_of(st.just("-"), PATHS),
    kinds.SWITCH: lambda row: st.sampled_from([True, False, "on", "off"]),
    kinds.MODE: lambda row: st.integers(row.low, row.high).map("{:04o}".format),
    kinds.FIELD_VALUE: lambda row: st.from_regex(r"[!-~]([ -~]{,20}[!-~])?", fullmatch=True),
    kinds.PEERS: lambda row: lists(NETWORKS),
    kinds.FORWARDED: lambda row: lists(st.sampled_from(kinds.FORWARDED_FIELDS), min_size=1),
    kinds.ARGUMENTS: lambda row: st.one_of(
        st.lists(VALUES, max_size=3), st.lists(VALUES, max_size=3).map(shlex.join)),
    kinds.PAIR: lambda row: pairs(TEXTS.filter(lambda name: "=" not in name), VALUES),
    kinds.VARIABLE: lambda row: pairs(VARIABLES, st.one_of(VALUES, INTEGERS)),
    kinds.PREFIXED: lambda row: pairs(PREFIXES, APPLICATIONS),
}


def raw(row):
    """What a file may have for a row."""
    if row.choices:
        return st.sampled_from([*row.choices, *[True, False] * ("on" in row.choices)])
    return OF_KIND[row.kind](row)


# One of the first two is there in every service, a preamble needs peers, and handlers run in
# threads or in greenlets.
_APART = ("app", "mount", "proxy_protocol", "threads")


def tables(scope, apart=_APART):
    """A table with some settings of that scope."""
    names = [name for name, row in TABLE.items() if row.scope == scope and name not in apart]
    return st.sets(st.sampled_from(names), max_size=12).flatmap(
        lambda some: st.fixed_dictionaries({name: raw(TABLE[name]) for name in sorted(some)}))


@st.composite
def services(draw, number):
    table = draw(tables("service"))
    if draw(st.booleans()):
        table["app"] = draw(APPLICATIONS)
    else:
        table["mount"] = draw(pairs(PREFIXES, APPLICATIONS).filter(len))
    if draw(st.booleans()):
        table["proxy_protocol"] = draw(st.sampled_from(["v1", "v2", "auto"]))
        table["forwarded_allow_ips"] = ["unix"]
    if draw(st.booleans()):
        table |= {"threads": draw(raw(TABLE["threads"])), "greenlets": "auto", "green": "off"}
    table["bind"] = [*draw(OF_KIND[kinds.ADDRESS](TABLE["bind"])), f"127.0.0.1:{8000 + number}",
                     f"unix:{number}.sock"]  # fmt: skip
    return table


NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@st.composite
def files(draw):
    """The tables of a file by their paths, as toml_text wants them."""
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    found = {("server",): draw(tables("server")), ("defaults",): draw(tables("service"))}
    for number, name in enumerate(names):
        found["services", name] = draw(services(number))
    return found


FLAGS = {"workers": "7", "keep_alive": "1.1h", "max_body": "1.5k", "chdir": "from/flag",
         "environment": ["A=flag"], "pyargv": "'x y'", "log_level": "debug"}  # fmt: skip
VARIABLES_OF_ENVIRONMENT = {
    "FASTFORK_WORKERS": "8", "FASTFORK_ENVIRONMENT": "B=env 'C=a b'", "FASTFORK_PID": "env.pid",
    "FASTFORK_UMASK": "0027", "FASTFORK_BODY_TIMEOUT": "250ms"}  # fmt: skip


def some_of(mapping):
    return st.sets(st.sampled_from(sorted(mapping))).map(
        lambda names: {name: mapping[name] for name in names})
