"""Applications of a real paste file, with the parts that real ones have."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness import PATIENCE, Server, wait_for

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def server():
    with Server("paste:site.ini", "--global-conf", "greeting=100% good day", workers=2) as server:
        yield server


def test_an_application_under_a_composite(server, session):
    assert session.get(f"{server.url}/").text == "hello from flask\n"
    assert session.get(f"{server.url}/static/site.css").status_code == 200


def test_a_pipeline_and_what_it_is_told(server, session):
    told = session.get(f"{server.url}/api/v1/servers").json()
    assert (told["SCRIPT_NAME"], told["PATH_INFO"]) == ("/api/v1", "/servers")
    assert told["paste_parts.marks"] == ["first", "second"]
    assert told["local"] == {"says": f"100% good day from sqlite:///{HERE}/data"}
    assert told["global"] == {
        "here": str(HERE), "__file__": str(HERE / "site.ini"), "greeting": "100% good day",
        "database": f"sqlite:///{HERE}/data"}  # fmt: skip


def test_a_filtered_application(server, session):
    assert session.get(f"{server.url}/old").json()["paste_parts.marks"] == ["first"]


def test_its_logging_is_set_up_and_ours_is_not_touched(server, session):
    session.get(f"{server.url}/boom")
    server.wait_stderr("as flask_site logs: Exception on /boom [GET]")
    assert server.stderr.count("paste:") == server.stderr.count(" on http://") == 1


def test_one_of_the_file_elsewhere(serve, tmp_path, session):
    """FILE counts from the directory of the start, not from --chdir."""
    server = serve("paste:site.ini#tells", "--chdir", str(tmp_path),
                   "--python-path", str(HERE))  # fmt: skip
    told = session.get(f"{server.url}/x").json()
    assert told["local"] == {"says": f"hello from sqlite:///{HERE}/data"}


def test_mounted_at_paths(serve, session):
    server = serve("--mount=/a=paste:site.ini#tells", "--mount=/b=paste:site.ini#api")
    told = session.get(f"{server.url}/b/x").json()
    assert (told["SCRIPT_NAME"], told["PATH_INFO"]) == ("/b", "/x")
    assert told["paste_parts.marks"] == ["first", "second"]
    assert session.get(f"{server.url}/a/x").json()["SCRIPT_NAME"] == "/a"


def test_one_that_fails(serve):
    server = serve("paste:site.ini#broken", wait=False)
    assert server.wait() == 2
    assert (f"Cannot serve paste:{HERE}/site.ini#broken: loading it raised RuntimeError: no "
            f"database at sqlite:///{HERE}/data.") in server.stderr  # fmt: skip
    assert "in breaks\n" in server.stderr and "loadwsgi" not in server.stderr


# -- fastfork as the server of the file --------------------------------------------------
def pserve(serve, name):
    command = [sys.executable, "pserve.py", "site.ini", name]
    return serve("", launcher=["env", "-u", "PYTHONUNBUFFERED", *command])


def test_as_a_server(serve, session):
    server = pserve(serve, "main")
    assert session.get(f"{server.url}/").text == "hello from flask\n"
    told = session.get(f"{server.url}/old").json()
    assert told["global"]["greeting"] == "good day"  # as its caller has it
    assert told["OWN"] == "its value"
    assert len(server.workers()) == 2
    assert "--request-timeout=60s" in Path(f"/proc/{server.pid}/cmdline").read_text().split("\0")
    assert server.stdout.startswith("loaded here first\n")
    assert server.stop() == 0


def test_an_application_of_another_name_and_a_reload(serve, session):
    """The process that loaded the application first has become the master."""
    server = pserve(serve, "api")
    told = session.get(f"{server.url}/x").json()
    assert told["paste_parts.marks"] == ["first", "second"]
    before = server.workers()
    server.signal(1)
    wait_for(lambda: not set(server.workers()) & set(before) and len(server.workers()) == 2)
    assert session.get(f"{server.url}/x").json() == told


def test_keys_that_are_not_settings():
    done = subprocess.run(
        [sys.executable, "pserve.py", "site.ini", "bad"], cwd=HERE, capture_output=True, text=True,
        timeout=PATIENCE, env={**os.environ, "PYTHONPATH": str(HERE.parents[1])})  # fmt: skip
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[0] == (f"fastfork: {HERE}/site.ini: there is no setting 'worker' (perhaps "
                        "'workers' is meant).")
    assert lines[1].startswith(f"fastfork: {HERE}/site.ini: request_timeout 'soon' is not usable")
    assert len(lines) == 2
