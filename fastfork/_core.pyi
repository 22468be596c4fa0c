"""What Python sees of the compiled core.

The core imports nothing from fastfork.  A worker process makes one `Worker`,
tells it what to watch, and calls `run()`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from socket import socket
from typing import Any, Protocol, type_check_only

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
    def linger_timeout(self) -> float: ...
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
    def header_map(self) -> str: ...
    @property
    def server_header(self) -> str: ...
    @property
    def date_header(self) -> str: ...

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
    ) -> None:
        """`log(level, message, exception)` receives what belongs in the error log;
        level is a `logging` level.  The listeners must be listening; the core makes them
        non-blocking.  Access-log lines go to `access_log_fd` (-1: none)."""

    def run(self) -> None:
        """Serve until `drain` has finished or `stop` was called."""

    def drain(self, timeout: float) -> None:
        """Stop accepting, close the listeners and resting connections, answer what is in flight
        with `Connection: close`; `run` returns when nothing is left or after `timeout` seconds.
        Safe to call from a Python signal handler."""

    def stop(self) -> None:
        """`run` returns before the next request is served; connections are closed.
        Safe to call from a Python signal handler."""

    def watch(self, fd: int, callback: Callable[[], object]) -> None:
        """Call `callback()` from the loop whenever `fd` is readable or at end of file."""

    def unwatch(self, fd: int) -> None: ...
    def flush_access_log(self) -> None:
        """Write buffered access-log lines now."""

    def connect(self, address: str = "127.0.0.1", port: int = 40000) -> MemoryConnection:
        """A connection without a socket: bytes in, bytes out."""

    def stats(self) -> dict[str, int]:
        """accepted, requests, connections, in_flight, spooled (bytes in temporary files), switches,
        carriers: running totals and present counts of this worker."""

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

class Input:
    """`wsgi.input` (PEP 3333, Input and Error Streams): a body in memory or in a temporary file."""

    def read(self, size: int | None = -1, /) -> bytes: ...
    def readline(self, size: int | None = -1, /) -> bytes: ...
    def readlines(self, hint: int | None = -1, /) -> list[bytes]: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def __next__(self) -> bytes: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...

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

def counters() -> dict[str, int] | None:
    """Live objects of the core (connections, parsers, exchanges, buffers, outboxes, bodies,
    carriers), all zero when no worker lives; None unless `DEBUG`."""
