# Pieces of a response body that leave together.  A generator that yields them faster than a client
# can be woken would wake it for each.
#
#   1. A piece waits only if the one before it came within PIECE_QUICK: what trickles is sent as it
#      comes.  The first waits, with the head, if the second, or the end, came as quickly in the
#      response before.
#   2. They go out when the next comes later than that, when there are PIECES or PIECES_BYTES of
#      them, and before the handler waits or the iterable is closed.
#   3. If the next does not come, the lookout sends them, LOOK to twice LOOK after the first was
#      ready (PEP 3333, Buffering and Streaming: "a different thread").  So there must be one.
#
# Guarded by the lock of lates_t.  The pieces themselves are not copied.

cdef enum:
    PIECES = 32
    PIECES_BYTES = 1048576
    PIECE_QUICK = 200           # us


cdef inline int pieces_begin(Worker w, Exchange ex) noexcept:
    """The iterable of this response is about to be iterated."""
    ex.gathers = (w.lookout.threaded and w.mode == MODE_INLINE and w.send_delay != 0
                  and ex.body is None and ex.conn.memory is NULL)
    w.lates.pieces.number = 0
    w.lates.pieces.last = w.now_us
    return 0


cdef bint piece_waits(Worker w, Exchange ex, bytes chunk, size_t n) except -1:
    """Shall the first `n` bytes of this piece, behind the head if that has not gone, wait for the
    next?  Then they do from now."""
    cdef pieces_t* all = &w.lates.pieces
    cdef int64_t now = clock_us()
    cdef bint quick
    if all.count and all.conn != ex.conn:
        return False                    # a thread of a handler that waits, in the middle of another
    quick = piece_quick(all, now)
    all.last = now
    if not quick or n > PIECES_BYTES or all.count == PIECES or all.total + n > PIECES_BYTES:
        pieces_flush(w, ex, False)
    if not quick or n > PIECES_BYTES or ex.gone or ex.outbox is not None:
        return False
    if not ex.head_sent and (AT_ONCE_GET(ex.conn.late) or ex.conn.owed is not NULL):
        return False                    # there is something before it
    pthread_mutex_lock(&w.lates.lock)
    if all.count == 0:
        all.conn = ex.conn
        AT_ONCE_PUT(all.since, now)
    if not ex.head_sent:
        piece_part(all, ex.head, ex.head_length)
    if ex.framing == FRAME_CHUNKED:
        piece_part(all, all.sizes[all.count], snprintf(
            all.sizes[all.count], sizeof(all.sizes[0]), "%lx\r\n", <long>n))
    piece_part(all, PyBytes_AS_STRING(chunk), n)
    if ex.framing == FRAME_CHUNKED:
        piece_part(all, b"\r\n", 2)
    Py_INCREF(chunk)
    all.held[all.count] = <PyObject*>chunk
    AT_ONCE_PUT(all.count, all.count + 1)
    all.total += n
    pthread_mutex_unlock(&w.lates.lock)
    lookout_stir(&w.lookout)
    return True


cdef inline bint piece_quick(pieces_t* all, int64_t now) noexcept:
    """Another piece, or the end after the only one: has it come quickly?  Of the first nobody
    knows, so it is as it was with the last response."""
    cdef bint quick = now - all.last < PIECE_QUICK
    if all.number == 0:
        quick = all.eager
    elif all.number == 1:
        all.eager = quick
    all.number += 1
    return quick


cdef inline int piece_part(pieces_t* all, const char* p, size_t n) noexcept:
    all.parts[all.part_count].iov_base = <void*>p
    all.parts[all.part_count].iov_len = n
    all.part_count += 1
    return 0


cdef int pieces_flush(Worker w, Exchange ex, bint end) except -1:
    """Send them; `end`: and the end of a chunked body."""
    cdef pieces_t* all = &w.lates.pieces
    cdef iovec parts[98]
    cdef PyObject* held[32]
    cdef int i, part_count, count = all.count, first = 0
    cdef size_t taken
    cdef bytes last = None
    if end and all.number == 1:
        piece_quick(all, clock_us())
    if count == 0 or all.conn != ex.conn or w.stranger:
        return send_piece(w, ex, b"0\r\n\r\n", 5) if end else 0
    # First of all they are no longer there: below, the handler may have to wait, and others run.
    pthread_mutex_lock(&w.lates.lock)
    if end:
        piece_part(all, b"0\r\n\r\n", 5)
    part_count = all.part_count
    memcpy(parts, all.parts, part_count * sizeof(iovec))
    memcpy(held, all.held, count * sizeof(PyObject*))
    taken = all.taken
    AT_ONCE_PUT(all.count, 0)
    all.part_count = 0
    all.total = all.taken = 0
    pthread_mutex_unlock(&w.lates.lock)
    while first < part_count and parts[first].iov_len <= taken:
        taken -= parts[first].iov_len
        first += 1
    try:
        if first < part_count:
            parts[first].iov_base = <char*>parts[first].iov_base + taken
            parts[first].iov_len -= taken
            if ex.framing != FRAME_CHUNKED:
                last = <bytes>held[count - 1]
            send_pieces(w, ex, parts + first, part_count - first, last)
    finally:
        for i in range(count):
            Py_DECREF(<object>held[i])
    return 0
