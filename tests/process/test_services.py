"""Several services under one master: what befalls one does not touch the others."""

import contextlib
import errno
import os
import re
import signal
import socket
from pathlib import Path

import pytest
from harness import name, wait_for
from load import Load
from seen import targets

PID = 'app = "small_apps:pid"'
FOUR = ("compute", "volume", "metadata", "ec2")


@contextlib.contextmanager
def loads(several, *names, clients=4):
    """Load on those services; none of it may fail."""
    with contextlib.ExitStack() as stack:
        running = {one: stack.enter_context(Load(several.address(one), clients)) for one in names}
        for load in running.values():
            load.wait_answered(20)
        yield running
        for load in running.values():  # it is served now, too
            load.wait_answered(load.answered + 20)
    for one, load in running.items():
        assert load.failures == [], f"{one}: {load.failures[0]}\n{several.server.stderr}"


def kill_one(several, one):
    """A worker of it; wait until another one is in its place."""
    old = several.workers(one)
    os.kill(old[0], signal.SIGKILL)
    wait_for(lambda: old[0] not in several.workers(one) and len(several.workers(one)) == len(old),
             message=lambda: several.server.stderr)  # fmt: skip


def kill_all(several, one):
    """Every process of it, the mold first."""
    old = several.workers(one)
    molds = [pid for pid in several.molds() if listening(pid) == listening(old[0])]
    assert len(molds) == 1
    for pid in (*molds, *old):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not set(old) & set(several.workers(one))
             and len(several.workers(one)) == len(old), message=lambda: several.server.stderr)


def test_four_services_are_killed_and_reloaded_one_by_one(deployed):
    """Under load on all the others, of which not one request fails."""
    several = deployed({one: PID for one in FOUR}, workers=2)
    for one in FOUR:
        others = [other for other in FOUR if other != one]
        before = {other: several.workers(other) for other in others}
        with loads(several, *others):
            kill_one(several, one)
            kill_all(several, one)
            with loads(several, one):  # which does not notice its reload either
                assert several.do("reload", one) == f"{one}: generation 2 serves, 2 workers\n"
            assert int(several.get(one).body) in several.workers(one)
        assert {other: several.workers(other) for other in others} == before
    assert {found["generation"] for found in several.services().values()} == {2}


def test_one_that_never_boots(deployed, tmp_path):
    """It is tried again and again, each time later; the others neither wait nor notice."""
    (tmp_path / "web.py").write_text("raise RuntimeError('not today')\n")
    several = deployed({"broken": 'app = "web:app"', "good": PID, "fine": PID}, wait=False)
    several.server.wait_stderr("not today")
    several.server.wait_stderr("Next try in ")
    several.wait_workers("good", 1)
    several.wait_workers("fine", 1)
    before = several.workers("good"), several.workers("fine")
    with loads(several, "good", "fine"):
        wait_for(lambda: several.server.stderr.count("Next try in ") >= 2)
        found = several.services()["broken"]
        assert found["state"] == "failed" and not found["outcome"]["ok"]
        (tmp_path / "web.py").write_text("from small_apps import pid as app\n")
        assert several.do("reload", "broken").startswith("broken: generation ")
        assert int(several.get("broken").body) in several.workers("broken")
    assert (several.workers("good"), several.workers("fine")) == before
    delays = re.findall(r"Next try in ([0-9.]+) s", several.server.stderr)
    assert float(delays[0]) < float(delays[1])


def test_one_that_crashes_in_every_request(deployed):
    several = deployed({"crashing": 'app = "small_apps:leave"', "good": PID, "fine": PID})
    before = several.workers("good"), several.workers("fine")
    with loads(several, "good", "fine"):
        for _ in range(3):
            (old,) = several.workers("crashing")
            with several.connect("crashing") as client:
                client.send(b"GET /?3 HTTP/1.1\r\nHost: x\r\n\r\n")
                assert client.at_eof()
            wait_for(lambda old=old: several.workers("crashing") not in ([], [old]),
                     message=lambda: several.server.stderr)
    assert (several.workers("good"), several.workers("fine")) == before
    found = several.services()
    assert [found[one]["state"] for one in ("good", "fine")] == ["serving", "serving"]


def test_one_that_is_flooded_with_connections(deployed):
    several = deployed(
        {"flooded": PID + "\nmax_connections = 20", "good": PID, "fine": PID})
    before = several.workers("good"), several.workers("fine")
    address = several.address("flooded")

    def connections():
        (worker,) = several.services()["flooded"]["workers"]
        return worker["connections"]

    with contextlib.ExitStack() as flood:
        for _ in range(100):  # which say nothing
            sock = flood.enter_context(socket.socket())
            sock.setblocking(False)
            assert sock.connect_ex(address) in (0, errno.EINPROGRESS)
        wait_for(lambda: connections() == 20)
        with loads(several, "good", "fine"):
            pass
        assert connections() == 20
    wait_for(lambda: connections() == 0)
    assert int(several.get("flooded").body) in several.workers("flooded")
    assert (several.workers("good"), several.workers("fine")) == before


@pytest.mark.parametrize("preload", ["on", "off"])
def test_nobody_has_what_the_workers_of_another_service_have_in_common(deployed, preload):
    """Sockets: neither the listener nor the pair by which connections are passed; and no bell."""
    service = f"{PID}\npreload = '{preload}'"
    several = deployed({"one": service, "two": service}, workers=2)
    theirs = {name: [set(targets(pid)) for pid in several.workers(name)] for name in ("one", "two")}
    for first in theirs["one"]:
        for second in theirs["two"]:
            assert not [one for one in first & second if one.startswith("socket:")]
    for workers in theirs.values():
        common = set.intersection(*workers)
        assert sum(one.startswith("socket:") for one in common) == 3


def listening(pid):
    """Inodes of the listening TCP sockets that the process holds."""
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    inodes = {row[9] for row in rows if row[3] == "0A"}  # TCP_LISTEN
    return {target[8:-1] for target in targets(pid) if target.startswith("socket:[")} & inodes


def test_workers_hold_their_own_listeners_only(deployed):
    """Also those that replace others, and those of a later generation."""
    several = deployed({**{one: PID for one in FOUR[:3]}, "ec2": PID + '\npreload = "off"'})

    def own():
        mine = {one: [listening(pid) for pid in several.workers(one)] for one in FOUR}
        for found in mine.values():
            assert len(found) == 1 and len(found[0]) == 1
        return {one: found[0].pop() for one, found in mine.items()}

    inodes = own()
    assert len(set(inodes.values())) == 4
    assert listening(several.server.pid) == set(inodes.values())
    for one in FOUR:
        kill_one(several, one)
    assert own() == inodes
    several.do("reload")
    assert own() == inodes
    for mold in several.molds():
        assert name(mold) == "fastfork mold" and len(listening(mold)) == 1
