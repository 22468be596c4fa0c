"""The plain site, with a thread of its own that writes a byte now and then to the note `ticks`."""

import threading
import time

from plain_site import app  # noqa: F401
from work import NOTES

from fastfork import hooks


def tick():
    with open(NOTES / "ticks", "ab", buffering=0) as ticks:
        while True:
            ticks.write(b".")
            time.sleep(0.01)


@hooks.on_worker_start
def start(worker):
    threading.Thread(target=tick, daemon=True).start()
