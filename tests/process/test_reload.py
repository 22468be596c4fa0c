"""SIGHUP: new code, worker by worker, and nobody notices."""

import contextlib
import os
import signal

import pytest
from harness import alive, children, wait_for
from load import Load
from seen import in_common, kinds, kinds_at_rest, ready, service

VERSION = """
import os
from small_apps import answer, part, pid, wait
VERSION = {}
def app(environ, start_response):
    if environ["PATH_INFO"] == "/pid":
        return pid(environ, start_response)
    if environ["PATH_INFO"] == "/part":
        return part(environ, start_response)
    if environ["PATH_INFO"] == "/wait":
        return wait(environ, start_response)
    return answer(start_response, str(VERSION))
"""


def reload(server, generation):
    server.signal(signal.SIGHUP)
    server.wait_stderr(f"is reloaded: generation {generation}, ")


@pytest.mark.parametrize("preload", ["auto", "off"])
def test_new_code_serves_after_a_reload(web, tmp_path, preload):
    server = web(VERSION.format(1), "--preload", preload, workers=3)
    old = [*server.workers(), *server.molds()]
    assert server.get("/").body == b"1"
    (tmp_path / "web.py").write_text(VERSION.format("'two'"))
    reload(server, 2)
    assert "SIGHUP: reloading web:app." in server.stderr
    assert "web:app is reloaded: generation 2, 3 workers." in server.stderr
    wait_for(lambda: not any(alive(pid) for pid in old), message=lambda: server.stderr)
    assert server.get("/").body == b"two"
    assert len(server.workers()) == 3 and len(server.molds()) == (preload == "auto")


@pytest.mark.parametrize("preload", ["auto", "off"])
def test_ten_thousand_requests_across_three_reloads(start, preload):
    """Over keep-alive connections that never rest: not one fails, and none has to be made anew."""
    server = start("small_apps:pid", "--preload", preload, workers=4)
    old = []
    with Load(server.address, clients=32) as load:
        load.wait_answered(1000)
        for generation in (2, 3, 4):
            old += server.workers()
            before = load.answered
            reload(server, generation)
            load.wait_answered(before + 3000)
        load.wait_answered(10_000)
        wait_for(lambda: not set(old) & set(server.workers()), message=lambda: server.stderr)
    assert load.failures == []
    assert load.answered >= 10_000 and load.told_to_close == 0
    assert len(server.workers()) == 4 and not set(old) & set(server.workers())
    assert set(old) & set(load.answers) and set(server.workers()) & set(load.answers)


def test_with_requests_that_take_a_while(web):
    """So that every worker is busy, and others wait, whenever it is told to go."""
    server = web("""
import time
from small_apps import pid
def app(environ, start_response):
    time.sleep(0.005)
    return pid(environ, start_response)
""", workers=4)
    with Load(server.address, clients=32) as load:
        for generation in (2, 3):
            before = load.answered
            reload(server, generation)
            load.wait_answered(before + 200)
    assert load.failures == [] and load.told_to_close == 0


def lingering(web, **kwargs):
    """A server whose old workers stay, if there is anything for which they have to."""
    return web(VERSION.format(1), "--reload-linger", "1h", "--graceful-timeout", "2h", **kwargs)


def test_a_request_in_progress_is_finished_by_the_old_worker(web, gate):
    """And the connection goes on with the new one."""
    server = lingering(web)
    (old,) = server.workers()
    with server.connect() as client:
        client.send(f"GET /wait?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        server.signal(signal.SIGHUP)
        assert int(server.get("/pid").body) != old
        assert alive(old)
        gate.open()
        response = client.read_response()
        assert int(response.body) == old and response.header("Connection") is None
        wait_for(lambda: not alive(old))    # it may not have been told to go when it answered
        response = client.get("/pid")
        assert [int(response.body)] == server.workers()
        assert response.header("Connection") is None
    server.wait_stderr("is reloaded: generation 2, 1 worker.")


def test_a_resting_connection_goes_on_with_the_new_worker(web):
    """However long the old one might linger, it has nothing to stay for."""
    server = lingering(web)
    (old,) = server.workers()
    with server.connect() as client:
        assert int(client.get("/pid").body) == old
        reload(server, 2)
        wait_for(lambda: not alive(old))
        response = client.get("/pid")
        assert [int(response.body)] == server.workers()
        assert response.header("Connection") is None


def test_a_resting_connection_goes_on_where_nobody_lingers(web):
    server = web(VERSION.format(1), "--reload-linger", "0")
    with server.connect() as client:
        for generation in (2, 3, 4):
            (old,) = server.workers()
            assert int(client.get("/pid").body) == old
            reload(server, generation)
            wait_for(lambda old=old: not alive(old))
        assert [int(client.get("/pid").body)] == server.workers()


def test_many_resting_connections_all_go_on(web):
    """And none of them is told anything."""
    server = lingering(web, workers=2)
    old = server.workers()
    clients = [server.connect() for _ in range(50)]
    try:
        for client in clients:
            assert int(client.get("/pid").body) in old
        reload(server, 2)
        wait_for(lambda: not any(alive(pid) for pid in old))
        for client in clients:
            response = client.get("/pid")
            assert response.status == 200 and response.header("Connection") is None
            assert int(response.body) in server.workers()
    finally:
        for client in clients:
            client.close()


# -- without a pair: as long as the old worker has them -----------------------------------
def part_them(server, client):
    """Break the pair by which the workers pass connections to each other, as a new master does
    that does not know it (see test_upgrade.py)."""
    shut = set.intersection(*(in_common(server.pid, pid) for pid in server.workers()))
    assert len(shut) == 3  # with the listener, which is of another kind
    assert client.get(f"/part?{','.join(sorted(shut))}").status == 200


def test_without_a_pair_a_request_in_progress_is_finished_by_the_old_worker(web, gate):
    server = lingering(web)
    (old,) = server.workers()
    with server.connect() as client:
        part_them(server, client)
        client.send(f"GET /wait?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        server.signal(signal.SIGHUP)
        assert int(server.get("/pid").body) != old
        gate.open()
        response = client.read_response()
        assert int(response.body) == old
        while response.header("Connection") is None:  # it was told while the handler ran
            response = client.get("/pid")
            assert int(response.body) == old
        assert client.at_eof()
    wait_for(lambda: not alive(old))
    server.wait_stderr("is reloaded: generation 2, 1 worker.")


def test_without_a_pair_a_resting_connection_is_served_once_more(web):
    """A request may be on its way already: it is answered, with Connection: close."""
    server = lingering(web)
    (old,) = server.workers()
    with server.connect() as client:
        part_them(server, client)
        assert client.get("/pid").header("Connection") is None
        reload(server, 2)  # which is over when the old one has acted on it
        response = client.get("/pid")
        assert int(response.body) == old and response.header("Connection") == "close"
        assert client.at_eof()
    wait_for(lambda: not alive(old))


def test_without_a_pair_it_is_closed_when_the_lingering_period_is_over(web):
    server = web(VERSION.format(1), "--reload-linger", "300ms")
    (old,) = server.workers()
    with server.connect() as client:
        part_them(server, client)
        server.signal(signal.SIGHUP)
        assert client.at_eof()
    wait_for(lambda: not alive(old))


def test_without_a_pair_many_resting_connections_are_all_told_with_an_answer(web):
    server = lingering(web, workers=2)
    old = server.workers()
    clients = [server.connect() for _ in range(50)]
    try:
        part_them(server, clients[0])
        for client in clients:
            client.get("/pid")
        server.signal(signal.SIGHUP)
        resting = clients
        while resting:
            still = []
            for client in resting:
                response = client.get("/pid")
                assert response.status == 200 and int(response.body) in old
                if response.header("Connection") is None:
                    still.append(client)
            resting = still
        server.wait_stderr("is reloaded: generation 2, 2 workers.")
    finally:
        for client in clients:
            client.close()
    wait_for(lambda: not set(old) & set(server.workers()))


# -- the gate ----------------------------------------------------------------------------
@pytest.mark.parametrize("preload", ["auto", "off"])
@pytest.mark.parametrize(
    ("text", "why"),
    [("raise RuntimeError('new and broken')\n", "new and broken"),
     ("raise SystemExit(0)\n", "SystemExit(0)"), ("import os\nos._exit(0)\n", "exit status 0"),
     ("def app(:\n", "SyntaxError"), ("nothing = 1\n", "web")])  # fmt: skip
def test_new_code_that_does_not_boot_leaves_the_old_generation_serving(
    web, tmp_path, preload, text, why
):
    server = web(VERSION.format(1), "--preload", preload, workers=2)
    everybody = sorted(children(server.pid))
    (tmp_path / "web.py").write_text(text)
    with Load(server.address, clients=4, target="/pid") as load:
        server.signal(signal.SIGHUP)
        server.wait_stderr("web:app is not reloaded: ")
        load.wait_answered(load.answered + 100)
    assert load.failures == []
    assert why in server.stderr and " Generation 1 goes on." in server.stderr
    wait_for(lambda: sorted(children(server.pid)) == everybody, message=lambda: server.stderr)
    assert server.get("/").body == b"1"


def test_and_the_next_reload_may_succeed(web, tmp_path):
    server = web(VERSION.format(1), workers=2)
    (tmp_path / "web.py").write_text("raise RuntimeError\n")
    server.signal(signal.SIGHUP)
    server.wait_stderr(" Generation 1 goes on.")
    (tmp_path / "web.py").write_text(VERSION.format("'two'"))
    server.signal(signal.SIGHUP)
    server.wait_stderr("web:app is reloaded: generation ")
    wait_for(lambda: server.get("/").body == b"two")


def test_a_worker_that_dies_after_a_failed_reload_is_replaced_by_its_like(web, tmp_path):
    """Its mold is still there, though the code on disk is broken."""
    server = web(VERSION.format(1), workers=2)
    (tmp_path / "web.py").write_text("raise RuntimeError\n")
    server.signal(signal.SIGHUP)
    server.wait_stderr(" Generation 1 goes on.")
    victim, _ = server.workers()
    os.kill(victim, signal.SIGKILL)
    server.wait_stderr(" is ready.")
    assert len(server.workers()) == 2
    assert server.get("/").body == b"1"


def test_nobody_goes_before_a_new_one_is_ready(web, tmp_path, gate):
    server = web(VERSION.format(1), "--preload", "off", workers=2)
    old = server.workers()
    gated = f"open({str(gate.path)!r}).read()\n" + VERSION.format("'two'")
    (tmp_path / "web.py").write_text(gated)
    server.signal(signal.SIGHUP)
    gate.reached()
    assert set(old) < set(server.workers()) and len(server.workers()) == 3
    assert server.get("/").body == b"1"
    (tmp_path / "web.py").write_text(VERSION.format("'two'"))
    gate.open()
    server.wait_stderr("is reloaded: generation 2")
    wait_for(lambda: server.get("/").body == b"two")


def test_a_second_sighup_during_a_reload(web, tmp_path, gate):
    """The newest code wins."""
    server = web(VERSION.format(1), workers=2)
    gated = f"open({str(gate.path)!r}).read()\n" + VERSION.format("'two'")
    (tmp_path / "web.py").write_text(gated)
    server.signal(signal.SIGHUP)
    gate.reached()
    (tmp_path / "web.py").write_text(VERSION.format("'three'"))
    server.signal(signal.SIGHUP)
    wait_for(lambda: server.stderr.count("SIGHUP: ") == 2)
    gate.open()
    server.wait_stderr("web:app is reloaded: generation 3, 2 workers.")
    assert server.get("/").body == b"three"
    wait_for(lambda: len(server.workers()) == 2 and len(server.molds()) == 1,
             message=lambda: server.stderr)


def test_many_sighups_at_once(web, tmp_path):
    """Each begins anew, whatever the last one was doing; in the end the newest code serves."""
    control = tmp_path / "control"
    server = web(VERSION.format(0), "--control", str(control), workers=3)
    with Load(server.address, clients=8, target="/pid") as load:
        for version in range(1, 16):
            # of another length each: bytecode is taken for up to date by the second and by that
            (tmp_path / "web.py").write_text(VERSION.format(repr("v" * version)))
            server.signal(signal.SIGHUP)
            load.wait_answered(load.answered + 20)
        wait_for(lambda: server.get("/").body == b"v" * 15, message=lambda: server.stderr)
        wait_for(lambda: service(control)["state"] == "serving", message=lambda: server.stderr)
        assert server.get("/").body == b"v" * 15
    assert load.failures == [] and load.told_to_close == 0
    wait_for(lambda: len(server.workers()) == 3 and len(server.molds()) == 1)


def test_molds_that_are_killed_in_the_middle(web):
    server = web(VERSION.format(1), workers=6)
    with Load(server.address, clients=8, target="/pid") as load:
        for _ in range(8):
            server.signal(signal.SIGHUP)
            for _ in range(2):
                for mold in server.molds():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(mold, signal.SIGKILL)
                load.wait_answered(load.answered + 50)
        wait_for(lambda: len(server.workers()) == 6 and len(server.molds()) == 1,
                 message=lambda: server.stderr)
        server.wait_stderr("SIGHUP: ")
        seen = server.stderr.count(" is reloaded: ")
        server.signal(signal.SIGHUP)
        wait_for(lambda: server.stderr.count(" is reloaded: ") > seen,
                 message=lambda: server.stderr)
    assert load.failures == []


THREAD = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"


def test_from_preloaded_code_to_code_that_cannot_be_and_back(web, tmp_path):
    server = web(VERSION.format(1), workers=2)
    with Load(server.address, clients=8, target="/pid") as load:
        (tmp_path / "web.py").write_text(THREAD + VERSION.format("'two'"))
        reload(server, 2)
        assert server.molds() == [] and server.get("/").body == b"two"
        (tmp_path / "web.py").write_text(VERSION.format("'three'"))
        reload(server, 3)
        assert len(server.molds()) == 1 and server.get("/").body == b"three"
    assert load.failures == [] and load.told_to_close == 0


# -- how many at a time ------------------------------------------------------------------
@pytest.mark.parametrize("unavailable", [0, 1])
def test_never_fewer_than_wanted(start, tmp_path, unavailable):
    control = tmp_path / "control"
    server = start("small_apps:pid", "--control", str(control), "--reload-linger", "100ms",
                   "--max-unavailable", str(unavailable), workers=4)
    seen = []
    for generation in (2, 3):
        server.signal(signal.SIGHUP)
        wait_for(lambda g=generation: seen.append(ready(control))
                 or f"is reloaded: generation {g}, " in server.stderr)
    assert len(seen) > 10
    assert min(seen) >= 4 - unavailable and max(seen) <= 5


EXCLUSIVE = """
import fcntl, os
from small_apps import pid as app
state = open("state", "w")
fcntl.flock(state, fcntl.LOCK_EX | fcntl.LOCK_NB)
"""


@pytest.mark.parametrize("preload", ["auto", "off"])
def test_exclusive_never_has_two_generations(web, tmp_path, preload):
    """The application locks a file at its import, for its life, and does not boot without."""
    server = web(EXCLUSIVE, "--exclusive", "--preload", preload, "--reload-linger", "100ms")
    for generation in (2, 3):
        (old,) = server.workers()
        server.signal(signal.SIGHUP)
        wait_for(lambda old=old: not alive(old))
        server.wait_stderr(f"is reloaded: generation {generation}, 1 worker.")
        assert int(server.get("/").body) in server.workers()
    assert "BlockingIOError" not in server.stderr and "Cannot serve" not in server.stderr


def test_exclusive_clients_wait_rather_than_fail(web, tmp_path):
    """Their connections wait in the pair until somebody is there."""
    server = web(EXCLUSIVE, "--exclusive")
    with Load(server.address, clients=4) as load:
        load.wait_answered(100)
        reload(server, 2)
        load.wait_answered(load.answered + 100)
    assert load.failures == [] and load.told_to_close == 0


def test_exclusive_new_clients_wait_too(web, tmp_path, gate):
    """In the queue of the socket."""
    server = web(EXCLUSIVE, "--exclusive", "--preload", "off")
    (old,) = server.workers()
    gated = f"open({str(gate.path)!r}).read()\n" + EXCLUSIVE
    (tmp_path / "web.py").write_text(gated)
    server.signal(signal.SIGHUP)
    gate.reached()
    assert not alive(old)
    with server.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        gate.open()
        assert [int(client.read_response().body)] == server.workers()
    server.wait_stderr("is reloaded: generation 2, 1 worker.")


def test_deaths_during_a_reload_are_replaced_too(web, tmp_path, gate):
    server = web(VERSION.format(1), workers=2)
    gated = f"open({str(gate.path)!r}).read()\n" + VERSION.format("'two'")
    (tmp_path / "web.py").write_text(gated)
    server.signal(signal.SIGHUP)
    gate.reached()
    victim, _ = server.workers()
    os.kill(victim, signal.SIGKILL)
    server.wait_stderr(" is ready.")  # of the old generation: the new one is not there yet
    assert len(server.workers()) == 2 and server.get("/").body == b"1"
    gate.open()
    server.wait_stderr("is reloaded: generation 2, 2 workers.")
    wait_for(lambda: len(server.workers()) == 2)
    wait_for(lambda: server.get("/").body == b"two")


def test_master_is_as_before_after_many_reloads(start):
    """No descriptor and no process is left over."""
    server = start("small_apps:pid", workers=2)
    before = kinds_at_rest(server)
    for generation in range(2, 8):
        reload(server, generation)
    wait_for(lambda: len(children(server.pid)) == 3)
    wait_for(lambda: kinds(server.pid) == before,
             message=lambda: f"{before}\n{kinds(server.pid)}")


# -- found missing by mutation -------------------------------------------------------------
def test_without_a_pair_a_connection_rests_longer_than_at_a_stop(web):
    """Than the moment that a worker has for it at the end of the server, as another one shows."""
    server = lingering(web)
    (old,) = server.workers()
    with server.connect() as client:
        part_them(server, client)
        reload(server, 2)
        other = web(VERSION.format(1))
        with other.connect() as resting:
            resting.get("/pid")
            assert other.stop() == 0
            assert resting.at_eof()
        assert int(client.get("/pid").body) == old


def test_a_reload_is_over_when_the_old_ones_have_acted_on_it(web, tmp_path):
    """One that is stopped takes its connections later."""
    control = tmp_path / "control"
    server = web(VERSION.format(1), "--control", str(control), "--liveness-timeout", "0",
                 "--graceful-timeout", "2h")  # fmt: skip
    (old,) = server.workers()
    os.kill(old, signal.SIGSTOP)
    server.signal(signal.SIGHUP)
    server.wait_stderr(" is ready.")
    wait_for(lambda: [worker["state"] for worker in service(control)["workers"]
                      if worker["pid"] == old] == ["stopping"])  # fmt: skip
    assert service(control)["state"] == "reloading"
    assert "is reloaded" not in server.stderr
    os.kill(old, signal.SIGCONT)
    server.wait_stderr("web:app is reloaded: generation 2, 1 worker.")


HOOK = """
from fastfork import hooks
@hooks.on_worker_start
def refuses(worker):
    raise RuntimeError("not today")
"""


def test_of_a_generation_that_has_not_proved_itself_nothing_stays(web, tmp_path):
    """Its import has succeeded, so it has a mold; its worker does not start."""
    server = web(VERSION.format(1))
    everybody = sorted(children(server.pid))
    (tmp_path / "web.py").write_text(HOOK + VERSION.format(2))
    server.signal(signal.SIGHUP)
    server.wait_stderr("web:app is not reloaded: ")
    wait_for(lambda: sorted(children(server.pid)) == everybody, message=lambda: server.stderr)


def test_the_same_failure_is_shown_again_after_a_success(web, tmp_path):
    server = web(VERSION.format(1))
    for generation in (2, 4):
        (tmp_path / "web.py").write_text("raise RuntimeError('as before')\n")
        server.signal(signal.SIGHUP)
        wait_for(lambda g=generation: server.stderr.count("is not reloaded") == g // 2)
        (tmp_path / "web.py").write_text(VERSION.format("'better'"))
        reload(server, generation + 1)
    assert server.stderr.count("Traceback (most recent call last)") == 2
