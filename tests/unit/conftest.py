import os
import select
import threading

import pytest

from fastfork import places
from fastfork.control import Control


@pytest.fixture
def auto(tmp_path, monkeypatch):
    """The only directory in which servers are looked for; it is not there yet."""
    directory = tmp_path / "servers"
    monkeypatch.setattr(places, "directories", lambda: [directory])
    return directory


@pytest.fixture
def served():
    """`served(path, answer)`: a control socket and a thread that looks after it, as a master
    does."""
    servers = []
    stop_reading, stop = os.pipe()

    def loop(server):
        while True:
            poll = select.poll()
            poll.register(stop_reading, select.POLLIN)
            for fd, events in server.fds().items():
                poll.register(fd, events)
            ready = dict(poll.poll())
            if stop_reading in ready:
                return
            server.handle(ready, 0.0)

    def start(path, answer):
        server = Control(path, answer)
        thread = threading.Thread(target=loop, args=(server,))
        servers.append((server, thread))
        thread.start()
        return server.path

    yield start
    os.close(stop)
    for server, thread in servers:
        thread.join()
        server.close()
    os.close(stop_reading)
