"""The command line: `fastfork serve APP ...` and the commands to a running server.

Exit statuses of `serve`: 0 told to stop and did, 1 failed after the start, 2 unusable: bad flags,
an address that cannot be bound, an application that does not boot.  For those of the others see
`commands`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from fastfork import __version__, commands, config, deployment, log
from fastfork.config import Setting
from fastfork.kinds import SWITCH, ConfigError, perhaps

EXIT_UNUSABLE = 2
MOST_FILES = 1 << 20  # some programs close every descriptor up to the limit


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status.  Also returns, later, in every worker."""
    try:
        if not sys.platform.startswith("linux"):
            raise ConfigError("fastfork runs on Linux only.")
        arguments = _parse(sys.argv[1:] if argv is None else argv)
        if arguments.command != "serve":
            outcome: int = arguments.run(arguments)
            return outcome
        given = {name: value for name, value in vars(arguments).items() if name in config.TABLE}
        return _serve(lambda: deployment.load(given))
    except ConfigError as error:
        return _unusable(str(error))


def _serve(load: Callable[[], deployment.Deployment]) -> int:
    wanted = load()
    _open_standard_descriptors()
    try:
        from fastfork import worker
    except ImportError as error:
        return _unusable(f"The compiled core of fastfork cannot be loaded: {error}.")
    from fastfork import mold
    from fastfork.master import Master
    from fastfork.notify import Notifier
    from fastfork.pidfile import PidFileError
    from fastfork.sockets import AddressError, Passed
    from fastfork.upgrade import Upgrade

    predecessor = Upgrade.from_environ(os.environ)
    if predecessor is None:  # an old master has passed the sockets instead
        _check_ready_fd(wanted.server.ready_fd)
    _raise_file_limit()
    log.set_up(wanted.server.log_level)
    notifier = Notifier.from_environ(os.environ)
    try:
        outcome = Master(wanted, load, passed=Passed.from_environ(os.environ), notifier=notifier,
                         predecessor=predecessor).run()  # fmt: skip
    except (AddressError, PidFileError) as error:
        return _unusable(str(error))
    # Here every process comes along: the master in the end, the others at their beginning.
    if isinstance(outcome, mold.Plan):
        outcome = mold.run(outcome)
    return outcome if isinstance(outcome, int) else worker.run(outcome)


def _unusable(sentence: str) -> int:
    log.write(f"fastfork: {log.escape(sentence)}\n")
    return EXIT_UNUSABLE


# -- flags -------------------------------------------------------------------------------
_FLAGS = {
    "serve": [row.flag for row in config.TABLE.values()],
    **commands.FLAGS,
}


class _Parser(argparse.ArgumentParser):
    """One sentence instead of a screenful of usage."""

    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ")
        raise ConfigError(f"{message[:1].upper()}{message[1:]}, see {self.prog} --help.")


def parser() -> argparse.ArgumentParser:
    """The command line, generated from the table in `config`."""
    top = _Parser(prog="fastfork", description="A pre-fork WSGI server.", allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"fastfork {__version__}")
    subparsers = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    serve = subparsers.add_parser(
        "serve", help="serve a WSGI application", allow_abbrev=False,
        description="Serve a WSGI application.  TIME: 90s, 5m, 250ms or seconds.  "
        "SIZE: 64KiB, 1MiB, 10k or bytes.")  # fmt: skip
    for row in config.TABLE.values():
        _add(serve, row)
    commands.add_parsers(subparsers)
    return top


def _add(parser: argparse.ArgumentParser, row: Setting) -> None:
    options: dict[str, Any] = {"help": _help(row), "metavar": row.metavar or None}
    if row.choices:
        options["metavar"] = "|".join(row.choices)
    if row.positional:
        parser.add_argument(row.name, **options)
        return
    names = [row.short, row.flag] if row.short else [row.flag]
    if row.kind is SWITCH:
        parser.add_argument(*names, action="store_const", const="on", help=row.help)
        return
    parser.add_argument(*names, action="append" if row.many else "store", **options)


def _help(row: Setting) -> str:
    text = row.help
    if not row.positional and row.default not in (None, ()):
        values = row.default if row.many else [row.default]
        text += f" (default: {', '.join(row.kind.show(value) for value in values)})"
    return text.replace("%", "%%")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    # What --pyargv takes looks like flags, and argparse would take it for ours.
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1] == "--pyargv":
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    arguments, unknown = parser().parse_known_args(joined)
    if unknown:
        flag = unknown[0].split("=")[0]
        near = perhaps(flag, _FLAGS[arguments.command])
        raise ConfigError(
            f"There is no flag or argument {flag!r}{near}, "
            f"see fastfork {arguments.command} --help.")  # fmt: skip
    return arguments


# -- this process ------------------------------------------------------------------------
def _open_standard_descriptors() -> None:
    """Started with 0, 1 or 2 closed, the next socket would get that number, and print() of the
    application would write into it."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    # wsgi.errors must be something that can be written to (PEP 3333).
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def _check_ready_fd(fd: int | None) -> None:
    if fd is None:
        return
    try:
        os.set_inheritable(fd, False)
    except OSError:
        raise ConfigError(f"--ready-fd {fd} is not usable: it is not open.") from None


def _raise_file_limit() -> None:
    """As many descriptors as we may have: every connection is one."""
    import resource  # is not there on the systems that `main` refuses

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
