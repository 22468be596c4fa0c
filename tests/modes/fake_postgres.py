"""As much of PostgreSQL's protocol (3.0) as psycopg2 and psycopg 3 speak."""

from __future__ import annotations

import struct

from fakes import Conversation, Fake, Refused

PROTOCOL = 3 << 16
CANCEL, SSL, GSS = 80877102, 80877103, 80877104
TEXT = 25
FLOATS = {701: ">d", 700: ">f", 21: ">h", 23: ">i", 20: ">q"}  # how parameters come in binary
FACTS = {
    "server_version": "16.0", "server_encoding": "UTF8", "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY", "integer_datetimes": "on", "standard_conforming_strings": "on",
    "TimeZone": "UTC", "IntervalStyle": "postgres", "is_superuser": "off",
}  # fmt: skip


class Bytes:
    """What a message is made of, taken piece by piece."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def text(self):
        end = self.data.index(0, self.at)
        found = self.data[self.at:end].decode()
        self.at = end + 1
        return found

    def numbers(self, letters):
        found = struct.unpack_from(">" + letters, self.data, self.at)
        self.at += struct.calcsize(">" + letters)
        return found

    def number(self, letter):
        return self.numbers(letter)[0]

    def many(self, letter):
        return self.numbers(f"{self.number('H')}{letter}")

    def value(self):
        size = self.number("i")
        if size < 0:
            return None
        self.at += size
        return self.data[self.at - size:self.at]


class PostgresConversation(Conversation):
    def talk(self):
        if not self.startup():
            return
        self.state = b"I"  # I: idle, T: in a transaction, E: in one that has failed
        self.prepared, self.portals = {}, {}
        self.skipping = False  # after an error everything up to Sync is passed over
        kinds = {b"Q": self.query, b"P": self.parse, b"B": self.bind, b"D": self.describe,
                 b"E": self.execute, b"C": self.close, b"H": lambda message: self.wfile.flush(),
                 b"S": self.sync}
        while (kind := self.read(1)) != b"X":
            message = Bytes(self.read(struct.unpack(">i", self.read(4))[0] - 4))
            if kind == b"S" or not self.skipping:
                kinds[kind](message)

    def startup(self):
        while True:
            size, code = struct.unpack(">ii", self.read(8))
            self.read(size - 8)
            if code == CANCEL:
                return False
            if code == PROTOCOL:
                break
            assert code in (SSL, GSS), code
            self.wfile.write(b"N")
            self.wfile.flush()
        self.say(b"R", struct.pack(">i", 0))
        for name, value in FACTS.items():
            self.say(b"S", f"{name}\0{value}\0".encode())
        self.say(b"K", struct.pack(">ii", 1, 1))
        self.say(b"Z", b"I")
        self.wfile.flush()
        return True

    def say(self, kind, data=b""):
        self.wfile.write(kind + struct.pack(">i", len(data) + 4) + data)

    # -- the simple protocol -------------------------------------------------------------
    def query(self, message):
        self.run(message.text(), describe=True)
        self.say(b"Z", self.state)
        self.wfile.flush()

    # -- the extended one ----------------------------------------------------------------
    def parse(self, message):
        name, statement = message.text(), message.text()
        self.prepared[name] = statement, message.many("I")
        self.say(b"1")

    def bind(self, message):
        portal, name = message.text(), message.text()
        statement, types = self.prepared[name]
        formats = message.many("H")
        values = [message.value() for _ in range(message.number("H"))]
        for number, value in enumerate(values):
            binary = formats[number % len(formats)] if formats else 0
            text = (str(struct.unpack(FLOATS[types[number]], value)[0]) if binary
                    else value.decode())  # fmt: skip
            statement = statement.replace(f"${number + 1}", text)
        self.portals[portal] = statement
        self.say(b"2")

    def describe(self, message):
        what, name = message.numbers("c")[0], message.text()
        if what == b"S":
            statement, types = self.prepared[name]
            self.say(b"t", struct.pack(f">H{len(types)}I", len(types), *types))
        else:
            statement = self.portals[name]
        if statement.lstrip().lower().startswith("select"):
            self.say_columns()
        else:
            self.say(b"n")

    def execute(self, message):
        self.run(self.portals[message.text()], describe=False)

    def close(self, message):
        what, name = message.numbers("c")[0], message.text()
        (self.prepared if what == b"S" else self.portals).pop(name, None)
        self.say(b"3")

    def sync(self, message):
        self.skipping = False
        self.say(b"Z", self.state)
        self.wfile.flush()

    # -- both ----------------------------------------------------------------------------
    def run(self, statement, describe):
        word = statement.split()[0].upper().rstrip(";")
        try:
            if self.state == b"E" and word != "ROLLBACK":
                raise Refused("the transaction has failed")
            row = self.row(statement)
        except Refused as error:
            self.state = b"E" if self.state != b"I" else b"I"
            self.skipping = not describe
            self.say(b"E", f"SERROR\0VERROR\0C42601\0M{error}\0\0".encode())
            return
        self.state = {"BEGIN": b"T", "COMMIT": b"I", "ROLLBACK": b"I"}.get(word, self.state)
        if row is not None:
            if describe:
                self.say_columns()
            data = row.encode()
            self.say(b"D", struct.pack(">Hi", 1, len(data)) + data)
            word = "SELECT 1"
        self.say(b"C", word.encode() + b"\0")

    def say_columns(self):
        self.say(b"T", struct.pack(">H", 1) + b"answer\0"
                 + struct.pack(">IHIhiH", 0, 0, TEXT, -1, -1, 0))


class FakePostgres(Fake):
    conversation = PostgresConversation

    @property
    def dsn(self):
        return f"host=127.0.0.1 port={self.port} user=test dbname=test"
