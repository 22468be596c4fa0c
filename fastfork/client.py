"""The client's side of the control socket: one server, asked one request per connection."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import time
from pathlib import Path
from typing import Any

from fastfork.protocol import peer

PATIENCE = 10.0  # seconds: for every step of an answer
_LAST_BREATH = 1.0  # seconds from the end of its connections to the end of a process
_AGAIN = 0.01  # seconds, where others wait to be accepted too


class NoServer(Exception):
    """Nobody listens there, or not the one any more that did at first."""


class NoAnswer(Exception):
    """It does not answer; the text is the reason, without a full stop."""


class Refused(NoAnswer):
    """It answers that it does not do it; the text is its reason, of one or several lines."""


class Server:
    """The server that listens at `path` now.  NoServer or NoAnswer."""

    def __init__(self, path: Path, patience: float = PATIENCE) -> None:
        self.path = path
        self.patience = patience
        self._process: int | None = None  # a descriptor, see pidfd_open(2)
        with self._connected() as sock:
            self.pid, _ = peer(sock)
            # None for a process in another pid namespace, or if kernel or libc are too old.
            with contextlib.suppress(OSError, AttributeError):
                self._process = os.pidfd_open(self.pid)

    @property
    def name(self) -> str:
        return f"server with the pid {self.pid}" if self.pid else f"server at {self.path}"

    def close(self) -> None:
        if self._process is not None:
            os.close(self._process)
            self._process = None

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, command: str, **keys: Any) -> dict[str, Any]:
        """The answer.  NoServer, NoAnswer or Refused."""
        request = json.dumps({"command": command, **keys}).encode() + b"\n"
        try:
            answer = json.loads(self._exchange(request))
        except (ValueError, RecursionError):
            raise NoAnswer("what it said is no JSON") from None
        if not isinstance(answer, dict):
            raise NoAnswer("it speaks another language")
        if "error" in answer:
            raise Refused(str(answer["error"]))
        return answer

    def _exchange(self, request: bytes) -> bytes:
        with self._connected() as sock:
            if peer(sock)[0] != self.pid:
                raise NoServer
            try:
                return _exchange(sock, request)
            except (EOFError, OSError) as error:
                if not isinstance(error, TimeoutError) and self._ended(_LAST_BREATH):
                    raise NoServer from None
                raise NoAnswer(_reason(error)) from None

    def gone(self) -> bool:
        """Has it ended?"""
        if self._process is not None:
            return self._ended()
        try:
            with self._connected():
                return False
        except NoServer:
            return True
        except NoAnswer:
            return False

    def _ended(self, within: float = 0.0) -> bool:
        """Has its process ended, or does it within so many seconds?  False if that is not known."""
        if self._process is None:
            return False
        poll = select.poll()
        poll.register(self._process, select.POLLIN)
        return bool(poll.poll(within * 1000))

    def _connected(self) -> socket.socket:
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:  # no descriptor is left
            raise NoAnswer(_reason(error)) from None
        try:
            sock.settimeout(self.patience)
            _connect(sock, self.path, time.monotonic() + self.patience)
        except (FileNotFoundError, ConnectionRefusedError):
            sock.close()
            raise NoServer from None
        except OSError as error:
            sock.close()
            raise NoAnswer(_reason(error)) from None
        except BaseException:
            sock.close()
            raise
        return sock


def _connect(sock: socket.socket, path: Path, until: float) -> None:
    """Wait for a place in the queue as well, which a unix socket with a timeout does not."""
    while True:
        try:
            return sock.connect(os.fspath(path))
        except BlockingIOError:
            if time.monotonic() >= until:
                raise TimeoutError from None
            time.sleep(_AGAIN)


def _exchange(sock: socket.socket, request: bytes) -> bytes:
    """OSError (TimeoutError), or EOFError if the server ends the connection, as it does with users
    that may not ask."""
    sock.sendall(request)
    pieces: list[bytes] = []
    while not (pieces and pieces[-1].endswith(b"\n")):
        piece = sock.recv(1 << 16)
        if not piece:
            raise EOFError
        pieces.append(piece)
    return b"".join(pieces)[:-1]


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it takes too long"
    if isinstance(error, (EOFError, ConnectionResetError, BrokenPipeError)):
        return "it ended the connection"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
