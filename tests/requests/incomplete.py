"""Messages that break off: the client has closed its sending side before they were complete.
They are never executed, and answered with 400, if at all (RFC 9112, 8)."""

from cases import SMUGGLED, chunked, get, post, post_chunked, refused, request


def cut(name, raw):
    return refused(name, "RFC 9112, 8", raw, 400, 408)


CASES = [
    cut("one letter", b"G"),
    cut("a CR", b"\r"),
    cut("a method", b"GET"),
    cut("a method and a space", b"GET "),
    cut("no version", b"GET /"),
    cut("half a version", b"GET / HTTP/1"),
    cut("no line end", b"GET / HTTP/1.1"),
    cut("half a line end", b"GET / HTTP/1.1\r"),
    cut("a request line", b"GET / HTTP/1.1\r\n"),
    cut("half a name", b"GET / HTTP/1.1\r\nHo"),
    cut("half a value", b"GET / HTTP/1.1\r\nHost: x"),
    cut("half a line end of a field", b"GET / HTTP/1.1\r\nHost: x\r"),
    cut("a field", b"GET / HTTP/1.1\r\nHost: x\r\n"),
    cut("no LF at the end of the head", get()[:-1]),
    cut("HTTP/1.0 without the empty line", b"GET / HTTP/1.0\r\n"),
    cut("an empty line and half a request", b"\r\nGET / HT"),
    cut("no body", post("Content-Length: 5", body=b"")),
    cut("half a body", post("Content-Length: 5", body=b"abc")),
    cut("a body that lacks one byte", post("Content-Length: 5", body=b"abcd")),
    cut("a body that looks like a request, and lacks one byte",
        request("POST", "/", f"Content-Length: {len(SMUGGLED) + 1}", body=SMUGGLED)),
    cut("half a body on HTTP/1.0", post("Content-Length: 5", body=b"abc", version="1.0")),
    cut("half a body, with close", post("Connection: close", "Content-Length: 5", body=b"abc")),
    cut("half a body in a file", request("POST", "/", "Content-Length: 3000", body=b"b" * 2999)),
    cut("no chunk", post_chunked(b"")),
    cut("half a size", post_chunked(b"3")),
    cut("a size and CR", post_chunked(b"3\r")),
    cut("a size", post_chunked(b"3\r\n")),
    cut("half an extension", post_chunked(b"3;a")),
    cut("half a chunk", post_chunked(b"3\r\nab")),
    cut("a chunk without its line end", post_chunked(b"3\r\nabc")),
    cut("a chunk and CR", post_chunked(b"3\r\nabc\r")),
    cut("no last chunk", post_chunked(chunked(b"abc", end=b""))),
    cut("half a last chunk", post_chunked(chunked(b"abc", end=b"0"))),
    cut("the last chunk without the empty line", post_chunked(chunked(b"abc", end=b"0\r\n"))),
    cut("the last chunk and CR", post_chunked(chunked(b"abc", end=b"0\r\n\r"))),
    cut("half a trailer", post_chunked(chunked(b"abc", end=b"0\r\nT: t"))),
    cut("trailers without the empty line", post_chunked(chunked(b"abc", end=b"0\r\nT: t\r\n"))),
    cut("an expectation and no body", post("Expect: 100-continue", "Content-Length: 5", body=b"")),
    cut("an offer to upgrade, and half a body",
        request("POST", "/", "Connection: Upgrade", "Upgrade: h2c", "Content-Length: 9",
                body=b"abc")),
]
