"""Memory that each of many workers of a Django site has for itself alone.

    python bench/memory.py [--workers N] [--requests N] [--only NAME,...] [--json FILE]

Each contender serves the shop with N workers, preloaded.  They are asked for its pages, over many
connections at once, until every worker has answered --requests of them: so many that the garbage
collector has been through all generations, as it will have been in any server that has run for a
minute.  Then a worker's unique memory is what /proc/PID/smaps_rollup calls Private_Clean and
Private_Dirty: pages that no other process has.  The proportional set size of the whole tree,
master and all, stands beside it.
"""

import collections
import http.client
import itertools
import os
import statistics
import sys
import threading
import time
from pathlib import Path

import procfs
import servers
import supervised
import table

DEFAULT = ("fastfork", "gunicorn-preload")
PAGES = ("/catalogue", "/catalogue?words=1&in_stock=on&page=2", "/product/3", "/api/stock",
         "/admin/login/")
CONNECTIONS = 32
PATIENCE = 300.0  # seconds until every worker has had its share


def unique(pid):
    """KiB that only this process has."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")
               and not line.startswith("Private_Hugetlb"))


class Load:
    """Visitors who ask for one page after the other, each on a connection that it keeps if the
    server does, and makes anew after a few pages: so that all workers get some."""

    def __init__(self, port, workers, share):
        self.port, self.workers, self.share = port, set(workers), share
        self.answered = collections.Counter()
        self.troubles = []
        self.end = time.monotonic() + PATIENCE

    def done(self):
        return self.troubles or time.monotonic() > self.end or all(
            self.answered[pid] >= self.share for pid in self.workers)

    def visit(self, first):
        """One visitor, until everybody is done."""
        pages = itertools.cycle(PAGES[first:] + PAGES[:first])
        try:
            while not self.done():
                connection = http.client.HTTPConnection(servers.HOST, self.port, timeout=60)
                for page in itertools.islice(pages, 3):
                    connection.request("GET", page)
                    answer = connection.getresponse()
                    body = answer.read()
                    if answer.status != 200 or not body:
                        raise ValueError(f"{answer.status} for {page}")
                    self.answered[int(answer.headers["X-Process"])] += 1
                connection.close()
        except (OSError, ValueError, http.client.HTTPException) as error:
            self.troubles.append(error)

    def run(self):
        threads = [threading.Thread(target=self.visit, args=[n % len(PAGES)])
                   for n in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.troubles:
            raise RuntimeError(str(self.troubles[0]))
        if poor := [pid for pid in self.workers if self.answered[pid] < self.share]:
            raise RuntimeError(f"{len(poor)} workers had less than {self.share} requests "
                               f"within {PATIENCE:.0f} s")


def measure(contender, options, database):
    """One row."""
    with supervised.Server(contender, options.workers, supervised.goods(database)) as server:
        before = [unique(pid) for pid in server.workers]
        Load(server.port, server.workers, options.requests).run()
        after = [unique(pid) for pid in server.workers]
        whole = procfs.pss(server.pids())
    median = statistics.median(after)
    return {"version": server.version, "before": f"{statistics.median(before) / 1024:.1f}",
            "after": f"{median / 1024:.1f}", "after_value": median, "each": after,
            "most": f"{max(after) / 1024:.1f}", "whole": f"{whole / 1024:.0f}"}


def main():
    p = table.parser(__doc__)
    p.add_argument("--workers", type=int, default=16, help="workers of each contender (16)")
    p.add_argument("--requests", type=int, default=500, help="requests for each worker (500)")
    options = p.parse_args()
    servers.terminate_cleanly()
    rows = []
    with supervised.database() as database:
        for name in table.choose(options.only, DEFAULT, supervised.TABLE):
            contender = supervised.TABLE[name]
            rows.append(servers.attempt(
                name, lambda c=contender: measure(c, options, database)))
    last = rows[-1].get("after_value")
    for row in rows:
        if last and "after_value" in row:
            row["ratio"] = f"{row['after_value'] / last:.2f}"
    table.show(f"Unique memory of a worker, {options.workers} workers, at least "
               f"{options.requests} requests each (MiB, medians)",
               [("version", "version"), ("at first", "before"), ("after", "after"),
                (f"vs {rows[-1]['name']}", "ratio"), ("most", "most"), ("tree PSS", "whole")],
               rows)
    table.save(options.json, "memory", rows)
    return servers.exit_status(rows)


if __name__ == "__main__":
    os.chdir(servers.HERE)
    sys.exit(main())
