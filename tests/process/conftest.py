import os
import socket
import sys
from pathlib import Path

import pytest
from harness import PATIENCE, Client, wait_for

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import seen  # noqa: E402  # which stands beside this file


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


class Realm:
    """A server with a file of several services, each on a unix socket, `NAME.sock`, in the same
    directory, and a control socket."""

    def __init__(self, directory, serve):
        self.directory = directory
        self.file = directory / "fastfork.toml"
        self.control = directory / "control"
        self._serve = serve
        self.server = None

    def write(self, *, server="", defaults="workers = 1", **services):
        """The file: `defaults` and `server` are the text of these tables, each of `services` its
        application or more lines; the socket need not be given."""
        text = f"[server]\ncontrol = 'control'\n{server}\n[defaults]\n{defaults}\n"
        for name, lines in services.items():
            if "app" not in lines.split() and "mount" not in lines.split():
                lines = f"app = '{lines}'"
            if "bind" not in lines.split():
                lines += f"\nbind = 'unix:{name}.sock'"
            text += f"[services.{name}]\n{lines}\n"
        self.file.write_text(text)

    def start(self, *args, **kwargs):
        self.server = self._serve(None, "-c", str(self.file), *args, cwd=HERE, **kwargs)
        return self.server

    def connect(self, service):
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(PATIENCE)
            sock.connect(str(self.directory / f"{service}.sock"))
        except BaseException:
            sock.close()
            raise
        return Client(sock)

    def get(self, service, target="/"):
        """The response of the service that listens at `service`.sock."""
        with self.connect(service) as client:
            return client.get(target)

    def ask(self, command, service=None, **more):
        """What the control socket answers."""
        given = {} if service is None else {"service": service}
        return seen.ask(self.control, {"command": command, **given, **more})

    def status(self, service):
        (found,) = self.ask("status", service)["services"]
        return found

    def names(self):
        return [one["name"] for one in self.ask("status", brief=True)["services"]]

    def workers(self, service):
        """Pids of those that are ready."""
        return [one["pid"] for one in self.status(service)["workers"] if one["state"] == "ready"]

    def wait_outcome(self, service, generation):
        """Wait until the start or reload that made `generation` has ended; how it did."""
        wait_for(lambda: (self.status(service)["outcome"] or {}).get("generation") == generation,
                 message=lambda: f"{self.status(service)}\n{self.server.stderr}")
        return self.status(service)["outcome"]

    def reload(self, service=None, command="reload"):
        """Reload, see it through, and return how it went by service."""
        answer = self.ask(command, service)
        assert "services" in answer, answer
        return {name: self.wait_outcome(name, generation)
                for name, generation in answer["services"].items()}


@pytest.fixture
def realm(tmp_path, serve):
    return Realm(tmp_path, serve)


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


@pytest.fixture
def site(start, tmp_path):
    """`site(*flags, workers=2)` serves handoff_site:app (handing.py)."""
    from handing import Site

    sites = []

    def make(*flags, **kwargs):
        sites.append(Site(start, tmp_path, *flags, **kwargs))
        return sites[-1]

    yield make
    for one in sites:
        one.open.close()
