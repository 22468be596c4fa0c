# The lookout: a small C thread that knows nothing of Python and looks around while a handler keeps
# the loop, whatever that does, sleeping or computing with the GIL held.
#
#   1. `lock` is the loop's, given back only while a handler runs in it (loop_left, loop_back):
#      only then may the lookout touch connections, and it never waits for the lock.
#   2. Answers that wait to be sent together (late.pxi) it sends LOOK to twice LOOK after they were
#      ready.
#   3. When the same handler has run for handoff_after, it asks the worker's epoll what has come,
#      and every connection that stands between two messages goes to the siblings (passing.pxi).
#      From then on it sleeps on epoll's own descriptor: who comes later waits for nobody.  Not in
#      epoll_wait, where the kernel would take it for a loop that is free.
#   4. Of a connection that has gone only the descriptor is closed here.  Everything else the loop
#      does when it comes back (conns_moved), before it looks at any event.
#   5. While there is something to look at it looks every LOOK; when there was nothing for LOOKS of
#      that, it sleeps until there is.
#
# An only worker has nobody to hand over to: its lock stays the loop's, and it has no lookout at all
# unless answers wait to be sent together.

cdef enum:
    LOOK = 5000                 # us
    SHORT = 250                 # us
    LOOKS = 20
    LOOK_EVENTS = 32            # at most so many connections go in one look
    WAITING_LONG = 2            # looks in a row


cdef inline int loop_left(Worker w) noexcept:
    """A handler runs from now."""
    cdef lookout_t* o = &w.lookout
    if o.threaded and AT_ONCE_GET(o.after):
        AT_ONCE_SET(o.since, w.now_us)
        pthread_mutex_unlock(&o.lock)
        lookout_stir(o)
    return 0


cdef inline int loop_back(Worker w) noexcept:
    """The handler is done, or waits."""
    if w.lookout.threaded and AT_ONCE_GET(w.lookout.since):
        pthread_mutex_lock(&w.lookout.lock)
        AT_ONCE_CLEAR(w.lookout.since)
    return 0


cdef bint lookout_begin(Worker w) except -1:
    """Start it, from within the loop.  False if there can be none."""
    cdef lookout_t* o = &w.lookout
    cdef int failed
    if o.threaded or o.stop:
        return o.threaded
    o.lates = &w.lates
    o.handoff = &w.handoff
    o.ready = &w.ready_first
    o.bells = w.bells
    o.bell_count = w.bell_count
    if o.events is NULL:
        o.events = PyMem_Malloc(LOOK_EVENTS * sizeof(epoll_event))
        if o.events is NULL:
            raise MemoryError()
    pthread_mutex_init(&o.lock, NULL)
    pthread_mutex_init(&w.lates.lock, NULL)
    sem_init(&o.wake, 0, 0)
    o.parked = o.rung = o.waiting = 0
    o.since = 0
    pthread_mutex_lock(&o.lock)
    failed = c_thread_start(&o.thread, lookout_main, o, False)
    if failed:
        o.stop = True                   # no second attempt
        w.log(logging.WARNING, f"no thread can be started ({os.strerror(failed)}): every response "
              "is sent by itself (as with send_delay = 0), and clients wait for slow handlers (as "
              "with handoff_after = off)", None)
        return False
    o.threaded = True
    return True


cdef int lookout_end(Worker w) except -1:
    """The loop is over."""
    cdef lookout_t* o = &w.lookout
    if not o.threaded:
        o.stop = False
        return 0
    late_flush(w)
    o.threaded = False
    AT_ONCE_SET(o.stop, 1)
    pthread_mutex_unlock(&o.lock)
    sem_post(&o.wake)
    pthread_join(o.thread, NULL)
    pthread_mutex_destroy(&o.lock)
    pthread_mutex_destroy(&w.lates.lock)
    sem_destroy(&o.wake)
    w.lates.owing = NULL
    w.lates.owes = 0
    o.stop = False
    return 0


cdef void* lookout_main(void* arg) noexcept nogil:
    cdef lookout_t* o = <lookout_t*>arg
    cdef uint32_t turns = 0
    cdef int idle = 0
    cdef int64_t since, after, ran, wait
    cdef int64_t pause = SHORT          # while there is something that only the loop can do
    cdef uint32_t gone
    cdef bint stirring                  # sleep until something comes
    while not AT_ONCE_GET(o.stop):
        since = AT_ONCE_GET(o.since)
        if since or AT_ONCE_GET(o.turns) != turns:
            turns = <uint32_t>AT_ONCE_GET(o.turns)
            idle = 0
        else:
            idle += 1
            if idle > LOOKS:
                idle = 0
                AT_ONCE_SET(o.parked, 1)
                # Again: whoever stirs must have seen `parked`.
                if AT_ONCE_GET(o.turns) == turns and not AT_ONCE_GET(o.since):
                    sem_wait(&o.wake)
                AT_ONCE_SET(o.parked, 0)
                continue
        wait = LOOK
        stirring = False
        after = AT_ONCE_GET(o.after)
        if since and after:
            ran = clock_us() - since
            if ran >= after:
                gone = <uint32_t>AT_ONCE_GET(o.handoff.out)
                stirring = look_around(o, since)
                if not stirring:
                    pause = min(2 * pause, <int64_t>LOOK)
                    if AT_ONCE_GET(o.handoff.out) != gone:
                        pause = SHORT
                    wait = pause
            else:
                wait = min(wait, after - ran)
        if late_due(o.lates, LOOK) or pieces_due(o.lates, LOOK):
            pthread_mutex_lock(&o.lates.lock)
            if late_due(o.lates, LOOK):
                late_send(o.lates)
            if pieces_due(o.lates, LOOK):
                pieces_send(&o.lates.pieces)
            pthread_mutex_unlock(&o.lates.lock)
        if stirring:
            doze(o.handoff.epoll, wait)
        else:
            nap(wait)
    return NULL


cdef inline int nap(int64_t span) noexcept nogil:
    cdef timespec t
    t.tv_sec = 0
    t.tv_nsec = <long>(1000 * max(span, <int64_t>50))
    return nanosleep(&t, NULL)


cdef inline int doze(int fd, int64_t span) noexcept nogil:
    """At most so long (us), until it is readable."""
    cdef pollfd p
    p.fd = fd
    p.events = POLLIN
    return poll(&p, 1, <int>((span + 999) // 1000))


cdef bint look_around(lookout_t* o, int64_t since) noexcept nogil:
    """The handler that was called at `since` keeps the loop.  False if there is something that only
    the loop can do, so that epoll's descriptor stays readable."""
    cdef int i, n = 0, left = 0
    cdef bint somebody = False
    cdef conn_t* c
    if pthread_mutex_trylock(&o.lock):
        return False                    # the loop is back
    if AT_ONCE_GET(o.since) == since:
        o.handoff.full = False
        if AT_ONCE_GET(o.lates.count):  # who has an answer to come cannot go before it
            pthread_mutex_lock(&o.lates.lock)
            late_send(o.lates)
            pthread_mutex_unlock(&o.lates.lock)
        n = epoll_wait(o.handoff.epoll, <epoll_event*>o.events, LOOK_EVENTS, 0)
        for i in range(n):
            if not look_at(o, <epoll_event*>o.events + i, &somebody):
                left += 1
        c = o.ready[0]                  # and those who only wait for their turn
        while c is not NULL and not o.handoff.full:
            if c.exchange is NULL:
                conn_pass(o.handoff, c, True)
            c = c.next_ready
    pthread_mutex_unlock(&o.lock)
    o.waiting = o.waiting + 1 if somebody else 0
    if o.waiting >= WAITING_LONG:
        o.waiting = 0
        siblings_call(o)
    return left == 0


cdef bint look_at(lookout_t* o, epoll_event* event, bint* somebody) noexcept nogil:
    """What epoll has reported.  False: it will again."""
    cdef watch_t* watch = <watch_t*>event.data.ptr
    if watch.kind == WATCH_CONN:
        return (not event.events & (EPOLLERR | EPOLLHUP)
                and conn_pass(o.handoff, <conn_t*>watch, True))
    if watch.kind == WATCH_LISTENER or watch.kind == WATCH_PAIR:
        somebody[0] = True
    elif watch.kind == WATCH_BELL:      # edge-triggered: the loop will not hear of it
        AT_ONCE_SET(o.rung, 1)
        return True
    return False


cdef int siblings_call(lookout_t* o) noexcept nogil:
    """Somebody waits to be accepted, and whoever the kernel has told of it is busy."""
    cdef uint64_t one = 1
    cdef int i
    for i in range(o.bell_count):       # ours too, which others may have as well
        write(o.bells[i], &one, sizeof(one))
    return 0
