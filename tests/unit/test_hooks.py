import functools
import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from fastfork import config, hooks, log
from fastfork.app import BootError

ROOT = Path(__file__).resolve().parents[2]
MOMENTS = (hooks.on_worker_start, hooks.on_worker_stop, hooks.on_fork.before, hooks.on_fork.after)
RUN = {
    "on_worker_start": hooks.run_worker_start, "on_worker_stop": hooks.run_worker_stop,
    "on_fork.before": hooks.run_fork_before, "on_fork.after": hooks.run_fork_after,
}  # fmt: skip
WORKER = hooks.Worker(service="web:app", number=2, generation=1, pid=77)
FATAL = pytest.mark.parametrize("moment", [hooks.on_worker_start, hooks.on_fork.after],
                                ids=lambda moment: moment.name)  # fmt: skip
LOGGED = pytest.mark.parametrize("moment", [hooks.on_worker_stop, hooks.on_fork.before],
                                 ids=lambda moment: moment.name)  # fmt: skip


@pytest.fixture(autouse=True)
def no_hooks():
    yield
    for moment in MOMENTS:
        moment.functions.clear()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """`module(text)` writes the module hooked, which can be imported for this test only."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield (tmp_path / "hooked.py").write_text
    sys.modules.pop("hooked", None)


def run(moment):
    RUN[moment.name](WORKER)


# -- registering -------------------------------------------------------------------------
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.name)
def test_a_decorator_returns_the_function_and_calls_it_with_the_worker(moment):
    seen = []

    def hook(worker):
        seen.append(worker)

    assert moment(hook) is hook
    run(moment)
    assert seen == [WORKER]
    for other in MOMENTS:
        if other is not moment:
            run(other)
    assert len(seen) == 1


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.name)
def test_order_and_no_function_twice(moment):
    seen = []
    first, second, third = (functools.partial(lambda n, worker: seen.append(n), n)
                            for n in (1, 2, 3))  # fmt: skip
    for hook in (first, second, first, third, second):
        moment(hook)
    run(moment)
    assert seen == ([3, 2, 1] if moment is hooks.on_worker_stop else [1, 2, 3])


def test_a_method_registered_twice_counts_once():
    class Pool:
        opened = 0

        def open(self, worker):
            self.opened += 1

    pool = Pool()
    hooks.on_worker_start(pool.open)
    hooks.on_worker_start(pool.open)
    hooks.run_worker_start(WORKER)
    assert pool.opened == 1


def test_what_can_be_no_hook():
    async def later(worker):
        pass

    with pytest.raises(TypeError, match=r"on_worker_start: None is not callable"):
        hooks.on_worker_start(None)
    with pytest.raises(TypeError, match=r"on_fork\.before: .*later is asynchronous"):
        hooks.on_fork.before(later)


def test_a_hook_that_a_hook_registers_has_its_turn_the_next_time():
    seen = []
    hooks.on_worker_start(lambda worker: hooks.on_worker_start(seen.append))
    hooks.run_worker_start(WORKER)
    assert seen == []
    hooks.run_worker_start(WORKER)
    assert seen == [WORKER]


# -- from the settings -------------------------------------------------------------------
def load(**given):
    hooks.load(config.load({"app": "web:app", **given}))


def test_functions_named_in_the_settings(module):
    module("""
seen = []
def start(worker): seen.append("start")
class Site:
    @staticmethod
    def stop(worker): seen.append("stop")
def before(worker): seen.append("before")
def after(worker): seen.append("after")
""")
    load(on_worker_start="hooked:start", on_worker_stop="hooked:Site.stop",
         on_fork_before="hooked:before", on_fork_after="hooked:after")  # fmt: skip
    import hooked

    for moment in (hooks.on_fork.before, hooks.on_fork.after, *MOMENTS[:2]):
        run(moment)
    assert hooked.seen == ["before", "after", "start", "stop"]


def test_named_and_decorated_counts_once(module):
    module("from fastfork import hooks\n@hooks.on_worker_start\ndef start(worker): pass\n")
    load(on_worker_start="hooked:start")
    import hooked

    assert hooks.on_worker_start.functions == [hooked.start]


def test_no_settings_no_hooks():
    load()
    assert not any(moment.functions for moment in MOMENTS)


@pytest.mark.parametrize(
    ("flag", "text", "why"),
    [
        ("--on-worker-start", "absent:f", "there is no module named 'absent' in"),
        ("--on-worker-stop", "hooked:strat",
         "hooked has no attribute 'strat' (perhaps 'start' is meant)."),
        ("--on-fork-before", "hooked:number", "3 is not callable."),
        ("--on-fork-after", "hooked:later",
         "hooked:later is asynchronous, and nothing would await it."),
        ("--on-worker-start", "hooked", "it must be pkg.mod:function."),
        ("--on-worker-start", "hooked:start()", "it must be pkg.mod:function."),
        ("--on-worker-start", "hooked.py:start", "it must be pkg.mod:function."),
        ("--on-worker-start", "hooked:", "it must be pkg.mod:function."),
    ],
)
def test_a_name_that_is_not_usable(module, flag, text, why):
    module("number = 3\ndef start(worker): pass\nasync def later(worker): pass\n")
    with pytest.raises(BootError) as caught:
        load(**{flag[2:].replace("-", "_"): text})
    error = caught.value
    assert error.sentence.startswith(f"{flag} {text!r} is not usable: {why}")
    assert error.sentence.endswith(".") and "\n" not in error.sentence and error.trace == ""


@pytest.mark.parametrize(
    ("statement", "did"),
    [("1 / 0", "raised ZeroDivisionError: division by zero"),
     ("raise SystemExit(0)", "ended the process with SystemExit(0)")])  # fmt: skip
def test_a_module_that_fails(module, statement, did):
    module(statement)
    with pytest.raises(BootError) as caught:
        load(on_worker_start="hooked:start")
    assert caught.value.sentence == (
        f"--on-worker-start 'hooked:start' is not usable: importing it {did}.")
    assert statement in caught.value.trace


# -- failures ----------------------------------------------------------------------------
def fails(worker):
    raise RuntimeError("no database\nat all")


def leaves(worker):
    raise SystemExit(0)


def is_interrupted(worker):
    raise KeyboardInterrupt


class Nameless(Exception):
    def __str__(self):
        raise ValueError("no text")


def says_nothing(worker):
    raise Nameless


DID = pytest.mark.parametrize(
    ("hook", "did"),
    [(fails, "raised RuntimeError: no database"),
     (leaves, "ended the process with SystemExit(0)"),
     (is_interrupted, "raised KeyboardInterrupt"),
     (says_nothing, "raised Nameless")])  # fmt: skip


@FATAL
@DID
def test_a_hook_that_fails_keeps_the_worker_from_starting(moment, hook, did):
    seen = []
    moment(hook)
    moment(seen.append)
    with pytest.raises(BootError) as caught:
        run(moment)
    name = f"{hook.__module__}:{hook.__name__}"
    assert caught.value.sentence == f"The {moment.name} hook {name} of web:app {did}."
    assert f"in {hook.__name__}" in caught.value.trace
    assert hooks.__file__ not in caught.value.trace
    assert seen == []


@FATAL
def test_a_hook_that_takes_no_argument(moment):
    moment(lambda: None)
    with pytest.raises(BootError, match="takes 0 positional arguments but 1 was given") as caught:
        run(moment)
    assert caught.value.trace == ""  # nothing of the application has run


@LOGGED
@DID
def test_a_hook_that_fails_is_logged_and_hinders_nothing(moment, hook, did, capfd):
    log.set_up("info")
    seen = []
    for one in (lambda worker: seen.append("a"), hook, lambda worker: seen.append("b")):
        moment(one)
    run(moment)
    assert sorted(seen) == ["a", "b"]
    error = capfd.readouterr().err
    first, *trace = error.splitlines()
    assert first.endswith(f"[ERROR] The {moment.name} hook {hook.__module__}:{hook.__name__} "
                          f"of web:app {did}.")  # fmt: skip
    assert any(f"in {hook.__name__}" in line for line in trace)


# -- random generators -------------------------------------------------------------------
def draws(number):
    """What `number()` gives in this process and in two that are forked now, reseeded."""
    drawn = []
    for _ in range(2):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                hooks.reseed()
                os.write(writing, json.dumps(number()).encode())
            finally:
                os._exit(0)
        os.close(writing)
        os.waitpid(pid, 0)
        drawn.append(json.loads(os.read(reading, 1024)))
        os.close(reading)
    return [number(), *drawn]


def test_random_is_seeded_anew():
    assert len(set(draws(random.random))) == 3


def test_numpy_is_not_imported():
    program = "import sys; from fastfork import hooks; hooks.reseed(); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          check=True, timeout=60, env=dict(os.environ, PYTHONPATH=str(ROOT)))
    assert "'fastfork.hooks'" in done.stdout and "numpy" not in done.stdout


class Numpy:
    """The state of a generator that nobody seeds at a fork."""

    def __init__(self):
        self.random = random.Random(42)
        self.state = self.random.getstate()

    def seed(self):
        self.random.seed()

    def number(self):
        return self.random.random()


def test_a_numpy_that_is_loaded_is_seeded_anew(monkeypatch):
    numpy = Numpy()
    monkeypatch.setitem(sys.modules, "numpy.random", numpy)
    assert len(set(draws(numpy.number))) == 3


def test_a_numpy_that_cannot_be_seeded_is_told_of(monkeypatch, capfd):
    class Broken:
        def seed(self):
            raise TypeError("can only re-seed a MT19937 BitGenerator")

    log.set_up("info")
    monkeypatch.setitem(sys.modules, "numpy.random", Broken())
    hooks.reseed()
    assert "cannot be given a new seed, all workers have the same: raised TypeError: can only " \
        in capfd.readouterr().err


REAL_NUMPY = """
import os, sys
import numpy
from fastfork import hooks
numpy.random.seed(42)
for _ in range(3):
    if os.fork() == 0:
        {}
        print(numpy.random.random(), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.mark.skipif(importlib.util.find_spec("numpy") is None, reason="NumPy is not installed")
@pytest.mark.parametrize(("statement", "different"), [("pass", 1), ("hooks.reseed()", 3)])
def test_the_real_numpy(statement, different):
    done = subprocess.run(
        [sys.executable, "-c", REAL_NUMPY.format(statement)], capture_output=True, text=True,
        check=True, timeout=120, env=dict(os.environ, PYTHONPATH=str(ROOT)))  # fmt: skip
    lines = done.stdout.split()
    assert len(lines) == 3 and len(set(lines)) == different
