"""Field lines (RFC 9112, 5; RFC 9110, 5), and how they reach the environ (PEP 3333)."""

from cases import CONTROLS, NO_TOKEN, SMUGGLED, chunked, get, post, refused, request, valid

START = b"GET / HTTP/1.1\r\nHost: x\r\n"


def value(name, rule, *fields, **environ):
    return valid(name, rule, get(*fields), environ=environ)


def named(spelling, key):
    return valid(f"the name {spelling}", "RFC 9110, 5.1; RFC 3875, 4.1.18", get(f"{spelling}: v"),
                 environ={key: "v"})


def dropped(spelling, key, rule):
    return valid(f"{spelling} is dropped", rule, get(f"{spelling}: 5"), environ={key: None})


UNDERSCORE = "header_map=drop: X_A would become the key of X-A"
BLANK_BEFORE = "RFC 9112, 5.1: MUST be 400"
NO_FIELD = "RFC 9112, 5"
FOLDED = "RFC 9112, 5.2"
REPEATED = "RFC 9110, 5.3: in order, with a comma"

CASES = [
    # values
    value("a value", "RFC 9112, 5", "A: b", HTTP_A="b"),
    value("no blank behind the colon", "RFC 9112, 5", "A:b", HTTP_A="b"),
    value("blanks and tabs around a value", "RFC 9112, 5.1", "A: \t b  c \t ", HTTP_A="b  c"),
    value("blanks behind a value", "RFC 9112, 5.1", "A: b   ", HTTP_A="b"),
    value("a tab behind a value", "RFC 9112, 5.1", "A: b\t", HTTP_A="b"),
    value("a tab in a value", "RFC 9110, 5.5", "A: b\tc", HTTP_A="b\tc"),
    value("an empty value", "RFC 9110, 5.5", "A:", HTTP_A=""),
    value("a value of blanks", "RFC 9112, 5.1", "A: \t ", HTTP_A=""),
    value("a colon in a value", "RFC 9110, 5.5", "A: b:c", HTTP_A="b:c"),
    value("a value that begins with a colon", "RFC 9112, 5", "A::b", HTTP_A=":b"),
    value("quotes and commas", "RFC 9110, 5.5", 'A: "b, c", d', HTTP_A='"b, c", d'),
    value("every visible character", "RFC 9110, 5.5",
          "A: " + "".join(map(chr, range(33, 127))), HTTP_A="".join(map(chr, range(33, 127)))),
    value("every obs-text", "RFC 9110, 5.5", "A: a" + "".join(map(chr, range(128, 256))) + "z",
          HTTP_A="a" + "".join(map(chr, range(128, 256))) + "z"),
    value("obs-text at both ends", "RFC 9110, 5.5: 0x85 and 0xA0 are no OWS", "A: \xa0b\x85",
          HTTP_A="\xa0b\x85"),
    value("UTF-8", "PEP 3333, Unicode Issues", "A: \xc3\xa9", HTTP_A="\xc3\xa9"),
    value("a long value", "RFC 9110, 5.4", "A: " + "b" * 3000, HTTP_A="b" * 3000),
    refused("NUL in a value", "RFC 9110, 5.5: MUST reject or replace", get("A: b\0c")),
    refused("NUL as a value", "RFC 9110, 5.5", get("A: \0")),
    refused("lone CR in a value", "RFC 9112, 2.2", get("A: b\rc")),
    refused("lone CR at the end of a value", "RFC 9112, 2.2", get("A: b\r")),
    refused("lone CR before a value", "RFC 9112, 2.2", get("A:\rb")),
    refused("bare LF in a value", "RFC 9112, 2.2", get("A: b\nc")),
    refused("bare LF, and a field behind it", "RFC 9112, 2.2", get("A: b\nC: d")),
    refused("lone CR, and a field behind it", "RFC 9112, 2.2", get("A: b\rC: d")),
    *(valid(f"control character {c!a} in a value", "RFC 9110, 5.5: invalid, MAY be retained",
            get(f"A: b{c}c"), environ={"HTTP_A": f"b{c}c"}, or_refused=[400])
      for c in CONTROLS if c not in "\0\t\n\r"),
    *(valid(f"{c!a} at the end of a value", "RFC 9112, 5.1: not OWS, so not trimmed",
            get(f"A: b{c}"), environ={"HTTP_A": f"b{c}"}, or_refused=[400])
      for c in "\x0b\x0c\x1c"),

    # names
    named("X-A", "HTTP_X_A"),
    named("accept-LANGUAGE", "HTTP_ACCEPT_LANGUAGE"),
    named("x", "HTTP_X"),
    named("1", "HTTP_1"),
    named("-", "HTTP__"),
    named("A.B", "HTTP_A.B"),
    named("Content", "HTTP_CONTENT"),
    named("Content-Typeset", "HTTP_CONTENT_TYPESET"),
    named("HTTP-Host", "HTTP_HTTP_HOST"),
    named("Path-Info", "HTTP_PATH_INFO"),
    named("Request-Method", "HTTP_REQUEST_METHOD"),
    named("wsgi.url-scheme", "HTTP_WSGI.URL_SCHEME"),
    named("N" * 300, "HTTP_" + "N" * 300),
    valid("every character of a token in a name but the underscore", "RFC 9110, 5.6.2",
          get("!#$%&'*+-.^`|~09azAZ: 1"), environ={"HTTP_!#$%&'*+_.^`|~09AZAZ": "1"}),
    value("Content-Type has no prefix", "PEP 3333", "Content-Type: text/plain; charset=x",
          CONTENT_TYPE="text/plain; charset=x", HTTP_CONTENT_TYPE=None),
    valid("Content-Length has no prefix", "PEP 3333", post("Content-Length: 05"), method="POST",
          body=b"abcde", environ={"CONTENT_LENGTH": "05", "HTTP_CONTENT_LENGTH": None}),
    *(refused(f"{c} in a name", "RFC 9110, 5.1", get(f"A{c}B: c")) for c in NO_TOKEN),
    *(refused(f"{c} as a name", "RFC 9110, 5.1", get(f"{c}: c")) for c in '"(@=;,'),
    *(refused(f"control character {c!a} in a name", "RFC 9110, 5.1", get(f"A{c}B: c"))
      for c in CONTROLS),
    refused("obs-text in a name", "RFC 9110, 5.1", get("\xe9: b")),
    refused("a no-break space in a name", "RFC 9110, 5.1", get("A\xa0: b")),
    refused("0xFF at the end of a name", "RFC 9110, 5.1", get("A\xff: b")),
    refused("a blank in a name", "RFC 9110, 5.1", get("A B: c")),
    refused("no name", NO_FIELD, get(": b")),
    refused("a colon alone", NO_FIELD, get(":")),
    refused("no colon", NO_FIELD, get("A")),
    refused("no colon, two words", NO_FIELD, get("A b")),
    refused("no colon, first line", NO_FIELD, b"GET / HTTP/1.1\r\nA\r\nHost: x\r\n\r\n"),
    refused("an equals sign for a colon", NO_FIELD, get("A=b")),
    refused("a request line as a field", NO_FIELD, get("GET /smuggled HTTP/1.1")),

    # blanks where none may be
    refused("a blank before the colon", BLANK_BEFORE, get("A : b")),
    refused("a tab before the colon", BLANK_BEFORE, get("A\t: b")),
    refused("blanks before the colon", BLANK_BEFORE, get("A  : b")),
    refused("a blank before the colon of Content-Length", BLANK_BEFORE,
            post("Content-Length : 5", body=SMUGGLED)),
    refused("a blank before the colon of Transfer-Encoding", BLANK_BEFORE,
            post("Transfer-Encoding : chunked", body=chunked(SMUGGLED))),
    refused("a blank before the first field", "RFC 9112, 2.2",
            b"GET / HTTP/1.1\r\n Host: x\r\n\r\n"),
    refused("a blank before the first field, Host behind it", "RFC 9112, 2.2",
            b"GET / HTTP/1.1\r\n A: b\r\nHost: x\r\n\r\n"),
    refused("a tab before the first field", "RFC 9112, 2.2",
            b"GET / HTTP/1.1\r\n\tA: b\r\nHost: x\r\n\r\n"),
    refused("a line of blanks before the first field", "RFC 9112, 2.2",
            b"GET / HTTP/1.1\r\n  \r\nHost: x\r\n\r\n"),
    refused("a line of blanks between fields", FOLDED, get("A: b", "  ", "C: d")),
    refused("a line of one tab at the end", FOLDED, get("A: b", "\t")),
    refused("folded with a blank", FOLDED, get("A: b", " c")),
    refused("folded with a tab", FOLDED, get("A: b", "\tc")),
    refused("folded, the first line empty", FOLDED, get("A:", " b")),
    refused("folded into what looks like a field", FOLDED, get("A: b", " C: d")),
    refused("folded Content-Length", FOLDED, post("Content-Length:", " 5", body=SMUGGLED)),

    # line ends
    refused("bare LF behind a field", "RFC 9112, 2.2", START + b"A: b\n\r\n"),
    refused("bare LF as the empty line", "RFC 9112, 2.2", START + b"\n"),
    refused("bare LF behind Host", "RFC 9112, 2.2", b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n"),
    refused("LF LF", "RFC 9112, 2.2", START + b"A: b\n\n"),
    refused("LF CR LF", "RFC 9112, 2.2", b"GET / HTTP/1.1\r\nHost: x\n\r\n"),
    refused("CR CR LF as the empty line", "RFC 9112, 2.2", START + b"\r\r\n"),
    refused("CR CR", "RFC 9112, 2.2", START + b"\r\r"),
    refused("an empty line that begins with CR", "RFC 9112, 2.2", START + b"\rA: b\r\n\r\n"),

    # repeated fields
    value("twice", REPEATED, "A: 1", "A: 2", HTTP_A="1, 2"),
    value("twice, in other letters", REPEATED, "A-b: 1", "a-B: 2", HTTP_A_B="1, 2"),
    value("twice, others between", REPEATED, "A: 1", "B: x", "A: 2", HTTP_A="1, 2", HTTP_B="x"),
    value("three times", REPEATED, "A: 3", "A: 1", "A: 2", HTTP_A="3, 1, 2"),
    value("twice, one a list", REPEATED, "A: 1", "A: 2, 3", HTTP_A="1, 2, 3"),
    value("twice the same", REPEATED, "A: 1", "A: 1", HTTP_A="1, 1"),
    value("twice, of a name never seen", REPEATED, "Zyx-" + "w" * 80 + ": 1",
          "Zyx-" + "w" * 80 + ": 2", **{"HTTP_ZYX_" + "W" * 80: "1, 2"}),
    value("Cookie twice", "RFC 6265, 5.4; RFC 9113, 8.2.3", "Cookie: a=1", "Cookie: b=2",
          HTTP_COOKIE="a=1; b=2"),
    value("Cookie three times", "RFC 6265, 5.4", "Cookie: a=1", "cookie: b=2; c=3", "Cookie: d=4",
          HTTP_COOKIE="a=1; b=2; c=3; d=4"),
    value("Accept twice", REPEATED, "Accept: a/b", "Accept: c/d;q=0",
          HTTP_ACCEPT="a/b, c/d;q=0"),
    value("Via twice", REPEATED, "Via: 1.1 a", "Via: 1.0 b", HTTP_VIA="1.1 a, 1.0 b"),
    *(refused(f"Content-Type twice, {what}", "RFC 9110, 5.3: a singleton",
              post("Content-Length: 5", "Content-Type: text/plain", f"Content-Type: {other}"))
      for what, other in (("different", "text/html"), ("the same", "text/plain"), ("empty", ""))),
    refused("Content-Type twice, in other letters", "RFC 9110, 5.3",
            get("Content-Type: a/b", "content-type: c/d")),

    # names that would become other fields' keys
    dropped("X_A", "HTTP_X_A", UNDERSCORE),
    dropped("x_a", "HTTP_X_A", UNDERSCORE),
    dropped("X-A_B", "HTTP_X_A_B", UNDERSCORE),
    dropped("_", "HTTP__", UNDERSCORE),
    dropped("Content_Type", "CONTENT_TYPE", UNDERSCORE),
    dropped("Proxy", "HTTP_PROXY", "CVE-2016-5385 (httpoxy)"),
    dropped("PROXY", "HTTP_PROXY", "CVE-2016-5385 (httpoxy)"),
    dropped("pRoXy", "HTTP_PROXY", "CVE-2016-5385 (httpoxy)"),
    value("Proxy-Authorization is not Proxy", "RFC 9110, 11.7.2", "Proxy-Authorization: Basic eA==",
          HTTP_PROXY=None, HTTP_PROXY_AUTHORIZATION="Basic eA=="),
    value("X_A beside X-A", UNDERSCORE, "X_A: bad", "X-A: good", "X_A: bad", HTTP_X_A="good"),
    value("Host_ beside Host", UNDERSCORE, "Host_: y", HTTP_HOST="x"),
    valid("Content_Length frames nothing", UNDERSCORE, get("Content_Length: 5"),
          environ={"HTTP_CONTENT_LENGTH": None}),
    valid("Content_Length beside Content-Length", UNDERSCORE,
          post("Content_Length: 1", "Content-Length: 5"), method="POST", body=b"abcde",
          environ={"CONTENT_LENGTH": "5"}),
    valid("Transfer_Encoding frames nothing", UNDERSCORE,
          post("Transfer_Encoding: chunked", "Content-Length: 5", body=b"0\r\n\r\n"),
          method="POST", body=b"0\r\n\r\n", environ={"HTTP_TRANSFER_ENCODING": None}),

    # fields with a meaning elsewhere go through as they are
    *(value(f"{name} goes through", "PEP 3333", f"{name}: {text}",
            **{"HTTP_" + name.upper().replace("-", "_"): text}) for name, text in (
        ("Range", "bytes=0-1,5-"), ("If-None-Match", '"a", W/"b"'), ("TE", "trailers, deflate"),
        ("Trailer", "A"), ("Max-Forwards", "0"), ("Keep-Alive", "timeout=5"),
        ("Content-Encoding", "gzip"), ("Authorization", "Basic eDp5"), ("Via", "1.1 a"),
        ("Date", "yesterday"), ("From", "nobody"), ("X-Real-IP", "nonsense"))),
    valid("no field at all, on HTTP/1.0", "RFC 9112, 2.1",
          request("GET", "/", host=None, version="1.0"), keeps=False),
]
