"""Latency of fast requests while others of the same service block: an open loop.

    python bench/blocking.py [--rate N] [--seconds S] [--connections N] [--workers N]
                             [--slow sleep|cpu] [--no-slow] [--rest S] [--only NAME,...]
                             [--rounds N] [--round-seconds S] [--json FILE]

Requests come at fixed times over kept connections; every hundredth of them takes half a second.
The latency of the others counts from the time at which they were due (openloop.py says how).  One
contender after the other, each alone, with four workers.

Then rounds, in which those that run one handler at a time take turns: fastfork, also without any
slow request, beside bjoern and granian, with slow requests of both kinds.  Their ratios are of
figures of the same round.
"""

import os
import statistics
import sys
from dataclasses import replace

import openloop
import servers
import table
from mixed import SLOW
from servers import Contender, granian, gunicorn, waitress
from sites.plain import BODY

SLOW_EVERY = 100
WARM_UP = 2.0  # seconds of the same load before it counts
REST = 0.6  # seconds: a slow request's, and something for it to begin
LATE = 3e-3  # seconds by which the generator may be late in one of a hundred requests
FAST_REQUEST = servers.MINIMAL[0]
SLOW_REQUEST = FAST_REQUEST.replace(b"/", b"/slow", 1)


TABLE = {c.name: c for c in [
    *(servers.TABLE[name] for name in (
        "fastfork", "fastfork-greenlets", "fastfork-gevent", "fastfork-threads",
        "gunicorn-sync")),
    Contender("gunicorn-gthread", "gunicorn", gunicorn("-k", "gthread", "--threads", "4")),
    servers.TABLE["gunicorn-gevent"],
    replace(servers.TABLE["granian"], name="granian-one"),
    Contender("granian", "granian", granian()),  # 128 blocking threads for a worker
    servers.TABLE["bjoern"],
    # One process with as many threads as gthread has in four.
    Contender("waitress", "waitress", waitress("--threads=16")),
]}
ONE_PROCESS = ("waitress",)
APPS = {"sleep": "mixed:sleeping", "cpu": "mixed:burning"}  # by what a slow request does
GREENLETS_APPS = APPS | {"sleep": "mixed:cooperative"}
NONE = "none"  # no slow request at all
# What takes turns in the rounds: who, and what slow requests do.
TURNS = [("fastfork", NONE), *((name, slow) for slow in APPS
                               for name in ("fastfork", "bjoern", "granian-one"))]


def measure(contender, options, slow, seconds):
    """One row."""
    requests = openloop.plan(options.rate, WARM_UP + seconds, options.connections,
                             0 if slow == NONE else SLOW_EVERY, options.rest)
    measured = [request for request in requests if request.due >= WARM_UP]
    apps = GREENLETS_APPS if contender.name == "fastfork-greenlets" else APPS
    workers = 1 if contender.name in ONE_PROCESS else options.workers
    app = apps["sleep" if slow == NONE else slow]
    with servers.Server(contender, workers=workers, app=app) as server:
        server.settle()
        pids = server.pids()
        load = openloop.OpenLoop((servers.HOST, server.port), requests,
                                 FAST_REQUEST, SLOW_REQUEST, BODY)
        load.run()
        if server.pids() != pids:
            raise RuntimeError("a process ended or was started while it was measured")
        version = server.version
    late = openloop.quantile([request.late for request in measured], 0.99)
    if late > LATE:
        raise RuntimeError(f"the generator itself was late by {late * 1e3:.1f} ms at p99")
    return {"version": version, "opened_again": load.connects - len(load.connections),
            **summary(measured)}


def summary(requests):
    """The figures of a row, as strings for the table, and what they are from."""
    fast = [request.latency for request in requests if not request.slow]
    slow = [request.latency for request in requests if request.slow]
    late = [request.late for request in requests]
    if slow and min(slow) < SLOW:
        raise RuntimeError(f"a slow request took {min(slow) * 1e3:.0f} ms only")
    values = {"p50": openloop.quantile(fast, 0.5), "p99": openloop.quantile(fast, 0.99),
              "p999": openloop.quantile(fast, 0.999), "most": max(fast),
              "late": openloop.quantile(late, 0.99)}
    if slow:
        values["slow"] = openloop.quantile(slow, 0.5)
    return {**{key: f"{value * 1e3:.2f}" for key, value in values.items()},
            "seconds": values | {"latest": max(late)}, "fast": len(fast),
            "waited": sum(request.waited for request in requests if not request.slow),
            "latencies": sorted(round(latency, 6) for latency in fast)}


def in_turns(options):
    """A row for each of TURNS: the medians of its rounds, and what they are of fastfork's."""
    found = {turn: [] for turn in TURNS}
    for _ in range(options.rounds):
        for name, slow in TURNS:
            row = servers.attempt(name, lambda n=name, s=slow: measure(
                TABLE[n], options, s, options.round_seconds))
            found[name, slow].append(row)
    return [together(turn, found) for turn in TURNS]


def together(turn, found):
    """The row of a turn, of the rows of its rounds."""
    name, slow = turn
    if wrong := [row for row in found[turn] if "error" in row]:
        return {"name": name, "slow": slow, **wrong[0]}
    rounds = [row["seconds"] for row in found[turn]]
    row = {"name": name, "slow": slow, "version": found[turn][0]["version"], "rounds": rounds}
    row |= {key: f"{statistics.median(r[key] for r in rounds) * 1e3:.2f}"
            for key in ("p50", "p99", "p999")}
    for key, base in (("without", ("fastfork", NONE)), ("times", ("fastfork", slow))):
        others = [other.get("seconds") for other in found[base]]
        if base != turn and None not in others and (key == "times" or name == "fastfork"):
            every = [mine["p99"] / its["p99"] for mine, its in zip(rounds, others, strict=True)]
            row |= {f"{key}_rounds": every, f"{key}_value": statistics.median(every),
                    key: f"{statistics.median(every):.3g}"}
    return row


def show_turns(rows, options):
    words = {NONE: "none", "sleep": "waits", "cpu": "computes"}
    table.show(f"p99 in turns, medians of {options.rounds} rounds of {options.round_seconds:.0f} s",
               [("version", "version"), ("slow", "slow"), ("p50", "p50"), ("p99", "p99"),
                ("p99.9", "p999"), ("x without slow", "without"), ("x fastfork", "times")],
               [row | {"slow": words[row["slow"]]} for row in rows],
               ["The aims: at most 3 x without slow ones; bjoern and granian at least 20 x "
                "fastfork."])


def main():
    p = table.parser(__doc__)
    p.add_argument("--rate", type=float, default=200, help="requests per second (200)")
    p.add_argument("--seconds", type=float, default=20, help="seconds that count (20)")
    p.add_argument("--connections", type=int, default=64, help="how many (64)")
    p.add_argument("--workers", type=int, default=4, help="workers of each contender (4)")
    p.add_argument("--slow", choices=["sleep", "cpu"], default="sleep",
                   help="what slow requests do for half a second: wait or compute (sleep)")
    p.add_argument("--no-slow", action="store_true", help="no slow request at all")
    p.add_argument("--rest", type=float, default=REST, metavar="S",
                   help="seconds for which the connection of a slow request is passed over; "
                        f"0: strictly in turn ({REST})")
    p.add_argument("--rounds", type=int, default=3,
                   help="rounds of those that take turns; 0, or with --only: none (3)")
    p.add_argument("--round-seconds", type=float, default=10, metavar="S",
                   help="seconds of a round that count, of each (10)")
    options = p.parse_args()
    servers.terminate_cleanly()
    rows, kind = [], NONE if options.no_slow else options.slow
    for name in table.choose(options.only, TABLE, TABLE):
        contender = TABLE[name]
        rows.append(servers.attempt(
            name, lambda c=contender: measure(c, options, kind, options.seconds)))
    slow = "none slow" if options.no_slow else (
        f"every {SLOW_EVERY}th takes {SLOW} s ({options.slow})")
    table.show(f"Latency of fast requests in ms, {options.rate:.0f}/s over {options.connections} "
               f"connections for {options.seconds:.0f} s, {slow}, {options.workers} workers",
               [("version", "version"), ("p50", "p50"), ("p99", "p99"), ("p99.9", "p999"),
                ("max", "most"), ("slow p50", "slow"), ("waited", "waited"),
                ("opened again", "opened_again"), ("late p99", "late")], rows,
               ["waited: fast requests that were due while their connection was busy.  late: how "
                "late the generator\nitself was, which is in all figures."])
    turns = in_turns(options) if options.rounds and not options.only else []
    if turns:
        show_turns(turns, options)
    table.save(options.json, "blocking", rows, turns=turns)
    return servers.exit_status([*rows, *turns])


if __name__ == "__main__":
    os.chdir(servers.HERE)
    sys.exit(main())
