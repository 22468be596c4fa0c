"""Applications that read bodies in every way, interrupted or not, alone or not, for the tests of
how bodies are received."""

import hashlib
import json
import os
import random
import threading
import time
from urllib.parse import parse_qs

import fastfork
from fastfork import _core

PATHS = {}
WAYS = {
    "all": lambda body, n: body.read(),
    "sized": lambda body, n: body.read(n),
    "once": lambda body, n: body.read1(n),
    "line": lambda body, n: body.readline(n),
    "lines": lambda body, n: b"".join(body.readlines(n)),
    "next": lambda body, n: next(body, b""),
    "into": lambda body, n: bytes((lambda b: b[:body.readinto(b)])(bytearray(n))),
}


def path(handler):
    PATHS["/" + handler.__name__.replace("_", "-")] = handler
    return handler


def say(environ, text):
    environ["wsgi.errors"].write(f"SAID {text}\n")
    environ["wsgi.errors"].flush()


def answer(start_response, found):
    start_response("200 OK", [])
    return [json.dumps(found).encode()]


def size_of(seeded):
    return seeded.choice([seeded.randrange(1, 10), seeded.randrange(1, 10_000),
                          seeded.randrange(1, 200_000), seeded.randrange(1, 3 << 20)])


@path
def state(environ, start_response, query):
    """What the worker has, this request not counted."""
    found, counters = _core._running().stats(), _core.counters() or {}
    for pooled in "exchanges", "buffers", "carriers":
        counters.pop(pooled, None)      # some are kept for the next requests
    return answer(start_response, {
        "pid": os.getpid(), "counters": counters,
        **{name: found[name] for name in ("connections", "in_flight", "held", "spooled")}})


@path
def read(environ, start_response, query):
    """The length and checksum of the body, read in the ways named, in turn at random."""
    body, length, digest = environ["wsgi.input"], 0, hashlib.sha256()
    seeded, ways = random.Random(query["seed"]), query["ways"].split(",")
    while piece := WAYS[seeded.choice(ways)](body, size_of(seeded)):
        length += len(piece)
        digest.update(piece)
    return answer(start_response, [length, digest.hexdigest()])


@path
def limited(environ, start_response, query):
    """One read of a size that has nothing to do with that of the body."""
    start_response("200 OK", [])
    return [environ["wsgi.input"].read(int(query["n"]))]


kept = []


@path
def keeps(environ, start_response, query):
    kept[:] = [environ["wsgi.input"]]
    start_response("200 OK", [])
    return [b"kept"]


@path
def kept_since(environ, start_response, query):
    """The body of that request."""
    data = kept.pop().read()
    return answer(start_response, [len(data), hashlib.sha256(data).hexdigest()])


@path
def interrupted(environ, start_response, query):
    """The same by one way; each time that a read is interrupted it is begun again.  It is for reads
    that wait: a thread can be interrupted where its read has just returned, so there is time for
    that, and no end to it after the last interruption."""
    body, length, digest = environ["wsgi.input"], 0, hashlib.sha256()
    read, size, times = WAYS[query["way"]], int(query["n"]), 0
    while True:
        environ["fastfork.extend_deadline"](0.1 if times < int(query["times"]) else 3600)
        try:
            piece = bounded(read, body, size, query)
        except (fastfork.RequestTimeout, *of_gevent()) as error:
            times += 1
            say(environ, f"interruption {times} of {query['name']}: {type(error).__name__}")
            continue
        if not piece:
            return answer(start_response, [length, digest.hexdigest()])
        length += len(piece)
        digest.update(piece)


def of_gevent():
    if "gevent" not in os.environ["MODE"]:
        return ()
    import gevent

    return gevent.Timeout, gevent.GreenletExit


def bounded(read, body, size, query):
    if query["by"] == "deadline":
        return read(body, size)
    import gevent

    if query["by"] == "timeout":
        with gevent.Timeout(0.1):
            return read(body, size)
    killer = gevent.spawn_later(0.1, gevent.kill, gevent.getcurrent())
    try:
        return read(body, size)
    finally:
        killer.kill()


@path
def two_readers(environ, start_response, query):
    """Both read records of eight bytes until there are none; whoever is told that the other one
    reads tries again a little later.  The records, and what was told."""
    body, records, refused, failed = environ["wsgi.input"], [], [], []

    def read():
        pause = threading.Event()
        while True:
            try:
                piece = body.read(8 * 1000)
            except RuntimeError as error:
                refused.append(str(error))
                pause.wait(0.002)
                continue
            except Exception as error:
                failed.append(repr(error))
                return
            if not piece:
                return
            records.extend(piece[i:i + 8] for i in range(0, len(piece), 8))

    # Under gevent these are greenlets.
    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    if query["handler"] == "reads":
        read()
    for thread in threads:
        thread.join()
    return answer(start_response, [hashlib.sha256(b"".join(sorted(records))).hexdigest(),
                                   len(records), sorted(set(refused)), failed])


@path
def sleeps(environ, start_response, query):
    """The handler waits while a thread of its own reads: how long, and what that has read."""
    found = []
    thread = threading.Thread(target=lambda: found.append(len(environ["wsgi.input"].read())))
    thread.start()
    begun = time.monotonic()
    fastfork.sleep(float(query["t"]))
    found.append(time.monotonic() - begun)
    thread.join()
    return answer(start_response, found)


def app(environ, start_response):
    query = {k: v[0] for k, v in parse_qs(environ["QUERY_STRING"]).items()}
    return PATHS[environ["PATH_INFO"]](environ, start_response, query)
