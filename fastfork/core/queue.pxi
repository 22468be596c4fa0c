# Deadlines in O(1).  All members of a queue wait equally long, so the order of arrival is the
# order of expiry: a connection whose wait begins anew moves to the end, and only the first of
# each queue is ever looked at.

cdef inline void clock_look(Worker w) noexcept:
    w.now_us = clock_us()
    w.now = <int64_t>(<uint64_t>w.now_us // 1000)


cdef inline void queue_leave(Worker w, conn_t* c) noexcept:
    cdef queue_t* q = &w.queues[c.queue]
    if c.prev is not NULL:
        c.prev.next = c.next
    else:
        q.first = c.next
    if c.next is not NULL:
        c.next.prev = c.prev
    else:
        q.last = c.prev


cdef inline void queue_append(Worker w, conn_t* c, int kind) noexcept:
    cdef queue_t* q = &w.queues[kind]
    c.queue = kind
    c.deadline = w.now + q.span
    c.next = NULL
    c.prev = q.last
    if q.last is not NULL:
        q.last.next = c
    else:
        q.first = c
    q.last = c


cdef inline void queue_move(Worker w, conn_t* c, int kind) noexcept:
    """Begin a wait of this kind, from now."""
    queue_leave(w, c)
    queue_append(w, c, kind)


cdef inline bint overdue(Worker w) noexcept:
    """Is it time to drop everything?"""
    return w.stopping or (w.drain_until != 0 and w.now >= w.drain_until)
