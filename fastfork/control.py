"""The server's side of the control socket: who is connected, and what they ask.

A unix stream socket, for root and for the user that the server runs as, whom the kernel names.
Both sides speak JSON, one line each: a request is an object with a "command", the answer is an
object, with an "error" if it cannot be done (`protocol.py`, docs/control.md).

The master must never wait for whoever asks.  So nothing here blocks; what clients may keep of
the master is bounded in number, bytes and time; and one request of each is answered per call.
When there are too many clients, the one that has been silent longest makes room for who comes.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastfork import places, protocol, sockets
from fastfork.log import logger
from fastfork.protocol import ControlError

__all__ = ("Control", "ControlError")

Answer = Callable[[dict[str, Any]], dict[str, Any]]

MOST_CLIENTS = 8
LONGEST_REQUEST = 64 << 10  # bytes
PATIENCE = 5.0  # seconds: for a request to come whole, and for its answer to be taken
ACCEPT_PAUSE = 1.0  # seconds, when descriptors have run out


class _Client:
    __slots__ = ("deadline", "received", "socket", "unsent")

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.socket = sock
        self.deadline = deadline
        self.received = b""  # of requests that have not been answered
        self.unsent = b""  # of the answer to one that has

    def events(self) -> int:
        """What it waits for, as poll(2) has it."""
        if self.unsent or b"\n" in self.received:
            return select.POLLOUT  # with a request that has been read: at once, in its turn
        return select.POLLIN


class Control:
    """The socket at `path` and who is connected to it.

    `answer` gets a request that fits `protocol.COMMANDS` and returns the answer, or raises
    ControlError with the reason why not.  The caller polls `fds()`, until `next_event()` at the
    latest, and calls `handle` with what the poll has given.  ControlError if the socket cannot be
    made.
    """

    def __init__(self, path: str | os.PathLike[str], answer: Answer) -> None:
        self.path = Path(path)
        self._answer = answer
        self._clients: dict[int, _Client] = {}
        self._resume_at: float | None = None  # nobody is accepted before
        mask = os.umask(0o177)  # so that it is never anybody else's, not even for a moment
        try:
            self._listener = sockets.bind_unseen(sockets.Unix(str(self.path)), MOST_CLIENTS)
        except sockets.AddressError as error:
            sentence = str(error)
            raise ControlError(sentence[0].lower() + sentence[1:].removesuffix(".")) from None
        finally:
            os.umask(mask)

    @classmethod
    def make(cls, setting: str, answer: Answer) -> Control | None:
        """The one that the setting `control` asks for.  If it cannot be made that is a warning
        in the log, and None."""
        try:
            path = places.place(setting)
            return None if path is None else cls(path, answer)
        except ControlError as error:
            logger.warning("There is no control socket for fastfork status: %s.", error)
            return None

    def close(self) -> None:
        """Close all and remove the socket's file."""
        with contextlib.suppress(OSError):
            self._listener.remove()
        self.let_go()

    def let_go(self) -> None:
        """Close all in a process that was forked: the file is not its own."""
        for fd in list(self._clients):
            self._drop(fd)
        self._listener.close()

    def fds(self) -> dict[int, int]:
        """What to wait for, events of poll(2) by descriptor; others after each `handle`."""
        wanted = {fd: client.events() for fd, client in self._clients.items()}
        if self._resume_at is None:
            wanted[self._listener.socket.fileno()] = select.POLLIN
        return wanted

    def next_event(self) -> float | None:
        """When time alone gives `handle` something to do; None: never."""
        times = [client.deadline for client in self._clients.values()]
        if self._resume_at is not None:
            times.append(self._resume_at)
        return min(times, default=None)

    def handle(self, events: Mapping[int, int], now: float) -> None:
        """Serve those whose descriptors have `events`, drop who is too slow.  Descriptors that
        are not of `fds()` are ignored.  `now` is a time in seconds of any clock that does not
        jump."""
        for fd in events:
            if fd in self._clients:
                self._handle_client(fd, now)
        if self._listener.socket.fileno() in events:
            self._accept(now)
        self._expire(now)

    def _expire(self, now: float) -> None:
        for fd, client in list(self._clients.items()):
            if now >= client.deadline:
                logger.debug("A client of the control socket was too slow and is dropped.")
                self._drop(fd)
        if self._resume_at is not None and now >= self._resume_at:
            self._resume_at = None

    def _handle_client(self, fd: int, now: float) -> None:
        try:
            goes_on = self._serve(self._clients[fd], now)
        except (BlockingIOError, InterruptedError):
            goes_on = True
        except OSError:
            goes_on = False
        if not goes_on:
            self._drop(fd)

    def _accept(self, now: float) -> None:
        try:
            sock, _ = self._listener.socket.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:  # no descriptor is left: it would be tried again without end
            logger.warning("Nobody can be accepted at the control socket: %s.", error.strerror)
            self._resume_at = now + ACCEPT_PAUSE
            return
        pid, user = protocol.peer(sock)
        if user not in (0, os.geteuid()):
            logger.warning(
                "The control socket refuses process %d of the user with number %d.", pid, user)
            sock.close()
            return
        if len(self._clients) >= MOST_CLIENTS:
            self._make_room()
        sock.setblocking(False)
        self._clients[sock.fileno()] = _Client(sock, now + PATIENCE)

    def _make_room(self) -> None:
        """Drop who has been silent longest; only where nobody is silent, who takes its answer
        most slowly."""
        fd = min(self._clients, key=lambda fd: (self._clients[fd].events() != select.POLLIN,
                                                self._clients[fd].deadline))  # fmt: skip
        logger.debug("A client of the control socket makes room for another.")
        self._drop(fd)

    def _drop(self, fd: int) -> None:
        self._clients.pop(fd).socket.close()

    def _serve(self, client: _Client, now: float) -> bool:
        """One step: send, or read and answer one request.  False if that was the last."""
        if not client.unsent:
            if b"\n" not in client.received:
                data = client.socket.recv(LONGEST_REQUEST)
                if not data:
                    return False
                client.received += data
            line, newline, rest = client.received.partition(b"\n")
            if len(line) > LONGEST_REQUEST:
                return False
            if not newline:
                return True
            client.received = rest
            client.unsent = self._reply(line)
            client.deadline = now + PATIENCE
        client.unsent = client.unsent[client.socket.send(client.unsent) :]
        if not client.unsent:
            client.deadline = now + PATIENCE  # for the next request
        return True

    def _reply(self, line: bytes) -> bytes:
        try:
            return _encode(self._answer(protocol.read(line)))
        except ControlError as error:
            return _encode({"error": str(error)})
        except Exception as error:
            logger.error("A request at the control socket failed.", exc_info=error)
            return _encode({"error": "the server failed to answer, its log says why"})


def _encode(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer).encode() + b"\n"
