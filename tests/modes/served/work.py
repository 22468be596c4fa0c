"""What the pages of the four sites do, whichever the framework.

A page takes `query`, which asks the framework for the query anew each time (after a wait it must
still be the one of this request), and the environ.  What a page has to tell while it is at work,
and what it is told then, are files in the directory NOTES: they are seen also where one worker
runs one handler at a time.
"""

import contextvars
import hashlib
import json
import os
import threading
import time
from functools import partial
from operator import methodcaller
from pathlib import Path

import fastfork

NOTES = Path(os.environ["NOTES"])
PATIENCE = 20.0  # seconds; the tests' own is not shorter

# The way to wait that lets other handlers run, where there is one.
pause = fastfork.sleep if os.environ["MODE"] == "greenlets" else time.sleep

variable = contextvars.ContextVar("variable")
local = threading.local()


def note(name, text=""):
    (NOTES / name).write_text(text)


def wait_until(true):
    end = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > end:
            raise RuntimeError("waited in vain")
        pause(0.01)


def wait_note(name):
    wait_until((NOTES / name).exists)


def extend(query, environ):
    """More time, if the query says how much."""
    if "extend" in query():
        environ["fastfork.extend_deadline"](float(query()["extend"]))


# -- pages that answer with a text -----------------------------------------------------------
def hello(query, environ):
    return "hello"


def pid(query, environ):
    return str(os.getpid())


def flags(query, environ):
    return json.dumps({"multithread": environ["wsgi.multithread"],
                       "multiprocess": environ["wsgi.multiprocess"]})


class Rooms:
    """Who is there now, by the name of the room."""

    def __init__(self):
        self._rooms = {}

    def enter(self, room, name):
        self._rooms.setdefault(room, set()).add(name)

    def leave(self, room, name):
        self._rooms[room].discard(name)

    def count(self, room):
        return len(self._rooms.get(room, ()))


rooms = Rooms()


def meet(query, environ):
    """Wait until `count` have come to this `room`; what this request finds of its own then."""
    name, room, count = query()["name"], query()["room"], int(query().get("count", 2))
    variable.set(name)
    local.name = name
    rooms.enter(room, name)
    wait_until(lambda: rooms.count(room) >= count)
    return json.dumps({"query": query()["name"], "variable": variable.get(), "local": local.name,
                       "thread": threading.get_native_id()})


def stand(query, environ):
    """Say that this request has come, wait until all may go; how many are there then."""
    name = query()["name"]
    rooms.enter("stand", name)
    try:
        extend(query, environ)
        note(name)
        wait_note(query()["until"])
        return str(rooms.count("stand"))
    finally:
        rooms.leave("stand", name)


def fails(query, environ):
    raise RuntimeError("this page always fails")


def waits():
    pause(3600)


def steps():
    """For threads: no exception reaches a thread in the middle of a call in C."""
    while True:
        time.sleep(0.01)


def computes():
    while True:
        pass


def blocks():
    """Also where nobody else can run meanwhile."""
    time.sleep(3600)


WAYS = {"waits": waits, "steps": steps, "computes": computes, "blocks": blocks}


def late(query, environ):
    """Never ends by itself; says what ended it."""
    name, how = query()["name"], WAYS[query()["how"]]
    note(f"{name}-begun")
    try:
        how()
    except fastfork.RequestTimeout as error:
        note(name, f"{type(error).__name__} in the handler of {query()['name']}")
        raise
    return "never"


def busy(query, environ):
    """Compute for some milliseconds."""
    end = time.monotonic() + int(query()["for"]) / 1000
    while time.monotonic() < end:
        pass
    return "done"


def extends(query, environ):
    """Sleep for some milliseconds and ask for more time, without a line of Python in between."""
    steps = [partial(time.sleep, int(query()["for"]) / 1000),
             partial(environ["fastfork.extend_deadline"], 3600)]
    list(map(methodcaller("__call__"), steps))
    return "done"


# -- pages that answer piece by piece --------------------------------------------------------
class Pieces:
    """An iterable that notes `name` when it is closed."""

    def __init__(self, name, pieces):
        self.name, self.pieces = name, pieces

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.pieces)

    def close(self):
        self.pieces.close()
        note(self.name, "closed")


def numbered(query, environ):
    """`count` lines of `width` digits."""
    count, width = int(query()["count"]), int(query().get("width", 1))
    return Pieces(query()["name"], (b"%0*d\n" % (width, n) for n in range(count)))


def two(query, environ):
    """The second piece when it is told to."""
    until = query()["until"]

    def pieces():
        yield b"first"
        wait_note(until)
        yield b"second"

    return Pieces(query()["name"], pieces())


def drops(query, environ):
    """One after the other, without end."""
    def pieces():
        while True:
            yield b"drop"
            pause(0.02)

    return Pieces(query()["name"], pieces())


def silent(query, environ):
    """One piece, and then never another; says what ended the wait."""
    name = query()["name"]

    def pieces():
        yield b"first"
        try:
            fastfork.sleep(3600)
        except BaseException as error:
            note(f"{name}-why", type(error).__name__)
            raise

    return Pieces(name, pieces())


def breaks(query, environ):
    def pieces():
        yield b"first"
        raise RuntimeError("this page breaks off")

    return Pieces(query()["name"], pieces())


def late_pieces(query, environ):
    name, how = query()["name"], WAYS[query()["how"]]

    def pieces():
        yield b"first"
        try:
            how()
        except fastfork.RequestTimeout as error:
            note(f"{name}-why", type(error).__name__)
            raise

    return Pieces(name, pieces())


# -- pages that read a body: `read` is that of the framework ---------------------------------
def upload(query, environ, read):
    """Length and checksum of the body.  Notes its first three bytes, and why there are no more."""
    extend(query, environ)
    first = read(3)
    note(query()["name"], first.decode())
    size, digest = len(first), hashlib.sha256(first)
    try:
        while piece := read(65536):
            size += len(piece)
            digest.update(piece)
    except Exception as error:
        note(f"{query()['name']}-why", type(error).__name__)
        raise
    return json.dumps({"size": size, "sha256": digest.hexdigest()})


def echo(query, environ, read):
    """Every `size` bytes, five if it does not say, as soon as they are there."""
    extend(query, environ)
    size = int(query().get("size", 5))

    def pieces():
        while piece := read(size):
            yield piece

    return Pieces(query()["name"], pieces())


TEXTS = {"/": hello, "/pid": pid, "/flags": flags, "/meet": meet, "/stand": stand, "/fails": fails,
         "/late": late, "/busy": busy, "/extends": extends}
STREAMS = {"/numbered": numbered, "/two": two, "/drops": drops, "/silent": silent,
           "/breaks": breaks, "/late-pieces": late_pieces}
UPLOADS = {"/upload": upload}
ECHOES = {"/echo": echo}
