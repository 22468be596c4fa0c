"""The services of a master while it runs, without a process: nobody has its turn here."""

import os
import socket

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
