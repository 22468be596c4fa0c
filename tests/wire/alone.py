"""A worker without a master: the core, the wire tests' application, and signals for what a master
would have it do.

    python alone.py LISTENER SLOT SETTINGS [SECONDS]

LISTENER and SLOT are descriptors (a listening socket, a file to be mapped), SETTINGS is JSON.
SIGTERM stops, SIGUSR1 retires (SETTINGS has `linger`), SIGUSR2 drains; every SECONDS a signal calls
`time_out`.
"""

import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from harness import PATIENCE, Client, wait_for

from fastfork import _core, config

HERE = Path(__file__).resolve().parent
LONG = 3600.0  # seconds: of what no test waits for


class Alone:
    """The worker as a child process; a context manager.  `ticks`: seconds between two signals that
    call `time_out`, 0 for none."""

    def __init__(self, *, ticks=0.0, linger=LONG, **settings):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.memory = tempfile.TemporaryFile()  # noqa: SIM115, close() closes them
        self.memory.truncate(_core.SLOT_SIZE)
        self.map = mmap.mmap(self.memory.fileno(), _core.SLOT_SIZE)
        self.stderr_file = tempfile.TemporaryFile()  # noqa: SIM115
        passed = [self.listener.fileno(), self.memory.fileno()]
        root = os.environ.get("PYTHONPATH", str(HERE.parents[1]))
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "alone.py"), *map(str, passed),
             json.dumps({"linger": linger, **settings}), str(ticks)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), root])},
            stdin=subprocess.DEVNULL, stderr=self.stderr_file, pass_fds=passed)
        try:
            self.wait_slot("state", "idle")
        except BaseException:
            self.close()
            raise

    @property
    def address(self):
        return self.listener.getsockname()

    @property
    def port(self):
        return self.address[1]

    def connect(self):
        return Client(socket.create_connection(self.address, PATIENCE))

    def get(self, target="/"):
        with self.connect() as client:
            return client.get(target)

    def slot(self):
        return _core.slot_read(self.map)

    def wait_slot(self, key, value):
        """Wait until the worker says so."""
        wait_for(lambda: self.slot()[key] == value or self.process.poll() is not None,
                 message=lambda: f"{key} is not {value!r}: {self.slot()}\n{self.stderr}")
        assert self.slot()[key] == value, self.stderr

    @property
    def stderr(self):
        return os.pread(self.stderr_file.fileno(), 1 << 24, 0).decode("utf-8", "replace")

    def wait_stderr(self, text):
        wait_for(lambda: text in self.stderr, message=lambda: f"{text!r} not in:\n{self.stderr}")

    def retire(self):
        """And see it begin.  A signal between the last look for signals and the system call that
        a handler then waits in is seen after the call only: it is sent again, as masters do."""
        def begun():
            if self.process.poll() is None and self.slot()["state"] != "draining":
                self.process.send_signal(signal.SIGUSR1)
            return self.process.poll() is not None or self.slot()["state"] == "draining"
        wait_for(begun, message=lambda: f"no retirement: {self.slot()}\n{self.stderr}")
        assert self.slot()["state"] == "draining", self.stderr

    def drain(self):
        self.process.send_signal(signal.SIGUSR2)

    def ended(self):
        """Wait until it has left in good order."""
        return self.process.wait(PATIENCE) == 0

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.listener.close()
        self.map.close()
        self.memory.close()
        self.stderr_file.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


# -- in the child ------------------------------------------------------------------------
def asleep(environ):
    time.sleep(LONG)


def busy(environ):
    while True:
        pass


def blocked(environ):
    """In a system call that the other end never ends."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.recv(1)


def stubborn(environ):
    """Overhears it once."""
    try:
        time.sleep(LONG)
    except BaseException as error:
        return type(error).__name__.encode()


def in_thread(worker):
    """What time_out() does in a thread that is not the handler's, late as it may be."""
    found = []

    def late():
        try:
            time.sleep(0.2)
            worker.time_out()
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=late)
    thread.start()
    thread.join()
    return b"%d" % len(found)


PATHS = {"/asleep": asleep, "/busy": busy, "/blocked": blocked, "/stubborn": stubborn}


def main():
    from apps_wire import app

    listener, slot = map(int, sys.argv[1:3])
    given = json.loads(sys.argv[3])
    linger, ticks = given.pop("linger"), float(sys.argv[4])

    def application(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/thread":
            body = in_thread(worker)
        elif path in PATHS:
            body = PATHS[path](environ)
        else:
            return app(environ, start_response)
        start_response("200 OK", [])
        return [body]

    def log(level, text, error):
        kind = f" [{type(error).__name__}]" if error is not None else ""
        sys.stderr.write(f"{level} {text}{kind}\n")
        sys.stderr.flush()

    worker = _core.Worker(
        application, [socket.socket(fileno=listener)], config.Settings(app="-", **given), log=log,
        slot=mmap.mmap(slot, _core.SLOT_SIZE))
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    signal.signal(signal.SIGUSR1, lambda *_: worker.retire(LONG, linger))
    signal.signal(signal.SIGUSR2, lambda *_: worker.drain(LONG))
    signal.signal(signal.SIGALRM, lambda *_: worker.time_out())
    signal.setitimer(signal.ITIMER_REAL, ticks, ticks)
    worker.run()


if __name__ == "__main__":
    main()
