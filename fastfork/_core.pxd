"""The map of the core: every C struct and cdef class, in the order a request meets them.

Two kinds of things live here.  What the loop needs about a connection is a plain C struct
(`conn_t`), so that a connection at rest costs no Python object, no parser and no buffer, and
so that code without the GIL can look at it.  What a request needs is Python: an `Exchange`
is borrowed from a pool when the head is complete and goes back when the response is out.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from cpython.object cimport PyObject


cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_t:
        pass
    ctypedef struct pthread_mutex_t:
        pass

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void* iov_base
        size_t iov_len

cdef extern from "<semaphore.h>" nogil:
    ctypedef struct sem_t:
        pass


# -- what epoll points at ------------------------------------------------------------------

cdef enum:
    WATCH_CONN = 1
    WATCH_LISTENER = 2
    WATCH_FD = 3
    WATCH_WAIT = 4                  # what a handler waits for (wait.pxi)
    WATCH_WAKE = 5                  # a thread's way to end epoll_wait (park.pxi)
    WATCH_BELL = 6                  # a sibling's (balance.pxi)
    WATCH_PAIR = 7                  # connections that siblings hand over (handoff.pxi)

cdef struct watch_t:                # the first member of everything epoll's data.ptr points at
    int kind
    int fd                          # -1: a connection in memory

cdef struct listener_t:
    watch_t watch
    bint armed                      # in the epoll set now
    PyObject* template              # dict: the environ every request of this listener starts from
    uint8_t address[112]            # sockaddr, and its length (0: that of a connection in memory)
    uint32_t address_length
    listener_t* next                # among those that only siblings have, or had

cdef struct fd_watch_t:             # a descriptor that Python code wants to hear of
    watch_t watch
    PyObject* callback
    bint dead
    fd_watch_t* next


# -- a connection --------------------------------------------------------------------------

cdef enum:                          # conn_t.state; the transitions are in connection.pxi
    CONN_REST = 0                   # between messages, not a byte of the next one read
    CONN_HEAD = 1                   # part of a head read
    CONN_BODY = 2                   # head complete, body being read
    CONN_READY = 3                  # request complete, waits for a free handler
    CONN_HANDLER = 4                # the application has it
    CONN_DRAIN = 5                  # the application is done, output waits for the client
    CONN_LINGER = 6                 # our side is shut down, input is read and thrown away
    CONN_CLOSED = 7                 # descriptor closed, record freed at the end of the batch

cdef enum:                          # conn_t.queue: one queue per kind of wait
    QUEUE_NONE = 0                  # no deadline: the application has the request
    QUEUE_NEW = 1                   # connected, not a byte yet
    QUEUE_HEAD = 2
    QUEUE_REST = 3
    QUEUE_BODY = 4
    QUEUE_WRITE = 5
    QUEUE_LINGER = 6
    QUEUE_READY = 7                 # complete, but no handler is free
    QUEUES = 8

cdef struct net_t:                  # peers that are trusted
    int family                      # AF_INET or AF_INET6
    int bits                        # of the address that count
    uint8_t address[16]

cdef enum:
    SLOT_METHOD = 16                # bytes of it that a slot holds
    SLOT_PATH = 200
    SLOT_ID = 64
    SLOT_STATUSES = 6               # index 0: no status at all, then 1xx ... 5xx
    SLOT_LATENCIES = 32

cdef enum:                          # slot_t.state
    SLOT_BOOTING = 0
    SLOT_IDLE = 1                   # waits for events
    SLOT_BUSY = 2
    SLOT_DRAINING = 3

cdef struct slot_t:                 # what a worker tells of itself (scoreboard.pxi)
    uint32_t sequence               # odd while several fields are being written
    uint32_t state
    int64_t pid
    int64_t heartbeat               # us
    int64_t accepted
    int64_t connections
    int64_t waiting                 # handlers that wait for their clients
    int64_t sent                    # bytes of the bodies that handlers are done with
    int64_t request_started         # us; 0: no handler runs
    int64_t request_deadline        # ms; 0: none
    int64_t request_number
    uint8_t method_length, path_length, id_length
    char method[16]
    char path[200]
    char id[64]                     # length 0: its name is PID-NUMBER
    int64_t statuses[6]
    int64_t latency[32]             # [i]: requests of fewer than 2**i us, and not fewer than half
    int64_t queued                  # complete requests that wait for a handler
    int64_t refused                 # answered with 503 because they would have, or had, too long
    int64_t handed_out, handed_in   # connections, to and from siblings (handoff.pxi)
    # for the siblings of the worker, when one of them is about to accept
    int64_t family                  # workers with the same number share their listeners
    uint32_t accepting
    uint32_t bell                   # which of the family's it hears

cdef struct sibling_t:              # a worker of the same service
    slot_t* slot
    int64_t rung                    # its heartbeat when its bell was rung (0: it has stirred since)
    int64_t rung_at                 # ms

cdef class Trust:                   # forwarded_allow_ips
    cdef bint everybody             # "*"
    cdef bint local                 # "unix"
    cdef net_t* nets
    cdef int count

cdef struct conn_t:
    watch_t watch
    uint8_t state
    uint8_t queue
    uint8_t late                    # a response of it waits to be sent with others (late.pxi)
    uint8_t gone                    # the client has reset or vanished: nothing can be sent
    uint8_t cut                     # to be closed by a reset
    uint8_t eof                     # the client has closed its sending side
    uint8_t preamble                # one of the PROXY protocol must come first
    uint8_t trust                   # in the peer: 0 not asked yet, 1 no, 2 yes
    uint32_t interest               # what epoll reports of it now
    int64_t deadline                # ms of the worker's clock
    conn_t* prev                    # neighbours in its deadline queue
    conn_t* next
    conn_t* next_ready              # successor in the queue for a handler, or in the graveyard
    listener_t* listener
    char* pending                   # bytes read but not parsed; NULL at rest
    uint32_t pending_start
    uint32_t pending_end
    uint32_t pending_size
    int unsent                      # in the socket's buffer when it was last looked at
    int looks                       # without change since the client took something
    uint32_t empty_lines            # before the next request
    uint32_t requests               # of its requests so far
    uint32_t scanned                # bytes of a partial head already searched for its end ...
    uint32_t lines                  # ... and the lines in them
    PyObject* exchange              # Exchange (owned), from the end of the head to the last byte
    PyObject* remote_addr           # str (owned), made for the first request
    PyObject* remote_port
    char* owed                      # what the client did not take of those (owned, from malloc) ...
    size_t owed_length
    bint owing                      # ... it is in the list of them ...
    conn_t* next_owing              # ... successor there
    conn_t* next_moved              # successor among those that are a sibling's now
    int64_t asked                   # ms: a sibling found a request there (0: none did)
    PyObject* memory                # MemoryConnection (borrowed) if there is no socket
    uint8_t peer[28]                # sockaddr_in or sockaddr_in6; enough for both

cdef struct late_t:                 # a small response that waits to be sent with others
    conn_t* conn
    uint32_t start, end             # where it is in the text

cdef struct pieces_t:               # of one response, that wait to be sent together (pieces.pxi)
    iovec parts[98]
    int part_count
    char sizes[32][24]              # in front of chunks
    PyObject* held[32]              # bytes (owned)
    int count
    conn_t* conn
    size_t total, taken             # bytes; so many the lookout has sent
    int64_t since                   # us: when the first of them was ready
    int64_t last                    # us: when there was one the last time
    int number                      # so many there were of the present response
    bint eager                      # the first may wait: the second came quickly the last time

cdef struct lates_t:                # all of them (late.pxi)
    late_t at[64]
    int count
    uint32_t length                 # of their text
    int64_t since                   # us: when the first of them was ready
    conn_t* owing                   # connections whose client did not take all of theirs ...
    int owes                        # ... there are some
    pieces_t pieces
    pthread_mutex_t lock
    char text[32768]

cdef struct record_t:               # what travels with a connection's descriptor (passing.pxi)
    uint32_t magic, version
    uint32_t length                 # of this; `pending` bytes follow
    uint32_t pending
    int64_t deadline                # conn_t has the same fields
    int64_t asked
    uint32_t requests, empty_lines
    uint8_t queue, state, preamble, unused
    uint8_t peer[28]
    uint8_t address[112]            # of its listener
    uint32_t address_length

cdef struct handoff_t:              # connections that change their worker (handoff.pxi)
    watch_t entry                   # where those of siblings come from (descriptor -1: nowhere)
    int exit                        # where ours go to (-1: nowhere)
    bint armed                      # the entry is in the epoll set now
    bint full                       # the exit has no room at this moment ...
    bint broken                     # ... or never will have
    int epoll
    conn_t* moved                   # ours that have gone; the loop has not noticed yet
    slot_t* slot
    int64_t again                   # ms: then those that found no room are tried again (0: none)
    int64_t level                   # ms: then it is asked whether we have more than our share
    uint32_t out                    # so many went ...
    uint32_t before                 # ... before the worker began to retire
    int64_t told_until              # ms: that what came was none was told lately

cdef struct lookout_t:              # the thread that looks when a handler keeps the loop
    bint threaded                   # it runs
    pthread_mutex_t lock            # the loop has it, but while a handler runs
    sem_t wake
    pthread_t thread
    int parked                      # it sleeps until `wake`
    int stop
    uint32_t turns                  # how often there was something (modulo 2**32)
    int64_t since                   # us: when the one that runs was called (0: the loop runs)
    bint forking                    # the handler forks, and has the lock meanwhile
    int64_t after                   # us: handoff_after (0: off, or there is nobody to hand over to)
    int rung                        # our bell was, and the loop has not heard of it
    int waiting                     # looks in a row that found somebody who waits to be accepted
    void* events
    lates_t* lates
    handoff_t* handoff
    conn_t** ready                  # Worker.ready_first
    int* bells                      # those of the service
    int bell_count

cdef struct queue_t:                # a FIFO: the span is one for all, so the order is right
    conn_t* first
    conn_t* last
    int64_t span                    # ms


# -- reading a head ------------------------------------------------------------------------

cdef class Window:                  # lends a piece of C memory to the parser for one call
    cdef const char* start
    cdef Py_ssize_t length

cdef class FieldName:               # what is known of one spelling of a field name
    cdef str key                    # its environ key
    cdef int kind                   # FIELD_*: plain, or one the server itself must read
    cdef uint64_t serial            # head in which it was last seen: finds repetitions
    cdef bint transient             # not remembered: only the environ can tell a repetition
    cdef str last_text              # the value it had last: most clients repeat themselves

cdef class Head:                    # one per worker: what was read of the present head
    cdef object parser              # httptools.HttpRequestParser; between messages, always
    cdef object feed                # its feed_data
    cdef int parser_state           # PARSER_*: may it be fed, may its refusal be believed
    cdef Window window
    cdef dict names                 # spelling (bytes) -> FieldName, bounded
    cdef dict keys                  # (environ key, kind) -> FieldName: all spellings share it
    cdef PyObject* hand_name[512]   # the spellings in daily use (bytes, owned) ...
    cdef PyObject* hand_field[512]  # ... and their FieldNames (borrowed from names)
    cdef uint64_t serial
    cdef str header_map             # setting: drop, refuse, dangerous
    cdef object believed            # environ keys of the setting forwarded_fields
    cdef str removed                # the first such field that came from somebody not trusted ...
    cdef bint removed_told          # ... and the operator knows
    # the present head:
    cdef dict environ
    cdef str method
    cdef str target                 # as it came
    cdef object request_id          # X-Request-ID
    cdef str authority              # of a target in absolute form; takes the place of Host
    cdef int completed              # how often on_headers_complete came: once, or it is no head
    cdef uint32_t fields
    cdef uint32_t max_fields
    cdef int minor                  # HTTP/1.minor
    cdef bint host
    cdef str host_valid             # the last one that was found valid
    cdef bint close, keep_alive     # Connection options
    cdef bint expect                # Expect: 100-continue
    cdef int64_t length             # Content-Length, -1 if none
    cdef bint trusted               # the peer is one of forwarded_allow_ips
    cdef int forwarded              # FORWARDED_*: what happened to such fields
    cdef bint coded                 # a Transfer-Encoding field was there
    cdef bint chunked
    cdef int status                 # not 0: refuse with this status ...
    cdef object reason              # ... for this reason
    cdef int renew(self) except -1
    cdef FieldName find(self, const char* p, Py_ssize_t n)
    cdef int take_fields(self, const char* p, const char* end) except -1
    cdef int field(self, FieldName f, const char* p, const char* end) except -1
    cdef FieldName learn(self, bytes name)
    cdef str special(self, FieldName f, str text, bint repeated)
    cdef bint believes(self, str key)
    cdef int refuse(self, int status, str reason) except -1
    cdef int connection(self, const char* p, Py_ssize_t n) except -1
    cdef int coding(self, str text) except -1


cdef struct line_t:                 # a line of a response, as it was written the last time
    PyObject* name                  # str (owned): of the field, or the status
    PyObject* value                 # str (owned): of the field, or NULL
    uint8_t length
    char text[111]


# -- one request and its response ----------------------------------------------------------

cdef enum:                          # Exchange.framing: how the end of the response body is told
    FRAME_NONE = 0                  # no body: HEAD, 204, 304
    FRAME_LENGTH = 1
    FRAME_CHUNKED = 2
    FRAME_CLOSE = 3

cdef class Exchange

cdef class Body:                    # a request body on its way in
    cdef bint chunked
    cdef int state                  # CHUNK_*: where the chunked decoder stands
    cdef int64_t remaining          # of the body, or of the present chunk
    cdef int64_t chunk              # size of the present chunk
    cdef int64_t received           # decoded bytes
    cdef int64_t since              # ms: when the wait for it, or for more of it, began
    cdef int64_t waited             # ms that it has been waited for
    cdef uint32_t line              # bytes of the present chunk-size line or of the trailers
    cdef int64_t extensions         # bytes of all chunk-size lines beyond what a size needs
    cdef uint32_t trailers          # fields of them
    cdef PyObject* whole            # bytes (owned): what is in memory ...
    cdef size_t room                # ... at most
    cdef int64_t held               # bytes there
    cdef object file                # ... or on disk
    cdef int64_t spooled            # bytes there
    # handed over as it comes (stream.pxi): what was not read yet is ...
    cdef bint stream
    cdef char* data
    cdef size_t size
    cdef size_t start, end          # ... between these
    cdef bint awaited               # by a reader
    cdef char* target               # where that wants it ...
    cdef size_t target_room
    cdef size_t target_filled       # ... and has so much of it
    cdef int direct                 # receives without the loop's having had its turn
    cdef bint complete
    cdef int status                 # not 0: it never will be complete; to be answered with this
    cdef object reason
    cdef Exchange exchange          # until the request is over

cdef class Outbox:                  # what the client has not taken, in this order
    cdef char* data
    cdef size_t start, end, size
    cdef bytes tail                 # one large piece of the application's, not copied
    cdef size_t tail_start
    cdef object spool               # temporary file
    cdef int spool_fd
    cdef int64_t spool_read, spool_written
    cdef int file_fd                # a file for sendfile, -1 if none
    cdef int file_copy              # a descriptor of our own for it, once the handler is done
    cdef int64_t file_offset, file_left
    cdef object file_owner          # its close() is called when the file is sent or dropped

cdef class Exchange:
    cdef Worker worker
    cdef conn_t* conn
    cdef dict environ
    cdef object start_response_     # the bound methods, made once: the pool keeps them
    cdef object write_
    cdef object early_hints_
    cdef str method                 # for logs and the scoreboard (None: a request that was ...
    cdef str target                 # ... refused, and this is its whole line)
    cdef object request_id          # X-Request-ID (None: there was none)
    cdef int64_t number             # of the worker's requests, this is the how manieth
    cdef int64_t begun              # us: when its handler was called
    cdef int64_t deadline           # ms: when RequestTimeout is raised in it (0: never)
    cdef object timeout             # the RequestTimeout that was raised and not told of yet
    cdef bint timed_out             # it was raised
    cdef bint overdue               # to be raised where it waits
    cdef object referer, agent
    cdef object remote              # the client that a trusted proxy named (None: the peer)
    cdef int minor
    cdef bint is_head
    cdef bint keep_alive
    cdef bint client_keeps          # the client did not ask for the connection to end
    cdef Body body
    cdef int64_t input_held         # bytes of the body in memory ...
    cdef object input_file          # ... or, when it was too large for that, on disk
    cdef int64_t input_spooled
    cdef bint expects               # 100 Continue, when the handler first reads
    cdef bint reading               # the handler waits for more of the body
    # the response
    cdef char* head                 # status line and the application's fields, then ours
    cdef size_t head_length, head_size
    cdef int status
    cdef bint started               # start_response was called
    cdef bint head_begun            # our fields are in it: it is complete
    cdef bint head_sent             # with the first bytes of the body, or without any
    cdef bint finished              # the application has said all it has to say
    cdef bint app_close             # the application wants the connection closed
    cdef bint has_date, has_server
    cdef bint aborted               # broken off: the connection must end, so that the client knows
    cdef bint gone                  # the client is
    cdef bint no_room               # ... as good as: what it has not taken cannot be kept
    cdef bint refused               # our own answer to a bad request: linger afterwards
    cdef bint owed                  # no request: the rest of responses that went out together
    cdef bint excess_told
    cdef bint gathers               # pieces of its body may wait for others
    cdef int framing
    cdef int64_t declared           # Content-Length of the application, -1 if none
    cdef int64_t sent               # body bytes handed to the socket or the outbox
    cdef Outbox outbox              # None while the client keeps up
    # the handler
    cdef unsigned long thread       # that it runs in
    cdef object runner              # greenlet that it runs in, where gevent's hub drives the loop
    cdef bint beside                # the loop: from its beginning until the loop has its end
    cdef bint over                  # it is done, and the loop has not noticed yet
    cdef object waiter              # greenlet (in a thread: the lock) of one that waits, or did ...
    cdef bint woken                 # ... and can go on
    cdef int asks                   # ASK_*: what it waits for, in a thread
    cdef Wait wait                  # what it waits for, if that is not its client
    cdef bint hub_waits             # for something in fastfork.sleep and the like, under gevent
    cdef int64_t answer_at          # ms: 504 in its place, if it cannot be interrupted (0: no)
    cdef bint answered              # that was done


cdef struct wait_t:                 # what epoll points at
    watch_t watch
    PyObject* wait

cdef class Wait:                    # of a handler, for a time or a descriptor
    cdef wait_t record
    cdef Exchange exchange          # until it is over
    cdef bint timed                 # among the sleepers
    cdef bint over
    cdef bint ready                 # the descriptor is


# -- the worker ----------------------------------------------------------------------------

cdef enum:                          # Worker.mode: where handlers run
    MODE_INLINE = 0                 # in the loop
    MODE_HUB = 1                    # in greenlets of gevent's hub, which also drives the loop
    MODE_THREADS = 2

cdef enum:                          # Exchange.asks
    ASK_ROOM = 1                    # for its output
    ASK_BODY = 2

cdef class Worker:
    cdef readonly object app
    cdef object log_
    cdef object listeners_          # keeps the sockets alive
    cdef int epoll
    # the event batch lives here, not on a C stack: whoever runs the loop goes on with it
    cdef void* events
    cdef int batch_next, batch_count
    cdef int64_t now                # ms, CLOCK_MONOTONIC, read once per batch and handler
    cdef int64_t now_us             # the same, us
    cdef int64_t heard              # ms: what had come in by then has been dispatched
    cdef int full                   # events of the full batches since ...
    cdef int64_t full_since         # ... then
    cdef char* buffer               # everything is received here
    cdef listener_t* listeners
    cdef int listener_count
    cdef fd_watch_t* watches
    cdef bint watches_dead
    cdef bint accepting
    cdef bint left                  # to siblings, as all our handlers are taken
    cdef bint yielding              # to a sibling, for a moment
    cdef int64_t accept_again       # ms: accepting pauses until then (0: it does not)
    cdef bint starved               # of descriptors, and told so
    cdef int64_t full_told_until    # ms: that max_connections are open was told lately
    cdef queue_t queues[8]
    cdef conn_t* ready_first        # complete requests waiting for a handler
    cdef conn_t* ready_last
    cdef bint ready_turn            # the first of them may go before the next epoll_wait
    cdef conn_t* graveyard          # closed in this batch: an event may still point at them
    cdef conn_t* spare_conns        # freed records for the next connections
    cdef int spare_count
    cdef int connections
    cdef int handlers, max_handlers
    cdef int queued, max_queue      # of ready_first, those whose request is complete
    cdef int64_t queue_timeout      # ms (0: none)
    cdef int64_t polled             # ms: epoll was asked the last time
    cdef int64_t overload_told_until    # ms
    cdef int64_t refused            # in this minute, and not told of yet
    cdef Head head
    cdef dict memory_template
    cdef bint gathering             # small responses may wait until the batch is done ...
    cdef int64_t send_delay         # us: ... or the first of them has waited so long (0: never)
    cdef int quick                  # handlers in a row that were quicker than that
    cdef lates_t lates
    cdef lookout_t lookout
    cdef handoff_t handoff
    cdef listener_t* guests         # listeners of connections that have come from siblings
    cdef int guest_count
    cdef PyObject* pool[64]         # Exchanges (owned) for the next requests
    cdef int pool_count
    cdef line_t lines[64]           # of responses, written before (see response.pxi)
    # what others see of it, and how long a handler may take
    cdef slot_t* slot               # in shared memory, or ...
    cdef slot_t own_slot            # ... this
    cdef Py_buffer slot_view        # holds the memory
    cdef str slot_method            # what stands there
    cdef PyObject* current          # Exchange (its connection's reference) whose handler runs now
    cdef Py_buffer board_view       # all slots
    cdef sibling_t* siblings        # NULL: none, ever
    cdef int sibling_count
    cdef int64_t siblings_until     # ms: it is known who they are
    cdef watch_t bell               # rung by a sibling
    cdef int* bells
    cdef int bell_count
    cdef int64_t request_timeout    # ms, 0: any time
    cdef int64_t next_deadline      # ms: no handler that waits has an earlier one (0: none has one)
    cdef int64_t longest_wait       # ms: then the loop gives a sign of life
    cdef int telling                # log() is at work
    cdef object me                  # weak reference
    # state of the run
    cdef bint running, draining, stopping, done
    cdef unsigned long thread       # the one that runs the loop
    cdef bint forked                # the application has forked: see worker.pxi
    cdef bint stranger              # ... and this is the child
    cdef object __weakref__
    cdef int64_t drain_until        # ms: what is not finished by then is cut off (0: no drain)
    cdef int64_t new_until          # ms: then connections without a request are closed too
    cdef bint retiring              # siblings take whoever waits to be accepted
    cdef int64_t rest_until         # ms: until then resting connections stay, though it drains
    cdef bint cut_told              # that the time to drain is over
    cdef bint wound_down            # resting connections have had their last call
    cdef object context             # contextvars of a request (see app.pxi)
    cdef object base_context
    cdef bint base_empty
    # the baton
    cdef object main                # the greenlet that called run()
    cdef list spares                # greenlets parked inside the loop, ready to take it on
    cdef object runnable            # deque: handlers whose wait is over
    cdef object starter             # greenlet that starts carriers (park.pxi)
    cdef object failure             # what ended a carrier's loop
    cdef int parked
    cdef list sleepers              # heap of (until, serial, Wait)
    cdef int sleepers_over          # of them, those that nobody waits for any more
    cdef int64_t sleepers_serial
    cdef list waits_over            # an event of this batch may still point at them
    # handlers beside the loop (aside.pxi)
    cdef int mode                   # MODE_*; INLINE as long as the loop does not run
    cdef int max_threads
    cdef object finished            # deque of Exchanges whose handlers are done
    cdef PyObject* shown            # Exchange (its connection's reference) on the scoreboard
    cdef object asked               # deque of Exchanges whose handlers wait in a thread
    cdef object jobs                # queue of Exchanges for the threads; None ends one
    cdef int threads, threads_idle
    cdef watch_t wake
    cdef bint polling               # the loop is in epoll_wait, and must be woken
    cdef object hub                 # greenlet of gevent's hub
    cdef object hub_                # what it does for us (hub.py)
    cdef dict runners               # greenlets of it that run handlers -> their Exchanges
    cdef Exchange given             # to the greenlet that begins
    cdef bint turning, turn_wanted
    # settings (seconds are milliseconds here)
    cdef uint32_t max_request_line, max_head, read_ahead, keep_alive_requests
    cdef int64_t max_spool, max_body, max_chunk_extensions, body_memory, max_body_memory
    cdef int64_t output_memory, output_spool
    cdef int64_t body_min_rate      # bytes per second
    cdef int max_connections
    cdef int64_t handoff_after      # us (0: never)
    cdef bint multiprocess          # there are siblings, as far as is known
    cdef int accept_burst           # connections taken per wake-up
    cdef bint streaming             # handlers start at the end of the head
    cdef int64_t held               # bytes of request bodies in memory
    cdef int64_t spooled            # bytes in temporary files
    cdef int64_t room_told_until    # ms: that there is no room for a body was told lately
    cdef bint dates                 # whether responses get a Date
    cdef Trust trust                # None: nobody
    cdef int proxy_protocol         # PREAMBLE_*
    # Date and Server, formatted once a second
    cdef int64_t stamp_until        # ms: good until then
    cdef char stamp[96]
    cdef int stamp_length           # "Date: ...\r\n"
    cdef char log_stamp[40]
    cdef int log_stamp_length
    cdef bytes server_field
    # access log
    cdef int log_fd
    cdef bint log_combined
    cdef char* log_data
    cdef size_t log_length
    cdef int64_t log_flush_at
    cdef bint log_is_pipe
    cdef int64_t log_deaf_until     # ms: nobody reads the pipe
    # totals
    cdef int64_t accepted_total, requests_total, switches_total, carriers_total
    cdef object signals             # what ends epoll_wait when one has come
    cdef _begin(self, int mode)
    cdef _end(self)
    cdef _retire_carriers(self)
    cdef _drains(self)
    cdef _linger(self, int64_t until)
    cdef int log(self, int level, str text, object error) except -1


cdef class MemoryConnection:
    cdef Worker worker
    cdef conn_t* conn
    cdef listener_t listener
    cdef bytearray output
    cdef readonly bint closed
    cdef readonly bint reset
    cdef _take_turns(self, work)
    cdef bytes _settle(self)


cdef class Input:
    cdef bytes data
    cdef Py_ssize_t position
    cdef object file                # instead of data: a body that was too large for memory
    cdef bytes take(self, Py_ssize_t n)
    cdef list gather(self, list lines, Py_ssize_t most)

cdef class InputStream(Input):
    cdef Body body
    cdef bytes fill(self, Py_ssize_t size, bint once)
    cdef int put_back(self, list pieces) except -1

cdef class FileWrapper:
    cdef public object filelike
    cdef public object block_size
