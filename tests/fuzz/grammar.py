"""What the fuzzer sends: requests from a grammar, more or less odd, and mutations of them."""

from __future__ import annotations

import struct

from corpus import INVALID, MIXED, UPGRADES, VALID

SEEDS = [case.raw for case in (*VALID.values(), *INVALID.values())]
SEEDS += [b"".join(MIXED)]

METHODS = [*["GET"] * 4, *["POST"] * 4, "HEAD", "PUT", "OPTIONS", "DELETE", "PATCH", "PROPFIND"]
ODD_METHODS = ["CONNECT", "TRACE", "get", "FROB", "G", "", "PRI", "M-SEARCH", "QUERY", "GE T",
               "GET\0", "\xe9", "POST" * 50, "HTTP/1.1", "\r\nGET", " GET"]
TARGETS = [*["/"] * 4, "/a", "/a?b=c", "/%41%2f%00%ff", "/a//b/../c", "/a!$&'()*+,;=:@-._~",
           "http://x/a?b", "HTTP://x:80", "http://[::1]:8000/?q", "/" + "a" * 70]
ODD_TARGETS = ["*", "a", "//", "/#f", "/\xc3\xa9", "http://", "http://u@x/", "x:443", "/\0",
               "/\x7f", "/ a", "https://x/", "https://x:99999/", "/%", "/%zz", "", "/" + "a" * 600,
               "?", "http:/x"]
VERSIONS = [*["HTTP/1.1"] * 5, "HTTP/1.0"]
ODD_VERSIONS = ["HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "http/1.1", "HTTP/1.1 ", "HTTP/11", "ICE/1.0",
                "", "HTTP/1.1\t", "HTTP/1.01"]
HOSTS = ["x", "x:80", "a.b-c:8000", "127.0.0.1", "[::1]:8000"]
ODD_HOSTS = ["", "a b", "a/b", "u@a", "a:b", "a,b", "[::1", "a:99999", "x\0", ":80", "[v1.a]", "%"]

ADDRESSES = ["192.0.2.1", "10.0.0.1", "127.0.0.1", "192.0.2.1:567", "2001:db8::1",
             "[2001:db8::1]", "[2001:db8::1]:567"]
ODD_ADDRESSES = ["unknown", "_hidden", "1.2.3", "1.2.3.4.5", "[::1", "::1]:80", "", " ", "1.2.3.4:",
                 "1.2.3.4:99999", "\xe9", "1" * 300, "256.1.1.1", "::ffff:1.2.3.4", "a\tb"]
FORWARDED = ["for=192.0.2.1", "for=192.0.2.1;proto=https", 'for="[2001:db8::1]:567";host=x',
             "For=10.0.0.1, for=192.0.2.1;by=203.0.113.43", "for=unknown", "for=_hidden;proto=http"]
ODD_FORWARDED = ["for", "for=", "=", ";;", ",", 'for="', 'for="\\', "for=[::1]", "for=a;for=b",
                 "proto=ftp", 'host="a b"', "for=1.2.3.4;;proto=http", "for = 1.2.3.4",
                 'for="1.2.3.4"x', "host=" + "a" * 300, "\xe9=1"]

PLAIN = ["Accept: */*", "A: b", "A:", "User-Agent: x", "Cookie: a=b", "Cookie: c=d", "X-A: 1",
         "Content-Type: text/plain", "Keep-Alive: timeout=5", "Trailer: X-T", "TE: trailers",
         "Proxy: http://evil", "Origin: null", "If-None-Match: \"a\"", "Referer: \"",
         "!#$%&'*+-.^`|~: 1", "A: \xe9\xff\x80", "B: c\td", "Connection: keep-alive",
         "Connection: x", "X-Real-IP: 1.2.3.4", "Range: bytes=0-1", "Priority: u=1",
         "Accept-Encoding: gzip"]
UNDERSCORES = ["X_A: 1", "Content_Length: 5", "Transfer_Encoding: chunked", "Content_Type: a",
               "X_Forwarded_For: 1.2.3.4", "Host_: x", "HTTP_HOST: x", "Proxy_: x", "_: 1"]
ODD = ["A : b", "A\t: b", " A: b", "\tA: b", ": b", "A", "A B: c", "A\0B: c", "A: b\0c", "A: b\rc",
       "\xe9: b", "Host: y", "Host: x", "Content-Type: a", "Content-Length: 0", "Content-Length: 3",
       "Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked", "Connection: close, a",
       "Connection: \x0bclose", "Connection: close\x00", "Expect: 200-ok",
       "Expect: 100-continue, a", "A: " + "b" * 700, "A" * 300 + ": b",
       "Transfer-Encoding\x0b: chunked", "A: b\x7f",
       "Connection: upgrade\r\nUpgrade: h2c", "Upgrade: websocket",
       "Content-Length: 5\r\n x",
       "Connection: " + "," * 50, "Connection: Content-Length", "Connection: Host, close"]
LENGTHS = ["+{}", "-{}", "0x{:x}", "{} ", "{}, {}", "{}\t0", "{}.0", "{}_", "{}e0", "", "\xb2",
           "1844674407370955161{}", "9223372036854775807", "9223372036854775808", "9" * 300]
CODINGS = ["chunked, gzip", "gzip, chunked", "chunked, chunked", "xchunked", '"chunked"',
           "identity", "chunked;a=b", "\x0bchunked", ",chunked", "chunked,", "", "chun ked", "gzip"]
SIZES = ["{:x} ", "{:x}\t;a", " {:x}", "+{:x}", "-{:x}", "0x{:x}", "{:x}g", "{:x}g;a", "",
         "fffffffffffffffff", "8000000000000000", "7fffffffffffffff", "10000000{:07x}",
         "{:x};", "{:x};a=", '{:x};"a"', '{:x};a="b', '{:x};a="\\"', '{:x};a="\r\n"', "{:x};a b",
         "{:x};a\0", "{:x};a\n", "{:x}\0"]
TRAILERS = ["X-T: 1", "A:", "Content-Length: 5", "Transfer-Encoding: chunked", "Host: y"]
ODD_TRAILERS = ["A : b", " a: b", "A", "A: b\0", ": b", "GET / HTTP/1.1", "A: " + "b" * 3000]
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"

TOKENS = [b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b";", b",", b"0\r\n\r\n", b"\r\n\r\n",
          b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2.0", b"Host: x\r\n", b"Content-Length: 3\r\n",
          b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n",
          b"Connection: keep-alive\r\n", b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n",
          b"Connection: upgrade\r\n", b"CONNECT ", b"HEAD ", b"POST / ", b"OPTIONS * ", b"ffffffff",
          b"3\r\nabc\r\n", b"0;a\r\n", b"\xff", b"\x80", b"%", b"#", b"?", b"/", b"_", b"\x0b",
          b"\x85", b"X-Forwarded-For: 1.2.3.4\r\n", b"Forwarded: for=1.2.3.4\r\n", b"PROXY ",
          SMUGGLED]

PROXY_2 = b"\r\n\r\n\0\r\nQUIT\n"


class Grammar:
    """Makes inputs from a random source.  `odd` is how likely each thing is not to be as usual;
    with 0 every request is one that a server has to serve."""

    def __init__(self, seeded):
        self.seeded = seeded
        self.odd = 0.0

    def input(self, preamble="off"):
        """The bytes of a connection, and whether every request in them is right."""
        seeded = self.seeded
        self.odd = seeded.choice([0, 0, 0, 0.01, 0.03, 0.15])
        mutations = seeded.choice([0, 0, 0, 1, 2, 6])
        raw = b"".join(self.request() if seeded.random() < 0.8 or not self.odd
                       else seeded.choice(SEEDS) for _ in range(seeded.choice([1, 1, 2, 3, 4, 20])))
        first = self.preamble(preamble)
        for _ in range(mutations):
            raw = self.mutated(raw)
        if mutations and seeded.random() < 0.2:
            first = self.mutated(first)
        return first + raw, not (self.odd or mutations)

    def pick(self, usual, odd):
        return self.seeded.choice(odd if self.is_odd() else usual)

    def is_odd(self):
        return self.seeded.random() < self.odd

    # -- requests --------------------------------------------------------------------------

    def request(self):
        seeded = self.seeded
        method = self.pick(METHODS, ODD_METHODS)
        version = self.pick(VERSIONS, ODD_VERSIONS)
        target = self.pick(TARGETS, ODD_TARGETS)
        if method == "OPTIONS" and seeded.random() < 0.5:
            target = "*"
        lines = [f"{method} {target} {version}"]
        fields = [f"Host: {self.pick(HOSTS, ODD_HOSTS)}"] if not self.is_odd() else []
        fields += [self.field() for _ in range(seeded.choice([0, 0, 1, 2, 4, 12]))]
        framing, body = self.body(version != "HTTP/1.0" or self.is_odd())
        fields += framing
        if body and seeded.random() < 0.2:
            fields.append("Expect: 100-continue")
        if seeded.random() < 0.1:
            fields.append("Connection: close")
        if seeded.random() < 0.05:
            fields += seeded.choice(UPGRADES)
        seeded.shuffle(fields)
        raw = "\r\n".join([*lines, *self.once(fields), "", ""]).encode("latin-1")
        if self.is_odd():
            raw = raw.replace(b"\r\n", seeded.choice([b"\n", b"\r", b"\r\r\n"]),
                              seeded.choice([1, 2, -1]))
        if seeded.random() < 0.05:
            raw = b"\r\n" * seeded.randrange(1, 4) + raw
        return raw + body

    def once(self, fields):
        """Without the second of those that may be there once, unless it shall be odd."""
        seen = set()
        for field in fields:
            name = field.partition(":")[0].lower()
            if name in ("content-type", "expect") and name in seen and not self.odd:
                continue
            seen.add(name)
            yield field

    def field(self):
        seeded = self.seeded
        if self.is_odd():
            return seeded.choice(ODD)
        if seeded.random() < 0.1:
            return self.forwarded()
        if self.odd and seeded.random() < 0.1:
            return seeded.choice(UNDERSCORES)
        if seeded.random() < 0.05:
            return f"X-{seeded.randrange(5000)}: {seeded.randrange(10)}"
        line = seeded.choice(PLAIN)
        if seeded.random() < 0.1:
            name, _, value = line.partition(": ")
            line = f"{seeded.choice([str.lower, str.upper])(name)}:{value} \t "
        return line

    def forwarded(self):
        """One of the fields that proxies set."""
        seeded = self.seeded
        name = seeded.choice(["For", "For", "Proto", "Host", "Port", "Prefix", ""])
        if name == "For":
            value = ", ".join(self.pick(ADDRESSES, ODD_ADDRESSES)
                              for _ in range(seeded.choice([1, 1, 2, 3])))
        elif name == "Proto":
            value = self.pick(["http", "https", "HTTPS", "http, https"],
                              ["ftp", "", "https,", "h\0"])
        elif name == "Host":
            value = self.pick(HOSTS, ODD_HOSTS)
        elif name == "Port":
            value = self.pick(["80", "443", "65535"],
                              ["0", "65536", "-1", "", "8 0", "80, 443", "x"])
        elif name == "Prefix":
            value = self.pick(["/a", "/a/b/", "/"],
                              ["a", "//a", "/a b", "/a?b", "/a#", "", "/\0", "/%"])
        else:
            return f"Forwarded: {self.pick(FORWARDED, ODD_FORWARDED)}"
        return f"X-Forwarded-{name}: {value}"

    # -- bodies ----------------------------------------------------------------------------

    def body(self, may_be_chunked):
        """The fields that frame a body, and the body in that frame."""
        seeded = self.seeded
        kind = seeded.random()
        size = seeded.choice([0, 1, 3, 5, 40, 300, 3000])
        data = seeded.choice([b"x" * size, seeded.randbytes(size), (SMUGGLED * 100)[:size],
                              (b"0\r\n\r\n" * 600)[:size]])
        if kind < 0.45:
            return ([], b"") if not self.is_odd() else ([], data)
        if kind < 0.75 or not may_be_chunked:
            length = str(size)
            if self.is_odd():
                length = seeded.choice([str(size + 1), str(max(0, size - 1)), str(size * 1000),
                                        seeded.choice(LENGTHS).format(size, size)])
            elif seeded.random() < 0.05:
                length = "00" + length
            return [f"Content-Length: {length}"], data
        fields = [f"Transfer-Encoding: {seeded.choice(CODINGS) if self.is_odd() else 'chunked'}"]
        if self.is_odd():
            fields.append(f"Content-Length: {size}")
        return fields, self.chunks(data)

    def chunks(self, data):
        seeded = self.seeded
        out = bytearray()
        while data:
            size = seeded.choice([1, 2, 16, 100, 5000])
            piece, data = data[:size], data[size:]
            line = f"{len(piece):x}"
            if self.is_odd():
                line = seeded.choice(SIZES).format(len(piece))
            elif seeded.random() < 0.1:
                line = seeded.choice(["0{:X}", "{:x};a", "{:x} ;a = b;c", '{:x};a="b;\\""'])
                line = line.format(len(piece))
            end = self.pick([b"\r\n"], [b"\n", b"\r", b"", b"\r\r\n", b"x\r\n"])
            out += line.encode("latin-1") + b"\r\n" + piece + end
        if self.is_odd():
            return bytes(out) + seeded.choice([b"", b"0\r\n", b"0\r\n\n", b"0\n\r\n", b"00\r\n\r\n",
                                               b"0;a\r\nb\r\n\r\n", b"0\r\nA: b\r\n"])
        trailers = [self.pick(TRAILERS, ODD_TRAILERS)
                    for _ in range(seeded.choice([0, 0, 0, 1, 2]))]
        return bytes(out) + "\r\n".join(["0", *trailers, "", ""]).encode("latin-1")

    # -- PROXY protocol --------------------------------------------------------------------

    def preamble(self, version):
        """What a proxy says first."""
        if self.is_odd():
            version = self.seeded.choice(["off", "v1", "v2"])
        if version == "auto":
            version = self.seeded.choice(["v1", "v2"])
        return {"off": bytes, "v1": self.preamble_1, "v2": self.preamble_2}[version]()

    def preamble_1(self):
        seeded = self.seeded
        line = seeded.choice(["PROXY TCP4 192.0.2.1 10.0.0.1 567 80", "PROXY UNKNOWN",
                              "PROXY TCP6 2001:db8::1 ::1 65535 1", "PROXY UNKNOWN a b c d"])
        if self.is_odd():
            line = seeded.choice(["PROXY", "PROXY TCP4", "proxy UNKNOWN",
                                  "PROXY TCP4 1.2.3.4 1.2.3.4 1", "PROXY TCP4 ::1 ::1 1 1",
                                  "PROXY TCP4 1.2.3.4 1.2.3.4 65536 1",
                                  "PROXY TCP4  1.2.3.4 1.2.3.4 1 1", "PROXY UNKNOWN" + "a" * 200,
                                  "PROXY TCP6 [::1] ::1 1 1", ""])
        return line.encode() + (b"\r\n" if not self.is_odd() else b"\n")

    def preamble_2(self):
        seeded = self.seeded
        command = seeded.choice([0x20, 0x21]) if not self.is_odd() else seeded.randrange(256)
        family = seeded.choice([0x00, 0x11, 0x21, 0x31]) if not self.is_odd() else (
            seeded.randrange(256))
        size = {0x11: 12, 0x21: 36, 0x31: 216}.get(family, 0)
        data = seeded.randbytes(size) + seeded.choice([b"", b"", b"\4\0\1a", bytes(200)])
        length = len(data) if not self.is_odd() else seeded.choice([0, 11, 65535, len(data) + 1])
        return PROXY_2 + struct.pack("!BBH", command, family, length) + data

    # -- mutations -------------------------------------------------------------------------

    def mutated(self, raw):
        seeded = self.seeded
        raw = bytearray(raw)
        at = seeded.randrange(len(raw) + 1)
        what = seeded.randrange(9)
        if what == 0:
            raw[at:at] = seeded.choice(TOKENS)
        elif what == 1:
            del raw[at:at + seeded.choice([1, 1, 2, 10, 100])]
        elif what == 2:
            raw[at:at + 1] = seeded.randbytes(1)
        elif what == 3:
            raw[at:at] = raw[at:at + seeded.randrange(1, 60)]
        elif what == 4:
            raw[at:at] = seeded.choice(SEEDS)
        elif what == 5:
            raw[at:at] = seeded.choice([2, 30, 700]) * seeded.choice(
                [b"a", b"0", b" ", b":", b"\r\n", b"A: b\r\n", b"1\r\na\r\n"])
        elif what == 6:         # a line end, or another place of meaning, is where it hurts
            at = raw.find(seeded.choice(
                [b"\r\n", b":", b" ", b"\r\n\r\n", b"chunked", b"Length"]), at)
            if at >= 0:
                raw[at:at + seeded.randrange(3)] = seeded.choice(TOKENS)
        elif what == 7:
            size = seeded.randrange(1, 40)
            other = seeded.randrange(len(raw) + 1)
            raw[at:at + size], raw[other:other + size] = raw[other:other + size], raw[at:at + size]
        else:
            raw[at:at + 1] = bytes([raw[at] ^ 1 << seeded.randrange(8)]) if at < len(raw) else b""
        return bytes(raw)

    def cuts(self, raw):
        """`raw` in pieces."""
        seeded = self.seeded
        steps = seeded.choice([[1 << 30], [1 << 30], [1], [1, 2, 3, 10], [1, 100, 1000], [1000]])
        if steps == [1] and len(raw) > 4000:
            steps = [7]
        pieces, at = [], 0
        while at < len(raw):
            step = seeded.choice(steps)
            pieces.append(raw[at:at + step])
            at += step
        return pieces
