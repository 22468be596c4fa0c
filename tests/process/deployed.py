"""Several services under one master, described by a file that the test may write anew."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from harness import PATIENCE, ROOT, Client, wait_for
from seen import ask

HERE = Path(__file__).parent


class Deployed:
    """`services` are the lines of their tables, by name; ports are given by the kernel."""

    def __init__(self, serve, directory, services, *, workers=1, wait=True):
        self.file, self.control = directory / "fastfork.toml", directory / "control"
        self.workers_each = workers
        self.write(services)
        self.server = serve(None, "-c", str(self.file), cwd=directory, wait=wait)

    def write(self, services):
        lines = [
            "[server]", 'control = "control"', "[defaults]", f"workers = {self.workers_each}",
            'bind = "127.0.0.1:0"', f'python_path = ["{self.file.parent}", "{HERE}"]',
        ]  # fmt: skip
        for name, text in services.items():
            lines += [f"[services.{name}]", text]
        self.file.write_text("\n".join(lines) + "\n")

    # -- commands ------------------------------------------------------------------------
    def command(self, *argv, **options):
        """`fastfork ...` for this server, as a process."""
        environ = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT))}
        return subprocess.Popen(
            [sys.executable, "-m", "fastfork", argv[0], "-c", str(self.file), *map(str, argv[1:])],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ, **options)

    def run(self, *argv):
        """Its exit status, output and errors."""
        with self.command(*argv) as process:
            out, error = process.communicate(timeout=PATIENCE)
        return process.returncode, out, error

    def do(self, *argv):
        """One that succeeds; its output."""
        status, out, error = self.run(*argv)
        assert (status, error) == (0, ""), (out, error, self.server.stderr)
        return out

    # -- what it says --------------------------------------------------------------------
    def services(self):
        return {one["name"]: one for one in ask(self.control, {"command": "status"})["services"]}

    def workers(self, name):
        """Pids of the workers that are ready."""
        workers = self.services()[name]["workers"]
        return [worker["pid"] for worker in workers if worker["state"] == "ready"]

    def molds(self):
        return self.server.molds()

    def address(self, name):
        host, port = self.services()[name]["listen"][0].removeprefix("http://").split(":")
        return host, int(port)

    def connect(self, name):
        return Client(socket.create_connection(self.address(name), PATIENCE))

    def get(self, name, target="/"):
        with self.connect(name) as client:
            return client.get(target)

    def wait_workers(self, name, count):
        wait_for(lambda: len(self.workers(name)) == count,
                 message=lambda: f"{self.services()[name]}\n{self.server.stderr}")
