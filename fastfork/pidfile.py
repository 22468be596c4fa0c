"""The pid file: which process is the master, for scripts that want to signal it.

What a pid file says may be long out of date, and its number somebody else's by now.  So a
running master holds a lock on its file (flock(2)), which the kernel takes away however the
master ends: a file that nobody has locked is stale, whatever number is in it.

A lock belongs to an open file, and forks share it.  Every child must `forget` the file, or the
lock outlives the master.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import tempfile

from fastfork.log import logger

MODE = 0o644
LONGEST = 32  # bytes: a file as long as this is no pid file


class PidFileError(Exception):
    """A pid file that cannot be had; its text is one sentence."""


class PidFile:
    """The file at `path`; a relative one counts from the directory of this moment."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self._fd = -1  # of the file while we hold its lock

    def acquire(self) -> None:
        """Make the file ours, with our pid in it.  Nothing happens if it is.

        PidFileError if a running master holds it, or if it cannot be written.
        """
        if self._fd >= 0:
            return
        try:
            lock = self._lock()
            try:
                self._replace(lock)
            finally:
                os.close(lock)
        except OSError as error:
            raise self._error(self._reason(error)) from None

    def release(self) -> None:
        """Remove the file, unless it has become another's.  Nothing happens without the lock."""
        if self._fd < 0:
            return
        try:
            if _is_at(self._fd, self.path):
                os.unlink(self.path)
        except OSError as error:
            logger.warning("Cannot remove the pid file %s: %s.", self.path, error.strerror)
        self.forget()

    def hand_over(self) -> None:
        """Let go of the lock and leave the file, for a new master to `acquire`.  If that one
        fails, `acquire` it again."""
        if self._fd >= 0:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
            self.forget()

    def forget(self) -> None:
        """In a child: close the file, which leaves the lock to the master."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _lock(self) -> int:
        """A descriptor of the file at `path`, made if there is none, with its lock."""
        while True:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(self.path, flags, MODE)
            try:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise self._error("it is no plain file")
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise self._error(_held_by(_read(fd))) from None
                if _is_at(fd, self.path):
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # it was removed or replaced between open and flock

    def _replace(self, lock: int) -> None:
        """Put a new file with our pid in the place of the one whose lock we have, so that readers
        see the old number or the new one and never half of one."""
        before = _read(lock)
        if len(before) == LONGEST or not re.fullmatch(rb"\s*[0-9]*\s*", before):
            raise self._error("there is a file of that name that holds no pid")
        directory, name = os.path.split(self.path)
        fd, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=directory)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fchmod(fd, MODE)
            os.write(fd, b"%d\n" % os.getpid())
            os.rename(temporary, self.path)
        except BaseException:
            os.close(fd)
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        self._fd = fd
        if before.strip() and int(before) != os.getpid():
            logger.info(
                "The pid file %s said %d, which does not hold it any more; it says %d now.",
                self.path, int(before), os.getpid())  # fmt: skip

    def _error(self, reason: str) -> PidFileError:
        return PidFileError(f"Cannot write the pid file {self.path!r}: {reason}.")

    def _reason(self, error: OSError) -> str:
        directory = os.path.dirname(self.path)
        if error.errno == errno.ENOENT:
            return f"there is no directory {directory!r}"
        if error.errno == errno.ENOTDIR:
            return f"{directory!r} is no directory"
        if error.errno == errno.EISDIR:
            return "it is a directory"
        if error.errno == errno.ELOOP:
            return "it is a symbolic link"
        if error.errno in (errno.EACCES, errno.EPERM):
            return "no permission"
        if error.errno == errno.EROFS:
            return "its file system is read-only"
        return error.strerror or str(error)


def _is_at(fd: int, path: str) -> bool:
    """Whether the file at `path` is the one on `fd`."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def _read(fd: int) -> bytes:
    return os.pread(fd, LONGEST, 0)


def _held_by(content: bytes) -> str:
    pid = content.strip()
    who = f"a master is running, pid {int(pid)}" if pid.isdigit() else "another master is starting"
    return f"{who}, and holds it"
