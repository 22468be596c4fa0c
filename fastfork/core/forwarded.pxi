# What a proxy says of its client.  Only peers in forwarded_allow_ips are believed: from all others
# `Forwarded` and every X-Forwarded-* field is removed when the head is read (Head.believes).
#
# A proxy appends what it has seen to what its client sent, so the lists are read from the right:
# each entry was written by the one that the entry to its right names, and is believed as long as
# that one is trusted.  What stands further to the left anybody can have made up.

cdef enum:
    FORWARDED_LONGEST = 100     # elements of a list (400)


FORWARDED_KEYS = frozenset((
    "HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT", "HTTP_X_FORWARDED_PREFIX",
))

cdef struct hop_t:              # an entry of a list of clients
    int family                  # 0: no address
    int port                    # -1: none
    uint8_t address[16]


def forwarded_keys(names):
    """The environ keys of field names."""
    return frozenset("HTTP_" + name.upper().replace("-", "_") for name in names)


# -- whom to trust -------------------------------------------------------------------------

cdef class Trust:
    """Addresses, networks, `unix` and `*`.  IPv4 is IPv4 also when it comes as IPv6."""

    def __init__(self, peers):
        cdef list networks = []
        cdef bytes packed
        cdef int i
        for peer in peers:
            if peer == "*":
                self.everybody = True
            elif peer == "unix":
                self.local = True
            else:
                networks.append(ipaddress.ip_network(peer, strict=False))
        self.nets = <net_t*>PyMem_Malloc(max(1, len(networks)) * sizeof(net_t))
        if self.nets is NULL:
            raise MemoryError()
        for network in networks:
            i = self.count
            packed = network.network_address.packed
            self.nets[i].bits = network.prefixlen
            self.nets[i].family = AF_INET if network.version == 4 else AF_INET6
            if network.version == 6 and packed.startswith(MAPPED[:12]) and network.prefixlen >= 96:
                packed = packed[12:]
                self.nets[i].bits -= 96
                self.nets[i].family = AF_INET
            memcpy(self.nets[i].address, PyBytes_AS_STRING(packed), len(packed))
            self.count += 1

    def __dealloc__(self):
        PyMem_Free(self.nets)


cdef bint trusts(Trust t, int family, const uint8_t* address) noexcept:
    """`address`: 4 bytes for AF_INET, 16 for AF_INET6, none for AF_UNIX."""
    cdef net_t* net
    cdef int i, whole, rest
    if t.everybody:
        return True
    if family == AF_UNIX:
        return t.local
    if family == AF_INET6 and memcmp(address, MAPPED, 12) == 0:
        family = AF_INET
        address += 12
    for i in range(t.count):
        net = &t.nets[i]
        if net.family != family:
            continue
        whole = net.bits >> 3
        rest = 8 - (net.bits & 7)       # bits of the next byte that do not count; 8: no such byte
        if memcmp(address, net.address, whole) == 0 and (
                rest == 8 or address[whole] >> rest == net.address[whole] >> rest):
            return True
    return False


cdef bint conn_trusted(Worker w, conn_t* c) noexcept:
    """Is the peer one of forwarded_allow_ips?  Asked once for each connection."""
    cdef int family
    cdef bint yes = False
    if w.trust is None:
        return False
    if c.trust == 0:
        family = (<sockaddr*>c.peer).sa_family
        if family == AF_INET:
            yes = trusts(w.trust, family, <uint8_t*>&(<sockaddr_in*>c.peer).sin_addr)
        elif family == AF_INET6:
            yes = trusts(w.trust, family, <uint8_t*>&(<sockaddr_in6*>c.peer).sin6_addr)
        elif family == AF_UNIX:
            yes = trusts(w.trust, family, NULL)
        c.trust = 2 if yes else 1
    return c.trust == 2


# -- what follows from the fields ----------------------------------------------------------

cdef int forwarded_apply(Worker w, conn_t* c, Head h) except -1:
    """The head had such fields.  From a trusted peer: make h.environ tell of the client.  Returns
    0 or the status to refuse with."""
    cdef list elements = None
    cdef str text
    cdef int hops
    if h.forwarded & FORWARDED_REMOVED:
        forwarded_tell(w, c, h)
    if not h.forwarded & FORWARDED_BELIEVED:
        return 0
    text = h.environ.get("HTTP_FORWARDED")
    if text:
        elements = forwarded_elements(text)
        if elements is None:
            return forwarded_refuse(h, "Forwarded is malformed")
        if len(elements) > FORWARDED_LONGEST:
            return forwarded_refuse(h, f"Forwarded has more than {FORWARDED_LONGEST} elements")
    hops = forwarded_client(w.trust, h, elements)
    forwarded_origin(h, elements, hops)
    text = forwarded_choice(h, "HTTP_X_FORWARDED_PORT", hops)
    if text is not None:
        forwarded_port(h, text)
    text = h.environ.get("HTTP_X_FORWARDED_PREFIX")
    if text:
        forwarded_prefix(h, text)
    return h.status


cdef int forwarded_client(Trust t, Head h, list elements) except -1:
    """Who the client is.  Returns how many hops are believed; of `elements` only these are kept."""
    cdef list entries
    cdef hop_t told, client
    cdef bint told_for = False
    cdef int hops = 1
    told.family = client.family = 0
    if elements:
        entries = [element.get("for") for element in elements]
        told_for = entries[len(entries) - 1] is not None
        hops = forwarded_walk(t, entries, True, &told)
        del elements[:len(elements) - hops]
    entries = forwarded_list(h, "HTTP_X_FORWARDED_FOR")
    if entries is None:
        client = told
    else:
        hops = forwarded_walk(t, entries, False, &client)
        if told_for and not hop_same(&client, &told):
            forwarded_refuse(h, "Forwarded and X-Forwarded-For disagree")
        elif told_for and client.port < 0:
            client.port = told.port
    if client.family:
        h.environ["REMOTE_ADDR"] = forwarded_name(&client)
        h.environ["REMOTE_PORT"] = str(client.port) if client.port >= 0 else ""
    return hops


cdef bint hop_same(hop_t* a, hop_t* b) noexcept:
    """The same address, or none in both.  (A port may be told by one of them only.)"""
    return a.family == b.family and (
        a.family == 0 or memcmp(a.address, b.address, 4 if a.family == AF_INET else 16) == 0)


cdef int forwarded_origin(Head h, list elements, int hops) except -1:
    """The scheme and the host that the client used."""
    cdef str scheme = None, host = None, text
    # The outermost of the elements that are believed, if it says so, otherwise the next.
    for element in elements or ():
        if scheme is None:
            scheme = element.get("proto")
        if host is None:
            host = element.get("host")
    scheme = forwarded_scheme(scheme)
    text = forwarded_scheme(forwarded_choice(h, "HTTP_X_FORWARDED_PROTO", hops))
    if text is not None:
        if scheme is not None and scheme != text:
            return forwarded_refuse(h, "Forwarded and X-Forwarded-Proto disagree")
        scheme = text
    if scheme is not None:
        h.environ["wsgi.url_scheme"] = scheme
    text = forwarded_choice(h, "HTTP_X_FORWARDED_HOST", hops)
    if text is not None:
        if host is not None and host.lower() != text.lower():
            return forwarded_refuse(h, "Forwarded and X-Forwarded-Host disagree")
        host = text
    if host is not None:
        forwarded_host(h, host)
    return 0


cdef int forwarded_refuse(Head h, str reason) except -1:
    h.refuse(400, reason)
    return h.status


cdef int forwarded_tell(Worker w, conn_t* c, Head h) except -1:
    """Once: an operator who has a proxy wants to know why its clients are not seen."""
    cdef str name = h.removed[5:].replace("_", "-").title()
    cdef str peer = <str><object>c.remote_addr or "a unix peer"
    h.removed_told = True
    h.removed = None
    w.log(logging.WARNING, f"{peer} sent {name} and is not in forwarded_allow_ips: "
          "such fields are removed", None)
    return 0


cdef int forwarded_walk(Trust t, list entries, bint obfuscated, hop_t* client) except -1:
    """From the right to the first that is not trusted.  Returns how many were looked at; `client`
    is the last of them that has an address."""
    cdef int hops = 0
    cdef hop_t hop
    client.family = 0
    client.port = -1
    for entry in reversed(entries):
        hops += 1
        if entry is None or not forwarded_node(entry, obfuscated, &hop):
            break
        client[0] = hop
        if not trusts(t, hop.family, hop.address):
            break
    return hops


cdef bint forwarded_node(str text, bint obfuscated, hop_t* hop) except -1:
    """1.2.3.4, 1.2.3.4:567, 2001:db8::1, [2001:db8::1] or [2001:db8::1]:567.  `obfuscated`: a
    port may also be a word that begins with "_" (RFC 7239, 6.3), which says nothing to us."""
    cdef str address = text, rest, port = None
    cdef int64_t number
    hop.family = AF_INET6
    hop.port = -1
    if text.startswith("["):
        address, bracket, rest = text[1:].partition("]")
        if not bracket or rest and not rest.startswith(":"):
            return False
        if rest:
            port = rest[1:]
    elif text.count(":") < 2:
        hop.family = AF_INET
        if ":" in text:
            address, _, port = text.partition(":")
    if port is not None and not (obfuscated and port.startswith("_")):
        number = text_digits(port)
        if not 0 <= number <= 65535 or len(port) > 5:
            return False
        hop.port = <int>number
    if not address_read(hop.family, address, hop.address):
        return False
    if hop.family == AF_INET6 and memcmp(hop.address, MAPPED, 12) == 0:
        hop.family = AF_INET
        memmove(hop.address, hop.address + 12, 4)
    return True


cdef str forwarded_name(hop_t* hop):
    cdef char text[64]
    inet_ntop(hop.family, hop.address, text, sizeof(text))
    return text.decode("ascii")


cdef list forwarded_list(Head h, str key):
    """The entries of an X-Forwarded-* list; None if there are none."""
    cdef str text = h.environ.get(key)
    if not text:
        return None
    if text.count(",") >= FORWARDED_LONGEST:
        h.refuse(400, f"{key} has more than {FORWARDED_LONGEST} elements")
        return None
    # RFC 9110, 5.6.1.2: empty ones are none.
    return [entry for entry in [e.strip(" \t") for e in text.split(",")] if entry] or None


cdef str forwarded_choice(Head h, str key, int hops):
    """The entry that was written by the same proxy as the client's address."""
    cdef list entries = forwarded_list(h, key)
    if entries is None:
        return None
    return entries[len(entries) - min(hops, <int>len(entries))]


cdef str forwarded_scheme(str text):
    if text is not None:
        text = text.lower()
        if text == "http" or text == "https":
            return text
    return None


cdef int forwarded_host(Head h, str host) except -1:
    cdef const char* p = <const char*>PyUnicode_1BYTE_DATA(host)
    cdef str name, port
    cdef int64_t number = 0
    if host_valid(p, PyUnicode_GET_LENGTH(host)):
        name, port = host_parts(host)
        if port:
            number = text_digits(port)
        if name and (not port or 1 <= number <= 65535):
            h.environ["HTTP_HOST"] = host
            h.environ["SERVER_NAME"] = name
            if port:
                h.environ["SERVER_PORT"] = str(number)
            return 0
    return forwarded_refuse(h, "the host that the proxy names is not a valid host and port")


cdef int forwarded_port(Head h, str text) except -1:
    cdef int64_t number = text_digits(text)
    cdef str name, host = h.environ.get("HTTP_HOST")
    if not 1 <= number <= 65535:
        return forwarded_refuse(h, "X-Forwarded-Port is not a port")
    h.environ["SERVER_PORT"] = str(number)
    name = host_parts(host)[0] if host else None
    if name:
        if number != (443 if h.environ["wsgi.url_scheme"] == "https" else 80):
            name = f"{name}:{number}"
        h.environ["HTTP_HOST"] = name
    return 0


cdef int forwarded_prefix(Head h, str text) except -1:
    """The path that the proxy has taken away; the application must not mistake it for a host
    ("//elsewhere") when it puts its own URLs together."""
    cdef const char* p = <const char*>PyUnicode_1BYTE_DATA(text)
    cdef Py_ssize_t n = PyUnicode_GET_LENGTH(text)
    cdef str path = percent_decoded(p, n)
    if (not text.startswith("/") or "//" in path or "\\" in path     # browsers: \\ is /
            or has_control(<const char*>PyUnicode_1BYTE_DATA(path), PyUnicode_GET_LENGTH(path))
            or any([ch in text for ch in " \t?#"])):
        return forwarded_refuse(h, "X-Forwarded-Prefix is not a path")
    h.environ["SCRIPT_NAME"] = path[:len(path) - 1] if path.endswith("/") else path
    return 0


# -- RFC 7239 ------------------------------------------------------------------------------

cdef list forwarded_elements(str text):
    """RFC 7239, 4: a list of elements, each of pairs with ";" between.  As dicts, by lower-case
    name; empty ones are left out (RFC 9110, 5.6.1.2).  None if it is malformed: a quote that a
    client leaves open must not swallow what the proxy has appended."""
    cdef const char* p = <const char*>PyUnicode_1BYTE_DATA(text)
    cdef Py_ssize_t n = PyUnicode_GET_LENGTH(text)
    cdef Py_ssize_t i = 0, start
    cdef list elements = []
    cdef dict pairs = {}
    cdef str name, value
    while True:
        i = skip_blanks(p, i, n)
        if i < n and token_char(p[i]):
            start = i
            while i < n and token_char(p[i]):
                i += 1
            if i == n or p[i] != c'=':
                return None
            name = text[start:i].lower()
            i += 1
            start = i
            if i < n and p[i] == c'"':
                i = quoted_end(p, i, n)
                if i < 0:
                    return None
                value = unquoted(text[start + 1:i - 1])
            else:
                while i < n and token_char(p[i]):
                    i += 1
                if i == start:
                    return None
                value = text[start:i]
            if name in pairs:           # RFC 7239, 4: no parameter occurs twice in an element
                return None
            pairs[name] = value
            i = skip_blanks(p, i, n)
        if i == n or p[i] == c',':
            if pairs:
                elements.append(pairs)
                pairs = {}
            if i == n:
                return elements
        elif p[i] != c';':
            return None
        i += 1
