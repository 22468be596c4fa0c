# What the application sees of the request line and the connection (PEP 3333, environ Variables).
# The fields are put in by parse.pxi.


cdef dict environ_template(str name, str port, bint multithread, bint multiprocess):
    """The environ every request of a listener starts from.

    It also holds a placeholder for every key that each request sets: replacing is cheaper than
    adding, and the copy then has room for the fields of a usual request without growing.
    """
    cdef dict template = {}
    # One by one: a dict display makes a table for keys of any type, this one for str only, which
    # is smaller and faster to copy and to look up in.
    for key, value in (
        ("wsgi.version", (1, 0)),
        ("wsgi.url_scheme", "http"),
        ("wsgi.input", EMPTY_INPUT),
        ("wsgi.errors", sys.stderr),
        ("wsgi.multithread", multithread),
        ("wsgi.multiprocess", multiprocess),
        ("wsgi.run_once", False),
        ("wsgi.file_wrapper", FileWrapper),
        ("wsgi.early_hints", None),
        ("wsgi.input_terminated", True),
        ("fastfork.extend_deadline", extend_deadline),
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("SERVER_SOFTWARE", (b"fastfork/" + FASTFORK_VERSION).decode()),
        ("SERVER_NAME", name),
        ("SERVER_PORT", port),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("SCRIPT_NAME", ""),
        ("REQUEST_METHOD", "GET"),
        ("PATH_INFO", ""),
        ("QUERY_STRING", ""),
        ("RAW_URI", ""),
        ("REQUEST_URI", ""),
        ("REMOTE_ADDR", ""),
        ("REMOTE_PORT", ""),
    ):
        template[key] = value
    return template


cdef int environ_line(conn_t* c, Head h, const char* target, Py_ssize_t n) except -1:
    """Put the request line and the peer into h.environ.  Returns 0 or the status to refuse with."""
    cdef dict environ = h.environ
    cdef str raw = PyUnicode_DecodeLatin1(target, n, NULL)
    cdef const char* path = target
    cdef const char* query
    cdef Py_ssize_t length = n
    cdef int status
    if c.remote_addr is NULL:
        conn_name_peer(c)
    PyDict_SetItem(environ, "REMOTE_ADDR", <object>c.remote_addr)
    PyDict_SetItem(environ, "REMOTE_PORT", <object>c.remote_port)
    h.target = raw
    if h.method is not "GET":
        PyDict_SetItem(environ, "REQUEST_METHOD", h.method)
    PyDict_SetItem(environ, "RAW_URI", raw)
    PyDict_SetItem(environ, "REQUEST_URI", raw)
    if h.minor == 0:
        PyDict_SetItem(environ, "SERVER_PROTOCOL", "HTTP/1.0")
    if memchr(target, c'#', n) is not NULL:         # RFC 9112, 3.2: no form has a fragment
        h.reason = "a fragment in the request target"
        return 400
    if path[0] != c'/':
        status = environ_other_form(h, &path, &length)
        if status or length == 0:
            return status
    query = <const char*>memchr(path, c'?', length)
    if query is not NULL:
        PyDict_SetItem(environ, "QUERY_STRING",
                       PyUnicode_DecodeLatin1(query + 1, length - (query + 1 - path), NULL))
        length = query - path
    if memchr(path, c'%', length) is not NULL:
        PyDict_SetItem(environ, "PATH_INFO", percent_decoded(path, length))
    elif length == n:
        PyDict_SetItem(environ, "PATH_INFO", raw)
    else:
        PyDict_SetItem(environ, "PATH_INFO", PyUnicode_DecodeLatin1(path, length, NULL))
    return 0


cdef int environ_other_form(Head h, const char** path, Py_ssize_t* n) except -1:
    """Targets that do not begin with a slash (RFC 9112, 3.2).  Moves `path` to the path in it;
    leaves a length of 0 when there is none."""
    cdef const char* p = path[0]
    cdef Py_ssize_t length = n[0], start, i
    cdef str authority
    if length == 1 and p[0] == c'*':                # asterisk-form: the server as a whole
        if h.method != "OPTIONS":
            h.reason = "the target * with a method other than OPTIONS"
            return 400
        n[0] = 0
        return 0
    if length > 7 and strncasecmp(p, "http://", 7) == 0:
        start = 7
    elif length > 8 and strncasecmp(p, "https://", 8) == 0:
        if not h.trusted:               # RFC 9110, 7.4: not over a connection that is not secured
            h.reason = "an https target on a connection without TLS"
            return 421
        start = 8
    else:
        h.reason = "the target is neither a path nor an http URI"
        return 400
    i = start
    while i < length and p[i] != c'/' and p[i] != c'?':
        i += 1
    # RFC 9110, 4.2.1: the host of an http URI cannot be empty.
    if i == start or p[start] == c':' or not host_valid(p + start, i - start):
        h.reason = "the target's authority is not a valid host and port"
        return 400
    # RFC 9112, 3.2.2: the target's authority takes the place of Host, which must be there all the
    # same; recording it as seen first would let a Host field repeat it, so it is put in afterwards.
    authority = PyUnicode_DecodeLatin1(p + start, i - start, NULL)
    h.authority = authority
    path[0] = p + i
    n[0] = length - i
    if n[0] == 0 or p[i] == c'?':
        PyDict_SetItem(h.environ, "PATH_INFO", "/")
        if n[0]:
            PyDict_SetItem(h.environ, "QUERY_STRING",
                           PyUnicode_DecodeLatin1(p + i + 1, n[0] - 1, NULL))
        n[0] = 0
    return 0
