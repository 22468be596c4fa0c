# A connection that stands between two messages is a plain record: its descriptor, its peer, and
# what was read of the next message.  Here it goes into the pair, from which a sibling takes it
# (handoff.pxi).  Called by the loop, or by the lookout while the loop stands still.
#
# What goes there is served nowhere else from then on; what does not is left as it was.

cdef enum:
    RECORD_MAGIC = 0x6b726f66   # "fork"
    RECORD_VERSION = 1

HANDOFF_VERSION = RECORD_VERSION


cdef inline bint handoff_can(Worker w) noexcept:
    """Do connections that rest outlive this worker, which retires?"""
    return w.retiring and w.handoff.exit >= 0 and not w.handoff.broken


cdef inline bint conn_movable(conn_t* c) noexcept nogil:
    """Does it stand between two messages, or in the middle of a head?  And is nothing owed to its
    client?"""
    return (c.watch.fd >= 0 and c.exchange is NULL
            and (c.state == CONN_REST or c.state == CONN_HEAD or c.state == CONN_READY)
            and not c.eof and not AT_ONCE_GET(c.gone) and not c.cut and not AT_ONCE_GET(c.late)
            and c.owed is NULL and not c.owing
            and c.pending_end - c.pending_start <= BUFFER_SIZE and c.listener.address_length)


cdef bint conn_pass(handoff_t* h, conn_t* c, bint asked) noexcept nogil:
    """Hand it over.  `asked`: there is a request to be read.  False: it stays."""
    cdef record_t r
    cdef epoll_event event
    cdef timespec t
    if h.exit < 0 or h.full or h.broken or not conn_movable(c):
        return False
    memset(&r, 0, sizeof(r))
    r.magic = RECORD_MAGIC
    r.version = RECORD_VERSION
    r.length = sizeof(r)
    r.pending = c.pending_end - c.pending_start
    r.deadline = c.deadline
    r.requests = c.requests
    r.empty_lines = c.empty_lines
    r.queue = c.queue
    r.state = c.state
    r.preamble = c.preamble
    if asked:
        r.asked = c.asked if c.asked else clock_ms()
    memcpy(r.peer, c.peer, sizeof(r.peer))
    memcpy(r.address, c.listener.address, sizeof(r.address))
    r.address_length = c.listener.address_length
    if descriptor_send(h.exit, c.watch.fd, &r, sizeof(r), c.pending + c.pending_start,
                       r.pending) < 0:
        h.full = True                   # or the system has too many on their way
        h.broken = errno in (EPIPE, ECONNRESET, ENOTCONN, EBADF)
        return False
    # Before it is closed: the sibling's copy would keep it in our epoll set.
    epoll_ctl(h.epoll, EPOLL_CTL_DEL, c.watch.fd, &event)
    close(c.watch.fd)
    c.watch.fd = -1
    c.next_moved = h.moved
    h.moved = c
    h.slot.handed_out += 1
    AT_ONCE_SET(h.out, AT_ONCE_GET(h.out) + 1)      # under the lock, or by the loop itself
    return True
