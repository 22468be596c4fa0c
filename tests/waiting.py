"""What waits in a pair of sockets (fastfork/pairs.py), and whether it has ended."""

import os
import select
import socket


def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def send(pair, fd, data=b"record"):
    with socket.socket(fileno=os.dup(pair.outlet)) as sock:
        socket.send_fds(sock, [data], [fd])


def leave_waiting(pair):
    """Sends one end of a pipe and keeps the other, which ends with it."""
    reading, writing = os.pipe()
    send(pair, writing)
    os.close(writing)
    return reading


def has_ended(reading):
    return bool(select.select([reading], [], [], 0)[0])
