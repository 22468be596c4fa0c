# A connection turns bytes into requests and goes back to rest.
#
#   from      what happens                          to
#   REST      first bytes of a head                 HEAD
#   REST HEAD head complete, body announced         BODY (or HANDLER, which reads it: stream.pxi)
#   any of these, request complete:
#             a handler is free                     HANDLER
#             none is                               READY, then HANDLER (or 503)
#   HANDLER   response out                          REST (or CLOSED, LINGER)
#             client has not taken all of it        DRAIN, then as above
#   any       refused with unread input behind it   LINGER, then CLOSED
#   any       timeout, reset, end of file           CLOSED
#
# Requests of one connection are served one after the other: what has been read behind the
# present one stays in `pending`, and while there is any nothing more is received, so pipelining
# is in order and bounded by one receive buffer.  `pending` is all that a connection carries from
# one message to the next.


cdef enum:
    SPARE_CONNECTIONS = 1024    # records kept for the next connections
    TURN = 16                   # pipelined requests, or receives of a body, before others have one


# -- records -------------------------------------------------------------------------------

cdef conn_t* conn_new(Worker w, int fd, listener_t* listener) except NULL:
    cdef conn_t* c = w.spare_conns
    if c is not NULL:
        w.spare_conns = c.next_ready
        w.spare_count -= 1
    else:
        c = <conn_t*>PyMem_Malloc(sizeof(conn_t))
        if c is NULL:
            if fd >= 0:
                close(fd)
            raise MemoryError()
    memset(c, 0, sizeof(conn_t))
    c.watch.kind = WATCH_CONN
    c.watch.fd = fd
    c.listener = listener
    c.state = CONN_REST
    w.connections += 1
    w.slot.connections = w.connections
    COUNT_CONNECTION(1)
    queue_append(w, c, QUEUE_NEW)
    return c


cdef int conns_bury(Worker w) except -1:
    """The batch is over: no event can point at the connections that were closed during it."""
    cdef conn_t* c
    while w.graveyard is not NULL:
        c = w.graveyard
        w.graveyard = c.next_ready
        COUNT_CONNECTION(-1)
        if w.spare_count < SPARE_CONNECTIONS:
            w.spare_count += 1
            c.next_ready = w.spare_conns
            w.spare_conns = c
        else:
            PyMem_Free(c)
    return 0


cdef int conn_close(Worker w, conn_t* c) except -1:
    """Close the descriptor now; the record follows at the end of the batch."""
    cdef MemoryConnection memory
    cdef Exchange ex
    if c.state == CONN_CLOSED:
        return 0
    if AT_ONCE_GET(c.late):
        late_flush(w)
    if c.state == CONN_READY:
        ready_leave(w, c)
    c.state = CONN_CLOSED
    owed_forget(c)
    queue_leave(w, c)
    conn_forget_pending(c)
    if c.exchange is not NULL:          # its response never was completed
        ex = <Exchange>c.exchange
        ex.sent -= client_untaken(ex)
        if w.log_fd >= 0 and not ex.owed:
            log_request(w, c, ex)
    if c.watch.fd >= 0:
        if w.forked:                    # a child may hold a copy: see worker.pxi
            conn_interest(w, c, 0)
            if not c.cut:
                shutdown(c.watch.fd, SHUT_RDWR)
        close(c.watch.fd)               # which also takes it out of the epoll set
    if c.memory is not NULL:
        memory = <MemoryConnection>c.memory
        memory.closed = True
        memory.conn = NULL
        c.memory = NULL
    if c.exchange is not NULL:
        exchange_release(w, <Exchange>c.exchange)
    conn_drop_names(c)
    c.next_ready = w.graveyard
    w.graveyard = c
    w.connections -= 1
    w.slot.connections = w.connections
    return 0


cdef int conn_reset(Worker w, conn_t* c) except -1:
    """Close with a reset: the only way to tell a client of a close-delimited body, or one that
    has been promised more bytes, that it has not got everything."""
    cdef linger now
    c.cut = True
    if c.watch.fd >= 0:
        now.l_onoff = 1
        now.l_linger = 0
        setsockopt(c.watch.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now))
    if c.memory is not NULL:
        (<MemoryConnection>c.memory).reset = True
    return conn_close(w, c)


cdef int conn_abandon(Worker w, conn_t* c) except -1:
    """Close a connection whose response will not be completed: by a reset, which tells the client
    whatever the framing is, and makes the kernel drop what it still holds for it."""
    cdef Exchange ex
    if c.exchange is not NULL:
        ex = <Exchange>c.exchange
        if ex.head_sent and (ex.aborted or not ex.finished or ex.outbox is not None):
            return conn_reset(w, c)
    return conn_close(w, c)


cdef int conn_linger(Worker w, conn_t* c) except -1:
    """Close our side and read on for a while: closing with unread input would make the kernel
    send a reset, which can destroy the response on its way (RFC 9112, 9.6)."""
    conn_forget_pending(c)
    if c.eof:
        return conn_close(w, c)
    if AT_ONCE_GET(c.late):
        late_flush(w)
    c.state = CONN_LINGER
    if c.watch.fd >= 0 and shutdown(c.watch.fd, SHUT_WR) < 0:
        return conn_close(w, c)
    queue_move(w, c, QUEUE_LINGER)
    return conn_interest(w, c, EPOLLIN)


cdef int conn_failed(Worker w, conn_t* c, object e) except -1:
    """Something went wrong here that is not the application's fault (no memory, no room on the
    disk, a defect): this connection ends, the worker goes on."""
    w.log(logging.ERROR, "internal error; the connection is closed", e)
    if c.state == CONN_HANDLER and ((<Exchange>c.exchange).waiter is not None
                                    or (<Exchange>c.exchange).beside):
        return conn_lost(w, c)
    return conn_abandon(w, c)


cdef int conn_vanished(Worker w, conn_t* c) except -1:
    """Reset by the client: nothing is owed to it."""
    if c.exchange is not NULL:
        (<Exchange>c.exchange).gone = True
    return conn_close(w, c)


cdef int conn_lost(Worker w, conn_t* c) except -1:
    """The client of a request in the application's hands is gone: a handler that waits for it
    is woken, and finds out.  One that waits for something else is not, unless all that it could
    still do is to send more of its response: what it has begun it may want to complete."""
    cdef Exchange ex = <Exchange>c.exchange
    c.gone = True
    ex.gone = True
    conn_interest(w, c, 0)
    if ex.wait is not None and not ex.head_sent and not overdue(w):
        return 0
    if ex.hub_waits and ex.head_sent and w.turning:
        ex.runner.throw(ClientGone(DISCONNECTED))
        return 0
    return unpark(w, ex)


# -- events --------------------------------------------------------------------------------

cdef int conn_event(Worker w, conn_t* c, uint32_t events) except -1:
    cdef int state = c.state
    cdef ssize_t n
    if state <= CONN_BODY or state == CONN_LINGER:
        if state == CONN_BODY and events & EPOLLOUT and (
                (<Exchange>c.exchange).outbox is not None):
            conn_writable(w, c)
        return conn_readable(w, c)
    if state == CONN_CLOSED:            # stale: closed earlier in this batch
        return 0
    if events & (EPOLLERR | EPOLLHUP):
        if state == CONN_HANDLER:
            return conn_lost(w, c)
        if state == CONN_DRAIN:
            (<Exchange>c.exchange).gone = True
            return conn_end_exchange(w, c)
        return conn_vanished(w, c)
    if events & EPOLLIN and state == CONN_DRAIN and client_sends(c):
        n = recv_here(c.watch.fd, w.buffer, BUFFER_SIZE)
        if n == 0 or n < 0 and not again():
            c.eof = True                # the end, or an error that sending will meet
            conn_interest(w, c, EPOLLOUT)
        if not events & EPOLLOUT:
            return 0
    if events & EPOLLOUT and c.exchange is not NULL and (
            (<Exchange>c.exchange).outbox is not None):
        return conn_writable(w, c)
    if conn_streams(c):
        return conn_readable(w, c)
    # Readable, or still armed for the response before, but it has no turn now.  Only here, where it
    # happens, is the price of an epoll_ctl paid; going back to rest arms it again.  A reset must be
    # heard of all the same.
    return conn_interest(w, c, EPOLLERR)


cdef inline bint conn_streams(conn_t* c) noexcept:
    """Does the handler wait for more of the body?"""
    return c.state == CONN_HANDLER and (<Exchange>c.exchange).reading


cdef int conn_readable(Worker w, conn_t* c) except -1:
    cdef ssize_t n
    if c.watch.fd < 0:
        return 0
    if c.state == CONN_BODY:
        return conn_read_body(w, c)
    if conn_streams(c):
        n = stream_receive(w, <Exchange>c.exchange, w.buffer)
        return 0 if n > 0 else conn_unreadable(w, c, n)
    return conn_input(w, c, recv_here(c.watch.fd, w.buffer, w.read_ahead))


cdef inline int conn_input(Worker w, conn_t* c, ssize_t n) except -1:
    """What recv has said; the bytes are in the worker's buffer."""
    if n > 0:
        return conn_received(w, c, w.buffer, n)
    return conn_unreadable(w, c, n)


cdef int conn_read_body(Worker w, conn_t* c) except -1:
    """More of a body, as long as there is as much as one receive takes."""
    cdef ssize_t n
    cdef char* place
    cdef size_t room
    cdef int turn
    for turn in range(TURN):
        n = body_receive(w, c, w.buffer, &place, &room)
        if n <= 0:
            return conn_unreadable(w, c, n)
        if not conn_received(w, c, place, min(<size_t>n, room)):
            return 0
        if <size_t>n > room and not conn_received(w, c, w.buffer, <size_t>n - room):
            return 0
        if <size_t>n < room:
            return 0
    return 0


cdef int conn_unreadable(Worker w, conn_t* c, ssize_t n) except -1:
    """recv has brought nothing, but `n`."""
    if n == 0:
        return conn_eof(w, c)
    if again():
        c.asked = 0
        return 0
    return conn_lost(w, c) if c.state == CONN_HANDLER else conn_vanished(w, c)


cdef inline bint conn_in_message(conn_t* c) noexcept:
    """Has a message begun?  A head of which nothing is pending was empty lines."""
    return c.state == CONN_BODY or c.state == CONN_HEAD and c.pending is not NULL


cdef int conn_eof(Worker w, conn_t* c) except -1:
    """The client has closed its sending side; it may still read (RFC 9112, 9.6)."""
    c.eof = True
    if conn_in_message(c):
        return conn_refuse(w, c, 400, CUT_SHORT)
    if conn_streams(c):
        return stream_broken(w, <Exchange>c.exchange, 400, CUT_SHORT)
    return conn_close(w, c)


cdef int conn_timeout(Worker w, conn_t* c) except -1:
    cdef Exchange ex
    if c.queue == QUEUE_WRITE:
        if client_takes(w, c):
            return 0
        w.log(logging.WARNING, f"{conn_peer(c)} takes nothing of its response: giving up on it",
              None)
    if c.state == CONN_HANDLER:
        if c.queue == QUEUE_WRITE:
            conn_lost(w, c)
        elif conn_streams(c):
            stream_broken(w, <Exchange>c.exchange, 408, STALLED)
        queue_move(w, c, QUEUE_NONE)
        return 0
    if conn_in_message(c):
        return conn_refuse(w, c, 408, STALLED if c.state == CONN_BODY
                           else "the head was not complete in time")
    if c.state == CONN_DRAIN:
        ex = <Exchange>c.exchange
        ex.gone = True
        return conn_end_exchange(w, c)
    if c.state == CONN_READY:
        ready_leave(w, c)
        if conn_turn_away(w, c, unserved_told(w)):
            conn_go_on(w, c)
        return 0
    return conn_close(w, c)             # at rest or lingering: silence


cdef int handlers_time_out(Worker w) except -1:
    """RequestTimeout in the handlers that are beyond their deadline; but not in one that keeps the
    loop: to that, the master sends a signal."""
    cdef int kind
    cdef conn_t* c
    cdef conn_t* following
    w.next_deadline = 0
    for kind in range(QUEUES):
        c = w.queues[kind].first
        while c is not NULL:
            following = c.next
            if c.state == CONN_HANDLER:
                handler_time_out(w, c, <Exchange>c.exchange)
            c = following
    return 0


cdef int handler_time_out(Worker w, conn_t* c, Exchange ex) except -1:
    if not ex.deadline or ex.over:
        return 0
    if ex.timed_out:
        if ex.answer_at and ex.answer_at <= w.now:
            ex.answer_at = 0
            timeout_answer(w, ex)
        elif ex.answer_at:
            deadline_note(w, ex.answer_at)
    elif ex.deadline > w.now:
        deadline_note(w, ex.deadline)
    elif w.mode == MODE_THREADS and (ex.waiter is None or ex.woken):
        timeout_in_thread(w, ex)
        deadline_note(w, ex.answer_at)
    elif ex.waiter is not None:
        if not ex.woken:
            request_beyond(w, ex)
            ex.overdue = True
            if ex.wait is None:
                queue_move(w, c, QUEUE_NONE)
                conn_interest(w, c, 0)
            unpark(w, ex)
    elif w.mode == MODE_HUB:
        timeout_in_greenlet(w, ex)
    return 0


cdef int conn_writable(Worker w, conn_t* c) except -1:
    cdef Exchange ex = <Exchange>c.exchange
    cdef int64_t before = outbox_size(ex.outbox)
    cdef int done = outbox_drain(w, ex)
    if c.state == CONN_BODY:            # of the responses before this one
        return conn_await_body(w, c)
    if not done:
        if outbox_size(ex.outbox) != before and not ex.reading:
            client_wait(w, c)
        return 0
    if c.state != CONN_HANDLER:
        return conn_end_exchange(w, c)
    if ex.reading:                      # it waits for something else
        return conn_interest(w, c, EPOLLIN)
    queue_move(w, c, QUEUE_NONE)
    if ex.wait is not None:
        return conn_interest(w, c, EPOLLIN)
    conn_interest(w, c, 0)
    return unpark(w, ex)


# -- bytes -> requests ---------------------------------------------------------------------

cdef int conn_received(Worker w, conn_t* c, const char* data, size_t n) except -1:
    """`n` bytes have come in, in the worker's buffer (or where body_receive() has put them).  1:
    they were of a body, and more of it is to come.  Otherwise the connection may be gone by now."""
    if c.pending is not NULL:
        conn_append_pending(c, data, n)
        data = c.pending + c.pending_start
        n = c.pending_end - c.pending_start
    if c.state > CONN_BODY:             # streaming, lingering, or (in memory) not its turn
        if conn_streams(c):
            return stream_take(w, <Exchange>c.exchange, data, n, NULL, 0)
        if c.state == CONN_LINGER:
            conn_forget_pending(c)
        elif c.pending is NULL:
            conn_append_pending(c, data, n)
        return 0
    return conn_advance(w, c, data, n)


cdef enum:                      # what a step of conn_advance leaves to do
    STEP_WAIT = 0               # nothing: more bytes are needed, or the connection ends
    STEP_AGAIN = 1              # the next step
    STEP_SERVE = 2              # the handler's turn


cdef int conn_advance(Worker w, conn_t* c, const char* data, size_t n) except -1:
    """Serve every request that is complete in `data` until more bytes are needed, no handler
    is free, the client does not keep up, or the connection ends."""
    cdef int step, served = 0
    # Since when the first request may have waited: a sibling found it, or epoll was asked.
    cdef int64_t asked = c.asked if c.asked else w.polled
    c.asked = 0
    while True:
        if c.state == CONN_BODY:
            step = conn_take_body(w, c, &data, &n)
        elif n == 0:
            return conn_rest(w, c)
        elif served >= TURN or (served and overdue(w)):
            ready_append(w, c)          # others have their turn before the rest of these
            return 0
        else:
            step = conn_take_head(w, c, &data, &n, served)
        if step == STEP_WAIT:
            return c.state == CONN_BODY
        if step == STEP_AGAIN:
            continue
        # The request is complete, or its handler reads the rest.  What follows must leave the
        # worker's buffer now: the handler may hand the loop on, and others receive into it.
        if n or c.pending is not NULL:
            conn_keep_pending(c, data, n)
        if w.handlers >= w.max_handlers and w.queued < w.max_queue:
            ready_append(w, c)
            return 0
        if w.handlers >= w.max_handlers:
            if not conn_turn_away(w, c, f"{w.queued} requests are waiting already (max_queue)"):
                return 0
        elif w.queue_timeout and served == 0 and w.now - asked > w.queue_timeout:
            # It was there by then, and others have had the handler since.
            if not conn_turn_away(w, c, unserved_told(w)):
                return 0
        elif not conn_serve(w, c):
            return 0
        served += 1
        data = c.pending + c.pending_start
        n = c.pending_end - c.pending_start


cdef int conn_take_head(Worker w, conn_t* c, const char** data, size_t* n, int served) except -1:
    """Take a head, or the preamble before the first, from the `n` bytes at `data`."""
    cdef size_t used = 0
    cdef int status
    cdef Exchange ex
    if c.preamble:
        status = preamble_take(w, c, data[0], n[0], &used)
    else:
        status = head_take(w, c, data[0], n[0], &used)
    data[0] += used
    n[0] -= used
    if status == HEAD_PARTIAL:
        if n[0] == 0:
            conn_idle(w, c, served)
            return STEP_WAIT
        conn_keep_pending(c, data[0], n[0])
        if c.state != CONN_HEAD:
            c.state = CONN_HEAD
            queue_move(w, c, QUEUE_HEAD)        # once: a dripping client wins no time
        conn_interest(w, c, EPOLLIN)
        return STEP_WAIT
    if status:
        exchange_refused(w, c, data[0] - used, n[0] + used)
        conn_keep_pending(c, data[0], n[0])
        conn_refuse(w, c, status, w.head.reason)
        return STEP_WAIT
    if c.preamble:
        c.preamble = False
        if n[0]:
            return STEP_AGAIN
        conn_anew(w, c)
        return STEP_WAIT
    ex = exchange_new(w, c)
    if not w.head.chunked and w.head.length <= 0:
        return STEP_SERVE
    body_begin(w, ex, n[0])
    c.state = CONN_BODY
    queue_move(w, c, QUEUE_BODY)
    if w.head.expect and n[0] == 0:
        if ex.body.stream:
            ex.expects = True
        else:
            send_continue(w, ex)
    return STEP_AGAIN


cdef int conn_take_body(Worker w, conn_t* c, const char** data, size_t* n) except -1:
    """Take of the body what there is of it in the `n` bytes at `data`."""
    cdef Exchange ex = <Exchange>c.exchange
    cdef size_t used = 0
    cdef int status = body_take(w, ex, data[0], n[0], &used)
    data[0] += used
    n[0] -= used
    if status == BODY_DONE:
        body_finish(w, ex)
        return STEP_SERVE
    if status == BODY_MORE and ex.body.stream:
        stream_begin(ex)                # the handler reads what is still to come
        return STEP_SERVE
    if status == BODY_MORE and used:
        queue_move(w, c, QUEUE_BODY)
        ex.body.waited = w.now - ex.body.since
        if body_too_slow(w, c, ex.body):
            status = body_slow_refuse(w)
    conn_keep_pending(c, data[0], n[0])
    if status == BODY_MORE:
        late_settle(w, ex)
        conn_await_body(w, c)
    else:
        conn_refuse(w, c, status, w.head.reason)
    return STEP_WAIT


cdef int conn_await_body(Worker w, conn_t* c) except -1:
    """Meanwhile the client may take what comes before this request's response."""
    cdef Exchange ex = <Exchange>c.exchange
    return conn_interest(w, c, EPOLLIN if ex.outbox is None or ex.gone else EPOLLIN | EPOLLOUT)


cdef bint conn_serve(Worker w, conn_t* c) except -1:
    """Run the handler of a complete request, or begin to, where that is done beside the loop.  True
    if the connection can go on at once."""
    cdef Exchange ex = <Exchange>c.exchange
    c.state = CONN_HANDLER
    w.handlers += 1
    w.requests_total += 1
    ex.number = w.requests_total
    ex.begun = w.now_us
    ex.deadline = 0
    if w.request_timeout:
        ex.deadline = w.now + w.request_timeout
        ex.timed_out = False
    if w.mode != MODE_INLINE:
        queue_move(w, c, QUEUE_NONE)
        handler_begin(w, ex)
        return False
    w.current = <PyObject*>ex
    slot_begin(w, ex)
    loop_left(w)
    try:
        handler_run(w, ex)
    finally:
        loop_back(w)
        w.current = NULL
        w.handlers -= 1
        clock_look(w)
        slot_end(w, ex)
    if AT_ONCE_GET(w.lates.count) and w.now_us - AT_ONCE_GET(w.lates.since) >= w.send_delay:
        late_flush(w)
    if w.now_us - ex.begun >= w.send_delay:
        w.quick = 0
        w.gathering = False
    elif w.quick < QUICK_ENOUGH:
        w.quick += 1
    return conn_handled(w, c)


cdef bint conn_handled(Worker w, conn_t* c) except -1:
    """The handler is done.  True if the connection can go on at once."""
    cdef Exchange ex = <Exchange>c.exchange
    if ex.timeout is not None:          # the handler has caught it
        timeout_tell(w, ex)
    if ex.outbox is not None and not ex.gone and not exchange_cut(ex):
        c.state = CONN_DRAIN
        client_wait(w, c)
        return False
    return exchange_end(w, c)


cdef int handled_next(Worker w) except -1:
    """A handler beside the loop is done."""
    cdef Exchange ex = w.finished.popleft()
    cdef conn_t* c = ex.conn
    w.handlers -= 1
    clock_look(w)
    handler_ended(w, ex)
    try:
        if conn_handled(w, c):
            conn_go_on(w, c)
    except Exception as e:
        conn_failed(w, c, e)
    return 0


cdef int asked_next(Worker w) except -1:
    """A handler in a thread waits for its client, or leaves to us what that has not taken."""
    cdef Exchange ex = w.asked.popleft()
    cdef conn_t* c = ex.conn
    if c is NULL or not ex.beside or ex.over or ex.woken and ex.waiter is not None:
        return 0                        # that is over
    if ex.waiter is None:               # what it has sent and goes on without
        return 0 if ex.outbox is None or ex.gone else client_wait(w, c)
    if ex.gone:
        return unpark(w, ex)
    if ex.asks == ASK_ROOM:
        return client_wait(w, c)
    ex.reading = True
    queue_move(w, c, QUEUE_BODY)
    return conn_interest(w, c, EPOLLIN if ex.outbox is None else EPOLLIN | EPOLLOUT)


# -- too many at once ----------------------------------------------------------------------

cdef str unserved_told(Worker w):
    return f"no handler was free within {w.queue_timeout / 1e3:g} s (queue_timeout)"


cdef bint conn_turn_away(Worker w, conn_t* c, str reason) except -1:
    """Answer a complete request with 503: there are too many before it.  True if the connection can
    go on at once."""
    cdef Exchange ex = <Exchange>c.exchange
    c.state = CONN_HANDLER
    queue_move(w, c, QUEUE_NONE)
    w.slot.refused += 1
    w.refused += 1
    if w.now >= w.overload_told_until:
        w.overload_told_until = w.now + TOLD_AGAIN
        w.log(logging.WARNING, f"{conn_peer(c)}: 503: {reason}{request_told(ex)}"
              + (f" ({w.refused} since it was told the last time)" if w.refused > 1 else ""), None)
        w.refused = 0
    respond_simple(w, ex, 503)
    return conn_handled(w, c)


cdef bint exchange_end(Worker w, conn_t* c) except -1:
    """The response is out, or never will be.  True if the connection can go on."""
    cdef Exchange ex = <Exchange>c.exchange
    cdef bint keep = ex.keep_alive and not ex.aborted and not ex.gone
    cdef bint cut = exchange_cut(ex)
    # A client that did not ask for the end may have sent more that we have not read.
    cdef bint linger = (ex.refused or ex.client_keeps or c.pending is not NULL
                        or ex.body is not None)
    if ex.gone:
        conn_abandon(w, c)
        return False
    if w.log_fd >= 0 and not ex.owed:
        log_request(w, c, ex)
    exchange_release(w, ex)
    c.state = CONN_REST
    if keep:
        return True
    if cut:
        conn_reset(w, c)
    elif linger:
        conn_linger(w, c)
    else:
        conn_close(w, c)
    return False


cdef int conns_owing(Worker w) except -1:
    """Clients that have not taken what was sent to many at once (send.pxi): it is sent as they take
    it, and nothing more is read from them before."""
    cdef conn_t* c
    while True:
        c = owing_detach(w)
        if c is NULL:
            return 0
        if c.owed is NULL:              # closed, or the next request has begun to wait or answer
            continue
        try:
            if c.state == CONN_READY:
                ready_leave(w, c)
            exchange_owed(w, c)
            c.state = CONN_DRAIN
            client_wait(w, c)
        except Exception as e:
            conn_failed(w, c, e)
    return 0


cdef int conn_end_exchange(Worker w, conn_t* c) except -1:
    """As exchange_end, from an event: goes on with what is pending."""
    if exchange_end(w, c):
        return conn_go_on(w, c)


cdef int conn_go_on(Worker w, conn_t* c) except -1:
    """With what is pending."""
    return conn_advance(w, c, c.pending + c.pending_start, c.pending_end - c.pending_start)


cdef int conn_idle(Worker w, conn_t* c, int served) except -1:
    """Empty lines only have come: no part of a message (RFC 9112, 2.2)."""
    if served or conn_last_chance(w) or c.queue not in (QUEUE_NEW, QUEUE_HEAD, QUEUE_REST):
        return conn_rest(w, c)
    conn_forget_pending(c)              # whoever drips them wins no time by it
    return conn_interest(w, c, EPOLLIN)


cdef inline bint conn_last_chance(Worker w) noexcept:
    """Is this no time to rest?"""
    return w.draining and w.rest_until == 0 and not handoff_can(w)


cdef int conn_rest(Worker w, conn_t* c) except -1:
    """Between messages: no parser, no buffer, no Python object but the peer's address."""
    conn_forget_pending(c)
    c.state = CONN_REST
    if c.eof:
        return conn_close(w, c)
    queue_move(w, c, QUEUE_REST)
    if conn_last_chance(w):
        return conn_last_call(w, c)
    if c.interest != EPOLLIN:
        conn_interest(w, c, EPOLLIN)
    return 0


cdef int conn_anew(Worker w, conn_t* c) except -1:
    """The preamble is complete and nothing follows it: like a connection just made."""
    conn_forget_pending(c)
    c.state = CONN_REST
    queue_move(w, c, QUEUE_NEW)
    if w.draining and w.wound_down and not w.new_until and not handoff_can(w):
        # New ones have had their last call.
        return conn_last_call(w, c)
    return conn_interest(w, c, EPOLLIN)


cdef int conn_last_call(Worker w, conn_t* c) except -1:
    """The worker drains.  A request may be in the socket of a resting connection already: look
    once; it is answered with Connection: close.  If there is none, close."""
    cdef ssize_t n = -1
    if c.watch.fd >= 0:
        n = recv_here(c.watch.fd, w.buffer, BUFFER_SIZE)
    if n > 0:
        return conn_received(w, c, w.buffer, n)
    return conn_close(w, c)


cdef int conn_refuse(Worker w, conn_t* c, int status, reason) except -1:
    """Answer a bad request ourselves and end the connection: nothing behind it is read as a
    request (RFC 9112, 11.2)."""
    cdef Exchange ex
    if c.exchange is NULL:
        exchange_refused(w, c, c.pending + c.pending_start, c.pending_end - c.pending_start)
    ex = <Exchange>c.exchange
    ex.refused = True
    ex.keep_alive = False
    c.state = CONN_HANDLER
    w.log(logging.INFO, f"{conn_peer(c)}: {status}: {reason}{request_told(ex)}", None)
    respond_simple(w, ex, status)
    if ex.outbox is not None and not ex.gone:
        c.state = CONN_DRAIN
        return client_wait(w, c)
    exchange_end(w, c)
    return 0


# -- connections waiting for a handler, or for their next turn -----------------------------

cdef int ready_append(Worker w, conn_t* c) except -1:
    c.state = CONN_READY
    if c.exchange is not NULL:
        w.queued += 1
        w.slot.queued = w.queued
    queue_move(w, c, QUEUE_READY if w.queue_timeout and c.exchange is not NULL else QUEUE_NONE)
    c.next_ready = NULL
    if w.ready_last is not NULL:
        w.ready_last.next_ready = c
    else:
        w.ready_first = c
    w.ready_last = c
    return 0


cdef int ready_leave(Worker w, conn_t* c) except -1:
    cdef conn_t** link = &w.ready_first
    cdef conn_t* before = NULL
    while link[0] is not NULL and link[0] != c:
        before = link[0]
        link = &link[0].next_ready
    if link[0] is NULL:
        return 0
    link[0] = c.next_ready
    if w.ready_last == c:
        w.ready_last = before
    c.next_ready = NULL
    if c.exchange is not NULL:
        w.queued -= 1
        w.slot.queued = w.queued
    return 0


cdef int ready_next(Worker w) except -1:
    """The first of them has its turn."""
    cdef conn_t* c = w.ready_first
    ready_leave(w, c)
    try:
        return conn_serve_ready(w, c)
    except Exception as e:
        return conn_failed(w, c, e)


cdef int conn_serve_ready(Worker w, conn_t* c) except -1:
    if c.exchange is NULL:              # it only waited for its turn
        c.state = CONN_REST
    elif not conn_serve(w, c):
        return 0
    return conn_go_on(w, c)
