# The PROXY protocol (haproxy, doc/proxy-protocol.txt), versions 1 and 2:
# before anything else a proxy says whose connection it passes on.  Read only from peers in
# forwarded_allow_ips, and then it must be there: the specification forbids guessing (section 2).

cdef enum:                      # Worker.proxy_protocol: the versions that are read
    PREAMBLE_V1 = 1
    PREAMBLE_V2 = 2

cdef enum:
    V1_LONGEST = 107            # bytes, with CR LF (2.1)
    V2_FIXED = 16               # bytes before the addresses
    V2_LONGEST = 4096           # bytes in all


PREAMBLES = {"off": 0, "v1": PREAMBLE_V1, "v2": PREAMBLE_V2, "auto": PREAMBLE_V1 | PREAMBLE_V2}

cdef bytes V1_BEGIN = b"PROXY "
cdef bytes V2_BEGIN = b"\r\n\r\n\0\r\nQUIT\n"


cdef int preamble_take(Worker w, conn_t* c, const char* p, size_t n, size_t* used) except -1:
    """Read a preamble at `p`.  HEAD_READY: `c` has the peer that it names.  HEAD_PARTIAL: more is
    needed.  400: it is none; w.head.reason says why."""
    w.head.reason = "not a preamble of the PROXY protocol"
    if w.proxy_protocol & PREAMBLE_V1 and p[0] == c'P':
        return preamble_v1(w, c, p, n, used)
    if w.proxy_protocol & PREAMBLE_V2 and p[0] == c'\r':
        return preamble_v2(w, c, p, n, used)
    return 400


cdef int preamble_v1(Worker w, conn_t* c, const char* p, size_t n, size_t* used) except -1:
    """2.1: "PROXY TCP4 source target sport dport" CR LF."""
    cdef const char* end
    cdef size_t length, i
    cdef str line
    cdef list words
    if memcmp(p, PyBytes_AS_STRING(V1_BEGIN), min(n, <size_t>6)) != 0:
        return 400
    end = <const char*>memchr(p, c'\r', min(n, <size_t>V1_LONGEST - 1))
    length = end - p if end is not NULL else n
    w.head.reason = "not the line of a PROXY preamble"
    # Wrong so far is wrong in the end: nobody has to wait for the rest to be told.
    if not v1_family(p, length, end is not NULL):
        return 400
    for i in range(6, length):
        if p[i] == c'\n' or p[i] == 0 or p[6] != c'U' and p[i] != c' ' and not (
                i < 10 or hex_value(p[i]) >= 0 or p[i] == c'.' or p[i] == c':'):
            return 400
    if end is NULL:
        return 400 if n >= V1_LONGEST - 1 else HEAD_PARTIAL
    if n == length + 1:
        return HEAD_PARTIAL
    if end[1] != c'\n':
        return 400
    if p[6] != c'U':                    # UNKNOWN: what follows it is not to be read
        line = PyUnicode_DecodeLatin1(p, length, NULL)
        words = line.split(" ")
        if len(words) != 6 or not v1_source(c, words):
            w.head.reason = "the addresses or ports of a PROXY preamble are not valid"
            return 400
        conn_renamed(c)
    used[0] = length + 2
    return HEAD_READY


cdef bint v1_family(const char* p, size_t n, bint whole) noexcept:
    """Is it TCP4, TCP6 or UNKNOWN, or may it become one?"""
    cdef const char* families[3]
    cdef size_t length, i
    families[0] = "PROXY TCP4 "
    families[1] = "PROXY TCP6 "
    families[2] = "PROXY UNKNOWN "
    if whole and n == 13 and memcmp(p, families[2], 13) == 0:
        return True                     # the only one that may end here
    for i in range(3):
        length = strlen(families[i])
        if memcmp(p, families[i], min(n, length)) == 0 and (n >= length or not whole):
            return True
    return False


cdef bint v1_source(conn_t* c, list words) except -1:
    """Check addresses and ports; make the source the peer."""
    cdef uint8_t source[28]
    cdef uint8_t target[28]
    cdef str address
    cdef int64_t number
    cdef bint six = words[1] == "TCP6"
    for word in words[4:]:
        # Decimal, without zeros in front.
        number = text_digits(word)
        if not 0 <= number <= 65535 or len(word) > 5 or len(word) > 1 and word[0] == "0":
            return False
    for address in words[2:4]:
        if not address or (":" in address) != six:
            return False
    if not (peer_fill(source, words[2], int(words[4])) and peer_fill(target, words[3], 0)):
        return False
    memcpy(c.peer, source, sizeof(source))
    return True


cdef int preamble_v2(Worker w, conn_t* c, const char* p, size_t n, size_t* used) except -1:
    """2.2: signature, version and command, family and transport, length, addresses, extensions.
    Each byte is judged as soon as it is there."""
    cdef uint8_t command, family
    cdef size_t length, least = 0
    if memcmp(p, PyBytes_AS_STRING(V2_BEGIN), min(n, <size_t>12)) != 0:
        return 400
    if n < 13:
        return HEAD_PARTIAL
    command = <uint8_t>p[12]
    if command != 0x20 and command != 0x21:
        w.head.reason = "a PROXY preamble of another version than 2, or another command"
        return 400
    if n < 14:
        return HEAD_PARTIAL
    family = <uint8_t>p[13]
    if command == 0x21:
        if family == 0x11:              # TCP over IPv4
            least = 12
        elif family == 0x21:            # TCP over IPv6
            least = 36
        elif family == 0x31:            # a unix stream
            least = 216
        elif family != 0x00 and family != 0x01:     # not told
            w.head.reason = "a PROXY preamble for something else than a stream"
            return 400
    if n < 15:
        return HEAD_PARTIAL
    length = <size_t>(<uint8_t>p[14]) << 8
    if n < V2_FIXED:
        if V2_FIXED + length > V2_LONGEST or length + 255 < least:
            w.head.reason = "a PROXY preamble of impossible length"
            return 400
        return HEAD_PARTIAL
    length |= <uint8_t>p[15]
    if V2_FIXED + length > V2_LONGEST or length < least:
        w.head.reason = "a PROXY preamble of impossible length"
        return 400
    if n < V2_FIXED + length:
        return HEAD_PARTIAL
    used[0] = V2_FIXED + length
    if least:
        memset(c.peer, 0, sizeof(c.peer))
        if family == 0x11:              # source, target, source port, target port
            (<sockaddr*>c.peer).sa_family = <uint16_t>AF_INET
            memcpy(&(<sockaddr_in*>c.peer).sin_addr, p + 16, 4)
            memcpy(&(<sockaddr_in*>c.peer).sin_port, p + 24, 2)
        elif family == 0x21:
            (<sockaddr*>c.peer).sa_family = <uint16_t>AF_INET6
            memcpy(&(<sockaddr_in6*>c.peer).sin6_addr, p + 16, 16)
            memcpy(&(<sockaddr_in6*>c.peer).sin6_port, p + 48, 2)
        else:
            (<sockaddr*>c.peer).sa_family = <uint16_t>AF_UNIX
        conn_renamed(c)
    return HEAD_READY


cdef int conn_renamed(conn_t* c) except -1:
    """Another peer: is it trusted, what is it called?"""
    c.trust = 0
    return conn_drop_names(c)
