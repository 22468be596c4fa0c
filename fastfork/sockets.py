"""Addresses and the listening sockets behind them.

All sockets are made close-on-exec and non-blocking: they pass to workers by fork alone, and an
`accept` that comes too late returns at once.

Not every socket is made here.  systemd passes some (sd_listen_fds(3)), and at a binary upgrade
the old master passes all of its own.  Both are collected once, in a `Passed`, and `open_all`
takes from there what is wanted before it binds anything.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import json
import os
import re
import socket
import stat
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeGuard

from fastfork.identity import Owner
from fastfork.log import logger

DEFAULT_HOST = "127.0.0.1"
DEFAULT_BIND = "127.0.0.1:8000"
UNIX_PATH_LIMIT = 107  # bytes: sizeof(sun_path) - 1, unix(7)
SOMAXCONN = Path("/proc/sys/net/core/somaxconn")
FIRST_PASSED = 3  # SD_LISTEN_FDS_START
LONGEST_KEEPIDLE = 32767  # seconds, MAX_TCP_KEEPIDLE of the kernel
UNNAMED = "unknown"  # what sd_listen_fds_with_names(3) calls a socket without a name
LISTENERS = "FASTFORK_LISTENERS"  # in the environment of a new master: its old one's sockets


class AddressError(Exception):
    """An address that is malformed or cannot be bound; its text is one sentence.  `taken` is the
    address if somebody has it already."""

    def __init__(self, sentence: str, taken: Address | None = None) -> None:
        super().__init__(sentence)
        self.taken = taken


class Tcp(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Unix(NamedTuple):
    """A socket in the file system, or, with a leading "@", in the abstract namespace."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


class Inherited(NamedTuple):
    """A listening socket that whoever started us left on a descriptor."""

    fd: int

    def __str__(self) -> str:
        return f"fd://{self.fd}"


class Systemd(NamedTuple):
    """All sockets that systemd passed under a name (FileDescriptorName= of their units)."""

    name: str

    def __str__(self) -> str:
        return f"systemd:{self.name}"


Address = Tcp | Unix | Inherited | Systemd


def parse(text: str, source: str = "--bind") -> Address:
    """host:port, [v6]:port, :port, port, unix:/path, unix:@name, fd://N or systemd:NAME.
    AddressError says that it stands behind `source`."""
    try:
        return _parse(text)
    except ValueError as error:
        raise AddressError(f"{source} {text!r} is not an address: {error}.") from None


def _parse(text: str) -> Address:
    """ValueError says what would be right."""
    if text.startswith("unix:"):
        path = text[len("unix:") :]
        if path in ("", "@"):
            raise ValueError("the path is missing, write unix:/path or unix:@name")
        return Unix(path if path.startswith("@") else os.path.abspath(path))
    if text.startswith("fd:"):
        match = re.fullmatch(r"fd://([0-9]{1,7})", text, re.ASCII)
        if not match:
            raise ValueError("write fd://N with the number of the descriptor")
        return Inherited(int(match[1]))
    if text.startswith("systemd:"):
        if text == "systemd:":
            raise ValueError("the name of the sockets is missing, write systemd:NAME")
        return Systemd(text[len("systemd:") :])
    if "/" in text:
        raise ValueError("write host:port without a scheme, or unix:/path")
    if text.count(":") > 1 and not text.startswith("["):
        raise ValueError("write an IPv6 address in brackets, such as [::1]:8000")
    match = re.fullmatch(r"(?:(\[[^\[\]]+\]|[^\[\]:]*):)?([^\[\]:]+)", text)
    if not match:
        raise ValueError(
            "write host:port, [v6]:port, unix:/path, unix:@name, fd://N or systemd:NAME")
    host, port = match[1], match[2]
    if not re.fullmatch(r"[0-9]{1,9}", port, re.ASCII):
        missing = f"the port is missing, write {text}:8000"
        raise ValueError(missing if host is None else f"{port!r} is not a port number")
    if int(port) > 65535:
        raise ValueError("a port is a number from 0 to 65535")
    if host is None:
        host = DEFAULT_HOST
    return Tcp(host.strip("[]") or "0.0.0.0", int(port))


class Listener:
    """A bound and listening socket, and what has to be tidied up after it.

    `owns_file`: the file of a unix socket goes when this process says `remove`.  False while
    it is another master's to remove: see `hand_over` and `claim`.
    """

    def __init__(self, address: Address, sock: socket.socket, owns_file: bool = True) -> None:
        self.address = address
        self.socket = sock
        self.owns_file = owns_file
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

    def where(self) -> Address:
        """Its address, with the port that a port 0 became."""
        if self.socket.family == socket.AF_UNIX:
            return self.address
        return Tcp(*self.socket.getsockname()[:2])

    def intact(self) -> bool:
        """Can clients still find it?  The file of a unix socket may have been removed."""
        return not _is_file(self.address) or _identity(self.address.path) == self._file

    def close(self) -> None:
        self.socket.close()

    def remove(self) -> None:
        """Remove the socket file, if it is ours and still the one that was made here."""
        if self.owns_file and self._file is not None and _is_file(self.address):
            if _identity(self.address.path) == self._file:
                os.unlink(self.address.path)
            self._file = None


def is_any_port(address: Address) -> bool:
    """Port 0: the kernel chooses one."""
    return isinstance(address, Tcp) and address.port == 0


def collide(address: Address, listener: Listener) -> bool:
    """Is it this listener that keeps us from binding the address?"""
    return overlap(address, listener.where())


def overlap(one: Address, other: Address) -> bool:
    """May binding the one keep us from binding the other?"""
    same_port = isinstance(one, Tcp) and isinstance(other, Tcp) and one.port == other.port
    return one == other or same_port


def is_passed(listener: Listener) -> bool:
    """By whoever has started us: once it is closed it cannot be had again."""
    return isinstance(listener.address, (Systemd, Inherited))


def _is_file(address: Address) -> TypeGuard[Unix]:
    return isinstance(address, Unix) and not address.path.startswith("@")


def _identity(path: str) -> tuple[int, int] | None:
    """Which file `path` is, whatever it is called; None if there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


# -- opening -----------------------------------------------------------------------------
def open_all(
    bind: Sequence[str],
    *,
    backlog: int,
    mode: int | None,
    owner: Owner | None,
    keepidle: float,
    passed: Passed,
    have: Sequence[Listener] = (),
    default: Sequence[Address] = (),
) -> list[Listener]:
    """Listeners for all addresses in `bind`: those that are in `have`, which stay as they are, and
    those that were passed; the others are bound.

    Without an address: `default`, or all sockets from systemd, or DEFAULT_BIND if there are none.
    A socket that an old master passed stays as it is, but for its backlog and its keep-alive.
    AddressError if an address is malformed or cannot be had; then nothing that was opened here
    is left open.
    """
    addresses = [parse(text) for text in bind] or list(default) or passed.from_systemd()
    rest = [listener for listener in dict.fromkeys(have) if listener.intact()]
    listeners: list[Listener] = []
    try:
        for address in addresses or [parse(DEFAULT_BIND)]:
            known = _known(address, rest)
            listeners += known
            if not known:
                for listener in _open(address, backlog, mode, owner, passed):
                    listeners.append(listener)
                    _adjust(listener, backlog, keepidle)
    except BaseException:
        close_all(listener for listener in listeners if listener not in have)
        raise
    return listeners


def _known(address: Address, rest: list[Listener]) -> list[Listener]:
    """Those that serve `address` already, which leave `rest`.  An address that is there twice
    (port 0) has one each time; systemd may have passed several under a name."""
    found = [listener for listener in rest if listener.address == address]
    if not isinstance(address, Systemd):
        del found[1:]
    for listener in found:
        rest.remove(listener)
    return found


def adjust(
    listeners: Iterable[Listener],
    *,
    backlog: int,
    mode: int | None,
    owner: Owner | None,
    keepidle: float,
) -> None:
    """Give to sockets that are open already what can still be changed of them.  What cannot be
    is a warning."""
    for listener in listeners:
        try:
            _adjust(listener, backlog, keepidle)
            dressed = mode is not None or owner is not None
            if dressed and listener.owns_file and _is_file(listener.address):
                if not listener.intact():
                    raise OSError(errno.ENOENT, "its file is gone")
                _dress(listener.address.path, mode, owner)
        except OSError as error:
            logger.warning("%s stays as it was: %s.", listener.address, error.strerror)


def _adjust(listener: Listener, backlog: int, keepidle: float) -> None:
    """`keepidle` in seconds, 0: off."""
    sock = listener.socket
    if isinstance(listener.address, (Tcp, Unix)):  # else it is for whoever made it to say
        sock.listen(backlog)
    if sock.family != socket.AF_UNIX:
        # inherited by every accepted connection (tcp(7))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, keepidle > 0)
        if keepidle > 0:
            idle = min(LONGEST_KEEPIDLE, max(1, round(keepidle)))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)


def close_all(listeners: Iterable[Listener]) -> None:
    """And remove their files.  What cannot be removed is a warning."""
    for listener in listeners:
        try:
            listener.remove()
        except OSError as error:
            logger.warning("Cannot remove %s: %s.", listener.address, error.strerror)
        listener.close()


def _open(
    address: Address, backlog: int, mode: int | None, owner: Owner | None, passed: Passed
) -> Iterator[Listener]:
    """One by one, so that what is open already is known if the next fails."""
    if isinstance(address, Systemd):
        if address not in passed.from_systemd():
            raise _not_passed(address, passed)
        while (sock := passed.take(address)) is not None:
            yield Listener(address, sock)
    elif isinstance(address, Inherited):
        if passed.late:
            raise AddressError(
                f"Cannot listen on {address}: a descriptor is taken over at the start only, and "
                "this one was not.")
        passed.forget(address.fd)
        yield bind(address, backlog)
    elif (sock := passed.take(address)) is not None:
        yield Listener(address, sock, owns_file=False)
    else:
        yield bind(address, backlog, mode=mode, owner=owner)


def bind(
    address: Address, backlog: int, *, mode: int | None = None, owner: Owner | None = None
) -> Listener:
    """Bind and listen.  `mode` (None: what the umask leaves) and `owner` are for a unix socket's
    file.  AddressError if that is not possible."""
    if isinstance(address, Systemd):
        raise _not_passed(address, Passed())
    if isinstance(address, Inherited):
        return Listener(address, _take_over(address, address.fd))
    try:
        sock = (
            _bind_tcp(address) if isinstance(address, Tcp) else _bind_unix(address, mode, owner)
        )
        try:
            sock.listen(backlog)  # this too finds a port taken
        except BaseException:
            sock.close()
            raise
    except (OSError, UnicodeError) as error:  # UnicodeError: no host can be called that
        raise _cannot(address, error) from None
    return Listener(address, sock)


def bind_unseen(address: Unix, backlog: int) -> Listener:
    """As `bind`, but who finds the file can also connect: it has another name until the socket
    listens.  Who has that name, which is as long, keeps others from making the file meanwhile."""
    name = os.fsencode(address.path)
    unseen = os.fsdecode(name[:-1] + (b"_" if name.endswith(b"~") else b"~"))
    try:
        sock = _bind_unix(Unix(unseen), None, None)
        try:
            sock.listen(backlog)
            _remove_stale(address)
            os.rename(unseen, address.path)
        except BaseException:
            sock.close()
            with contextlib.suppress(OSError):
                os.unlink(unseen)
            raise
    except OSError as error:
        raise _cannot(address, error) from None
    return Listener(address, sock)


def _cannot(address: Address, error: OSError | UnicodeError) -> AddressError:
    is_taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
    return AddressError(f"Cannot listen on {address}: {_reason(address, error)}.",
                        address if is_taken else None)  # fmt: skip


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _bind_tcp(address: Tcp) -> socket.socket:
    """A host name is bound at its first IPv4 address, or at its first IPv6 address if it has
    no other; an IPv6 socket takes IPv6 only, so that [::] and 0.0.0.0 go together."""
    # Text goes through the codec of international names, which takes its time to be loaded.
    host = address.host.encode() if _is_number(address.host) else address.host
    found = socket.getaddrinfo(
        host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
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


def _bind_unix(address: Unix, mode: int | None, owner: Owner | None) -> socket.socket:
    name = address.path
    if name.startswith("@"):
        name = "\0" + name[1:]
    if len(os.fsencode(name)) > UNIX_PATH_LIMIT:
        raise OSError(errno.ENAMETOOLONG, f"the path is longer than {UNIX_PATH_LIMIT} bytes")
    if _is_file(address):
        _remove_stale(address)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if _is_file(address) and not (mode is None and owner is None):
            _bind_guarded(sock, name, mode, owner)
        else:
            sock.bind(name)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_guarded(sock: socket.socket, path: str, mode: int | None, owner: Owner | None) -> None:
    """Bind so that the file is nobody's to use until its owner and its mode are right."""
    umask = os.umask(0o777)
    try:
        sock.bind(path)
    finally:
        os.umask(umask)
    try:
        _dress(path, 0o777 & ~umask if mode is None else mode, owner)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise


def _dress(path: str, mode: int | None, owner: Owner | None) -> None:
    """Through a descriptor of the file itself: who may write to the directory could put a link to
    somebody else's file in its place."""
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise OSError(errno.EEXIST, "something else was put in its place")
        file = f"/proc/self/fd/{fd}"
        if owner is not None:
            try:
                os.chown(file, owner.uid, owner.gid)
            except PermissionError:
                raise OSError(errno.EPERM, f"no permission to give it to {owner}") from None
        if mode is not None:
            os.chmod(file, mode)
    finally:
        os.close(fd)


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


def _take_over(address: Address, fd: int) -> socket.socket:
    """The socket on a descriptor that was passed to us as `address`, checked: it must be a stream
    socket that listens.  If it is none it is left alone."""
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


def _not_passed(address: Systemd, passed: Passed) -> AddressError:
    others = ", ".join(str(other) for other in passed.from_systemd())
    there_are = f", only {others}" if others else ""
    return AddressError(
        f"Cannot listen on {address}: systemd passed no socket of that name{there_are}.")


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


# -- sockets that were passed ------------------------------------------------------------
class Passed:
    """The sockets with which this process was started, by address.  Each can be taken once."""

    def __init__(
        self,
        by_systemd: Iterable[tuple[str, int]] = (),
        by_old_master: Mapping[str, Sequence[int]] | None = None,
        *,
        late: bool = False,
    ) -> None:
        """`late`: nothing is there any more, the server runs."""
        self.late = late
        self._waiting = {text: list(fds) for text, fds in (by_old_master or {}).items()}
        for name, fd in by_systemd:
            self._waiting.setdefault(str(Systemd(name)), []).append(fd)

    @classmethod
    def from_environ(cls, environ: MutableMapping[str, str] = os.environ) -> Passed:
        """Once per process: the variables are removed.  AddressError if they make no sense."""
        return cls(activated(environ), adopt(environ))

    def from_systemd(self) -> list[Address]:
        """One address for each name under which systemd passed sockets that wait, whether to us
        or to the old master."""
        start = str(Systemd(""))
        return [
            Systemd(text[len(start) :])
            for text, fds in self._waiting.items()
            if fds and text.startswith(start)
        ]

    def take(self, address: Address) -> socket.socket | None:
        """The first socket that waits under `address`; None if there is none (left).
        AddressError if it is not one that we can serve; then it goes on waiting."""
        fds = self._waiting.get(str(address))
        if not fds:
            return None
        sock = _take_over(address, fds[0])
        del fds[0]
        return sock

    def forget(self, fd: int) -> None:
        """Somebody has it who knows it by its number."""
        for fds in self._waiting.values():
            if fd in fds:
                fds.remove(fd)

    def spare(self) -> list[Listener]:
        """When all services have what they want: the rest, which is told.  What systemd has
        passed is for services that a reload may bring; of what an old master has passed the files
        must be removed when it has left."""
        found: list[Listener] = []
        for text, fds in self._waiting.items():
            if not fds:
                continue  # all of them were taken
            address = _passed_as(text)
            if isinstance(address, Systemd):
                logger.warning("%s was passed but nothing is bound to it.", text)
            else:
                logger.info("%s of the old master is not wanted any more.", text)
            for fd in fds:
                try:
                    found.append(Listener(address, _take_over(address, fd), owns_file=False))
                except AddressError as error:
                    logger.warning("%s", error)
                    os.close(fd)
        self._waiting.clear()
        return found


def _passed_as(text: str) -> Address:
    """The address as which a socket waits in `Passed`."""
    start = str(Systemd(""))
    return Systemd(text[len(start) :]) if text.startswith(start) else parse(text)


def activated(environ: MutableMapping[str, str] = os.environ) -> list[tuple[str, int]]:
    """The name and the descriptor of each socket that systemd passed: sd_listen_fds(3).

    The variables are removed from `environ`, the descriptors become close-on-exec.
    AddressError if the variables make no sense.
    """
    pid = environ.pop("LISTEN_PID", None)
    count = environ.pop("LISTEN_FDS", None)
    names = environ.pop("LISTEN_FDNAMES", None)
    if pid is None or count is None:
        return []
    if pid != str(os.getpid()):
        logger.debug("LISTEN_FDS is ignored: it is for process %s (LISTEN_PID), this is %d.", pid,
                     os.getpid())  # fmt: skip
        return []
    if not re.fullmatch(r"[0-9]{1,5}", count, re.ASCII):
        raise AddressError(f"LISTEN_FDS={count} is not usable: it must be a number.")
    fds = range(FIRST_PASSED, FIRST_PASSED + int(count))
    labels = [UNNAMED] * len(fds) if names is None else names.split(":")
    if fds and len(labels) != len(fds):
        raise AddressError(
            f"LISTEN_FDNAMES={names} is not usable: LISTEN_FDS says that there are {count}.")
    for fd in fds:
        try:
            os.set_inheritable(fd, False)
        except OSError:
            raise AddressError(
                f"LISTEN_FDS={count} is not usable: descriptor {fd} is not open.") from None
    return [(label or UNNAMED, fd) for label, fd in zip(labels, fds, strict=False)]


def adopt(environ: MutableMapping[str, str] = os.environ) -> dict[str, list[int]]:
    """What the old master passed at a binary upgrade: descriptors by address, in its order.

    The variable is removed from `environ`, the descriptors become close-on-exec.  AddressError
    if it makes no sense.
    """
    text = environ.pop(LISTENERS, None)
    if text is None:
        return {}
    try:
        found = {str(address): [int(fd) for fd in fds] for address, fds in json.loads(text).items()}
        for fds in found.values():
            for fd in fds:
                os.set_inheritable(fd, False)
    except (ValueError, TypeError, AttributeError):
        raise AddressError(
            f"{LISTENERS}={text} is not usable: no master of fastfork wrote that.") from None
    except (OSError, OverflowError):
        raise AddressError(f"{LISTENERS}={text} is not usable: not all of them are open.") from None
    return found


def hand_over(listeners: Iterable[Listener]) -> dict[str, str]:
    """What the environment of a new master needs to `adopt` these.  It also needs their
    descriptors, under the same numbers and inheritable: that is for whoever starts it.

    From now on their files are not removed by this process, until it should `claim` them back.
    """
    found: dict[str, list[int]] = {}
    for listener in listeners:
        found.setdefault(str(listener.address), []).append(listener.socket.fileno())
        listener.owns_file = False
    return {LISTENERS: json.dumps(found)}


def claim(listeners: Iterable[Listener]) -> None:
    """The files of these are this process's to remove: for a new master once it serves, and for
    the old one if the new one has failed.  Never for both."""
    for listener in listeners:
        listener.owns_file = True
