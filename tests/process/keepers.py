"""Many clients in one thread who keep the connection that they have, whatever becomes of workers.

Each asks in one of several ways, reads the whole answer, and asks again on the same connection.
Nothing may end it: that the server closes it, that an answer says `Connection: close`, is not the
one that was asked for or does not come at all, is a loss.  (Only after a loss a client has a new
connection, so that there are always as many.)

Every request has a number, which stands in the answer behind the pid of the worker, and in shared
memory the application counts how often each was served (numbers_site.py): more than once is a
loss, too.
"""

from __future__ import annotations

import collections
import heapq
import itertools
import mmap
import os
import random
import selectors
import socket
import threading
import time
from dataclasses import dataclass

from harness import PATIENCE, wait_for

NUMBERS = 1 << 26  # requests of one run at most
PIPELINED = 4


@dataclass
class Loss:
    """What went wrong with a client's connection, and when (time.monotonic())."""

    why: str
    port: int  # the client's
    pid: int  # of the worker that gave the last answer there; 0: there was none
    sent: float
    seen: float

    def __str__(self):
        return (f"{self.why}; port {self.port}, last answered by worker {self.pid}, "
                f"{self.seen - self.sent:.3f} s after the last request")


class Board:
    """How often each request was served, in memory that the workers write."""

    def __init__(self, path):
        with open(path, "wb+") as file:
            file.truncate(NUMBERS)
            self.counts = mmap.mmap(file.fileno(), NUMBERS)
        self.path = path

    def served(self, number):
        return self.counts[number]

    def twice(self, upto):
        """Those of the numbers below `upto` that were served more than once."""
        return [n for n, count in enumerate(self.counts[:upto]) if count > 1]


# -- ways to ask: what is sent now, and what after a pause -----------------------------------
def _get(path, number):
    return f"GET {path}?{number} HTTP/1.1\r\nHost: keepers\r\n\r\n".encode()


def plain(dice, numbers):
    """One small request."""
    return [_get("/", next(numbers))]


def pipelined(dice, numbers):
    return [b"".join(_get("/", next(numbers)) for _ in range(PIPELINED))]


def halves(dice, numbers):
    """A head that comes in two pieces."""
    return _cut(dice, _get("/", next(numbers)))


def posted(dice, numbers):
    """With a body, cut anywhere."""
    size = dice.randrange(1, 2000)
    head = f"POST /?{next(numbers)} HTTP/1.1\r\nHost: keepers\r\nContent-Length: {size}\r\n\r\n"
    return _cut(dice, head.encode() + bytes(size))


def rough(dice, numbers):
    """Pipelined requests, of which the last is cut."""
    return _cut(dice, b"".join(_get("/", next(numbers)) for _ in range(PIPELINED)))


def slow(dice, numbers):
    """The handler waits, without the GIL."""
    return [_get("/sleep", next(numbers))]


def busy(dice, numbers):
    """The handler computes, with it."""
    return [_get("/burn", next(numbers))]


def _cut(dice, data):
    where = dice.randrange(1, len(data))
    return [data[:where], data[where:]]


class _Keeper:
    """One client."""

    def __init__(self, load, dice, ways, idle):
        self.load, self.dice, self.ways, self.idle = load, dice, ways, idle
        self.sock = None
        self.connect()

    def connect(self):
        self.sock = socket.socket()
        self.sock.settimeout(PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.connect(self.load.address)
        self.port = self.sock.getsockname()[1]
        self.load.selector.register(self.sock, selectors.EVENT_READ, self)
        self.pid, self.data, self.expected = 0, b"", collections.deque()
        self.sent = time.monotonic()
        self.ask(plain)

    def ask(self, way):
        first, sock = self.load.next_number, self.sock
        now, *later = way(self.dice, self.load.numbers())
        self.expected.extend(range(first, self.load.next_number))
        self.send(now)
        for piece in later:
            pause = self.dice.uniform(0, self.load.pause)
            self.load.after(pause, self._send_rest, sock, piece)

    def ask_again(self):
        self.ask(self.dice.choice(self.ways))

    def _send_rest(self, sock, piece):
        if sock is self.sock:
            self.send(piece)

    def send(self, data):
        self.sent = time.monotonic()
        try:
            self.sock.sendall(data)
        except OSError as error:
            self.lose(f"{type(error).__name__} while it was sent")

    def close(self):
        if self.sock is not None:
            self.load.selector.unregister(self.sock)
            self.sock.close()
            self.sock = None

    def lose(self, why):
        self.load.losses.append(Loss(why, self.port, self.pid, self.sent, time.monotonic()))
        self.close()

    def readable(self):
        try:
            data = self.sock.recv(65536)
        except OSError as error:
            return self.lose(f"{type(error).__name__}, {len(self.expected)} answers missing")
        if not data:
            return self.lose(f"closed, {len(self.expected)} answers missing")
        self.data += data
        while self.sock is not None and self._answer():
            pass

    def _answer(self):
        """Take one answer off the data; False if there is no whole one."""
        head, end, rest = self.data.partition(b"\r\n\r\n")
        if not end:
            return False
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(fields.get(b"content-length", b"0"))
        if len(rest) < length:
            return False
        body, self.data = rest[:length], rest[length:]
        if not head.startswith(b"HTTP/1.1 200 "):
            self.lose(f"answered {head[:100]!r}")
        elif not self.expected:
            self.lose(f"an answer that nobody asked for: {body[:100]!r}")
        elif body.split()[1:] != [b"%d" % self.expected[0]]:
            self.lose(f"answered {body[:100]!r} to request {self.expected[0]}")
        else:
            self._answered(int(body.split()[0]), self.expected.popleft())
            if b"connection" in fields:
                self.lose(f"told of its connection: {fields[b'connection'].decode()}")
        return True

    def _answered(self, pid, number):
        self.pid = pid
        self.load.answers[pid] += 1
        self.load.longest = max(self.load.longest, time.monotonic() - self.sent)
        if self.load.board and self.load.board.served(number) != 1:
            self.lose(f"request {number} was served {self.load.board.served(number)} times")
        elif not self.expected:
            self.load.satisfied(self)


class Keepers:
    """A context manager: the clients run while it is open, and at its end each asks once more.

    `busy` of them ask again and again in one of `ways` (functions as those above), after 0 to
    `rest` seconds; `idle` ask once and rest.  The pieces of one request come up to `pause` seconds
    apart.  `board` counts what is served."""

    def __init__(self, address, busy=100, idle=0, *, ways=(plain,), rest=0.0, pause=0.02, seed=0,
                 board=None):
        self.address, self.busy, self.idle = address, busy, idle
        self.ways, self.rest, self.pause, self.board = ways, rest, pause, board
        self.dice = random.Random(seed)
        self.selector = selectors.DefaultSelector()
        self.answers = collections.Counter()  # by the pid of the worker
        self.losses = []
        self.longest = 0.0  # seconds from the last byte of a request to an answer
        self.next_number = 0
        self.trouble = None
        self._later = []
        self._order = itertools.count()
        self._last = False
        self._keepers = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def numbers(self):
        while True:
            self.next_number += 1
            yield self.next_number - 1

    def after(self, seconds, act, *args):
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._order), act, args))

    def satisfied(self, keeper):
        """It has all that it has asked for."""
        if keeper.idle or self._last:
            return
        if self.rest:
            self.after(self.dice.uniform(0, self.rest), self._ask, keeper)
        else:
            keeper.ask_again()

    def _ask(self, keeper):
        if keeper.sock is not None and not keeper.expected and not self._last:
            keeper.ask_again()

    @property
    def answered(self):
        return sum(self.answers.copy().values())

    def wait_answered(self, more, patience=PATIENCE):
        """Until so many requests more have been answered."""
        count = self.answered + more
        wait_for(lambda: self.answered >= count or self.trouble, patience,
                 lambda: f"{self.answered} of {count} answers; lost: {self.lost()}")
        if self.trouble:
            raise self.trouble

    def wait_everybody(self):
        """Until each has had an answer."""
        def served():
            keepers = self._keepers.copy()
            return len(keepers) == self.busy + self.idle and all(k.pid for k in keepers)

        wait_for(lambda: self.trouble or served())
        if self.trouble:
            raise self.trouble

    def twice(self):
        """The requests that were served more than once."""
        return self.board.twice(self.next_number)

    def lost(self, most=5):
        """The first losses, in words."""
        return [str(loss) for loss in self.losses[:most]]

    # -- its thread ----------------------------------------------------------------------
    def _run(self):
        try:
            for number in range(self.busy + self.idle):
                self._keepers.append(
                    _Keeper(self, random.Random(self.dice.random()), self.ways,
                            number >= self.busy))
                self._turn(0)
            while not self._stop.is_set():
                self._turn(0.05)
                for keeper in self._keepers:
                    if keeper.sock is None:
                        keeper.connect()
            self._finish()
        except BaseException as error:
            self.trouble = error
        finally:
            for keeper in self._keepers:
                keeper.close()
            self.selector.close()

    def _turn(self, most):
        if self._later:
            most = max(0.0, min(most, self._later[0][0] - time.monotonic()))
        for key, _ in self.selector.select(most):
            if key.data.sock is not None:
                key.data.readable()
        while self._later and self._later[0][0] <= time.monotonic():
            _, _, act, args = heapq.heappop(self._later)
            act(*args)

    def _finish(self):
        """What is on its way is answered, and whoever is still connected has one answer more."""
        self._last = True
        self._wait_until_all_have_theirs()
        for keeper in self._keepers:
            if keeper.sock is not None:
                keeper.ask(plain)
        self._wait_until_all_have_theirs()

    def _wait_until_all_have_theirs(self):
        end = time.monotonic() + PATIENCE
        while any(keeper.sock is not None and keeper.expected for keeper in self._keepers):
            if time.monotonic() > end:
                for keeper in self._keepers:
                    if keeper.sock is not None and keeper.expected:
                        keeper.lose(f"no answer to request {keeper.expected[0]} within "
                                    f"{PATIENCE:.0f} s")
                return
            self._turn(0.05)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._stop.set()
        self._thread.join()
        if self.trouble and exc[0] is None:
            raise self.trouble


def site(directory):
    """A board in this directory, and the environment by which the application finds it."""
    board = Board(os.path.join(directory, "board"))
    return board, {"BOARD": str(board.path)}
