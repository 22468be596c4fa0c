"""What Python sees of the compiled core.

The core imports nothing from fastfork.  A worker process makes one `Worker`,
tells it what to watch, and calls `run()`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from socket import socket
from typing import Any, Protocol, type_check_only

from typing_extensions import Buffer

DEBUG: bool
"""True in a debug build (FASTFORK_DEBUG=1 at build time)."""

@type_check_only
class CoreSettings(Protocol):
    """The settings the core reads, once, when a `Worker` is made.

    Durations are seconds, sizes are bytes.  `fastfork.config.Settings` has them all.
    """

    @property
    def keep_alive(self) -> float: ...
    @property
    def head_timeout(self) -> float: ...
    @property
    def body_timeout(self) -> float: ...
    @property
    def write_timeout(self) -> float: ...
    @property
    def send_delay(self) -> float: ...
    @property
    def linger_timeout(self) -> float: ...
    @property
    def request_timeout(self) -> float:
        """0: a handler may take any time."""

    @property
    def liveness_timeout(self) -> float:
        """The loop gives a sign of life every quarter of it, but not oftener than each second;
        0: when something happens."""

    @property
    def max_request_line(self) -> int: ...
    @property
    def max_head(self) -> int: ...
    @property
    def max_fields(self) -> int: ...
    @property
    def max_body(self) -> int: ...
    @property
    def body_memory(self) -> int: ...
    @property
    def max_body_memory(self) -> int: ...
    @property
    def output_memory(self) -> int: ...
    @property
    def output_spool(self) -> int: ...
    @property
    def max_spool(self) -> int: ...
    @property
    def max_connections(self) -> int: ...
    @property
    def forwarded_allow_ips(self) -> tuple[str, ...]: ...
    @property
    def forwarded_fields(self) -> tuple[str, ...]: ...
    @property
    def proxy_protocol(self) -> str: ...
    @property
    def access_log_format(self) -> str: ...
    @property
    def read_ahead(self) -> int: ...
    @property
    def keep_alive_requests(self) -> int: ...
    @property
    def max_chunk_extensions(self) -> int: ...
    @property
    def body_min_rate(self) -> int:
        """Bytes per second."""

    @property
    def request_buffering(self) -> str: ...
    @property
    def greenlets(self) -> int | str: ...
    @property
    def green(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def max_in_flight(self) -> int | str: ...
    @property
    def max_queue(self) -> int: ...
    @property
    def queue_timeout(self) -> float:
        """0: a request may wait any time."""

    @property
    def handoff_after(self) -> float:
        """0: what waits for a handler that keeps the loop waits."""

    @property
    def header_map(self) -> str: ...
    @property
    def server_header(self) -> str: ...
    @property
    def date_header(self) -> str: ...

@type_check_only
class HasFileno(Protocol):
    def fileno(self) -> int: ...

@type_check_only
class Siblings(Protocol):
    @property
    def board(self) -> Buffer:
        """The scoreboard: all slots."""

    @property
    def family(self) -> int:
        """Workers with this number share the listeners."""

    @property
    def bells(self) -> Sequence[int]:
        """Descriptors (eventfd)."""

    @property
    def bell(self) -> int:
        """Which of them is this worker's, modulo their number."""

@type_check_only
class HubCalls(Protocol):
    """What the core asks of gevent."""

    def want_turn(self) -> None: ...
    def sleep(self, seconds: float, /) -> object: ...
    def wait(self, fd: int, writable: bool, timeout: float | None, /) -> bool: ...

class Worker:
    """One worker's loop: accepts, parses, calls the application, answers."""

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        listeners: Sequence[socket],
        settings: CoreSettings,
        *,
        log: Callable[[int, str, BaseException | None], object],
        access_log_fd: int = -1,
        multiprocess: bool = False,
        slot: Buffer | None = None,
        siblings: Siblings | None = None,
        pair: tuple[int, int] | None = None,
    ) -> None:
        """`log(level, message, exception)` receives what belongs in the error log;
        level is a `logging` level.  The listeners must be listening; the core makes them
        non-blocking.  Access-log lines go to `access_log_fd` (-1: none).  `slot` is `SLOT_SIZE`
        writable bytes, in shared memory if others shall see what this worker does (`slot_read`);
        what was in them is lost.  ValueError if they are too few or not aligned to 8.
        `siblings`: the workers that share the listeners, with which this one shares the work.
        `pair`: descriptors by which it hands connections to siblings, and gets theirs."""

    def run(self) -> None:
        """Serve until `drain` has finished or `stop` was called."""

    def begin_under(self, hub: object, calls: HubCalls) -> None:
        """Instead of `run`: from now on handlers run in greenlets whose parent is `hub` (a
        greenlet too), which is to call `turn` whenever `fileno()` is readable and when `turn` or
        `calls` want it."""

    def fileno(self) -> int:
        """epoll's descriptor."""

    def turn(self) -> float | None:
        """In the hub: do what there is to do.  Seconds until the next turn at the latest (0: at
        once, negative: no end), or None when the worker is done."""

    def end_under(self) -> None:
        """After the last turn."""

    def drain(self, timeout: float) -> None:
        """Stop accepting, close the listeners, and connections that go on resting for 0.2 s more;
        answer what is in flight
        with `Connection: close`; `run` returns when nothing is left or after `timeout` seconds.
        Safe to call from a Python signal handler."""

    def stop(self) -> None:
        """`run` returns before the next request is served; connections are closed.
        Safe to call from a Python signal handler."""

    def retire(self, timeout: float, linger: float) -> None:
        """As `drain`, for a worker whose siblings go on: whoever waits to be accepted is left to
        them, and connections at rest are handed over, those of requests in flight when these are
        answered.  Without a pair, or if it is broken, connections at rest stay for `linger`
        seconds, for a request on them that may be on its way; it is answered with
        `Connection: close`.  (At most until half a second before `timeout` seconds are over.)
        `drain` ends both, and has its own timeout if that is over sooner.  Safe to call from a
        Python signal handler."""

    def time_out(self) -> None:
        """To be called from a Python signal handler, again and again while a deadline is past:
        raises `RequestTimeout` if a handler is running, its deadline is past, and it was not raised
        in it yet."""

    def in_hand(self) -> list[tuple[str, str, float, str, object]]:
        """The requests that handlers have, the running one first: method, target (the first 200
        characters), age in seconds, request id, and the greenlet of a handler that waits (None:
        it runs).  The texts are printable ASCII."""

    def watch(self, fd: int, callback: Callable[[], object]) -> None:
        """Call `callback()` from the loop whenever `fd` is readable or at end of file."""

    def unwatch(self, fd: int) -> None: ...
    def flush_access_log(self) -> None:
        """Write buffered access-log lines now."""

    def connect(self, address: str = "127.0.0.1", port: int = 40000) -> MemoryConnection:
        """A connection without a socket: bytes in, bytes out."""

    def stats(self) -> dict[str, int]:
        """accepted, requests, connections, in_flight, held (bytes of request bodies in memory),
        spooled (bytes in temporary files), switches, carriers: running totals and present counts
        of this worker."""

class MemoryConnection:
    """The client's end of a connection that has no socket (tests, fuzzing, micro-benchmarks)."""

    def __init__(self, worker: Worker, address: str, port: int) -> None: ...
    @property
    def closed(self) -> bool:
        """True when the server has closed the connection (lingering counts as closed)."""

    @property
    def reset(self) -> bool:
        """True when the server would have sent a reset rather than an orderly close."""

    def feed(self, data: bytes) -> bytes:
        """Give the server these bytes; return what it sent in answer."""

    def eof(self) -> bytes:
        """The client closes its sending side; return what the server sent after it."""

class ClientGone(ConnectionError):
    """Raised by `write()` when the client has disconnected."""

class BodyError(OSError):
    """Raised by reading `wsgi.input`: the rest of the request body will not come (the client broke
    off or stalls) or cannot be read (malformed, too long)."""

    status: int
    """400, 408, 413 or 431: what the client is told if the handler lets it pass."""

    def __init__(self, status: int, reason: str) -> None: ...

class RequestTimeout(BaseException):
    """Raised in a handler that takes longer than `request_timeout`.  The client gets 504 unless the
    handler catches it and answers otherwise; a response that has begun is broken off.

    Not an Exception, so that the frameworks' `except Exception`, which makes a 500 of everything,
    does not make one of this."""

def extend_deadline(seconds: float) -> None:
    """`fastfork.extend_deadline` in the environ: give the request that runs now at least `seconds`
    from now.  Nothing happens where there is no deadline or no such request.  ValueError if they
    are negative or not finite."""

class Input:
    """`wsgi.input` (PEP 3333, Input and Error Streams): a body in memory or in a temporary file."""

    def read(self, size: int | None = -1, /) -> bytes: ...
    def readline(self, size: int | None = -1, /) -> bytes: ...
    def readlines(self, hint: int | None = -1, /) -> list[bytes]: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def __next__(self) -> bytes: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...

class InputStream(Input):
    """`wsgi.input` of a body that is handed over as it comes."""

class FileWrapper:
    """`wsgi.file_wrapper` (PEP 3333, Optional Platform-Specific File Handling)."""

    filelike: Any
    block_size: int
    def __init__(self, filelike: Any, block_size: int = 8192, /) -> None: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def __next__(self) -> bytes: ...
    def close(self) -> None: ...

def guard(lifeline_fd: int, grace: float) -> None:
    """Start the life-line guard: a C thread that never touches Python, asleep until
    `lifeline_fd` reaches end of file (the master is gone); `grace` seconds later it kills
    this process with SIGKILL, wherever it is stuck.  Once per process, after the fork."""

SLOT_SIZE: int
"""Bytes of a worker's slot on the scoreboard, a multiple of 64."""

HANDOFF_VERSION: int
"""Of what one worker sends another with a connection; both must have the same."""

def slot_read(slot: Buffer) -> dict[str, Any]:
    """What a worker has written in its slot; for any process that has the memory, at any time.

    pid; state: "booting" (there is a `Worker`, `run` was not called), "idle" (waits for events),
    "busy", "draining"; heartbeat: when the loop was last known to be alive (seconds on the clock of
    time.monotonic(), as all times here); accepted, requests (that a handler is done with), sent
    (bytes of their bodies): totals; connections, in_flight (requests that handlers have): at
    present; request_started (0.0: no handler runs; one that waits for its client does not),
    deadline (0.0: none), request_number (counted from 1), method, path (the first 200 bytes of the
    target), request_id: of the request whose handler runs, or was the last to; statuses: counts of
    answers 1xx ... 5xx; queued: complete requests that wait for a handler; refused: how many were
    answered with 503 because they would have waited too long; handed_out, handed_in: connections
    that it has sent to siblings, and has from them; latency: a list, of which item i
    counts requests that took fewer than 2**i microseconds, but not fewer than 2**(i - 1); the last
    counts all others.  Answers without a
    handler, to malformed requests, are not counted.  whole: False if the worker was in the middle
    of writing whenever it was looked at, for a millisecond: it is stopped, or it died like that,
    and parts may belong to different requests.  Texts are printable ASCII.  A slot of zeros has no
    worker yet.  ValueError if it is too short."""

def slot_vacate(slot: Buffer) -> None:
    """The worker that had the slot is gone: it is as before the worker began, but for the pid.
    ValueError if it is too short."""

def sleep(seconds: float) -> None:
    """Wait; handlers of other requests run meanwhile if there may be several in progress.

    ValueError if `seconds` is negative or not finite.  Raises RequestTimeout at the deadline of the
    request, and ClientGone if its response has begun and the client vanishes."""

def wait_readable(fd: int | HasFileno, timeout: float | None = None) -> bool:
    """Wait until the descriptor (or what has a fileno()) is readable, or at its end, at most
    `timeout` seconds.  True if it is, False if the time is up; raises what `sleep` raises."""

def wait_writable(fd: int | HasFileno, timeout: float | None = None) -> bool:
    """The same until it is writable."""

def adopt_orphans() -> None:
    """Descendants of this process whose parent ends become its children (PR_SET_CHILD_SUBREAPER).
    Raises OSError."""

def die_with_parent(parent: int) -> None:
    """The kernel kills this process with SIGKILL when the thread that forked it ends
    (PR_SET_PDEATHSIG); at once if its parent is not the process `parent` any more.  Raises
    OSError."""

def outlive(parent: int) -> None:
    """Wait until the process `parent`, which forked this one, has ended, and whoever adopts its
    orphans is our parent (PR_SET_PDEATHSIG, with a signal that is taken here).  Raises OSError."""

def name_process(name: str) -> None:
    """What ps and top call this thread, in the main thread the process (PR_SET_NAME); the first 15
    bytes count.  Raises OSError."""

def counters() -> dict[str, int] | None:
    """Live objects of the core (connections, parsers, exchanges, buffers, outboxes, bodies,
    carriers), all zero when no worker lives; None unless `DEBUG`."""
