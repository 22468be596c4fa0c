"""What applications want done when a worker starts, stops or is forked."""

import os
import signal

import pytest
from harness import wait_for

NOTES = """
import os
from fastfork import hooks
from small_apps import pid as app
def note(what, worker):
    with open("notes", "a") as file:
        file.write(f"{what} {os.getpid()} {worker.pid} {worker.number} {worker.generation}\\n")
"""

DECORATED = NOTES + """
@hooks.on_worker_start
def start(worker):
    note("start", worker)
@hooks.on_worker_stop
def stop(worker):
    note("stop", worker)
@hooks.on_fork.before
def before(worker):
    note("before", worker)
@hooks.on_fork.after
def after(worker):
    note("after", worker)
"""


def notes(directory):
    """what → the rows of numbers behind it."""
    found = {}
    for line in (directory / "notes").read_text().splitlines():
        what, *numbers = line.split()
        found.setdefault(what, []).append([int(n) for n in numbers])
    return found


@pytest.mark.parametrize("named", [False, True])
def test_every_moment(web, tmp_path, named):
    """As decorators in the application's module, and named in the settings."""
    text, flags = DECORATED, []
    if named:
        text = DECORATED.replace("@hooks", "# @hooks")
        flags = ["--on-worker-start", "web:start", "--on-worker-stop", "web:stop",
                 "--on-fork-before", "web:before", "--on-fork-after", "web:after"]
    server = web(text, *flags, workers=2)
    (mold,) = server.molds()
    workers = server.workers()
    found = notes(tmp_path)
    assert sorted(found["start"]) == sorted(found["after"])
    assert {row[0] for row in found["start"]} == {row[1] for row in found["start"]} == set(workers)
    assert {row[2] for row in found["start"]} == {0, 1}
    assert {row[3] for row in found["start"]} == {1}
    assert {row[0] for row in found["before"]} == {mold}
    assert "stop" not in found
    assert server.stop() == 0
    assert sorted(row[0] for row in notes(tmp_path)["stop"]) == sorted(workers)


def test_without_a_mold_nothing_is_forked(web, tmp_path):
    server = web(DECORATED, "--preload", "off", workers=2)
    assert sorted(row[0] for row in notes(tmp_path)["start"]) == sorted(server.workers())
    assert server.stop() == 0
    assert set(notes(tmp_path)) == {"start", "stop"}


def test_a_replacement_has_the_number_of_the_one_it_replaces(web, tmp_path):
    server = web(DECORATED, workers=2)
    victim = server.workers()[1]
    (number,) = [row[2] for row in notes(tmp_path)["start"] if row[0] == victim]
    os.kill(victim, signal.SIGKILL)
    server.wait_stderr(" is ready.")
    (new,) = set(server.workers()) - {row[0] for row in notes(tmp_path)["start"][:2]}
    assert [row[2] for row in notes(tmp_path)["start"] if row[0] == new] == [number]
    assert "stop" not in notes(tmp_path)


def test_the_generation_counts_reloads(web, tmp_path):
    server = web(DECORATED)
    server.signal(signal.SIGHUP)
    server.wait_stderr("is reloaded: generation 2")
    assert [row[3] for row in notes(tmp_path)["start"]] == [1, 2]
    wait_for(lambda: len(notes(tmp_path).get("stop", ())) == 1)


@pytest.mark.parametrize("preload", ["auto", "off"])
def test_a_start_hook_that_fails_is_a_failed_boot(web, preload):
    server = web(NOTES + """
@hooks.on_worker_start
def connect(worker):
    raise RuntimeError("the database is away")
""", "--preload", preload, workers=2, wait=False)
    assert server.wait() == 2
    assert "the database is away" in server.stderr and "connect" in server.stderr


def test_a_stop_hook_that_fails_is_logged(web):
    server = web(NOTES + """
@hooks.on_worker_stop
def disconnect(worker):
    raise RuntimeError("nothing to disconnect")
""")
    assert server.stop() == 0
    assert "nothing to disconnect" in server.stderr


def test_the_stop_hook_comes_after_the_last_request(web, tmp_path, gate):
    server = web(DECORATED.replace("import pid as app", "import wait as app"))
    with server.connect() as client:
        client.send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        server.signal(signal.SIGTERM)
        server.wait_stderr("SIGTERM: stopping")
        assert "stop" not in notes(tmp_path)
        gate.open()
        assert client.read_response().status == 200
    assert server.wait() == 0
    assert len(notes(tmp_path)["stop"]) == 1


def test_a_connection_may_be_made_anew_after_the_fork(web):
    """What the hooks are for: a thread in every worker, though the application is preloaded."""
    server = web("""
import threading
from fastfork import hooks
from small_apps import answer
ran = []
@hooks.on_worker_start
def statistics(worker):
    thread = threading.Thread(target=lambda: ran.append(worker.pid))
    thread.start()
    thread.join()
def app(environ, start_response):
    return answer(start_response, repr(ran))
""", workers=2)
    assert len(server.molds()) == 1
    (pid,) = eval(server.get("/").body)
    assert pid in server.workers()


@pytest.mark.parametrize(
    ("value", "why"), [("web:nothing", "nothing"), ("absent:f", "absent"), ("web", "web")])
def test_a_hook_that_cannot_be_found(web, value, why):
    server = web(NOTES, "--on-worker-start", value, wait=False)
    assert server.wait() == 2
    assert "--on-worker-start" in server.stderr and why in server.stderr


def test_numpy_is_seeded_anew_in_every_worker_that_is_forked(web):
    server = web("""
import os, sys, types
from small_apps import answer
seeded = []
numpy_random = types.ModuleType("numpy.random")
numpy_random.seed = lambda: seeded.append(os.getpid())
sys.modules["numpy.random"] = numpy_random
def app(environ, start_response):
    return answer(start_response, repr(seeded))
""", "--preload", "on")
    assert server.get("/").body.decode() == repr(server.workers())
