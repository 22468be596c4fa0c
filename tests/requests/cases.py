"""What a case of the corpus is, and small tools to write its bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One request, the rule it is about, and what is right.

    `statuses` are the right answers.  200 stands for: the application is called, once, with `sees`
    in its environ (None: without that key) and with `body`, and afterwards the connection is kept
    or not.  Any other status stands for: refused by the server, which then closes.
    """

    name: str
    rule: str
    raw: bytes
    statuses: frozenset[int]
    sees: Mapping[str, str | None]
    body: bytes = b""
    keeps: bool = True

    @property
    def method(self):
        """As far as the bytes have one: a HEAD is answered without a body."""
        return self.raw.lstrip(b"\r\n").partition(b" ")[0].decode("latin-1")

    def check(self, found, calls, ended, *, behind=False, followed=False):
        """Assert that this is what must come of the case.

        `found` are the answers, `calls` pairs of environ and body, `ended` is True if the server
        closed.  `behind`: GOOD was sent before the case.  `followed`: POISON was sent after it.
        """
        if behind:
            assert (found[0].status, calls[0][0]["PATH_INFO"]) == (200, "/good")
            found, calls = found[1:], calls[1:]
        assert found, "no answer"
        answer = found[0]
        assert answer.status in self.statuses, answer
        if answer.status != 200:
            assert len(found) == 1, "an answer behind a refusal"
            assert calls == [], "executed all the same, or what is behind it"
            assert ended and answer.header("connection") == "close", answer
            assert answer.complete and answer.body, answer
            assert answer.header("content-length") == str(len(answer.body)), answer
            assert answer.header("content-type", "").startswith("text/plain"), answer
            assert answer.header("date"), answer
            return
        assert (answer.version, answer.reason) == ("HTTP/1.1", "OK")
        environ, body = calls[0]
        seen = {key: environ.get(key) for key in self.sees}
        assert seen == dict(self.sees)
        assert body == self.body
        assert (answer.header("connection") == "close") is not self.keeps
        expected = ["/poison"] if followed and self.keeps else []
        assert [e["PATH_INFO"] for e, _ in calls[1:]] == expected
        assert [b for _, b in calls[1:]] == [b""] * len(expected)
        assert [a.status for a in found[1:]] == [200] * len(expected)
        assert ended is (followed or not self.keeps)


def valid(name, rule, raw, *, method="GET", path="/", query="", body=b"", keeps=True, environ=None,
          or_refused=()):
    """A request that must reach the application; where the standard leaves the server the choice,
    `or_refused` with one of these statuses."""
    sees = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, **(environ or {})}
    return Case(name, rule, raw, frozenset({200, *or_refused}), sees, body, keeps)


def refused(name, rule, raw, *statuses):
    """A request that must be refused as soon as it is there: with 400 unless told otherwise."""
    return Case(name, rule, raw, frozenset(statuses or {400}), {})


def request(method="GET", target="/", *fields, body=None, version="1.1", host="x"):
    """The bytes of a request; a body gets its Content-Length unless `fields` frame it."""
    lines = [f"{method} {target} HTTP/{version}"]
    if host is not None:
        lines.append(f"Host: {host}")
    lines += fields
    framed = any(re.match("(content-length|transfer-encoding) *:", f, re.I) for f in fields)
    if body is not None and not framed:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def get(*fields, **how):
    """GET / with these fields."""
    return request("GET", "/", *fields, **how)


def post(*fields, body=b"abcde", **how):
    """POST / with these fields, and five bytes that no field frames."""
    return request("POST", "/", *fields, **how) + body


def chunked(*chunks, end=b"0\r\n\r\n"):
    """`chunks` in the chunked transfer coding (RFC 9112, 7.1)."""
    return b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks) + end


def post_chunked(body, *fields, **how):
    """A request whose body is said to be chunked; `body` are the bytes as they are sent."""
    return post("Transfer-Encoding: chunked", *fields, body=body, **how)


GOOD = request("GET", "/good")
# What is behind a case.  It must never be called behind a refusal, nor be taken for a body.
POISON = request("GET", "/poison", "Connection: close")
# The same as a body, which must never be called at all.
SMUGGLED = request("GET", "/smuggled")
NO_TOKEN = '"(),/;<=>?@[\\]{}'            # the delimiters but the colon (RFC 9110, 5.6.2)
CONTROLS = [chr(n) for n in (*range(32), 127)]
