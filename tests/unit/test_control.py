import contextlib
import errno
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
    client.sendall(b'{"command": "status", "more": [1]}\n')
    work(server)
    assert line(client) == {"echo": {"command": "status", "more": [1]}}


def test_several_requests_on_one_connection_also_in_one_piece(make, connect):
    server = make(lambda request: {"n": request["n"]})
    client = connect(server)
    for count in (1, 3):
        client.sendall(b"".join(b'{"command": "status", "n": %d}\n' % n for n in range(count)))
        work(server)
        answers = client.makefile("rb")
        assert [json.loads(answers.readline()) for _ in range(count)] == [
            {"n": n} for n in range(count)]  # fmt: skip


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


@pytest.mark.parametrize(
    ("request_line", "error"),
    [
        (b'{"command": "reboot"}', "there is no command 'reboot'"),
        (b'{"command": ["status"]}', "there is no command ['status']"),
        (b"{}", "a request must be an object with a command"),
        (b'["status"]', "a request must be an object with a command"),
        (b"status", "a request must be one line of JSON"),
        (b"", "a request must be one line of JSON"),
        (b"\xff\xfe", "a request must be one line of JSON"),
        (b"[" * 60_000, "a request must be one line of JSON"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_request(make, connect, request_line, error):
    server = make()
    client = connect(server)
    client.sendall(request_line + b"\n")
    work(server)
    assert line(client) == {"error": error}
    client.sendall(b'{"command": "status"}\n')
    work(server)
    assert "echo" in line(client)


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
    server = make(lambda request: {"length": len(request["text"])})
    frame = len(b'{"command": "status", "text": ""}')
    fits, too_long = (control.LONGEST_REQUEST - frame + n for n in (0, 1))
    for length in (fits, too_long):
        client = connect(server)
        client.setblocking(False)
        data = json.dumps({"command": "status", "text": "x" * length}).encode() + b"\n"
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


def test_so_many_clients_at_once(make, connect):
    server = make()
    clients = [connect(server) for _ in range(control.MOST_CLIENTS + 1)]
    clients[-1].sendall(b'{"command": "status"}\n')
    work(server)
    assert len(server.fds()) == control.MOST_CLIENTS  # nobody else is accepted
    assert not gone(clients[-1])
    clients[0].close()
    work(server)
    clients[-1].settimeout(20)
    assert "echo" in line(clients[-1])


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
    server._listener.socket.close()
    Control(server.path, lambda request: {}).close()


# -- where it is -------------------------------------------------------------------------
@pytest.fixture
def places(tmp_path, monkeypatch):
    """The directories of "auto", elsewhere."""
    monkeypatch.setattr(control, "RUN", tmp_path / "run")
    monkeypatch.setattr(control, "USERS", tmp_path / "users")
    monkeypatch.setattr(control, "TMP", tmp_path / "tmp")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    for name in ("run", "tmp"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_the_directory_of_root(places, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(places))
    assert control.directories() == [places / "run" / "fastfork"]


def test_the_directories_of_others(places, monkeypatch):
    user = SELF or 1000
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(control, "_owner", lambda path: 7 if "strange" in str(path) else user)
    in_tmp, usual = places / "tmp" / f"fastfork-{user}", places / "users" / str(user) / "fastfork"
    assert control.directories() == [in_tmp, usual]
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(places / "mine"))
    assert control.directories() == [places / "mine" / "fastfork", in_tmp, usual]
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(usual.parent))
    assert control.directories() == [usual, in_tmp]
    for useless in (str(places / "strange"), "relative", ""):
        monkeypatch.setenv("XDG_RUNTIME_DIR", useless)
        assert control.directories() == [in_tmp, usual]


@pytest.fixture
def auto(places, monkeypatch):
    """The only directory of "auto"; it is not there yet."""
    directory = places / "tmp" / "fastfork"
    monkeypatch.setattr(control, "directories", lambda: [directory])
    return directory


def test_auto_makes_a_directory_for_us_alone(auto):
    mask = os.umask(0)
    try:
        path = control.place("auto")
    finally:
        os.umask(mask)
    assert path == auto / f"{os.getpid()}.sock"
    assert stat.S_IMODE(auto.stat().st_mode) == 0o700
    assert control.place("auto") == path  # it is there now


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_directory_into_which_others_may_write(auto, mode):
    auto.mkdir()
    auto.chmod(mode)
    with pytest.raises(ControlError, match=f"^others may write to {auto}$"):
        control.place("auto")
    assert control.find() == []


def test_a_link_or_file_instead_of_the_directory(auto, tmp_path):
    auto.symlink_to(tmp_path)
    with pytest.raises(ControlError, match=f"^{auto} is not a directory$"):
        control.place("auto")
    auto.unlink()
    auto.write_text("")
    with pytest.raises(ControlError, match=f"^{auto} is not a directory$"):
        control.place("auto")


@pytest.mark.skipif(SELF != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else(auto):
    auto.mkdir(0o700)
    os.chown(auto, 65534, 65534)
    with pytest.raises(ControlError, match=f"^{auto} belongs to somebody else$"):
        control.place("auto")
    with pytest.raises(ControlError, match=f"^{auto} belongs to somebody else$"):
        control.place(str(auto / "my.sock"))
    Control(auto / "1.sock", lambda request: {}).close()
    assert control.find() == []


def test_no_directory_can_be_made(auto):
    auto.parent.rmdir()
    with pytest.raises(ControlError, match=f"^cannot make {auto}: No such file or directory$"):
        control.place("auto")


def test_a_path_and_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert control.place("none") is None
    assert control.place("my.sock") == tmp_path / "my.sock"
    assert control.place("/run/my.sock") == Path("/run/my.sock")


def dead_pid():
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_sockets_of_dead_servers_are_removed(auto):
    auto.mkdir(0o700)
    dead, living = auto / f"{dead_pid()}.sock", auto / f"{os.getppid()}.sock"
    # nobody listens at this one either, but its process lives: it may be about to
    for path in (dead, living):
        Control(path, lambda request: {})._listener.socket.close()
    other = auto / "mine.sock"
    other.write_text("")
    control.place("auto")
    assert sorted(auto.iterdir()) == sorted([living, other])


def test_a_socket_at_which_somebody_listens_is_not_removed(auto):
    """Its process may be in another pid namespace."""
    auto.mkdir(0o700)
    server = Control(auto / f"{dead_pid()}.sock", lambda request: {})
    control.place("auto")
    assert server.path.exists()
    server.close()


def test_find(auto):
    assert control.find() == []
    auto.mkdir(0o700)
    one, two = (Control(auto / f"{n}.sock", lambda request: {}) for n in (11, 12))
    dead = Control(auto / "13.sock", lambda request: {})
    dead._listener.socket.close()
    (auto / "x.sock").write_text("")
    assert control.find() == [one.path, two.path]
    assert control.find(12) == [two.path]
    assert control.find(13) == control.find(14) == []
    one.close()
    two.close()


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


# -- asking ------------------------------------------------------------------------------
@pytest.fixture
def served(make):
    """`served(answer)`: a control socket with somebody who looks after it."""
    stop = threading.Event()
    threads = []

    def start(answer):
        server = make(answer)

        def loop():
            while not stop.is_set():
                turn(server, wait=5)

        threads.append(threading.Thread(target=loop))
        threads[-1].start()
        return server.path

    yield start
    stop.set()
    for thread in threads:
        thread.join()


def test_ask(served):
    path = served(lambda request: {"long": "x" * (1 << 20), "asked": request})
    answer = control.ask(path, {"command": "status"})
    assert not answer.endswith(b"\n")
    facts = json.loads(answer)
    assert facts["asked"] == {"command": "status"} and len(facts["long"]) == 1 << 20


def test_ask_nobody(make, tmp_path):
    with pytest.raises(FileNotFoundError):
        control.ask(tmp_path / "absent", {})
    server = make()
    with pytest.raises(TimeoutError):
        control.ask(server.path, {}, patience=0.01)
    server._listener.socket.close()
    with pytest.raises(OSError) as caught:
        control.ask(server.path, {})
    assert caught.value.errno == errno.ECONNREFUSED


def test_ask_somebody_who_hangs_up(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "x"))
        listener.listen()

        def hang_up():
            sock, _ = listener.accept()
            sock.recv(100)
            sock.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(EOFError):
            control.ask(tmp_path / "x", {})
        thread.join()
