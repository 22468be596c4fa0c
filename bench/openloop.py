"""An open loop: requests at times that are fixed beforehand, whatever the server makes of them.

A closed loop waits with its next request until the last one is answered, so a server that stands
still is asked less, and most of what its clients would have waited is never counted.  Here the
time of every request is planned, and its latency counts from that time:

1. Requests come at equal intervals and are given to the connections in turn.
2. A connection has one request on its way.  If it is busy when another is due on it, that one
   waits for it, and its latency counts from when it was due all the same.
3. The turn of a connection is skipped while a slow request, planned on it, takes what it takes
   in any server.  Otherwise the request behind each slow one would wait for nothing but its own
   client, in every server alike: one in a hundred, and p99 would show that.
4. A connection that the server has closed is opened again when the next request is due on it, not
   before: a server that gives a worker to each connection would have to wait for its request.

The generator is one thread that sleeps until something is due or has come.  `late` of a request
is how long after its time the generator looked at it: its own error, to be shown beside every
figure and small against all of them.
"""

import contextlib
import errno
import gc
import math
import os
import select
import socket
import time
from collections import deque
from dataclasses import dataclass

PATIENCE = 30.0  # seconds after the last request was due until which all must be answered
LEAD = 0.05  # seconds from the beginning to the first request


@dataclass(slots=True)
class Request:
    """A request: when it is due, on which connection, and what became of it (in seconds)."""

    due: float  # from the beginning; while and after it runs: by time.perf_counter()
    connection: int
    slow: bool
    late: float = 0.0
    waited: bool = False  # for its connection
    latency: float = 0.0


def plan(rate, seconds, connections, slow_every=0, rest=0.0):
    """The requests of so many seconds.

    Every `slow_every`th is slow (0: none); its connection is left alone for `rest` seconds.
    """
    requests = []
    resting = [0.0] * connections  # until when
    turn = 0
    for n in range(round(rate * seconds)):
        due = n / rate
        for _ in range(connections):  # if all of them rest, the first in turn takes it
            if resting[turn % connections] <= due:
                break
            turn += 1
        slow = bool(slow_every) and n % slow_every == slow_every - 1
        requests.append(Request(due, turn % connections, slow))
        if slow:
            resting[turn % connections] = due + rest
        turn += 1
    return requests


def quantile(values, share):
    """The least value that at least `share` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@contextlib.contextmanager
def undisturbed():
    """No garbage collection meanwhile, and, where this user may, the core whenever it is needed.

    The generator stands for clients that have machines of their own.  A better nice value does
    not help: it says who gets more of a core, not who gets it at once.
    """
    usual = os.sched_getscheduler(0), os.sched_getparam(0)
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        yield
    finally:
        os.sched_setscheduler(0, *usual)
        gc.enable()


class Connection:
    """A kept connection: one request on its way, and those that wait for it."""

    def __init__(self, load):
        self.load = load
        self.sock = None
        self.current = None
        self.waiting = deque()
        self.received = b""

    def give(self, request):
        if self.current:
            request.waited = True
            self.waiting.append(request)
        else:
            self._begin(request)

    def _begin(self, request):
        self.current = request
        if self.sock:
            self._send()
            return
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.load.opened(self)
        if (trouble := self.sock.connect_ex(self.load.address)) not in (0, errno.EINPROGRESS):
            raise OSError(trouble, os.strerror(trouble))

    def _send(self):
        data = self.load.slow if self.current.slow else self.load.fast
        if self.sock.send(data) != len(data):
            raise RuntimeError("a request did not go out in one piece")

    def connected(self):
        if trouble := self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(trouble, os.strerror(trouble))
        self._send()

    def readable(self):
        more = self.sock.recv(65536)
        now = time.perf_counter()
        if not more and self.current:
            raise ConnectionError(f"closed by the server after {self.received[:80]!r}")
        if not more:
            self.close()
            return
        self.received += more
        if not self.current:
            raise ValueError(f"an answer that nobody asked for: {self.received[:80]!r}")
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not end:
            return
        if not head.startswith(b"HTTP/1.1 200 ") or not self.load.body.startswith(body):
            raise ValueError(f"not the expected answer: {self.received[:80]!r}")
        if len(body) == len(self.load.body):
            self._answered(now, b"\r\nconnection: close" in head.lower())

    def _answered(self, now, last):
        self.current.latency = now - self.current.due
        self.current = None
        self.received = b""
        self.load.answered += 1
        if last:
            self.close()
        if self.waiting:
            self._begin(self.waiting.popleft())

    def close(self):
        if self.sock:
            self.load.closed(self)
            self.sock.close()
            self.sock = None


class OpenLoop:
    """The load of a plan's `requests`; `run` returns them with their latencies.

    `fast` and `slow` are what is sent, `body` is that of every answer.  Whatever is not such an
    answer raises, and so does a request that has none PATIENCE seconds after the last was due.
    """

    def __init__(self, address, requests, fast, slow, body):
        self.address, self.requests = address, requests
        self.fast, self.slow, self.body = fast, slow, body
        self.connections = [Connection(self) for _ in range(1 + max(
            request.connection for request in requests))]
        self.connects = 0
        self.answered = 0
        self.epoll = select.epoll()
        self.by_descriptor = {}
        self.connecting = set()

    def opened(self, connection):
        descriptor = connection.sock.fileno()
        self.connects += 1
        self.by_descriptor[descriptor] = connection
        self.connecting.add(descriptor)
        self.epoll.register(descriptor, select.EPOLLOUT)

    def closed(self, connection):
        descriptor = connection.sock.fileno()
        del self.by_descriptor[descriptor]
        self.connecting.discard(descriptor)
        self.epoll.unregister(descriptor)

    def run(self):
        try:
            with undisturbed():
                self._run()
        finally:
            for connection in self.connections:
                connection.close()
            self.epoll.close()
        return self.requests

    def _run(self):
        start = time.perf_counter() + LEAD
        for request in self.requests:
            request.due += start
        end = self.requests[-1].due + PATIENCE
        pending = deque(self.requests)
        while self.answered < len(self.requests):
            while pending and (late := time.perf_counter() - pending[0].due) >= 0:
                request = pending.popleft()
                request.late = late
                self.connections[request.connection].give(request)
            self._wait(pending[0].due if pending else end)
            if not pending and time.perf_counter() > end:
                raise RuntimeError(f"{len(self.requests) - self.answered} requests had no answer "
                                   f"{PATIENCE:.0f} s after the last was due")

    def _wait(self, until):
        # epoll's own timeout is in milliseconds, select's in microseconds.
        select.select([self.epoll], [], [], max(0.0, until - time.perf_counter()))
        for descriptor, _ in self.epoll.poll(0):
            connection = self.by_descriptor[descriptor]
            if descriptor in self.connecting:
                self.connecting.remove(descriptor)
                self.epoll.modify(descriptor, select.EPOLLIN)
                connection.connected()
            else:
                connection.readable()
