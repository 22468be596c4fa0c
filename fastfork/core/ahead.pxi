# Bytes read ahead: what has come behind the part of a message that is being worked on waits with
# the connection until it is its turn.

cdef inline void conn_forget_pending(conn_t* c) noexcept:
    if c.pending is not NULL:
        buffer_free(c.pending)
        c.pending = NULL
        c.pending_start = c.pending_end = c.pending_size = 0
    c.scanned = c.lines = 0


cdef int conn_keep_pending(conn_t* c, const char* data, size_t n) except -1:
    """Make `data` (in the worker's buffer, or already a part of `pending`) what is pending."""
    if n == 0:
        conn_forget_pending(c)
        return 0
    if c.pending is not NULL and c.pending <= data < c.pending + c.pending_size:
        c.pending_start = <uint32_t>(data - c.pending)
        return 0
    return conn_append_pending(c, data, n)


cdef int conn_append_pending(conn_t* c, const char* data, size_t n) except -1:
    cdef size_t have = c.pending_end - c.pending_start
    cdef size_t size
    if c.pending_end + n > c.pending_size:
        if c.pending_start:
            memmove(c.pending, c.pending + c.pending_start, have)
            c.pending_start = 0
            c.pending_end = <uint32_t>have
        if have + n > c.pending_size:
            # Grows by doubling from what is needed.  The bound is that of a head (the caller
            # refuses a longer one) plus one receive.
            size = max(have + n, min(<size_t>2 * c.pending_size, <size_t>BUFFER_SIZE))
            c.pending = buffer_grow(c.pending, size)
            c.pending_size = <uint32_t>size
    memcpy(c.pending + c.pending_end, data, n)
    c.pending_end += <uint32_t>n
    return 0
