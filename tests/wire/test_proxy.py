"""Behind a proxy, over real sockets: forwarded fields and the PROXY protocol."""

import json
import re
import socket
import struct

import pytest
from harness import PATIENCE, Client, wait_for
from tools import PATIENT, Settled, content, get, post

V1 = b"PROXY TCP4 203.0.113.9 192.0.2.1 1234 80\r\n"
V2 = (b"\r\n\r\n\0\r\nQUIT\n\x21\x21" + struct.pack("!H", 36)
      + socket.inet_pton(socket.AF_INET6, "2001:db8::9")
      + socket.inet_pton(socket.AF_INET6, "2001:db8::1") + struct.pack("!HH", 1234, 80))
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
TRUSTED = "--forwarded-allow-ips=127.0.0.1"
FIELDS = ["X-Forwarded-For: 198.51.100.1, 203.0.113.9", "X-Forwarded-Proto: https"]


def unix_client(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PATIENCE)
    sock.connect(str(path))
    return Client(sock)


def environ_of(client, *fields, before=b""):
    return json.loads(client.request(before + get("/environ", *fields)).body)


def seen(environ):
    return environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]


# -- forwarded fields ----------------------------------------------------------------------

def test_nobody_is_trusted_unless_named(begin):
    server = begin()
    for _ in range(3):
        with server.connect() as client:
            environ = environ_of(client, *FIELDS)
            assert seen(environ) == ("127.0.0.1", "http")
            assert not [key for key in environ if "FORWARDED" in key]
    assert server.stop() == 0
    assert server.stderr.count("is not in forwarded_allow_ips") == 1
    assert "127.0.0.1 sent X-Forwarded-For and" in server.stderr


def test_a_trusted_peer(begin):
    server = begin(TRUSTED)
    with server.connect() as client:
        assert seen(environ_of(client, *FIELDS)) == ("203.0.113.9", "https")
        assert seen(environ_of(client)) == ("127.0.0.1", "http")
        assert client.request(get("/environ", 'Forwarded: for="')).status == 400
        assert client.at_eof()
    assert server.stop() == 0
    assert "forwarded_allow_ips" not in server.stderr


def test_only_the_fields_that_are_named(begin):
    server = begin(TRUSTED, "--forwarded-fields=x-forwarded-proto,forwarded")
    with server.connect() as client:
        environ = environ_of(client, *FIELDS)
        assert seen(environ) == ("127.0.0.1", "https")
        assert "HTTP_X_FORWARDED_FOR" not in environ


@pytest.mark.parametrize("trusted, expected", [
    ("unix", ("203.0.113.9", "https")), ("127.0.0.1", ("", "http"))])
def test_unix_peers(begin, tmp_path, trusted, expected):
    begin(f"--forwarded-allow-ips={trusted}", bind=[f"unix:{tmp_path}/socket"])
    with unix_client(tmp_path / "socket") as client:
        assert seen(environ_of(client, *FIELDS)) == expected


def test_ipv4_over_an_ipv6_listener(begin):
    """The peer is ::ffff:127.0.0.1 then."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        begin(TRUSTED, bind=[f"fd://{listener.fileno()}"], pass_fds=[listener.fileno()])
        for host, expected in (("127.0.0.1", ("203.0.113.9", "https")), ("::1", ("::1", "http"))):
            address = (host, listener.getsockname()[1])
            with Client(socket.create_connection(address, PATIENCE)) as client:
                assert seen(environ_of(client, *FIELDS)) == expected
                assert environ_of(client)["REMOTE_ADDR"] == host


# -- the PROXY protocol --------------------------------------------------------------------

@pytest.mark.parametrize("version, preamble, address", [
    ("v1", V1, "203.0.113.9"), ("v2", V2, "2001:db8::9"), ("auto", V1, "203.0.113.9"),
    ("auto", V2, "2001:db8::9"), ("v2", LOCAL, "127.0.0.1"),
])
def test_once_for_each_connection(begin, version, preamble, address):
    server = begin(*PATIENT, TRUSTED, f"--proxy-protocol={version}")
    with Settled(Preambled(server, preamble)):
        for _ in range(2):
            with server.connect() as client:
                client.send(preamble)
                for _ in range(3):
                    assert environ_of(client)["REMOTE_ADDR"] == address
                body = content(3_000_000)
                assert json.loads(client.request(post("/upload", body)).body)["length"] == len(body)
                assert client.request(preamble).status == 400
                assert client.at_eof()


class Preambled:
    """A server whose every connection begins with the preamble."""

    def __init__(self, server, preamble):
        self.server = server
        self.preamble = preamble
        self.ready = server.ready

    def get(self, target):
        with self.server.connect() as client:
            return client.request(self.preamble + get(target))


def test_in_pieces(begin):
    """Each byte in a segment of its own: the server may meet every cut."""
    server = begin(TRUSTED, "--proxy-protocol=auto")
    for preamble in (V1, V2):
        with server.connect() as client:
            client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in preamble + get("/environ"):
                client.send(bytes([byte]))
            assert json.loads(client.read_response().body)["REMOTE_PORT"] == "1234"


@pytest.mark.parametrize("raw", [
    get("/"), b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", V1[:-2] + b"\n" + get("/"),
    V1.replace(b"1234", b"01234") + get("/"), LOCAL[:12] + b"\x31\0\0\0" + get("/"),
    V2.replace(b"\x21\x21", b"\x21\x22") + get("/"),
])
def test_anything_else_is_refused(begin, raw):
    server = begin(*PATIENT, TRUSTED, "--proxy-protocol=auto")
    with server.connect() as client:
        assert client.request(raw).status == 400
        assert client.at_eof()
    assert Preambled(server, V1).get("/").body == b"hello"


def test_others_send_none(begin):
    server = begin("--forwarded-allow-ips=unix,192.0.2.1", "--proxy-protocol=auto")
    with server.connect() as client:
        assert environ_of(client)["REMOTE_ADDR"] == "127.0.0.1"
        assert client.request(V1 + get("/")).status == 400
        assert client.at_eof()


@pytest.mark.parametrize("preamble, address", [(V1, "203.0.113.9"), (LOCAL, "")])
def test_from_a_unix_peer(begin, tmp_path, preamble, address):
    begin("--forwarded-allow-ips=unix", "--proxy-protocol=auto", bind=[f"unix:{tmp_path}/socket"])
    with unix_client(tmp_path / "socket") as client:
        assert environ_of(client, before=preamble)["REMOTE_ADDR"] == address
        assert environ_of(client)["REMOTE_ADDR"] == address


def test_access_log(begin, tmp_path):
    path = tmp_path / "access.log"
    server = begin(TRUSTED, "--proxy-protocol=auto", f"--access-log={path}")
    for raw in (V1 + get("/"), V2 + get("/"), LOCAL + get("/", *FIELDS), get("/")):
        with server.connect() as client:
            client.request(raw)
    wait_for(lambda: path.read_text().count("\n") == 4)
    found = [re.match(r'(\S+) - - \[[^]]+\] "[^"]*" (\d+) ', line).groups()
             for line in path.read_text().splitlines()]
    assert found == [("203.0.113.9", "200"), ("2001:db8::9", "200"), ("203.0.113.9", "200"),
                     ("127.0.0.1", "400")]


@pytest.mark.parametrize("sent, status", [(b"", b""), (V1[:9], b"HTTP/1.1 408 "),
                                          (V2[:20], b"HTTP/1.1 408 "), (V1, b""), (V2, b""),
                                          (V1 + b"GET", b"HTTP/1.1 408 ")])
def test_waiting_for_it_counts_as_waiting_for_the_head(begin, sent, status):
    server = begin(*(f for f in PATIENT if "head" not in f), "--head-timeout=300ms", TRUSTED,
                   "--proxy-protocol=auto")
    with server.connect() as client:
        client.send(sent)
        raw = client.read_all()
        assert raw.startswith(status) if status else raw == b""


@pytest.mark.parametrize("sent", [b"", V1[:9], V1, V2, V1 + get("/")[:20]])
def test_a_client_that_leaves(begin, sent):
    server = begin(*PATIENT, TRUSTED, "--proxy-protocol=auto")
    with Settled(Preambled(server, V1)):
        for _ in range(20):
            with server.connect() as client:
                client.send(sent)


def test_a_drain_ends_with_connections_that_have_only_said_who_they_are(begin):
    server = begin(*PATIENT, TRUSTED, "--proxy-protocol=auto", "--graceful-timeout=1h")
    with server.connect() as whole, server.connect() as late:
        whole.send(V1)
        late.send(V1[:9])
        assert Preambled(server, V1).get("/").body == b"hello"      # they have been read
        server.signal(15)
        assert whole.at_eof()
        late.send(V1[9:] + get("/environ"))
        answer = late.read_response()
        assert json.loads(answer.body)["REMOTE_ADDR"] == "203.0.113.9"
        assert answer.header("connection") == "close"
    assert server.wait() == 0


def test_a_drain_ends_when_the_preamble_comes_late(begin):
    server = begin(*PATIENT, TRUSTED, "--proxy-protocol=auto", "--graceful-timeout=1h")
    with server.connect() as whole, server.connect() as late:
        whole.send(V1)
        late.send(V1[:9])
        assert Preambled(server, V1).get("/").body == b"hello"
        server.signal(15)
        assert whole.at_eof()           # the last call for new connections is over
        late.send(V1[9:])
        assert late.at_eof()
    assert server.wait() == 0
