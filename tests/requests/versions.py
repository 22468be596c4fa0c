"""HTTP-version (RFC 9112, 2.3), and what follows from 1.0."""

from cases import chunked, refused, request, valid


def line(version):
    return f"GET / {version}\r\nHost: x\r\n\r\n".encode("latin-1")


CASES = [
    valid("1.1", "RFC 9112, 2.3", request("GET", "/a"), path="/a",
          environ={"SERVER_PROTOCOL": "HTTP/1.1"}),
    valid("1.0", "RFC 9112, 2.3", request("GET", "/a", version="1.0"), path="/a", keeps=False,
          environ={"SERVER_PROTOCOL": "HTTP/1.0"}),
    valid("1.0 without Host", "RFC 9112, 3.2", request("GET", "/a", version="1.0", host=None),
          path="/a", keeps=False, environ={"HTTP_HOST": None}),
    valid("1.0 with a body", "RFC 9112, 6.2", request("POST", "/", version="1.0", body=b"abc"),
          method="POST", body=b"abc", keeps=False),
    valid("1.0 without a length has no body", "RFC 9112, 6.3", request("POST", version="1.0"),
          method="POST", keeps=False),
    refused("1.0 with Transfer-Encoding", "RFC 9112, 6.1",
            request("POST", "/", "Transfer-Encoding: chunked", body=chunked(b"b"), version="1.0")),
    *(refused(f"{version}", "RFC 9110, 15.6.6", line(version), 505)
      for version in ("HTTP/1.2", "HTTP/1.9", "HTTP/2.0", "HTTP/2.1", "HTTP/3.0", "HTTP/9.9",
                      "HTTP/0.0")),
    refused("HTTP/0.9", "RFC 9110, 15.6.6", line("HTTP/0.9"), 400, 505),
    refused("none: HTTP/0.9", "RFC 9112, 2.3", b"GET /\r\n"),
    refused("none, with a bare LF", "RFC 9112, 2.3", b"GET /\n"),
    refused("none, with a space", "RFC 9112, 2.3", b"GET / \r\n"),
    refused("none, with fields", "RFC 9112, 2.3", b"GET /\r\nHost: x\r\n\r\n"),
    *(refused(f"{version!r} is not a version", "RFC 9112, 2.3: HTTP-version, case-sensitive",
              line(version))
      for version in ("http/1.1", "Http/1.1", "hTTP/1.1", "HTTP/1.10", "HTTP/1.01", "HTTP/01.1",
                      "HTTP/11.1", "HTTP/11", "HTTP/1", "HTTP/1.", "HTTP/.1", "HTTP/", "HTTP",
                      "HTTP1.1", "HTTP /1.1", "HTTP/ 1.1", "HTTP/1 .1", "HTTP//1.1", "/1.1", "1.1",
                      "HTTP/1,1", "HTTP/1-1", "HTTP/1.1.1", "HTTP/-1.1", "HTTP/+1.1", "HTTP/1.-1",
                      "HTTP/1.x", "HTTP/x.1", "HTTP/1.1x", "HTTP/1.1;", "HTTP/1.1,", "HTTP/0x1.1",
                      "HTTP/\xb9.\xb9", "HTTP/1.1\0", "HTTP\\1.1", "HTTPS/1.1", "HTP/1.1",
                      "HTTP/2", "HTTP/3", "ICE/1.0", "RTSP/1.0", "SIP/2.0", "SHTTP/1.1",
                      "HTTP/999999999999999999999.1")),
]
