"""The API under Flask."""

from flask import Flask, Response, request

from sites.document import PATH, detail

app = Flask(__name__)


@app.get(PATH)
def servers():
    document = detail(
        request.args.get("limit", 50, type=int),
        request.args.get("status", "ACTIVE"),
        request.headers.get("Accept-Language"),
        request.headers.get("X-Request-Id"),
        request.headers.get("User-Agent"))
    return Response(document, content_type="application/json")
