"""User-space instructions per keep-alive request, counted by callgrind.

    python bench/instructions.py [--only fastfork,...] [--profile N] [--json FILE]

Each contender runs twice under `valgrind --tool=callgrind`, as its users start it, and
answers N1 and then N2 requests over one connection; the difference of the two counts of the
process that served the connection, divided by N2 - N1, is the cost of one request.  Start-up,
imports, first-time caches and shutdown are in both counts and cancel out.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import servers
import table

DEFAULT = ("fastfork", "bjoern", "fastwsgi")
REQUESTS = {"minimal": servers.MINIMAL, "twelve": servers.TWELVE}


def run(contender, variants, count, folder):
    """The callgrind output file of the worker after `count` requests."""
    folder.mkdir()
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise RuntimeError("valgrind is not installed: apt-get install valgrind")
    prefix = [valgrind, "--tool=callgrind", "--trace-children=yes", "-q",
              f"--callgrind-out-file={folder}/%p"]
    env = {"PYTHONHASHSEED": "0"}
    with (
        servers.Server(contender, prefix=prefix, patience=120.0, env=env) as server,
        servers.Client(server.port, timeout=120.0) as client,
    ):
        client.ask(variants)
        worker = server.worker(client)
        client.ask(variants, count)
    file = folder / str(worker)
    if not file.exists():
        raise RuntimeError("the worker left no count")
    return file


def total(file):
    """Instructions in all, from the totals line of a callgrind output file."""
    found = re.findall(r"^(?:totals|summary): (\d+)", file.read_text(), re.M)
    if not found:
        raise RuntimeError("the worker left no total")
    return int(found[-1])


def functions(file, inclusive):
    """{"function (object file)": instructions} as callgrind_annotate sees it.

    It lists a function once for each source file that was inlined into it: by themselves these
    parts add up, with what they call the largest is the whole.
    """
    done = subprocess.run(
        ["callgrind_annotate", "--threshold=100", "--auto=no", "--show-percs=no",
         f"--inclusive={'yes' if inclusive else 'no'}", str(file)],
        capture_output=True, text=True, check=True)
    join = max if inclusive else int.__add__
    counts = {}
    for count, name in re.findall(r"^ *([\d,]+) +(\S.*?:\S.*)$", done.stdout, re.M):
        place, _, library = name.rstrip("]").partition(" [")
        function = place.rpartition(":")[2] + (f" ({Path(library).name})" if library else "")
        counts[function] = join(counts.get(function, 0), int(count.replace(",", "")))
    return counts


def profile(first, second, n, length):
    """The `length` dearest functions: [(instructions per request, name)], self and inclusive.

    Functions in which the whole request happens are left out of the inclusive list.
    """
    lists = []
    everything = (total(second) - total(first)) / n
    for inclusive in (False, True):
        before, after = functions(first, inclusive), functions(second, inclusive)
        difference = [((count - before.get(name, 0)) / n, name) for name, count in after.items()]
        lists.append([item for item in sorted(difference, reverse=True)
                      if item[0] < 0.99 * everything][:length])
    return lists


def measure(contender, options):
    """One row: instructions per request for each kind of request."""
    row = {"version": contender.version()}
    for kind, variants in REQUESTS.items():
        with tempfile.TemporaryDirectory(prefix="instructions") as folder:
            first = run(contender, variants, options.n1, Path(folder, "first"))
            second = run(contender, variants, options.n2, Path(folder, "second"))
            n = options.n2 - options.n1
            row[kind] = round((total(second) - total(first)) / n)
            if options.profile:
                lists = profile(first, second, n, options.profile)
                row[f"{kind}_self"], row[f"{kind}_inclusive"] = lists
    return row


def main():
    p = table.parser(__doc__)
    p.add_argument("--n1", type=int, default=500, help="requests of the first run (500)")
    p.add_argument("--n2", type=int, default=3500, help="requests of the second run (3500)")
    p.add_argument("--profile", type=int, default=0, metavar="N",
                   help="show the N dearest functions of each contender")
    options = p.parse_args()
    servers.terminate_cleanly()
    rows = []
    for name in table.choose(options.only, DEFAULT, servers.TABLE):
        contender = servers.TABLE[name]
        rows.append(servers.attempt(name, lambda c=contender: measure(c, options)))
    table.show("User-space instructions per keep-alive request (callgrind)",
               [("version", "version"), ("minimal", "minimal"), ("12 headers", "twelve")], rows)
    for row in rows:
        for kind in REQUESTS:
            for which in ("self", "inclusive"):
                if found := row.get(f"{kind}_{which}"):
                    print(f"\n{row['name']}, {kind} request, {which}:")
                    for count, name in found:
                        print(f"{count:9.0f}  {name}")
    table.save(options.json, "instructions", rows)
    return servers.exit_status(rows)


if __name__ == "__main__":
    os.chdir(servers.HERE)
    sys.exit(main())
