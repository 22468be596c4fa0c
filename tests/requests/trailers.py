"""The trailer section: read, bounded, and not merged into the environ (RFC 9110, 6.5)."""

from cases import POISON, chunked, post_chunked, refused, valid

MERGED = "RFC 9110, 6.5.1: MUST NOT be merged unless the field's definition permits it"


def sent(trailers):
    return post_chunked(chunked(b"abc", end=b"0\r\n" + trailers + b"\r\n"), "A: 1")


def right(name, rule, trailers, **environ):
    return valid(name, rule, sent(trailers), method="POST", body=b"abc",
                 environ={"HTTP_A": "1", "CONTENT_LENGTH": "3", **environ})


def wrong(name, rule, trailers, *statuses):
    return refused(name, rule, sent(trailers), *statuses)


CASES = [
    right("one", "RFC 9112, 7.1.2", b"T: t\r\n", HTTP_T=None),
    right("several", "RFC 9112, 7.1.2", b"T: t\r\nU: u\r\nT: v\r\n", HTTP_T=None, HTTP_U=None),
    right("no blank behind the colon", "RFC 9112, 5", b"T:t\r\n", HTTP_T=None),
    right("an empty value", "RFC 9110, 5.5", b"T:\r\n", HTTP_T=None),
    right("obs-text in a value", "RFC 9110, 5.5", b"T: \xe9\xff\r\n", HTTP_T=None),
    right("a tab in a value", "RFC 9110, 5.5", b"T: a\tb\t\r\n", HTTP_T=None),
    right("a colon in a value", "RFC 9110, 5.5", b"T: http://x/\r\n", HTTP_T=None),
    right("every character of a token in a name", "RFC 9110, 5.6.2",
          b"!#$%&'*+-.^_`|~09azAZ: 1\r\n"),
    right("the name of a field of the head", MERGED, b"A: 2\r\n"),
    *(right(f"{name}", MERGED, f"{name}: {value}\r\n".encode(), **{key: seen})
      for name, value, key, seen in (
          ("Host", "y", "HTTP_HOST", "x"), ("Content-Length", "5", "CONTENT_LENGTH", "3"),
          ("Transfer-Encoding", "gzip", "HTTP_TRANSFER_ENCODING", None),
          ("Content-Type", "text/html", "CONTENT_TYPE", None),
          ("Content-Encoding", "gzip", "HTTP_CONTENT_ENCODING", None),
          ("Cookie", "a=b", "HTTP_COOKIE", None),
          ("Authorization", "Basic eDp5", "HTTP_AUTHORIZATION", None),
          ("Connection", "close", "HTTP_CONNECTION", None),
          ("Upgrade", "h2c", "HTTP_UPGRADE", None),
          ("Expect", "100-continue", "HTTP_EXPECT", None),
          ("Trailer", "A", "HTTP_TRAILER", None),
          ("X_A", "b", "HTTP_X_A", None))),
    valid("announced in Trailer", "RFC 9110, 6.6.2",
          post_chunked(chunked(b"abc", end=b"0\r\nT: t\r\n\r\n"), "Trailer: T", "TE: trailers"),
          method="POST", body=b"abc", environ={"HTTP_T": None, "HTTP_TRAILER": "T"}),
    valid("with a body of nothing", "RFC 9112, 7.1.2",
          post_chunked(chunked(end=b"0\r\nT: t\r\n\r\n")), method="POST",
          environ={"CONTENT_LENGTH": "0", "HTTP_T": None}),

    wrong("no colon", "RFC 9112, 5", b"T\r\n"),
    wrong("no name", "RFC 9112, 5", b": t\r\n"),
    wrong("a blank before the colon", "RFC 9112, 5.1", b"T : t\r\n"),
    wrong("a tab before the colon", "RFC 9112, 5.1", b"T\t: t\r\n"),
    wrong("a blank before the first", "RFC 9112, 5", b" T: t\r\n"),
    wrong("folded", "RFC 9112, 5.2", b"T: t\r\n u\r\n"),
    wrong("folded with a tab", "RFC 9112, 5.2", b"T: t\r\n\tu\r\n"),
    wrong("a blank in a name", "RFC 9110, 5.1", b"T U: t\r\n"),
    wrong("a delimiter in a name", "RFC 9110, 5.1", b"T(): t\r\n"),
    wrong("obs-text in a name", "RFC 9110, 5.1", b"\xe9: t\r\n"),
    wrong("NUL in a name", "RFC 9110, 5.1", b"T\0: t\r\n"),
    wrong("NUL in a value", "RFC 9110, 5.5", b"T: \0\r\n"),
    wrong("lone CR in a value", "RFC 9112, 2.2", b"T: t\ru\r\n"),
    wrong("lone CR at the end of a value", "RFC 9112, 2.2", b"T: t\r\r\n"),
    wrong("bare LF in a value", "RFC 9112, 2.2", b"T: t\nu\r\n"),
    wrong("bare LF, and a field behind it", "RFC 9112, 2.2", b"T: t\nU: u\r\n"),
    wrong("bare LF before the end", "RFC 9112, 2.2", b"T: t\n"),
    refused("the end is a bare LF", "RFC 9112, 2.2",
            post_chunked(chunked(b"abc", end=b"0\r\nT: t\r\n\n"))),
    refused("the end is CR and a letter", "RFC 9112, 2.2",
            post_chunked(chunked(b"abc", end=b"0\r\nT: t\r\n\rx"))),
    refused("another request behind a trailer", "RFC 9112, 7.1.2",
            post_chunked(chunked(b"abc", end=b"0\r\nT: t\r\n" + POISON))),
]
