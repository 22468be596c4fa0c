"""What the master tells systemd: sd_notify(3), and the watchdog of sd_watchdog_enabled(3).

Every message is one datagram to the socket that NOTIFY_SOCKET names.  No descriptor is kept, so
there is nothing that a child could inherit.  Whether anybody listens must never matter to the
server: nothing here raises or waits.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import MutableMapping

from fastfork.log import escape, logger


class Notifier:
    """Tells whoever listens at `address`: a path, or a name in the abstract namespace after an
    "@".  None: nobody, and nothing happens.

    `interval`: seconds after which `watchdog` must be called again at the latest, half of what
    systemd allows; None if it does not watch this process.
    """

    def __init__(self, address: str | None = None, watchdog_usec: int | None = None) -> None:
        self.address = address
        self._watchdog_usec = watchdog_usec if address else None
        self.interval = self._watchdog_usec / 2e6 if self._watchdog_usec else None

    @classmethod
    def from_environ(cls, environ: MutableMapping[str, str] = os.environ) -> Notifier:
        """As systemd wants it.  The variables are removed: applications, and what they start,
        must not speak for the server."""
        address = environ.pop("NOTIFY_SOCKET", None)
        pid = environ.pop("WATCHDOG_PID", None)
        usec = environ.pop("WATCHDOG_USEC", None)
        if usec is None or pid not in (None, str(os.getpid())):
            return cls(address)
        if not re.fullmatch(r"[0-9]{1,18}", usec, re.ASCII):
            logger.debug("WATCHDOG_USEC=%s is ignored: it is no number.", usec)
            return cls(address)
        return cls(address, int(usec) or None)

    def environ(self) -> dict[str, str]:
        """What a new master needs at a binary upgrade to go on.  It has another pid, so
        WATCHDOG_PID is left out."""
        variables = {}
        if self.address is not None:
            variables["NOTIFY_SOCKET"] = self.address
        if self._watchdog_usec is not None:
            variables["WATCHDOG_USEC"] = str(self._watchdog_usec)
        return variables

    # -- messages ------------------------------------------------------------------------
    def ready(self, status: str) -> None:
        """The start, or a reload, is complete."""
        self._send("READY=1", _status(status))

    def reloading(self) -> None:
        """A reload begins.  `ready` must follow, also if it fails."""
        # the time tells systemd which of its requests this answers
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """A sign of life, if systemd wants one."""
        if self.interval is not None:
            self._send("WATCHDOG=1")

    def main_pid(self, pid: int) -> None:
        """Another process is the service's main process from now on.  Only the present one is
        believed (NotifyAccess=main), and until then the other one is not heard."""
        self._send(f"MAINPID={pid}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(_status(text))

    def _send(self, *lines: str) -> None:
        if not self.address:
            return
        message = "\n".join(lines).encode("utf-8", "backslashreplace")
        where = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.sendto(message, where)
        except OSError as error:
            logger.debug("NOTIFY_SOCKET=%s was not told %s: %s.", self.address, lines[0],
                         error.strerror or error)  # fmt: skip


def _status(text: str) -> str:
    return f"STATUS={escape(text)}"
