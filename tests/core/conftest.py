import gc
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from answers import Recorder, Wire

from fastfork import _core


def left_over(before):
    """What there is more of than `before`; None where nobody counts (a release build)."""
    after = _core.counters()
    return after and {name: n for name, n in after.items() if n > before[name]}


@pytest.fixture
def balance():
    """After the test no object of the core is left that was not there before (debug build)."""
    before = _core.counters()
    yield
    if left_over(before):
        gc.collect()  # what an exception's frames still held
    assert not left_over(before)


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
def recorder(balance):
    made = Recorder()
    yield made
    made.environs.clear()  # they hold wsgi.early_hints, and with it an exchange


@pytest.fixture
def recorded(wire, recorder):
    """A wire to the recorder, with default settings."""
    return wire(recorder)
