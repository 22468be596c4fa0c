import sys
from pathlib import Path

import pytest

# (No package: one named `requests` would hide the HTTP client of that name.)
sys.path.insert(0, str(Path(__file__).resolve().parent / "requests"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import Server


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
