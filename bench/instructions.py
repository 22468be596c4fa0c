"""User-space instructions per keep-alive request, counted by callgrind.

    python bench/instructions.py [--only fastfork,...] [--profile N] [--json FILE]
    python bench/instructions.py --check FILE

Each contender runs under `valgrind --tool=callgrind`, as its users start it, and answers N1 and
then N2 requests over one connection; callgrind writes down what the process that serves the
connection did before, between and after them.  The difference of the last two counts, divided by
N2 - N1, is the cost of one request.  Start-up is in neither, and what writing down takes is in
both.

`--check` counts fastfork alone and holds it against what `--json` has stored (judge.py).
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import judge
import servers
import table

DEFAULT = ("fastfork", "bjoern", "fastwsgi")
WARM_UP = 200       # requests, of each kind


@dataclass(frozen=True)
class Kind:
    """What is sent in turn (servers.py), and how many requests each of it is."""

    title: str
    variants: list[bytes]
    requests: int = 1


POST = (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 1024\r\n\r\n" + b"x" * 1024)
KINDS = {
    "minimal": Kind("minimal", servers.MINIMAL),
    "twelve": Kind("12 headers", servers.TWELVE),
    "pipelined": Kind("pipelined x16", [servers.MINIMAL[0] * 16], 16),
    "post": Kind("POST 1 KiB", [POST]),
}

# What decides, beside the sources of fastfork, how many instructions a request takes; asked of
# the interpreter that runs it.
TOOLCHAIN = r"""
import importlib.metadata, json, platform, re, sys
from pathlib import Path
from fastfork import _core
core = Path(_core.__file__).read_bytes()
found = lambda pattern: ", ".join(sorted({text.decode() for text in re.findall(pattern, core)}))
print(json.dumps({
    "interpreter": sys.version,
    "C library": " ".join(platform.libc_ver()),
    "compiler of the core": found(rb"(?:GCC: |clang version )[^\0]+"),
    "Cython": found(rb"\0_cython_(\d\w*)\0").replace("_", "."),
    "httptools": importlib.metadata.version("httptools"),
}))
"""


class Counted:
    """A contender under callgrind, whose files are in `folder`; a context manager."""

    def __init__(self, contender, folder):
        valgrind = shutil.which("valgrind")
        if valgrind is None:
            raise RuntimeError("valgrind is not installed: apt-get install valgrind")
        self.folder = folder
        self.pipes = f"--vgdb-prefix={folder}/vgdb"
        prefix = [valgrind, "--tool=callgrind", "--trace-children=yes", "-q", self.pipes,
                  f"--callgrind-out-file={folder}/%p"]
        self.server = servers.Server(contender, prefix=prefix, patience=120.0,
                                     env={"PYTHONHASHSEED": "0"})
        self.dumps = 0

    def count(self, kind, *numbers):
        """Make so many requests over one connection; returns callgrind's file for each number."""
        files = []
        with servers.Client(self.server.port, timeout=20.0) as client:
            client.ask(servers.MINIMAL)
            worker = self.server.worker(client)
            for number in numbers:
                client.ask(kind.variants, number, kind.requests)
                subprocess.run(["vgdb", self.pipes, f"--pid={worker}", "dump"], check=True,
                               capture_output=True, timeout=60)
                self.dumps += 1
                files.append(self.folder / f"{worker}.{self.dumps}")
        return files

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.server.close()


def total(file):
    """Instructions in all, from the totals line of a callgrind output file."""
    found = re.findall(r"^(?:totals|summary): (\d+)", file.read_text(), re.M)
    if not found:
        raise RuntimeError("the worker left no total")
    return int(found[-1])


def toolchain():
    """What must be the same for two counts to be compared, as a dict of texts."""
    done = subprocess.run([servers.PYTHON, "-c", TOOLCHAIN], cwd=servers.HERE, check=True,
                          capture_output=True, text=True)
    version = subprocess.run(["valgrind", "--version"], check=True, capture_output=True, text=True)
    # The C library has several versions of its functions for strings and memory.
    vectors = "with" if " avx2 " in Path("/proc/cpuinfo").read_text() else "without"
    return {**json.loads(done.stdout), "valgrind": version.stdout.strip().removeprefix("valgrind-"),
            "processor": f"{platform.machine()} {vectors} AVX2"}


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
    with (
        tempfile.TemporaryDirectory(prefix="instructions") as folder,
        Counted(contender, Path(folder)) as counted,
    ):
        for name, kind in KINDS.items():
            try:
                _, first, second = counted.count(kind, WARM_UP, options.n1, options.n2)
            except (OSError, ValueError) as e:      # the others count all the same
                row.setdefault("errors", {})[name] = f"{type(e).__name__}: {e}"
                continue
            n = (options.n2 - options.n1) * kind.requests
            row[name] = round((total(second) - total(first)) / n)
            if options.profile:
                lists = profile(first, second, n, options.profile)
                row[f"{name}_self"], row[f"{name}_inclusive"] = lists
    return row


def check(file, options):
    """Say whether fastfork's counts are within the limit of those in `file`; the exit status."""
    baseline = json.loads(Path(file).read_text()) if Path(file).exists() else {}
    verdict = judge.comparable(baseline, toolchain())
    if verdict is None:
        row = servers.attempt("fastfork", lambda: measure(servers.TABLE["fastfork"], options))
        stored = next((r for r in baseline["results"] if r["name"] == "fastfork"), {})
        verdict = judge.judge(*({kind: r[kind] for kind in KINDS if kind in r}
                                for r in (stored, row)))
        for error in [*filter(None, [row.get("error")]), *row.get("errors", {}).values()]:
            print(error)
    print(f"fastfork's instructions per request and those in {file}:", *verdict.lines,
          sep="\n  ")
    if verdict.status == judge.UNKNOWN:
        print("So this cannot be judged here.  With a baseline of your own it can, counted before "
              "the change:\n  make perf-baseline BASELINE=FILE, and afterwards "
              "make perf-check BASELINE=FILE")
    return verdict.status


def main():
    p = table.parser(__doc__)
    p.add_argument("--n1", type=int, default=500, help="requests that are counted first (500)")
    p.add_argument("--n2", type=int, default=2500, help="and then (2500)")
    p.add_argument("--profile", type=int, default=0, metavar="N",
                   help="show the N dearest functions of each contender")
    p.add_argument("--check", metavar="FILE",
                   help="is fastfork dearer than in this JSON file?  Exit status 1: by more than "
                        f"{judge.LIMIT:.0%}%; 2: cannot be said")
    options = p.parse_args()
    servers.terminate_cleanly()
    if options.check:
        return check(options.check, options)
    rows = []
    for name in table.choose(options.only, DEFAULT, servers.TABLE):
        contender = servers.TABLE[name]
        rows.append(servers.attempt(name, lambda c=contender: measure(c, options)))
    table.show("User-space instructions per keep-alive request (callgrind)",
               [("version", "version"), *((kind.title, name) for name, kind in KINDS.items())],
               rows, [f"{row['name']}, {KINDS[name].title}: invalid: {error}"
                      for row in rows for name, error in row.get("errors", {}).items()])
    for row in rows:
        for kind in KINDS:
            for which in ("self", "inclusive"):
                if found := row.get(f"{kind}_{which}"):
                    print(f"\n{row['name']}, {kind} request, {which}:")
                    for count, name in found:
                        print(f"{count:9.0f}  {name}")
    table.save(options.json, "instructions", rows, toolchain=toolchain())
    return servers.exit_status(rows)


if __name__ == "__main__":
    os.chdir(servers.HERE)
    sys.exit(main())
