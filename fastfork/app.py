"""From "pkg.mod:attr" to a WSGI application.

What APP says is read here (`parse`), in the master too, and nothing of the application is
imported for it.  An application of a paste file is read and loaded by `paste`, several under one
service by `mount`; both are imported only where they are used.

Importing somebody's application runs somebody's code: it may raise anything, end the process,
or not be there.  Each of these is a `BootError` with one sentence and, where the fault lies in
the application's code, its own traceback.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeAlias

from fastfork.kinds import ConfigError, perhaps

if TYPE_CHECKING:
    from fastfork.config import Settings
    from fastfork.mount import Mounts
    from fastfork.paste import Paste

Application = Callable[..., Iterable[bytes]]
Served: TypeAlias = "Reference | Paste | Mounts"  # what a service serves, before it is loaded

DEFAULT_NAMES = ("application", "app")
NO_CONF: Mapping[str, str] = MappingProxyType({})


class BootError(Exception):
    """The application cannot be served.  `sentence` says why, `why` without its `beginning`;
    `trace` is the text of the application's own traceback, or empty if none of its code is at
    fault."""

    def __init__(self, why: str, trace: str = "", *, beginning: str = "") -> None:
        super().__init__(beginning + why)
        self.sentence = beginning + why
        self.why = why
        self.trace = trace


class Reference(NamedTuple):
    """What APP says: attribute "" means one of `DEFAULT_NAMES`; `call` that it is a factory, to
    be called with `args` and `keywords`."""

    module: str
    attribute: str
    call: bool
    args: tuple[Any, ...] = ()
    keywords: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return self.module + (f":{self.attribute}" if self.attribute else "") + self._call()

    def _call(self) -> str:
        if not self.call:
            return ""
        parts = [repr(value) for value in self.args]
        parts += [f"{name}={value!r}" for name, value in self.keywords]
        return f"({', '.join(parts)})"


# -- reading what was written ------------------------------------------------------------
def parse_service(settings: Settings) -> Served:
    """What a service with these settings is to serve: its `app`, or all that it mounts.
    ConfigError."""
    if not settings.mount:
        return parse(settings.app)
    if settings.app:
        raise ConfigError(
            f"APP {settings.app!r} and --mount do not go together: mount it at / instead.")
    from fastfork import mount

    return mount.parse(settings.mount)


def parse(text: str, source: str = "APP") -> Reference | Paste:
    """pkg.mod:attr, pkg.mod:factory(...), pkg.mod or paste:FILE#NAME; FILE counts from the working
    directory.  ConfigError, which names `source`, if it is none of these."""
    if text.startswith("paste:"):
        from fastfork import paste

        return paste.parse(text, source)
    path, call, rest = text.partition("(")
    module, colon, attribute = path.partition(":")
    if "/" in module or module.endswith(".py"):
        name = os.path.basename(module).removesuffix(".py") or "module"
        right = name + colon + attribute + call + rest
        raise ConfigError(
            f"{source} {text!r} is not usable: it names a module, not a file, write {right!r} "
            "with --chdir for its directory.")
    parts = [*module.split("."), *(attribute.split(".") if colon or call else [])]
    if not all(part.isidentifier() for part in parts):
        raise ConfigError(
            f"{source} {text!r} is not usable: it must be pkg.mod:attr, pkg.mod:factory(), "
            "pkg.mod or paste:FILE#NAME."
        )
    if not call:
        return Reference(module, attribute, False)
    args, keywords = _arguments(rest, f"{source} {text!r} is not usable: ")
    return Reference(module, attribute, True, args, keywords)


def _arguments(rest: str, beginning: str) -> tuple[tuple[Any, ...], tuple[tuple[str, Any], ...]]:
    """What a factory is to be called with; `rest` is all behind its "(".  Nothing is evaluated."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an escape that means nothing
            call = ast.parse(f"_({rest}", mode="eval").body
    except SyntaxError as error:
        raise ConfigError(f"{beginning}its arguments cannot be read ({error.msg}).") from None
    except (ValueError, MemoryError, RecursionError):
        raise ConfigError(f"{beginning}its arguments cannot be read.") from None
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
        raise ConfigError(f"{beginning}it must end with the one ) that closes the arguments.")
    keywords: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg is None:
            _refuse_argument(keyword.value, beginning, "**")
        if keyword.arg in keywords:
            raise ConfigError(f"{beginning}its argument {keyword.arg!r} is given twice.")
        keywords[keyword.arg] = _literal(keyword.value, beginning)
    args = tuple(_literal(node, beginning) for node in call.args)
    return args, tuple(keywords.items())


def _literal(node: ast.expr, beginning: str) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, MemoryError, RecursionError):
        _refuse_argument(node, beginning)


def _refuse_argument(node: ast.expr, beginning: str, stars: str = "") -> NoReturn:
    try:
        written = f" {stars}{ast.unparse(node)}"
    except RecursionError:  # it is too deep to be written again
        written = ""
    raise ConfigError(
        f"{beginning}its argument{written} is no literal: text in quotes, numbers, True, False, "
        "None, and lists, tuples, sets and dicts of them can be given.")


# -- importing ---------------------------------------------------------------------------
def prepare(
    directory: str | None, arguments: Iterable[str], python_path: Iterable[str] = ()
) -> None:
    """Make this process a place in which the application can be imported.

    The working directory becomes importable, then what is in `python_path` (which counts from
    the directory before the change).  sys.argv becomes the program's name and what --pyargv
    gives: applications that parse it at import must not meet our flags.  BootError.
    """
    added = [os.path.abspath(entry) for entry in python_path]
    if directory is not None:
        try:
            os.chdir(directory)
        except OSError as error:
            sentence = f"Cannot change to the directory {directory!r}: {error.strerror}."
            raise BootError(sentence) from None
    first = list(dict.fromkeys([os.getcwd(), *added]))
    sys.path[:] = [*first, *(entry for entry in sys.path if entry not in ("", *first))]
    sys.argv[1:] = arguments


def load(served: Served, global_conf: Mapping[str, str] = NO_CONF) -> Application:
    """Import the application.  `global_conf` is for paste files.  BootError, whatever its code
    does."""
    if not isinstance(served, Reference):
        return served.load(global_conf)
    application = find(served)
    if served.call:
        application = _make(application, served)
        return check(application, f"what {served} returned")
    return check(application, _named(served), f"; a factory is written {_named(served)}()")


def find(reference: Reference) -> Any:
    """Import what `reference` names, without calling it.  BootError, whatever its code does."""
    return _find(_import(reference), reference)


def _import(reference: Reference) -> ModuleType:
    try:
        return importlib.import_module(reference.module)
    except ModuleNotFoundError as error:
        if _is_missing(error, reference.module):
            raise _missing(reference, str(error.name)) from None
        raise fault(reference, "importing it", error) from None
    except BaseException as error:  # SystemExit too: a module that ends the process cannot serve
        raise fault(reference, "importing it", error) from None


def _is_missing(error: ModuleNotFoundError, module: str) -> bool:
    """True if the module asked for is not there, rather than one that its code asked for."""
    asked_for = error.name is not None and f"{module}.".startswith(f"{error.name}.")
    return asked_for and _application_frames(error) is None


def _missing(reference: Reference, name: str) -> BootError:
    here = os.getcwd()
    known = []
    if "." not in name:
        modules = (re.fullmatch(r"(\w+)(\.py)?", entry) for entry in os.listdir(here))
        known = [module[1] for module in modules if module]
    return BootError(
        f"there is no module named {name!r} in {here} or on the Python path"
        f"{perhaps(name, known)}.", beginning=f"Cannot import {reference}: ")  # fmt: skip


def _find(module: ModuleType, reference: Reference) -> Any:
    if not reference.attribute:
        for name in DEFAULT_NAMES:
            if hasattr(module, name):
                return getattr(module, name)
        raise BootError(
            f"{reference.module} has neither 'application' nor 'app': "
            f"name what to serve, as in {reference.module}:attr."
        )
    found: Any = module
    path = reference.module
    for name in reference.attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            near = perhaps(name, [n for n in dir(found) if not n.startswith("__")])
            raise BootError(f"{path} has no attribute {name!r}{near}.") from None
        except BaseException as error:
            raise fault(reference, f"reading its attribute {name!r}", error) from None
        path += ("." if ":" in path else ":") + name
    return found


def _make(factory: Any, reference: Reference) -> Any:
    if not callable(factory):
        raise BootError(
            f"{reference} is not usable: {_named(reference)} is {_a(factory)}, not a factory "
            "that could be called."
        )
    try:
        return factory(*reference.args, **dict(reference.keywords))
    except BaseException as error:
        raise fault(reference, "calling the factory", error) from None


def check(application: Any, subject: str, hint: str = "") -> Application:
    """Refuse what can never serve a request.  `subject` is what the sentence of the BootError
    begins with, `hint` its end where a function cannot be called like an application."""
    if not callable(application):
        raise BootError(f"{subject} is {_a(application)}, which is not callable.")
    call = application if inspect.isroutine(application) else type(application).__call__
    if inspect.iscoroutinefunction(call):
        raise BootError(f"{subject} is an asynchronous (ASGI) application, not a WSGI one.")
    if inspect.isfunction(application):
        try:
            # the function's own parameters: what a decorator wraps may well have others
            signature = inspect.signature(application, follow_wrapped=False)
            signature.bind("environ", "start_response")
        except TypeError:
            raise BootError(
                f"{subject} cannot be called with (environ, start_response){hint}."
            ) from None
    return application  # type: ignore[no-any-return]


def _named(reference: Reference) -> str:
    return f"{reference.module}:{reference.attribute or 'application'}"


def _a(thing: Any) -> str:
    name = type(thing).__name__
    return ("an " if name[0].lower() in "aeiou" else "a ") + name


def fault(served: Served, doing: str, error: BaseException, *ours: str) -> BootError:
    """The application's code failed: its traceback, without the frames of the files `ours`, and
    a sentence that sums it up."""
    return BootError(f"{doing} {what_it_did(error)}.", application_trace(error, *ours),
                     beginning=f"Cannot serve {served}: ")  # fmt: skip


def what_it_did(error: BaseException) -> str:
    """The end of a sentence about code that let `error` out; one line."""
    if isinstance(error, SystemExit):
        return f"ended the process with SystemExit({error.code!r})"
    name = type(error).__name__
    try:
        text = f"{name}: {error}"
    except Exception:  # it cannot even say what it is
        text = name
    return "raised " + text.splitlines()[0].rstrip(".: ")


def application_trace(error: BaseException, *ours: str) -> str:
    """The traceback as far as it lies in the application: without this file's frames, those of
    the files `ours` and importlib's.  "" if nothing of it does."""
    frames = _application_frames(error, ours)
    if frames is None and not isinstance(error, SyntaxError):  # which has the place in itself
        return ""
    return "".join(traceback.format_exception(type(error), error, frames))


def _application_frames(error: BaseException, ours: Iterable[str] = ()) -> TracebackType | None:
    """The part of the traceback that lies in the application."""
    strange = (__file__, importlib.__file__, *ours)
    frames = error.__traceback__
    while frames is not None:
        name = frames.tb_frame.f_code.co_filename
        if name not in strange and not name.startswith("<frozen importlib"):
            break
        frames = frames.tb_next
    return frames
