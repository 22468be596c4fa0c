"""A Falcon application with the same pages as `django_site` and `flask_site`."""

import hashlib
import hmac
import os
from pathlib import Path

import falcon

KEY = b"not a secret"


def digest(source):
    """Size and checksum of everything that can be read from `source`."""
    size, checksum = 0, hashlib.sha256()
    while chunk := source.read(65536):
        size += len(chunk)
        checksum.update(chunk)
    return {"size": size, "sha256": checksum.hexdigest()}


class Hello:
    def on_get(self, req, resp):
        resp.content_type = falcon.MEDIA_TEXT
        resp.text = "hello from falcon\n"

    on_head = on_get


class Form:
    def on_post(self, req, resp):
        resp.media = {
            name: value if isinstance(value, list) else [value]
            for name, value in req.get_media().items()
        }


class Files:
    def on_post(self, req, resp):
        answer = {}
        for part in req.get_media():
            if part.name == "file":
                answer |= digest(part.stream)
                answer["filename"] = part.filename
            else:
                answer[part.name] = part.text
        resp.media = answer


class Raw:
    def on_post(self, req, resp):
        answer = digest(req.bounded_stream)
        for name in "CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "wsgi.input_terminated":
            answer[name] = req.env.get(name)
        resp.media = answer

    on_put = on_post


class Stream:
    def on_get(self, req, resp):
        def chunks():
            with open(os.environ["BLOB"], "rb") as file:
                yield from iter(lambda: file.read(100_000), b"")

        resp.content_type = "application/octet-stream"
        resp.stream = chunks()


class File:
    def on_get(self, req, resp):
        path = os.environ["BLOB"]
        resp.content_type = "application/octet-stream"
        resp.downloadable_as = os.path.basename(path)
        # A stream with `read` is handed to wsgi.file_wrapper by falcon, and closed.
        resp.set_stream(open(path, "rb"), os.path.getsize(path))  # noqa: SIM115

    on_head = on_get


class Cookies:
    def on_get(self, req, resp):
        resp.text = "three cookies\n"
        resp.set_cookie("first", "1", secure=False)
        resp.set_cookie("second", "two words", secure=False, http_only=True)
        resp.set_cookie("third", "3", secure=False, max_age=60, same_site="Lax")


class EchoCookies:
    def on_get(self, req, resp):
        resp.media = req.cookies


class Leave:
    def on_get(self, req, resp):
        raise falcon.HTTPFound("/landed?from=leave")

    on_post = on_get


class Landed:
    def on_get(self, req, resp):
        resp.text = f"{req.method} {req.relative_uri}\n"


class Count:
    """Falcon has no sessions; a signed cookie does."""

    def on_get(self, req, resp):
        value, _, signature = req.cookies.get("count", "0.").partition(".")
        count = (int(value) if hmac.compare_digest(signature, sign(value)) else 0) + 1
        resp.set_cookie("count", f"{count}.{sign(str(count))}", secure=False)
        resp.media = {"count": count, "pid": os.getpid()}


def sign(value):
    return hmac.new(KEY, value.encode(), "sha256").hexdigest()


class Boom:
    def on_get(self, req, resp):
        raise RuntimeError("boom goes the view")


app = falcon.App()
for uri, resource in {
    "/": Hello(),
    "/form": Form(),
    "/files": Files(),
    "/raw": Raw(),
    "/stream": Stream(),
    "/file": File(),
    "/cookies": Cookies(),
    "/echo-cookies": EchoCookies(),
    "/leave": Leave(),
    "/landed": Landed(),
    "/count": Count(),
    "/boom": Boom(),
}.items():
    app.add_route(uri, resource)
app.add_static_route("/static", Path(__file__).parent / "static")
# Form parts may be large.
handler = app.req_options.media_handlers[falcon.MEDIA_MULTIPART]
handler.parse_options.max_body_part_buffer_size = 64 * 1024 * 1024
