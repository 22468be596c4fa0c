"""The works: what is asked of every contender, how, and who takes part beside the servers.

A literal table.  run.py reads it from top to bottom; the fields of Work say what they mean.
"""

import json
from dataclasses import dataclass

from servers import APP, FILE_APP, MINIMAL, TWELVE
from sites import plain
from sites.document import detail

MIB = 1 << 20

SERVERS = ("fastfork", "bjoern", "fastwsgi", "granian", "uwsgi", "gunicorn-sync",
           "gunicorn-gthread", "gunicorn-gevent", "waitress", "cheroot", "gevent-pywsgi")


@dataclass(frozen=True)
class Work:
    """One work.  Everybody who takes part has `workers` workers and serves `app`."""

    name: str
    title: str
    app: str = APP
    requests: tuple[bytes, ...] = tuple(MINIMAL)  # sent in turn
    answers: tuple[bytes, ...] = (plain.BODY,)  # the bodies, in turn as well: each is one of these
    times: int = 1  # so many times
    connections: int = 64
    workers: int = 1
    pipelined: int = 1  # requests that go out at once on a connection
    idle: int = 0  # connections that rest while others are busy
    log: bool = False  # access log on; beside it the same server without
    closes: bool = False  # each request asks for the end of its connection
    open_loop: bool = False  # at half of the rate that a closed loop reached
    down: int = 0  # bytes of body that are the point of the answer
    up: int = 0  # or of the request
    patience: int = 2  # seconds that an answer may take
    also: tuple[str, ...] = ()  # who takes part beside SERVERS
    alone: str = ""  # the kind of request for own.py, which calls the application without a server
    note: str = ""

    def names(self):
        """The contenders."""
        return [*SERVERS, *self.also, *(["app-alone"] if self.alone else [])]


def post(size):
    """A request whose body is a JSON list of `size` bytes."""
    return (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % size + plain.body(size),)


def items(size):
    """What plain.post answers to post(size)."""
    return json.dumps({"items": len(json.loads(plain.body(size)))}).encode()


def chunked(size, chunk):
    """An upload of `size` bytes in chunks of `chunk` bytes."""
    piece = b"%x\r\n%s\r\n" % (chunk, b"x" * chunk)
    return (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            + piece * (size // chunk) + b"0\r\n\r\n",)


def detailed(request):
    """What the API answers to one of TWELVE."""
    fields = dict(line.split(": ", 1) for line in request.decode().splitlines()[1:-1])
    return detail(50, "ACTIVE", fields["Accept-Language"], fields["X-Request-Id"],
                  fields["User-Agent"]).encode()


def framework(name, title):
    """The JSON API under a framework, asked with twelve header fields."""
    return Work(name, f"{title}: JSON API, twelve header fields", app=f"sites.{name}_api:app",
                requests=tuple(TWELVE), answers=tuple(map(detailed, TWELVE)), alone="twelve")


TABLE = {work.name: work for work in [
    Work("hello", "Hello", also=("limit",), alone="minimal"),
    Work("hello-twelve", "Hello, twelve header fields", requests=tuple(TWELVE), also=("limit",)),
    Work("hello-2", "Hello, two workers", workers=2),
    Work("hello-4", "Hello, four workers", workers=4),
    Work("log", "Hello, access log on", log=True,
         note="off: CPU time with the log over that without, both measured in the same rounds."),
    Work("close", "Hello, a connection per request", closes=True,
         requests=(MINIMAL[0].replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),)),
    Work("pipelined", "Hello, 16 requests at once on each connection",
         requests=(MINIMAL[0] * 16,), pipelined=16,
         note="wrk has no latencies that could be used for pipelined requests."),
    Work("idle-1000", "Hello, 64 busy and 1,000 idle connections", idle=1_000,
         also=("limit", "uwsgi-router")),
    Work("idle-10000", "Hello, 64 busy and 10,000 idle connections", idle=10_000,
         also=("limit", "uwsgi-router"), note=(
             "gunicorn-sync closes each connection.  waitress looks at all connections before each "
             "wait and uwsgi needs a thread for each: with so many they are too slow.")),
    framework("falcon", "Falcon"),
    framework("flask", "Flask"),
    framework("django", "Django"),
    Work("post-1k", "POST of 1 KiB JSON", app="sites.plain:post", requests=post(1024),
         answers=(items(1024),), alone="post-1k"),
    Work("post-64k", "POST of 64 KiB JSON", app="sites.plain:post", requests=post(65536),
         answers=(items(65536),), alone="post-64k"),
    Work("generated-1m", "Download of 1 MiB from a generator", app="sites.plain:generated",
         answers=(plain.PIECE,), times=plain.PIECES, connections=4, down=MIB, patience=10),
    Work("file-100m", "Download of a file of 100 MiB", app=FILE_APP,
         answers=(bytes(range(256)) * (MIB // 256),), times=100, connections=4, down=100 * MIB,
         patience=20, also=("nginx",)),
    Work("upload-10m", "Chunked upload of 10 MiB", app="sites.plain:upload",
         requests=chunked(10 * MIB, 65536), answers=(b"%d" % (10 * MIB),), connections=4,
         up=10 * MIB, patience=10, also=("fastfork-stream",)),
    Work("latency", "Latency of hello at half of the full rate, open loop", open_loop=True,
         note="req/s: the rate asked for.  Latencies count from when a request was due.  "
              "fastfork's are those in the same rounds at the same rate."),
]}
