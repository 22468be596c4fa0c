"""The PROXY protocol (haproxy's doc/proxy-protocol.txt): what trusted peers must send first.

The peer is 10.0.0.1 unless a case says otherwise, and 10.0.0.0/8 is trusted.
"""

import ipaddress
import logging
import random
import re
import struct
import tempfile

import pytest
from answers import Recorder, answers, request

PROXY = ("10.0.0.1", 555)
ITSELF = ("10.0.0.1", "555")      # as the application sees it
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 203.0.113.9 10.0.0.9 1234 80\r\n"
V1_SIX = b"PROXY TCP6 2001:db8::9 fd00::1 1234 80\r\n"


def v2(family, addresses=b"", *, command=0x21, length=None, tail=b""):
    length = len(addresses + tail) if length is None else length
    return SIGNATURE + struct.pack("!BBH", command, family, length) + addresses + tail


def inet(source, target, port=1234):
    """The address block of IPv4 or IPv6."""
    return (ipaddress.ip_address(source).packed + ipaddress.ip_address(target).packed
            + struct.pack("!HH", port, 80))


UNIX = b"/source".ljust(108, b"\0") + b"/target".ljust(108, b"\0")
V2 = v2(0x11, inet("203.0.113.9", "10.0.0.9"))
V2_SIX = v2(0x21, inet("2001:db8::9", "fd00::1"))
TLV = b"\x04" + struct.pack("!H", 5) + b"12345"

VALID = {                                           # preamble: (REMOTE_ADDR, REMOTE_PORT)
    V1: ("203.0.113.9", "1234"),
    b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n": ("0.0.0.0", "0"),
    b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n": ("255.255.255.255", "65535"),
    V1_SIX: ("2001:db8::9", "1234"),
    b"PROXY TCP6 ::ffff:1.2.3.4 :: 5 6\r\n": ("1.2.3.4", "5"),
    b"PROXY TCP6 %b %b 65535 65535\r\n" % ((b":".join([b"ffff"] * 8),) * 2):
        (":".join(["ffff"] * 8), "65535"),
    b"PROXY UNKNOWN\r\n": ITSELF,
    b"PROXY UNKNOWN \r\n": ITSELF,
    b"PROXY UNKNOWN whatever \xff\x01 may stand here\r\n": ITSELF,
    b"PROXY UNKNOWN 203.0.113.9 10.0.0.9 1234 80\r\n": ITSELF,
    b"PROXY UNKNOWN %b\r\n" % (b"f" * 91): ITSELF,
    V2: ("203.0.113.9", "1234"),
    V2_SIX: ("2001:db8::9", "1234"),
    v2(0x31, UNIX): ("", ""),
    v2(0x00): ITSELF,
    v2(0x00, b"anything"): ITSELF,
    v2(0x01): ITSELF,
    v2(0x11, inet("203.0.113.9", "10.0.0.9"), tail=TLV): ("203.0.113.9", "1234"),
    v2(0x11, inet("203.0.113.9", "10.0.0.9"), tail=b"\xff"): ("203.0.113.9", "1234"),
    v2(0x21, inet("2001:db8::9", "fd00::1"), tail=TLV * 3): ("2001:db8::9", "1234"),
    v2(0x31, UNIX, tail=TLV): ("", ""),
    v2(0x11, inet("203.0.113.9", "10.0.0.9"), tail=b"\0" * 4068): ("203.0.113.9", "1234"),
    v2(0x00, command=0x20): ITSELF,
    v2(0x11, inet("203.0.113.9", "10.0.0.9"), command=0x20): ITSELF,
    v2(0x12, b"x", command=0x20): ITSELF,
    v2(0xff, b"\r\n\r\n" * 100, command=0x20): ITSELF,
}

INVALID = [
    # not a preamble at all
    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",            # a TLS hello
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PROPFIND / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PROXY / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\r\n" + V1, b" " + V1, b"\0" + V2, b"\n" + V1, b"\xff",
    b"proxy TCP4 203.0.113.9 10.0.0.9 1234 80\r\n",
    # version 1
    b"PROXY\r\n", b"PROXY \r\n", b"PROXY TCP4\r\n", b"PROXY TCP4 \r\n", b"PROXY UNKNOW\r\n",
    b"PROXY UNKNOWNX\r\n", b"PROXY unknown\r\n", b"PROXY tcp4 203.0.113.9 10.0.0.9 1234 80\r\n",
    b"PROXY  TCP4 203.0.113.9 10.0.0.9 1234 80\r\n", b"PROXY\tTCP4 203.0.113.9 10.0.0.9 1 80\r\n",
    b"PROXY TCP5 203.0.113.9 10.0.0.9 1234 80\r\n", b"PROXY UDP4 203.0.113.9 10.0.0.9 1 80\r\n",
    b"PROXY TCP4 203.0.113.9 10.0.0.9 1234\r\n", b"PROXY TCP4 203.0.113.9 10.0.0.9 1234 80 \r\n",
    b"PROXY TCP4 203.0.113.9 10.0.0.9 1234 80 1\r\n",
    b"PROXY TCP4  203.0.113.9 10.0.0.9 1234 80\r\n", b"PROXY TCP4 203.0.113.9  10.0.0.9 1 80\r\n",
    b"PROXY TCP4 203.0.113.9 10.0.0.9 1234 80\n", b"PROXY TCP4 203.0.113.9 10.0.0.9 1234 80\r\r\n",
    b"PROXY TCP4 203.0.113.9 10.0.0.9 1234 80\n\r\n",
    b"PROXY TCP4 203.0.113.9\r\n10.0.0.9 1234 80\r\n",
    b"PROXY TCP4 203.0.113 10.0.0.9 1234 80\r\n", b"PROXY TCP4 203.0.113.256 10.0.0.9 1 80\r\n",
    b"PROXY TCP4 203.0.113.9 10.0.0 1234 80\r\n", b"PROXY TCP4 203.0.113.09 10.0.0.9 1 80\r\n",
    b"PROXY TCP4 2001:db8::9 fd00::1 1234 80\r\n", b"PROXY TCP6 203.0.113.9 10.0.0.9 1234 80\r\n",
    b"PROXY TCP6 2001:db8::9 10.0.0.9 1234 80\r\n", b"PROXY TCP6 [::1] [::1] 1234 80\r\n",
    b"PROXY TCP6 2001:db8:::9 fd00::1 1234 80\r\n", b"PROXY TCP6 ::1%eth0 fd00::1 1234 80\r\n",
    b"PROXY TCP4 203.0.113.9 ::1 1234 80\r\n",
    b"PROXY TCP4 203.0.113.9\0 10.0.0.9 1234 80\r\n",
    b"PROXY TCP4 203.0.113.9 10.0.0.9 01234 80\r\n", b"PROXY TCP4 203.0.113.9 10.0.0.9 00 80\r\n",
    b"PROXY TCP4 203.0.113.9 10.0.0.9 65536 80\r\n", b"PROXY TCP4 203.0.113.9 10.0.0.9 1 65536\r\n",
    b"PROXY TCP4 203.0.113.9 10.0.0.9 1 080\r\n", b"PROXY TCP4 203.0.113.9 10.0.0.9 -1 80\r\n",
    b"PROXY TCP4 203.0.113.9 10.0.0.9 +1 80\r\n", b"PROXY TCP4 203.0.113.9 10.0.0.9 ff 80\r\n",
    b"PROXY TCP4 203.0.113.9 10.0.0.9 \xb2 80\r\n", b"PROXY TCP4 203.0.113.9 10.0.0.9  \r\n",
    b"PROXY TCP4 localhost localhost 1 80\r\n",
    b"PROXY UNKNOWN a\nb\r\n", b"PROXY UNKNOWN a\rb\r\n", b"PROXY UNKNOWN \0\r\n",
    b"PROXY UNKNOWN %b\r\n" % (b"f" * 92),
    b"PROXY TCP4 %b\r\n" % (b"1" * 200),
    b"PROXY UNKNOWN " + b"f" * 200,
    # version 2
    SIGNATURE[:-1] + b"\r\x21\x11\0\0", SIGNATURE.lower() + b"\x21\x11\0\0",
    v2(0x11, inet("203.0.113.9", "10.0.0.9"), command=0x11),
    v2(0x11, inet("203.0.113.9", "10.0.0.9"), command=0x31),
    v2(0x11, inet("203.0.113.9", "10.0.0.9"), command=0x22),
    v2(0x11, inet("203.0.113.9", "10.0.0.9"), command=0x2f),
    v2(0x11, inet("203.0.113.9", "10.0.0.9"), command=0x01),
    v2(0x12, inet("203.0.113.9", "10.0.0.9")), v2(0x22, inet("2001:db8::9", "fd00::1")),
    v2(0x32, UNIX), v2(0x02), v2(0x10, inet("203.0.113.9", "10.0.0.9")),
    v2(0x13, inet("203.0.113.9", "10.0.0.9")), v2(0x41, UNIX), v2(0xf1, UNIX), v2(0xff),
    v2(0x11), v2(0x11, inet("203.0.113.9", "10.0.0.9")[:-1]),
    v2(0x21, inet("203.0.113.9", "10.0.0.9")), v2(0x21, inet("2001:db8::9", "fd00::1")[:-1]),
    v2(0x31, UNIX[:-1]), v2(0x31, b"/source"),
    v2(0x11, inet("203.0.113.9", "10.0.0.9"), tail=b"\0" * 4069),
    v2(0x00, b"\0" * 4081), v2(0x11, length=65535), v2(0x00, command=0x20, length=65535),
]


@pytest.fixture
def proxied(wire, recorder):
    """`proxied(version)` is a wire whose peer is trusted and must send a preamble."""
    def make(version="auto", peer=PROXY, application=recorder, **settings):
        connection = wire(application, **{"forwarded_allow_ips": ("10.0.0.0/8",),
                                          "proxy_protocol": version, **settings})
        connection.connect(*peer)
        return connection
    return make


def client_of(environ):
    return environ["REMOTE_ADDR"], environ["REMOTE_PORT"]


def refused(connection, recorder, sent):
    """Is `sent` one 400, the connection at its end and nothing executed?"""
    (answer,) = answers(sent)
    assert answer.status == 400
    assert answer.header("connection") == "close"
    assert connection.closed
    assert recorder.environs == []
    assert connection.logged(logging.WARNING) == []
    return True


def is_v1(raw):
    return raw[:1] == b"P"


# -- valid ---------------------------------------------------------------------------------

@pytest.mark.parametrize("raw", VALID)
def test_valid(proxied, recorder, raw):
    for version in ("auto", "v1" if is_v1(raw) else "v2"):
        connection = proxied(version)
        connection.ask(raw + request("GET", "/1") + request("GET", "/2"))
        assert connection.usable
    assert [client_of(e) for e in recorder.environs] == [VALID[raw]] * 6


@pytest.mark.parametrize("raw", [V1, V1_SIX, V2, V2_SIX, b"PROXY UNKNOWN\r\n", v2(0x31, UNIX),
                                 v2(0x00, command=0x20)])
def test_every_cut(proxied, recorder, raw):
    for at in range(1, len(raw) + 1):
        connection = proxied()
        assert connection.feed(raw[:at]) == b""
        assert not connection.closed
        connection.one(raw[at:] + request())
        assert client_of(recorder.environs.pop()) == VALID[raw]


@pytest.mark.parametrize("raw", VALID)
def test_byte_by_byte(proxied, recorder, raw):
    connection = proxied()
    data = raw + request()
    sent = [connection.feed(data[i:i + 1]) for i in range(len(data))]
    assert not any(sent[:-1])
    (answer,) = answers(sent[-1])
    assert answer.status == 200
    assert client_of(recorder.environ) == VALID[raw]


def test_once_for_each_connection(proxied, recorder):
    connection = proxied()
    for _ in range(2):
        connection.one(V1 + request())
        assert connection.one(request("POST", "/", body=b"PROXY")).status == 200
        assert connection.one(V1 + request()).status == 400
        assert connection.closed
        connection.connect(*PROXY)
    assert [client_of(e) for e in recorder.environs] == [("203.0.113.9", "1234")] * 4
    assert recorder.bodies == [b"", b"PROXY"] * 2


def test_empty_lines_may_follow(proxied, recorder):
    assert proxied().one(V2 + b"\r\n\r\n" + request()).status == 200


@pytest.mark.parametrize("behind, status", [
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"\x16\x03\x01", 400),
    (V2, 400),
    (b"GET / HTTP/3.0\r\n\r\n", 505),
])
def test_a_bad_request_behind_it(proxied, recorder, behind, status):
    connection = proxied()
    assert connection.one(V1 + behind).status == status
    assert connection.closed
    assert recorder.environs == []


# -- invalid -------------------------------------------------------------------------------

@pytest.mark.parametrize("raw", INVALID)
def test_invalid(proxied, recorder, raw):
    for version in ("v1", "v2", "auto"):
        connection = proxied(version)
        assert refused(connection, recorder, connection.feed(raw + request()))


@pytest.mark.parametrize("raw", INVALID)
def test_invalid_byte_by_byte(proxied, recorder, raw):
    connection = proxied()
    sent = b""
    for i in range(len(raw)):
        sent += connection.feed(raw[i:i + 1])
        if connection.closed:
            break
    sent += connection.feed(request())
    assert refused(connection, recorder, sent)


@pytest.mark.parametrize("raw, seen", [
    (b"GET / HTTP/1.1\r\n", 1),
    (b"\x16\x03\x01", 1),
    (b"POST / HTTP/1.1\r\n", 2),
    (b"PROPFIND / HTTP/1.1\r\n", 4),
    (b"PROXY TCP5 ", 10),
    (b"PROXY TCP4 203.0.113.9\n", 23),
    (b"PROXY TCP4 localhost", 12),
    (b"PROXY TCP4 203.0.113.9 10.0.0.9 1234 80\r\r", 41),
    (b"PROXY UNKNOWN" + b" " * 200, 106),
    (b"\r\n\r\n\0\r\nQUIT\r", 12),
    (b"\r\nGET", 3),
    (SIGNATURE + b"\x22", 13),
    (SIGNATURE + b"\x21\x12", 14),
    (SIGNATURE + b"\x21\x11\x10", 15),
    (SIGNATURE + b"\x20\x00\x10", 15),
    (SIGNATURE + b"\x21\x11\x00\x0b", 16),
    (SIGNATURE + b"\x21\x11\x0f\xf1", 16),
])
def test_refused_as_soon_as_it_is_hopeless(proxied, recorder, raw, seen):
    connection = proxied()
    assert connection.feed(raw[:seen - 1]) == b""
    assert refused(connection, recorder, connection.feed(raw[seen - 1:seen]))


def test_only_the_version_that_is_set(proxied, recorder):
    for version, raw in [("v1", V2), ("v2", V1), ("v2", b"P"), ("v1", b"\r")]:
        connection = proxied(version)
        assert refused(connection, recorder, connection.feed(raw))


@pytest.mark.parametrize("raw", [V1, V2])
def test_the_client_leaves_within_it(proxied, recorder, raw):
    for at in range(1, len(raw)):
        connection = proxied()
        assert connection.feed(raw[:at]) == b""
        assert refused(connection, recorder, connection.connection.eof())


@pytest.mark.parametrize("raw", [b"", V1, V2, V1_SIX])
def test_the_client_leaves_before_or_behind_it(proxied, recorder, raw):
    """As who connects and says nothing."""
    connection = proxied()
    assert connection.feed(raw) == b""
    assert connection.connection.eof() == b""
    assert connection.closed
    assert connection.log == []
    assert recorder.environs == []


# -- from whom -----------------------------------------------------------------------------

@pytest.mark.parametrize("peer", ["11.0.0.1", "::1", ""])
@pytest.mark.parametrize("raw", [V1, V2])
def test_others_send_none(proxied, recorder, peer, raw):
    connection = proxied(peer=(peer, 7))
    assert connection.one(request()).status == 200
    assert connection.one(raw + request()).status == 400
    connection.connect(peer, 7)
    assert connection.one(raw + request()).status == 400
    assert client_of(recorder.environ) == (peer, "7" if peer else "")


@pytest.mark.parametrize("raw", [V1, V2])
def test_off(proxied, recorder, raw):
    connection = proxied("off")
    assert connection.one(request()).status == 200
    assert connection.one(raw + request()).status == 400
    assert client_of(recorder.environ) == ITSELF


@pytest.mark.parametrize("trusted, peer", [
    (("unix",), ""), (("*",), "192.0.2.1"), (("*",), ""), (("fd00::/8",), "fd00::7"),
    (("10.0.0.0/8",), "::ffff:10.0.0.1"),
])
def test_from_any_kind_of_peer(proxied, recorder, trusted, peer):
    connection = proxied(peer=(peer, 7), forwarded_allow_ips=trusted)
    connection.one(V1 + request())
    assert client_of(recorder.environ) == ("203.0.113.9", "1234")


# -- what it changes -----------------------------------------------------------------------

@pytest.mark.parametrize("source, believed", [("203.0.113.9", False), ("10.0.0.2", True)])
def test_whether_forwarded_fields_are_believed(proxied, recorder, source, believed):
    """The source counts, not who has sent the preamble."""
    for raw in (b"PROXY TCP4 %b 10.0.0.9 1234 80\r\n" % source.encode(),
                v2(0x11, inet(source, "10.0.0.9"))):
        proxied().one(raw + request("GET", "/", "X-Forwarded-For: 198.51.100.1"))
        environ = recorder.environs.pop()
        assert environ["REMOTE_ADDR"] == ("198.51.100.1" if believed else source)
        assert ("HTTP_X_FORWARDED_FOR" in environ) == believed


@pytest.mark.parametrize("raw", [b"PROXY UNKNOWN\r\n", v2(0x00, command=0x20), v2(0x00)])
def test_without_a_source_the_peer_stays_trusted(proxied, recorder, raw):
    proxied().one(raw + request("GET", "/", "X-Forwarded-For: 198.51.100.1"))
    assert recorder.environ["REMOTE_ADDR"] == "198.51.100.1"


@pytest.mark.parametrize("trusted, believed", [(("10.0.0.0/8",), False),
                                               (("10.0.0.0/8", "unix"), True)])
def test_a_unix_source(proxied, recorder, trusted, believed):
    proxied(forwarded_allow_ips=trusted).one(
        v2(0x31, UNIX) + request("GET", "/", "X-Forwarded-For: 198.51.100.1"))
    assert recorder.environ["REMOTE_ADDR"] == ("198.51.100.1" if believed else "")


def test_access_log(proxied, recorder):
    with tempfile.TemporaryFile() as file:
        connection = proxied(access_log_fd=file.fileno())
        for raw in (V1 + request(), V2_SIX + request(), b"PROXY UNKNOWN\r\n" + request(),
                    V1 + b"GET /\r\n\r\n", b"PROXY TCP4 "):
            connection.feed(raw)
            connection.connection.eof()
            connection.connect(*PROXY)
        connection.worker.flush_access_log()
        file.seek(0)
        lines = [re.match(rb'(\S+) - - \[[^]]*\] "[^"]*" (\d+) ', line) for line in file]
    assert [line.groups() for line in lines] == [
        (b"203.0.113.9", b"200"), (b"2001:db8::9", b"200"), (b"10.0.0.1", b"200"),
        (b"203.0.113.9", b"400"), (b"10.0.0.1", b"400")]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_comes(proxied, seed):
    """Mutated preambles before a request: it is answered, or there is one 400, or more bytes are
    waited for; and the application sees an address."""
    seeded = random.Random(seed)
    app = Recorder()
    connection = proxied(application=app)
    seeds = [*VALID, *INVALID]
    for _ in range(600):
        connection.connect(*PROXY)
        app.environs.clear()
        raw = bytearray(seeded.choice(seeds)[:300])
        for _ in range(seeded.randrange(4)):
            at = seeded.randrange(len(raw) + 1)
            what = seeded.randrange(3)
            if what == 0:
                raw[at:at + 1] = seeded.randbytes(1)
            elif what == 1:
                del raw[at:at + seeded.randrange(1, 5)]
            else:
                raw[at:at] = seeded.choice([b" ", b"\r\n", b"\0", b"1", b".", b":", b"f" * 50])
        raw += request()
        sent, at = b"", 0
        while at < len(raw):
            step = seeded.choice([1, 10, 1000])
            sent += connection.feed(bytes(raw[at:at + step]))
            at += step
        sent += connection.connection.eof()
        found = answers(sent)
        assert len(found) == 1 or not app.environs, raw
        assert all(answer.status in (200, 400, 501, 505) for answer in found), raw
        assert len(app.environs) == [answer.status for answer in found].count(200), raw
        for environ in app.environs:
            assert environ["REMOTE_ADDR"] == "" or ipaddress.ip_address(environ["REMOTE_ADDR"])
    assert connection.logged(logging.WARNING) == []
