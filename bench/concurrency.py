"""What many requests at a time cost whose handlers wait for a backend; and what hello costs there.

    python bench/concurrency.py [--clients N] [--workers N] [--rounds N] [--seconds S] [--hello]
                                [--only NAME,...] [--json FILE]

Each request asks a backend (backend.py, a process of its own) a question over a kept connection
and waits 50 ms for the answer; wrk has N connections with a request each on its way.  The second
table, which --hello takes alone, is that of the hello application at full speed: what a way of
running handlers costs where nobody waits.

As in run.py all contenders of a table are up at the same time and take turns; the server
is pinned to the first core, wrk and the backend to the second; CPU time is the scheduler's
account of the server's whole process tree.  A contender's ratio is taken against its peer, which
runs handlers in the same way, in the same round.
"""

import functools
import os
import statistics
import sys
from contextlib import ExitStack

import idle
import procfs
import servers
import table
import wrk
from backend import WAIT, Backend
from servers import GUNICORN_CONNECTIONS, Contender, fastfork, gunicorn

PATIENCE = 15  # seconds for an answer: with few threads most of them are spent in a queue
WARM_UP = 2  # seconds
HELLO_CONNECTIONS = 64
QUEUE = ("--max-queue", "2000")  # all of the clients may wait for a handler


def threads(number):
    return ("--threads", str(number))


WAITING = {c.name: c for c in [
    Contender("fastfork-greenlets", "fastfork", fastfork("--greenlets", "500", *QUEUE)),
    Contender("fastfork-gevent", "fastfork", fastfork("--green", "gevent", *QUEUE)),
    Contender("fastfork-threads-64", "fastfork", fastfork(*threads(64), *QUEUE)),
    Contender("fastfork-threads-500", "fastfork", fastfork(*threads(500), *QUEUE)),
    Contender("gunicorn-gevent", "gunicorn", gunicorn("-k", "gevent", *GUNICORN_CONNECTIONS)),
    Contender("gunicorn-gthread-64", "gunicorn", gunicorn("-k", "gthread", *threads(64))),
    Contender("gunicorn-gthread-500", "gunicorn", gunicorn("-k", "gthread", *threads(500))),
]}
HELLO = {name: servers.TABLE[name] for name in (
    "fastfork", "fastfork-greenlets", "fastfork-gevent", "fastfork-threads", "gunicorn-gevent",
    "gunicorn-gthread")}
PEERS = {  # those who run handlers in the same way
    "fastfork-greenlets": "gunicorn-gevent",
    "fastfork-gevent": "gunicorn-gevent",
    "fastfork-threads": "gunicorn-gthread",
    "fastfork-threads-64": "gunicorn-gthread-64",
    "fastfork-threads-500": "gunicorn-gthread-500",
}


def one_round(server, backend, cpu, connections, seconds):
    """One contender's figures of one round."""
    pids = server.pids()
    others = [backend.pid] if backend else []
    before, others_before = procfs.Cpu(pids), procfs.Cpu(others)
    got = wrk.run(server.port, cpu, seconds, connections, patience=PATIENCE)
    if server.pids() != pids:
        raise RuntimeError("a process ended or was started while it was measured")
    spent, user_share, waited = procfs.Cpu(pids).since(before)
    busy, _, _ = procfs.Cpu(others).since(others_before)
    return {**got, "cpu_us": spent / got["requests"] * 1e6, "user_share": user_share,
            "waited_share": waited / spent, "backend_share": busy / seconds}


def take(known, names, connections, options, cores, backend):
    """The rows of a table."""
    rows, running = {}, {}
    env = {"BACKEND_PORT": str(backend.port)} if backend else {}

    def app(name):
        if not backend:
            return servers.APP
        return "asking:cooperative" if name == "fastfork-greenlets" else "asking:blocking"

    measure = functools.partial(one_round, backend=backend, cpu=cores[1],
                                connections=connections, seconds=options.seconds)
    with ExitStack() as stack:
        def start(name):
            running[name] = server = stack.enter_context(servers.Server(
                known[name], workers=options.workers, app=app(name), cpus={cores[0]}, env=env))
            server.settle()
            wrk.run(server.port, cores[1], WARM_UP, connections, patience=PATIENCE)
            return {"version": server.version, "rounds": []}

        for name in names:
            rows[name] = servers.attempt(name, functools.partial(start, name))
        for _ in range(options.rounds):
            for name in names:
                if "error" not in rows[name]:
                    got = servers.attempt(name, lambda n=name: measure(running[n]))
                    if "error" in got:
                        rows[name] = got
                    else:
                        rows[name]["rounds"].append(got)
    for name, row in rows.items():
        if "error" not in row:
            row |= summary(row["rounds"], rows.get(PEERS.get(name), {}).get("rounds"))
    return list(rows.values())


def summary(rounds, peers_rounds):
    """The medians of one contender's rounds, as strings for the table."""
    def median(key):
        return statistics.median(r[key] for r in rounds)

    cpu = median("cpu_us")
    spread = max(r["cpu_us"] for r in rounds) / min(r["cpu_us"] for r in rounds) - 1
    row = {"rate": f"{median('rate'):.0f}", "cpu": f"{cpu:.1f}", "per_cpu": f"{1e6 / cpu:.0f}",
           "spread": f"{spread:.0%}", "backend": f"{median('backend_share'):.0%}",
           "p50": f"{median('p50'):.2f}", "p99": f"{median('p99'):.2f}"}
    if peers_rounds:
        ratio = statistics.median(
            theirs["cpu_us"] / ours["cpu_us"]
            for ours, theirs in zip(rounds, peers_rounds, strict=True))
        row |= {"ratio": f"{ratio:.2f}", "ratio_value": ratio}
    return row


COLUMNS = [("version", "version"), ("req/s", "rate"), ("CPU µs", "cpu"),
           ("req/CPU s", "per_cpu"), ("vs peer", "ratio"), ("spread", "spread"),
           ("p50 ms", "p50"), ("p99 ms", "p99")]


def main():
    p = table.parser(__doc__)
    p.add_argument("--clients", type=int, default=500, help="requests on their way (500)")
    p.add_argument("--workers", type=int, default=1,
                   help="workers of each contender, on one core (1)")
    p.add_argument("--rounds", type=int, default=3, help="rounds (3)")
    p.add_argument("--seconds", type=int, default=4, help="seconds per contender and round (4)")
    p.add_argument("--hello", action="store_true", help="only the table of hello")
    options = p.parse_args()
    servers.terminate_cleanly()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("concurrency needs two cores: one for the server, one for wrk and the backend")
    try:  # the backend has a connection for each request of each contender
        idle.raise_file_limit(options.clients * (len(WAITING) + 2))
    except RuntimeError as e:
        sys.exit(str(e))
    known = HELLO if options.hello else WAITING | HELLO
    names = table.choose(options.only, known, known)
    how = f"{options.rounds} rounds of {options.seconds} s (medians)"
    results = {}
    if waiting := [name for name in WAITING if name in names and not options.hello]:
        with Backend(cores[1]) as backend:
            results["waiting"] = take(WAITING, waiting, options.clients, options, cores, backend)
        table.show(f"Handlers that wait {WAIT * 1e3:.0f} ms for a backend, {options.clients} "
                   f"clients (at most {options.clients / WAIT:.0f}/s), {how}",
                   [*COLUMNS, ("backend", "backend")], results["waiting"],
                   ["vs peer: requests per CPU second, over those of the contender of gunicorn's "
                    "that runs handlers in\nthe same way.  backend: its share of a core."])
    if hello := [name for name in HELLO if name in names]:
        results["hello"] = take(HELLO, hello, HELLO_CONNECTIONS, options, cores, None)
        table.show(f"Hello at full speed, wrk -c{HELLO_CONNECTIONS}, {how}", COLUMNS,
                   results["hello"])
    table.save(options.json, "concurrency", results)
    return servers.exit_status([row for rows in results.values() for row in rows])


if __name__ == "__main__":
    os.chdir(servers.HERE)
    sys.exit(main())
