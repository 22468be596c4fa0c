"""Responses that come piece by piece: many at once, slow readers, and clients that go."""

import json
import re
import selectors
import threading
import time
from contextlib import ExitStack

import pytest
from harness import MODES, PATIENCE, SIDE_BY_SIDE, wait_for
from running import piece_of, read_head, rest_of
from served.blocks import BLOCK, block
from tools import content, get, post, quiet_for, slow_client, vanish, wake

MANY = 1000
SOON = 5.0  # seconds; generous: what is said to take one


class Listener:
    """A client of /events, and how many it has got."""

    def __init__(self, site, number):
        self.sock = site.server.connect().sock
        self.sock.sendall(get(f"/events?name={number}"))
        self.sock.setblocking(False)
        self.data = b""

    @property
    def events(self):
        return self.data.count(b"data: ")

    def receive(self):
        data = self.sock.recv(65536)
        assert data, "the stream has ended"
        self.data += data


def listen(listeners, count):
    """Until each of them has had so many events."""
    with selectors.DefaultSelector() as selector:
        for listener in listeners:
            selector.register(listener.sock, selectors.EVENT_READ, listener)
        missing = {listener for listener in listeners if listener.events < count}
        end = time.monotonic() + PATIENCE
        while missing:
            assert time.monotonic() < end, f"{len(missing)} have not had {count} events"
            for key, _ in selector.select(SOON):
                key.data.receive()
                if key.data.events >= count:
                    missing.discard(key.data)


def open_streams(site):
    return json.loads(site.server.get("/").body)["open"]


@pytest.mark.parametrize("mode", ["greenlets", "gevent"])
def test_a_thousand_event_streams(begin, mode):
    """In one worker, which answers others meanwhile; when clients go, the others stay."""
    site = begin("events:app", mode, "--greenlets", "1100")
    worker = site.worker
    listeners = [Listener(site, number) for number in range(MANY)]
    try:
        listen(listeners, 3)
        assert open_streams(site) == MANY
        for listener in listeners:
            numbers = [int(number) for number in re.findall(rb"data: (\d+)\n", listener.data)]
            assert numbers == list(range(len(numbers)))
        for listener in listeners[::2]:
            listener.sock.close()
        wait_for(lambda: open_streams(site) == MANY // 2, SOON)
        rest = listeners[1::2]
        listen(rest, 2 + max(listener.events for listener in rest))
    finally:
        for listener in listeners:
            listener.sock.close()
    wait_for(lambda: open_streams(site) == 0, SOON)
    assert site.worker == worker


@pytest.fixture(params=MODES)
def bounded(request, begin):
    """A site that keeps little of what is not taken."""
    return begin("events:app", request.param, "--output-memory", "64KiB", "--output-spool", "0")


def made(site, name):
    return len(site.text(name))


def wait_stopped(site, name):
    """Until nothing more is made; how many blocks that are."""
    seen = []

    def stopped():
        seen.append(made(site, name))
        return len(seen) > 40 and seen[-40] == seen[-1] > 0     # for 0.2 s

    wait_for(stopped, message=lambda: f"still at it: {seen[-1]} blocks")
    return seen[-1]


def begun(site):
    """A client that has read no more than the head of an answer without end."""
    name = site.name()
    client = slow_client(site.server)
    client.send(get(f"/endless?name={name}&made={name}-made", version="1.0"))
    client.read_head()
    return client, name


def test_a_slow_reader_stops_the_iterator(bounded):
    """At what the buffers hold: the kernel's, some MiB, and 64 KiB.  It goes on from there."""
    client, name = begun(bounded)
    with client:
        stopped = wait_stopped(bounded, f"{name}-made")
        assert stopped * BLOCK < 16 << 20
        assert made(bounded, f"{name}-made") == stopped
        if bounded.mode in SIDE_BY_SIDE:
            assert bounded.server.get("/").status == 200
        wake(client)
        for number in range(stopped + 1000):
            assert client.read_exactly(BLOCK) == block(number)
        assert made(bounded, f"{name}-made") >= stopped + 1000
    bounded.wait_note(name, "closed")


@pytest.mark.parametrize("leave", [vanish, lambda client: client.close()], ids=["reset", "close"])
def test_a_slow_reader_that_goes(bounded, leave):
    client, name = begun(bounded)
    wait_stopped(bounded, f"{name}-made")
    assert quiet_for(client, 0) is False and bounded.text(name) == ""
    leave(client)
    bounded.wait_note(name, "closed", SOON)
    assert bounded.server.get("/").status == 200


@pytest.mark.parametrize("mode", ["greenlets", "gevent"])
def test_client_vanishes_from_a_handler_that_waits(begin, mode):
    """In fastfork.sleep, from which it is woken.  (By a reset: one that only closes may have said
    no more than that it sends nothing else, and is found gone when something is sent to it.)"""
    site = begin("plain_site:app", mode, "--graceful-timeout", "1s")
    name = site.name()
    with site.server.connect() as client:
        client.send(get(f"/silent?name={name}"))
        read_head(client)
        assert piece_of(client) == b"first"
        vanish(client)
    site.wait_note(name, "closed", SOON)
    site.wait_note(f"{name}-why", "ClientGone")


@pytest.mark.parametrize("mode", MODES)
def test_both_ways_at_once(begin, mode):
    """Three echoes of more than all buffers hold, side by side, whose clients read one after the
    other: each handler waits now for its client to send and now for it to read."""
    size = 20_000_000
    site = begin("plain_site:app", mode, "--request-buffering", "stream",
                 "--output-memory", "64KiB", "--output-spool", "0")
    with ExitStack() as stack:
        clients = [stack.enter_context(site.server.connect()) for _ in range(3)]
        names = [site.name() for _ in clients]
        for client, name in zip(clients, names, strict=True):
            client.send(post(f"/echo?name={name}&size=65536", b"", f"Content-Length: {size}"))
            sender = threading.Thread(target=client.send, args=[content(size)], daemon=True)
            sender.start()
            stack.callback(sender.join)
        for client in clients:
            read_head(client)
        for client, name in zip(clients, names, strict=True):
            assert rest_of(client) == content(size)
            site.wait_note(name, "closed")
