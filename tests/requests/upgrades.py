"""Upgrade: an offer that this server declines by answering (RFC 9110, 7.8).

llhttp ends such a message at its head, whatever its framing: what follows is the body.
"""

from cases import SMUGGLED, chunked, request, valid

# The fields of requests that would like to change the protocol.
OFFERS = {
    "h2c": ["Connection: Upgrade", "Upgrade: h2c"],
    "h2c as curl says it": ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c",
                            "HTTP2-Settings: AAMAAABkAAQ"],
    "websocket": ["Upgrade: websocket", "Connection: keep-alive, Upgrade",
                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"],
    "TLS and HTTP/2.0": ["Connection: upgrade", "Upgrade: TLS/1.0, HTTP/2.0"],
    "HTTP/1.1": ["Connection: upgrade", "Upgrade: HTTP/1.1"],
    "nothing": ["Connection: upgrade", "Upgrade:"],
    "rubbish": ["Connection: upgrade", "Upgrade: (,)/"],
    "h2c twice": ["Connection: upgrade", "Upgrade: h2c", "Upgrade: h2c"],
    "h2c without Connection": ["Upgrade: h2c"],
    "nothing but Connection: Upgrade": ["Connection: Upgrade"],
}
IGNORE = "RFC 9110, 7.8: a server MAY ignore it"


def framed(name, offer):
    """The request with this offer, without a body and with each sort of body."""
    return [
        valid(f"{name}: GET", IGNORE, request("GET", "/a", *offer), path="/a"),
        valid(f"{name}: POST without a body", IGNORE, request("POST", "/", *offer), method="POST"),
        valid(f"{name}: with a body", IGNORE, request("POST", "/", *offer, body=SMUGGLED),
              method="POST", body=SMUGGLED),
        valid(f"{name}: GET with a body", IGNORE, request("GET", "/", *offer, body=SMUGGLED),
              body=SMUGGLED),
        valid(f"{name}: with a chunked body", IGNORE,
              request("POST", "/", *offer, "Transfer-Encoding: chunked", body=chunked(SMUGGLED)),
              method="POST", body=SMUGGLED),
        valid(f"{name}: with a body of nothing", IGNORE,
              request("POST", "/", *offer, "Content-Length: 0"), method="POST"),
    ]


CASES = [
    *(case for name, offer in OFFERS.items() for case in framed(name, offer)),
    valid("reaches the environ", "PEP 3333", request("GET", "/", *OFFERS["h2c"]),
          environ={"HTTP_UPGRADE": "h2c", "HTTP_CONNECTION": "Upgrade"}),
    valid("HEAD", IGNORE, request("HEAD", "/", *OFFERS["h2c"]), method="HEAD"),
    valid("OPTIONS *", IGNORE, request("OPTIONS", "*", *OFFERS["h2c"]), method="OPTIONS", path=""),
    valid("on HTTP/1.0", "RFC 9110, 7.8: MUST ignore",
          request("GET", "/", *OFFERS["h2c"], version="1.0"), keeps=False),
    valid("on HTTP/1.0 with a body", "RFC 9110, 7.8: MUST ignore",
          request("POST", "/", *OFFERS["h2c"], version="1.0", body=SMUGGLED), method="POST",
          body=SMUGGLED, keeps=False),
    valid("and close", IGNORE, request("GET", "/", "Connection: Upgrade, close", "Upgrade: h2c"),
          keeps=False),
    valid("and close, with a body", IGNORE,
          request("POST", "/", "Connection: Upgrade, close", "Upgrade: h2c", body=SMUGGLED),
          method="POST", body=SMUGGLED, keeps=False),
    valid("and an expectation", "RFC 9110, 7.8: 100 first",
          request("POST", "/", *OFFERS["h2c"], "Expect: 100-continue", body=SMUGGLED),
          method="POST", body=SMUGGLED),
]
