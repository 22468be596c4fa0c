"""Addresses and the listening sockets behind them.

All sockets are made close-on-exec and non-blocking: they pass to workers by fork alone, and an
`accept` that comes too late returns at once.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

DEFAULT_HOST = "127.0.0.1"
UNIX_PATH_LIMIT = 107  # bytes: sizeof(sun_path) - 1, unix(7)
SOMAXCONN = Path("/proc/sys/net/core/somaxconn")


class AddressError(Exception):
    """An address that is malformed or cannot be bound; its text is one sentence."""


@dataclass(frozen=True, slots=True)
class Tcp:
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Unix:
    """A socket in the file system, or, with a leading "@", in the abstract namespace."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class Inherited:
    """A listening socket that whoever started us left on a descriptor."""

    fd: int

    def __str__(self) -> str:
        return f"fd://{self.fd}"


Address = Tcp | Unix | Inherited


def parse(text: str) -> Address:
    """host:port, [v6]:port, :port, port, unix:/path, unix:@name or fd://N.  AddressError."""
    if text.startswith("unix:"):
        path = text[len("unix:") :]
        if path in ("", "@"):
            raise _malformed(text, "the path is missing, write unix:/path or unix:@name")
        return Unix(path if path.startswith("@") else os.path.abspath(path))
    if text.startswith("fd:"):
        match = re.fullmatch(r"fd://([0-9]{1,7})", text, re.ASCII)
        if not match:
            raise _malformed(text, "write fd://N with the number of the descriptor")
        return Inherited(int(match[1]))
    if "/" in text:
        raise _malformed(text, "write host:port without a scheme, or unix:/path")
    if text.count(":") > 1 and not text.startswith("["):
        raise _malformed(text, "write an IPv6 address in brackets, such as [::1]:8000")
    match = re.fullmatch(r"(?:(\[[^\[\]]+\]|[^\[\]:]*):)?([^\[\]:]+)", text)
    if not match:
        raise _malformed(text, "write host:port, [v6]:port, unix:/path, unix:@name or fd://N")
    host, port = match[1], match[2]
    if not re.fullmatch(r"[0-9]{1,9}", port, re.ASCII):
        missing = f"the port is missing, write {text}:8000"
        raise _malformed(text, missing if host is None else f"{port!r} is not a port number")
    if int(port) > 65535:
        raise _malformed(text, "a port is a number from 0 to 65535")
    if host is None:
        host = DEFAULT_HOST
    return Tcp(host.strip("[]") or "0.0.0.0", int(port))


def _malformed(text: str, right: str) -> AddressError:
    return AddressError(f"--bind {text!r} is not an address: {right}.")


class Listener:
    """A bound and listening socket, and what has to be tidied up after it."""

    def __init__(self, address: Address, sock: socket.socket) -> None:
        self.address = address
        self.socket = sock
        self._file = _identity(address.path) if _is_file(address) else None

    @property
    def url(self) -> str:
        """Where clients find it, with the port that a port 0 became."""
        name = self.socket.getsockname()
        if self.socket.family == socket.AF_UNIX:
            if isinstance(name, bytes):
                return "unix:@" + name[1:].decode("utf-8", "backslashreplace")
            return f"unix:{name}"
        return f"http://{Tcp(name[0], name[1])}"

    def close(self) -> None:
        self.socket.close()

    def remove(self) -> None:
        """Remove the socket file, if it still is the one that was made here."""
        if self._file is not None and _is_file(self.address):
            if _identity(self.address.path) == self._file:
                os.unlink(self.address.path)
            self._file = None


def _is_file(address: Address) -> TypeGuard[Unix]:
    return isinstance(address, Unix) and not address.path.startswith("@")


def _identity(path: str) -> tuple[int, int] | None:
    """Which file `path` is, whatever it is called; None if there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def bind(address: Address, backlog: int) -> Listener:
    """Bind and listen.  AddressError if that is not possible."""
    if isinstance(address, Inherited):
        return Listener(address, _take_over(address))
    try:
        sock = _bind_tcp(address) if isinstance(address, Tcp) else _bind_unix(address)
        try:
            sock.listen(backlog)  # this too finds a port taken
        except BaseException:
            sock.close()
            raise
    except (OSError, UnicodeError) as error:  # UnicodeError: no host can be called that
        raise AddressError(f"Cannot listen on {address}: {_reason(address, error)}.") from None
    return Listener(address, sock)


def _bind_tcp(address: Tcp) -> socket.socket:
    """A host name is bound at its first IPv4 address, or at its first IPv6 address if it has
    no other; an IPv6 socket takes IPv6 only, so that [::] and 0.0.0.0 go together."""
    found = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, kind, protocol, _, where = min(found, key=lambda info: info[0] != socket.AF_INET)
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # inherited by every accepted connection, so it costs no system call there
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_unix(address: Unix) -> socket.socket:
    name = address.path
    if name.startswith("@"):
        name = "\0" + name[1:]
    if len(os.fsencode(name)) > UNIX_PATH_LIMIT:
        raise OSError(errno.ENAMETOOLONG, f"the path is longer than {UNIX_PATH_LIMIT} bytes")
    if _is_file(address):
        _remove_stale(address)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.bind(name)
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(address: Unix) -> None:
    """Remove a socket file that a server left behind: one at which nobody listens."""
    try:
        mode = os.lstat(address.path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "there is a file of that name that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        answer = probe.connect_ex(address.path)
    if answer == errno.ECONNREFUSED:
        os.unlink(address.path)
    elif answer in (0, errno.EAGAIN, errno.EINPROGRESS):  # EAGAIN: its backlog is full
        raise OSError(errno.EADDRINUSE, "")
    elif answer != errno.ENOENT:
        raise OSError(answer, os.strerror(answer))


def _take_over(address: Inherited) -> socket.socket:
    """The socket on an inherited descriptor, checked: it must be a stream socket that listens."""
    fd = address.fd
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise AddressError(f"Cannot listen on {address}: descriptor {fd} is not a socket.")
    except OSError:
        raise AddressError(f"Cannot listen on {address}: descriptor {fd} is not open.") from None
    sock = socket.socket(fileno=fd)
    listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    known = sock.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    if sock.type != socket.SOCK_STREAM or not known or not listens:
        sock.detach()
        raise AddressError(
            f"Cannot listen on {address}: descriptor {fd} is not a listening TCP or Unix "
            "stream socket."
        )
    sock.set_inheritable(False)
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _reason(address: Address, error: OSError | UnicodeError) -> str:
    """Why it failed, in words that help."""
    if isinstance(error, UnicodeError):
        return "there can be no host of that name"
    if isinstance(error, socket.gaierror) and isinstance(address, Tcp):
        return f"the host {address.host!r} is unknown ({error.strerror})"
    if error.errno == errno.EADDRINUSE:
        if isinstance(address, Tcp):
            return "the port is taken, another process listens there"
        return "another process listens there"
    if error.errno == errno.EACCES:
        if isinstance(address, Tcp):
            return f"no permission to use port {address.port}"
        return "no permission"
    if error.errno == errno.EADDRNOTAVAIL:
        return "it is not an address of this machine"
    if error.errno == errno.ENOENT:
        return "there is no such directory"
    return error.strerror or str(error)


def cut_backlog(backlog: int, somaxconn: Path = SOMAXCONN) -> int | None:
    """The kernel's limit if it is below `backlog` (listen(2) cuts silently), else None."""
    try:
        limit = int(somaxconn.read_text())
    except (OSError, ValueError):
        return None
    return limit if limit < backlog else None
