# A body that is handed over as it comes (request_buffering = "stream").  The handler starts at the
# end of the head; when it has read all that has come it waits, and the loop goes on without it.
#
#   1. What has come is in the Body, at most one receive of it; no more is received before the
#      handler has taken that.
#   2. A handler that reads when there is nothing looks once at the socket, and then (or when it has
#      found something there too often) parks.  The loop receives for it, or finds that nothing more
#      will come, and wakes it.  In a thread of the application's own it waits by itself.
#   3. A body that will not be complete raises BodyError at every read.  It never looks like the end
#      of the body, which would make a finished upload out of half of one.
#   4. Where the head of the response goes out before the body is complete, the connection ends
#      with the response: nothing that follows is read as a request.

CUT_SHORT = "the client closed the connection within a message"
DISCONNECTED = "the client has disconnected"
STALLED = "the body stopped coming"


class BodyError(OSError):
    """Raised by reading wsgi.input: the rest of the request body will not come (the client broke
    off or stalls) or cannot be read (malformed, too long).  `status` is what HTTP calls it: 400,
    408, 413 or 431.  A handler that lets it pass answers with that status."""

    def __init__(self, status, reason):
        super().__init__(reason)
        self.status = status


cdef int stream_begin(Exchange ex) except -1:
    """The handler will read this body itself."""
    ex.body.exchange = ex               # a cycle until the request is over
    ex.environ["wsgi.input"] = InputStream(Incoming(ex.body))
    return 0


cdef int stream_take(Worker w, Exchange ex, const char* data, size_t n) except -1:
    """`n` bytes have come while the handler waits for them."""
    cdef Body b = ex.body
    cdef size_t used = 0
    cdef int status = body_take(w, ex, data, n, &used)
    b.waited += w.now - b.since
    b.since = w.now
    conn_keep_pending(ex.conn, data + used, n - used)
    if status == BODY_DONE:
        b.complete = True
    elif status == BODY_MORE and body_too_slow(w, ex.conn, b):
        status = body_slow_refuse(w)
    if status > BODY_MORE:
        return stream_broken(w, ex, status, w.head.reason)
    return unpark(w, ex)


cdef int stream_broken(Worker w, Exchange ex, int status, reason) except -1:
    """No more will come."""
    ex.body.status = status
    ex.body.reason = reason
    return unpark(w, ex)


cdef int stream_wait(Body b) except -1:
    """Until more has come, or it is known that none will."""
    cdef Exchange ex = b.exchange
    cdef Worker w
    cdef conn_t* c
    if ex is None or ex.conn is NULL or ex.conn.state != CONN_HANDLER:
        raise ValueError("wsgi.input was read after the request was over")
    w = ex.worker
    c = ex.conn
    if w.stranger:
        raise ValueError("wsgi.input was read in a process that the application forked")
    clock_look(w)
    b.since = w.now
    if ex.expects:
        ex.expects = False
        if not ex.head_sent:            # RFC 9110, 15.2: not within a response that has begun
            send_continue(w, ex)
    if ex.gone:
        return stream_broken(w, ex, 400, DISCONNECTED)
    if w.running and (PyThread_get_thread_ident() != ex.thread or (
            w.mode == MODE_HUB and ex.runner is not greenlet_current())):
        return stream_wait_alone(w, ex)
    if w.mode == MODE_THREADS:
        ex.asks = ASK_BODY
        park(w, ex)
        if ex.gone:
            stream_broken(w, ex, 400, DISCONNECTED)
        return 0
    b.direct += 1
    if b.direct < TURN:
        if c.watch.fd >= 0 and stream_receive(w, ex, w.buffer):
            return 0
    else:
        b.direct = 0                    # others have their turn, even if there is more
    ex.reading = True
    queue_move(w, c, QUEUE_BODY)
    conn_interest(w, c, EPOLLIN if ex.outbox is None else EPOLLIN | EPOLLOUT)
    try:
        park(w, ex)
    finally:
        ex.reading = False
        if b.exchange is not None:
            queue_move(w, c, QUEUE_NONE)
    if b.exchange is not None and ex.gone:
        stream_broken(w, ex, 400, DISCONNECTED)
    return 0


cdef int stream_wait_alone(Worker w, Exchange ex) except -1:
    """In a thread of the application's: there is no loop to hand on, but such a thread can wait by
    itself.  (So it is with asynchronous views of Django.)  Or, under gevent, in a greenlet of the
    application's, while the handler may wait for something else."""
    cdef Body b = ex.body
    cdef bytes buffer = PyBytes_FromStringAndSize(NULL, w.read_ahead)
    cdef int64_t patience = w.queues[QUEUE_BODY].span
    cdef pollfd ready
    cdef int n
    ready.fd = ex.conn.watch.fd
    ready.events = POLLIN
    if w.mode == MODE_HUB and PyThread_get_thread_ident() == w.thread:
        n = w.hub_.wait(ready.fd, False, patience / 1e3)
    else:
        with nogil:
            n = poll(&ready, 1, <int>min(patience, <int64_t>1 << 30))
    if b.exchange is None:              # the handler has not waited for this thread
        raise ValueError("wsgi.input was read after the request was over")
    clock_look(w)
    if n == 0:
        return stream_broken(w, ex, 408, STALLED)
    stream_receive(w, ex, PyBytes_AS_STRING(buffer))
    return 0


cdef bint stream_receive(Worker w, Exchange ex, char* buffer) except -1:
    """Look at the socket.  True: there was something to learn."""
    cdef conn_t* c = ex.conn
    cdef ssize_t n = recv(c.watch.fd, buffer, w.read_ahead, 0)
    if n > 0:
        stream_take(w, ex, buffer, n)
    elif n == 0:
        c.eof = True
        stream_broken(w, ex, 400, CUT_SHORT)
    elif again():
        return False
    else:
        c.gone = ex.gone = True
        stream_broken(w, ex, 400, DISCONNECTED)
    return True


class Incoming(io.RawIOBase):
    """The raw stream (in the sense of the io module) below wsgi.input."""

    def __init__(self, Body body):
        self.body = body

    def readinto(self, target, /):
        """At least one byte; 0 at the end of the body.  Raises BodyError."""
        cdef Body b = self.body
        cdef Py_ssize_t n
        cdef unsigned char[::1] view
        while b.start == b.end and not b.complete:
            if b.status:
                raise BodyError(b.status, b.reason)
            stream_wait(b)
        view = memoryview(target).cast("B")
        n = min(<Py_ssize_t>(b.end - b.start), view.shape[0])
        if n:
            memcpy(&view[0], b.data + b.start, n)
            b.start += n
        return n

    def readable(self):
        return True

    def close(self):
        """Does nothing: the server owns it."""


class InputStream(io.BufferedReader):
    """`wsgi.input` of a streamed body."""

    def close(self):
        """Does nothing, as with the other kind of wsgi.input (body.pxi)."""
