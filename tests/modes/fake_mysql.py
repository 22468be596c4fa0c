"""As much of MySQL's protocol (handshake 10) as PyMySQL speaks."""

from __future__ import annotations

import struct

from fakes import Conversation, Fake, Refused

LONG_PASSWORD, PROTOCOL_41, TRANSACTIONS, SECURE, PLUGIN = 1, 1 << 9, 1 << 13, 1 << 15, 1 << 19
CAPABLE = LONG_PASSWORD | PROTOCOL_41 | TRANSACTIONS | SECURE | PLUGIN
UTF8MB4 = 45
STRING = 253
AUTOCOMMIT = 2
QUIT, INIT_DB, QUERY, PING = 1, 2, 3, 14


def counted(data):
    """Short text with its length before it."""
    assert len(data) < 251
    return bytes([len(data)]) + data


class MysqlConversation(Conversation):
    def talk(self):
        self.number = 0
        salt = b"a salt of 20 letters"
        self.say(b"\x0a8.0.0-fake\0" + struct.pack("<I", 1) + salt[:8] + b"\0"
                 + struct.pack("<HBHHB", CAPABLE & 0xFFFF, UTF8MB4, AUTOCOMMIT, CAPABLE >> 16, 21)
                 + bytes(10) + salt[8:] + b"\0mysql_native_password\0")
        self.wfile.flush()
        self.hear()  # who it is, and its password: everybody may come in
        self.say_ok()
        self.wfile.flush()
        while (message := self.hear())[0] != QUIT:
            if message[0] == QUERY:
                self.query(message[1:].decode())
            else:
                assert message[0] in (PING, INIT_DB), message
                self.say_ok()
            self.wfile.flush()

    def query(self, statement):
        try:
            row = self.row(statement)
        except Refused as error:
            self.say(b"\xff" + struct.pack("<H", 1064) + f"#42000{error}".encode())
            return
        if row is None:
            self.say_ok()
            return
        self.say(b"\x01")  # one column
        self.say(b"".join(map(counted, [b"def", b"", b"", b"", b"answer", b""]))
                 + b"\x0c" + struct.pack("<HIBHBxx", UTF8MB4, 1024, STRING, 0, 0))
        self.say_end()
        self.say(counted(row.encode()))
        self.say_end()

    # -- packets: three bytes of length, one that counts them ------------------------------
    def hear(self):
        head = self.read(4)
        self.number = head[3] + 1
        return self.read(int.from_bytes(head[:3], "little"))

    def say(self, data):
        self.wfile.write(len(data).to_bytes(3, "little") + bytes([self.number & 0xFF]) + data)
        self.number += 1

    def say_ok(self):
        self.say(b"\0\0\0" + struct.pack("<HH", AUTOCOMMIT, 0))

    def say_end(self):
        self.say(b"\xfe" + struct.pack("<HH", 0, AUTOCOMMIT))


class FakeMysql(Fake):
    conversation = MysqlConversation
