"""The corpus (tests/requests) over a socket: what core/test_replay.py does without one."""

import contextlib
import json
import random
import socket
import zlib

import pytest
from cases import GOOD, POISON
from corpus import CASES, INCOMPLETE, SETTINGS, SUBJECTS
from harness import Server, answers
from tools import HERE, PATIENT, get

FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]


class Recorder:
    """A server whose application remembers its calls, and a connection to ask it for them."""

    def __init__(self, server):
        self.server = server
        self.client = server.connect()

    def send(self, pieces, *, half_close=False):
        """Everything that is answered to `pieces`, each of which the server reads by itself, until
        it closes; and the calls made."""
        with self.server.connect() as client:
            client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # closed before that
                for piece in pieces[:-1]:
                    client.send(piece)
                    assert self.client.request(get("/pause")).status == 200
                client.send(pieces[-1])
                if half_close:
                    client.sock.shutdown(socket.SHUT_WR)
            sent = client.read_all()
        calls = json.loads(self.client.request(get("/executed")).body)
        return sent, [({"CONTENT_LENGTH": str(len(body)), **environ}, body.encode("latin-1"))
                      for environ, body in calls]       # a streamed chunked body has none


@pytest.fixture(scope="module", params=["full", "stream"])
def module_recorder(request):
    buffering = f"--request-buffering={request.param}"
    with Server("apps_recorder:app", buffering, *PATIENT, *FLAGS, cwd=HERE) as server:
        yield Recorder(server)
        assert server.workers() == server.ready["workers"]


@pytest.fixture
def recorder(module_recorder):
    """With nothing in its memory; the worker is the same in all tests."""
    assert module_recorder.client.request(get("/executed")).status == 200
    return module_recorder


def cut(raw, seeded, most):
    """`raw` in up to `most` pieces."""
    cuts = sorted(seeded.sample(range(1, len(raw)), min(most, len(raw)) - 1))
    return [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]


def check_followed(recorder, case, pieces, *, behind=False):
    sent, calls = recorder.send(pieces)
    found = answers(sent, *["GET"] * behind, case.method)
    case.check(found, calls, True, behind=behind, followed=True)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_whole(recorder, case):
    """With a poisoned follower; both behind a good one; and alone.

    A client that half-closes is answered all the same (RFC 9112, 9.6); one that is refused need
    not do that to be told.
    """
    check_followed(recorder, case, [case.raw + POISON])
    check_followed(recorder, case, [GOOD + case.raw + POISON], behind=True)
    sent, calls = recorder.send([case.raw], half_close=200 in case.statuses)
    found = answers(sent, case.method)
    case.check(found, calls, found[0].header("connection") == "close")


SOME = {name: case for name, case in CASES.items() if zlib.crc32(name.encode()) % 5 == 0}
SHORT = {name: case for subject in SUBJECTS for name, case in CASES.items()
         if case is min(subject.CASES, key=lambda c: (200 not in c.statuses, len(c.raw)))}


@pytest.mark.parametrize("case", SOME.values(), ids=SOME)
def test_in_pieces(recorder, case):
    """A fifth of them, in five pieces."""
    seeded = random.Random(len(case.raw))
    check_followed(recorder, case, cut(case.raw + POISON, seeded, 5))


@pytest.mark.parametrize("case", SHORT.values(), ids=SHORT)
def test_by_byte(recorder, case):
    """The shortest one of each subject."""
    raw = GOOD + case.raw + POISON
    check_followed(recorder, case, [raw[i:i + 1] for i in range(len(raw))], behind=True)


@pytest.mark.parametrize("case", INCOMPLETE.values(), ids=INCOMPLETE)
def test_incomplete(recorder, case):
    """RFC 9112, 8: refused or dropped, and not executed."""
    sent, calls = recorder.send([case.raw], half_close=True)
    found = [] if sent in (b"", b"HTTP/1.1 100 Continue\r\n\r\n") else answers(sent, case.method)
    assert all(a.status in case.statuses for a in found) and len(found) <= 1
    assert calls == []
