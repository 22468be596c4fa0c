import contextlib
import json
import os
import select
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fastfork import control, log
from fastfork.control import Control, ControlError

ROOT = Path(__file__).resolve().parents[2]
SELF = os.geteuid()


@pytest.fixture(autouse=True)
def logged(capfd):
    """What the log says."""
    log.set_up("debug")
    return lambda: capfd.readouterr().err


@pytest.fixture
def make(tmp_path):
    """`make(answer)`: a control socket; closed with the test."""
    made = []

    def start(answer=lambda request: {"echo": request}):
        made.append(Control(tmp_path / "control.sock", answer))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture
def connect(make):
    """`connect(server)`: a client's socket; closed with the test."""
    made = []

    def start(server):
        sock = socket.socket(socket.AF_UNIX)
        made.append(sock)
        sock.settimeout(20)
        sock.connect(str(server.path))
        return sock

    yield start
    for sock in made:
        sock.close()


def turn(server, now=0.0, wait=0):
    """What the master's loop does in one round, in which it sleeps for at most `wait` ms; True
    if there was something to do."""
    poll = select.poll()
    for fd, events in server.fds().items():
        poll.register(fd, events)
    ready = dict(poll.poll(wait))
    server.handle(ready, now)
    return bool(ready)


def work(server, now=0.0):
    """All that can be done without waiting."""
    while turn(server, now):
        pass


def line(sock):
    data = b""
    while not data.endswith(b"\n"):
        piece = sock.recv(65536)
        assert piece, data
        data += piece
    return json.loads(data)


def gone(sock):
    """Whether the server has closed."""
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


# -- talking -----------------------------------------------------------------------------
def test_a_request_and_its_answer(make, connect):
    server = make()
    client = connect(server)
    client.sendall(b'{"command": "status", "service": "a"}\n')
    work(server)
    assert line(client) == {"echo": {"command": "status", "service": "a"}}


def test_several_requests_on_one_connection_also_in_one_piece(make, connect):
    server = make(lambda request: {"n": request["service"]})
    client = connect(server)
    for count in (1, 3):
        one = b'{"command": "status", "service": "%d"}\n'
        client.sendall(b"".join(one % n for n in range(count)))
        work(server)
        answers = client.makefile("rb")
        assert [json.loads(answers.readline()) for _ in range(count)] == [
            {"n": str(n)} for n in range(count)]  # fmt: skip


def test_one_request_is_answered_per_call(make, connect):
    answered = []
    server = make(lambda request: answered.append(1) or {})
    client = connect(server)
    client.sendall(b'{"command": "status"}\n' * 100)
    turn(server)  # accepts
    for expected in (1, 2, 3):
        turn(server)
        assert len(answered) == expected


def test_a_request_in_pieces(make, connect):
    server = make()
    client = connect(server)
    for byte in b'{"command": "status"}\n':
        client.send(bytes([byte]))
        work(server)
    assert line(client) == {"echo": {"command": "status"}}


def test_after_what_is_no_request(make, connect):
    server = make()
    client = connect(server)
    client.sendall(b'{"command": "reboot"}\n')
    work(server)
    assert line(client) == {"error": "there is no command 'reboot'"}
    client.sendall(b'{"command": "status"}\n')
    work(server)
    assert "echo" in line(client)


def test_what_the_master_refuses(make, connect):
    def refuse(request):
        raise ControlError("there is no service 'a'")

    server = make(refuse)
    client = connect(server)
    client.sendall(b'{"command": "stop", "service": "a"}\n')
    work(server)
    assert line(client) == {"error": "there is no service 'a'"}


@pytest.mark.parametrize("answer", [lambda request: 1 / 0, lambda request: {"a": object()}])
def test_an_answer_that_fails(make, connect, logged, answer):
    server = make(answer)
    client = connect(server)
    client.sendall(b'{"command": "status"}\n')
    work(server)
    assert line(client) == {"error": "the server failed to answer, its log says why"}
    text = logged()
    assert "A request at the control socket failed." in text and "Traceback" in text


def test_a_client_that_leaves(make, connect):
    server = make()
    for data in (b"", b'{"command"', b'{"command": "status"}\n'):
        client = connect(server)
        client.sendall(data)
        client.close()
        work(server)
        assert len(server.fds()) == 1


def test_a_client_that_has_said_all_still_gets_its_answer(make, connect):
    server = make(lambda request: {"long": "x" * (1 << 20)})
    client = connect(server)
    client.sendall(b'{"command": "status"}\n')
    client.shutdown(socket.SHUT_WR)
    work(server)
    answer = b""
    while not answer.endswith(b"\n"):
        answer += client.recv(1 << 20)
        work(server)
    assert len(json.loads(answer)["long"]) == 1 << 20
    assert gone(client)


# -- bounds ------------------------------------------------------------------------------
def test_the_longest_request(make, connect):
    server = make(lambda request: {"length": len(request["service"])})
    frame = len(b'{"command": "status", "service": ""}')
    fits, too_long = (control.LONGEST_REQUEST - frame + n for n in (0, 1))
    for length in (fits, too_long):
        client = connect(server)
        client.setblocking(False)
        data = json.dumps({"command": "status", "service": "x" * length}).encode() + b"\n"
        while data and not gone(client):
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                data = data[client.send(data) :]
            work(server)
        if length == fits:
            client.settimeout(20)
            assert line(client) == {"length": fits}
        else:
            assert gone(client)


def test_a_line_without_end(make, connect):
    server = make()
    client = connect(server)
    client.setblocking(False)
    sent = 0
    while not gone(client):
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            sent += client.send(b"x" * 4096)
        turn(server)
        assert sent < 2 << 20
    assert list(server.fds().values()) == [select.POLLIN]


def fill(server, connect):
    """As many clients as there may be, silent from 0.0, 0.1, ... on."""
    clients = []
    for n in range(control.MOST_CLIENTS):
        clients.append(connect(server))
        work(server, n / 10)
    return clients


def test_whoever_has_been_silent_longest_makes_room(make, connect):
    server = make()
    clients = fill(server, connect)
    clients[0].sendall(b'{"command": "status"}\n')
    work(server, 1.0)
    assert "echo" in line(clients[0])
    for turn_of in (1, 2):
        new = connect(server)
        new.sendall(b'{"command": "status"}\n')
        work(server, 1.0)
        assert "echo" in line(new)
        assert [gone(client) for client in clients] == [0 < n <= turn_of for n in range(8)]
        assert len(server.fds()) == control.MOST_CLIENTS + 1


def test_who_is_being_answered_makes_no_room_for_others(make, connect):
    server = make(lambda request: {"long": "x" * (8 << 20)})
    clients = fill(server, connect)
    clients[0].sendall(b'{"command": "status"}\n')
    work(server)  # its time began at 0, earlier than that of any other
    connect(server)
    work(server)
    assert [gone(client) for client in clients[1:]] == [True] + [False] * 6
    assert clients[0].recv(1) == b"{"


def test_if_all_are_being_answered_the_slowest_makes_room(make, connect):
    server = make(lambda request: {"long": "x" * (8 << 20)})
    clients = fill(server, connect)
    for n, client in enumerate(clients):
        client.sendall(b'{"command": "status"}\n')
        work(server, (n - 3) % 8 / 10)  # the fourth is the first
    connect(server)
    work(server)
    fds = server.fds()
    assert sorted(fds.values()) == [select.POLLIN] * 2 + [select.POLLOUT] * 7
    for n, client in enumerate(clients):
        assert ends(client) == (n == 3)


def ends(client):
    """Whether what it can read now is the last."""
    client.setblocking(False)
    try:
        while client.recv(1 << 20):
            pass
        return True
    except BlockingIOError:
        return False


@pytest.mark.skipif(SELF != 0, reason="only root can become another user")
def test_nobody_makes_room_for_another_user(make, connect, logged):
    server = make()
    clients = fill(server, connect)
    os.chmod(server.path, 0o666)
    os.chmod(server.path.parent, 0o755)
    pid = os.fork()
    if pid == 0:
        directory = os.open(server.path.parent, os.O_RDONLY)
        os.fchdir(directory)  # whose path is closed to that user
        os.setresuid(65534, 65534, 65534)
        with socket.socket(socket.AF_UNIX) as sock:
            os._exit(sock.connect_ex("control.sock"))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    work(server)
    assert "The control socket refuses process" in logged()
    assert not any(gone(client) for client in clients)


def test_a_silent_client_is_dropped(make, connect):
    server = make()
    assert server.next_event() is None
    client = connect(server)
    work(server, now=100.0)
    assert server.next_event() == 105.0
    client.send(b"{")  # one byte now and then does not help
    work(server, now=104.9)
    assert server.next_event() == 105.0 and not gone(client)
    server.handle({}, 105.0)
    assert gone(client) and server.next_event() is None


def test_a_client_that_goes_on_asking_is_not_dropped(make, connect):
    server = make()
    client = connect(server)
    for now in (0.0, 4.0, 8.0, 12.0):
        client.sendall(b'{"command": "status"}\n')
        work(server, now)
        assert "echo" in line(client)
    assert server.next_event() == 17.0


def test_a_client_that_does_not_read_is_dropped(make, connect):
    server = make(lambda request: {"long": "x" * (8 << 20)})
    client = connect(server)
    client.sendall(b'{"command": "status"}\n')
    work(server, now=1.0)
    assert select.POLLOUT in server.fds().values()
    assert server.next_event() == 6.0
    assert len(client.recv(1)) == 1
    work(server, now=5.0)
    assert server.next_event() == 6.0
    server.handle({}, 6.0)
    assert list(server.fds().values()) == [select.POLLIN]


def test_who_has_taken_an_answer_has_time_for_another_request(make, connect):
    server = make(lambda request: {"long": "x" * (1 << 20)})
    client = connect(server)
    client.sendall(b'{"command": "status"}\n')
    work(server, now=1.0)
    assert select.POLLOUT in server.fds().values() and server.next_event() == 6.0
    client.setblocking(False)
    while select.POLLOUT in server.fds().values():
        client.recv(1 << 20)
        work(server, now=4.0)
    assert server.next_event() == 9.0


LEFT = """
import resource, select, socket, sys
from fastfork import control, log
log.set_up("info")
server = control.Control(sys.argv[1], lambda request: {})
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
listener, = server.fds()
resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, client.fileno() + 1))
server.handle({listener: select.POLLIN}, 50.0)
assert server.fds() == {} and server.next_event() == 51.0
server.handle({}, 50.9)
assert server.fds() == {}
server.handle({}, 51.0)
assert list(server.fds()) == [listener] and server.next_event() is None
"""


def test_when_no_descriptor_is_left_accepting_pauses(tmp_path):
    """Otherwise the master's poll() would return at once, for ever."""
    done = subprocess.run(
        [sys.executable, "-c", LEFT, str(tmp_path / "x.sock")], capture_output=True, text=True,
        timeout=60, env=dict(os.environ, PYTHONPATH=str(ROOT)))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Nobody can be accepted at the control socket: Too many open files." in done.stderr


def test_events_of_others_and_of_what_has_been_closed_are_ignored(make, connect):
    server = make()
    client = connect(server)
    work(server)
    fd = next(fd for fd in server.fds() if fd != server._listener.socket.fileno())
    client.close()
    work(server)
    server.handle({fd: select.POLLIN, 999_999: select.POLLIN}, 0.0)
    assert list(server.fds()) == [server._listener.socket.fileno()]


# -- its file ----------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["control.sock", "control~", "c"])
def test_who_finds_the_file_can_connect(tmp_path, monkeypatch, name):
    listen, seen = socket.socket.listen, []

    def look(sock, backlog):
        seen.append((tmp_path / name).exists())
        listen(sock, backlog)

    monkeypatch.setattr(socket.socket, "listen", look)
    Control(tmp_path / name, None).let_go()
    assert seen == [False]
    assert os.listdir(tmp_path) == [name]
    Control(tmp_path / name, None).close()  # which replaces one at which nobody listens
    assert os.listdir(tmp_path) == []


# -- who may ask -------------------------------------------------------------------------
def test_the_socket_is_for_its_user_alone(make):
    mask = os.umask(0)
    try:
        server = make()
        assert os.umask(0) == 0  # as it was
    finally:
        os.umask(mask)
    assert stat.S_IMODE(os.stat(server.path).st_mode) == 0o600


ASK = """
import os, socket, sys
sock = socket.socket(socket.AF_UNIX)
os.fchdir(int(sys.argv[2]))  # whose path is closed to this user
if int(sys.argv[1]):
    os.setgroups([])
    os.setresuid(*[int(sys.argv[1])] * 3)
sock.connect("control.sock")
try:
    sock.sendall(b'{"command": "status"}\\n')
    print(len(sock.recv(1000)) > 0)
except (BrokenPipeError, ConnectionResetError):  # closed before, or with what it was sent
    print(False)
"""


@pytest.mark.skipif(SELF != 0, reason="only root can become another user")
@pytest.mark.parametrize(("user", "answered"), [(0, True), (65534, False)])
def test_another_user_is_refused(make, logged, tmp_path, user, answered):
    """By whom the kernel says that it is, even if the file would let it in."""
    server = make()
    os.chmod(server.path, 0o666)
    os.chmod(tmp_path, 0o755)
    directory = os.open(tmp_path, os.O_RDONLY)
    with subprocess.Popen(
        [sys.executable, "-c", ASK, str(user), str(directory)], stdout=subprocess.PIPE,
        text=True, pass_fds=[directory]) as process:  # fmt: skip
        os.close(directory)
        done = threading.Event()
        threading.Thread(target=lambda: (process.wait(), done.set())).start()
        while not done.is_set():
            turn(server, wait=5)
        assert process.stdout.read() == f"{answered}\n"
    refused = f"The control socket refuses process {process.pid} of the user with number {user}."
    assert (refused in logged()) is not answered


# -- the file ----------------------------------------------------------------------------
def test_closing_removes_the_file(make):
    server = make()
    assert server.path.exists()
    server.close()
    assert not server.path.exists()


def test_a_file_that_somebody_else_put_there_stays(make):
    server = make()
    server.path.unlink()
    server.path.write_text("theirs")
    server.close()
    assert server.path.read_text() == "theirs"


def test_a_forked_process_lets_go_without_removing(make, connect):
    server = make()
    client = connect(server)
    work(server)
    pid = os.fork()
    if pid == 0:
        fds = list(server.fds())
        server.let_go()
        still_open = 0
        for fd in fds:
            try:
                os.fstat(fd)
                still_open += 1
            except OSError:
                pass
        os._exit(still_open)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    client.sendall(b'{"command": "status"}\n')
    work(server)
    assert "echo" in line(client)


def test_a_dead_server_s_socket_is_replaced_a_living_one_s_is_not(make):
    server = make()
    with pytest.raises(ControlError, match=r"cannot listen on .*another process listens there$"):
        Control(server.path, lambda request: {})
    assert os.listdir(server.path.parent) == [server.path.name]
    server._listener.socket.close()
    Control(server.path, lambda request: {}).close()


# -- making it ---------------------------------------------------------------------------
def test_make(auto, logged):
    assert Control.make("none", lambda request: {}) is None
    server = Control.make("auto", lambda request: {})
    assert server.path == auto / f"{os.getpid()}.sock" and logged() == ""
    server.close()


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("absent/x.sock", "there is no such directory"),
        ("x" * 200, "the path is longer than 107 bytes"),
        ("taken", "there is a file of that name that is no socket"),
    ],
)
def test_a_socket_that_cannot_be_made_is_a_warning(tmp_path, logged, path, why):
    (tmp_path / "taken").write_text("")
    assert Control.make(str(tmp_path / path), lambda request: {}) is None
    text = logged()
    assert "[WARNING] There is no control socket for fastfork status: cannot listen on" in text
    assert text.endswith(f": {why}.\n") and text.count("\n") == 1


def test_an_auto_directory_that_cannot_be_made_is_a_warning(auto, logged):
    auto.parent.rmdir()
    assert Control.make("auto", lambda request: {}) is None
    assert f"fastfork status: cannot make {auto}: No such file or directory.\n" in logged()
