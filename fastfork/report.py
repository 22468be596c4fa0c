"""The report: what a starting worker tells its master, over a pipe of its own.

One line of JSON, either that it is ready or why it is not.  The master prints a failure, so
that it stands in the log once even if many workers fail alike.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Report:
    """`ready`, or a `sentence` on why not and the `trace` of the application (may be empty).
    A ready worker's `sentence`, if any, is shown once the service is announced."""

    ready: bool
    sentence: str = ""
    trace: str = ""


class Sender:
    """The worker's end."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def send(self, report: Report) -> None:
        """Send the report and close the pipe.  A master that is gone is not told."""
        data = json.dumps(asdict(report)).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self.fd, data) :]
        except BrokenPipeError:
            pass
        self.close()

    def close(self) -> None:
        os.close(self.fd)


class Receiver:
    """The master's end: never blocks."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._data = b""
        os.set_blocking(fd, False)

    def receive(self) -> tuple[Report | None, bool]:
        """(the report if it has come whole, whether nothing more can come)."""
        ended = False
        try:
            while part := os.read(self.fd, 65536):
                self._data += part
            ended = True
        except BlockingIOError:
            pass
        if not self._data.endswith(b"\n"):
            return None, ended
        report, self._data = Report(**json.loads(self._data)), b""
        return report, ended

    def close(self) -> None:
        os.close(self.fd)


def pipe() -> tuple[Receiver, Sender]:
    """Both ends; close-on-exec."""
    reading, writing = os.pipe()
    return Receiver(reading), Sender(writing)
