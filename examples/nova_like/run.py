"""Start the four services, go through them with the client, and serve on until Ctrl-C.

    python run.py [--check]

With --check the services are stopped after the client; the exit status is the client's.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FASTFORK = [sys.executable, "-m", "fastfork"]
NAMES = {"compute": "osapi_compute", "volume": "osapi_volume", "metadata": "metadata",
         "ec2": "ec2"}  # by the client's flags


def start():
    """The server, all of whose workers are ready; None if it did not start."""
    reading, writing = os.pipe()
    server = subprocess.Popen(
        [*FASTFORK, "serve", "-c", "fastfork.toml", "--ready-fd", str(writing)],
        cwd=HERE, pass_fds=[writing])
    os.close(writing)
    with open(reading) as ready:
        if ready.readline():
            return server
    server.wait()
    return None


def addresses(server):
    """The client's flags: where each service listens, also if a port of the file is 0."""
    status = subprocess.run([*FASTFORK, "status", "--json", "--pid", str(server.pid)], check=True,
                            stdout=subprocess.PIPE, text=True)
    urls = {service["name"]: service["listen"][0]
            for service in json.loads(status.stdout)["services"]}
    return [word for flag, name in NAMES.items() for word in (f"--{flag}", urls[name])]


def main():
    check = sys.argv[1:] == ["--check"]
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    server = start()
    if server is None:
        return 1
    try:
        done = subprocess.run([sys.executable, "client.py", *addresses(server)], cwd=HERE)
        if done.returncode == 0 and not check:
            print("serving on; Ctrl-C ends it", flush=True)
            return server.wait()
        return done.returncode
    except KeyboardInterrupt:  # the server has got it too
        return server.wait()
    finally:
        if server.poll() is None:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    sys.exit(main())
