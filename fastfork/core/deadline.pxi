# How long a handler may take (request_timeout).
#
#   1. A handler that runs keeps the loop: from outside, the master sees on the scoreboard that its
#      deadline is past and sends a signal, whose Python handler calls time_out() on the worker.
#      That raises RequestTimeout in the handler, also out of a blocking call.
#   2. A handler that waits (park.pxi) is looked after by the loop, and meets the exception where it
#      waits.
#   3. Handlers beside the loop (aside.pxi) are looked after by the loop.  The exception is thrown
#      into a greenlet where it waits; in a thread it is raised at the next line of Python.  A
#      thread that is in a call of another language cannot be reached: its client gets 504 from the
#      loop, and what the handler still answers is dropped.
#   4. Nothing is logged in the signal handler: it may have interrupted a log entry of the
#      application's in the middle.  What there is to say is said when the request is over, with
#      the traceback; or, if the handler goes on all the same, at the next signal.


class RequestTimeout(BaseException):
    """Raised in a handler that takes longer than `request_timeout`.  The client gets 504 unless the
    handler catches it and answers otherwise; a response that has begun is broken off.

    Not an Exception, so that the frameworks' `except Exception`, which makes a 500 of everything,
    does not make one of this."""

    def __init__(self, *args):
        # In a thread it can be raised only by its class: it finds out what it is about when it is
        # made, there.
        super().__init__(*(args or timeout_here(self)))


cdef str request_name(Worker w, Exchange ex):
    """X-Request-ID, or PID-N."""
    if ex.request_id is not None:
        return printable((<str>ex.request_id)[:SLOT_ID])
    return f"{w.slot.pid}-{ex.number}"


cdef str beyond_told(Worker w, Exchange ex):
    cdef double age = (clock_us() - ex.begun) / 1e6
    return (f"{printable(ex.method)} {printable(ex.target[:SLOT_PATH])}, {age:.1f} s old, request "
            f"{request_name(w, ex)}, is beyond request_timeout ({w.request_timeout / 1e3:g} s)")


cdef object request_beyond(Worker w, Exchange ex):
    """The exception for this request; notes that it has been raised."""
    ex.timeout = RequestTimeout(beyond_told(w, ex))
    ex.timed_out = True
    return ex.timeout


cdef inline void deadline_note(Worker w, int64_t deadline) noexcept:
    """The loop must look at the handlers by then."""
    if w.next_deadline == 0 or deadline < w.next_deadline:
        w.next_deadline = deadline


# -- handlers beside the loop --------------------------------------------------------------

cdef enum:
    ANSWER_AFTER = 250          # ms that a handler in a thread has to meet the exception


cdef int timeout_in_greenlet(Worker w, Exchange ex) except -1:
    """It waits in gevent's hub, and we are called by the hub."""
    cdef object e = request_beyond(w, ex)
    ex.runner.throw(e)
    return 0


cdef int timeout_in_thread(Worker w, Exchange ex) except -1:
    ex.timed_out = True
    ex.answer_at = w.now + ANSWER_AFTER
    if ex.thread:                       # else it waits for one, and meets it there
        timeout_raise(ex)
    return 0


cdef int timeout_raise(Exchange ex) except -1:
    PyThreadState_SetAsyncExc(ex.thread, <PyObject*>RequestTimeout)
    return 0


cdef int timeout_revoke(Exchange ex) except -1:
    PyThreadState_SetAsyncExc(ex.thread, NULL)
    return 0


cdef tuple timeout_here(object e):
    """For an exception that has just been made: what it is about, if it was not the application
    that made it."""
    cdef Worker w = _running() if _running is not None else None
    cdef Exchange ex
    if w is None or w.mode != MODE_THREADS:
        return ()
    ex = exchange_here(w)
    if ex is None or not ex.timed_out or ex.timeout is not None:
        return ()
    ex.timeout = e
    ex.answer_at = 0
    return (beyond_told(w, ex),)


cdef Exchange exchange_here(Worker w):
    """That of the handler that runs here, if one does."""
    cdef int kind
    cdef conn_t* c
    cdef Exchange ex
    if w.mode == MODE_INLINE:
        return <Exchange>w.current if w.current is not NULL else None
    if w.mode == MODE_HUB:
        ex = w.runners.get(greenlet_current())
        return ex if ex is not None and not ex.over else None
    for kind in range(QUEUES):
        c = w.queues[kind].first
        while c is not NULL:
            if c.state == CONN_HANDLER:
                ex = <Exchange>c.exchange
                if ex.beside and not ex.over and ex.thread == PyThread_get_thread_ident():
                    return ex
            c = c.next
    return None


cdef int timeout_tell(Worker w, Exchange ex) except -1:
    """Say once that it was raised; where, if that is known by now."""
    cdef object e = ex.timeout
    ex.timeout = None
    w.log(logging.WARNING, f"{e}: RequestTimeout is raised in it.", e)
    return 0
