"""The commands to a running server: `fastfork status|reload|scale|stop|restart [SERVICE]`.

What is asked and answered is in docs/control.md.  Answers come at once; where it takes longer to
do what was asked, `status` is asked again until it is over.

Exit statuses: 0 done, 1 not done (refused, a service was not reloaded, no answer, not over in
time), 2 a command line that cannot be used, 3 no server was found (as with the status of any
service: LSB, "program is not running"), 130 interrupted.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastfork.kinds import AUTO, ConfigError, read_count, read_duration, show_duration

if TYPE_CHECKING:
    from fastfork.client import Server

EXIT_DONE, EXIT_FAILED, EXIT_UNUSABLE, EXIT_NONE, EXIT_INTERRUPTED = 0, 1, 2, 3, 130
LOOK = 0.1  # seconds between two looks at whether it is over

_WHICH = ("--control", "--pid", "--config")
_WAITING = ("--no-wait", "--timeout")
# By command, for the sentence about one that does not exist.
FLAGS: Mapping[str, tuple[str, ...]] = {
    "status": (*_WHICH, "--json"),
    "reload": (*_WHICH, *_WAITING),
    "scale": _WHICH,
    "stop": (*_WHICH, *_WAITING),
    "restart": (*_WHICH, *_WAITING),
}

_EXITS = "Exit status 0: done; 1: not done, or no answer; 3: no server was found."


# -- the command line --------------------------------------------------------------------
def add_parsers(subparsers: argparse._SubParsersAction[Any]) -> None:
    """All five.  The parsed arguments are for `run`, which they have as `run` too."""
    status = _add(
        subparsers, "status", "show what running servers and their workers are doing",
        "Show what running servers and their workers are doing.  Exit status 0: shown; 1: a server "
        "did not answer; 3: no server was found.", "all")  # fmt: skip
    _add_service(status, "the service to show (default: all)")
    status.add_argument(
        "--json", action="store_true", help="print the answer as it comes, a line for each server")
    reload = _add(
        subparsers, "reload", "let a running server read its configuration and import its "
        "applications anew", "Let a running server read its configuration again and import its "
        "applications anew, without losing a request.  What does not boot leaves the old code "
        f"serving.  {_EXITS}")  # fmt: skip
    _add_service(reload, "the service to reload (default: all)")
    _add_waiting(reload)
    scale = _add(
        subparsers, "scale", "change the number of a service's workers",
        f"Change the number of a service's workers.  {_EXITS}")  # fmt: skip
    _add_service(scale, "the service to scale (may be left out if there is only one)")
    scale.add_argument(
        "workers", type=_workers, metavar="N",
        help="how many, or how many more or fewer: 8, +1, -1")  # fmt: skip
    stop = _add(
        subparsers, "stop", "stop a service, or the whole server",
        f"Stop a service, or the whole server, gracefully.  {_EXITS}")  # fmt: skip
    _add_service(stop, "the service to stop (default: the whole server)")
    _add_waiting(stop)
    restart = _add(
        subparsers, "restart", "end a service's workers and start new ones",
        "End a service's workers and then start new ones, of what is on the disk now.  Clients "
        f"wait meanwhile: the sockets stay open.  {_EXITS}")  # fmt: skip
    _add_service(restart, "the service to restart (default: all)")
    _add_waiting(restart)


def _add(
    subparsers: argparse._SubParsersAction[Any], name: str, help: str, description: str,
    without: str = "the only one",
) -> argparse.ArgumentParser:  # fmt: skip
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name, help=help, description=description, allow_abbrev=False)
    parser.set_defaults(run=run)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--control", metavar="PATH", help="the server whose control socket that is (default: "
        f"{without} of this user)")  # fmt: skip
    which.add_argument("--pid", type=_pid, metavar="PID", help="the server with that pid")
    which.add_argument(
        "-c", "--config", metavar="FILE", help="the server whose configuration that is: it names "
        "the control socket")  # fmt: skip
    return parser


def _add_service(parser: argparse.ArgumentParser, help: str) -> None:
    parser.add_argument("service", nargs="?", metavar="SERVICE", help=help)


def _add_waiting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-wait", dest="wait", action="store_false", help="do not wait until it is over")
    parser.add_argument(
        "--timeout", type=_timeout, default=600.0, metavar="TIME",
        help="how long to wait (default: 10m)")  # fmt: skip


def _pid(text: str) -> int:
    try:
        return read_count(text)
    except ValueError:
        raise _unusable(text, "a whole number") from None


def _timeout(text: str) -> float:
    try:
        return read_duration(text)
    except ValueError:
        raise _unusable(text, "a duration such as 90s, 5m or 2.5 (seconds)") from None


def _workers(text: str) -> dict[str, int]:
    """The key of the request.  "by" and not a number made of what there is now: that may change
    in between."""
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", text, re.ASCII):
        raise _unusable(text, "a number of workers, or +N or -N")
    return {"by" if text[0] in "+-" else "workers": int(text)}


def _unusable(text: str, right: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"{text!r} is not usable: it must be {right}")


# -- which server ------------------------------------------------------------------------
def _paths(arguments: argparse.Namespace) -> list[Path]:
    """Where the server listens, or all of this user's.  ConfigError."""
    from fastfork import places

    path = _path(arguments)
    return places.find(arguments.pid) if path is None else [path]


def _path(arguments: argparse.Namespace) -> Path | None:
    """The one that was named; None: servers are to be looked for."""
    setting, source = arguments.control, "--control"
    if arguments.config is not None:
        from fastfork import deployment

        setting, source = deployment.control_of(arguments.config), f"{arguments.config}: control ="
    if setting == "none":
        raise ConfigError(f"{source} 'none' is not usable: such a server cannot be asked.")
    return None if setting in (None, AUTO) else Path(setting)


def _nobody(arguments: argparse.Namespace) -> str:
    """The sentence for "no server was found"."""
    from fastfork import places

    path = _path(arguments)
    if path is not None:
        return f"No server listens at {path}."
    where = ", ".join(str(directory) for directory in places.directories())
    which = "" if arguments.pid is None else f" with the pid {arguments.pid}"
    return f"No running server of this user{which} was found (in {where})."


# -- carrying out ------------------------------------------------------------------------
def run(arguments: argparse.Namespace) -> int:
    """Carry out a command of `add_parsers`; returns the exit status."""
    from fastfork.terminal import OutputError, complain

    try:
        return _status(arguments) if arguments.command == "status" else _command(arguments)
    except ConfigError as error:
        for sentence in error.sentences:
            complain(sentence)
        return EXIT_UNUSABLE
    except OutputError as error:
        complain(f"Standard output cannot be written: {error}.")
        return EXIT_FAILED
    except KeyboardInterrupt:
        if arguments.command != "status":
            complain("Interrupted; what the server has been told to do goes on.")
        return EXIT_INTERRUPTED


def _status(arguments: argparse.Namespace) -> int:
    from fastfork import status

    return status.run(_paths(arguments), arguments.service, as_json=arguments.json,
                      nobody=_nobody(arguments))  # fmt: skip


def _command(arguments: argparse.Namespace) -> int:
    """One that is for one server."""
    from fastfork.client import NoAnswer, NoServer, Server
    from fastfork.terminal import complain

    paths = _paths(arguments)
    if len(paths) > 1:
        pids = ", ".join(path.stem for path in paths)
        raise ConfigError(f"There are several servers of this user, with the pids {pids}: name one "
                          "with --pid, --control or -c.")  # fmt: skip
    try:
        if not paths:
            raise NoServer
        with Server(paths[0]) as server:
            return _carry_out(server, arguments)
    except NoServer:
        complain(_nobody(arguments))
        return EXIT_NONE
    except NoAnswer as error:
        complain(f"The server at {paths[0]} does not answer: {error}.")
        return EXIT_FAILED


def _carry_out(server: Server, arguments: argparse.Namespace) -> int:
    """NoAnswer."""
    from fastfork.client import NoServer, Refused
    from fastfork.terminal import complain

    try:
        return _COMMANDS[arguments.command](server, arguments)
    except NoServer:
        complain(f"The {server.name} has ended before that was done.")
    except Refused as error:
        for sentence in str(error).splitlines():  # a configuration may have several faults
            complain(f"{sentence.removesuffix('.')}.")
        if arguments.command in _DONE:
            done = _DONE[arguments.command]
            complain(f"Nothing is {done}, the {server.name} goes on as before.")
    return EXIT_FAILED


def _service(arguments: argparse.Namespace) -> dict[str, str]:
    """The key of the request."""
    return {} if arguments.service is None else {"service": arguments.service}


def _scale(server: Server, arguments: argparse.Namespace) -> int:
    from fastfork.terminal import say

    answer = server.ask("scale", **_service(arguments), **arguments.workers)
    after = answer.get("after")
    say(f"{answer.get('service')}: {_count(after)}, {answer.get('before')} before")
    return EXIT_DONE


def _stop(server: Server, arguments: argparse.Namespace) -> int:
    from fastfork.client import NoAnswer, NoServer
    from fastfork.terminal import say

    names = server.ask("stop", **_service(arguments)).get("services", ())
    whole = arguments.service is None

    def over() -> bool:
        if whole:
            return server.gone()
        try:
            services = _services(server)
        except NoServer:
            return True
        except NoAnswer:  # not just now
            return False
        return all(services.get(name, {}).get("state", "stopped") == "stopped" for name in names)

    if arguments.wait and not _wait(over, arguments.timeout):
        return _not_over(arguments)
    if whole:
        say(f"The {server.name} {'has stopped' if arguments.wait else 'stops'}.")
    else:
        for name in names:
            say(f"{name}: {'stopped' if arguments.wait else 'is stopping'}")
    return EXIT_DONE


def _reload(server: Server, arguments: argparse.Namespace) -> int:
    """And restart."""
    from fastfork.terminal import say

    wanted = server.ask(arguments.command, **_service(arguments)).get("services", {})
    if not arguments.wait:
        for name, generation in wanted.items():
            say(f"{name}: generation {generation} is on its way")
        return EXIT_DONE
    rolling = _Rolling(server, wanted, _DONE[arguments.command])
    if not _wait(rolling.look, arguments.timeout):
        return _not_over(arguments, rolling.pending)
    return EXIT_FAILED if rolling.failed else EXIT_DONE


# What services are if all goes well.
_DONE = {"reload": "reloaded", "restart": "restarted"}
_COMMANDS: Mapping[str, Callable[[Server, argparse.Namespace], int]] = {
    "reload": _reload, "restart": _reload, "scale": _scale, "stop": _stop,
}  # fmt: skip


# -- waiting -----------------------------------------------------------------------------
def _wait(over: Callable[[], bool], timeout: float) -> bool:
    """False if it is not over within `timeout` seconds."""
    end = time.monotonic() + timeout
    while not over():
        if time.monotonic() >= end:
            return False
        time.sleep(LOOK)
    return True


def _not_over(arguments: argparse.Namespace, pending: Iterable[str] = ()) -> int:
    from fastfork.terminal import complain

    of = f" of {', '.join(pending)}" if pending else ""
    after = show_duration(arguments.timeout)
    complain(f"The {arguments.command}{of} is not over after {after}; it goes on.")
    return EXIT_FAILED


def _services(server: Server) -> dict[str, Any]:
    """What each says of itself, without its workers: to measure their memory takes a while.
    NoServer or NoAnswer."""
    return {one["name"]: one for one in server.ask("status", brief=True).get("services", ())}


class _Rolling:
    """Generations on their way.  What becomes of each is printed."""

    def __init__(self, server: Server, wanted: Mapping[str, int], done: str) -> None:
        self.server = server
        self.done = done  # what they are, if all goes well
        self.pending = dict(wanted)
        self.failed = False  # one of them
        self._seen: set[str] = set()  # services that were on their way when we looked

    def look(self) -> bool:
        """True if it is over.  NoServer."""
        from fastfork.client import NoAnswer
        from fastfork.terminal import say

        try:
            services = _services(self.server)
        except NoAnswer:  # not just now
            return False
        for name, generation in list(self.pending.items()):
            end = self._end(name, services.get(name, {}), generation)
            if end:
                say(f"{name}: {end}")
                del self.pending[name]
        return not self.pending

    def _end(self, name: str, service: Mapping[str, Any], generation: int) -> str:
        """What became of it; "" if that is not known yet.  (A service that "failed" before it was
        reloaded is that until all workers of the new generation are ready.)"""
        state, serving = service.get("state"), service.get("generation", 0)
        outcome = service.get("outcome") or {"generation": 0}
        if state == "serving" and serving >= generation != outcome["generation"]:
            return _serves(service)
        if outcome["generation"] >= generation:  # above it: somebody has reloaded again
            if outcome["ok"]:
                return _serves(service)
            goes_on = f" Generation {serving} goes on." if state == "serving" else ""
            return self._fails(f"{str(outcome['why']).removesuffix('.')}.{goes_on}")
        if state in ("starting", "reloading"):
            self._seen.add(name)
        elif name in self._seen and state in (None, "stopped"):
            return self._fails("it was stopped meanwhile.")
        return ""

    def _fails(self, why: str) -> str:
        self.failed = True
        return f"not {self.done}: {why}"


def _serves(service: Mapping[str, Any]) -> str:
    return f"generation {service['generation']} serves, {_count(service.get('size'))}"


def _count(workers: object) -> str:
    return f"{workers} worker" if workers == 1 else f"{workers} workers"
