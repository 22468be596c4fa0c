"""The four charts of a run: what is in each.  bars.py draws them."""

import math
import statistics

import bars
from figures import NOT_PYTHON, OURS, REFERENCES, cost, figure

CUT = 10  # times the median of a panel of times: a bar that is longer is broken
TITLES = {
    "bench-hello.svg": "Requests per CPU second, the smallest request",
    "bench-overhead.svg": "The server's own CPU time per request of an API",
    "bench-transfers.svg": "Transfers per CPU second",
    "bench-latency.svg": "Latency at half of the rate that each server can reach",
}


def kind(name):
    return "ours" if name.startswith(OURS) else (
        "reference" if name in REFERENCES + NOT_PYTHON else "rest")


def panel(results, work, heading, value, label, cut=math.inf):
    """The bars of one work; None if there is none.  `value` is a function of a row; a bar is
    broken that is more than `cut` times as long as the median."""
    rows = [row for row in results.rows(work) if row["name"] != "app-alone"]
    found = {row["name"]: value(row) for row in rows if "error" not in row}
    shown = {name: (number, label(number)) for name, number in found.items() if number is not None}
    missing = {row["name"]: row["error"].partition(":")[0] for row in rows if "error" in row}
    if not shown:
        return None
    median = statistics.median(value for value, _ in shown.values())
    return bars.Panel(heading, shown, missing, cut * median)


def picture(name, subtitle, panels, *, less, notes=()):
    """The SVG, or None if the figures of a panel are missing.  Names are in the order of the
    means of their bars, best first (`less`: the shorter the better)."""
    if not all(panels):
        return None
    names = dict.fromkeys(n for p in panels for n in (*p.bars, *p.missing))

    def order(name):
        places = [p.bars[name][0] / statistics.median(value for value, _ in p.bars.values())
                  for p in panels if name in p.bars]
        mean = statistics.fmean(places) if places else 0
        return len(places) == 0, mean if less else -mean

    kinds = {n: kind(n) for n in sorted(names, key=order)}
    return bars.draw(TITLES[name], subtitle, kinds, panels, notes)


def per_cpu(base):
    """Requests per CPU second as a share of those of `base`."""
    def value(row):
        ratio = cost(row, base)
        return ratio and 1 / ratio

    return value


def whole(share):
    return f"{share * 100:.0f} %" if share >= 0.1 else f"{share * 100:.1f} %"


def draw(results):
    """{file: SVG, or None if its figures are not there}."""
    def overhead(row):
        return row.get("overhead_us")

    def microseconds(value):
        return figure(value, " µs")

    def times(key):
        """A row's latency over fastfork's at the same rate."""
        def value(row):
            if row["name"] == OURS:
                return 1.0
            own = row.get("beside", {}).get(key)
            return row[key] / own if own else None

        return value

    compared = any("beside" in row for row in results.rows("latency")) or None
    return {
        "bench-hello.svg": picture(
            "bench-hello.svg", "one worker, 64 connections; limit is a bare C server that parses "
            "nothing; more is better",
            [panel(results, "hello", "limit is 100 %", per_cpu("limit"), whole)], less=False),
        "bench-overhead.svg": picture(
            "bench-overhead.svg", "all CPU time less that of the application alone; twelve "
            "request fields; less is better",
            [panel(results, work, work.capitalize(), overhead, microseconds, CUT)
             for work in ("falcon", "flask", "django")], less=True),
        "bench-transfers.svg": picture(
            "bench-transfers.svg", "one worker; fastfork is 100 %; more is better",
            [panel(results, work, heading, per_cpu(OURS), whole) for work, heading in (
                ("post-1k", "POST 1 KiB"), ("post-64k", "POST 64 KiB"),
                ("upload-10m", "↑ 10 MiB"), ("generated-1m", "↓ 1 MiB"),
                ("file-100m", "file 100 MiB"))], less=False,
            notes=["↑ chunked upload, ↓ generated in pieces of 64 KiB; nginx serves files only."]),
        "bench-latency.svg": picture(
            "bench-latency.svg", "open loop, one worker; as a multiple of fastfork's when that "
            "is asked as often; less is better",
            [compared and panel(results, "latency", heading, times(key), figure, CUT)
             for key, heading in (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9"))],
            less=True),
    }
