"""Writing that RequestTimeout was raised takes longer, once, than the handler's next deadline."""

from work import computes, note

import fastfork
from fastfork.log import logger


def slow(record):
    if "RequestTimeout" in record.getMessage():
        logger.removeFilter(slow)
        try:
            computes()
        except fastfork.RequestTimeout:
            note("in the log")
            raise
    return True


logger.addFilter(slow)


def app(environ, start_response):
    try:
        computes()
    except fastfork.RequestTimeout:
        environ["fastfork.extend_deadline"](0.1)
    computes()
