"""Runs rounds (rounds.py) for a while and watches that they end, fail and grow not.

    python tests/fuzz/fuzz.py --seconds 600             with a seed of the day
    python tests/fuzz/fuzz.py --seed 7 --round 1234     one round once more

Exit status 1: the invariant does not hold; the last lines say for which input, and how to repeat
it.
"""

from __future__ import annotations

import argparse
import faulthandler
import mmap
import os
import signal
import struct
import sys
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "requests"))
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE.parent / "core"))
sys.path.insert(0, str(HERE))

from rounds import INPUTS, Fault, Round  # noqa: E402

from fastfork import _core  # noqa: E402

HANG = 60               # seconds that a round may take; most take some hundredths
WARM = 100              # rounds after which memory should not grow any more ...
GROWTH = 48 * 1024      # ... than by so many KiB (a leak of 1 KiB per input is 40 MiB in 1000)


def resident():
    """Memory of this process in KiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * (mmap.PAGESIZE // 1024)


def rounds(arguments, progress):
    """The work, in a process of its own: whatever happens to it, the other can tell where."""
    faulthandler.enable()
    end = time.monotonic() + arguments.seconds
    number, tally, before = arguments.round or 0, Counter(), None
    while True:
        progress[:8] = struct.pack("q", number)
        Round(arguments.seed, number, tally).run()
        number += 1
        if arguments.round is not None or time.monotonic() > end or number == arguments.rounds:
            break
        if number == WARM:
            before = resident()
        elif number % WARM == 0:
            assert resident() - before < GROWTH, f"{resident()} KiB, {before} at first"
    done = 1 if arguments.round is not None else number
    print(f"{done} rounds of {INPUTS} inputs; answers by status: "
          + ", ".join(f"{status}: {count}" for status, count in sorted(tally.items())))
    if before:
        print(f"memory: {before} KiB after {WARM} rounds, {resident()} KiB at the end")


def watch(child, progress):
    """Wait for its end; None, and its stack, if it hangs."""
    number, since = -1, time.monotonic()
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        if progress[:8] != number:
            number, since = progress[:8], time.monotonic()
        elif time.monotonic() - since > HANG:
            os.kill(child, signal.SIGABRT)      # prints the stack
            os.waitpid(child, 0)
            return None
        time.sleep(0.05)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--rounds", type=int, help="stop after so many")
    parser.add_argument("--seed", type=int, default=int(time.time()) // 86400)
    parser.add_argument("--round", type=int, help="only this one")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}; {'debug' if _core.DEBUG else 'release'} build "
          f"{os.path.relpath(_core.__file__)}", flush=True)
    progress = mmap.mmap(-1, 8)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            rounds(arguments, progress)
            status = 0
        except Fault as fault:
            print(fault)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    status = watch(child, progress)
    if status == 0:
        return 0
    (number,) = struct.unpack("q", progress[:8])
    how = ("it hangs" if status is None else f"killed by signal {os.WTERMSIG(status)}"
           if os.WIFSIGNALED(status) else "see above")
    print(f"round {number} of seed {arguments.seed} failed: {how}; once more: "
          f"python {os.path.relpath(__file__)} --seed {arguments.seed} --round {number}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
