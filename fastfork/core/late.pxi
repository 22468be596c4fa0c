# Small whole responses that wait for those of the other requests that came at the same time.
#
# A client that sleeps is woken by what is sent to it, and if it is on the same machine, as a proxy
# is, that can cost more than all the rest of a request.  So they leave together, and pipelined
# ones in one piece; but not late, and only while handlers are quick:
#
#   1. They go out when the batch is done or a handler waits, and after the handler that makes the
#      first of them wait longer than send_delay; handlers were quicker than that lately.
#   2. If a handler keeps the loop longer, or what an application does behind its response, the
#      lookout (lookout.pxi) sends them, LOOK to twice LOOK after they were ready.  So nothing that
#      a handler does can hold up what it, or another, has answered (PEP 3333, Buffering and
#      Streaming: "a different thread").
#   3. Whatever else is sent on a connection comes after them, and so does every wait of a request
#      behind them (late_settle).
#   4. What a client does not take of them is the connection's (`owed`) until its next exchange
#      takes it over, or conns_owing() finds that there is none.
#
# The lock guards all of lates_t, and of a connection that is in it `late`, `owed` and its place in
# the list of those that owe.  The loop's side takes it to add, to send and to detach that list.

cdef enum:
    LATES = 64                  # responses that wait at most, and their bytes
    LATE_TEXT = 32768
    QUICK_ENOUGH = 100          # handlers in a row that must have been quick


cdef inline bint late_add(Worker w, Exchange ex) except -1:
    """Let the response, whose head and body are in ex.head, wait for others, if it may: handlers
    of this worker were quick lately, it is complete, and there is something to wait for."""
    cdef conn_t* c = ex.conn
    if not (w.gathering and ex.keep_alive and ex.outbox is None
            and (ex.framing == FRAME_NONE or ex.sent == ex.declared)
            and (c.pending is not NULL or AT_ONCE_GET(w.lates.count)
                 or w.batch_next < w.batch_count)
            and not c.eof and not AT_ONCE_GET(c.gone) and c.memory is NULL):
        return False
    return late_put(w, c, ex.head, ex.head_length)


cdef bint late_put(Worker w, conn_t* c, const char* p, size_t n) noexcept:
    """False: there is no room, or something of this connection is before it."""
    cdef lates_t* all = &w.lates
    cdef late_t* at
    cdef bint fits, more
    pthread_mutex_lock(&all.lock)
    at = &all.at[all.count]
    more = c.late and (at - 1).conn == c        # pipelined: in one piece
    fits = ((more or (all.count < LATES and not c.late)) and c.owed is NULL
            and all.length + n <= LATE_TEXT)
    if fits:
        memcpy(all.text + all.length, p, n)
        if more:
            at -= 1
        else:
            if all.count == 0:
                AT_ONCE_PUT(all.since, w.now_us)
            at.conn = c
            at.start = all.length
            AT_ONCE_PUT(all.count, all.count + 1)
            c.late = True
        all.length += <uint32_t>n
        at.end = all.length
    pthread_mutex_unlock(&all.lock)
    if fits and not more:
        lookout_stir(&w.lookout)
    return fits


cdef int late_flush(Worker w) noexcept:
    """Send them."""
    cdef lates_t* all = &w.lates
    if w.lookout.threaded:              # else none waits
        pthread_mutex_lock(&all.lock)
        late_send(all)
        pthread_mutex_unlock(&all.lock)
    return 0


cdef inline bint late_due(lates_t* all, int64_t after) noexcept nogil:
    """Has the first of them waited so long (us)?"""
    return AT_ONCE_GET(all.count) and clock_us() - AT_ONCE_GET(all.since) >= after


cdef int late_send(lates_t* all) noexcept nogil:
    cdef conn_t* c
    cdef const char* p
    cdef ssize_t n, done
    cdef int i
    for i in range(all.count):
        c = all.at[i].conn
        p = all.text + all.at[i].start
        n = all.at[i].end - all.at[i].start
        done = send_here(c.watch.fd, p, n)
        if done < 0 and not again():
            late_lost(c)
        elif done < n:
            done = max(done, 0)
            late_owe(all, c, p + done, n - done)
        AT_ONCE_SET(c.late, 0)          # last: then nobody looks into the list for it
    AT_ONCE_PUT(all.count, 0)
    all.length = 0
    return 0


cdef inline bint pieces_due(lates_t* all, int64_t after) noexcept nogil:
    """Has the first of the pieces of a response waited so long (us)?"""
    return AT_ONCE_GET(all.pieces.count) and clock_us() - AT_ONCE_GET(all.pieces.since) >= after


cdef int pieces_send(pieces_t* all) noexcept nogil:
    """What the client takes of them.  They stay, as they are objects of Python."""
    cdef iovec parts[98]
    cdef msghdr message
    cdef size_t taken = all.taken
    cdef int first = 0
    cdef ssize_t done
    while first < all.part_count and all.parts[first].iov_len <= taken:
        taken -= all.parts[first].iov_len
        first += 1
    if first == all.part_count:
        return 0
    memcpy(parts, all.parts + first, (all.part_count - first) * sizeof(iovec))
    parts[0].iov_base = <char*>parts[0].iov_base + taken
    parts[0].iov_len -= taken
    memset(&message, 0, sizeof(message))
    message.msg_iov = parts
    message.msg_iovlen = all.part_count - first
    done = sendmsg(all.conn.watch.fd, &message, MSG_NOSIGNAL)
    if done > 0:
        all.taken += done
    elif done < 0 and not again():
        late_lost(all.conn)
    return 0


cdef int late_lost(conn_t* c) noexcept nogil:
    """They cannot be sent.  epoll tells, or the next response finds out, who is to be closed."""
    AT_ONCE_PUT(c.gone, 1)
    shutdown(c.watch.fd, SHUT_RDWR)
    return 0


cdef int late_owe(lates_t* all, conn_t* c, const char* p, size_t n) noexcept nogil:
    """The client has not taken these bytes."""
    c.owed = <char*>malloc(n)
    if c.owed is NULL:
        return late_lost(c)
    memcpy(c.owed, p, n)
    c.owed_length = n
    if not c.owing:                     # it may be, from before the last settlement
        c.owing = True
        c.next_owing = all.owing
        all.owing = c
        AT_ONCE_PUT(all.owes, 1)
    return 0


cdef conn_t* owing_detach(Worker w) noexcept:
    """The first of those whose client did not take everything; it is then no longer one of them."""
    cdef lates_t* all = &w.lates
    cdef conn_t* c
    pthread_mutex_lock(&all.lock)
    c = all.owing
    if c is not NULL:
        all.owing = c.next_owing
        c.owing = False
    if all.owing is NULL:
        AT_ONCE_PUT(all.owes, 0)
    pthread_mutex_unlock(&all.lock)
    return c


cdef int owed_forget(conn_t* c) noexcept:
    free(c.owed)
    c.owed = NULL
    return 0


cdef inline int lookout_stir(lookout_t* o) noexcept:
    """There is something for the lookout to look at."""
    AT_ONCE_SET(o.turns, o.turns + 1)   # before `parked` is read
    if AT_ONCE_GET(o.parked):
        AT_ONCE_SET(o.parked, 0)
        sem_post(&o.wake)
    return 0
