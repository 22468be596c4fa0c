"""Printing results as a table, and writing them as JSON together with the facts around them."""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path


def machine():
    """The facts a reader needs to judge a figure."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.lower().startswith(("model name", "hardware", "cpu model")):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "load_average": os.getloadavg(),
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def parser(description):
    """An argument parser with the options all commands share."""
    p = argparse.ArgumentParser(description=description.strip().split("\n\n")[0])
    p.add_argument("--json", metavar="FILE", help="write the figures there as well")
    p.add_argument("--only", metavar="NAME,...", help="only these contenders")
    return p


def choose(only, default, known):
    """The names in `only` (comma-separated), or `default` if it is None; all must be known."""
    names = [name.strip() for name in only.split(",")] if only else list(default)
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    return names


def show(title, columns, rows, notes=()):
    """Print `rows` (dicts) under `columns` (pairs of heading and key).

    A row with an "error" shows it in place of its figures.  Columns of words stand to the
    left, columns of figures to the right.
    """
    names = [str(row["name"]) for row in rows]
    cells = [[heading, *(str(row.get(key, "")) for row in rows)] for heading, key in columns]
    columns_text = []
    for column in cells:
        width = max(map(len, column))
        words = any(" " in cell for cell in column[1:])
        columns_text.append([c.ljust(width) if words else c.rjust(width) for c in column])
    lines = ["  ".join(line) for line in zip(*columns_text, strict=True)]
    name_width = max([len("server"), *map(len, names)])
    print(f"\n{title}\n{'server':<{name_width}}  {lines[0].rstrip()}")
    print("-" * (name_width + 2 + len(lines[0])))
    for name, row, line in zip(names, rows, lines[1:], strict=True):
        print(f"{name:<{name_width}}  {row.get('error', line).rstrip()}")
    for note in notes:
        print(note)
    sys.stdout.flush()


def save(file, command, results, **more):
    """Write `results`, the machine's facts and whatever else to `file`, if one is given."""
    if file:
        document = {"command": command, "arguments": sys.argv[1:], "machine": machine(),
                    **more, "results": results}
        Path(file).write_text(json.dumps(document, indent=1) + "\n")
