"""An application whose import leaves things behind, as real ones do: a thread that serves a
queue, a connected socket (to `$UPSTREAM`, a port), a signal handler, an open log file."""

import json
import os
import queue
import signal
import socket
import sys
import tempfile
import threading
import time

time.sleep(float(os.environ.get("IMPORT_SECONDS", "0")))

questions, answers = queue.Queue(), queue.Queue()


def work():
    while True:
        answers.put(questions.get()[::-1])


threading.Thread(target=work, name="left-behind", daemon=True).start()
upstream = socket.create_connection(("127.0.0.1", int(os.environ["UPSTREAM"])))
signal.signal(signal.SIGUSR2, lambda number, frame: None)
log = tempfile.TemporaryFile("w")  # noqa: SIM115
print("imported in", os.getpid(), file=sys.stderr, flush=True)


def app(environ, start_response):
    questions.put(environ["QUERY_STRING"])
    upstream.sendall(b"%d\n" % os.getpid())
    log.write("a request\n")
    answer = {
        "pid": os.getpid(),
        "thread": answers.get(timeout=20),
        "upstream": upstream.recv(100).decode().strip(),
        "port": upstream.getsockname()[1],
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
