"""Every way to run handlers with every framework: what a client and a handler may do."""

import hashlib
import json
import signal
from contextlib import ExitStack

import pytest
from harness import MODES, SIDE_BY_SIDE, alive, wait_for
from load import Load
from running import WAYS_TO_BE_LATE, Site, piece_of, read_head
from tools import content, get, post, vanish

FRAMEWORKS = ["plain", "flask", "django", "falcon"]
COMBINATIONS = [(mode, framework) for mode in MODES for framework in FRAMEWORKS]
BODY = content(300_000)
SOON = 5.0  # seconds; generous: what is said to take one


@pytest.fixture(scope="module", params=COMBINATIONS, ids="-".join)
def combination(request):
    return request.param


@pytest.fixture(scope="module")
def sites(combination, tmp_path_factory):
    """Two servers of one worker each, which start at the same time."""
    mode, framework = combination

    def begin(*flags):
        notes = tmp_path_factory.mktemp("notes")
        return Site(f"{framework}_site:app", mode, notes, *flags, wait=False)

    with (begin("--reload-linger", "1s") as site,
          begin("--request-timeout", "300ms", "--request-grace", "1h",
                "--request-buffering", "stream") as timed):  # fmt: skip
        site.server.wait_ready()
        timed.server.wait_ready()
        # (What a framework does at its first request may take longer than the time it has there.)
        wait_for(lambda: timed.server.get("/").status == 200)
        yield site, timed


@pytest.fixture
def site(sites):
    """Without limits that anybody here would meet."""
    return sites[0]


@pytest.fixture
def timed(sites):
    """Has little time for each request, and begins with them before their bodies end."""
    return sites[1]


@pytest.fixture
def interleaving(combination):
    if combination[0] not in SIDE_BY_SIDE:
        pytest.skip("one handler at a time")


# -- short ---------------------------------------------------------------------------------
def test_short(site):
    with site.server.connect() as client:
        for _ in range(3):
            answer = client.get("/")
            assert (answer.status, answer.body) == (200, b"hello")


def test_what_the_environ_says(site):
    flags = json.loads(site.server.get("/flags").body)
    assert flags["multithread"] is (site.mode in ("gevent", "threads"))


def test_side_by_side(site, interleaving):
    """Each waits until the other one is there; what is a request's own stays its own."""
    room = site.name()
    with site.server.connect() as one, site.server.connect() as other:
        one.send(get(f"/meet?name=one&room={room}"))
        other.send(get(f"/meet?name=other&room={room}"))
        found = [json.loads(client.read_response().body) for client in (one, other)]
    assert [answer["query"] for answer in found] == ["one", "other"]
    assert [answer["variable"] for answer in found] == ["one", "other"]
    local = [answer["local"] for answer in found]
    if site.mode == "greenlets":        # who came last has written it: docs/greenlets.md
        assert local[0] == local[1]
    else:
        assert local == ["one", "other"]


def test_how_many_at_once(site):
    """Of three who wait for the same: in the default mode the others wait for the first."""
    names, until = [site.name() for _ in range(3)], site.name()
    with ExitStack() as stack:
        clients = [stack.enter_context(site.server.connect()) for _ in names]
        for client, name in zip(clients, names, strict=True):
            client.send(get(f"/stand?name={name}&until={until}"))
            if name == names[0] or site.mode != "default":
                site.wait_note(name)
        site.note(until)
        found = [int(client.read_response().body) for client in clients]
    assert max(found) == (1 if site.mode == "default" else 3)


# -- streamed response ---------------------------------------------------------------------
def test_streamed_response(site):
    name = site.name()
    with site.server.connect() as client:
        answer = client.get(f"/numbered?name={name}&count=2000")
        assert answer.header("transfer-encoding") == "chunked"
        assert answer.body == b"".join(b"%d\n" % n for n in range(2000))
        assert client.get("/").body == b"hello"
    site.wait_note(name, "closed")


def test_each_piece_goes_out_at_once(site):
    """The second is not made before the client has the first."""
    name, until = site.name(), site.name()
    with site.server.connect() as client:
        client.send(get(f"/two?name={name}&until={until}"))
        read_head(client)
        assert piece_of(client) == b"first"
        site.note(until)
        assert piece_of(client) == b"second"
        assert piece_of(client) == b""
    site.wait_note(name, "closed")


# -- request bodies ------------------------------------------------------------------------
def test_upload(site):
    with site.server.connect() as client:
        answer = client.request(post(f"/upload?name={site.name()}", BODY))
    assert json.loads(answer.body) == {
        "size": len(BODY), "sha256": hashlib.sha256(BODY).hexdigest()}


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_streamed_request(timed, combination, framing):
    """The handler has the beginning before the client sends the rest; others go on meanwhile."""
    if (combination[1], framing) == ("django", "chunked"):
        pytest.skip("Django reads nothing without a Content-Length")
    name = timed.name()
    target = f"/upload?name={name}&extend=3600"
    rest = BODY[3:]
    with timed.server.connect() as client:
        if framing == "length":
            client.send(post(target, BODY[:3], f"Content-Length: {len(BODY)}"))
        else:
            client.send(post(target, b"3\r\n%b\r\n" % BODY[:3], "Transfer-Encoding: chunked"))
            rest = b"%x\r\n%b\r\n0\r\n\r\n" % (len(rest), rest)
        timed.wait_note(name, BODY[:3].decode())
        assert timed.server.get("/pid").body == b"%d" % timed.worker
        client.send(rest)
        answer = client.read_response()
        assert json.loads(answer.body) == {
            "size": len(BODY), "sha256": hashlib.sha256(BODY).hexdigest()}
        assert client.get("/pid").status == 200


def test_both_streamed(timed):
    """What comes goes back before more comes."""
    name = timed.name()
    with timed.server.connect() as client:
        client.send(post(f"/echo?name={name}&extend=3600", b"", "Content-Length: 15"))
        for number, piece in enumerate((b"one..", b"two..", b"three")):
            client.send(piece)
            if number == 0:
                read_head(client)
            assert piece_of(client) == piece
        assert piece_of(client) == b""
    timed.wait_note(name, "closed")


def test_body_that_breaks_off(timed):
    """A handler that waits for the rest of it ends, and the worker goes on."""
    name, worker = timed.name(), timed.worker
    with timed.server.connect() as client:
        client.send(post(f"/upload?name={name}&extend=3600", b"abc", "Content-Length: 10"))
        timed.wait_note(name, "abc")
        vanish(client)
    timed.wait_note(f"{name}-why")
    assert timed.server.get("/pid").body == b"%d" % worker


# -- exceptions ----------------------------------------------------------------------------
def test_exception(site):
    told = site.server.stderr.count("RuntimeError: this page always fails")
    worker = site.worker
    with site.server.connect() as client:
        answer = client.get("/fails")
        assert answer.status == 500
        assert b"this page always fails" not in answer.body
    wait_for(lambda: site.server.stderr.count("RuntimeError: this page always fails") > told)
    assert site.server.get("/pid").body == b"%d" % worker


def test_exception_in_the_middle(site):
    """The client can tell that the answer is not whole."""
    name, worker = site.name(), site.worker
    with site.server.connect() as client:
        answer = client.get(f"/breaks?name={name}")
        assert (answer.status, answer.body, answer.complete) == (200, b"first", False)
    site.wait_note(name, "closed")
    site.server.wait_stderr("RuntimeError: this page breaks off")
    assert site.server.get("/pid").body == b"%d" % worker


# -- disconnects ---------------------------------------------------------------------------
@pytest.mark.parametrize("leave", [vanish, lambda client: client.close()], ids=["reset", "close"])
def test_client_vanishes(site, leave):
    """close() is called at one of the next pieces."""
    name, worker = site.name(), site.worker
    with site.server.connect() as client:
        client.send(get(f"/drops?name={name}"))
        read_head(client)
        for _ in range(3):
            assert piece_of(client) == b"drop"
        assert not (site.notes / name).exists()
        leave(client)
    site.wait_note(name, "closed", SOON)
    assert site.server.get("/pid").body == b"%d" % worker


# -- deadlines -----------------------------------------------------------------------------
def test_deadline(timed):
    """However the handler is at work when its time is up."""
    worker = timed.worker
    for way in WAYS_TO_BE_LATE[timed.mode]:
        name = timed.name()
        with timed.server.connect() as client:
            assert client.get(f"/late?name={name}&how={way}").status == 504, way
        timed.wait_note(name, f"RequestTimeout in the handler of {name}")
    assert timed.server.get("/pid").body == b"%d" % worker
    assert timed.worker == worker


def test_deadline_in_the_middle_of_a_response(timed):
    way = WAYS_TO_BE_LATE[timed.mode][0]
    name, worker = timed.name(), timed.worker
    with timed.server.connect() as client:
        answer = client.get(f"/late-pieces?name={name}&how={way}")
        assert (answer.status, answer.body, answer.complete) == (200, b"first", False)
    timed.wait_note(f"{name}-why", "RequestTimeout")
    timed.wait_note(name, "closed")
    assert timed.server.get("/pid").body == b"%d" % worker


def test_only_who_is_late(timed, interleaving):
    """Of two at once; the other one has asked for more time."""
    patient, late, until, worker = timed.name(), timed.name(), timed.name(), timed.worker
    way = WAYS_TO_BE_LATE[timed.mode][0]
    with timed.server.connect() as one, timed.server.connect() as other:
        one.send(get(f"/stand?name={patient}&until={until}&extend=3600"))
        timed.wait_note(patient)
        other.send(get(f"/late?name={late}&how={way}"))
        assert other.read_response().status == 504
        timed.wait_note(late, f"RequestTimeout in the handler of {late}")
        timed.note(until)
        assert one.read_response().status == 200
    assert timed.worker == worker


# -- reload under load ---------------------------------------------------------------------
def reloads(site):
    return site.server.stderr.count(" is reloaded: generation ")


def test_reload_under_load(site):
    old, done = site.worker, reloads(site)
    with Load(site.server.address, clients=8, target="/pid") as load:
        load.wait_answered(100)
        site.server.signal(signal.SIGHUP)
        wait_for(lambda: reloads(site) > done, message=lambda: site.server.stderr)
        load.wait_answered(load.answered + 100)
        wait_for(lambda: not alive(old), message=lambda: site.server.stderr)
    assert [str(failure) for failure in load.failures] == []
    assert set(load.answers) == {old, site.worker} and site.worker != old


def test_reload_while_responses_are_under_way(site, interleaving):
    """The old worker brings them to their end."""
    old, done = site.worker, reloads(site)
    name, until = site.name(), site.name()
    with site.server.connect() as client:
        client.send(get(f"/two?name={name}&until={until}"))
        read_head(client)
        assert piece_of(client) == b"first"
        with Load(site.server.address, clients=4, target="/pid") as load:
            site.server.signal(signal.SIGHUP)
            wait_for(lambda: reloads(site) > done, message=lambda: site.server.stderr)
            wait_for(lambda: any(pid != old for pid in load.answers.copy()))
        assert [str(failure) for failure in load.failures] == []
        assert alive(old)
        site.note(until)
        assert piece_of(client) == b"second"
        assert piece_of(client) == b""
    wait_for(lambda: not alive(old), message=lambda: site.server.stderr)
