"""The application behind the wire tests: one path for each behaviour."""

import gzip
import hashlib
import io
import json
import os
import signal
import threading
import time
from urllib.parse import parse_qs

import fastfork
from fastfork import _core

BLOCK = bytes(range(256)) * 64


def content(size):
    """`size` bytes in blocks, the same each time."""
    for at in range(0, size, len(BLOCK)):
        yield BLOCK[:size - at]


class Noted:
    """An iterable whose close() is told on wsgi.errors."""

    def __init__(self, environ, chunks):
        self.errors = environ["wsgi.errors"]
        self.path = environ["PATH_INFO"]
        self.chunks = chunks

    def __iter__(self):
        return iter(self.chunks)

    def close(self):
        self.errors.write(f"closed {self.path}\n")
        self.errors.flush()


def hello(environ, start_response, query):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def show(environ, start_response, query):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({k: v for k, v in environ.items() if isinstance(v, str)}).encode()]


def pid(environ, start_response, query):
    start_response("200 OK", [])
    return [b"%d" % os.getpid()]


def counters(environ, start_response, query):
    """Live objects of the core (debug build; null otherwise)."""
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(_core.counters()).encode()]


def is_spooled(stream):
    try:
        return stream.fileno() >= 0
    except io.UnsupportedOperation:
        return False


def upload(environ, start_response, query):
    """Length and checksum of the body, and whether it lies in a file."""
    stream, length, digest = environ["wsgi.input"], 0, hashlib.sha256()
    while block := stream.read(65536):
        length += len(block)
        digest.update(block)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"length": length, "sha256": digest.hexdigest(),
                        "declared": environ.get("CONTENT_LENGTH"),
                        "file": is_spooled(stream)}).encode()]


def ignore(environ, start_response, query):
    """Leaves its body unread."""
    start_response("200 OK", [])
    return [b"ignored"]


def echo(environ, start_response, query):
    """Sends every piece of the body back as it comes."""
    def steps():
        while piece := environ["wsgi.input"].read1(65536):
            yield piece
    start_response("200 OK", [])
    return Noted(environ, steps())


def deep(environ, start_response, query):
    """Reads the body at the end of many calls."""
    def read(calls):
        return read(calls - 1) if calls else environ["wsgi.input"].read()

    read(int(query["n"]))
    return hello(environ, start_response, query)


def raised(environ, start_response, query):
    """Reads the body; tells on wsgi.errors what that raised."""
    try:
        environ["wsgi.input"].read()
    except OSError as error:
        environ["wsgi.errors"].write(f"raised {type(error).__name__}: {error}\n")
        environ["wsgi.errors"].flush()
        raise
    return hello(environ, start_response, query)


def in_thread(environ, start_response, query):
    """Reads the body in a thread of its own; the answer is what came of it."""
    found = []

    def read():
        try:
            found.append(environ["wsgi.input"].read())
        except Exception as error:
            found.append(repr(error).encode())

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    start_response("200 OK", [])
    return found


def sized(environ, start_response, query):
    size = int(query["n"])
    start_response("200 OK", [("Content-Length", str(size))])
    return Noted(environ, content(size))


def streamed(environ, start_response, query):
    start_response("200 OK", [])
    return Noted(environ, content(int(query["n"])))


def whole(environ, start_response, query):
    start_response("200 OK", [])
    return [b"".join(content(int(query["n"])))]


def last(environ, start_response, query):
    """Wants the connection closed after its answer."""
    start_response("200 OK", [("Connection", "close")])
    return [b"".join(content(int(query["n"])))]


def written(environ, start_response, query):
    write = start_response("200 OK", [])
    done = Noted(environ, [])
    try:
        for block in content(int(query["n"])):
            write(block)
    except BaseException:
        done.close()
        raise
    return done


def endless(environ, start_response, query):
    def blocks():
        while True:
            yield BLOCK
    start_response("200 OK", [])
    return Noted(environ, blocks())


def gate(environ, start_response, query):
    """Sends `before`, waits until the FIFO is written to, sends what came out of it."""
    def steps():
        yield b"before"
        with open(query["fifo"], "rb") as fifo:
            yield fifo.read()
    start_response("200 OK", [])
    return Noted(environ, steps())


def on_demand(environ, start_response, query):
    """Sends 20 MB, then a block for each line that comes out of the FIFO."""
    def steps():
        yield from content(20_000_000)
        with open(query["fifo"], "rb", buffering=0) as fifo:
            while fifo.read(1):
                yield BLOCK
    start_response("200 OK", [])
    return Noted(environ, steps())


def dripping(environ, start_response, query):
    """A block for each byte that comes out of the FIFO."""
    def steps():
        with open(query["fifo"], "rb", buffering=0) as fifo:
            while fifo.read(1):
                yield BLOCK
    start_response("200 OK", [])
    return Noted(environ, steps())


def hints(environ, start_response, query):
    """Sends early hints, waits until the FIFO is written to, and answers."""
    environ["wsgi.early_hints"]([("Link", "</style.css>; rel=preload"), ("Link", "</b>")])
    if "fifo" in query:
        with open(query["fifo"], "rb") as fifo:
            fifo.read()
    start_response(query.get("status", "200 OK"), [("A", "b")])
    return [] if "status" in query else [b"after the hints"]


def slow(environ, start_response, query):
    time.sleep(float(query["t"]))
    start_response("200 OK", [])
    return [b"slow"]


def parks(environ, start_response, query):
    """Waits, so that others run, until the file is there."""
    while not os.path.exists(query["file"]):
        fastfork.sleep(0.005)
    start_response("200 OK", [])
    return [b"parked"]


def works_on(environ, start_response, query):
    """All of its answer is out when it reads from the FIFO: behind its only piece, in close(), or
    after write()."""
    class Steps:
        def __iter__(self):
            yield b"answer"
            if query["how"] == "yields":
                work()

        def close(self):
            if query["how"] == "closes":
                work()

    def work():
        with open(query["fifo"], "rb") as fifo:
            fifo.read()

    write = start_response("200 OK", [("Content-Length", "6")])
    if query["how"] != "writes":
        return Steps()
    write(b"answer")
    work()
    return []


def forks(environ, start_response, query):
    """The child comes back out of the handler as well."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    start_response("200 OK", [])
    return [b"forked"]


def dies(environ, start_response, query):
    if query["how"] == "exits":
        os._exit(1)
    os.kill(os.getpid(), signal.SIGKILL)


def breaks(environ, start_response, query):
    """Raises after some bytes; `length` is declared if given."""
    def steps():
        yield b"some bytes"
        raise ValueError("secret")
    headers = [("Content-Length", query["length"])] if "length" in query else []
    start_response("200 OK", headers)
    return Noted(environ, steps())


def fails(environ, start_response, query):
    raise ValueError("secret")


def leaves(environ, start_response, query):
    raise SystemExit(3)


def file(environ, start_response, query):
    """A file by wsgi.file_wrapper: `path`, and if given `read`, `seek`, `length`, `block`,
    `status`."""
    opened = open(query["path"], "rb")  # noqa: SIM115 - the server closes it
    if "read" in query:
        opened.read(int(query["read"]))
    if "seek" in query:
        opened.seek(int(query["seek"]))
    start_response(query.get("status", "200 OK"),
                   [("Content-Length", query["length"])] if "length" in query else [])
    return environ["wsgi.file_wrapper"](opened, int(query.get("block", 8192)))


def late_read(environ, start_response, query):
    """A file whose close() reads the rest of the request's body."""
    class Reads:
        def __init__(self, file):
            self.file, self.read = file, file.read

        def close(self):
            self.file.close()
            environ["wsgi.input"].read()

    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](Reads(open(query["path"], "rb")))


def memory_file(environ, start_response, query):
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](io.BytesIO(b"".join(content(int(query["n"])))))


def gzip_file(environ, start_response, query):
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](gzip.GzipFile(query["path"]))


PATHS = {
    "/slow": slow, "/parks": parks, "/works-on": works_on, "/forks": forks, "/dies": dies,
    "/deep": deep, "/late-read": late_read, "/echo": echo, "/raised": raised,
    "/in-thread": in_thread,
    "/": hello, "/environ": show, "/pid": pid, "/counters": counters,
    "/upload": upload, "/ignore": ignore,
    "/sized": sized, "/streamed": streamed, "/whole": whole, "/written": written, "/last": last,
    "/endless": endless, "/gate": gate, "/on-demand": on_demand, "/breaks": breaks, "/fails": fails,
    "/dripping": dripping, "/hints": hints,
    "/leaves": leaves, "/file": file, "/memory-file": memory_file, "/gzip-file": gzip_file,
}


def app(environ, start_response):
    query = {k: v[0] for k, v in parse_qs(environ["QUERY_STRING"]).items()}
    handler = PATHS.get(environ["PATH_INFO"])
    if handler is None:
        start_response("404 Not Found", [])
        return [b"no such path"]
    return handler(environ, start_response, query)
