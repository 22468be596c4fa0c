# The loop: waits for events, gives each to its room, looks at the deadlines.  It may be run by
# several greenlets in turn (park.pxi), so nothing that matters between two events lives on its
# stack.

cdef enum:
    NEW_GRACE = 500             # ms that a draining worker gives new connections for their request
    REST_GRACE = 200            # ms that resting ones have; who is busy on them is told in time
    NO_END = 1 << 30            # ms: a wait without a deadline
    WAIT_OVER = -2              # instead of a wait: the loop is over


cdef int loop_run(Worker w) except -1:
    """Run until w.done.  Whoever has the baton is in here."""
    cdef int64_t wait
    while True:
        wait = loop_turn(w)
        if wait == WAIT_OVER:
            return 0
        loop_poll(w, wait)


cdef int64_t loop_turn(Worker w) except -3:
    """All that there is to do.  How long to wait for more (ms, -1: for ever), or WAIT_OVER."""
    cdef epoll_event* event
    cdef conn_t* c
    cdef ssize_t n
    while True:
        if w.handoff.moved is not NULL:
            conns_moved(w)              # before an event of theirs is met
        if AT_ONCE_GET(w.lates.count) and (w.batch_next == w.batch_count or w.parked or overdue(w)):
            late_flush(w)
        if AT_ONCE_GET(w.lates.owes):
            conns_owing(w)
        if w.parked and w.runnable:
            baton_pass(w)
        elif w.batch_next < w.batch_count and not overdue(w):
            w.batch_next += 1
            event = <epoll_event*>w.events + w.batch_next - 1
            c = <conn_t*>event.data.ptr
            if c.watch.kind == WATCH_CONN and c.state <= CONN_HEAD:
                # The fast path.  Not further down, where more would have to return (edge.pxi).
                n = recv_here(c.watch.fd, w.buffer, w.read_ahead)
                loop_input(w, c, n)
            else:
                loop_dispatch(w, event)
        elif w.mode != MODE_INLINE and w.finished:
            handled_next(w)
        elif w.mode == MODE_THREADS and w.asked:
            asked_next(w)
        elif (w.ready_first is not NULL and (w.ready_turn or w.mode != MODE_INLINE)
                and w.handlers < w.max_handlers and not overdue(w)):
            w.ready_turn = False
            ready_next(w)
        elif w.done:
            return WAIT_OVER
        else:
            w.batch_next = w.batch_count
            conns_bury(w)
            waits_bury(w)
            if w.watches_dead:
                watches_bury(w)
            expire(w)
            if not w.accepting:
                accept_start(w)
            elif w.handlers >= w.max_handlers:
                accept_full(w)
            if AT_ONCE_GET(w.lookout.rung):
                AT_ONCE_SET(w.lookout.rung, 0)
                loop_accept(w, NULL)
            if (w.draining or w.stopping) and wind_down(w):
                continue
            # Whatever ran in between may have waited, and another greenlet had the loop then; or a
            # thread was done meanwhile.
            if not ((w.parked and w.runnable) or w.batch_next < w.batch_count
                    or AT_ONCE_GET(w.lates.count) or AT_ONCE_GET(w.lates.owes)
                    or w.handoff.moved is not NULL or AT_ONCE_GET(w.lookout.rung)
                    or (w.mode != MODE_INLINE and (w.finished or w.asked))):
                return loop_patience(w)


cdef int loop_input(Worker w, conn_t* c, ssize_t n) except -1:
    try:
        return conn_input(w, c, n)
    except Exception as e:
        return conn_failed(w, c, e)


cdef int loop_dispatch(Worker w, epoll_event* event) except -1:
    cdef watch_t* watch = <watch_t*>event.data.ptr
    cdef fd_watch_t* fd_watch
    if watch.kind == WATCH_CONN:
        try:
            return conn_event(w, <conn_t*>watch, event.events)
        except Exception as e:
            return conn_failed(w, <conn_t*>watch, e)
    if watch.kind == WATCH_LISTENER or watch.kind == WATCH_PAIR:
        return 0 if loop_put_last(w, event) else loop_accept(w, watch)
    if watch.kind == WATCH_WAIT:
        return wait_event(w, watch)
    if watch.kind == WATCH_WAKE:
        return 0
    if watch.kind == WATCH_BELL:
        return loop_accept(w, NULL)
    fd_watch = <fd_watch_t*>watch
    if not fd_watch.dead:
        try:
            (<object>fd_watch.callback)()
        except Exception as e:
            w.log(logging.ERROR, "a watched descriptor's callback failed", e)
    return 0


cdef int loop_accept(Worker w, watch_t* watch) except -1:
    """Somebody has connected, or comes from a sibling (NULL: our bell was rung)."""
    try:
        if watch is NULL:
            return accept_rung(w)
        if watch.kind == WATCH_PAIR:
            return accept_handed(w)
        return accept_ready(w, <listener_t*>watch)
    except Exception as e:
        w.log(logging.ERROR, "internal error; accepting pauses", e)
        return accept_pause(w)


cdef bint loop_put_last(Worker w, epoll_event* event) noexcept:
    """Whoever has connected comes after everybody who waits for an answer.  True if the event has
    changed places with the last of the batch that is no listener's, which has its turn instead."""
    cdef epoll_event* last = <epoll_event*>w.events + w.batch_count - 1
    cdef epoll_event later = event[0]
    while last > event and (<watch_t*>last.data.ptr).kind in (WATCH_LISTENER, WATCH_PAIR):
        last -= 1
    if last == event:
        return False
    event[0] = last[0]
    last[0] = later
    w.batch_next -= 1
    return True


cdef int64_t loop_patience(Worker w) noexcept:
    """How long nothing is due (ms, -1: for ever)."""
    cdef int64_t wait = w.longest_wait
    cdef int kind
    w.ready_turn = True                 # after the events, one of those that wait for a handler
    if w.ready_first is not NULL and w.handlers < w.max_handlers:
        return 0
    for kind in range(1, QUEUES):
        if w.queues[kind].first is not NULL:
            wait = min(wait, w.queues[kind].first.deadline - w.now)
    if w.accept_again:
        wait = min(wait, w.accept_again - w.now)
    if w.handoff.again:
        wait = min(wait, w.handoff.again - w.now)
    if w.left:
        wait = min(wait, <int64_t>FULL_LOOK)
    if w.log_length:
        wait = min(wait, w.log_flush_at - w.now)
    if w.next_deadline:
        wait = min(wait, w.next_deadline - w.now)
    if w.sleepers:
        wait = min(wait, sleepers_patience(w))
    if w.drain_until:
        wait = min(wait, w.drain_until - w.now)
        if w.new_until:
            wait = min(wait, w.new_until - w.now)
        if w.rest_until:
            wait = min(wait, w.rest_until - w.now)
    return 0 if wait < 0 else (-1 if wait == NO_END else wait)


cdef int loop_poll(Worker w, int64_t wait) except -1:
    """One epoll_wait."""
    cdef int n, error = 0
    slot_idle(w)
    w.polling = True
    with nogil:
        n = epoll_wait_here(w.epoll, <epoll_event*>w.events, EVENTS, <int>wait)
        if n < 0:
            error = errno
    w.polling = False
    clock_look(w)
    w.polled = w.now
    w.gathering = (w.quick >= QUICK_ENOUGH and w.send_delay != 0
                   and (w.lookout.threaded or lookout_begin(w)))
    slot_busy(w)
    if n < 0:
        if error != EINTR:
            raise OSError(error, "epoll_wait: " + os.strerror(error))
        n = 0
        signals_run(w)
    if n < EVENTS:
        w.heard = w.now
        w.full = 0
    else:
        # There may be more.  epoll goes round: when as many events have come as there are
        # connections, all that were ready at the first of these batches have been among them.
        if w.full == 0:
            w.full_since = w.now
        w.full += n
        if w.full > w.connections + EVENTS:
            w.heard = w.full_since
            w.full = 0
    w.batch_next = 0
    w.batch_count = n
    return 0


cdef int signals_run(Worker w) except -1:
    """Python's signal handlers run here if no application code is running."""
    try:
        PyErr_CheckSignals()
    except Exception as e:
        w.log(logging.ERROR, "a signal handler raised an exception", e)
    return 0


cdef int expire(Worker w) except -1:
    """Everything whose time has come since the last batch."""
    cdef int kind
    cdef conn_t* c
    for kind in range(1, QUEUES):
        while True:
            c = w.queues[kind].first
            # Judged by when the sockets were last looked at: what came in while a handler kept
            # the loop busy is read first.
            if c is NULL or c.deadline > w.heard:
                break
            try:
                conn_timeout(w, c)
            except Exception as e:
                conn_failed(w, c, e)
            if w.handoff.moved is not NULL:     # a handler has run
                conns_moved(w)
    if w.next_deadline and w.now >= w.next_deadline:
        handlers_time_out(w)
    if w.sleepers:
        sleepers_wake(w)
    if w.accept_again and w.now >= w.accept_again:
        w.accept_again = 0
    if w.log_length and w.now >= w.log_flush_at:
        log_flush(w)
    if w.now >= w.handoff.level:
        handoff_level(w)
    return 0


cdef int watches_bury(Worker w) except -1:
    """Descriptors that are watched no more: no event can point at their records now."""
    cdef fd_watch_t** link = &w.watches
    cdef fd_watch_t* dead
    while link[0] is not NULL:
        if link[0].dead:
            dead = link[0]
            link[0] = dead.next
            Py_DECREF(<object>dead.callback)
            PyMem_Free(dead)
        else:
            link = &link[0].next
    w.watches_dead = False
    return 0


cdef bint wind_down(Worker w) except -1:
    """drain() or stop() was called.  True when the loop should look again at once."""
    if not w.wound_down and not w.stopping:
        w.wound_down = True
        w.new_until = max(w.now + NEW_GRACE, w.rest_until)
        if w.retiring:
            accept_end(w)
        else:
            accept_rest(w)
    w.handoff.again = 0
    if handoff_can(w):
        handoff_all(w)
    if w.rest_until and w.now >= w.rest_until:
        w.rest_until = 0
    if w.new_until and w.now - w.heard > NEW_GRACE // 10:
        # A handler kept us: nobody was listening meanwhile.
        w.new_until = max(w.new_until, w.now + NEW_GRACE)
    if w.new_until and w.now >= w.new_until:
        w.new_until = 0
    if not handoff_can(w):              # those who go to siblings need none
        if not w.rest_until:
            last_calls(w, QUEUE_REST)
        if not w.new_until:
            last_calls(w, QUEUE_NEW)
    if overdue(w):
        if w.connections and not w.cut_told and not w.stopping:
            w.cut_told = True
            w.log(logging.WARNING, f"the time to finish is over: {w.connections} connections are "
                  "cut off", None)
        loop_cut(w)
        # Those beside the loop end with the process.
        if w.handlers == 0 or w.mode != MODE_INLINE:
            w.done = True
        return True
    if w.connections == 0 and w.handlers == 0:
        if w.retiring and w.handoff.out != w.handoff.before:
            w.log(logging.INFO, f"{w.handoff.out - w.handoff.before} connections go on with "
                  "siblings", None)
        w.done = True
        return True
    return False


cdef int last_calls(Worker w, int kind) except -1:
    """Close the connections of a queue that have not begun a request."""
    cdef conn_t* c
    while w.queues[kind].first is not NULL and not overdue(w):
        c = w.queues[kind].first
        try:
            conn_last_call(w, c)
        except Exception as e:
            conn_failed(w, c, e)
    return 0


cdef int loop_cut(Worker w) except -1:
    """Close every connection; a handler that is in progress is told that its client is gone."""
    cdef int kind
    cdef conn_t* c
    cdef conn_t* following
    for kind in range(QUEUES):
        c = w.queues[kind].first
        while c is not NULL:
            following = c.next
            if c.state == CONN_HANDLER:
                conn_lost(w, c)
                if w.mode != MODE_INLINE and c.watch.fd >= 0:
                    shutdown(c.watch.fd, SHUT_RDWR)     # nobody else will
            else:
                conn_abandon(w, c)
            c = following
    return 0
