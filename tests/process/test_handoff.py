"""A connection whose worker is in a handler is served by a sibling."""

import json
import os
import signal
import socket
import time

import pytest
from handing import Handler, pid_of, request, stand, unix_client, vanish
from harness import PATIENCE, Client, wait_for
from seen import clients, field, quiet, threads

V1 = b"PROXY TCP4 203.0.113.9 192.0.2.1 1234 80\r\n"
MODES = {"default": [], "greenlets": ["--greenlets", "10"]}


# -- rescue --------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["waits", "computes"])
def test_others_of_a_busy_worker_are_served_by_its_siblings(site, gate, kind, mode):
    one = site(*MODES[mode], workers=4)
    (busy, (first, *others)), *_ = one.crowd(20)
    assert len(others) >= 3
    handler = Handler(kind, first, gate)
    for _ in range(3):
        for client in others:
            response = client.get("/pid")
            assert response.status == 200 and response.header("Connection") is None
            assert int(response.body) in one.server.workers() and int(response.body) != busy
    assert handler.end() == busy
    assert pid_of(first) == busy  # that one has never gone away
    assert one.wait_even() >= len(others)
    for client in others:
        assert pid_of(client) in one.server.workers()


def test_they_come_one_by_one_or_all_at_once(site, gate):
    one = site(workers=4)
    (busy, (first, *others)), *_ = one.crowd(40)
    stand(first, gate)
    for client in others:
        client.send(request("/pid"))
    for client in others:
        assert int(client.read_response().body) != busy
    gate.open()
    first.read_response()
    one.wait_even(len(others))


def test_several_workers_are_busy(site, gates):
    one = site(workers=4)
    crowd = one.crowd(24)
    handlers = []
    for _, (first, *_) in crowd[:3]:
        handlers.append(Handler("waits", first, gates()))
    (free, _) = crowd[3]
    for _, (_, *others) in crowd[:3]:
        for client in others:
            assert pid_of(client) == free
    assert [handler.end() for handler in handlers] == [pid for pid, _ in crowd[:3]]
    one.wait_even()


def test_at_rest_nobody_is_handed_on(site, gate):
    """Only who has a request waiting."""
    one = site(workers=2)
    (busy, (first, asks, *rest)), *_ = one.crowd(12)
    stand(first, gate)
    assert pid_of(asks) != busy
    assert quiet(asks.sock)
    gate.open()
    first.read_response()
    assert one.wait_even() == 1
    assert {pid_of(client) for client in rest} == {busy}


def test_switched_off(site, gate):
    """They wait for their worker."""
    one = site("--handoff-after", "off", workers=2)
    (busy, (first, waits, *_)), (free, _) = one.crowd(12)
    stand(first, gate)
    waits.send(request("/pid"))
    for _ in range(20):
        assert int(one.server.get("/pid").body) == free
    assert quiet(waits.sock, 0.2)
    gate.open()
    assert int(first.read_response().body) == busy
    assert int(waits.read_response().body) == busy
    assert one.handed() == 0


def test_after_the_time_that_is_set(site, gate):
    """A handler that is done before keeps its connections."""
    one = site("--handoff-after", "30s", workers=2)
    (busy, (first, waits, *_)), *_ = one.crowd(12)
    stand(first, gate)
    waits.send(request("/pid"))
    assert quiet(waits.sock, 0.2)
    gate.open()
    assert int(first.read_response().body) == busy
    assert int(waits.read_response().body) == busy
    assert one.handed() == 0


@pytest.mark.parametrize("whose", ["sibling", "own"])
def test_all_are_busy_and_the_first_that_is_free_answers(site, gates, whose):
    one = site(workers=2)
    (busy, (first, *waiting)), (other, (second, *_)) = one.crowd(12)
    here, there = Handler("waits", first, gates()), Handler("waits", second, gates())
    for client in waiting:
        client.send(request("/pid"))
    assert all(quiet(client.sock, 0.05) for client in waiting)
    order = [(there, other), (here, busy)]
    if whose == "own":
        order.reverse()
    (free, pid), (late, late_pid) = order
    assert free.end() == pid
    for client in waiting:
        assert int(client.read_response().body) == pid
    assert late.end() == late_pid
    one.wait_even(0 if whose == "own" else 1)


@pytest.mark.parametrize("end", [Client.close, vanish, lambda c: c.sock.shutdown(socket.SHUT_WR)])
def test_a_client_that_leaves_while_it_is_handed_on(site, gates, end):
    one = site(workers=2)
    (_, (first, leaves, stays, *_)), (_, (second, *_)) = one.crowd(12)
    handlers = [Handler("waits", first, gates()), Handler("waits", second, gates())]
    leaves.send(request("/count?leaves"))
    one.wait_handed(1)
    end(leaves)
    stays.send(request("/count?stays"))
    for handler in handlers:
        handler.end()
    assert stays.read_response().status == 200
    if leaves.sock.fileno() >= 0:  # it listens still, and what it has asked for it gets
        assert leaves.read_response().status == 200
        assert leaves.at_eof()
    wait_for(lambda: sum(worker["connections"] for worker in one.workers()) == 11,
             message=lambda: str(one.workers()))
    wait_for(lambda: sum(len(clients(pid, one.server.port)) for pid in one.server.workers()) == 11)
    assert one.counted.read_text().splitlines().count("stays") == 1
    assert "Traceback" not in one.server.stderr and "internal error" not in one.server.stderr


def test_a_sibling_that_has_all_the_connections_that_it_may_have(site, gate):
    """`max_connections` is for those who are new: these have been accepted."""
    one = site("--max-connections", "10", workers=2)
    (busy, (first, *others)), (free, _) = one.crowd(20)
    stand(first, gate)
    for client in others:
        assert pid_of(client) == free
    gate.open()
    assert int(first.read_response().body) == busy
    one.wait_even(len(others))


# -- what travels with a connection ----------------------------------------------------------
def test_half_a_head(site, gate):
    one = site(workers=2)
    (busy, (first, half, *_)), *_ = one.crowd(12)
    data = request("/show", "X-Whole: " + "value" * 100)
    half.send(data[:60])
    pid_of(first)  # what was sent before has been read by then
    stand(first, gate)
    half.send(data[60:])
    found = json.loads(half.read_response().body)
    assert found["HTTP_X_WHOLE"] == "value" * 100 and found["pid"] != busy
    gate.open()
    first.read_response()
    assert pid_of(half) == found["pid"]


def test_a_head_byte_by_byte_from_worker_to_worker(site, gates):
    """Each piece finds another worker busy: the head is together in the end."""
    one = site("--head-timeout", "1h", workers=2)
    (here, (first, moved, *_)), (there, (second, *_)) = one.crowd(12)
    data = request("/show", "X-Whole: value")
    pieces = [data[n:n + 16] for n in range(0, len(data), 16)]
    own = {here: first, there: second}
    port = moved.sock.getsockname()[1]
    for piece in pieces[:-1]:
        holder = wait_holder(one, port)
        handler = Handler("waits", own[holder], gates())
        moved.send(piece)
        wait_for(lambda holder=holder: wait_holder(one, port) != holder,
                 message=lambda: "the connection is not handed on")
        handler.end()
    moved.send(pieces[-1])
    assert json.loads(moved.read_response().body)["HTTP_X_WHOLE"] == "value"
    assert one.wait_even() >= len(pieces) - 1


def wait_holder(one, port):
    """The worker that has the connection, when exactly one has it."""
    found = []

    def look():
        found[:] = [pid for pid in one.server.workers() if port in clients(pid, one.server.port)]
        return len(found) == 1

    wait_for(look, message=lambda: f"{found} have the connection")
    return found[0]


def test_pipelined_requests(site, gate):
    one = site(workers=2)
    (busy, (first, many, *_)), *_ = one.crowd(12)
    stand(first, gate)
    many.send(b"".join(request(f"/show?{n}") for n in range(40)))
    found = [json.loads(many.read_response().body) for _ in range(40)]
    assert [answer["QUERY_STRING"] for answer in found] == [str(n) for n in range(40)]
    assert busy not in {answer["pid"] for answer in found}
    gate.open()
    first.read_response()


def test_the_rest_of_pipelined_requests(site, gates):
    """Some are answered, and the others have been read, when the worker is in a handler of
    somebody else."""
    one = site("--handoff-after", "1s", workers=2)
    (busy, (first, many, second, *_)), *_ = one.crowd(12)
    before, after = gates(), gates()
    stand(first, before)
    many.send(b"".join(request(f"/show?{n}") for n in range(40)))
    second.send(request(f"/wait?{after.path}"))
    before.open()
    after.reached()
    found = [json.loads(many.read_response().body) for _ in range(40)]
    assert [answer["QUERY_STRING"] for answer in found] == [str(n) for n in range(40)]
    assert found[0]["pid"] == busy != found[-1]["pid"]
    after.open()
    assert int(second.read_response().body) == busy
    assert int(first.read_response().body) == busy
    assert many.get("/pid").status == 200


def test_a_body_that_is_coming(site, gate):
    """It stays where it is, or goes: it is complete in any case."""
    one = site(workers=2)
    (busy, (first, posts, *_)), *_ = one.crowd(12)
    posts.send(b"POST /receive HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n" + bytes(5000))
    pid_of(first)
    stand(first, gate)
    posts.send(bytes(15000))
    gate.open()
    assert int(first.read_response().body) == busy
    assert posts.read_response().body == b"20000"


def test_a_whole_body(site, gate):
    one = site(workers=2)
    (_, (first, posts, *_)), *_ = one.crowd(12)
    stand(first, gate)
    posts.send(b"POST /receive HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n"
               + bytes(3_000_000))
    assert posts.read_response().body == b"3000000"
    gate.open()
    first.read_response()
    one.wait_even()


@pytest.mark.parametrize("parts", [
    [b"", b"GET /receive HTTP/1.1\r\nHo", b"st: x\r\nContent-Length: 0\r\n\r\n"],
    [b"GET /rec", b"eive HTTP/1.1\r\nHo", b"st: x\r\nContent-Length: 0\r\n\r\n"],
    [b"", b"POST /receive HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab", b"cde"],
], ids=["head", "head that has begun", "body"])  # fmt: skip
def test_what_its_client_takes_time_to_send_has_not_waited(site, gate, parts):
    """`queue_timeout` is for requests that are there and find no handler."""
    one = site("--queue-timeout", "1s", workers=2)
    (_, (first, slow, *_)), *_ = one.crowd(12)
    before, meanwhile, after = parts
    slow.send(before)
    pid_of(first)  # what was sent before has been read by then
    stand(first, gate)
    slow.send(meanwhile)
    one.wait_even()
    assert quiet(slow.sock, 1.5)
    slow.send(after)
    response = slow.read_response()
    assert (response.status, response.body) == (200, b"5" if after == b"cde" else b"0")
    gate.open()
    first.read_response()


SAME = ("REMOTE_ADDR", "REMOTE_PORT", "SERVER_NAME", "SERVER_PORT", "wsgi.url_scheme")


def environ_before_and_after(gate, busy, first, moved):
    """What a client's environ is, from two workers."""
    before = json.loads(moved.get("/show").body)
    assert before["pid"] == busy
    stand(first, gate)
    after = json.loads(moved.get("/show").body)
    assert after.pop("pid") != before.pop("pid")
    gate.open()
    first.read_response()
    for found in (before, after):
        found.pop("HTTP_X_REQUEST_ID", None)
    return before, after


def test_the_addresses(site, gate):
    one = site(workers=2)
    (busy, (first, moved, *_)), *_ = one.crowd(12)
    before, after = environ_before_and_after(gate, busy, first, moved)
    assert before == after
    assert int(after["REMOTE_PORT"]) == moved.sock.getsockname()[1]
    assert after["REMOTE_ADDR"] == "127.0.0.1"
    assert int(after["SERVER_PORT"]) == one.server.port


def test_ipv6(site, gate):
    one = site(workers=2, bind=("[::1]:0",))
    (busy, (first, moved, *_)), *_ = one.crowd(12)
    before, after = environ_before_and_after(gate, busy, first, moved)
    assert before == after and after["REMOTE_ADDR"] == "::1"
    assert int(after["REMOTE_PORT"]) == moved.sock.getsockname()[1]


def test_a_unix_socket(site, gate, tmp_path):
    path = tmp_path / "site.sock"
    one = site(workers=2, bind=(f"unix:{path}",))
    (busy, (first, moved, *_)), *_ = one.crowd(
        12, lambda: one.open.enter_context(unix_client(path)))
    before, after = environ_before_and_after(gate, busy, first, moved)
    assert before == after


def test_several_listeners(site, gates, tmp_path):
    path = tmp_path / "site.sock"
    one = site(workers=2, bind=("127.0.0.1:0", "127.0.0.1:0", f"unix:{path}", "[::1]:0"))
    urls = [url for url in one.server.ready["listen"] if url.startswith("http://127")]
    ports = [int(url.rpartition(":")[2]) for url in urls]
    assert len(set(ports)) == 2
    for port in ports:
        (busy, (first, moved, *_)), *_ = one.crowd(
            12, lambda port=port: one.open.enter_context(
                Client(socket.create_connection(("127.0.0.1", port), PATIENCE))))
        before, after = environ_before_and_after(gates(), busy, first, moved)
        assert before == after and int(after["SERVER_PORT"]) == port
    (busy, (first, moved, *_)), *_ = one.crowd(
        12, lambda: one.open.enter_context(unix_client(path)))
    before, after = environ_before_and_after(gates(), busy, first, moved)
    assert before == after


PROXIED = ("--proxy-protocol", "auto", "--forwarded-allow-ips", "127.0.0.1")


def seen_by(response):
    found = json.loads(response.body)
    return found["REMOTE_ADDR"], found["REMOTE_PORT"], found["pid"]


def introduced(one):
    """A client with a preamble that names another address."""
    client = one.connect()
    client.send(V1)
    return client


def test_a_preamble_that_has_been_read(site, gate):
    one = site(*PROXIED, workers=2)
    (busy, (first, moved, *_)), *_ = one.crowd(12, lambda: introduced(one))
    assert seen_by(moved.get("/show")) == ("203.0.113.9", "1234", busy)
    stand(first, gate)
    address, port, pid = seen_by(moved.get("/show"))
    assert (address, port) == ("203.0.113.9", "1234") and pid != busy
    gate.open()
    first.read_response()
    assert seen_by(moved.get("/show"))[:2] == ("203.0.113.9", "1234")


@pytest.mark.parametrize("early", [0, 3, 20, len(V1) - 1, len(V1), len(V1) + 10])
def test_a_preamble_of_which_so_many_bytes_have_come(site, gate, early):
    one = site(*PROXIED, workers=2)
    (busy, (first, moved, *_)), *_ = one.silent(12)
    data = V1 + request("/show")
    first.send(V1)
    if early:
        moved.send(data[:early])
    pid_of(first)
    stand(first, gate)
    moved.send(data[early:])
    address, port, pid = seen_by(moved.read_response())
    assert (address, port) == ("203.0.113.9", "1234") and pid != busy
    gate.open()
    first.read_response()


def test_a_preamble_is_still_asked_for(site, gate):
    one = site(*PROXIED, workers=2)
    (_, (first, moved, *_)), *_ = one.silent(12)
    first.send(V1)
    pid_of(first)
    stand(first, gate)
    moved.send(request("/show"))
    assert moved.read_response().status == 400 and moved.at_eof()
    gate.open()
    first.read_response()


def test_how_many_requests_there_were(site, gate):
    one = site("--keep-alive-requests", "7", workers=2)
    (busy, (first, moved, *_)), *_ = one.crowd(12)
    for _ in range(2):
        assert pid_of(moved) == busy
    stand(first, gate)
    for last in (False, False, True):
        response = moved.get("/pid")
        assert int(response.body) != busy
        assert (response.header("Connection") == "close") == last
    assert moved.at_eof()
    gate.open()
    first.read_response()


def test_never_served_twice(site, gates):
    """The worker has the event of a connection in hand when that is handed on."""
    one = site(workers=2)
    for turn in range(5):
        (busy, (first, *others)), *_ = one.crowd(20)
        gate = gates()
        os.kill(busy, signal.SIGSTOP)
        first.send(request(f"/wait?{gate.path}"))
        for n, client in enumerate(others):
            client.send(request(f"/count?{turn}.{n}"))
        os.kill(busy, signal.SIGCONT)
        gate.reached()
        for client in others:
            assert int(client.read_response().body) in one.server.workers()
        gate.open()
        assert int(first.read_response().body) == busy
        for client in (first, *others):
            assert pid_of(client) in one.server.workers()
    lines = one.counted.read_text().splitlines()
    assert len(lines) == len(set(lines)) > 0
    assert one.wait_even()


def test_the_number_of_a_descriptor_that_was_given_away(site, gate):
    """What the application opens meanwhile may get it, and keeps it."""
    one = site(workers=2)
    (busy, (first, second, *others)), *_ = one.crowd(24)
    stand(first, gate, "/wait_and_open")
    for client in others:
        assert pid_of(client) != busy
    gate.open()
    assert int(first.read_response().body) == busy
    for client in (first, second, *others):
        pid_of(client)
    for client in others:
        client.close()
    assert second.get("/look").body.split() == [b"%d" % busy, b"40", b"40"]


def test_a_handler_that_forks_meanwhile(site, gates):
    """No child has a connection that was handed on while it was made: it would keep that open."""
    one = site(workers=2)
    for _ in range(4):  # it takes luck
        (busy, (first, *others)), (_, rest) = one.crowd(160)
        gate = gates()
        stand(first, gate, "/fork")
        gate.open()
        for client in others:
            assert pid_of(client) != busy
        with open(f"{gate.path}.over", "w"):
            pass
        assert first.read_response().body == b"0"
        for client in (first, *others, *rest):
            client.close()


def test_the_counts_on_the_scoreboard(site, gate):
    one = site(workers=3)
    (busy, (first, *others)), *_ = one.crowd(18)
    before = {worker["pid"]: worker for worker in one.workers()}
    stand(first, gate)
    for client in others:
        pid_of(client)
    one.wait_even(len(others))
    found = {worker["pid"]: worker for worker in one.workers()}
    assert found[busy]["handed_out"] - before[busy]["handed_out"] == len(others)
    assert found[busy]["handed_in"] == before[busy]["handed_in"]
    gate.open()
    first.read_response()
    wait_for(lambda: sum(worker["connections"] for worker in one.workers()) == 18,
             message=lambda: str(one.workers()))
    one.wait_even()
    found = {worker["pid"]: worker for worker in one.workers()}
    for pid, worker in found.items():
        assert worker["accepted"] == before[pid]["accepted"]  # by whom they were first
        assert len(clients(pid, one.server.port)) == worker["connections"]


# -- what it costs -------------------------------------------------------------------------
def served_a_little(one):
    """It has answered requests that came together and apart."""
    for _, some in one.crowd(12):
        for client in some:
            client.send(request("/pid") * 3)
        for client in some:
            for _ in range(3):
                client.read_response()


def test_an_only_worker_starts_no_thread(site, start, tmp_path):
    counts = []
    for flags in ([], ["--handoff-after", "off"]):
        one = site(*flags, workers=1)
        served_a_little(one)
        (pid,) = one.server.workers()
        counts.append(len(threads(pid)))
        assert one.server.stop() == 0
    assert counts[0] == counts[1]


def test_one_of_several_has_one_more(site):
    counts = []
    for flags in ([], ["--handoff-after", "off"]):
        one = site(*flags, workers=3)
        served_a_little(one)
        counts.append({len(threads(pid)) for pid in one.server.workers()})
        assert one.server.stop() == 0
    (with_it,), (without,) = counts
    assert with_it == without + 1


def switches(pid):
    """How often each of its threads has given up its core, but for the first, which is the loop."""
    return {tid: int(field(f"{pid}/task/{tid}", "voluntary_ctxt_switches")[0])
            for tid in threads(pid) - {pid}}


@pytest.mark.skipif("libtsan" in os.environ.get("LD_PRELOAD", ""),
                    reason="the thread sanitizer has a thread that does")
def test_while_there_is_nothing_to_do_its_thread_does_not_wake(site):
    one = site(workers=3)
    served_a_little(one)
    pids = one.server.workers()

    def still():
        """Unchanged for a while: in the first moments they may be on their way to sleep."""
        before = {pid: switches(pid) for pid in pids}
        time.sleep(1)
        return before == {pid: switches(pid) for pid in pids}

    wait_for(still)
    assert still() and still()
