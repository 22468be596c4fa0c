"""Every case runs in a process of its own: threads and sockets are left behind on purpose."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import ctypes, json, os, select, socket, sys, threading, _thread
from fastfork import remains
{earlier}
snapshot = remains.before()
{imported}
found = snapshot.found()
sys.stdout.write(json.dumps(found))
sys.stdout.flush()
os._exit(0)  # without waiting for the threads
"""


@pytest.fixture
def found(tmp_path):
    """`found(imported, earlier="")`: what is said of a process that ran both texts."""

    def run(imported, earlier=""):
        program = PROGRAM.format(imported=imported, earlier=earlier)
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True,
            timeout=60, env=dict(os.environ, PYTHONPATH=str(ROOT)))  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def test_nothing(found):
    assert found("import email, decimal") == []


# -- threads -----------------------------------------------------------------------------
def test_a_thread_by_name_and_class(found):
    assert found("""
class Pool(threading.Thread):
    def run(self): select.select([], [], [])
Pool(name="pool-worker-1", daemon=True).start()
threading.Thread(target=select.select, args=([], [], []), name="plain").start()
""") == ["the thread 'pool-worker-1' (Pool, started by the import)",
         "the thread 'plain' (Thread, started by the import)"]  # fmt: skip


def test_a_thread_that_python_does_not_know(found):
    parts = found("""
started = _thread.allocate_lock()
started.acquire()
def run():
    open("/proc/thread-self/comm", "w").write("grpc_event_eng")
    started.release()
    select.select([], [], [])
_thread.start_new_thread(run, ())
started.acquire()
""")
    assert parts == ["a native thread (comm 'grpc_event_eng')"]


def test_native_threads_of_one_name_are_counted(found):
    parts = found("""
for _ in range(3):
    _thread.start_new_thread(select.select, ([], [], []))
""")
    assert len(parts) == 1 and parts[0].startswith("3 native threads (comm 'python")


def test_threads_that_have_been_joined_are_not_left(found):
    assert found("""
for _ in range(200):
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    assert snapshot.found() == []
""") == []


def test_threads_from_before_the_import_are_not_its_doing(found):
    assert found("", earlier="""
threading.Thread(target=select.select, args=([], [], [])).start()
_thread.start_new_thread(select.select, ([], [], []))
assert len(remains._tasks()) == 3
""") == []


# -- sockets -----------------------------------------------------------------------------
def test_a_connection(found, listener):
    port = listener.getsockname()[1]
    (part,) = found(f"left = socket.create_connection(('127.0.0.1', {port}))")
    assert part.startswith(f"a connection to 127.0.0.1:{port} (descriptor ")


def test_a_connection_of_a_driver_in_c(found, listener):
    """libpq has a descriptor and no Python socket; it is not blocking either."""
    port = listener.getsockname()[1]
    (part,) = found(f"""
sock = socket.create_connection(('127.0.0.1', {port}))
sock.setblocking(False)
fd = os.dup2(sock.fileno(), 77)
sock.close()
""")
    assert part == f"a connection to 127.0.0.1:{port} (descriptor 77)"


def test_ipv6(found):
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]
        (part,) = found(f"left = socket.create_connection(('::1', {port}))")
    assert part.startswith(f"a connection to [::1]:{port} (descriptor ")


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
@pytest.mark.parametrize(("name", "shown"), [("database", "database"), ("\0bus", "@bus")])
def test_unix_sockets_by_path(found, tmp_path, kind, name, shown):
    if name.startswith("\0"):
        path, shown = f"{name}-{os.getpid()}", f"{shown}-{os.getpid()}"
    else:
        path = shown = str(tmp_path / name)
    with socket.socket(socket.AF_UNIX, kind) as listener:
        listener.bind(path)
        listener.listen(1)
        (part,) = found(
            f"left = socket.socket(socket.AF_UNIX, {int(kind)})\nleft.connect({path!r})")
    assert part.startswith(f"a connection to {shown} (descriptor ")


def test_an_accepted_connection(found, tmp_path):
    parts = found("""
server = socket.socket(socket.AF_UNIX)
server.bind("here")
server.listen(1)
client = socket.socket(socket.AF_UNIX)
client.connect("here")
left, _ = server.accept()
client.close()
""")
    assert [part.split(" (")[0] for part in parts] == ["a connection accepted at here"]


def test_a_connection_that_is_being_made(found):
    """To a listener whose queue is full."""
    parts = found("""
server = socket.create_server(("127.0.0.1", 0), backlog=0)
first = socket.create_connection(server.getsockname())
left = socket.socket()
left.setblocking(False)
left.connect_ex(server.getsockname())
""")
    assert [part.split(" (")[0] for part in parts][1:] == ["a connection that is being made"]


def test_a_socket_pair(found):
    parts = found("left = socket.socketpair()")
    assert [part.split(" (")[0] for part in parts] == ["one end of a socket pair"] * 2


def test_sockets_that_may_be_shared(found, tmp_path):
    """Datagrams (syslog), listeners, what is not connected, files and pipes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(tmp_path / "log"))
        assert found("""
import logging.handlers
left = [logging.handlers.SysLogHandler("log"),
        socket.create_server(("127.0.0.1", 0)), socket.socket(),
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET),
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        open("file", "w"), os.pipe()]
left[0].socket.getpeername()  # it is connected
udp = socket.socket(type=socket.SOCK_DGRAM)
udp.connect(("127.0.0.1", 9))
""") == []


def test_connections_from_before_the_import_are_not_its_doing(found):
    """Nor are duplicates of them."""
    assert found("again = pair[0].dup()", earlier="pair = socket.socketpair()") == []


def test_a_connection_that_was_closed_is_not_left(found, listener):
    port = listener.getsockname()[1]
    assert found(f"socket.create_connection(('127.0.0.1', {port})).close()") == []


def test_looking_leaves_the_descriptors_as_they_were(found):
    (_, _, again) = found("""
left = socket.socketpair()
left[0].settimeout(5)
assert snapshot.found() == snapshot.found()
assert left[0].gettimeout() == 5 and not os.get_blocking(left[0].fileno())
left[0].send(b"x")
assert left[1].recv(1) == b"x"
epoll = select.epoll()
""")
    assert again.startswith("an event loop's epoll")


# -- event loops -------------------------------------------------------------------------
def test_an_event_loop(found):
    parts = found("import asyncio\nloop = asyncio.new_event_loop()")
    assert [part.split(" (")[0] for part in parts] == [
        "an event loop's epoll", "one end of a socket pair", "one end of a socket pair"]


IO_URING = """
libc = ctypes.CDLL(None)
parameters = ctypes.create_string_buffer(120)
left = libc.syscall(425, 1, parameters)
"""


def test_an_io_uring(found):
    parts = found(IO_URING)
    allowed = subprocess.run(
        [sys.executable, "-c", "import ctypes" + IO_URING + "print(left)"],
        capture_output=True, text=True, check=True, timeout=60)  # fmt: skip
    if int(allowed.stdout) < 0:  # by a filter of system calls, or an old kernel
        assert parts == []
        pytest.skip("this machine allows no io_uring")
    assert [part.split(" (")[0] for part in parts] == ["an io_uring"]


# -- without /proc -----------------------------------------------------------------------
def test_without_proc_that_is_said(found, tmp_path):
    parts = found("""
threading.Thread(target=select.select, args=([], [], []), name="seen").start()
left = socket.socketpair()
""", earlier=f"remains.PROC = remains.Path({str(tmp_path / 'absent')!r})")
    assert parts == ["the thread 'seen' (Thread, started by the import)",
                     "what cannot be seen, as /proc is not mounted"]  # fmt: skip


def test_a_proc_that_cannot_be_read_is_told_of(found, tmp_path):
    (tmp_path / "fd").write_text("")
    parts = found("left = socket.socketpair()",
                  earlier=f"remains.PROC = remains.Path({str(tmp_path)!r})")  # fmt: skip
    assert parts == ["what cannot be seen, as /proc cannot be read (Not a directory)"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_after_becoming_another_user(found):
    """The kernel then gives the files of /proc/self to root."""
    parts = found("""
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
threading.Thread(target=select.select, args=([], [], []), name="seen").start()
_thread.start_new_thread(select.select, ([], [], []))
left = socket.socketpair()
""")
    assert [part.split(" (")[0] for part in parts] == [
        "the thread 'seen'", "a native thread", "one end of a socket pair",
        "one end of a socket pair"]  # fmt: skip
