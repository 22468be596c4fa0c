"""`fastfork import-nova nova.conf`: a fastfork.toml for the API services of a Nova.

What concerns the processes that serve the APIs becomes a setting, or is named as left; what
concerns the application it goes on reading from its nova.conf.

    enabled_apis, <api>_listen, <api>_listen_port, <api>_workers   [services.<api>]
    api_paste_config                                              app
    the rest of what is in _COMMON                                 [defaults]
"""

from __future__ import annotations

import argparse
import os
import re
from typing import NamedTuple

from fastfork import oslo_ini, sockets
from fastfork.config import TABLE, WEEK
from fastfork.deployment import SERVICE_NAME
from fastfork.draft import DEFAULTS, EXIT_UNUSABLE, SERVER, Draft, seconds, service, size
from fastfork.kinds import ConfigError
from fastfork.log import escape, write
from fastfork.oslo_ini import DEFAULT, Name, Option, Options

PORTS = {"ec2": 8773, "osapi_compute": 8774, "metadata": 8775, "osapi_volume": 8776}
ENABLED = ("osapi_compute", "metadata")  # by Nova, where a file does not say
LISTEN = "0.0.0.0"
OTHER_LINES = 48 << 10  # room in a head beside its longest line; 64 KiB with Nova's 16
LONGEST = int(WEEK)

_TRUE = ("true", "1", "on", "yes")
_FALSE = ("false", "0", "off", "no")


def _names(option: str, *others: Name) -> tuple[Name, ...]:
    """An option that newer releases have in [wsgi] and older ones in [DEFAULT]."""
    return (Name("wsgi", option), *others, Name(DEFAULT, option))


PASTE = _names("api_paste_config")
LOG_FORMAT = _names("wsgi_log_format")
MAX_HEADER_LINE = _names("max_header_line")
SOCKET_TIMEOUT = _names("client_socket_timeout")
KEEP_ALIVE = (Name("wsgi", "keep_alive"), Name(DEFAULT, "wsgi_keep_alive"))
POOL_SIZE = (Name("wsgi", "default_pool_size"), Name(DEFAULT, "wsgi_default_pool_size"))
KEEPIDLE = _names("tcp_keepidle")
GRACEFUL = (Name(DEFAULT, "graceful_shutdown_timeout"),)
BACKLOG = (Name(DEFAULT, "backlog"),)
DEBUG = (Name(DEFAULT, "debug"),)
ENABLED_APIS = (Name(DEFAULT, "enabled_apis"),)
SSL_APIS = (Name(DEFAULT, "enabled_ssl_apis"),)

_FOR_EVER = "0 is Nova's word for ever; this is as long as can be."
_NO_TLS = "fastfork has no TLS, put a proxy that has it in front"
_LOGS = ("fastfork writes its own log to standard error; the application's goes where its options "
         "say")  # fmt: skip
_PROXIES = ("name the proxies in forwarded_allow_ips, and the fields that they set in "
            "forwarded_fields: those of others do not reach the application")  # fmt: skip
# What concerns the processes and has nothing that it could become.
_LEFT = {
    **{name: _NO_TLS for option in ("ssl_ca_file", "ssl_cert_file", "ssl_key_file")
       for name in _names(option)},
    **{Name("ssl", option): _NO_TLS
       for option in ("ca_file", "cert_file", "key_file", "version", "ciphers")},
    **{name: _PROXIES for name in (
        *_names("secure_proxy_ssl_header"), Name("api", "use_forwarded_for"),
        Name(DEFAULT, "use_forwarded_for"), Name("oslo_middleware", "enable_proxy_headers_parsing"),
        Name("oslo_middleware", "secure_proxy_ssl_header"))},
    Name(DEFAULT, "backdoor_port"): "there is no such port; see fastfork status",
    Name(DEFAULT, "backdoor_socket"): "there is no such socket; see fastfork status",
    Name(DEFAULT, "service_name_prefix"): "services are called what their tables are",
    **{Name(DEFAULT, option): _LOGS for option in (
        "log_file", "logfile", "log_dir", "logdir", "log_config", "log_config_append",
        "use_syslog", "use_journal", "use_stderr", "use_eventlog", "syslog_log_facility",
        "watch_log_file", "log_rotation_type")},
}  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Write the file.  0; 2 if nothing can be made of what was given, and nothing is written."""
    faults = []
    files = []
    for path in arguments.file:
        try:
            files.append(oslo_ini.read(path))
        except ConfigError as error:
            faults.append(str(error))
    if faults:
        for fault in faults:
            write(f"fastfork: {escape(fault)}\n")
        return EXIT_UNUSABLE
    draft = Draft("Nova", ", ".join(arguments.file), arguments.output)
    _Nova(files, draft).convert()
    return draft.finish()


class Number(NamedTuple):
    """The value of an option, which may be Nova's default, and what the option is called."""

    value: int
    option: str
    given: bool


class _Nova:
    def __init__(self, files: list[oslo_ini.File], draft: Draft) -> None:
        self.paths = [file.path for file in files]
        self.options = Options(files, {
            **{f"{api}_listen": LISTEN for api in PORTS},
            **{f"{api}_listen_port": str(port) for api, port in PORTS.items()},
            "backlog": "128", "tcp_keepidle": "600", "api_paste_config": "api-paste.ini",
        })  # fmt: skip
        self.draft = draft
        self.used: set[Name] = set()

    def convert(self) -> None:
        apis = self._enabled()
        tls = self._tls(apis)
        self._server()
        self._defaults()
        paste = self._paste()
        taken: dict[str, str] = {}
        for api in apis:
            self._service(api, paste, api in tls, taken)
        self._rest(apis)

    # -- reading an option ---------------------------------------------------------------
    def _find(self, names: tuple[Name, ...]) -> tuple[Option, str] | None:
        """The option that has these names, and its text; None if there is none, or there is
        something wrong with it, which is a fault then."""
        self.used.update(names)
        option = self.options.find(names)
        if option is None:
            return None
        try:
            return option, self.options.text(option)
        except ConfigError as error:
            self.draft.fault(str(error))
            return None

    def _refuse(self, option: Option, text: str, right: str) -> None:
        self.draft.fault(f"{option} {text!r} is not usable: it must be {right}.")

    def _number(
        self, names: tuple[Name, ...], default: int, low: int, right: str = ""
    ) -> Number:
        option = str(names[-1])
        found = self._find(names)
        if found is None or not found[1].strip():  # empty is as good as not there
            return Number(default, option, False)
        where, text = found
        number = int(text) if re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", text, re.ASCII) else None
        if number is None or number < low:
            self._refuse(where, text, right or f"a whole number, at least {low}")
            return Number(default, option, False)
        return Number(number, str(where.name), True)

    def _switch(self, names: tuple[Name, ...]) -> tuple[bool | None, str]:
        found = self._find(names)
        if found is None:
            return None, str(names[-1])
        option, text = found
        if text.lower() in _TRUE + _FALSE:
            return text.lower() in _TRUE, str(option.name)
        self._refuse(option, text, "true or false")
        return None, str(option.name)

    def _list(self, names: tuple[Name, ...]) -> tuple[str, ...] | None:
        found = self._find(names)
        if found is None:
            return None
        text = found[1].strip().rstrip(",")
        return tuple(item.strip() for item in text.split(",")) if text else ()

    # -- the services --------------------------------------------------------------------
    def _enabled(self) -> tuple[str, ...]:
        given = self._list(ENABLED_APIS)
        option = self.options.find(ENABLED_APIS)
        if option is None:
            return self._enabled_by_default()
        if not given:
            if given is not None:
                self._refuse(option, option.value, "one API at least, such as osapi_compute")
            return ()
        for api in dict.fromkeys(given):
            if given.count(api) > 1:
                self.draft.note(f"enabled_apis has {api!r} {given.count(api)} times: it is served "
                                "once.")  # fmt: skip
            if not SERVICE_NAME.fullmatch(api):
                self._refuse(option, api, "a name of at most 64 letters, digits, underscores, dots "
                             "and hyphens")  # fmt: skip
        return tuple(api for api in dict.fromkeys(given) if SERVICE_NAME.fullmatch(api))

    def _enabled_by_default(self) -> tuple[str, ...]:
        """Older releases served all that they had."""
        others = [api for api in PORTS if api not in ENABLED
                  and self._mentions(api, "_listen", "_listen_port", "_workers")]  # fmt: skip
        because = [f"{api} because there are options of it" for api in others]
        self.draft.note(
            "enabled_apis is not set: " + ", ".join([*ENABLED[:1], f"{ENABLED[1]} by Nova's "
            "default", *because]) + ".")  # fmt: skip
        return (*ENABLED, *others)

    def _mentions(self, api: str, *suffixes: str) -> bool:
        return any(self.options.find([Name(DEFAULT, api + suffix)]) for suffix in suffixes)

    def _tls(self, apis: tuple[str, ...]) -> tuple[str, ...]:
        given = self._list(SSL_APIS) or ()
        for api in given:
            if api in apis:
                self.draft.leave(f"enabled_ssl_apis = {api}", f"{_NO_TLS}: as it is written, the "
                                 f"port of {api} takes plain HTTP")  # fmt: skip
            else:
                self.draft.leave(f"enabled_ssl_apis = {api}", "it is not one of enabled_apis")
        return given

    def _service(self, api: str, paste: str, tls: bool, taken: dict[str, str]) -> None:
        table = service(api)
        self.draft.put(table, "app", f"paste:{paste}#{api}", "api_paste_config")
        self._bind(api, tls, taken)
        workers = self._number(
            (Name(DEFAULT, f"{api}_workers"),), 0, 1,
            "1 at least, or left out for as many as there are CPUs")  # fmt: skip
        if workers.given:
            self.draft.put(table, "workers", workers.value, workers.option)
        else:
            self.draft.put_default(
                table, "workers", "auto", workers.option,
                "Nova counts the CPUs of the machine, auto those that the server may use.",
            )

    def _bind(self, api: str, tls: bool, taken: dict[str, str]) -> None:
        found = self._find((Name(DEFAULT, f"{api}_listen"),))
        host = found[1].strip() if found else ""
        port = self._number((Name(DEFAULT, f"{api}_listen_port"),), PORTS.get(api, -1), 0,
                            "a port, from 0 to 65535").value  # fmt: skip
        if port < 0:
            self.draft.fault(
                f"{self.draft.source}: {api}_listen_port is missing: Nova has no port of its own "
                f"for {api!r}.")  # fmt: skip
            return
        addresses = _addresses(host or LISTEN, port)
        for address in addresses:
            self._check_address(api, address, taken)
        why = [f"Nova served this with TLS: {_NO_TLS}."] if tls else []
        if len(addresses) > 1:
            why.append("Nova's [::] takes IPv4 too, that of fastfork IPv6 only.")
        bind = addresses[0] if len(addresses) == 1 else addresses
        put = self.draft.put if self._mentions(api, "_listen", "_listen_port") else (
            self.draft.put_default)  # fmt: skip
        put(service(api), "bind", bind, f"{api}_listen, {api}_listen_port", *why)

    def _check_address(self, api: str, address: str, taken: dict[str, str]) -> None:
        """`taken` has the APIs by the addresses that they have so far."""
        options = f"{self.draft.source}: {api}_listen with {api}_listen_port"
        try:
            sockets.parse(address, options)
        except sockets.AddressError as error:
            self.draft.fault(str(error))
        if address in taken and not address.endswith(":0"):
            self.draft.fault(f"{options} is not usable: {taken[address]} listens on {address} too, "
                             "each API needs an address of its own.")  # fmt: skip
        taken[address] = api

    def _paste(self) -> str:
        """The path of the paste file, as it stands in ours."""
        found = self._find(PASTE)
        given = found[1].strip() if found else ""
        name = given or "api-paste.ini"
        if found and "#" in name:
            self._refuse(found[0], name, "a path without a #, behind which the name of the "
                         "application would be")  # fmt: skip
            return name
        # Nova looks beside its nova.conf, of several the last, then where all of them may be.
        directories = [os.path.dirname(os.path.abspath(path)) for path in reversed(self.paths)]
        for directory in dict.fromkeys([*directories, "/etc/nova", "/etc"]):
            if os.path.isfile(os.path.join(directory, name)):
                return self.draft.path(directory, name)
        self.draft.note(f"api_paste_config: there is no file {name!r} here, write where it is.")
        return self.draft.path(directories[0], name)

    # -- what holds for all --------------------------------------------------------------
    def _server(self) -> None:
        debug, option = self._switch(DEBUG)
        if debug:
            self.draft.put(
                SERVER, "log_level", "debug", option,
                "That of fastfork's own log.  The application reads debug itself.")  # fmt: skip

    def _defaults(self) -> None:
        self._graceful()
        self._client_timeout()
        self._keep_alive()
        self._heads()
        self._pool()
        self._backlog()
        self._keepidle()
        self._access_log()

    def _put(self, name: str, value: str | int, number: Number, *why: str) -> None:
        put = self.draft.put if number.given else self.draft.put_default
        put(DEFAULTS, name, value, number.option, *why)

    def _backlog(self) -> None:
        number = self._number(BACKLOG, 128, 1)
        self._put("backlog", number.value, number)

    def _keepidle(self) -> None:
        number = self._number(KEEPIDLE, 600, 1)
        self._put("tcp_keepidle", seconds(number.value), number)

    def _graceful(self) -> None:
        number = self._number(GRACEFUL, 60, 0)
        why = () if number.value else (_FOR_EVER,)
        self._put("graceful_timeout", seconds(number.value or LONGEST), number, *why)

    def _client_timeout(self) -> None:
        number = self._number(SOCKET_TIMEOUT, 900, 0)
        value = seconds(number.value or LONGEST)
        why = () if number.value else (_FOR_EVER,)
        self._put(
            "keep_alive", value, number, *why,
            "Nova's is for each wait for a client, whatever for: here it is between two requests,",
            "in the middle of a body, and while a client takes nothing of its response.  A whole",
            f"request head has head_timeout, {TABLE['head_timeout'].default:g} s if it is not set.",
        )  # fmt: skip
        self._put("body_timeout", value, number)
        self._put("write_timeout", value, number)

    def _keep_alive(self) -> None:
        keep, option = self._switch(KEEP_ALIVE)
        if keep is False:
            self.draft.put(DEFAULTS, "keep_alive_requests", 1, option,
                           "One request on each connection: keep-alive is off.")  # fmt: skip

    def _heads(self) -> None:
        number = self._number(MAX_HEADER_LINE, 16384, 0)
        self._put(
            "max_head", size(number.value + OTHER_LINES), number,
            f"Nova's is for one line of the head ({number.value} bytes), this for all together: "
            "room",
            f"for one such line and {OTHER_LINES >> 10} KiB for the others.")  # fmt: skip

    def _pool(self) -> None:
        number = self._number(POOL_SIZE, 1000, 1)
        self._put(
            "greenlets", number.value, number,
            "Nova's requests take turns wherever they wait.  These do only where they wait for",
            "their client, not for a database or another service.  If Nova served many slow",
            "requests at once with few workers, give the services more workers; or threads in the",
            "place of greenlets; or add green = \"gevent\", which is as it was under Nova, with so",
            "many at once, but takes fastfork[gevent] and an application that patches nothing with",
            "eventlet itself (OS_NOVA_DISABLE_EVENTLET_PATCHING=true).")  # fmt: skip

    def _access_log(self) -> None:
        found = self._find(LOG_FORMAT)
        if found:
            self.draft.leave(str(found[0].name), "the access log has the formats common and "
                             "combined, and no others; combined is written")  # fmt: skip
        option = "in the place of wsgi_log_format"
        self.draft.put(
            DEFAULTS, "access_log", "-", option,
            "Nova logs every request, here it is a log of its own: a file, or - for standard "
            "output.")  # fmt: skip
        self.draft.put(DEFAULTS, "access_log_format", "combined", option)

    # -- what is left --------------------------------------------------------------------
    def _rest(self, apis: tuple[str, ...]) -> None:
        others = 0
        for option in self.options.all():
            if option.name not in self.used and not self._leave(option.name, apis):
                others += 1
        if others:
            self.draft.note(f"{others} other option{'s' if others > 1 else ''} of the application "
                            "itself: it goes on reading them from its own file.")  # fmt: skip

    def _leave(self, name: Name, apis: tuple[str, ...]) -> bool:
        """Say why an option has become nothing; False if it does not concern the server."""
        reason = _LEFT.get(name)
        if reason is None and name.section == DEFAULT:
            match = re.fullmatch(r"(.+?)_(listen|listen_port|workers)", name.option)
            if name._replace(option=name.option.lower()) in self.used:
                reason = f"Nova does not read it either, it is written {name.option.lower()}"
            elif match and match[1] not in apis:
                reason = f"{match[1]!r} is not one of enabled_apis"
        if reason is None:
            return False
        self.draft.leave(str(name), reason)
        return True


def _addresses(host: str, port: int) -> list[str]:
    bare = host.strip("[]")
    if bare == "::":
        return [f"{LISTEN}:{port}", f"[::]:{port}"]
    is_v6 = ":" in bare and re.fullmatch(r"[0-9A-Fa-f:.]+(%\w+)?", bare)
    return [f"[{bare}]:{port}" if is_v6 else f"{host}:{port}"]
