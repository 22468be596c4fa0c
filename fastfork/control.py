"""The control socket: a running server is asked what it is doing.

A unix stream socket, for root and for the user that the server runs as, whom the kernel names.
Both sides speak JSON, one line each: a request is an object with a "command", the answer is an
object, with an "error" if it cannot be done.

The master must never wait for whoever asks.  So nothing here blocks; what clients may keep of
the master is bounded in number, bytes and time; and one request of each is answered per call.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import select
import socket
import stat
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastfork import sockets
from fastfork.kinds import AUTO
from fastfork.log import logger

Answer = Callable[[dict[str, Any]], dict[str, Any]]

COMMANDS = ("status",)
MOST_CLIENTS = 8
LONGEST_REQUEST = 64 << 10  # bytes
PATIENCE = 5.0  # seconds: for a request to come whole, and for its answer to be taken
ACCEPT_PAUSE = 1.0  # seconds, when descriptors have run out

RUN = Path("/run")
USERS = Path("/run/user")
TMP = Path("/tmp")


class ControlError(Exception):
    """The socket cannot be made or used; its text is one sentence without its full stop."""


# -- where it is -------------------------------------------------------------------------
def directories() -> list[Path]:
    """Where "auto" may be for this user: a server takes the first, who looks for servers takes
    all, as not every shell has the environment that the server was started in."""
    user = os.geteuid()
    if user == 0:
        return [RUN / "fastfork"]
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    places = [TMP / f"fastfork-{user}", USERS / str(user) / "fastfork"]
    if os.path.isabs(runtime) and _owner(Path(runtime)) == user:
        places.insert(0, Path(runtime) / "fastfork")
    return list(dict.fromkeys(places))


def place(setting: str) -> Path | None:
    """The path that the setting `control` means, None if it is "none".

    Makes the directory of "auto", and removes from it the sockets of servers that are dead.
    ControlError.
    """
    if setting == "none":
        return None
    if setting != AUTO:
        path = Path(os.path.abspath(setting))
        if _owner(path.parent) not in (None, 0, os.geteuid()):
            raise ControlError(f"{path.parent} belongs to somebody else")
        return path
    directory = directories()[0]
    try:
        with contextlib.suppress(FileExistsError):
            directory.mkdir(0o700)
    except OSError as error:
        raise ControlError(f"cannot make {directory}: {error.strerror}") from None
    _check(directory)
    for path, pid in _sockets(directory):
        if not _runs(pid) and not _listens(path):
            with contextlib.suppress(OSError):
                path.unlink()
    return directory / f"{os.getpid()}.sock"


def find(pid: int | None = None) -> list[Path]:
    """The sockets of this user's servers that "auto" has put somewhere; of the one with `pid`
    if it is given.  Directories that are not ours are passed over."""
    found = []
    for directory in directories():
        with contextlib.suppress(ControlError):
            _check(directory)
            found += [path for path, owner in _sockets(directory)
                      if pid in (None, owner) and _listens(path)]  # fmt: skip
    return found


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except OSError:
        return None


def _check(directory: Path) -> None:
    """ControlError unless only we can put something into `directory`."""
    try:
        found = directory.lstat()
    except OSError as error:
        raise ControlError(f"cannot use {directory}: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise ControlError(f"{directory} is not a directory")
    if found.st_uid != os.geteuid():
        raise ControlError(f"{directory} belongs to somebody else")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ControlError(f"others may write to {directory}")


def _sockets(directory: Path) -> list[tuple[Path, int]]:
    """Each PID.sock in `directory`, with the pid."""
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return []
    matches = (re.fullmatch(r"([0-9]{1,9})\.sock", name, re.ASCII) for name in names)
    return [(directory / match[0], int(match[1])) for match in matches if match]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _listens(path: Path) -> bool:
    """Whether some process has the socket `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        return probe.connect_ex(str(path)) in (0, errno.EAGAIN, errno.EINPROGRESS)


# -- the server's side -------------------------------------------------------------------
@dataclass(eq=False, repr=False, slots=True)
class _Client:
    socket: socket.socket
    deadline: float
    received: bytes = b""  # of requests that have not been answered
    unsent: bytes = b""  # of the answer to one that has


class Control:
    """The socket at `path` and who is connected to it.

    `answer` gets a request with one of `COMMANDS` and returns the answer.  The caller polls
    `fds()`, until `next_event()` at the latest, and calls `handle` with what the poll has given.
    ControlError if the socket cannot be made.
    """

    def __init__(self, path: str | os.PathLike[str], answer: Answer) -> None:
        self.path = Path(path)
        self._answer = answer
        self._clients: dict[int, _Client] = {}
        self._resume_at: float | None = None  # nobody is accepted before
        mask = os.umask(0o177)  # so that it is never anybody else's, not even for a moment
        try:
            self._listener = sockets.bind(sockets.Unix(str(self.path)), MOST_CLIENTS)
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
            path = place(setting)
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
        wanted = {fd: _events(client) for fd, client in self._clients.items()}
        if len(self._clients) < MOST_CLIENTS and self._resume_at is None:
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
        if len(self._clients) >= MOST_CLIENTS:
            return
        try:
            sock, _ = self._listener.socket.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:  # no descriptor is left: it would be tried again without end
            logger.warning("Nobody can be accepted at the control socket: %s.", error.strerror)
            self._resume_at = now + ACCEPT_PAUSE
            return
        pid, user = _peer(sock)
        if user not in (0, os.geteuid()):
            logger.warning(
                "The control socket refuses process %d of the user with number %d.", pid, user)
            sock.close()
            return
        sock.setblocking(False)
        self._clients[sock.fileno()] = _Client(sock, now + PATIENCE)

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
            return _encode(self._answer(_request(line)))
        except ControlError as error:
            return _encode({"error": str(error)})
        except Exception as error:
            logger.error("A request at the control socket failed.", exc_info=error)
            return _encode({"error": "the server failed to answer, its log says why"})


def _encode(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer).encode() + b"\n"


def _request(line: bytes) -> dict[str, Any]:
    """ControlError if it is none that can be answered."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise ControlError("a request must be one line of JSON") from None
    if not isinstance(request, dict) or "command" not in request:
        raise ControlError("a request must be an object with a command")
    if request["command"] not in COMMANDS:
        raise ControlError(f"there is no command {request['command']!r}"[:200])
    return request


def _events(client: _Client) -> int:
    if client.unsent or b"\n" in client.received:
        return select.POLLOUT  # with a request that has been read: at once, in its turn
    return select.POLLIN


def _peer(sock: socket.socket) -> tuple[int, int]:
    """Pid and user of the process at the other end."""
    form = "iII"  # struct ucred, unix(7): pid, user, group
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(form))
    pid, user, _ = struct.unpack(form, data)
    return pid, user


# -- the client's side -------------------------------------------------------------------
def ask(path: str | os.PathLike[str], request: dict[str, Any], patience: float = 10.0) -> bytes:
    """The answer of the server at `path`, one line of JSON without its end.

    OSError if there is none (TimeoutError: for `patience` seconds), EOFError if the server ends
    the connection, which it does with users that may not ask.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(patience)
        sock.connect(os.fspath(path))
        sock.sendall(json.dumps(request).encode() + b"\n")
        pieces: list[bytes] = []
        while not (pieces and pieces[-1].endswith(b"\n")):
            piece = sock.recv(1 << 16)
            if not piece:
                raise EOFError
            pieces.append(piece)
    return b"".join(pieces)[:-1]
