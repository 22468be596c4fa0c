"""The application of concurrency.py: a request asks the backend and waits for its answer.

Connections to the backend are kept, as those to a database are: a request takes one that nobody
uses, or opens one.
"""

import os
import socket

from backend import ANSWER, HOST, QUESTION
from sites.plain import hello

PATIENCE = 10.0  # seconds


class Asking:
    """Plain blocking calls, which block the thread or, patched by gevent, the greenlet."""

    def __init__(self):
        self.unused = []

    def __call__(self, environ, start_response):
        try:
            connection = self.unused.pop()
        except IndexError:
            connection = self.connect()
        connection.sendall(QUESTION)
        self.wait(connection)
        if (answer := connection.recv(64)) != ANSWER:
            raise ConnectionError(f"not the backend's answer: {answer!r}")
        self.unused.append(connection)
        return hello(environ, start_response)

    def connect(self):
        connection = socket.create_connection((HOST, int(os.environ["BACKEND_PORT"])), PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.prepare(connection)
        return connection

    def prepare(self, connection):
        connection.setblocking(True)

    def wait(self, connection):
        """Return when the answer is there; here recv does the waiting."""


class Cooperative(Asking):
    """Waits in the way in which fastfork's greenlets take turns."""

    def prepare(self, connection):
        connection.setblocking(False)

    def wait(self, connection):
        import fastfork

        if not fastfork.wait_readable(connection.fileno(), PATIENCE):
            raise TimeoutError("the backend does not answer")


blocking = Asking()
cooperative = Cooperative()
