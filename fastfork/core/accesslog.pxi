# The access log: one line per request in the common or combined log format, put together here,
# written many at a time: when the buffer is nearly full, or a tenth of a second after its first
# line.

cdef enum:
    LOG_FULL = 65536            # written when there is this much
    LOG_DELAY = 100             # ms
    LOG_PATIENCE = 500          # ms: for a pipe that is full
    LOG_DEAF = 10000            # ms without patience after that


cdef size_t log_room(Worker w) noexcept:
    """No line is longer: every byte of a head, or of the line of a refused one, may become four."""
    return 4 * max(<size_t>w.max_head, <size_t>LINE_TOLD) + 1024


cdef int log_remember(Exchange ex, bint forwarded) except -1:
    """What the line needs of the request; the application may change its environ."""
    if forwarded:
        ex.remote = ex.environ["REMOTE_ADDR"]
    cdef PyObject* found = PyDict_GetItem(ex.environ, "HTTP_REFERER")
    ex.referer = <object>found if found is not NULL else None
    found = PyDict_GetItem(ex.environ, "HTTP_USER_AGENT")
    ex.agent = <object>found if found is not NULL else None
    return 0


cdef inline char* log_put(char* out, const char* p, size_t n) noexcept:
    memcpy(out, p, n)
    return out + n


cdef inline bint plain_eight(const unsigned char* p) noexcept:
    """Is none of these eight bytes a control character, beyond ASCII, a quote or a backslash?  All
    of them at once: the highest bit of a byte becomes one if it is."""
    cdef uint64_t ones = 0x0101010101010101, x, quote, backslash
    memcpy(&x, p, 8)
    quote = x ^ ones * c'"'
    backslash = x ^ ones * c'\\'
    return ((x | x - ones * 32 | x + ones | quote - ones | backslash - ones) & ones * 128) == 0


cdef char* log_put_text(char* out, object text) noexcept:
    """Escaped so that a line is a line and a quoted field ends where its quote is."""
    cdef const char* hexadecimal = "0123456789abcdef"
    cdef const unsigned char* p
    cdef const unsigned char* end
    cdef unsigned char ch
    if text is None:
        out[0] = c'-'
        return out + 1
    p = PyUnicode_1BYTE_DATA(text)      # latin-1: all of it comes from the parser
    end = p + PyUnicode_GET_LENGTH(text)
    while p < end:
        if end - p >= 8 and plain_eight(p):
            memcpy(out, p, 8)
            out += 8
            p += 8
            continue
        ch = p[0]
        p += 1
        if ch == c'"' or ch == c'\\' or ch < 32 or ch > 126:
            out[0] = c'\\'
            out[1] = c'x'
            out[2] = hexadecimal[ch >> 4]
            out[3] = hexadecimal[ch & 15]
            out += 4
        else:
            out[0] = ch
            out += 1
    return out


cdef int log_request(Worker w, conn_t* c, Exchange ex) except -1:
    cdef char* out
    cdef int status
    if w.log_data is NULL:
        w.log_data = buffer_new(LOG_FULL + log_room(w))
    if w.log_length > LOG_FULL:
        log_flush(w)
    if w.log_length == 0:
        w.log_flush_at = w.now + LOG_DELAY
    if c.remote_addr is NULL:
        conn_name_peer(c)
    if w.now >= w.stamp_until:
        stamp_update(w)
    out = w.log_data + w.log_length
    cdef object remote = <object>c.remote_addr if ex.remote is None else ex.remote
    if PyUnicode_GET_LENGTH(remote):
        out = log_put_text(out, remote)
    else:
        out = log_put(out, "-", 1)
    out = log_put(out, " - - ", 5)
    out = log_put(out, w.log_stamp, w.log_stamp_length)
    out = log_put(out, ' "', 2)
    if ex.method is None:
        out = log_put_text(out, ex.target)      # refused: the line as it came
    else:
        out = log_put_text(out, ex.method)
        out = log_put(out, " ", 1)
        out = log_put_text(out, ex.target)
        out = log_put(out, " HTTP/1.1" if ex.minor else " HTTP/1.0", 9)
    # 499, as nginx has it: the client was gone before the response was complete.  503: the server
    # gave the request up before there was one.  504: it has answered in the place of the handler.
    if ex.answered:
        status = 504
    else:
        status = 499 if ex.gone and not ex.no_room else ex.status if ex.status else 503
    out = log_put(out, '" ', 2)
    out += decimal(out, status)
    out = log_put(out, " ", 1)
    out += decimal(out, ex.sent)
    if w.log_combined:
        out = log_put(out, ' "', 2)
        out = log_put_text(out, ex.referer)
        out = log_put(out, '" "', 3)
        out = log_put_text(out, ex.agent)
        out = log_put(out, '"', 1)
    out[0] = c'\n'
    w.log_length = out + 1 - w.log_data
    return 0


cdef int log_flush(Worker w) except -1:
    """Write what there is.  Nobody may read the other end: then lines are lost, and told so, but
    the worker goes on."""
    cdef char* p = w.log_data
    cdef size_t n = w.log_length
    cdef ssize_t done
    cdef pollfd ready
    w.log_length = 0
    ready.fd = w.log_fd
    ready.events = POLLOUT
    while n:
        # A pipe that polls writable takes PIPE_BUF bytes without blocking.
        if w.log_is_pipe and poll(&ready, 1, 0 if w.now < w.log_deaf_until else LOG_PATIENCE) < 1:
            if w.now >= w.log_deaf_until:
                w.log(logging.ERROR, "nobody reads the access log: its lines are lost", None)
            w.log_deaf_until = w.now + LOG_DEAF
            break
        done = write(w.log_fd, p, min(n, <size_t>PIPE_BUF) if w.log_is_pipe else n)
        if done < 0:
            if errno == EINTR:
                continue
            w.log(logging.ERROR, f"cannot write the access log: {os.strerror(errno)}; "
                  "its lines are lost", None)
            break
        p += done
        n -= done
    return 0
