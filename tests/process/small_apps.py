"""Small applications for the process tests.  Several take the path of a named pipe as their
query string and use it to say that they have started."""

import contextlib
import json
import os
import socket
import sys
import threading
import time


def answer(start_response, text):
    body = text.encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def where(environ, start_response):
    return answer(start_response, os.environ["WHERE"])


def failing(environ, start_response):
    raise ValueError("as always")


def pid(environ, start_response):
    return answer(start_response, str(os.getpid()))


def process(environ, start_response):
    """What this worker looks like from inside."""
    facts = {
        "pid": os.getpid(), "ppid": os.getppid(), "argv": sys.argv, "cwd": os.getcwd(),
        "multiprocess": environ["wsgi.multiprocess"],
    }  # fmt: skip
    return answer(start_response, json.dumps(facts))


def wait(environ, start_response):
    """Wait until the gate is opened (tests/process/conftest.py)."""
    if path := environ["QUERY_STRING"]:
        with open(path) as gate:
            gate.read()
    return answer(start_response, str(os.getpid()))


def part(environ, start_response):
    """Shut those SEQPACKET sockets of this worker whose targets the query string names: nothing
    goes through them any more."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the directory's own
            if os.readlink(f"/proc/self/fd/{name}") in environ["QUERY_STRING"].split(","):
                with socket.socket(fileno=os.dup(int(name))) as sock:
                    if sock.type == socket.SOCK_SEQPACKET:
                        sock.shutdown(socket.SHUT_RDWR)
    return answer(start_response, str(os.getpid()))


def _started(environ):
    with open(environ["QUERY_STRING"]) as gate:
        gate.read()


def busy(environ, start_response):
    """Stuck in Python code."""
    _started(environ)
    while True:
        pass


def busy_in_c(environ, start_response):
    """Stuck in C code that neither gives up the GIL nor looks for signals."""
    _started(environ)
    sum(range(10**15))


def asleep(environ, start_response):
    _started(environ)
    time.sleep(3600)


def receiving(environ, start_response):
    """Waits for bytes that never come."""
    here, there = socket.socketpair()
    _started(environ)
    try:
        here.recv(1)
    finally:
        there.close()


def locked(environ, start_response):
    """Waits for a lock that nobody opens."""
    lock = threading.Lock()
    lock.acquire()
    _started(environ)
    lock.acquire()


def leave(environ, start_response):
    """End the worker with the exit status in the query string."""
    os._exit(int(environ["QUERY_STRING"]))
