"""Where control sockets are: a server puts its own there, and who looks for servers looks there."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import stat
from pathlib import Path

from fastfork.kinds import AUTO
from fastfork.protocol import ControlError

RUN = Path("/run")
USERS = Path("/run/user")
TMP = Path("/tmp")


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
