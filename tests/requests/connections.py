"""Which requests end their connection (RFC 9112, 9.3 and 9.6; RFC 9110, 7.6.1).

The whole truth table is in core/test_keepalive.py.
"""

from cases import chunked, get, post, post_chunked, valid

CASES = [
    *(valid(f"1.1, Connection: {text!r}", "RFC 9112, 9.3", get(f"Connection: {text}"))
      for text in ("keep-alive", "Keep-Alive", "x", "", ",", "TE", "closed", "not-close", "clos e",
                   '"close"', "close;a=b", "close=1", "Upgrade", "keep-alive, x")),
    *(valid(f"1.1, Connection: {text!r}", "RFC 9112, 9.6", get(f"Connection: {text}"), keeps=False)
      for text in ("close", "Close", "CLOSE", "x, close", "close, x", "x,close,y", ",close",
                   " ,\t close\t ,", "close, keep-alive", "keep-alive, close")),
    valid("1.1, close in the second of two", "RFC 9110, 5.3",
          get("Connection: keep-alive", "Connection: close"), keeps=False),
    valid("1.1, close in the first of two", "RFC 9110, 5.3",
          get("Connection: close", "connection: x"), keeps=False),
    valid("1.1, close and a body", "RFC 9112, 9.6",
          post("Connection: close", "Content-Length: 5"), method="POST", body=b"abcde",
          keeps=False),
    valid("1.1, close and a chunked body", "RFC 9112, 9.6",
          post_chunked(chunked(b"abcde"), "Connection: close"), method="POST", body=b"abcde",
          keeps=False),
    valid("1.1, Proxy-Connection is another field", "RFC 9112, C.2.2",
          get("Proxy-Connection: close")),
    valid("1.1, Keep-Alive is another field", "RFC 9112, 9.3", get("Keep-Alive: timeout=0, max=0")),
    *(valid(f"1.0, Connection: {text!r}", "RFC 9112, 9.3",
            get(f"Connection: {text}", version="1.0"), keeps=keeps)
      for text, keeps in (("keep-alive", True), ("Keep-Alive", True), ("x, keep-alive", True),
                          ("keep-alive, x", True), ("close", False), ("x", False), ("", False),
                          ("keep-alive, close", False), ("keep-alives", False))),
    valid("1.0, Keep-Alive alone", "RFC 9112, C.2.2", get("Keep-Alive: timeout=5", version="1.0"),
          keeps=False),
    valid("1.0, Proxy-Connection", "RFC 9112, C.2.2",
          get("Proxy-Connection: keep-alive", version="1.0"), keeps=False),
    valid("1.0, keep-alive and a body", "RFC 9112, 9.3",
          post("Connection: keep-alive", "Content-Length: 5", version="1.0"), method="POST",
          body=b"abcde"),
    valid("the options are not the server's to remove", "RFC 9110, 7.6.1: for intermediaries",
          get("Connection: A", "A: b"), environ={"HTTP_A": "b", "HTTP_CONNECTION": "A"}),
]
