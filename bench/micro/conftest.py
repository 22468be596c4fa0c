"""Workers for the micro-benchmarks: in this process and without sockets, or in one of their own.

What is stored for comparison (`--benchmark-save`) says what machine it comes from, not whose.
"""

import contextlib
import json
import os
import socket

import pytest

from fastfork._core import Worker
from fastfork.config import Settings

MANY = 1 << 31      # requests on a connection: more than rounds are run

@pytest.fixture
def worker():
    """`worker(app, access_log, **settings)` makes a worker without sockets that writes its access
    log, if any, to this file.  A benchmark that causes an entry of the error log is not measuring
    what it says, so there must be none at the end."""
    entries = []

    def make(app, access_log=None, **settings):
        return Worker(app, [], Settings(keep_alive_requests=MANY, **settings),
                      log=lambda *entry: entries.append(entry),
                      access_log_fd=access_log.fileno() if access_log else -1)

    yield make
    assert entries == []


@pytest.fixture
def feed(worker):
    """`feed(app, **settings)` makes a worker with a connection in memory; returns its bytes-in,
    bytes-out."""
    return lambda app, **settings: worker(app, **settings).connect().feed


class Served:
    """A worker in a process of its own, as the master would have it, and a connection to it.

    `family` is AF_INET, over loopback, or AF_UNIX, where client and worker have a pair of sockets
    without any network between them.
    """

    stats = None

    def __init__(self, app, family, **settings):
        with socket.socket(family) as listener:
            listener.bind(("127.0.0.1", 0) if family == socket.AF_INET else "")
            listener.listen()
            going, self.go = os.pipe()      # whose end is the worker's
            self.report, reported = os.pipe()
            self.pid = os.fork()
            if self.pid == 0:
                os.close(self.go)
                try:
                    os.write(reported, self._work(app, listener, settings, going))
                finally:
                    os._exit(0)
            os.close(going)
            os.close(reported)
            self.client = socket.socket(family)
            self.client.settimeout(20)
            self.client.connect(listener.getsockname())
        if family == socket.AF_INET:
            self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @staticmethod
    def _work(app, listener, settings, going):
        logged = []
        worker = Worker(app, [listener], Settings(keep_alive_requests=MANY, **settings),
                        log=lambda *entry: logged.append(repr(entry)))
        worker.watch(going, worker.stop)
        worker.run()
        return json.dumps({"logged": logged, **worker.stats()}).encode()

    def feed(self, request):
        """Bytes in, bytes out; an answer is whole when it is as long as its first piece says."""
        self.client.sendall(request)
        data = self.client.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        missing = int(head.rpartition(b"Content-Length: ")[2].partition(b"\r")[0]) - len(body)
        while missing > 0:
            more = self.client.recv(65536)
            assert more, data
            data += more
            missing -= len(more)
        return data

    def end(self):
        """End it, unless it has ended before; returns its `stats()` and what it has `logged`."""
        if self.stats is None:
            self.client.close()
            os.close(self.go)
            with open(self.report, "rb") as report:
                self.stats = json.load(report)
            os.waitpid(self.pid, 0)
        return self.stats


@pytest.fixture
def serve():
    """`serve(app, family, **settings)` makes a `Served`; nothing may be in its error log."""
    with contextlib.ExitStack() as stack:
        def start(*args, **settings):
            served = Served(*args, **settings)
            stack.callback(served.end)
            running.append(served)
            return served

        running = []
        yield start
    assert [served.stats["logged"] for served in running] == [[]] * len(running)


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


def pytest_benchmark_update_machine_info(machine_info):
    """Kernel, interpreter and kind of processor stay, without what changes from run to run."""
    del machine_info["node"]
    machine_info["cpu"] = {key: machine_info["cpu"][key] for key in ("brand_raw", "count")}


def pytest_benchmark_update_commit_info(commit_info):
    """Of the repository only what can be looked up in any copy of it."""
    for key in commit_info.keys() - {"id", "dirty"}:
        del commit_info[key]
