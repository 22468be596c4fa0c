"""Pieces of a generator that come quickly one after the other leave together; whatever else
happens between them, the client gets all of them, in order, and none late."""

import contextlib
import os
import signal
import socket
import struct
import threading
import time

import pytest
from apps_pieces import piece
from harness import Server, wait_for
from tools import HERE, MIB, PATIENT, Settled, get, quiet_for, slow_client, vanish, wake, worker_of

WARM = 110  # requests that let the worker believe that its handlers are quick
VERSIONS = ("1.1", "1.0")
# Handlers that wait for their clients do so while others run.
TIGHT = ["--greenlets=10", "--output-memory=1KiB", "--output-spool=0"]


def begin_site(*flags, **options):
    return Server("apps_pieces:app", *PATIENT, *flags, cwd=HERE, **options)


def warm(server):
    """From now on there is somebody who sends what waits."""
    with server.connect() as client:
        for _ in range(WARM):
            client.send(get("/") * 2)
            assert client.read_response().body == client.read_response().body == b"hello"


@pytest.fixture(scope="module")
def module_site():
    with begin_site("--greenlets=20") as server:
        warm(server)
        yield server


@pytest.fixture
def site(module_site):
    with Settled(module_site):
        yield module_site


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def whole(count, size):
    return b"".join(piece(number, size) for number in range(count))


def segments(client):
    """Segments with data that have come (tcpi_data_segs_in)."""
    told = client.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return struct.unpack_from("I", told, 152)[0]


def ask(client, target, version="1.1"):
    client.send(get(target, *(["Connection: close"] if version == "1.0" else []),
                    version=version))


def together(server):
    """Did pieces leave together?  Not if the machine has kept the generator from being quick."""
    with server.connect() as client:
        ask(client, "/quick?count=30&size=100")
        assert client.read_response().body == whole(30, 100)
        return segments(client) < 15


# -- together ------------------------------------------------------------------------------
def test_quick_pieces_leave_together(site):
    wait_for(lambda: together(site))


def test_not_without_a_delay():
    with begin_site("--send-delay=0") as server:
        warm(server)
        with server.connect() as client:
            ask(client, "/quick?count=30&size=100")
            assert client.read_response().body == whole(30, 100)
            assert segments(client) > 15


@pytest.mark.parametrize("way", ["quick", "writes", "empty", "forks", "waits"])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("count, size", [(1, 10), (2, 10), (33, 7), (200, 100), (40, 65536),
                                         (7, 300_000), (3, MIB)])  # fmt: skip
@pytest.mark.parametrize("told", [False, True], ids=["chunked", "length"])
def test_all_of_them_in_order(site, way, version, count, size, told):
    body = whole(count, size)
    length = f"&length={len(body)}" if told else ""
    with site.connect() as client:
        ask(client, f"/{way}?count={count}&size={size}&ms=1{length}", version)
        found = client.read_response()
        assert found.complete and found.body == body
        if version == "1.1":
            assert client.get("/").body == b"hello"


def test_many_at_the_same_time(site):
    """Handlers that take turns between their pieces do not mix them up."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(site.connect()) for _ in range(15)]
        for number, client in enumerate(clients):
            ask(client, f"/waits?count={20 + number}&size={100 + number}&ms=2")
        for number, client in enumerate(clients):
            assert client.read_response().body == whole(20 + number, 100 + number)


def test_pipelined(site):
    targets = [f"/{way}?count={count}&size=50" for count in (1, 5, 40)
               for way in ("quick", "empty", "writes")]
    with site.connect() as client:
        client.send(b"".join(get("/") + get(target) for target in targets))
        for target in targets:
            assert client.read_response().body == b"hello"
            count = int(target.partition("count=")[2].partition("&")[0])
            assert client.read_response().body == whole(count, 50)


def test_more_than_was_promised_is_cut(site):
    with site.connect() as client:
        ask(client, "/quick?count=20&size=100&length=1234")
        assert client.read_response().body == whole(20, 100)[:1234]
        assert client.get("/").body == b"hello"


def test_less_than_was_promised_ends_the_connection(site):
    with site.connect() as client:
        ask(client, "/quick?count=20&size=100&length=5000")
        found = client.read_response()
        assert not found.complete and found.body == whole(20, 100)


def test_head(site):
    with site.connect() as client:
        client.send(get("/quick?count=20&size=100", method="HEAD") + get("/"))
        assert client.read_response("HEAD").body == b""
        assert client.read_response().body == b"hello"


# -- not late ------------------------------------------------------------------------------
def test_what_trickles_comes_as_it_is_yielded(site):
    with site.connect() as client:
        begun = time.monotonic()
        ask(client, "/trickles?count=60&size=10&ms=50")
        client.read_head()
        assert client.read_line() == b"a" and client.read_exactly(12)
        assert time.monotonic() - begun < 2.5           # all of it takes three seconds
        assert b"".join(iter_chunks(client)) == whole(60, 10)[10:]


def iter_chunks(client):
    while size := int(client.read_line(), 16):
        yield client.read_exactly(size)
        client.read_exactly(2)
    client.read_line()


@pytest.mark.parametrize("count, size", [(5, 10), (31, 1000), (10, 65536)])
def test_the_others_do_not_wait_for_the_next(site, fifo, count, size):
    with site.connect() as client:
        ask(client, f"/stalls?count={count}&size={size}&fifo={fifo}&length={2 * count * size}")
        try:
            client.sock.settimeout(10)
            client.read_head()
            assert client.read_exactly(count * size) == whole(count, size)
            assert quiet_for(client)
        finally:
            fifo.write_bytes(b"")
        assert client.read_exactly(count * size) == whole(count, size)
        assert client.get("/").body == b"hello"


def test_the_end_does_not_wait_for_close(site, fifo):
    with site.connect() as client:
        ask(client, f"/closes?count=10&size=100&fifo={fifo}")
        try:
            client.sock.settimeout(10)
            assert client.read_response().body == whole(10, 100)
        finally:
            fifo.write_bytes(b"")
        assert client.get("/").body == b"hello"


def test_what_comes_before_an_error_is_sent(site):
    with site.connect() as client:
        ask(client, "/fails?count=25&size=100")
        found = client.read_response()
        assert not found.complete
    with site.connect() as client:
        ask(client, "/fails?count=25&size=100&length=5000")
        assert client.read_response().body == whole(25, 100)


def test_a_deadline_sends_what_there_is(fifo):
    with begin_site("--request-timeout=500ms") as server:
        warm(server)
        with server.connect() as client:
            ask(client, f"/stalls?count=20&size=100&fifo={fifo}&length=4000")
            found = client.read_response()
            assert not found.complete and found.body == whole(20, 100)
            assert client.at_eof()


# -- clients that do not keep up, or go ------------------------------------------------------
@pytest.mark.parametrize("told", ["", "&length={}"], ids=["chunked", "length"])
def test_a_client_that_reads_late(site, told):
    count, size = 300, 60_000
    with slow_client(site) as client:
        ask(client, f"/quick?count={count}&size={size}" + told.format(count * size))
        assert site.get("/").body == b"hello"           # it keeps nobody waiting
        wake(client)
        assert client.read_response().body == whole(count, size)


def test_a_client_that_reads_late_while_the_generator_stalls(site, fifo):
    count, size = 10, 90_000
    with slow_client(site) as client:
        ask(client, f"/stalls?count={count}&size={size}&fifo={fifo}&length={2 * count * size}")
        reader = threading.Timer(0.2, fifo.write_bytes, [b""])
        reader.start()
        reader.join()
        wake(client)
        assert client.read_response().body == 2 * whole(count, size)


@pytest.mark.parametrize("told", ["", "&length={}"], ids=["chunked", "length"])
def test_what_waits_for_one_client_is_nobody_else_s(told):
    """Others run while a handler waits for its client with pieces in hand."""
    count, size = 150, 60_000
    with begin_site(*TIGHT) as server, contextlib.ExitStack() as stack:
        warm(server)
        late = [stack.enter_context(slow_client(server)) for _ in range(2)]
        for client in late:
            ask(client, f"/quick?count={count}&size={size}" + told.format(count * size))
        for number in (1, 2, 31, 33, 40):   # the late ones have the worker until they wait
            with server.connect() as client:
                ask(client, f"/quick?count={number}&size=1" + told.format(number))
                assert client.read_response().body == whole(number, 1)
                ask(client, f"/waits?count={number}&size=10&ms=1" + told.format(number * 10))
                assert client.read_response().body == whole(number, 10)
        for client in late:
            wake(client)
            assert client.read_response().body == whole(count, size)


@pytest.mark.parametrize("size", [200_000, 150_000, 100_000, 70_000])
def test_a_client_that_reads_late_before_a_wait(size):
    """The handler waits for it first, and then for what it is about to wait for."""
    with begin_site(*TIGHT) as server:
        warm(server)
        with slow_client(server) as client:
            ask(client, f"/waits?count=100&size={size}&ms=1")
            assert server.get("/").body == b"hello"
            wake(client)
            assert client.read_response().body == whole(100, size)


def closings(server):
    return server.stderr.count("SAID closed")


def test_a_deadline_before_a_wait():
    """Nothing is left of what would have been waited for: nobody is woken for it later."""
    with begin_site(*TIGHT, "--request-timeout=500ms") as server:
        warm(server)
        with Settled(server):
            for number in range(3):
                with slow_client(server) as client:
                    ask(client, f"/watches?count=10&size={60_000 + 10_000 * number}&ms=1")
                    wait_for(lambda number=number: closings(server) > number)
            assert server.get("/poke").body == b"poked"
            for _ in range(20):
                assert server.get("/").body == b"hello"


def test_a_deadline_before_the_close():
    """The pieces that are left when the iterable fails find a client that takes no more, after
    one or another number of them: it is closed in any case."""
    with begin_site(*TIGHT, "--request-timeout=300ms") as server:
        warm(server)
        for number in range(10):
            with slow_client(server) as client:
                ask(client, f"/breaks?count={16 * number + 15}&size=65000")
                wait_for(lambda number=number: closings(server) == number + 1,
                         message=lambda number=number: f"not after {16 * number + 15} pieces")
        assert server.get("/pid").body == b"%d" % worker_of(server)


@pytest.mark.parametrize("way", ["quick", "waits", "stalls"])
def test_a_client_that_goes(site, fifo, way):
    for _ in range(3):
        client = site.connect()
        ask(client, f"/{way}?count=2000&size=20000&ms=1&fifo={fifo}")
        client.sock.recv(1000)
        vanish(client)
        if way == "stalls":
            with contextlib.suppress(OSError):          # nobody reads it any more
                os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        if way != "stalls":
            assert site.get("/").body == b"hello"
    if way == "stalls":
        stop = threading.Event()
        releaser = threading.Thread(target=release, args=(fifo, stop))
        releaser.start()
        assert site.get("/").body == b"hello"
        stop.set()
        releaser.join()


def release(fifo, stop):
    """Open the FIFO for whoever waits at it."""
    while not stop.is_set():
        with contextlib.suppress(OSError):
            os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        stop.wait(0.01)


def test_the_end_of_the_worker_sends_them(fifo):
    with begin_site() as server:
        warm(server)
        with server.connect() as client:
            ask(client, f"/stalls?count=20&size=100&fifo={fifo}&length=4000")
            client.read_head()
            assert client.read_exactly(2000) == whole(20, 100)
            os.kill(worker_of(server), signal.SIGTERM)
            fifo.write_bytes(b"")
            assert client.read_exactly(2000) == whole(20, 100)
