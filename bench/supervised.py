"""Servers with many workers, of the shop (shop/) for instance, which say of each worker that it
is ready.

Every contender writes a line `Worker PID ... is ready.` to its standard error, which is a pipe
here, so a worker's readiness is known when it is told, without polling.  fastfork's master does
so (at its debug level also for the first workers), once it has heard from the worker that it is
about to serve; gunicorn's workers do at the same point (gunicorn_ready.py).
"""

import contextlib
import os
import re
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import servers
from servers import HERE, HOST, PYTHON, Contender

SITE = "shop.wsgi:application"
READY = re.compile(r"Worker (\d+) .*is ready\.")


def fastfork(*flags):
    """fastfork's command line for a contender."""
    return lambda start: [
        PYTHON, "-m", "fastfork", "serve", start.app, "-w", str(start.workers),
        "-b", f"{HOST}:{start.port}", "--log-level", "debug", "--control", "none", *flags]


def gunicorn(*flags):
    """gunicorn's, with its sync workers."""
    return lambda start: [
        PYTHON, "-m", "gunicorn", start.app, "-w", str(start.workers),
        "-b", f"{HOST}:{start.port}", "-c", "gunicorn_ready.py", "--log-level", "warning",
        "--no-control-socket", *flags]


TABLE = {c.name: c for c in [
    Contender("fastfork", "fastfork", fastfork()),  # preload is auto
    Contender("fastfork-no-preload", "fastfork", fastfork("--preload", "off")),
    Contender("gunicorn-preload", "gunicorn", gunicorn("--preload")),
    Contender("gunicorn", "gunicorn", gunicorn()),
]}


class Server(servers.Server):
    """A contender all of whose workers are ready; `workers` are their pids, `booted` the
    seconds from its start until then."""

    def __init__(self, contender, workers, env=None, app=SITE):
        self.wanted = workers
        self.workers = []
        self._pipe, writing = os.pipe()
        self._said = ""
        self._rest = ""
        try:
            super().__init__(contender, workers=workers, app=app, env=env,
                             output=os.fdopen(writing, "wb"))
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(self._pipe)
            raise

    def _wait_ready(self):
        self.output.close()  # ours: the pipe ends with the server
        while len(self.workers) < self.wanted:
            self.workers.append(self.next_ready())
        self.booted = time.perf_counter() - self.started
        with servers.Client(self.port, timeout=self.patience) as client:
            client.ask(servers.MINIMAL)

    def next_ready(self):
        """Pid of the next worker that is said to be ready."""
        end = time.perf_counter() + self.patience
        while True:
            line, newline, rest = self._rest.partition("\n")
            if newline:
                self._rest = rest
                if found := READY.search(line):
                    return int(found[1])
                continue
            readable, _, _ = select.select(
                [self._pipe], [], [], max(0.0, end - time.perf_counter()))
            if not readable:
                raise RuntimeError(f"no worker was ready within {self.patience:.0f} s: "
                                   f"{self.last_words()}")
            if not (data := os.read(self._pipe, 65536)):
                raise RuntimeError(f"ended: exit status {self.process.wait()}: "
                                   f"{self.last_words()}")
            text = data.decode("utf-8", "replace")
            self._rest += text
            self._said = (self._said + text)[-65536:]

    def text(self):
        return self._said

    def close(self):
        super().close()
        os.close(self._pipe)


def goods(database):
    """The variable by which the shop finds its goods."""
    return {"SHOP_DATABASE": database}


@contextlib.contextmanager
def database():
    """Path of a database with the shop's goods in it."""
    if not Path(PYTHON).exists():
        sys.exit("`make -C bench env` has not been run")
    with tempfile.TemporaryDirectory(prefix="shop") as folder:
        path = str(Path(folder, "shop.sqlite3"))
        # (This also leaves the compiled modules behind that every contender then finds.)
        subprocess.run([PYTHON, "-m", "shop.wsgi"], cwd=HERE, check=True,
                       env={"PATH": os.environ["PATH"], **goods(path)})
        yield path

