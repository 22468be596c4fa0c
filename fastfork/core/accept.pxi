# Accepting.  A worker that has siblings takes one connection per wake-up, after everything else
# that was ready: whoever is accepted waits for this worker's handlers, while a sibling may be idle.

cdef enum:
    ACCEPT_BURST = 4            # connections that an only worker takes per wake-up
    ACCEPT_PAUSE = 100          # ms without accepting when there are no descriptors left
    BUSY_MOST = 100             # looks at the pair while a sibling has it, and us between them
    BUSY_PAUSE = 100


# PEP 3333: SERVER_NAME and SERVER_PORT can never be empty, also where there is no port.
UNIX_NAMED = ("localhost", "80")


cdef int listener_init(listener_t* listener, object sock, bint multithread,
                       bint multiprocess) except -1:
    cdef object address = sock.getsockname()
    cdef socklen_t length = sizeof(listener.address)
    if getsockname(sock.fileno(), <sockaddr*>listener.address, &length) == 0:
        listener.address_length = min(length, <socklen_t>sizeof(listener.address))
    sock.setblocking(False)
    listener.watch.kind = WATCH_LISTENER
    listener.watch.fd = sock.fileno()
    if sock.family == socket.AF_UNIX:
        address = UNIX_NAMED
    template = environ_template(address[0], str(address[1]), multithread, multiprocess)
    Py_INCREF(template)
    listener.template = <PyObject*>template
    return 0


cdef int accept_begin(Worker w) except -1:
    """The loop is about to begin."""
    accept_start(w)
    siblings_ring(w)                    # who has more connections than his share?
    if w.multiprocess:
        rescue_begin(w)
    return 0


cdef int rescue_begin(Worker w) except -1:
    """There are siblings, to whom connections can be handed over when a handler keeps the loop."""
    if (w.handoff_after and w.mode == MODE_INLINE and w.handoff.exit >= 0 and not w.draining
            and lookout_begin(w)):
        AT_ONCE_PUT(w.lookout.after, w.handoff_after)
    return 0


cdef int accept_start(Worker w) except -1:
    """Watch the listeners (again), unless there is a reason not to."""
    cdef int i
    cdef listener_t* listener
    cdef epoll_event event
    if w.draining or w.stopping or w.accept_again or not w.running:
        return 0
    w.left = w.handlers >= w.max_handlers and sibling_free(w)
    if not w.left:
        handoff_watch(w)                # max_connections or not: they were accepted already
    if w.left or w.connections >= w.max_connections:
        # Not for a moment any more: a sibling that still left people to us would wait for ever.
        w.yielding = w.slot.accepting = False
        return 0
    for i in range(w.listener_count):
        listener = &w.listeners[i]
        if not listener.armed:
            # EXCLUSIVE: the kernel wakes one or few of the workers that share the socket, not all.
            event.events = EPOLLIN | EPOLLEXCLUSIVE
            event.data.ptr = listener
            if epoll_ctl(w.epoll, EPOLL_CTL_ADD, listener.watch.fd, &event) < 0:
                raise OSError(errno, "epoll_ctl on a listener: " + os.strerror(errno))
            listener.armed = True
    w.accepting = True
    w.yielding = False
    w.slot.accepting = True
    return 0


cdef int accept_stop(Worker w) except -1:
    cdef int i
    cdef epoll_event event
    for i in range(w.listener_count):
        if w.listeners[i].armed:
            epoll_ctl(w.epoll, EPOLL_CTL_DEL, w.listeners[i].watch.fd, &event)
            w.listeners[i].armed = False
    handoff_unwatch(w)
    w.accepting = w.yielding = False
    w.slot.accepting = False
    return 0


cdef int accept_full(Worker w) except -1:
    """All our handlers are taken."""
    if sibling_free(w):
        w.left = True
        return accept_stop(w)
    return 0


cdef int accept_yield(Worker w) except -1:
    """Leave the listeners alone for a moment; for others who look at us we still accept."""
    accept_stop(w)
    w.accept_again = w.now + YIELD
    w.yielding = w.slot.accepting = True
    return 0


cdef int accept_rung(Worker w) except -1:
    """A sibling has somebody for us, or is new."""
    cdef int i
    if w.draining or w.stopping:
        return 0
    if w.yielding:
        w.accept_again = 0
        accept_start(w)
    if w.handoff.armed:
        # Of those of whom the kernel told somebody else it tells us when the entry is watched anew.
        handoff_unwatch(w)
        handoff_watch(w)
    for i in range(w.listener_count):
        if w.listeners[i].armed:
            accept_ready(w, &w.listeners[i])
    siblings_look(w)
    if w.sibling_count and not w.lookout.after:
        rescue_begin(w)
    return handoff_level(w)


cdef int accept_handed(Worker w) except -1:
    """A connection of a sibling's."""
    cdef int took
    if not w.handoff.armed:
        return accept_missed(w)
    if left_to_sibling(w, HANDED_PATIENCE):
        return accept_yield(w)
    took = handoff_take(w)
    if took == TAKE_STARVED:
        return accept_starved(w)
    return accept_yield(w) if took == TAKE_BUSY else 0


cdef int accept_pause(Worker w) except -1:
    w.accept_again = w.now + ACCEPT_PAUSE
    return accept_stop(w)


cdef int accept_rest(Worker w) except -1:
    """The end of accepting.  Whoever the kernel has connected already may have sent a request;
    afterwards the listeners are closed, so that nobody else is kept waiting for nothing."""
    cdef int i, took = 1, busy = 0
    cdef int64_t before
    # What siblings have put there, and nobody else may take.
    while took == 1 or (took == TAKE_BUSY and busy < BUSY_MOST):
        took = handoff_take(w)
        if took == TAKE_BUSY:
            busy += 1
            nap(BUSY_PAUSE)
    for i in range(w.listener_count):
        w.listeners[i].armed = True     # also if the end comes before the beginning
        while w.listeners[i].armed:
            before = w.accepted_total
            accept_ready(w, &w.listeners[i])
            if w.accepted_total == before:
                break
    return accept_end(w)


cdef int accept_end(Worker w) except -1:
    accept_stop(w)
    for sock in w.listeners_:
        sock.close()
    return 0


cdef int accept_missed(Worker w) except -1:
    """The kernel has woken us, and nobody else, for somebody whom we do not accept any more."""
    if not w.yielding:                  # else the one for whom he is left knows
        siblings_ring(w)
    return 0


cdef int accept_starved(Worker w) except -1:
    """There was no descriptor for somebody, or no memory in the kernel (errno)."""
    if not w.starved:
        w.starved = True
        w.log(logging.ERROR, f"cannot accept: {os.strerror(errno)}; trying again "
              f"every {ACCEPT_PAUSE} ms", None)
    siblings_ring(w)                    # who may have room for whom the kernel woke us for
    return accept_pause(w)


cdef int accept_ready(Worker w, listener_t* listener) except -1:
    cdef int i, fd
    cdef socklen_t length
    cdef uint8_t address[128]
    cdef conn_t* c
    cdef epoll_event event
    for i in range(w.accept_burst):
        if not listener.armed:          # stopped within this batch, or just now
            return accept_missed(w) if i == 0 else 0
        if left_to_sibling(w, HANDLER_PATIENCE):
            return accept_yield(w)
        length = sizeof(address)
        fd = accept4(listener.watch.fd, <sockaddr*>address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd < 0:
            if errno in (EMFILE, ENFILE, ENOBUFS, ENOMEM):
                return accept_starved(w)
            if errno == EAGAIN:
                return 0
            continue            # ECONNABORTED and the like: that client is gone, others are not
        c = conn_new(w, fd, listener)
        memcpy(c.peer, address, min(<size_t>length, sizeof(c.peer)))
        c.preamble = w.proxy_protocol and conn_trusted(w, c)
        event.events = EPOLLIN
        event.data.ptr = c
        if epoll_ctl(w.epoll, EPOLL_CTL_ADD, fd, &event) < 0:
            w.log(logging.ERROR, "epoll_ctl: " + os.strerror(errno), None)
            conn_close(w, c)
            continue
        c.interest = EPOLLIN
        w.accepted_total += 1
        w.slot.accepted = w.accepted_total
        w.starved = False
        if w.connections >= w.max_connections:
            accept_stop(w)
            if w.now < w.full_told_until:
                return 0
            w.full_told_until = w.now + TOLD_AGAIN
            w.log(logging.WARNING, f"{w.connections} connections: accepting no more until one "
                  "closes (max_connections)", None)
    return 0
