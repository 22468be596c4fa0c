"""The access log, common and combined (as Apache's httpd defines the two)."""

import re
import tempfile
from datetime import datetime, timedelta, timezone

import pytest
from answers import chunked, request

QUOTED = r'"(?P<%s>[^"\\]*(?:\\.[^"\\]*)*)"'
COMMON = re.compile((
    r"(?P<host>\S+) (?P<ident>\S+) (?P<user>\S+) \[(?P<time>[^]]+)\] "
    + QUOTED % "request" + r" (?P<status>\d{3}) (?P<bytes>\d+|-)").encode())
COMBINED = re.compile(
    COMMON.pattern + f" {QUOTED % 'referer'} {QUOTED % 'agent'}".encode())
TIME = "%d/%b/%Y:%H:%M:%S %z"
ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v", b"f": b"\f", b"b": b"\b"}


def unescape(value):
    """The bytes that an escaped field stands for (backslash, quote, C letters, \\xhh)."""
    def one(match):
        code = match[1]
        return bytes([int(code[1:], 16)]) if code[:1] == b"x" else ESCAPES.get(code, code)
    return re.sub(rb"\\(x[0-9a-fA-F]{2}|.)", one, value, flags=re.S)


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/error":
        raise ValueError
    if path == "/none":
        start_response("204 No Content", [])
        return []
    start_response("404 Not Found" if path == "/missing" else "200 OK", [])
    return iter([b"chunk", b"ed body"]) if path == "/chunked" else [b"0123456789"]


@pytest.fixture
def logged(wire):
    """`logged(raw)` feeds `raw` and returns the lines written."""
    with tempfile.TemporaryFile() as file:
        def feed(raw, format_="combined", address=("127.0.0.1", 40000), application=app):
            connection = wire(application, access_log_fd=file.fileno(), access_log_format=format_)
            connection.connect(*address)
            connection.feed(raw)
            connection.worker.flush_access_log()
            file.seek(0)
            data = file.read()
            file.seek(0)
            file.truncate()
            assert data == b"" or data.endswith(b"\n")
            return data.split(b"\n")[:-1]
        yield feed


def fields_of(line, pattern=COMBINED):
    match = pattern.fullmatch(line)
    assert match, line
    return match.groupdict()


def test_common(logged):
    # The clock of the log is coarse: it may be some milliseconds late, and so a second.
    before = datetime.now(timezone.utc) - timedelta(seconds=2)
    (line,) = logged(request("GET", "/a?b=c", "User-Agent: curl/8"), "common")
    fields = fields_of(line, COMMON)
    assert fields["host"] == b"127.0.0.1"
    assert fields["ident"] == b"-"
    assert fields["user"] == b"-"
    assert fields["request"] == b"GET /a?b=c HTTP/1.1"
    assert fields["status"] == b"200"
    assert fields["bytes"] == b"10"
    when = datetime.strptime(fields["time"].decode(), TIME)
    assert before <= when <= datetime.now(timezone.utc)


def test_combined(logged):
    (line,) = logged(request("POST", "/a", "User-Agent: curl/8 (x)", "Referer: http://y/z?q",
                             body=b"body"))
    fields = fields_of(line)
    assert fields["request"] == b"POST /a HTTP/1.1"
    assert fields["referer"] == b"http://y/z?q"
    assert fields["agent"] == b"curl/8 (x)"


def test_missing_fields_are_a_dash(logged):
    (line,) = logged(request("GET", "/"))
    fields = fields_of(line)
    assert fields["referer"] == b"-"
    assert fields["agent"] == b"-"


def test_off_by_default(wire):
    connection = wire(app)
    assert connection.one(request()).status == 200
    connection.worker.flush_access_log()


@pytest.mark.parametrize("address", ["127.0.0.1", "192.0.2.1", "2001:db8::1"])
def test_host(logged, address):
    (line,) = logged(request(), address=(address, 5))
    assert fields_of(line)["host"] == address.encode()


@pytest.mark.parametrize("raw, status, size", [
    (request("GET", "/"), b"200", (b"10",)),
    (request("HEAD", "/"), b"200", (b"0", b"-")),
    (request("GET", "/none"), b"204", (b"0", b"-")),
    (request("GET", "/missing"), b"404", (b"10",)),
    (request("GET", "/chunked"), b"200", (b"12",)),
    (request("GET", "/chunked", version="1.0"), b"200", (b"12",)),
])
def test_status_and_bytes_of_the_body(logged, raw, status, size):
    """The bytes are those of the body, without head and chunk sizes."""
    (line,) = logged(raw)
    fields = fields_of(line)
    assert fields["status"] == status
    assert fields["bytes"] in size


def test_error_page(logged):
    (line,) = logged(request("GET", "/error"))
    fields = fields_of(line)
    assert fields["status"] == b"500"
    assert int(fields["bytes"]) > 0


def test_version_is_that_of_the_request(logged):
    (line,) = logged(request("GET", "/", version="1.0"))
    assert fields_of(line)["request"] == b"GET / HTTP/1.0"


def test_one_line_for_each_request_in_order(logged):
    raw = b"".join(request("GET", f"/{n}") for n in range(2000))
    lines = logged(raw)
    assert [fields_of(line)["request"] for line in lines] == [
        b"GET /%d HTTP/1.1" % n for n in range(2000)]


@pytest.mark.parametrize("target", [
    b"/%22%0a%00", b'/a"b', b'/a?b="c"', b"/a\\b", b'/a\\"b', b"/a?\\x41"])
def test_target_is_raw_and_escaped(logged, target):
    """As it was sent, so that no client can forge a field or a line."""
    lines = logged(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    for line in lines:  # refusing such a target is right too
        fields = fields_of(line)
        if fields["status"] == b"200":
            assert unescape(fields["request"]) == b"GET " + target + b" HTTP/1.1"


def test_percent_encoded_target_stays_encoded(logged):
    (line,) = logged(request("GET", "/%22%0a%e9%41"))
    assert fields_of(line)["request"] == b"GET /%22%0a%e9%41 HTTP/1.1"


@pytest.mark.parametrize("value", [
    b'quo"te', b'" 200 5 "', b"back\\slash", b'\\"', b"\\", b"\\x41", b"tab\there", b"\xe9\xff",
    b"\xc3\xa9", b"\x80\x9b31m", b"'", b"%s %n {0}", b"a" * 1000])
@pytest.mark.parametrize("name, field", [(b"User-Agent", "agent"), (b"Referer", "referer")])
def test_fields_are_escaped(logged, value, name, field):
    """Quotes, backslashes and control characters cannot forge a field; nothing is lost."""
    (line,) = logged(b"GET / HTTP/1.1\r\nHost: x\r\n" + name + b": " + value + b"\r\n\r\n")
    assert not re.search(rb"[^\x20-\x7e]", line), line
    escaped = fields_of(line)[field]
    assert unescape(escaped) == value


def test_every_byte_at_every_place(logged):
    """Text is copied eight bytes at a time where none of them needs an escape."""
    values = []
    for byte in [9, *range(32, 127), *range(128, 256)]:
        for place in range(1, 18):
            value = bytearray(b"abcdefghijklmnopqrs")
            value[place] = byte
            values.append(bytes(value))
    lines = logged(b"".join(
        b"GET / HTTP/1.1\r\nHost: x\r\nReferer: " + value + b"\r\n\r\n" for value in values))
    for line, value in zip(lines, values, strict=True):
        assert not re.search(rb"[^\x20-\x7e]", line), line
        assert unescape(fields_of(line)["referer"]) == value
        # No escape where none is needed.
        assert fields_of(line)["referer"].count(b"\\") == len(
            re.findall(rb'["\\\t\x80-\xff]', value))


def test_repeated_agent_does_not_break_the_line(logged):
    (line,) = logged(request("GET", "/", "User-Agent: a", "User-Agent: b"))
    assert b"a" in fields_of(line)["agent"]


def test_long_lines_and_small_ones(logged):
    """More than any buffer holds; what is long may be cut, but only at its end."""
    sizes = (1, 4000, 2, 3999, 3, 16000) * 20
    lines = logged(b"".join(request("GET", "/" + "x" * size) for size in sizes))
    assert len(lines) == len(sizes)
    for line, size in zip(lines, sizes, strict=True):
        whole = b"GET /" + b"x" * size + b" HTTP/1.1"
        logged_request = fields_of(line)["request"]
        if size <= 4000:
            assert logged_request == whole
        else:
            assert len(logged_request) >= 4000
            assert logged_request.startswith(whole[:4000])


@pytest.mark.parametrize("character", [b"a", b'"', b"\\", b"\xe9"])
def test_a_long_field_is_cut_between_characters(logged, character):
    value = character * 20_000
    raw = (b"GET / HTTP/1.1\r\nHost: x\r\nReferer: " + value + b"\r\nUser-Agent: " + value
           + b"\r\n\r\n")
    for line in logged(raw * 2):
        for field in ("referer", "agent"):
            left = unescape(fields_of(line)[field])
            assert len(left) >= 400
            assert value.startswith(left)


def test_large_body_counts(logged):
    def large(environ, start_response):
        start_response("200 OK", [])
        return (b"x" * 100_000 for _ in range(20))

    (line,) = logged(request(), application=large)
    assert fields_of(line)["bytes"] == b"2000000"


def test_request_with_a_chunked_body(logged):
    (line,) = logged(request("POST", "/", "Transfer-Encoding: chunked", body=chunked(b"abc")))
    assert fields_of(line)["request"] == b"POST / HTTP/1.1"


def test_truncated_answer_counts_what_it_sent(logged):
    def breaks(environ, start_response):
        start_response("200 OK", [("Content-Length", "10")])
        yield b"abc"
        raise ValueError

    (line,) = logged(request(), application=breaks)
    fields = fields_of(line)
    assert fields["status"] == b"200"
    assert fields["bytes"] == b"3"


@pytest.mark.parametrize("raw, status", [
    (b"\0", b"400"),
    (b"GET /a HTTP/1.1\r\n\r\n", b"400"),
    (b"GET /a HTTP/3.0\r\nHost: x\r\n\r\n", b"505"),
    (b"GET /a HTTP/1.1\nHost: x\n\n", b"400"),
    (b"GET /a\r\n", b"400"),
    (request("GET", "/a", "A B: c"), b"400"),
    (request("FROB", "/a"), b"501"),
    (request("CONNECT", "/a:1"), b"501"),
    (request("POST", "/a", "Transfer-Encoding: gzip, chunked"), b"501"),
    (request("POST", "/a", "Expect: miracles", body=b"b"), b"417"),
    (request("POST", "/a", "Content-Length: 1", "Transfer-Encoding: chunked"), b"400"),
    (request("GET", "/a", *["A: b"] * 200), b"431"),
    (request("POST", "/a", "Transfer-Encoding: chunked", body=b"fffffffff\r\n"), b"413"),
    (b"GET /" + b"a" * 20_000, b"414"),
    (request("GET", "/a", "A: " + "a" * 70_000), b"431"),
    (request("POST", "/a", "Content-Length: 9999999999999"), b"413"),
    (request("POST", "/a", "Transfer-Encoding: chunked", body=b"zz\r\n"), b"400"),
])
def test_refused_requests_have_a_line_too(logged, raw, status):
    good, bad = logged(request("GET", "/good") + raw)
    assert fields_of(good)["request"] == b"GET /good HTTP/1.1"
    fields = fields_of(bad)
    assert fields["host"] == b"127.0.0.1"
    assert fields["status"] == status
    assert int(fields["bytes"]) > 0
    line = re.match(rb"[^\r\n]{,1024}", raw)[0]
    assert fields["request"] == (b"\\x00" if line == b"\0" else line)


@pytest.mark.parametrize("raw", [
    b"GET /a HTTP/1.1\r\nHost:", b"GET", request("POST", "/a", "Content-Length: 5") + b"abc",
    request("POST", "/a", "Transfer-Encoding: chunked", body=b"5\r\nabc")])
def test_a_client_that_stops_within_its_request(wire, tmp_path, raw):
    """The refusal (400) is logged, whether the client is there to read it or not."""
    (line,) = after_the_end(wire, tmp_path, raw)
    fields = fields_of(line)
    assert fields["status"] == b"400"
    assert fields["request"] == raw.partition(b"\r")[0]


@pytest.mark.parametrize("raw", [b"", b"\r\n", request("GET", "/good")])
def test_a_client_that_ends_between_requests(wire, tmp_path, raw):
    """A connection is no request: it has no line of its own."""
    lines = after_the_end(wire, tmp_path, raw)
    assert [fields_of(line)["request"] for line in lines] == (
        [b"GET /good HTTP/1.1"] if raw.startswith(b"GET") else [])


def after_the_end(wire, tmp_path, raw):
    """The lines of a connection that sends `raw` and ends."""
    with (tmp_path / "log").open("w+b") as file:
        connection = wire(app, access_log_fd=file.fileno())
        connection.feed(raw)
        connection.connection.eof()
        connection.worker.flush_access_log()
        file.seek(0)
        return file.read().splitlines()


def test_a_refused_line_fits_whatever_the_limits(wire, tmp_path):
    """Every byte may be written as four, and a head may have been allowed to be shorter."""
    path = tmp_path / "log"
    with path.open("wb") as log:
        connection = wire(lambda environ, start_response: [], access_log_fd=log.fileno(),
                          max_head=64, max_request_line=16)
        for _ in range(40):
            connection.feed(b"\xff" * 2000)
            connection.connect()
        connection.worker.flush_access_log()
    lines = path.read_bytes().splitlines()
    assert len(lines) == 40
    assert all(b'"' + b"\\xff" * 1024 + b'" 414' in line for line in lines)
