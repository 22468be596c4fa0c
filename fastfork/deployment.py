"""What is to be served: the services, and what holds for the server as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fastfork import config
from fastfork.config import Settings


class ServiceConfig(NamedTuple):
    """One service.  `name` is "" for the only one of a command line, which is called what its
    application is."""

    name: str
    settings: Settings


class Deployment(NamedTuple):
    """`server` has the settings that are the server's (`scope`), whatever else stands in it;
    `services` are in the order in which they were written."""

    server: Settings
    services: tuple[ServiceConfig, ...]
    path: str | None = None  # of the file, if there is one


def load(flags: Mapping[str, str | Iterable[str] | None]) -> Deployment:
    """ConfigError."""
    settings = config.load(flags)
    return Deployment(settings, (ServiceConfig("", settings),))
