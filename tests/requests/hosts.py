"""Host: exactly one on HTTP/1.1, and it must be a host with or without a port (RFC 9112, 3.2)."""

from cases import CONTROLS, get, refused, request, valid


def host(text, **how):
    return valid(repr(text), "RFC 9110, 7.2", get(host=text), environ={"HTTP_HOST": text}, **how)


RIGHT = ["a.b-c", "a.b.", "X.Example.COM", "localhost", "127.0.0.1", "999.1.1.1", "1", "a_b",
         "[::1]", "[::]", "[2001:db8::1]", "[2001:DB8:0:0:8:800:200C:417A]", "[::ffff:192.0.2.1]",
         "[1:2:3:4:5:6:7:8]", "xn--bcher-kva.example", "a%20b", "%41", "a!$&'()*+;=", "-", "~", ".",
         "a..b"]
WRONG = ["a b", "a/b", "a/", "/", "http://a", "a?b", "a#b", "a\\b", "u@a", "u:p@a", "@a",
         "a, b", "a[b]", "a<b", 'a"b', "a^b", "a`b", "a{b}", "a|b", "a%zz", "a%", "a%4", "\xe9",
         "b\xfccher", "[::1", "::1", "::1]", "[::1]x", "x[::1]", "[[::1]]", "[]", "[:]", "[1]",
         "[1:2:3]", "[::g]", "[::1::2]", "[1:2:3:4:5:6:7:8:9]", "[12345::]", "[:::]",
         "[::1.2.3]", "[::1.2.3.256]", "[1.2.3.4]", "[x]", "[::1 ]", "[v]", "[v1]", "[v1.]",
         "[vx.a]", "a:b", "a:8o", "a:-1", "a:+80", "a:80:80", "a: 80", "a :80", "a:80 b", "a:80/",
         "a:0x50", "[::1]:a", "[::1]80", "[::1]:80:80", "a:\xb2"]

CASES = [
    *(host(text) for text in RIGHT),
    *(host(f"{text}:8000") for text in ("x", "a.b-c", "127.0.0.1", "[::1]", "[2001:db8::1]")),
    host("a:"),                                 # port is *DIGIT
    host("a:00080"),
    host("a:0"),
    host("a:65536", or_refused=[400]),
    host("a:123456789012345678901", or_refused=[400]),
    host("a,b", or_refused=[400]),              # a comma may be in a reg-name, and is in lists
    host("[v1.x:y]", or_refused=[400]),         # IPvFuture
    host(":80", or_refused=[400]),
    host("[fe80::1%25eth0]", or_refused=[400]),  # RFC 6874, of which RFC 3986 knows nothing
    valid("empty", "RFC 9112, 3.2: sent when the target has no authority", get(host=""),
          environ={"HTTP_HOST": ""}, or_refused=[400]),
    valid("no blank before it", "RFC 9112, 5", b"GET / HTTP/1.1\r\nHost:x\r\n\r\n",
          environ={"HTTP_HOST": "x"}),
    valid("blanks and tabs around it", "RFC 9112, 5",
          b"GET /a HTTP/1.1\r\nHost: \t x \t \r\n\r\n", path="/a", environ={"HTTP_HOST": "x"}),
    valid("its name in odd case", "RFC 9110, 5.1", b"GET /a HTTP/1.1\r\nhOsT: x\r\n\r\n",
          path="/a", environ={"HTTP_HOST": "x"}),
    valid("the last field", "RFC 9110, 5.3",
          b"GET / HTTP/1.1\r\nA: b\r\nHost: x\r\n\r\n", environ={"HTTP_HOST": "x", "HTTP_A": "b"}),
    valid("on HTTP/1.0", "RFC 9112, 3.2", get(version="1.0"), keeps=False,
          environ={"HTTP_HOST": "x"}),

    *(refused(f"{text!a} is not one", "RFC 9112, 3.2: MUST be 400", get(host=text))
      for text in WRONG),
    *(refused(f"control character {c!a} in it", "RFC 9112, 3.2", get(host=f"a{c}b"))
      for c in CONTROLS),
    refused("none", "RFC 9112, 3.2: MUST be 400", get(host=None)),
    refused("none, but other fields", "RFC 9112, 3.2", get("A: b", host=None)),
    refused("none, with a body", "RFC 9112, 3.2", request("POST", "/", host=None, body=b"abc")),
    refused("none but X-Forwarded-Host", "RFC 9112, 3.2",
            get("X-Forwarded-Host: x", host=None)),
    refused("none but Host_", "RFC 9112, 3.2", get("Host_: x", host=None)),
    refused("two", "RFC 9112, 3.2: MUST be 400", get("Host: y")),
    refused("two that agree", "RFC 9112, 3.2", get("Host: x")),
    refused("two, one in capitals", "RFC 9112, 3.2", get("HOST: y")),
    refused("two, other fields between", "RFC 9112, 3.2", get("A: b", "C: d", "Host: y")),
    refused("two, the second empty", "RFC 9112, 3.2", get("Host:")),
    refused("two, the first empty", "RFC 9112, 3.2", get("Host: x", host="")),
    refused("three", "RFC 9112, 3.2", get("Host: x", "Host: x")),
    refused("two on HTTP/1.0", "RFC 9112, 3.2", get("Host: y", version="1.0")),
    refused("an invalid one on HTTP/1.0", "RFC 9112, 3.2", get(host="a b", version="1.0")),
    refused("folded", "RFC 9112, 5.2", b"GET / HTTP/1.1\r\nHost:\r\n x\r\n\r\n"),
    refused("blank before the colon", "RFC 9112, 5.1", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n"),
]
