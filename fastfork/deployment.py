"""What is to be served: the services, and what holds for the server as a whole.

Five sources say it.  The first that has a setting decides:

1. flags, for every service that is started
2. FASTFORK_* variables of the environment, likewise
3. the table [services.NAME] of the file; [server] for the settings of the server as a whole
4. the table [defaults] of the file
5. the default

Names with values (environment, global_conf, mount) are merged name by name.  Relative paths
in the file count from its directory, others from the working directory.

Nothing stops at the first fault: all are collected, and raised as one ConfigError.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from fastfork import config
from fastfork.config import PREFIX, TABLE, Setting, Settings
from fastfork.kinds import ADDRESS, ConfigError, perhaps

FILE = "fastfork.toml"  # in the working directory
CONFIG = PREFIX + "CONFIG"
ONLY = PREFIX + "ONLY"
# What we tell ourselves, and what builds and tests are told.
INTERNAL = tuple(PREFIX + name for name in (
    "ANNOTATE", "ASAN", "CHAOS_SECONDS", "CHAOS_SEED", "DEBUG", "EXPECT_DEBUG", "LISTENERS",
    "PAIRS", "TSAN", "UPGRADE"))  # fmt: skip
SERVICE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
TABLES = ("server", "defaults", "services")
DEFAULT = "default"  # the origin of what nobody has said
OF_ONE = ("bind", "mount")  # settings that make no sense for several services at once

Flags = Mapping[str, "str | Iterable[str] | None"]


class ServiceConfig(NamedTuple):
    """One service.  `name` is "" for the only one of a command line, which is called what its
    application is.  `origins` says in words where a setting comes from, if not from its default."""

    name: str
    settings: Settings
    origins: Mapping[str, str] = {}


class Deployment(NamedTuple):
    """`server` has the settings that are the server's (`scope`), those of `services` have the
    others; whatever else stands in them is a default.  `services` are in the order in which they
    were written.

    `file` is the path of the file, `origins` are those of `server`.  `warnings` are sentences
    for the log."""

    server: Settings
    services: tuple[ServiceConfig, ...]
    file: str | None = None
    origins: Mapping[str, str] = {}
    warnings: tuple[str, ...] = ()


def load(
    flags: Flags,
    *,
    file: str | None = None,
    only: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
    here: bool = True,
) -> Deployment:
    """What flags, environment and file say together; the file is read anew each time.

    `flags` are texts by the names of settings, `file` is the value of --config, `only` names
    the services that are wanted (None: all).  Without `here`, users and groups need not be
    those of this machine.  ConfigError has a sentence for each fault.
    """
    environ = os.environ if environ is None else environ
    faults: list[str] = []
    above = [_from_environ(environ, faults), _from_flags(flags, faults)]
    has_app = any("app" in layer.values for layer in above)
    written = _File(faults)
    written.read(*_which_file(file, environ, has_app))
    services: list[_Service] = []
    if written.services:
        _check_one_each(above, written, wanted := _wanted(only, environ, written, faults), faults)
        for name, own in written.services.items():
            if name in wanted:
                services.append(_Service(name, [written.defaults, own, *above], written.called))
    elif _only(only, environ)[1] is not None:
        if not written.broken:
            source = _only(only, environ)[0]
            faults.append(f"{source} needs a file with services: name it with -c FILE.")
    elif has_app or not written.broken:
        services.append(_Service("", [written.defaults, *above], written.called))
        _check_something(services[0], written, faults)
    for service in services:
        service.check(here)
        faults += service.faults
    _check_addresses(services, written.called, faults)
    if faults:
        raise ConfigError(*dict.fromkeys(faults))
    server = _merged([written.server, *above], "server")
    return Deployment(
        _settings(server),
        tuple(ServiceConfig(one.name, one.settings, _origins(one.given)) for one in services),
        written.path, _origins(server), _warnings(environ))  # fmt: skip


def control_of(path: str) -> str | None:
    """The setting `control` in the file at `path`, for who looks for its server; None if the file
    has none.  Whatever else is in the file may be wrong.  ConfigError."""
    from fastfork import tomlfile

    row = TABLE["control"]
    table = tomlfile.read(path).get("server")
    if not isinstance(table, dict) or row.name not in table:
        return None
    value = row.take(table[row.name], f"{path}, [server]: {row.name}")
    return str(row.anchored(value, os.path.dirname(os.path.abspath(path))))


# -- what the sources say ----------------------------------------------------------------
class _Value(NamedTuple):
    """A value, what its key is called where it was written, and where that is: for sentences
    (`place`; "" if the key says it all) and for lists of settings (`origin`)."""

    value: Any
    key: str
    place: str
    origin: str


class _Layer:
    """What one source says.  `broken` are the settings of which it says nothing usable."""

    def __init__(self) -> None:
        self.values: dict[str, _Value] = {}
        self.broken: set[str] = set()


def _from_flags(flags: Flags, faults: list[str]) -> _Layer:
    layer = _Layer()
    for name, texts in flags.items():
        row = TABLE.get(name)
        if row is None:
            faults.append(f"There is no setting {name!r}{perhaps(name, TABLE)}.")
        elif texts is not None:
            key = config.flag_of(name)
            try:
                value = row.anchored(config.from_flag(row, texts), _working_directory())
            except ConfigError as error:
                faults += error.sentences
                layer.broken.add(name)
            else:
                origin = f"argument {key}" if row.positional else f"flag {key}"
                layer.values[name] = _Value(value, key, "", origin)
    return layer


def _from_environ(environ: Mapping[str, str], faults: list[str]) -> _Layer:
    layer = _Layer()
    rows = {row.variable: row for row in TABLE.values()}
    for variable in environ:
        row = rows.get(variable) if variable.startswith(PREFIX) else None
        if row is None:
            continue
        try:
            value = row.anchored(_from_variable(row, environ[variable]), _working_directory())
        except ConfigError as error:
            faults += error.sentences
            layer.broken.add(row.name)
        else:
            layer.values[row.name] = _Value(value, variable, "", f"environment {variable}")
    return layer


def _from_variable(row: Setting, text: str) -> Any:
    """The value that a variable has.  Several are separated by blanks, quotes as in a shell hold
    one together; addresses are separated by commas too.  ConfigError."""
    if not row.many:
        return row.parse(text, row.variable)
    if row.kind is ADDRESS:
        return row.parse_all(text.replace(",", " ").split(), row.variable)
    try:
        texts = shlex.split(text)
    except ValueError:
        raise row.error(text, row.variable, f"{row.right}, quotes closed") from None
    return row.parse_all(texts, row.variable)


def _warnings(environ: Mapping[str, str]) -> tuple[str, ...]:
    """About what looks like a setting and is none.  No faults: orchestrators set such variables
    of their own accord, FASTFORK_PORT for a service called fastfork."""
    known = [*(row.variable for row in TABLE.values()), CONFIG, ONLY]
    return tuple(
        f"The environment variable {name} is no setting{perhaps(name, known)}."
        for name in environ
        if name.startswith(PREFIX) and name not in known and name not in INTERNAL
    )


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it is gone: what is relative stays so, and will not be found
        return ""


# -- the file ----------------------------------------------------------------------------
def _which_file(
    file: str | None, environ: Mapping[str, str], has_app: bool
) -> tuple[str | None, str]:
    """The path of the file, None if there is none, and who named it ("" if nobody did)."""
    if file is not None:
        return file, "--config"
    if CONFIG in environ:
        return environ[CONFIG], CONFIG
    if not has_app and os.path.lexists(FILE):
        return FILE, ""
    return None, ""


class _File:
    """What the file says, as far as it can be understood; nothing if there is none."""

    def __init__(self, faults: list[str]) -> None:
        self.path: str | None = None  # absolute
        self.called = ""  # as in sentences
        self.broken = False  # it cannot be read, or its services cannot
        self.server, self.defaults = _Layer(), _Layer()
        self.services: dict[str, _Layer] = {}
        self._faults = faults

    def read(self, path: str | None, source: str) -> None:
        if path is None:
            return
        from fastfork import tomlfile  # who has no file need not wait for its parser

        self.called = path
        try:
            if not path:
                raise ConfigError(f"{source} '' is not usable: it must be the path of a file.")
            self.path = os.path.abspath(path)
            document = tomlfile.read(path)
        except ConfigError as error:
            self._faults += error.sentences
            self.broken = True
            return
        for name, content in document.items():
            self._read_part(name, content)

    def _read_part(self, name: str, content: Any) -> None:
        if name not in TABLES:
            self.broken = True
            self._fault(self.called, self._stray(name, content))
        elif not isinstance(content, dict):
            self.broken = True
            table = "[services.NAME]" if name == "services" else f"[{name}]"
            self._fault(self.called, f"{name} must be a table, written {table}")
        elif name == "services":
            for service, settings in content.items():
                self._read_service(service, settings)
        else:
            layer = self.server if name == "server" else self.defaults
            self._read_table(layer, content, f"[{name}]", "server" if name == "server" else
                             "service")  # fmt: skip

    def _stray(self, name: str, content: Any) -> str:
        """Something at the top that is none of our tables."""
        if name in TABLE:
            return f"{name} stands in no table: it belongs in {_home(TABLE[name])}"
        what = "table" if isinstance(content, (dict, list)) else "setting"
        return f"there is no {what} {name!r}{perhaps(name, TABLES if what == 'table' else TABLE)}"

    def _read_service(self, name: str, content: Any) -> None:
        table = f"[services.{_key(name)}]"
        if not SERVICE_NAME.fullmatch(name):
            self.broken = True
            self._fault(self.called, f"{table} is not usable: the name of a service must be 1 to "
                        "64 letters, digits, dots, hyphens and underscores, and begin with none "
                        "of . and -")  # fmt: skip
        elif not isinstance(content, dict):
            self.broken = True
            wrong = f"services.{_key(name)} must be a table, written {table}"
            if name in TABLE:
                wrong = f"{name} stands in no service: it belongs in {_home(TABLE[name])}"
            self._fault(self.called, wrong)
        else:
            layer = self.services[name] = _Layer()
            self._read_table(layer, content, table, "service")

    def _read_table(
        self, layer: _Layer, content: Mapping[str, Any], table: str, scope: str
    ) -> None:
        assert self.path is not None
        place = f"{self.called}, {table}"
        for name, raw in content.items():
            row = TABLE.get(name)
            if row is None or row.scope != scope:
                self._fault(place, _unknown(name, scope))
                continue
            try:
                value = row.anchored(row.take(raw, f"{place}: {name}"), os.path.dirname(self.path))
            except ConfigError as error:
                self._faults += error.sentences
                layer.broken.add(name)
            else:
                layer.values[name] = _Value(value, name, place, f"{self.called} {table}")

    def _fault(self, place: str, text: str) -> None:
        self._faults.append(f"{place}: {text}.")


def _unknown(name: str, scope: str) -> str:
    if name in TABLE:
        return f"{name} does not belong here, it belongs in {_home(TABLE[name])}"
    known = [row.name for row in TABLE.values() if row.scope == scope]
    return f"there is no setting {name!r}{perhaps(name, known)}"


def _home(row: Setting) -> str:
    return "[server]" if row.scope == "server" else "[services.NAME] or [defaults]"


def _key(name: str) -> str:
    """The name as part of a table's header."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name, re.ASCII) else f'"{name}"'


# -- together ----------------------------------------------------------------------------
def _merged(layers: Iterable[_Layer], scope: str) -> dict[str, _Value]:
    """What `layers` say of the settings of that scope; the later ones decide."""
    found: dict[str, _Value] = {}
    for layer in layers:
        for name, value in layer.values.items():
            if TABLE[name].scope != scope:
                continue
            below = found.get(name)
            found[name] = value if below is None else _over(below, value, TABLE[name])
    return found


def _over(below: _Value, above: _Value, row: Setting) -> _Value:
    if not row.named:
        return above
    pairs = {**dict(below.value), **dict(above.value)}
    return above._replace(
        value=tuple(pairs.items()), origin=f"{below.origin} and {above.origin}")


def _settings(given: Mapping[str, _Value]) -> Settings:
    return Settings(**{name: one.value for name, one in given.items()})


def _origins(given: Mapping[str, _Value]) -> dict[str, str]:
    return {name: one.origin for name, one in given.items()}


class _Service:
    """A service while it is put together.  `called` is the name of the file, if there is one."""

    def __init__(self, name: str, layers: Sequence[_Layer], called: str) -> None:
        self.name = name
        self.given = _merged(layers, "service")
        self.broken = set().union(*(layer.broken for layer in layers))
        self.faults: list[str] = []
        self.settings = _settings(self.given)
        self._file = called
        self._table = f"{called}, [services.{_key(name)}]" if name else ""

    def serves_something(self) -> bool:
        """Or would, if it had been written so that it can be used."""
        return bool(self.settings.app or self.settings.mount or self.broken & {"app", "mount"})

    def check(self, here: bool) -> None:
        """Add to `faults` what is wrong with it, apart from what the sources were told already."""
        for names, sentence in config.together(self.settings, self.key):
            self._add(names, sentence)
        self._check_application()
        self._check_addresses()
        if here:
            self._check_accounts()

    def _add(self, names: Sequence[str], sentence: str) -> None:
        """Nothing is said of settings that are not known, for want of a usable value."""
        if not self.broken & set(names):
            place = self._place(names)
            self.faults.append(f"{place}: {sentence}" if place else sentence)

    def key(self, name: str) -> str:
        """What whoever wrote the setting calls it; what they would, if they did not."""
        if name in self.given:
            return self.given[name].key
        return name if self.name else config.flag_of(name)

    def _before_value(self, name: str) -> str:
        """The same, in front of the value."""
        return self.key(name) + " =" * bool(name in self.given and self.given[name].place)

    def _place(self, names: Sequence[str]) -> str:
        """Where that was written: the table of the service, if some of it was, or else another."""
        places = [self.given[name].place for name in names if name in self.given]
        return max(places, default="")  # [services...] is above [defaults], and both above ""

    def _check_application(self) -> None:
        if self.settings.app and self.settings.mount:
            self._add(("app", "mount"), f"{self.key('app')} and {self.key('mount')} do not go "
                      "together: write one of them.")  # fmt: skip
        elif self.name and not self.serves_something():
            self.faults.append(f"{self._table}: app is missing, write what is to be served, such "
                               'as app = "pkg.mod:attr", or mount.')  # fmt: skip
        if self.settings.app:
            self._parse_application("app", self.settings.app, self._before_value("app"))
        for prefix, text in self.settings.mount:
            mount = self.given["mount"]
            source = f"mount.{prefix} =" if mount.place else f"{mount.key} {prefix}:"
            self._parse_application("mount", text, source)

    def _parse_application(self, name: str, text: str, source: str) -> None:
        from fastfork import app

        try:
            app.parse(text, source=source)
        except ConfigError as error:
            self._add((name,), str(error))

    def _check_addresses(self) -> None:
        from fastfork import sockets

        for text in self.settings.bind:
            try:
                sockets.parse(text, self._before_value("bind"))
            except sockets.AddressError as error:
                self._add(("bind",), str(error))

    def _check_accounts(self) -> None:
        settings = self.settings
        if settings.user is None and settings.group is None and settings.socket_owner is None:
            return
        from fastfork import identity

        try:
            identity.resolve(settings.user, settings.group)
        except ConfigError as error:
            self._add(("user", "group"), self._renamed(str(error), ("user", "group")))
        try:
            if settings.socket_owner is not None:
                identity.owner(settings.socket_owner)
        except ConfigError as error:
            self._add(("socket_owner",), self._renamed(str(error), ("socket_owner",)))

    def _renamed(self, sentence: str, names: Sequence[str]) -> str:
        """A sentence about flags, about what was written instead of them."""
        for name in names:
            flag = TABLE[name].flag
            if sentence.startswith(flag):
                sentence = self._before_value(name) + sentence.removeprefix(flag)
            sentence = sentence.replace(flag, self.key(name)) if self.name else sentence
        return sentence


# -- services among themselves -----------------------------------------------------------
def _only(
    only: Sequence[str] | None, environ: Mapping[str, str]
) -> tuple[str, Sequence[str] | None]:
    """Who says which services are wanted, and which; None if nobody does."""
    if only is not None:
        return "--only", only
    if ONLY in environ:
        return ONLY, [name.strip() for name in environ[ONLY].split(",")]
    return "", None


def _wanted(
    only: Sequence[str] | None, environ: Mapping[str, str], written: _File, faults: list[str]
) -> list[str]:
    """The services that are to be started."""
    source, names = _only(only, environ)
    if names is None:
        return list(written.services)
    for name in names:
        if name not in written.services:
            near = perhaps(name, written.services) or f", it has {', '.join(written.services)}"
            faults.append(f"{source} {name!r} is not usable: {written.called} has no such "
                          f"service{near}.")  # fmt: skip
    return [name for name in written.services if name in names]


def _check_one_each(
    above: Iterable[_Layer], written: _File, wanted: Sequence[str], faults: list[str]
) -> None:
    """What a flag or variable cannot say of several services."""
    for layer in above:
        app = layer.values.get("app")
        if app is not None:
            faults.append(f"{app.key} {app.value!r} and the services of {written.called} do not go "
                          "together: leave one of them out.")  # fmt: skip
            del layer.values["app"]
        for name in OF_ONE:
            value = layer.values.get(name)
            if value is not None and len(wanted) > 1:
                faults.append(f"{value.key} is for one service, and {', '.join(wanted)} are to be "
                              "started: name one with --only.")  # fmt: skip
                del layer.values[name]


def _check_something(service: _Service, written: _File, faults: list[str]) -> None:
    """That there is something to serve."""
    if service.serves_something():
        return
    if written.called:
        faults.append(
            f"{written.called} has no services: write [services.NAME] with app and bind into it, "
            "or name the application, fastfork serve APP.")  # fmt: skip
    else:
        faults.append(
            "There is nothing to serve: name the application, fastfork serve pkg.mod:attr, or a "
            f"file that has services, fastfork serve -c FILE (there is no {FILE} here).")


def _check_addresses(services: Iterable[_Service], called: str, faults: list[str]) -> None:
    """That no two services listen at one address."""
    from fastfork import sockets

    owners: dict[object, str] = {}
    for service in services:
        if "bind" in service.broken:
            continue
        for text in dict.fromkeys(service.settings.bind or [""]):
            try:
                address = sockets.parse(text) if text else None
            except sockets.AddressError:
                continue  # which has been said
            if isinstance(address, sockets.Tcp) and address.port == 0:
                continue
            owner = owners.setdefault(address, service.name)
            if owner == service.name:
                continue
            if address is None:
                faults.append(
                    f"{called}: the services {owner} and {service.name} both have no bind, which "
                    f"means {sockets.DEFAULT_BIND}, or what systemd passes: give each its own.")
            else:
                faults.append(
                    f"{called}: the services {owner} and {service.name} both have the address "
                    f"{address} in bind: give each its own.")
