"""Several applications under one service, told apart by the beginning of the path.

    --mount /v1=a:app --mount /=paste:x.ini#main

The longest prefix that ends where a segment of the path ends has the request.  It moves from
PATH_INFO to SCRIPT_NAME, as PEP 3333 describes both; what a proxy has said of its own prefix
(X-Forwarded-Prefix) stands before it.  A service that mounts nothing meets no line of this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from fastfork import app
from fastfork.app import Application, Reference
from fastfork.kinds import ConfigError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from fastfork.paste import Paste

NOT_FOUND = b"Not Found\n"


class Mounts(NamedTuple):
    """What is to be served where, before it is loaded."""

    places: tuple[tuple[str, Reference | Paste], ...]

    def __str__(self) -> str:
        return ", ".join(f"{prefix}={served}" for prefix, served in self.places)

    def load(self, global_conf: Mapping[str, str]) -> Application:
        """Import all applications.  BootError of the first that cannot be."""
        return Mounted((prefix, app.load(served, global_conf)) for prefix, served in self.places)


def parse(pairs: Iterable[tuple[str, str]]) -> Mounts:
    """The value of the setting `mount`.  ConfigError."""
    places: dict[str, Reference | Paste] = {}
    for prefix, text in pairs:
        if prefix in places:
            raise ConfigError(f"--mount {prefix!r} is given twice.")
        if "%" in prefix:  # paths are compared when their escapes have been read
            raise ConfigError(
                f"--mount {prefix!r} is not usable: write its characters as they are, not as "
                "percent escapes.")
        places[prefix] = app.parse(text, f"APP of --mount {prefix}")
    return Mounts(tuple(places.items()))


class Mounted:
    """A WSGI application that hands each request to the one that is mounted at its path."""

    def __init__(self, applications: Iterable[tuple[str, Application]]) -> None:
        """Prefixes begin with a slash and end without one, except "/" itself."""
        # The environ has the bytes of a path as characters (PEP 3333, "Unicode Issues").
        found = [(prefix.rstrip("/").encode().decode("latin-1"), application)
                 for prefix, application in applications]  # fmt: skip
        self._places = tuple(
            (prefix, prefix + "/", application)
            for prefix, application in sorted(found, key=lambda place: -len(place[0]))
        )

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        for prefix, below, application in self._places:
            if not prefix:
                return application(environ, start_response)
            if path == prefix or path.startswith(below):
                environ["SCRIPT_NAME"] += prefix
                environ["PATH_INFO"] = path[len(prefix) :]
                return application(environ, start_response)
        start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8"),
                                         ("Content-Length", str(len(NOT_FOUND)))])  # fmt: skip
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [NOT_FOUND]
