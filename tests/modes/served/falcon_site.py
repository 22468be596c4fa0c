"""The pages in Falcon."""

import falcon
from work import ECHOES, STREAMS, TEXTS, UPLOADS


class Text:
    def __init__(self, page):
        self.page = page

    def on_get(self, req, resp):
        resp.content_type = falcon.MEDIA_TEXT
        resp.text = self.page(lambda: req.params, req.env)


class Stream:
    def __init__(self, page):
        self.page = page

    def on_get(self, req, resp):
        resp.content_type = "application/octet-stream"
        resp.stream = self.page(lambda: req.params, req.env)


class Upload:
    def __init__(self, page):
        self.page = page

    def on_post(self, req, resp):
        # (Its `bounded_stream` knows of no body without a Content-Length.)
        resp.text = self.page(lambda: req.params, req.env, req.stream.read)


class Echo:
    def __init__(self, page):
        self.page = page

    def on_post(self, req, resp):
        resp.content_type = "application/octet-stream"
        resp.stream = self.page(lambda: req.params, req.env, req.stream.read)


app = falcon.App()
for kind, pages in (Text, TEXTS), (Stream, STREAMS), (Upload, UPLOADS), (Echo, ECHOES):
    for uri, page in pages.items():
        app.add_route(uri, kind(page))
