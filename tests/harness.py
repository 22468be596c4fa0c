"""Run a real fastfork for a test and talk to it with raw sockets.

Readiness comes through a pipe (`--ready-fd`), ports are always 0, and every process that
a test starts is ended, by its pid, when the test ends.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from signal import SIGKILL, SIGTERM

from fastfork import _core

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
# The ways to run handlers, as far as they are there.
MODES = {
    "default": [],
    "greenlets": ["--greenlets", "100"],
    "threads": ["--threads", "8"],
    "gevent": ["--green", "gevent"],
}
if importlib.util.find_spec("gevent") is None:
    del MODES["gevent"]
SIDE_BY_SIDE = [mode for mode in MODES if mode != "default"]
PATIENCE = 20.0  # seconds: how long anything may take before a test calls it a hang


def bench_module(name):
    """A module of bench/, which finds its neighbours while it is imported."""
    sys.path.insert(0, str(ROOT / "bench"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(ROOT / "bench"))


class Server:
    """`fastfork serve APP ...` as a child process; a context manager.  Without `app` (None) what
    is served must be in a file, and what `workers` and `bind` mean as well."""

    def __init__(self, app, *args, workers=1, bind=("127.0.0.1:0",), cwd=TESTS / "apps", env=None,
                 wait=True, pass_fds=(), launcher=()):
        """`launcher` is a command that becomes the server at its end; without `app` the arguments
        say all."""
        self.stderr_file = tempfile.TemporaryFile()  # noqa: SIM115, close() closes them
        self.stdout_file = tempfile.TemporaryFile()  # noqa: SIM115
        ready, told = os.pipe()
        command = [*launcher, sys.executable, "-m", "fastfork", "serve", "--ready-fd", str(told)]
        if app is not None:
            command += [app, "-w", str(workers)]
            for address in bind:
                command += ["-b", address]
        full_env = dict(os.environ, PYTHONUNBUFFERED="1", **(env or {}))
        full_env["PYTHONPATH"] = os.pathsep.join(p for p in [
            (env or {}).get("PYTHONPATH"), os.environ.get("PYTHONPATH", str(ROOT))] if p)
        self.process = subprocess.Popen(
            [*command, *args], cwd=cwd, env=full_env, stdin=subprocess.DEVNULL,
            stdout=self.stdout_file, stderr=self.stderr_file, pass_fds=[told, *pass_fds])
        os.close(told)
        self._ready = ready
        self.ready = None
        if wait:
            try:
                self.wait_ready()
            except BaseException:
                self.close()
                raise

    def wait_ready(self, patience=PATIENCE):
        """Wait for the line on the ready pipe: {"pid": 1, "listen": [...], "workers": [...]}."""
        line = b""
        end = time.monotonic() + patience
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([self._ready], [], [], max(0, end - time.monotonic()))
            if not readable:
                raise AssertionError(f"not ready after {patience} s\n{self.stderr}")
            data = os.read(self._ready, 65536)
            if not data:
                raise AssertionError(
                    f"ended before it was ready: {self.process.wait()}\n{self.stderr}")
            line += data
        self.ready = json.loads(line)
        # Servers of another build would pass the tests of this one.
        assert cores(self.pid) <= {os.path.realpath(_core.__file__)}, cores(self.pid)
        return self.ready

    # -- what it said ------------------------------------------------------------------
    @staticmethod
    def _text(file):
        return os.pread(file.fileno(), 1 << 24, 0).decode("utf-8", "replace")

    @property
    def stderr(self):
        return self._text(self.stderr_file)

    @property
    def stdout(self):
        return self._text(self.stdout_file)

    def wait_stderr(self, text, patience=PATIENCE):
        """Wait until `text` stands in the error log."""
        wait_for(lambda: text in self.stderr, patience, lambda: f"{text!r} not in:\n{self.stderr}")

    # -- its processes -----------------------------------------------------------------
    @property
    def pid(self):
        return self.process.pid

    def workers(self):
        """Pids of the worker processes that live now."""
        return [pid for pid in children(self.pid) if name(pid) == "fastfork worker"]

    def molds(self):
        """Pids of the processes that hold a preloaded application."""
        return [pid for pid in children(self.pid) if name(pid) == "fastfork mold"]

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, patience=PATIENCE):
        """Exit status of the master."""
        return self.process.wait(patience)

    def stop(self, number=SIGTERM, patience=PATIENCE):
        self.signal(number)
        return self.wait(patience)

    def close(self):
        workers = self.workers() if self.process.poll() is None else []
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                for pid in workers:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, SIGKILL)
        os.close(self._ready)
        self.stderr_file.close()
        self.stdout_file.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    # -- talking to it -----------------------------------------------------------------
    @property
    def address(self):
        """(host, port) of the first TCP listener."""
        url = next(u for u in self.ready["listen"] if u.startswith("http://"))
        host, _, port = url[len("http://"):].rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def port(self):
        return self.address[1]

    @property
    def url(self):
        return next(u for u in self.ready["listen"] if u.startswith("http://"))

    def connect(self, timeout=PATIENCE):
        return Client(socket.create_connection(self.address, timeout))

    def get(self, target="/", **headers):
        """One request on a connection of its own."""
        with self.connect() as client:
            return client.get(target, **headers)


class Response:
    def __init__(self, version, status, reason, headers, body, complete):
        self.version, self.status, self.reason = version, status, reason
        self.headers, self.body, self.complete = headers, body, complete

    def header(self, name, default=None):
        values = self.all(name)
        return values[0] if values else default

    def all(self, name):
        return [v for n, v in self.headers if n.lower() == name.lower()]

    def __repr__(self):
        return f"<Response {self.status} {self.reason} {self.headers} {self.body[:200]!r}>"


class Client:
    """A raw socket with a small strict response reader.  It never repairs anything."""

    def __init__(self, sock):
        self.sock = sock
        self.buffer = b""
        self.interim = []

    def send(self, data):
        self.sock.sendall(data)

    def recv_more(self):
        data = self.sock.recv(65536)
        self.buffer += data
        return data

    def read_head(self):
        while b"\r\n\r\n" not in self.buffer:
            if not self.recv_more():
                raise EOFError(self.buffer)
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        version, status, reason = [*lines[0].split(" ", 2), ""][:3]
        assert len(status) == 3 and status.isdigit(), lines[0]
        headers = []
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            assert colon and name and name == name.strip(), line
            headers.append((name, value.strip()))
        return version, int(status), reason, headers

    def read_exactly(self, n):
        pieces, have = [self.buffer], len(self.buffer)
        try:
            while have < n:
                piece = self.sock.recv(65536)
                if not piece:
                    raise EOFError(f"{have} of {n} bytes")
                pieces.append(piece)
                have += len(piece)
        finally:
            self.buffer = b"".join(pieces)
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def read_line(self):
        while b"\r\n" not in self.buffer:
            if not self.recv_more():
                raise EOFError(self.buffer)
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def read_response(self, method="GET"):
        """The next final response; interim ones are kept in `self.interim`.  A body that is
        cut short has `complete` False."""
        while True:
            version, status, reason, headers = self.read_head()
            if status >= 200 or status == 101:
                break
            self.interim.append((status, headers))
        r = Response(version, status, reason, headers, b"", True)
        if method == "HEAD" or status in (204, 304):
            return r
        try:
            if r.header("transfer-encoding") == "chunked":
                assert not r.all("content-length"), headers
                while size := int(self.read_line(), 16):
                    r.body += self.read_exactly(size)
                    assert self.read_exactly(2) == b"\r\n"
                assert self.read_line() == b""
            elif (length := r.header("content-length")) is not None:
                assert len(r.all("content-length")) == 1, headers
                r.body = self.read_exactly(int(length))
            else:
                while self.recv_more():
                    pass
                r.body, self.buffer = self.buffer, b""
        except (EOFError, ConnectionResetError):
            r.body, self.buffer = r.body + self.buffer, b""
            r.complete = False
        return r

    def request(self, data, method="GET"):
        self.send(data)
        return self.read_response(method)

    def get(self, target="/", **headers):
        extra = "".join(f"{n.replace('_', '-')}: {v}\r\n" for n, v in headers.items())
        return self.request(f"GET {target} HTTP/1.1\r\nHost: test\r\n{extra}\r\n".encode("latin-1"))

    def at_eof(self):
        """True if the server closes without sending anything more."""
        try:
            return not self.buffer and not self.recv_more()
        except ConnectionResetError:
            return True

    def read_all(self):
        """Everything until the server closes."""
        try:
            while self.recv_more():
                pass
        except ConnectionResetError:
            pass
        data, self.buffer = self.buffer, b""
        return data

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class Canned:
    """A socket whose peer sent `data` and closed."""

    def __init__(self, data):
        self.data = data

    def recv(self, size):
        piece, self.data = self.data[:size], self.data[size:]
        return piece


def answers(data, *methods):
    """All final responses in `data`, with nothing left over.

    `methods` are those of the requests in order; what is not given counts as GET.
    """
    client = Client(Canned(data))
    found = []
    while client.buffer or client.sock.data:
        method = methods[len(found)] if len(found) < len(methods) else "GET"
        found.append(client.read_response(method))
    return found


def refused(address):
    """Does nobody listen there?"""
    try:
        socket.create_connection(address).close()
    except ConnectionRefusedError:
        return True
    return False


def wait_for(true, patience=PATIENCE, message=lambda: "condition never came true"):
    """Poll until `true()` holds; for facts that nothing can announce (a process is gone)."""
    end = time.monotonic() + patience
    while not true():
        if time.monotonic() > end:
            raise AssertionError(message())
        time.sleep(0.005)


def children(pid):
    """Pids of the living children of `pid` (zombies not counted)."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(p) for p in task.read_text().split()]
    return [p for p in found if alive(p)]


def name(pid):
    """What the process calls itself; "" if it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").rstrip("\n")
    except OSError:
        return ""


def cores(pid):
    """Files of the compiled core that the process has loaded."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {line.split(maxsplit=5)[5] for line in lines if "/fastfork/_core." in line}


def alive(pid):
    """True while the process runs (a zombie does not, when its last thread has ended: until then
    its sockets are open)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        ended = stat.rpartition(")")[2].split()[0] == "Z"
        return not ended or len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False
