"""Several requests in a row; the methods and framings vary."""

from cases import SMUGGLED, chunked, request

MIXED = [
    request("GET", "/0"),
    request("POST", "/1", body=SMUGGLED),
    request("HEAD", "/2"),
    request("PUT", "/3", "Transfer-Encoding: chunked", body=chunked(b"a" * 300, b"\r\n0\r\n\r\n")),
    request("GET", "/4", "Connection: keep-alive"),
    request("OPTIONS", "/5", "Content-Length: 0"),
    request("GET", "/6", "Connection: keep-alive", version="1.0"),
    request("DELETE", "/7", body=b"0\r\n\r\n"),
    request("GET", "/8"),
]
