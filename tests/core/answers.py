"""Small tools of the core tests: read answers strictly, remember calls."""

from __future__ import annotations

import io
from types import SimpleNamespace

from cases import chunked as chunked
from cases import request as request
from harness import Canned as Canned
from harness import answers as answers

from fastfork import _core

KIB = 1024
MIB = 1024 * KIB
DEFAULTS = {
    "keep_alive": 75.0,
    "head_timeout": 10.0,
    "body_timeout": 30.0,
    "write_timeout": 60.0,
    "send_delay": 0.001,
    "handoff_after": 0.005,
    "linger_timeout": 2.0,
    "request_timeout": 0.0,
    "liveness_timeout": 30.0,
    "max_request_line": 16 * KIB,
    "max_head": 64 * KIB,
    "max_fields": 128,
    "max_body": 1024 * MIB,
    "body_memory": 16 * MIB,
    "max_body_memory": 64 * MIB,
    "output_memory": 256 * KIB,
    "output_spool": 1024 * MIB,
    "max_spool": 8192 * MIB,
    "max_connections": 16384,
    "forwarded_allow_ips": (),
    "forwarded_fields": ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host",
                         "x-forwarded-port", "x-forwarded-prefix", "forwarded"),
    "proxy_protocol": "off",
    "access_log_format": "combined",
    "read_ahead": 64 * KIB,
    "keep_alive_requests": 100_000,
    "max_chunk_extensions": 16 * KIB,
    "body_min_rate": 500,
    "request_buffering": "full",
    "greenlets": "auto",
    "green": "off",
    "threads": 1,
    "max_in_flight": "auto",
    "max_queue": 16384,
    "queue_timeout": 0.0,
    "header_map": "drop",
    "server_header": "fastfork",
    "date_header": "on",
}


class Recorder:
    """An application that keeps every environ and body that it could read; its answer is the
    path."""

    def __init__(self):
        self.environs = []
        self.bodies = []

    def __call__(self, environ, start_response):
        body = environ["wsgi.input"].read()
        self.environs.append(environ)
        self.bodies.append(body)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["PATH_INFO"].encode("latin-1")]

    @property
    def environ(self):
        (only,) = self.environs
        return only

    @property
    def body(self):
        (only,) = self.bodies
        return only

    @property
    def paths(self):
        return [e["PATH_INFO"] for e in self.environs]


class Wire:
    """A worker without sockets, what it logged, and one connection to it."""

    def __init__(self, app, *, access_log_fd=-1, multiprocess=False, slot=None, **settings):
        unknown = settings.keys() - DEFAULTS.keys()
        assert not unknown, unknown
        log = self.log = []
        self.worker = _core.Worker(
            app, [], SimpleNamespace(**{**DEFAULTS, **settings}),
            log=lambda level, message, exception=None: log.append((level, message, exception)),
            access_log_fd=access_log_fd, multiprocess=multiprocess, slot=slot)
        self.connections = []
        self.connect()

    def connect(self, *address):
        """Go on with a new connection to the same worker."""
        self.connection = self.worker.connect(*address)
        self.connections.append(self.connection)
        return self.connection

    def feed(self, data):
        return self.connection.feed(data)

    def ask(self, data, *methods):
        """The answers to `data`.  One without length must end with the connection."""
        found = answers(self.feed(data), *methods)
        for number, answer in enumerate(found):
            method = methods[number] if number < len(methods) else "GET"
            delimited = (
                method == "HEAD" or answer.status in (204, 304)
                or answer.all("content-length") or answer.all("transfer-encoding"))
            if not delimited:
                assert self.closed and number == len(found) - 1, answer
        return found

    def one(self, data, method="GET"):
        """The only answer to `data`."""
        found = self.ask(data, method)
        assert len(found) == 1, found
        return found[0]

    @property
    def closed(self):
        return self.connection.closed

    @property
    def reset(self):
        return self.connection.reset

    @property
    def usable(self):
        """True if the connection is open and answers one more request, as it should."""
        if self.closed:
            return False
        found = answers(self.feed(request("GET", "/usable")))
        assert len(found) == 1, found
        return True

    def logged(self, level):
        """The messages logged at this level or above."""
        return [message for number, message, _ in self.log if number >= level]

    def close(self):
        for connection in self.connections:
            if not connection.closed:
                connection.eof()
        self.connections.clear()
        self.log.clear()
        del self.connection, self.worker


def is_spooled(stream):
    """Is this wsgi.input a temporary file?"""
    try:
        return stream.fileno() >= 0
    except io.UnsupportedOperation:
        return False
