# The response: start_response, the head, how the end of the body is told.
#
#   who says how long the body is                     framing
#   HEAD, 204, 205, 304                               NONE     no body, whatever is yielded
#   the application (Content-Length)                  LENGTH   more is cut, less is told by a close
#   the server (one piece, a list, a file)            LENGTH
#   nobody, HTTP/1.1                                  CHUNKED
#   nobody, HTTP/1.0                                  CLOSE    the end of the connection

cdef enum:
    HEAD_SMALL = 4096           # a head buffer larger than this is not kept for the next request
    LINE_TOLD = 1024            # bytes of a request line that is refused, for the logs
    SMALL_BODY = 2048           # up to here the body is copied behind the head: one plain send
    POOL_LARGEST = 64           # Exchanges kept for the next requests
    LINES = 64                  # lines remembered; a power of two

REASONS = {
    400: b"Bad Request", 408: b"Request Timeout", 413: b"Content Too Large",
    414: b"URI Too Long", 417: b"Expectation Failed", 421: b"Misdirected Request",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error", 501: b"Not Implemented",
    503: b"Service Unavailable", 504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}


RETRY_AFTER = "10"              # seconds (RFC 9110, 10.2.3)


class ClientGone(ConnectionError):
    """Raised by write() when the client has disconnected."""


cdef class Exchange:

    def __cinit__(self):
        self.start_response_ = self.start_response
        self.write_ = self.write
        self.early_hints_ = self.early_hints
        COUNT_EXCHANGE(1)

    def __dealloc__(self):
        buffer_free(self.head)
        COUNT_EXCHANGE(-1)

    def start_response(self, status, response_headers, exc_info=None):
        """PEP 3333, The start_response() Callable."""
        if exc_info is not None:
            try:
                _, error, trace = exc_info
                if self.head_sent:
                    raise error.with_traceback(trace)
            finally:
                exc_info = error = trace = None     # avoid a reference cycle
        elif self.started:
            raise RuntimeError("start_response was called before, and exc_info is not given")
        if self.conn is NULL or self.finished:
            raise RuntimeError("start_response was called after the request was over")
        self.started = False
        head_reset(self)
        head_status(self, status)
        if not PyList_Check(response_headers):
            raise TypeError("response_headers is not a list (PEP 3333) but "
                            + type(response_headers).__name__)
        for field in <list>response_headers:
            pair_check(field)
            head_field(self, <object>PyTuple_GET_ITEM(field, 0), <object>PyTuple_GET_ITEM(field, 1))
        self.started = True
        return self.write_

    def early_hints(self, headers):
        """`wsgi.early_hints`: send 103 with these fields now (RFC 8297).  Nothing happens if the
        client speaks HTTP/1.0, which knows no such thing, or if the response has begun."""
        cdef tuple fields = tuple(headers)      # whatever code that runs: before anything is begun
        cdef size_t end
        if self.conn is NULL or self.finished:
            raise RuntimeError("early_hints was called after the request was over")
        if self.minor == 0 or self.head_begun or self.worker.stranger:
            return
        end = self.head_length
        try:
            head_room(self, 26)
            head_put(self, b"HTTP/1.1 103 Early Hints\r\n", 26)
            for field in fields:
                hint_field(self, field)
            head_room(self, 2)
            head_put(self, b"\r\n", 2)
            send_piece(self.worker, self, self.head + end, self.head_length - end)
        finally:
            self.head_length = end

    def write(self, data):
        """PEP 3333, The write() Callable.  Raises ClientGone if the client has disconnected."""
        if self.conn is NULL or self.finished:
            raise RuntimeError("write was called after the request was over")
        if self.gone:
            raise ClientGone("the client has disconnected")
        chunk_check(data)
        if len(<bytes>data):
            head_begin(self.worker, self, -1)
            body_send(self.worker, self, <bytes>data)
            if self.gone:
                raise ClientGone("the client has disconnected")


def hints_over(headers):
    """What `wsgi.early_hints` is after the request."""
    raise RuntimeError("early_hints was called after the request was over")


# -- exchanges and their pool --------------------------------------------------------------

cdef Exchange exchange_take(Worker w, conn_t* c):
    cdef Exchange ex
    if w.pool_count:
        w.pool_count -= 1
        ex = <Exchange>w.pool[w.pool_count]     # its reference goes to the connection
    else:
        ex = Exchange.__new__(Exchange)
        Py_INCREF(ex)
    ex.worker = w                       # not while in the pool: that would be a cycle
    ex.conn = c
    c.exchange = <PyObject*>ex
    ex.started = ex.head_sent = ex.finished = False
    ex.aborted = ex.refused = ex.owed = ex.excess_told = ex.expects = ex.no_room = False
    ex.gathers = False
    ex.gone = AT_ONCE_GET(c.gone)
    ex.beside = ex.over = ex.hub_waits = ex.answered = False
    ex.thread = w.thread
    ex.sent = 0
    ex.status = 0
    head_reset(ex)
    return ex


cdef Exchange exchange_new(Worker w, conn_t* c):
    """For the request that was just read into w.head."""
    cdef Head h = w.head
    cdef Exchange ex = exchange_take(w, c)
    ex.environ = h.environ
    h.environ = None
    ex.method = h.method
    ex.target = h.target
    if h.request_id is not None:
        ex.request_id = h.request_id
    ex.minor = h.minor
    ex.is_head = h.method is "HEAD"
    PyDict_SetItem(ex.environ, "wsgi.early_hints", ex.early_hints_)
    # RFC 9112, 9.3
    ex.client_keeps = not h.close and (h.minor == 1 or h.keep_alive)
    c.requests += 1
    ex.keep_alive = ex.client_keeps and c.requests < w.keep_alive_requests
    if w.log_fd >= 0:
        log_remember(ex, h.forwarded != 0)
    return ex


cdef Exchange exchange_refused(Worker w, conn_t* c, const char* p, size_t n):
    """For a request that never was one: of its head the `n` bytes at `p` have come."""
    cdef Exchange ex = exchange_take(w, c)
    cdef size_t length = 0
    ex.environ = None
    ex.deadline = 0
    ex.minor = 1
    ex.keep_alive = False
    ex.client_keeps = True
    while n >= 2 and p[0] == c'\r' and p[1] == c'\n':
        p += 2
        n -= 2
    while length < min(n, <size_t>LINE_TOLD) and p[length] != c'\r' and p[length] != c'\n':
        length += 1
    ex.method = ex.remote = None
    ex.target = PyUnicode_DecodeLatin1(p, length, NULL) if length else None
    ex.is_head = length > 5 and memcmp(p, b"HEAD ", 5) == 0
    return ex


cdef Exchange exchange_owed(Worker w, conn_t* c):
    """For the rest of responses whose requests are over."""
    cdef Exchange ex = exchange_take(w, c)
    ex.environ = None
    ex.deadline = 0
    ex.minor = 1
    ex.keep_alive = ex.client_keeps = True
    ex.owed = ex.head_sent = ex.finished = True
    owed_take(w, ex)
    return ex


cdef str environ_text(Exchange ex, str key):
    """A value of the environ, unless the application has put something else there."""
    cdef PyObject* found = PyDict_GetItem(ex.environ, key)
    if found is not NULL and PyUnicode_CheckExact(<object>found):
        return <str>found
    return "?"


cdef str request_told(Exchange ex):
    """The request line, for the error log."""
    if ex.environ is not None:
        return f": {environ_text(ex, 'REQUEST_METHOD')} {environ_text(ex, 'RAW_URI')}"
    return f": {ex.target!a}" if ex.target is not None else ""


cdef int exchange_release(Worker w, Exchange ex) except -1:
    """The connection is done with it.  Whatever it still holds is dropped."""
    cdef conn_t* c = ex.conn
    cdef object file = ex.input_file
    c.exchange = NULL                   # first: nothing below may be done twice
    ex.conn = NULL
    ex.worker = None
    ex.finished = True
    if ex.environ is not None and Py_REFCNT(<PyObject*>ex.environ) > 1 and (
            ex.environ.get("wsgi.early_hints") is ex.early_hints_):
        # Who keeps the environ, as exceptions do in their frames, need not keep this as well.
        ex.environ["wsgi.early_hints"] = hints_over
    w.held -= ex.input_held
    w.spooled -= ex.input_spooled
    ex.input_held = ex.input_spooled = 0
    if ex.body is not None:
        ex.body.exchange = None
        file = ex.body.file
        w.held -= ex.body.held
        w.spooled -= ex.body.spooled
    ex.environ = ex.body = ex.input_file = None
    ex.method = ex.target = ex.request_id = ex.referer = ex.agent = ex.remote = None
    if file is not None:
        close_quietly(w, file)
    if ex.outbox is not None:
        outbox_drop(w, ex)
    if ex.head_size > HEAD_SMALL:
        buffer_free(ex.head)
        ex.head = NULL
        ex.head_size = 0
    # An application that kept start_response, write or early_hints keeps this exchange; it must
    # not come to another request.
    if ex.waiter is not None:           # a greenlet of the application's, that it has left behind
        unpark(w, ex)
        exchange_free(ex)
    elif (Py_REFCNT(<PyObject*>ex.start_response_) == 1 and Py_REFCNT(<PyObject*>ex.write_) == 1
            and Py_REFCNT(<PyObject*>ex.early_hints_) == 1
            and w.pool_count < POOL_LARGEST):
        w.pool[w.pool_count] = <PyObject*>ex        # the connection's reference
        w.pool_count += 1
    else:
        exchange_free(ex)
    return 0


cdef int exchange_free(Exchange ex) except -1:
    """Give up the reference that the pool or the connection held."""
    ex.start_response_ = ex.write_ = ex.early_hints_ = None     # the cycle
    Py_DECREF(ex)
    return 0


cdef inline bint exchange_cut(Exchange ex) noexcept:
    """Must the client be told by a reset that it has not got everything?  A close looks like the
    regular end of a close-delimited body."""
    return ex.aborted and ex.head_sent and ex.framing == FRAME_CLOSE


# -- the head ------------------------------------------------------------------------------

cdef inline void head_reset(Exchange ex) noexcept:
    ex.head_length = 0
    ex.head_begun = False
    ex.declared = -1
    ex.has_date = ex.has_server = ex.app_close = False
    ex.framing = FRAME_NONE


cdef inline int head_room(Exchange ex, size_t n) except -1:
    cdef size_t size
    if ex.head_length + n > ex.head_size:
        size = max(ex.head_length + n, max(2 * ex.head_size, <size_t>HEAD_SMALL))
        ex.head = buffer_grow(ex.head, size)
        ex.head_size = size
    return 0


cdef inline void head_put(Exchange ex, const char* p, size_t n) noexcept:
    """There must be room."""
    memcpy(ex.head + ex.head_length, p, n)
    ex.head_length += n


cdef int head_status(Exchange ex, object status) except -1:
    """RFC 9112, 4: status-code SP [reason-phrase]."""
    cdef Py_ssize_t n
    cdef const char* p
    cdef line_t* line = line_at(ex, status, NULL)
    if line_put(ex, line, status, NULL):
        ex.status = three_digits(line.text + 9)
        return 0
    p = latin1(status, &n, "the status")
    if (n < 3 or not (c'1' <= p[0] <= c'5' and c'0' <= p[1] <= c'9' and c'0' <= p[2] <= c'9')
            or (n > 3 and p[3] != c' ') or has_control(p, n)):
        raise ValueError(f"not a status (three digits, a blank, a reason): {status!r}")
    if p[0] == c'1':
        raise ValueError(f"an informational status cannot be a response: {status!r}")
    ex.status = three_digits(p)
    head_room(ex, n + 12)
    head_put(ex, b"HTTP/1.1 ", 9)
    head_put(ex, p, n)
    if n == 3:
        head_put(ex, b" ", 1)
    head_put(ex, b"\r\n", 2)
    line_remember(ex, line, status, NULL, ex.head_length)
    return 0


cdef inline int three_digits(const char* p) noexcept:
    return (p[0] - c'0') * 100 + (p[1] - c'0') * 10 + (p[2] - c'0')


# Most applications send the same few string objects again and again: a line that was written before
# is found by the addresses of what it was made of.

cdef inline line_t* line_at(Exchange ex, object name, PyObject* value) noexcept:
    """Where the line of these would be."""
    return &ex.worker.lines[((<size_t><PyObject*>name >> 4) ^ (<size_t>value >> 5)) % LINES]


cdef inline bint line_put(Exchange ex, line_t* line, object name, PyObject* value) except -1:
    """Write it, if it is there."""
    if line.name != <PyObject*>name or line.value != value:
        return False
    head_room(ex, line.length)
    head_put(ex, line.text, line.length)
    return True


cdef int line_remember(Exchange ex, line_t* line, object name, PyObject* value,
                       size_t length) except -1:
    """The last `length` bytes of the head are the line of these."""
    if (length > sizeof(line.text) or not PyUnicode_CheckExact(name)
            or value is not NULL and not PyUnicode_CheckExact(<object>value)):
        return 0
    # The references keep the addresses from meaning anything else.
    Py_INCREF(name)
    Py_XINCREF(value)
    Py_XDECREF(line.name)
    Py_XDECREF(line.value)
    line.name = <PyObject*>name
    line.value = value
    line.length = <uint8_t>length
    memcpy(line.text, ex.head + ex.head_length - length, length)
    return 0


cdef int head_field(Exchange ex, object name, object value) except -1:
    """Check and write one field."""
    cdef line_t* line = line_at(ex, name, <PyObject*>value)
    if line_put(ex, line, name, <PyObject*>value):
        return 0
    cdef Py_ssize_t n, m
    cdef const char* p = latin1(name, &n, "a field name")
    cdef const char* v = latin1(value, &m, "a field value")
    cdef int kind = field_check(p, n, v, m, name, value)
    if kind == FIELD_LENGTH:
        if ex.declared >= 0:
            raise ValueError("more than one Content-Length")
        ex.declared = digits(v, m)
        if ex.declared < 0 or ex.declared == TOO_LARGE:
            raise ValueError(f"not a length: {value!r}")
        return 0                        # written when the head is complete
    if kind == FIELD_CONNECTION:
        # It is ours to say; that the application wants the connection closed is heard.
        options = [o.strip().lower() for o in v[:m].decode("latin-1").split(",")]
        if "close" in options:
            ex.app_close = True
        return 0
    if kind == FIELD_DATE:
        ex.has_date = True
    elif kind == FIELD_SERVER:
        ex.has_server = True
    head_line_put(ex, p, n, v, m)
    if kind == FIELD_PLAIN:
        line_remember(ex, line, name, <PyObject*>value, n + m + 4)
    return 0


cdef inline int pair_check(object field) except -1:
    if not PyTuple_Check(field) or PyTuple_GET_SIZE(field) != 2:
        raise TypeError(f"not a (name, value) tuple in the list of fields: {field!r}")
    return 0


cdef int field_check(const char* p, Py_ssize_t n, const char* v, Py_ssize_t m, object name,
                     object value) except -1:
    """What kind of field this is, FIELD_PLAIN for most; ValueError if it cannot be sent."""
    cdef char first
    if n == 14 and strncasecmp(p, "content-length", 14) == 0:
        return FIELD_LENGTH             # whose value is digits, as its reader sees
    if not is_token(p, n):
        raise ValueError(f"not a field name: {name!r}")
    if has_control(v, m):
        raise ValueError(f"a control character in the value of {name}: {value!r}")
    first = p[0] | 32
    if first == c'd' and n == 4 and strncasecmp(p, "date", 4) == 0:
        return FIELD_DATE
    if first == c's' and n == 6 and strncasecmp(p, "server", 6) == 0:
        return FIELD_SERVER
    if first == c'c':
        if n == 10 and strncasecmp(p, "connection", 10) == 0:
            return FIELD_CONNECTION
    elif ((n == 10 and strncasecmp(p, "keep-alive", 10) == 0)
          or (n == 17 and strncasecmp(p, "transfer-encoding", 17) == 0)
          or (n == 2 and strncasecmp(p, "te", 2) == 0)
          or (n == 7 and strncasecmp(p, "trailer", 7) == 0)
          or (n == 8 and strncasecmp(p, "trailers", 8) == 0)
          or (n == 7 and strncasecmp(p, "upgrade", 7) == 0)
          or (n == 18 and strncasecmp(p, "proxy-authenticate", 18) == 0)
          or (n == 19 and strncasecmp(p, "proxy-authorization", 19) == 0)):
        raise ValueError(f"{name} is a hop-by-hop field: not the application's to set (PEP 3333)")
    return FIELD_PLAIN


cdef int hint_field(Exchange ex, object field) except -1:
    """A field of an informational response: about the response to come, not about this message."""
    cdef Py_ssize_t n, m
    cdef const char* p
    cdef const char* v
    pair_check(field)
    name = <object>PyTuple_GET_ITEM(field, 0)
    value = <object>PyTuple_GET_ITEM(field, 1)
    p = latin1(name, &n, "a field name")
    v = latin1(value, &m, "a field value")
    if field_check(p, n, v, m, name, value) in (FIELD_LENGTH, FIELD_CONNECTION):
        raise ValueError(f"{name} has no place in early hints")
    return head_line_put(ex, p, n, v, m)


cdef int head_line_put(Exchange ex, const char* p, Py_ssize_t n, const char* v,
                       Py_ssize_t m) except -1:
    head_room(ex, n + m + 4)
    head_put(ex, p, n)
    head_put(ex, b": ", 2)
    head_put(ex, v, m)
    head_put(ex, b"\r\n", 2)
    return 0


cdef int head_begin(Worker w, Exchange ex, int64_t length) except -1:
    """Complete the head, unless that was done.  `length`: of the whole body, -1 if not known.
    It goes out with the first bytes of the body."""
    cdef char number[48]
    if ex.head_begun:
        return 0
    if not ex.started:
        raise RuntimeError("the application has not called start_response")
    ex.head_begun = True
    if ex.status == 205:                # RFC 9110, 15.3.6: no content, and the client must know
        ex.framing = FRAME_NONE
        ex.declared = 0
    elif ex.status == 204 or ex.status == 304 or ex.is_head:
        ex.framing = FRAME_NONE
        if ex.declared < 0 and ex.is_head and ex.status != 304 and length > 0:
            # Not 0: many an application leaves the body of a HEAD out and the length to the
            # server, and then nobody knows what GET would have (RFC 9110, 8.6).
            ex.declared = length
        if ex.status == 204:            # RFC 9110, 8.6
            ex.declared = -1
    elif ex.declared >= 0:
        ex.framing = FRAME_LENGTH
    elif length >= 0:
        ex.framing = FRAME_LENGTH
        ex.declared = length
    elif ex.minor == 1:
        ex.framing = FRAME_CHUNKED
    else:
        ex.framing = FRAME_CLOSE
        ex.keep_alive = False
    if (w.draining and not handoff_can(w) or ex.app_close
            or ex.body is not None and not ex.body.complete):
        ex.keep_alive = False
    head_room(ex, 256 + PyBytes_GET_SIZE(w.server_field))
    if not ex.has_server:
        head_put(ex, PyBytes_AS_STRING(w.server_field), PyBytes_GET_SIZE(w.server_field))
    if not ex.has_date:
        if w.now >= w.stamp_until:
            stamp_update(w)
        head_put(ex, w.stamp, w.stamp_length)
    if ex.declared >= 0:
        head_put(ex, number, decimal_field(number, ex.declared))
    elif ex.framing == FRAME_CHUNKED:
        head_put(ex, b"Transfer-Encoding: chunked\r\n", 28)
    if not ex.keep_alive:
        head_put(ex, b"Connection: close\r\n", 19)
    elif ex.minor == 0:
        head_put(ex, b"Connection: keep-alive\r\n", 24)
    head_put(ex, b"\r\n", 2)
    return 0


# -- the body ------------------------------------------------------------------------------

cdef inline int chunk_check(object chunk) except -1:
    if not PyBytes_Check(chunk):
        raise TypeError(
            f"the application's iterable yielded {type(chunk).__name__}, not bytes (PEP 3333)")
    return 0


cdef int body_send(Worker w, Exchange ex, bytes chunk) except -1:
    """Send a piece of the body, with the head in front if that has not gone."""
    cdef const char* p = PyBytes_AS_STRING(chunk)
    cdef int64_t n = PyBytes_GET_SIZE(chunk)
    cdef char prefix[24]
    cdef iovec iov[4]
    cdef int count = 0
    if w.stranger:
        stranger_ends(w, None)
    if ex.gone:
        return 0
    if ex.framing == FRAME_NONE:
        n = 0
    elif ex.framing == FRAME_LENGTH and n > ex.declared - ex.sent:
        # RFC 9112, 6.3: what is beyond Content-Length would be read as the next response.
        if not ex.excess_told:
            ex.excess_told = True
            w.log(logging.ERROR, f"the application sent more than its Content-Length of "
                  f"{ex.declared} bytes; the rest is dropped", None)
        n = ex.declared - ex.sent
    ex.sent += n
    if not ex.head_sent:
        if n <= SMALL_BODY and ex.framing != FRAME_CHUNKED:
            # The fast path: head and body in one plain send.
            ex.head_sent = True
            head_room(ex, n)
            head_put(ex, p, n)
            if late_add(w, ex):
                return 0
            if ex.gathers:
                w.lates.pieces.number = 1
            return send_piece(w, ex, ex.head, ex.head_length)
        if n and ex.gathers and piece_waits(w, ex, chunk, n):
            ex.head_sent = True
            return 0
        ex.head_sent = True
        iov[0].iov_base = ex.head
        iov[0].iov_len = ex.head_length
        count = 1
    if n == 0:
        if count:
            return send_pieces(w, ex, iov, count, None)
        return 0
    if ex.gathers and count == 0 and piece_waits(w, ex, chunk, n):
        return 0
    if ex.framing == FRAME_CHUNKED:
        iov[count].iov_base = prefix
        iov[count].iov_len = snprintf(prefix, sizeof(prefix), "%lx\r\n", <long>n)
        count += 1
    iov[count].iov_base = <void*>p
    iov[count].iov_len = n
    count += 1
    if ex.framing == FRAME_CHUNKED:
        iov[count].iov_base = <void*><const char*>b"\r\n"
        iov[count].iov_len = 2
        return send_pieces(w, ex, iov, count + 1, None)
    return send_pieces(w, ex, iov, count, chunk)


cdef int file_send(Worker w, Exchange ex, object owner, int fd, int64_t offset,
                   int64_t length) except -1:
    """Head, then a file by sendfile.  Takes the owner over: it is closed when that is done."""
    if w.stranger:
        stranger_ends(w, None)
    ex.head_sent = True
    ex.sent = length
    send_file(w, ex, owner, fd, offset, length)
    return 0


cdef int stranger_ends(Worker w, object e) except -1:
    """This process was forked by a handler, and the application is done with it: nothing of the
    response is its business.  Does not return."""
    cdef int status = 0
    if isinstance(e, SystemExit):
        status = e.code if isinstance(e.code, int) else e.code is not None
    elif e is not None:
        status = 1
        w.log(logging.ERROR, "error in a process that the application forked", e)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception as failure:
            w.log(logging.ERROR, "cannot flush the output of a forked process", failure)
    os._exit(status & 255)


cdef int respond_end(Worker w, Exchange ex) except -1:
    """The application is done."""
    if w.stranger:
        stranger_ends(w, None)
    if not ex.head_sent:
        body_send(w, ex, b"")
    if ex.gathers:
        pieces_flush(w, ex, ex.framing == FRAME_CHUNKED)
    elif ex.framing == FRAME_CHUNKED and not ex.gone:
        send_piece(w, ex, b"0\r\n\r\n", 5)
    if ex.framing == FRAME_LENGTH and ex.sent < ex.declared and not ex.gone:
        w.log(logging.ERROR, f"the application sent {ex.sent} bytes of its Content-Length of "
              f"{ex.declared}; the connection is closed", None)
        ex.aborted = True
    ex.finished = True
    return 0


cdef int respond_simple(Worker w, Exchange ex, int status) except -1:
    """Our own answer: a line of text."""
    cdef bytes reason = REASONS[status]
    cdef bytes line = b"%d %s" % (status, reason)
    head_reset(ex)
    head_status(ex, line.decode())
    head_field(ex, "Content-Type", "text/plain; charset=utf-8")
    if status == 503:
        head_field(ex, "Retry-After", RETRY_AFTER)
    ex.started = True
    head_begin(w, ex, len(line) + 1)
    body_send(w, ex, line + b"\n")
    return respond_end(w, ex)
