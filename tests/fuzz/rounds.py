"""A round: one world, and many inputs.

The invariant: whatever comes in, what goes out is well-formed answers or a close; never an
exception, a 5xx other than 501 and 505, a hang or growth; and nothing is executed that does not
stand in the input as a request of its own, or that stands behind a refusal.  (That a round ends is
for whoever runs it to watch: fuzz.py.)
"""

from __future__ import annotations

import gc
import logging
import os
import random
import re
import traceback
from collections import Counter
from ipaddress import ip_address

from answers import DEFAULTS
from grammar import Grammar
from harness import Client
from oracle import read_preamble, read_request
from worlds import ANSWERS, FORWARDED_FIELDS, PEER, READS, Session, World

from fastfork import _core

INPUTS = 40     # of a round
LINE = re.compile(r'\S+ \S+ \S+ \[[^]]+\] "([ -~]*)" (\d{3}) (\d+)( "[ -~]*" "[ -~]*")?')
REFUSALS = {400, 408, 413, 414, 417, 421, 431, 501, 505}


class Fault(AssertionError):
    """The invariant does not hold; says for which input."""


class Tape:
    """A socket that gives what was sent on it little by little, so that reading it makes few
    copies: this process is watched for growth."""

    def __init__(self, data):
        self.data, self.at = bytes(data), 0

    def recv(self, size):
        piece = self.data[self.at:self.at + min(size, 1000)]
        self.at += len(piece)
        return piece

    @property
    def left(self):
        return len(self.data) - self.at


class Round:
    def __init__(self, seed, number, tally=None):
        self.seed, self.number = seed, number
        self.seeded = random.Random(f"{seed}/{number}")
        self.grammar = Grammar(self.seeded)
        self.tally = Counter() if tally is None else tally

    def run(self):
        before, files = _core.counters(), len(os.listdir("/proc/self/fd"))
        world = World(self.seeded)
        try:
            for _ in range(INPUTS):
                self.play(world)
        finally:
            world.close()
        del world
        if _core.counters() != before:
            gc.collect()        # what the frames of exceptions still held
        assert _core.counters() == before, (before, _core.counters())
        assert len(os.listdir("/proc/self/fd")) <= files, os.listdir("/proc/self/fd")

    def play(self, world):
        """One input; in a world of streams up to three connections that take turns."""
        sessions = [self.session(world) for _ in range(
            self.seeded.choice([1, 1, 2, 3]) if world.stream else 1)]
        session = None
        try:
            self.feed(sessions)
            answers = 0
            for session in sessions:
                answers += check(session, self.tally)
            if not world.stream and self.seeded.random() < 0.3:
                # However it is cut, the same is executed.
                raw = bytes(session.fed)
                other = Session(world, raw, False, [raw], session.plan)
                other.feed(raw)
                other.end()
                answers += check(other, self.tally)
                assert other.executed == session.executed, other
            session = None
            check_world(world, answers)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            settings = {k: v for k, v in world.settings.items() if v != DEFAULTS.get(k)}
            raise Fault("\n".join([
                f"{type(error).__name__}: {error}",
                f"{place.filename}:{place.lineno}: {place.line}",
                *map(str, [session] if session else sessions),
                f"settings: {settings}", f"log: {world.log}"])) from None
        finally:
            world.log.clear()
            world.application.session = None
            for session in sessions:
                del session.connection

    def session(self, world):
        seeded = self.seeded
        raw, right = self.grammar.input(world.preamble)
        plan = [(seeded.choice(READS), seeded.choice(ANSWERS), seeded.choice([0, 0, 0, 1, 2]),
                 seeded.random() < 0.5) for _ in range(4)]
        return Session(world, raw, right, self.grammar.cuts(raw), plan)

    def feed(self, sessions):
        """Every piece of every connection, in some order; then their ends."""
        seeded = self.seeded
        left = [(session, list(session.pieces)) for session in sessions]
        while left:
            turn = seeded.choice(left)
            session, pieces = turn
            if pieces and seeded.random() > (0.2 if session.connection.closed else 0.001):
                session.feed(pieces.pop(0))
            else:
                left.remove(turn)
                session.end()


def check(session, tally):
    """What one connection has got.  Returns the number of answers."""
    calls, settings = session.calls, session.world.settings
    assert session.connection.closed, "still open behind the end"
    client = Client(Tape(session.sent))
    cut = None              # where an answer was broken off
    for call in calls:
        assert cut is None, "a request was executed behind the end"
        if call.passed and not call.begun:      # the last: its answer is that of the error
            cut = call
            break
        answer = client.read_response(call.environ["REQUEST_METHOD"])
        check_interims(call, client)
        tally[answer.status] += 1
        assert answer.status == int(call.answers) if call.answers.isdigit() else 200, answer
        assert answer.header("x-call") == str(call.number), answer
        check_head(answer, settings)
        if call.passed:                         # in the midst of its answer
            cut = call
            assert not answer.complete or answer.header("content-length") is None
        else:
            assert call.done and answer.complete, answer
            none = call.environ["REQUEST_METHOD"] == "HEAD" or answer.status in (204, 304)
            assert answer.body == (b"" if none else call.body), answer
        assert (answer.header("connection") or "").lower() in ("", "close", "keep-alive")
    refusal = None
    if client.buffer or client.sock.left:
        assert cut is None or not cut.begun, "something behind an answer that was broken off"
        refusal = client.read_response()
        if cut:
            check_interims(cut, client)
        assert [status for status, _ in client.interim] in ([], [100]), client.interim
        tally[refusal.status] += 1
        assert refusal.status in REFUSALS or (
            refusal.status == 503 and settings["max_spool"] == 200), refusal
        assert cut is None or refusal.status == cut.error, (refusal, cut.error)
        assert refusal.header("connection") == "close", refusal
        assert refusal.all("x-call") == []
        check_head(refusal, settings)
        text = f"{refusal.status} {refusal.reason}\n".encode()
        assert refusal.body in (b"", text), refusal      # that to a HEAD has none
        assert refusal.complete or refusal.body == b""
        assert not client.buffer and not client.sock.left, "something behind a refusal"
    else:
        assert cut is None or cut.begun, "a broken body without an answer"
    check_requests(session, refusal)
    if session.closed_early and not refusal and not cut:
        assert calls and answer.header("connection") == "close", "closed without a word"
    if session.right and session.whole:
        assert not refusal, f"a right request was refused: {refusal}"
    return len(calls) + (refusal is not None and cut is None)


def check_interims(call, client):
    """100 if it was asked for and once, 103 as often as it was sent, none to an old client."""
    found, client.interim = [status for status, _ in client.interim], []
    old = call.environ["SERVER_PROTOCOL"] == "HTTP/1.0"
    assert found.count(103) == (0 if old else call.hints), found
    expects = "100-continue" in call.environ.get("HTTP_EXPECT", "").lower() and not old
    assert found.count(100) <= expects and len(found) == found.count(100) + found.count(103), found


def check_head(answer, settings):
    """What stands in the head of every answer."""
    assert answer.version == "HTTP/1.1"
    assert len(answer.all("date")) == (settings["date_header"] == "on"), answer
    server = settings["server_header"]
    assert answer.all("server") == ([] if server == "none" else [server]), answer
    assert len(answer.all("content-length")) + len(answer.all("transfer-encoding")) <= 1, answer


def check_requests(session, refusal):
    """The requests that were executed are those in the input, one behind the other."""
    raw, settings = bytes(session.fed), session.world.settings
    at, peer = 0, (PEER, str(session.port))
    if session.world.preamble != "off" and session.calls:
        at, named = read_preamble(raw)
        peer = named or peer
    for call in session.calls:
        assert at >= 0, "a request was executed behind one that does not end"
        request = read_request(raw, at)
        environ = call.environ
        assert (request.method, request.target, f"HTTP/1.{request.minor}") == (
            environ["REQUEST_METHOD"], environ["RAW_URI"], environ["SERVER_PROTOCOL"])
        assert len(request.fields) <= settings["max_fields"]
        assert request.body.startswith(call.read), (request.body, call.read)
        assert len(call.read) <= settings["max_body"]
        if call.whole:
            assert call.read == request.body and request.end >= 0, (request, call.read)
        elif not session.world.stream:
            assert request.end >= 0 and not call.error
        length = [str(len(request.body))] if request.chunked else request.all("content-length")
        assert environ.get("CONTENT_LENGTH") in (*(length or [None]), *[None] * request.chunked)
        check_environ(session.world, request, environ, peer)
        at = request.end
    if session.right and session.whole and not refusal and not session.closed_early:
        assert at == len(raw) or (not session.calls and not raw), "a right request was not executed"


def check_environ(world, request, environ, peer):
    """Every field is in the environ, and nothing else is; what proxies say only if they are
    believed."""
    dangerous = world.settings["header_map"] == "dangerous"
    trusted = world.trusts(peer[0])
    believed = world.settings["forwarded_fields"] if trusted else ()
    if not any(name in believed for name, _ in request.fields):
        assert (environ["REMOTE_ADDR"] or None, environ["REMOTE_PORT"]) == peer
        assert environ["wsgi.url_scheme"] == "http"
        assert environ["SCRIPT_NAME"] == ""
        assert environ["SERVER_PORT"] == "80"
    assert not environ["REMOTE_ADDR"] or ip_address(environ["REMOTE_ADDR"])
    assert environ["wsgi.url_scheme"] in ("http", "https")
    assert re.fullmatch(r"(/[^/\0- \x7f][^\0- \x7f]*)?", environ["SCRIPT_NAME"])
    assert 1 <= int(environ["SERVER_PORT"]) <= 65535
    expected = {}
    for name, value in request.fields:
        key = name.upper().replace("-", "_")
        if key in ("PROXY", "TRANSFER_ENCODING", "HOST", "CONTENT_LENGTH") or (
                "_" in name and not dangerous) or (
                name in FORWARDED_FIELDS and name not in believed) or (
                name.startswith("x-forwarded-") and not trusted):
            continue
        key = key if key == "CONTENT_TYPE" else "HTTP_" + key
        joint = "; " if key == "HTTP_COOKIE" else ", "
        expected[key] = expected[key] + joint + value if key in expected else value
    if "_" in "".join(name for name, _ in request.fields):
        assert world.settings["header_map"] != "refuse"
        if dangerous:
            return
    found = {k: v for k, v in environ.items()
             if (k.startswith("HTTP_") and k != "HTTP_HOST") or k == "CONTENT_TYPE"}
    assert found == expected, (found, expected)


def check_world(world, answers):
    """The worker's own account of it."""
    assert not world.application.faults, world.application.faults
    for level, message, exception in world.log:
        assert level < logging.ERROR or message.startswith("no room for a request body"), (
            message, exception)
    lines = world.access_lines()
    for line in lines:
        assert LINE.fullmatch(line), line
    assert len(lines) == answers, lines
    stats = world.worker.stats()
    assert stats["in_flight"] == stats["held"] == stats["spooled"] == 0, stats
