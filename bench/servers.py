"""The contenders: one table of who takes part, how each is started, and how it is ended.

Every contender gets its best honest configuration for one process that answers small
requests; where a flag is needed for that, the reason stands beside it.
"""

import contextlib
import ctypes
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import procfs
from sites.plain import BODY

HERE = Path(__file__).resolve().parent
PYTHON = os.environ.get("BENCH_PYTHON", str(HERE / ".venv/bin/python"))
HOST = "127.0.0.1"
APP = "sites.plain:hello"
FILE_APP = "sites.plain:file"  # of the file that the environment variable BENCH_FILE names

# A request is a list of variants, sent in turn: the same header fields have other values from
# one request to the next where they have in real traffic (many clients, one server).
MINIMAL = [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"]
TWELVE = [
    b"GET /v2.1/servers/detail?limit=50&status=ACTIVE HTTP/1.1\r\n"
    b"Host: compute.example.com:8774\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    b"Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Connection: keep-alive\r\n"
    b"Referer: http://compute.example.com:8774/v2.1/servers/%d\r\n"
    b"Cookie: session=8c1f6f1b2a7d4e0f9b3c5d7e1a2b4c6%d; theme=dark\r\n"
    b"Cache-Control: max-age=0\r\n"
    b"X-Request-Id: req-5a1d9a3e-6c1b-4f0e-9d58-2f6a0c7be91%d\r\n"
    b"X-Forwarded-For: 203.0.113.%d\r\n"
    b"X-Forwarded-Proto: https\r\n"
    b"\r\n" % (n, n, n, n)
    for n in range(8)
]


class Absent(Exception):
    """The contender is not installed here, or does not have what it is asked for."""


@dataclass(frozen=True)
class Start:
    """What a contender's command line is made of."""

    port: int
    workers: int = 1
    app: str = APP  # MODULE:ATTRIBUTE
    log: str | None = None  # the access log's file; None: no access log
    connections: int = 64  # that there will be at once


@dataclass(frozen=True)
class Contender:
    """One server: its name in tables, the distribution that holds it, its command line.

    `how` is its configuration in one sentence.
    """

    name: str
    distribution: str | None  # None: not a Python distribution
    command: Callable[[Start], list[str]]
    how: str = ""

    def version(self):
        """The installed version; raises Absent if there is none."""
        if self.name == "nginx":
            return _nginx_version()
        if self.distribution is None:
            return "-"
        if not Path(PYTHON).exists():
            raise Absent("`make -C bench env` has not been run")
        code = ("import importlib.metadata as m, sys\n"
                "try: print(m.version(sys.argv[1]))\n"
                "except m.PackageNotFoundError: sys.exit(3)")
        done = subprocess.run([PYTHON, "-c", code, self.distribution], cwd=HERE,
                              capture_output=True, text=True)
        if done.returncode:
            raise Absent("not installed")
        return done.stdout.strip()


# -- command lines -----------------------------------------------------------------------
def fastfork(*flags):
    return lambda start: [
        PYTHON, "-m", "fastfork", "serve", start.app, "-w", str(start.workers),
        "-b", f"{HOST}:{start.port}", "--log-level", "warning",
        *(["--access-log", start.log] if start.log else []), *flags]


def launch(kind, *, workers=True, log=False):
    """A server that launch.py starts; whether it can have several workers, and an access log."""
    def command(start):
        if not workers:
            one_process(start)
        if not log:
            no_log(start)
        return [PYTHON, "launch.py", kind, start.app, HOST, str(start.port), str(start.workers),
                *([start.log] if start.log else [])]
    return command


def granian(*flags):
    def command(start):
        argv = [
            PYTHON, "-m", "granian", "--interface", "wsgi", start.app, "--host", HOST,
            "--port", str(start.port), "--workers", str(start.workers),
            "--log-level", "warning",
            "--http", "1", "--no-ws",  # what a WSGI service over plain HTTP/1.1 needs
            *flags]
        if not start.log:
            return argv
        # It writes its access log to standard output.
        return ["sh", "-c", 'log=$1; shift; exec "$@" >>"$log"', "sh", start.log,
                *argv, "--access-log"]
    return command


def gunicorn(*flags):
    return lambda start: [
        PYTHON, "-m", "gunicorn", start.app, "-b", f"{HOST}:{start.port}",
        "-w", str(start.workers), "--log-level", "warning",
        "--no-control-socket",  # it has one name for all servers of a user
        "--keep-alive", "75",  # 2 s by default: idle connections would not live
        *(["--access-logfile", start.log] if start.log else []), *flags]


def _uwsgi(start, *flags):
    return [
        PYTHON, "-c", "import pyuwsgi; pyuwsgi.run()", *flags,
        "--module", start.app, "--need-app",
        "--processes", str(start.workers),
        "--master", "--die-on-term",  # without the second SIGTERM is a reload
        "--single-interpreter",  # it has one application
        "--listen", Path("/proc/sys/net/core/somaxconn").read_text().strip(),  # 100 by default
        *(["--logto", start.log] if start.log else ["--disable-logging"])]


def uwsgi(start):
    return _uwsgi(
        start, "--http11-socket", f"{HOST}:{start.port}",  # http-socket does not keep connections
        # A thread stays with its connection as long as that is kept: one for each, and some for
        # those who ask meanwhile.
        "--threads", str(start.connections + 8),
        "--socket-timeout", "75")  # 4 s by default: idle connections would not live


def uwsgi_router(start):
    return _uwsgi(
        start, "--http", f"{HOST}:{start.port}",
        "--http-keepalive=75")  # seconds; off by default


def waitress(*flags):
    def command(start):
        one_process(start)
        no_log(start)
        return [
            PYTHON, "-m", "waitress", f"--listen={HOST}:{start.port}",
            "--connection-limit=16384",  # 100 by default
            "--asyncore-use-poll",  # select() by default, which fails beyond descriptor 1023
            *flags, start.app]
    return command


def _limit(start):
    one_process(start)
    no_log(start)
    if start.app != APP:
        raise Absent("answers hello only")
    return [str(build("limit")), str(start.port)]


def _nginx(start):
    if start.app != FILE_APP:
        raise Absent("serves files only")
    return launch("nginx", log=True)(start)


def one_process(start):
    if start.workers > 1:
        raise Absent("has one process only")


def no_log(start):
    if start.log:
        raise Absent("has no access log")


GRANIAN_ONE = ("--backlog", "16384",  # also the bound on connections held at once
               "--blocking-threads", "1")  # one handler at a time, as the others
GUNICORN_CONNECTIONS = ("--worker-connections", "16384")  # 1000 by default

TABLE = {c.name: c for c in [
    Contender("fastfork", "fastfork", fastfork(),
              "As it is by default: one handler at a time in a worker."),
    Contender("fastfork-stream", "fastfork", fastfork("--request-buffering", "stream"),
              "With `request_buffering = \"stream\"`: handlers read bodies as they come, as they "
              "do with the others; by default they start when the body is complete."),
    Contender("fastfork-greenlets", "fastfork", fastfork("--greenlets", "100")),
    Contender("fastfork-gevent", "fastfork", fastfork("--green", "gevent")),
    Contender("fastfork-threads", "fastfork", fastfork("--threads", "8")),
    Contender("limit", None, _limit,
              "A bare epoll server in C (`limit.c`) that parses nothing and always sends the "
              "same bytes: what the machine and the load generator leave to a server."),
    Contender("bjoern", "bjoern", launch("bjoern"),
              "One handler at a time; more workers are forked after `bjoern.listen()`, as its "
              "documentation does it; a longer listen queue."),
    Contender("fastwsgi", "fastwsgi", launch("fastwsgi"),
              "One handler at a time; TCP_NODELAY on and a longer listen queue, for what it "
              "sends in several pieces and for many connections at once."),
    Contender("granian", "granian", granian(*GRANIAN_ONE),
              "WSGI over HTTP/1.1; one blocking thread, because more of them only wait for "
              "the GIL where handlers do not wait; room for 16,384 connections."),
    Contender("uwsgi", "pyuwsgi", uwsgi,
              "`--http11-socket`, its HTTP server that keeps connections, without a router "
              "process; a thread stays with its connection, so there are eight more of them than "
              "connections in a work: with fewer, the others would get no answer; request log "
              "off."),
    Contender("uwsgi-router", "pyuwsgi", uwsgi_router,
              "For many idle connections only: they stay in a router process (`--http`, "
              "`--http-keepalive`), which asks a worker with one thread."),
    Contender("gunicorn-sync", "gunicorn", gunicorn(),
              "Its default worker: one request at a time, a connection for each. With its "
              "parser in Python: the one in C that it can use did not install."),
    Contender("gunicorn-gthread", "gunicorn", gunicorn(
                  "-k", "gthread", "--threads", "8", *GUNICORN_CONNECTIONS),
              "Eight threads in a worker, up to 16,384 connections kept for 75 s. With its parser "
              "in Python."),
    Contender("gunicorn-gevent", "gunicorn", gunicorn("-k", "gevent", *GUNICORN_CONNECTIONS),
              "A greenlet for each of up to 16,384 connections of a worker, kept for 75 s. With "
              "its parser in Python."),
    Contender("waitress", "waitress", waitress("--threads=4"),
              "One process with four threads, its default; room for 16,384 connections, which it "
              "waits for with poll(), as it cannot have more than 1,024 with select()."),
    Contender("cheroot", "cheroot", launch("cheroot", workers=False),
              "One process with ten threads, its default; 16,384 connections may be kept (ten "
              "by default) for 75 s, and the listen queue is longer than its five."),
    Contender("gevent-pywsgi", "gevent", launch("gevent", workers=False, log=True),
              "One process with a greenlet for each connection; TCP_NODELAY on, for head and body, "
              "which it sends one by one; `log=None`: by default it writes an access log."),
    Contender("nginx", None, _nginx,
              "For files only: `sendfile` and `tcp_nopush` on, access log off, a worker process "
              "for each worker."),
]}


def build(name):
    """Compile NAME.c if it is newer than its program; return the program's path."""
    source, program = HERE / f"{name}.c", HERE / "build" / name
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        compiler = shutil.which(os.environ.get("CC", "cc"))
        if compiler is None:
            raise Absent("no C compiler")
        program.parent.mkdir(exist_ok=True)
        subprocess.run([compiler, "-O2", "-Wall", "-o", program, source], check=True)
    return program


def _nginx_version():
    """nginx's version, of which it tells on its standard error; raises Absent without nginx."""
    if shutil.which("nginx") is None:
        raise Absent("not installed: apt-get install nginx-light")
    done = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True)
    return done.stderr.rpartition("/")[2].split()[0]


def free_port():
    """A TCP port that nobody used a moment ago."""
    with socket.socket() as s:
        s.bind((HOST, 0))
        return s.getsockname()[1]


def terminate_cleanly():
    """Make SIGTERM and SIGHUP end this command as Ctrl-C does: with its servers ended."""
    def leave(number, frame):
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGHUP, leave)


_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def _die_with_parent():
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Server:
    """A contender that runs and has answered once; a context manager that ends it.

    `app` is what it serves; `log` the file of its access log; `connections` how many there will
    be; `prefix` a command to run it under (valgrind); `cpus` the cores it may use; `patience` the
    seconds it may take to answer first, and to end; `output` a file for what it says (a temporary
    one if not given).  `started` is when, by time.perf_counter().  The server is the leader of a
    session of its own, by which everything it started is found when it is ended.  Its temporary
    files go with it; `command` is its command line.
    """

    def __init__(self, contender, *, workers=1, app=APP, log=None, connections=Start.connections,
                 prefix=(), cpus=None, patience=30.0, env=None, output=None):
        self.contender = contender
        self.version = contender.version()
        self.port = free_port()
        self.command = contender.command(Start(self.port, workers, app, log, connections))
        self.log = log
        self.patience = patience
        self.output = output or tempfile.TemporaryFile()  # noqa: SIM115 (see close)

        def prepare():
            _die_with_parent()
            if cpus is not None:
                os.sched_setaffinity(0, cpus)

        # The contender finds `sites` in the current directory.  Nothing of the caller's
        # Python environment reaches it.
        full = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        self.folder = tempfile.TemporaryDirectory(prefix="bench")
        full |= {"PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1",
                 "TMPDIR": self.folder.name, **(env or {})}
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [*prefix, *self.command], cwd=HERE, env=full,
            stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.STDOUT,
            start_new_session=True, preexec_fn=prepare)
        try:
            self._wait_ready()
        except BaseException:
            self.close()
            raise

    def _wait_ready(self):
        end = time.monotonic() + self.patience
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"did not start: exit status {self.process.returncode}: "
                                   f"{self.last_words()}")
            try:
                self._ask()
                break
            except ConnectionRefusedError:
                pass
            if time.monotonic() > end:
                raise RuntimeError(f"did not start within {self.patience:.0f} s: "
                                   f"{self.last_words()}")
            time.sleep(0.02)
        if not procfs.socket_owners(self.pids(), self.port):
            raise RuntimeError(f"port {self.port} belongs to somebody else")

    def _ask(self):
        """Make a request; raise unless its answer begins as that of a server that works."""
        with socket.create_connection((HOST, self.port), self.patience) as sock:
            sock.sendall(MINIMAL[0])
            with sock.makefile("rb") as answer:
                line = answer.readline(1024)
        if not re.match(rb"HTTP/1\.[01] [234]\d\d ", line):
            raise RuntimeError(f"answered {line!r}: {self.last_words()}")

    def last_words(self):
        """The last error that the server wrote of, or else its last line."""
        lines = [line.strip() for line in self.text().splitlines() if len(line.strip()) > 1]
        errors = [line for line in lines if "Error" in line]
        return (errors or lines or ["no message"])[-1]

    def text(self):
        """What it has said."""
        return os.pread(self.output.fileno(), 1 << 20, 0).decode("utf-8", "replace")

    def pids(self):
        """All its processes."""
        return procfs.tree(self.process.pid)

    def settle(self):
        """Wait until all its workers have started: its processes are there and do nothing.

        Half a second in which they use less than 10 ms of CPU together is nothing.
        """
        end = time.monotonic() + self.patience
        while time.monotonic() < end:
            pids = self.pids()
            try:
                before = procfs.Cpu(pids)
                time.sleep(0.5)
                spent, _, _ = procfs.Cpu(pids).since(before)
            except (OSError, RuntimeError):  # a process or a thread that was there has ended
                continue
            if self.pids() == pids and spent < 0.01:
                return
        raise RuntimeError(f"was still starting after {self.patience:.0f} s: {self.last_words()}")

    def worker(self, client):
        """Pid of the process that serves `client`'s connection."""
        owners = procfs.socket_owners(self.pids(), self.port, client.port)
        if len(owners) != 1:
            raise RuntimeError(f"connection owned by {len(owners)} processes")
        return owners[0]

    def close(self):
        """SIGTERM, then, `patience` seconds later, SIGKILL to each process that is left."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(self.patience)
        for pid in procfs.session(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.output.close()
        self.folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class Client:
    """A keep-alive connection that checks every answer: 200, and the body of the app."""

    def __init__(self, port, timeout=30.0, source=None):
        self.sock = socket.socket()
        self.sock.settimeout(timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source:
            # The kernel may then use one port towards several source addresses.
            self.sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
            self.sock.bind((source, 0))
        try:
            self.sock.connect((HOST, port))
        except BaseException:
            self.sock.close()
            raise
        self.port = self.sock.getsockname()[1]

    def ask(self, variants, times=1, answers=1):
        """Send a request (or `answers` pipelined ones), read the whole answer and check it;
        `times` times, one by one."""
        for request in itertools.islice(itertools.cycle(variants), times):
            self.sock.sendall(request)
            self.check(answers)

    def check(self, answers=1):
        """Read so many whole answers; raise unless each is a 200 with the body of the app."""
        data = b""
        while data.count(BODY) < answers:
            more = self.sock.recv(65536)
            if not more:
                raise ConnectionError(f"closed by the server after {data[:80]!r}")
            data += more
            if len(data) > 4096 * answers:
                raise ValueError(f"not the expected answer: {data[:80]!r}")
        if (not data.startswith((b"HTTP/1.1 200 ", b"HTTP/1.0 200 ")) or not data.endswith(BODY)
                or len(re.findall(rb"HTTP/1\.[01] 200 ", data)) != answers):
            raise ValueError(f"not the expected answer: {data[:80]!r}")

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


# What a contender may do to who measures it.
FAILURES = (OSError, RuntimeError, ValueError, subprocess.SubprocessError)


def attempt(name, measure):
    """`measure()`'s row, or one that says why there is none; only the run's own end passes."""
    try:
        return {"name": name, **measure()}
    except Absent as e:
        return {"name": name, "absent": True, "error": f"absent: {e}"}
    except FAILURES as e:
        return {"name": name, "error": f"invalid: {type(e).__name__}: {e}"}


def exit_status(rows):
    """1 if a figure is missing because something went wrong, else 0."""
    return int(any("error" in row and not row.get("absent") for row in rows))
