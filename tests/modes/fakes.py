"""Servers that handlers wait for: what a database would do, and nothing else.

They run in threads of the test, one for each connection, and count how many statements are being
answered at once.  What they understand is, in the words of each protocol:

    select 42           a row with that number
    select sleep(0.2)   (or pg_sleep) a row, 0.2 s later, unless the client has gone by then
    select meet(20)     a row as soon as 20 statements are there at once: what tells without a clock
                        that so many handlers wait at the same time
    begin, commit, rollback, set ... nothing comes of it
"""

from __future__ import annotations

import contextlib
import re
import select
import socketserver
import threading

PATIENCE = 20.0  # seconds: how long a statement waits to meet others

ROW = re.compile(
    r"select (?:(?:pg_)?sleep\((?P<seconds>[\d.]+(?:e[+-]?\d+)?)\)|meet\((?P<count>\d+)\)"
    r"|(?P<number>\d+))", re.IGNORECASE)  # fmt: skip
DONE = re.compile(r"(begin|commit|rollback|set|deallocate)\b.*", re.IGNORECASE)


class Refused(Exception):
    """This statement is not understood, or what it waits for does not come."""


class Fake(socketserver.ThreadingTCPServer):
    """A server at `port`; a context manager.  `conversation` is its protocol."""

    daemon_threads = True
    request_queue_size = 128
    conversation: type[Conversation]

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.conversation)
        self.port = self.server_address[1]
        self.changed = threading.Condition()
        self.clients = 0
        self.now = self.most = 0  # statements at once: now, and at most since forget()
        self.statements = []
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self.shutdown()
        self._thread.join()
        self.server_close()

    def forget(self):
        with self.changed:
            self.most = self.now
            self.statements.clear()

    @contextlib.contextmanager
    def answering(self, statement):
        with self.changed:
            self.statements.append(statement)
            self.now += 1
            self.most = max(self.most, self.now)
            self.changed.notify_all()
        try:
            yield
        finally:
            with self.changed:
                self.now -= 1


class Conversation(socketserver.StreamRequestHandler):
    """One client.  Protocols have `talk`."""

    server: Fake
    wbufsize = -1

    def handle(self):
        with self.server.changed:
            self.server.clients += 1
        try:
            with contextlib.suppress(EOFError, ConnectionError):
                self.talk()
        finally:
            with self.server.changed:
                self.server.clients -= 1

    def finish(self):
        with contextlib.suppress(ConnectionError):
            super().finish()

    def talk(self):
        raise NotImplementedError

    def read(self, size):
        data = self.rfile.read(size)
        if len(data) < size:
            raise EOFError
        return data

    def row(self, statement):
        """The text of the one column of the one row; None if there is none."""
        statement = statement.strip().rstrip(";")
        found = ROW.fullmatch(statement)
        if found is None:
            if DONE.fullmatch(statement):
                return None
            raise Refused(f"not understood: {statement}")
        with self.server.answering(statement):
            if found["seconds"] is not None:
                self.sleep(float(found["seconds"]))
                return ""
            if found["count"] is not None:
                self.meet(int(found["count"]))
                return "met"
            return found["number"]

    def sleep(self, seconds):
        gone = select.poll()
        gone.register(self.connection, select.POLLRDHUP)
        if gone.poll(seconds * 1000):
            raise EOFError

    def meet(self, count):
        server = self.server
        with server.changed:
            if not server.changed.wait_for(lambda: server.most >= count, PATIENCE):
                raise Refused(f"{server.most} of {count} came")
