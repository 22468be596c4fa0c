"""The master's view of one of its processes: a worker or a mold.

What a worker is to itself is in worker.py.  A handle sends it signals and orders, reads what it
reports, and is closed when the process is buried.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any, TypeVar

from fastfork import stacks
from fastfork.channel import Channel, ChannelError, Message, pair
from fastfork.config import Settings
from fastfork.log import logger
from fastfork.roster import Member
from fastfork.scoreboard import Scoreboard

TIME_OUT_AGAIN = 1.0  # seconds between two signals to a handler that is beyond its deadline


class Handle:
    """A process that has been asked for.  `pid` is 0 until it is known."""

    def __init__(self, channel: Channel, settings: Settings, now: float) -> None:
        """OSError if there is no descriptor for its stacks."""
        self.channel = channel
        self.settings = settings  # of its generation
        self.pid = 0
        self.born = now
        self.stacks = stacks.make_file()
        self._stacks_seen = 0  # bytes of it that are of before
        self.condemned = ""  # why it is killed, once that is decided
        self.kill_at: float | None = None  # it is writing its stacks until then
        self.killed = False  # by us
        self.ended = False  # the channel is: nothing can come any more
        self.reported = False  # how its start went
        self.buried = False  # it was waited for
        self.powerless = False  # we: it does not take signals from us

    def send(self, number: signal.Signals | int) -> None:
        """A signal.  Only to a child that was not yet waited for: the pid is no stranger's."""
        if not self.pid or self.buried:
            return
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass
        except PermissionError:  # root without CAP_KILL, and --user
            if not self.powerless:
                logger.error("The master may not send signals to its process %d.", self.pid)
            self.powerless = True

    def receive(self) -> list[Message]:
        """What it has reported since; sets `ended`.  ChannelError; then nothing more is read."""
        if self.ended:
            return []
        try:
            messages, self.ended = self.channel.pending()
        except ChannelError:
            self.ended = True
            raise
        return messages

    def condemn(self, why: str, now: float) -> None:
        """Kill it, after it has had a moment to write where it stands."""
        if not self.condemned and self.pid:
            self.condemned = why
            self._stacks_seen = stacks.size(self.stacks)  # others may have asked before
            self.kill_at = now + stacks.PATIENCE
            self.send(stacks.ASK)

    def pardon(self) -> None:
        """It has gone on in the last moment."""
        self.condemned, self.kill_at = "", None

    def told_stacks(self) -> str:
        """Where it stands, as far as it could write that."""
        return stacks.read(self.stacks, self._stacks_seen)

    def kill(self) -> None:
        self.kill_at = None
        self.killed = True
        self.send(signal.SIGKILL)

    def let_go(self) -> None:
        """Of its descriptors: in another process, or in the end."""
        self.channel.close()
        os.close(self.stacks)

    def close(self) -> None:
        """The process is buried."""
        self.let_go()


class WorkerHandle(Handle):
    def __init__(
        self,
        channel: Channel,
        member: Member,
        settings: Settings,
        scoreboard: Scoreboard,
        now: float,
    ) -> None:
        self.slot = scoreboard.take()
        try:
            super().__init__(channel, settings, now)
        except OSError:
            scoreboard.give_back(self.slot)
            raise
        self.member = member
        self.may_end = False  # what it is condemned for
        self.boot: float | None = None  # seconds that it took to be ready
        self.told_to_go: signal.Signals | int = 0  # by which signal
        self.timed_out: tuple[int, float] | None = None  # request and deadline last told of
        self.timed_out_at = 0.0
        self.most_requests = 0  # 0: no limit
        self._scoreboard = scoreboard

    def tell_to_go(self, number: signal.Signals | int) -> None:
        self.told_to_go = number
        self.send(number)

    def facts(self) -> dict[str, Any]:
        """What it does, as it has written in the scoreboard."""
        return self._scoreboard.read(self.slot)

    def view(self) -> memoryview:
        return self._scoreboard.view(self.slot)

    def close(self) -> None:
        super().close()
        self._scoreboard.give_back(self.slot)


class MoldHandle(Handle):
    def __init__(
        self, channel: Channel, generation: int, settings: Settings, now: float
    ) -> None:
        super().__init__(channel, settings, now)
        self.generation = generation
        self.ordered = False  # to fork a worker
        self.forked = False  # one at least
        self.forked_at = now  # the last time that one said so
        self.loaded = False


_Handle = TypeVar("_Handle", bound=Handle)


def with_channel(make: Callable[[Channel], _Handle]) -> tuple[_Handle, Channel]:
    """The handle that `make` returns for our end of a new channel, and the other end.  OSError;
    then nothing is left open."""
    ours, theirs = pair()
    try:
        return make(ours), theirs
    except OSError:
        ours.close()
        theirs.close()
        raise


def describe_end(status: int | None) -> str:
    """A status from waitpid(2) in words: "was killed by SIGKILL", "ended with exit status 3".
    None: nobody knows."""
    if status is None:
        return "ended"
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"ended with exit status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}"
