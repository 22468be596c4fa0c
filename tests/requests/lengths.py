"""Content-Length (RFC 9110, 8.6; RFC 9112, 6.2 and 6.3)."""

from cases import get, post, refused, request, valid

DIGITS = "RFC 9110, 8.6: 1*DIGIT"


def right(name, rule, raw, body, **how):
    return valid(name, rule, raw, method="POST", body=body, **how)


CASES = [
    right("a body", "RFC 9112, 6.2", request("POST", body=b"abcde"), b"abcde",
          environ={"CONTENT_LENGTH": "5"}),
    right("0", "RFC 9112, 6.2", post("Content-Length: 0", body=b""), b""),
    right("1", "RFC 9112, 6.2", request("POST", body=b"b"), b"b"),
    right("leading zeros", DIGITS, post("Content-Length: 0005"), b"abcde"),
    right("only zeros", DIGITS, post("Content-Length: 000", body=b""), b""),
    right("a hundred leading zeros", DIGITS, post("Content-Length: " + "0" * 100 + "5"), b"abcde"),
    right("no blank before it", "RFC 9112, 5", post("Content-Length:5"), b"abcde"),
    right("blanks and tabs around it", "RFC 9112, 5", post("Content-Length: \t5 \t"), b"abcde"),
    right("its name in small letters", "RFC 9110, 5.1", post("content-length: 5"), b"abcde"),
    right("its name in capitals", "RFC 9110, 5.1", post("CONTENT-LENGTH: 5"), b"abcde"),
    right("its name in odd letters", "RFC 9110, 5.1", post("cOnTeNt-LeNgTh: 5"), b"abcde"),
    right("before Host", "RFC 9110, 5.3",
          b"POST / HTTP/1.1\r\nContent-Length: 5\r\nHost: x\r\n\r\nabcde", b"abcde"),
    right("the body looks like chunks", "RFC 9112, 6.2",
          request("POST", body=b"5\r\nabcde\r\n0\r\n\r\n"), b"5\r\nabcde\r\n0\r\n\r\n"),
    right("the body is the end of a head", "RFC 9112, 6.2", request("POST", body=b"\r\n\r\n"),
          b"\r\n\r\n"),
    right("the body is every byte", "RFC 9112, 6.2", request("POST", body=bytes(range(256))),
          bytes(range(256))),
    right("the body goes to a file", "RFC 9112, 6.2", request("POST", body=bytes(range(256)) * 8),
          bytes(range(256)) * 8),
    right("an empty line behind the body", "RFC 9112, 2.2", request("POST", body=b"b") + b"\r\n",
          b"b"),
    valid("the body of a GET", "RFC 9110, 9.3.1", request("GET", "/a", body=b"b"), path="/a",
          body=b"b"),
    valid("0 on a GET", "RFC 9112, 6.2", get("Content-Length: 0")),
    valid("of another field", "RFC 9110, 8.6", get("X-Content-Length: 5"),
          environ={"HTTP_X_CONTENT_LENGTH": "5"}),

    refused("twice, the same", "RFC 9112, 6.3: invalid", post("Content-Length: 5",
                                                              "Content-Length: 5")),
    refused("twice, different", "RFC 9112, 6.3: MUST be 400",
            post("Content-Length: 5", "Content-Length: 0")),
    refused("twice, the larger one second", "RFC 9112, 6.3: MUST be 400",
            post("Content-Length: 0", "Content-Length: 5")),
    refused("twice, in other letters", "RFC 9112, 6.3: MUST be 400",
            post("Content-Length: 0", "CONTENT-LENGTH: 5")),
    refused("twice, others between", "RFC 9112, 6.3",
            post("Content-Length: 0", "A: b", "Content-Length: 5")),
    refused("twice, one with zeros", "RFC 9112, 6.3",
            post("Content-Length: 5", "Content-Length: 05")),
    refused("twice, the second empty", "RFC 9112, 6.3",
            post("Content-Length: 5", "Content-Length:")),
    refused("twice, one invalid", "RFC 9112, 6.3",
            post("Content-Length: 5", "Content-Length: x")),
    refused("three times", "RFC 9112, 6.3", post(*["Content-Length: 5"] * 3)),
    refused("twice on HTTP/1.0", "RFC 9112, 6.3",
            post("Content-Length: 5", "Content-Length: 0", version="1.0")),
    refused("a list of the same", "RFC 9112, 6.3: invalid unless one is chosen",
            post("Content-Length: 5, 5")),
    refused("a list of different ones", "RFC 9112, 6.3: MUST be 400", post("Content-Length: 5, 0")),
    *(refused(f"{text!a}", DIGITS + "; RFC 9112, 6.3: MUST be 400", post(f"Content-Length: {text}"))
      for text in ("", "+5", "-5", "-0", "+0", "--5", "0x5", "0X5", "x5", "5x", "5h", "0o5", "0b1",
                   "5 0", "5\t0", "5 5", "5,", ",5", "5,,5", "5;", "5;a=b", "5.0", "5.", ".5",
                   "5e0", "5E0", "1_0", "1'0", "five", "'5'", '"5"', "(5)", "5 ; a", "=5", ":5",
                   "5:", "5/1", "5*", "*", "\xb5", "\xb2", "5\xb2", "\xa05", "5\xa0", "\x855",
                   "\xd9\xa5", "nan", "inf", "true", "5 bytes", "%35", "\\5", "$5", "5\\r\\n")),
    *(refused(f"control character {c!a} {where}", DIGITS, post(f"Content-Length: {text}"))
      for c in "\0\x01\x0b\x0c\x1f\x7f"
      for where, text in (("before it", f"{c}5"), ("behind it", f"5{c}"))),
    *(refused(f"huge: {what}", "RFC 9110, 8.6: MUST anticipate overflow",
              post(f"Content-Length: {number}"), 400, 413)
      for what, number in (
          ("2^31", 2**31), ("2^32 + 5", 2**32 + 5), ("2^53 + 5", 2**53 + 5),
          ("2^63 - 1", 2**63 - 1), ("2^63", 2**63), ("2^63 + 5", 2**63 + 5),
          ("2^64 - 1", 2**64 - 1), ("2^64", 2**64),
          ("2^64 + 5", 2**64 + 5), ("2^65 + 5", 2**65 + 5), ("2^128 + 5", 2**128 + 5),
          ("a thousand digits", "9" * 1000), ("1 and a hundred zeros", 10**100))),
    refused("of an unwanted size in HTTP/1.0", "RFC 9110, 8.6",
            post("Content-Length: 5x", version="1.0")),
    refused("invalid on a GET", "RFC 9112, 6.3", get("Content-Length: x")),
    refused("negative on a GET", "RFC 9112, 6.3", get("Content-Length: -1")),
]
