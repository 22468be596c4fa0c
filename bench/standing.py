"""Where fastfork stands: the aims with their figures, and everything that others do better."""

from collections.abc import Callable
from dataclasses import dataclass

from figures import OURS, REFERENCES, Missing, cell, cost, figure, mebibytes

API_WORKS = ("falcon", "flask", "django")
TRANSFERS = ("post-1k", "post-64k", "upload-10m", "generated-1m", "file-100m")


# -- aims ------------------------------------------------------------------------------------
# A check returns the figure in words, whether the aim holds, and, if it does not, how far the
# figure goes from round to round, in words ("": that is not known).
def ratio(results, work, base):
    """fastfork's CPU time per request over that of `base`, as the run has it."""
    value = cost(results.row(work), base)
    if value is None:
        results.row(work, base)  # says why
        raise Missing(f"no ratio to {base}")
    return value


def advantage(results, work, rival):
    """fastfork's requests per CPU second over a rival's."""
    results.row(work)
    value = cost(results.row(work, rival))
    if value is None:
        raise Missing(f"no ratio to {rival}")
    return value


def quotients(row, other):
    """CPU time per request of a row over that of another, in each round."""
    return [a["cpu_us"] / b["cpu_us"]
            for a, b in zip(row["rounds"], other["rounds"], strict=False)]


def span(values, unit=""):
    """How far a figure goes from round to round, in words."""
    return f", {min(values):.3f} to {max(values):.3f}{unit} in {len(values)} rounds"


def best(results, work, value, python=False):
    """The rival with the least `value(row)`: (value, its name, who had no figure, in words)."""
    rows, invalid = results.rivals(work, python)
    found = [(value(row), row["name"]) for row in rows if value(row) is not None]
    if not found:
        raise Missing("no rival has a figure")
    return *min(found), f"; no figure: {', '.join(invalid)}" if invalid else ""


def limit_aim(results):
    value = ratio(results, "hello", "limit")
    every = quotients(results.row("hello"), results.row("hello", "limit"))
    return f"{value:.3f}", value <= 1.3, span(every)


def advantage_aim(work, rival, wanted):
    def check(results):
        value = advantage(results, work, rival)
        every = quotients(results.row(work, rival), results.row(work))
        return f"{value:.3f}", value >= wanted, span(every)

    return check


def least_aim(work, key, unit):
    """fastfork's `key` is less than that of every rival."""
    def check(results):
        ours = results.row(work).get(key)
        if ours is None:
            raise Missing(f"no {key} of {OURS}")
        least, name, invalid = best(results, work, lambda row: row.get(key))
        every = [a["cpu_us"] - b["cpu_us"] for a, b in zip(
            results.row(work)["rounds"], results.row(work, name)["rounds"], strict=False)]
        return (f"{ours:.3f} {unit}; {name} {least:.3f} {unit}{invalid}", ours < least,
                span(every, f" {unit} more"))

    return check


def ahead_aim(work, python):
    """Every rival needs more CPU time per request than fastfork in one of its rows."""
    def check(results):
        results.row(work)
        ours = min((row for row in results.rows(work)
                    if row["name"].startswith(OURS) and "error" not in row), key=cost)
        least, name, invalid = best(results, work, cost, python)
        least /= cost(ours)
        every = quotients(results.row(work, name), ours)
        with_it = "" if ours["name"] == OURS else f" ({ours['name']})"
        return f"{least:.3f} x {name}{with_it}{invalid}", least > 1, span(every)

    return check


def latency_aim(results):
    """At the rate of every rival, fastfork's p99 is no more than that rival's."""
    results.row("latency")
    rows, invalid = results.rivals("latency")
    found = [at_its_rate(row) for row in rows]
    if not found:
        raise Missing("no rival has a figure")
    worse = [words for ratio, words in sorted(found, reverse=True) if ratio > 1]
    shown = worse or [max(found)[1]]
    none = f"; no figure: {', '.join(invalid)}" if invalid else ""
    return "; ".join(shown) + none, not worse, ""


def at_its_rate(row):
    """fastfork's p99 over a rival's, both at the rival's rate, and that in words."""
    beside = row.get("beside")
    if beside is None:
        raise Missing(f"{OURS} was not measured at the rate of {row['name']}")
    if "error" in beside:
        raise Missing(f"{OURS} at the rate of {row['name']}: {beside['error']}", ours=True)
    ratio = beside["p99"] / row["p99"]
    every = span([r["beside"]["p99"] / r["p99"] for r in row["rounds"]])
    return ratio, (f"{ratio:.3f} x {row['name']} ({beside['p99']:.3f} ms; "
                   f"{row['p99']:.3f} ms){every}")


def log_aim(results):
    value = results.row("log").get("ratio", {}).get("off")
    if value is None:
        raise Missing("no ratio to the same without a log")
    every = [(r["cpu_us"] / r["off_cpu_us"] - 1) * 100 for r in results.row("log")["rounds"]]
    return f"{(value - 1) * 100:+.1f} %", value <= 1.1, span(every, " %")


def instructions_aim(rival, kind):
    def check(results):
        document = results.get("instructions")
        if document is None:
            raise Missing("no results/instructions.json")
        rows = {row["name"]: row for row in document["results"]}
        for name in (OURS, rival):
            if name not in rows:
                raise Missing(f"{name} was not measured")
            if "error" in rows[name]:
                raise Missing(f"{name}: {rows[name]['error']}", ours=name == OURS)
        less = 1 - rows[OURS][kind] / rows[rival][kind]
        return f"{less * 100:.1f} % below", less >= 0.25, ""

    return check


def turn(results, name, slow):
    """A contender's valid row of the rounds of blocking.py; raises Missing."""
    rows = (results.get("blocking") or {}).get("turns")
    if not rows:
        raise Missing("no rounds in results/blocking.json")
    for row in rows:
        if (row["name"], row["slow"]) == (name, slow):
            if "error" in row:
                raise Missing(f"{name}: {row['error']}", ours=name == OURS)
            return row
    raise Missing(f"{name} was not measured")


def handoff_aim(name, slow, key, holds):
    """The p99 of fast requests while others are slow, as a multiple of fastfork's."""
    def check(results):
        row = turn(results, name, slow)
        if f"{key}_value" not in row:
            turn(results, OURS, "none")  # says why
            turn(results, OURS, slow)
            raise Missing("no ratio")
        value = row[f"{key}_value"]
        return f"{value:.3f}", holds(value), span(row[f"{key}_rounds"])

    return check


SLOW = {"sleep": "wait", "cpu": "compute"}  # what slow handlers do

AIMS = [
    ("Hello: CPU time per request at most 1.3 x that of the bare C server", limit_aim),
    *((f"Hello: at least {wanted} x as many requests per CPU second as {rival}",
       advantage_aim("hello", rival, wanted))
      for rival, wanted in (("bjoern", 1.0), ("fastwsgi", 1.0), ("granian", 2),
                            ("gunicorn-gthread", 10))),
    *((f"{work.capitalize()}: the least CPU time of its own of all servers",
       least_aim(work, "overhead_us", "µs")) for work in API_WORKS),
    ("file-100m: at least 0.9 x as many requests per CPU second as nginx",
     advantage_aim("file-100m", "nginx", 0.9)),
    *((f"{work}: more requests per CPU second than every Python server", ahead_aim(work, True))
      for work in TRANSFERS),
    ("Access log: at most 10 % more CPU time per request", log_aim),
    ("Pipelined: more requests per CPU second than all", ahead_aim("pipelined", False)),
    ("Latency at half of a rival's full rate: p99 no worse than that rival's at the same rate",
     latency_aim),
    *((f"While some handlers {words}: p99 of the others at most 3 x that without such",
       handoff_aim(OURS, slow, "without", lambda value: value <= 3))
      for slow, words in SLOW.items()),
    *((f"While some handlers {words}: p99 of the others at {rival} at least 20 x fastfork's",
       handoff_aim(rival, slow, "times", lambda value: value >= 20))
      for slow, words in SLOW.items() for rival in ("bjoern", "granian-one")),
    *((f"Instructions, {words}: at least 25 % below {rival}", instructions_aim(rival, kind))
      for rival in ("bjoern", "fastwsgi")
      for kind, words in (("minimal", "smallest request"), ("twelve", "twelve header fields"))),
]


def aims(results):
    """The aims as a table, each with its figure and whether it holds."""
    lines = ["| aim | figure | |", "| --- | ---: | --- |"]
    for words, check in AIMS:
        try:
            shown, holds, every = check(results)
            verdict = "holds" if holds else "**does not hold**"
            shown += "" if holds else every
        except Missing as e:
            shown, verdict = str(e), "**does not hold**" if e.ours else "not measured"
        lines.append(f"| {words} | {cell(shown)} | {verdict} |")
    yield "\n".join(lines)


# -- what others do better ---------------------------------------------------------------------
def rounds_less(row, ours, key):
    """In how many rounds a rival's figure was less, in words; "" if the rounds do not say."""
    pairs = [(a.get(key), b.get(key)) for a, b in zip(row.get("rounds", []), ours["rounds"],
                                                      strict=False)] if "rounds" in ours else []
    if not pairs or any(None in pair for pair in pairs):
        return ""
    return f" (less in {sum(a < b for a, b in pairs)} of {len(pairs)} rounds)"


def at_the_rate_of(row, key):
    """In the open loop: fastfork's row of what it did at a rival's rate, if it has that figure."""
    beside = row.get("beside", {})
    return beside | {"rounds": [r["beside"] for r in row["rounds"]]} if key in beside else None


def cheaper(row, ours):
    ours = at_the_rate_of(row, "cpu_us") or ours
    value = cost(row)
    if value is not None and value < 1:
        return f"{row['name']} needs {value:.3f} of fastfork's{rounds_less(row, ours, 'cpu_us')}"
    return None


def smaller(key, unit, scale=lambda value: value, by_round=True):
    def compare(row, ours):
        ours = at_the_rate_of(row, key) or ours
        theirs, own = row.get(key), ours.get(key)
        if theirs is None or own is None or theirs >= own:
            return None
        return (f"{row['name']} has {figure(scale(theirs))} {unit} against "
                f"{figure(scale(own))} {unit}{rounds_less(row, ours, key) if by_round else ''}")

    return compare


METRICS = {
    "CPU time per request": cheaper,
    "A server's own CPU time per request": smaller("overhead_us", "µs"),
    "p99 latency": smaller("p99", "ms"),
    "Peak memory": smaller("peak_kib", "MiB", mebibytes, by_round=False),
}


def behind(results):
    """For each metric the works in which somebody has a better figure, and by how much."""
    failed = []
    for work, facts in results.works().items():
        try:
            results.row(work)
        except Missing as e:
            failed.append(f"- {cell(facts['title'])}: no valid figure. {cell(str(e))}.")
    if failed:
        yield "### No figure at all"
        yield "\n".join(failed)
    for metric, compare in METRICS.items():
        yield f"### {metric}"
        yield "\n".join(found) if (found := better(results, compare)) else (
            "No server is better in any work of this run.")
    yield "### The other measurements"
    yield "\n".join(found) if (found := elsewhere(results)) else "No server is better in any."


def better(results, compare):
    """A line for each work in which `compare(rival, ours)` has something to say."""
    for_all = []
    for work, facts in results.works().items():
        try:
            ours = results.row(work)
        except Missing:
            continue
        rows, _ = results.rivals(work)
        if said := [words for row in rows if (words := compare(row, ours))]:
            for_all.append(f"- {cell(facts['title'])}: {'; '.join(said)}.")
    return for_all


@dataclass(frozen=True)
class Figure:
    """A figure of another script in which servers are compared: less is better, or `more`.  Only
    rows in which the field `same` is equal are."""

    words: str
    command: str
    group: str | None
    value: Callable[[dict], float]
    unit: str = ""
    more: bool = False
    same: str = ""


def field(name, scale=1.0):
    return lambda row: float(row[name]) * scale


FIGURES = [
    Figure("Instructions, smallest request", "instructions", None, field("minimal")),
    Figure("Instructions, twelve header fields", "instructions", None, field("twelve")),
    Figure("System calls per request", "syscalls", None, field("total"), same="connections"),
    Figure("While others block, p50", "blocking", None, field("p50"), " ms"),
    Figure("While others block, p99", "blocking", None, field("p99"), " ms"),
    Figure("While others block, p99.9", "blocking", None, field("p999"), " ms"),
    Figure("CPU time where handlers wait", "concurrency", "waiting", field("cpu"), " µs"),
    Figure("CPU time of hello in modes that can wait", "concurrency", "hello", field("cpu"), " µs"),
    Figure("Most connections of one worker over its share", "balance", "idle",
           field("worst_value")),
    Figure("The same while workers are busy", "balance", "busy", field("worst_value")),
    Figure("Operations that wait, per second", "scaling", "waiting", field("rate_value"),
           more=True, same="workers"),
    Figure("The same with as many clients as workers", "scaling", "tight", field("rate_value"),
           more=True, same="workers"),
    Figure("Operations that compute, two workers over one", "computing", "computing",
           field("ratio_value"), more=True),
    Figure("Memory per idle connection", "idle", None, field("kib_value"), " KiB"),
    Figure("From SIGKILL to the replacement", "respawn", None, field("median"), " ms"),
    Figure("Sixteen workers ready, over one import", "boot", None, field("ratio")),
    Figure("Memory that a worker has for itself", "memory", None,
           field("after_value", 1 / 1024), " MiB"),
]


def elsewhere(results):
    """A line for each row of fastfork's, in the other scripts, that a rival's is better than."""
    found = []
    for shown in FIGURES:
        document = results.get(shown.command)
        if document is None:
            continue
        rows = document["results"][shown.group] if shown.group else document["results"]
        for ours in rows:
            if not ours["name"].startswith(OURS):
                continue
            if "error" in ours:
                found.append(f"- {shown.words}: {ours['name']} has no valid figure. "
                             f"{cell(ours['error'])}.")
            elif rivals := [row for row in rows if leads(row, ours, shown)]:
                said = ", ".join(f"{row['name']} {figure(shown.value(row))}{shown.unit}"
                                 for row in rivals)
                label = f" ({ours[shown.same]} {shown.same})" if shown.same else ""
                found.append(f"- {shown.words}{label}: {ours['name']} has "
                             f"{figure(shown.value(ours))}{shown.unit}; {said}.")
    return found


def leads(row, ours, shown):
    """Whether a row of somebody else is better than ours, where the two can be compared."""
    if "error" in row or row["name"].startswith(OURS) or row["name"] in REFERENCES:
        return False
    if shown.same and row[shown.same] != ours[shown.same]:
        return False
    theirs, own = shown.value(row), shown.value(ours)
    return theirs > own if shown.more else theirs < own
