"""Applications that do what they like with their process: the master and the mold go on."""

import os
import signal

import pytest
from harness import alive, children, wait_for
from seen import service

PID = "from small_apps import pid as app\n"


@pytest.mark.parametrize("preload", ["auto", "off"])
def test_a_name_that_is_cut_in_the_middle_of_a_character(web, gate, preload):
    """The kernel cuts names at 15 bytes.  The master looks at a worker that is busy for long."""
    name = f"ctypes.CDLL(None).prctl(15, {'приложение'.encode()!r}, 0, 0, 0)\n"
    server = web("import ctypes\n" + name + f"""
from small_apps import wait
def app(environ, start_response):
    {name}
    return wait(environ, start_response)
""", "--preload", preload, "--liveness-timeout", "1s")  # fmt: skip
    (worker,) = [p for p in children(server.pid) if p in server.ready["workers"]]
    with server.connect() as client:
        client.send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        os.kill(worker, signal.SIGSTOP)
        server.wait_stderr("it has been stopped by a signal")
    wait_for(lambda: not alive(worker))
    assert server.get("/").status == 200
    assert server.stop() == 0


CHILDREN = """
import os, signal
def reap(number, frame):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
signal.signal(signal.SIGCHLD, {})
"""


@pytest.mark.parametrize("handler", ["signal.SIG_IGN", "reap"])
def test_one_that_buries_all_children_itself(web, handler):
    server = web(CHILDREN.format(handler) + PID, "--preload", "on", workers=3)
    (mold,) = server.molds()
    victim = server.workers()[0]
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: not alive(victim) and len(server.workers()) == 3)
    assert server.molds() == [mold]
    assert "Traceback" not in server.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_handlers_of_the_application_do_not_end_the_mold_as_a_worker_ends(web, tmp_path, number):
    """Whatever becomes of the mold, `atexit` is for workers."""
    server = web(f"""
import atexit, os, signal, sys
atexit.register(lambda: open("left", "a").write(f"{{os.getpid()}}\\n"))
signal.signal({int(number)}, lambda number, frame: sys.exit(0))
""" + PID)  # fmt: skip
    (mold,) = server.molds()
    (worker,) = server.workers()
    os.kill(mold, number)
    if number == signal.SIGINT:  # Ctrl-C reaches the whole group
        os.kill(worker, signal.SIGTERM)
        wait_for(lambda: server.workers() not in ([], [worker]))
        assert server.molds() == [mold]
    server.signal(signal.SIGHUP)
    server.wait_stderr("is reloaded: ")
    wait_for(lambda: not alive(mold) and not alive(worker))
    assert server.stop() == 0
    if number != signal.SIGHUP:
        assert "Traceback" not in server.stderr
    left = (tmp_path / "left").read_text().split()
    assert str(worker) in left and str(mold) not in left


SAYS = """
import os, socket
from small_apps import pid
said = {!r}
def app(environ, start_response):
    if environ["PATH_INFO"] == "/say":
        for fd in range(3, 60):
            try:
                one = socket.socket(fileno=os.dup(fd))
            except OSError:
                continue
            if one.family == socket.AF_UNIX and one.type == socket.SOCK_SEQPACKET:
                for _ in range({}):
                    socket.send_fds(one, [said], [0])
            one.close()
    return pid(environ, start_response)
"""

READY = b'{"ready": true, "sentence": "", "trace": "", "remains": []}'


@pytest.mark.parametrize("preload", ["auto", "off"])
@pytest.mark.parametrize(
    "said",
    [b"hello", b"\xff", b"{}", b"[]", b"1", b"[" * 20000, b'{"hello": "x"}', b'{"hello": -1}',
     b'{"hello": 1}', b'{"ready": false, "sentence": 3, "trace": 4, "remains": 1}', READY],
    ids=lambda said: repr(said[:14]))  # fmt: skip
def test_one_that_writes_to_the_channel_to_the_master(web, said, preload):
    """It loses its worker, for who knows what else it has written to, and nothing else happens."""
    server = web(SAYS.format(said, 1), "--preload", preload, workers=2)
    before = len(os.listdir(f"/proc/{server.pid}/fd"))
    everybody = server.workers()
    with server.connect() as client:
        client.send(b"GET /say HTTP/1.1\r\nHost: x\r\n\r\n")
        server.wait_stderr("is killed: ")
    wait_for(lambda: len(set(server.workers()) - set(everybody)) == 1
             and len(server.workers()) == 2, message=lambda: server.stderr)  # fmt: skip
    server.wait_stderr(" is ready.")
    assert "Traceback" not in server.stderr
    wait_for(lambda: len(os.listdir(f"/proc/{server.pid}/fd")) <= before)
    assert server.stop() == 0


def test_a_stopped_mold_is_found_and_replaced(web):
    server = web(PID, "--liveness-timeout", "1s", "--boot-timeout", "1s")
    (mold,) = server.molds()
    (worker,) = server.workers()
    os.kill(mold, signal.SIGSTOP)
    os.kill(worker, signal.SIGKILL)
    server.wait_stderr(f"The mold {mold} of web:app is killed: ")
    server.wait_stderr(" is ready.")
    assert int(server.get("/").body) in server.workers()
    assert not alive(mold)


def test_a_worker_that_is_not_wanted_any_more_when_it_is_forked(web, tmp_path):
    control = tmp_path / "control"
    server = web(PID, "--control", str(control), "--graceful-timeout", "1h", workers=2)
    (mold,) = server.molds()
    victim, other = server.workers()
    os.kill(mold, signal.SIGSTOP)
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: {w["pid"] for w in service(control)["workers"]} == {None, other})
    server.signal(signal.SIGTTOU)
    wait_for(lambda: {w["state"] for w in service(control)["workers"]} == {"ready", "stopping"})
    os.kill(mold, signal.SIGCONT)
    wait_for(lambda: [w["pid"] for w in service(control)["workers"]] == [other])
    wait_for(lambda: server.workers() == [other])


def test_a_mold_that_hangs_in_a_hook(web, tmp_path):
    server = web("""
import os
from fastfork import hooks
@hooks.on_fork.before
def hangs_here(worker):
    while os.path.exists("hang"):
        pass
""" + PID, "--liveness-timeout", "1s", "--boot-timeout", "1s")  # fmt: skip
    (worker,) = server.workers()
    (tmp_path / "hang").write_text("")
    os.kill(worker, signal.SIGKILL)
    server.wait_stderr("in hangs_here\n")  # the stacks of the mold, when it is killed
    (tmp_path / "hang").unlink()
    server.wait_stderr(" is ready.")
    assert int(server.get("/").body) in server.workers()


def test_a_mold_that_is_killed_is_no_failed_boot(web):
    """Not even with an order that it has not carried out."""
    server = web(PID, "--exit-on-boot-error", workers=2)
    (mold,) = server.molds()
    victim, other = server.workers()
    os.kill(mold, signal.SIGSTOP)
    os.kill(victim, signal.SIGKILL)
    server.wait_stderr(f"Worker {victim} of web:app was killed by SIGKILL")
    os.kill(mold, signal.SIGKILL)
    server.wait_stderr(" is ready.")
    assert other in server.workers()
    assert "Next try in" not in server.stderr
    assert server.stop() == 0


def test_only_the_stacks_of_the_kill_are_shown(web, gate):
    """And not what somebody else has asked for before."""
    server = web(f"""
def app(environ, start_response):
    open({str(gate.path)!r}).read()
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass
""", "--request-timeout", "200ms", "--request-grace", "200ms")  # fmt: skip
    (worker,) = server.workers()
    with server.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        gate.reached()
        os.kill(worker, signal.SIGRTMIN + 10)
        gate.open()
        server.wait_stderr(f"Worker {worker} of web:app is killed: ")
        wait_for(lambda: not alive(worker))
    server.wait_stderr(" is ready.")
    assert server.stderr.partition(" is killed: ")[2].count("Current thread ") == 1


DIES = """
import os
from fastfork import hooks
with open("imports", "a") as file:
    file.write("x")
@hooks.on_fork.before
def dies(worker):
    if os.path.exists("die"):
        os._exit(3)
""" + PID


def test_a_mold_that_ends_at_every_order_is_a_failed_start(web, tmp_path):
    (tmp_path / "die").touch()
    server = web(DIES, wait=False)
    assert server.wait() == 2
    assert "ended with exit status 3" in server.stderr


def test_a_mold_that_ends_at_every_order_backs_off(web, tmp_path):
    server = web(DIES, workers=2)
    (tmp_path / "die").touch()
    os.kill(server.workers()[0], signal.SIGKILL)
    server.wait_stderr("Next try in 1.0 s.")
    assert len((tmp_path / "imports").read_text()) < 8
    assert server.get("/").status == 200
    (tmp_path / "die").unlink()
    wait_for(lambda: len(server.workers()) == 2, message=lambda: server.stderr)
