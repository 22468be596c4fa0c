"""A second reader of requests, made of the grammar in RFC 9112 as it stands there: slow, strict,
and without a line in common with the core.  It has the whole connection before it."""

import ipaddress
import re
from dataclasses import dataclass

EMPTY_LINES = re.compile(rb"(\r\n)*")
TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([!-\"$-~]+) HTTP/1\.([01])")
FIELD_LINE = re.compile(rb"(" + TOKEN + rb"):[ \t]*([^\0\r\n]*?)[ \t]*")
LONE = re.compile(rb"(?<!\r)\n|\r(?!\n)")
ABSOLUTE = re.compile(rb"(?i)http://([^/?]+)(/[^?]*)?(\?.*)?")
AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(:[0-9]*)?")
REG_NAME = re.compile(r"([A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*")
FUTURE = re.compile(r"\[v[0-9A-Fa-f]+\.[A-Za-z0-9\-._~!$&'()*+,;=:]+\]")
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]+)([ \t]*;[^\0-\x08\x0a-\x1f\x7f]*)?")
# What no standard asks a server to take, nor to refuse.
DOUBTFUL_TARGET = re.compile(rb'["<>\\^`{|}\[\]]|%(?![0-9A-Fa-f]{2})|%00')
DOUBTFUL_HOST = re.compile(r"(|:.*|\[v.*|.*,.*)")
DOUBTFUL_VALUE = re.compile(rb"[^\t -~\x80-\xff]")
SURE_METHODS = {b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"}


class Wrong(Exception):
    """What follows is no request: it must be refused."""


class More(Exception):
    """What follows is the beginning of one."""


@dataclass
class Found:
    method: str
    path: str
    query: str
    fields: dict        # as they stand in the environ
    body: bytes
    sure: bool          # False: a server may refuse it as well
    keeps: bool


def read(raw, max_body):
    """The requests in `raw`, and what is behind them: rest, close, wrong or more."""
    found, at = [], 0
    try:
        while True:
            start = EMPTY_LINES.match(raw, at).end()
            few = start - at < 32               # RFC 9112, 2.2: at least one is to be ignored
            if start == len(raw):
                return found, "rest" if few else "more"
            one, at = read_request(raw, start, max_body)
            one.sure &= few
            found.append(one)
            if not one.keeps:
                return found, "close"
    except (Wrong, More) as e:
        return found, type(e).__name__.lower()


def demand(true):
    if not true:
        raise Wrong


def until(raw, at, mark):
    """What stands before `mark`, and where that ends."""
    end = raw.find(mark, at)
    if end < 0:
        raise More
    return raw[at:end], end + len(mark)


def read_request(raw, at, max_body):
    head, at = until(raw, at, b"\r\n\r\n")
    demand(not LONE.search(head))
    line, *lines = head.split(b"\r\n")
    words = REQUEST_LINE.fullmatch(line)
    demand(words)
    method, target, minor = words[1], words[2], words[3]
    fields = [FIELD_LINE.fullmatch(f) for f in lines]
    demand(all(fields))
    values = {}
    for name, value in (f.groups() for f in fields):
        values.setdefault(name.lower(), []).append(value.decode("latin-1"))
    for name in (b"host", b"content-length", b"content-type", b"transfer-encoding"):
        demand(len(values.get(name, [])) <= 1)
    host = values.get(b"host", [None])[0]
    demand(host is not None or minor == b"0")
    demand(host is None or valid_host(host))
    authority, path, query = read_target(method, target)
    sure = (method in SURE_METHODS and not DOUBTFUL_TARGET.search(target)
            and not any(DOUBTFUL_HOST.fullmatch(h) for h in (host, authority) if h is not None)
            and not any(DOUBTFUL_VALUE.search(f[2]) for f in fields)
            and all(e.lower() == "100-continue" for e in values.get(b"expect", [])))
    body, at, plain = read_body(raw, at, values, minor, max_body)
    options = {o.strip(" \t").lower() for o in ",".join(values.get(b"connection", [])).split(",")}
    keeps = "close" not in options and (minor == b"1" or "keep-alive" in options)
    environ = {
        "HTTP_" + name.decode().upper().replace("-", "_"):
            ("; " if name == b"cookie" else ", ").join(listed)
        for name, listed in values.items()
        if b"_" not in name and not name.startswith(b"x-forwarded-") and name not in (
            b"content-length", b"content-type", b"transfer-encoding", b"proxy", b"forwarded")}
    if authority is not None:
        environ["HTTP_HOST"] = authority
    decoded = re.sub(rb"%([0-9A-Fa-f]{2})", lambda m: bytes.fromhex(m[1].decode()), path)
    return Found(method.decode(), decoded.decode("latin-1"), query.decode(), environ, body,
                 sure and plain, keeps), at


def read_target(method, target):
    """Authority (of the absolute form only), path and query."""
    demand(method != b"CONNECT")
    if target == b"*" and method == b"OPTIONS":
        return None, b"", b""
    if target.startswith(b"/"):
        path, _, query = target.partition(b"?")
        return None, path, query
    absolute = ABSOLUTE.fullmatch(target)
    demand(absolute)
    authority = absolute[1].decode()
    demand(valid_host(authority) and not authority.startswith(":"))
    return authority, absolute[2] or b"/", (absolute[3] or b"?")[1:]


def valid_host(text):
    parts = AUTHORITY.fullmatch(text)
    if not parts or not parts[1].startswith("["):
        return bool(parts and REG_NAME.fullmatch(parts[1]))
    try:
        return "%" not in parts[1] and bool(ipaddress.IPv6Address(parts[1][1:-1]))
    except ValueError:
        return bool(FUTURE.fullmatch(parts[1]))


def read_body(raw, at, values, minor, max_body):
    """The body, where it ends, and whether nothing in its framing may be refused."""
    if b"transfer-encoding" not in values:
        length = values.get(b"content-length", ["0"])[0]
        demand(re.fullmatch("[0-9]+", length) and int(length) <= max_body)
        end = at + int(length)
        if end > len(raw):
            raise More
        return raw[at:end], end, True
    demand(b"content-length" not in values and minor == b"1")
    codings = values[b"transfer-encoding"][0].lower().split(",")
    demand([c for c in (c.strip(" \t") for c in codings) if c] == ["chunked"])
    body, plain = b"", len(codings) == 1
    while True:
        line, at = until(raw, at, b"\r\n")
        size = CHUNK_SIZE.fullmatch(line)
        demand(size)
        plain &= size[2] is None and len(size[1]) <= 16
        n = int(size[1], 16)
        demand(len(body) + n <= max_body)
        if n == 0:
            break
        if at + n + 2 > len(raw):
            raise More
        demand(raw[at + n:at + n + 2] == b"\r\n")
        body += raw[at:at + n]
        at += n + 2
    while True:
        line, at = until(raw, at, b"\r\n")
        if not line:
            return body, at, plain
        trailer = FIELD_LINE.fullmatch(line)
        demand(trailer and not DOUBTFUL_VALUE.search(trailer[2]))
