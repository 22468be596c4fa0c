"""The request target in its four forms (RFC 9112, 3.2), and what becomes of it (PEP 3333)."""

from cases import CONTROLS, refused, request, valid


def raw_uri(target):
    return {"RAW_URI": target, "REQUEST_URI": target, "SCRIPT_NAME": ""}


def origin(name, rule, target, path, query="", **how):
    return valid(name, rule, request("GET", target), path=path, query=query,
                 environ=raw_uri(target), **how)


def absolute(name, target, path, query="", *, host="inner", **how):
    return valid(f"absolute: {name}", "RFC 9112, 3.2.2", request("GET", target, host="outer"),
                 path=path, query=query, environ={**raw_uri(target), "HTTP_HOST": host}, **how)


ODD = '"<>\\^`{|}[]'          # printable, but in no URI (RFC 3986, 2); browsers do send some
DECODED = "RFC 3986, 2.1; PEP 3333: decoded once"
AS_IT_IS = "RFC 3986, 3.3"

CASES = [
    # origin-form
    origin("origin", "RFC 9112, 3.2.1", "/a?b", "/a", "b"),
    origin("root", "RFC 9112, 3.2.1", "/", "/"),
    origin("empty query", "RFC 9112, 3.2.1", "/?", "/"),
    origin("second question mark", "RFC 3986, 3.4", "/a?b?c", "/a", "b?c"),
    origin("slash in the query", "RFC 3986, 3.4", "/a?b/c", "/a", "b/c"),
    origin("URI in the query", "RFC 3986, 3.4", "/a?http://x/y", "/a", "http://x/y"),
    origin("the query is not decoded", "PEP 3333", "/a?b=%20+%2f%00%zz", "/a", "b=%20+%2f%00%zz",
           or_refused=[400]),
    origin("every pchar", AS_IT_IS, "/a-._~!$&'()*+,;=:@Z9", "/a-._~!$&'()*+,;=:@Z9"),
    origin("every pchar in the query", "RFC 3986, 3.4", "/?a-._~!$&'()*+,;=:@Z9/?", "/",
           "a-._~!$&'()*+,;=:@Z9/?"),
    origin("parameters of a segment", AS_IT_IS, "/a;b=c/d", "/a;b=c/d"),
    origin("empty segments", AS_IT_IS, "/a//b/", "/a//b/"),
    origin("two slashes are no authority", "RFC 9112, 3.2.1", "//h/b", "//h/b"),
    origin("three slashes", AS_IT_IS, "///", "///"),
    origin("dot segments stay", "RFC 9112, 3.2.1", "/a/../b/./c", "/a/../b/./c"),
    origin("dot segments over the root stay", "RFC 9112, 3.2.1", "/../..", "/../.."),
    origin("a URI as a path", AS_IT_IS, "/http://y/", "/http://y/"),
    origin("colon and at sign", AS_IT_IS, "/a:b@c", "/a:b@c"),
    origin("asterisk in a path", AS_IT_IS, "/*", "/*"),
    # percent-encoding
    origin("blank", DECODED, "/a%20b", "/a b"),
    origin("plus is no blank", DECODED, "/a+b", "/a+b"),
    origin("slash, both cases", DECODED, "/a%2Fb%2fc", "/a/b/c"),
    origin("encoded once only", DECODED, "/%25%32%30", "/%20"),
    origin("percent sign", DECODED, "/%2541", "/%41"),
    origin("question mark", DECODED, "/%3F?x", "/?", "x"),
    origin("number sign", DECODED, "/%23", "/#"),
    origin("unreserved letters", DECODED, "/%41%7e", "/A~"),
    origin("dots", DECODED, "/%2e%2E/a", "/../a"),
    origin("UTF-8", "PEP 3333, Unicode Issues", "/%C3%A9%e2%82%ac", "/\xc3\xa9\xe2\x82\xac"),
    origin("no UTF-8", "PEP 3333, Unicode Issues", "/%ff", "/\xff"),
    origin("line end", DECODED, "/%0d%0aX:%20y", "/\r\nX: y", or_refused=[400]),
    origin("NUL", DECODED, "/a%00b", "/a\0b", or_refused=[400]),
    *(origin(f"broken escape {target}", "RFC 3986, 2.1", target, path, or_refused=[400])
      for target, path in (("/%", "/%"), ("/%4", "/%4"), ("/%zz", "/%zz"), ("/a%4gb", "/a%4gb"),
                           ("/%%20", "/% "), ("/%u20ac", "/%u20ac"), ("/%-1", "/%-1"),
                           ("/%0x41", "/%0x41"))),
    # what is in no URI
    *(origin(f"{c} in the path", "RFC 9112, 3: SHOULD be 400", f"/a{c}b", f"/a{c}b",
             or_refused=[400]) for c in ODD),
    *(origin(f"{c} in the query", "RFC 9112, 3: SHOULD be 400", f"/?a{c}b", "/", f"a{c}b",
             or_refused=[400]) for c in ODD),
    *(refused(f"control character {c!a} in the path", "RFC 9112, 3.2",
              request("GET", f"/a{c}b")) for c in CONTROLS),
    *(refused(f"control character {c!a} in the query", "RFC 9112, 3.2",
              request("GET", f"/?a{c}b")) for c in "\0\t\n\r\x1b\x7f"),
    refused("UTF-8 as it is", "RFC 3986, 2", request("GET", "/\xc3\xa9")),
    refused("UTF-8 as it is in the query", "RFC 3986, 2", request("GET", "/?\xc3\xa9")),
    refused("a byte above ASCII", "RFC 3986, 2", request("GET", "/\x80")),
    refused("0xFF", "RFC 3986, 2", request("GET", "/\xff")),
    refused("fragment", "RFC 9112, 3.2: no form has one", request("GET", "/a#b")),
    refused("fragment behind the query", "RFC 9112, 3.2", request("GET", "/a?b#c")),
    refused("empty fragment", "RFC 9112, 3.2", request("GET", "/#")),
    refused("fragment alone", "RFC 9112, 3.2", request("GET", "#a")),
    refused("fragment of an absolute URI", "RFC 9112, 3.2.2", request("GET", "http://x/#a")),
    refused("fragment behind the authority", "RFC 9112, 3.2.2", request("GET", "http://x#a")),

    # absolute-form: its authority takes the place of Host
    absolute("with a path", "http://inner/a?b", "/a", "b"),
    absolute("with a port", "http://inner:82/a", "/a", host="inner:82"),
    absolute("with an empty port", "http://inner:/a", "/a", host="inner:"),
    absolute("IPv4", "http://127.0.0.1/a", "/a", host="127.0.0.1"),
    absolute("IPv6", "http://[::1]:82/a", "/a", host="[::1]:82"),
    absolute("without a path", "http://inner", "/"),
    absolute("without a path, with a query", "http://inner?q", "/", "q"),
    absolute("with an empty query", "http://inner/?", "/"),
    absolute("the query has a slash and a question mark", "http://inner?a/b?c", "/", "a/b?c"),
    absolute("two slashes", "http://inner//a", "//a"),
    absolute("escapes", "http://inner/a%20b?%20", "/a b", "%20"),
    absolute("the scheme in capitals", "HTTP://inner/a", "/a"),
    absolute("a URI in its path", "http://inner/http://y/z", "/http://y/z"),
    absolute("of the same host", "http://outer/a", "/a", host="outer"),
    valid("absolute: on HTTP/1.0 without Host", "RFC 9112, 3.2.2",
          request("GET", "http://inner/a", host=None, version="1.0"), path="/a", keeps=False,
          environ={"HTTP_HOST": "inner"}),
    valid("absolute: OPTIONS without a path", "RFC 9112, 3.2.4",
          request("OPTIONS", "http://x:81"), method="OPTIONS",
          environ={"PATH_INFO": "/", "HTTP_HOST": "x:81"}),
    refused("absolute: without Host", "RFC 9112, 3.2", request("GET", "http://x/", host=None)),
    refused("absolute: with two Hosts", "RFC 9112, 3.2", request("GET", "http://x/", "Host: y")),
    refused("absolute: with an invalid Host", "RFC 9112, 3.2",
            request("GET", "http://x/", host="a b")),
    *(refused(f"absolute: {target}", rule, request("GET", target)) for target, rule in (
        ("http:///a", "RFC 9110, 4.2.1: an empty host MUST be rejected"),
        ("http://", "RFC 9110, 4.2.1: an empty host MUST be rejected"),
        ("http://?a", "RFC 9110, 4.2.1: an empty host MUST be rejected"),
        ("http://:80/a", "RFC 9110, 4.2.1: an empty host MUST be rejected"),
        ("http:", "RFC 9110, 4.2.1"),
        ("http:/", "RFC 9110, 4.2.1"),
        ("http:/a", "RFC 9110, 4.2.1"),
        ("http:a", "RFC 9110, 4.2.1"),
        ("http//x/", "RFC 9112, 3.2"),
        ("://x/", "RFC 3986, 3.1"),
        ("http ://x/", "RFC 9112, 3.2"),
        ("http://x y/", "RFC 9112, 3.2"),
        ("http://u@x/", "RFC 9110, 4.2.4: userinfo is an error"),
        ("http://u:p@x/", "RFC 9110, 4.2.4: userinfo is an error"),
        ("http://@x/", "RFC 9110, 4.2.4: userinfo is an error"),
        ("http://x:y/", "RFC 3986, 3.2.3"),
        ("http://x:-1/", "RFC 3986, 3.2.3"),
        ("http://x:80:80/", "RFC 3986, 3.2.3"),
        ("http://[::1/", "RFC 3986, 3.2.2"),
        ("http://::1/", "RFC 3986, 3.2.2"),
        ("http://[::1]x/", "RFC 3986, 3.2.2"),
        ("http://[]/", "RFC 3986, 3.2.2"),
        ("http://[::g]/", "RFC 3986, 3.2.2"),
        ("http://a[b]/", "RFC 3986, 3.2.2"),
        ("http://a%zz/", "RFC 3986, 2.1"),
        ("http://a%/", "RFC 3986, 2.1"),
        ("http://a\\b/", "RFC 3986, 3.2.2"),
        ("http://a<b/", "RFC 3986, 3.2.2"),
        ("http://\xe9/", "RFC 3986, 3.2.2"),
        ("http://a\0b/", "RFC 3986, 3.2.2"))),
    *(refused(f"absolute: {target}", "RFC 9110, 7.4: MUST be rejected, it came unsecured",
              request("GET", target), 400, 421) for target in ("https://x/", "HTTPS://x/a?b")),
    *(refused(f"absolute: {target}", "RFC 9110, 7.4: no such resource here",
              request("GET", target), 400, 421)
      for target in ("ftp://x/", "ws://x/", "file:///etc/passwd", "urn:a:b", "httpx://x/",
                     "gopher://x/", "javascript:alert(1)", "coap://x/")),

    # authority-form is for CONNECT
    *(refused(f"authority form: {method}", "RFC 9112, 3.2.3", request(method, "x:80"))
      for method in ("GET", "POST", "OPTIONS")),
    refused("authority form without a port", "RFC 9112, 3.2.3", request("GET", "x")),
    refused("authority form, IPv6", "RFC 9112, 3.2.3", request("GET", "[::1]:80")),

    # asterisk-form is for OPTIONS
    valid("asterisk: OPTIONS", "RFC 9112, 3.2.4", request("OPTIONS", "*"), method="OPTIONS",
          path="", environ={"RAW_URI": "*", "REQUEST_URI": "*"}),
    valid("asterisk: OPTIONS with a body", "RFC 9112, 3.2.4",
          request("OPTIONS", "*", body=b"abc"), method="OPTIONS", path="", body=b"abc"),
    valid("asterisk: OPTIONS on HTTP/1.0", "RFC 9112, 3.2.4",
          request("OPTIONS", "*", version="1.0"), method="OPTIONS", path="", keeps=False),
    *(refused(f"asterisk: {method}", "RFC 9112, 3.2.4", request(method, "*"))
      for method in ("GET", "POST", "PUT", "DELETE")),
    *(refused(f"asterisk: {target}", "RFC 9112, 3.2.4", request("OPTIONS", target))
      for target in ("**", "*a", "*/", "*?a", "a*")),

    # none of the four
    *(refused(f"neither: {target}", "RFC 9112, 3.2", request("GET", target))
      for target in ("a", "a/b", "./a", "../a", "?a", "?", ".", "~", "\\", "\\a", "%2Fa", ";a",
                     "@x/", "-", "@", ":80", "=", '"/"', "<a>", "+", "&a")),
    refused("a backslash before the slash", "RFC 9112, 3.2", request("GET", "\\/a")),
    refused("a blank before the slash", "RFC 9112, 3.2", request("GET", " /a")),
    valid("a long path", "RFC 9110, 4.1: at least 8000 octets are recommended; see limits.py",
          request("GET", "/" + "a" * 3000), path="/" + "a" * 3000),
    valid("a long query", "RFC 9110, 4.1", request("GET", "/?" + "a" * 3000), query="a" * 3000),
]
