"""Methods (RFC 9110, 9): any token is one.  What is none is refused; none is met with silence."""

from cases import CONTROLS, NO_TOKEN, SMUGGLED, chunked, refused, request, valid

# GET, HEAD, POST and whatever else the IANA registry names but CONNECT, which is for proxies.
REGISTERED = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "ACL",
    "BASELINE-CONTROL", "BIND", "CHECKIN", "CHECKOUT", "COPY", "LABEL", "LINK", "LOCK", "MERGE",
    "MKACTIVITY", "MKCALENDAR", "MKCOL", "MKREDIRECTREF", "MKWORKSPACE", "MOVE", "ORDERPATCH",
    "PROPFIND", "PROPPATCH", "QUERY", "REBIND", "REPORT", "SEARCH", "UNBIND", "UNCHECKOUT",
    "UNLINK", "UNLOCK", "UPDATE", "UPDATEREDIRECTREF", "VERSION-CONTROL",
]
NEEDED = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}
WITH_BODY = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "REPORT"]
UNKNOWN = ["PRI", "DESCRIBE", "SETUP", "PLAY", "ANNOUNCE", "FLUSH", "SOURCE", "M-SEARCH",
           "NOTIFY", "SUBSCRIBE", "CONNEC", "CONNECTED", "connect", "FROB", "GETTY", "GE", "G",
           "get", "Get", "post", "POSTS", "XGET", "G3T", "HTTP", "_", "GET-IT",
           "!#$%&'*+-.^_`|~", "A" * 60]
NONE = ["\xe9", "GET\xe9", "G\x80T", "GET:", "GE:T"]


CASES = [
    *(valid(method, "RFC 9110, 9.3 and 16.1", request(method, "/m"), method=method, path="/m",
            or_refused=() if method in NEEDED else (405, 501)) for method in REGISTERED),
    *(valid(f"{method} with a body", "RFC 9112, 6: framing is independent of the method",
            request(method, "/", body=SMUGGLED), method=method, body=SMUGGLED)
      for method in WITH_BODY),
    *(valid(f"{method} with a chunked body", "RFC 9112, 6",
            request(method, "/", "Transfer-Encoding: chunked", body=chunked(SMUGGLED)),
            method=method, body=SMUGGLED, environ={"CONTENT_LENGTH": str(len(SMUGGLED))})
      for method in WITH_BODY),
    valid("POST without a length has no body", "RFC 9112, 6.3", request("POST"), method="POST",
          or_refused=[411]),
    *(valid(f"unknown: {method}", "RFC 9110, 9.1: SHOULD be 501", request(method, "/u"),
            method=method, path="/u", or_refused=(405, 501)) for method in UNKNOWN),
    valid("unknown, with a body", "RFC 9110, 9.1", request("FROB", "/", body=SMUGGLED),
          method="FROB", body=SMUGGLED, or_refused=(405, 501)),
    valid("unknown, with a chunked body", "RFC 9110, 9.1",
          request("FROB", "/", "Transfer-Encoding: chunked", body=chunked(SMUGGLED)),
          method="FROB", body=SMUGGLED, or_refused=(405, 501)),
    valid("unknown, and close", "RFC 9110, 9.1", request("FROB", "/", "Connection: close"),
          method="FROB", keeps=False, or_refused=(405, 501)),
    *(refused(f"no token: {method!a}", "RFC 9110, 5.6.2", request(method)) for method in NONE),
    *(refused(f"no token: {c!r} in it", "RFC 9110, 5.6.2", request(f"GE{c}T")) for c in NO_TOKEN),
    *(refused(f"no token: begins with {c!r}", "RFC 9110, 5.6.2", request(f"{c}GET"))
      for c in '"({<@'),
    *(refused(f"control character {c!a} in it", "RFC 9110, 5.6.2", request(f"GE{c}T"))
      for c in CONTROLS),

    # CONNECT asks for a tunnel; what follows it is not HTTP any more for whoever grants it.
    refused("CONNECT", "RFC 9110, 9.3.6", request("CONNECT", "x:443", host="x:443"), 405, 501),
    refused("CONNECT with a body", "RFC 9110, 9.3.6",
            request("CONNECT", "x:443", host="x:443", body=SMUGGLED), 405, 501),
    refused("CONNECT with a chunked body", "RFC 9110, 9.3.6",
            request("CONNECT", "x:443", "Transfer-Encoding: chunked", body=chunked(SMUGGLED)),
            405, 501),
    refused("CONNECT with Upgrade", "RFC 9110, 9.3.6",
            request("CONNECT", "x:443", "Connection: Upgrade", "Upgrade: websocket"), 405, 501),
    refused("CONNECT on HTTP/1.0", "RFC 9110, 9.3.6",
            request("CONNECT", "x:443", version="1.0"), 405, 501),
    refused("CONNECT to IPv6", "RFC 9110, 9.3.6", request("CONNECT", "[::1]:443"), 405, 501),
    *(refused(f"CONNECT with the target {target}", "RFC 9110, 9.3.6: MUST reject",
              request("CONNECT", target), 400, 405, 501)
      for target in ("x", "x:", ":443", "x:y", "/", "http://x/", "*", "x:99999")),
]
