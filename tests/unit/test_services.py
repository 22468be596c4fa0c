"""The services of a master while it runs, without a process: nobody has its turn here."""

import os
import signal
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
from waiting import has_ended, is_open, leave_waiting

from fastfork import deployment, log, pairs, worker
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

    def start(self, *, inherited=None, **services):
        self.write(**services)
        self.family = Family(inherited)
        self.services = Services(self.load(), self.load, self.family)
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


def test_one_that_leaves_is_not_found_any_more(realm):
    realm.start(one="", two="")
    realm.write(two="")
    realm.reload()
    with pytest.raises(ConfigError, match="no service 'one'"):
        realm.services.find("one")
    assert [service.name for service in realm.services.serving()] == ["two"]
    realm.services.tidy()
    assert [service.name for service in realm.services.all] == ["two"]


def test_one_that_is_stopped_is_not_among_those_that_serve(realm):
    realm.start(one="", two="")
    realm.services.stop("one", 0.0)
    assert [service.name for service in realm.services.serving()] == ["two"]
    assert realm.services.find("one").state() == "stopped"


def test_one_that_is_stopped_begins_no_reload_any_more(realm):
    """Not even one that was asked for in the same turn."""
    realm.start(one="bind = 'unix:one'\npreload = 'off'", two="")
    realm.reload("one")
    realm.services.stop("one", 0.0)
    service = realm.services.find("one")
    assert service.work(0.0) is None
    assert (service.state(), service.reloading, service.listeners()) == ("stopped", None, [])


@pytest.mark.parametrize("setting", ["pid", "control"])
def test_what_takes_effect_with_the_next_start_is_told(realm, capfd, setting):
    realm.start(one="")
    log.set_up()
    realm.file.write_text(realm.file.read_text() + f"[server]\n{setting} = 'other'\n")
    realm.reload()
    assert f"The change of {setting} will take effect when" in capfd.readouterr().err


def test_a_service_without_workers_is_reloaded_at_once(realm):
    """There is nobody who could prove it, and nobody who could be replaced."""
    off = "preload = 'off'\nbind = "
    realm.start(one=f"{off}'unix:old'")
    (service,) = realm.services.all
    service.resize(0)
    assert service.work(0.0) is None
    realm.write(one=f"{off}'unix:new'\nmax_unavailable = 1")
    realm.reload()
    service.resize(0)
    assert service.work(1.0) is None
    assert service.outcome == {"generation": 2, "ok": True, "why": ""}
    assert service.roster.max_unavailable == 1
    assert realm.listens("new") and not (realm.directory / "old").exists()


def test_a_reload_that_has_not_begun_is_told(realm):
    """Who has asked for it must not read of the new generation that it serves."""
    realm.start(one="")
    (service,) = realm.services.all
    service.announced = True
    realm.reload()
    assert service.state() == "reloading"


def test_an_address_moves_from_one_that_leaves_to_one_that_is_there(realm):
    realm.start(one="", two="")
    socket_of_one = realm.services.find("one").listeners()[0].socket
    realm.write(two="bind = ['unix:two', 'unix:one']")
    assert realm.reload() == {"two": 2}
    assert socket_of_one.fileno() >= 0
    assert realm.listens("one") and realm.listens("two")


def test_an_address_moves_on_before_its_new_owner_has_begun(realm):
    """From the generation that another follows in the same turn."""
    realm.start(one="", two="")
    realm.write(one="bind = ['unix:one', 'unix:new']", two="")
    realm.reload()
    realm.write(one="", two="bind = ['unix:two', 'unix:new']")
    realm.reload()
    assert realm.listens("new")


def test_two_ports_of_the_kernels_choice_stay_where_they_are(realm):
    """They are two, though they are written alike."""
    anywhere = "bind = '127.0.0.1:0'"
    realm.start(one=anywhere, two=anywhere)
    before = {service.name: service.urls for service in realm.services.all}
    realm.write(two=anywhere, three=anywhere, one=anywhere)
    realm.reload()
    three = realm.services.find("three").urls
    assert three not in before.values()
    for name in before:
        (listener,) = set(realm.services.find(name).listeners())
        assert [listener.url] == before[name]


def test_one_that_is_reloaded_alone_takes_nothing_from_others(realm):
    realm.start(one="", two="")
    realm.write(one="bind = ['unix:one', 'unix:two']", two="bind = 'unix:three'")
    with pytest.raises(ConfigError, match=r"unix:.*/two for two, which must be given up"):
        realm.reload("one")
    assert realm.reload() == {"one": 2, "two": 2}


# -- pairs of sockets between workers ----------------------------------------------------
def test_every_service_has_a_pair_as_long_as_it_is_there(realm):
    realm.start(one="", two="")
    one, two = (service.pair for service in realm.services.all)
    assert one is not None and two is not None and one != two
    realm.reload()
    assert [service.pair for service in realm.services.all] == [one, two]
    realm.write(two="")
    realm.reload()
    realm.services.tidy()
    assert not any(map(is_open, one)) and all(map(is_open, two))


def test_one_that_begins_anew_has_another(realm):
    realm.start(one="", two="")
    before = realm.services.find("one").pair
    realm.services.stop("one", 0.0)
    kept = os.dup(before.inlet)
    realm.reload("one")
    assert realm.services.find("one").pair is not before
    os.close(kept)


def test_connections_that_wait_end_with_the_service(realm):
    realm.start(one="preload = 'off'\nbind = 'unix:one'", two="")
    service = realm.services.find("one")
    reading = leave_waiting(service.pair)
    service.resize(0)
    assert service.work(0.0) is None
    assert not has_ended(reading)  # they wait, as who connects does
    realm.services.stop("one", 0.0)
    assert service.work(1.0) is None
    assert has_ended(reading)
    os.close(reading)


def test_not_if_others_have_the_pair_too(realm):
    """The workers of another master."""
    old = pairs.make()
    realm.start(inherited={"one": old}, one="")
    (service,) = realm.services.all
    assert service.pair is old and service.shared
    reading = leave_waiting(old)
    service.stop(0.0)
    assert service.work(0.0) is None
    assert not has_ended(reading)
    service.close_ties()
    os.close(reading)


def test_of_the_old_master_s_pairs_those_that_nobody_wants_are_closed(realm):
    old, unwanted = pairs.make(), pairs.make()
    realm.start(inherited={"one": old, "gone": unwanted}, one="", two="")
    realm.family.drop_pairs()
    assert [service.shared for service in realm.services.all] == [True, False]
    assert realm.services.find("one").pair is old and all(map(is_open, old))
    assert not any(map(is_open, unwanted))


@pytest.mark.parametrize(
    ("inherits", "others_serve", "ready", "told"),
    [
        (True, True, True, worker.RETIRE),
        (True, True, False, worker.RETIRE),
        (True, False, True, signal.SIGTERM),
        (False, True, True, signal.SIGTERM),
    ],
)
def test_a_new_master_that_fails_leaves_its_connections_to_the_old_one(
    realm, inherits, others_serve, ready, told
):
    """If it could have them: when it is told to stop, so is the old one."""
    realm.start(inherited={"one": pairs.make()} if inherits else None, one="")
    (service,) = realm.services.all
    signals = []
    member = service.roster.starting(0, 1, 0.0)
    if ready:
        service.roster.ready(member, 0.0)
    service.workers[member] = SimpleNamespace(member=member, tell_to_go=signals.append)
    service.stop(1.0, 0.5, others_serve=others_serve)
    assert signals == [told] and member.deadline == 1.5
