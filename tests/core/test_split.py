"""The core takes the fields of a head apart itself, after the parser has accepted it.  Both must
read the same: whatever httptools' own callbacks see is what the application gets, and what
httptools refuses is refused."""

import contextlib
import random
import re

import httptools
import pytest
from corpus import CASES

FIELDS = [
    b"Host: a\r\n", b"X-A: 1\r\n", b"X-B:2\r\n", b"X-C:  v  \r\n", b"X-D:\r\n", b"X-E: \t\r\n",
    b"Cookie: a=b\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n",
    b"X-F: a:b\r\n", b"X-G: \xe9\r\n", b" folded\r\n", b"\tf: x\r\n", b"X H: 1\r\n",
    b"X-I : 1\r\n", b": v\r\n", b"novalue\r\n", b"Connection: close\r\n", b"X-J: a\rb\r\n",
    b"X-K: a\nX-L: b\r\n", b"X-M: \x00\r\n", b"X-N:\r\n y\r\n", b"Upgrade: h2c\r\n",
    b"X-O: \x7f\r\n", b"X-P: \x0b\r\n"]
CHARACTERS = [b"\r", b"\n", b"\r\n", b":", b" ", b"\t", b"\x00", b"\x80", b"a", b",", b";", b"\x0c"]
NOT_PASSED_ON = {"HTTP_TRANSFER_ENCODING", "HTTP_PROXY"}
CGI_NAMES = {"CONTENT_LENGTH", "CONTENT_TYPE"}


class Callbacks:
    def __init__(self):
        self.fields, self.completed = [], 0

    def on_header(self, name, value):
        self.fields.append((name, value))

    def on_headers_complete(self):
        self.completed += 1


def mutated(rng):
    head = b"GET /x HTTP/1.1\r\n" + b"Host: x\r\n" * (rng.random() < 0.9)
    head += b"".join(rng.choices(FIELDS, k=rng.randrange(6))) + b"\r\n"
    for _ in range(rng.choice([0, 0, 1, 2])):
        at = rng.randrange(len(head))
        head = head[:at] + rng.choice(CHARACTERS) + head[at + rng.randrange(2):]
    return head


def as_environ(fields):
    environ = {}
    for name, value in fields:
        if b"_" in name:
            continue
        key = name.decode().upper().replace("-", "_")
        key = key if key in CGI_NAMES else f"HTTP_{key}"
        text = value.strip(b" \t").decode("latin-1")
        joint = "; " if key == "HTTP_COOKIE" else ", "
        environ[key] = environ[key] + joint + text if key in environ else text
    return {key: text for key, text in environ.items() if key not in NOT_PASSED_ON}


def check_the_same(environ, head):
    """What the application got is what httptools' callbacks see."""
    callbacks = Callbacks()
    with contextlib.suppress(httptools.HttpParserUpgrade):
        httptools.HttpRequestParser(callbacks).feed_data(head)
    seen = {key: text for key, text in environ.items()
            if key.startswith("HTTP_") or key in CGI_NAMES}
    expected = as_environ(callbacks.fields)
    if "CONTENT_LENGTH" not in expected:
        seen.pop("CONTENT_LENGTH", None)    # that of a chunked body is ours
    assert (seen, callbacks.completed) == (expected, 1), head


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_same_in_the_corpus(recorded, recorder, case):
    recorded.feed(case.raw)
    absolute = b" http://" in case.raw.lower().partition(b"\r\nhost:")[0]   # takes Host's place
    if recorder.environs and not absolute:
        head = case.raw.lstrip(b"\r\n").partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        # llhttp alone would refuse a tab behind `chunked`.
        check_the_same(recorder.environ, re.sub(rb"[ \t]+\r\n", b"\r\n", head))


@pytest.mark.parametrize("seed", range(4))
def test_the_parser_and_the_core_read_the_same(recorded, recorder, seed):
    rng = random.Random(seed)
    accepted = 0
    while accepted < 500:
        head, found, _ = mutated(rng).partition(b"\r\n\r\n")
        if not found:
            continue
        recorder.environs.clear()
        connection = recorded.worker.connect()
        connection.feed(head + found)
        if not recorder.environs:
            continue
        accepted += 1
        check_the_same(recorder.environs[0], head + found)


@pytest.mark.parametrize("head", [
    b"GET /\nX-Admin:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\nX-Admin:1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\nX-Admin: 1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX-A: b\n\r\n\r\n"])
def test_a_bare_lf_begins_no_field(recorded, recorder, head):
    """RFC 9112, 2.2.  llhttp would end the first of these at the LF and read a field behind it."""
    assert recorded.feed(head).startswith(b"HTTP/1.1 400 ")
    assert recorded.connection.closed
    assert not recorder.environs
