"""The application of the hand-off tests."""

import array
import ctypes
import fcntl
import json
import mmap
import os
import socket
import time

from small_apps import answer, pid, wait

kept = []  # descriptors that the application has opened


def burn(environ, start_response):
    """Compute, and keep the GIL for milliseconds at a time, until a file appears."""
    path = environ["QUERY_STRING"]
    with open(path) as gate:
        gate.read()
    while not os.path.exists(path + ".over"):
        sum(range(300_000))
    return pid(environ, start_response)


def show(environ, start_response):
    """The environ, as far as it is text, and who has it."""
    found = {key: value for key, value in environ.items() if isinstance(value, str)}
    return answer(start_response, json.dumps({**found, "pid": os.getpid()}))


def count(environ, start_response):
    """Write down what was asked for."""
    with open(os.environ["COUNTED"], "a") as file:
        file.write(environ["QUERY_STRING"] + "\n")
    return pid(environ, start_response)


def receive(environ, start_response):
    """How long the body is."""
    return answer(start_response, str(len(environ["wsgi.input"].read())))


def wait_and_open(environ, start_response):
    """Stand at the gate, then open pipes: the first descriptors that are free are theirs."""
    with open(environ["QUERY_STRING"]) as gate:
        gate.read()
    for _ in range(40):
        kept.extend(os.pipe())
    return pid(environ, start_response)


def look(environ, start_response):
    """How many of these descriptors are still the pipes that they were."""
    pairs = list(zip(kept[::2], kept[1::2], strict=True))
    whole = 0
    for reader, writer in pairs:
        os.write(writer, b"x")
        whole += os.read(reader, 1) == b"x"
    return answer(start_response, f"{os.getpid()} {whole} {len(pairs)}")


def snatch(environ, start_response):
    """How many times the next recvmsg is to find no descriptor left (snatch.c); answers how many
    of those before are left."""
    left = ctypes.c_int.in_dll(ctypes.CDLL(None), "snatch")
    before, left.value = left.value, int(environ["QUERY_STRING"])
    return answer(start_response, f"{os.getpid()} {before}")


def fork(environ, start_response):
    """Stand at the gate, then fork until a file appears.  How many children had a connection."""
    path = environ["QUERY_STRING"]
    large = mmap.mmap(-1, 128 << 20)  # whose copy takes the kernel a while
    large.madvise(mmap.MADV_NOHUGEPAGE)
    for start in range(0, len(large), mmap.PAGESIZE):
        large[start] = 1
    with open(path) as gate:
        gate.read()
    having = 0
    while not os.path.exists(path + ".over"):
        child = os.fork()
        if child == 0:
            os._exit(any(map(_connected, range(256))))
        having += os.waitpid(child, 0)[1] != 0
        time.sleep(0.003)  # for whoever hands them on, to have its own copy of what it writes
    return answer(start_response, str(having))


def _connected(descriptor):
    """Is it a TCP connection?"""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            return sock.family == socket.AF_INET and bool(sock.getpeername())
    except OSError:
        return False


# -- what an application should not do -------------------------------------------------------
def _sockets(environ):
    """A copy of each of the sockets whose inodes are in the query string."""
    wanted = {f"socket:[{inode}]" for inode in environ["QUERY_STRING"].split(",")}
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
        if target in wanted:
            found[target] = int(name)
    return [socket.socket(fileno=os.dup(descriptor)) for descriptor in found.values()]


def break_off(environ, start_response):
    for sock in _sockets(environ):
        with sock:
            sock.shutdown(socket.SHUT_RDWR)
    return pid(environ, start_response)


def narrow(environ, start_response):
    """Let next to nothing fit."""
    for sock in _sockets(environ):
        with sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    return pid(environ, start_response)


def hold(environ, start_response):
    """Keep others from taking anything out, in a child, until a file appears."""
    reader, writer = os.pipe()
    socks = _sockets(environ)
    if os.fork() == 0:
        for sock in socks:
            fcntl.lockf(sock, fcntl.LOCK_EX)
        os.write(writer, b"x")
        with open(environ["HTTP_GATE"]) as gate:
            gate.read()
        os._exit(0)
    os.read(reader, 1)
    for descriptor in (reader, writer, *(sock.detach() for sock in socks)):
        os.close(descriptor)
    return pid(environ, start_response)


def litter(environ, start_response):
    """Send what nobody expects, some of it with descriptors: ends of pipes whose others we
    keep."""
    for sock in _sockets(environ):
        with sock:
            for data, number in ((b"x", 0), (bytes(4), 1), (b"\xff" * 64, 1), (bytes(64), 1),
                                 (bytes(4096), 1), (b"\1\0\0\0", 3), (b"y" * 100, 20)):
                _send(sock, data, number)
    return pid(environ, start_response)


def _send(sock, data, number):
    readers = []
    for _ in range(number):
        reader, writer = os.pipe()
        readers.append(reader)
        kept.append(writer)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", readers))] * bool(number)
    sock.sendmsg([data], rights)
    for reader in readers:
        os.close(reader)


def wait_and_forge(environ, start_response):
    """Stand at the gate; then take a record that is on its way, say that it is of a version that
    nobody knows, and send it on, and a true copy of the same without any descriptor."""
    with open(environ["HTTP_GATE"]) as gate:
        gate.read()
    taken = 0
    one, other = _sockets(environ)
    for entry, out in ((one, other), (other, one)):
        try:
            data, rights, _, _ = entry.recvmsg(1 << 16, 1 << 10, socket.MSG_DONTWAIT)
        except BlockingIOError:
            continue
        out.sendmsg([data[:4] + bytes([data[4] ^ 0x7f]) + data[5:]], rights)
        out.sendmsg([data])
        for _, _, descriptors in rights:
            for descriptor in array.array("i", descriptors):
                os.close(descriptor)
        taken += 1
    one.close()
    other.close()
    return answer(start_response, str(taken))


def leaks(environ, start_response):
    """How many of the pipes that were sent are still open somewhere else."""
    still = 0
    for writer in kept:
        try:
            os.write(writer, b"x")
            still += 1
        except BrokenPipeError:
            pass
    return answer(start_response, str(still))


PATHS = {
    "/pid": pid, "/wait": wait, "/burn": burn, "/show": show, "/count": count,
    "/receive": receive, "/wait_and_open": wait_and_open, "/look": look, "/snatch": snatch,
    "/fork": fork, "/break_off": break_off, "/narrow": narrow, "/hold": hold,
    "/litter": litter, "/wait_and_forge": wait_and_forge, "/leaks": leaks,
}  # fmt: skip


def app(environ, start_response):
    return PATHS[environ["PATH_INFO"]](environ, start_response)
