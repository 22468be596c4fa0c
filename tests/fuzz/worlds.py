"""A worker with random settings, an application with random habits, and connections to them."""

from __future__ import annotations

import io
import os
import tempfile
from ipaddress import ip_address, ip_network
from types import SimpleNamespace

from answers import DEFAULTS

from fastfork import _core

PEER = "203.0.113.9"
READS = ["all", "all", "pieces", "lines", "readlines", "iterate", "read1", "readinto", "some",
         "none", "late", "late in lines"]
ANSWERS = ["list", "list", "pieces", "generator", "write", "file", "memory file", "nothing",
           "length", "close", "204", "304"]
FORWARDED_FIELDS = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port",
                    "x-forwarded-prefix", "forwarded")
HINTS = [("Link", "</style.css>; rel=preload")]


def settings(seeded):
    """Settings, most of them small now and then."""
    def of(*values):
        return seeded.choice(values)

    roomy = seeded.random() < 0.4
    made = dict(
        DEFAULTS,
        body_memory=of(0, 50, DEFAULTS["body_memory"]),
        max_body_memory=of(0, 70, 400, DEFAULTS["max_body_memory"]),
        read_ahead=of(1024, 1024, 5000, 65536),
        header_map=of("drop", "drop", "refuse", "dangerous"),
        keep_alive_requests=of(1, 2, 100_000, 100_000),
        server_header=of("fastfork", "none", "another/1.0"),
        date_header=of("on", "on", "off"),
        request_buffering=of("full", "stream"),
        greenlets=of("auto", "auto", 1, 3),
        access_log_format=of("common", "combined"),
    )
    made.update(
        forwarded_allow_ips=of((), (), (PEER,), ("203.0.113.0/24", "10.0.0.0/8"), ("*",),
                               ("192.0.2.1", "2001:db8::/32")),
        forwarded_fields=of(
            FORWARDED_FIELDS, FORWARDED_FIELDS, ("x-forwarded-for",), ("forwarded",)),
        proxy_protocol=of("off", "off", "off", "v1", "v2", "auto"),
    )
    if not roomy:
        made.update(
            max_request_line=of(16, 60, 500, 500),
            max_head=of(500, 2000, 2000),
            max_fields=of(1, 5, 20, 20),
            max_body=of(0, 5, 300, 5000, 5000),
            max_chunk_extensions=of(0, 5, 100),
            max_spool=of(200, DEFAULTS["max_spool"], DEFAULTS["max_spool"]),
        )
    return made, roomy


def content(number, size):
    """The body of an answer."""
    return (b"%d;" % number * size)[:size]


class Call:
    """A request as the application saw it, and what it did."""

    def __init__(self, number, environ, reads, answers):
        self.number = number
        self.environ = {k: v for k, v in environ.items() if isinstance(v, str)}
        self.reads, self.answers = reads, answers
        self.read = bytearray()
        self.whole = False          # it has read the body to its end
        self.error = 0              # status of the BodyError that it met
        self.passed = False         # ... and let pass
        self.begun = False          # its first block was out before it read
        self.done = False
        self.hints = 0
        self.body = b""             # of the answer


class Application:
    """Does with each request what the session's plan says."""

    def __init__(self):
        self.session = None
        self.faults = []
        self.file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - for as long as it lives

    def __call__(self, environ, start_response):
        session = self.session
        reads, answers, hints, tolerant = session.plan[len(session.calls) % len(session.plan)]
        call = Call(len(session.calls), environ, reads, answers)
        session.calls.append(call)
        self.expect(session.proxied or environ["REMOTE_PORT"] == str(session.port),
                    "a request of another connection")
        for _ in range(hints):
            environ["wsgi.early_hints"](HINTS)
            call.hints += 1
        stream = environ["wsgi.input"]
        if reads.startswith("late"):
            return self.late(call, stream, start_response, tolerant)
        self.take(call, stream, tolerant)
        return self.answer(call, environ, start_response)

    def expect(self, true, fault):
        if not true:
            self.faults.append(fault)

    def late(self, call, stream, start_response, tolerant):
        """Answers first and reads then (if anybody wants to have a body)."""
        call.answers, call.body, call.done = "late", b"first;last", True
        start_response("200 OK", [("X-Call", str(call.number))])
        yield b"first;"
        call.begun = True
        self.take(call, stream, tolerant)
        yield b"last"

    def take(self, call, stream, tolerant):
        try:
            for piece in getattr(self, "read_" + call.reads.replace(" ", "_"))(stream):
                call.read += piece
            call.whole = call.reads not in ("some", "none")
        except _core.BodyError as error:
            call.error = error.status
            self.expect(error.status in (400, 408, 413, 431), f"BodyError of status {error.status}")
            try:
                end = stream.read(1) if call.read else stream.read()
                self.expect(end != b"", "a broken body has an end")
            except _core.BodyError as again:
                self.expect(again.status == error.status, "two errors")
            if not tolerant:
                call.passed = True
                raise

    # -- ways to read: each yields what it gets ----------------------------------------------
    def read_all(self, stream):
        yield stream.read()
        self.expect(stream.read() == b"" and stream.read(5) == b"", "more behind the end")

    def read_pieces(self, stream):
        while piece := stream.read(7):
            yield piece
            if len(piece) < 7:
                self.expect(stream.read(7) == b"", "a short read before the end")

    def read_lines(self, stream):
        while line := stream.readline():
            self.expect(b"\n" not in line[:-1], "two lines in one")
            yield line

    def read_readlines(self, stream):
        yield from stream.readlines()

    def read_iterate(self, stream):
        yield from stream

    def read_read1(self, stream):
        while piece := stream.read1(100):
            self.expect(len(piece) <= 100, "read1 gave too much")
            yield piece

    def read_readinto(self, stream):
        target = bytearray(50)
        while n := stream.readinto(target):
            yield target[:n]

    def read_some(self, stream):
        yield stream.read(3)

    def read_none(self, stream):
        return ()

    read_late = read_pieces
    read_late_in_lines = read_lines

    # -- ways to answer ----------------------------------------------------------------------
    def answer(self, call, environ, start_response):
        size = (0, 1, 100, 5000)[call.number % 4]
        status, fields = "200 OK", [("X-Call", str(call.number)), ("Content-Type", "text/plain")]
        body = content(call.number, size)
        kind = call.answers
        if kind in ("204", "304"):
            status, body = {"204": "204 No Content", "304": "304 Not Modified"}[kind], b""
        elif kind == "close":
            fields.append(("Connection", "close"))
        elif kind == "length":
            fields.append(("Content-Length", str(size)))
        elif kind == "nothing":
            body = b""
        call.body = body
        call.done = True
        write = start_response(status, fields)
        half = size // 2
        if kind == "pieces":
            return (body[:half], b"", body[half:])
        if kind == "generator":
            return (piece for piece in (body[:half], b"", body[half:]))
        if kind == "write":
            write(body[:half])
            return [body[half:]]
        if kind == "file":
            self.file.seek(0)
            self.file.truncate()
            self.file.write(b"skipped" + body)
            file = os.fdopen(os.dup(self.file.fileno()), "rb")
            file.seek(7)
            return environ["wsgi.file_wrapper"](file)
        if kind == "memory file":
            return environ["wsgi.file_wrapper"](io.BytesIO(body), 64)
        return [] if kind in ("nothing", "204", "304") else [body]


class Session:
    """One connection: what is sent on it, and what came of it."""

    def __init__(self, world, raw, right, pieces, plan):
        self.world = world
        self.raw, self.pieces, self.plan = raw, pieces, plan
        # A server with small limits, or one that is told contradictions by a proxy, may refuse.
        self.right = right and world.roomy and not (
            world.settings["forwarded_allow_ips"] and b"orwarded" in raw)
        self.calls = []
        self.fed = bytearray()
        self.sent = bytearray()
        self.closed_early = False       # before our side was
        self.port = world.next_port()
        self.proxied = bool(world.settings["forwarded_allow_ips"])
        self.connection = world.worker.connect(PEER, self.port)

    def feed(self, piece):
        self.world.application.session = self
        self.fed += piece
        self.sent += self.connection.feed(piece)

    @property
    def executed(self):
        """What the application was asked."""
        return [(call.environ["REQUEST_METHOD"], call.environ["RAW_URI"], call.read)
                for call in self.calls]

    @property
    def whole(self):
        """Was all of it sent?"""
        return len(self.fed) == len(self.raw)

    def end(self):
        self.closed_early = self.connection.closed
        self.world.application.session = self
        self.sent += self.connection.eof()


    def __str__(self):
        calls = [{k: v for k, v in vars(call).items() if k != "environ"} for call in self.calls]
        sizes = [len(piece) for piece in self.pieces]
        return (f"sent: {self.raw!r}\nin pieces of: {sizes[:20]} ({len(sizes)})\n"
                f"got: {bytes(self.sent)!r}\ncalls: {calls}\n"
                f"plan: {self.plan}, all sent: {self.whole}, closed before: {self.closed_early}")


class World:
    """A worker with its application, its logs and its settings."""

    def __init__(self, seeded):
        self.settings, self.roomy = settings(seeded)
        self.stream = self.settings["request_buffering"] == "stream"
        self.preamble = self.settings["proxy_protocol"] if self.trusts(PEER) else "off"
        self.application = Application()
        self.log = []
        self.access_log = os.memfd_create("access log")
        self.port = 1024
        self.worker = _core.Worker(
            self.application, [], SimpleNamespace(**self.settings),
            log=lambda level, message, exception=None: self.log.append((level, message, exception)),
            access_log_fd=self.access_log)

    def trusts(self, peer):
        """Is this address (None: a unix peer) in forwarded_allow_ips?"""
        nets = self.settings["forwarded_allow_ips"]
        if "*" in nets or peer is None:
            return "*" in nets
        return any(ip_address(peer) in ip_network(net) for net in nets)

    def next_port(self):
        self.port += 1
        return self.port

    def access_lines(self):
        """The lines written since the last time."""
        self.worker.flush_access_log()
        data = os.pread(self.access_log, 1 << 24, 0)
        os.ftruncate(self.access_log, 0)
        os.lseek(self.access_log, 0, os.SEEK_SET)
        return data.decode("ascii").splitlines()

    def close(self):
        os.close(self.access_log)
        self.application.file.close()
        self.worker = self.application.session = None
