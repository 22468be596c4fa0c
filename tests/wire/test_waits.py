"""Handlers that wait: fastfork.sleep, wait_readable, wait_writable, in every mode."""

import contextlib
import json
import select
import signal
import time

import pytest
from harness import MODES, SIDE_BY_SIDE, Server, wait_for
from tools import HERE, PATIENT, get, post, quiet_for, slow_client, status_kib, vanish, wake

IN_LOOP = ["default", "greenlets"]


def serve(mode, *flags, **options):
    return Server("apps_waits:app", *MODES[mode], *flags, cwd=HERE, **options)


@pytest.fixture(scope="module")
def modes():
    """`modes(mode)`: a server that several tests share."""
    started = {}

    def of(mode):
        if mode not in started:
            started[mode] = serve(mode, *PATIENT, "--request-buffering", "stream",
                                  "--output-spool", "1M")
        return started[mode]

    yield of
    for server in started.values():
        server.close()


def stats(server):
    return json.loads(server.get("/stats").body)


def ask(server, target):
    """A client that has sent this request."""
    client = server.connect()
    client.send(get(target))
    return client


# -- arguments ---------------------------------------------------------------------------
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "gevent"])
def test_what_bad_arguments_raise(modes, mode):
    found = modes(mode).get("/bad").body.decode().split()
    assert found == [*["ValueError"] * 3, "TypeError", *["ValueError"] * 4, "AttributeError",
                     "OSError", "OSError"]


@pytest.mark.parametrize("mode", MODES)
def test_readiness_ends_and_files(modes, mode):
    assert modes(mode).get("/ready").body == b"fftttttttt"


@pytest.mark.parametrize("mode", MODES)
def test_two_wait_for_the_same_descriptor(modes, mode):
    one, other = ask(modes(mode), "/same"), ask(modes(mode), "/same")
    with one, other:
        assert [one.read_response().body, other.read_response().body] == [b"False", b"False"]


@pytest.mark.parametrize("mode", ["greenlets"])
def test_a_descriptor_that_is_closed_while_it_is_waited_for(modes, mode):
    """Its number may then be that of a new client, who must not be forgotten with it."""
    server = modes(mode)
    with ask(server, "/closed") as waiting, contextlib.ExitStack() as others:
        clients = []
        while not select.select([waiting.sock], [], [], 0.01)[0]:
            clients.append(others.enter_context(server.connect()))
            assert clients[-1].get("/ready").status == 200
        assert waiting.read_response().body == b"False"
        for client in clients:
            assert client.get("/ready").status == 200


@pytest.mark.parametrize("mode", MODES)
def test_waits_in_threads_greenlets_and_children(modes, mode):
    assert set(json.loads(modes(mode).get("/elsewhere").body.lower().replace(b"'", b'"'))) == {True}


# -- order and heap ----------------------------------------------------------------------
@pytest.mark.parametrize("mode", SIDE_BY_SIDE)
def test_sleepers_wake_in_the_order_of_their_times(modes, mode):
    server = modes(mode)
    times = ["0.36", "0.24", "0.12", "0.3", "0.18", "0.06"]
    soon = time.monotonic() + 0.5  # when all of them sleep
    clients = [ask(server, f"/ordered?from={soon}&t={t}") for t in times]
    last = max((c.read_response().body for c in clients), key=len)
    for client in clients:
        client.close()
    assert last.decode().split()[-6:] == sorted(times)


def test_waits_that_ended_early_are_not_kept():
    with serve("greenlets", "--graceful-timeout", "1s") as server:
        (pid,) = server.workers()
        with ask(server, "/slept?t=60"):    # first in the heap, and it stays
            assert server.get("/impatient?n=2000").body == b"done"
            before = status_kib(pid, "VmRSS")
            assert server.get("/impatient?n=30000").body == b"done"
            assert status_kib(pid, "VmRSS") - before < 2048     # kept: some 200 bytes each


@pytest.mark.parametrize("mode", IN_LOOP)
def test_a_handler_that_does_not_wait_costs_no_switch(modes, mode):
    server = modes(mode)
    before = stats(server)["switches"]
    for _ in range(20):
        assert server.get("/hello").body == b"hello"
    assert stats(server)["switches"] == before


@pytest.mark.parametrize("mode", MODES)
def test_each_request_keeps_its_context(modes, mode):
    clients = [ask(modes(mode), f"/variable?value={n}") for n in range(6)]
    for n, client in enumerate(clients):
        with client:
            assert json.loads(client.read_response().body) == [None, *[str(n)] * 5]


# -- output meanwhile --------------------------------------------------------------------
@pytest.mark.parametrize("mode", MODES)
def test_what_is_left_of_a_response_goes_out_while_the_handler_waits(mode):
    size = 20_000_000
    with serve(mode, "--graceful-timeout", "1s") as server:
        client = server.connect(2)
        client.send(get(f"/large?n={size}"))
        client.read_head()
        assert client.read_line() == b"%x" % size
        client.read_exactly(size)
        vanish(client)


# -- clients that vanish, deadlines ------------------------------------------------------
@pytest.mark.parametrize("mode", IN_LOOP)
def test_a_client_that_vanishes_ends_a_wait_within_a_response(mode):
    with serve(mode) as server:
        client = ask(server, "/told?when=after")
        client.read_head()
        server.wait_stderr("SAID waits")
        vanish(client)
        server.wait_stderr("SAID met ClientGone")
        assert server.get("/hello").body == b"hello"


def test_a_client_that_vanishes_does_not_end_a_wait_before_the_response():
    with serve("greenlets", "--request-timeout", "500ms", "--request-grace", "30s") as server:
        client = ask(server, "/told?when=before")
        server.wait_stderr("SAID waits")
        vanish(client)
        server.wait_stderr("SAID met")
        assert "met RequestTimeout" in server.stderr


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "threads"])
def test_a_deadline_ends_a_wait(mode):
    with serve(mode, "--request-timeout", "200ms", "--request-grace", "30s") as server:
        assert server.get("/told?when=before").status == 504
        begun = server.get("/told?when=after")
        assert (begun.status, begun.complete) == (200, False)
        assert server.stderr.count("met RequestTimeout") == 2
        assert server.get("/hello").body == b"hello"


# -- the end -----------------------------------------------------------------------------
@pytest.mark.parametrize("mode", MODES)
def test_handlers_that_sleep_may_finish(mode):
    with serve(mode, "--graceful-timeout", "10s") as server:
        with ask(server, "/slept?t=0.5") as client:
            quiet_for(client)
            server.signal(signal.SIGTERM)
            answer = client.read_response()
            assert (answer.body, answer.header("connection")) == (b"slept", "close")
        assert server.wait() == 0


@pytest.mark.parametrize("mode", IN_LOOP)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_connections_whose_handlers_sleep_do_not_rest(mode, number, tmp_path):
    """Be the request the first of its client or another: while its handler waits nobody closes the
    connection, or hands it on."""
    with serve(mode, "--graceful-timeout", "30s") as server, contextlib.ExitStack() as stack:
        before = server.workers()
        clients = [stack.enter_context(server.connect()) for _ in range(8)]
        for client in clients[::2]:
            assert client.get("/hello").body == b"hello"
        asked = clients[:4] if mode != "default" else clients[:1]
        for client in asked:
            client.send(get(f"/hold?file={tmp_path / 'there'}"))
        wait_for(lambda: server.stderr.count("SAID holds") == len(asked))
        server.signal(number)
        if number == signal.SIGHUP:
            wait_for(lambda: set(server.workers()) - set(before))
        assert quiet_for(asked[0], 1)           # longer than those that rest have
        (tmp_path / "there").touch()
        for client in asked:
            answer = client.read_response()
            assert (answer.status, answer.body) == (200, b"released")
        assert server.stop() == 0
        assert "ERROR" not in server.stderr and "killed" not in server.stderr


@pytest.mark.parametrize("mode", MODES)
def test_handlers_that_sleep_too_long_are_cut_off(mode):
    with serve(mode, "--graceful-timeout", "1s") as server:
        with ask(server, "/slept?t=60") as client:
            quiet_for(client)
            server.signal(signal.SIGTERM)
            begun = time.monotonic()
            assert client.read_all() == b""
            assert server.wait() == 0
        assert time.monotonic() - begun < 8
        assert "killed" not in server.stderr


# -- bodies ------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("how", "pieces"), [("lines", 6), ("small", 8), ("whole", 1)])
def test_bodies_that_come_slowly(modes, mode, how, pieces):
    with modes(mode).connect() as client:
        client.send(get(f"/read?how={how}", "Transfer-Encoding: chunked", method="POST"))
        for _ in range(5):
            client.send(b"b\r\nhello\nworld\r\n")
            quiet_for(client, 0.01)
        client.send(b"0\r\n\r\n")
        assert client.read_response().body == b"55 in %d" % pieces
        assert client.get("/hello").body == b"hello"


@pytest.mark.parametrize("mode", MODES)
def test_a_body_that_breaks_off(modes, mode):
    server = modes(mode)
    before = server.stderr.count("met BodyError 400")
    with server.connect() as client:
        client.send(get("/read?how=whole", "Content-Length: 9", method="POST") + b"abc")
        quiet_for(client)
        client.sock.shutdown(1)
        assert client.read_response().status == 400
    client = server.connect()
    client.send(get("/read?how=whole", "Content-Length: 9", method="POST") + b"abc")
    quiet_for(client)
    vanish(client)
    wait_for(lambda: server.stderr.count("met BodyError 400") == before + 2)


@pytest.mark.parametrize("mode", MODES)
def test_a_body_that_stalls_after_a_wait(mode):
    """The wait for it begins when the loop looks at nothing."""
    flags = ["--request-buffering", "stream", "--body-timeout", "300ms", "--liveness-timeout", "0"]
    with serve(mode, *flags) as server, server.connect() as client:
        begun = time.monotonic()
        client.send(get("/read?how=whole&t=0.1", "Content-Length: 9", method="POST") + b"abc")
        assert client.read_response().status == 408
        assert time.monotonic() - begun < 4


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", ["", "&write=1"])
def test_a_slow_reader_stops_the_handler(modes, mode, way):
    server = modes(mode)
    taken, closed = (server.stderr.count(f"SAID {what}") for what in ("all taken", "closed"))
    client = slow_client(server)
    client.send(get("/many?n=200" + way))
    assert not quiet_for(client, 5)
    quiet = ask(server, "/hello") if mode != "default" else None
    if quiet is not None:
        assert quiet.read_response().body == b"hello"
        quiet.close()
    assert server.stderr.count("SAID all taken") == taken
    wake(client)
    answer = client.read_response()
    assert (len(answer.body), answer.complete) == (200 * 65536, True)
    client.close()
    client = slow_client(server)
    client.send(get("/many?n=200" + way))
    assert not quiet_for(client, 5)
    vanish(client)
    wait_for(lambda: server.stderr.count("SAID closed") == closed + 2)
    assert server.stderr.count("SAID all taken") == taken + 1
    assert server.get("/hello").body == b"hello"


# -- whatever goes wrong -----------------------------------------------------------------
@pytest.mark.parametrize("mode", MODES)
def test_exceptions_end_no_worker(modes, mode):
    server = modes(mode)
    before = server.workers()
    with server.connect() as client:
        for what in ("exit", "interrupt", "generator", "value", "timeout") * 2:
            assert client.get(f"/raised?what={what}").status == (504 if what == "timeout" else 500)
            assert client.get("/hello").body == b"hello"
    assert server.workers() == before


@pytest.mark.parametrize("mode", MODES)
def test_children_that_come_back(modes, mode):
    server = modes(mode)
    with server.connect() as client:
        for how, status in (("returns", b"0"), ("writes", b"0"), ("raises", b"1")):
            assert client.get(f"/forked?how={how}").body == status
            assert client.get("/hello").body == b"hello"


@pytest.mark.parametrize("mode", MODES)
def test_a_large_upload_beside_others(modes, mode):
    with modes(mode).connect() as client:
        assert client.request(post("/read?how=whole", b"x" * 3_000_000)).body == b"3000000 in 1"
