"""The services of one master: what is to be served may change while it runs.

A reload reads the configuration again.  Everything that can fail is done first: all of it is read,
all new sockets are opened; whatever is wrong with it is a ConfigError, and nothing has changed.
Then services begin their new generations, each at its own pace and with its own gate; new ones
start, and those that are not in it any more leave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastfork import log, recipe, sockets
from fastfork.deployment import Deployment
from fastfork.family import Family
from fastfork.kinds import ConfigError, perhaps
from fastfork.log import logger
from fastfork.protocol import MOST_WORKERS
from fastfork.recipe import Generation, Recipe
from fastfork.service import Service
from fastfork.sockets import AddressError, Listener

KEPT = ("pid", "control")  # of the server's own settings: for the next start


class Services:
    """`load` reads the configuration (ConfigError); `wanted` is what it said at the start."""

    def __init__(
        self, wanted: Deployment, load: Callable[[], Deployment], family: Family
    ) -> None:
        """ConfigError or AddressError if one of them is described wrongly."""
        self.server = wanted.server
        self.path = wanted.file
        self._load = load
        self._family = family
        self._leaving: list[Service] = []  # not in the configuration any more
        for one in wanted.services:
            Service(recipe.make(one), family)

    @property
    def all(self) -> list[Service]:
        return self._family.services

    def bind(self, passed: sockets.Passed) -> None:
        """AddressError if an address cannot be bound."""
        for service in self.all:
            try:
                service.bind(passed)
            except AddressError as error:
                where = _where(self.path, service.generation.recipe)
                raise AddressError(where + str(error)) from None

    def find(self, name: str) -> Service:
        """ConfigError."""
        for service in self.all:
            if service.name == name and service not in self._leaving:
                return service
        raise ConfigError(f"There is no service {name!r}{perhaps(name, self._names())}.")

    def _names(self) -> list[str]:
        return [service.name for service in self.all if service not in self._leaving]

    def serving(self) -> list[Service]:
        """Those that have not been told to stop."""
        return [service for service in self.all if not service.roster.closed]

    def tidy(self) -> None:
        """Forget those that have left for good."""
        for service in [one for one in self._leaving if one.over()]:
            self._leaving.remove(service)
            self.all.remove(service)
            service.close_ties()
            logger.info("%s is gone.", service.name)

    # -- reload --------------------------------------------------------------------------
    def reload(
        self, name: str | None, why: str, now: float, *, restart: bool = False
    ) -> dict[str, int]:
        """Read the configuration and begin new generations, of the service `name` or of all.
        Returns their numbers by name.  ConfigError; then nothing has changed."""
        wanted, recipes = self._read()
        names = list(recipes)
        if name is not None:
            if name not in recipes:
                self.find(name)  # or it has never been there
                raise ConfigError(f"{name} is not in the configuration any more.")
            recipes = {name: recipes[name]}
        there = {one.name: one for one in self.all if one not in self._leaving}
        plan = _Plan(self._family, there, wanted.file, everything=name is None, restart=restart)
        try:
            plan.prepare(recipes.values())
        except BaseException:
            plan.give_up()
            raise
        self._family.promised = plan.listeners()  # whoever gives one of them up
        if name is None:
            self._take_server(wanted)
            self._dismiss(set(recipes), now)
        for service, generation in plan.changed:
            service.reload(generation, why)
        self._family.promised = []
        for service in plan.replaced:
            self.all.remove(service)
            service.close_ties()
        for service in plan.added:
            logger.info("%s: starting %s.", why, service.name)
        self._sort(names)
        return plan.numbers()

    def _read(self) -> tuple[Deployment, dict[str, Recipe]]:
        """ConfigError, whatever it is that fails: a server that runs must not end for it."""
        try:
            wanted = self._load()
            return wanted, {one.name: one for one in map(recipe.make, wanted.services)}
        except sockets.AddressError as error:
            raise ConfigError(str(error)) from None
        except OSError as error:  # the working directory is gone, and a relative path counts
            raise ConfigError(f"The configuration cannot be read: {error.strerror}.") from None

    def _sort(self, names: list[str]) -> None:
        """As they are written; those that leave come last."""
        places = {name: place for place, name in enumerate(names)}
        self.all.sort(key=lambda service: places.get(service.name, len(places)))

    def _take_server(self, wanted: Deployment) -> None:
        before, self.server = self.server, wanted.server
        for name in KEPT:
            if vars(before)[name] != vars(self.server)[name]:
                logger.warning("The change of %s will take effect when the server is started "
                               "again.", name)  # fmt: skip
        log.set_level(self.server.log_level)

    def _dismiss(self, wanted: set[str], now: float) -> None:
        """Those that are not wanted any more finish what they have in hand and leave."""
        for service in self.all:
            if service.name not in wanted and service not in self._leaving:
                logger.info("%s is not in the configuration any more, it is stopped.",
                            service.name)  # fmt: skip
                self._leaving.append(service)
                service.stop(now)

    # -- other wishes --------------------------------------------------------------------
    def scale(
        self, name: str | None, now: float, *, workers: int | None = None, by: int = 0
    ) -> dict[str, Any]:
        """`workers` is how many there shall be, or `by` how many more.  ConfigError."""
        service = self._only() if name is None else self.find(name)
        if service.roster.closed:
            raise ConfigError(f"{service.name} is {service.state()}.")
        before = service.roster.size
        after = before + by if workers is None else workers
        if not 0 <= after <= MOST_WORKERS:
            raise ConfigError(
                f"{service.name} cannot have {after} workers, only 0 to {MOST_WORKERS}.")
        service.resize(after)
        logger.info("%s is scaled from %d to %d workers.", service.name, before, after)
        return {"service": service.name, "before": before, "after": after}

    def _only(self) -> Service:
        names = self._names()
        if len(names) != 1:
            raise ConfigError(f"There are several services: name one of {', '.join(names)}.")
        return self.find(names[0])

    def stop(self, name: str, now: float) -> list[str]:
        """It stays stopped until it is reloaded or restarted by its name.  ConfigError."""
        service = self.find(name)
        if not service.roster.closed:
            logger.info("%s is stopped within %g s.", name, service.settings.graceful_timeout)
            service.stop(now)
        return [name]


def _where(path: str | None, one: Recipe) -> str:
    """The beginning of a sentence about a service, if a file describes it."""
    return f"{path}, [services.{one.tag}]: " if path is not None and one.tag else ""


class _Plan:
    """What a reload will do, as far as it can fail."""

    def __init__(
        self,
        family: Family,
        there: Mapping[str, Service],
        path: str | None,
        *,
        everything: bool,
        restart: bool,
    ) -> None:
        self._family = family
        self._path = path
        self._there = there  # by name
        self._everything = everything
        self._restart = restart
        self.replaced: list[Service] = []  # stopped ones that begin anew
        self.changed: list[tuple[Service, Generation]] = []
        self.added: list[Service] = []

    def prepare(self, recipes: Iterable[Recipe]) -> None:
        """Open all sockets.  ConfigError; then the caller must `give_up`."""
        for one in recipes:
            service = self._there.get(one.name)
            try:
                self._prepare(one, service)
            except AddressError as error:
                sentence = self._taken_by_us(error) or str(error)
                raise ConfigError(_where(self._path, one) + sentence) from None

    def _prepare(self, one: Recipe, service: Service | None) -> None:
        if service is None:
            self._add(one, first=1)
        elif not service.roster.closed:
            generation = service.prepare(one, self._free(), restart=self._restart)
            self.changed.append((service, generation))
        elif self._everything:
            logger.info("%s stays stopped.", service.name)
        elif service.over():
            self._add(one, first=service.newest + 1)
            self.replaced.append(service)
        else:
            raise ConfigError(f"{service.name} is still stopping.")

    def _add(self, one: Recipe, first: int) -> None:
        service = Service(one, self._family, first=first)
        self.added.append(service)
        service.bind(sockets.Passed(late=True), self._free())

    def _free(self) -> list[Listener]:
        """Sockets that any service may have: no two of a configuration have the same address, so
        who has it now gives it up.  (Port 0 is another port each time.)"""
        if not self._everything:
            return self._family.unused()
        return [one for one in self._family.listeners() if not sockets.is_any_port(one.address)]

    def _taken_by_us(self, error: AddressError) -> str:
        """A sentence if it is this server that has the address."""
        if error.taken is None:
            return ""
        for service in self._family.services:
            for listener in service.listeners():
                if sockets.collide(error.taken, listener):
                    return (f"Cannot listen on {error.taken}: this server listens on "
                            f"{listener.address} for {service.name}, which must be given up by a "
                            "reload before.")
            if service.roster.closed and any(
                sockets.overlap(error.taken, address) for address in service.had
            ):
                return (f"Cannot listen on {error.taken}: workers of {service.name} that finish "
                        "what they have in hand have it still, try again in a moment.")
        return ""

    def listeners(self) -> list[Listener]:
        """Of the generations that services are to be given."""
        return [listener for _, generation in self.changed for listener in generation.listeners]

    def give_up(self) -> None:
        """Close what was opened."""
        for _, generation in self.changed:
            self._family.release(generation.listeners)
        for service in self.added:
            service.unbind()
            service.close_ties()
            self._family.services.remove(service)

    def numbers(self) -> dict[str, int]:
        numbers = {service.name: generation.number for service, generation in self.changed}
        return numbers | {service.name: service.newest for service in self.added}
