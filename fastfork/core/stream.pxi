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
    cdef InputStream source
    ex.body.exchange = ex               # a cycle until the request is over
    source = InputStream.__new__(InputStream)
    source.body = ex.body
    ex.environ["wsgi.input"] = source
    return 0


cdef ssize_t stream_receive(Worker w, Exchange ex, char* buffer) except -2:
    """Look at the socket; what recv() says."""
    cdef conn_t* c = ex.conn
    cdef char* place
    cdef size_t room
    cdef ssize_t n = body_receive(w, c, buffer, &place, &room)
    if n <= 0:
        return n
    if c.pending is not NULL:
        conn_append_pending(c, place, n)
        stream_take(w, ex, c.pending + c.pending_start, c.pending_end - c.pending_start, NULL, 0)
    elif <size_t>n > room:
        stream_take(w, ex, place, room, buffer, <size_t>n - room)
    else:
        stream_take(w, ex, place, n, NULL, 0)
    return n


cdef int stream_take(Worker w, Exchange ex, const char* data, size_t n, const char* beyond,
                     size_t n_beyond) except -1:
    """`n` bytes have come, and behind them, elsewhere, `n_beyond`, while the handler waits for
    them."""
    cdef Body b = ex.body
    cdef size_t used = 0
    cdef int status = body_take(w, ex, data, n, &used)
    if n_beyond and status == BODY_MORE:
        data = beyond
        n = n_beyond
        used = 0                        # also if they are refused
        status = body_take(w, ex, data, n, &used)
    b.waited += w.now - b.since
    b.since = w.now
    conn_keep_pending(ex.conn, data + used, n - used)
    if status == BODY_DONE:
        b.complete = True
    elif status == BODY_MORE and body_too_slow(w, ex.conn, b):
        status = body_slow_refuse(w)
    if status > BODY_MORE:
        return stream_broken(w, ex, status, w.head.reason)
    return stream_told(w, ex)


cdef int stream_broken(Worker w, Exchange ex, int status, reason) except -1:
    """No more will come."""
    ex.body.status = status
    ex.body.reason = reason
    return stream_told(w, ex)


cdef int stream_told(Worker w, Exchange ex) except -1:
    """Wake the handler, if it is that which reads, and not another thread of the application's
    while the handler waits for something else."""
    return unpark(w, ex) if ex.reading else 0


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
    late_settle(w, ex)
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
        if c.watch.fd >= 0 and stream_look(w, ex, w.buffer):
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
    stream_look(w, ex, PyBytes_AS_STRING(buffer))
    return 0


cdef bint stream_look(Worker w, Exchange ex, char* buffer) except -1:
    """Look at the socket, for a handler that reads.  True: there was something to learn."""
    cdef conn_t* c = ex.conn
    cdef ssize_t n = stream_receive(w, ex, buffer)
    if n > 0:
        return True
    if n == 0:
        c.eof = True
        stream_broken(w, ex, 400, CUT_SHORT)
    elif again():
        return False
    else:
        c.gone = ex.gone = True
        stream_broken(w, ex, 400, DISCONNECTED)
    return True


cdef Py_ssize_t LONG_LINE = <Py_ssize_t>1 << 62     # longer than any


cdef class InputStream(Input):
    """`wsgi.input` of a streamed body.  Every read waits for what it was asked for; one that is
    interrupted has read nothing."""

    cdef bytes fill(self, Py_ssize_t size, bint once):
        """`size` bytes, fewer only at the end of the body; `once`: what there is, but something.
        What comes while this waits goes straight into the bytes that it gives back."""
        cdef Body b = self.body
        cdef bytes piece
        cdef char* p
        cdef Py_ssize_t filled = 0, n
        if not b.chunked:
            size = min(size, <Py_ssize_t>(b.end - b.start) + b.remaining)
        piece = PyBytes_FromStringAndSize(NULL, size)
        p = PyBytes_AS_STRING(piece)
        try:
            while filled < size and not (once and filled):
                n = min(size - filled, <Py_ssize_t>(b.end - b.start))
                if n:
                    memcpy(p + filled, b.data + b.start, n)
                    b.start += n
                    filled += n
                elif b.complete:
                    break
                else:
                    filled += stream_await(b, p + filled, size - filled)
        except BodyError:
            raise
        except BaseException:
            body_put_back(b, p, filled)
            raise
        return piece if filled == size else piece[:filled]

    cdef int put_back(self, list pieces) except -1:
        cdef char* p = body_room_before(self.body, sum([len(piece) for piece in pieces]))
        cdef bytes piece
        for piece in pieces:
            memcpy(p, PyBytes_AS_STRING(piece), len(piece))
            p += len(piece)
        return 0

    def read(self, size=-1, /):
        """At most `size` bytes, fewer only at the end of the body; all that is left if it is None
        or negative.  Raises BodyError."""
        cdef list pieces = []
        if size is not None and size >= 0:
            return self.fill(size, False)
        try:
            while True:
                piece = self.fill(BUFFER_SIZE, False)
                pieces.append(piece)
                if len(piece) < BUFFER_SIZE:
                    return b"".join(pieces)
        except BodyError:
            raise
        except BaseException:
            self.put_back(pieces)
            raise

    def read1(self, size=-1, /):
        """What there is, at most `size` bytes of it; at least one, except at the end of the body.
        Raises BodyError."""
        return self.fill(BUFFER_SIZE if size is None or size < 0 else size, True)

    def readline(self, size=-1, /):
        """The next line with its newline, but at most `size` bytes of it.  Raises BodyError."""
        cdef Body b = self.body
        cdef Py_ssize_t left = LONG_LINE if size is None or size < 0 else size
        cdef Py_ssize_t n
        cdef const char* found = NULL
        cdef list pieces = []
        try:
            while left and found is NULL:
                n = min(left, <Py_ssize_t>(b.end - b.start))
                if n == 0:
                    if b.complete:
                        break
                    stream_await(b, NULL, 0)
                    continue
                found = <const char*>memchr(b.data + b.start, c'\n', n)
                if found is not NULL:
                    n = found + 1 - (b.data + b.start)
                pieces.append(b.data[b.start:b.start + n])
                b.start += n
                left -= n
        except BodyError:
            raise
        except BaseException:
            self.put_back(pieces)
            raise
        return b"".join(pieces)

    def readlines(self, hint=-1, /):
        """All lines that are left; none after `hint` bytes have been passed.  Raises BodyError."""
        cdef list lines = []
        try:
            return self.gather(lines, -1 if hint is None else hint)
        except BodyError:
            raise
        except BaseException:
            self.put_back(lines)
            raise


cdef Py_ssize_t stream_await(Body b, char* target, Py_ssize_t room) except -1:
    """Wait for more.  What has come is at `target`, so many bytes of it, and beyond its `room` with
    the body.  Raises BodyError."""
    cdef Py_ssize_t filled
    if b.status:
        raise BodyError(b.status, b.reason)
    if b.awaited:
        raise RuntimeError("wsgi.input is being read elsewhere")
    b.awaited = True
    b.target = target
    b.target_room = room
    try:
        stream_wait(b)
    except BaseException:
        if b.target_filled:
            body_put_back(b, target, b.target_filled)
        raise
    finally:
        filled = b.target_filled
        b.awaited = False
        b.target = NULL
        b.target_room = b.target_filled = 0
    return filled
