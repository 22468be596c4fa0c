"""Raw requests: valid ones, invalid ones, and sequences with traps in them."""

from answers import chunked, request

# What any standard-conforming client may send: bytes, the method, the path the app sees.
VALID = {
    "origin form": (b"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "/a"),
    "HTTP/1.0 without Host": (b"GET /a HTTP/1.0\r\n\r\n", "GET", "/a"),
    "HTTP/1.0 with Host": (b"GET /a HTTP/1.0\r\nHost: x\r\n\r\n", "GET", "/a"),
    "no space after the colon": (b"GET /a HTTP/1.1\r\nHost:x\r\n\r\n", "GET", "/a"),
    "blanks and tabs around the value": (b"GET /a HTTP/1.1\r\nHost: \t x \t \r\n\r\n", "GET", "/a"),
    "empty value": (b"GET /a HTTP/1.1\r\nHost: x\r\nA:\r\n\r\n", "GET", "/a"),
    "name in odd case": (b"GET /a HTTP/1.1\r\nhOsT: x\r\n\r\n", "GET", "/a"),
    "host with port": (b"GET /a HTTP/1.1\r\nHost: a.b-c:8000\r\n\r\n", "GET", "/a"),
    "host is IPv4": (b"GET /a HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n", "GET", "/a"),
    "host is IPv6": (b"GET /a HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET", "/a"),
    "empty line before the request (9112, 2.2)":
        (b"\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "/a"),
    "absolute form (9112, 3.2.2)":
        (b"GET http://x/a?b HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "/a"),
    "absolute form without a path":
        (b"GET http://x HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "/"),
    "every character of a token in a name":
        (b"GET /a HTTP/1.1\r\nHost: x\r\n!#$%&'*+-.^`|~09azAZ: 1\r\n\r\n", "GET", "/a"),
    "obs-text in a value (9110, 5.5)":
        (b"GET /a HTTP/1.1\r\nHost: x\r\nA: \xe9\xff\x80\r\n\r\n", "GET", "/a"),
    "tab in a value": (b"GET /a HTTP/1.1\r\nHost: x\r\nA: b\tc\r\n\r\n", "GET", "/a"),
    "sub-delims in the path":
        (b"GET /a!$&'()*+,;=:@-._~ HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "/a!$&'()*+,;=:@-._~"),
    "body of a GET": (b"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nb", "GET", "/a"),
    "Content-Length with leading zeros":
        (b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 001\r\n\r\nb", "POST", "/a"),
    "coding name in odd case (9112, 7)":
        (request("POST", "/a", "Transfer-Encoding: CHUNKED", body=chunked(b"b")), "POST", "/a"),
}

# What must be refused: bytes, and the statuses that are right.
LINES = {
    "bare LF everywhere": (b"GET / HTTP/1.1\nHost: x\n\n", {400}),
    "bare LF after the request line": (b"GET / HTTP/1.1\nHost: x\r\n\r\n", {400}),
    "bare LF after a field": (b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", {400}),
    "bare LF as the end of the head": (b"GET / HTTP/1.1\r\nHost: x\r\n\n", {400}),
    "lone CR after the request line": (b"GET / HTTP/1.1\rHost: x\r\n\r\n", {400}),
    "lone CR in a value": (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", {400}),
    "lone CR before the request line": (b"\rGET / HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
    "CR CR LF": (b"GET / HTTP/1.1\r\r\nHost: x\r\n\r\n", {400}),
    "HTTP/0.9": (b"GET /\r\n", {400}),
    "HTTP/0.9 with bare LF": (b"GET /\n", {400}),
    "method alone": (b"GET\r\n\r\n", {400}),
    "no method": (b" / HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
    "no target": (b"GET HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
    "relative target": (b"GET a HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
    "blank in the target": (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
    "tabs between the words": (b"GET\t/\tHTTP/1.1\r\nHost: x\r\n\r\n", {400}),
    "fragment in the target (trap 6)": (b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
    "fragment in the query": (b"GET /a?b#c HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
    "non-ASCII target": (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
    "NUL in the target": (b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
    "control character in the target": (b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
    "DEL in the target": (b"GET /\x7f HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
    "blank after the version": (b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n", {400}),
    "version in lower case": (b"GET / http/1.1\r\nHost: x\r\n\r\n", {400}),
    "version with two digits": (b"GET / HTTP/1.10\r\nHost: x\r\n\r\n", {400, 505}),
    "version without a dot": (b"GET / HTTP/11\r\nHost: x\r\n\r\n", {400}),
    "version without minor": (b"GET / HTTP/1.\r\nHost: x\r\n\r\n", {400}),
    "another protocol": (b"GET / ICE/1.0\r\nHost: x\r\n\r\n", {400}),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", {505}),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\nHost: x\r\n\r\n", {505}),
    "HTTP/0.9 as a number": (b"GET / HTTP/0.9\r\nHost: x\r\n\r\n", {400, 505}),
    "HTTP/9.9": (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", {505}),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 501, 505}),
    "unknown method": (b"FROB / HTTP/1.1\r\nHost: x\r\n\r\n", {501}),
    "method in lower case": (b"get / HTTP/1.1\r\nHost: x\r\n\r\n", {501}),
    "unknown method that begins like a known one":
        (b"GETTY / HTTP/1.1\r\nHost: x\r\n\r\n", {501}),
    "unknown method with a body": (request("FROB", "/", body=b"GET /x HTTP/1.1\r\n\r\n"), {501}),
    "CONNECT (trap 2)": (b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n", {501}),
}
FIELDS = {
    "obs-fold": (request("GET", "/", "A: b", " c"), {400}),
    "obs-fold with a tab": (request("GET", "/", "A: b", "\tc"), {400}),
    "blank line before the first field": (b"GET / HTTP/1.1\r\n Host: x\r\n\r\n", {400}),
    "blank before the colon": (request("GET", "/", "A : b"), {400}),
    "tab before the colon": (request("GET", "/", "A\t: b"), {400}),
    "blank in a name": (request("GET", "/", "A B: c"), {400}),
    "no name": (request("GET", "/", ": b"), {400}),
    "no colon": (request("GET", "/", "A"), {400}),
    "NUL in a name": (request("GET", "/", "A\0B: c"), {400}),
    "NUL in a value": (request("GET", "/", "A: b\0c"), {400}),
    "non-ASCII name": (request("GET", "/", "\xe9: b"), {400}),
    "bracket in a name": (request("GET", "/", "A(B): c"), {400}),
    "quote in a name": (request("GET", "/", 'A"B: c'), {400}),
    "no Host on HTTP/1.1": (request("GET", "/", host=None), {400}),
    "two Hosts": (request("GET", "/", "Host: y"), {400}),
    "two Hosts that agree": (request("GET", "/", "Host: x"), {400}),
    "two Hosts on HTTP/1.0": (request("GET", "/", "Host: y", version="1.0"), {400}),
    "blank in Host": (request("GET", "/", host="a b"), {400}),
    "path in Host": (request("GET", "/", host="a/b"), {400}),
    "list in Host": (request("GET", "/", host="a, b"), {400}),
    "user in Host": (request("GET", "/", host="u@a"), {400}),
    "port in Host is no number": (request("GET", "/", host="a:b"), {400}),
    "NUL in Host": (request("GET", "/", host="a\0b"), {400}),
}


def post(*fields):
    return request("POST", "/", *fields, body=b"abcde")


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
FRAMING = {
    "Content-Length and Transfer-Encoding":
        (request("POST", "/", "Content-Length: 5", "Transfer-Encoding: chunked",
                 body=chunked(SMUGGLED)), {400}),
    "Transfer-Encoding and Content-Length":
        (request("POST", "/", "Transfer-Encoding: chunked", "Content-Length: 5",
                 body=chunked(SMUGGLED)), {400}),
    "Content-Length twice":
        (request("POST", "/", "Content-Length: 5", "Content-Length: 5", body=b"abcde"), {400}),
    "Content-Length twice, different":
        (request("POST", "/", "Content-Length: 5", "Content-Length: 0", body=b"abcde"), {400}),
    "Content-Length is a list": (post("Content-Length: 5, 5"), {400}),
    "Content-Length with plus": (post("Content-Length: +5"), {400}),
    "Content-Length negative": (post("Content-Length: -5"), {400}),
    "Content-Length hexadecimal": (post("Content-Length: 0x5"), {400}),
    "Content-Length with a blank": (post("Content-Length: 5 0"), {400}),
    "Content-Length with a letter": (post("Content-Length: 5a"), {400}),
    "Content-Length empty": (post("Content-Length:"), {400}),
    "Content-Length with underscore": (request("POST", "/", "Content-Length: 1_0"), {400}),
    "Content-Length decimal": (post("Content-Length: 5.0"), {400}),
    "Content-Length over 64 bits":
        (post("Content-Length: 18446744073709551621"), {400, 413}),
    "Content-Length of a thousand digits":
        (request("POST", "/", "Content-Length: " + "9" * 1000), {400, 413}),
    "Transfer-Encoding on HTTP/1.0":
        (request("POST", "/", "Transfer-Encoding: chunked", body=chunked(SMUGGLED), version="1.0"),
         {400}),
    "chunked is not last (9112, 6.3)":
        (request("POST", "/", "Transfer-Encoding: chunked, gzip", body=chunked(SMUGGLED)),
         {400, 501}),
    "chunked twice in one line":
        (request("POST", "/", "Transfer-Encoding: chunked, chunked", body=chunked(SMUGGLED)),
         {400, 501}),
    "chunked in two lines":
        (request("POST", "/", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked",
                 body=chunked(SMUGGLED)), {400}),
    "unknown coding before chunked":
        (request("POST", "/", "Transfer-Encoding: gzip, chunked", body=chunked(SMUGGLED)), {501}),
    "unknown coding": (request("POST", "/", "Transfer-Encoding: frob"), {400, 501}),
    "identity": (request("POST", "/", "Transfer-Encoding: identity"), {400, 501}),
    "a word that ends in chunked":
        (request("POST", "/", "Transfer-Encoding: xchunked", body=chunked(SMUGGLED)), {400, 501}),
    "chunked in quotes":
        (request("POST", "/", 'Transfer-Encoding: "chunked"', body=chunked(SMUGGLED)), {400, 501}),
    "chunked with a parameter":
        (request("POST", "/", "Transfer-Encoding: chunked;a=b", body=chunked(SMUGGLED)),
         {400, 501}),
    "vertical tab before chunked":
        (request("POST", "/", "Transfer-Encoding: \x0bchunked", body=chunked(SMUGGLED)),
         {400, 501}),
    "blank before the colon of Transfer-Encoding":
        (request("POST", "/", "Transfer-Encoding : chunked", body=chunked(SMUGGLED)), {400}),
    "empty Transfer-Encoding": (request("POST", "/", "Transfer-Encoding:"), {400, 501}),
}


def post_chunked(body):
    return request("POST", "/", "Transfer-Encoding: chunked", body=body), {400}


CHUNKS = {
    "size is no number": post_chunked(b"zz\r\nabc\r\n0\r\n\r\n"),
    "size empty": post_chunked(b"\r\nabc\r\n0\r\n\r\n"),
    "size negative": post_chunked(b"-3\r\nabc\r\n0\r\n\r\n"),
    "size with plus": post_chunked(b"+3\r\nabc\r\n0\r\n\r\n"),
    "size with 0x": post_chunked(b"0x3\r\nabc\r\n0\r\n\r\n"),
    "blank before the size": post_chunked(b" 3\r\nabc\r\n0\r\n\r\n"),
    "size over 64 bits": post_chunked(b"10000000000000003\r\nabc\r\n0\r\n\r\n"),
    "size ends in bare LF": post_chunked(b"3\nabc\r\n0\r\n\r\n"),
    "size ends in lone CR": post_chunked(b"3\rabc\r\n0\r\n\r\n"),
    "data longer than the size": post_chunked(b"3\r\nabcd\r\n0\r\n\r\n"),
    "data ends in bare LF": post_chunked(b"3\r\nabc\n0\r\n\r\n"),
    "no end of line after the data": post_chunked(b"3\r\nabc0\r\n\r\n"),
    "bare LF in an extension": post_chunked(b"3;a\nb\r\nabc\r\n0\r\n\r\n"),
    "NUL in an extension": post_chunked(b"3;a\0\r\nabc\r\n0\r\n\r\n"),
    "bare LF after the last chunk": post_chunked(b"3\r\nabc\r\n0\n\n"),
    "trailer without a colon": post_chunked(b"3\r\nabc\r\n0\r\nA\r\n\r\n"),
    "blank before the colon of a trailer": post_chunked(b"3\r\nabc\r\n0\r\nA : b\r\n\r\n"),
}
GARBAGE = {
    "TLS hello": (bytes.fromhex("16030100c8010000c4"), {400}),
    "NUL": (b"\0", {400}),
    "high bytes": (b"\xff\xfe\xfd", {400}),
    "JSON": (b'{"a": 1}\r\n', {400}),
    "SSH": (b"SSH-2.0-OpenSSH_9.6\r\n", {400, 501}),
    "response": (b"HTTP/1.1 200 OK\r\n\r\n", {400, 501}),
    "SOCKS 5": (b"\x05\x01\x00", {400}),
}
INVALID = {**LINES, **FIELDS, **FRAMING, **CHUNKS, **GARBAGE}

# Several in a row; the methods and framings vary.
MIXED = [
    request("GET", "/0"),
    request("POST", "/1", body=b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"),
    request("HEAD", "/2"),
    request("PUT", "/3", "Transfer-Encoding: chunked", body=chunked(b"a" * 300, b"\r\n0\r\n\r\n")),
    request("GET", "/4", "Connection: keep-alive"),
    request("OPTIONS", "/5", "Content-Length: 0"),
    request("GET", "/6", "Connection: keep-alive", version="1.0"),
    request("DELETE", "/7", body=b"0\r\n\r\n"),
    request("GET", "/8"),
]
# The fields of requests that would like to change the protocol.
UPGRADES = [
    ["Connection: Upgrade", "Upgrade: h2c"],
    ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ"],
    ["Upgrade: websocket", "Connection: keep-alive, Upgrade"],
    ["Connection: upgrade", "Upgrade: TLS/1.0, HTTP/2.0"],
]
