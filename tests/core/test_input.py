"""wsgi.input, in memory and in a file, beside the io module (PEP 3333, Input and Error Streams)."""

import io
import random
import shutil

import pytest
from answers import chunked, is_spooled, request

BODIES = {
    "empty": b"",
    "one line": b"line\n",
    "no newline": b"no newline",
    "lines": b"first\nsecond\n\nfourth\r\nfifth\rsixth\n\n\nlast",
    "newlines": b"\n" * 7,
    "long line": b"x" * 9000 + b"\n" + b"y" * 5000,
    "every byte": bytes(range(256)) * 3,
}


def play(stream, steps):
    """What each (method, arguments) step of a stream gives."""
    found = []
    for method, *arguments in steps:
        if method == "iterate":
            (most,) = arguments
            found.append([line for line, _ in zip(stream, range(most), strict=False)])
        elif method == "next":
            found.append(next(stream, None))
        else:
            found.append(getattr(stream, method)(*arguments))
    return found


def compare(wire, body, steps, memory, coding="length"):
    """Play the steps on wsgi.input and on an io.BytesIO: the same must come out, whether the body
    is in memory or in a file."""
    seen = []

    def app(environ, start_response):
        stream = environ["wsgi.input"]
        seen.append((is_spooled(stream), play(stream, steps)))
        start_response("200 OK", [])
        return []

    if coding == "length":
        raw = request("POST", "/", body=body)
    else:
        raw = request("POST", "/", "Transfer-Encoding: chunked",
                      body=chunked(*(body[i:i + 5] for i in range(0, len(body), 5))))
    connection = wire(app, body_memory=memory)
    assert connection.one(raw).status == 200, connection.log
    (spooled, found), = seen
    assert spooled is (len(body) > memory)
    assert found == play(io.BytesIO(body), steps)
    for got in found:
        assert got is None or type(got) in (bytes, list)


SIZES = [(), (-1,), (None,), (0,), (1,), (2,), (5,), (6,), (7,), (100,), (100_000,)]
MEMORY = pytest.mark.parametrize("memory", [0, 1 << 20], ids=["file", "memory"])


@MEMORY
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("method", ["read", "readline", "readlines"])
def test_each_method_with_each_size(wire, memory, body, method):
    """Trap: `readline()` dropping the newline; sizes as the io module takes them."""
    for size in SIZES:
        compare(wire, body, [(method, *size)] * 12, memory)


@MEMORY
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_iteration(wire, memory, body):
    compare(wire, body, [("iterate", 1000), ("iterate", 1000), ("read",)], memory)


@MEMORY
def test_next(wire, memory):
    compare(wire, BODIES["lines"], [("next",)] * 12, memory)


@MEMORY
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_random_mixtures(wire, memory, body, coding):
    seeded = random.Random(len(body))
    for _ in range(40):
        steps = []
        for _ in range(seeded.randrange(1, 15)):
            method = seeded.choice(["read", "readline", "readlines", "next", "read", "readline"])
            size = seeded.choice([(), (), *SIZES, (seeded.randrange(20),)])
            steps.append((method,) if method == "next" else (method, *size))
        compare(wire, body, [*steps, ("read",), ("read", 1), ("readline",)], memory, coding)


@MEMORY
def test_it_is_its_own_iterator(wire, memory):
    seen = []

    def app(environ, start_response):
        stream = environ["wsgi.input"]
        seen.append(iter(stream) is stream)
        start_response("200 OK", [])
        return []

    wire(app, body_memory=memory).one(request("POST", "/", body=b"a\nb\n"))
    assert seen == [True]


@pytest.mark.parametrize("method", ["read", "readline", "readlines"])
@pytest.mark.parametrize("size", ["1", 1.0, b"1", [1]])
def test_sizes_that_are_no_numbers(wire, method, size):
    seen = []

    def app(environ, start_response):
        stream = environ["wsgi.input"]
        with pytest.raises(TypeError):
            getattr(stream, method)(size)
        seen.append(stream.read())
        start_response("200 OK", [])
        return []

    assert wire(app).one(request("POST", "/", body=b"body")).status == 200
    assert seen == [b"body"]


@pytest.mark.parametrize("size", [2**31, 2**62, 2**63 - 1, -2, -2**63])
@pytest.mark.parametrize("method", ["read", "readline", "readlines"])
def test_extreme_sizes(wire, method, size):
    compare(wire, b"a\nb\n", [(method, size), ("read",)], 1 << 20)


def test_close_does_no_harm(wire):
    """Wrappers close what they wrap when they are collected; in memory that means nothing."""
    seen = []

    def app(environ, start_response):
        environ["wsgi.input"].close()
        environ["wsgi.input"].close()
        seen.append(environ["wsgi.input"].read())
        start_response("200 OK", [])
        return []

    connection = wire(app)
    assert connection.one(request("POST", "/", body=b"body")).status == 200
    assert connection.one(request("GET", "/")).status == 200
    assert connection.one(request("POST", "/", body=b"next")).status == 200
    assert seen == [b"body", b"", b"next"]


def test_a_closed_file_does_no_harm(wire):
    def app(environ, start_response):
        environ["wsgi.input"].close()
        start_response("200 OK", [])
        return []

    connection = wire(app, body_memory=0)
    for _ in range(2):
        assert connection.one(request("POST", "/", body=b"body")).status == 200
    assert connection.log == []


def test_wrapped_by_the_standard_library(wire):
    """shutil, as frameworks use it on uploads, needs no more than read(n)."""
    seen = []

    def app(environ, start_response):
        copy = io.BytesIO()
        shutil.copyfileobj(environ["wsgi.input"], copy, 7)
        seen.append(copy.getvalue())
        start_response("200 OK", [])
        return []

    for memory in (0, 1000):
        wire(app, body_memory=memory).one(request("POST", "/", body=BODIES["lines"]))
    assert seen == [BODIES["lines"]] * 2


def test_input_of_one_request_ends_there(wire):
    """read() never reaches into the next request."""
    seen = []

    def app(environ, start_response):
        seen.append([environ["wsgi.input"].read(1000), environ["wsgi.input"].readline()])
        start_response("200 OK", [])
        return []

    wire(app).ask(request("POST", "/", body=b"one") + request("POST", "/", body=b"two"))
    assert seen == [[b"one", b""], [b"two", b""]]
