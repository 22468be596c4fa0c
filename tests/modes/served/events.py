"""Streams: events for many clients, and blocks without end for one who does not read."""

import itertools
import json
import os
from urllib.parse import parse_qs

from blocks import block
from work import NOTES, Pieces, pause, rooms


def events(query):
    """An event and a moment, for ever."""
    rooms.enter("events", query["name"])

    def pieces():
        try:
            for number in itertools.count():
                yield b"data: %d\n\n" % number
                pause(0.25)
        finally:
            rooms.leave("events", query["name"])

    return pieces()


def endless(query):
    """For each block that is made there is one more byte in the note `made`."""
    made = os.open(NOTES / query["made"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def pieces():
        try:
            for number in itertools.count():
                os.write(made, b".")
                yield block(number)
        finally:
            os.close(made)

    return Pieces(query["name"], pieces())


def app(environ, start_response):
    query = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    path = environ["PATH_INFO"]
    if path == "/events":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return events(query)
    if path == "/endless":
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return endless(query)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"open": rooms.count("events")}).encode()]
