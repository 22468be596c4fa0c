"""The channel between the master and one of its processes: messages in both directions.

A pair of SEQPACKET sockets: a message arrives whole or not at all, and the end of the other
process is the end of the channel.  A message is a JSON object, and may carry descriptors.

    worker -> master    hello, then a report
    mold   -> master    a report
    master -> worker    orders: reopen the logs
    master -> mold      orders: fork a worker
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MOST_BYTES = 128 << 10  # of a message; the kernel takes more than that
MOST_TRACE = 12 << 10  # characters of a traceback that is reported
MOST_SENTENCE = 2000
MOST_DESCRIPTORS = 4

MOST_MESSAGES = 16  # that are taken at a time

Message = dict[str, Any]

_Socket = socket.socket  # gevent, perhaps, replaces it


class ChannelError(Exception):
    """What stands in a channel is nothing that fastfork sends: an application has written to a
    descriptor that is not its own."""


class Report(NamedTuple):
    """How a start went: `ready`, or a `sentence` on why not and the `trace` of the application
    (may be empty).  A ready worker's `sentence`, if any, is shown once the service is
    announced; `remains` are what the import in a mold left behind."""

    ready: bool
    sentence: str = ""
    trace: str = ""
    remains: tuple[str, ...] = ()

    def message(self) -> Message:
        message = self._asdict()
        message["sentence"] = _cut(self.sentence, MOST_SENTENCE)
        message["trace"] = _cut(self.trace, MOST_TRACE)
        message["remains"] = [part[:200] for part in self.remains[:20]]
        return message

    @staticmethod
    def read(message: Mapping[str, Any]) -> Report:
        """ChannelError if it is none."""
        if message.keys() != _SHAPE.keys() or not all(
            type(message[key]) is kind for key, kind in _SHAPE.items()
        ):
            raise ChannelError("a message that is no report")
        return Report(message["ready"], message["sentence"], message["trace"],
                      tuple(map(str, message["remains"])))  # fmt: skip


_SHAPE = {"ready": bool, "sentence": str, "trace": str, "remains": list}  # of its message


def _cut(text: str, most: int) -> str:
    """A traceback tells most at its ends."""
    return text if len(text) <= most else f"{text[: most // 2]}\n[...]\n{text[-most // 2 :]}"


def _decode(data: bytes) -> Message:
    try:
        message = json.loads(data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise ChannelError("a message that cannot be read")
    return message


class Channel:
    """One end."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._fault: ChannelError | None = None

    @property
    def fd(self) -> int:
        return self._socket.fileno()

    def send(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> bool:
        """False if the other side is gone, or takes nothing."""
        data = json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass")
        try:
            if descriptors:
                socket.send_fds(self._socket, [data], descriptors)
            else:
                self._socket.send(data)
        except OSError:
            return False
        return True

    def receive(self) -> tuple[Message | None, list[int]]:
        """The next message and the descriptors that came with it, close-on-exec.  None: the
        other side is gone.  BlockingIOError if the channel does not block and there is none;
        ChannelError."""
        try:
            data, ancillary = self._receive()
        except ConnectionError:  # it ended with unread orders; what it said before is still there
            data, ancillary = self._receive()
        descriptors = array.array("i")
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                whole = len(content) // descriptors.itemsize * descriptors.itemsize
                descriptors.frombytes(content[:whole])
        try:
            return (_decode(data) if data else None), list(descriptors)
        except ChannelError:
            for fd in descriptors:
                os.close(fd)
            raise

    def _receive(self) -> tuple[bytes, list[tuple[int, int, bytes]]]:
        room = socket.CMSG_SPACE(MOST_DESCRIPTORS * array.array("i").itemsize)
        return self._socket.recvmsg(MOST_BYTES, room, socket.MSG_CMSG_CLOEXEC)[:2]

    def pending(self) -> tuple[list[Message], bool]:
        """(messages that are there, whether none can come any more).  Never blocks; there may be
        more.  ChannelError, when what came before has been taken."""
        if self._fault is not None:
            raise self._fault
        messages: list[Message] = []
        while len(messages) < MOST_MESSAGES:
            try:
                message, descriptors = self.receive()
            except BlockingIOError:
                break
            except ChannelError as error:
                self._fault = error
                return self.pending() if not messages else (messages, False)
            for fd in descriptors:
                os.close(fd)
            if message is None:
                return messages, True
            messages.append(message)
        return messages, False

    def set_blocking(self, blocking: bool) -> None:
        self._socket.setblocking(blocking)

    def close(self) -> None:
        self._socket.close()


def from_descriptor(fd: int) -> Channel:
    """The channel at a descriptor that was passed to us, which it takes over.

    It is of a kind that is known, so that nothing has to be asked of the kernel."""
    return Channel(_Socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fd))


def pair() -> tuple[Channel, Channel]:
    """The master's end, which does not block, and the other, which does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return Channel(ours), Channel(theirs)
