"""Every setting, declared once.

The fields of `Settings` are the table: name, kind, default, unit, bounds, help, metavar and
short flag stand on one line each.  Everything else comes from it: flags (`cli.py`), names in the
environment and in the file (`deployment.py`), documentation and schema (`describe.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, NoReturn

from fastfork.kinds import (
    ACCOUNT,
    ADDRESS,
    APPLICATION,
    ARGUMENTS,
    AUTO,
    AUTO_COUNT,
    CONTROL_PATH,
    COUNT,
    DURATION,
    DURATION_OR_OFF,
    FIELD_VALUE,
    FORWARDED,
    FORWARDED_FIELDS,
    LOG_PATH,
    MODE,
    PAIR,
    PAIRS,
    PATH,
    PEERS,
    PREFIXED,
    SIZE,
    SWITCH,
    TEXT,
    VARIABLE,
    ConfigError,
    Kind,
    only_text,
    perhaps,
    show_duration,
    show_size,
    show_switch,
)  # fmt: skip

PREFIX = "FASTFORK_"  # of names in the environment
WEEK = 7 * 86400.0
LONGEST_SHOWN = 200  # characters of a value in a sentence
SHORTEST_LIVENESS = 1.0


# -- the table ---------------------------------------------------------------------------
class Setting(NamedTuple):
    """One row of the table."""

    name: str
    kind: Kind
    default: Any
    help: str
    metavar: str
    short: str | None
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    many: bool
    positional: bool
    scope: str

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return PREFIX + self.name.upper()

    @property
    def named(self) -> bool:
        """Whether its values are pairs: a table in a file, merged name by name."""
        return self.many and self.kind in PAIRS

    @property
    def right(self) -> str:
        """What a right value looks like, for error sentences."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.low is None and self.high is None:
            return self.kind.right
        show = self.kind.show
        if self.high is None:
            return f"{self.kind.right}, at least {show(self.low)}"
        return f"{self.kind.right}, from {show(self.low)} to {show(self.high)}"

    def parse(self, text: str, source: str) -> Any:
        """The value that `text` stands for; ConfigError names `source` (a flag, a key)."""
        try:
            value = self.kind.read(text)
        except ValueError:
            raise self.error(text, source) from None
        return self._bounded(value, text, source)

    def parse_all(self, texts: Iterable[str], source: str) -> tuple[Any, ...]:
        """The values of a setting that has many.  ConfigError, with a sentence for each fault."""
        values = _gathered(texts, lambda text: self.parse(text, source))
        self._check_once(values, source)
        return values

    def take(self, raw: object, source: str) -> Any:
        """The value, or the values, that `raw` stands for: what a file has under the key that
        `source` names.  ConfigError, with a sentence for each fault."""
        if not self.many:
            return self._take_one(raw, f"{source} =")
        if self.named and isinstance(raw, dict):
            return _gathered(
                raw.items(), lambda pair: self._take_one(pair, f"{source}.{pair[0]} ="))
        items = raw if isinstance(raw, list) else [raw]
        values = _gathered(items, lambda item: self._take_one(item, f"{source} ="))
        self._check_once(values, f"{source} =")
        return values

    def _check_once(self, values: Iterable[Any], source: str) -> None:
        """Of two applications under one prefix neither can be meant to have it.  ConfigError."""
        if self.kind is PREFIXED:
            prefixes = [prefix for prefix, _ in values]
            for prefix in dict.fromkeys(prefixes):
                if prefixes.count(prefix) > 1:
                    raise ConfigError(f"{source} {prefix!r} is given twice.")

    def _take_one(self, raw: object, source: str) -> Any:
        if isinstance(raw, str):
            return self.parse(raw, source)
        if isinstance(raw, bool) and "on" in self.choices:
            raw = show_switch(raw)
        try:
            value = raw if self.choices else self.kind.take(raw)
        except ValueError:
            raise self.error(raw, source, self._right_in_file(raw)) from None
        return self._bounded(value, raw, source)

    def _right_in_file(self, raw: object) -> str:
        """What would be right instead of something that is not of the right type."""
        if self.named:
            if not isinstance(raw, tuple):
                return 'a table such as { NAME = "VALUE" }'
            whole = isinstance(raw[1], int) and not isinstance(raw[1], bool)
            return self.right if whole or isinstance(raw[1], str) else "some text, in quotes"
        quotes = self.kind.take is only_text and not isinstance(raw, (list, dict))
        return self.right + ", in quotes" * quotes

    def _bounded(self, value: Any, given: object, source: str) -> Any:
        if self.choices and value not in self.choices:
            raise self.error(given, source)
        if isinstance(value, (int, float)) and value != self.kind.beyond and not (
            (self.low is None or value >= self.low) and (self.high is None or value <= self.high)
        ):
            raise self.error(given, source)
        return value

    def plain(self, value: Any) -> Any:
        """The value as a file has it; `take` makes the same value of it."""
        if not self.many:
            return self.kind.plain(value)
        if self.named:
            return dict(value)
        return [self.kind.plain(one) for one in value]

    def anchored(self, value: Any, base: str) -> Any:
        """The value with its relative paths, if it has any, counted from the directory `base`."""
        if self.kind.anchor is None or value is None:
            return value
        if self.many:
            return tuple(self.kind.anchor(one, base) for one in value)
        return self.kind.anchor(value, base)

    def error(self, given: object, source: str, right: str = "") -> ConfigError:
        return ConfigError(
            f"{source} {_shown(given)} is not usable: it must be {right or self.right}.")


def _gathered(things: Iterable[Any], read: Callable[[Any], Any]) -> tuple[Any, ...]:
    """What `read` makes of each; ConfigError with the sentences of all."""
    values = []
    faults: list[str] = []
    for thing in things:
        try:
            values.append(read(thing))
        except ConfigError as error:
            faults += error.sentences
    if faults:
        raise ConfigError(*faults)
    return tuple(values)


def _shown(given: object) -> str:
    """A value as whoever wrote it knows it, in a sentence."""
    if isinstance(given, bool):
        text = str(given).lower()
    elif isinstance(given, list):
        text = f"[{', '.join(map(_shown, given))}]"
    elif isinstance(given, dict):
        text = f"{{ {', '.join(f'{name} = {_shown(one)}' for name, one in given.items())} }}"
    elif isinstance(given, tuple):  # of a table; the name stands before it
        text = _shown(given[1])
    else:
        text = repr(given) if isinstance(given, str) else str(given)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def setting(
    kind: Kind,
    default: Any,
    help: str,
    *,
    metavar: str = "",
    short: str | None = None,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    many: bool = False,
    positional: bool = False,
    scope: Literal["server", "service"] = "service",
) -> Any:
    """A row that does not know its name yet; Any, because it stands for the value."""
    return Setting("", kind, default, help, metavar, short, low, high, choices, many, positional,
                   scope)


def _time(default: float, help: str, low: float = 0.01) -> Any:
    return setting(DURATION, default, help, metavar="TIME", low=low, high=WEEK)


def _size(default: int, help: str, low: int, high: int) -> Any:
    return setting(SIZE, default, help, metavar="SIZE", low=low, high=high)


def _count(default: int, help: str, high: int, low: int = 1) -> Any:
    return setting(COUNT, default, help, metavar="N", low=low, high=high)


def _switch(help: str) -> Any:
    return setting(SWITCH, False, help)


def _hook(help: str) -> Any:
    return setting(TEXT, None, f"pkg.mod:function {help}", metavar="FUNCTION")


class Settings:
    """What the server was told.  Durations are seconds, sizes are bytes.  Immutable."""

    def __init__(self, **values: Any) -> None:
        """What is not given has its default.  TypeError for what is no setting."""
        if not values.keys() <= TABLE.keys():
            raise TypeError(f"no settings: {sorted(values.keys() - TABLE.keys())}")
        vars(self).update((name, row.default) for name, row in TABLE.items())
        vars(self).update(values)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"settings do not change: {name}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # a mapping in all but name

    app: str = setting(
        APPLICATION, "", "the application: pkg.mod:attr, pkg.mod:factory(), or pkg.mod "
        "(looks for application, then app)", metavar="APP", positional=True)  # fmt: skip

    # processes
    workers: int | Literal["auto"] = setting(
        AUTO_COUNT, AUTO, "worker processes; auto: one for each usable core",
        metavar="N", short="-w", low=1, high=4096)  # fmt: skip
    preload: str = setting(
        TEXT, "auto", "whether the application is imported once, in a process from which the "
        "workers are forked; auto: unless the import leaves threads or connections behind",
        choices=("auto", "on", "off"))  # fmt: skip
    exclusive: bool = _switch(
        "for applications with state in the process: the old workers are gone before new ones "
        "start, also at a reload (preload auto is off then)")  # fmt: skip
    max_unavailable: int = _count(
        0, "workers by which a service may be short while others replace them; 0: the new one is "
        "ready before the old one is told to go", 4096, low=0)  # fmt: skip
    exit_on_boot_error: bool = _switch(
        "end the server when a worker cannot boot, also later (otherwise it is tried again, at "
        "longer and longer intervals)")  # fmt: skip
    mount: tuple[tuple[str, str], ...] = setting(
        PREFIXED, (), "application under a path: SCRIPT_NAME gets the prefix, the longest wins; "
        "may be repeated, instead of APP", metavar="PREFIX=APP", many=True)  # fmt: skip
    global_conf: tuple[tuple[str, str], ...] = setting(
        PAIR, (), "variable for paste files, beside those in their [DEFAULT]; may be repeated",
        metavar="NAME=VALUE", many=True)  # fmt: skip
    environment: tuple[tuple[str, str], ...] = setting(
        VARIABLE, (), "environment variable of the application; may be repeated",
        metavar="NAME=VALUE", short="-e", many=True)  # fmt: skip
    python_path: tuple[str, ...] = setting(
        PATH, (), "directory to import from, before those of the Python path; may be repeated",
        metavar="DIR", many=True)  # fmt: skip
    chdir: str | None = setting(
        PATH, None, "directory to change to before the application is imported", metavar="DIR")
    pyargv: tuple[str, ...] = setting(
        ARGUMENTS, (), "arguments that the application finds in sys.argv", metavar="ARGS")
    graceful_timeout: float = _time(
        30.0, "how long a stopping worker may finish what it has in hand; a fifth of it, at most "
        "2 s, is kept for its exit", low=0.0)  # fmt: skip
    reload_linger: float = _time(
        5.0, "how long a worker that is being replaced keeps resting connections that it cannot "
        "pass to another, for a request that may be on its way", low=0.0)  # fmt: skip
    boot_timeout: float = _time(600.0, "how long a worker may take to import the application")
    request_timeout: float = _time(
        0.0, "how long a handler may take: then fastfork.RequestTimeout is raised in it (504); "
        "0: as long as it likes", low=0.0)  # fmt: skip
    request_grace: float = _time(
        5.0, "how much later the worker is killed if its handler still goes on", low=0.0)
    liveness_timeout: float = _time(
        30.0, "how long a worker may give no sign of life outside a request before it is killed; "
        "0: for ever", low=0.0)  # fmt: skip
    max_requests: int = _count(
        0, "requests after which a worker is replaced; 0: no such limit", 1 << 31, low=0)
    max_requests_jitter: int = _count(
        0, "at most so many more, different for each worker", 1 << 31, low=0)
    max_lifetime: float = _time(
        0.0, "age at which a worker is replaced; 0: no such limit", low=0.0)
    max_memory: int = _size(
        0, "memory of a worker beyond which it is replaced, beyond twice as much killed; 0: no "
        "such limit", 0, 1 << 50)  # fmt: skip
    memory_measure: str = setting(
        TEXT, "pss", "what is measured: pss shares what several processes share among them, rss "
        "counts it in full", choices=("pss", "rss"))  # fmt: skip
    on_worker_start: str | None = _hook("called in a worker before it is ready")
    on_worker_stop: str | None = _hook("called in a worker before it leaves")
    on_fork_before: str | None = _hook(
        "called in the process that preloaded the application before it forks a worker")
    on_fork_after: str | None = _hook("called in a worker just forked from it")
    pid: str | None = setting(
        PATH, None, "file for the pid of the master", metavar="FILE", short="-p",
        scope="server")  # fmt: skip
    control: str = setting(
        CONTROL_PATH, "auto", "socket for fastfork status; auto: PID.sock in /run/fastfork, "
        "$XDG_RUNTIME_DIR/fastfork or /tmp/fastfork-UID; none: no such socket", metavar="PATH",
        scope="server")  # fmt: skip
    user: str | None = setting(
        ACCOUNT, None, "user that workers become, by name or number", metavar="USER", short="-u")
    group: str | None = setting(
        ACCOUNT, None, "group that workers become, by name or number (default: the user's)",
        metavar="GROUP", short="-g")  # fmt: skip
    umask: int | None = setting(
        MODE, None, "permissions that files made by workers do not get", metavar="MODE",
        short="-m", low=0, high=0o777)  # fmt: skip
    ready_fd: int | None = setting(
        COUNT, None, "descriptor that gets one line of JSON when all workers are ready",
        metavar="FD", low=3, high=1 << 20, scope="server")  # fmt: skip

    # sockets
    bind: tuple[str, ...] = setting(
        ADDRESS, (), "address to listen on: host:port, [v6]:port, :port (all IPv4 addresses), port "
        "(127.0.0.1), unix:/path, unix:@abstract, fd://N or systemd:NAME; may be repeated "
        "(default: the sockets that systemd passes, else 127.0.0.1:8000)",
        metavar="ADDR", short="-b", many=True)  # fmt: skip
    socket_mode: int | None = setting(
        MODE, None, "permissions of unix sockets (default: what the umask leaves)",
        metavar="MODE", low=0, high=0o777)  # fmt: skip
    socket_owner: str | None = setting(
        ACCOUNT, None, "owner of unix sockets: USER, USER:GROUP or :GROUP", metavar="OWNER")
    backlog: int = _count(2048, "connections that may wait to be accepted", 65535)
    tcp_keepidle: float = _time(
        0.0, "silence on a TCP connection after which the kernel asks whether its peer is still "
        "there; 0: it does not ask", low=0.0)  # fmt: skip
    max_connections: int = _count(
        16384, "open connections of a worker beyond which it accepts none (siblings may hand it "
        "more)", 1 << 20)  # fmt: skip

    greenlets: int | Literal["auto"] = setting(
        AUTO_COUNT, AUTO, "handlers of one worker that may be in progress at once, taking turns "
        "where they wait (streamed bodies, slow clients, fastfork.sleep, wait_readable, "
        "wait_writable); auto: 1, with streamed bodies 100 (where 1 lets a slow client hold the "
        "worker), with green = gevent 1000",
        metavar="N", low=1, high=65535)  # fmt: skip
    green: str = setting(
        TEXT, "off", "gevent: patch the standard library before the application is imported, so "
        "that whatever waits lets other handlers run (extra fastfork[gevent])",
        choices=("off", "gevent"))  # fmt: skip
    threads: int = _count(
        1, "handlers of one worker that may run at once, each in a thread of its own; 1: in the "
        "loop's", 4096)  # fmt: skip
    max_in_flight: int | Literal["auto"] = setting(
        AUTO_COUNT, AUTO, "requests of one worker that handlers may have at once; auto: as many as "
        "greenlets or threads allow", metavar="N", low=1, high=65535)  # fmt: skip
    max_queue: int = _count(
        16384, "complete requests of one worker that may wait for a handler; more are answered "
        "503", 1 << 20, low=0)  # fmt: skip
    queue_timeout: float = _time(
        0.0, "how long a request may wait for a handler before it is answered 503; 0: for ever",
        low=0.0)  # fmt: skip

    handoff_after: float = setting(
        DURATION_OR_OFF, 0.005, "how long a handler may keep its worker from other connections: "
        "those on which a request waits then go to a worker that is free (not with threads, nor "
        "with green = gevent, where no handler keeps it); off: they wait",
        metavar="TIME", low=0.001, high=60.0)  # fmt: skip

    # time limits
    keep_alive: float = _time(75.0, "how long a connection may rest between two requests")
    head_timeout: float = _time(10.0, "how long a request head may take (408)")
    body_timeout: float = _time(30.0, "how long a request body may pause (408)")
    body_min_rate: int = _size(
        500, "bytes per second that a request body must bring on average, judged when it has been "
        "coming for --body-timeout (408); 0: any pace", 0, 1 << 30)  # fmt: skip
    write_timeout: float = _time(60.0, "how long a client may take nothing of its response")
    send_delay: float = setting(
        DURATION, 0.001, "how long a small response may wait for those of the other requests "
        "that came at the same time, to be sent with them; only while all handlers are quicker "
        "than that; 0: not at all", metavar="TIME", low=0.0, high=0.05)  # fmt: skip
    linger_timeout: float = _time(2.0, "how long the last bytes of a closed client are read")

    # size limits
    max_request_line: int = _size(16 << 10, "longest request line (414)", 16, 1 << 20)
    max_head: int = _size(64 << 10, "longest request head (431)", 64, 16 << 20)
    max_fields: int = _count(128, "most header fields in a request (431)", 65535)
    max_chunk_extensions: int = _size(
        16 << 10, "chunk extensions of a whole request body (400)", 0, 1 << 30)
    max_body: int = _size(1 << 30, "longest request body (413)", 0, 1 << 50)
    read_ahead: int = _size(
        64 << 10, "most bytes read at once, and so the most that wait behind the request in hand "
        "(pipelining); more is left with the kernel", 1 << 10, 64 << 10)  # fmt: skip
    keep_alive_requests: int = _count(
        100_000, "requests served on one connection, the last with Connection: close", 1 << 31)
    body_memory: int = _size(
        16 << 20, "request body kept in memory, a longer one in a temporary file", 0, 1 << 30)
    max_body_memory: int = _size(
        64 << 20, "all request bodies of a worker in memory; beyond it they go to temporary files, "
        "too", 0, 1 << 50)  # fmt: skip
    output_memory: int = _size(
        256 << 10, "response waiting in memory for its client, beyond it in a temporary file",
        1, 1 << 30)  # fmt: skip
    output_spool: int = _size(
        1 << 30, "response waiting in a temporary file, beyond it the handler waits", 0, 1 << 50)
    max_spool: int = _size(
        8 << 30, "all temporary files of a worker; beyond it bodies are refused (503), responses "
        "broken off", 0, 1 << 50)  # fmt: skip

    # requests and responses
    request_buffering: str = setting(
        TEXT, "full", "full: the handler starts when the request body is complete; stream: at the "
        "end of the head, and it reads the body as it comes (chunked ones without CONTENT_LENGTH, "
        "for applications that can do without)", choices=("full", "stream"),
    )  # fmt: skip
    header_map: str = setting(
        TEXT, "drop", "field names with underscores: drop them, refuse the request (400), or let "
        "them become the environ key of the name with hyphens, which is dangerous",
        choices=("drop", "refuse", "dangerous"))  # fmt: skip
    server_header: str = setting(
        FIELD_VALUE, "fastfork", "value of the Server field; none: no such field", metavar="TEXT")
    date_header: str = setting(
        TEXT, "on", "whether responses get a Date field", choices=("on", "off"))

    # behind a proxy
    forwarded_allow_ips: tuple[str, ...] = setting(
        PEERS, (), "peers whose Forwarded and X-Forwarded-* fields are believed, and whose PROXY "
        "preamble is: addresses, networks, unix, * (default: none)",
        metavar="PEERS")  # fmt: skip
    forwarded_fields: tuple[str, ...] = setting(
        FORWARDED, FORWARDED_FIELDS, "which of them: name only those that the proxy sets or "
        "removes itself", metavar="NAMES")  # fmt: skip
    proxy_protocol: str = setting(
        TEXT, "off", "whether peers in --forwarded-allow-ips begin with a preamble of the PROXY "
        "protocol, and of which version", choices=("off", "v1", "v2", "auto"))  # fmt: skip

    # logs
    access_log: str | None = setting(
        LOG_PATH, None, "file for the access log, written ten times a second, - for standard "
        "output (default: none)", metavar="FILE")  # fmt: skip
    access_log_format: str = setting(
        TEXT, "combined", "format of the access log", choices=("common", "combined"))
    log_level: str = setting(
        TEXT, "info", "least severe entry of the error log",
        choices=("debug", "info", "warning", "error", "critical"), scope="server")  # fmt: skip


TABLE: Mapping[str, Setting] = {
    name: row._replace(name=name)
    for name, row in vars(Settings).items()
    if isinstance(row, Setting)
}


# By the name of the first row of each; for documentation.
GROUPS: Mapping[str, str] = {
    "app": "Application",
    "workers": "Processes",
    "bind": "Sockets",
    "greenlets": "Handlers",
    "keep_alive": "Time limits",
    "max_request_line": "Size limits",
    "request_buffering": "Requests and responses",
    "forwarded_allow_ips": "Behind a proxy",
    "access_log": "Logs",
}


def load(given: Mapping[str, str | Iterable[str] | None]) -> Settings:
    """Settings from the texts of flags, by name; what is absent or None has its default.

    ConfigError names the flags, their values and what would be right.
    """
    values: dict[str, Any] = {}
    faults: list[str] = []
    for name, texts in given.items():
        row = TABLE.get(name)
        if row is None:
            faults.append(f"There is no setting {name!r}{perhaps(name, TABLE)}.")
        elif texts is not None:
            try:
                values[name] = from_flag(row, texts)
            except ConfigError as error:
                faults += error.sentences
    if faults:
        raise ConfigError(*faults)
    settings = Settings(**values)
    faults += [sentence for _, sentence in together(settings, flag_of)]
    if faults:
        raise ConfigError(*faults)
    return settings


def from_flag(row: Setting, texts: str | Iterable[str]) -> Any:
    """The value of a flag given once, or of one that was repeated.  ConfigError."""
    if isinstance(texts, str):
        return row.parse(texts, flag_of(row.name))
    return row.parse_all(texts, flag_of(row.name))


def flag_of(name: str) -> str:
    """What the setting is called on the command line."""
    row = TABLE[name]
    return row.metavar if row.positional else row.flag


def together(
    settings: Settings, called: Callable[[str], str]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """What no single row can say: the settings that do not go together, and a sentence, in which
    they are what `called` makes of their names."""
    if settings.max_request_line > settings.max_head:
        yield ("max_request_line", "max_head"), (
            f"{called('max_request_line')} ({show_size(settings.max_request_line)}) must not be "
            f"above {called('max_head')} ({show_size(settings.max_head)}), which counts the "
            "request line too."
        )
    if 0 < settings.liveness_timeout < SHORTEST_LIVENESS:
        yield ("liveness_timeout",), (
            f"{called('liveness_timeout')} ({show_duration(settings.liveness_timeout)}) must be 0 "
            f"or at least {show_duration(SHORTEST_LIVENESS)}: a worker is not always scheduled at "
            "once."
        )
    if settings.proxy_protocol != "off" and not settings.forwarded_allow_ips:
        yield ("proxy_protocol",), (
            f"{called('proxy_protocol')} {settings.proxy_protocol} needs "
            f"{called('forwarded_allow_ips')} to name the peers that begin with a preamble, such "
            "as 10.0.0.0/8."
        )
    if settings.threads > 1 and settings.green != "off":
        yield ("threads", "green"), (
            f"{called('threads')} ({settings.threads}) and {called('green')} {settings.green} do "
            "not go together: under gevent what would run in threads runs in greenlets."
        )
    if settings.threads > 1 and settings.greenlets != AUTO:
        yield ("threads", "greenlets"), (
            f"{called('threads')} ({settings.threads}) and {called('greenlets')} "
            f"({settings.greenlets}) do not go together: handlers run in threads or in greenlets."
        )
    for address in dict.fromkeys(settings.bind):
        if settings.bind.count(address) > 1 and not re.search(r"(^|:)0$", address):
            yield ("bind",), f"{called('bind')} {address!r} is given twice."
