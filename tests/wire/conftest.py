import resource
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from tools import PATIENT, Settled, only, start


@pytest.fixture(scope="session", autouse=True)
def descriptors_enough():
    """Some tests hold more than a thousand connections; the servers inherit this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = 8192 if hard == resource.RLIM_INFINITY else min(hard, 8192)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, enough), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def module_server(request):
    """One worker for a whole file, with the file's FLAGS and timeouts that never come."""
    with start(*PATIENT, *getattr(request.module, "FLAGS", [])) as server:
        yield server


@pytest.fixture
def server(module_server):
    """The file's server; after the test nothing of it is left in the worker."""
    with Settled(module_server):
        yield module_server


@pytest.fixture
def begin():
    """`begin(*flags, bind=...)` starts a server that ends with the test."""
    with ExitStack() as stack:
        yield lambda *flags, **options: stack.enter_context(start(*flags, **options))


@pytest.fixture(scope="module")
def servers():
    """`servers(kind, *flags)` knows only one timeout; each is started when first asked for."""
    started = {}

    def of(*wanted):
        if wanted not in started:
            kind, *flags = wanted
            started[wanted] = start(*only(kind), *flags)
        return started[wanted]

    yield of
    for server in started.values():
        server.close()
