import gc
import os
import sys
import tempfile
from pathlib import Path

import pytest

# (No package: one named `requests` would hide the HTTP client of that name.)
sys.path.insert(0, str(Path(__file__).resolve().parent / "requests"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import Server


@pytest.fixture(scope="module", autouse=True)
def settled():
    """Tens of thousands of tests and their reports are no garbage: a test that collects it need not
    look at what was there before its file."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def serve():
    """`serve(app, *flags, workers=1, ...)` starts a server that is ended with the test."""
    servers = []

    def start(*args, **kwargs):
        server = Server(*args, **kwargs)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """`module(name, text)` writes a module that can be imported for this test only."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def write(name, text=""):
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def public():
    """A directory that every user can reach; those of pytest are its own user's alone."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)
