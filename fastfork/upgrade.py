"""A binary upgrade: a new master, of whatever version is installed now, on the same sockets.

The old master starts the command it was started with, passes its listeners on and waits.  When
the new one says that its workers are ready, the old one lets go of what only one can have (the
pid file, systemd's idea of the main process), drains its workers and leaves.  If the new one
ends before that, nothing has changed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, MutableMapping, Sequence

from fastfork import sockets
from fastfork.channel import Channel, from_descriptor, pair
from fastfork.kinds import ConfigError

VARIABLE = "FASTFORK_UPGRADE"  # number of the descriptor of the channel to the old master

_directory = os.getcwd()  # that of the start, which the new master starts in too


class Successor:
    """The old master's view of the new one."""

    def __init__(
        self, listeners: Sequence[sockets.Listener], environ: Mapping[str, str]
    ) -> None:
        """Starts it.  OSError."""
        import subprocess  # which most masters never need

        self._channel, theirs = pair()
        env = {**os.environ, **environ, VARIABLE: str(theirs.fd), **sockets.hand_over(listeners)}
        fds = [theirs.fd, *(listener.socket.fileno() for listener in listeners)]
        try:
            self._process = subprocess.Popen(
                [sys.executable, *sys.orig_argv[1:]], env=env, pass_fds=fds, cwd=_directory)
        except OSError:
            self._channel.close()
            sockets.claim(listeners)
            raise
        finally:
            theirs.close()
        self.pid = self._process.pid
        self._said = False  # that it is ready

    @property
    def fd(self) -> int:
        return self._channel.fd

    def ready(self) -> bool:
        """True once, when all its workers are."""
        if self._said or self.fd < 0:
            return False
        messages, ended = self._channel.pending()
        self._said = bool(messages)
        if ended and not messages:  # it is ending; its process will tell
            self._channel.close()
        return self._said

    def ended(self) -> int | None:
        """Its status, as waitpid(2) has it; None while it runs."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            pid, status = self.pid, 0
        if not pid:
            return None
        self._process.returncode = status  # or it would warn that nobody has waited for it
        return status

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def let_go(self) -> None:
        """Its end of the channel tells the new master that it may have everything."""
        self._channel.close()


class Upgrade:
    """The new master's view of the old one."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._told = False

    @staticmethod
    def from_environ(environ: MutableMapping[str, str]) -> Upgrade | None:
        """None if this is an ordinary start.  Removes the variable."""
        number = environ.pop(VARIABLE, None)
        if number is None:
            return None
        try:
            fd = int(number)
            os.set_inheritable(fd, False)
        except (ValueError, OverflowError, OSError):
            raise ConfigError(f"{VARIABLE}={number} is not usable: no master of fastfork has "
                              "started this.") from None
        channel = from_descriptor(fd)
        channel.set_blocking(False)
        return Upgrade(channel)

    @property
    def fd(self) -> int:
        return self._channel.fd

    def tell_ready(self) -> None:
        self._channel.send({"ready": True})

    def over(self) -> bool:
        """Has the old master let go, or ended?"""
        return self._channel.pending()[1]

    def let_go(self) -> None:
        self._channel.close()
