"""What each signal does, and the three promises about how long an end takes."""

import os
import signal
import time

import pytest
from harness import alive, children, name, refused, wait_for
from seen import has_open

NOVA_BOUND = 1.0  # seconds: the requirement itself
ATTEMPTS = 3  # on a machine that is busy with something else


def within_the_bound(attempt):
    """The best of a few attempts counts: what the server needs, not what the machine does."""
    times = []
    for _ in range(ATTEMPTS):
        times.append(attempt())
        if times[-1] < NOVA_BOUND:
            return
    raise AssertionError(f"took {times} s")


# -- within a second ---------------------------------------------------------------------
@pytest.mark.alone
@pytest.mark.parametrize("preload", ["auto", "off"])
def test_a_killed_worker_is_replaced_within_a_second(start, preload):
    server = start("small_apps:pid", "--preload", preload, workers=4)

    def attempt():
        old = server.workers()
        seen = server.stderr.count(" is ready.")
        begin = time.monotonic()
        os.kill(old[0], signal.SIGKILL)
        wait_for(lambda: server.stderr.count(" is ready.") > seen)
        took = time.monotonic() - begin
        assert len(server.workers()) == 4 and old[0] not in server.workers()
        return took

    within_the_bound(attempt)


@pytest.mark.alone
@pytest.mark.parametrize("preload", ["auto", "off"])
def test_sigterm_ends_everything_within_a_second(start, preload):
    def attempt():
        server = start("small_apps:pid", "--preload", preload, workers=4)
        with server.connect() as resting:
            assert resting.get("/").status == 200
            everybody = children(server.pid)
            begin = time.monotonic()
            assert server.stop() == 0
            took = time.monotonic() - begin
        assert len(everybody) >= 4 and not any(alive(pid) for pid in everybody)
        wait_for(lambda: refused(server.address))
        return took

    within_the_bound(attempt)


@pytest.mark.alone
@pytest.mark.parametrize("app", ["asleep", "busy", "busy_in_c", "receiving", "locked", "pid"])
def test_nothing_outlives_a_killed_master_by_a_second(start, gates, app):
    def attempt():
        server = start(f"small_apps:{app}", workers=3)
        everybody = children(server.pid)
        assert len(everybody) == 4  # with the mold
        gate = gates()
        with server.connect() as client:
            client.send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            if app != "pid":
                gate.reached()
                gate.open()
            begin = time.monotonic()
            server.process.kill()
            wait_for(lambda: not any(alive(pid) for pid in everybody))
            took = time.monotonic() - begin
        wait_for(lambda: refused(server.address))
        return took

    within_the_bound(attempt)


# -- stopping (more of it in test_stopping.py) -------------------------------------------
def test_no_new_connections_while_it_stops(start, gate):
    server = start("small_apps:wait", workers=2)
    with server.connect() as client:
        client.send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        server.signal(signal.SIGTERM)
        server.wait_stderr("SIGTERM: stopping")
        wait_for(lambda: len(server.workers()) == 1)  # the idle one has left
        gate.open()
        response = client.read_response()
        assert response.status == 200 and response.header("Connection") == "close"
    assert server.wait() == 0


# -- TTIN, TTOU, WINCH -------------------------------------------------------------------
def test_ttin_and_ttou_change_the_number_of_workers(start):
    server = start("small_apps:pid", workers=2)
    first = server.workers()
    server.signal(signal.SIGTTIN)
    server.wait_stderr("SIGTTIN: small_apps:pid has 3 workers now.")
    wait_for(lambda: len(server.workers()) == 3)
    server.wait_stderr(" is ready.")
    server.signal(signal.SIGTTOU)
    server.wait_stderr("SIGTTOU: small_apps:pid has 2 workers now.")
    wait_for(lambda: server.workers() == first, message=lambda: server.stderr)
    assert int(server.get("/").body) in first


def test_as_many_times_as_the_signal_comes(start):
    server = start("small_apps:pid")
    for count in range(2, 6):
        server.signal(signal.SIGTTIN)
        server.wait_stderr(f"has {count} workers now.")
    wait_for(lambda: len(server.workers()) == 5)


def test_ttou_does_not_cut_a_request_off(start, gates):
    server = start("small_apps:wait", workers=2)
    waiting, clients = [gates(), gates()], []
    try:
        for gate in waiting:
            clients.append(server.connect())
            clients[-1].send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            gate.reached()  # so the next connection is the other worker's
        server.signal(signal.SIGTTOU)
        server.wait_stderr("SIGTTOU: ")
        for gate in waiting:
            gate.open()
        assert len({client.read_response().body for client in clients}) == 2
    finally:
        for client in clients:
            client.close()
    wait_for(lambda: len(server.workers()) == 1)


def test_the_last_worker_is_not_taken_away_by_ttou(start):
    server = start("small_apps:pid")
    server.signal(signal.SIGTTOU)
    server.wait_stderr("SIGTTOU: small_apps:pid has 1 worker now.")
    server.signal(signal.SIGTTIN)
    server.wait_stderr("SIGTTIN: small_apps:pid has 2 workers now.")
    wait_for(lambda: len(server.workers()) == 2)
    assert int(server.get("/").body) in server.workers()


def test_winch_sends_the_workers_away_and_keeps_the_master(start):
    server = start("small_apps:pid", workers=3)
    old = server.workers()
    server.signal(signal.SIGWINCH)
    server.wait_stderr("SIGWINCH: the workers of small_apps:pid leave, the master stays.")
    wait_for(lambda: server.workers() == [])
    assert not any(alive(pid) for pid in old)
    with server.connect() as client:  # the port is still ours: whoever comes waits
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        server.signal(signal.SIGTTIN)
        server.wait_stderr("SIGTTIN: ")
        assert int(client.read_response().body) in server.workers()
    assert server.stop() == 0


def test_ttou_after_winch_starts_nobody(start):
    server = start("small_apps:pid", workers=2)
    server.signal(signal.SIGWINCH)
    wait_for(lambda: not server.workers())
    server.signal(signal.SIGTTOU)
    server.wait_stderr("SIGTTOU: small_apps:pid has 0 workers now.")
    server.signal(signal.SIGTTIN)
    server.wait_stderr("SIGTTIN: small_apps:pid has 1 worker now.")
    wait_for(lambda: len(server.workers()) == 1)


def test_winch_before_the_first_worker_is_ready_announces_nothing(web, gate):
    server = web(f"open({str(gate.path)!r}).read()\nfrom small_apps import pid as app\n",
                 wait=False)  # fmt: skip
    gate.reached()
    server.signal(signal.SIGWINCH)
    server.wait_stderr("SIGWINCH: ")
    gate.open()
    server.signal(signal.SIGTTIN)
    (worker,) = server.wait_ready()["workers"]
    assert int(server.get("/").body) == worker
    assert "0 workers, " not in server.stderr


def test_a_reload_brings_the_workers_back_after_winch(start):
    server = start("small_apps:pid", workers=3)
    server.signal(signal.SIGWINCH)
    wait_for(lambda: server.workers() == [])
    server.signal(signal.SIGHUP)
    wait_for(lambda: len(server.workers()) == 3, message=lambda: server.stderr)
    assert int(server.get("/").body) in server.workers()


def test_a_stop_after_winch(start):
    server = start("small_apps:pid", workers=2)
    server.signal(signal.SIGWINCH)
    wait_for(lambda: server.workers() == [])
    assert server.stop() == 0


# -- USR1 --------------------------------------------------------------------------------
def test_usr1_reopens_the_access_log(start, tmp_path):
    log, rotated = tmp_path / "access.log", tmp_path / "access.log.1"
    server = start("small_apps:pid", "--access-log", str(log), workers=2)
    server.get("/before")
    wait_for(lambda: "/before" in log.read_text())
    log.rename(rotated)
    server.get("/between")
    wait_for(lambda: "/between" in rotated.read_text())
    workers = server.workers()
    server.signal(signal.SIGUSR1)
    server.wait_stderr("SIGUSR1: logs are reopened.")
    wait_for(lambda: all(has_open(pid, log) and not has_open(pid, rotated) for pid in workers))
    server.get("/after")
    wait_for(lambda: "/after" in log.read_text())
    assert "/after" not in rotated.read_text()
    assert server.workers() == workers


def test_usr1_loses_no_line(start, tmp_path):
    log, rotated = tmp_path / "access.log", tmp_path / "access.log.1"
    server = start("small_apps:pid", "--access-log", str(log))
    with server.connect() as client:
        for number in range(600):
            if number == 300:
                log.rename(rotated)
                server.signal(signal.SIGUSR1)
            client.get(f"/{number}")
        wait_for(log.exists)
        client.get("/last")
        wait_for(lambda: "/last " in log.read_text() + rotated.read_text())
    lines = (rotated.read_text() + log.read_text()).splitlines()
    assert [int(line.split('"GET /')[1].split()[0]) for line in lines[:-1]] == list(range(600))


def test_usr1_without_an_access_log(start):
    server = start("small_apps:pid")
    server.signal(signal.SIGUSR1)
    server.wait_stderr("SIGUSR1: logs are reopened.")
    assert server.get("/").status == 200


def test_a_log_that_cannot_be_reopened_stays_the_old_one(start, tmp_path):
    directory = tmp_path / "logs"
    directory.mkdir()
    server = start("small_apps:pid", "--access-log", str(directory / "access.log"))
    directory.rename(tmp_path / "moved")
    server.signal(signal.SIGUSR1)
    server.wait_stderr("Cannot write the access log")
    server.get("/still")
    wait_for(lambda: "/still" in (tmp_path / "moved" / "access.log").read_text())


# -- together ----------------------------------------------------------------------------
def test_signals_at_once_are_all_acted_on(start):
    server = start("small_apps:pid", workers=2)
    for number in (signal.SIGUSR1, signal.SIGTTIN, signal.SIGHUP):
        server.signal(number)
    server.wait_stderr("SIGUSR1: ")
    server.wait_stderr("SIGTTIN: ")
    server.wait_stderr("is reloaded: generation 2, 3 workers.")
    assert int(server.get("/").body) in server.workers()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_stop_in_the_middle_of_a_reload(web, tmp_path, gate, number):
    server = web("""
import os
if os.path.exists("gated"):
    open(open("gated").read()).read()
from small_apps import pid as app
""", workers=2)
    everybody = children(server.pid)
    (tmp_path / "gated").write_text(str(gate.path))
    server.signal(signal.SIGHUP)
    gate.reached()
    everybody += children(server.pid)
    assert server.stop(number) == 0
    assert not any(alive(pid) for pid in everybody)


# -- process 1 ---------------------------------------------------------------------------
UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@pytest.fixture
def may_unshare():
    """Skips where the machine does not let us make a namespace for processes."""
    import shutil
    import subprocess

    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare")
    done = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no namespace for processes: {done.stderr.strip()}")


def test_as_process_1(web, may_unshare):
    """Orphans of the application are buried, and signals act as ever."""
    server = web("""
import os, time
from small_apps import answer
def app(environ, start_response):
    child = os.fork()
    if child == 0:
        grandchild = os.fork()
        if grandchild == 0:
            time.sleep(0.01)
        os._exit(0)
    os.waitpid(child, 0)
    return answer(start_response, str(os.getppid()))
""", workers=2, launcher=UNSHARE)
    (master,) = children(server.pid)
    everybody = children(master)
    assert len(everybody) == 3  # the mold among them
    assert server.ready["pid"] == 1
    for _ in range(5):
        assert server.get("/").body == b"1"
    wait_for(lambda: sorted(_all_children(master)) == sorted(everybody))  # no zombies either
    (victim, *_) = [pid for pid in everybody if name(pid) == "fastfork worker"]
    os.kill(victim, signal.SIGKILL)
    server.wait_stderr(" is ready.")
    os.kill(master, signal.SIGHUP)
    server.wait_stderr("is reloaded: generation 2")
    os.kill(master, signal.SIGTERM)
    assert server.wait() == 0


def _all_children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


@pytest.mark.parametrize("preload", ["on", "off"])
def test_after_winch_a_reload_brings_back_new_code_only(web, tmp_path, preload):
    server = web("import small_apps\nname = 'old'\nfrom small_apps import pid as app\n",
                 "--preload", preload, workers=2)  # fmt: skip
    server.signal(signal.SIGWINCH)
    wait_for(lambda: not server.workers())
    (tmp_path / "web.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n    return [b'new']\n")
    ready = server.stderr.count(" is ready.")
    server.signal(signal.SIGHUP)
    server.wait_stderr("web:app is reloaded: generation 2, 2 workers.")
    assert server.stderr.count(" is ready.") == ready + 2
    assert server.get("/").body == b"new"


def test_winch_during_a_reload_ends_it_with_nobody(web, gate):
    server = web(f"""
import os
if os.path.exists("second"):
    open({str(gate.path)!r}).read()
open("second", "w").close()
from small_apps import pid as app
""")
    server.signal(signal.SIGHUP)
    gate.reached()  # the new mold imports
    server.signal(signal.SIGWINCH)
    server.wait_stderr("SIGWINCH: the workers of web:app leave, the master stays.")
    wait_for(lambda: not server.workers())
    gate.open()
    server.wait_stderr("web:app is reloaded: generation 2, 0 workers.")
    wait_for(lambda: len(server.molds()) == 1)
    server.signal(signal.SIGTTIN)
    wait_for(lambda: len(server.workers()) == 1)
    assert server.get("/").status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_until_the_very_end_change_nothing(start, number):
    server = start("small_apps:pid")
    server.signal(signal.SIGTERM)
    while server.process.poll() is None:
        server.signal(number)
        time.sleep(0.001)  # a queue that is never empty is not what this is about
    assert server.process.returncode == 0, server.stderr
