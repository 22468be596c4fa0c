"""What each contender can do of what the benchmarks ask for.

    python bench/contenders.py [--only NAME,...] [--json FILE]

Each is started with each application and asked over a plain socket; every status and every byte
of every body is checked.  The table says yes, no, or - where a contender does not claim to; below
it stand the reasons.  Nothing is measured here.  The exit status is 1 if fastfork cannot do
something.
"""

import contextlib
import io
import json
import os
import random
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import procfs
import servers
import table
from servers import APP, FILE_APP, HOST, MINIMAL, TWELVE, Absent
from sites import plain
from sites.document import detail

NAMES = ("fastfork", "bjoern", "fastwsgi", "granian", "uwsgi", "gunicorn-sync",
         "gunicorn-gthread", "gunicorn-gevent", "waitress", "cheroot", "gevent-pywsgi", "limit",
         "nginx")
PATIENCE = 5.0  # seconds for an answer
FILE = random.Random(1).randbytes(1 << 20)
UPLOAD_SIZE = 10 << 20
PIPELINED = 16
LOGGED = 10
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


class Answer(NamedTuple):
    status: int
    fields: dict  # by names in lower case
    body: bytes
    kept: bool  # the connection


class Strange(ValueError):
    """An answer that is not as HTTP/1.1 or the application wants it."""


class Connection:
    """A connection that reads answers strictly; a context manager."""

    def __init__(self, port):
        self.sock = socket.create_connection((HOST, port), PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self.sock.makefile("rb")

    def send(self, *pieces):
        """Send; a server that closes before it has got everything may have answered why."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                self.sock.sendall(piece)

    def answer(self):
        """The next answer, whole."""
        line = self._line()
        version, _, rest = line.partition(b" ")
        if version not in (b"HTTP/1.1", b"HTTP/1.0") or not rest[:3].isdigit():
            raise Strange(f"sends no status line: {line[:80]!r}")
        fields = {}
        while line := self._line():
            name, colon, value = line.partition(b":")
            if not colon or name != name.strip():
                raise Strange(f"sends no field: {line[:80]!r}")
            fields[name.decode().lower()] = value.strip().decode("latin-1")
        kept = version == b"HTTP/1.1" and fields.get("connection", "").lower() != "close"
        return Answer(int(rest[:3]), fields, self._body(fields), kept)

    def closed(self):
        """True if the server closes the connection now, False if it keeps it or says more."""
        try:
            return not self.stream.read(1)
        except TimeoutError:
            return False

    def _line(self):
        line = self.stream.readline(65536)
        if not line:
            raise ConnectionError("closes the connection without an answer")
        if not line.endswith(b"\r\n"):
            raise Strange(f"sends no line: {line[:80]!r}")
        return line[:-2]

    def _body(self, fields):
        if "chunked" in fields.get("transfer-encoding", "").lower():
            body = io.BytesIO()
            while size := int(self._line().partition(b";")[0], 16):
                body.write(self._exactly(size))
                if self._line():
                    raise Strange("sends a chunk that does not end where it said")
            while self._line():
                pass
            return body.getvalue()
        if (length := fields.get("content-length")) is not None:
            return self._exactly(int(length))
        return self.stream.read()

    def _exactly(self, size):
        data = self.stream.read(size)
        if len(data) != size:
            raise Strange(f"sends {len(data)} of {size} bytes")
        return data

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stream.close()
        self.sock.close()


def expect(answer, body):
    """Raise unless the answer is a 200 with this body."""
    if answer.status != 200:
        raise Strange(f"answers {answer.status} {answer.body[:60]!r}")
    if answer.body != body:
        raise Strange(f"answers with another body: {len(answer.body)} bytes, {answer.body[:60]!r}")


def twice(server, body, *pieces):
    """Ask, and ask again if the connection is kept: what is left of a request shows then."""
    with Connection(server.port) as connection:
        for _ in range(2):
            connection.send(*pieces)
            answer = connection.answer()
            expect(answer, body)
            if not answer.kept:
                return


# -- what is asked -----------------------------------------------------------------------
def hello(server):
    with Connection(server.port) as connection:
        connection.send(MINIMAL[0])
        expect(connection.answer(), plain.BODY)


def keep_alive(server):
    with Connection(server.port) as connection:
        for n in range(3):
            connection.send(MINIMAL[0])
            try:
                expect(connection.answer(), plain.BODY)
            except ConnectionError:
                raise Strange(f"closes the connection after {n} answers") from None


def pipelined(server):
    with Connection(server.port) as connection:
        connection.send(MINIMAL[0] * PIPELINED)
        for n in range(PIPELINED):
            try:
                expect(connection.answer(), plain.BODY)
            except (ConnectionError, TimeoutError):
                raise Strange(f"answers {n} of {PIPELINED} requests in one piece") from None


def close(server):
    with Connection(server.port) as connection:
        connection.send(MINIMAL[0].replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        expect(connection.answer(), plain.BODY)
        if not connection.closed():
            raise Strange("does not close the connection when asked to")


def post(size):
    def ask(server):
        body = plain.body(size)
        twice(server, b'{"items": %d}' % len(json.loads(body)),
              b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
              b"Content-Length: %d\r\n\r\n" % size + body)
    return ask


def download(expected):
    def ask(server):
        twice(server, expected, MINIMAL[0])
    return ask


def upload(server):
    piece = os.urandom(64 << 10)
    chunk = b"%x\r\n%s\r\n" % (len(piece), piece)
    twice(server, b"%d" % UPLOAD_SIZE,
          b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
          *[chunk] * (UPLOAD_SIZE // len(piece)), b"0\r\n\r\n")


def api(server):
    for n, request in enumerate(TWELVE):
        with Connection(server.port) as connection:
            connection.send(request)
            answer = connection.answer()
        expect(answer, detail(50, "ACTIVE", "en-GB,en;q=0.7,de;q=0.3",
                              f"req-5a1d9a3e-6c1b-4f0e-9d58-2f6a0c7be91{n}",
                              AGENT).encode())
        if answer.fields.get("content-type") != "application/json":
            raise Strange(f"sends Content-Type {answer.fields.get('content-type')}")


def two_workers(server):
    server.settle()
    listening = len(procfs.socket_owners(server.pids(), server.port))
    for _ in range(20):
        hello(server)
    if listening < 2:
        raise Strange("has one process that listens")


def access_log(server):
    """Each request has a line by the time its answer is there, or soon after."""
    for _ in range(LOGGED):
        hello(server)
    end = time.monotonic() + PATIENCE
    while (lines := Path(server.log).read_bytes().count(b"GET /")) < LOGGED:
        if time.monotonic() > end:
            raise Strange(f"writes {lines} lines for {LOGGED} requests")
        time.sleep(0.05)


class Check(NamedTuple):
    title: str
    ask: Callable  # with a Server; raises if it cannot do it
    app: str = APP
    workers: int = 1
    log: bool = False


CHECKS = [
    Check("hello", hello),
    Check("keep-alive", keep_alive),
    Check(f"pipelined x{PIPELINED}", pipelined),
    Check("close", close),
    Check("post 1 KiB", post(1 << 10), "sites.plain:post"),
    Check("post 64 KiB", post(64 << 10), "sites.plain:post"),
    Check("generated", download(plain.PIECE * plain.PIECES), "sites.plain:generated"),
    Check("file", download(FILE), FILE_APP),
    Check("chunked upload", upload, "sites.plain:upload"),
    Check("falcon", api, "sites.falcon_api:app"),
    Check("flask", api, "sites.flask_api:app"),
    Check("django", api, "sites.django_api:app"),
    Check("2 workers", two_workers, workers=2),
    Check("access log", access_log, log=True),
]


def ability(contender, check, folder):
    """("yes", None) if it can; otherwise "no", or "-" if it does not even try, and why."""
    file = Path(folder, "file")
    file.write_bytes(FILE)
    log = Path(folder, "access.log")
    log.unlink(missing_ok=True)
    try:
        with servers.Server(contender, workers=check.workers, app=check.app,
                            log=str(log) if check.log else None, patience=2 * PATIENCE,
                            env={"BENCH_FILE": str(file)}) as server:
            check.ask(server)
    except Absent as e:
        return "-", str(e)
    except (OSError, RuntimeError, ValueError) as e:
        return "no", str(e)
    return "yes", None


def main():
    options = table.parser(__doc__).parse_args()
    servers.terminate_cleanly()
    rows, reasons = [], {}
    with tempfile.TemporaryDirectory(prefix="contenders") as folder:
        for name in table.choose(options.only, NAMES, servers.TABLE):
            contender = servers.TABLE[name]
            row = servers.attempt(name, lambda c=contender: {"version": c.version()})
            rows.append(row)
            if "error" in row:
                continue
            for check in CHECKS:
                row[check.title], reason = ability(contender, check, folder)
                if reason:
                    reasons.setdefault(f"{name} {reason}", []).append(check.title)
    table.show("What each contender can do",
               [("version", "version"), *((check.title, check.title) for check in CHECKS)],
               rows, [f"{reason}: {', '.join(titles)}" for reason, titles in reasons.items()])
    table.save(options.json, "contenders", {"rows": rows, "reasons": reasons})
    return int(any(row["name"] == "fastfork" and "no" in row.values() for row in rows))


if __name__ == "__main__":
    os.chdir(servers.HERE)
    sys.exit(main())
