"""The pages, by threads for handlers that begin late."""

import threading
import time

from plain_site import app as app

run = threading.Thread.run


def begin_late(thread):
    if thread.name.startswith("fastfork-handler-"):
        time.sleep(0.4)
    run(thread)


threading.Thread.run = begin_late
