"""Applications without a framework.  None shares anything with the measurements.

All answer GET / with 200, by which it is known that a server is there.
"""

import json
import os

BODY = b"Hello, World!\n"
PIECE = bytes(range(256)) * 256  # 64 KiB
PIECES = 16


def hello(environ, start_response):
    """What an application honestly does: a fresh list per call, its own Content-Type and
    Content-Length, no reading of the environ."""
    start_response(
        "200 OK",
        [("Content-Type", "text/plain"), ("Content-Length", "14")],
    )
    return [BODY]


def post(environ, start_response):
    """Reads a JSON list, whose length is given, and answers how many items it has."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    items = json.loads(environ["wsgi.input"].read(length)) if length else []
    answer = json.dumps({"items": len(items)}).encode()
    start_response("200 OK", [
        ("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [answer]


def body(size):
    """A JSON list of exactly `size` bytes (at least 2) for `post`: records as an API gets them."""
    records, length = [], 2
    while True:
        n = len(records)
        record = json.dumps({"id": n, "name": f"instance-{n:05}", "tags": ["web", "blue"],
                             "ratio": n / 8, "active": n % 3 == 0})
        if length + len(record) + 2 > size:
            break
        records.append(record)
        length += len(record) + (2 if n else 0)
    # White space, which JSON allows, makes up for the rest.
    return f"[{', '.join(records)}{' ' * (size - length)}]".encode()


def generated(environ, start_response):
    """1 MiB in 16 pieces, from a generator."""
    start_response("200 OK", [
        ("Content-Type", "application/octet-stream"),
        ("Content-Length", str(PIECES * len(PIECE)))])
    for _ in range(PIECES):
        yield PIECE


def file(environ, start_response):
    """The file that the environment variable BENCH_FILE names, as PEP 3333 says to send one."""
    opened = open(os.environ["BENCH_FILE"], "rb")  # noqa: SIM115 (the server closes it)
    start_response("200 OK", [
        ("Content-Type", "application/octet-stream"),
        ("Content-Length", str(os.fstat(opened.fileno()).st_size))])
    if "wsgi.file_wrapper" in environ:
        return environ["wsgi.file_wrapper"](opened, len(PIECE))
    return Pieces(opened)


class Pieces:
    """What stands in for wsgi.file_wrapper where a server has none."""

    def __init__(self, opened):
        self.opened = opened
        self.close = opened.close

    def __iter__(self):
        return iter(lambda: self.opened.read(len(PIECE)), b"")


def upload(environ, start_response):
    """Reads the body to its end, whether its length is given or not, and answers how many bytes
    there were.

    Where it is given, nothing beyond it is asked for: servers need not answer that.
    """
    source = environ["wsgi.input"]
    length = int(environ.get("CONTENT_LENGTH") or -1)
    total = 0
    while total != length:
        wanted = min(length - total, len(PIECE)) if length >= 0 else len(PIECE)
        piece = source.read(wanted)
        if not piece:
            break
        total += len(piece)
    answer = b"%d" % total
    start_response("200 OK", [
        ("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]
