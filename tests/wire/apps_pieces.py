"""Generators behind tests/wire/test_pieces.py: one path for each way to yield pieces."""

import json
import os
import sys
import time
from urllib.parse import parse_qs

import fastfork
from fastfork import _core

BLOCK = bytes(range(256)) * 4096
watched, poked = os.pipe()  # what `watches` waits for: nothing comes until /poke is asked for


def piece(number, size):
    """The piece with this number: each begins with another byte."""
    start = number % 256
    return BLOCK[start:start + size]


def pieces(query):
    for number in range(query["count"]):
        yield piece(number, query["size"])


def quick(query, write):
    yield from pieces(query)


def trickles(query, write):
    for one in pieces(query):
        yield one
        time.sleep(query["ms"] / 1e3)


def stalls(query, write):
    """In the middle, until somebody opens the FIFO."""
    yield from pieces(query)
    with open(query["fifo"], "rb") as fifo:
        fifo.read()
    yield from pieces(query)


def fails(query, write):
    yield from pieces(query)
    raise RuntimeError("in the middle")


def writes(query, write):
    """Pieces by write() between those that are yielded."""
    for number, one in enumerate(pieces(query)):
        if number % 3:
            yield one
        else:
            write(one)


def waits(query, write):
    """For others, between its pieces."""
    for number, one in enumerate(pieces(query)):
        yield one
        if number % 5 == 4:
            fastfork.sleep(query["ms"] / 1e3)


def watches(query, write):
    """For a descriptor, again and again, until its time is up."""
    try:
        while True:
            yield from pieces(query)
            fastfork.wait_readable(watched, query["ms"] / 1e3)
    finally:
        print("SAID closed", file=sys.stderr, flush=True)


def empty(query, write):
    """With pieces of nothing between the others."""
    for one in pieces(query):
        yield b""
        yield one
    yield b""


def forks(query, write):
    for number, one in enumerate(pieces(query)):
        yield one
        if number == query["count"] // 2:
            child = os.fork()
            if child:
                os.waitpid(child, 0)


class Closing:
    """Its close() lasts until somebody opens the FIFO."""

    def __init__(self, query, write):
        self.query = query

    def __iter__(self):
        return pieces(self.query)

    def close(self):
        with open(self.query["fifo"], "rb") as fifo:
            fifo.read()


class Breaking:
    """Fails, and says when it is closed."""

    def __init__(self, query, write):
        self.query = query

    def __iter__(self):
        return fails(self.query, None)

    def close(self):
        print("SAID closed", file=sys.stderr, flush=True)


WAYS = {way.__name__: way for way in (
    quick, trickles, stalls, fails, writes, waits, watches, empty, forks)} | {
        "closes": Closing, "breaks": Breaking}


def app(environ, start_response):
    name = environ["PATH_INFO"].lstrip("/")
    fields = [("Content-Type", "application/octet-stream")]
    if name == "":
        start_response("200 OK", fields)
        return [b"hello"]
    if name == "pid":
        start_response("200 OK", fields)
        return [b"%d" % os.getpid()]
    if name == "poke":
        os.write(poked, b"x")
        start_response("200 OK", fields)
        return [b"poked"]
    if name == "counters":
        start_response("200 OK", fields)
        return [json.dumps(_core.counters()).encode()]
    query = {key: value if key == "fifo" else int(value)
             for key, (value,) in parse_qs(environ["QUERY_STRING"]).items()}
    if "length" in query:
        fields.append(("Content-Length", str(query["length"])))
    return WAYS[name](query, start_response("200 OK", fields))
