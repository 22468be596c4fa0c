"""What each service has for itself before its application is imported."""

import json
import os
import socket

import pytest
from harness import PATIENCE, Client

APP = """
import json, os, sys, time
import helper
at_import = {"own": os.environ.get("OWN"), "home": os.environ["HOME"], "zone": time.tzname[0],
             "path": sys.path[:3], "cwd": os.getcwd(), "helper": helper.__file__}

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({**at_import, "now": os.environ.get("OWN")}).encode()]
"""


@pytest.fixture
def directory(tmp_path):
    """web.py in `there`, its helper in `lib`, and one in `later` that must not be taken."""
    for name in "there", "lib", "later":
        (tmp_path / name).mkdir()
        (tmp_path / name / "helper.py").write_text("")
    (tmp_path / "there" / "helper.py").unlink()
    (tmp_path / "there" / "web.py").write_text(APP)
    return tmp_path


@pytest.mark.parametrize("preload", ["on", "off"])
def test_environment_directories_and_path(start, directory, preload):
    server = start("web:app", "--preload", preload, "--chdir", "there", "--python-path", "lib",
                   "--python-path", str(directory / "later"), "-e", "OWN=a=b", "-e", "TZ=XYZ-3",
                   cwd=directory)  # fmt: skip
    told = json.loads(server.get().body)
    assert told["own"] == told["now"] == "a=b"
    assert told["zone"] == "XYZ"
    assert told["cwd"] == str(directory / "there")
    assert told["path"] == [str(directory / name) for name in ("there", "lib", "later")]
    assert told["helper"] == str(directory / "lib" / "helper.py")


def test_services_do_not_see_each_other_s(start, directory):
    file = directory / "fastfork.toml"
    file.write_text("""
[defaults]
app = "web:app"
chdir = "there"
python_path = ["lib"]
bind = "127.0.0.1:0"
[services.one]
environment = { OWN = "1" }
[services.two]
environment = { HOME = "/two" }
""")
    server = start(f"--config={file}", bind=())
    told = []
    for url in server.ready["listen"]:
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        with Client(socket.create_connection(address, PATIENCE)) as client:
            told.append(json.loads(client.get().body))
    assert [(one["own"], one["home"]) for one in told] == [
        ("1", os.environ["HOME"]), (None, "/two")]  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_environment_comes_after_that_of_the_user(start, public):
    (public / "web.py").write_text(APP)
    (public / "helper.py").write_text("")
    server = start("web:app", "--user", "65534", "--group", "65534", "-e", "HOME=/own", cwd=public)
    assert json.loads(server.get().body)["home"] == "/own"
