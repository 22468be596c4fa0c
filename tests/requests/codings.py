"""Transfer-Encoding, alone and beside Content-Length (RFC 9112, 6.1 and 6.3)."""

from cases import SMUGGLED, chunked, get, post, post_chunked, refused, valid

BODY = chunked(b"abcde")
TRAP = chunked(SMUGGLED)
NOT_LAST = "RFC 9112, 6.3: chunked is not the final coding, MUST be 400"
NOT_KNOWN = "RFC 9112, 6.1: SHOULD be 501"
BOTH = "RFC 9112, 6.3: ought to be handled as an error"


def right(name, rule, raw, body=b"abcde", **how):
    return valid(name, rule, raw, method="POST", body=body, **how)


def coded(value, *fields, **how):
    return post(f"Transfer-Encoding: {value}", *fields, body=TRAP, **how)


CASES = [
    right("chunked", "RFC 9112, 7.1", post_chunked(BODY),
          environ={"CONTENT_LENGTH": "5", "HTTP_TRANSFER_ENCODING": None}),
    *(right(f"{name!a}", "RFC 9112, 7: case-insensitive; 5: OWS around it",
            post(f"Transfer-Encoding:{name}", body=BODY))
      for name in (" Chunked", " CHUNKED", " cHuNkEd", "chunked", " \t chunked", " chunked ",
                   " chunked\t", " chunked \t ")),
    right("its name in capitals", "RFC 9110, 5.1", post("TRANSFER-ENCODING: chunked", body=BODY)),
    right("its name in small letters", "RFC 9110, 5.1",
          post("transfer-encoding: chunked", body=BODY)),
    right("before Host", "RFC 9110, 5.3",
          b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: x\r\n\r\n" + BODY),
    *(right(f"{text!a}", "RFC 9110, 5.6.1.2: empty elements are ignored", coded(text),
            SMUGGLED, or_refused=(400, 501))
      for text in (",chunked", "chunked,", ", ,chunked", "chunked , ")),
    valid("TE is another field", "RFC 9110, 10.1.4", get("TE: chunked")),
    right("Content-Encoding is another field", "RFC 9110, 8.4",
          post("Content-Encoding: chunked", "Content-Length: 5")),
    right("X-Transfer-Encoding is another field", "RFC 9112, 6.1",
          post("X-Transfer-Encoding: chunked", "Content-Length: 5")),

    # with Content-Length
    refused("and Content-Length", BOTH, coded("chunked", "Content-Length: 5")),
    refused("behind Content-Length", BOTH,
            post("Content-Length: 5", "Transfer-Encoding: chunked", body=TRAP)),
    refused("and Content-Length: 0", BOTH, coded("chunked", "Content-Length: 0")),
    refused("and Content-Length of the whole", BOTH,
            coded("chunked", f"Content-Length: {len(TRAP)}")),
    refused("and an invalid Content-Length", BOTH, coded("chunked", "Content-Length: x")),
    refused("and an empty Content-Length", BOTH, coded("chunked", "Content-Length:")),
    refused("and Content-Length, others between", BOTH,
            coded("chunked", "A: b", "C: d", "Content-Length: 5")),
    refused("and Content-Length, in other letters", BOTH,
            post("tRANSFER-eNCODING: ChunkeD", "cONTENT-lENGTH: 5", body=TRAP)),
    refused("and Content-Length on a GET", BOTH,
            get("Content-Length: 5", "Transfer-Encoding: chunked") + TRAP),
    *(refused(f"{text} and Content-Length", BOTH, coded(text, "Content-Length: 5"), 400, 501)
      for text in ("identity", "gzip", "xchunked", "gzip, chunked", "chunked, gzip", '""', "")),

    # HTTP/1.0
    refused("on HTTP/1.0", "RFC 9112, 6.1: faulty framing", coded("chunked", version="1.0")),
    refused("on HTTP/1.0 with Content-Length", "RFC 9112, 6.1",
            coded("chunked", "Content-Length: 5", version="1.0")),
    refused("on HTTP/1.0 with keep-alive", "RFC 9112, 6.1",
            coded("chunked", "Connection: keep-alive", version="1.0")),
    refused("identity on HTTP/1.0", "RFC 9112, 6.1", coded("identity", version="1.0"), 400, 501),
    refused("empty on HTTP/1.0", "RFC 9112, 6.1", coded("", version="1.0"), 400, 501),

    # chunked must be last, and there once
    *(refused(f"{text}", NOT_LAST, coded(text)) for text in (
        "chunked, gzip", "chunked,gzip", "chunked, identity", "chunked, x", "gzip, chunked, gzip",
        "chunked, chunked, gzip", "CHUNKED, gzip")),
    *(refused(f"{text}", "RFC 9112, 6.1: chunked MUST NOT be applied twice", coded(text))
      for text in ("chunked, chunked", "chunked,chunked", "Chunked, chunked",
                   "chunked, gzip, chunked")),
    refused("two fields, both chunked", "RFC 9112, 6.1",
            coded("chunked", "Transfer-Encoding: chunked")),
    *(refused(f"two fields, {first} and {second}", "RFC 9112, 6.1 and 6.3",
              coded(first, f"Transfer-Encoding: {second}"), 400, 501)
      for first, second in (("chunked", "gzip"), ("gzip", "chunked"), ("chunked", "identity"),
                            ("identity", "chunked"), ("chunked", "x"), ("x", "chunked"),
                            ("chunked", ""), ("", "chunked"))),

    # other codings
    *(refused(f"{text}", NOT_KNOWN, coded(text), 501)
      for text in ("gzip, chunked", "deflate, chunked", "compress, chunked", "x-gzip, chunked",
                   "frob, chunked", "gzip,chunked", "GZIP, Chunked", "gzip, deflate, chunked",
                   "gzip;q=1, chunked")),
    refused("identity, chunked", NOT_KNOWN, coded("identity, chunked"), 400, 501),
    *(refused(f"{text!a} alone", NOT_KNOWN + "; 6.3: MUST be 400", coded(text), 400, 501)
      for text in ("gzip", "deflate", "compress", "identity", "frob", "trailers", "*", "", ",",
                   ";", "5", "gzip, deflate", "gzip, identity")),
    *(refused(f"{text!a} is not chunked", "RFC 9112, 7.1", coded(text), 400, 501)
      for text in ("xchunked", "chunkedx", "x-chunked", "chunked-x", "chunke", "hunked", "chunk",
                   "chunks", "chun ked", "chunked chunked", "chunked x", "x chunked", "chunked;",
                   "chunked;a=b", "chunked ;a=b", "chunked;q=1", '"chunked"', "'chunked'",
                   "(chunked)", "<chunked>", "chunked:", ":chunked", "=chunked", "chunked=1",
                   "/chunked", "chunked/1", "chunked.", ".chunked", "\\chunked", "chunked\\",
                   "\xa0chunked", "chunked\xa0", "chunked\xff", "\x85chunked", "chun\xadked",
                   "\xef\xbc\xa3hunked", "c\xc4\xa7unked", "%63hunked", "chunked\\r\\n",
                   "{chunked}")),
    *(refused(f"control character {c!a} {where}", "RFC 9110, 5.5", coded(text), 400, 501)
      for c in "\0\x01\x08\x0b\x0c\x1f\x7f"
      for where, text in (("before chunked", f"{c}chunked"), ("behind chunked", f"chunked{c}"),
                          ("in chunked", f"chun{c}ked"))),

    # lines that one reader takes for the field and another does not
    *(refused(name, rule, post(line, "Content-Length: 5", body=TRAP)) for name, rule, line in (
        ("a blank before the colon", "RFC 9112, 5.1", "Transfer-Encoding : chunked"),
        ("a tab before the colon", "RFC 9112, 5.1", "Transfer-Encoding\t: chunked"),
        ("a vertical tab before the colon", "RFC 9110, 5.1", "Transfer-Encoding\x0b: chunked"),
        ("a NUL before the colon", "RFC 9110, 5.1", "Transfer-Encoding\0: chunked"),
        ("a NUL before the name", "RFC 9110, 5.1", "\0Transfer-Encoding: chunked"),
        ("a no-break space before the name", "RFC 9110, 5.1", "\xa0Transfer-Encoding: chunked"),
        ("a blank before the name", "RFC 9112, 5.2", " Transfer-Encoding: chunked"),
        ("a tab before the name", "RFC 9112, 5.2", "\tTransfer-Encoding: chunked"),
        ("a line end before the value", "RFC 9112, 5.2", "Transfer-Encoding:\r\n chunked"),
        ("a line end behind the value", "RFC 9112, 5.2", "Transfer-Encoding: chunked\r\n , x"),
        ("a lone CR before the name", "RFC 9112, 2.2", "A: b\rTransfer-Encoding: chunked"),
        ("a bare LF before the name", "RFC 9112, 2.2", "A: b\nTransfer-Encoding: chunked"),
        ("a lone CR in the value", "RFC 9112, 2.2", "Transfer-Encoding: chun\rked"),
        ("a bare LF behind the value", "RFC 9112, 2.2", "Transfer-Encoding: chunked\nA: b"),
        ("no colon", "RFC 9112, 5", "Transfer-Encoding chunked"),
        ("two colons", "RFC 9112, 6.3: not chunked, and two framings",
         "Transfer-Encoding:: chunked"),
        ("a blank for the hyphen", "RFC 9110, 5.1", "Transfer Encoding: chunked"),
        ("a no-break hyphen", "RFC 9110, 5.1", "Transfer\xadEncoding: chunked"))),
]
