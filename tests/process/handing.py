"""Clients and the workers to which their connections belong."""

import socket
import struct
from contextlib import ExitStack

from harness import PATIENCE, Client, wait_for
from seen import clients, service


def request(target, *fields):
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: test", *fields, "", ""]).encode()


def pid_of(client):
    return int(client.get("/pid").body)


def vanish(client):
    """Close with a reset."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def unix_client(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PATIENCE)
    sock.connect(str(path))
    return Client(sock)


class Site:
    """A server of handoff_site:app with a control socket, and its clients by their workers."""

    def __init__(self, start, directory, *flags, workers=2, bind=("127.0.0.1:0",), env=None):
        self.control = directory / "control"
        self.counted = directory / "counted"
        self.open = ExitStack()
        self.before = 0  # how many had been handed on when the crowd was there
        self.server = start("handoff_site:app", *flags, "--control", str(self.control),
                            workers=workers, bind=bind,
                            env={"COUNTED": str(self.counted), **(env or {})})

    def connect(self):
        return self.open.enter_context(self.server.connect())

    def crowd(self, number=16, connect=None):
        """`number` clients who have had an answer, by the worker that gave it, the most first.
        Each worker has two at least, and none so many that some would be handed on for it: a
        sibling that has had no core for a while may have left it all of them."""
        def holders(those):
            for client in those:
                pid_of(client)
            self.wait_even(0)  # where they came one after the other, some may have gone on
            before = self.counts()
            found = [(client, pid_of(client)) for client in those]
            return found if self.counts() == before else []

        found = self._shared_out(number, connect or self.connect, holders)
        self.before = self.counts()[0]
        return found

    def silent(self, number=16):
        """The same with clients who have said nothing."""
        def holders(those):
            ports = {client.sock.getsockname()[1]: client for client in those}

            def look():
                return [(ports[port], pid) for pid in self.server.workers()
                        for port in clients(pid, self.server.port) if port in ports]

            wait_for(lambda: len(look()) == number, message=lambda: "not all are accepted")
            return look()

        return self._shared_out(number, self.connect, holders)

    def _shared_out(self, number, connect, holders):
        """Try until it is so; `holders(clients)` are pairs of a client and its worker, or nothing
        if that has changed meanwhile."""
        before = self.connections()
        while True:
            those = [connect() for _ in range(number)]
            found = {pid: [] for pid in self.server.workers()}
            for client, pid in holders(those):
                found[pid].append(client)
            share = number // len(found)
            if all(len(some) >= 2 and abs(len(some) - share) <= share // 4 + 1
                   for some in found.values()):
                return sorted(found.items(), key=lambda one: -len(one[1]))
            for client in those:
                client.close()
            wait_for(lambda: self.connections() <= before, message=lambda: str(self.workers()))

    def workers(self):
        return service(self.control)["workers"]

    def connections(self):
        """That are open, of all workers."""
        return sum(one["connections"] for one in self.workers())

    def counts(self):
        """Connections handed out and in, of all workers that live."""
        found = self.workers()
        return sum(one["handed_out"] for one in found), sum(one["handed_in"] for one in found)

    def handed(self):
        """How many have been handed out since the crowd was there."""
        return self.counts()[0] - self.before

    def wait_handed(self, number):
        wait_for(lambda: self.handed() >= number,
                 message=lambda: f"{self.workers()}\n{self.server.stderr}")

    def wait_even(self, at_least=1):
        """Until so many have been handed on, and all of them have arrived; how many."""
        def even():
            out, into = self.counts()
            return out == into and out >= self.before + at_least

        wait_for(even, message=lambda: f"{self.counts()}\n{self.server.stderr}")
        return self.handed()


def stand(client, gate, path="/wait"):
    """Let this client's request stand at the gate."""
    client.send(request(f"{path}?{gate.path}"))
    gate.reached()


class Handler:
    """How a worker is kept busy: it waits at a gate, or it computes with the GIL."""

    def __init__(self, kind, client, gate):
        self.kind, self.client, self.gate = kind, client, gate
        stand(client, gate, "/wait" if kind == "waits" else "/burn")
        if kind == "computes":
            gate.open()

    def end(self):
        """Its answer."""
        if self.kind == "waits":
            self.gate.open()
        else:
            with open(f"{self.gate.path}.over", "w"):
                pass
        return int(self.client.read_response().body)
