"""Whose turn it is in the loop of a worker with real sockets.  All that happens outside is done by
its application, in between, so that it is known what one look at the sockets finds."""

import contextlib
import socket
from types import SimpleNamespace

import pytest
from answers import DEFAULTS, request

from fastfork import _core


class World:
    """Runs `steps`, one in each request, and notes how many connections were accepted by then."""

    def __init__(self, stack, listeners, *, multiprocess):
        self.stack = stack
        self.listeners = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(listeners)]
        self.slot = bytearray(_core.SLOT_SIZE)
        self.log = []
        self.accepted = []
        self.steps = []
        self.worker = _core.Worker(
            self, self.listeners, SimpleNamespace(**DEFAULTS), multiprocess=multiprocess,
            log=lambda *entry: self.log.append(entry), slot=self.slot)

    def connect(self, listener=0):
        """A client; nothing of it is read."""
        address = self.listeners[listener].getsockname()
        return self.stack.enter_context(socket.create_connection(address))

    def __call__(self, environ, start_response):
        self.accepted.append(_core.slot_read(self.slot)["accepted"])
        start_response("200 OK", [("Content-Length", "0")])
        self.steps.pop(0)()
        return []

    def run(self, *steps):
        self.steps = list(steps)
        self.worker.run()
        assert self.steps == [] and self.log == []


@pytest.fixture
def world(balance):
    with contextlib.ExitStack() as stack:
        yield lambda listeners, **options: World(stack, listeners, **options)


def rest():
    pass


@pytest.mark.parametrize("listeners", [1, 2, 3])
def test_who_connects_comes_after_everybody_who_waits_for_an_answer(world, listeners):
    there = world(listeners, multiprocess=True)
    clients = [there.connect() for _ in range(3)]
    for client in clients:
        client.sendall(request())

    def come_and_ask():
        for listener in range(listeners):
            there.connect(listener)
        for client in clients[:2]:
            client.sendall(request())

    there.run(rest, rest, come_and_ask, rest, there.worker.stop)
    assert there.accepted[-2:] == [3, 3]


@pytest.mark.parametrize(("multiprocess", "accepted"), [(True, 1), (False, 4)])
def test_how_many_are_accepted_at_a_time(world, multiprocess, accepted):
    """One, where a sibling may be idle."""
    there = world(1, multiprocess=multiprocess)
    for _ in range(6):
        there.connect().sendall(request())
    there.run(there.worker.stop)
    assert there.accepted == [accepted]
