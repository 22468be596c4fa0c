# Request bodies, and wsgi.input.  A decoder takes what it can from the bytes it is given and says
# how many it took; it never touches a socket.  In memory to a limit for each and one for all, then
# in a temporary file.

cdef enum:
    BODY_DONE = 0
    BODY_MORE = 1               # otherwise: the status to refuse with; w.head.reason says why

cdef enum:                      # Body.state of the chunked decoder (RFC 9112, 7.1)
    CHUNK_SIZE = 0              # at the first digit
    CHUNK_DIGITS = 1
    CHUNK_EXT_BLANK = 2         # blanks: only an extension may follow
    CHUNK_EXT_BEGIN = 3         # behind its semicolon
    CHUNK_EXT_NAME = 4
    CHUNK_EXT_NAMED = 5         # blanks behind its name
    CHUNK_EXT_EQUALS = 6        # behind its equals sign
    CHUNK_EXT_VALUE = 7
    CHUNK_EXT_QUOTED = 8
    CHUNK_EXT_ESCAPED = 9
    CHUNK_EXT_END = 10          # behind a quoted value
    CHUNK_SIZE_LF = 11
    CHUNK_DATA = 12
    CHUNK_DATA_CR = 13
    CHUNK_DATA_LF = 14
    CHUNK_TRAILER = 15          # at the start of a trailer field, or of the empty line
    CHUNK_TRAILER_NAME = 16
    CHUNK_TRAILER_VALUE = 17
    CHUNK_TRAILER_LF = 18
    CHUNK_END_LF = 19

cdef enum:
    MEMORY_LARGE = 1048576      # bytes of a body in memory, before there is room for all of it
    CHUNK_SIZE_LONGEST = 16     # digits; what a chunk-size line has beyond it counts as extension


cdef class Body:

    def __cinit__(self):
        COUNT_BODY(1)

    def __dealloc__(self):
        buffer_free(self.data)
        Py_XDECREF(self.whole)
        COUNT_BODY(-1)


cdef int body_begin(Worker w, Exchange ex, size_t n) except -1:
    """The head announces a body, `n` bytes have come behind it."""
    cdef Body b = Body()
    b.chunked = w.head.chunked
    b.remaining = 0 if b.chunked else w.head.length
    # The last of the handlers is for requests that are complete: clients that are slow with their
    # bodies, however many, must not keep everybody else out.
    b.stream = (w.streaming and (b.chunked or b.remaining > <int64_t>n)
                and (w.handlers + 1 < w.max_handlers or w.max_handlers == 1))
    b.since = w.now
    if not b.chunked and not b.stream and b.remaining <= w.body_memory:
        body_room(b, <size_t>min(b.remaining, <int64_t>MEMORY_LARGE))
    ex.body = b
    return 0


cdef int body_room(Body b, size_t size) except -1:
    """Make room in memory for so many bytes in all."""
    cdef bytes whole
    if b.whole is NULL:
        whole = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
        Py_INCREF(whole)
        b.whole = <PyObject*>whole
    else:
        b.room = 0
        _PyBytes_Resize(&b.whole, <Py_ssize_t>size)     # nobody else has it yet
    b.room = size
    return 0


cdef int body_take(Worker w, Exchange ex, const char* p, size_t n, size_t* used) except -1:
    """Take what belongs to the body from the `n` bytes at `p`."""
    cdef Body b = ex.body
    cdef size_t step
    cdef int status
    if b.chunked:
        return chunks_take(w, b, p, n, used)
    step = <size_t>min(<int64_t>n, b.remaining)
    used[0] = step
    status = body_store(w, b, p, step)
    if status:
        return status
    b.remaining -= step
    return BODY_MORE if b.remaining else BODY_DONE


cdef int chunks_take(Worker w, Body b, const char* data, size_t n, size_t* used) except -1:
    cdef size_t i = 0, step
    cdef char ch
    cdef int digit, status
    while i < n:
        if b.state == CHUNK_DATA:
            step = <size_t>min(<int64_t>(n - i), b.remaining)
            status = body_store(w, b, data + i, step)
            if status:
                return status
            b.remaining -= step
            i += step
            if b.remaining == 0:
                b.state = CHUNK_DATA_CR
            continue
        ch = data[i]
        i += 1
        if b.state <= CHUNK_EXT_END:
            b.line += 1
            if (b.state > CHUNK_DIGITS or b.line > CHUNK_SIZE_LONGEST) and ch != c'\r':
                # RFC 9112, 7.1.1: a server ought to limit them all together.
                b.extensions += 1
                if b.extensions > w.max_chunk_extensions:
                    return body_refuse(w, "the chunk extensions are longer than "
                                       f"{w.max_chunk_extensions} bytes (max_chunk_extensions)")
        if b.state <= CHUNK_DIGITS:
            digit = hex_value(ch)
            if digit >= 0:
                if b.remaining > <int64_t>1 << 52:
                    return body_refuse(w, "a chunk size is too large")
                b.remaining = b.remaining * 16 + digit
                b.state = CHUNK_DIGITS
            elif b.state == CHUNK_SIZE:
                return body_refuse(w, "a chunk does not begin with its size")
            elif ch == c'\r':
                b.state = CHUNK_SIZE_LF
            elif ch == c';':
                b.state = CHUNK_EXT_BEGIN
            elif ch == c' ' or ch == c'\t':
                b.state = CHUNK_EXT_BLANK
            else:
                return body_refuse(w, "a chunk size is not hexadecimal")
        elif b.state <= CHUNK_EXT_END:
            b.state = extension_next(b.state, ch)
            if b.state < 0:
                return body_refuse(w, "a malformed chunk extension")
        elif b.state == CHUNK_SIZE_LF:
            if ch != c'\n':
                return body_refuse(w, "a chunk-size line does not end in CR LF")
            b.line = 0
            b.chunk = b.remaining
            b.state = CHUNK_DATA if b.remaining else CHUNK_TRAILER
            if b.received + b.remaining > w.max_body:
                w.head.reason = f"the body is longer than {w.max_body} bytes (max_body)"
                return 413
        elif b.state == CHUNK_DATA_CR:
            if ch != c'\r':
                return body_refuse(w, "a chunk is longer than its size")
            b.state = CHUNK_DATA_LF
        elif b.state == CHUNK_DATA_LF:
            if ch != c'\n':
                return body_refuse(w, "a chunk does not end in CR LF")
            b.state = CHUNK_SIZE
        else:
            # Trailer fields are read, bounded, and dropped (RFC 9110, 6.5.1).
            b.line += 1
            if b.line > w.max_head:
                w.head.reason = f"the trailers are longer than {w.max_head} bytes (max_head)"
                return 431
            status = trailer_take(w, b, ch)
            if status == BODY_DONE:
                used[0] = i
                return BODY_DONE
            if status != BODY_MORE:
                return status
    used[0] = n
    return BODY_MORE


cdef int extension_next(int state, char ch) noexcept:
    """RFC 9112, 7.1.1: *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] ).  The state
    behind `ch`, -1 if it has no place there.  What a parser that knows quoted strings would read
    as their inside must not be a line's end for this one."""
    cdef bint blank = ch == c' ' or ch == c'\t'
    if state == CHUNK_EXT_QUOTED:
        if ch == c'"':
            return CHUNK_EXT_END
        if ch == c'\\':
            return CHUNK_EXT_ESCAPED
        return CHUNK_EXT_QUOTED if is_text(ch) else -1
    if state == CHUNK_EXT_ESCAPED:
        return CHUNK_EXT_QUOTED if is_text(ch) else -1
    if token_char(ch):
        if state == CHUNK_EXT_BEGIN or state == CHUNK_EXT_NAME:
            return CHUNK_EXT_NAME
        if state == CHUNK_EXT_EQUALS or state == CHUNK_EXT_VALUE:
            return CHUNK_EXT_VALUE
        return -1
    if state == CHUNK_EXT_BEGIN:
        return CHUNK_EXT_BEGIN if blank else -1
    if state == CHUNK_EXT_EQUALS:
        return CHUNK_EXT_EQUALS if blank else CHUNK_EXT_QUOTED if ch == c'"' else -1
    if ch == c';':
        return CHUNK_EXT_BEGIN
    if ch == c'\r' and state != CHUNK_EXT_BLANK and state != CHUNK_EXT_NAMED:
        return CHUNK_SIZE_LF
    if state == CHUNK_EXT_NAME or state == CHUNK_EXT_NAMED:
        return CHUNK_EXT_NAMED if blank else CHUNK_EXT_EQUALS if ch == c'=' else -1
    return CHUNK_EXT_BLANK if blank else -1


cdef int trailer_take(Worker w, Body b, char ch) except -1:
    if b.state == CHUNK_END_LF:
        return BODY_DONE if ch == c'\n' else body_refuse(w, "the last line does not end in CR LF")
    if b.state == CHUNK_TRAILER:
        if ch == c'\r':
            b.state = CHUNK_END_LF
        elif token_char(ch):
            b.trailers += 1
            if b.trailers > w.head.max_fields:
                w.head.reason = f"more than {w.head.max_fields} trailer fields (max_fields)"
                return 431
            b.state = CHUNK_TRAILER_NAME
        else:
            return body_refuse(w, "a trailer field does not begin with a name")
    elif b.state == CHUNK_TRAILER_NAME:
        if ch == c':':
            b.state = CHUNK_TRAILER_VALUE
        elif not token_char(ch):
            return body_refuse(w, "a trailer field's name is not a token")
    elif b.state == CHUNK_TRAILER_VALUE:
        if ch == c'\r':
            b.state = CHUNK_TRAILER_LF
        elif not is_text(ch):
            return body_refuse(w, "a control character in a trailer field")
    elif ch == c'\n':
        b.state = CHUNK_TRAILER
    else:
        return body_refuse(w, "a trailer field does not end in CR LF")
    return BODY_MORE


cdef bint body_too_slow(Worker w, conn_t* c, Body b) noexcept:
    """More of it has come.  Does it come at body_min_rate?  Whoever keeps a pause short, and sends
    next to nothing between two pauses, would otherwise never be done."""
    cdef int unread = 0
    if (b.waited <= w.queues[QUEUE_BODY].span
            or b.received * 1000 >= w.body_min_rate * b.waited):
        return False
    # If there is more in the socket it is we who are slow: a handler kept the loop.
    if c.watch.fd >= 0:
        ioctl(c.watch.fd, SIOCINQ, &unread)
    return unread == 0


cdef int body_slow_refuse(Worker w) except -1:
    w.head.reason = f"the body comes more slowly than {w.body_min_rate} bytes/s (body_min_rate)"
    return 408


cdef int body_refuse(Worker w, str reason) except -1:
    w.head.reason = reason
    return 400


cdef int body_store(Worker w, Body b, const char* p, size_t n) except -1:
    """Keep `n` decoded bytes.  Returns 0 or a status."""
    cdef char* place
    if n == 0:
        return 0
    if b.stream:
        body_hold(b, p, n)
    elif body_fits(w, b, n):
        if <size_t>b.received + n > b.room:
            body_room(b, max(<size_t>b.received + n, min(2 * b.room, <size_t>w.body_memory)))
        place = PyBytes_AS_STRING(<object>b.whole) + b.received
        if p != place:                  # it was received there
            memcpy(place, p, n)
        if b.received < MEMORY_LARGE <= b.received + <int64_t>n:
            # All that it may need: what is not touched of it costs nothing.
            body_room(b, <size_t>(w.body_memory if b.chunked else b.received + b.remaining))
            place = PyBytes_AS_STRING(<object>b.whole) + b.received
            memory_untouched(place + n, b.room - <size_t>b.received - n)
        b.held += n
        w.held += n
    else:
        if w.spooled + b.received - b.spooled + <int64_t>n > w.max_spool:
            return body_no_room(w, None)
        try:
            body_spool(w, b, p, n)
        except OSError as e:
            return body_no_room(w, e)
    b.received += n
    return 0


cdef int body_hold(Body b, const char* p, size_t n) except -1:
    """For a handler that waits for it, or else for its next read.  More is received only when it
    has taken all of this: one receive, or what came with the head, is the bound."""
    cdef size_t step = min(n, b.target_room - b.target_filled)
    if step:
        if p != b.target + b.target_filled:     # it was received there
            memcpy(b.target + b.target_filled, p, step)
        b.target_filled += step
        p += step
        n -= step
    if n == 0:
        return 0
    if b.start == b.end:
        b.start = b.end = 0
    if b.end + n > b.size:
        b.data = buffer_grow(b.data, b.end + n)
        b.size = b.end + n
    memcpy(b.data + b.end, p, n)
    b.end += n
    return 0


cdef char* body_room_before(Body b, size_t n) except NULL:
    """Room for `n` bytes before all that was not read."""
    cdef size_t rest = b.end - b.start
    cdef char* data = buffer_new(n + rest)
    if rest:
        memcpy(data + n, b.data + b.start, rest)
    buffer_free(b.data)
    b.data = data
    b.size = b.end = n + rest
    b.start = 0
    return data


cdef int body_put_back(Body b, const char* p, size_t n) except -1:
    """What a reader had before it was interrupted comes before all that has come since."""
    memcpy(body_room_before(b, n), p, n)
    return 0


cdef int body_spool(Worker w, Body b, const char* p, size_t n) except -1:
    if b.file is None:
        b.file = tempfile.TemporaryFile()
        if b.whole is not NULL:
            write_file(b.file.fileno(), PyBytes_AS_STRING(<object>b.whole), <size_t>b.received)
            Py_CLEAR(b.whole)
            w.held -= b.held
            b.held = 0
    write_file(b.file.fileno(), p, n)
    w.spooled += b.received + <int64_t>n - b.spooled
    b.spooled = b.received + n
    return 0


cdef int body_no_room(Worker w, object e) except -1:
    """Not the client's fault, and not for long, one hopes."""
    if w.now >= w.room_told_until:
        w.room_told_until = w.now + TOLD_AGAIN
        w.log(logging.ERROR, "no room for a request body in temporary files: " + no_room(w, e), e)
    w.head.reason = "no room for the body: " + no_room(w, e)
    return 503


cdef str no_room(Worker w, object e):
    if e is not None:
        return str(e)
    return f"{w.spooled} bytes are in use (max_spool is {w.max_spool})"


cdef int write_file(int fd, const char* p, size_t n) except -1:
    """Write all of it at the file's position, or raise OSError."""
    cdef ssize_t done
    while n:
        done = write(fd, p, n)
        if done < 0:
            if errno == EINTR:
                continue
            raise OSError(errno, os.strerror(errno))
        p += done
        n -= done
    return 0


cdef int body_finish(Worker w, Exchange ex) except -1:
    """The body is complete: wsgi.input, and for a chunked body the length that it turned out to
    have, without which many applications read nothing.  (Not where bodies are streamed: whether an
    application can do without must not depend on how quickly this one came.)"""
    cdef Body b = ex.body
    cdef Input source = Input.__new__(Input)
    if b.file is not None:
        b.file.seek(0)
        ex.input_file = source.file = b.file    # closed with the request
        ex.input_spooled = b.spooled
        ex.body = None
    elif b.stream:                      # all of it came with the head
        source.data = b.data[b.start:b.end]
    else:
        if b.room > <size_t>b.received:
            body_room(b, <size_t>b.received)
        if b.whole is not NULL:
            source.data = <bytes>b.whole
        ex.input_held = b.held
    ex.environ["wsgi.input"] = source
    if b.chunked and not w.streaming:
        ex.environ["CONTENT_LENGTH"] = str(b.received)
    ex.body = None
    return 0


cdef class Input:
    """`wsgi.input` (PEP 3333, Input and Error Streams): a body in memory or in a temporary file.

    close() does nothing: io.TextIOWrapper, for one, closes what it wraps when it is collected, and
    the one for requests without a body is shared.
    """

    def __cinit__(self):
        self.data = b""

    cdef bytes take(self, Py_ssize_t n):
        cdef Py_ssize_t left = len(self.data) - self.position
        cdef bytes piece
        if n < 0 or n > left:
            n = left
        if n == len(self.data):
            piece = self.data
        else:
            piece = self.data[self.position:self.position + n]
        self.position += n
        return piece

    def read(self, size=-1, /):
        """At most `size` bytes; all that is left if it is None or negative."""
        if self.file is not None:
            return self.file.read(size)
        return self.take(-1 if size is None else size)

    read1 = read

    def readline(self, size=-1, /):
        """The next line with its newline, but at most `size` bytes of it."""
        cdef Py_ssize_t most, end
        if self.file is not None:
            return self.file.readline(-1 if size is None else size)
        most = -1 if size is None else size
        if self.position >= len(self.data):
            return b""
        end = self.data.find(b"\n", self.position) + 1
        end = (end or len(self.data)) - self.position
        return self.take(end if most < 0 or end < most else most)

    def readlines(self, hint=-1, /):
        """All lines that are left; none after `hint` bytes have been passed."""
        return self.gather([], -1 if hint is None else hint)

    cdef list gather(self, list lines, Py_ssize_t most):
        cdef Py_ssize_t total = 0
        while True:
            line = self.readline()
            if not line:
                return lines
            lines.append(line)
            total += len(line)
            if 0 < most <= total:
                return lines

    def readinto(self, target, /):
        """Fill a writable buffer; the number of bytes put there.  (io.BufferedReader,
        io.TextIOWrapper)"""
        view = memoryview(target).cast("B")
        piece = self.read(len(view))
        view[:len(piece)] = piece
        return len(piece)

    def __iter__(self):
        return self

    def __next__(self):
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def readable(self):
        return True

    def writable(self):
        return False

    def seekable(self):
        return False

    def fileno(self):
        """The descriptor of the temporary file; io.UnsupportedOperation if it is in memory."""
        if self.file is None:
            raise io.UnsupportedOperation("fileno")
        return self.file.fileno()

    def flush(self):
        pass

    def close(self):
        """Does nothing: the server owns it."""

    @property
    def closed(self):
        return False


EMPTY_INPUT = Input()
