# Handlers beside the loop: in threads, or in greenlets of gevent's hub.  Threads are made when they
# are needed, kept, and never more than max_handlers.  A greenlet has one handler only: what the
# application has left behind (a gevent.Timeout, a kill) comes late to it, and must not come to
# somebody else's request.
#
#   1. What the loop works with (connections, their deadlines, epoll, the scoreboard) is the loop's
#      alone.  A handler beside it has its Exchange, and sends to the socket by itself as long as
#      the client takes what it is sent.  What it does not take both may send: nothing that is done
#      with an outbox gives up the GIL, but for the making of a temporary file.
#   2. A handler in a thread that must wait for its client asks the loop (`asked`) and sleeps on a
#      lock that the loop releases.  Meanwhile, and when the handler is done, the loop has the
#      Exchange.
#   3. That a handler is done the loop finds in `finished`; a thread ends its epoll_wait for that, a
#      greenlet asks the hub for a turn.
#   4. gevent's hub drives the loop: epoll's own descriptor is readable when there are events, and
#      the hub then calls turn().  A handler begins there, in a greenlet whose parent is the hub,
#      and comes back there when it waits for the first time, as gevent's own greenlets do.

cdef int handler_begin(Worker w, Exchange ex) except -1:
    """Begin it beside the loop."""
    if w.mode == MODE_THREADS and w.threads_idle == 0:
        try:
            thread_start(w)
        except RuntimeError as e:
            if w.threads == 0:
                w.handlers -= 1
                raise
            w.log(logging.ERROR, f"{w.threads} threads for handlers, and no more can be started: "
                  f"{e}", None)
            w.max_handlers = w.threads
    ex.beside = True
    ex.thread = 0                       # none yet
    ex.answer_at = 0
    if ex.deadline:
        deadline_note(w, ex.deadline)
    slot_begin_beside(w, ex)
    if w.mode == MODE_THREADS:
        if w.threads_idle:
            w.threads_idle -= 1
        w.jobs.put(ex)
        return 0
    w.given = ex
    ex.runner = greenlet_new(lambda: _handle_in_greenlet(w), w.hub)
    w.runners[ex.runner] = ex
    w.carriers_total += 1
    w.switches_total += 1
    greenlet_switch(ex.runner)
    return 0


cdef int handler_ended(Worker w, Exchange ex) except -1:
    """The loop has found it in `finished`."""
    ex.beside = ex.over = False
    slot_end_beside(w, ex)
    return 0


cdef int handler_beside(Worker w, Exchange ex) except -1:
    ex.thread = PyThread_get_thread_ident()
    if ex.timed_out and w.mode == MODE_THREADS:     # while it waited for this thread
        timeout_raise(ex)
    try:
        handler_run(w, ex)
    except BaseException as e:
        w.log(logging.ERROR, "internal error; the connection is closed", e)
        ex.aborted = ex.finished = True
    if ex.timed_out and w.mode == MODE_THREADS:
        timeout_revoke(ex)              # it must not reach the thread's next handler
    ex.over = True
    w.finished.append(ex)
    return 0


cdef int timeout_swallowed(Worker w, object e) noexcept:
    """The log has ended with this exception.  If it was the handler's RequestTimeout, it is raised
    again: in threads nobody can know where it will be met."""
    cdef Exchange ex = exchange_here(w)
    if ex is not None and ex.beside and ex.timeout is e:
        ex.timeout = None
        ex.timed_out = False
        if ex.deadline:
            deadline_note(w, ex.deadline)
            loop_wake(w)
            turn_want(w)
    return 0


# -- threads -------------------------------------------------------------------------------

cdef int thread_start(Worker w) except -1:
    threading.Thread(target=_handle_in_thread, args=(w,), daemon=True,
                     name=f"fastfork-handler-{w.threads + 1}").start()
    w.threads += 1
    w.threads_idle += 1
    return 0


def _handle_in_thread(Worker w):
    """What a thread runs: one handler after the other."""
    cdef Exchange ex
    cdef object job = w.jobs.get
    while True:
        ex = job()
        if ex is None:
            return
        handler_beside(w, ex)
        ex = None
        w.threads_idle += 1
        loop_wake(w)


cdef int timeout_answer(Worker w, Exchange ex) except -1:
    """The handler, in a thread, has not met RequestTimeout.  Its client need not wait for that."""
    cdef bytes line = b"504 " + <bytes>REASONS[504]
    cdef bytes answer = b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (
        line, len(line) + 1)
    if not ex.is_head:
        answer += line + b"\n"
    if ex.gone:
        return 0
    w.log(logging.WARNING, f"{beyond_told(w, ex)}, in a call that cannot be interrupted"
          + ("." if ex.head_sent else ": its client gets 504, and it goes on."), None)
    if not ex.head_sent:
        ex.answered = True
        send_now(ex, answer, len(answer))
        if ex.conn.watch.fd >= 0:
            shutdown(ex.conn.watch.fd, SHUT_WR)
    ex.gone = ex.conn.gone = True       # nothing more is sent
    return 0


# -- greenlets of gevent's hub -------------------------------------------------------------

def _handle_in_greenlet(Worker w):
    """What such a greenlet runs."""
    cdef Exchange ex = w.given
    w.given = None
    COUNT_CARRIER(1)
    try:
        handler_beside(w, ex)
        turn_want(w)
    finally:
        del w.runners[ex.runner]
        ex.runner = None
        COUNT_CARRIER(-1)
