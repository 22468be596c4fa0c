"""From "pkg.mod:attr" to a WSGI application.

Importing somebody's application runs somebody's code: it may raise anything, end the process,
or not be there.  Each of these is a `BootError` with one sentence and, where the fault lies in
the application's code, its own traceback.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from types import ModuleType, TracebackType
from typing import Any, NamedTuple

from fastfork.kinds import ConfigError, perhaps

Application = Callable[..., Iterable[bytes]]

DEFAULT_NAMES = ("application", "app")


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
    """What APP says: attribute "" means one of `DEFAULT_NAMES`; `call` that it is a factory."""

    module: str
    attribute: str
    call: bool

    def __str__(self) -> str:
        return self.module + (f":{self.attribute}" if self.attribute else "") + "()" * self.call


def parse(text: str) -> Reference:
    """pkg.mod:attr, pkg.mod:factory() or pkg.mod.  ConfigError if it is none of these."""
    module, colon, attribute = text.partition(":")
    if "/" in module or module.endswith(".py"):
        name = os.path.basename(module).removesuffix(".py") or "module"
        right = f"it names a module, not a file, write {name + colon + attribute!r} with --chdir"
        raise ConfigError(f"APP {text!r} is not usable: {right} for its directory.")
    call = attribute.endswith("()")
    attribute = attribute.removesuffix("()")
    parts = [*module.split("."), *(attribute.split(".") if colon else [])]
    if not all(part.isidentifier() for part in parts):
        raise ConfigError(
            f"APP {text!r} is not usable: it must be pkg.mod:attr, pkg.mod:factory() or pkg.mod."
        )
    return Reference(module, attribute, call)


def prepare(directory: str | None, arguments: Iterable[str]) -> None:
    """Make this process a place in which the application can be imported.

    The working directory becomes importable.  sys.argv becomes the program's name and what
    --pyargv gives: applications that parse it at import must not meet our flags.  BootError.
    """
    if directory is not None:
        try:
            os.chdir(directory)
        except OSError as error:
            sentence = f"Cannot change to the directory {directory!r}: {error.strerror}."
            raise BootError(sentence) from None
    here = os.getcwd()
    sys.path[:] = [here, *(entry for entry in sys.path if entry not in ("", here))]
    sys.argv[1:] = arguments


def load(reference: Reference) -> Application:
    """Import the application.  BootError, whatever its code does."""
    application = find(reference)
    if reference.call:
        application = _make(application, reference)
    _check(application, reference)
    return application  # type: ignore[no-any-return]


def find(reference: Reference) -> Any:
    """Import what `reference` names, without calling it.  BootError, whatever its code does."""
    return _find(_import(reference), reference)


def _import(reference: Reference) -> ModuleType:
    try:
        return importlib.import_module(reference.module)
    except ModuleNotFoundError as error:
        if _is_missing(error, reference.module):
            raise _missing(reference, str(error.name)) from None
        raise _fault(reference, "importing it", error) from None
    except BaseException as error:  # SystemExit too: a module that ends the process cannot serve
        raise _fault(reference, "importing it", error) from None


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
            raise _fault(reference, f"reading its attribute {name!r}", error) from None
        path += ("." if ":" in path else ":") + name
    return found


def _make(factory: Any, reference: Reference) -> Any:
    if not callable(factory):
        raise BootError(
            f"{reference} is not usable: {_named(reference)} is {_a(factory)}, not a factory "
            "that could be called."
        )
    try:
        return factory()
    except BaseException as error:
        raise _fault(reference, "calling the factory", error) from None


def _check(application: Any, reference: Reference) -> None:
    """Refuse what can never serve a request."""
    subject = f"what {reference} returned" if reference.call else _named(reference)
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
            hint = "" if reference.call else f"; a factory is written {_named(reference)}()"
            raise BootError(
                f"{subject} cannot be called with (environ, start_response){hint}."
            ) from None


def _named(reference: Reference) -> str:
    return f"{reference.module}:{reference.attribute or 'application'}"


def _a(thing: Any) -> str:
    name = type(thing).__name__
    return ("an " if name[0].lower() in "aeiou" else "a ") + name


def _fault(reference: Reference, doing: str, error: BaseException) -> BootError:
    """The application's code failed: its traceback, and a sentence that sums it up."""
    return BootError(f"{doing} {what_it_did(error)}.", application_trace(error),
                     beginning=f"Cannot serve {reference}: ")  # fmt: skip


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
