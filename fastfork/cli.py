"""The command line.  It is parsed here, and handed over to whoever carries the command out.

Exit statuses of `serve`: 0 told to stop and did, 1 failed after the start, 2 unusable: bad flags,
a bad file, an address that cannot be bound, an application that does not boot.  2 means the same
for every command; what else they end with is said where they are.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from fastfork import __version__, config, deployment, log
from fastfork.config import Setting
from fastfork.deployment import Deployment
from fastfork.garbage import made_to_stay
from fastfork.kinds import SWITCH, ConfigError, perhaps

EXIT_FAILED, EXIT_UNUSABLE = 1, 2
MOST_FILES = 1 << 20  # some programs close every descriptor up to the limit

Load = Callable[[], Deployment]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status.  Also returns, later, in every worker."""
    try:
        if not sys.platform.startswith("linux"):
            raise ConfigError("fastfork runs on Linux only.")
        arguments = _parse(sys.argv[1:] if argv is None else argv)
        status: int = arguments.run(arguments)
        return status
    except ConfigError as error:
        return _unusable(*error.sentences)


# -- the commands ------------------------------------------------------------------------
def _run_serve(arguments: argparse.Namespace) -> int:
    return _serve(_loader(arguments))


def _run_check(arguments: argparse.Namespace) -> int:
    try:
        from fastfork import check
    except ImportError as error:
        return _without_core(error)
    return _printed(lambda: check.run(_loader(arguments)))


def _run_config(arguments: argparse.Namespace) -> int:
    if arguments.schema:
        from fastfork import describe

        return _printed(describe.run)
    from fastfork import effective

    return _printed(
        lambda: effective.run(_loader(arguments, here=False), as_json=arguments.json))


def _printed(run: Callable[[], int]) -> int:
    """What `run` returns, or 1 if what it prints cannot be written."""
    from fastfork.terminal import OutputError

    try:
        return run()
    except OutputError as error:
        log.write(f"fastfork: Cannot write to standard output: {error}.\n")
        return EXIT_FAILED


def _run_import_nova(arguments: argparse.Namespace) -> int:
    from fastfork import import_nova

    return import_nova.run(arguments)


def _run_import_gunicorn(arguments: argparse.Namespace) -> int:
    from fastfork import import_gunicorn

    return import_gunicorn.run(arguments)


def _loader(arguments: argparse.Namespace, *, here: bool = True) -> Load:
    """What reads the configuration that the arguments name, as often as it is called."""
    try:
        os.getcwd()
    except OSError:
        raise ConfigError("The working directory is gone, change to another.") from None
    given = {name: value for name, value in vars(arguments).items() if name in config.TABLE}
    only = arguments.only
    if only is not None:
        only = [name.strip() for name in only.split(",")]
    return lambda: deployment.load(given, file=arguments.config, only=only, here=here)


def _serve(load: Load) -> int:
    with made_to_stay():
        wanted = load()
        _open_standard_descriptors()
        try:
            from fastfork import worker
        except ImportError as error:
            return _without_core(error)
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
    for sentence in wanted.warnings:
        log.logger.warning(sentence)
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


def _without_core(error: ImportError) -> int:
    return _unusable(f"The compiled core of fastfork cannot be loaded: {error}.")


def _unusable(*sentences: str) -> int:
    for sentence in sentences:
        log.write(f"fastfork: {log.escape(sentence)}\n")
    return EXIT_UNUSABLE


# -- flags -------------------------------------------------------------------------------
_UNITS = "TIME: 90s, 5m, 250ms or seconds.  SIZE: 64KiB, 1MiB, 10k or bytes."
_SERVED = ["--config", "--only", *(row.flag for row in config.TABLE.values())]


class _Parser(argparse.ArgumentParser):
    """One sentence instead of a screenful of usage."""

    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ")
        raise ConfigError(f"{message[:1].upper()}{message[1:]}, see {self.prog} --help.")


Subparsers = argparse._SubParsersAction  # has no other name


def parser(command: str = "") -> argparse.ArgumentParser:
    """The command line, generated from the table in `config`: all of it, or what is needed to
    read that `command`, as the flags of the others cost time too."""
    top = _Parser(prog="fastfork", description="A pre-fork WSGI server.", allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"fastfork {__version__}")
    subparsers = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    wanted = _PARTS if command not in _PARTS else [command]
    for add in dict.fromkeys(_PARTS[name] for name in wanted):
        add(subparsers)
    return top


def _add_command(
    subparsers: Subparsers[_Parser], name: str, run: Callable[[argparse.Namespace], int], help: str,
    description: str,
) -> _Parser:  # fmt: skip
    parser: _Parser = subparsers.add_parser(
        name, help=help, description=description, allow_abbrev=False)
    parser.set_defaults(run=run)
    return parser


def _add_serve(subparsers: Subparsers[_Parser]) -> None:
    serve = _add_command(
        subparsers, "serve", _run_serve, "serve WSGI applications",
        "Serve a WSGI application, or all services of a file.  Every flag is also a key of the "
        f"file and a variable of the environment, --max-body FASTFORK_MAX_BODY.  {_UNITS}",
    )  # fmt: skip
    _add_settings(serve)


def _add_check(subparsers: Subparsers[_Parser]) -> None:
    check = _add_command(
        subparsers, "check", _run_check, "see whether all services could be served",
        "Read the configuration and import the application of every service, each in a process of "
        "its own.  Takes what serve takes.  Exit status 0: all could be served; 1: one could not; "
        f"2: the configuration cannot be used.  {_UNITS}")  # fmt: skip
    _add_settings(check)


def _add_config(subparsers: Subparsers[_Parser]) -> None:
    show = _add_command(
        subparsers, "config", _run_config, "print the settings in effect, and where each is from",
        "Print the settings that serve would have with the same arguments, as a file that says "
        f"the same, with where each comes from.  {_UNITS}")  # fmt: skip
    what = show.add_mutually_exclusive_group()
    what.add_argument("--json", action="store_true", help="print them as JSON")
    what.add_argument(
        "--schema", action="store_true", help="print the JSON schema of configuration files")
    _add_settings(show)


def _add_settings(parser: _Parser) -> None:
    parser.add_argument(
        "-c", "--config", metavar="FILE", help="the configuration file (default: without APP, "
        f"{deployment.FILE} in the working directory)")  # fmt: skip
    parser.add_argument(
        "--only", metavar="NAMES", help="services of the file, separated by commas (default: all)")
    for row in config.TABLE.values():
        _add(parser, row)


def _add_import_nova(subparsers: Subparsers[_Parser]) -> None:
    importer = _add_command(
        subparsers, "import-nova", _run_import_nova, "make a configuration file of a nova.conf",
        "Write a configuration file that says what nova.conf says of its API services, and tell "
        "which options could not be carried over.")  # fmt: skip
    importer.add_argument(
        "file", nargs="+", metavar="FILE", help="nova.conf; what a later one says goes before")
    _add_output(importer)


def _add_import_gunicorn(subparsers: Subparsers[_Parser]) -> None:
    importer = _add_command(
        subparsers, "import-gunicorn", _run_import_gunicorn,
        "make a configuration file of a gunicorn.conf.py",
        "Write a configuration file that says what gunicorn's says, and tell which settings could "
        "not be carried over.")  # fmt: skip
    importer.add_argument("file", metavar="FILE", help="gunicorn.conf.py")
    _add_output(importer)


def _add_output(parser: _Parser) -> None:
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="where to write it (default: standard output)")


def _add_control(subparsers: Subparsers[_Parser]) -> None:
    from fastfork import commands

    commands.add_parsers(subparsers)


# Who adds a command's flags, in the order in which `fastfork --help` lists them.
_PARTS: dict[str, Callable[[Subparsers[_Parser]], None]] = {
    "serve": _add_serve,
    "check": _add_check,
    "config": _add_config,
    "status": _add_control,
    "reload": _add_control,
    "scale": _add_control,
    "stop": _add_control,
    "restart": _add_control,
    "import-nova": _add_import_nova,
    "import-gunicorn": _add_import_gunicorn,
}


# What flags of gunicorn are here that are called otherwise (docs/migrating.md).
_GUNICORN = {
    "-k": "--green' or '--threads",
    "--worker-class": "--green' or '--threads",
    "-t": "--request-timeout",
    "--timeout": "--request-timeout",
    "--worker-connections": "--max-connections",
    "--limit-request-line": "--max-request-line",
    "--limit-request-fields": "--max-fields",
    "--limit-request-field_size": "--max-head",
    "--pythonpath": "--python-path",
    "--env": "--environment",
    "--access-logfile": "--access-log",
    "--access-logformat": "--access-log-format",
}


def _known_flags(command: str) -> Sequence[str]:
    if _PARTS[command] is _add_control:
        from fastfork import commands

        return commands.FLAGS[command]
    if command.startswith("import-"):
        return ["--output"]
    return [*_SERVED, "--json", "--schema"] if command == "config" else _SERVED


def _add(parser: argparse.ArgumentParser, row: Setting) -> None:
    options: dict[str, Any] = {"help": _help(row), "metavar": row.metavar or None}
    if row.choices:
        options["metavar"] = "|".join(row.choices)
    if row.positional:
        parser.add_argument(row.name, nargs="?", **options)
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
    command = joined[0] if joined else ""
    if command and not command.startswith("-") and command not in _PARTS:
        raise ConfigError(
            f"There is no command {command!r}{perhaps(command, _PARTS)}, see fastfork --help.")
    arguments, unknown = parser(command).parse_known_args(joined)
    if unknown:
        flag = unknown[0].split("=")[0]
        known = _known_flags(arguments.command)
        meant = _GUNICORN.get(flag) if "--bind" in known else None
        meant = f" (perhaps '{meant}' is meant)" if meant else perhaps(flag, known)
        raise ConfigError(f"There is no flag or argument {flag!r}{meant}, "
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
