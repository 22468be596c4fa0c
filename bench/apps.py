"""The application every contender serves.

It does what an application honestly does: a fresh list per call, its own Content-Type and
Content-Length, no reading of the environ.  Nothing here is shared with the measurements.
"""

BODY = b"Hello, World!\n"


def hello(environ, start_response):
    start_response(
        "200 OK",
        [("Content-Type", "text/plain"), ("Content-Length", "14")],
    )
    return [BODY]
