"""Every contender at every work: requests per second, latencies, CPU time, peak memory.

    python bench/run.py [--work NAME,...] [--only NAME,...] [--rounds N] [--seconds S]
                        [--json FILE | --update FILE]

For each work (works.py) all contenders are started, asked once, their answer compared with what
it should be, and warmed up.  Then they take turns: in every round each in turn is driven for S
seconds (A B C, A B C, ...) while the others have nothing to do.  The servers have the first core
(on larger machines as many as workers), the load generator the last one.  If that itself has needed
more CPU time for a request than in other rounds, the round is taken again.

CPU time is the scheduler's account (schedstat) of every thread of a contender's process tree, so
time in which it waited for the load does not count.  Ratios are taken between contenders of the
same round; tables have the medians over the rounds.  Whatever is not as it should be in one round
makes a contender's row invalid, and the row says what it was; the others go on.
"""

import contextlib
import functools
import itertools
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import idle
import network
import procfs
import servers
import table
import works
import wrk
from contenders import Connection, expect
from figures import OURS

WARM_UP = 1  # seconds
START, PAUSE = 0.5, 0.1  # seconds that a start and the way to the next round take, for the estimate
LATE = 0.5  # ms by which openload may be late in one of a hundred requests
DISTURBED = 1.12  # x the least CPU time that wrk has needed for a request of the same contender
TRIES = 3  # of a round in which one of these is more, as somebody else used its core
RESTING = 5.0, 30.0  # seconds for the answer of a connection that is to rest, and for all of them
LOG_BUFFER = 1 << 16  # bytes of log lines that a server may have kept to itself when it ended
ALONE = "app-alone"


@dataclass(frozen=True)
class Stand:
    """What a work is measured with: cores, and files in a directory that goes at the end."""

    work: works.Work
    server_cpus: frozenset[int]
    load_cpu: int
    directory: Path
    requests: tuple[str, ...]  # files with a request each

    def start(self, name, log=None):
        """Start a contender for the work."""
        server = servers.Server(
            servers.TABLE[name], workers=self.work.workers, app=self.work.app, log=log,
            connections=self.work.connections + self.work.idle, cpus=self.server_cpus,
            env={"BENCH_FILE": str(self.directory / "file")})
        if self.work.workers > 1:  # one has answered already
            server.settle()
        return server


@contextlib.contextmanager
def stand(work, cores):
    """The Stand for a work on these cores."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=memory_directory()) as name:
        directory = Path(name)
        files = []
        for n, request in enumerate(work.requests):
            files.append(str(directory / f"request-{n}"))
            Path(files[-1]).write_bytes(request)
        if work.app == servers.FILE_APP:
            (directory / "file").write_bytes(work.answers[0] * work.times)
        yield Stand(work, frozenset(cores[:-1][:work.workers]), cores[-1], directory, tuple(files))


def memory_directory():
    """A directory in memory, so that no disk is measured; None for the usual one."""
    room = 4 << 30  # the access logs of all contenders, and more
    shm = Path("/dev/shm")
    return shm if shm.is_dir() and shutil.disk_usage(shm).free > room else None


# The contenders of a work while it is measured.  Each has rounds of some seconds.


class Running:
    """A server, started, and in some works another beside it, which takes turns with it: with the
    access log on the same server without, in the open loop fastfork, at the same rate."""

    def __init__(self, name, stand):
        self.stand = stand
        self.requests = 0  # that have been answered
        self.runs = 0  # of a load generator
        self.log = self.beside = None
        with ExitStack() as stack:
            if stand.work.log:
                self.log = stand.directory / f"{name}.log"
                self.beside = stack.enter_context(stand.start(name))
            elif stand.work.open_loop and name != OURS:
                self.beside = stack.enter_context(stand.start(OURS))
            self.server = stack.enter_context(
                stand.start(name, self.log and str(self.log)))
            self.version = self.server.version
            self.close = stack.pop_all().close

    def prepare(self):
        """Compare its answer with what it should be, then warm it up."""
        check(self.server, self.stand.work)
        self.rate = self._wrk(self.server, WARM_UP)["rate"]
        if self.beside:
            self._wrk(self.beside, WARM_UP)
        if self.stand.work.open_loop:
            self.rate = self._wrk(self.server, WARM_UP)["rate"] / 2

    def round(self, seconds):
        """The figures of one round."""
        work = self.stand.work
        if work.open_loop:
            figures = self._in_time(self.server, seconds)
            if self.beside:
                figures["beside"] = self._beside_in_time(seconds)
            return figures
        if work.idle:
            with idle.resting(self.server.port, work.idle, *RESTING) as connections:
                figures = counted(self.server, lambda: self._wrk(self.server, seconds))
                idle.check(connections)
            self.server.settle()  # it has all of them to close
            return figures
        figures = counted(self.server, lambda: self._wrk(self.server, seconds))
        if self.beside:
            silent = counted(self.beside, lambda: self._wrk(self.beside, seconds))
            figures["off_cpu_us"] = silent["cpu_us"]
        return figures

    def _wrk(self, server, seconds):
        work = self.stand.work
        got = wrk.run(server.port, self.stand.load_cpu, seconds, work.connections,
                      self.stand.requests, work.patience)
        if server is self.server:
            self.requests += got["requests"]
            self.runs += 1
        received = got.pop("bytes")
        if work.pipelined > 1:  # wrk corrects latencies by an interval that is too short then
            got |= dict.fromkeys(("p50", "p99", "p999"))
        if work.down:  # those that were under way at the end count for what came of them
            got["rate"] *= received / work.down / got["requests"]
            got["requests"] = received / work.down
        return got

    def _beside_in_time(self, seconds):
        """fastfork's figures at this one's rate.  If it has none, that is not this one's fault."""
        try:
            return self._in_time(self.beside, seconds)
        except servers.FAILURES as e:
            return {"error": str(e)}

    def _in_time(self, server, seconds):
        """A round of the open loop in which it was not late itself."""
        for _ in range(TRIES):
            figures = counted(server, lambda: self._openload(server, seconds))
            if figures["late"] <= LATE:
                return figures
        raise RuntimeError(f"openload was late by {figures['late']:.2f} ms at p99 itself")

    def _openload(self, server, seconds):
        work = self.stand.work
        command = [servers.build("openload"), server.port, round(self.rate), seconds,
                   work.connections, *self.stand.requests]
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=seconds + 60,
            preexec_fn=lambda: os.sched_setaffinity(0, {self.stand.load_cpu}))
        if done.returncode:
            raise RuntimeError(f"openload: {done.stderr.strip()}")
        got = json.loads(done.stdout)
        if got["errors"]:
            raise RuntimeError(f"openload: {got['errors']} errors, first: {got['trouble']}")
        return {"requests": got["sent"], "rate": float(round(self.rate)),
                **{key: got[key] for key in ("p50", "p99", "p999", "max", "late", "connects")}}

    def verify(self):
        """Once it has ended: raise unless its log has a line for every request."""
        if not self.log:
            return
        if not self.log.exists():
            raise RuntimeError("has written no access log")
        size, lines = count_lines(self.log)
        # Those that wrk did not wait for at the end of a run may be there, and those that have
        # asked whether the server is ready.
        most = self.requests + self.runs * self.stand.work.connections + 10
        least = self.requests - LOG_BUFFER * lines // max(1, size)
        if not least <= lines <= most:
            raise RuntimeError(f"{lines} lines in the access log after {self.requests} requests")


class Alone:
    """The application without a server, called in a loop by own.py."""

    version = "-"

    def __init__(self, stand):
        self.stand = stand

    def prepare(self):
        pass  # own.py warms up by itself

    def round(self, seconds):
        work = self.stand.work
        done = subprocess.run(
            [servers.PYTHON, "own.py", work.app, work.alone, str(seconds)], cwd=servers.HERE,
            capture_output=True, text=True, timeout=seconds + 60,
            preexec_fn=lambda: os.sched_setaffinity(0, self.stand.server_cpus))
        if done.returncode:
            raise RuntimeError(f"own.py: {done.stderr.strip().splitlines()[-1]}")
        got = json.loads(done.stdout)
        return {"requests": got["calls"], "cpu_us": got["cpu_us"]}

    def verify(self):
        pass

    def close(self):
        pass


def check(server, work):
    """Send each of the work's requests; raise unless all answers are what they should be."""
    for request, body in zip(work.requests, itertools.cycle(work.answers), strict=False):
        with Connection(server.port) as connection:
            connection.send(request)
            for _ in range(work.pipelined):
                expect(connection.answer(), body * work.times)
            if work.closes and not connection.closed():
                raise RuntimeError("keeps a connection that it was asked to close")


def counted(server, load):
    """The figures of `load()`, with what the server used meanwhile."""
    pids = server.pids()
    procfs.reset_peaks(pids)
    before = procfs.Cpu(pids)
    got = load()
    if server.pids() != pids:
        raise RuntimeError("a process ended or was started while it was measured")
    spent, user_share, waited = procfs.Cpu(pids).since(before)
    return {**got, "cpu_us": spent / got["requests"] * 1e6, "user_share": user_share,
            "waited_share": waited / spent, "peak_kib": procfs.peak(pids)}


def count_lines(file):
    """Bytes and lines about requests in an access log, in which a server may say more."""
    size = lines = 0
    with file.open("rb") as stream:
        for line in stream:
            if b"GET /" in line:
                size += len(line)
                lines += 1
    return size, lines


# A work, its rounds, and what is made of them.


def take(work, names, options, cores):
    """The rows of a work, one for each name."""
    rows, running = {}, {}
    with stand(work, cores) as place:
        try:
            def start(name):
                running[name] = Alone(place) if name == ALONE else Running(name, place)
                running[name].prepare()
                return {"version": running[name].version, "rounds": []}

            def one_round(name):
                rows[name]["rounds"].append(running[name].round(options.seconds))
                return rows[name]

            def again(number, name):
                rows[name]["rounds"][number] = running[name].round(options.seconds)
                return rows[name]

            def attempt(step, name):
                if "error" not in rows.get(name, {}):
                    rows[name] = servers.attempt(name, functools.partial(step, name))
                    if "error" in rows[name] and name in running:
                        running.pop(name).close()

            for step in [start] + options.rounds * [one_round]:
                for name in names:
                    attempt(step, name)
            for _ in range(TRIES - 1):
                disturbed = {name: disturbed_rounds(work, rows[name].get("rounds", []))
                             for name in names}
                for number in range(options.rounds):
                    for name in names:
                        if number in disturbed[name]:
                            attempt(functools.partial(again, number), name)
        finally:
            with ThreadPoolExecutor() as pool:  # some take a second to end
                list(pool.map(lambda one: one.close(), running.values()))

        def verified(name):
            running[name].verify()
            return rows[name]

        for name in running:
            rows[name] = servers.attempt(name, functools.partial(verified, name))
    for row in rows.values():
        row |= {"work": work.name, "workers": work.workers}
    rounds = {name: row["rounds"] for name, row in rows.items() if "error" not in row}
    return [row | summary(work, name, rounds) if "error" not in row else row
            for name, row in rows.items()]


def disturbed_rounds(work, rounds):
    """The numbers of a contender's rounds that are to be taken again.

    wrk does the same for each request.  It needs a quarter more CPU time for that while its
    core and the server's are two threads of one, which the host of a virtual machine may give it
    for seconds, and that slows the server, too: the faster it is the more, as it leaves wrk the
    less rest.  (What wrk needs for bodies depends on who has touched the memory before.)
    """
    costs = {n: r["load_us"] for n, r in enumerate(rounds) if "load_us" in r}
    if work.down or work.up or not costs:
        return set()
    return {n for n, cost in costs.items() if cost > DISTURBED * min(costs.values())}


def summary(work, name, all_rounds):
    """The figures of a row: medians over its rounds, and ratios to others of the same rounds."""
    rounds = all_rounds[name]

    def median(key):
        values = [r[key] for r in rounds if r.get(key) is not None]
        return statistics.median(values) if values else None

    def beside(other, figure):
        """The median over the rounds of figure(CPU time of this one, CPU time of the other)."""
        return statistics.median(figure(mine["cpu_us"], other["cpu_us"])
                                 for mine, other in zip(rounds, all_rounds[other], strict=True))

    costs = [r["cpu_us"] for r in rounds]
    row = {key: median(key) for key in ("rate", "p50", "p99", "p999", "cpu_us", "user_share",
                                        "waited_share")}
    row["spread"] = max(costs) / min(costs) - 1
    row["disturbed"] = len(disturbed_rounds(work, rounds))
    row["peak_kib"] = max((r["peak_kib"] for r in rounds if "peak_kib" in r), default=None)
    if work.down or work.up:
        row["bytes"] = work.down or work.up
    if ALONE in all_rounds and name in works.SERVERS:
        row["overhead_us"] = beside(ALONE, lambda mine, alone: mine - alone)
    row["ratio"] = {other: beside(other, lambda mine, others: mine / others)
                    for other in ("fastfork", "limit") if other in all_rounds}
    if all("beside" in r for r in rounds):
        row["beside"] = beside_summary([r["beside"] for r in rounds])
        if "error" not in row["beside"]:
            row["ratio"][OURS] = statistics.median(r["cpu_us"] / r["beside"]["cpu_us"]
                                                   for r in rounds)
    if work.log:
        row["ratio"]["off"] = statistics.median(r["cpu_us"] / r["off_cpu_us"] for r in rounds)
    return row


def beside_summary(rounds):
    """The medians of fastfork's figures at another's rate, or why there are none."""
    if failed := [r["error"] for r in rounds if "error" in r]:
        return {"error": failed[0]}
    return {key: statistics.median(r[key] for r in rounds)
            for key in ("cpu_us", "p50", "p99", "p999")}


# What is printed and what is written.


def show(work, rows, options):
    """Print a work's rows."""
    unit = "MiB" if work.down or work.up else "request"
    columns = [
        ("version", "version"), (f"CPU µs/{unit}", "cpu"), ("user", "user"),
        ("vs fastfork", "mine"),
        *([("vs limit", "limit")] if "limit" in work.also else []),
        *([("vs log off", "off")] if work.log else []),
        *([("overhead µs", "overhead")] if work.alone else []),
        ("spread", "spread"), ("waited", "waited"),
        ("MiB/s" if unit == "MiB" else "req/s", "rate"),
        ("p50 ms", "p50"), ("p99 ms", "p99"), ("p99.9 ms", "p999"),
        *([("fastfork p50", "beside_p50"), ("p99", "beside_p99"), ("p99.9", "beside_p999")]
          if work.open_loop else []),
        ("peak MiB", "peak")]
    table.show(f"{work.name}: {work.title} ({load(work, options.seconds)}; "
               f"{options.rounds} rounds, medians)", columns, list(map(cells, rows)),
               [note for note in (work.note, disturbed_told(rows)) if note])


def disturbed_told(rows):
    """Who had rounds that remained disturbed."""
    told = [f"{row['name']} {row['disturbed']}" for row in rows if row.get("disturbed")]
    return f"Rounds that remained disturbed: {', '.join(told)}." if told else ""


def cells(row):
    """A row's figures as strings."""
    if "error" in row:
        return row
    mib = row.get("bytes", 0) / works.MIB or 1  # of a request

    def text(value, form, factor=1):
        return "-" if value is None else format(value * factor, form)

    ratio, beside = row["ratio"], row.get("beside", {})
    return {"name": row["name"], "version": row["version"],
            "cpu": text(row["cpu_us"], ".2f", 1 / mib), "user": text(row["user_share"], ".0%"),
            "mine": text(ratio.get("fastfork"), ".2f"),
            "limit": text(ratio.get("limit"), ".2f"), "off": text(ratio.get("off"), ".2f"),
            "overhead": text(row.get("overhead_us"), ".2f"), "spread": text(row["spread"], ".0%"),
            "waited": text(row["waited_share"], ".0%"), "rate": text(row["rate"], ".0f", mib),
            "p50": text(row["p50"], ".3f"), "p99": text(row["p99"], ".3f"),
            "p999": text(row["p999"], ".3f"),
            **{f"beside_{key}": text(beside.get(key), ".3f") for key in ("p50", "p99", "p999")},
            "peak": text(row["peak_kib"], ".0f", 1 / 1024)}


def load(work, seconds):
    """What drives the servers of a work."""
    if work.open_loop:
        return f"openload PORT RATE/2 {seconds} {work.connections}"
    command = wrk.command(0, seconds, work.connections, patience=work.patience)
    command = shlex.join(command[:command.index("-s")]).replace(command[0], "wrk")
    if work.idle:
        command += f", and {work.idle} idle connections"
    return command


def described(name, work):
    """What the results say about a contender: how it is started for a work, and what that is."""
    if name == ALONE:
        return {"version": "-", "command": "python own.py APP KIND SECONDS",
                "how": "The application is called in a loop, without any server."}
    contender = servers.TABLE[name]
    port = 65535
    try:
        version = contender.version()
        command = contender.command(servers.Start(
            port, app=work.app, connections=work.connections + work.idle))
    except servers.Absent as e:
        return {"version": f"absent: {e}", "command": "", "how": contender.how}
    line = shlex.join(command).replace(str(port), "PORT").replace(servers.PYTHON, "python")
    return {"version": version, "command": line.replace(f"{servers.HERE}/", ""),
            "how": contender.how}


class Results:
    """The document that is written: after every work, so that an interrupted run leaves one.

    It says then that it is not "complete".
    """

    def __init__(self, options, chosen):
        self.file = options.update or options.json
        python = subprocess.run([servers.PYTHON, "-V"], capture_output=True, text=True).stdout
        machine = table.machine() | {"python": python.split()[1], "wrk": wrk.version(),
                                     "congestion": network.congestion(),
                                     "rounds": options.rounds, "seconds": options.seconds}
        self.taken = None
        if options.update:  # works that were not measured with the others say so
            self.document = json.loads(Path(options.update).read_text())
            self.taken = machine
        else:
            self.document = {"command": "run", "arguments": sys.argv[1:], "machine": machine,
                             "works": {}, "contenders": {}, "results": []}
        self.document["complete"] = False
        first = {}  # that work of a contender with which it is described, whichever are chosen
        for work in works.TABLE.values():
            for name in work.names():
                first.setdefault(name, work)
        self.document["contenders"] |= {name: described(name, first[name])
                                        for names in chosen.values() for name in names}
        self.seconds = options.seconds

    def add(self, work, rows):
        """In place of what there was of this work."""
        self.document["works"][work.name] = {
            "title": work.title, "load": load(work, self.seconds),
            "unit": "MiB" if work.down or work.up else "request",
            "note": " ".join(note for note in (work.note, disturbed_told(rows)) if note)}
        if self.taken:
            self.document["works"][work.name]["taken"] = self.taken
        self.document["results"] = [
            row for row in self.document["results"] if row["work"] != work.name] + rows
        self.write()

    def finish(self):
        self.document["complete"] = True
        self.write()

    def write(self):
        if self.file:
            new = Path(f"{self.file}.new")
            new.write_text(json.dumps(self.document, indent=1) + "\n")
            new.replace(self.file)


def plan(options):
    """Who does what: the names of contenders by work."""
    wanted = table.choose(options.work, works.TABLE, works.TABLE)
    only = table.choose(options.only, [*servers.TABLE, ALONE], [*servers.TABLE, ALONE])
    chosen = {name: [one for one in works.TABLE[name].names() if one in only] for name in wanted}
    return {name: names for name, names in chosen.items() if names}


def estimate(chosen, rounds, seconds):
    """Seconds that a run will take, roughly."""
    total = 0.0
    for work_name, names in chosen.items():
        work = works.TABLE[work_name]
        servers_each = 2 if work.log or work.open_loop else 1
        opening = work.idle * 3e-4 + (0.5 if work.idle else 0)
        warm_up = WARM_UP * (2 if work.open_loop else 1)
        each_round = servers_each * (seconds + PAUSE) + opening
        total += len(names) * (servers_each * (START + warm_up) + rounds * each_round)
    return total


def main():
    p = table.parser(__doc__)
    p.add_argument("--work", metavar="NAME,...", help="only these works")
    p.add_argument("--rounds", type=int, default=5, help="rounds (5)")
    p.add_argument("--seconds", type=int, default=2, help="seconds per contender and round (2)")
    p.add_argument("--update", metavar="FILE",
                   help="write the figures there in place of those of the same works")
    options = p.parse_args()
    servers.terminate_cleanly()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("run needs two cores: one for the server, one for the load")
    if not Path(servers.PYTHON).exists():
        sys.exit("`make -C bench env` has not been run")
    chosen = plan(options)
    try:
        idle.raise_file_limit(1000 + max(works.TABLE[name].idle for name in chosen))
    except RuntimeError as e:
        sys.exit(str(e))
    network.own()
    results = Results(options, chosen)
    os.sched_setaffinity(0, {cores[-1]})  # what this process does itself belongs to the load
    expected = estimate(chosen, options.rounds, options.seconds) / 60
    print(f"about {expected:.0f} minutes for {', '.join(chosen)}", flush=True)
    begun = time.monotonic()
    rows = []
    for name, names in chosen.items():
        work = works.TABLE[name]
        done = take(work, names, options, cores)
        show(work, done, options)
        results.add(work, done)
        rows += done
    results.finish()
    print(f"\n{(time.monotonic() - begun) / 60:.1f} minutes")
    return servers.exit_status(rows)


if __name__ == "__main__":
    os.chdir(servers.HERE)
    sys.exit(main())
