# One receive of a body: the bytes go straight to where they belong, if that is known before they
# are looked at, instead of by way of the worker's buffer.

cdef enum:
    DIRECT_SMALLEST = 4096      # bytes that must belong there
    CHUNK_LARGE = 32768         # where one is as large, the next will be, too: it had better be ...
    BEYOND = 1024               # ... read by itself, and so much behind it, for the next one's head


cdef ssize_t body_receive(Worker w, conn_t* c, char* buffer, char** place,
                          size_t* room) except? -2:
    """As recv().  The bytes are at `place`, at most `room` of them; what is beyond these is in
    `buffer`, which has room for w.read_ahead bytes."""
    cdef Body b = (<Exchange>c.exchange).body
    cdef iovec iov[2]
    cdef msghdr message
    cdef size_t beyond
    if c.pending is not NULL or not body_place(w, b, place, room):
        place[0] = buffer
        room[0] = w.read_ahead
        if b.chunk >= CHUNK_LARGE:
            room[0] = min(room[0], <size_t>b.remaining + BEYOND)
        return recv_here(c.watch.fd, buffer, room[0])
    beyond = BEYOND
    if room[0] + BEYOND < w.read_ahead and (
            b.chunk < CHUNK_LARGE or room[0] < <size_t>b.remaining):
        beyond = w.read_ahead - room[0]
    if not b.chunked:                   # what follows the body has its turn later
        beyond = min(beyond, <size_t>b.remaining - room[0])
    memset(&message, 0, sizeof(message))
    iov[0].iov_base = place[0]
    iov[0].iov_len = room[0]
    iov[1].iov_base = buffer
    iov[1].iov_len = min(beyond, <size_t>w.read_ahead)
    message.msg_iov = iov
    message.msg_iovlen = 2
    return recvmsg(c.watch.fd, &message, 0)


cdef inline bint body_fits(Worker w, Body b, int64_t n) noexcept:
    """Do the next `n` bytes of the body, or of the present chunk, belong in memory?"""
    return (b.file is None and b.received + b.remaining <= w.body_memory
            and w.held + n <= w.max_body_memory)


cdef bint body_place(Worker w, Body b, char** place, size_t* room) noexcept:
    """Where the next bytes of the body, or of the present chunk, belong, and how many of them.
    False if that is not known, or they are few."""
    cdef size_t most
    if b.chunked and b.state != CHUNK_DATA:
        return False
    if not b.stream:
        if b.whole is NULL or not body_fits(w, b, b.remaining):
            return False
        place[0] = PyBytes_AS_STRING(<object>b.whole) + b.received
        most = b.room - <size_t>b.received
    elif b.start == b.end and b.target_filled == 0:
        place[0] = b.target
        most = b.target_room
    else:
        return False
    most = min(min(most, <size_t>b.remaining), <size_t>RECEIVE_STEP)
    if most < DIRECT_SMALLEST:
        return False
    room[0] = most
    return True
