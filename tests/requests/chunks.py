"""The chunked coding: sizes, extensions, data, the end (RFC 9112, 7.1)."""

from cases import POISON, chunked, post_chunked, refused, valid

SIZE = "RFC 9112, 7.1: 1*HEXDIG"
EXTENSION = "RFC 9112, 7.1.1"
ENDS = "RFC 9112, 7.1: CRLF"
LAST = b"0\r\n\r\n"


def right(name, rule, sent, body=b"abc", **how):
    length = {"CONTENT_LENGTH": str(len(body))}
    return valid(name, rule, post_chunked(sent), method="POST", body=body, environ=length, **how)


def wrong(name, rule, sent, *statuses):
    return refused(name, rule, post_chunked(sent), *statuses)


def size_line(line):
    return line + b"\r\nabc\r\n" + LAST


CASES = [
    right("one chunk", "RFC 9112, 7.1", chunked(b"abc")),
    right("no chunk but the last", "RFC 9112, 7.1", chunked(), b""),
    right("several chunks", "RFC 9112, 7.1", chunked(b"a", b"bc", b"d" * 300), b"abc" + b"d" * 300),
    right("a hundred chunks of one byte", "RFC 9112, 7.1", chunked(*[b"a"] * 100), b"a" * 100),
    right("a chunk of every byte", "RFC 9112, 7.1", chunked(bytes(range(256))), bytes(range(256))),
    right("a body in a file", "RFC 9112, 7.1", chunked(*[bytes(range(256))] * 8),
          bytes(range(256)) * 8),
    right("data like the last chunk", "RFC 9112, 7.1", chunked(LAST, b"\r\n"), LAST + b"\r\n"),
    right("data of line ends", "RFC 9112, 7.1", chunked(b"\r\n" * 20), b"\r\n" * 20),
    right("data like a size", "RFC 9112, 7.1", chunked(b"5\r\n", b"a"), b"5\r\na"),

    # sizes
    right("small letters", SIZE, b"1a\r\n" + b"x" * 26 + b"\r\n" + LAST, b"x" * 26),
    right("capitals", SIZE, b"1A\r\n" + b"x" * 26 + b"\r\n" + LAST, b"x" * 26),
    right("every digit is hexadecimal", SIZE, b"10\r\n" + b"x" * 16 + b"\r\n" + LAST, b"x" * 16),
    right("leading zeros", SIZE, size_line(b"0003")),
    right("sixteen digits", SIZE, size_line(b"0" * 15 + b"3")),
    right("twenty digits", SIZE, size_line(b"0" * 19 + b"3"), or_refused=[400]),
    right("a thousand digits", SIZE, size_line(b"0" * 999 + b"3"), or_refused=[400]),
    right("the last of many zeros", "RFC 9112, 7.1: 1*(\"0\")",
          chunked(b"abc", end=b"0000\r\n\r\n")),
    *(wrong(f"{size.decode('latin-1')!a}", SIZE, size_line(size)) for size in (
        b"", b"g", b"zz", b"-3", b"+3", b"-0", b"--3", b"0x3", b"0X3", b"x3", b"\\x3", b"3h", b"3g",
        b"3x", b"h3", b"3.0", b".3", b"3.", b"3e0x", b"1_0", b"3_", b"_3", b" 3", b"\t3", b"  3",
        b"3 ", b"3\t", b"3  ", b"3 3", b"3 0", b"3,", b"3,3", b"3:", b":3", b"3=", b"(3)", b'"3"',
        b"'3'", b"#3", b"$3", b"%33", b"3/", b"3\\", b"3\xa0", b"\xa03", b"\xb3", b"\xff",
        b"\xd9\xa3", b"three", b"*", b"\0", b"3\0", b"\x003", b"3\x0b", b"\x0b3", b"3\x0c",
        b"\x0c3", b"3\x7f", b"3\x01", b"\x1f3", b"3\x80")),
    *(wrong(f"huge: {size.decode()}", "RFC 9112, 7.1: MUST anticipate large numerals",
            size_line(size), 400, 413)
      for size in (b"7fffffff", b"80000003", b"ffffffff", b"100000003", b"7fffffffffffffff",
                   b"8000000000000000", b"8000000000000003", b"fffffffffffffffd",
                   b"ffffffffffffffff", b"10000000000000000", b"10000000000000003",
                   b"ffffffffffffffffffffffff", b"100000000000000000000000000000003", b"f" * 400)),

    # the end of a size line
    wrong("size ends in bare LF", ENDS, b"3\nabc\r\n" + LAST),
    wrong("size ends in lone CR", ENDS, b"3\rabc\r\n" + LAST),
    wrong("size ends in CR CR LF", ENDS, b"3\r\r\nabc\r\n" + LAST),
    wrong("size ends in CR NUL", ENDS, b"3\r\0\nabc\r\n" + LAST),
    wrong("size ends in LF CR", ENDS, b"3\n\rabc\r\n" + LAST),
    wrong("data directly behind the size", ENDS, b"3xyz\r\n" + LAST),
    wrong("an empty line before the first size", SIZE, b"\r\n3\r\nabc\r\n" + LAST),
    wrong("an empty line before another size", SIZE, b"3\r\nabc\r\n\r\n" + LAST),
    wrong("a bare LF before the first size", SIZE, b"\n3\r\nabc\r\n" + LAST),

    # the end of the data
    wrong("data longer than its size", ENDS, b"3\r\nabcd\r\n" + LAST),
    wrong("data longer by a line end", ENDS, b"3\r\nabc\r\r\n" + LAST),
    wrong("data shorter than its size", ENDS, b"5\r\nabc\r\n" + LAST),
    wrong("data shorter, so that the size hides in it", ENDS, b"8\r\nabc\r\n" + LAST + b"x"),
    wrong("data ends in bare LF", ENDS, b"3\r\nabc\n" + LAST),
    wrong("data ends in lone CR", ENDS, b"3\r\nabc\r" + LAST),
    wrong("data ends in LF CR", ENDS, b"3\r\nabc\n\r" + LAST),
    wrong("no line end behind the data", ENDS, b"3\r\nabc" + LAST),
    wrong("two letters for the line end", ENDS, b"3\r\nabcxx" + LAST),
    wrong("CR and a letter behind the data", ENDS, b"3\r\nabc\rx" + LAST),
    wrong("a blank behind the data", ENDS, b"3\r\nabc \r\n" + LAST),
    wrong("no last chunk, but another request", SIZE, chunked(b"abc", end=POISON)),
    wrong("the request is not chunked at all", SIZE, b"hello\r\n"),

    # the end of the body
    wrong("the last size ends in bare LF", ENDS, chunked(b"abc", end=b"0\n\r\n")),
    wrong("the last size and the end, bare LF", ENDS, chunked(b"abc", end=b"0\n\n")),
    wrong("the end is a bare LF", ENDS, chunked(b"abc", end=b"0\r\n\n")),
    wrong("the end is CR and a letter", ENDS, chunked(b"abc", end=b"0\r\n\rx")),
    wrong("the end is CR CR LF", ENDS, chunked(b"abc", end=b"0\r\n\r\r\n")),
    wrong("the last size ends in CR CR LF", ENDS, chunked(b"abc", end=b"0\r\r\n\r\n")),
    wrong("the last size ends in a lone CR", ENDS, chunked(b"abc", end=b"0\r\r\n")),
    wrong("the last size is -0", SIZE, chunked(b"abc", end=b"-0\r\n\r\n")),
    wrong("the last size is 0x0", SIZE, chunked(b"abc", end=b"0x0\r\n\r\n")),
    wrong("a blank behind the last size", SIZE, chunked(b"abc", end=b"0 \r\n\r\n")),
    wrong("another request directly behind the last size", "RFC 9112, 7.1.2",
          chunked(b"abc", end=b"0\r\n" + POISON)),

    # extensions
    *(right(f"extension {ext.decode('latin-1')!a}", EXTENSION + ": MUST ignore",
            size_line(b"3" + ext))
      for ext in (b";a", b";a=b", b';a="b c"', b';a=""', b";a;b", b";a=b;c=d", b';a="b;c"',
                  b';a="\\""', b';a="b\tc"', b';a="\xe9"', b";!#$%&'*+-.^_`|~=1", b";0", b";3",
                  b';a="\\\\"', b";a;b;c")),
    *(right(f"blanks in an extension: {ext.decode()!a}", EXTENSION + ": BWS",
            size_line(b"3" + ext), or_refused=[400])
      for ext in (b" ;a", b"\t;a", b"; a", b";a =b", b";a= b", b" ; a = b", b";a ", b";a=b ")),
    *(wrong(f"malformed extension {ext.decode('latin-1')!a}", EXTENSION, size_line(b"3" + ext))
      for ext in (b";", b";;", b";a=", b";=b", b";=", b';a="b', b';a=b"', b";a=b=c", b";a b",
                  b";a,b", b";(a)", b";\xe9", b";a=\xff", b';a="b"c', b";/",
                  b';a=b"c"', b';"a"=b', b';a="\\"', b';a="b" c', b";a = = b", b";a;")),
    right("an extension of the last chunk", EXTENSION, chunked(b"abc", end=b"0;a=b\r\n\r\n")),
    right("an extension like a size", EXTENSION, size_line(b"3;ffff=10")),
    right("an extension of each chunk", EXTENSION, b"1;a\r\na\r\n2;b=c\r\nbc\r\n0;d\r\n\r\n"),
    wrong("a bare LF in an extension", EXTENSION, size_line(b"3;a\nb")),
    wrong("a bare LF in an extension, and a size", EXTENSION, b"3;\nabc\r\n" + LAST),
    wrong("a lone CR in an extension", EXTENSION, size_line(b"3;a\rb")),
    wrong("a bare LF in a quoted value", EXTENSION, size_line(b'3;a="\n"')),
    wrong("a line end in a quoted value", EXTENSION, size_line(b'3;a="\r\n"')),
    wrong("a lone CR at the end of an extension", EXTENSION, size_line(b"3;a\r")),
    *(wrong(f"control character {bytes([c])!r} in an extension", EXTENSION,
            size_line(b"3;a=%cb" % c))
      for c in (0, 1, 8, 0x0B, 0x0C, 0x1B, 0x1F, 0x7F)),
    wrong("an extension without a semicolon", EXTENSION, size_line(b"3a=b")),
    wrong("an extension behind a blank", EXTENSION, size_line(b"3 a=b")),
    wrong("an extension behind a comma", EXTENSION, size_line(b"3,a=b")),
]
