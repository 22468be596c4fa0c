"""What a worker writes in its slot, and what a reader makes of it."""

import mmap
import os
import time
from signal import SIGKILL

import pytest
from answers import Wire, answers, request

from fastfork import _core


@pytest.fixture
def slot():
    return bytearray(_core.SLOT_SIZE)


class Looking:
    """An application that keeps what its worker's slot says while it runs."""

    def __init__(self, slot, *answer):
        self.slot = slot
        self.answer = answer or ("200 OK", b"body")
        self.seen = []

    def __call__(self, environ, start_response):
        self.seen.append(_core.slot_read(self.slot))
        start_response(self.answer[0], [])
        return [self.answer[1]]


def busy_until(when):
    while time.monotonic() < when:
        pass


# -- the memory --------------------------------------------------------------------------
def test_slots_do_not_share_cache_lines():
    assert _core.SLOT_SIZE % 64 == 0


@pytest.mark.parametrize("memory", [
    bytearray(_core.SLOT_SIZE - 64),
    memoryview(bytearray(_core.SLOT_SIZE + 8))[4:],     # not aligned
], ids=["short", "askew"])
def test_memory_that_is_no_slot(wire, memory):
    with pytest.raises(ValueError, match=f"a slot is {_core.SLOT_SIZE} bytes, aligned to 8"):
        wire(print, slot=memory)


def test_memory_that_cannot_be_written(wire):
    with pytest.raises(BufferError):
        wire(print, slot=bytes(_core.SLOT_SIZE))


def test_memory_that_is_too_short_to_be_read():
    with pytest.raises(ValueError, match=f"a slot is {_core.SLOT_SIZE} bytes, not 10"):
        _core.slot_read(bytes(10))


def test_a_slot_without_a_worker():
    assert _core.slot_read(bytes(_core.SLOT_SIZE)) == {
        "pid": 0, "state": "booting", "heartbeat": 0.0, "accepted": 0, "requests": 0,
        "connections": 0, "in_flight": 0, "request_started": 0.0, "deadline": 0.0,
        "request_number": 0, "method": "", "path": "", "request_id": "",
        "queued": 0, "refused": 0, "handed_out": 0, "handed_in": 0,
        "statuses": [0] * 5, "sent": 0, "latency": [0] * 32, "whole": True,
    }  # fmt: skip


def test_a_new_worker_begins_anew(wire, slot):
    slot[:] = b"\xff" * len(slot)
    before = time.monotonic()
    wire(print, slot=slot)
    found = _core.slot_read(slot)
    assert found.pop("pid") == os.getpid()
    assert before - 0.001 < found.pop("heartbeat") <= time.monotonic()
    assert found.pop("connections") == 1
    assert found.pop("state") == "booting"
    assert found.pop("whole")
    assert not any(any(v) if isinstance(v, list) else v for v in found.values())


def test_a_slot_whose_worker_is_gone(wire, slot):
    """Its pid stays, so that nobody takes it for the end of the slots."""
    slot[:] = b"\xff" * len(slot)
    made = wire(print, slot=slot)
    made.feed(b"nonsense\r\n\r\n")
    _core.slot_vacate(slot)
    found = _core.slot_read(slot)
    assert found.pop("pid") == os.getpid()
    empty = _core.slot_read(bytes(_core.SLOT_SIZE))
    assert found == {key: value for key, value in empty.items() if key != "pid"}


def test_the_memory_is_let_go(balance, slot):
    made = Wire(print, slot=slot)
    with pytest.raises(BufferError):
        slot.append(1)
    made.close()
    slot.append(1)


def test_it_stays_within_its_slot(wire):
    memory = bytearray(b"\xff" * 3 * _core.SLOT_SIZE)
    middle = memoryview(memory)[_core.SLOT_SIZE:2 * _core.SLOT_SIZE]
    made = wire(Looking(middle), slot=middle)
    made.feed(request("GET", "/" + 1000 * "x", "X-Request-ID: " + 1000 * "y"))
    assert _core.slot_read(middle)["requests"] == 1
    assert memory[:_core.SLOT_SIZE] == memory[2 * _core.SLOT_SIZE:] == b"\xff" * _core.SLOT_SIZE


@pytest.mark.parametrize("seed", range(20))
def test_a_reader_believes_nothing(seed):
    """A worker that was killed may have written anything."""
    found = _core.slot_read(os.urandom(_core.SLOT_SIZE))
    assert found["state"] in ("booting", "idle", "busy", "draining")
    for key, most in ("method", 16), ("path", 200), ("request_id", 64):
        assert found[key].isascii() and found[key].isprintable()
        assert len(found[key]) <= 4 * most


# -- a request ---------------------------------------------------------------------------
def test_while_a_handler_runs(wire, slot):
    app = Looking(slot)
    before = time.monotonic()
    wire(app, slot=slot).feed(request("GET", "/a/b?c=d") + request("POST", "/", body=b"x"))
    after = time.monotonic()
    first, second = app.seen
    assert (first["method"], first["path"]) == ("GET", "/a/b?c=d")
    assert (second["method"], second["path"]) == ("POST", "/")
    for number, seen in enumerate(app.seen, 1):
        assert before - 0.001 < seen["request_started"] <= after
        assert seen["deadline"] == 0.0
        assert (seen["in_flight"], seen["request_number"]) == (1, number)
        assert (seen["requests"], seen["connections"]) == (number - 1, 1)
    assert first["request_started"] < second["request_started"]
    over = _core.slot_read(slot)
    assert (over["request_started"], over["in_flight"], over["requests"]) == (0.0, 0, 2)
    assert over["heartbeat"] > second["request_started"]
    assert over["path"] == "/"          # of the last one


def test_a_method_that_returns(wire, slot):
    app = Looking(slot)
    wire(app, slot=slot).feed(b"".join(
        request(method) for method in ("GET", "OPTIONS", "GET", "PROPFIND", "PROPFIND", "HEAD")))
    assert [s["method"] for s in app.seen] == [
        "GET", "OPTIONS", "GET", "PROPFIND", "PROPFIND", "HEAD"]


@pytest.mark.parametrize("status", ["200 OK", "304 Not Modified", "404 Not Found", "599 Odd"])
def test_statuses_are_counted(wire, slot, status):
    made = wire(Looking(slot, status, b""), slot=slot)
    made.feed(request() * 3)
    counts = [0] * 5
    counts[int(status[0]) - 1] = 3
    assert _core.slot_read(slot)["statuses"] == counts


def test_a_handler_that_fails_is_counted(wire, slot):
    wire(lambda environ, start_response: 1 / 0, slot=slot).feed(request())
    found = _core.slot_read(slot)
    assert (found["requests"], found["statuses"]) == (1, [0, 0, 0, 0, 1])


def test_what_no_handler_has_seen_is_not(wire, slot):
    made = wire(print, slot=slot)
    made.feed(b"\0")
    assert _core.slot_read(slot)["requests"] == 0


def test_body_bytes_are_counted(wire, slot):
    app = Looking(slot, "200 OK", b"four")
    made = wire(app, slot=slot)
    made.feed(request() * 2 + request("HEAD"))
    assert _core.slot_read(slot)["sent"] == 8


@pytest.mark.parametrize("seconds", [0, 0.001, 0.02, 0.15])
def test_how_long_it_took(wire, slot, seconds):
    inside = []

    def app(environ, start_response):
        start = time.monotonic()
        busy_until(start + seconds)
        inside.append(time.monotonic() - start)
        return Looking(slot)(environ, start_response)

    made = wire(app, slot=slot)
    start = time.monotonic()
    made.feed(request())
    outside = time.monotonic() - start
    latency = _core.slot_read(slot)["latency"]
    assert sum(latency) == 1
    bucket = latency.index(1)
    assert 2 ** bucket > int(inside[0] * 1e6)
    assert 2 ** (bucket - 1) <= outside * 1e6 + 1


# -- texts -------------------------------------------------------------------------------
def seen_of(wire, slot, *fields, target="/", **settings):
    app = Looking(slot)
    wire(app, slot=slot, **settings).feed(request("GET", target, *fields))
    (seen,) = app.seen
    return seen


def test_a_long_path_is_cut(wire, slot):
    assert seen_of(wire, slot, target="/" + 300 * "x")["path"] == "/" + 199 * "x"


@pytest.mark.parametrize("value, told", [
    ("req-7", "req-7"),
    (64 * "a" + "b", 64 * "a"),
    ("a b", "a b"),
    ("a\tb", r"a\x09b"),
    ("\xe4\xff", r"\xe4\xff"),
    (70 * "\xe4", 64 * r"\xe4"),
])
def test_request_id(wire, slot, recorder, value, told):
    assert seen_of(wire, slot, "X-Request-ID: " + value)["request_id"] == told
    made = wire(recorder)
    made.feed(request("GET", "/", "X-Request-ID: " + value))
    assert recorder.environ["HTTP_X_REQUEST_ID"] == value


@pytest.mark.parametrize("fields", [[], ["X-Request-ID:"]], ids=["none", "empty"])
def test_a_request_without_one_has_a_name_too(wire, slot, fields):
    assert seen_of(wire, slot, *fields)["request_id"] == f"{os.getpid()}-1"


def test_two_of_them(wire, slot, recorder):
    fields = "X-Request-ID: a", "x-request-id: b"
    assert seen_of(wire, slot, *fields)["request_id"] == "a, b"
    wire(recorder).feed(request("GET", "/", *fields))
    assert recorder.environ["HTTP_X_REQUEST_ID"] == "a, b"


@pytest.mark.parametrize("header_map, told", [("drop", "a"), ("dangerous", "a, b")])
def test_another_spelling(wire, slot, recorder, header_map, told):
    fields = "X-Request-ID: a", "X_Request_ID: b"
    assert seen_of(wire, slot, *fields, header_map=header_map)["request_id"] == told
    wire(recorder, header_map=header_map).feed(request("GET", "/", *fields))
    assert recorder.environ["HTTP_X_REQUEST_ID"] == told


def test_the_next_request_has_its_own(wire, slot):
    app = Looking(slot)
    made = wire(app, slot=slot)
    made.feed(request("GET", "/", "X-Request-ID: a") + request())
    made.feed(b"GET / HTTP/1.1\r\nX-Request-ID: refused\r\n\r\n")
    made.connect()
    made.feed(request())
    assert [s["request_id"] for s in app.seen] == [
        "a", f"{os.getpid()}-2", f"{os.getpid()}-3"]


# -- handlers that wait ------------------------------------------------------------------
def test_a_handler_that_waits_is_not_seen_as_running(wire, slot):
    seen = []

    def app(environ, start_response):
        seen.append(_core.slot_read(slot))
        while environ["wsgi.input"].read1(100):
            seen.append(_core.slot_read(slot))
        return Looking(slot)(environ, start_response)

    made = wire(app, slot=slot, request_buffering="stream", request_timeout=100)
    made.feed(request("POST", "/upload", "Content-Length: 6", "X-Request-ID: mine"))
    waits = _core.slot_read(slot)
    assert (waits["request_started"], waits["deadline"], waits["in_flight"]) == (0.0, 0.0, 1)
    assert waits["requests"] == 0
    first = made.connection
    made.connect()
    made.feed(request("GET", "/other"))
    assert (_core.slot_read(slot)["in_flight"], _core.slot_read(slot)["path"]) == (1, "/other")
    other = seen[1]
    assert (other["path"], other["in_flight"]) == ("/other", 2)
    assert answers(first.feed(b"abcdef"))[0].status == 200
    begun, again = seen[0], seen[2]
    for key in "request_started", "deadline", "path", "request_id", "request_number", "method":
        assert begun[key] == again[key]
    assert (again["path"], again["request_id"]) == ("/upload", "mine")
    assert _core.slot_read(slot)["in_flight"] == 0


# -- readers while it is written ---------------------------------------------------------
def test_no_torn_reading(wire):
    """A child process serves requests whose parts belong together; none is seen half."""
    shared = mmap.mmap(-1, _core.SLOT_SIZE)
    kinds = {"GET": "a", "POST": "bb", "DELETE": "c" * 20, "OPTIONS": "d" * 60}
    requests = b"".join(
        request(method, "/" + 3 * text, f"X-Request-ID: {text}") for method, text in kinds.items())
    child = os.fork()
    if not child:
        try:
            made = wire(Looking(bytes(_core.SLOT_SIZE)), slot=shared)
            while True:
                made.feed(requests)
        finally:
            os._exit(1)
    try:
        methods, last = set(), None
        end = time.monotonic() + 60
        reads = 0
        while reads < 60_000 or len(methods) < len(kinds):
            assert time.monotonic() < end, methods
            seen = _core.slot_read(shared)
            if not seen["whole"] or not seen["request_number"]:
                continue        # the child has lost its core in the middle
            reads += 1
            text = kinds[seen["method"]]
            assert (seen["request_id"], seen["path"]) == (text, "/" + 3 * text)
            assert seen["request_number"] - seen["requests"] == (seen["request_started"] != 0)
            if seen["request_started"]:
                last = seen
            elif last and last["request_number"] == seen["request_number"]:
                assert seen["heartbeat"] >= last["request_started"]
            methods.add(seen["method"])
    finally:
        os.kill(child, SIGKILL)
        os.waitpid(child, 0)


def test_a_worker_that_died_while_it_wrote(wire, slot):
    wire(Looking(slot), slot=slot).feed(request("GET", "/last"))
    copy = bytearray(slot)
    copy[0] += 1            # the sequence number is odd now
    assert _core.slot_read(copy) == {**_core.slot_read(slot), "whole": False}
