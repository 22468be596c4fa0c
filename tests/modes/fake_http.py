"""An HTTP server whose statements are the path: /meet(20) is `select meet(20)`."""

from __future__ import annotations

from fakes import Conversation, Fake, Refused


class HttpConversation(Conversation):
    def talk(self):
        while line := self.rfile.readline():
            while self.rfile.readline().strip():
                pass
            try:
                status, body = "200 OK", self.row("select " + line.split()[1].decode().lstrip("/"))
            except Refused as error:
                status, body = "400 Bad Request", str(error)
            self.wfile.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
                             .encode())
            self.wfile.flush()
            if b"HTTP/1.0" in line:
                return


class FakeHttp(Fake):
    conversation = HttpConversation

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"
