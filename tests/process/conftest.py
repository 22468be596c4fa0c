import os
import sys
from pathlib import Path

import pytest
from harness import wait_for

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))


@pytest.fixture
def start(serve):
    """`start("small_apps:hello", ...)` with the applications next to these tests."""
    return lambda *args, **kwargs: serve(*args, **{"cwd": HERE, **kwargs})


@pytest.fixture
def application(tmp_path):
    """`application(text)` writes web.py and returns its directory."""

    def write(text):
        (tmp_path / "web.py").write_text(text)
        return tmp_path

    return write


class Gate:
    """A named pipe at which a handler waits (see `small_apps.wait`)."""

    def __init__(self, path):
        self.path = path
        self.fd = None
        os.mkfifo(path)

    def reached(self):
        """Wait until a handler stands at the gate."""

        def opened():
            try:
                self.fd = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                return False
            return True

        wait_for(opened, message=lambda: "no handler came to the gate")

    def open(self):
        """Let the handler go on."""
        os.close(self.fd)
        self.fd = None


@pytest.fixture
def gates(tmp_path):
    """`gates()` makes another gate."""
    made = []

    def make():
        made.append(Gate(tmp_path / f"gate-{len(made)}"))
        return made[-1]

    yield make
    for gate in made:
        if gate.fd is not None:
            gate.open()


@pytest.fixture
def gate(gates):
    return gates()


@pytest.fixture
def web(start, application):
    """`web(text, *flags)` serves web:app of this text, which may import small_apps."""

    def run(text, *flags, env=None, **kwargs):
        env = {"PYTHONPATH": str(HERE), **(env or {})}
        return start("web:app", *flags, cwd=application(text), env=env, **kwargs)

    return run


@pytest.fixture
def deployed(serve, tmp_path):
    """`deployed({"a": 'app = "small_apps:pid"', ...})`: services of a file (deployed.py)."""
    from deployed import Deployed

    return lambda services, **kwargs: Deployed(serve, tmp_path, services, **kwargs)
