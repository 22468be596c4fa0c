"""The services of a master while it runs, without a process: nobody has its turn here."""

import socket
from pathlib import Path

import pytest

from fastfork import deployment
from fastfork.family import Family
from fastfork.kinds import ConfigError
from fastfork.services import Services
from fastfork.sockets import Passed


class Realm:
    """`write` says what is to be served: more lines for each service's table."""

    def __init__(self, directory):
        self.directory = directory
        self.file = directory / "fastfork.toml"
        self.services = None

    def write(self, **services):
        lines = []
        for name, text in services.items():
            lines += [f"[services.{name}]", "app = 'hello:app'", text or f"bind = 'unix:{name}'"]
        self.file.write_text("\n".join(lines) + "\n")

    def start(self, **services):
        self.write(**services)
        self.services = Services(self.load(), self.load, Family())
        self.services.bind(Passed())

    def load(self):
        return deployment.load({}, file=str(self.file), environ={})

    def reload(self, name=None):
        return self.services.reload(name, "a test", 0.0)

    def listens(self, name):
        with socket.socket(socket.AF_UNIX) as sock:
            return sock.connect_ex(str(self.directory / name)) == 0


@pytest.fixture
def realm(tmp_path):
    realm = Realm(tmp_path)
    yield realm
    for service in realm.services.all:
        service.unbind()


def test_a_reload_without_a_working_directory_is_refused(realm, tmp_path, monkeypatch):
    """Not the end: the directory of a release that was served once may be gone."""
    realm.start(one="", two="")
    release = tmp_path / "release"
    release.mkdir()
    monkeypatch.chdir(release)
    release.rmdir()
    monkeypatch.setattr(realm.services, "_load", lambda: deployment.load(
        {"app": "hello:app", "access_log": "access.log"}, environ={}))
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory"):
        realm.reload()
    assert [service.name for service in realm.services.all] == ["one", "two"]


def test_of_two_reloads_in_one_turn_the_first_leaves_nothing(realm):
    """Neither sockets nor their files; what both want stays open."""
    realm.start(one="bind = ['unix:one']")
    realm.reload()
    (service,) = realm.services.all
    before = service.listeners()
    realm.write(one="bind = ['unix:one', 'unix:mistake', 'unix:new']")
    realm.reload()
    realm.write(one="bind = ['unix:one', 'unix:new']")
    assert realm.reload() == {"one": 4}
    assert realm.listens("one") and realm.listens("new")
    assert not (realm.directory / "mistake").exists()
    assert len(service.listeners()) == len(before) + 1
    assert len(sockets_below(realm.directory)) == 2


def sockets_below(directory):
    """Listening unix sockets of this process there."""
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return [row[7] for row in rows if row[3] == "00010000" and row[7].startswith(f"{directory}/")]


def test_a_reload_before_the_first_turn_leaves_the_first_generation_as_it_is(realm):
    """It is not given a mold that its settings do not want."""
    realm.start(one="bind = 'unix:one'\npreload = 'off'")
    (service,) = realm.services.all
    first = service.generation
    realm.reload()
    assert first.direct


def test_a_refused_reload_closes_what_it_has_opened(realm):
    realm.start(one="")
    realm.write(new="", one="bind = ['unix:one', 'unix:more']", two="bind = '192.0.2.1:1'")
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1:1"):
        realm.reload()
    assert realm.listens("one")
    assert sockets_below(realm.directory) == [str(realm.directory / "one")]
    assert [service.name for service in realm.services.all] == ["one"]
