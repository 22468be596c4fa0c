"""The application of keepers.py: it answers with its pid and the number of the request, and counts
in shared memory how often each number was served.  /sleep and /burn take a while."""

import mmap
import os
import time

from small_apps import answer

LONG = 0.02  # seconds

with open(os.environ["BOARD"], "rb+") as file:
    board = mmap.mmap(file.fileno(), 0)


def app(environ, start_response):
    number = int(environ["QUERY_STRING"])
    board[number] += 1
    environ["wsgi.input"].read()
    if environ["PATH_INFO"] == "/sleep":
        time.sleep(LONG)
    elif environ["PATH_INFO"] == "/burn":
        end = time.thread_time() + LONG
        while time.thread_time() < end:
            sum(range(10_000))
    return answer(start_response, f"{os.getpid()} {number}")
