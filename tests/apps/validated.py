"""A plain application that uses every corner of PEP 3333, watched by `wsgiref.validate`."""

import os
import sys
from wsgiref.validate import validator

PLAIN = [("Content-Type", "text/plain")]


def plain(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/list":
        start_response("200 OK", PLAIN)
        return [b"one ", b"two ", b"three"]
    if path == "/late":  # start_response is called by the first step of the generator
        return late(start_response)
    if path == "/write":
        write = start_response("200 OK", PLAIN)
        write(b"written ")
        write(b"before ")
        return [b"returned"]
    if path == "/file":
        file = open(os.environ["BLOB"], "rb")  # noqa: SIM115
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return environ["wsgi.file_wrapper"](file, 65536)
    if path == "/read":
        body = b"".join(iter(lambda: environ["wsgi.input"].read(1000), b""))
        start_response("200 OK", [*PLAIN, ("Content-Length", str(len(body)))])
        return [body]
    if path == "/lines":
        source = environ["wsgi.input"]
        lines = [source.readline(), source.readline(4), *source.readlines(1), *source]
        start_response("200 OK", PLAIN)
        return [b"|".join(lines)]
    if path == "/instead":  # the first answer is withdrawn before anything was sent
        start_response("200 OK", [*PLAIN, ("X-Withdrawn", "yes")])
        try:
            raise ValueError("changed my mind")
        except ValueError:
            start_response("503 Service Unavailable", PLAIN, sys.exc_info())
        return [b"rather this"]
    if path == "/empty":
        start_response("204 No Content", [])
        return []
    environ["wsgi.errors"].write("a word in the error log\n")
    environ["wsgi.errors"].flush()
    start_response("404 Not Found", PLAIN)
    return [b"nothing here"]


def late(start_response):
    start_response("201 Created", [*PLAIN, ("X-Late", "yes")])
    yield b"late "
    yield b""
    yield b"but whole"


app = validator(plain)
