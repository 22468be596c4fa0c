"""The blocks of an answer without end: each says which one it is."""

BLOCK = 16384


def block(number):
    return (b"%015d\n" % number) * (BLOCK // 16)
