# The loop is a baton.  Exactly one greenlet of a worker runs it at a time, and it calls the
# handler inline: a request that never waits costs no greenlet switch.
#
#   1. A handler that must wait parks: it hands the loop to a spare greenlet, or to a new
#      carrier if there is none, and is switched away from.  A new greenlet begins as deep in the
#      stack as the one that starts it stands, and Python's recursion limit counts that depth: so
#      carriers are started by a greenlet of their own, the starter, that stands where run() does.
#      Started by the handler that parks, each would begin where the last one waits, and some
#      twenty of them would use the stack up.
#   2. When what it waits for has come, it is put on `runnable`.  Whoever runs the loop then
#      makes itself a spare and switches back to the handler.
#   3. The handler goes on where it stood and, when it is done, returns into the very loop that
#      called it: it now has the baton.
#
# What the loop is working on (the event batch above all) is therefore kept in the worker, not
# on anybody's stack.
#
# Handlers beside the loop (aside.pxi) wait in the same places: a greenlet of gevent's hub goes back
# to the hub, a thread sleeps on a lock.

cdef int park(Worker w, Exchange ex) except -1:
    """Wait until `unpark`.  Called where the handler runs.  Raises RequestTimeout."""
    cdef object carrier
    cdef PyObject* current = w.current      # NULL: an answer of our own, from within the loop
    if w.mode == MODE_THREADS:
        return park_thread(w, ex)
    if not w.running:                   # in memory: back to whoever feeds (memory.pxi)
        carrier = w.main
    elif w.mode == MODE_HUB:
        carrier = w.hub
    elif w.spares:
        carrier = w.spares.pop()
    else:
        carrier = w.starter
    ex.waiter = greenlet_current()
    ex.woken = ex.overdue = False
    w.parked += 1
    w.switches_total += 1
    if ex.deadline:
        deadline_note(w, ex.deadline)
    clock_look(w)
    if ex.conn is not NULL and ex.conn.queue in (QUEUE_NEW, QUEUE_HEAD, QUEUE_REST):
        queue_move(w, ex.conn, QUEUE_NONE)      # it is none of those that rest
    w.current = NULL
    if w.mode == MODE_INLINE:
        slot_pause(w)
        if current is not NULL:
            loop_back(w)
    elif w.mode == MODE_HUB:
        turn_want(w)
    try:
        greenlet_switch(carrier)
    finally:
        w.parked -= 1
        ex.waiter = None
        w.current = current
        if current is not NULL:
            slot_resume(w, <Exchange>current)
            if w.mode == MODE_INLINE:
                loop_left(w)
    if ex.overdue:
        raise ex.timeout
    return 0


cdef int park_thread(Worker w, Exchange ex) except -1:
    """The same in a thread: ask the loop, and sleep until it has an answer."""
    cdef object lock = thread_lock()
    lock.acquire()
    if ex.answer_at:                    # on its way, and a thread that sleeps would not meet it
        timeout_revoke(ex)
        ex.answer_at = 0
        raise request_beyond(w, ex)
    ex.woken = ex.overdue = False
    ex.waiter = lock
    w.asked.append(ex)
    loop_wake(w)
    lock.acquire()
    ex.waiter = None
    if ex.overdue:
        raise ex.timeout
    return 0


cdef int turn_want(Worker w) except -1:
    """Under gevent's hub: the loop has something to do, or must look at a deadline, of which it
    knows nothing yet."""
    if w.hub_ is not None and not w.turning and not w.turn_wanted:
        w.turn_wanted = True
        w.hub_.want_turn()
    return 0


cdef int wake_open(Worker w) except -1:
    """The descriptor by which threads end epoll_wait.  Edge-triggered: it is never read."""
    cdef epoll_event event
    if w.wake.fd >= 0:
        return 0
    w.wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
    event.events = EPOLLIN | EPOLLET
    event.data.ptr = &w.wake
    if w.wake.fd < 0 or epoll_ctl(w.epoll, EPOLL_CTL_ADD, w.wake.fd, &event) < 0:
        raise OSError(errno, os.strerror(errno))
    return 0


cdef int loop_wake(Worker w) noexcept:
    """End its epoll_wait, if it is in it.  Called by other threads."""
    cdef uint64_t one = 1
    if w.polling:
        w.polling = False
        write(w.wake.fd, &one, sizeof(one))
    return 0


cdef inline int unpark(Worker w, Exchange ex) except -1:
    """The wait of this exchange's handler is over; the loop will switch to it."""
    if ex.waiter is not None and not ex.woken:
        ex.woken = True
        if w.mode == MODE_THREADS:
            ex.reading = False
            queue_move(w, ex.conn, QUEUE_NONE)
            ex.waiter.release()
        else:
            w.runnable.append(ex.waiter)
    return 0


cdef int baton_pass(Worker w) except -1:
    """Called in the loop: switch to a handler that can go on; returns when it is our turn again."""
    cdef object handler = w.runnable.popleft()
    if w.mode == MODE_INLINE:
        w.spares.append(greenlet_current())
    w.switches_total += 1
    greenlet_switch(handler)
    return 0
