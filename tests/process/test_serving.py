"""Start: addresses, workers, what is announced."""

import json
import os
import re
import resource
import socket
import subprocess
import sys

import pytest
from harness import ROOT, Client

from fastfork import __version__


def client_at(url):
    if url.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX)
        path = url.removeprefix("unix:")
        sock.connect("\0" + path[1:] if path.startswith("@") else path)
        return Client(sock)
    host, _, port = url.removeprefix("http://").rpartition(":")
    return Client(socket.create_connection((host.strip("[]"), int(port))))


def ask(url):
    with client_at(url) as client:
        response = client.get("/")
    assert response.status == 200
    return response.body.decode()


@pytest.mark.parametrize("workers", [1, 4])
def test_serves_with_its_workers(start, workers):
    server = start("small_apps:pid", workers=workers)
    assert len(server.ready["workers"]) == workers
    assert sorted(server.workers()) == sorted(server.ready["workers"])
    assert int(ask(server.url)) in server.workers()
    assert server.ready["pid"] == server.pid


@pytest.mark.parametrize("workers", [1, 2])
def test_environ_is_true_to_the_facts(start, workers):
    server = start("small_apps:process", workers=workers)
    facts = json.loads(ask(server.url))
    assert facts["multiprocess"] is (workers > 1)
    assert facts["ppid"] == server.pid


def test_start_up_line(start):
    server = start("small_apps:pid", workers=2)
    version = re.escape(".".join(map(str, sys.version_info[:3])))
    assert re.fullmatch(
        rf"\[[^]]+\] \[{server.pid}\] \[INFO\] small_apps:pid on http://127\.0\.0\.1:[1-9]\d*: "
        rf"2 workers, Python {version}, fastfork {re.escape(__version__)}, pid {server.pid}\n",
        server.stderr,
    )


def test_several_addresses(start, tmp_path):
    name = f"@fastfork-test-{os.getpid()}"
    binds = ("127.0.0.1:0", "[::1]:0", f"unix:{tmp_path}/s", f"unix:{name}")
    server = start("small_apps:pid", bind=binds)
    listen = server.ready["listen"]
    assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d*", listen[0])
    assert re.fullmatch(r"http://\[::1\]:[1-9]\d*", listen[1])
    assert listen[2:] == [f"unix:{tmp_path}/s", f"unix:{name}"]
    for url in listen:
        assert int(ask(url)) == server.ready["workers"][0]
        assert url in server.stderr
    assert server.stop() == 0
    assert not (tmp_path / "s").exists()


def test_inherited_listener(start):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        server = start("small_apps:pid", bind=(f"fd://{listener.fileno()}",),
                       pass_fds=(listener.fileno(),))  # fmt: skip
    assert server.ready["listen"] == [f"http://127.0.0.1:{port}"]
    assert int(ask(server.url)) == server.ready["workers"][0]


def test_a_stale_unix_socket_is_taken_over_a_live_one_is_not(start, tmp_path):
    bind = (f"unix:{tmp_path}/s",)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(f"{tmp_path}/s")
        stale.listen()
    first = start("small_apps:pid", bind=bind)
    second = start("small_apps:pid", bind=bind, wait=False)
    assert second.wait() == 2
    assert second.stderr == (
        f"fastfork: Cannot listen on unix:{tmp_path}/s: another process listens there.\n")
    assert int(ask(first.ready["listen"][0])) == first.ready["workers"][0]


def test_two_servers_on_one_port(start):
    first = start("small_apps:pid")
    second = start("small_apps:pid", bind=(f"127.0.0.1:{first.port}",), wait=False)
    assert second.wait() == 2
    assert second.stderr == (
        f"fastfork: Cannot listen on 127.0.0.1:{first.port}: "
        "the port is taken, another process listens there.\n")
    assert int(ask(first.url)) in first.workers()


def test_a_port_can_be_used_again_at_once(start):
    first = start("small_apps:pid")
    ask(first.url)
    assert first.stop() == 0
    second = start("small_apps:pid", bind=(f"127.0.0.1:{first.port}",))
    ask(second.url)


def test_chdir_is_importable_and_the_working_directory(start, application):
    directory = application("from small_apps import process as app\n")
    server = start("web:app", "--chdir", str(directory))
    facts = json.loads(ask(server.url))
    assert facts["cwd"] == str(directory)


def test_access_log_goes_where_it_was_told(start, tmp_path):
    path = tmp_path / "access.log"
    path.write_text("old\n")
    server = start("small_apps:pid", "--access-log", str(path))
    ask(server.url)
    assert server.stop() == 0
    lines = path.read_text().splitlines()
    assert lines[0] == "old" and '"GET / HTTP/1.1" 200' in lines[1] and len(lines) == 2


def test_access_log_on_standard_output(start):
    server = start("small_apps:pid", "--access-log", "-")
    ask(server.url)
    assert server.stop() == 0
    assert '"GET / HTTP/1.1" 200' in server.stdout


def test_ready_line_that_nobody_reads_is_no_failure(start):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        server = start("small_apps:pid", "--ready-fd", str(writing), pass_fds=(writing,),
                       wait=False)  # fmt: skip
    finally:
        os.close(writing)
    server.wait_stderr("small_apps:pid on http://")
    server.wait_stderr("Nobody reads --ready-fd")
    assert server.stop() == 0


def test_standard_descriptors_closed(start):
    """With 0, 1 and 2 closed no socket may take their place."""
    reading, writing = os.pipe()
    code = ("import os, sys; os.closerange(0, 3); os.execv(sys.executable, [sys.executable, '-m', "
            "'fastfork', 'serve', 'small_apps:pid', '-w', '1', '-b', '127.0.0.1:0', '--ready-fd', "
            f"'{writing}'])")  # fmt: skip
    master = subprocess.Popen(
        [sys.executable, "-c", code], cwd=os.path.dirname(__file__), pass_fds=[writing],
        env={**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT))})  # fmt: skip
    os.close(writing)
    try:
        with os.fdopen(reading) as ready:
            facts = json.loads(ready.readline())
        for pid in (facts["pid"], *facts["workers"]):
            for fd in (0, 1, 2):
                assert os.readlink(f"/proc/{pid}/fd/{fd}") == "/dev/null"
        assert int(ask(facts["listen"][0])) == facts["workers"][0]
    finally:
        master.terminate()
        assert master.wait(20) == 0


def test_as_many_descriptors_as_allowed(start):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        server = start("small_apps:pid")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for pid in (server.pid, *server.workers()):
        with open(f"/proc/{pid}/limits") as limits:
            line = next(line for line in limits if line.startswith("Max open files"))
        raised, most = (int(word) for word in line.split()[3:5])
        assert raised == min(most, 1 << 20)


def descriptors(pid, kind):
    """What `pid` has open of this kind ("pipe", "socket"): target → whether it may write."""
    found = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{fd}")
        if target.startswith(kind):
            with open(f"/proc/{pid}/fdinfo/{fd}") as info:
                flags = int(info.read().split("flags:")[1].split()[0], 8)
            found[target] = found.get(target, False) or flags & os.O_ACCMODE != os.O_RDONLY
    return found


@pytest.mark.parametrize("preload", ["on", "off"])
def test_a_worker_has_of_its_master_only_listener_pair_and_life_line(start, preload):
    """The first workers as well as respawned ones; and nothing of its siblings."""
    server = start("small_apps:pid", "--preload", preload, workers=3)
    first = server.workers()
    os.kill(first[0], 9)
    server.wait_stderr("is ready")
    workers = server.workers()
    assert len(set(workers) - set(first)) == 1
    theirs = {pid: descriptors(pid, "pipe") for pid in (server.pid, *workers)}
    (lifeline,) = set.intersection(*map(set, theirs.values()))
    for pid in workers:
        assert theirs[pid][lifeline] is False  # the end that is read
        for other in set(theirs) - {pid}:
            assert set(theirs[pid]) & set(theirs[other]) == {lifeline}
    sockets = {pid: set(descriptors(pid, "socket")) for pid in (server.pid, *workers)}
    common = set.intersection(*sockets.values())
    assert len(common) == 3  # the listener, and the pair by which workers pass connections
    for pid in workers:
        assert len(sockets[pid] - common) == 1  # its end of the channel to the master
        for other in set(sockets) - {pid}:
            assert sockets[pid] & sockets[other] == common
        (stacks,) = memory_files(pid)
        assert stacks in memory_files(server.pid)


def memory_files(pid):
    """(device, inode) of what it has open that is a file in memory."""
    fds = f"/proc/{pid}/fd"
    return {
        (os.stat(f"{fds}/{fd}").st_dev, os.stat(f"{fds}/{fd}").st_ino)
        for fd in os.listdir(fds) if os.readlink(f"{fds}/{fd}").startswith("/memfd:")
    }  # fmt: skip


def test_command_line_as_installed(tmp_path):
    script = "import sys, fastfork.cli; sys.exit(fastfork.cli.main())"
    for command in ([sys.executable, "-m", "fastfork"], [sys.executable, "-c", script]):
        done = subprocess.run(
            [*command, "--version"], capture_output=True, text=True, cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT))})  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (0, f"fastfork {__version__}\n", "")


def test_the_demo_says_what_to_try(serve):
    """Once, after the start-up line, whatever the number of workers."""
    server = serve("fastfork.demo:app", workers=3)
    server.wait_stderr("/hello")
    assert server.stderr.count("try:  ") == 1
    assert server.stderr.index(f"on {server.url}: 3 workers") < server.stderr.index("try:  ")
