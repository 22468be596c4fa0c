"""A plain application that tells what its worker is like; the tests steer it by files.

`$PROBE` is a directory that the test and all workers share: what a test must know for certain
(the handler has begun, it may go on) is a file there.
"""

import hashlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs

PATIENCE = 20.0  # seconds

served = 0  # requests this process has answered


def app(environ, start_response):
    global served
    served += 1
    handler = globals().get("do_" + environ["PATH_INFO"].strip("/"), do_worker)
    query = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    body = json.dumps(handler(environ, **query)).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]


def shared(name):
    return Path(os.environ["PROBE"]) / name


def wait_for(path):
    end = time.monotonic() + PATIENCE
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError(path)
        time.sleep(0.005)


def do_worker(environ):
    return {
        "pid": os.getpid(),
        "ppid": os.getppid(),
        "served": served,
        "port": environ["REMOTE_PORT"],
        "protocol": environ["SERVER_PROTOCOL"],
        "upgrade": environ.get("HTTP_UPGRADE"),
        "multiprocess": environ["wsgi.multiprocess"],
        "multithread": environ["wsgi.multithread"],
        "run_once": environ["wsgi.run_once"],
    }


def do_hold(environ, name):
    """Say that the handler has begun, and go on when told to."""
    shared(f"{name}.begun").write_text(str(os.getpid()))
    wait_for(shared(f"{name}.go"))
    return do_worker(environ)


def do_later(environ, name):
    """Answer at once, and go on working in a thread."""

    def work():
        wait_for(shared(f"{name}.go"))
        shared(f"{name}.done").write_text(str(os.getpid()))

    threading.Thread(target=work, daemon=True).start()
    return do_worker(environ)


def do_modules(environ):
    try:
        import uwsgi  # noqa: F401
    except ImportError:
        found = False
    else:
        found = True
    return {"modules": sorted(sys.modules), "uwsgi": found}


def do_note(environ):
    """Note that the application was called, with what it could read."""
    data = environ["wsgi.input"].read()
    with open(shared("called"), "a") as file:
        file.write(f"{len(data)}\n")
    return len(data)


def do_upload(environ):
    """Read everything to the end."""
    data = environ["wsgi.input"].read()
    return described(environ, data)


def do_webob(environ):
    """Read as webob does: by CONTENT_LENGTH where there is one, else to the end if that is
    promised, else nothing."""
    if environ.get("CONTENT_LENGTH"):
        data = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    elif environ.get("wsgi.input_terminated"):
        data = environ["wsgi.input"].read()
    else:
        data = b""
    return described(environ, data)


def described(environ, data):
    return {
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "CONTENT_LENGTH": environ.get("CONTENT_LENGTH"),
        "HTTP_CONTENT_LENGTH": environ.get("HTTP_CONTENT_LENGTH"),
        "HTTP_TRANSFER_ENCODING": environ.get("HTTP_TRANSFER_ENCODING"),
        "wsgi.input_terminated": environ.get("wsgi.input_terminated"),
        "HTTP_X_TRAILER": environ.get("HTTP_X_TRAILER"),
    }
