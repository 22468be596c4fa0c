"""The application of blocking.py: requests that are answered at once, and slow ones (/slow).

There are three of it, which differ in how a slow request spends its time.
"""

import time

from sites.plain import hello

SLOW = 0.5  # seconds


def sleeping(environ, start_response):
    """Waits, as for a database: without the GIL, and under gevent's patches cooperatively."""
    if environ["PATH_INFO"] == "/slow":
        time.sleep(SLOW)
    return hello(environ, start_response)


def cooperative(environ, start_response):
    """Waits in the way in which fastfork's greenlets take turns."""
    if environ["PATH_INFO"] == "/slow":
        import fastfork

        fastfork.sleep(SLOW)
    return hello(environ, start_response)


def burning(environ, start_response):
    """Computes in Python: as much CPU time whatever else the machine does, with the GIL, which
    goes to another thread of the worker, if one wants it, every 5 ms."""
    if environ["PATH_INFO"] == "/slow":
        end = time.thread_time() + SLOW
        while time.thread_time() < end:
            sum(n * n % 7 for n in range(1000))
    return hello(environ, start_response)
