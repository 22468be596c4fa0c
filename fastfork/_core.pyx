# cython: language_level=3, binding=False, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True, nonecheck=False, auto_pickle=False
# cython: embedsignature=False
"""fastfork's compiled core: one worker's loop, from accept to send.

This file only assembles; each part is one room, and they stand in the order in which a
request walks through them.  A part may call parts that come after it, never one before it
(tests/core/test_layout.py checks that).  _core.pxd is the map of the structures.
"""

include "core/edge.pxi"         # system calls and C APIs, and what they need
include "core/worker.pxi"       # the Python face: settings, run, drain, watch
include "core/loop.pxi"         # epoll, deadlines, who runs next
include "core/accept.pxi"       # listeners -> connections
include "core/handoff.pxi"      # connections that go to a sibling, and those that come from one
include "core/balance.pxi"      # which of the workers accepts
include "core/memory.pxi"       # the same without a socket
include "core/connection.pxi"   # states of a connection: bytes -> requests -> rest or close
include "core/preamble.pxi"     # the PROXY protocol, before the first head
include "core/parse.pxi"        # the head: httptools judges it, we take it apart
include "core/environ.pxi"      # what the application sees of the head
include "core/forwarded.pxi"    # what a trusted proxy says of its client
include "core/stream.pxi"       # wsgi.input of a body that is still coming
include "core/body.pxi"         # Content-Length and chunked bodies, wsgi.input
include "core/receive.pxi"      # a body's bytes, straight to where they belong
include "core/aside.pxi"        # handlers in threads, or under gevent's hub
include "core/app.pxi"          # calls the application, iterates its result
include "core/response.pxi"     # start_response, response head, body framing
include "core/wait.pxi"         # fastfork.sleep, wait_readable, wait_writable
include "core/pieces.pxi"       # pieces of a response that leave together
include "core/send.pxi"         # to the socket, or to the outbox until the client is ready
include "core/park.pxi"         # a handler that waits hands the loop on
include "core/deadline.pxi"     # how long a handler may take
include "core/lookout.pxi"      # a C thread, for what cannot wait until a handler is done
include "core/passing.pxi"      # a connection goes to a sibling
include "core/late.pxi"         # small responses that leave together
include "core/ahead.pxi"        # bytes that have come before their turn
include "core/accesslog.pxi"    # a line per request
include "core/queue.pxi"        # deadline queues
include "core/scoreboard.pxi"   # what the master sees of a worker
include "core/text.pxi"         # characters, numbers, dates, addresses
include "core/guard.pxi"        # the life-line: no worker outlives its master
include "core/process.pxi"      # what the kernel is told of a process
