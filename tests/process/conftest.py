import os
from pathlib import Path

import pytest
from harness import wait_for

HERE = Path(__file__).parent


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
def gate(tmp_path):
    gate = Gate(tmp_path / "gate")
    yield gate
    if gate.fd is not None:
        gate.open()
