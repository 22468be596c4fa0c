# The application: called inline, its result iterated, its close() called, whatever happens.

cdef int handler_run(Worker w, Exchange ex) except -1:
    """Call the application for a complete request and send what it answers.

    Every request runs in its own copy of the worker's base context.  A context in which nothing
    was set is as good as a new copy of an empty one, and is used again.
    """
    cdef object context = w.context
    if context is None:
        context = PyContext_Copy(w.base_context)
    w.context = None                # a handler that runs beside this one takes another
    PyContext_Enter(context)
    try:
        handler_call(w, ex)
    finally:
        PyContext_Exit(context)
    if w.base_empty and PyObject_Length(context) == 0:
        w.context = context
    return 0


cdef int handler_call(Worker w, Exchange ex) except -1:
    cdef object result
    try:
        result = w.app(ex.environ, ex.start_response_)
        if w.stranger:
            stranger_ends(w, None)
        if PyList_CheckExact(result) or PyTuple_CheckExact(result):
            respond_sequence(w, ex, result)
        elif type(result) is FileWrapper and respond_file(w, ex, <FileWrapper>result):
            pass
        else:
            respond_iterable(w, ex, result)
    except BaseException as e:
        # BaseException: SystemExit in a handler must not leave its client waiting.
        handler_failed(w, ex, e)
    if w.stranger:                      # close() may have forked, for all we know
        stranger_ends(w, None)
    return 0


cdef int handler_failed(Worker w, Exchange ex, object e) except -1:
    """The traceback goes to the error log, never on the wire."""
    if w.stranger:
        stranger_ends(w, e)
    ex.deadline = 0                 # nothing more is raised in it
    if ex.gone and isinstance(e, (ClientGone, BodyError)):
        return 0
    cdef int status = 500
    if isinstance(e, RequestTimeout):
        status = 504
        if ex.timeout is not None:
            timeout_tell(w, ex)
        elif not ex.timed_out:
            w.log(logging.WARNING, f"the application raised it itself{request_told(ex)}", e)
    elif isinstance(e, BodyError) and ex.body is not None and ex.body.status:
        # The handler let it pass.  It is the client's doing: no 500, and no traceback.
        status = ex.body.status
        ex.refused = True
        w.log(logging.INFO, f"{conn_peer(ex.conn)}: {status}: {ex.body.reason}", None)
    else:
        w.log(logging.ERROR, "error in the application: "
              f"{environ_text(ex, 'REQUEST_METHOD')} {environ_text(ex, 'RAW_URI')}", e)
    if ex.conn is NULL:
        return 0                        # it was closed; there is nobody to answer
    if not ex.head_sent:
        respond_simple(w, ex, status)
    elif not ex.finished:
        # Without its end the client can tell that the response is not whole.
        ex.aborted = ex.finished = True
    return 0


cdef int respond_sequence(Worker w, Exchange ex, object items) except -1:
    """A list or tuple: all of it is here, so its length is known."""
    cdef int64_t total = 0
    cdef tuple pieces
    if len(items) == 1:
        return respond_whole(w, ex, items[0])
    pieces = tuple(items)               # a list may be changed while we wait for the client
    for piece in pieces:
        chunk_check(piece)
        total += len(<bytes>piece)
    if total <= BUFFER_SIZE:
        return respond_whole(w, ex, b"".join(pieces))
    head_begin(w, ex, total)
    for piece in pieces:
        body_send(w, ex, <bytes>piece)
    return respond_end(w, ex)


cdef int respond_whole(Worker w, Exchange ex, object chunk) except -1:
    """The fast path: the whole body in one piece, with its head in one send."""
    chunk_check(chunk)
    head_begin(w, ex, len(<bytes>chunk))
    body_send(w, ex, <bytes>chunk)
    return respond_end(w, ex)


cdef int respond_iterable(Worker w, Exchange ex, object result) except -1:
    """Every non-empty piece goes out as it comes (PEP 3333, Buffering and Streaming), or is sent by
    the lookout while the next is made."""
    cdef object chunk
    cdef bint file = type(result) is FileWrapper
    pieces_begin(w, ex)
    try:
        for chunk in result:
            chunk_check(chunk)
            if len(<bytes>chunk):
                # An empty piece sends nothing, not even the head: start_response may yet be
                # called again, with exc_info.
                head_begin(w, ex, -1)
                if file and ex.framing == FRAME_LENGTH:
                    # Of a file Content-Length may be a part (PEP 3333, File Handling).
                    chunk = (<bytes>chunk)[:ex.declared - ex.sent]
                    if not chunk:
                        break
                body_send(w, ex, <bytes>chunk)
                if ex.gone or ex.framing == FRAME_NONE or ex.excess_told:
                    break               # nothing more will be sent, and it may never end
        head_begin(w, ex, 0)
        respond_end(w, ex)
    finally:
        try:
            if ex.gathers:
                ex.gathers = False
                pieces_flush(w, ex, False)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()
    return 0


cdef bint respond_file(Worker w, Exchange ex, FileWrapper wrapper) except -1:
    """A file_wrapper that has a descriptor of a regular file goes out by sendfile, from its
    present position.  False: iterate it.  Its close() is called when the last byte is sent; the
    handler is free long before."""
    cdef int64_t offset, length
    cdef int fd
    cdef stat_t st
    cdef object plain
    cdef bint handed_over = False
    if ex.head_sent or not ex.started:
        return False
    plain = plain_file(wrapper.filelike)
    if plain is None:
        return False
    try:
        fd = plain.fileno()
        offset = plain.tell()
    except (OSError, ValueError):
        return False
    if fstat(fd, &st) < 0 or not S_ISREG(st.st_mode):
        return False
    length = st.st_size - offset
    if length <= 0:                     # empty, or one of those whose size is not told: /proc
        return False
    if ex.declared >= 0:
        length = min(length, ex.declared)
    try:
        head_begin(w, ex, length)
        if ex.framing != FRAME_NONE and length:
            handed_over = True          # sending it includes closing it
            file_send(w, ex, wrapper, fd, offset, length)
        respond_end(w, ex)
    finally:
        if not handed_over:
            wrapper.close()
    return True


cdef object plain_file(object filelike):
    """The real file behind `filelike`, or None.  To have fileno() is not enough: a GzipFile has
    that of the compressed file, and what counts is what read() would give."""
    kind = type(filelike)
    if kind is not io.FileIO and kind is not io.BufferedReader and kind is not io.BufferedRandom:
        # A wrapper, as tempfile's and Django's, whose read() is that of its `file`?
        try:
            read = filelike.read
            filelike = filelike.file
            if getattr(read, "__wrapped__", read) != filelike.read:
                return None
        except Exception:       # its attributes may be anything: then it is iterated
            return None
        kind = type(filelike)
    if kind is io.FileIO:
        return filelike
    if ((kind is io.BufferedReader or kind is io.BufferedRandom)
            and type(filelike.raw) is io.FileIO):
        return filelike
    return None


cdef class FileWrapper:
    """`wsgi.file_wrapper` (PEP 3333, Optional Platform-Specific File Handling)."""

    def __init__(self, filelike, block_size=8192, /):
        self.filelike = filelike
        self.block_size = block_size

    def __iter__(self):
        return self

    def __next__(self):
        data = self.filelike.read(self.block_size)
        if not data:
            raise StopIteration
        return data

    def close(self):
        """Calls the file's close(), if it has one."""
        close = getattr(self.filelike, "close", None)
        if close is not None:
            close()
