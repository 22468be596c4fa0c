"""A Flask application with the same pages as `django_site` and `falcon_site`."""

import hashlib
import os

from flask import Flask, jsonify, redirect, request, send_file, session

app = Flask(__name__)
app.secret_key = "not a secret"


def digest(source):
    """Size and checksum of everything that can be read from `source`."""
    size, checksum = 0, hashlib.sha256()
    while chunk := source.read(65536):
        size += len(chunk)
        checksum.update(chunk)
    return {"size": size, "sha256": checksum.hexdigest()}


@app.get("/")
def hello():
    return "hello from flask\n", {"Content-Type": "text/plain"}


@app.post("/form")
def form():
    return jsonify(request.form.to_dict(flat=False))


@app.post("/files")
def files():
    file = request.files["file"]
    answer = digest(file.stream)
    return jsonify(**answer, filename=file.filename, note=request.form["note"])


@app.route("/raw", methods=["POST", "PUT"])
def raw():
    answer = digest(request.stream)
    for name in "CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "wsgi.input_terminated":
        answer[name] = request.environ.get(name)
    return jsonify(answer)


@app.get("/stream")
def stream():
    def chunks():
        with open(os.environ["BLOB"], "rb") as file:
            yield from iter(lambda: file.read(100_000), b"")

    return app.response_class(chunks(), mimetype="application/octet-stream")


@app.get("/file")
def file():
    return send_file(os.environ["BLOB"], as_attachment=True)


@app.get("/cookies")
def cookies():
    response = app.make_response("three cookies\n")
    response.set_cookie("first", "1")
    response.set_cookie("second", "two words", httponly=True)
    response.set_cookie("third", "3", max_age=60, samesite="Lax")
    return response


@app.get("/echo-cookies")
def echo_cookies():
    return jsonify(request.cookies)


@app.route("/leave", methods=["GET", "POST"])
def leave():
    return redirect("/landed?from=leave")


@app.get("/landed")
def landed():
    return f"{request.method} {request.full_path}\n"


@app.get("/count")
def count():
    session["count"] = session.get("count", 0) + 1
    return jsonify(count=session["count"], pid=os.getpid())


@app.get("/boom")
def boom():
    raise RuntimeError("boom goes the view")
