# To the client.  Try now; what does not fit waits in the exchange's outbox and is sent by the loop
# as the client takes it: in memory to a limit, then in a temporary file, and beyond the file's
# limit the handler waits.  A slow client costs no worker.

cdef enum:
    WRITE_LOOKS = 4             # at a client that takes nothing, within write_timeout
    TAIL_SMALLEST = 16384       # a piece at least this large is kept, not copied


cdef int conn_interest(Worker w, conn_t* c, uint32_t events) except -1:
    """What epoll shall report; errors it always does, EPOLLERR stands for these alone.  0 also
    takes the descriptor out, so that not even an error that is known already is reported again and
    again."""
    cdef epoll_event event
    if c.interest == events or c.watch.fd < 0:
        return 0
    event.events = events
    event.data.ptr = c
    if events == 0:
        epoll_ctl(w.epoll, EPOLL_CTL_DEL, c.watch.fd, &event)
    elif c.interest == 0:
        epoll_ctl(w.epoll, EPOLL_CTL_ADD, c.watch.fd, &event)
    else:
        epoll_ctl(w.epoll, EPOLL_CTL_MOD, c.watch.fd, &event)
    c.interest = events
    return 0


cdef inline int client_unsent(conn_t* c) noexcept:
    """Bytes in the socket's buffer that the client's side has not acknowledged."""
    cdef int n = 0
    ioctl(c.watch.fd, SIOCOUTQ, &n)
    return n


cdef int client_wait(Worker w, conn_t* c) except -1:
    """The client must take something before there is more to do: from now, write_timeout."""
    c.unsent = client_unsent(c)
    c.looks = 0
    queue_move(w, c, QUEUE_WRITE)
    return conn_interest(w, c, EPOLLIN | EPOLLOUT if client_sends(c) else EPOLLOUT)


cdef inline bint client_sends(conn_t* c) noexcept:
    """The handler is done with a streamed body that has not come to its end.  A client that sends
    all of it before it reads would wait for us, and we for it: the rest is read and dropped."""
    cdef Exchange ex = <Exchange>c.exchange
    return c.state == CONN_DRAIN and not c.eof and ex.body is not None and not ex.body.complete


cdef bint client_takes(Worker w, conn_t* c) except -1:
    """A part of write_timeout is over; did it take something?  epoll calls a socket writable only
    when a good part of its buffer is free, which a client that reads slowly but steadily may be
    long about.  So its buffer is looked at several times before the time is up."""
    cdef int unsent = client_unsent(c)
    c.looks = 0 if unsent < c.unsent else c.looks + 1
    c.unsent = unsent
    if c.looks == WRITE_LOOKS:
        return False
    queue_move(w, c, QUEUE_WRITE)
    return True


cdef int64_t client_untaken(Exchange ex) except -1:
    """What was sent of the body and has not arrived, as far as one can tell (framing is counted
    with it)."""
    return min(ex.sent, outbox_size(ex.outbox) + client_unsent(ex.conn))


cdef int send_continue(Worker w, Exchange ex) except -1:
    """RFC 9110, 10.1.1."""
    return send_piece(w, ex, b"HTTP/1.1 100 Continue\r\n\r\n", 25)


cdef ssize_t send_now(Exchange ex, const char* p, size_t n) except -2:
    """What the client takes now; 0 if it takes nothing, or is gone (then ex.gone is set)."""
    cdef conn_t* c = ex.conn
    cdef ssize_t done
    if c.memory is not NULL:
        (<MemoryConnection>c.memory).output += p[:n]
        return n
    done = send_here(c.watch.fd, p, n)
    if done < 0:
        if not again():
            ex.gone = True
        return 0
    return done


cdef int owed_take(Worker w, Exchange ex) except -1:
    """What is owed to its client becomes the beginning of what this exchange sends."""
    cdef conn_t* c = ex.conn
    cdef Outbox box = outbox_of(ex)     # nothing can be there yet
    box.data = buffer_new(c.owed_length)
    memcpy(box.data, c.owed, c.owed_length)
    box.end = box.size = c.owed_length
    owed_forget(c)
    return 0


cdef inline int late_settle(Worker w, Exchange ex) except -1:
    """Something else of this connection is about to be sent, or it is going to wait: first what is
    before that."""
    if AT_ONCE_GET(ex.conn.late):
        late_flush(w)
    if ex.conn.owed is not NULL:
        owed_take(w, ex)
    return 0


cdef int send_piece(Worker w, Exchange ex, const char* p, size_t n) except -1:
    cdef size_t done
    if ex.gone:
        return 0
    late_settle(w, ex)
    if ex.outbox is None:
        done = send_now(ex, p, n)
        if done == n or ex.gone:        # the fast path ends here
            return 0
        p += done
        n -= done
    outbox_append(w, ex, p, n)
    return outbox_push(w, ex)


cdef int send_pieces(Worker w, Exchange ex, iovec* iov, int count, bytes last) except -1:
    """Several pieces in one call.  `last`: the object that holds the last one, if it may be kept
    instead of copied."""
    cdef msghdr message
    cdef ssize_t done = 0
    cdef int i
    cdef size_t n
    if ex.gone:
        return 0
    late_settle(w, ex)
    if ex.outbox is None:
        if ex.conn.memory is not NULL:
            for i in range(count):
                send_now(ex, <const char*>iov[i].iov_base, iov[i].iov_len)
            return 0
        memset(&message, 0, sizeof(message))
        message.msg_iov = iov
        message.msg_iovlen = count
        done = sendmsg(ex.conn.watch.fd, &message, MSG_NOSIGNAL)
        if done < 0:
            if not again():
                ex.gone = True
                return 0
            done = 0
    for i in range(count):
        n = iov[i].iov_len
        if <size_t>done >= n:
            done -= n
            continue
        if i == count - 1 and last is not None and n - done >= TAIL_SMALLEST:
            outbox_append_tail(w, ex, last,
                               <const char*>iov[i].iov_base + done - PyBytes_AS_STRING(last),
                               n - done)
        else:
            outbox_append(w, ex, <const char*>iov[i].iov_base + done, n - done)
        done = 0
    if ex.outbox is not None:
        return outbox_push(w, ex)
    return 0


cdef int send_file(Worker w, Exchange ex, object owner, int fd, int64_t offset,
                   int64_t length) except -1:
    """The head and then `length` bytes of a file, by sendfile."""
    cdef Outbox box
    cdef ssize_t done = 0
    cdef int64_t step
    if ex.conn.memory is not NULL:
        send_now(ex, ex.head, ex.head_length)
        while length and not ex.gone:
            step = pread(fd, w.buffer, <size_t>min(length, <int64_t>BUFFER_SIZE), offset)
            if step <= 0:
                file_shrank(w, ex, length)
                break
            send_now(ex, w.buffer, <size_t>step)
            offset += step
            length -= step
        close_quietly(w, owner)
        return 0
    late_settle(w, ex)
    if ex.outbox is None:
        # MSG_MORE: the head waits for the first bytes of the file and travels with them.
        done = send(ex.conn.watch.fd, ex.head, ex.head_length, MSG_NOSIGNAL | MSG_MORE)
        if done < 0:
            if not again():
                ex.gone = True
            done = 0
    box = outbox_of(ex)
    box.file_fd = fd
    box.file_offset = offset
    box.file_left = length
    box.file_owner = owner
    if <size_t>done < ex.head_length:
        outbox_append(w, ex, ex.head + done, ex.head_length - done)
    if not outbox_drain(w, ex):
        # It will be sent when the application is done with it, and it may close the file, whose
        # number may then become another file's.
        box.file_fd = box.file_copy = fcntl(fd, F_DUPFD_CLOEXEC, 3)
        if box.file_copy < 0:
            raise OSError(errno, os.strerror(errno))
    return 0


cdef int file_shrank(Worker w, Exchange ex, int64_t missing) except -1:
    w.log(logging.ERROR, f"a file became {missing} bytes shorter while it was being sent; the "
          "connection is closed", None)
    ex.aborted = True
    return 0


cdef int close_quietly(Worker w, object owner) except -1:
    """close() of something that the application has or had in its hands, when nobody is left to
    raise to."""
    try:
        owner.close()
    except BaseException as e:
        w.log(logging.ERROR, f"close() of {type(owner).__name__} failed", e)
    return 0


# -- the outbox ----------------------------------------------------------------------------

cdef class Outbox:

    def __cinit__(self):
        self.file_fd = self.file_copy = self.spool_fd = -1
        COUNT_OUTBOX(1)

    def __dealloc__(self):
        buffer_free(self.data)
        if self.file_copy >= 0:
            close(self.file_copy)
        COUNT_OUTBOX(-1)


cdef Outbox outbox_of(Exchange ex):
    if ex.outbox is None:
        ex.outbox = Outbox()
    return ex.outbox


cdef int outbox_drop(Worker w, Exchange ex) except -1:
    """Drop it with all that it holds."""
    cdef Outbox box = ex.outbox
    ex.outbox = None
    if box.file_owner is not None:
        owner = box.file_owner
        box.file_owner = None
        close_quietly(w, owner)
    if box.spool is not None:
        w.spooled -= box.spool_written
        close_quietly(w, box.spool)
    return 0


cdef int64_t outbox_size(Outbox box) noexcept:
    """Bytes that the client has not taken."""
    cdef int64_t n
    if box is None:
        return 0
    n = box.end - box.start + box.spool_written - box.spool_read + box.file_left
    if box.tail is not None:
        n += PyBytes_GET_SIZE(box.tail) - box.tail_start
    return n


cdef int outbox_append(Worker w, Exchange ex, const char* p, size_t n) except -1:
    """Copy into memory if nothing stands behind it there and it fits, else into the spool."""
    cdef Outbox box = outbox_of(ex)
    cdef size_t have = box.end - box.start
    cdef size_t size
    if n == 0:
        return 0
    if (box.tail is None and box.spool_written == box.spool_read
            and have + n <= <size_t>w.output_memory):
        if box.end + n > box.size:
            if box.start:
                memmove(box.data, box.data + box.start, have)
                box.start = 0
                box.end = have
            if have + n > box.size:
                size = max(have + n, min(2 * box.size, <size_t>w.output_memory))
                box.data = buffer_grow(box.data, size)
                box.size = size
        memcpy(box.data + box.end, p, n)
        box.end += n
        return 0
    if w.spooled + <int64_t>n > w.max_spool:
        return spool_full(w, ex, None)
    try:
        if box.spool is None:
            spool = tempfile.TemporaryFile(buffering=0)
            if ex.outbox is not box or box.spool is not None:
                # write() in a thread, and the loop or another thread was here meanwhile.
                return outbox_append(w, ex, p, n)
            box.spool = spool
            box.spool_fd = spool.fileno()
        spool_write(w, box, p, n)
    except OSError as e:
        return spool_full(w, ex, e)
    return 0


cdef int spool_full(Worker w, Exchange ex, object e) except -1:
    """Better one client without its answer than a worker that waits for that client."""
    if w.now >= w.room_told_until:
        w.room_told_until = w.now + TOLD_AGAIN
        w.log(logging.ERROR, f"{conn_peer(ex.conn)}: no room for its response in temporary files: "
              f"{str(e) if e is not None else 'max_spool'}; the connection is closed", e)
    ex.aborted = ex.gone = ex.no_room = True
    return 0


cdef int spool_write(Worker w, Outbox box, const char* p, size_t n) except -1:
    cdef ssize_t done
    while n:
        done = pwrite(box.spool_fd, p, n, box.spool_written)
        if done < 0:
            if errno == EINTR:
                continue
            raise OSError(errno, os.strerror(errno))
        p += done
        n -= done
        box.spool_written += done
        w.spooled += done
    return 0


cdef int outbox_append_tail(Worker w, Exchange ex, bytes data, size_t start, size_t n) except -1:
    cdef Outbox box = outbox_of(ex)
    if box.tail is None and box.spool_written == box.spool_read and (
            start + n == <size_t>PyBytes_GET_SIZE(data)):
        box.tail = data
        box.tail_start = start
        return 0
    return outbox_append(w, ex, PyBytes_AS_STRING(data) + start, n)


cdef bint outbox_drain(Worker w, Exchange ex) except -1:
    """Send what the client takes.  True: nothing is left, or the client is gone."""
    cdef Outbox box = ex.outbox
    cdef int fd = ex.conn.watch.fd
    cdef size_t n
    cdef ssize_t done
    while box.start < box.end:
        done = send_now(ex, box.data + box.start, box.end - box.start)
        if done == 0:
            return ex.gone
        box.start += done
    box.start = box.end = 0
    while box.tail is not None:
        n = PyBytes_GET_SIZE(box.tail) - box.tail_start
        done = send_now(ex, PyBytes_AS_STRING(box.tail) + box.tail_start, n)
        if done == 0:
            return ex.gone
        box.tail_start += done
        if <size_t>done == n:
            box.tail = None
    while box.spool_read < box.spool_written:
        done = sendfile(fd, box.spool_fd, &box.spool_read, <size_t>min(
            box.spool_written - box.spool_read, <int64_t>SEND_FILE_STEP))
        if done <= 0:
            if done == 0 or not again():
                ex.gone = True
            return ex.gone
    if box.spool_written:
        # Used up: begin again at the front, and give the disk back.
        w.spooled -= box.spool_written
        box.spool_read = box.spool_written = 0
        ftruncate(box.spool_fd, 0)      # not by the file's method, which gives up the GIL
    if box.file_left:
        done = sendfile(fd, box.file_fd, &box.file_offset,
                        <size_t>min(box.file_left, <int64_t>SEND_FILE_STEP))
        if done < 0:
            if not again():
                ex.gone = True
            return ex.gone
        if done == 0:
            file_shrank(w, ex, box.file_left)
            box.file_left = 0
        box.file_left -= done
        if box.file_left:
            return False                # others have their turn; epoll says when to go on
    outbox_drop(w, ex)
    return True


cdef int outbox_push(Worker w, Exchange ex) except -1:
    """After something was added: while the handler runs the loop does not, so what the client
    takes by now is sent here (PEP 3333: no block may be held back).  And the bound of a
    connection's output: beyond it the handler waits until the client has taken everything; the
    loop goes on meanwhile."""
    if ex.gone or outbox_drain(w, ex) or not w.running:
        return 0
    if PyThread_get_thread_ident() != ex.thread:
        # write() in a thread of the application's: it cannot park
        if ex.reading and w.mode != MODE_THREADS:
            conn_interest(w, ex.conn, EPOLLIN | EPOLLOUT)
        return 0
    if w.mode != MODE_INLINE and not ex.beside:     # a few bytes of the loop's own
        return 0
    if ex.beside and ex.waiter is None and ex.conn.queue != QUEUE_WRITE:
        # Nobody tells us when the handler waits for something else: from now on the loop sends.
        if w.mode == MODE_THREADS:
            w.asked.append(ex)
            loop_wake(w)
        else:
            client_wait(w, ex.conn)
            turn_want(w)
    if ex.outbox.spool_written <= w.output_spool:   # the size of the file, read or not
        return 0
    if w.mode == MODE_THREADS:
        ex.asks = ASK_ROOM
    else:
        client_wait(w, ex.conn)
    park(w, ex)
    return 0
