"""The pages in Flask."""

from flask import Flask, request
from work import ECHOES, STREAMS, TEXTS, UPLOADS

app = Flask(__name__)


def query():
    return request.args


def add(path, view, **options):
    app.add_url_rule(path, path, view, **options)


def text(page):
    return lambda: (page(query, request.environ), {"Content-Type": "text/plain"})


def stream(page):
    return lambda: app.response_class(
        page(query, request.environ), mimetype="application/octet-stream")


def upload(page):
    return lambda: page(query, request.environ, request.stream.read)


def echo(page):
    return lambda: app.response_class(
        page(query, request.environ, request.stream.read), mimetype="application/octet-stream")


for path, page in TEXTS.items():
    add(path, text(page))
for path, page in STREAMS.items():
    add(path, stream(page))
for path, page in UPLOADS.items():
    add(path, upload(page), methods=["POST"])
for path, page in ECHOES.items():
    add(path, echo(page), methods=["POST"])
