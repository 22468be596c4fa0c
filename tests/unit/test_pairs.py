"""The pairs by which connections go from worker to worker; no worker here."""

import json
import os
import resource
import socket

import pytest
from waiting import has_ended, is_open, leave_waiting

from fastfork import _core, pairs
from fastfork.pairs import Pair


@pytest.fixture
def pair():
    made = pairs.make()
    yield made
    if is_open(made.inlet):
        made.close()


def receive(pair):
    with socket.socket(fileno=os.dup(pair.inlet)) as sock:
        return socket.recv_fds(sock, 1000, 4)[:2]


def test_what_is_sent_arrives_whole(pair):
    reading = leave_waiting(pair)
    data, (fd,) = receive(pair)
    assert data == b"record" and not has_ended(reading)
    os.close(fd)
    assert has_ended(reading)
    os.close(reading)


def test_nobody_waits_and_no_program_inherits(pair):
    assert all(not os.get_blocking(end) and not os.get_inheritable(end) for end in pair)
    with pytest.raises(BlockingIOError):
        receive(pair)


def test_there_is_more_room_than_the_kernel_gives(pair):
    with socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)[0] as usual:
        least = usual.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    with socket.socket(fileno=os.dup(pair.outlet)) as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) > least


def test_without_descriptors_there_is_none():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    reading, writing = os.pipe()
    resource.setrlimit(resource.RLIMIT_NOFILE, (writing + 2, hard))  # one is left
    try:
        assert pairs.make() is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(reading)
        os.close(writing)


def test_what_waits_is_closed(pair):
    waiting = [leave_waiting(pair) for _ in range(100)]
    pair.empty()
    assert all(map(has_ended, waiting))
    for reading in waiting:
        os.close(reading)
    pair.empty()
    assert all(map(is_open, pair))


def test_an_empty_message_does_not_hide_what_is_behind_it(pair):
    os.write(pair.outlet, b"not a record")
    reading = leave_waiting(pair)
    pair.empty()
    assert has_ended(reading)
    os.close(reading)


def test_when_it_is_shut_nothing_is_sent_and_what_waits_can_be_taken(pair):
    """By whoever has it: here by the same process, in another descriptor."""
    other = Pair(os.dup(pair.outlet), os.dup(pair.inlet))
    reading = leave_waiting(pair)
    pair.shut()
    pair.shut()
    with pytest.raises(BrokenPipeError):
        leave_waiting(other)
    _, (fd,) = receive(other)
    os.close(fd)
    assert receive(other) == (b"", [])
    other.close()
    pair.empty()
    os.close(reading)


# -- binary upgrade ----------------------------------------------------------------------
def passed(monkeypatch, *, version=_core.HANDOFF_VERSION, **by_name):
    """What `adopt` makes of what a master with this version has passed."""
    monkeypatch.setattr(_core, "HANDOFF_VERSION", version)
    environ = pairs.hand_over(by_name)
    monkeypatch.undo()
    for pair in by_name.values():
        for end in pair:
            os.set_inheritable(end, True)
    monkeypatch.setattr(os, "getppid", os.getpid)
    found = pairs.adopt(environ)
    assert environ == {}
    return found


def test_those_of_the_old_master_by_name(monkeypatch, pair):
    assert passed(monkeypatch, web=pair) == {"web": pair}
    assert not any(map(os.get_inheritable, pair))


def test_those_of_another_version_are_closed(monkeypatch, pair):
    assert passed(monkeypatch, version=_core.HANDOFF_VERSION + 1, web=pair) == {}
    assert not any(map(is_open, pair))


def test_one_that_is_not_open_is_left_out(monkeypatch, pair):
    fd = os.open(os.devnull, os.O_RDONLY)
    os.close(fd)
    environ = pairs.hand_over({"web": pair, "more": Pair(fd, fd), "most": Pair(1 << 40, 0)})
    monkeypatch.setattr(os, "getppid", os.getpid)
    assert pairs.adopt(environ) == {"web": pair}


def test_what_was_passed_to_somebody_else_is_left_alone(pair):
    """A master that does not know the variable leaves it to the next one, whose descriptors are
    others."""
    environ = pairs.hand_over({"web": pair})
    assert pairs.adopt(environ) == {} and environ == {}
    assert all(map(is_open, pair))


@pytest.mark.parametrize("told", [
    "", "[", "7", "[]", "{}", {"pairs": []}, {"pairs": {"web": 7}}, {"pairs": {"web": [1]}},
    {"pairs": {"web": ["a", "b"]}}, {"pairs": {"web": [1, 2, 3]}}, {"version": None}])  # fmt: skip
def test_what_cannot_be_read_is_no_fault(monkeypatch, told):
    """Later versions may say it otherwise."""
    monkeypatch.setattr(os, "getppid", os.getpid)
    if isinstance(told, dict):
        right = {"master": os.getpid(), "version": _core.HANDOFF_VERSION, "pairs": {}}
        told = json.dumps({**right, **told})
    assert pairs.adopt({pairs.VARIABLE: told}) == {}


def test_an_ordinary_start_has_none():
    assert pairs.adopt({}) == {}
