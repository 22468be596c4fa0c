"""What a service is made of, read from its settings: all that can be known before a socket is
bound and a process forked."""

from __future__ import annotations

import os
from typing import NamedTuple

from fastfork import app, cpus, identity, sockets
from fastfork.config import Settings
from fastfork.deployment import ServiceConfig
from fastfork.identity import Identity, Owner
from fastfork.kinds import AUTO


class Recipe(NamedTuple):
    name: str
    tag: str  # in log entries of its workers; "" for the only service of a command line
    settings: Settings
    reference: app.Served
    identity: Identity | None
    owner: Owner | None  # of unix sockets
    access_log: str | None  # an absolute path, or "-"
    preload: str
    size: int  # workers


def make(config: ServiceConfig) -> Recipe:
    """ConfigError or AddressError if something in it is malformed."""
    settings = config.settings
    reference = app.parse_service(settings)
    for text in settings.bind:
        sockets.parse(text)
    access_log = settings.access_log
    if access_log not in (None, "-"):
        access_log = os.path.abspath(access_log)  # before anybody's --chdir
    preload = settings.preload
    if settings.exclusive and preload == "auto":
        # State that is made by the import would be the mold's, and be there twice at a reload.
        preload = "off"
    return Recipe(
        name=config.name or str(reference),
        tag=config.name,
        settings=settings,
        reference=reference,
        identity=identity.resolve(settings.user, settings.group),
        owner=None if settings.socket_owner is None else identity.owner(settings.socket_owner),
        access_log=access_log,
        preload=preload,
        size=cpus.usable() if settings.workers == AUTO else settings.workers,
    )


class Generation:
    """One edition of a service: its recipe, its sockets, and what its workers are made from."""

    def __init__(
        self, number: int, recipe: Recipe, listeners: list[sockets.Listener], *, restart: bool
    ) -> None:
        self.number = number
        self.recipe = recipe
        self.take(listeners)
        self.restart = restart  # all workers of before are gone before it has one
        self.direct = recipe.preload == "off"  # its workers import the application themselves

    def take(self, listeners: list[sockets.Listener]) -> None:
        self.listeners = listeners
        self.urls = [listener.url for listener in listeners]
