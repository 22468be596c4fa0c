"""CPU time per request of whole process trees, beside a bare C server that parses nothing.

    python bench/throughput.py [--rounds N] [--seconds S] [--connections N] [--only NAME,...]

All contenders run at the same time, one worker each, pinned to the first core; wrk sits on
the second.  In every round each contender in turn is driven by wrk for S seconds (A B C,
A B C, ...).  CPU time is the scheduler's account of every thread of the contender's process
tree, so idle time while wrk is the bottleneck does not count.  A contender's ratio is taken
against the bare server of the same round; the table has the medians over the rounds.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
from contextlib import ExitStack

import procfs
import servers
import table

DEFAULT = ("limit", "fastfork", "bjoern", "fastwsgi", "granian", "gunicorn-gthread")


def wrk_command(port, seconds, connections, request_headers=(), patience=2):
    """wrk's command line; an answer that takes more than `patience` seconds is an error."""
    program = shutil.which("wrk")
    if program is None:
        raise RuntimeError("wrk is not installed: apt-get install wrk")
    command = [program, "-t1", f"-c{connections}", f"-d{seconds}s", "--latency",
               "--timeout", f"{patience}s"]
    for header in request_headers:
        command += ["-H", header]
    return [*command, f"http://{servers.HOST}:{port}/"]


def wrk(port, cpu, seconds, connections, request_headers=(), patience=2):
    """Drive one port; return (requests, requests per second, p50, p99 latency as wrk says it)."""
    done = subprocess.run(
        wrk_command(port, seconds, connections, request_headers, patience), capture_output=True,
        text=True, timeout=seconds + 30, preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))
    if done.returncode:
        raise RuntimeError(f"wrk: exit status {done.returncode}: {done.stderr.strip()}")
    return wrk_figures(done.stdout)


def wrk_figures(text):
    """The figures in what wrk has written; raises if one answer was not as it should be."""
    if trouble := re.search(r"(Socket errors|Non-2xx or 3xx responses):.*", text):
        raise RuntimeError(f"wrk: {trouble[0].strip()}")
    requests = int(re.search(r"(\d+) requests in", text)[1])
    if not requests:
        raise RuntimeError("wrk: no request was answered")
    rate = float(re.search(r"Requests/sec:\s*([\d.]+)", text)[1])
    p50 = re.search(r"^ +50%\s+(\S+)", text, re.M)[1]  # the table above it has percents, too
    p99 = re.search(r"^ +99%\s+(\S+)", text, re.M)[1]
    return requests, rate, p50, p99


def one_round(server, wrk_cpu, options, headers):
    """One contender's figures of one round."""
    pids = server.pids()
    before = procfs.Cpu(pids)
    requests, rate, p50, p99 = wrk(
        server.port, wrk_cpu, options.seconds, options.connections, headers)
    if server.pids() != pids:
        raise RuntimeError("a process ended or was started while it was measured")
    spent, user_share, waited = procfs.Cpu(pids).since(before)
    return {"requests": requests, "rate": rate, "p50": p50, "p99": p99,
            "cpu_us": spent / requests * 1e6, "user_share": user_share,
            "waited_share": waited / spent}


def summary(rounds, limit_rounds):
    """The medians of one contender's rounds, as strings for the table."""
    def median(key):
        return statistics.median(r[key] for r in rounds)

    cpu = median("cpu_us")
    user = median("user_share")
    spread = max(r["cpu_us"] for r in rounds) / min(r["cpu_us"] for r in rounds) - 1
    row = {"cpu": f"{cpu:.2f}", "user": f"{cpu * user:.2f}", "system": f"{cpu * (1 - user):.2f}",
           "spread": f"{spread:.0%}", "waited": f"{median('waited_share'):.0%}",
           "rate": f"{median('rate'):.0f}", "per_cpu": f"{1e6 / cpu:.0f}",
           "p50": rounds[-1]["p50"], "p99": rounds[-1]["p99"]}
    if limit_rounds:
        ratio = statistics.median(
            r["cpu_us"] / lim["cpu_us"] for r, lim in zip(rounds, limit_rounds, strict=True))
        row["ratio"] = f"{ratio:.2f}"
        row["ratio_value"] = ratio
    return row


def main():
    p = table.parser(__doc__)
    p.add_argument("--rounds", type=int, default=5, help="rounds (5)")
    p.add_argument("--seconds", type=int, default=3, help="seconds per contender and round (3)")
    p.add_argument("--connections", type=int, default=64, help="wrk's connections (64)")
    p.add_argument("--headers", choices=["minimal", "twelve"], default="minimal",
                   help="the request: wrk's own, or with twelve headers")
    options = p.parse_args()
    servers.terminate_cleanly()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("throughput needs two cores: one for the server, one for wrk")
    names = table.choose(options.only, DEFAULT, servers.TABLE)
    headers = []
    if options.headers == "twelve":
        lines = servers.TWELVE[0].decode().split("\r\n")[1:-2]
        headers = [line for line in lines if not line.startswith("Connection:")]
    rows, rounds = {}, {name: [] for name in names}
    with ExitStack() as stack:
        running = {}

        def start(name):
            server = servers.Server(servers.TABLE[name], cpus={cores[0]})
            running[name] = stack.enter_context(server)
            wrk(server.port, cores[1], 1, options.connections, headers)  # warm up
            return {"version": server.version}

        for name in names:
            rows[name] = servers.attempt(name, lambda n=name: start(n))
        for _ in range(options.rounds):
            for name in names:
                if "error" not in rows[name]:
                    got = servers.attempt(
                        name, lambda n=name: one_round(running[n], cores[1], options, headers))
                    if "error" in got:
                        rows[name] = got
                    else:
                        rounds[name].append(got)
    limit_rounds = rounds.get("limit") if "error" not in rows.get("limit", {"error": ""}) else None
    for name in names:
        if "error" not in rows[name]:
            rows[name] |= summary(rounds[name], limit_rounds)
            rows[name]["rounds"] = rounds[name]
    done = [rows[name] for name in names]
    table.show(
        f"CPU time per request, {options.headers} request, wrk -c{options.connections}, "
        f"{options.rounds} rounds of {options.seconds} s (medians)",
        [("version", "version"), ("CPU µs", "cpu"), ("user", "user"), ("system", "system"),
         ("vs limit", "ratio"), ("spread", "spread"),
         ("waited", "waited"), ("req/CPU s", "per_cpu"),
         ("req/s", "rate"), ("p50", "p50"), ("p99", "p99")], done,
        ["spread: dearest round over cheapest.  waited: time ready but without a core, as a "
         "share of CPU time\n(much of it in a single-threaded server: somebody else was busy "
         "on this machine).  Compare only within one run."])
    table.save(options.json, "throughput", done)
    return servers.exit_status(done)


if __name__ == "__main__":
    os.chdir(servers.HERE)
    sys.exit(main())
