"""What the core holds: counted in a debug build, freed without the garbage collector."""

import gc
import weakref

import pytest
from answers import Wire, chunked, request

from fastfork import _core

STAGES = {
    "new": b"",
    "at rest": request(),
    "in the head": b"POST / HTTP/1.1\r\nContent-",
    "in the body": request("POST", "/", "Content-Length: 5"),
    "in chunks": request("POST", "/", "Transfer-Encoding: chunked", body=chunked(b"abc", end=b"")),
    "after a body": request("POST", "/", body=b"abc"),
    "refused": b"\0",
    "closed": request("GET", "/", "Connection: close"),
    "pipelined": request() * 3 + b"GET",
}


@pytest.mark.parametrize("raw", STAGES.values(), ids=STAGES)
@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("memory", [0, 1000])
def test_nothing_is_freed_only_by_the_collector(balance, raw, closed, memory):
    """Trap 8: parser and protocol are a reference cycle that must be cleared by hand."""
    class App:
        def __call__(self, environ, start_response):
            environ["wsgi.input"].read()
            start_response("200 OK", [])
            return [b"ok"]

    app = App()
    gone = weakref.ref(app)
    gc.collect()
    gc.disable()
    try:
        wire = Wire(app, body_memory=memory)
        wire.feed(raw)
        if closed:
            wire.close()
        del app, wire
        assert gone() is None
    finally:
        gc.enable()


def test_open_connections_are_counted(wire, recorder):
    """Otherwise the counters would prove nothing; a release build does not count."""
    before = _core.counters()
    assert (before is not None) is _core.DEBUG
    if before is None:
        return
    connection = wire(recorder)
    connection.feed(b"POST / HTTP/1.1\r\n")
    connection.connect()
    assert _core.counters()["connections"] == before["connections"] + 2
