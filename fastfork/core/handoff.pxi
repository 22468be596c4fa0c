# Connections that come from a sibling, and when ours go to one.  A connection belongs to the
# service, not to the worker that accepted it.
#
#   1. Every worker of a service has both ends of one SEQPACKET pair, made before any of them.  What
#      is put into it (passing.pxi) whoever is free takes out: it is one queue for all.  The entry
#      is watched as the listeners are, and left alone when they are.
#   2. Into it go: connections whose request would wait for a handler that keeps the loop
#      (lookout.pxi); all that rest, when the worker retires; what is beyond our share, when a
#      worker has come or the last look was LEVEL_LOOK ago.
#   3. If the pair is full, a connection stays and is tried again; if it is broken (a new master
#      that does not know our record has taken over), it stays for good.
#   4. Whoever takes one out judges the record: of another version, or none, it is refused, and
#      closed.
#   5. Where there is no descriptor left for it, the kernel would drop it, and a thread of the
#      application may have the last one at any moment.  So the record is looked at first, which
#      gives us the descriptor, and only then taken out; meanwhile nobody else takes any, or both
#      would have the same.

cdef enum:
    HANDOFF_AGAIN = 10          # ms: before what found no room is tried again
    LEVEL_LOOK = 1000           # ms
    LEVEL_MOST = 64             # connections that go at one look
    INSERT_STEPS = 64
    GUESTS = 64                 # other addresses than our own
    TAKE_STARVED = -2           # handoff_take: there is no descriptor left (errno)
    TAKE_BUSY = -3              # ... a sibling is about to take one


cdef int handoff_init(Worker w, object pair) except -1:
    w.handoff.exit, w.handoff.entry.fd = pair if pair is not None else (-1, -1)
    w.handoff.entry.kind = WATCH_PAIR
    w.handoff.epoll = w.epoll
    w.handoff.slot = w.slot
    return 0


# -- ours ----------------------------------------------------------------------------------

cdef int conns_moved(Worker w) except -1:
    """What is still to be done for those that have gone."""
    cdef conn_t* c
    while w.handoff.moved is not NULL:
        c = w.handoff.moved
        w.handoff.moved = c.next_moved
        conn_close(w, c)
    return 0


cdef int handoff_queue(Worker w, int kind, int most) except -1:
    """Of a deadline queue at most so many, the first first."""
    cdef conn_t* c = w.queues[kind].first
    while c is not NULL and most > 0 and not w.handoff.full:
        if conn_pass(&w.handoff, c, False):
            most -= 1
        c = c.next
    return conns_moved(w)


cdef int handoff_all(Worker w) except -1:
    """The worker retires: all that rest, and those in the middle of a head."""
    w.handoff.full = False
    if w.queues[QUEUE_REST].first is NULL and w.queues[QUEUE_NEW].first is NULL and (
            w.queues[QUEUE_HEAD].first is NULL):
        return 0
    late_flush(w)
    handoff_queue(w, QUEUE_REST, w.connections)
    handoff_queue(w, QUEUE_HEAD, w.connections)
    handoff_queue(w, QUEUE_NEW, w.connections)
    if w.handoff.full:
        w.handoff.again = w.now + HANDOFF_AGAIN
    return 0


cdef int handoff_level(Worker w) except -1:
    """Have we clearly more connections than our share?  Then some of those that rest go."""
    cdef int64_t surplus
    w.handoff.level = w.now + LEVEL_LOOK
    if w.handoff.exit < 0 or w.draining:
        return 0
    surplus = load_surplus(w)
    if surplus:
        w.handoff.full = False
        late_flush(w)
        handoff_queue(w, QUEUE_REST, <int>min(surplus, <int64_t>LEVEL_MOST))
    return 0


# -- theirs --------------------------------------------------------------------------------

cdef int handoff_watch(Worker w) except -1:
    cdef epoll_event event
    if w.handoff.entry.fd < 0 or w.handoff.armed:
        return 0
    # EXCLUSIVE, as for listeners: one that is free is woken, not all.
    event.events = EPOLLIN | EPOLLEXCLUSIVE
    event.data.ptr = &w.handoff.entry
    if epoll_ctl(w.epoll, EPOLL_CTL_ADD, w.handoff.entry.fd, &event) < 0:
        raise OSError(errno, "epoll_ctl on the pair: " + os.strerror(errno))
    w.handoff.armed = True
    return 0


cdef int handoff_unwatch(Worker w) except -1:
    cdef epoll_event event
    if w.handoff.armed:
        epoll_ctl(w.epoll, EPOLL_CTL_DEL, w.handoff.entry.fd, &event)
        w.handoff.armed = False
    return 0


cdef int handoff_broken(Worker w) except -1:
    """Nobody will put anything into it any more."""
    handoff_unwatch(w)
    w.handoff.entry.fd = -1
    w.handoff.broken = True
    return 0


cdef int handoff_take(Worker w) except -1:
    """Take one out of the pair and go on with it: 1, or 0 if there is none, or TAKE_*: it stays."""
    cdef record_t r
    cdef conn_t* c
    cdef epoll_event event
    cdef listener_t* listener
    cdef int fd
    cdef ssize_t n
    if w.handoff.entry.fd < 0:
        return 0
    n = descriptor_receive(w.handoff.entry.fd, &fd, &r, sizeof(r), w.buffer, BUFFER_SIZE)
    if n < 0 and (again() or errno == ENOMEM or errno == ENOBUFS):
        return 0
    if n < 0 and errno == EBUSY:
        return TAKE_BUSY
    if n < 0 and (errno == EMFILE or errno == ENOLCK):
        return TAKE_STARVED
    if n <= 0:
        return handoff_broken(w)
    if not record_valid(&r, n, fd):
        return handoff_refuse(w, fd, "what came out of the pair is not a connection that this "
                              f"version knows ({n} bytes)")
    try:
        listener = listener_of(w, &r)
    except MemoryError:
        close(fd)
        raise
    if listener is NULL:
        return handoff_refuse(w, fd, f"connections of more than {GUESTS} other addresses")
    c = conn_new(w, fd, listener)
    memcpy(c.peer, r.peer, sizeof(c.peer))
    c.requests = r.requests
    c.empty_lines = r.empty_lines
    c.preamble = r.preamble
    c.asked = r.asked
    event.events = EPOLLIN
    event.data.ptr = c
    if epoll_ctl(w.epoll, EPOLL_CTL_ADD, fd, &event) < 0:
        w.log(logging.ERROR, "epoll_ctl: " + os.strerror(errno), None)
        conn_close(w, c)
        return 1
    c.interest = EPOLLIN
    w.slot.handed_in += 1
    queue_leave(w, c)
    if r.queue == QUEUE_NONE:           # one that only waited for its turn
        queue_append(w, c, QUEUE_REST)
    else:
        queue_insert(w, c, r.queue, r.deadline)
    if r.state == CONN_HEAD:
        c.state = CONN_HEAD
    try:
        if r.pending:
            conn_received(w, c, w.buffer, r.pending)
        elif r.asked or r.deadline <= w.now:    # what came meanwhile is read, however late
            conn_readable(w, c)
    except Exception as e:
        conn_failed(w, c, e)
    return 1


cdef int handoff_refuse(Worker w, int fd, str why) except -1:
    if fd >= 0:
        close(fd)
    if w.now >= w.handoff.told_until:
        w.handoff.told_until = w.now + TOLD_AGAIN
        w.log(logging.ERROR, why + ": it is closed", None)
    return 1


cdef bint record_valid(record_t* r, ssize_t n, int fd) noexcept:
    return (fd >= 0 and n >= <ssize_t>sizeof(record_t) and r.magic == RECORD_MAGIC
            and r.version == RECORD_VERSION and r.length == sizeof(record_t)
            and n == <ssize_t>(sizeof(record_t) + r.pending)
            and r.queue < QUEUES and r.address_length <= sizeof(r.address)
            and r.queue in (QUEUE_NONE, QUEUE_NEW, QUEUE_HEAD, QUEUE_REST)
            and r.state in (CONN_REST, CONN_HEAD, CONN_READY))


cdef listener_t* listener_of(Worker w, record_t* r) except? NULL:
    """Ours of the same address, or one made for it: the listener may be a generation's that has
    gone.  NULL if there are too many."""
    cdef listener_t* found
    cdef int i
    for i in range(w.listener_count):
        if same_address(&w.listeners[i], r):
            return &w.listeners[i]
    found = w.guests
    while found is not NULL:
        if same_address(found, r):
            return found
        found = found.next
    if w.guest_count == GUESTS:
        return NULL
    found = <listener_t*>PyMem_Malloc(sizeof(listener_t))
    if found is NULL:
        raise MemoryError()
    memset(found, 0, sizeof(listener_t))
    found.watch.kind = WATCH_LISTENER
    found.watch.fd = -1
    found.address_length = r.address_length
    memcpy(found.address, r.address, sizeof(found.address))
    template = dict(<dict>(<object>w.listeners[0].template) if w.listener_count
                    else w.memory_template)
    if (<sockaddr*>found.address).sa_family == AF_UNIX:
        template["SERVER_NAME"], template["SERVER_PORT"] = UNIX_NAMED
    else:
        template["SERVER_NAME"], template["SERVER_PORT"] = address_text(found.address)
    Py_INCREF(template)
    found.template = <PyObject*>template
    found.next = w.guests
    w.guests = found
    w.guest_count += 1
    return found


cdef inline bint same_address(listener_t* listener, record_t* r) noexcept:
    return (listener.address_length == r.address_length
            and memcmp(listener.address, r.address, r.address_length) == 0)


cdef int queue_insert(Worker w, conn_t* c, int kind, int64_t deadline) noexcept:
    """As queue_append, but its wait has begun before: its place is in front of those whose end is
    later.  Looked for from the end, not for ever: it then gets what its neighbour has."""
    cdef queue_t* q = &w.queues[kind]
    cdef conn_t* before
    cdef int steps = 0
    queue_append(w, c, kind)
    if deadline >= c.deadline:
        return 0
    before = c.prev
    while before is not NULL and before.deadline > deadline and steps < INSERT_STEPS:
        before = before.prev
        steps += 1
    if before is not NULL and before.deadline > deadline:
        deadline = before.deadline
    c.deadline = deadline
    if before == c.prev:
        return 0
    queue_leave(w, c)
    c.prev = before
    if before is not NULL:
        c.next = before.next
        before.next = c
    else:
        c.next = q.first
        q.first = c
    c.next.prev = c                     # there is one: it was behind it
    return 0
