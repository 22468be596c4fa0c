"""Whom the workers are, what the server tells systemd, and the files that it leaves and finds."""

import grp
import os
import pwd
import shutil
import signal
import socket
import stat
import sys

import pytest
from harness import alive, children, wait_for
from seen import field, kinds, targets

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def let_everybody_in(path):
    """The directories that pytest makes are its own user's alone, however many there are."""
    for directory in (path, *path.parents):
        if directory.stat().st_mode & 0o055 != 0o055:
            directory.chmod(0o755)


# -- user, group, umask ------------------------------------------------------------------
def numbers(pid):
    """(users, groups, supplementary groups) of a process, as sets of numbers."""
    return tuple(set(map(int, field(pid, name))) for name in ("Uid", "Gid", "Groups"))


@as_root
@pytest.mark.parametrize("preload", ["auto", "off"])
def test_workers_become_the_user(start, preload):
    nobody = pwd.getpwnam("nobody")
    server = start("small_apps:pid", "--user", "nobody", "--preload", preload, workers=2)
    groups = set(os.getgrouplist("nobody", nobody.pw_gid))
    for pid in (*server.workers(), *server.molds()):
        assert numbers(pid) == ({nobody.pw_uid}, {nobody.pw_gid}, groups)
    assert numbers(server.pid)[0] == {0}
    assert int(server.get("/").body) in server.workers()


@as_root
def test_group_alone_and_by_number(start):
    group = grp.getgrnam("daemon").gr_gid
    server = start("small_apps:pid", "--user", "12345", "--group", str(group))
    (worker,) = server.workers()
    assert numbers(worker) == ({12345}, {group}, {group})


@as_root
def test_the_import_runs_as_the_user(web, tmp_path):
    """Files that it makes are the user's; HOME is too; there is no way back."""
    let_everybody_in(tmp_path)
    tmp_path.chmod(0o777)
    server = web("""
import os
from small_apps import answer
open("made", "w").close()
try:
    os.setuid(0)
    back = True
except PermissionError:
    back = False
def app(environ, start_response):
    return answer(start_response, f"{back} {os.environ.get('HOME')}")
""", "--user", "nobody", "--umask", "0027")
    nobody = pwd.getpwnam("nobody")
    made = (tmp_path / "made").stat()
    assert made.st_uid == nobody.pw_uid and stat.S_IMODE(made.st_mode) == 0o640
    assert server.get("/").body.decode() == f"False {nobody.pw_dir}"


@as_root
def test_replacements_and_new_generations_become_it_too(start):
    nobody = pwd.getpwnam("nobody").pw_uid
    server = start("small_apps:pid", "--user", "nobody")
    os.kill(server.workers()[0], signal.SIGKILL)
    server.wait_stderr(" is ready.")
    assert numbers(server.workers()[0])[0] == {nobody}
    server.signal(signal.SIGHUP)
    server.wait_stderr("is reloaded: generation 2")
    assert {tuple(numbers(pid)[0]) for pid in server.workers()} == {(nobody,)}


@as_root
def test_a_mold_that_has_become_somebody_dies_with_its_master(start):
    """The kernel forgets whom it is tied to when the user changes."""
    server = start("small_apps:pid", "--user", "nobody", workers=2)
    everybody = [*server.molds(), *server.workers()]
    assert len(everybody) == 3
    server.process.kill()
    wait_for(lambda: not any(alive(pid) for pid in everybody))


@as_root
def test_also_when_it_still_imports(web, tmp_path, gate):
    gate.path.chmod(0o666)
    let_everybody_in(tmp_path)
    server = web(f"open({str(gate.path)!r}).read()\nfrom small_apps import pid as app\n",
                 "--user", "nobody", wait=False)  # fmt: skip
    gate.reached()
    (mold,) = server.molds()
    server.process.kill()
    wait_for(lambda: not alive(mold))


@as_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="there is no setpriv")
@pytest.mark.parametrize("preload", ["auto", "off"])
def test_a_master_that_may_not_make_it_somebody_else(start, preload):
    server = start("small_apps:pid", "--user", "nobody", "--preload", preload, wait=False,
                   launcher=["setpriv", "--bounding-set=-setuid", "--inh-caps=-setuid"])
    assert server.wait() == 2
    assert "Cannot become user " in server.stderr and "Error(" not in server.stderr
    assert "Traceback" not in server.stderr


@as_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="there is no setpriv")
@pytest.mark.parametrize("preload", ["auto", "off"])
def test_a_master_that_may_not_signal_whom_it_has_made(start, preload):
    """As in a container with few capabilities.  It stops all the same."""
    server = start("small_apps:pid", "--user", "nobody", "--preload", preload, workers=2,
                   launcher=["setpriv", "--bounding-set=-kill", "--inh-caps=-kill"])
    everybody = children(server.pid)
    assert server.stop() == 0
    wait_for(lambda: not any(alive(pid) for pid in everybody))
    assert "Traceback" not in server.stderr


@pytest.mark.parametrize(
    ("flags", "why"),
    [(["--user", "no-such-user"], "no-such-user"), (["--group", "no-such-group"], "no-such-group"),
     (["--socket-owner", "no-such-user:"], "no-such-user")])  # fmt: skip
def test_who_does_not_exist(start, flags, why):
    server = start("small_apps:pid", *flags, wait=False)
    assert server.wait() == 2
    assert why in server.stderr and server.stderr.count("\n") == 1


# -- unix sockets ------------------------------------------------------------------------
def test_mode_of_unix_sockets(start, tmp_path):
    path = tmp_path / "s"
    start("small_apps:pid", "--socket-mode", "0660", bind=[f"unix:{path}"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


@as_root
def test_owner_of_unix_sockets(start, tmp_path):
    path = tmp_path / "s"
    start("small_apps:pid", "--socket-owner", "nobody:daemon", bind=[f"unix:{path}"])
    found = path.stat()
    assert (found.st_uid, found.st_gid) == (
        pwd.getpwnam("nobody").pw_uid, grp.getgrnam("daemon").gr_gid)


def test_a_stale_unix_socket_is_replaced_and_a_live_one_is_not(start, tmp_path):
    path = tmp_path / "s"
    killed = start("small_apps:pid", bind=[f"unix:{path}"])
    everybody = [*killed.workers(), *killed.molds()]
    killed.process.kill()
    wait_for(lambda: not any(alive(pid) for pid in everybody))
    assert path.is_socket()
    start("small_apps:pid", bind=[f"unix:{path}"])
    inode = path.stat().st_ino
    refused = start("small_apps:pid", bind=[f"unix:{path}"], wait=False)
    assert refused.wait() == 2
    assert str(path) in refused.stderr and path.stat().st_ino == inode


# -- pid file ----------------------------------------------------------------------------
def test_a_pid_file(start, tmp_path):
    path = tmp_path / "pid"
    server = start("small_apps:pid", "--pid", str(path))
    assert path.read_text() == f"{server.pid}\n"
    assert server.stop() == 0
    assert not path.exists()


def test_a_live_one_is_refused(start, tmp_path):
    path = tmp_path / "pid"
    server = start("small_apps:pid", "--pid", str(path))
    other = start("small_apps:pid", "--pid", str(path), wait=False)
    assert other.wait() == 2
    assert str(server.pid) in other.stderr and str(path) in other.stderr
    assert int(path.read_text()) == server.pid
    assert server.get("/").status == 200


def test_a_stale_one_is_recognised(start, tmp_path):
    """Even if its number is that of a process that runs."""
    path = tmp_path / "pid"
    path.write_text(f"{os.getpid()}\n")
    server = start("small_apps:pid", "--pid", str(path))
    assert int(path.read_text()) == server.pid
    everybody = [*server.workers(), *server.molds()]
    server.process.kill()
    server.wait()
    wait_for(lambda: not any(alive(pid) for pid in everybody))
    again = start("small_apps:pid", "--pid", str(path))
    assert int(path.read_text()) == again.pid


def test_workers_do_not_keep_it_locked(start, tmp_path, gate):
    """The master is killed, and while a worker still has half a second, another starts."""
    path = tmp_path / "pid"
    server = start("small_apps:wait", "--pid", str(path), workers=2)
    with server.connect() as client:
        client.send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        server.process.kill()
        server.wait()
        again = start("small_apps:pid", "--pid", str(path))
        assert int(path.read_text()) == again.pid


def test_one_that_cannot_be_written(start):
    server = start("small_apps:pid", "--pid", "/absent/directory/pid", wait=False)
    assert server.wait() == 2
    assert "/absent/directory/pid" in server.stderr


# -- systemd -----------------------------------------------------------------------------
class Manager:
    """The end of NOTIFY_SOCKET that systemd has."""

    def __init__(self, address):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.settimeout(20)
        self.sock.bind(address)

    def next(self):
        """The next message that is no sign of life, as a dict."""
        while (message := self.any()) == {"WATCHDOG": "1"}:
            pass
        return message

    def any(self):
        lines = self.sock.recv(65536).decode().splitlines()
        return dict(line.split("=", 1) for line in lines)


@pytest.fixture
def manager(tmp_path):
    manager = Manager(str(tmp_path / "notify"))
    yield manager
    manager.sock.close()


def test_readiness_reload_and_stop_are_told(web, tmp_path, manager):
    server = web("from small_apps import pid as app\n", workers=2,
                 env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
    told = manager.next()
    assert told["READY"] == "1" and told["STATUS"]
    server.signal(signal.SIGHUP)
    told = manager.next()
    assert told["RELOADING"] == "1" and int(told["MONOTONIC_USEC"]) > 0
    assert manager.next()["READY"] == "1"
    assert "is reloaded: generation 2" in server.stderr
    server.stop()
    assert manager.next()["STOPPING"] == "1"


def test_ready_also_when_a_reload_fails(web, tmp_path, manager):
    server = web("from small_apps import pid as app\n",
                 env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
    assert manager.next()["READY"] == "1"
    (tmp_path / "web.py").write_text("raise RuntimeError\n")
    server.signal(signal.SIGHUP)
    assert manager.next()["RELOADING"] == "1"
    assert manager.next()["READY"] == "1"
    assert "Generation 1 goes on." in server.stderr


def test_not_ready_before_the_workers_are(web, tmp_path, manager, gate):
    server = web(f"open({str(gate.path)!r}).read()\nfrom small_apps import pid as app\n",
                 env={"NOTIFY_SOCKET": str(tmp_path / "notify")}, wait=False)
    gate.reached()
    manager.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.next()
    manager.sock.settimeout(20)
    gate.open()
    server.wait_ready()
    assert manager.next()["READY"] == "1"


def test_a_name_in_the_abstract_namespace(start):
    name = f"fastfork-test-{os.getpid()}"
    manager = Manager("\0" + name)
    try:
        start("small_apps:pid", env={"NOTIFY_SOCKET": "@" + name})
        assert manager.next()["READY"] == "1"
    finally:
        manager.sock.close()


def test_the_watchdog_is_fed(start, tmp_path, manager):
    start("small_apps:pid", env={"NOTIFY_SOCKET": str(tmp_path / "notify"),
                                 "WATCHDOG_USEC": "200000"})
    for _ in range(5):
        while manager.any() != {"WATCHDOG": "1"}:
            pass


def test_the_main_process_is_told_at_an_upgrade(web, tmp_path, manager):
    server = web("from small_apps import pid as app\n",
                 env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
    assert manager.next()["READY"] == "1"
    server.signal(signal.SIGUSR2)
    told = manager.next()
    while "MAINPID" not in told:
        told = manager.next()
    new = int(told["MAINPID"])
    try:
        assert new != server.pid
        assert server.wait() == 0
        assert manager.next()["READY"] == "1"
    finally:
        os.kill(new, signal.SIGTERM)
        wait_for(lambda: not alive(new))


def test_nobody_listens(start, tmp_path):
    server = start("small_apps:pid", env={"NOTIFY_SOCKET": str(tmp_path / "absent")})
    assert server.get("/").status == 200


def test_applications_do_not_speak_for_the_server(web, tmp_path, manager):
    server = web("""
import os
from small_apps import answer
def app(environ, start_response):
    return answer(start_response, repr(sorted(set(os.environ) & {
        "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID"})))
""", env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"})
    assert server.get("/").body == b"[]"


# Becomes the command behind the descriptors, which are then 3, 4, ... as systemd passes them.
ACTIVATE = """
import fcntl, os, sys
count, names = int(sys.argv[1]), sys.argv[2]
given = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 100) for fd in sys.argv[3 : 3 + count]]
command = sys.argv[3 + count:]
told = command.index("--ready-fd") + 1
command[told] = str(fcntl.fcntl(int(command[told]), fcntl.F_DUPFD, 200))
for number, fd in enumerate(given):
    os.dup2(fd, 3 + number)
    os.close(fd)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count))
if names:
    os.environ["LISTEN_FDNAMES"] = names
os.execv(command[0], command)
"""


@pytest.fixture
def activated(start):
    """`activated(app, *flags, sockets={name: socket})` starts a server as systemd does."""

    def run(*args, sockets, **kwargs):
        fds = [sock.fileno() for sock in sockets.values()]
        launcher = [sys.executable, "-c", ACTIVATE, str(len(fds)), ":".join(sockets),
                    *map(str, fds)]
        return start(*args, launcher=launcher, pass_fds=fds, **{"bind": (), **kwargs})

    return run


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def test_sockets_that_systemd_passes_are_served(activated, listening):
    server = activated("small_apps:pid", sockets={"web": listening}, workers=2)
    assert server.address == listening.getsockname()
    assert int(server.get("/").body) in server.workers()
    assert server.stop() == 0


def test_they_stay_open_for_systemd(activated, listening, tmp_path):
    """Whoever connects after the server has ended waits for the next one."""
    server = activated("small_apps:pid", sockets={"web": listening})
    assert server.stop() == 0
    with socket.create_connection(listening.getsockname()) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        activated("small_apps:pid", sockets={"web": listening})
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_one_of_them_by_its_name(activated, listening):
    with socket.create_server(("127.0.0.1", 0)) as other:
        server = activated("small_apps:pid", bind=["systemd:web"],
                           sockets={"admin": other, "web": listening})
        assert server.address == listening.getsockname()
        names = [f"http://127.0.0.1:{other.getsockname()[1]}"]
        assert not set(names) & set(server.ready["listen"])


def test_a_name_that_was_not_passed(activated, listening):
    server = activated("small_apps:pid", bind=["systemd:absent"], sockets={"web": listening},
                       wait=False)
    assert server.wait() == 2
    assert "systemd passed no socket of that name" in server.stderr


def test_across_a_reload_and_an_upgrade(activated, listening):
    server = activated("small_apps:pid", sockets={"web": listening})
    server.signal(signal.SIGHUP)
    server.wait_stderr("is reloaded: generation 2")
    assert int(server.get("/").body) in server.workers()
    server.signal(signal.SIGUSR2)
    server.wait_stderr("a new master starts, pid ")
    new = int(server.stderr.split("a new master starts, pid ")[1].split(".")[0])
    try:
        assert server.wait() == 0
        assert server.get("/").status == 200
    finally:
        os.kill(new, signal.SIGTERM)
        wait_for(lambda: not alive(new))


def test_a_socket_for_somebody_else_is_left_alone(start):
    """LISTEN_PID of another process: as if nothing had been passed."""
    server = start("small_apps:pid", env={"LISTEN_PID": "1", "LISTEN_FDS": "1"})
    assert server.get("/").status == 200


# -- what a worker holds -----------------------------------------------------------------
@pytest.mark.parametrize("preload", ["auto", "off"])
def test_a_respawned_worker_holds_what_the_first_ones_do(start, tmp_path, preload):
    server = start("small_apps:pid", "--preload", preload, "--pid", str(tmp_path / "pid"),
                   "--control", str(tmp_path / "control"), workers=3)
    first = server.workers()
    wait_for(lambda: len({tuple(kinds(pid)) for pid in first}) == 1)  # their loops run
    held = kinds(first[1])
    os.kill(first[0], signal.SIGKILL)
    server.wait_stderr(" is ready.")
    (new,) = set(server.workers()) - set(first)
    wait_for(lambda: kinds(new) == held, message=lambda: f"{held}\n{kinds(new)}")
    shared = set.intersection(*(set(targets(pid)) for pid in server.workers()))
    sockets = [target for target in shared if target.startswith("socket:")]
    assert len(sockets) == 3  # the listener and the ends of the pair
    assert str(tmp_path / "pid") not in targets(new)
