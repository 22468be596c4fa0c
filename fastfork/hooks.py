"""What an application wants done when a worker starts or stops, or is forked.

    from fastfork import hooks

    @hooks.on_worker_start
    def connect(worker):
        ...

`on_worker_start`: in the worker, before it is ready.  `on_worker_stop`: in the worker, when its
last request has been answered.  `on_fork.before` and `on_fork.after`: where the application was
preloaded, in the process that did it before it forks a worker, and in the worker just forked.
Each function is called with a `Worker`.  Functions can be named in the settings instead
(--on-worker-start pkg.mod:function); one that is registered twice is called once.

They are called in the order in which they were registered, at the stop in reverse.  What lets
an exception out at the start, or after the fork, keeps the worker from starting; at the stop,
or before the fork, it is logged.  Whatever it is: SystemExit is an exception like others.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from fastfork import app
from fastfork.app import BootError
from fastfork.config import TABLE, Settings
from fastfork.kinds import ConfigError
from fastfork.log import from_core, logger

__all__ = ["Worker", "on_fork", "on_worker_start", "on_worker_stop"]


class Worker(NamedTuple):
    """The worker that a hook is called for."""

    service: str
    number: int  # its place in the service, from 0; its replacement has the same
    generation: int  # of the application: one more with each reload
    pid: int  # 0 before the fork


Hook = Callable[[Worker], object]
_Hook = TypeVar("_Hook", bound=Hook)


class Moment:
    """A decorator, and the functions that it has registered."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.functions: list[Hook] = []

    def __call__(self, function: _Hook) -> _Hook:
        """Register `function`.  TypeError if it cannot be one."""
        fault = _fault(function)
        if fault:
            raise TypeError(f"{self.name}: {fault}")
        if function not in self.functions:
            self.functions.append(function)
        return function


class Fork:
    """The two moments of a fork."""

    def __init__(self) -> None:
        self.before = Moment("on_fork.before")
        self.after = Moment("on_fork.after")


on_worker_start = Moment("on_worker_start")
on_worker_stop = Moment("on_worker_stop")
on_fork = Fork()

_SETTINGS = {
    "on_worker_start": on_worker_start,
    "on_worker_stop": on_worker_stop,
    "on_fork_before": on_fork.before,
    "on_fork_after": on_fork.after,
}


def _fault(function: Any) -> str:
    """Why it can be no hook; "" if it can."""
    if not callable(function):
        return f"{function!r} is not callable"
    if inspect.iscoroutinefunction(function):
        return f"{_name(function)} is asynchronous, and nothing would await it"
    return ""


def _name(function: Hook) -> str:
    name = getattr(function, "__qualname__", None)
    return f"{function.__module__}:{name}" if name else repr(function)


# -- for the server ----------------------------------------------------------------------
def load(settings: Settings) -> None:
    """Register the functions that the settings name.  BootError, with a sentence that names
    the flag."""
    for name, moment in _SETTINGS.items():
        text = getattr(settings, name)
        if text is not None:
            beginning = f"{TABLE[name].flag} {text!r} is not usable: "
            moment(_find(text, beginning))


def _find(text: str, beginning: str) -> Hook:
    try:
        reference = app.parse(text)
    except ConfigError:
        reference = None
    if not isinstance(reference, app.Reference) or not reference.attribute or reference.call:
        raise BootError("it must be pkg.mod:function.", beginning=beginning)
    try:
        function = app.find(reference)
    except BootError as error:
        raise BootError(error.why, error.trace, beginning=beginning) from None
    if fault := _fault(function):
        raise BootError(f"{fault}.", beginning=beginning)
    return function  # type: ignore[no-any-return]


def run_worker_start(worker: Worker) -> None:
    """BootError if a hook fails; those after it are not called."""
    _run_all(on_worker_start, worker)


def run_fork_after(worker: Worker) -> None:
    """BootError if a hook fails; those after it are not called."""
    _run_all(on_fork.after, worker)


def run_worker_stop(worker: Worker) -> None:
    """Hooks that fail are logged; the others are called all the same."""
    _run_each(on_worker_stop, worker, on_worker_stop.functions[::-1])


def run_fork_before(worker: Worker) -> None:
    """Hooks that fail are logged; the others are called all the same."""
    _run_each(on_fork.before, worker, on_fork.before.functions[:])


def _run_all(moment: Moment, worker: Worker) -> None:
    for function in moment.functions[:]:
        try:
            function(worker)
        except BaseException as error:
            trace = app.application_trace(error, __file__)
            raise BootError(_sentence(moment, function, worker, error), trace) from None


def _run_each(moment: Moment, worker: Worker, functions: list[Hook]) -> None:
    for function in functions:
        try:
            function(worker)
        except BaseException as error:
            from_core(logging.ERROR, _sentence(moment, function, worker, error), error)


def _sentence(moment: Moment, function: Hook, worker: Worker, error: BaseException) -> str:
    did = app.what_it_did(error)
    return f"The {moment.name} hook {_name(function)} of {worker.service} {did}."


def reseed() -> None:
    """Give random generators that were seeded before the fork a seed of their own.

    That of the module `random` is seeded anew by Python itself in a process that os.fork() made.
    NumPy's global one is not; it is left alone if NumPy has not been imported.  Generators that
    an application has made are its own affair (`on_fork.after`).
    """
    seed = getattr(sys.modules.get("numpy.random"), "seed", None)
    if seed is None:
        return
    try:
        seed()
    except Exception as error:  # it was replaced by a kind that cannot be seeded
        logger.warning("NumPy's random generator cannot be given a new seed, all workers have "
                       "the same: %s.", app.what_it_did(error))  # fmt: skip
