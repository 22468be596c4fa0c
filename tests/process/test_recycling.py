"""Workers are replaced for their requests, their age, their memory; the service never notices."""

import contextlib
import os
import re
import signal
import subprocess

import pytest
from harness import alive, wait_for
from load import Load
from seen import holder, ready


@pytest.fixture
def control(tmp_path):
    return tmp_path / "control"


def test_max_requests_under_load(start, control):
    """Again and again, and never fewer READY workers than wanted; connections go on."""
    server = start("small_apps:pid", "--max-requests", "500", "--max-requests-jitter", "100",
                   "--control", str(control), workers=3)
    first = server.workers()
    seen = []
    with Load(server.address, clients=16) as load:
        wait_for(lambda: seen.append(ready(control)) or server.stderr.count("(max_requests)") >= 8,
                 message=lambda: server.stderr)
    assert load.failures == [] and load.told_to_close == 0
    assert len(seen) > 10 and min(seen) >= 3
    assert max(seen) <= 4
    wait_for(lambda: ready(control) == 3 and not set(first) & set(server.workers()))


@pytest.mark.parametrize("unavailable", [1, 2])
def test_no_more_at_a_time_than_may_be_unavailable(start, control, unavailable):
    server = start("small_apps:pid", "--max-requests", "300", "--control", str(control),
                   "--max-unavailable", str(unavailable), workers=4)
    seen = []
    with Load(server.address, clients=16) as load:
        wait_for(lambda: seen.append(ready(control)) or server.stderr.count("(max_requests)") >= 8,
                 message=lambda: server.stderr)
    assert load.failures == []
    assert min(seen) >= 4 - unavailable


def test_the_log_says_why(start):
    server = start("small_apps:pid", "--max-requests", "5")
    (old,) = server.workers()
    for _ in range(5):
        assert int(server.get("/").body) == old
    server.wait_stderr(f"Worker {old} of small_apps:pid is replaced: ")
    assert re.search(r"is replaced: \d+ requests \(max_requests\)\.", server.stderr)
    wait_for(lambda: not alive(old))
    (new,) = server.workers()
    assert int(server.get("/").body) == new


def test_jitter_is_different_for_each_worker(start):
    server = start("small_apps:pid", "--max-requests", "1", "--max-requests-jitter", "1000")
    with Load(server.address, clients=1) as load:
        wait_for(lambda: len(re.findall(r"is replaced: (\d+) requests", server.stderr)) >= 3)
    counts = set(re.findall(r"is replaced: (\d+) requests", server.stderr))
    assert load.failures == [] and len(counts) > 1


def test_a_request_in_hand_is_finished(start, gate):
    server = start("small_apps:wait", "--max-lifetime", "500ms", workers=2)
    with server.connect() as client:
        client.send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        old = holder(server, gate)
        server.wait_stderr(f"Worker {old} of small_apps:wait is replaced: ")
        wait_for(lambda: len(server.workers()) == 3)
        gate.open()
        response = client.read_response()
        assert int(response.body) == old and response.header("Connection") is None
        wait_for(lambda: not alive(old))
        assert client.get("/").status == 200  # the connection has gone to another


def test_max_lifetime(start):
    server = start("small_apps:pid", "--max-lifetime", "1s", workers=2)
    old = server.workers()
    with Load(server.address, clients=4) as load:
        wait_for(lambda: not set(old) & set(server.workers()), message=lambda: server.stderr)
    assert load.failures == [] and load.told_to_close == 0
    assert server.stderr.count("(max_lifetime).") >= 2


HOG = """
from small_apps import pid
kept = []
def app(environ, start_response):
    if environ["PATH_INFO"] == "/grow":
        kept.append(bytes(1) * (int(environ["QUERY_STRING"]) << 20))
    return pid(environ, start_response)
"""


@contextlib.contextmanager
def unseen(server):
    """The master does not look: one that is still growing is beyond the limit before it is beyond
    twice the limit."""
    server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal(signal.SIGCONT)


@pytest.mark.parametrize("measure", ["pss", "rss"])
def test_a_memory_hog_is_replaced(web, measure):
    server = web(HOG, "--max-memory", "200MiB", "--memory-measure", measure, workers=2)
    hog = int(server.get("/grow?250").body)
    server.wait_stderr(f"Worker {hog} of web:app is replaced: ")
    assert re.search(r"is replaced: it uses \d+ MiB \(max_memory\)\.", server.stderr)
    wait_for(lambda: hog not in server.workers() and len(server.workers()) == 2)
    assert "is killed" not in server.stderr


def test_one_beyond_twice_the_limit_is_killed(web):
    server = web(HOG, "--max-memory", "100MiB", workers=2)
    with unseen(server):
        hog = int(server.get("/grow?300").body)
    server.wait_stderr(f"Worker {hog} of web:app is killed: it uses ")
    assert "more than twice max_memory (100 MiB)." in server.stderr
    assert "lack of memory" not in server.stderr and "from outside" not in server.stderr
    wait_for(lambda: hog not in server.workers() and len(server.workers()) == 2)


def test_a_hog_that_is_busy_all_the_time_is_killed_too(web, gate):
    server = web(HOG.replace("return pid", "open(environ['HTTP_GATE']).read()\n    return pid"),
                 "--max-memory", "100MiB")
    (hog,) = server.workers()
    with server.connect() as client:
        with unseen(server):
            client.send(
                f"GET /grow?300 HTTP/1.1\r\nHost: x\r\nGate: {gate.path}\r\n\r\n".encode())
            gate.reached()
        assert client.at_eof()
    server.wait_stderr(f"Worker {hog} of web:app is killed: it uses ")
    server.wait_stderr("web.py")  # where it was


def test_a_worker_at_its_limit_stays_until_its_replacement_boots(web, tmp_path):
    """Code that does not boot any more: better an old worker than none."""
    server = web("""
import os
if os.path.exists("broken"):
    raise RuntimeError("the database is away")
from small_apps import pid as app
""", "--max-requests", "3", "--preload", "off")
    (old,) = server.workers()
    (tmp_path / "broken").touch()
    for _ in range(3):
        assert int(server.get("/").body) == old
    server.wait_stderr("the database is away. Next try in 0.5 s.")
    for _ in range(20):
        assert int(server.get("/").body) == old
    (tmp_path / "broken").unlink()
    wait_for(lambda: not alive(old), message=lambda: server.stderr)
    assert int(server.get("/").body) in server.workers()


def test_exclusive_workers_are_recycled_one_after_the_other(web):
    server = web("""
import fcntl
from small_apps import pid as app
from fastfork import hooks
state = open("state", "w")
@hooks.on_worker_start
def lock(worker):
    global state
    state = open("state", "w")
    fcntl.flock(state, fcntl.LOCK_EX | fcntl.LOCK_NB)
""", "--exclusive", "--max-requests", "50")
    with Load(server.address, clients=2) as load:
        wait_for(lambda: server.stderr.count("(max_requests)") >= 3, message=lambda: server.stderr)
    assert load.failures == [] and load.told_to_close == 0
    assert "BlockingIOError" not in server.stderr


# -- killed by the kernel ----------------------------------------------------------------
@pytest.fixture
def groups(tmp_path):
    """A directory that takes the place of /sys/fs/cgroup in a mount namespace of the server's
    own, so that a test can count a kill without there being one.  Returns the files that count,
    in the server's own group."""
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no namespace for mounts: {done.stderr.strip()}")
    root, files = tmp_path / "groups", []
    with open("/proc/self/cgroup") as membership:
        for line in membership:
            number, controllers, path = line.rstrip("\n").split(":", 2)
            if number == "0":
                files.append(root / path.lstrip("/") / "memory.events")
            elif "memory" in controllers.split(","):
                files.append(root / controllers / path.lstrip("/") / "memory.oom_control")
    root.mkdir()
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("oom_kill 0\n")
    return root, files


def test_a_worker_killed_by_the_kernel_for_lack_of_memory(start, groups):
    """As told by the group: its count has risen.  (The kill itself is ours.)"""
    root, files = groups
    server = start("small_apps:pid", launcher=[
        "unshare", "--mount", "sh", "-c", f"mount --bind {root} /sys/fs/cgroup && exec \"$@\"",
        "sh"], workers=2)
    workers = server.workers()
    for file in files:
        file.write_text("oom_kill 1\n")
    os.kill(workers[0], signal.SIGKILL)
    server.wait_stderr(f"Worker {workers[0]} of small_apps:pid was killed by the kernel for lack "
                       "of memory; it is replaced at once.")
    os.kill(workers[1], signal.SIGKILL)
    server.wait_stderr(f"Worker {workers[1]} ")
    wait_for(lambda: len(server.workers()) == 2)


def test_a_worker_killed_by_somebody_is_not_said_to_be_out_of_memory(start, gate):
    server = start("small_apps:wait", workers=2)
    with server.connect() as client:
        client.send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\nX-Request-ID: abc\r\n\r\n".encode())
        gate.reached()
        busy = holder(server, gate)
        os.kill(busy, signal.SIGKILL)
        assert client.at_eof()
    server.wait_stderr(f"Worker {busy} of small_apps:wait was killed by SIGKILL from outside in "
                       f"GET /?{gate.path}, ")
    assert "s old, request abc; it is replaced at once." in server.stderr
    assert "memory" not in server.stderr


def test_a_crash_names_its_request(web, gate):
    server = web("""
import os, signal
from small_apps import wait
def app(environ, start_response):
    wait(environ, start_response)
    os.kill(os.getpid(), signal.SIGSEGV)
""")
    (old,) = server.workers()
    with server.connect() as client:
        client.send(f"PUT /x?{gate.path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        gate.reached()
        gate.open()
        assert client.at_eof()
    server.wait_stderr(f"Worker {old} of web:app was killed by SIGSEGV in PUT /x?{gate.path}, ")
    assert re.search(rf"request {old}-\d+; it is replaced at once\.", server.stderr)
