"""What an application costs by itself, without any server: its CPU time per call.

    python bench/own.py APP KIND SECONDS

APP (MODULE:ATTRIBUTE) is called in a loop for SECONDS as a server that keeps to PEP 3333 calls it:
an environ of its own for each call, start_response, the whole body, close().  KIND says which
request it gets.  It prints one line of JSON: `calls`, and `cpu_us`, the process's CPU time per
call in microseconds.  A server's own share of a request is what is above that.

The environs are copies of one dict that is made beforehand: making one is the server's work.  That
copy and the loop around the call are in the figure: some half a microsecond.
"""

import io
import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote

from servers import MINIMAL, TWELVE
from sites.plain import body

KINDS = ("minimal", "twelve", "post-1k", "post-64k")
BATCH = 100  # calls between two looks at the clock


def environ(head, content=b""):
    """The environ of a request whose head is `head` and whose body is `content`."""
    line, *fields = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, protocol = line.split(" ")
    path, _, query = target.partition("?")
    made = {
        "REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": unquote(path, "latin-1"),
        "QUERY_STRING": query, "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": protocol, "REMOTE_ADDR": "127.0.0.1", "REMOTE_PORT": "50000",
        "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.errors": sys.stderr,
        "wsgi.multithread": False, "wsgi.multiprocess": True, "wsgi.run_once": False,
    }
    for field in fields:
        name, _, value = field.partition(": ")
        key = name.upper().replace("-", "_")
        made[key if key in ("CONTENT_LENGTH", "CONTENT_TYPE") else "HTTP_" + key] = value
    if content:
        made |= {"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(content))}
    return made


def request(kind):
    """(environ, body) of a kind of request."""
    if kind == "minimal":
        return environ(MINIMAL[0]), b""
    if kind == "twelve":
        return environ(TWELVE[0]), b""
    content = body({"post-1k": 1 << 10, "post-64k": 64 << 10}[kind])
    return environ(b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", content), content


class Call:
    """One kind of call of an application; `status` and `size` are those of the last answer."""

    def __init__(self, app, kind):
        self.app = app
        self.environ, self.content = request(kind)
        self.status, self.size = "", 0

    def start_response(self, status, headers, exc_info=None):
        self.status = status

    def __call__(self):
        made = self.environ.copy()
        made["wsgi.input"] = io.BytesIO(self.content)
        answer = self.app(made, self.start_response)
        try:
            self.size = sum(map(len, answer))
        finally:
            if hasattr(answer, "close"):
                answer.close()


def measure(call, seconds):
    """How many calls there were in so many seconds, and the CPU time of each in microseconds."""
    calls = 0
    end = time.perf_counter() + seconds
    begin = time.process_time()
    while time.perf_counter() < end:
        for _ in range(BATCH):
            call()
        calls += BATCH
    return {"calls": calls, "cpu_us": (time.process_time() - begin) / calls * 1e6}


def main():
    if len(sys.argv) != 4 or sys.argv[2] not in KINDS:
        sys.exit(f"usage: python own.py APP {'|'.join(KINDS)} SECONDS")
    target, kind, seconds = sys.argv[1:]
    module, _, attribute = target.partition(":")
    call = Call(getattr(import_module(module), attribute), kind)
    measure(call, 0.2)  # what is made at the first calls
    if not call.status.startswith("200 ") or not call.size:
        sys.exit(f"answered {call.status}, {call.size} bytes")
    print(json.dumps(measure(call, float(seconds))))


if __name__ == "__main__":
    os.chdir(Path(__file__).parent)
    sys.exit(main())
