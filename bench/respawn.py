"""Time from the SIGKILL of a worker until its replacement is ready to serve.

    python bench/respawn.py [--kills N] [--workers N] [--only NAME,...] [--json FILE]

Each contender serves the shop, a Django site.  Its oldest worker is killed; the time runs from
just before the kill until the line arrives that says that another is ready.  Then the next, one
by one.  At the end as many workers as wanted must be there, and answer.
"""

import os
import signal
import statistics
import sys
import time

import procfs
import servers
import supervised
import table

DEFAULT = ("fastfork", "fastfork-no-preload", "gunicorn-preload", "gunicorn")


def measure(contender, options, database):
    """One row."""
    times = []
    with supervised.Server(contender, options.workers, supervised.goods(database)) as server:
        alive = list(server.workers)  # oldest first: a place whose workers die young is given rest
        for _ in range(options.kills):
            start = time.perf_counter()
            os.kill(alive.pop(0), signal.SIGKILL)
            alive.append(server.next_ready())
            times.append((time.perf_counter() - start) * 1e3)
        if dead := [pid for pid in alive if not procfs.alive(pid)]:
            raise RuntimeError(f"{len(dead)} workers ended unasked")
        with servers.Client(server.port) as client:
            client.ask(servers.MINIMAL)
    return {"version": server.version, "median": f"{statistics.median(times):.1f}",
            "least": f"{min(times):.1f}", "most": f"{max(times):.1f}", "times": times}


def main():
    p = table.parser(__doc__)
    p.add_argument("--kills", type=int, default=20, help="workers killed (20)")
    p.add_argument("--workers", type=int, default=8, help="workers of each contender (8)")
    options = p.parse_args()
    servers.terminate_cleanly()
    rows = []
    with supervised.database() as database:
        for name in table.choose(options.only, DEFAULT, supervised.TABLE):
            contender = supervised.TABLE[name]
            rows.append(servers.attempt(
                name, lambda c=contender: measure(c, options, database)))
    table.show(f"From SIGKILL of a worker to its replacement being ready, {options.kills} times",
               [("version", "version"), ("median ms", "median"), ("least", "least"),
                ("most", "most")], rows)
    table.save(options.json, "respawn", rows)
    return servers.exit_status(rows)


if __name__ == "__main__":
    os.chdir(servers.HERE)
    sys.exit(main())
