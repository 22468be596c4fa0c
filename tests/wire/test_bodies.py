"""How bodies are received: every framing, in pieces of every size, read in every way and mode, to
their end or not.  Content is exact, what follows is answered, and nothing is left behind."""

import hashlib
import json
import os
import random
import socket
import threading
from contextlib import ExitStack, suppress

import pytest
from apps_bodies import WAYS, size_of
from harness import MODES, PATIENCE, SIDE_BY_SIDE, Client, Server, wait_for
from tools import HERE, MIB, PATIENT, content, get, post, quiet_for, status_kib, vanish

STREAM = ["--request-buffering", "stream", "--body-min-rate", "0"]
BUFFERINGS = {"full": [], "stream": STREAM}
EXTENSIONS = [b"", b"", b";name", b";a=b;c=\"d \\\" e\""]


def serve(mode, *flags):
    return Server("apps_bodies:app", *MODES[mode], *PATIENT, *flags, cwd=HERE, env={"MODE": mode})


@pytest.fixture(scope="module")
def served():
    """`served(mode, *flags)`: a server that several tests share."""
    started = {}

    def of(mode, *flags):
        if (mode, flags) not in started:
            started[mode, flags] = serve(mode, *flags)
            state(started[mode, flags])     # what its first request has made is kept
        return started[mode, flags]

    yield of
    for server in started.values():
        server.close()


def state(server):
    return json.loads(server.get("/state").body)


def settled(server, before):
    """Until everything is as it was: nothing in memory, on disk or (debug build) alive."""
    assert before["held"] == before["spooled"] == 0
    wait_for(lambda: state(server) == before, message=lambda: f"{state(server)}, {before} before")
    assert "internal error" not in server.stderr


def told(data):
    return [len(data), hashlib.sha256(data).hexdigest()]


def chunk(data, extension=b""):
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


def upload(seeded, body, target):
    """A request with this body, as one or in chunks of every size."""
    if seeded.random() < 0.4:
        return post(target, body)
    pieces, at = [], 0
    small = seeded.random() < 0.3
    while at < len(body):
        size = seeded.randrange(1, 4000) if small else size_of(seeded)
        pieces.append(chunk(body[at:at + size], seeded.choice(EXTENSIONS)))
        at += size
    trailers = b"A: b\r\n" * seeded.randrange(3)
    return post(target, b"".join(pieces) + b"0\r\n" + trailers + b"\r\n",
                "Transfer-Encoding: chunked")


def cuts(seeded, raw):
    """As a sender may happen to cut it."""
    at = 0
    while at < len(raw):
        size = seeded.choice([seeded.randrange(1, 20), *[size_of(seeded)] * 3])
        yield raw[at:at + size]
        at += size


class Visitor(threading.Thread):
    """Pipelines some uploads on one connection and reads the answers; what is wrong is kept.  One
    that `leaves` does so somewhere in the middle."""

    def __init__(self, server, seed, leaves=False):
        super().__init__(daemon=True)
        self.server, self.leaves = server, leaves
        self.seeded = random.Random(seed)
        self.wrong = None

    def run(self):
        try:
            with self.server.connect() as client:
                self.visit(client)
        except Exception as error:
            self.wrong = repr(error)

    def visit(self, client):
        seeded = self.seeded
        bodies = [seeded.randbytes(size_of(seeded)) for _ in range(seeded.randrange(1, 6))]
        raw = b"".join(
            upload(seeded, body, f"/read?seed={n}&ways={','.join(self.ways())}")
            + (get("/read?seed=0&ways=all") if seeded.random() < 0.3 else b"")
            for n, body in enumerate(bodies))
        if self.leaves:
            with suppress(OSError):
                for piece in cuts(seeded, raw[:seeded.randrange(len(raw))]):
                    client.send(piece)
            if seeded.random() < 0.3:
                quiet_for(client, 0.02)
            leave = seeded.choice([vanish, Client.close, half_close])
            return leave(client)
        expected = [told(body) for body in bodies]
        sender = threading.Thread(target=self.send, args=[client, raw], daemon=True)
        sender.start()
        found = []
        while len(found) < len(expected):
            answer = client.read_response()
            assert answer.status == 200, answer
            if (one := json.loads(answer.body))[0]:     # not that of the small ones in between
                found.append(one)
        sender.join(PATIENCE)
        assert found == expected

    def ways(self):
        return self.seeded.sample(list(WAYS), self.seeded.randrange(1, len(WAYS)))

    def send(self, client, raw):
        for piece in cuts(self.seeded, raw):
            client.send(piece)
            if self.seeded.random() < 0.1:
                quiet_for(client, 0.002)


def half_close(client):
    client.sock.shutdown(socket.SHUT_WR)
    quiet_for(client, 0.05)
    client.close()


def visit(visitors):
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join(2 * PATIENCE)
        assert not visitor.is_alive()
    assert {visitor.wrong for visitor in visitors} == {None}


LITTLE = ["--body-memory", "2MiB", "--max-body-memory", "3MiB"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("buffering", BUFFERINGS)
@pytest.mark.parametrize("memory", [[], LITTLE], ids=["", "little memory"])
def test_every_size_framing_and_way(served, mode, buffering, memory):
    """Six at a time, some of which leave."""
    server = served(mode, *BUFFERINGS[buffering], *memory)
    before = state(server)
    for seed in range(6):
        visit([Visitor(server, f"{mode} {buffering} {seed} {n}", n % 3 == 2) for n in range(6)])
    settled(server, before)


# -- where it is received ----------------------------------------------------------------
def test_a_chunk_that_leads_out_of_memory(served):
    """What was received of it in memory is there until it is on disk."""
    server = served("default", *LITTLE)
    before = state(server)
    one, two = content(MIB + MIB // 2), os.urandom(MIB)
    with server.connect() as client:
        client.send(post("/read?seed=0&ways=all", chunk(one) + b"%x\r\n" % len(two),
                         "Transfer-Encoding: chunked"))
        assert server.get("/read?seed=0&ways=all").status == 200    # it has come by now
        client.send(two + b"\r\n0\r\n\r\n")
        assert json.loads(client.read_response().body) == told(one + two)
    settled(server, before)


@pytest.mark.parametrize("chunked", [False, True])
def test_all_memory_is_used_up_in_the_middle(served, chunked):
    """By others: what this one has there goes to disk, too, and is whole."""
    server = served("default", *LITTLE)
    before = state(server)
    data = os.urandom(2 * MIB - 100)
    half = MIB + 1000
    if chunked:
        begin, end = chunk(data)[:half], chunk(data)[half:] + b"0\r\n\r\n"
        field = "Transfer-Encoding: chunked"
    else:
        begin, end = data[:half], data[half:]
        field = f"Content-Length: {len(data)}"
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(3)]
        for client in clients:
            client.send(post("/read?seed=0&ways=sized", begin, field))
        wait_for(lambda: state(server)["held"] + state(server)["spooled"] > 3 * MIB)
        assert state(server)["held"] <= 3 * MIB
        for client in clients:
            client.send(end)
        for client in clients:
            assert json.loads(client.read_response().body) == told(data)
    settled(server, before)


def test_who_only_announces_a_body_gets_little_room(served):
    server = served("default")
    before, at_first = state(server), status_kib(state(server)["pid"], "VmSize")
    with ExitStack() as stack:
        for _ in range(100):
            client = stack.enter_context(server.connect())
            client.send(post("/read?seed=0&ways=all", b"begun", f"Content-Length: {16 * MIB}"))
        wait_for(lambda: state(server)["held"] == 100 * 5)
        assert status_kib(before["pid"], "VmSize") - at_first < 200 * 1024
    settled(server, before)


def test_a_body_that_has_been_read_is_kept_by_the_handler_alone(served):
    server = served("default")
    with server.connect() as client:
        client.send(post("/keeps", content(3 * MIB)))
        assert client.read_response().body == b"kept"
        assert state(server)["held"] == 0
        client.send(get("/kept-since"))
        assert json.loads(client.read_response().body) == told(content(3 * MIB))


# -- limits ------------------------------------------------------------------------------
@pytest.mark.parametrize("buffering", BUFFERINGS)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_that_comes_too_slowly(buffering, chunked):
    """It is received where it belongs, and judged all the same."""
    with serve("default", *BUFFERINGS[buffering][:2], "--body-timeout=300ms",
               "--body-min-rate=1000k") as server, server.connect() as client:
        size = 10 * MIB
        client.send(post("/read?seed=0&ways=all", b"%x\r\n" % size if chunked else b"",
                         "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"))
        sent = 0
        while quiet_for(client, 0.02) and sent < size // 2:
            client.send(content(5000))
            sent += 5000
        assert client.read_response().status == 408
        assert sent < MIB


@pytest.mark.parametrize("buffering", BUFFERINGS)
def test_a_large_body_that_stops(buffering):
    with serve("default", *BUFFERINGS[buffering], "--body-timeout=300ms") as server, \
            server.connect() as client:
        client.send(post("/read?seed=0&ways=all", content(MIB), f"Content-Length: {2 * MIB}"))
        assert client.read_response().status == 408


@pytest.mark.parametrize("buffering", BUFFERINGS)
def test_chunks_beyond_max_body(buffering):
    with serve("default", *BUFFERINGS[buffering], "--max-body=3MiB") as server, \
            server.connect() as client:
        client.send(post("/read?seed=0&ways=sized", chunk(content(2 * MIB))
                         + b"%x\r\n" % (MIB + 1), "Transfer-Encoding: chunked"))
        assert client.read_response().status == 413


# -- reads of a streamed body ------------------------------------------------------------
@pytest.mark.parametrize("mode", MODES)
def test_a_line_without_end_costs_as_much_as_any_body(served, mode):
    """Its pieces are put together once.  (Each time that some came it took half a minute.)"""
    server = served(mode, *STREAM)
    data = b"x" * 64_000_000
    with server.connect() as client:
        client.send(post("/read?seed=0&ways=next", data))
        assert json.loads(client.read_response().body) == told(data)


def test_a_read_of_more_than_there_can_be(served):
    """Room is made for what the client has announced."""
    with served("default", *STREAM).connect() as client:
        client.send(post(f"/limited?n={1 << 50}", b"abc", "Content-Length: 6"))
        client.send(b"def")
        assert client.read_response().body == b"abcdef"


INTERRUPTED = [(mode, "deadline") for mode in SIDE_BY_SIDE]
if "gevent" in MODES:
    INTERRUPTED += [("gevent", "timeout"), ("gevent", "kill")]


@pytest.mark.parametrize("mode, by", INTERRUPTED)
@pytest.mark.parametrize("way", [way for way in WAYS if way != "once"])
def test_an_interrupted_read_has_read_nothing(served, mode, by, way):
    """Its next one begins where it did."""
    flags = ["--request-timeout", "100ms"] if by == "deadline" else []
    server = served(mode, *STREAM, *flags)
    before = state(server)
    name = f"{way}-{by}"
    # (Not of many short lines: a deadline that comes between two reads may cost what one returned.)
    data = b"".join(b"line %d %b\n" % (n, b"-" * (n % 500)) for n in range(1700))
    pieces = [data[i:i + 100_000] for i in range(0, len(data), 100_000)]
    with server.connect() as client:
        client.send(post(f"/interrupted?name={name}&by={by}&way={way}&n=250000"
                         f"&times={len(pieces)}", b"", "Transfer-Encoding: chunked"))
        for number, piece in enumerate(pieces):
            # Its end comes with the beginning of the next one, as do the ends of lines.
            client.send(b"%x\r\n%b" % (len(piece), piece))
            server.wait_stderr(f"interruption {number + 1} of {name}: ")
            client.send(b"\r\n")
        client.send(b"0\r\n\r\n" + get("/read?seed=0&ways=all"))
        assert json.loads(client.read_response().body) == told(data)
        assert client.read_response().status == 200
    settled(server, before)


def test_a_deadline_comes_to_a_thread_that_reads_all_the_time():
    """It waits for a moment again and again, and is woken at once."""
    with serve("threads", *STREAM, "--request-timeout", "300ms") as server, \
            server.connect() as client:
        client.send(post("/limited?n=1000000000", b"", "Content-Length: 1000000000"))
        piece, sent = content(5000), 0
        with suppress(OSError):
            while quiet_for(client, 0) and sent < 900_000_000:
                client.send(piece)
                sent += len(piece)
        assert sent < 900_000_000
        assert client.read_response().status == 504


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("handler", ["reads", "waits"])
def test_two_readers_at_once(served, mode, handler):
    """Each record comes to one of them; who comes second is told."""
    server = served(mode, *STREAM)
    before = state(server)
    records = [b"%08d" % n for n in range(100_000)]
    data = b"".join(records)
    with server.connect() as client:
        client.send(post(f"/two-readers?handler={handler}", b"", f"Content-Length: {len(data)}"))
        for at in range(0, len(data), 100_000):
            quiet_for(client, 0.01)
            client.send(data[at:at + 100_000])
        digest, count, refused, failed = json.loads(client.read_response().body)
    assert failed == []
    assert count == len(records) and digest == told(data)[1]
    assert refused == ["wsgi.input is being read elsewhere"]
    settled(server, before)


@pytest.mark.parametrize("mode", ["greenlets", "default"])
def test_a_thread_that_reads_does_not_wake_its_handler(served, mode):
    server = served(mode, *STREAM)
    with server.connect() as client:
        client.send(post("/sleeps?t=0.5", b"", "Content-Length: 1000"))
        for _ in range(10):
            quiet_for(client, 0.02)
            client.send(b"x" * 100)
        assert sorted(json.loads(client.read_response().body))[0] >= 0.5
