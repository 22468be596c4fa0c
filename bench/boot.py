"""Time until all workers of a Django site are ready, as a multiple of one import of it.

    python bench/boot.py [--rounds N] [--workers N] [--only NAME,...] [--json FILE]

In every round the site is imported once by a bare interpreter, then each contender starts in
turn.  Both times run from the start of the process: to the byte that the interpreter writes
after the import, and to the line that says that the last of the workers is ready.  The ratio is
that of one round; the table has the medians.
"""

import os
import statistics
import subprocess
import sys
import time

import servers
import supervised
import table

DEFAULT = ("fastfork", "fastfork-no-preload", "gunicorn-preload", "gunicorn")


def one_import(database):
    """Seconds that a new interpreter needs until it has imported the site."""
    code = "import os, shop.wsgi; os.write(1, b'.')"
    env = {"PATH": os.environ["PATH"], "SHOP_DATABASE": database}
    start = time.perf_counter()
    with subprocess.Popen([servers.PYTHON, "-c", code], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, env=env) as process:
        if process.stdout.read(1) != b".":
            raise RuntimeError("the site cannot be imported")
        return time.perf_counter() - start


def boot(contender, options, database):
    """Version, and seconds until the workers are ready."""
    with supervised.Server(contender, options.workers, supervised.goods(database)) as server:
        return {"version": server.version, "seconds": server.booted}


def summary(rounds, imports):
    """The medians of one contender's rounds."""
    seconds = statistics.median(rounds)
    ratio = statistics.median(r / i for r, i in zip(rounds, imports, strict=True))
    return {"ms": f"{seconds * 1e3:.0f}", "ratio": f"{ratio:.2f}", "ratio_value": ratio,
            "rounds": rounds}


def main():
    p = table.parser(__doc__)
    p.add_argument("--rounds", type=int, default=7, help="rounds (7)")
    p.add_argument("--workers", type=int, default=16, help="workers of each contender (16)")
    options = p.parse_args()
    servers.terminate_cleanly()
    names = table.choose(options.only, DEFAULT, supervised.TABLE)
    rows = {name: {"name": name} for name in names}
    rounds, imports = {name: [] for name in names}, []
    with supervised.database() as database:
        one_import(database)
        for _ in range(options.rounds):
            imports.append(one_import(database))
            for name in names:
                if "error" not in rows[name]:
                    rows[name] |= servers.attempt(
                        name, lambda n=name: boot(supervised.TABLE[n], options, database))
                    rounds[name].append(rows[name].pop("seconds", None))
    for name in names:
        if "error" not in rows[name]:
            rows[name] |= summary(rounds[name], imports)
    once = {"name": "one import", "version": "-", "ms": f"{statistics.median(imports) * 1e3:.0f}",
            "ratio": "1.00", "rounds": imports}
    done = [once, *rows.values()]
    table.show(f"From the start until {options.workers} workers of a Django site are ready, "
               f"{options.rounds} rounds (medians)",
               [("version", "version"), ("ms", "ms"), ("x import", "ratio")], done)
    table.save(options.json, "boot", done)
    return servers.exit_status(done)


if __name__ == "__main__":
    os.chdir(servers.HERE)
    sys.exit(main())
