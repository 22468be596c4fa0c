"""A binary upgrade: a new master, of whatever version is installed now, on the same sockets.

The old master starts the command it was started with, passes its listeners on, and the pairs of
its services, and waits.  When the new one says that its workers are ready, and which pairs they
have, the old one lets go of what only one can have (the pid file, systemd's idea of the main
process), shuts the other pairs, tells its workers to go and leaves.  If the new one ends before
that, nothing has changed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any

from fastfork import pairs, sockets
from fastfork.channel import Channel, from_descriptor, pair
from fastfork.kinds import ConfigError
from fastfork.pairs import Pair

VARIABLE = "FASTFORK_UPGRADE"  # number of the descriptor of the channel to the old master

_directory = os.getcwd()  # that of the start, which the new master starts in too


class Successor:
    """The old master's view of the new one."""

    def __init__(
        self,
        listeners: Sequence[sockets.Listener],
        own_pairs: Mapping[str, Pair],
        environ: Mapping[str, str],
    ) -> None:
        """Starts it.  OSError."""
        import subprocess  # which most masters never need

        self._channel, theirs = pair()
        env = {**os.environ, **environ, VARIABLE: str(theirs.fd), **sockets.hand_over(listeners),
               **pairs.hand_over(own_pairs)}  # fmt: skip
        fds = [theirs.fd, *(listener.socket.fileno() for listener in listeners),
               *(end for pair in own_pairs.values() for end in pair)]  # fmt: skip
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
        self._pairs = dict(own_pairs)
        self._taken: frozenset[str] = frozenset()  # the names of those that it has said it has

    @property
    def fd(self) -> int:
        return self._channel.fd

    def ready(self) -> bool:
        """True once, when all its workers are."""
        if self._said or self.fd < 0:
            return False
        messages, ended = self._channel.pending()
        self._said = bool(messages)
        if messages:
            self._taken = _names(messages[0])
        if ended and not messages:  # it is ending; its process will tell
            self._channel.close()
        return self._said

    def has_taken(self, pair: Pair) -> bool:
        """When it is ready: do its workers have it?"""
        return any(pair is one and name in self._taken for name, one in self._pairs.items())

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


def _names(message: Mapping[str, Any]) -> frozenset[str]:
    """Of the pairs that it has taken; nothing if it has never heard of pairs."""
    names = message.get("pairs")
    return frozenset(map(str, names)) if isinstance(names, list) else frozenset()


class Upgrade:
    """The new master's view of the old one."""

    def __init__(self, channel: Channel, passed: dict[str, Pair]) -> None:
        self._channel = channel
        self.pairs = passed  # by the name of the service

    @staticmethod
    def from_environ(environ: MutableMapping[str, str]) -> Upgrade | None:
        """None if this is an ordinary start.  Removes the variables."""
        passed = pairs.adopt(environ)
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
        return Upgrade(channel, passed)

    @property
    def fd(self) -> int:
        return self._channel.fd

    def tell_ready(self, taken: Iterable[str]) -> None:
        """`taken`: the services whose workers have the pair that was passed for them."""
        self._channel.send({"ready": True, "pairs": list(taken)})

    def over(self) -> bool:
        """Has the old master let go, or ended?"""
        return self._channel.pending()[1]

    def let_go(self) -> None:
        self._channel.close()
