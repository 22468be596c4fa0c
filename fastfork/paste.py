"""PasteDeploy: applications that a paste file describes, and fastfork as its server.

`paste:FILE#NAME` is the application NAME of FILE.  FILE may describe pipelines, composites and
filters; what it refers to is imported in the worker, as any application is.

    [server:main]
    use = egg:fastfork#main
    bind = 127.0.0.1:8774
    workers = 4

makes `pserve FILE`, or whatever else starts servers through PasteDeploy, run fastfork (`serve`).
The keys of the section are settings.  PasteDeploy itself is imported only where a file is
loaded: it is an extra (pip install 'fastfork[paste]').
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from fastfork import app, config
from fastfork.app import Application, BootError
from fastfork.kinds import SWITCH, ConfigError, perhaps

if TYPE_CHECKING:
    from paste.deploy.loadwsgi import ConfigLoader

DEFAULT_NAME = "main"
# What is found under a name; one of `APP.config_prefixes` of paste.deploy.loadwsgi.
APP_SECTIONS = ("app", "application", "composite", "composit", "pipeline", "filter-app")


class Paste(NamedTuple):
    """The application `name` of the paste file with the absolute path `file`; `written` is how
    somebody put that."""

    file: str
    name: str
    written: str

    def __str__(self) -> str:
        return self.written

    def load(self, global_conf: Mapping[str, str]) -> Application:
        """Load it through PasteDeploy.  What is in `global_conf` goes before what the file says
        in [DEFAULT].  BootError, whatever the application's code does."""
        loader = self._open(global_conf)
        self._find(loader)
        self._set_up_logging(loader, global_conf)
        return self._create(loader, global_conf)

    def _open(self, global_conf: Mapping[str, str]) -> ConfigLoader:
        try:
            from paste.deploy.loadwsgi import ConfigLoader
        except ImportError as error:
            raise BootError(
                f"PasteDeploy cannot be imported ({error}): pip install 'fastfork[paste]'.",
                beginning=f"Cannot serve {self}: ") from None
        import configparser

        try:
            loader = ConfigLoader(self.file)
        except OSError as error:
            raise self._unreadable(error) from None
        except (configparser.Error, UnicodeError) as error:
            why = " ".join(str(error).split()).rstrip(".")
            raise BootError(f"The paste file {self.file!r} is not usable: {why}.") from None
        # loadapp() would leave the file's [DEFAULT] to be preferred in %(name)s, and only there;
        # and it takes these values, as they are, for texts in which % means something.
        loader.update_defaults(_escaped({**global_conf, **_places(self.file)}))
        return loader

    def _unreadable(self, error: OSError) -> BootError:
        known: list[str] = []
        if isinstance(error, FileNotFoundError):
            with contextlib.suppress(OSError):
                known = os.listdir(os.path.dirname(self.file))
        near = perhaps(os.path.basename(self.file), known)
        return BootError(f"Cannot read the paste file {self.file!r}: {error.strerror}{near}.")

    def _find(self, loader: ConfigLoader) -> None:
        """BootError if the file has no such application."""
        from paste.deploy.loadwsgi import APP

        if loader.absolute_name(self.name):  # egg:NAME, say
            return
        try:
            loader.find_config_section(APP, self.name)
        except LookupError:
            sections = (section.partition(":") for section in loader.parser.sections())
            names = [name.strip() for kind, _, name in sections if kind in APP_SECTIONS]
            if self.name in names:
                why = f"{self.file} has several applications named {self.name!r}."
            else:
                hint = perhaps(self.name, names)
                if not hint and names:
                    hint = f", only {', '.join(map(repr, names))}"
                why = f"{self.file} has no application {self.name!r}{hint}."
            raise BootError(why, beginning=f"Cannot serve {self}: ") from None

    def _set_up_logging(self, loader: ConfigLoader, global_conf: Mapping[str, str]) -> None:
        """As pserve does: a file that says what is to be logged means it."""
        if not loader.parser.has_section("loggers"):
            return
        import logging.config

        defaults = _escaped({**global_conf, **_places(self.file)})
        try:
            logging.config.fileConfig(self.file, defaults, disable_existing_loggers=False)
        except Exception as error:
            ours = (__file__, logging.__file__, logging.config.__file__)
            raise app.fault(self, "setting up the logging that its file describes", error, *ours
                            ) from None  # fmt: skip

    def _create(self, loader: ConfigLoader, global_conf: Mapping[str, str]) -> Application:
        from paste.deploy.loadwsgi import APP

        try:
            context = loader.get_context(APP, self.name, dict(global_conf))
            application = context.create()
        except BaseException as error:
            raise self._fault(error) from None
        return app.check(application, f"what {self} names")

    def _fault(self, error: BaseException) -> BootError:
        """Is it the application's code, or what the file says?"""
        import configparser
        import importlib.metadata

        from paste.deploy import loadwsgi, util

        modules = (configparser, importlib.metadata, loadwsgi, util)
        ours = (__file__, *(str(module.__file__) for module in modules))
        trace = app.application_trace(error, *ours)
        if isinstance(error, importlib.metadata.PackageNotFoundError) and not trace:
            why = f"there is no distribution {error.name!r}, which {self.file} refers to."
        elif type(error) is LookupError and not trace:
            why = f"{' '.join(str(error).split())}."
        else:
            return app.fault(self, "loading it", error, *ours)
        return BootError(why, beginning=f"Cannot serve {self}: ")


def parse(text: str, source: str) -> Paste:
    """paste:FILE#NAME; without #NAME it is #main.  FILE counts from the working directory.
    ConfigError, which names `source`."""
    file, hash, name = text.removeprefix("paste:").partition("#")
    if not file or (hash and not name):
        missing = "NAME" if file else "FILE"
        raise ConfigError(
            f"{source} {text!r} is not usable: {missing} is missing, write paste:FILE#NAME.")
    return Paste(os.path.abspath(file), name or DEFAULT_NAME, text)


def _places(file: str) -> dict[str, str]:
    """What PasteDeploy itself defines for every file."""
    return {"here": os.path.dirname(file), "__file__": file}


def _escaped(values: Mapping[str, str]) -> dict[str, str]:
    """For configparser, which would take what follows a % for the name of another value."""
    return {name: value.replace("%", "%%") for name, value in values.items()}


# -- fastfork as a server of PasteDeploy -------------------------------------------------
def serve(wsgi_app: Any, global_conf: Mapping[str, str], /, **local_conf: str) -> NoReturn:
    """The `paste.server_runner` named main: become `fastfork serve paste:FILE#NAME`.

    The master holds no application code, so this process, in which `wsgi_app` has been imported
    already, is replaced.  FILE is the one that the section stands in, NAME its key `app` or
    "main"; the other keys are settings, `host` and `port` another way to write `bind`.
    SystemExit(2), with a sentence for every key that is not usable on standard error.
    """
    from fastfork import log

    try:
        command = [sys.executable, "-m", "fastfork", "serve", *_arguments(global_conf, local_conf)]
    except ConfigError as error:
        for sentence in str(error).splitlines():
            log.write(f"fastfork: {log.escape(sentence)}\n")
        raise SystemExit(2) from None
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os.execv(sys.executable, command)


def _arguments(global_conf: Mapping[str, str], local_conf: Mapping[str, str]) -> list[str]:
    """APP and flags.  ConfigError with a sentence a line."""
    file = global_conf.get("__file__", "")
    if not file or "#" in file:
        raise ConfigError(
            f"fastfork serves an application of a paste file, and {file!r} is not usable as the "
            "name of one (global_conf['__file__']).")
    file = os.path.abspath(file)
    keys = dict(local_conf)
    name = keys.pop("app", DEFAULT_NAME)
    flags, faults = [], []
    for read in (_address, _settings):
        try:
            flags += read(file, keys)
        except ConfigError as error:
            faults.append(str(error))
    if faults:
        raise ConfigError("\n".join(faults))
    conf = [f"--global-conf={name}={value}" for name, value in _added(file, global_conf).items()]
    return [f"paste:{file}#{name}", *flags, *conf]


def _address(file: str, keys: dict[str, str]) -> list[str]:
    """`host` and `port`, which are taken out of `keys`, as a flag.  ConfigError."""
    host, port = keys.pop("host", None), keys.pop("port", None)
    if host is None and port is None:
        return []
    if "bind" in keys:
        raise ConfigError(f"{file}: bind and host or port do not go together: each says it all.")
    host = (host or "127.0.0.1").strip("[]")
    return [f"--bind={f'[{host}]' if ':' in host else host}:{port or 8000}"]


def _settings(file: str, keys: Mapping[str, str]) -> list[str]:
    """ConfigError with a sentence a line."""
    flags, faults = [], []
    for key, value in keys.items():
        try:
            flags += _flags(file, key, str(value))
        except ConfigError as error:
            faults.append(str(error))
    if faults:
        raise ConfigError("\n".join(faults))
    return flags


def _flags(file: str, key: str, value: str) -> list[str]:
    row = config.TABLE.get(key)
    if row is None:
        known = [*config.TABLE, "host", "port"]
        raise ConfigError(f"{file}: there is no setting {key!r}{perhaps(key, known)}.")
    if key == "mount":
        raise ConfigError(
            f"{file}: mount is not usable here: app names the one application that is served, "
            "which may be a composite.")
    # One setting may have several values, a line each.
    texts = [line.strip() for line in value.splitlines() if line.strip()] if row.many else [value]
    for text in texts:
        row.parse(text, f"{file}: {key}")
    if row.kind is SWITCH:
        return [row.flag] if SWITCH.read(value) else []
    return [f"{row.flag}={text}" for text in texts]


def _added(file: str, global_conf: Mapping[str, str]) -> dict[str, str]:
    """What the caller has defined beside the file.  (What stands in the file is read from it, at
    a reload too.)"""
    import configparser

    from paste.deploy.loadwsgi import ConfigLoader

    own: dict[str, str] = {}
    with contextlib.suppress(OSError, configparser.Error):  # who serves the file will say so
        loader = ConfigLoader(file)
        loader.update_defaults(_escaped(_places(file)))
        own = loader.parser.defaults()
    return {name: str(value) for name, value in global_conf.items()
            if name not in _places(file) and own.get(name) != value}  # fmt: skip
