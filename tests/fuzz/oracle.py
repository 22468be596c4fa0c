"""What must come of an input.

The requests that were executed are read once more from the input, by a reader that knows nothing
but the strictest reading of RFC 9112 and accepts less than any server: each must stand where the
one before it ends, and be what the application saw.  So nothing is ever executed that was a part of
another message's body, or stood behind a refusal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
LINE = re.compile(rb"(%b) ([^\0- \x7f]+) HTTP/1\.([01])" % TOKEN)
FIELD = re.compile(rb"(%b):[ \t]*([\t -~\x80-\xff]*)" % TOKEN)
QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
EXTENSION = rb"[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?" % (TOKEN, TOKEN, QUOTED)
CHUNK = re.compile(rb"([0-9A-Fa-f]+)(?:%b)*\r\n" % EXTENSION)
TRAILERS = re.compile(rb"(?:%b:[\t -~\x80-\xff]*\r\n)*\r\n" % TOKEN)
PROXY_1 = re.compile(rb"PROXY (?:TCP[46] (\S+) \S+ (\d+) \d+|UNKNOWN[^\r\n]*)\r\n")
PROXY_2 = b"\r\n\r\n\0\r\nQUIT\n"


@dataclass
class Request:
    method: str
    target: str
    minor: str
    fields: list
    body: bytes             # as much of it as is there
    chunked: bool
    end: int                # where it ends; -1: it does not

    def all(self, name):
        return [value for known, value in self.fields if known == name]


def read_request(raw, at):
    """The request that begins at `at`.  AssertionError if its head is none."""
    while raw.startswith(b"\r\n", at):
        at += 2
    end = raw.find(b"\r\n\r\n", at)
    assert end >= 0, "the head does not end"
    first, *lines = raw[at:end].split(b"\r\n")
    line = LINE.fullmatch(first)
    assert line, first
    fields = []
    for text in lines:
        field = FIELD.fullmatch(text)
        assert field, text
        name, value = (part.decode("latin-1") for part in field.groups())
        fields.append((name.lower(), value.strip(" \t")))
    method, target, minor = (part.decode("latin-1") for part in line.groups())
    request = Request(method, target, minor, fields, b"", False, end + 4)
    hosts, lengths, codings = (
        request.all(name) for name in ("host", "content-length", "transfer-encoding"))
    assert len(hosts) == 1 or (not hosts and request.minor == "0"), hosts
    if codings:
        assert [c.lower() for c in codings] == ["chunked"], codings
        assert request.minor == "1", "chunked on HTTP/1.0"
        assert not lengths, "both lengths"
        request.chunked = True
        request.body, request.end = read_chunks(raw, request.end)
    elif lengths:
        assert len(lengths) == 1 and re.fullmatch("[0-9]+", lengths[0]), lengths
        end = request.end + int(lengths[0])
        request.body = raw[request.end:end]
        request.end = end if end <= len(raw) else -1
    return request


def read_chunks(raw, at):
    """The body that is coded in chunks, and where it ends (-1: it does not, or is malformed)."""
    body = b""
    while True:
        line = CHUNK.match(raw, at)
        if not line:
            return body, -1
        size, at = int(line[1], 16), line.end()
        if size == 0:
            trailers = TRAILERS.match(raw, at)
            return body, trailers.end() if trailers else -1
        body += raw[at:at + size]
        at += size
        if raw[at:at + 2] != b"\r\n":
            return body, -1
        at += 2


def read_preamble(raw):
    """Behind a preamble of the PROXY protocol: where the first request begins, and the peer that it
    names: address (None: a unix socket) and port, or None if it names nobody."""
    if raw.startswith(PROXY_2):
        assert raw[12] in (0x20, 0x21), raw[12]
        end = 16 + int.from_bytes(raw[14:16], "big")
        family = raw[13] if raw[12] == 0x21 else 0
        if family == 0x11:
            return end, (str(IPv4Address(raw[16:20])), str(int.from_bytes(raw[24:26], "big")))
        if family == 0x21:
            return end, (str(IPv6Address(raw[16:32])), str(int.from_bytes(raw[48:50], "big")))
        return end, (None, "") if family == 0x31 else None
    line = PROXY_1.match(raw)
    assert line and line.end() <= 107, raw[:120]
    return line.end(), (str(ip_address(line[1].decode())), line[2].decode()) if line[1] else None
