# How long a handler may take (request_timeout).
#
#   1. A handler that runs keeps the loop: from outside, the master sees on the scoreboard that its
#      deadline is past and sends a signal, whose Python handler calls time_out() on the worker.
#      That raises RequestTimeout in the handler, also out of a blocking call.
#   2. A handler that waits (park.pxi) is looked after by the loop, and meets the exception where it
#      waits.
#   3. Nothing is logged in the signal handler: it may have interrupted a log entry of the
#      application's in the middle.  What there is to say is said when the request is over, with
#      the traceback; or, if the handler goes on all the same, at the next signal.


class RequestTimeout(BaseException):
    """Raised in a handler that takes longer than `request_timeout`.  The client gets 504 unless the
    handler catches it and answers otherwise; a response that has begun is broken off.

    Not an Exception, so that the frameworks' `except Exception`, which makes a 500 of everything,
    does not make one of this."""


cdef str request_name(Worker w, Exchange ex):
    """X-Request-ID, or PID-N."""
    if ex.request_id is not None:
        return printable((<str>ex.request_id)[:SLOT_ID])
    return f"{w.slot.pid}-{ex.number}"


cdef object request_beyond(Worker w, Exchange ex):
    """The exception for this request; notes that it has been raised."""
    cdef double age = (clock_us() - ex.begun) / 1e6
    ex.timeout = RequestTimeout(
        f"{printable(ex.method)} {printable(ex.target[:SLOT_PATH])}, {age:.1f} s old, request "
        f"{request_name(w, ex)}, is beyond request_timeout ({w.request_timeout / 1e3:g} s)")
    ex.timed_out = True
    return ex.timeout


cdef int timeout_tell(Worker w, Exchange ex) except -1:
    """Say once that it was raised; where, if that is known by now."""
    cdef object e = ex.timeout
    ex.timeout = None
    w.log(logging.WARNING, f"{e}: RequestTimeout is raised in it.", e)
    return 0


def extend_deadline(seconds):
    """`fastfork.extend_deadline` in the environ: give the request that runs now at least `seconds`
    from now.  Nothing happens where there is no deadline.  ValueError if they are negative or not
    finite."""
    cdef double more = seconds
    cdef Worker w = _running() if _running is not None else None
    cdef Exchange ex
    if not isfinite(more) or more < 0:
        raise ValueError(f"not a number of seconds to extend the deadline by: {seconds!r}")
    if w is None or w.current is NULL or w.stranger:
        return
    ex = <Exchange>w.current
    if ex.deadline:
        ex.deadline = max(ex.deadline, clock_ms() + <int64_t>(min(more, 1e9) * 1000))
        w.slot.request_deadline = ex.deadline
        if ex.timed_out:                # caught, and there is more to do: a new deadline holds
            ex.timed_out = False
            if ex.timeout is not None:
                timeout_tell(w, ex)
