import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fastfork import client, protocol
from fastfork.client import NoAnswer, NoServer, Refused, Server
from fastfork.control import Control

ROOT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def says(path, *answers):
    """Somebody at the socket `path` who says that, one for each connection but the first, and
    hangs up."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve():
            listener.accept()[0].close()
            for answer in answers:
                sock, _ = listener.accept()
                sock.recv(1000)
                sock.sendall(answer)
                sock.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield path
        thread.join()


OTHER = """
import os, socket, sys
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(sys.argv[1])
    listener.listen()
    print("listening", flush=True)
    while True:
        with listener.accept()[0] as sock:
            if sock.recv(1000) == b'{"command": "stop"}\\n':
                sys.exit()
"""


@pytest.fixture
def other(tmp_path):
    """A server in another process, which ends when it is told to stop, without an answer."""
    path = tmp_path / "other"
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, str(path)], stdout=subprocess.PIPE) as process:  # fmt: skip
        assert process.stdout.readline() == b"listening\n"
        process.path = path
        yield process
        process.kill()


def test_ask(served, tmp_path):
    path = served(tmp_path / "s", lambda request: {"long": "x" * (1 << 20), "asked": request})
    with Server(path) as server:
        assert server.pid == os.getpid()
        assert server.name == f"server with the pid {os.getpid()}"
        for _ in range(2):
            answer = server.ask("status", service="a")
            assert answer["asked"] == {"command": "status", "service": "a"}
            assert len(answer["long"]) == 1 << 20


def test_a_refusal(served, tmp_path):
    def refuse(request):
        raise protocol.ControlError("there is no service 'a'")

    path = served(tmp_path / "s", refuse)
    with Server(path) as server:
        with pytest.raises(Refused, match=r"^there is no service 'a'$"):
            server.ask("stop", service="a")
        with pytest.raises(Refused, match=r"^there is no command 'reboot'$"):
            server.ask("reboot")


def test_nobody_is_there(tmp_path):
    with pytest.raises(NoServer):
        Server(tmp_path / "absent")
    dead = Control(tmp_path / "dead", lambda request: {})
    dead._listener.socket.close()
    with pytest.raises(NoServer):
        Server(dead.path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("file/x", "Not a directory"), ("x" * 200, "AF_UNIX path too long")])  # fmt: skip
def test_a_path_that_cannot_be_used(tmp_path, name, reason):
    (tmp_path / "file").write_text("")
    with pytest.raises(NoAnswer, match=f"^{reason}$"):
        Server(tmp_path / name)


@pytest.mark.parametrize(
    ("said", "reason"),
    [(b"HTTP/1.1 400\n", "what it said is no JSON"), (b"\xff\n", "what it said is no JSON"),
     (b"[" * 5000 + b"\n", "what it said is no JSON"), (b"[]\n", "it speaks another language"),
     (b"", "it ended the connection"), (b'{"a": ', "it ended the connection")])  # fmt: skip
def test_who_speaks_otherwise(tmp_path, monkeypatch, said, reason):
    monkeypatch.setattr(client, "_LAST_BREATH", 0.0)
    with (
        says(tmp_path / "s", said) as path,
        Server(path) as server,
        pytest.raises(NoAnswer, match=f"^{reason}$"),
    ):
        server.ask("status")


def test_who_takes_too_long(tmp_path):
    control = Control(tmp_path / "s", lambda request: {})  # which nobody looks after
    with Server(control.path, 0.01) as server:
        with pytest.raises(NoAnswer, match=r"^it takes too long$"):
            server.ask("status")
        assert not server.gone()
    control.close()


def test_a_queue_that_is_full(tmp_path):
    """Who comes waits for a place in it, and not for ever."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as clients:
        listener.bind(str(path))
        listener.listen(0)
        clients.enter_context(Server(path, 0.05))  # whose connection takes the only place
        with pytest.raises(NoAnswer, match=r"^it takes too long$"):
            Server(path, 0.05)
        entered = threading.Event()
        threads = [threading.Thread(target=lambda: (Server(path).close(), entered.set()))]
        threads[0].start()
        listener.accept()[0].close()
        threads[0].join()
        assert entered.is_set()


def test_one_that_ends(other):
    with Server(other.path) as server:
        assert server.pid == other.pid
        assert not server.gone()
        with pytest.raises(NoServer):
            server.ask("stop")
        other.wait()
        assert server.gone()


def test_one_that_has_been_killed_but_not_waited_for(other):
    with Server(other.path) as server:
        os.kill(other.pid, signal.SIGKILL)
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        assert server.gone()
        with pytest.raises(NoServer):
            server.ask("status")


def test_another_one_at_the_same_path(other, served):
    with Server(other.path) as server:
        other.path.unlink()
        served(other.path, lambda request: {})
        with pytest.raises(NoServer):
            server.ask("status")
        assert not server.gone()  # it only listens elsewhere


@pytest.fixture
def unknown(monkeypatch):
    """Servers are in another pid namespace, as far as we know."""
    monkeypatch.setattr(client, "peer", lambda sock: (0, 0))


def test_one_in_another_namespace(unknown, other):
    with Server(other.path) as server:
        assert server.name == f"server at {other.path}"
        assert not server.gone()
        with pytest.raises((NoServer, NoAnswer)):
            server.ask("stop")
        other.wait()
        assert server.gone()
