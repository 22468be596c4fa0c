"""What an application waits for: a server that answers every line 50 ms after it came.

    python backend.py

It writes the number of its port to standard output and ends with its standard input, so that it
outlives nobody.  One thread: all answers are due after the same time, in the order in which the
lines came, so a queue is all the timer it needs and a thousand who wait cost nothing.
"""

import contextlib
import os
import select
import socket
import subprocess
import sys
import time
from collections import deque

WAIT = 0.05  # seconds
QUESTION, ANSWER = b"?\n", b"!\n"
HOST = "127.0.0.1"


class Backend:
    """The server in a process of its own, on the core `cpu`; a context manager that ends it."""

    def __init__(self, cpu):
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))
        self.pid = self.process.pid
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the backend did not start: exit status {self.process.wait()}")
        self.port = int(line)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def answer(due):
    """Answer those whose time has come."""
    now = time.perf_counter()
    while due and due[0][0] <= now:
        # An application that has ended, with its questions open, gets no answer.
        with contextlib.suppress(OSError):
            due.popleft()[1].send(ANSWER)


def serve():
    listener = socket.create_server((HOST, 0), backlog=4096)
    print(listener.getsockname()[1], flush=True)
    due = deque()  # (when, socket)
    applications = {}
    with select.epoll() as epoll:
        epoll.register(listener, select.EPOLLIN)
        epoll.register(sys.stdin, select.EPOLLIN)
        while True:
            # epoll's own timeout is in milliseconds, select's in microseconds.
            left = max(0.0, due[0][0] - time.perf_counter()) if due else None
            select.select([epoll], [], [], left)
            for descriptor, _ in epoll.poll(0):
                if descriptor == sys.stdin.fileno():
                    return
                if descriptor == listener.fileno():
                    sock, _ = listener.accept()
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    applications[sock.fileno()] = sock
                    epoll.register(sock, select.EPOLLIN)
                    continue
                try:
                    lines = applications[descriptor].recv(4096).count(b"\n")
                except ConnectionResetError:
                    lines = 0
                if not lines:
                    applications.pop(descriptor).close()
                    continue
                when = time.perf_counter() + WAIT
                due.extend([(when, applications[descriptor])] * lines)
            answer(due)


if __name__ == "__main__":
    serve()
