# From bytes to a head.  A head is given to the parser whole, in one call that ends exactly where
# the head ends: so one parser serves all connections of a worker (between two calls it is between
# two messages), it never sees a body or a following request, and what a connection holds while its
# head is incomplete is nothing but bytes.  How long a body is, is decided here, from the fields.
#
# httptools checks the syntax; it is given no callback for fields, so it makes no objects for them.
# What it has accepted is taken apart here: each line is a token, a colon and a value.  The request
# line is read here too: the method must be told from an unknown one, the target is wanted whole,
# and llhttp is more lenient than RFC 9112 about spaces and versions.

cdef enum:
    HEAD_READY = 0
    HEAD_PARTIAL = 1            # otherwise: the status to refuse with

cdef enum:
    PARSER_FRESH = 0            # just made: its refusal is final
    PARSER_CLEAN = 1            # between two messages
    PARSER_STALE = 2            # in a message or closed: to be made anew before the next head

cdef enum:
    FIELD_PLAIN = 0
    FIELD_DROP = 1
    FIELD_COOKIE = 2
    FIELD_HOST = 3
    FIELD_LENGTH = 4
    FIELD_TYPE = 5
    FIELD_CODING = 6
    FIELD_CONNECTION = 7
    FIELD_EXPECT = 8
    FIELD_REFUSE = 9
    FIELD_DATE = 10             # of responses
    FIELD_SERVER = 11
    FIELD_FORWARDED = 12
    FIELD_REQUEST_ID = 13

cdef enum:                      # Head.forwarded: fields that a proxy sets ...
    FORWARDED_BELIEVED = 1      # ... came from a trusted peer
    FORWARDED_REMOVED = 2       # ... did not, for the first time

cdef enum:
    NAMES_KNOWN = 1024          # spellings of field names remembered per worker
    NAME_LONGEST = 64           # longer ones are not
    NAMES_AT_HAND = 512         # of them, found without hashing; a power of two
    VALUE_LONGEST = 256         # values longer than this are not compared with the last one
    EMPTY_LINES = 16            # ignored before a request


cdef class Window:
    """A piece of C memory that the parser may look at during one call."""

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, <void*>self.start, self.length, 1, flags)


cdef class FieldName:
    pass


COMMON_FIELDS = """
    Accept Accept-Charset Accept-Encoding Accept-Language Authorization Cache-Control Connection
    Content-Encoding Content-Length Content-Type Cookie Date DNT Expect Forwarded From Host
    If-Match If-Modified-Since If-None-Match If-Range If-Unmodified-Since Keep-Alive Origin Pragma
    Priority Range Referer Sec-CH-UA Sec-CH-UA-Mobile Sec-CH-UA-Platform Sec-Fetch-Dest
    Sec-Fetch-Mode Sec-Fetch-Site Sec-Fetch-User TE Traceparent Transfer-Encoding Upgrade
    Upgrade-Insecure-Requests User-Agent Via X-Auth-Token X-Forwarded-For X-Forwarded-Host
    X-Forwarded-Port X-Forwarded-Proto X-Real-IP X-Request-ID X-Requested-With
    OpenStack-API-Version X-OpenStack-Nova-API-Version X-Openstack-Request-Id
""".split()

FIELD_KINDS = {
    "HTTP_COOKIE": FIELD_COOKIE,
    "HTTP_HOST": FIELD_HOST,
    "CONTENT_LENGTH": FIELD_LENGTH,
    "CONTENT_TYPE": FIELD_TYPE,
    "HTTP_TRANSFER_ENCODING": FIELD_CODING,
    "HTTP_CONNECTION": FIELD_CONNECTION,
    "HTTP_EXPECT": FIELD_EXPECT,
    # The name that a CGI-like environ would make of `Proxy` is a setting of HTTP clients
    # (httpoxy, CVE-2016-5385).
    "HTTP_PROXY": FIELD_DROP,
    "HTTP_X_REQUEST_ID": FIELD_REQUEST_ID,
}


cdef FieldName field_name(bytes spelling, str header_map):
    cdef FieldName f = FieldName()
    cdef str key = spelling.decode("latin-1").upper().replace("-", "_")
    f.key = key if key in ("CONTENT_LENGTH", "CONTENT_TYPE") else "HTTP_" + key
    f.kind = FIELD_KINDS.get(f.key, FIELD_PLAIN)
    if key == "FORWARDED" or key.startswith("X_FORWARDED_"):
        f.kind = FIELD_FORWARDED
    # `X_A` and `X-A` would become the same environ key: whoever checks the one can be fooled
    # with the other.  What the server itself heeds has one spelling, whatever the setting.
    if b"_" in spelling and (
            header_map != "dangerous" or f.kind not in (FIELD_PLAIN, FIELD_REQUEST_ID)):
        f.kind = FIELD_REFUSE if header_map == "refuse" else FIELD_DROP
    return f


cdef class Head:
    """What was read of the present head, and the parser's protocol object."""

    def __cinit__(self):
        COUNT_PARSER(1)

    def __init__(self, uint32_t max_fields, str header_map):
        self.max_fields = max_fields
        self.header_map = header_map
        self.window = Window()
        self.names = {}
        self.keys = {}
        for name in COMMON_FIELDS:
            self.learn(name.encode())
            self.learn(name.lower().encode())
        self.parser = httptools.HttpRequestParser(self)
        self.feed = self.parser.feed_data
        self.parser_state = PARSER_FRESH

    cdef int renew(self) except -1:
        """Put the parser back to the state it was made in (it has no other reset)."""
        self.parser.__init__(self)
        self.parser_state = PARSER_FRESH
        return 0

    cdef FieldName find(self, const char* p, Py_ssize_t n):
        """What is known of the field.  Spellings in daily use are at hand: the slot follows from
        the length and four characters, and one comparison says whether it is the right one."""
        cdef unsigned int slot = (<unsigned int>n * 412 + <unsigned char>p[0] * 113
                                  + <unsigned char>p[n // 2] * 153
                                  + <unsigned char>p[n - 1] * 103
                                  + (<unsigned char>p[n - 2] * 139 if n > 1 else 0)) % NAMES_AT_HAND
        cdef PyObject* there = self.hand_name[slot]
        cdef PyObject* found
        cdef bytes name
        if (there is not NULL and n == PyBytes_GET_SIZE(<object>there)
                and memcmp(p, PyBytes_AS_STRING(<object>there), n) == 0):
            return <FieldName>self.hand_field[slot]
        name = p[:n]
        found = PyDict_GetItem(self.names, name)
        if found is NULL:
            return self.learn(name)
        Py_INCREF(name)
        Py_XDECREF(there)
        self.hand_name[slot] = <PyObject*>name
        self.hand_field[slot] = found           # kept alive by `names`, which only grows
        return <FieldName>found

    cdef FieldName learn(self, bytes name):
        """A spelling that was not seen before.  Beyond the bounds nothing is remembered: such a
        name is looked at anew each time."""
        cdef FieldName f = field_name(name, self.header_map)
        cdef tuple same = (f.key, f.kind)
        f = self.keys.get(same, f)
        if len(self.names) < NAMES_KNOWN and len(name) <= NAME_LONGEST:
            self.names[name] = self.keys[same] = f
        elif same not in self.keys:
            f.transient = True
        return f

    def __dealloc__(self):
        cdef int slot
        for slot in range(NAMES_AT_HAND):
            Py_XDECREF(self.hand_name[slot])
        COUNT_PARSER(-1)

    cdef int take_fields(self, const char* p, const char* end) except -1:
        """Take the lines from `p` to `end` apart.  The parser has accepted them: each is a token,
        a colon and a value without control characters (RFC 9112, 5)."""
        cdef const char* eol
        cdef const char* colon
        while p < end:
            eol = <const char*>memchr(p, c'\r', end - p)
            colon = <const char*>memchr(p, c':', end - p)
            if eol is NULL or colon is NULL or colon >= eol or colon == p:
                self.refuse(400, "a line of the head is not a field")
                return 0
            self.fields += 1
            if self.fields > self.max_fields:
                return 0
            self.field(self.find(p, colon - p), colon + 1, eol)
            p = eol + 2
        return 0

    def on_headers_complete(self):
        self.completed += 1

    cdef int field(self, FieldName f, const char* p, const char* end) except -1:
        cdef str text
        cdef Py_ssize_t n
        cdef bint repeated
        # RFC 9112, 5: blanks around the value are not part of it.
        while p < end and (p[0] == c' ' or p[0] == c'\t'):
            p += 1
        while p < end and ((end - 1)[0] == c' ' or (end - 1)[0] == c'\t'):
            end -= 1
        n = end - p
        if (f.last_text is not None and n == PyUnicode_GET_LENGTH(f.last_text)
                and memcmp(p, PyUnicode_1BYTE_DATA(f.last_text), n) == 0):
            text = f.last_text
        else:
            text = PyUnicode_DecodeLatin1(p, n, NULL)
            if n <= VALUE_LONGEST:
                f.last_text = text
        repeated = f.serial == self.serial or (
            f.transient and PyDict_Contains(self.environ, f.key))
        f.serial = self.serial
        if f.kind != FIELD_PLAIN:
            if f.kind == FIELD_REQUEST_ID and not repeated:
                self.request_id = text
            else:
                text = self.special(f, text, repeated)
                if text is None:
                    return 0
        elif repeated:
            # RFC 9110, 5.3: the combined value of a repeated field.
            text = <str>PyDict_GetItem(self.environ, f.key) + ", " + text
        PyDict_SetItem(self.environ, f.key, text)
        return 0

    cdef str special(self, FieldName f, str text, bint repeated):
        """A field that means something to the server.  None: it is not for the application."""
        cdef int kind = f.kind
        cdef const char* p = <const char*>PyUnicode_1BYTE_DATA(text)
        cdef Py_ssize_t n = PyUnicode_GET_LENGTH(text)
        if kind == FIELD_DROP:
            return None
        if kind == FIELD_REFUSE:
            self.refuse(400, "a field name with an underscore (header_map)")
            return None
        if kind == FIELD_FORWARDED:
            if not self.believes(f.key):
                return None
            if repeated:
                text = <str>self.environ[f.key] + ", " + text
        elif kind == FIELD_HOST:
            if repeated:
                self.refuse(400, "more than one Host")              # RFC 9112, 3.2
            elif text is not self.host_valid:
                if host_valid(p, n):
                    self.host_valid = text
                else:
                    self.refuse(400, "Host is not a valid host and port")
            self.host = True
        elif kind == FIELD_CONNECTION:
            self.connection(p, n)
            if repeated:
                text = <str>self.environ[f.key] + ", " + text
        elif kind == FIELD_COOKIE:
            if repeated:
                text = <str>self.environ[f.key] + "; " + text       # RFC 9113, 8.2.3
        elif kind == FIELD_LENGTH:
            if repeated:
                self.refuse(400, "more than one Content-Length")    # RFC 9112, 6.3
            self.length = digits(p, n)
            if self.length < 0:
                self.refuse(400, "Content-Length is not a number")
            elif self.length == TOO_LARGE:
                self.refuse(413, "Content-Length is beyond all measure")
        elif kind == FIELD_TYPE:
            if repeated:
                self.refuse(400, "more than one Content-Type")
        elif kind == FIELD_CODING:
            if repeated:
                self.refuse(400, "more than one Transfer-Encoding")
            self.coding(text)
            return None     # the application gets the body decoded
        elif kind == FIELD_EXPECT:
            if repeated:
                text = <str>self.environ[f.key] + ", " + text
            expected = {e.strip(" \t") for e in text.lower().split(",")} - {""}
            if expected == {"100-continue"}:
                self.expect = self.minor == 1       # RFC 9110, 10.1.1: ignored in HTTP/1.0
            elif expected:
                self.refuse(417, "an expectation other than 100-continue")
        elif kind == FIELD_REQUEST_ID:
            text = <str>self.environ[f.key] + ", " + text
            self.request_id = text
        return text

    cdef bint believes(self, str key):
        """A field that tells of the client of a proxy: is it for the application?"""
        if not self.trusted:
            if not self.removed_told and not self.forwarded:
                self.removed = key
                self.forwarded |= FORWARDED_REMOVED
            return False
        if key in self.believed:
            self.forwarded |= FORWARDED_BELIEVED
            return True
        return key not in FORWARDED_KEYS    # of others, such as X-Forwarded-Ssl, nothing follows

    cdef int refuse(self, int status, str reason) except -1:
        if not self.status:
            self.status = status
            self.reason = reason
        return 0

    cdef int connection(self, const char* p, Py_ssize_t n) except -1:
        """RFC 9110, 7.6.1: a list of options, of which two concern us."""
        cdef Py_ssize_t i = 0, start, end
        while i < n:
            while i < n and (p[i] == c',' or p[i] == c' ' or p[i] == c'\t'):
                i += 1
            start = i
            while i < n and p[i] != c',':
                i += 1
            end = i
            while end > start and (p[end - 1] == c' ' or p[end - 1] == c'\t'):
                end -= 1
            if end - start == 5 and strncasecmp(p + start, "close", 5) == 0:
                self.close = True
            elif end - start == 10 and strncasecmp(p + start, "keep-alive", 10) == 0:
                self.keep_alive = True
        return 0

    cdef int coding(self, str text) except -1:
        """RFC 9112, 6.1 and 6.3: chunked must be the last coding and there only once."""
        cdef list codings = [c.strip(" \t").lower() for c in text.split(",")]
        self.coded = True
        if codings == ["chunked"]:
            self.chunked = True
        elif "" in codings:
            # To be ignored (RFC 9110, 5.6.1.2), but here only smugglers have a use for it.
            self.refuse(400, "an empty element in Transfer-Encoding")
        elif codings[len(codings) - 1] != "chunked" or codings.count("chunked") > 1:
            self.refuse(400, "chunked is not the last transfer coding")
        else:
            self.refuse(501, "an unknown transfer coding")
        return 0


cdef int head_take(Worker w, conn_t* c, const char* data, size_t n, size_t* used) except -1:
    """Read one head from `data`.  HEAD_READY: w.head has it.  HEAD_PARTIAL: more is needed.
    Otherwise the status to refuse with; w.head.reason says why."""
    cdef Head h = w.head
    cdef const char* p = data
    cdef const char* end
    cdef size_t length, start
    cdef int status
    cdef bint bare
    h.method = None
    h.status = 0
    # RFC 9112, 2.2: a server should ignore empty lines before the request line; some, not a flood.
    while n >= 2 and p[0] == c'\r' and p[1] == c'\n':
        p += 2
        n -= 2
        c.scanned = c.lines = 0
        c.empty_lines += 1
        if c.empty_lines > EMPTY_LINES:
            h.reason = f"more than {EMPTY_LINES} empty lines before a request"
            return 400
    used[0] = p - data
    if n == 0:
        return HEAD_PARTIAL
    start = c.scanned - 3 if c.scanned > 3 else 0
    end = head_end(p, n, start, &bare)
    if bare:
        h.reason = "a line ends without CR LF"
        return 400
    if end is NULL:
        return head_hopeless(w, c, h, p, n)
    c.scanned = c.lines = c.empty_lines = 0
    length = end - p
    if length > w.max_head:
        return head_too_long(w, h, p, n)
    used[0] += length
    if h.parser_state == PARSER_STALE:
        h.renew()
    while True:
        status = head_read(w, c, h, p, length)
        if status != HEAD_PARTIAL:
            return status
        # The parser refused, but it was not fresh.  One parser serves everybody: only a fresh
        # one may refuse.
        h.renew()


cdef const char* head_end(const char* p, size_t n, size_t start, bint* bare) noexcept:
    """Where the head that begins at `p` ends: behind the first empty line at or after `start`.
    From line to line, because memchr is many bytes at a time and memmem is not.  `bare`: there is
    a LF without CR, which is no line end (RFC 9112, 2.2); the parser would end the request line
    there and read fields behind it."""
    cdef const char* eol
    bare[0] = False
    while True:
        eol = <const char*>memchr(p + start, c'\n', n - start)
        if eol is NULL:
            return NULL
        if eol == p or (eol - 1)[0] != c'\r':
            bare[0] = True
            return NULL
        start = eol + 1 - p
        if start + 2 <= n and eol[1] == c'\r' and eol[2] == c'\n':
            return eol + 3


cdef int head_hopeless(Worker w, conn_t* c, Head h, const char* p, size_t n) except -1:
    """Must a head that is not complete be refused already?  Nobody should have to wait for a
    timeout to learn that his request is wrong.  Looks at what is new only: a head may come byte
    by byte."""
    cdef const char* found
    cdef size_t i
    cdef size_t seen = c.scanned
    c.scanned = <uint32_t>n
    if n >= w.max_head:
        return head_too_long(w, h, p, n)
    if not token_char(p[0]):
        if p[0] == c'\r' and n == 1:
            return HEAD_PARTIAL
        h.reason = ("a TLS handshake on a plain port" if p[0] == 22
                    else "the request line does not begin with a method")
        return 400
    # RFC 9112, 2.2: a bare CR is not a line end.  (A bare LF was found by head_end.)
    i = seen - 1 if seen else 0
    while True:
        found = <const char*>memchr(p + i, c'\r', n - i)
        if found is NULL or found == p + n - 1:
            break
        if found[1] != c'\n':
            h.reason = "a CR without its LF"
            return 400
        i = found + 1 - p
    i = seen
    while True:
        found = <const char*>memchr(p + i, c'\n', n - i)
        if found is NULL:
            break
        c.lines += 1
        if c.lines > h.max_fields + 1:
            return head_too_many(h)
        i = found + 1 - p
    if c.lines:
        return head_line(w, h, p, n, NULL, NULL)
    if n > w.max_request_line and not (n == w.max_request_line + 1 and p[n - 1] == c'\r'):
        return head_too_long(w, h, p, n)
    return HEAD_PARTIAL


cdef int head_too_many(Head h) except -1:
    h.reason = f"more than {h.max_fields} fields (max_fields)"
    return 431


cdef int head_too_long(Worker w, Head h, const char* p, size_t n) except -1:
    cdef const char* eol = <const char*>memchr(p, c'\n', min(n, <size_t>w.max_request_line + 2))
    if eol is NULL:
        h.reason = f"the request line is longer than {w.max_request_line} bytes (max_request_line)"
        return 414
    h.reason = f"the head is longer than {w.max_head} bytes (max_head)"
    return 431


cdef int head_line(Worker w, Head h, const char* p, size_t n, const char** target,
                   const char** target_end) except -1:
    """The request line: method SP target SP version (RFC 9112, 3).  HEAD_PARTIAL: in order."""
    cdef const char* eol = <const char*>memchr(p, c'\r', min(n, <size_t>w.max_request_line + 1))
    cdef const char* first
    cdef const char* second
    if eol is NULL:
        return head_too_long(w, h, p, n)
    h.reason = "the request line is not method, target and version"
    first = <const char*>memchr(p, c' ', eol - p)
    if first is NULL:
        return 400
    second = <const char*>memchr(first + 1, c' ', eol - first - 1)
    if second is NULL or second == first + 1:
        return 400
    # HTTP-version is case-sensitive (RFC 9112, 2.3).
    if eol - second != 9 or memcmp(second + 1, b"HTTP/", 5) != 0:
        return 400
    if memcmp(second + 6, b"1.1", 3) == 0:
        h.minor = 1
    elif memcmp(second + 6, b"1.0", 3) == 0:
        h.minor = 0
    elif c'0' <= second[6] <= c'9' and second[7] == c'.' and c'0' <= second[8] <= c'9':
        h.reason = "an HTTP version other than 1.0 and 1.1"
        return 505
    else:
        return 400
    h.method = method_name(p, first - p)
    if h.method is None:
        h.reason = "the method is not a token"
        return 400
    if target is not NULL:
        target[0] = first + 1
        target_end[0] = second
    return HEAD_PARTIAL


cdef inline str method_name(const char* p, Py_ssize_t n):
    """None if it is no token.  The methods named here are always these very objects, so that
    `is` can tell them."""
    if n == 3:
        if memcmp(p, b"GET", 3) == 0:
            return "GET"
        if memcmp(p, b"PUT", 3) == 0:
            return "PUT"
        if memcmp(p, b"PRI", 3) == 0:
            return "PRI"
    elif n == 4:
        if memcmp(p, b"POST", 4) == 0:
            return "POST"
        if memcmp(p, b"HEAD", 4) == 0:
            return "HEAD"
    elif n == 7 and memcmp(p, b"CONNECT", 7) == 0:
        return "CONNECT"
    if not is_token(p, n):
        return None
    return PyUnicode_DecodeLatin1(p, n, NULL)


cdef int head_read(Worker w, conn_t* c, Head h, const char* p, size_t length) except -1:
    """Read a complete head.  HEAD_PARTIAL here means: do it again with a fresh parser."""
    cdef const char* target
    cdef const char* target_end
    cdef bint was_fresh
    cdef int status = head_line(w, h, p, length, &target, &target_end)
    if status != HEAD_PARTIAL:
        return status
    if h.method is "CONNECT" or h.method is "PRI":
        h.reason = ("CONNECT: this is not a proxy" if h.method is "CONNECT"
                    else "PRI: this is not a server of HTTP/2")
        return 501
    h.serial += 1
    h.status = 0
    h.fields = h.completed = 0
    h.host = h.close = h.keep_alive = h.expect = h.coded = h.chunked = False
    h.length = -1
    h.authority = h.request_id = None
    h.trusted = conn_trusted(w, c)
    h.forwarded = 0
    h.environ = PyDict_Copy(<dict>c.listener.template)
    status = environ_line(c, h, target, target_end - target)
    if status:
        return status
    h.window.start = p
    h.window.length = length
    was_fresh = h.parser_state == PARSER_FRESH
    h.parser_state = PARSER_STALE       # unless all goes well
    try:
        h.feed(h.window)
    except httptools.HttpParserUpgrade:
        # Upgrade is an offer that an ordinary server declines by answering the request (RFC 9110,
        # 7.8); the body, which the parser would leave to the new protocol, is framed by its own
        # fields.
        pass
    except Exception as e:
        if not was_fresh or tabs_blanked(p, length):
            return HEAD_PARTIAL
        if isinstance(e, httptools.HttpParserCallbackError):
            raise                       # a defect of ours, not the client's
        h.reason = str(e) or type(e).__name__
        if isinstance(e, httptools.HttpParserInvalidMethodError) or "nvalid method" in h.reason:
            h.reason = f"the method {h.method} is not known"
            return 501
        return 400
    if h.completed != 1:
        if not was_fresh:
            return HEAD_PARTIAL
        h.reason = "the head does not end where it should"
        return 400
    h.take_fields(target_end + 11, p + length - 2)
    status = head_check(w, c, h)
    if status == HEAD_READY and h.length <= 0 and not h.coded and not h.close and (
            h.minor == 1 or h.keep_alive):
        h.parser_state = PARSER_CLEAN   # it waits neither for a body nor for the end
    return status


cdef bint tabs_blanked(const char* head, size_t length) noexcept:
    """llhttp refuses a tab behind `chunked`, where RFC 9112, 5 allows it as it allows blanks.  Make
    the tabs at the ends of lines, which are no part of any value, blanks; were there any?"""
    cdef char* p = <char*>head          # it lies in a buffer of ours
    cdef size_t i, end = 0
    cdef bint found = False
    for i in range(length):
        if p[i] != c'\r':
            continue
        end = i
        while end > 0 and (p[end - 1] == c' ' or p[end - 1] == c'\t'):
            end -= 1
            if p[end] == c'\t':
                p[end] = c' '
                found = True
    return found


cdef int head_check(Worker w, conn_t* c, Head h) except -1:
    """Rules that need the whole head."""
    if h.fields > h.max_fields:
        return head_too_many(h)
    if h.status:
        return h.status
    if h.minor == 1:
        if not h.host:                              # RFC 9112, 3.2
            h.reason = "HTTP/1.1 without Host"
            return 400
    elif h.coded:                                   # RFC 9112, 6.1
        h.reason = "Transfer-Encoding in an HTTP/1.0 request"
        return 400
    if h.coded and h.length >= 0:                   # RFC 9112, 6.3: request smuggling
        h.reason = "both Transfer-Encoding and Content-Length"
        return 400
    if h.length > w.max_body:
        h.reason = f"the body is longer than {w.max_body} bytes (max_body)"
        return 413
    if h.authority is not None:
        PyDict_SetItem(h.environ, "HTTP_HOST", h.authority)
    if h.forwarded:
        return forwarded_apply(w, c, h)
    return HEAD_READY
