"""bench/run.py and what it takes wrk's figures with."""

import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from harness import ROOT

BENCH = ROOT / "bench"
MODULES = ("network", "run", "works", "wrk")


@pytest.fixture(scope="module")
def bench():
    """The modules, which find each other in their own directory."""
    before = set(sys.modules)
    sys.path.insert(0, str(BENCH))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    finally:
        sys.path.remove(str(BENCH))
        for name in set(sys.modules) - before:
            if str(BENCH) in (getattr(sys.modules[name], "__file__", None) or ""):
                del sys.modules[name]


SAID = {"requests": 300, "seconds": 1.5, "bytes": 30000, "connect": 0, "read": 0, "write": 0,
        "timeout": 0, "status": 0, "p50": 0.25, "p99": 1.5, "p999": 2.125}


def said(**changes):
    return "Running 1s test @ http://127.0.0.1:1/\n" + json.dumps(SAID | changes) + "\n"


def test_what_wrk_says(bench):
    assert bench.wrk.figures(said()) == {
        "requests": 300, "bytes": 30000, "rate": 200.0, "p50": 0.25, "p99": 1.5, "p999": 2.125}


@pytest.mark.parametrize(("changes", "trouble"), [
    ({"read": 2, "timeout": 1}, "2 read, 1 timeout"), ({"status": 7}, "7 status"),
    ({"requests": 0}, "no request"),
])
def test_what_is_wrong_in_wrks_figures(bench, changes, trouble):
    with pytest.raises(RuntimeError, match=trouble):
        bench.wrk.figures(said(**changes))


@pytest.mark.skipif(not shutil.which("wrk"), reason="needs wrk")
@pytest.mark.parametrize("at_once", [1, 16])
def test_wrk_sends_the_requests_in_turn_and_counts_their_answers(bench, tmp_path, at_once):
    seen = []

    def application(head):
        seen.append(head)
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    files = []
    for n in range(3):
        files.append(str(tmp_path / f"{n}"))
        (tmp_path / f"{n}").write_bytes(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n * at_once)
    with Answering(application) as port:
        got = bench.wrk.run(port, max(os.sched_getaffinity(0)), 1, 1, files)
    numbers = [int(head[5:6]) for head in seen]
    # wrk has asked for one before, to see what it will send.
    assert numbers == [(1 + n // at_once) % 3 for n in range(len(numbers))]
    assert 0 <= len(seen) - got["requests"] <= at_once  # some are under way at the end


class Answering:
    """A server for one connection at a time, in a thread; `application(head)` is each answer."""

    def __init__(self, application):
        self.application = application

    def serve(self):
        while True:
            connection, _ = self.listener.accept()
            with connection:
                if self.ending:
                    return
                self.talk(connection)

    def talk(self, connection):
        rest = b""
        while True:
            try:
                if not (more := connection.recv(65536)):
                    return
                *heads, rest = (rest + more).split(b"\r\n\r\n")
                connection.sendall(b"".join(map(self.application, heads)))
            except ConnectionError:
                return

    def __enter__(self):
        self.ending = False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()
        self.connect = lambda: socket.create_connection(self.listener.getsockname()).close()
        return self.listener.getsockname()[1]

    def __exit__(self, *exc):
        self.ending = True
        self.connect()
        self.thread.join()
        self.listener.close()


def rounds(*costs, **more):
    return [{"requests": 10, "rate": 10.0 * cost, "p50": cost, "p99": cost, "p999": None,
             "cpu_us": cost, "user_share": 0.5, "waited_share": 0.0, "peak_kib": int(cost),
             **{key: values[n] for key, values in more.items()}}
            for n, cost in enumerate(costs)]


def test_ratios_are_those_of_the_same_round(bench):
    all_rounds = {
        "fastfork": rounds(10.0, 10.0, 5.0), "limit": rounds(5.0, 10.0, 20.0),
        "bjoern": rounds(10.0, 30.0, 20.0),
        "app-alone": [{"requests": 1, "cpu_us": cost} for cost in (1.0, 2.0, 12.0)]}
    row = bench.run.summary(bench.works.TABLE["hello"], "bjoern", all_rounds)
    assert row["cpu_us"] == 20 and row["rate"] == 200 and row["p999"] is None
    assert row["spread"] == 2 and row["peak_kib"] == 30
    assert row["ratio"] == {"fastfork": 3, "limit": 2}
    assert row["overhead_us"] == 9
    assert "bytes" not in row
    # The limit does not call the application.
    assert "overhead_us" not in bench.run.summary(
        bench.works.TABLE["hello"], "limit", all_rounds)


def test_the_application_alone_has_cpu_time_only(bench):
    alone = [{"requests": 1, "cpu_us": cost} for cost in (2.0, 4.0, 3.0)]
    row = bench.run.summary(bench.works.TABLE["falcon"], "app-alone", {"app-alone": alone})
    assert row["cpu_us"] == 3 and row["rate"] is None and row["peak_kib"] is None
    assert "overhead_us" not in row and row["ratio"] == {}


def test_the_log_is_beside_itself_switched_off(bench):
    mine = rounds(20.0, 30.0, 20.0, off_cpu_us=[10.0, 10.0, 16.0])
    row = bench.run.summary(bench.works.TABLE["log"], "fastfork", {"fastfork": mine})
    assert row["ratio"] == {"fastfork": 1, "off": 2}


@pytest.fixture
def open_loop(bench, monkeypatch):
    """`open_loop(name, openload)`: a contender in the open loop, and who was asked how often."""
    asked = []

    class Server:
        version = "1"

        def __init__(self, name, log=None):
            self.name = name

        def close(self):
            pass

        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda self, *exc: None  # noqa: E731

    def make(name, openload):
        def ask(running, server, seconds):
            asked.append((server.name, running.rate))
            return {"late": 0.1} | openload(server.name)

        monkeypatch.setattr(bench.run.Running, "_openload", ask)
        monkeypatch.setattr(bench.run, "counted", lambda server, load: load())
        running = bench.run.Running(name, SimpleNamespace(
            work=bench.works.TABLE["latency"], start=Server))
        running.rate = 700
        return running, asked

    return make


def test_fastfork_is_asked_as_often_as_the_other(open_loop):
    running, asked = open_loop("bjoern", lambda name: {"p99": 2.0 if name == "bjoern" else 1.0})
    figures = running.round(1)
    assert figures["p99"] == 2.0 and figures["beside"]["p99"] == 1.0
    assert asked == [("bjoern", 700), ("fastfork", 700)]


def test_fastfork_has_nobody_beside_it(open_loop):
    running, asked = open_loop("fastfork", lambda name: {"p99": 1.0})
    assert "beside" not in running.round(1) and asked == [("fastfork", 700)]


def test_where_fastfork_fails_the_other_has_its_figures(bench, open_loop):
    def openload(name):
        if name == "fastfork":
            raise RuntimeError("openload: 3 errors")
        return {"p99": 2.0}

    running, _ = open_loop("bjoern", openload)
    figures = running.round(1)
    assert figures["p99"] == 2.0 and figures["beside"] == {"error": "openload: 3 errors"}
    mine = rounds(1.0, 2.0, beside=[{"cpu_us": 1.0, "p99": 1.0}, figures["beside"]])
    row = bench.run.summary(bench.works.TABLE["latency"], "bjoern", {
        "bjoern": mine, "fastfork": rounds(2.0, 4.0)})
    assert row["p99"] == 1.5 and row["beside"] == {"error": "openload: 3 errors"}
    assert row["ratio"] == {"fastfork": 0.5}


def test_the_figures_beside_are_medians(bench):
    mine = rounds(1.0, 2.0, 3.0, beside=[
        {"cpu_us": n, "p50": n, "p99": 10 * n, "p999": 100 * n} for n in (4.0, 1.0, 2.0)])
    row = bench.run.summary(bench.works.TABLE["latency"], "bjoern", {
        "bjoern": mine, "fastfork": rounds(9.0, 9.0, 9.0)})
    assert row["beside"] == {"cpu_us": 2, "p50": 2, "p99": 20, "p999": 200}
    assert row["ratio"] == {"fastfork": 1.5}


class Fake:
    """A contender that fails at what its name says; `closed` has those that were ended."""

    version = "1"
    closed, order = [], []

    def __init__(self, name, stand):
        if name == "absent":
            raise Fake.absent("has no access log")
        self.name = name

    def prepare(self):
        assert self.name != "broken"
        if self.name == "wrong":
            raise ValueError("another body")

    def round(self, seconds):
        Fake.order.append(self.name)
        if self.name == "failing" and Fake.order.count("failing") == 2:
            raise RuntimeError("wrk: errors: 1 read")
        if self.name == "broken":
            raise KeyboardInterrupt
        return {"requests": 1, "cpu_us": 1.0}

    def verify(self):
        if self.name == "forgetful":
            raise RuntimeError("1 lines in the access log after 9 requests")

    def close(self):
        Fake.closed.append(self.name)


@pytest.fixture
def fake(bench, monkeypatch):
    monkeypatch.setattr(bench.run, "Running", Fake)
    monkeypatch.setattr(Fake, "absent", bench.run.servers.Absent, raising=False)
    monkeypatch.setattr(Fake, "closed", [])
    monkeypatch.setattr(Fake, "order", [])
    return Fake


def taken(bench, *names):
    return bench.run.take(bench.works.TABLE["hello"], names,
                          SimpleNamespace(rounds=3, seconds=1), [0, 1])


def test_an_error_makes_a_row_invalid_and_the_others_go_on(bench, fake):
    rows = taken(bench, "good", "wrong", "failing", "absent", "forgetful")
    assert fake.order == ["good", "failing", "forgetful"] * 2 + ["good", "forgetful"]
    assert {row["name"]: row.get("error") for row in rows} == {
        "good": None, "wrong": "invalid: ValueError: another body",
        "failing": "invalid: RuntimeError: wrk: errors: 1 read",
        "absent": "absent: has no access log",
        "forgetful": "invalid: RuntimeError: 1 lines in the access log after 9 requests"}
    assert all(row["work"] == "hello" and row["workers"] == 1 for row in rows)
    assert [row for row in rows if "cpu_us" in row] == [row for row in rows if "error" not in row]
    assert sorted(fake.closed) == ["failing", "forgetful", "good", "wrong"]


def test_an_interrupted_run_ends_everything(bench, fake, monkeypatch):
    monkeypatch.setattr(fake, "prepare", lambda self: None)
    with pytest.raises(KeyboardInterrupt):
        taken(bench, "good", "broken")
    assert sorted(fake.closed) == ["broken", "good"]


def test_a_disturbed_round_is_taken_again(bench, fake, monkeypatch):
    """By what wrk itself has used: in the second round of one, and in two in a row of another."""
    loads = {"calm": [10, 11, 10], "once": [10, 12, 10, 10.5], "often": [12, 10, 12, 12, 10, 13]}
    asked = []

    def one_round(self, seconds):
        asked.append(self.name)
        load = loads[self.name].pop(0)
        return {"requests": 1, "cpu_us": load / 2, "load_us": load}

    monkeypatch.setattr(fake, "round", one_round)
    rows = taken(bench, "calm", "once", "often")
    assert asked[9:] == ["often", "once", "often", "often"]
    assert not any(loads.values())
    assert [[r["load_us"] for r in row["rounds"]] for row in rows] == [
        [10, 11, 10], [10, 10.5, 10], [13, 10, 10]]
    assert [row["disturbed"] for row in rows] == [0, 0, 1]
    assert bench.run.disturbed_told(rows) == "Rounds that remained disturbed: often 1."
    assert bench.run.disturbed_told(rows[:1]) == ""


@pytest.mark.parametrize("work", ["generated-1m", "upload-10m"])
def test_bodies_are_no_measure_of_disturbance(bench, work):
    loads = [{"load_us": 1.0}, {"load_us": 2.0}]
    assert bench.run.disturbed_rounds(bench.works.TABLE["hello"], loads) == {1}
    assert bench.run.disturbed_rounds(bench.works.TABLE[work], loads) == set()


@pytest.mark.parametrize(("lines", "enough"), [
    (900, False), (1100, True), (2000, True), (2074, True), (2075, False)])
def test_the_access_log_has_a_line_for_every_request(bench, tmp_path, lines, enough):
    """2,000 requests in a run of wrk; lines of 66 bytes, so that 992 may have been kept back."""
    log = tmp_path / "log"
    log.write_bytes((b"GET / " + b"x" * 59 + b"\n") * lines + b"goodbye\n" * 2000)
    running = SimpleNamespace(log=log, requests=2000, runs=1,
                              stand=SimpleNamespace(work=bench.works.TABLE["log"]))
    if enough:
        bench.run.Running.verify(running)
    else:
        with pytest.raises(RuntimeError, match=f"{lines} lines"):
            bench.run.Running.verify(running)


def test_works_name_contenders_that_there_are(bench):
    known = {*bench.run.servers.TABLE, bench.run.ALONE}
    for work in bench.works.TABLE.values():
        assert set(work.names()) <= known
        assert work.app.partition(":")[0].startswith("sites.")


def test_a_plan_of_some(bench):
    options = SimpleNamespace(work="latency,hello", only="limit,fastfork,app-alone")
    assert bench.run.plan(options) == {
        "latency": ["fastfork"], "hello": ["fastfork", "limit", "app-alone"]}


def test_an_update_replaces_a_works_results(bench, tmp_path, monkeypatch):
    file = tmp_path / "run.json"
    monkeypatch.setattr(bench.wrk, "version", lambda: "4.1.0")
    monkeypatch.setattr(bench.run.servers, "PYTHON", sys.executable)
    monkeypatch.setattr(bench.run, "described", lambda name, work: {"version": work.name})
    hello, log = bench.works.TABLE["hello"], bench.works.TABLE["log"]

    def run(rate, *works, update):
        options = SimpleNamespace(json=None if update else file, update=file if update else None,
                                  rounds=1, seconds=1)
        results = bench.run.Results(options, {work.name: ["fastfork"] for work in works})
        for work in works:
            results.add(work, [{"work": work.name, "name": "fastfork", "rate": rate}])
            assert json.loads(file.read_text())["complete"] is False
        results.finish()
        return json.loads(file.read_text())

    first = run(1, hello, log, update=False)
    assert first["complete"] and first["contenders"] == {"fastfork": {"version": "hello"}}
    second = run(2, log, update=True)
    assert [(row["work"], row["rate"]) for row in second["results"]] == [("hello", 1), ("log", 2)]
    assert set(second["works"]) == {"hello", "log"}
    assert second["machine"] == first["machine"]
    assert [name for name, work in second["works"].items() if "taken" in work] == ["log"]


def may_unshare():
    command = ["unshare", "--net", "true"]
    return (shutil.which("unshare") is not None
            and subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0)


def congestions():
    """Reno, which everybody may use, and one that the host keeps to itself, if there is any."""
    there, allowed = (Path(f"/proc/sys/net/ipv4/tcp_{name}_congestion_control").read_text().split()
                      for name in ("available", "allowed"))
    return ["reno", *[one for one in there if one not in allowed][:1]]


@pytest.mark.parametrize("usual", congestions())
def test_a_network_of_its_own(bench, usual):
    """Whoever may have one has TCP as it is usual there; others stay where they are."""
    code = ("import os, socket, network\n"
            f"network.USUAL = {usual!r}\n"
            "before = os.stat('/proc/self/ns/net').st_ino\n"
            "network.own()\n"
            "moved = os.stat('/proc/self/ns/net').st_ino != before\n"
            "listener = socket.create_server(('127.0.0.1', 0))\n"
            "socket.create_connection(listener.getsockname(), 5).close()\n"
            "print(moved, network.congestion())\n")
    before, allowed = bench.network.congestion(), bench.network.ALLOWED.read_text()
    done = subprocess.run([sys.executable, "-c", code], cwd=BENCH, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if before != usual and may_unshare():
        assert done.stdout == f"True {usual}\n"
    else:
        assert done.stdout == f"False {before}\n"
    assert bench.network.congestion() == before and bench.network.ALLOWED.read_text() == allowed
