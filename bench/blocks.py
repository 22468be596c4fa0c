"""What stands between the markers: tables and sentences in Markdown, made from the figures."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pictures
import standing
from figures import OURS, REFERENCES, Missing, cell, cost, figure, machine, mebibytes, percent

WORDS = {"limit": "*bare C server*", "app-alone": "*the application alone*",
         OURS: f"**{OURS}**"}


def table(headings, rows, left=1):
    """A table of cells; the first `left` columns stand to the left, the others to the right."""
    lines = [headings, [*["---"] * left, *["---:"] * (len(headings) - left)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rows_of(columns, rows):
    """Headings and cells of `rows`: `columns` are pairs of a heading and a function of a row.  A
    column that has nothing to say is left out, rows with an error come last with their reason."""
    valid = [row for row in rows if "error" not in row]
    columns = [(heading, show) for heading, show in columns if any(map(show, valid))]
    cells = [[WORDS.get(row["name"], cell(row["name"])), *(cell(show(row)) for _, show in columns)]
             for row in valid]
    cells += [[cell(row["name"]), cell(row["error"]), *[""] * (len(columns) - 1)]
              for row in rows if "error" in row]
    return ["server", *(heading for heading, _ in columns)], cells


# -- run.json --------------------------------------------------------------------------------
def key(name, show=figure, scale=lambda value: value):
    """A column of a row's field."""
    return lambda row: show(scale(row.get(name)))


FIRST = {  # what matters in a work, if it is not the CPU time: rows are sorted by that
    "latency": "p99", "falcon": "overhead_us", "flask": "overhead_us", "django": "overhead_us"}
COLUMNS = {
    "cpu": ("CPU x fastfork", lambda row: figure(cost(row))),
    "limit": ("CPU x bare C", lambda row: figure(cost(row, "limit"))),
    "overhead_us": ("server's own CPU, µs", key("overhead_us")),
    "off": ("CPU x without log", lambda row: figure(row.get("ratio", {}).get("off"))),
    "p50": ("p50 ms", key("p50")),
    "p99": ("p99 ms", key("p99")),
    "p999": ("p99.9 ms", key("p999")),
    "beside_p50": ("fastfork's p50", lambda row: figure(row.get("beside", {}).get("p50"))),
    "beside_p99": ("fastfork's p99", lambda row: figure(row.get("beside", {}).get("p99"))),
    "beside_p999": ("fastfork's p99.9", lambda row: figure(row.get("beside", {}).get("p999"))),
    "peak": ("peak MiB", key("peak_kib", scale=mebibytes)),
    "user": ("user", key("user_share", percent)),
    "spread": ("spread", key("spread", percent)),
}


def relative_rate(ours):
    """The column of requests per second as a multiple of fastfork's."""
    return ("rate x fastfork",
            lambda row: figure(row["rate"] / ours["rate"] if row.get("rate") else None))


def work_table(results, name):
    """The table of one work."""
    columns = dict(COLUMNS)
    try:
        columns["rate"] = relative_rate(results.row(name))
    except Missing:
        columns["rate"] = ("requests/s", key("rate"))
    if name == "latency":
        columns["rate"] = ("requests/s asked for", key("rate"))
    first = FIRST.get(name, "cpu")
    columns = {first: columns.pop(first), **columns}

    def order(row):
        value = cost(row) or row.get("cpu_us") if first == "cpu" else row.get(first)
        return value is None, value or 0

    return table(*rows_of(columns.values(), sorted(results.rows(name), key=order)))


def works(results):
    """A section for each work."""
    for name, work in results.works().items():
        yield f"### {cell(work['title'])}"
        parts = [f"`{work['load']}`", cell(work.get("note", "")).removesuffix(".")]
        if "taken" in work:
            parts.append(f"Measured by itself: {machine(work['taken'])}")
        yield ". ".join(filter(None, parts)) + ("." if any(parts[1:]) else "")
        yield work_table(results, name)


def absolute(results):
    """fastfork's own figures: with them and a ratio every other can be worked out."""
    def size(row):
        return row["bytes"] / 2**20 if row.get("bytes") else None

    rows = []
    for name, work in results.works().items():
        try:
            row = results.row(name)
        except Missing as e:
            rows.append([cell(work["title"]), cell(e), *[""] * 5])
            continue
        rows.append([
            cell(work["title"]), figure(row.get("cpu_us")), figure(row.get("rate")),
            figure(size(row) and row["rate"] * size(row)), figure(row.get("p50")),
            figure(row.get("p99")), percent(row.get("waited_share"))])
    run = results.get("run")
    if not run.get("complete", True):
        yield "**The run was interrupted**: works are missing or from an earlier one."
    yield f"{cell(machine(run['machine']))}."
    yield table(["fastfork", "CPU µs per request", "requests/s", "MiB/s", "p50 ms", "p99 ms",
                 "waited"], rows)


def contenders(results):
    found = results.get("run")["contenders"]
    order = sorted(found.items(), key=lambda c: (c[0] in REFERENCES, c[0] != OURS, c[0]))
    rows = [[WORDS.get(name, cell(name)), cell(c["version"]), cell(c["how"]),
             f"`{' '.join(c['command'].split())}`".replace("|", "\\|") if c["command"] else ""]
            for name, c in order]
    yield table(["server", "version", "configuration", "command"], rows, left=4)


def charts(results):
    for name, svg in pictures.draw(results).items():
        if svg is not None:
            yield f"![{pictures.TITLES[name]}]({name})"


def hello_short(results):
    """The CPU time of hello as one line of ratios, for the README."""
    base, words = "limit", "a bare C epoll server that parses nothing"
    try:
        results.row("hello", base)
    except Missing:
        base, words = OURS, "fastfork, as the bare C server has none"
    rows = [row for row in results.rows("hello") if row["name"] != "app-alone"]
    valid = sorted((cost(row, base), row["name"]) for row in rows if cost(row, base) is not None)
    facts = results.get("run")["machine"]
    yield (f"CPU time per request (user and system) as a multiple of that of {words};\nmedians of "
           f"{facts['rounds']} rounds of one run (`make -C bench run`; a shared machine with "
           f"{facts['cores']} cores,\nso only the ratios of one run mean something):")
    yield table([WORDS.get(name, cell(name)) for _, name in valid],
                [[figure(value) for value, _ in valid]], left=0)
    if invalid := [f"{row['name']} ({row['error']})" for row in rows if "error" in row]:
        yield cell(f"Without a figure: {'; '.join(invalid)}.")


def frameworks_short(results):
    """What each server adds to an API's request, for the README."""
    names = [name for name in standing.API_WORKS if name in results.works()]
    if not names:
        yield "No API was part of the run."
        return
    found = {}
    for name in names:
        for row in results.rows(name):
            if row["name"] not in REFERENCES:
                found.setdefault(row["name"], {})[name] = row.get("overhead_us")
    known = {server: [value for value in values.values() if value is not None]
             for server, values in found.items()}
    order = sorted(found, key=lambda s: (len(known[s]) < len(names), sum(known[s])))
    yield ("The server's own CPU time per request, µs, in front of an API, with twelve header "
           "fields: the whole\nless that of the application called without a server, in the same "
           "round (`make -C bench run`):")
    yield table(["", *(name.capitalize() for name in names)], [
        [WORDS.get(s, cell(s)), *(figure(found[s].get(name)) or "no figure" for name in names)]
        for s in order])


# -- the other scripts -----------------------------------------------------------------------
@dataclass(frozen=True)
class Script:
    """How the figures of one script are shown: the columns as pairs of heading and field, the
    fields by which rows are sorted, and what a row is called."""

    command: str
    columns: list[tuple[str, str]]
    order: Callable[[dict], object]
    group: str | None = None  # the part of the results, if they have parts
    words: dict[str, str] = field(default_factory=dict)


BLOCKING = {
    "fastfork": "fastfork, one handler at a time",
    "fastfork-greenlets": "fastfork `--greenlets 100`",
    "fastfork-gevent": "fastfork `--green gevent`", "fastfork-threads": "fastfork `--threads 8`",
    "granian": "granian, its default threads", "granian-one": "granian, one thread",
    "waitress": "waitress, 16 threads", "gunicorn-gevent": "gunicorn gevent",
    "gunicorn-sync": "gunicorn sync, without keep-alive",
    "gunicorn-gthread": "gunicorn gthread, 4 x 4"}
BALANCE = [("median round", "median"), ("worst round", "worst"), ("its workers", "worst_round")]
WAITING = [("op/s", "rate"), ("of the ideal", "of_ideal"), ("least of a worker", "least")]
CONCURRENCY = [("CPU µs", "cpu"), ("requests per CPU s", "per_cpu"), ("x its peer", "ratio"),
               ("requests/s", "rate"), ("p50", "p50"), ("p99", "p99"), ("spread", "spread")]


def number(name):
    return lambda row: float(row[name])


SCRIPTS = {
    "instructions": Script("instructions", [
        ("the smallest request", "minimal"), ("one with twelve header fields", "twelve")],
        number("minimal")),
    "syscalls": Script("syscalls", [
        ("connections", "connections"), ("system calls", "total"), ("by name", "by name")],
        lambda row: (row["connections"], float(row["total"]))),
    "blocking": Script("blocking", [
        ("p50", "p50"), ("p99", "p99"), ("p99.9", "p999")], number("p99"), words=BLOCKING),
    "waiting": Script("concurrency", CONCURRENCY, number("cpu"), "waiting"),
    "modes": Script("concurrency", CONCURRENCY, number("cpu"), "hello"),
    "balance-idle": Script("balance", BALANCE, number("worst"), "idle"),
    "balance-busy": Script("balance", BALANCE, number("worst"), "busy"),
    "scaling": Script("scaling", WAITING, lambda row: (row["workers"], -row["rate_value"]),
                      "waiting"),
    "scaling-tight": Script("scaling", WAITING, lambda row: (row["workers"], -row["rate_value"]),
                            "tight"),
    "computing": Script("computing", [
        ("one worker, op/s", "one"), ("two workers, op/s", "two"), ("ratio", "ratio")],
        lambda row: -row["ratio_value"], "computing"),
    "idle": Script("idle", [
        ("KiB each", "kib"), ("MiB before", "before"), ("MiB after", "after"),
        ("newcomer, ms before", "before_ms"), ("newcomer, ms after", "after_ms")],
        number("kib_value")),
    "respawn": Script("respawn", [
        ("median ms", "median"), ("least", "least"), ("most", "most")], number("median")),
    "boot": Script("boot", [("ms", "ms"), ("x one import", "ratio")], number("ratio")),
    "memory": Script("memory", [
        ("MiB of a worker before", "before"), ("after", "after"), ("most", "most"),
        ("all, MiB", "whole")], number("after_value")),
}


def script(results, name):
    """The table of another script's figures."""
    shown = SCRIPTS[name]
    document = results.get(shown.command)
    rows = document["results"][shown.group] if shown.group else document["results"]
    rows = sorted(rows, key=lambda row: ("error" in row, "error" not in row and shown.order(row)))
    columns = [("version", lambda row: row.get("version", ""))]
    columns += [(heading, lambda row, field=field: plain(row.get(field, "")))
                for heading, field in shown.columns]
    headings, cells = rows_of(columns, rows)
    for line, row in zip(cells, rows, strict=True):
        line[0] = shown.words.get(row["name"], line[0])
    yield table(headings, cells)
    yield f"{cell(machine(document['machine']))}."


SLOW = {"none": "none", "sleep": "waits", "cpu": "computes"}


def blocking_in_turns(results):
    """Who runs one handler at a time, with and without slow requests, in the same rounds."""
    document = results.get("blocking")
    if not (rows := document.get("turns")):
        yield "Not measured yet: `bench/results/blocking.json` has no rounds."
        return
    columns = [
        ("a slow one", lambda row: SLOW[row["slow"]]), ("p50", key("p50", str)),
        ("p99", key("p99", str)), ("p99.9", key("p999", str)),
        ("p99 x without slow ones", lambda row: figure(row.get("without_value"))),
        ("p99 x fastfork", lambda row: figure(row.get("times_value")))]
    headings, cells = rows_of(columns, rows)
    yield table(headings, cells)
    rounds = max(len(row.get("rounds", [])) for row in rows)
    yield f"{cell(machine(document['machine']))}; medians of {rounds} rounds."


def plain(value):
    return f"{value:,}" if isinstance(value, int) else value


BLOCKS = {"works": works, "absolute": absolute, "contenders": contenders, "charts": charts,
          "blocking-turns": blocking_in_turns, "aims": standing.aims, "behind": standing.behind,
          "hello-short": hello_short, "frameworks-short": frameworks_short}
NEEDS = {"blocking-turns": "blocking"}  # instead of the run


def block(results, name):
    """The text of a block, or how to get its figures if they are not there; KeyError: no such."""
    if name in BLOCKS:
        needs, make = NEEDS.get(name, "run"), BLOCKS[name]
    else:
        needs, make = SCRIPTS[name].command, lambda results: script(results, name)
    if results.get(needs) is None:
        return f"Not measured yet: there is no `bench/results/{needs}.json`."
    return "\n\n".join(make(results))
