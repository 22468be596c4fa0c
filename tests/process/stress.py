"""Connections that must not be lost, for as long as you like.

    python tests/process/stress.py [--seconds N] [--seed N] [--connections N] [--flags "..."]

Many clients keep their connections while handlers are short and long, wait and compute, and
workers are reloaded, scaled and replaced at random.  Whatever a client misses is a loss: a closed
connection, an answer that does not come, is not its own or is given twice.  The exit status is 1
if there is any, and also if there are more processes or descriptors in the end than before.
"""

import argparse
import random
import shlex
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import keepers  # noqa: E402  # which stand beside this file
from harness import PATIENCE, Server, wait_for  # noqa: E402
from seen import ask, kinds, kinds_at_rest, service  # noqa: E402

WORKERS = 4
FLAGS = ["--reload-linger", "0", "--graceful-timeout", "1h", "--max-requests", "5000",
         "--max-requests-jitter", "5000", "--keep-alive", "24h", "--keep-alive-requests",
         "1000000000"]
WAYS = [keepers.plain] * 6 + [keepers.pipelined, keepers.halves, keepers.posted, keepers.rough,
                              keepers.slow, keepers.busy]
EVERY = 10.0  # seconds between two lines


def wait_workers(server, control, count):
    def there():
        found = service(control)["workers"]
        return (len(found) == len(server.workers()) == count
                and {one["state"] for one in found} == {"ready"})

    wait_for(there, 2 * PATIENCE, lambda: f"{service(control)}\n{server.stderr[-5000:]}")


def disturb(server, control, dice):
    """One thing that a client must not notice."""
    if dice.random() < 0.5:
        server.signal(signal.SIGHUP)
    else:
        ask(control, {"command": "scale", "workers": dice.randint(1, 8)})


def run(options):
    dice = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as directory:
        control = Path(directory, "control")
        board, env = keepers.site(directory)
        with Server("numbers_site:app", *FLAGS, *shlex.split(options.flags), "--control",
                    str(control), workers=WORKERS, cwd=HERE, env=env) as server:
            wait_workers(server, control, WORKERS)
            before = kinds_at_rest(server)
            load = keepers.Keepers(
                server.address, options.connections * 2 // 3, options.connections // 3, ways=WAYS,
                rest=0.3, seed=options.seed, board=board)
            with load:
                load.wait_everybody()
                stress(server, control, dice, load, options.seconds)
                ask(control, {"command": "scale", "workers": WORKERS})
                wait_workers(server, control, WORKERS)
            return verdict(server, load, before)


def stress(server, control, dice, load, seconds):
    begin = shown = time.monotonic()
    disturbances = 0
    while (now := time.monotonic()) - begin < seconds and not load.losses:
        disturb(server, control, dice)
        disturbances += 1
        load.wait_answered(dice.choice([10, 100, 1000]), 2 * PATIENCE)
        if now - shown > EVERY:
            shown = now
            print(f"{now - begin:.0f} s: {disturbances} reloads and scalings, {load.answered} "
                  f"answers, the longest after {load.longest:.2f} s, {len(load.losses)} lost",
                  flush=True)


def verdict(server, load, before):
    twice = load.twice()
    left = ""
    try:  # it may have fewer: a mold is made anew when it is needed
        wait_for(lambda: not Counter(kinds(server.pid)) - Counter(before))
    except AssertionError:
        left = f"descriptors of the master: {before}, now {kinds(server.pid)}"
    status = server.stop()
    print(f"{load.answered} answers, {len(load.losses)} lost, {len(twice)} served twice, "
          f"exit status {status}")
    for line in [*load.lost(20), *([left] if left else [])]:
        print(line)
    failed = bool(load.losses or twice or left or status)
    if failed:
        print(server.stderr[-10000:])
    return int(failed)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--seconds", type=float, default=600, help="for so long (600)")
    p.add_argument("--seed", type=int, default=random.randrange(1 << 32),
                   help="repeats what is done at random; it is printed")
    p.add_argument("--connections", type=int, default=300, help="how many (300)")
    p.add_argument("--flags", default="", help="more flags for the server, such as --threads 8")
    options = p.parse_args()
    print(f"--seed {options.seed}", flush=True)
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
