"""Applications whose handlers wait, for the tests of the ways in which that can be done."""

import contextvars
import json
import os
import socket
import threading
import time
from urllib.parse import parse_qs

import fastfork

VARIABLE = contextvars.ContextVar("VARIABLE")
PATHS = {}


def path(handler):
    PATHS["/" + handler.__name__.replace("_", "-")] = handler
    return handler


def say(environ, text):
    environ["wsgi.errors"].write(f"SAID {text}\n")
    environ["wsgi.errors"].flush()


def answer(start_response, text):
    start_response("200 OK", [])
    return [str(text).encode()]


def sleep(environ, seconds):
    """So that others run meanwhile, whatever the mode."""
    (time if environ["wsgi.multithread"] else fastfork).sleep(float(seconds))


@path
def hello(environ, start_response, query):
    return answer(start_response, "hello")


@path
def pid(environ, start_response, query):
    return answer(start_response, os.getpid())


@path
def stats(environ, start_response, query):
    from fastfork import _core

    return answer(start_response, json.dumps(_core._running().stats()))


@path
def slept(environ, start_response, query):
    sleep(environ, query["t"])
    return answer(start_response, "slept")


@path
def blocked(environ, start_response, query):
    time.sleep(float(query["t"]))
    return answer(start_response, "late")


@path
def hold(environ, start_response, query):
    """Until the file is there."""
    say(environ, "holds")
    while not os.path.exists(query["file"]):
        sleep(environ, 0.005)
    return answer(start_response, "released")


@path
def bad(environ, start_response, query):
    """What comes of arguments that mean nothing."""
    ours, theirs = socket.socketpair()
    closed = os.dup(ours.fileno())
    os.close(closed)
    calls = [
        (fastfork.sleep, -1), (fastfork.sleep, float("nan")), (fastfork.sleep, float("inf")),
        (fastfork.sleep, "1"), (fastfork.wait_readable, ours, -1),
        (fastfork.wait_readable, ours, float("nan")), (fastfork.wait_writable, ours, float("inf")),
        (fastfork.wait_readable, -1), (fastfork.wait_readable, object()),
        (fastfork.wait_readable, closed, 0.05), (fastfork.wait_writable, closed, 0),
    ]  # fmt: skip
    found = []
    for call, *arguments in calls:
        try:
            found.append(repr(call(*arguments)))
        except Exception as error:
            found.append(type(error).__name__)
    with ours, theirs:
        return answer(start_response, " ".join(found))


@path
def ready(environ, start_response, query):
    """Waits for what is there, what is not, what is at its end and what is a file."""
    ours, theirs = socket.socketpair()
    with ours, theirs, open(__file__) as file:
        found = [fastfork.wait_readable(ours, 0), fastfork.wait_readable(ours, 0.02),
                 fastfork.wait_writable(ours, 0), fastfork.wait_writable(ours),
                 fastfork.wait_readable(file), fastfork.wait_readable(file, 0)]
        theirs.send(b"x")
        found += [fastfork.wait_readable(ours.fileno(), 0), fastfork.wait_readable(ours, 5)]
        ours.recv(1)
        theirs.shutdown(socket.SHUT_WR)
        found += [fastfork.wait_readable(ours), fastfork.wait_readable(ours, 0)]
    return answer(start_response, "".join("ft"[one] for one in found))


shared = socket.socketpair()


@path
def same(environ, start_response, query):
    """Many wait for the same descriptor."""
    return answer(start_response, fastfork.wait_readable(shared[0], 0.3))


@path
def closed(environ, start_response, query):
    """It is closed, by another thread, while it is waited for."""
    ours, theirs = socket.socketpair()
    threading.Timer(0.05, ours.close).start()
    found = fastfork.wait_readable(ours, 0.5)
    theirs.close()
    return answer(start_response, found)


order = []


@path
def ordered(environ, start_response, query):
    sleep(environ, max(0.0, float(query["from"]) + float(query["t"]) - time.monotonic()))
    order.append(query["t"])
    return answer(start_response, " ".join(order))


@path
def impatient(environ, start_response, query):
    """Many waits whose long time never passes, as they end before."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        for _ in range(int(query["n"])):
            fastfork.wait_readable(ours, 3600)
    return answer(start_response, "done")


@path
def elsewhere(environ, start_response, query):
    """In a thread, in a greenlet of the application's own, in a child process."""
    import greenlet

    found = []

    def wait():
        begun = time.monotonic()
        fastfork.sleep(0.03)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            found.append(fastfork.wait_readable(ours, 0.03) is False)
        found.append(time.monotonic() - begun >= 0.059)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    greenlet.greenlet(wait).switch()
    child = os.fork()
    if child == 0:
        wait()
        os._exit(0 if all(found) else 1)
    found.append(os.waitpid(child, 0)[1] == 0)
    return answer(start_response, found)


@path
def variable(environ, start_response, query):
    found = [VARIABLE.get(None)]
    VARIABLE.set(query["value"])
    for _ in range(5):
        sleep(environ, 0.005)
        found.append(VARIABLE.get(None))
    return answer(start_response, json.dumps(found))


@path
def large(environ, start_response, query):
    """A piece larger than any socket's buffer, and then nothing for long."""
    def steps():
        yield b"x" * int(query["n"])
        sleep(environ, 30)
        yield b"end"
    start_response("200 OK", [])
    return steps()


@path
def told(environ, start_response, query):
    """Waits for ever, before or after the head; says what that raised."""
    def wait():
        try:
            ours, theirs = socket.socketpair()
            with ours, theirs:
                say(environ, "waits")
                fastfork.wait_readable(ours)
        except BaseException as error:
            say(environ, f"met {type(error).__name__}")
            raise

    def steps():
        yield b"begun"
        wait()

    if query["when"] == "before":
        wait()
    start_response("200 OK", [])
    return steps()


@path
def read(environ, start_response, query):
    """The body, as `how` says, after a wait."""
    sleep(environ, query.get("t", 0))
    body, pieces = environ["wsgi.input"], []
    try:
        if query["how"] == "lines":
            pieces = list(body)
        elif query["how"] == "small":
            pieces = list(iter(lambda: body.read(7), b""))
        else:
            pieces = [body.read()]
    except fastfork.BodyError as error:
        say(environ, f"met BodyError {error.status}")
        raise
    return answer(start_response, f"{len(b''.join(pieces))} in {len(pieces)}")


@path
def many(environ, start_response, query):
    """More than a client is left to owe."""
    def steps():
        try:
            for _ in range(int(query["n"])):
                yield b"z" * 65536
            say(environ, "all taken")
        finally:
            say(environ, "closed")

    write = start_response("200 OK", [])
    if "write" not in query:
        return steps()
    try:
        for piece in steps():
            write(piece)
    except fastfork.ClientGone:
        say(environ, "met ClientGone")
        raise
    return []


@path
def raised(environ, start_response, query):
    raise {"exit": SystemExit, "interrupt": KeyboardInterrupt, "generator": GeneratorExit,
           "value": ValueError, "timeout": fastfork.RequestTimeout}[query["what"]]("of the test")


@path
def forked(environ, start_response, query):
    """A child that comes back out of the handler, in one way or another."""
    child = os.fork()
    if child == 0:
        if query["how"] == "raises":
            raise ValueError("of the test")
        if query["how"] == "writes":
            start_response("200 OK", [])(b"the child's")
        else:
            start_response("200 OK", [])
        return [b"the child's"]
    return answer(start_response, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


@path
def edge(environ, start_response, query):
    """Ends about when its time is up, in one way or another."""
    def work():
        end = time.monotonic() + float(query["t"])
        while time.monotonic() < end:
            time.sleep(0.0005)

    def steps():
        work()
        yield b"edge"

    if query["how"] == "yields":
        start_response("200 OK", [])
        return steps()
    work()
    if query["how"] == "raises":
        raise ValueError("of the test")
    return answer(start_response, "edge")


@path
def after_504(environ, start_response, query):
    """What a handler does that nothing could interrupt."""
    try:
        time.sleep(float(query["t"]))
    except fastfork.RequestTimeout:
        say(environ, "met RequestTimeout")
    if query["how"] == "raises":
        raise ValueError("of the test")
    write = start_response("200 OK", [])
    if query["how"] == "writes":
        write(b"late")
    return [b"late"]


# -- under gevent ------------------------------------------------------------------------
@path
def leaves_timeout(environ, start_response, query):
    import gevent

    gevent.Timeout(float(query["t"])).start()
    return answer(start_response, "left")


@path
def leaves_kill(environ, start_response, query):
    import gevent

    gevent.spawn_later(float(query["t"]), gevent.kill, gevent.getcurrent())
    return answer(start_response, "left")


@path
def leaves_reader(environ, start_response, query):
    """A greenlet that waits for a body when the response is out."""
    import gevent

    def read():
        try:
            say(environ, f"read {environ['wsgi.input'].read()!r}")
        except Exception as error:
            say(environ, f"met {type(error).__name__}")

    gevent.spawn(read)
    gevent.sleep(0)
    return answer(start_response, "left")


@path
def goes_on(environ, start_response, query):
    import gevent

    gevent.spawn_later(0.05, say, environ, "went on")
    return answer(start_response, "left")


@path
def bounded(environ, start_response, query):
    """gevent.Timeout around a wait."""
    import gevent

    with gevent.Timeout(0.05, False):
        gevent.sleep(10)
        return answer(start_response, "no end")
    return answer(start_response, "bounded")


@path
def killed(environ, start_response, query):
    """By another greenlet, where it waits."""
    import gevent

    gevent.spawn_later(0.02, gevent.kill, gevent.getcurrent())
    environ["wsgi.input"].read()
    return answer(start_response, "read")


@path
def spawned_reader(environ, start_response, query):
    import gevent

    return answer(start_response, len(gevent.spawn(environ["wsgi.input"].read).get()))


def app(environ, start_response):
    query = {k: v[0] for k, v in parse_qs(environ["QUERY_STRING"]).items()}
    return PATHS[environ["PATH_INFO"]](environ, start_response, query)
