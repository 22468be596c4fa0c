"""Clients that mean harm: slow ones, silent ones, floods.

In every test others are served all the while, and afterwards nothing is left of the attack: see
`Attack`.  Where a timeout has to end it, that one is short; in all other tests timeouts never come,
so that what ends an attack is not the clock.
"""

import contextlib
import json
import re
import socket
import threading

import pytest
from harness import PATIENCE, Client, wait_for
from tools import (
    MIB,
    PATIENT,
    SHORT,
    Settled,
    client_is_open,
    content,
    get,
    post,
    quiet_for,
    slow_client,
    status_kib,
    vanish,
    wake,
)

BUFFERINGS = pytest.mark.parametrize("flags", [[], ["--request-buffering=stream"]],
                                     ids=["buffered", "streamed"])
SOON = 5.0  # seconds; the server answers within one, the machine may have more to do
CROWD = 1000


class Attack(Settled):
    """A block in which the server is under attack.

    After it a client from before (if it `may_rest` so long) and a new one are answered soon; the
    workers are the same, no descriptor is left, nothing went wrong inside.
    """

    def __init__(self, server, may_rest=True):
        super().__init__(server)
        self.may_rest = may_rest

    def __enter__(self):
        super().__enter__()
        self.live = self.server.connect(SOON)
        assert self.live.get("/").body == b"hello"
        self.errors = self.server.stderr.count("ERROR")
        self.before = status_kib(self.pid, "VmRSS")
        return self

    def answers(self):
        """Whoever was there before is served, and so is who comes now."""
        if self.may_rest:
            assert self.live.get("/").body == b"hello"
        with self.server.connect(SOON) as client:
            assert client.get("/").body == b"hello"

    def connect(self):
        return self.server.connect()

    def crowd(self, raw=b"", count=CROWD):
        """That many clients who have sent `raw`."""
        clients = []
        for _ in range(count):
            clients.append(self.connect())
            clients[-1].send(raw)
        self.answers()
        return clients

    @property
    def growth(self):
        """By how many KiB the worker has grown."""
        return status_kib(self.pid, "VmRSS") - self.before

    def __exit__(self, kind, *exc):
        if kind is None:
            self.answers()
        self.live.close()
        super().__exit__(kind, *exc)
        if kind is None:
            assert self.server.workers() == self.server.ready["workers"]
            assert self.server.stderr.count("ERROR") == self.errors, self.server.stderr


@pytest.fixture
def attack(module_server):
    """An attack on a server whose timeouts never come."""
    with Attack(module_server) as attack:
        yield attack


@pytest.fixture
def attack_on(servers):
    """`with attack_on(kind, *flags)` is one on a server of which only that timeout is short."""
    return lambda kind, *flags: Attack(servers(kind, *flags), may_rest=kind != "keep")


def drip(client, *drops, every=0.03):
    """Send one of `drops` every now and then until the server says something or closes."""
    for drop in drops * 300:
        if not quiet_for(client, every):
            return
        client.send(drop)
    raise AssertionError("after 300 drops the server still waits for more")


def is_refused(client, *statuses):
    """Refused with one of these, and nothing else is said."""
    answer = client.read_response()
    assert answer.status in statuses, answer
    assert answer.header("connection") == "close"
    assert answer.complete
    return client.at_eof()


def assert_408_or_silence(raw):
    assert raw == b"" or raw.startswith(b"HTTP/1.1 408 "), raw


def flood(client, data):
    """Send all of it from a thread, as far as the server takes it."""
    def send():
        with contextlib.suppress(OSError):  # refused meanwhile
            client.send(data)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


def ends(thread):
    thread.join(PATIENCE)
    return not thread.is_alive()


# -- slow heads -----------------------------------------------------------------------------

HEADS = {
    "in the method": (b"G", b"E"),
    "in the target": (b"GET /", b"a"),
    "in a name": (b"GET / HTTP/1.1\r\nHost: x\r\nA", b"a"),
    "in a value": (b"GET / HTTP/1.1\r\nHost: x\r\nA: ", b"a"),
    "blanks before a value": (b"GET / HTTP/1.1\r\nHost: x\r\nA:", b" "),
    "a field at a time": (b"GET / HTTP/1.1\r\nHost: x\r\n", b"A: b\r\n"),
    "a line end at a time": (b"GET / HTTP/1.1\r\nHost: x\r\nA: b", b"\r\nA: b"),
    "with an announced body": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nA: ", b"a"),
}


@pytest.mark.parametrize("begun, drop", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("requests", [0, 1], ids=["at once", "after a request"])
def test_head_that_drips(attack_on, begun, drop, requests):
    """A byte now and then does not extend the deadline of the whole head."""
    with attack_on("head") as attack, attack.connect() as client:
        for _ in range(requests):
            assert client.get("/").body == b"hello"
        client.send(begun)
        drip(client, drop)
        assert is_refused(client, 408)


@pytest.mark.parametrize("drops", [[b"\r\n"], [b"\r", b"\n"], [b"\r", b"\n\r", b"\n"]])
@pytest.mark.parametrize("requests", [0, 1], ids=["at once", "after a request"])
def test_empty_lines_that_drip(servers, drops, requests):
    """RFC 9112, 2.2: some may come before a request.  They win no time: it is over long before
    they are too many."""
    server = servers("head", f"--keep-alive={SHORT}")
    with Attack(server, may_rest=False) as attack, attack.connect() as client:
        for _ in range(requests):
            assert client.get("/").body == b"hello"
        drip(client, *drops, every=0.1)
        assert_408_or_silence(client.read_all())


PREAMBLES = {
    "version 1": (b"PROXY UNKNOWN ", b"a"),
    "version 2": (b"\r\n\r\n\0\r\nQUIT\n\x20\0\x0f\xf0", b"\0"),
    "a head behind it": (b"PROXY UNKNOWN\r\nG", b"E"),
}


@pytest.mark.parametrize("begun, drop", PREAMBLES.values(), ids=PREAMBLES)
def test_preamble_that_drips(attack_on, begun, drop):
    """What a proxy says first has to come within the head's time as well."""
    proxy = "127.0.0.2"
    with attack_on("head", "--proxy-protocol=auto", f"--forwarded-allow-ips={proxy}") as attack:
        address = attack.server.address
        with Client(socket.create_connection(address, PATIENCE, (proxy, 0))) as client:
            client.send(begun)
            drip(client, drop)
            assert is_refused(client, 408)


def test_crowd_with_half_a_head_is_dismissed(attack_on):
    with attack_on("head") as attack:
        for client in attack.crowd(b"GET / HTTP/1.1\r\nHost: x\r\nA: "):
            assert is_refused(client, 408)
            client.close()


def test_crowd_that_says_nothing_is_dismissed(attack_on):
    """Without a word: a browser that connects ahead gets no 408 it has not asked for."""
    with attack_on("head") as attack:
        for client in attack.crowd():
            assert client.read_all() == b""
            client.close()


def test_crowd_that_rests_is_dismissed(attack_on):
    with attack_on("keep") as attack:
        for client in attack.crowd(get("/")):
            assert client.read_response().body == b"hello"
            assert client.read_all() == b""
            client.close()


def test_full_house_of_silent_clients_empties(begin):
    """Those in the backlog get in when the silent ones have had their time."""
    server = begin("--max-connections=20", *PATIENT, "--head-timeout=300ms")
    silent = [server.connect() for _ in range(100)]
    assert server.get("/").body == b"hello"
    for client in silent:
        assert client.read_all() == b""
        client.close()


# -- slow bodies ----------------------------------------------------------------------------

CHUNKED = "Transfer-Encoding: chunked"
BODIES = {
    "of known length": (post("/upload", b"", "Content-Length: 100000"), b"x"),
    "in one chunk": (post("/upload", b"186a0\r\n", CHUNKED), b"x"),
    "in chunks": (post("/upload", b"", CHUNKED), b"1\r\nx\r\n"),
    "in a chunk size": (post("/upload", b"", CHUNKED), b"0"),
    "in a chunk extension": (post("/upload", b"1;", CHUNKED), b"x"),
    "in a trailer": (post("/upload", b"1\r\nx\r\n0\r\nA: ", CHUNKED), b"x"),
    "in trailers": (post("/upload", b"1\r\nx\r\n0\r\n", CHUNKED), b"A: b\r\n"),
    "after 100 Continue": (
        post("/upload", b"", "Content-Length: 100000", "Expect: 100-continue"), b"x"),
}


@BUFFERINGS
@pytest.mark.parametrize("begun, drop", BODIES.values(), ids=BODIES)
def test_body_that_drips(attack_on, begun, drop, flags):
    """Something comes all the time, but below --body-min-rate."""
    with attack_on("body", *flags) as attack, attack.connect() as client:
        client.send(begun)
        if b"Expect" in begun:
            assert client.read_line() == b"HTTP/1.1 100 Continue"
            assert client.read_line() == b""
        drip(client, drop)
        assert is_refused(client, 408)


@BUFFERINGS
def test_crowd_with_half_a_body_is_dismissed(attack_on, flags):
    with attack_on("body", *flags) as attack:
        for client in attack.crowd(post("/upload", b"12345678")[:-4]):
            assert is_refused(client, 408)
            client.close()


@BUFFERINGS
def test_half_a_body_beside_live_clients(begin, flags):
    """Where handlers read the bodies themselves they are many, but not as many as clients: those
    who send nothing must not be able to keep all of them waiting."""
    with Attack(begin(*PATIENT, *flags)) as attack:
        clients = attack.crowd(post("/upload", b"12345678")[:-4])
        for _ in range(20):
            attack.answers()
        for client in clients[::100]:
            client.send(b"5678")
            assert json.loads(client.read_response().body)["length"] == 8
        for number, client in enumerate(clients):
            vanish(client) if number % 2 else client.close()


def test_announced_bodies_cost_nothing_until_they_come(attack):
    """Memory for a body is used as its bytes come in, not because a client says how many."""
    clients = attack.crowd(post("/upload", b"x", f"Content-Length: {MIB}"))
    assert attack.growth < 24 * 1024
    for client in clients:
        client.close()


def test_uploads_that_take_all_the_room(begin):
    """--max-spool is the bound of all of them together: the next is told to come back, whoever is
    in goes on, and when they have left there is room again."""
    raw = post("/upload", bytes(100_000))
    with Attack(begin("--body-memory=1KiB", "--max-spool=1MiB", *PATIENT)) as attack:
        clients = attack.crowd(raw[:-1], 10)
        with attack.connect() as client:
            client.send(raw)
            assert is_refused(client, 503)
        attack.errors += 1  # the operator is told
        clients[0].send(raw[-1:])
        assert json.loads(clients[0].read_response().body)["length"] == 100_000
        for client in clients:
            vanish(client)
        attack.answers()
        with attack.connect() as client:
            assert json.loads(client.request(raw).body)["length"] == 100_000


# -- crowds ---------------------------------------------------------------------------------

def test_a_thousand_silent_connections_beside_live_ones(attack):
    """Trap: 1,000 idle connections that keep everyone else out."""
    silent = attack.crowd()
    resting = attack.crowd(get("/"))
    for client in resting:
        assert client.read_response().body == b"hello"
    for _ in range(20):
        attack.answers()
    for client in (silent[0], silent[-1], resting[0], resting[-1]):
        assert client.get("/").body == b"hello"
    for client in silent + resting:
        client.close()


def test_a_thousand_half_sent_requests_beside_live_ones(attack):
    """Trap: 100 half-open connections that keep everyone else out."""
    halves = [b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nA: ",
              post("/upload", b"abc", "Content-Length: 100000"),
              post("/upload", b"5\r\na", CHUNKED)]
    clients = [client for half in halves for client in attack.crowd(half, CROWD // len(halves))]
    for _ in range(20):
        attack.answers()
    clients[0].send(get("/")[1:])
    assert clients[0].read_response().body == b"hello"
    for client in clients:
        client.close()


# -- floods of connections ------------------------------------------------------------------

TLS_HELLO = bytes.fromhex(
    "16030100a5010000a10303000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20e0e1"
    "e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff0008130213031301") + bytes(100)


@pytest.mark.parametrize("leave", [vanish, socket.socket.close], ids=["reset", "close"])
def test_clients_that_connect_and_go(attack, leave):
    """2,000, one after the other: with nothing, a request or half of one."""
    for number in range(2000):
        client = attack.connect()
        client.send([b"", get("/"), b"GET / HT", post("/upload", b"ab")[:-1]][number % 4])
        vanish(client) if leave is vanish else client.close()
        if number % 500 == 0:
            attack.answers()


def test_clients_that_close_their_sending_side_and_stay(attack):
    """Who has not asked for anything by then never will."""
    for raw in (b"", b"GET / HT", get("/"), post("/upload", b"ab")[:-1]):
        clients = attack.crowd(raw, 200)
        for client in clients:
            client.sock.shutdown(socket.SHUT_WR)
        for client in clients:
            said = client.read_all()
            assert (said == b"" if not raw else said.startswith(
                b"HTTP/1.1 200 " if raw == get("/") else b"HTTP/1.1 400 ")), said
            client.close()


def test_tls_hellos_on_the_plain_port(attack):
    clients = attack.crowd(TLS_HELLO, 200)
    for client in clients:
        assert is_refused(client, 400)
        client.close()


def test_refused_clients_that_never_close(attack_on):
    """Lingering has an end, also for a thousand."""
    with attack_on("linger") as attack:
        clients = attack.crowd(b"\0")
        for client in clients:
            assert client.read_response().status == 400
        wait_for(lambda: not any(client_is_open(attack.server, c) for c in clients[::100]))
        for client in clients:
            client.close()


def test_refused_clients_that_never_stop_sending(attack_on):
    with attack_on("linger") as attack:
        clients = attack.crowd(b"\0", 10)
        data = bytes(100 * MIB)
        senders = [flood(client, data) for client in clients]
        assert all(ends(sender) for sender in senders)
        for client in clients:
            client.close()


# -- floods of requests ---------------------------------------------------------------------

@pytest.mark.parametrize("count", [1, 10])
def test_ten_thousand_requests_in_one_go(attack, count):
    """Trap 1: pipelining.  Nothing of them is lost, and others have their turn meanwhile."""
    clients = [attack.connect() for _ in range(count)]
    senders = [flood(client, get("/") * (10_000 // count)) for client in clients]
    attack.answers()
    for client, sender in zip(clients, senders, strict=True):
        for _ in range(10_000 // count):
            assert client.read_response().body == b"hello"
        assert ends(sender)
        client.close()


def test_ten_thousand_requests_of_a_client_that_reads_nothing(attack):
    client = slow_client(attack.server)
    sender = flood(client, get("/whole?n=10000") * 10_000)
    for _ in range(20):
        attack.answers()
    assert attack.growth < 8 * 1024
    vanish(client)
    assert ends(sender)


def test_client_that_only_sends(attack):
    """Requests without end of a client that reads nothing: at some point nobody takes them."""
    request = get("/whole?n=30000", "X-Padding: " + "x" * 2000) * 20
    client = slow_client(attack.server)
    client.sock.setblocking(False)
    sent, idle = 0, 0
    while idle < 5:
        try:
            sent += client.sock.send(request[sent % len(request):])
            idle = 0
        except BlockingIOError:
            idle += 1
        assert sent < 40 * MIB
        attack.answers()  # the server has had its turn
    assert attack.growth < 8 * 1024
    client.close()


def test_ten_thousand_bad_requests_behind_a_bad_one(attack):
    """One answer; the others are not even looked at."""
    with attack.connect() as client:
        sender = flood(client, b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n" * 10_000)
        assert is_refused(client, 400)
    assert ends(sender)


# -- floods of fields -----------------------------------------------------------------------

def head(*lines, line="GET / HTTP/1.1"):
    return "\r\n".join([line, "Host: x", *lines, "", ""]).encode()


FLOODS = {
    "ten thousand fields": (head(*(f"A{n}: b" for n in range(10_000))), 431),
    "a field ten thousand times": (head(*["A: b"] * 10_000), 431),
    "cookies": (head(*["Cookie: a=b"] * 10_000), 431),
    "Connection options": (head(*["Connection: keep-alive"] * 10_000), 431),
    "one option after the other": (head("Connection: " + "a," * 500_000), 431),
    "a value of a megabyte": (head("A: " + "b" * MIB), 431),
    "a name of a megabyte": (head("A" * MIB + ": b"), 431),
    "blanks": (head("A:" + " " * MIB + "b"), 431),
    "a target of a megabyte": (head(line=f"GET /{'a' * MIB} HTTP/1.1"), 414),
    "a method of a megabyte": (head(line=f"{'A' * MIB} / HTTP/1.1"), 414),
    "a version of a megabyte": (head(line=f"GET / HTTP/1.{'1' * MIB}"), 414),
    "a number of a megabyte": (head("Content-Length: " + "1" * MIB), 431),
    "empty lines": (b"\r\n" * 500_000, 400),
    "line ends without return": (b"\n" * MIB, 400),
    "a chunk size of zeros": (post("/upload", b"0" * MIB, CHUNKED), 400),
    "a chunk extension of a megabyte": (post("/upload", b"1;" + b"a" * MIB, CHUNKED), 400),
    "blanks behind a chunk size": (post("/upload", b"1" + b" " * MIB, CHUNKED), 400),
    "a chunk extension with every chunk": (
        post("/upload", (b"1;a=" + b"b" * 1000 + b"\r\nx\r\n") * 10_000, CHUNKED), 400),
    "a small extension with every chunk": (
        post("/upload", b"1;a=bbbbbbbbbbbbbbbbbbbb\r\nx\r\n" * 100_000, CHUNKED), 400),
    "a trailer of a megabyte": (post("/upload", b"0\r\nA: " + b"b" * MIB, CHUNKED), 431),
    "a hundred thousand trailers": (
        post("/upload", b"0\r\n" + b"A: b\r\n" * 100_000, CHUNKED), 431),
}


@pytest.mark.parametrize("raw, status", FLOODS.values(), ids=FLOODS)
def test_flood(attack, raw, status):
    """Refused where the limit is, not at the end of it; the answer arrives all the same."""
    with attack.connect() as client:
        sender = flood(client, raw)
        assert is_refused(client, status)
        assert attack.growth < 4 * 1024
    assert ends(sender)


@pytest.mark.parametrize("raw, status", [(head("A: " + "b" * MIB), 431),
                                         (head(line=f"GET /{'a' * MIB} HTTP/1.1"), 414),
                                         (post("/upload", b"1;" + b"a" * MIB, CHUNKED), 400),
                                         (post("/upload", b"0\r\nA: " + b"b" * MIB, CHUNKED), 431)])
def test_megabyte_line_by_drip(attack, raw, status):
    """It costs no more than its limit, however long it goes on."""
    with attack.connect() as client:
        for at in range(0, len(raw), 500):
            attack.answers()
            assert attack.growth < 2 * 1024
            if not quiet_for(client, 0):
                break
            client.send(raw[at:at + 500])
        assert is_refused(client, status)


def test_new_names_with_every_request(attack):
    """What is remembered of field names is bounded."""
    def ask(client, names):
        client.send(b"".join(head(*(f"X-{n}-{m}-{'x' * 40}: {n}" for m in range(100)))
                             for n in names))
        for _ in names:
            assert client.read_response().body == b"hello"

    with attack.connect() as client:
        for at in range(0, 1000, 20):
            ask(client, range(at, at + 20))
    assert attack.growth < 10 * 1024


@pytest.mark.parametrize("together", [True, False], ids=["in one go", "one by one"])
def test_ten_thousand_chunks_of_one_byte(attack, together):
    with attack.connect() as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        chunk = b"1\r\na\r\n"
        client.send(post("/upload", b"", CHUNKED))
        for _ in range(1 if together else 10_000):
            client.send(chunk * (10_000 if together else 1))
        client.send(b"0\r\n\r\n")
        assert json.loads(client.read_response().body)["length"] == 10_000


# -- slow readers ---------------------------------------------------------------------------

@pytest.mark.parametrize("kind", ["streamed", "sized", "written", "file", "pipelined"])
def test_memory_is_bounded_under_a_slow_reader_of_50_mib(begin, tmp_path, kind):
    """Trap of WSGI servers: responses buffered without limit."""
    path = tmp_path / "content"
    path.write_bytes(content(50 * MIB))
    with Attack(begin(*PATIENT)) as attack:
        client = slow_client(attack.server)
        if kind == "pipelined":
            client.send(get(f"/whole?n={MIB}") * 50)
        else:
            client.send(get(f"/file?path={path}" if kind == "file" else f"/{kind}?n={50 * MIB}"))
        client.read_head()
        attack.answers()
        if kind in ("streamed", "sized", "written"):
            attack.server.wait_stderr(f"closed /{kind}")
        assert attack.growth < 8 * 1024
        assert status_kib(attack.pid, "VmHWM") - attack.before < 16 * 1024
        client.close()


def test_many_slow_readers(attack):
    """Their spool files do not mix."""
    sizes = [1_000_000 + n * 77_777 for n in range(15)]
    readers = [slow_client(attack.server) for _ in sizes]
    for reader, size in zip(readers, sizes, strict=True):
        reader.send(get(f"/sized?n={size}"))
    attack.answers()
    for reader, size in zip(readers, sizes, strict=True):
        wake(reader)
        assert reader.read_response().body == content(size)
        reader.close()


@pytest.mark.parametrize("target", ["/streamed?n=4000000", "/file?path={}"])
def test_two_hundred_slow_readers_cost_what_each_may(begin, tmp_path, target):
    """--output-memory for each, and what is beyond it on the disk."""
    path = tmp_path / "content"
    path.write_bytes(content(4_000_000))
    with Attack(begin("--output-memory=16KiB", *PATIENT)) as attack:
        readers = [slow_client(attack.server) for _ in range(200)]
        for reader in readers:
            reader.send(get(target.format(path)))
            reader.read_head()
        attack.answers()
        assert attack.growth < 200 * 64
        for number, reader in enumerate(readers):
            vanish(reader) if number % 2 else reader.close()


def test_slow_readers_are_dismissed(attack_on):
    with attack_on("write") as attack:
        readers = [slow_client(attack.server) for _ in range(50)]
        for reader in readers:
            reader.send(get("/sized?n=4000000"))
            reader.read_head()
        wait_for(lambda: not any(client_is_open(attack.server, r) for r in readers))
        for reader in readers:
            assert len(reader.read_all()) < 4_000_000
            reader.close()


# -- HTTP/1.0 -------------------------------------------------------------------------------

KEEP = "Connection: keep-alive"
NEXT = get("/sized?n=1")  # its close() is told on stderr
OLD = {     # what is sent before NEXT, the statuses of the answers to it, is NEXT executed?
    "no keep-alive": (get("/", version="1.0"), [200], False),
    "keep-alive": (get("/", KEEP, version="1.0"), [200], True),
    "keep-alive among others": (
        get("/", "Connection: a, Keep-Alive,b", version="1.0"), [200], True),
    "keep-alive and close": (
        get("/", "Connection: keep-alive, close", version="1.0"), [200], False),
    "close in another line": (get("/", KEEP, "Connection: close", version="1.0"), [200], False),
    "a Keep-Alive field alone": (get("/", "Keep-Alive: timeout=9999", version="1.0"), [200], False),
    "the option of a proxy": (
        get("/", "Proxy-Connection: keep-alive", version="1.0"), [200], False),
    "an answer without length": (get("/streamed?n=3", KEEP, version="1.0"), [200], False),
    "chunked": (get("/", KEEP, CHUNKED, version="1.0", method="POST") + b"0\r\n\r\n", [400], False),
    "chunked and a length": (
        get("/", KEEP, CHUNKED, "Content-Length: 5", version="1.0") + b"0\r\n\r\n", [400], False),
    "a body of known length": (
        get("/", KEEP, "Content-Length: 5", version="1.0", method="POST") + b"GET /", [200], True),
    "without Host": (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", [200], True),
    "an upgrade": (get("/", "Connection: keep-alive, upgrade", "Upgrade: h2c", version="1.0"),
                   [200], True),
    "a hundred times": (get("/", KEEP, version="1.0") * 100, [200] * 100, True),
    "HEAD": (get("/", KEEP, version="1.0", method="HEAD"), [200], True),
    "1.1 first": (get("/") + get("/", version="1.0"), [200, 200], False),
}


@pytest.mark.parametrize("raw, statuses, goes_on", OLD.values(), ids=OLD)
def test_keep_alive_of_http_1_0(attack, raw, statuses, goes_on):
    """RFC 9112, 9.3: it goes on only if the client says so and the answer can be told from the
    next; nothing behind the end is executed."""
    told = attack.server.stderr.count("closed /sized")
    method = "HEAD" if raw.startswith(b"HEAD") else "GET"
    with attack.connect() as client:
        client.send(raw + NEXT)
        for status in statuses:
            answer = client.read_response(method)
            assert (answer.status, answer.complete) == (status, True)
        if goes_on:
            assert client.read_response().body == content(1)
        else:
            assert client.at_eof()
    attack.answers()  # the worker is past all of them
    assert attack.server.stderr.count("closed /sized") - told == goes_on


@pytest.mark.parametrize("field", ["timeout=99999999", "timeout=0, max=0", "max=" + "9" * 1000])
def test_keep_alive_field_changes_nothing(attack_on, field):
    """How long a connection rests is for the server to say."""
    with attack_on("keep") as attack, attack.connect() as client:
        answer = client.request(get("/", KEEP, f"Keep-Alive: {field}", version="1.0"))
        assert re.fullmatch("(?i)keep-alive", answer.header("connection"))
        assert client.read_all() == b""
