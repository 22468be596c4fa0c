# Characters, numbers, names and dates as HTTP writes them.

cdef const char* DAYS = "SunMonTueWedThuFriSat"
cdef const char* MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"
cdef int64_t TOO_LARGE = 4 * 10 ** 18      # what digits() makes of a number beyond 64 bits


cdef bint[256] TOKEN            # RFC 9110, 5.6.2: which characters a token may have
cdef bint[256] REG_NAME         # RFC 3986, 3.2.2: those of a host name, but for % and the comma,
cdef unsigned char _ch          # which no name has and many a list
for _ch in bytearray(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"):
    TOKEN[_ch] = REG_NAME[_ch] = True
for _ch in bytearray(b"!#$%&'*+-.^_`|~"):
    TOKEN[_ch] = True
for _ch in bytearray(b"-._~!$&'()*+;="):
    REG_NAME[_ch] = True


cdef inline bint token_char(char ch) noexcept nogil:
    return TOKEN[<unsigned char>ch]


cdef bint is_token(const char* p, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        if not TOKEN[<unsigned char>p[i]]:
            return False
    return n > 0


cdef inline bint is_text(char ch) noexcept:
    """RFC 9110, 5.5: what a value may have: blanks, printable characters, obs-text."""
    return <unsigned char>ch >= 32 and ch != 127 or ch == c'\t'


cdef inline bint has_control(const char* p, Py_ssize_t n) noexcept:
    """RFC 9110, 5.5: CR, LF and NUL could split the response; the other controls are invalid."""
    cdef Py_ssize_t i
    for i in range(n):
        if not is_text(p[i]):
            return True
    return False


cdef const char* latin1(object text, Py_ssize_t* n, str what) except NULL:
    """The bytes of a native string (PEP 3333, A Note on String Types)."""
    if not PyUnicode_Check(text):
        raise TypeError(f"{what} is not str but {type(text).__name__} (PEP 3333)")
    if PyUnicode_KIND(text) != PyUnicode_1BYTE_KIND:
        raise ValueError(f"{what} has characters outside latin-1 (PEP 3333): {text!r}")
    n[0] = PyUnicode_GET_LENGTH(text)
    return <const char*>PyUnicode_1BYTE_DATA(text)


cdef str printable(str text):
    """In ASCII and on one line, the rest as \\xNN."""
    if text.isascii() and text.isprintable():
        return text
    return "".join([ch if " " <= ch <= "~" else f"\\x{ord(ch):02x}" for ch in text])


cdef int64_t digits(const char* p, Py_ssize_t n) noexcept:
    """RFC 9110, 8.6: digits and nothing else.  -1: not so; TOO_LARGE: beyond 64 bits."""
    cdef int64_t value = 0
    cdef Py_ssize_t i
    if n == 0:
        return -1
    for i in range(n):
        if not c'0' <= p[i] <= c'9':
            return -1
        if value <= 10 ** 17:
            value = value * 10 + (p[i] - c'0')
        else:
            return digits_all(p, n)
    return value


cdef int64_t digits_all(const char* p, Py_ssize_t n) noexcept:
    """A very long number: is it one?  Zeros in front do not make it large."""
    cdef Py_ssize_t i
    for i in range(n):
        if not c'0' <= p[i] <= c'9':
            return -1
    for i in range(n):
        if p[i] != c'0':
            break
    return digits(p + i, n - i) if n - i <= 18 else TOO_LARGE


cdef int decimal_field(char* out, int64_t value) noexcept:
    """"Content-Length: ...\\r\\n"; its length."""
    cdef int i = 16
    memcpy(out, b"Content-Length: ", 16)
    i += decimal(out + i, value)
    out[i] = c'\r'
    out[i + 1] = c'\n'
    return i + 2


cdef int decimal(char* out, int64_t value) noexcept:
    """A number that is not negative; how many digits it has."""
    cdef uint64_t rest = <uint64_t>value    # what cannot be negative is divided more cheaply
    cdef char reverse[24]
    cdef int n = 0, i = 0
    while True:
        reverse[n] = <char>(c'0' + rest % 10)
        n += 1
        rest //= 10
        if rest == 0:
            break
    while n:
        n -= 1
        out[i] = reverse[n]
        i += 1
    return i


cdef inline int hex_value(char ch) noexcept:
    if c'0' <= ch <= c'9':
        return ch - c'0'
    if c'a' <= ch <= c'f':
        return ch - c'a' + 10
    if c'A' <= ch <= c'F':
        return ch - c'A' + 10
    return -1


cdef str percent_decoded(const char* p, Py_ssize_t n):
    """RFC 3986, 2.1, as latin-1 (PEP 3333).  What is not an escape is left as it is."""
    cdef char* out = buffer_new(n)
    cdef Py_ssize_t i = 0, m = 0
    try:
        while i < n:
            if p[i] == c'%' and i + 2 < n and hex_value(p[i + 1]) >= 0 and hex_value(p[i + 2]) >= 0:
                out[m] = <char>(hex_value(p[i + 1]) * 16 + hex_value(p[i + 2]))
                i += 3
            else:
                out[m] = p[i]
                i += 1
            m += 1
        return PyUnicode_DecodeLatin1(out, m, NULL)
    finally:
        buffer_free(out)


cdef Py_ssize_t ip6_literal(const char* p, Py_ssize_t n) noexcept:
    """The length of the "[...]" that begins at `p`, 0 if it is no IPv6 address in brackets.  (RFC
    3986 leaves room for later versions of IP; there are none.)"""
    cdef char text[48]
    cdef uint8_t address[16]
    cdef const char* end = <const char*>memchr(p, c']', n)
    cdef Py_ssize_t length
    if end is NULL or end - p > <Py_ssize_t>sizeof(text):
        return 0
    length = end - p - 1
    memcpy(text, p + 1, length)
    text[length] = 0
    return length + 2 if inet_pton(AF_INET6, text, address) == 1 else 0


cdef bint host_valid(const char* p, Py_ssize_t n) noexcept:
    """RFC 9112, 3.2 with RFC 3986, 3.2.2: uri-host [":" port]; empty is valid (it is what a
    client sends whose target has no authority)."""
    cdef Py_ssize_t i = 0
    if n and p[0] == c'[':
        i = ip6_literal(p, n)
        if i == 0:
            return False
    else:
        while True:
            while i < n and REG_NAME[<unsigned char>p[i]]:
                i += 1
            if i == n or p[i] != c'%':
                break
            if i + 2 >= n or hex_value(p[i + 1]) < 0 or hex_value(p[i + 2]) < 0:
                return False
            i += 3
    if i == n:
        return True
    if p[i] != c':':
        return False
    i += 1
    while i < n:
        if not c'0' <= p[i] <= c'9':
            return False
        i += 1
    return True


cdef int conn_name_peer(conn_t* c) except -1:
    """The peer's address and port as text, kept with the connection from its first request on."""
    cdef object address, port
    address, port = address_text(c.peer)
    Py_INCREF(address)
    Py_INCREF(port)
    c.remote_addr = <PyObject*>address
    c.remote_port = <PyObject*>port
    return 0


cdef tuple address_text(const uint8_t* socket_address):
    """Address and port; two empty strings if it is not an IP address."""
    cdef char text[64]
    cdef int family = (<sockaddr*>socket_address).sa_family
    cdef sockaddr_in* four = <sockaddr_in*>socket_address
    cdef sockaddr_in6* six = <sockaddr_in6*>socket_address
    cdef str port = ""
    text[0] = 0
    if family == AF_INET:
        inet_ntop(AF_INET, &four.sin_addr, text, sizeof(text))
        port = str(ntohs(four.sin_port))
    elif family == AF_INET6:
        if memcmp(&six.sin6_addr, MAPPED, 12) == 0:
            inet_ntop(AF_INET, <uint8_t*>&six.sin6_addr + 12, text, sizeof(text))
        else:
            inet_ntop(AF_INET6, &six.sin6_addr, text, sizeof(text))
        port = str(ntohs(six.sin6_port))
    return text.decode("ascii"), port


cdef bint peer_fill(uint8_t* peer, str address, int port) noexcept:
    """Make `peer` (28 bytes) the socket address of an IP address and port; "": of a unix peer.
    False if they are neither."""
    cdef uint16_t number = htons(<uint16_t>port)
    cdef int family = AF_INET6 if ":" in address else AF_INET
    memset(peer, 0, 28)
    if not address:
        (<sockaddr*>peer).sa_family = AF_UNIX
        return True
    if not 0 <= port <= 65535:
        return False
    (<sockaddr*>peer).sa_family = <uint16_t>family
    if family == AF_INET:
        (<sockaddr_in*>peer).sin_port = number
        return address_read(family, address, &(<sockaddr_in*>peer).sin_addr)
    (<sockaddr_in6*>peer).sin6_port = number
    return address_read(family, address, &(<sockaddr_in6*>peer).sin6_addr)


cdef bint address_read(int family, str text, void* address) noexcept:
    """An IP address of this family as inet_pton reads it, and nothing else."""
    cdef const char* p = <const char*>PyUnicode_1BYTE_DATA(text)
    if PyUnicode_KIND(text) != PyUnicode_1BYTE_KIND or <Py_ssize_t>strlen(p) != len(text):
        return False
    return inet_pton(family, p, address) == 1


cdef int conn_drop_names(conn_t* c) except -1:
    """The peer is to be named anew."""
    Py_XDECREF(c.remote_addr)
    Py_XDECREF(c.remote_port)
    c.remote_addr = c.remote_port = NULL
    return 0


cdef str conn_peer(conn_t* c):
    """For the error log."""
    if c.remote_addr is NULL:
        conn_name_peer(c)
    cdef str address = <str><object>c.remote_addr
    return f"{address}:{<object>c.remote_port}" if address else "unix peer"


cdef int stamp_update(Worker w) except -1:
    """Once a second: the Date field (RFC 9110, 5.6.7) and the access log's time."""
    cdef timespec t
    cdef tm utc, local
    cdef long offset
    clock_gettime(CLOCK_REALTIME_COARSE, &t)
    gmtime_r(<long*>&t.tv_sec, &utc)
    w.stamp_length = snprintf(
        w.stamp, sizeof(w.stamp), "Date: %.3s, %02d %.3s %04d %02d:%02d:%02d GMT\r\n",
        DAYS + 3 * utc.tm_wday, utc.tm_mday, MONTHS + 3 * utc.tm_mon, utc.tm_year + 1900,
        utc.tm_hour, utc.tm_min, utc.tm_sec)
    w.stamp_until = w.now + 1000 - t.tv_nsec // 1000000
    if not w.dates:
        w.stamp_length = 0
    if w.log_fd >= 0:
        localtime_r(<long*>&t.tv_sec, &local)
        offset = local.tm_gmtoff // 60
        w.log_stamp_length = snprintf(
            w.log_stamp, sizeof(w.log_stamp), "[%02d/%.3s/%04d:%02d:%02d:%02d %c%02ld%02ld]",
            local.tm_mday, MONTHS + 3 * local.tm_mon, local.tm_year + 1900,
            local.tm_hour, local.tm_min, local.tm_sec, c'-' if offset < 0 else c'+',
            abs(offset) // 60, abs(offset) % 60)
    return 0


cdef inline Py_ssize_t skip_blanks(const char* p, Py_ssize_t i, Py_ssize_t n) noexcept:
    while i < n and (p[i] == c' ' or p[i] == c'\t'):
        i += 1
    return i


cdef Py_ssize_t quoted_end(const char* p, Py_ssize_t i, Py_ssize_t n) noexcept:
    """Behind the quoted-string that begins at `i` (RFC 9110, 5.6.4); -1: it does not end."""
    i += 1
    while i < n:
        if p[i] == c'"':
            return i + 1
        i += 2 if p[i] == c'\\' else 1
    return -1


cdef str unquoted(str text):
    """The inside of a quoted-string without the backslashes that quote."""
    if "\\" not in text:
        return text
    # Two in a row are one that is meant; any other goes away.
    return "\\".join([piece.replace("\\", "") for piece in text.split("\\\\")])


cdef int64_t text_digits(str text) noexcept:
    """digits() of a text."""
    return digits(<const char*>PyUnicode_1BYTE_DATA(text), PyUnicode_GET_LENGTH(text))


cdef tuple host_parts(str host):
    """Name and port ("" if none) of what host_valid() has accepted."""
    cdef str name, port
    if host.startswith("["):
        name, _, port = host.partition("]")
        return name + "]", port[1:]
    name, _, port = host.partition(":")
    return name, port
