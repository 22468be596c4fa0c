"""What it costs that a handler waits and the loop goes on in another greenlet: one that does not
wait, one that only gives others their turn, and one that waits for a descriptor."""

import socket

import pytest

import fastfork

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def readable():
    """A descriptor that is always readable."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        yield ours.fileno()


@pytest.mark.parametrize("waits_for", ["nothing", "its turn", "a descriptor"])
def test_wait(serve, measure, readable, waits_for):
    wait = {"nothing": lambda: True,
            "its turn": lambda: fastfork.sleep(0) is None,
            "a descriptor": lambda: fastfork.wait_readable(readable)}[waits_for]

    def app(environ, start_response):
        assert wait()
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    served = serve(app, socket.AF_UNIX, greenlets=100)
    measure(served.feed, GET)
    stats = served.end()
    # The loop goes on in another greenlet and comes back; both are counted.
    assert stats["switches"] == (0 if waits_for == "nothing" else 2 * stats["requests"])
