import gc
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from answers import Recorder, Wire

from fastfork import _core


@pytest.fixture
def balance():
    """After the test no object of the core is left that was not there before (debug build)."""
    gc.collect()
    before = _core.counters()
    yield
    gc.collect()
    after = _core.counters()
    if after is not None:
        left = {name: n for name, n in after.items() if n > before[name]}
        assert not left, f"left over: {left}"


@pytest.fixture
def wire(balance):
    """`wire(app, **settings)` is a worker of `app` with one connection, without sockets."""
    made = []

    def make(app, **options):
        made.append(Wire(app, **options))
        return made[-1]

    yield make
    while made:
        made.pop().close()


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def recorded(wire, recorder):
    """A wire to the recorder, with default settings."""
    return wire(recorder)
