"""Who is condemned, who is pardoned."""

import subprocess
import sys

import pytest

from fastfork import memory, overseer
from fastfork.config import Settings
from fastfork.handle import WorkerHandle, with_channel
from fastfork.overseer import Overseer
from fastfork.roster import Roster
from fastfork.scoreboard import Scoreboard

LIMIT = 1 << 20


class Fake:
    """A service with one worker that is ready: a real process with a real handle, whose facts
    the test makes up.  `memory` is what it uses."""

    def __init__(self, monkeypatch):
        self.settings = Settings(app="-", request_timeout=1.0, request_grace=1.0, max_memory=LIMIT)
        self.name, self.molds = "web", {}
        self.roster = Roster(1)
        member = self.roster.starting(0, 1, 0.0)
        self.process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self.worker, self.theirs = with_channel(
            lambda ours: WorkerHandle(ours, member, self.settings, Scoreboard(), 0.0))
        self.worker.pid = self.process.pid
        self.roster.started(member, self.process.pid)
        self.roster.ready(member, 0.0)
        self.workers = {member: self.worker}
        self.memory = 0
        self.facts = {"state": "idle", "whole": True, "heartbeat": 0.0, "deadline": 0.0,
                      "request_started": 0.0, "request_number": 1, "request_id": "1-1",
                      "method": "GET", "path": "/", "requests": 1}
        self.worker.facts = lambda: self.facts
        monkeypatch.setattr(memory, "measure", lambda pid, how: self.memory)
        self.overseer = Overseer(self)

    def handles(self):
        return list(self.workers.values())

    def look(self, now, **facts):
        """A look at a worker that is alive, and does `facts`."""
        self.facts = {**self.facts, "heartbeat": now, **facts}
        self.overseer.look(now)

    def execute(self, now):
        self.overseer.kill_condemned(now)


@pytest.fixture
def service(monkeypatch):
    fake = Fake(monkeypatch)
    yield fake
    fake.worker.close()
    fake.theirs.close()
    fake.process.kill()
    fake.process.communicate()


def late(service):
    """A handler that does not react to its deadline: two looks are needed to condemn it."""
    service.look(10.0, request_started=1.0, deadline=2.0, request_number=7)
    assert not service.worker.condemned
    service.look(10.1, heartbeat=1.0)
    assert "request_grace" in service.worker.condemned


def test_a_handler_that_goes_on_is_killed(service):
    late(service)
    service.execute(10.1)
    assert not service.worker.killed            # it may write where it stands
    service.execute(20.0)
    assert service.worker.killed


def test_one_that_ends_in_the_last_moment_is_pardoned(service):
    late(service)
    service.facts.update(heartbeat=10.2, request_started=0.0, deadline=0.0)
    service.execute(20.0)
    assert not service.worker.killed and not service.worker.condemned
    service.execute(30.0)
    assert not service.worker.killed


def test_a_sign_of_life_is_no_end_of_the_request(service):
    """Where handlers run in threads the loop turns whatever they do."""
    late(service)
    service.facts["heartbeat"] = 10.2
    service.execute(20.0)
    assert service.worker.killed


def test_a_pardon_is_for_what_it_was_condemned_for(service):
    """Its memory does not end with a request."""
    late(service)
    service.facts.update(heartbeat=10.2, request_started=0.0, deadline=0.0)
    service.execute(20.0)
    service.memory = 3 * LIMIT
    service.look(21.0, request_started=0.0, deadline=0.0)
    assert "max_memory" in service.worker.condemned
    service.facts["heartbeat"] = 21.1
    service.execute(21.0 + overseer.LOOK)
    assert service.worker.killed
