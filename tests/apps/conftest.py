import hashlib
import os
import random
import subprocess
from typing import NamedTuple

import pytest
import requests
from harness import PATIENCE

BLOB_SIZE = 50 * 1024 * 1024


class Blob(NamedTuple):
    """A large file whose every part is different, and its checksum."""

    path: str
    data: bytes
    sha256: str


@pytest.fixture(scope="session")
def blob(tmp_path_factory):
    data = random.Random(3333).randbytes(BLOB_SIZE)
    path = tmp_path_factory.mktemp("blob") / "blob.bin"
    path.write_bytes(data)
    return Blob(str(path), data, hashlib.sha256(data).hexdigest())


@pytest.fixture
def session():
    """A `requests` session that no proxy setting of the machine leads astray."""
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def curl():
    """Run curl; its standard output as bytes, and `.stderr`.  Fails if curl fails."""

    def run(*args, **kwargs):
        done = subprocess.run(
            ["curl", "--disable", "--noproxy", "*", "--silent", "--show-error",
             "--max-time", str(PATIENCE), *args],
            capture_output=True, env={"PATH": os.environ["PATH"], "LC_ALL": "C"}, check=False,
            **kwargs,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
        return done

    return run
