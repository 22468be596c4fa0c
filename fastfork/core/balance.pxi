# Who of the workers of a service accepts.  They share its listeners, and the kernel wakes whom it
# likes, mostly the same one again and again.
#
#   1. A worker that is woken and sees on the scoreboard that a sibling has less to do, and is free
#      to accept now, rings that sibling's bell and leaves the listeners alone for a moment.  Loads
#      fall from one to the next, so nobody is sent around in a circle.
#   2. A sibling that does not stir within RUNG_PATIENCE of its bell's ringing (stopped, dead, or
#      without a core) does not count until it does.
#   3. A worker whose handlers are all taken accepts nobody as long as a sibling has one that is
#      free.  If no one has, they accept, and who is accepted waits with his request, where
#      queue_timeout and max_queue hold.
#
# An only worker, and one that has nothing to do, looks at nothing.

cdef enum:
    YIELD = 2                   # ms that the listeners are left to a sibling
    RUNG_PATIENCE = 30          # ms
    HANDLER_PATIENCE = 10000    # us that a handler which keeps the loop may have taken so far ...
    HANDED_PATIENCE = 1000      # ... and for one that was handed over, as somebody keeps his
    SLACK = 8                   # an eighth more than another has is no reason to send anybody on
    FULL_LOOK = 20              # ms: may a sibling's last handler have been taken meanwhile?
    SIBLINGS_LOOK = 100         # ms: for how long it is known who they are
    SIBLINGS = 255
    NEVER_USED = 64             # slots in a row: there is none behind them


cdef int siblings_init(Worker w, object siblings) except -1:
    cdef int i
    PyObject_GetBuffer(siblings.board, &w.board_view, PyBUF_SIMPLE)
    w.bells = <int*>PyMem_Malloc(len(siblings.bells) * sizeof(int))
    w.siblings = <sibling_t*>PyMem_Malloc(SIBLINGS * sizeof(sibling_t))
    if w.bells is NULL or w.siblings is NULL:
        raise MemoryError()
    for i in range(len(siblings.bells)):
        w.bells[i] = siblings.bells[i]
    w.bell_count = len(siblings.bells)
    w.slot.family = siblings.family
    w.slot.bell = siblings.bell % w.bell_count
    w.bell.kind = WATCH_BELL
    w.bell.fd = w.bells[w.slot.bell]
    return 0


cdef int bell_watch(Worker w) except -1:
    """Hear our bell from now on.  Edge-triggered: it is never read."""
    cdef epoll_event event
    event.events = EPOLLIN | EPOLLET
    event.data.ptr = &w.bell
    if epoll_ctl(w.epoll, EPOLL_CTL_ADD, w.bell.fd, &event) < 0 and errno != EEXIST:
        raise OSError(errno, os.strerror(errno))
    return 0


cdef int siblings_look(Worker w) noexcept:
    """Find them on the scoreboard."""
    cdef size_t at = 0, size = SLOT_BYTES
    cdef slot_t* s
    cdef sibling_t one
    cdef int i, unused = 0, known = w.sibling_count
    w.sibling_count = 0
    while (at + size <= <size_t>w.board_view.len and unused < NEVER_USED
            and w.sibling_count < SIBLINGS):
        s = <slot_t*>(<char*>w.board_view.buf + at)
        at += size
        if s.pid == 0:
            unused += 1
            continue
        unused = 0
        if s.family == w.slot.family and s != w.slot:
            # They stand in the order of their slots, so what is known of one is at its place or
            # behind it.
            memset(&one, 0, sizeof(one))
            one.slot = s
            for i in range(w.sibling_count, known):
                if w.siblings[i].slot == s:
                    one = w.siblings[i]
            w.siblings[w.sibling_count] = one
            w.sibling_count += 1
    w.siblings_until = w.now + SIBLINGS_LOOK
    return 0


cdef bint sibling_takes(Worker w, sibling_t* one, int64_t patience) noexcept:
    """Is it free to accept?  Not if its handler has kept its loop for more than `patience` us."""
    cdef slot_t* s = one.slot
    if not s.accepting or s.family != w.slot.family or s.state == SLOT_DRAINING:
        return False
    if w.mode == MODE_INLINE and s.request_started and w.now_us - s.request_started > patience:
        return False
    if one.rung != s.heartbeat:
        one.rung = 0
        return True
    return w.now - one.rung_at <= RUNG_PATIENCE


cdef sibling_t* sibling_below(Worker w, int64_t load, int64_t patience) noexcept:
    """The one with the least to do of those that are free to accept and have less than that."""
    cdef sibling_t* found = NULL
    cdef slot_t* s
    cdef int64_t its
    cdef int i
    if w.now >= w.siblings_until:
        siblings_look(w)
    for i in range(w.sibling_count):
        if sibling_takes(w, &w.siblings[i], patience):
            s = w.siblings[i].slot
            its = s.connections + s.waiting + (s.request_started != 0)
            if its < load:
                load = its
                found = &w.siblings[i]
    return found


cdef bint left_to_sibling(Worker w, int64_t patience) noexcept:
    """Somebody has connected.  Is it better that a sibling accepts?  Then it has been told."""
    cdef uint64_t one = 1
    cdef int64_t load = w.connections + w.handlers
    cdef sibling_t* sibling
    if load == 0 or w.siblings is NULL or w.draining:
        return False
    sibling = sibling_below(w, load - load // SLACK, patience)
    if sibling is NULL:
        return False
    if not sibling.rung:
        sibling.rung = sibling.slot.heartbeat
        sibling.rung_at = w.now
        write(w.bells[sibling.slot.bell % <uint32_t>w.bell_count], &one, sizeof(one))
    return True


cdef bint sibling_free(Worker w) noexcept:
    """Has one of them a handler that is free?"""
    return w.siblings is not NULL and sibling_below(w, NO_END, HANDLER_PATIENCE) is not NULL


cdef int64_t load_surplus(Worker w) noexcept:
    """By how many we have more connections than the mean of those who accept; 0 unless that is
    clearly more, or somebody has clearly fewer: what a new worker lacks may be a few of each."""
    cdef int64_t all = w.connections
    cdef int64_t least = w.connections
    cdef int64_t share, slack
    cdef int i, count = 1
    if w.siblings is NULL:
        return 0
    siblings_look(w)
    for i in range(w.sibling_count):
        if sibling_takes(w, &w.siblings[i], HANDLER_PATIENCE):
            all += w.siblings[i].slot.connections
            least = min(least, w.siblings[i].slot.connections)
            count += 1
    share = all // count
    slack = share // 4 + 2
    if w.connections > share + slack or least + slack < share < w.connections:
        return w.connections - share
    return 0


cdef int siblings_ring(Worker w) noexcept:
    """Ring all bells, ours too, which others may have as well."""
    cdef uint64_t one = 1
    cdef int i
    for i in range(w.bell_count):
        write(w.bells[i], &one, sizeof(one))
    return 0
