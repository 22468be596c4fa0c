"""The application of scaling.py: operations that wait, operations that compute."""

import os
import time

from sites.plain import BODY

WAIT = 0.1  # seconds
STEPS = 400_000  # some 35 ms of Python


def wait():
    """As an API waits for its database or its hypervisor."""
    time.sleep(WAIT)


def compute():
    total = 0
    for n in range(STEPS):
        total += n * n % 7
    return total


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/wait":
        wait()
    elif path == "/compute":
        compute()
    start_response("200 OK", [
        ("Content-Type", "text/plain"), ("Content-Length", str(len(BODY))),
        ("X-Worker", str(os.getpid())),
    ])
    return [BODY]


if __name__ == "__main__":
    # One process that computes without a server: a dot for each operation, until it is ended.
    while True:
        compute()
        os.write(1, b".")
