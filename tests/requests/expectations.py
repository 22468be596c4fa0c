"""Expect (RFC 9110, 10.1.1).  When 100 Continue is sent is in core/test_continue.py."""

from cases import chunked, get, post, post_chunked, valid

CONTINUE = "Expect: 100-continue"
OTHER = "RFC 9110, 10.1.1: MAY be 417"


def right(name, rule, raw, body=b"abcde", **how):
    return valid(name, rule, raw, method="POST", body=body, **how)


CASES = [
    right("100-continue", "RFC 9110, 10.1.1", post(CONTINUE, "Content-Length: 5")),
    right("in capitals", "RFC 9110, 10.1.1: case-insensitive",
          post("Expect: 100-CONTINUE", "Content-Length: 5")),
    right("blanks around it", "RFC 9112, 5", post("Expect: \t100-continue ", "Content-Length: 5")),
    right("chunked", "RFC 9110, 10.1.1", post_chunked(chunked(b"abcde"), CONTINUE)),
    right("no body comes", "RFC 9110, 10.1.1", post(CONTINUE, "Content-Length: 0", body=b""), b""),
    right("no body is announced", "RFC 9110, 10.1.1", post(CONTINUE, body=b""), b""),
    valid("on a GET", "RFC 9110, 10.1.1", get(CONTINUE)),
    right("on HTTP/1.0", "RFC 9110, 10.1.1: MUST ignore",
          post(CONTINUE, "Content-Length: 5", version="1.0"), keeps=False),
    right("and close", "RFC 9110, 10.1.1",
          post(CONTINUE, "Connection: close", "Content-Length: 5"), keeps=False),
    *(right(f"{text!r}", OTHER, post(f"Expect: {text}", "Content-Length: 5"), or_refused=[417])
      for text in ("x", "100", "continue", "200-ok", "100-continued", "100-continue;a=b",
                   "100-continue, x", "x, 100-continue", "100-continue, 100-continue", '"x"')),
    right("empty", "RFC 9110, 10.1.1: an empty list", post("Expect:", "Content-Length: 5"),
          or_refused=(400, 417)),
    right("twice", "RFC 9110, 5.3: in order, with a comma",
          post(CONTINUE, CONTINUE, "Content-Length: 5"), or_refused=(400, 417),
          environ={"HTTP_EXPECT": "100-continue, 100-continue"}),
]
