"""The request line, and what stands before it (RFC 9112, 2.2 and 3)."""

from cases import refused, valid

HEAD = b"\r\nHost: x\r\n\r\n"

CASES = [
    valid("method, target, version", "RFC 9112, 3", b"GET /r?q HTTP/1.1" + HEAD, path="/r",
          query="q"),

    # before it
    valid("an empty line before", "RFC 9112, 2.2: SHOULD ignore at least one",
          b"\r\nGET /a HTTP/1.1" + HEAD, path="/a"),
    valid("two empty lines before", "RFC 9112, 2.2", b"\r\n\r\nGET / HTTP/1.1" + HEAD,
          or_refused=[400]),
    valid("a hundred empty lines before", "RFC 9112, 2.2", b"\r\n" * 100 + b"GET / HTTP/1.1" + HEAD,
          or_refused=[400]),
    refused("a bare LF before", "RFC 9112, 2.2", b"\nGET / HTTP/1.1" + HEAD),
    refused("a lone CR before", "RFC 9112, 2.2", b"\rGET / HTTP/1.1" + HEAD),
    refused("a blank before", "RFC 9112, 3", b" GET / HTTP/1.1" + HEAD),
    refused("a tab before", "RFC 9112, 3", b"\tGET / HTTP/1.1" + HEAD),
    refused("a NUL before", "RFC 9112, 3", b"\0GET / HTTP/1.1" + HEAD),
    refused("a line of one blank before", "RFC 9112, 2.2", b" \r\nGET / HTTP/1.1" + HEAD),
    refused("a byte order mark before", "RFC 9112, 2.2", b"\xef\xbb\xbfGET / HTTP/1.1" + HEAD),
    refused("an empty line, then a blank", "RFC 9112, 2.2", b"\r\n GET / HTTP/1.1" + HEAD),

    # line ends
    refused("bare LF everywhere", "RFC 9112, 2.2", b"GET / HTTP/1.1\nHost: x\n\n"),
    refused("bare LF behind it", "RFC 9112, 2.2", b"GET / HTTP/1.1\nHost: x\r\n\r\n"),
    refused("lone CR behind it", "RFC 9112, 2.2", b"GET / HTTP/1.1\rHost: x\r\n\r\n"),
    refused("LF CR behind it", "RFC 9112, 2.2", b"GET / HTTP/1.1\n\rHost: x\r\n\r\n"),
    refused("CR CR LF behind it", "RFC 9112, 2.2", b"GET / HTTP/1.1\r\r\nHost: x\r\n\r\n"),
    refused("CR NUL LF behind it", "RFC 9112, 2.2", b"GET / HTTP/1.1\r\0\nHost: x\r\n\r\n"),
    refused("CR LF in the target", "RFC 9112, 3.2", b"GET /a\r\nb HTTP/1.1" + HEAD),
    refused("bare LF in the target, and a field behind it", "RFC 9112, 2.2",
            b"GET /\nX-Admin:1 HTTP/1.1" + HEAD),
    refused("lone CR between method and target", "RFC 9112, 3", b"GET\r/ HTTP/1.1" + HEAD),

    # its three words, with one space between them
    refused("method alone", "RFC 9112, 3", b"GET\r\n\r\n"),
    refused("method and a space", "RFC 9112, 3", b"GET \r\n\r\n"),
    refused("no method", "RFC 9112, 3", b" / HTTP/1.1" + HEAD),
    refused("no target", "RFC 9112, 3", b"GET HTTP/1.1" + HEAD),
    refused("empty target", "RFC 9112, 3", b"GET  HTTP/1.1" + HEAD),
    refused("target alone", "RFC 9112, 3", b"/ HTTP/1.1" + HEAD),
    refused("version alone", "RFC 9112, 3", b"HTTP/1.1" + HEAD),
    refused("two spaces behind the method", "RFC 9112, 3", b"GET  / HTTP/1.1" + HEAD),
    refused("two spaces behind the target", "RFC 9112, 3", b"GET /  HTTP/1.1" + HEAD),
    refused("a space behind the version", "RFC 9112, 3", b"GET / HTTP/1.1 " + HEAD),
    refused("a tab behind the version", "RFC 9112, 3", b"GET / HTTP/1.1\t" + HEAD),
    refused("a word behind the version", "RFC 9112, 3", b"GET / HTTP/1.1 x" + HEAD),
    refused("a second version", "RFC 9112, 3", b"GET / HTTP/1.1 HTTP/1.1" + HEAD),
    refused("tabs between the words", "RFC 9112, 3", b"GET\t/\tHTTP/1.1" + HEAD),
    refused("a tab behind the method", "RFC 9112, 3", b"GET\t/ HTTP/1.1" + HEAD),
    refused("a tab behind the target", "RFC 9112, 3", b"GET /\tHTTP/1.1" + HEAD),
    refused("vertical tabs between the words", "RFC 9112, 3", b"GET\x0b/\x0bHTTP/1.1" + HEAD),
    refused("form feeds between the words", "RFC 9112, 3", b"GET\x0c/\x0cHTTP/1.1" + HEAD),
    refused("no-break spaces between the words", "RFC 9112, 3",
            b"GET\xa0/\xa0HTTP/1.1" + HEAD),
    refused("no space behind the target", "RFC 9112, 3", b"GET /HTTP/1.1" + HEAD),
    refused("a blank in the target", "RFC 9112, 3.2", b"GET /a b HTTP/1.1" + HEAD),
]
