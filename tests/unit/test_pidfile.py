import fcntl
import os
import signal
import stat
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from forked import in_child

from fastfork import log
from fastfork.pidfile import PidFile, PidFileError

NOBODY = 65534


@pytest.fixture
def path(tmp_path):
    return tmp_path / "server.pid"


@pytest.fixture
def acquire(path):
    """`acquire()` makes the file ours; it is let go with the test."""
    files = []

    def start(where=path):
        file = PidFile(str(where))
        files.append(file)
        file.acquire()
        return file

    yield start
    for file in files:
        file.forget()


@pytest.fixture
def messages(capfd):
    log.set_up("debug")
    return lambda: capfd.readouterr().err


def sentence_of(path):
    with pytest.raises(PidFileError) as caught:
        PidFile(str(path)).acquire()
    sentence = str(caught.value)
    assert sentence.startswith(f"Cannot write the pid file {str(path)!r}: ")
    assert sentence.endswith(".") and "\n" not in sentence
    return sentence.partition(": ")[2]


@contextmanager
def another_master(path):
    """A process of its own that holds the file; its pid."""
    program = (
        "import sys\n"
        "from fastfork.pidfile import PidFile\n"
        "file = PidFile(sys.argv[1])\n"
        "file.acquire()\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(path)], text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_it_holds_our_pid(acquire, path, tmp_path):
    before = os.umask(0o077)
    try:
        file = acquire()
    finally:
        os.umask(before)
    assert path.read_text() == f"{os.getpid()}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["server.pid"]
    file.acquire()  # it is ours already
    file.release()
    assert os.listdir(tmp_path) == []
    file.release()


def test_a_running_master_holds_it(path):
    with another_master(path) as other:
        expected = f"a master is running, pid {other.pid}, and holds it."
        assert sentence_of(path) == expected
        assert path.read_text() == f"{other.pid}\n"


def test_a_master_that_was_killed_does_not(acquire, path, messages):
    with another_master(path) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
        acquire()
    assert path.read_text() == f"{os.getpid()}\n"
    said = messages()
    assert f"[INFO] The pid file {path} said {other.pid}, which does not hold it any" in said


@pytest.mark.parametrize("number", [1, os.getpid(), os.getppid(), 999999999],
                         ids=["init's", "ours", "our parent's", "nobody's"])
def test_a_number_alone_holds_nothing(acquire, path, number):
    """Also that of a living process, and, in a container that is started anew, our own."""
    path.write_text(f"{number}\n")
    acquire()
    assert path.read_text() == f"{os.getpid()}\n"


def test_our_own_stale_number_is_no_news(acquire, path, messages):
    path.write_text(f"{os.getpid()}\n")
    acquire()
    assert messages() == ""


def test_an_empty_file_is_overwritten(acquire, path, messages):
    path.touch(0o600)
    acquire()
    assert path.read_text() == f"{os.getpid()}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert messages() == ""


def test_a_file_without_its_number_yet(path):
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert sentence_of(path) == "another master is starting, and holds it."


@pytest.mark.parametrize("content", ["precious", "12 34", "-5", "1" * 33 + "x", "12\nx"])
def test_a_file_with_something_else_is_left_alone(path, content):
    path.write_text(content)
    assert sentence_of(path) == "there is a file of that name that holds no pid."
    assert path.read_text() == content


def test_readers_see_one_whole_number_or_the_other(path):
    """The old file is never written to, and the new one is complete when it takes its place."""
    path.write_text("1234567890\n")
    renamed = []

    def note(event, args):
        if event == "os.rename":
            with open(args[0]) as file:
                renamed.append((file.read(), args[1]))

    def run():
        sys.addaudithook(note)
        PidFile(str(path)).acquire()
        assert renamed == [(f"{os.getpid()}\n", str(path))]

    with open(path) as old:
        in_child(run)
        assert old.read() == "1234567890\n"
        assert not os.path.samestat(os.fstat(old.fileno()), path.stat())


def test_release_leaves_a_file_that_is_another_s(acquire, path):
    file = acquire()
    path.unlink()
    path.write_text("4711\n")
    file.release()
    assert path.read_text() == "4711\n"
    acquire().release()
    assert not path.exists()


def test_release_of_a_file_that_is_gone(acquire, path, messages):
    file = acquire()
    path.unlink()
    file.release()
    assert messages() == ""


def test_handed_over(acquire, path):
    file = acquire()
    with pytest.raises(PidFileError):
        acquire()
    file.hand_over()
    assert path.read_text() == f"{os.getpid()}\n"
    with another_master(path) as new:
        file.release()
        file.hand_over()
        assert path.read_text() == f"{new.pid}\n"
        assert f"pid {new.pid}" in sentence_of(path)
    file.acquire()  # the new one failed
    assert path.read_text() == f"{os.getpid()}\n"
    file.release()
    assert not path.exists()


def test_handed_over_although_a_child_did_not_forget(acquire, path):
    file = acquire()
    copy = os.dup(file._fd)  # a fork has the same: another descriptor of one open file
    try:
        file.hand_over()
        acquire()
    finally:
        os.close(copy)


def test_a_child_that_forgets_leaves_the_lock(acquire, path):
    file = acquire()
    in_child(file.forget)
    assert f"pid {os.getpid()}" in sentence_of(path)
    in_child(lambda: (file.forget(), file.release(), file.hand_over()))
    assert f"pid {os.getpid()}" in sentence_of(path)
    assert path.exists()


def test_a_child_that_forgot_does_not_keep_the_lock(acquire, path):
    """The master is gone, a worker is still there."""
    file = acquire()
    ready, told = os.pipe()
    go, leave = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(leave)
        file.forget()
        os.write(told, b"x")
        os.read(go, 1)
        os._exit(0)
    try:
        os.read(ready, 1)
        os.close(file._fd)  # as the kernel does it for a master that is killed
        file._fd = -1
        acquire()
    finally:
        for fd in (leave, go, ready, told):
            os.close(fd)
        os.waitpid(pid, 0)


def test_who_waits_for_a_file_that_is_replaced_looks_again(path, monkeypatch, acquire):
    """Between open and flock the holder removes the file and another takes its place."""
    first = acquire()
    real = fcntl.flock
    calls = []

    def flock(fd, how):
        calls.append(how)
        if len(calls) == 1:
            first.release()
            assert not path.exists()
        return real(fd, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    acquire()
    assert path.read_text() == f"{os.getpid()}\n"
    assert len(calls) == 3  # the removed file, the new one, ours in its place


def test_a_relative_path_counts_from_here(acquire, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = acquire("x.pid")
    monkeypatch.chdir("/")
    file.release()
    assert os.listdir(tmp_path) == []


def test_no_directory(tmp_path, path):
    where = tmp_path / "absent"
    assert sentence_of(where / "x.pid") == f"there is no directory {str(where)!r}."
    path.write_text("1\n")
    assert sentence_of(path / "x.pid") == f"{str(path)!r} is no directory."


def test_a_directory(tmp_path):
    assert sentence_of(tmp_path) == "it is a directory."


def test_a_symbolic_link(tmp_path, path):
    path.symlink_to(tmp_path / "elsewhere")
    assert sentence_of(path) == "it is a symbolic link."
    assert os.listdir(tmp_path) == ["server.pid"]


def test_no_plain_file(path):
    os.mkfifo(path)
    assert sentence_of(path) == "it is no plain file."


@pytest.mark.parametrize("exists", [False, True])
def test_no_permission(exists):
    """(pytest's own directories are closed to others further up.)"""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        path = directory / "x.pid"
        if exists:
            path.write_text("1\n")
            path.chmod(0o666)
        directory.chmod(0o555)
        user = os.geteuid()
        if user == 0:  # root may write anywhere
            os.seteuid(NOBODY)
        try:
            assert sentence_of(path) == "no permission."
        finally:
            if user == 0:
                os.seteuid(user)
            directory.chmod(0o700)
        assert path.exists() == exists
        assert not exists or path.read_text() == "1\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_read_only_file_system(tmp_path):
    program = (
        "import sys\n"
        "from fastfork.pidfile import PidFile, PidFileError\n"
        "try: PidFile(sys.argv[1]).acquire()\n"
        "except PidFileError as error: print(error)\n"
    )
    shell = 'mount -t tmpfs -o ro none "$1" || exit 9; shift; exec "$@"'
    path = tmp_path / "x.pid"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", shell, "sh", tmp_path, sys.executable, "-c", program, path],
        capture_output=True, text=True, timeout=60)  # fmt: skip
    if done.returncode in (1, 9) and not done.stdout and "Traceback" not in done.stderr:
        pytest.skip(f"this root may not mount: {done.stderr}")
    reason = "its file system is read-only"
    assert done.stdout == f"Cannot write the pid file '{path}': {reason}.\n", done.stderr
