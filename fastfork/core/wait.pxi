# What a handler asks for: to wait for a time, or for a descriptor of its own; more time.
#
#   In the loop the handler parks and others have their turn.  Under gevent's hub these waits are
#   gevent's.  In a thread, and wherever no handler runs, they block.

cdef enum:
    SLEEPERS_OVER = 64          # in the heap, before it is made anew without them


def sleep(seconds):
    """Wait; handlers of other requests run meanwhile if there may be several in progress.

    ValueError if `seconds` is negative or not finite.  Raises RequestTimeout at the deadline of the
    request, and ClientGone if its response has begun and the client vanishes.
    """
    cdef double span = seconds
    cdef Worker w
    if not isfinite(span) or span < 0:
        raise ValueError(f"not a number of seconds to sleep: {seconds!r}")
    w = worker_here()
    if w is None:
        time_sleep(span)
    elif w.mode == MODE_HUB:
        hub_wait(w, w.hub_.sleep, (span,))
    else:
        wait_for(w, -1, 0, span)


def wait_readable(fd, timeout=None):
    """Wait until the descriptor (or what has a fileno()) is readable, or at its end, at most
    `timeout` seconds.  True if it is, False if the time is up; raises what `sleep` raises."""
    return wait_ready(fd, EPOLLIN, timeout)


def wait_writable(fd, timeout=None):
    """The same until it is writable."""
    return wait_ready(fd, EPOLLOUT, timeout)


def extend_deadline(seconds):
    """`fastfork.extend_deadline` in the environ: give the request that runs now at least `seconds`
    from now.  Nothing happens where there is no deadline.  ValueError if they are negative or not
    finite."""
    cdef double more = seconds
    cdef Worker w = _running() if _running is not None else None
    cdef Exchange ex
    if not isfinite(more) or more < 0:
        raise ValueError(f"not a number of seconds to extend the deadline by: {seconds!r}")
    if w is None or w.stranger:
        return
    ex = exchange_here(w)
    if ex is not None and ex.deadline:
        ex.deadline = max(ex.deadline, clock_ms() + <int64_t>(min(more, 1e9) * 1000))
        if w.mode == MODE_INLINE or w.shown == <PyObject*>ex:
            w.slot.request_deadline = ex.deadline
        if ex.beside:
            deadline_note(w, ex.deadline)
            loop_wake(w)
            turn_want(w)
        if ex.timed_out:                # caught, or on its way: a new deadline holds
            ex.timed_out = False
            if ex.answer_at:
                ex.answer_at = 0
                timeout_revoke(ex)
            if ex.timeout is not None:
                timeout_tell(w, ex)


cdef bint wait_ready(object file, uint32_t events, object timeout) except -1:
    cdef int fd = file if isinstance(file, int) else file.fileno()
    cdef double span = -1
    cdef Worker w = worker_here()
    if timeout is not None:
        span = timeout
        if not isfinite(span) or span < 0:
            raise ValueError(f"not a number of seconds to wait: {timeout!r}")
    if fd < 0:
        raise ValueError(f"not a descriptor: {fd}")
    if w is None or span == 0:
        return poll_ready(fd, events, span)
    if w.mode == MODE_HUB:
        return hub_wait(w, w.hub_.wait, (fd, events == EPOLLOUT, timeout))
    return wait_for(w, fd, events, span)


cdef object hub_wait(Worker w, object wait, tuple args):
    """Under gevent, which does not know of the client."""
    cdef Exchange ex = exchange_here(w)
    if ex is None:                      # in a greenlet of the application's
        return wait(*args)
    if ex.gone and ex.head_sent:
        raise ClientGone(DISCONNECTED)
    ex.hub_waits = True
    try:
        return wait(*args)
    finally:
        ex.hub_waits = False


cdef bint poll_ready(int fd, uint32_t events, double span) except -1:
    """Block, at most `span` seconds (for ever if it is negative)."""
    cdef pollfd asked
    cdef int64_t end = clock_ms() + timeout_ms(span)
    cdef int n, error, wait = -1
    asked.fd = fd
    asked.events = POLLIN if events == EPOLLIN else POLLOUT
    while True:
        if span >= 0:
            wait = <int>min(max(end - clock_ms(), <int64_t>0), <int64_t>NO_END)
        with nogil:
            n = poll(&asked, 1, wait)
            error = errno
        if n > 0:
            if asked.revents & POLLNVAL:
                raise OSError(EBADF, os.strerror(EBADF))
            return True
        if n < 0 and error != EINTR:
            raise OSError(error, os.strerror(error))
        if n < 0:
            PyErr_CheckSignals()
        elif clock_ms() >= end:
            return False


cdef Worker worker_here():
    """The worker whose loop may go on while the caller waits; None: the caller blocks."""
    cdef Worker w = _running() if _running is not None else None
    if (w is None or w.stranger or not w.running or w.mode == MODE_THREADS
            or PyThread_get_thread_ident() != w.thread
            or (w.mode == MODE_INLINE and w.current is NULL)):
        return None
    return w


cdef bint wait_for(Worker w, int fd, uint32_t events, double span) except -1:
    """Park until the descriptor (-1: none) is ready or `span` seconds (negative: for ever) are
    over.  Is it ready?"""
    cdef Exchange ex = <Exchange>w.current
    cdef Wait wait = Wait.__new__(Wait)
    cdef epoll_event event
    cdef int error
    if ex.gathers:
        pieces_flush(w, ex, False)
    late_settle(w, ex)
    if ex.gone and ex.head_sent:
        raise ClientGone(DISCONNECTED)
    wait.exchange = ex
    if fd >= 0:
        wait.record.watch.kind = WATCH_WAIT
        # A number of our own for it: the application's may be closed meanwhile, and then be that of
        # a new client; and two handlers may wait for one.
        wait.record.watch.fd = fcntl(fd, F_DUPFD_CLOEXEC, 3)
        if wait.record.watch.fd < 0:
            raise OSError(errno, os.strerror(errno))
        wait.record.wait = <PyObject*>wait
        event.events = events
        event.data.ptr = &wait.record
        if epoll_ctl(w.epoll, EPOLL_CTL_ADD, wait.record.watch.fd, &event) < 0:
            error = errno
            close(wait.record.watch.fd)
            if error == EPERM:          # a plain file: it never keeps anybody waiting
                return True
            raise OSError(error, os.strerror(error))
    ex.wait = wait
    if ex.outbox is not None:           # what its client has not taken goes out meanwhile
        client_wait(w, ex.conn)
    try:
        if span >= 0:
            sleeper_add(w, wait, span)
        park(w, ex)
    finally:
        wait_end(w, ex, wait)
    if ex.gone and not wait.ready and (ex.head_sent or overdue(w)):
        raise ClientGone(DISCONNECTED)
    return wait.ready


cdef int wait_end(Worker w, Exchange ex, Wait wait) except -1:
    cdef epoll_event event
    ex.wait = None
    if ex.outbox is not None:
        queue_move(w, ex.conn, QUEUE_NONE)
    wait.over = True
    wait.exchange = None
    if wait.record.wait is not NULL:
        epoll_ctl(w.epoll, EPOLL_CTL_DEL, wait.record.watch.fd, &event)
        close(wait.record.watch.fd)
        w.waits_over.append(wait)
    if wait.timed:
        w.sleepers_over += 1
        if w.sleepers_over > SLEEPERS_OVER and 2 * w.sleepers_over > len(w.sleepers):
            w.sleepers = [entry for entry in w.sleepers if not (<Wait>entry[2]).over]
            w.sleepers_over = 0
            heapq.heapify(w.sleepers)
    return 0


cdef int wait_event(Worker w, watch_t* watch) except -1:
    """What a handler waits for has come."""
    cdef Wait wait = <Wait>(<wait_t*>watch).wait
    if not wait.over:
        wait.ready = True
        unpark(w, wait.exchange)
    return 0


cdef int waits_bury(Worker w) except -1:
    """The batch is over: no event can point at the waits that ended during it."""
    if w.waits_over:
        w.waits_over.clear()
    return 0


# -- those that wait for a time: a heap, as no two need to wait equally long ---------------

cdef int sleeper_add(Worker w, Wait wait, double span) except -1:
    w.sleepers_serial += 1
    heapq.heappush(w.sleepers, (
        clock_us() + <int64_t>(min(span, 1e9) * 1e6), w.sleepers_serial, wait))
    wait.timed = True
    return 0


cdef int64_t sleepers_patience(Worker w):
    """ms until the first of them is to be woken."""
    cdef int64_t until = w.sleepers[0][0]
    return max(<int64_t>0, (until - w.now_us + 999) // 1000)


cdef int sleepers_wake(Worker w) except -1:
    cdef Wait wait
    while w.sleepers:
        wait = w.sleepers[0][2]
        if not wait.over and w.sleepers[0][0] > w.now_us:
            break
        heapq.heappop(w.sleepers)
        wait.timed = False
        if wait.over:
            w.sleepers_over -= 1
        else:
            unpark(w, wait.exchange)
    return 0
