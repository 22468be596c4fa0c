"""The example: four services, their client, and what that says when something is wrong."""

import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from harness import PATIENCE, ROOT

SERVICES = ("compute", "volume", "metadata", "ec2")


@pytest.fixture
def example(tmp_path):
    """A copy of the example whose ports nobody else has."""
    folder = tmp_path / "nova_like"
    shutil.copytree(ROOT / "examples/nova_like", folder, ignore=shutil.ignore_patterns("state"))
    change(folder / "fastfork.toml", r"127\.0\.0\.1:\d+", "127.0.0.1:0")
    return folder


def change(file, pattern, text):
    file.write_text(re.sub(pattern, text, file.read_text()))


def run(folder, *args, until=None):
    """Exit status and output of run.py; SIGINT goes to all, as from a terminal, at `until`."""
    env = {"PYTHONPATH": str(ROOT), **os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
            [sys.executable, str(folder / "run.py"), *args], env=env, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True) as process:
        try:
            output = ""
            for line in process.stdout:  # to the end: nobody has it open any more
                output += line
                if until and until in line:
                    os.killpg(process.pid, signal.SIGINT)
            return process.wait(PATIENCE), output
        finally:
            if process.poll() is None:
                process.terminate()  # it ends its server


def test_client_goes_through_all_services(example):
    status, output = run(example, until="serving on")
    assert (status, "all as it should be" in output) == (0, True), output
    for service in SERVICES:
        assert re.search(rf"^{service} +worker \d+ ", output, re.M), output
    boots = re.findall(r"^compute +worker (\d+) +202 .* POST /v2/servers$", output, re.M)
    assert len(boots) == 10
    assert len(set(boots)) > 1  # there were eight at once


def test_client_finds_what_is_wrong(example):
    change(example / "api-paste.ini", r"quota_instances = \d+", "quota_instances = 5")
    status, output = run(example, "--check")
    assert status == 1
    assert re.search(r"^wrong: compute answered 403 instead of 202 to POST /v2/servers: .*has 5 "
                     r"instances", output, re.M), output
