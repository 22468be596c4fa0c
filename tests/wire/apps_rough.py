"""An application with rough manners: it forks, closes what it gave away, raises what cannot be
shown.  Each path is what an attack on the server found."""

import multiprocessing
import os
import signal
import sys
import time

KEPT = {}


def fork_and_stay(environ, start_response):
    """A child that lives on, with copies of all descriptors that it had at the fork."""
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    start_response("200 OK", [])
    return [b"%d" % child]


def fork_and_return(environ, start_response):
    """Parent and child both come back with an answer."""
    child = os.fork()
    start_response("200 OK", [])
    if child:
        KEPT["child"] = child
        os.waitpid(child, 0)
    return [b"parent" if child else b"child"]


def fork_and_exit(environ, start_response):
    """The child leaves by sys.exit, as a careless one does; the answer is its status."""
    child = os.fork()
    if child == 0:
        sys.exit(7)
    _, status = os.waitpid(child, 0)
    start_response("200 OK", [])
    return [b"%d" % os.waitstatus_to_exitcode(status)]


def fork_and_raise(environ, start_response):
    child = os.fork()
    if child == 0:
        raise ValueError("in the child")
    _, status = os.waitpid(child, 0)
    start_response("200 OK", [])
    return [b"%d" % os.waitstatus_to_exitcode(status)]


def fork_in_a_generator(environ, start_response):
    start_response("200 OK", [])

    def pieces():
        yield b"before"
        KEPT["child"] = os.fork()
        if KEPT["child"]:
            os.waitpid(KEPT["child"], 0)
    return pieces()


def pool(environ, start_response):
    """Signals its children as soon as they are there."""
    with multiprocessing.get_context("fork").Pool(2):
        pass                            # __exit__ is terminate()
    start_response("200 OK", [])
    return [b"pooled"]


def multiprocess(environ, start_response):
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=queue.put, args=("made by a child",))
    child.start()
    start_response("200 OK", [])
    answer = queue.get().encode()
    child.join()
    return [answer]


def unshowable(environ, start_response):
    """An exception whose traceback cannot be formatted."""
    raise SyntaxError("x", ("file", 1, 3, 5))


class NoText:
    def __format__(self, how):
        raise ValueError("no text")

    __str__ = __repr__ = None


def odd_environ(environ, start_response):
    environ["RAW_URI"] = NoText()
    raise ValueError("after that")


def keep_file(environ, start_response):
    """A file that the application also keeps."""
    KEPT["file"] = file = open(environ["QUERY_STRING"], "rb")  # noqa: SIM115
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](file)


def close_file(environ, start_response):
    """Closes the kept file and opens another, which gets its number."""
    number = KEPT["file"].fileno()
    KEPT["file"].close()
    KEPT["other"] = other = open(environ["QUERY_STRING"], "rb")  # noqa: SIM115
    start_response("200 OK", [])
    return [b"same" if other.fileno() == number else b"other"]


def kernel_file(environ, start_response):
    """A file whose size the kernel does not tell."""
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](open("/proc/self/status", "rb"))


def detach(environ, start_response):
    """Takes the body's descriptor away."""
    os.close(environ["wsgi.input"].fileno())
    start_response("200 OK", [])
    return [b"detached"]


def slow(environ, start_response):
    time.sleep(float(environ["QUERY_STRING"]))
    start_response("200 OK", [])
    return [b"slow"]


def hello(environ, start_response):
    start_response("200 OK", [])
    return [b"%d" % os.getpid()]


PATHS = {name.replace("_", "-"): function for name, function in list(globals().items())
         if callable(function) and getattr(function, "__module__", "") == __name__}


def app(environ, start_response):
    return PATHS[environ["PATH_INFO"].strip("/")](environ, start_response)
