"""A worker without processes and without sockets, for the micro-benchmarks."""

import os
import socket
import threading

import pytest

from fastfork._core import Worker
from fastfork.config import Settings


@pytest.fixture
def logged():
    """What the worker wrote to the error log.  A benchmark that causes any is not measuring
    what it says, so there must be nothing at the end."""
    entries = []
    yield entries
    assert entries == []


@pytest.fixture
def feed(logged):
    """`feed(app, **settings)` makes a worker with a connection in memory; returns its bytes-in,
    bytes-out."""
    def make(app, **settings):
        settings = Settings(keep_alive_requests=1 << 31, **settings)    # more than rounds are run
        worker = Worker(app, [], settings, log=lambda *entry: logged.append(entry))
        return worker.connect().feed

    return make


@pytest.fixture
def serve(logged):
    """`serve(app)` runs a worker in a thread; returns a connected socket to it."""
    ended = []

    def start(app):
        listener = socket.create_server(("127.0.0.1", 0))
        worker = Worker(app, [listener], Settings(), log=lambda *entry: logged.append(entry))
        stopped, stop = os.pipe()
        worker.watch(stopped, worker.stop)
        thread = threading.Thread(target=worker.run)
        thread.start()
        client = socket.create_connection(listener.getsockname(), timeout=20)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ended.append((client, stop, thread, listener, stopped))
        return client

    yield start
    for client, stop, thread, listener, stopped in ended:
        client.close()
        os.close(stop)
        thread.join(20)
        assert not thread.is_alive()
        os.close(stopped)
        listener.close()


@pytest.fixture
def measure(benchmark):
    """`measure(feed, request, answers=N)` benchmarks feeding the request.

    Every answer must be as long as the first, and the first and last are read strictly: N
    answers with status 200, their bodies as long as they say.  Returns the last.
    """
    def run(feed, request, answers=1):
        expected = feed(request)
        check(expected, answers)
        length = len(expected)

        def once():
            data = feed(request)
            if len(data) != length:
                raise AssertionError(data)
            return data

        last = benchmark(once)
        check(last, answers)
        return last

    return run


def check(data, answers):
    """Raise unless `data` is `answers` whole responses with status 200 and Content-Length."""
    for _ in range(answers):
        head, blank, data = data.partition(b"\r\n\r\n")
        assert blank, head
        assert head.startswith(b"HTTP/1.1 200 OK\r\n"), head
        lengths = [line for line in head.lower().split(b"\r\n")
                   if line.startswith(b"content-length:")]
        assert len(lengths) == 1, head
        length = int(lengths[0].partition(b":")[2])
        assert len(data) >= length, data
        data = data[length:]
    assert data == b"", data
