import resource
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
# (`load` and `tools` stand with the tests that wanted them first.)
sys.path[:0] = [str(HERE), str(HERE.parent / "process"), str(HERE.parent / "wire")]

from running import Site  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def descriptors_enough():
    """Some tests hold more than a thousand connections; the servers inherit this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = 8192 if hard == resource.RLIM_INFINITY else min(hard, 8192)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, enough), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def begin(tmp_path):
    """`begin("plain_site:app", "threads", *flags)`: a site that ends with the test."""
    sites = []

    def start(app, mode, *flags, **options):
        sites.append(Site(app, mode, tmp_path, *flags, **options))
        return sites[-1]

    yield start
    for site in sites:
        site.server.close()
