"""`fastfork import-gunicorn gunicorn.conf.py`: a fastfork.toml that does what gunicorn did.

The file is a program.  It is run in a process of its own (`run_conf`), for so long and no longer,
and what it has set is read from there.  What it leaves unset has fastfork's default, but for
these, where gunicorn's does something else: workers, timeout, forwarded_allow_ips.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from typing import Any, NamedTuple

from fastfork import app, run_conf, sockets
from fastfork.config import TABLE
from fastfork.deployment import SERVICE_NAME
from fastfork.draft import DEFAULTS, EXIT_UNUSABLE, SERVER, Draft, seconds, service, size
from fastfork.kinds import ConfigError
from fastfork.log import escape, write
from fastfork.toml_text import Path, Value

PATIENCE = 30.0  # seconds for the file
LONGEST = 1 << 20  # bytes of what it sets
OTHER_FIELDS = 48 << 10  # room in a head beside its longest field
SMALLEST_HEAD = 64 << 10
GREENLETS = int(TABLE["greenlets"].high or 0)  # the most that there can be
FIELD = 8190  # gunicorn's longest field and request line
COMBINED = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'
COMMON = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s'
LOCAL = "127.0.0.1,::1"  # whom gunicorn believes by default
SCHEMES = {"X-FORWARDED-PROTOCOL": "ssl", "X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"}


# -- what has no place in the file -------------------------------------------------------
class Left(NamedTuple):
    """Why a setting is not carried over, and with which values nothing is lost by that."""

    reason: str
    harmless: tuple[Any, ...] = (None, False, "", 0)


_NO_TLS = "fastfork has no TLS, put a proxy that has it in front"
_NO_H2 = "fastfork speaks HTTP/1, put a proxy that speaks HTTP/2 in front"
_NO_ASGI = "fastfork serves WSGI, not ASGI"
_NO_STATSD = "fastfork has no statsd; fastfork status --json has the numbers"
_NO_DIRTY = "fastfork has no such workers, use a task queue"
_NO_WATCH = "fastfork does not watch files; fastfork reload, or SIGHUP, loads the new code"
_STDERR = "fastfork writes its log to standard error, send that where it should go"
_STRICT = "such requests are always refused"
_START = "register a function with fastfork.hooks.on_worker_start instead, or name it in the " \
    "setting on_worker_start; it is called with a fastfork.hooks.Worker"  # fmt: skip
_STOP = "register a function with fastfork.hooks.on_worker_stop instead"
_MASTER = "the master runs nobody's code; let the unit or script that starts fastfork do it"
_READY = "the master runs nobody's code; systemd is told when all workers are ready, as is ready_fd"
_MIDDLEWARE = "wrap the application in a WSGI middleware that does it"

_LEFT = {
    "config": Left("name that file instead"),
    "reload": Left(_NO_WATCH),
    "reload_engine": Left(_NO_WATCH, (None, "auto")),
    "reload_extra_files": Left(_NO_WATCH, (None, [], "")),
    "spew": Left("fastfork has no such thing"),
    "check_config": Left("say fastfork check"),
    "print_config": Left("say fastfork config"),
    "sendfile": Left("files are sent with sendfile wherever that can be", (None, True)),
    "reuse_port": Left("the workers share one socket, and pass on to each other what they cannot "
                       "take"),
    "daemon": Left("fastfork stays in the foreground, let systemd or the like start it"),
    "worker_tmp_dir": Left("there is no file for signs of life, they are in shared memory"),
    "tmp_upload_dir": Left("temporary files are in the directory that TMPDIR names when fastfork "
                           "is started"),
    "errorlog": Left(_STDERR, (None, "-")),
    "capture_output": Left("what the application prints goes to the standard output and standard "
                           "error that fastfork was given"),
    "enable_stdio_inheritance": Left("standard output and standard error are inherited anyway"),
    "disable_redirect_access_to_syslog": Left("there is no syslog"),
    "logger_class": Left("fastfork has a log of its own"),
    "logconfig": Left("fastfork does not set up Python's logging, let the application do it"),
    "logconfig_dict": Left("fastfork does not set up Python's logging, let the application do it",
                           (None, {})),
    "logconfig_json": Left("fastfork does not set up Python's logging, let the application do it"),
    "syslog": Left(_STDERR),
    "syslog_addr": Left(_STDERR, (None, "udp://localhost:514")),
    "syslog_prefix": Left(_STDERR),
    "syslog_facility": Left(_STDERR, (None, "user")),
    "statsd_host": Left(_NO_STATSD),
    "statsd_prefix": Left(_NO_STATSD),
    "dogstatsd_tags": Left(_NO_STATSD),
    "enable_backlog_metric": Left(_NO_STATSD),
    "default_proc_name": Left("processes are called fastfork, and services what their tables are"),
    "on_starting": Left(_MASTER, ()),
    "on_reload": Left(_MASTER, ()),
    "when_ready": Left(_READY, ()),
    "pre_fork": Left("register a function with fastfork.hooks.on_fork.before instead; it is "
                     "called if the application is preloaded", ()),
    "post_fork": Left(_START, ()),
    "post_worker_init": Left(_START, ()),
    "worker_int": Left(_STOP, ()),
    "worker_abort": Left("a handler that takes too long gets fastfork.RequestTimeout, and the log "
                         "has the stacks of a worker that is killed", ()),
    "pre_exec": Left(_MASTER, ()),
    "pre_request": Left(_MIDDLEWARE, ()),
    "post_request": Left(_MIDDLEWARE, ()),
    "child_exit": Left("the master runs nobody's code; the log says why a worker ended", ()),
    "worker_exit": Left(_STOP, ()),
    "nworkers_changed": Left(_MASTER, ()),
    "on_exit": Left(_MASTER, ()),
    "ssl_context": Left(_NO_TLS, ()),
    "protocol": Left("fastfork speaks HTTP", (None, "http")),
    "uwsgi_allow_ips": Left("fastfork speaks HTTP, not uWSGI's protocol", (None, LOCAL)),
    "keyfile": Left(_NO_TLS),
    "certfile": Left(_NO_TLS),
    "ssl_version": Left(_NO_TLS, (None, 2)),
    "cert_reqs": Left(_NO_TLS),
    "ca_certs": Left(_NO_TLS),
    "suppress_ragged_eofs": Left(_NO_TLS, (None, True)),
    "do_handshake_on_connect": Left(_NO_TLS),
    "ciphers": Left(_NO_TLS),
    "http_protocols": Left(_NO_H2, (None, "", "h1", ["h1"])),
    "http2_cleartext": Left(_NO_H2, (None, False, "off")),
    "http2_max_concurrent_streams": Left(_NO_H2, (None, 100)),
    "http2_initial_window_size": Left(_NO_H2, (None, 65535)),
    "http2_max_frame_size": Left(_NO_H2, (None, 16384)),
    "http2_max_header_list_size": Left(_NO_H2, (None, 65536)),
    "permit_obsolete_folding": Left(_STRICT),
    "strip_header_spaces": Left(_STRICT),
    "permit_unconventional_http_method": Left("methods that are not known are answered with 501"),
    "permit_unconventional_http_version": Left(_STRICT),
    "casefold_http_method": Left("methods that are not known, lower-case ones too, are answered "
                                 "with 501"),
    "forwarder_headers": Left("of a proxy's fields X-Forwarded-Prefix becomes SCRIPT_NAME, if it "
                              "is named in forwarded_fields, and others nothing of the kind",
                              (None, "", [], "SCRIPT_NAME,PATH_INFO")),
    "asgi_loop": Left(_NO_ASGI, (None, "auto")),
    "asgi_lifespan": Left(_NO_ASGI, (None, "auto")),
    "asgi_disconnect_grace_period": Left(_NO_ASGI, (None, 3)),
    "websocket_max_message_size": Left(_NO_ASGI, (None, 16 << 20)),
    "root_path": Left(_NO_ASGI),
    "http_parser": Left("there is one parser", (None, "auto")),
    "dirty_apps": Left(_NO_DIRTY, (None, [], "")),
    "dirty_workers": Left(_NO_DIRTY),
    "dirty_timeout": Left(_NO_DIRTY, (None, 300)),
    "dirty_threads": Left(_NO_DIRTY, (None, 1)),
    "dirty_graceful_timeout": Left(_NO_DIRTY, (None, 30)),
    "on_dirty_starting": Left(_NO_DIRTY, ()),
    "dirty_post_fork": Left(_NO_DIRTY, ()),
    "dirty_worker_init": Left(_NO_DIRTY, ()),
    "dirty_worker_exit": Left(_NO_DIRTY, ()),
    "control_socket_mode": Left("the socket is always for its owner alone", (None, 0o600)),
}  # fmt: skip
_CARRIED = (
    "wsgi_app", "paste", "raw_paste_global_conf", "proc_name", "bind", "backlog", "umask", "user",
    "group", "initgroups", "workers", "worker_class", "threads", "worker_connections",
    "max_requests", "max_requests_jitter", "timeout", "graceful_timeout", "keepalive",
    "limit_request_line", "limit_request_fields", "limit_request_field_size", "preload_app",
    "chdir", "pythonpath", "raw_env", "pidfile", "control_socket", "control_socket_disable",
    "forwarded_allow_ips", "secure_scheme_headers", "proxy_protocol", "proxy_allow_ips",
    "header_map", "accesslog", "access_log_format", "loglevel",
)  # fmt: skip
_OTHER = object()
NAMES = (*_CARRIED, *_LEFT)  # all that gunicorn knows


def run(arguments: argparse.Namespace) -> int:
    """Write the file.  0; 2 if nothing can be made of what was given, and nothing is written."""
    path: str = arguments.file
    try:
        conf = read(path)
    except ConfigError as error:
        write(f"fastfork: {escape(str(error))}\n")
        return EXIT_UNUSABLE
    draft = Draft("gunicorn", path, arguments.output)
    _Gunicorn(conf, path, draft).convert()
    if "GUNICORN_CMD_ARGS" in os.environ:
        draft.note("GUNICORN_CMD_ARGS is set in the environment, what it says was not read.")
    return draft.finish()


# -- running the file --------------------------------------------------------------------
class Conf(NamedTuple):
    """What the file sets: values as `run_conf` encodes them.  `written` are the names of those
    that were not computed."""

    settings: dict[str, dict[str, Any]]
    written: frozenset[str]


def read(path: str, patience: float = PATIENCE) -> Conf:
    """Run the file, for at most `patience` seconds.  ConfigError, one sentence, if it does not
    come to its end."""
    beginning = f"{path!r} cannot be used"
    line = _run(path, beginning, patience)
    try:
        answer = json.loads(line)
        if "error" in answer:
            raise ConfigError(f"{beginning}: {answer['error']}.")
        settings = {name: dict(value) for name, value in answer["settings"].items()}
        return Conf(settings, frozenset(answer["written"]))
    except ConfigError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise ConfigError(
            f"{beginning}: it writes to descriptors that are not its own.") from None


def _run(path: str, beginning: str, patience: float) -> bytes:
    """The line that `run_conf` writes."""
    ours, low = os.pipe()
    its = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 3)  # if we were started with 1 closed, say
    os.close(low)
    command = [sys.executable, run_conf.__file__, path, str(its), ",".join(NAMES)]
    # What it prints is nobody's business, and can be endless.
    try:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, pass_fds=(its,), start_new_session=True)  # fmt: skip
    except (OSError, ValueError) as error:
        os.close(ours)
        os.close(its)
        raise ConfigError(f"{beginning}: no process can be started for it ({error}).") from None
    os.close(its)
    line = None
    try:
        line = _read_line(ours, patience)
    except TimeoutError:
        raise ConfigError(
            f"{beginning}: it is still running after {patience:g} seconds.") from None
    finally:
        os.close(ours)
        _end(child)
    if line is None:
        raise ConfigError(f"{beginning}: what it sets is longer than {LONGEST >> 20} MiB.")
    if not line:
        raise ConfigError(f"{beginning}: {_ended(child.returncode)}.")
    return line


def _read_line(fd: int, patience: float) -> bytes | None:
    """All up to the first newline or, if there is none, the end; None if it is too long.
    TimeoutError.  (Who the file has forked may hold the pipe open for ever.)"""
    deadline = time.monotonic() + patience
    data = b""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while b"\n" not in data:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError
        more = os.read(fd, 1 << 16)
        data += more
        if not more:
            break
        if len(data) > LONGEST:
            return None
    return data.partition(b"\n")[0]


def _end(child: subprocess.Popen[bytes]) -> None:
    """End it and what it has started."""
    with contextlib.suppress(OSError):  # it is not waited for, so the number is still its own
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _ended(status: int) -> str:
    if status == -signal.SIGKILL:
        return "it was killed, or has closed what it was to answer on"
    if status < 0:
        return f"it was killed by {signal.Signals(-status).name}"
    return f"it ends the process that runs it, with exit status {status}"


# -- the settings ------------------------------------------------------------------------
class _Gunicorn:
    def __init__(self, conf: Conf, path: str, draft: Draft) -> None:
        self.conf = conf
        self.file = path
        self.draft = draft
        self.base = os.getcwd()  # from which gunicorn's relative paths count
        self.table: Path = DEFAULTS

    def convert(self) -> None:
        self.base = os.path.join(self.base, self._text("chdir") or "")
        self._application()
        self._import()
        self._processes()
        self._times()
        self._limits()
        binds = self._bind()
        self._owner(binds)
        self._proxies(binds)
        self._environment()
        self._server()
        self._access_log()
        for name in _LEFT:
            self._leave(name)

    def _put(self, name: str, value: Value, option: str, *why: str) -> None:
        table = SERVER if name in ("pid", "control", "log_level") else self.table
        if option in self.conf.settings and option not in self.conf.written:
            option += ", computed when the file was run, on this machine"
        self.draft.put(table, name, value, option, *why)

    # -- reading a value as gunicorn does
    def _given(self, name: str) -> bool:
        return name in self.conf.settings

    def _get(self, name: str) -> Any:
        """What the file sets, None if it does not; `_OTHER` is a value that JSON cannot say."""
        value = self.conf.settings.get(name)
        return None if value is None else value.get("is", _OTHER)

    def _refuse(self, name: str, right: str) -> None:
        self.draft.fault(f"{self.file}: {name} = {self._shown(name)} is not usable, for gunicorn "
                         f"neither: it must be {right}.")  # fmt: skip

    def _shown(self, name: str) -> str:
        value = self.conf.settings[name]
        if "is" in value:
            text = repr(value["is"])
            return text if len(text) <= 60 else text[:57] + "..."
        return f"{value['callable']}()" if "callable" in value else f"some {value.get('other')}"

    def _count(self, name: str) -> int | None:
        value = self._get(name)
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                value = int(value, 0)
        if isinstance(value, int) and value >= 0:
            return int(value)
        if self._given(name):
            self._refuse(name, "a whole number, at least 0")
        return None

    def _text(self, name: str) -> str | None:
        value = self._get(name)
        if value is None or isinstance(value, str):
            return value and value.strip()
        self._refuse(name, "some text")
        return None

    def _flag(self, name: str) -> bool | None:
        value = self._get(name)
        if isinstance(value, str):
            value = {"true": True, "false": False}.get(value.strip().lower(), value)
        if value is None or isinstance(value, bool):
            return value
        self._refuse(name, "True or False")
        return None

    def _texts(self, name: str) -> list[str]:
        value = self._get(name) or []
        if isinstance(value, str):
            value = [value]
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return [item.strip() for item in value]
        self._refuse(name, "a list of texts")
        return []

    def _comma_list(self, name: str) -> list[str]:
        return [item.strip() for item in (self._text(name) or "").split(",") if item.strip()]

    # -- the application
    def _path(self, text: str) -> str:
        return self.draft.path(self.base, text)

    def _application(self) -> None:
        paste, wsgi_app = self._text("paste"), self._text("wsgi_app")
        name = self._text("proc_name")
        if paste:
            uri = paste.removeprefix("config:")
            file, mark, section = uri.partition("#")
            option, value = "paste", f"paste:{self._path(file)}#{section if mark else 'main'}"
        elif wsgi_app:
            option, value = "wsgi_app", wsgi_app if ":" in wsgi_app else f"{wsgi_app}:application"
        else:
            self.draft.note(
                "The file names no application: say fastfork serve APP -c FILE, with this as FILE."
            )
            if name:
                self.draft.leave("proc_name", "it would be the name of a service, and without an "
                                 "application there is none here")  # fmt: skip
            return
        if paste and wsgi_app:
            self.draft.leave("wsgi_app", "gunicorn serves what paste names, if there is one")
        usable = name is not None and SERVICE_NAME.fullmatch(name)
        self.table = service(name if usable and name else "web")
        if name and not usable:
            self.draft.leave(
                "proc_name", "the name of a service has at most 64 letters, digits, underscores, "
                "dots and hyphens; the service is called web")  # fmt: skip
        try:
            app.parse(value, source=f"{self.file}: {option}")
        except ConfigError as error:
            self.draft.fault(str(error))
        self._put("app", value, option)

    def _import(self) -> None:
        """Where and how the application is imported."""
        directory = self._text("chdir")
        if directory:
            self._put("chdir", self.draft.path(os.getcwd(), directory), "chdir")
        directories = [self._path(item) for item in self._comma_list("pythonpath")]
        if directories:
            self._put("python_path", directories, "pythonpath")
        preload = self._flag("preload_app")
        if preload is not None:
            self._put("preload", "on" if preload else "off", "preload_app")
        conf: dict[str, Value] = {}
        for item in self._texts("raw_paste_global_conf"):
            parts = re.split(r"(?<!\\)=", item, maxsplit=1)
            if len(parts) < 2:
                self._refuse("raw_paste_global_conf", "a list of NAME=VALUE")
                return
            conf[parts[0].replace("\\=", "=")] = parts[1].replace("\\=", "=")
        if conf:
            self._put("global_conf", conf, "raw_paste_global_conf")

    def _environment(self) -> None:
        variables: dict[str, Value] = {}
        for item in self._texts("raw_env"):
            name, equals, value = item.partition("=")
            if not equals:
                self._refuse("raw_env", "a list of NAME=VALUE")
                return
            variables[name] = value
        if variables:
            self._put("environment", variables, "raw_env")

    # -- processes
    def _processes(self) -> None:
        workers = self._count("workers")
        if workers is not None:
            self._put("workers", workers, "workers")
            if "workers" not in self.conf.written:
                self.draft.note(f"workers = {workers} was computed on this machine; auto is one "
                                "for each core that may be used, wherever it runs.")  # fmt: skip
        elif not self._given("workers"):
            self._default_workers()
        self._worker_class()
        for name in ("max_requests", "max_requests_jitter"):
            number = self._count(name)
            if number is not None:
                self._put(name, number, name)

    def _default_workers(self) -> None:
        """One, or what the environment says; anything but a number ends gunicorn."""
        text = os.environ.get("WEB_CONCURRENCY", "1")
        number = int(text) if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) else 1
        option = "WEB_CONCURRENCY" if "WEB_CONCURRENCY" in os.environ else "workers"
        self.draft.put_default(self.table, "workers", number, option)

    def _kind(self) -> str:
        """sync, gthread, gevent, eventlet, asgi or other."""
        value = self.conf.settings.get("worker_class", {"is": "sync"})
        given = value.get("callable") or value.get("is") or "sync"
        name = given.strip().lower() if isinstance(given, str) else "other"
        kinds = [kind for kind, pattern in _KINDS.items() if re.fullmatch(pattern, name)]
        kind = kinds[0] if kinds else "other"
        return "gthread" if kind == "sync" and (self._count("threads") or 1) > 1 else kind

    def _worker_class(self) -> None:
        """How many handlers a worker runs at once, and by what means."""
        kind = self._kind()
        if kind == "asgi":
            self.draft.leave("worker_class", _NO_ASGI)
        elif kind == "other":
            self.draft.leave(
                "worker_class", "workers of that kind are not offered, and as it is written one "
                "runs one handler at a time; threads, or green = gevent, let it run several",
            )
        elif kind in _GREEN:
            self._green(kind)
        threads = self._count("threads") or 1
        if threads > 1 and kind == "gthread":
            self._put("threads", threads, "threads")
        elif threads > 1:
            self.draft.leave("threads", "gunicorn takes it for gthread workers only")
        self._connections(kind)

    def _green(self, kind: str) -> None:
        why = ["For the extra fastfork[gevent].  The standard library is patched before the",
               "application is imported."]  # fmt: skip
        if kind == "eventlet":
            self.draft.note(
                "Eventlet is not offered, gevent is written in its place: it does the same for an "
                "application that does not call eventlet itself; for one that does, take threads, "
                "or more workers, instead of green.")  # fmt: skip
        self._put("green", "gevent", "worker_class", *why)

    def _connections(self, kind: str) -> None:
        connections = self._count("worker_connections")
        if connections is None:
            return
        if kind == "gthread" or kind in _GREEN:
            self._put("max_connections", connections, "worker_connections")
        else:
            self.draft.leave("worker_connections", "gunicorn takes it for gthread, gevent and "
                             "eventlet workers only")  # fmt: skip
        if kind in _GREEN:
            why = ["gunicorn has a greenlet for each connection, fastfork for each request."]
            why += [f"More than {GREENLETS} there cannot be."] if connections > GREENLETS else []
            self._put("greenlets", min(connections, GREENLETS), "worker_connections", *why)

    # -- times and sizes
    def _times(self) -> None:
        self._timeout()
        graceful = self._count("graceful_timeout")
        if graceful is not None:
            why = ["A fifth of it, at most 2 s, is kept for the end of the process."]
            self._put("graceful_timeout", seconds(graceful), "graceful_timeout", *why)
        keep = self._count("keepalive")
        why = ["gunicorn's sync workers close every connection, whatever this is."]
        why = why if self._kind() == "sync" else []
        if keep:
            self._put("keep_alive", seconds(keep), "keepalive", *why)
        elif keep == 0:
            self._put("keep_alive_requests", 1, "keepalive",
                      "0: one request on each connection.")  # fmt: skip

    def _timeout(self) -> None:
        timeout = self._count("timeout")
        if timeout is None and self._given("timeout"):
            return
        if self._kind() == "sync":
            why = [
                "gunicorn kills a sync worker that was silent for so long, with the request that",
                "it had in hand.  Here fastfork.RequestTimeout is raised in the handler, its",
                "client gets 504, and the worker lives; one that goes on is killed request_grace",
                "later.",
            ]
            if timeout is None:
                self.draft.put_default(self.table, "request_timeout", seconds(30), "timeout", *why)
            else:
                self._put("request_timeout", seconds(timeout), "timeout", *why)
        if timeout is not None:
            why = ["How long a worker may give no sign of life outside a request."]
            if self._kind() != "sync":
                why += [
                    "With such workers gunicorn's timeout is no more than that: requests take as",
                    "long as they like, as they do here if request_timeout is not set.",
                ]
            self._put("liveness_timeout", seconds(timeout), "timeout", *why)

    def _limits(self) -> None:
        line = self._count("limit_request_line")
        field = self._count("limit_request_field_size")
        fields = self._count("limit_request_fields")
        longest = FIELD if line is None else 1 << 20 if line == 0 else min(line, FIELD)
        if line is not None:
            why = ["0: no limit; this is as long as can be."] if line == 0 else []
            why += [f"More than {FIELD} means {FIELD}."] if line > FIELD else []
            self._put("max_request_line", size(longest), "limit_request_line", *why)
        if fields is not None:
            self._put("max_fields", min(fields or 32768, 32768), "limit_request_fields")
        room = max(longest, field or FIELD) + OTHER_FIELDS
        if field is not None or room > SMALLEST_HEAD:
            option = "limit_request_field_size" if field is not None else "limit_request_line"
            self._put(
                "max_head", size(max(room, SMALLEST_HEAD)), option,
                "gunicorn's is for one field, this for the whole head: room for the longest field",
                f"or request line and {OTHER_FIELDS >> 10} KiB for the others.")  # fmt: skip

    # -- sockets
    def _bind(self) -> list[str]:
        """The addresses, as they are in the file."""
        option, given = "bind", self._texts("bind")
        if not given and "PORT" in os.environ:
            option, given = "PORT, from the environment", [f"0.0.0.0:{os.environ['PORT']}"]
        binds: list[str] = []
        for text in given or ["127.0.0.1:8000"]:
            for address in self._addresses(text):
                if address not in binds:
                    binds.append(address)
        why = []
        if "[::]" in "".join(binds):
            why.append("gunicorn's [::] takes IPv4 too, that of fastfork IPv6 only.")
        if self._get("certfile") or self._get("keyfile"):
            why.append(f"gunicorn served this with TLS: {_NO_TLS}.")
            self.draft.note(f"As it is written, fastfork speaks plain HTTP on {', '.join(binds)}.")
        if given and binds:
            self._put("bind", binds[0] if len(binds) == 1 else list(binds), option, *why)
        elif binds:
            self.draft.put_default(self.table, "bind", binds[0], "bind", *why)
        backlog = self._count("backlog")
        if backlog is not None:
            self._put("backlog", backlog, "backlog")
        return binds

    def _addresses(self, text: str) -> list[str]:
        try:
            found = [_unix(text, self._path)] if text.startswith("unix:") else _tcp(text)
            for address in found:
                sockets.parse(address, f"{self.file}: bind")
        except ValueError as error:
            self.draft.fault(f"{self.file}: bind {text!r} is not an address: {error}.")
            return []
        except sockets.AddressError as error:
            self.draft.fault(str(error))
            return []
        return found

    def _owner(self, binds: list[str]) -> None:
        user, group = self._account("user"), self._account("group")
        if user is not None:
            self._put("user", user, "user")
            if not self._flag("initgroups"):
                self.draft.note("Workers get all the groups of their user, as with initgroups.")
        if group is not None:
            self._put("group", group, "group")
        umask = self._count("umask")
        files = [address for address in binds
                 if address.startswith("unix:") and not address.startswith("unix:@")]  # fmt: skip
        if not files:
            if umask is not None:
                self.draft.leave("umask", "gunicorn's is for unix sockets, and there are none; "
                                 "that of fastfork is for the files of workers")  # fmt: skip
            return
        mode = f"{0o777 & ~(umask or 0):04o}"
        why = ["Who may connect.  0660, and socket_owner with the group of the proxy, is safer."]
        if umask is None:
            self.draft.put_default(self.table, "socket_mode", mode, "umask", *why)
        else:
            self._put("socket_mode", mode, "umask", *why)
        if user is not None or group is not None:
            owner = (user or "") + (f":{group}" if group is not None else "")
            self._put("socket_owner", owner, "user" if user is not None else "group")

    def _account(self, name: str) -> str | None:
        value = self._get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return str(value)
        if value is None or (isinstance(value, str) and value):
            return value
        self._refuse(name, "a name or a number")
        return None

    # -- proxies
    def _proxies(self, binds: list[str]) -> None:
        mode = self._proxy_protocol()
        given = self._given("forwarded_allow_ips")
        peers = self._comma_list("forwarded_allow_ips") if given else (
            os.environ.get("FORWARDED_ALLOW_IPS", LOCAL).split(","))  # fmt: skip
        why = []
        if mode != "off":
            senders = self._comma_list("proxy_allow_ips")
            senders = senders if self._given("proxy_allow_ips") else LOCAL.split(",")
            peers = [*senders, *peers] if given else senders
            self._put("proxy_protocol", mode, "proxy_protocol")
            why += ["proxy_allow_ips are among them: the peers that begin with a preamble, which",
                    "they must do here, are those whose fields are believed."]  # fmt: skip
        elif self._given("proxy_allow_ips"):
            self.draft.leave("proxy_allow_ips", "proxy_protocol is off")
        if any(address.startswith("unix:") for address in binds):
            peers = [*peers, "unix"]
            why.append("gunicorn believes whoever comes by a unix socket.")
        peers = list(dict.fromkeys(peer.strip() for peer in peers if peer.strip()))
        if peers:
            option = "forwarded_allow_ips"
            if given or mode != "off":
                self._put(option, ",".join(peers), option, *why)
            else:
                self.draft.put_default(self.table, option, ",".join(peers), option, *why)
            self.draft.put(
                self.table, "forwarded_fields", "x-forwarded-proto", "secure_scheme_headers",
                "gunicorn takes the scheme from such a peer, and nothing else.  It hands",
                "X-Forwarded-For and the others to the application, whoever sent them; here",
                "those that are not named do not reach it.  Name what the proxy sets, such as",
                "x-forwarded-for, of which REMOTE_ADDR is made.")  # fmt: skip
        self._schemes()
        self._header_map()

    def _proxy_protocol(self) -> str:
        value = self._get("proxy_protocol")
        text = str(value).strip().lower()
        for mode, texts in _PROXY_PROTOCOLS.items():
            if text in texts:
                return mode
        self._refuse("proxy_protocol", "off, v1, v2 or auto")
        return "off"

    def _schemes(self) -> None:
        value = self._get("secure_scheme_headers")
        if value is None:
            return
        if not isinstance(value, dict):
            self._refuse("secure_scheme_headers", "a dictionary")
        elif {name.upper(): text for name, text in value.items()} != SCHEMES:
            self.draft.leave("secure_scheme_headers", "the scheme is that of X-Forwarded-Proto, "
                             "or of Forwarded, and of no other field")  # fmt: skip

    def _header_map(self) -> None:
        value = self._text("header_map")
        if value is None:
            return
        if value.lower() in ("drop", "refuse", "dangerous"):
            self._put("header_map", value.lower(), "header_map")
        else:
            self._refuse("header_map", "drop, refuse or dangerous")

    # -- the server
    def _server(self) -> None:
        pid = self._text("pidfile")
        if pid:
            self._put("pid", self._path(pid), "pidfile")
        control = self._text("control_socket")
        if self._flag("control_socket_disable"):
            self._put("control", "none", "control_socket_disable")
        elif control:
            why = ["For fastfork status and the like, not for gunicornc."]
            self._put("control", self._path(control), "control_socket", *why)
        level = self._text("loglevel")
        if level:
            self._put("log_level", level.lower(), "loglevel")

    def _access_log(self) -> None:
        path = self._text("accesslog")
        if path:
            self._put("access_log", path if path == "-" else self._path(path), "accesslog")
        given = self._text("access_log_format")
        if given in (COMBINED, COMMON):
            name = "combined" if given == COMBINED else "common"
            self._put("access_log_format", name, "access_log_format")
        elif given is not None:
            self.draft.leave("access_log_format", "the formats are common and combined, and no "
                             "others; it is combined")  # fmt: skip

    # -- what is left
    def _leave(self, name: str) -> None:
        value = self.conf.settings.get(name)
        left = _LEFT[name]
        if value is None:
            return
        plain = value.get("is")
        # (True == 1 and 0 == False, and mean the same to gunicorn)
        if "is" not in value or plain not in left.harmless:
            self.draft.leave(name, left.reason)


_KINDS = {
    "sync": r"sync|.*syncworker",
    "gthread": r"gthread|.*threadworker",
    "gevent": r"gevent(_wsgi|_pywsgi)?|.*gevent\w*worker",
    "eventlet": r"eventlet|.*eventlet\w*worker",
    "asgi": r"asgi|.*(uvicorn|asgi)\w*worker",
}
_GREEN = ("gevent", "eventlet")
_PROXY_PROTOCOLS = {
    "off": ("none", "false", "off", "0"),
    "auto": ("true", "auto", "1"),
    "v1": ("v1",),
    "v2": ("v2",),
}


def _unix(text: str, path: Any) -> str:
    name = re.sub(r"^unix:(//)?", "", text)
    if not name:
        raise ValueError("the path is missing")
    return f"unix:@{name[1:]}" if name.startswith("\0") else f"unix:{path(name)}"


def _tcp(text: str) -> list[str]:
    """What gunicorn makes of an address that is no unix socket.  ValueError."""
    if text.startswith("fd://"):
        return [text]
    rest = text.removeprefix("tcp://")
    if "[" in rest and "]" in rest:
        host = rest.partition("]")[0][1:]
        port = rest.partition("]:")[2] or "8000"
    else:
        host, colon, port = rest.partition(":")
        port = port.partition(":")[0] if colon else "8000"
    if not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII):
        raise ValueError(f"{port!r} is not a port number")
    if not text:
        host = "0.0.0.0"
    if host == "::":
        return [f"0.0.0.0:{port}", f"[::]:{port}"]
    return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}"]
