"""Operations per second with more and more workers: of 100 ms of waiting, of 35 ms of Python.

    python bench/scaling.py [--workers 1,2,4,8,16] [--rounds N] [--seconds S] [--only NAME,...]
                            [--parts waiting|computing] [--json FILE] [--chart FILE]
    python bench/scaling.py --from FILE --chart FILE

The operation that waits is the case of an API whose handlers wait for a database or a hypervisor:
N workers can do 10 N of them in a second.  The one that computes cannot be done faster by more
workers than there are cores; two bare processes that compute the same say what the machine has.

The load is a closed loop in one process that mostly sleeps; CASES says how many operations are on
their way.  For each number of workers all contenders are up at the same time and take turns.  The
rate is the slope of the number of answers over the time at which they came, so it does not matter
in which part of its 100 ms an operation was when the count began or ended.
"""

import contextlib
import functools
import json
import os
import re
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import chart
import servers
import supervised
import table
from operations import WAIT
from servers import HOST, PYTHON
from sites.plain import BODY

TABLE = {"fastfork": supervised.TABLE["fastfork"], "gunicorn-sync": supervised.TABLE["gunicorn"]}
PATIENCE = 30.0  # seconds without any answer
WARM_UP = 1.0  # seconds
WORKER = re.compile(rb"\r\nX-Worker: (\d+)\r\n")


class Load:
    """A closed loop: as many operations as `connections` are on their way all the time.

    With `kept` the connections are kept; otherwise each operation has one of its own.
    """

    def __init__(self, port, path, connections, *, kept=False):
        self.port = port
        self.connections = connections
        self.kept = kept
        closing = b"" if kept else b"Connection: close\r\n"
        self.request = b"GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n" % (path.encode(), closing)
        self.selector = selectors.DefaultSelector()

    def run(self, seconds):
        """[(when, pid of the worker), ...] of the answers of so many seconds.

        It ends when nothing is on its way any more, so that nobody else is measured with it.
        """
        answers = []
        begin = time.perf_counter() + WARM_UP
        end = begin + seconds
        try:
            for _ in range(self.connections):
                self._connect()
            while self.selector.get_map():
                ready = self.selector.select(PATIENCE)
                if not ready:
                    raise RuntimeError(f"no answer within {PATIENCE:.0f} s")
                for key, _ in ready:
                    pid = self._read(key)
                    now = time.perf_counter()
                    if pid and begin <= now < end:
                        answers.append((now, pid))
                    if pid:
                        self._go_on(key.fileobj, now < end)
        finally:
            for key in list(self.selector.get_map().values()):
                key.fileobj.close()
            self.selector.close()
        return answers

    def _connect(self):
        sock = socket.create_connection((HOST, self.port), PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.selector.register(sock, selectors.EVENT_READ, bytearray())
        sock.sendall(self.request)

    def _read(self, key):
        """The pid of the worker if the answer is complete, else None; raises if it is wrong."""
        more = key.fileobj.recv(65536)
        key.data.extend(more)
        data = bytes(key.data)
        if not more:
            raise ConnectionError(f"closed by the server after {data[:80]!r}")
        if not data.endswith(BODY):
            return None
        found = WORKER.search(data)
        if not data.startswith(b"HTTP/1.1 200 ") or not found:
            raise ValueError(f"not the expected answer: {data[:80]!r}")
        key.data.clear()
        return int(found[1])

    def _go_on(self, sock, more):
        if more and self.kept:
            sock.sendall(self.request)
            return
        self.selector.unregister(sock)
        sock.close()
        if more:
            self._connect()


def rate_of(times):
    """Events per second: the slope of their number over time (least squares)."""
    return statistics.linear_regression(times, range(len(times))).slope


def one_round(server, path, seconds, outstanding, kept=False):
    """The rate, and how many operations each worker did."""
    connections = outstanding * len(server.workers)
    answers = Load(server.port, path, connections, kept=kept).run(seconds)
    shares = Counter(pid for _, pid in answers)
    return {"rate": rate_of([when for when, _ in answers]),
            "shares": sorted(shares.get(pid, 0) for pid in server.workers)}


def start(name, workers, stack):
    """The beginning of a contender's row, and the server that runs (None if it does not)."""
    running = []

    def begin():
        running.append(stack.enter_context(
            supervised.Server(TABLE[name], workers, app="operations:app")))
        return {"version": running[0].version}

    row = servers.attempt(name, begin)
    return row, running[0] if running else None


def measure(row, take):
    """Add another round to a contender's row, unless it has failed."""
    if "error" not in row:
        got = servers.attempt(row["name"], take)
        if "error" in got:
            row |= got
        else:
            row.setdefault("rounds", []).append(got)


# -- operations that wait ----------------------------------------------------------------
class Case(NamedTuple):
    title: str
    outstanding: int  # operations per worker that are on their way
    kept: bool


CASES = {
    "waiting": Case("two clients for each worker, a connection for each operation", 2, False),
    "tight": Case("as many clients as workers, a connection for each operation", 1, False),
    "kept": Case("two clients for each worker, each on its own connection", 2, True),
}
KEEP_NOTHING = ("gunicorn-sync",)  # close the connection after each answer


def waiting(names, options):
    """Rows by case: one for each number of workers and each contender."""
    results = {case: [] for case in CASES}
    for workers in options.workers:
        for case, rows in rows_with(workers, names, options).items():
            results[case] += rows
    return results


def rows_with(workers, names, options):
    """Rows by case, with so many workers."""
    rows = {case: [] for case in CASES}
    with contextlib.ExitStack() as stack:
        turns = []
        for name in names:
            beginning, server = start(name, workers, stack)
            for key, case in CASES.items():
                if not (case.kept and name in KEEP_NOTHING):
                    row = beginning | {"contender": name, "workers": workers}
                    rows[key].append(row)
                    turns.append((row, server, case))
        for _ in range(options.rounds):
            for row, server, case in turns:
                measure(row, functools.partial(one_round, server, "/wait", options.seconds,
                                               case.outstanding, case.kept))
    for row in (row for found in rows.values() for row in found):
        row["name"] += f" x {workers}"
        if "error" not in row:
            row |= waiting_summary(row)
    return rows


def waiting_summary(row):
    """The medians of a row's rounds."""
    rate = statistics.median(r["rate"] for r in row["rounds"])
    ideal = row["workers"] / WAIT
    shares = [share for r in row["rounds"] for share in r["shares"]]
    return {"rate_value": rate, "rate": f"{rate:.1f}", "ideal": f"{ideal:.0f}",
            "of_ideal": f"{rate / ideal:.1%}", "least": min(shares), "most": max(shares)}


# -- operations that compute -------------------------------------------------------------
def bare_rate(seconds, processes):
    """Operations per second of processes that compute without any server, all together."""
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(processes):
            process = stack.enter_context(subprocess.Popen(
                [PYTHON, "operations.py"], cwd=servers.HERE, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE))
            stack.callback(process.kill)
            selector.register(process.stdout, selectors.EVENT_READ)
        times = []
        begin = time.perf_counter() + WARM_UP
        while time.perf_counter() < begin + seconds:
            for key, _ in selector.select(PATIENCE):
                dots = len(os.read(key.fd, 4096))
                times += [time.perf_counter()] * dots
        return rate_of([when for when in times if when >= begin])


def computing(names, options):
    """A row for each contender: its rate with one worker, with two, and the ratio of a round."""
    rows, rates = [], []
    with contextlib.ExitStack() as stack:
        for name in names:
            row, one = start(name, 1, stack)
            two = None
            if one:
                row, two = start(name, 2, stack)
            rows.append(row)
            rates.append(functools.partial(served_rate, {1: one, 2: two}, options.seconds))
        rows.append({"name": "bare processes"})
        rates.append(functools.partial(bare_rate, options.seconds))
        for _ in range(options.rounds):
            for row, rate in zip(rows, rates, strict=True):
                measure(row, functools.partial(one_two, rate))
    for row in rows:
        if "error" not in row:
            row |= computing_summary(row["rounds"])
    return rows


def served_rate(running, seconds, workers):
    return one_round(running[workers], "/compute", seconds, CASES["waiting"].outstanding)["rate"]


def one_two(rate):
    """Rates with one worker and with two, and their ratio."""
    one, two = rate(1), rate(2)
    return {"one": one, "two": two, "ratio": two / one}


def computing_summary(rounds):
    one, two, ratio = (statistics.median(r[key] for r in rounds) for key in ("one", "two", "ratio"))
    return {"one": f"{one:.1f}", "two": f"{two:.1f}", "ratio": f"{ratio:.2f}",
            "ratio_value": ratio}


# -- the command -------------------------------------------------------------------------
def numbers(text):
    return [int(word) for word in text.split(",")]


PARTS = ("waiting", "computing")


def take(options):
    """The figures: rows by case."""
    names = table.choose(options.only, TABLE, TABLE)
    parts = table.choose(options.parts, PARTS, PARTS)
    how = f"{options.rounds} rounds of {options.seconds} s (medians)"
    results = waiting(names, options) if "waiting" in parts else {}
    for key, rows in results.items():
        table.show(f"Operations that wait for {WAIT * 1e3:.0f} ms, {CASES[key].title}, {how}",
                   [("version", "version"), ("op/s", "rate"), ("ideal", "ideal"),
                    ("of it", "of_ideal"), ("least of a worker", "least"), ("most", "most")],
                   rows)
    if "computing" in parts:
        results["computing"] = computing(names, options)
        table.show(f"Operations that compute, {how}",
                   [("version", "version"), ("op/s of 1", "one"), ("op/s of 2", "two"),
                    ("2 : 1", "ratio")], results["computing"],
                   [f"{len(os.sched_getaffinity(0))} cores."])
    table.save(options.json, "scaling", results)
    return results


def main():
    p = table.parser(__doc__)
    p.add_argument("--workers", type=numbers, default=[1, 2, 4, 8, 16], metavar="N,...",
                   help="numbers of workers (1,2,4,8,16)")
    p.add_argument("--parts", metavar="NAME,...", help=f"only these of {', '.join(PARTS)}")
    p.add_argument("--rounds", type=int, default=3, help="rounds (3)")
    p.add_argument("--seconds", type=int, default=6, help="seconds per contender and round (6)")
    p.add_argument("--chart", metavar="FILE", help="draw the operations that wait there (SVG)")
    p.add_argument("--from", dest="source", metavar="FILE",
                   help="measure nothing, draw what --json has written")
    options = p.parse_args()
    if options.source:
        results = json.loads(Path(options.source).read_text())["results"]
    else:
        servers.terminate_cleanly()
        results = take(options)
    status = servers.exit_status([row for rows in results.values() for row in rows])
    if options.chart and not status and "waiting" in results:
        Path(options.chart).write_text(chart.draw(results["waiting"], 1 / WAIT))
    return status


if __name__ == "__main__":
    os.chdir(servers.HERE)
    sys.exit(main())
