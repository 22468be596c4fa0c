"""What is too long (RFC 9110, 4.1, 5.4, 15.5.14, 15.5.15; RFC 6585, 5), with smaller limits than
the usual ones.  Their exact edges are in core/test_limits.py."""

from cases import chunked, get, post, post_chunked, refused, request, valid

# The settings that every case of the corpus is replayed with.
SETTINGS = {"max_request_line": 4000, "max_head": 8000, "max_body": 5000, "body_memory": 1000}
FIELDS = 128            # max_fields as it is

LINE = "RFC 9112, 3: MUST be 414"
HEAD = "RFC 9110, 5.4; RFC 6585, 5"
BODY = "RFC 9110, 15.5.14"

CASES = [
    valid("a request line below its limit", LINE, request("GET", "/" + "a" * 3900),
          path="/" + "a" * 3900),
    refused("a request line above its limit", LINE, request("GET", "/" + "a" * 4100), 414),
    refused("a query above its limit", LINE, request("GET", "/?" + "a" * 4100), 414),
    refused("an absolute target above its limit", LINE, request("GET", "http://x/" + "a" * 4100),
            414),
    refused("a request line without an end", LINE, b"GET /" + b"a" * 4100, 414),
    refused("a request line as long as a head may be", LINE, b"GET /" + b"a" * 9000, 414),
    refused("a method above the limit", "RFC 9112, 3: SHOULD be 501", request("A" * 4100), 400, 414,
            501),
    refused("a method without an end", "RFC 9112, 3", b"A" * 4100, 400, 414, 501),
    valid("a long method", "RFC 9112, 3: SHOULD be 501", request("A" * 1000), method="A" * 1000,
          or_refused=(405, 501)),
    valid("a head below its limit", HEAD, get(*["A: " + "b" * 500] * 15),
          environ={"HTTP_A": ", ".join(["b" * 500] * 15)}),
    refused("a head above its limit", HEAD, get(*["A: " + "b" * 500] * 17), 431),
    refused("a field above the limit of the head", HEAD, get("A: " + "b" * 9000), 431),
    refused("a field without an end", HEAD, b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 9000, 431),
    refused("a name without an end", HEAD, b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A" * 9000, 431),
    refused("blanks without an end", HEAD, b"GET / HTTP/1.1\r\nHost: x\r\nA:" + b" " * 9000, 431),
    refused("fields without an end", HEAD, b"GET / HTTP/1.1\r\nHost: x" + b"\r\nA: b" * 200,
            431),
    valid("as many fields as may be", HEAD, get(*["A: b"] * (FIELDS - 1)),
          environ={"HTTP_A": ", ".join(["b"] * (FIELDS - 1))}),
    refused("one field more", HEAD, get(*["A: b"] * FIELDS), 431),
    refused("many fields of different names", HEAD, get(*(f"A{n}: b" for n in range(200))), 431),
    refused("many empty fields", HEAD, get(*["A:"] * 200), 431),

    valid("a body at its limit", BODY, request("POST", body=b"b" * 5000), method="POST",
          body=b"b" * 5000),
    refused("a body above its limit", BODY, request("POST", body=b"b" * 5001), 413),
    refused("a body above its limit is refused before it comes", BODY,
            post("Content-Length: 5001", body=b""), 413),
    refused("a body above its limit that waits for 100", "RFC 9110, 10.1.1",
            post("Content-Length: 5001", "Expect: 100-continue", body=b""), 413),
    valid("a chunked body at its limit", BODY, post_chunked(chunked(*[b"b" * 500] * 10)),
          method="POST", body=b"b" * 5000),
    refused("a chunked body above its limit", BODY, post_chunked(chunked(*[b"b" * 500] * 11)), 413),
    refused("a chunked body above its limit by one", BODY,
            post_chunked(chunked(*[b"b" * 500] * 10, b"b")), 413),
    refused("a chunk above the limit is refused before it comes", BODY, post_chunked(b"1389\r\n"),
            413),
    valid("a chunk-extension below the limit", "RFC 9112, 7.1.1: MUST ignore",
          post_chunked(b"3;" + b"a" * 3000 + b"\r\nabc\r\n0\r\n\r\n"), method="POST", body=b"abc"),
    refused("a chunk-extension above the limit", "RFC 9112, 7.1.1: ought to limit",
            post_chunked(b"3;" + b"a" * 20000 + b"\r\nabc\r\n0\r\n\r\n"), 400, 413, 431),
    refused("a chunk-extension without an end", "RFC 9112, 7.1.1: ought to limit",
            post_chunked(b"3;" + b"a" * 20000), 400, 413, 431),
    refused("chunk-extensions of 60 KiB together", "RFC 9112, 7.1.1: ought to limit the total",
            post_chunked((b"1;" + b"a" * 1998 + b"\r\nb\r\n") * 30 + b"0\r\n\r\n"), 400, 413, 431),
    refused("a trailer above the limit", "RFC 9112, 7.1.2; RFC 9110, 5.4",
            post_chunked(chunked(b"abc", end=b"0\r\nT: " + b"t" * 9000 + b"\r\n\r\n")),
            400, 413, 431),
    refused("trailers without an end", "RFC 9112, 7.1.2; RFC 9110, 5.4",
            post_chunked(chunked(b"abc", end=b"0\r\n" + b"T: t\r\n" * 2000)), 400, 413, 431),
    refused("chunk sizes without an end", "RFC 9112, 7.1", post_chunked(b"0" * 20000), 400, 413),
]
