"""The closed loop: wrk's command line, what it sends (lua/load.lua) and what it says."""

import json
import os
import resource
import shutil
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent / "lua/load.lua"
HOST = "127.0.0.1"
ERRORS = ("connect", "read", "write", "timeout", "status")


def command(port, seconds, connections, requests=(), patience=2):
    """wrk's command line; an answer that takes more than `patience` seconds is an error.

    `requests` are files with a request each, to be sent in turn; without any it is wrk's own.
    """
    program = shutil.which("wrk")
    if program is None:
        raise RuntimeError("wrk is not installed: apt-get install wrk")
    return [program, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", f"{patience}s",
            "-s", str(SCRIPT), f"http://{HOST}:{port}/", "--", *requests]


def run(port, cpu, seconds, connections, requests=(), patience=2):
    """Drive one port from one core; return what figures() does, and "load_us": the CPU time that
    wrk itself has used for a request."""
    before = _children()
    done = subprocess.run(
        command(port, seconds, connections, requests, patience), capture_output=True,
        text=True, timeout=seconds + patience + 30,
        preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))
    if done.returncode:
        raise RuntimeError(f"wrk: exit status {done.returncode}: {done.stderr.strip()}")
    got = figures(done.stdout)
    return got | {"load_us": (_children() - before) / got["requests"] * 1e6}


def _children():
    """Seconds that processes which were waited for have been on a core."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def figures(text):
    """What wrk has written as {"requests", "bytes" that came, "rate", "p50", "p99", "p999"}.

    Latencies are milliseconds.  Raises if one answer was not as it should be.
    """
    said = json.loads(text.splitlines()[-1])
    if wrong := [f"{said[kind]} {kind}" for kind in ERRORS if said[kind]]:
        raise RuntimeError(f"wrk: errors: {', '.join(wrong)}")
    if not said["requests"]:
        raise RuntimeError("wrk: no request was answered")
    return {"requests": said["requests"], "bytes": said["bytes"],
            "rate": said["requests"] / said["seconds"],
            **{key: said[key] for key in ("p50", "p99", "p999")}}


def version():
    """wrk's version as it says it, without the distribution's additions."""
    said = subprocess.run([command(0, 1, 1)[0], "-v"], capture_output=True, text=True).stdout
    return said.split()[1].removeprefix("debian/").partition("-")[0]
