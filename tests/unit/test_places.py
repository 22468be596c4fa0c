import os
import stat
import subprocess
from pathlib import Path

import pytest

from fastfork import places
from fastfork.control import Control, ControlError

SELF = os.geteuid()


@pytest.fixture
def roots(tmp_path, monkeypatch):
    """The directories of "auto", elsewhere."""
    monkeypatch.setattr(places, "RUN", tmp_path / "run")
    monkeypatch.setattr(places, "USERS", tmp_path / "users")
    monkeypatch.setattr(places, "TMP", tmp_path / "tmp")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    for name in ("run", "tmp"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_the_directory_of_root(roots, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(roots))
    assert places.directories() == [roots / "run" / "fastfork"]


def test_the_directories_of_others(roots, monkeypatch):
    user = SELF or 1000
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(places, "_owner", lambda path: 7 if "strange" in str(path) else user)
    in_tmp, usual = roots / "tmp" / f"fastfork-{user}", roots / "users" / str(user) / "fastfork"
    assert places.directories() == [in_tmp, usual]
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(roots / "mine"))
    assert places.directories() == [roots / "mine" / "fastfork", in_tmp, usual]
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(usual.parent))
    assert places.directories() == [usual, in_tmp]
    for useless in (str(roots / "strange"), "relative", ""):
        monkeypatch.setenv("XDG_RUNTIME_DIR", useless)
        assert places.directories() == [in_tmp, usual]


def test_auto_makes_a_directory_for_us_alone(auto):
    mask = os.umask(0)
    try:
        path = places.place("auto")
    finally:
        os.umask(mask)
    assert path == auto / f"{os.getpid()}.sock"
    assert stat.S_IMODE(auto.stat().st_mode) == 0o700
    assert places.place("auto") == path  # it is there now


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_directory_into_which_others_may_write(auto, mode):
    auto.mkdir()
    auto.chmod(mode)
    with pytest.raises(ControlError, match=f"^others may write to {auto}$"):
        places.place("auto")
    assert places.find() == []


def test_a_link_or_file_instead_of_the_directory(auto, tmp_path):
    auto.symlink_to(tmp_path)
    with pytest.raises(ControlError, match=f"^{auto} is not a directory$"):
        places.place("auto")
    auto.unlink()
    auto.write_text("")
    with pytest.raises(ControlError, match=f"^{auto} is not a directory$"):
        places.place("auto")


@pytest.mark.skipif(SELF != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else(auto):
    auto.mkdir(0o700)
    os.chown(auto, 65534, 65534)
    with pytest.raises(ControlError, match=f"^{auto} belongs to somebody else$"):
        places.place("auto")
    with pytest.raises(ControlError, match=f"^{auto} belongs to somebody else$"):
        places.place(str(auto / "my.sock"))
    Control(auto / "1.sock", lambda request: {}).close()
    assert places.find() == []


def test_no_directory_can_be_made(auto):
    auto.parent.rmdir()
    with pytest.raises(ControlError, match=f"^cannot make {auto}: No such file or directory$"):
        places.place("auto")


def test_a_path_and_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert places.place("none") is None
    assert places.place("my.sock") == tmp_path / "my.sock"
    assert places.place("/run/my.sock") == Path("/run/my.sock")


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
    places.place("auto")
    assert sorted(auto.iterdir()) == sorted([living, other])


def test_a_socket_at_which_somebody_listens_is_not_removed(auto):
    """Its process may be in another pid namespace."""
    auto.mkdir(0o700)
    server = Control(auto / f"{dead_pid()}.sock", lambda request: {})
    places.place("auto")
    assert server.path.exists()
    server.close()


def test_find(auto):
    assert places.find() == []
    auto.mkdir(0o700)
    one, two = (Control(auto / f"{n}.sock", lambda request: {}) for n in (11, 12))
    dead = Control(auto / "13.sock", lambda request: {})
    dead._listener.socket.close()
    (auto / "x.sock").write_text("")
    assert places.find() == [one.path, two.path]
    assert places.find(12) == [two.path]
    assert places.find(13) == places.find(14) == []
    one.close()
    two.close()
