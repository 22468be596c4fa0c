"""Many keep-alive clients in one thread, who miss nothing.

Each asks, reads the whole answer, and asks again at once on the same connection; a new one is made
only where the server has said `Connection: close`.  Whatever else happens is a failure: no answer
(the connection ended instead), half an answer, another status, a refused connection.
"""

from __future__ import annotations

import collections
import selectors
import socket
import threading
import time
from dataclasses import dataclass

from harness import PATIENCE, wait_for


@dataclass
class Failure:
    """A request that was not answered as it should have been."""

    why: str
    pid: int  # of the worker that gave the last answer on this connection; 0: there was none
    sent: float  # time.monotonic()
    seen: float

    def __str__(self):
        where = f"on a connection of worker {self.pid}" if self.pid else "on a new connection"
        return f"{self.why} {where}, {self.seen - self.sent:.3f} s after the request"


class _Visitor:
    """One client: a connection with a request on its way."""

    def __init__(self, load):
        self.load = load
        self.sock = None
        self.pid = 0
        self.data = b""
        self.connect()

    def connect(self):
        self.sock = socket.create_connection(self.load.address, PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.load.selector.register(self.sock, selectors.EVENT_READ, self)
        self.pid = 0
        self.ask()

    def ask(self):
        self.data = b""
        self.sent = time.monotonic()
        try:
            self.sock.sendall(self.load.request)
        except OSError as error:
            self.fail(f"{type(error).__name__} while it was sent")

    def close(self):
        if self.sock is not None:
            self.load.selector.unregister(self.sock)
            self.sock.close()
            self.sock = None

    def fail(self, why):
        failure = Failure(why, self.pid, self.sent, time.monotonic())
        self.load.failures.append(failure)
        self.close()

    def readable(self):
        try:
            data = self.sock.recv(65536)
        except OSError as error:
            return self.fail(f"{type(error).__name__} after {len(self.data)} bytes")
        if not data:
            return self.fail(f"closed after {len(self.data)} bytes")
        self.data += data
        head, end, body = self.data.partition(b"\r\n\r\n")
        if not end:
            return None
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(fields[b"content-length"])
        if len(body) < length:
            return None
        if not head.startswith(b"HTTP/1.1 200 ") or len(body) > length or not body.isdigit():
            return self.fail(f"answered {self.data[:200]!r}")
        self.pid = int(body)
        self.load.answers[self.pid] += 1
        if closing := b"close" in fields.get(b"connection", b""):
            self.load.told_to_close += 1
        if closing or self.load.last:
            self.close()
        else:
            self.ask()
        return None


class Load:
    """A context manager: the clients run while it is open.  The application must answer with its
    pid (small_apps.pid)."""

    def __init__(self, address, clients=32, target="/"):
        self.address, self.clients = address, clients
        self.request = f"GET {target} HTTP/1.1\r\nHost: load\r\n\r\n".encode()
        self.selector = selectors.DefaultSelector()
        self.answers = collections.Counter()  # by the pid of the worker
        self.failures = []
        self.told_to_close = 0
        self.last = False  # nobody asks again
        self.trouble = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @property
    def answered(self):
        return sum(self.answers.copy().values())

    def wait_answered(self, count, patience=PATIENCE):
        """Until `count` requests have been answered in all."""
        wait_for(lambda: self.answered >= count or self.trouble or not self._thread.is_alive(),
                 patience, lambda: f"{self.answered} of {count} answers")
        if self.trouble:
            raise self.trouble
        assert self.answered >= count

    def _run(self):
        visitors = []
        try:
            visitors = [_Visitor(self) for _ in range(self.clients)]
            while not self._stop.is_set():
                for key, _ in self.selector.select(0.05):
                    key.data.readable()
                for visitor in visitors:
                    if visitor.sock is None:
                        visitor.connect()
            self._finish()
        except BaseException as error:
            self.trouble = error
        finally:
            for visitor in visitors:
                visitor.close()
            self.selector.close()

    def _finish(self):
        """The requests on their way are answered too."""
        self.last = True
        end = time.monotonic() + PATIENCE
        while self.selector.get_map():
            if time.monotonic() > end:
                raise AssertionError("requests on their way are not answered")
            for key, _ in self.selector.select(0.05):
                key.data.readable()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._stop.set()
        self._thread.join()
        if self.trouble and exc[0] is None:
            raise self.trouble
