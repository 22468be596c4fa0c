"""The same small site in Django, Flask and Falcon, served by two workers, driven by clients."""

import hashlib
import http.client
import re
from pathlib import Path

import pytest
from harness import Server

APPS = {
    "django": "django_site:application",
    "flask": "flask_site:app",
    "falcon": "falcon_site:app",
}
STATIC = Path(__file__).parent / "static" / "site.css"


@pytest.fixture(scope="module", params=APPS)
def site(request, blob):
    """(name of the framework, its server)"""
    with Server(APPS[request.param], workers=2, env={"BLOB": blob.path}) as server:
        yield request.param, server


@pytest.fixture(scope="module", params=APPS)
def streaming_url(request, blob):
    """The same, and the handlers read bodies as they come."""
    with Server(APPS[request.param], "--request-buffering=stream",
                env={"BLOB": blob.path}) as server:
        yield server.url


@pytest.fixture
def url(site):
    return site[1].url


def sha256(data):
    return hashlib.sha256(data).hexdigest()


# -- pages -------------------------------------------------------------------------------------


def test_page(site, session):
    name, server = site
    response = session.get(server.url + "/")
    assert (response.status_code, response.reason) == (200, "OK")
    assert response.text == f"hello from {name}\n"
    assert response.headers["Content-Length"] == str(len(response.content))
    assert response.headers["Server"] == "fastfork"


def test_head_has_the_fields_and_no_body(url, session):
    got, head = session.get(url + "/"), session.head(url + "/")
    assert head.status_code == 200
    assert head.content == b""
    for name in "Content-Type", "Content-Length":
        assert head.headers[name] == got.headers[name]
    # The connection is still in step.
    assert session.get(url + "/").content == got.content


def test_static_file(url, session):
    response = session.get(url + "/static/site.css")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/css")
    assert response.content == STATIC.read_bytes()


def test_static_file_not_modified(url, session):
    first = session.get(url + "/static/site.css")
    since = {"If-Modified-Since": first.headers["Last-Modified"]}
    again = session.get(url + "/static/site.css", headers=since)
    assert again.status_code == 304
    assert again.content == b""
    assert session.get(url + "/").status_code == 200


def test_not_found(url, session):
    response = session.get(url + "/no/such/page")
    assert response.status_code == 404
    assert session.get(url + "/").status_code == 200


def test_exception_in_a_view(site, session):
    _, server = site
    response = session.get(server.url + "/boom")
    assert response.status_code == 500
    assert "Traceback" not in response.text
    assert "boom goes the view" not in response.text
    server.wait_stderr("RuntimeError: boom goes the view")
    assert session.get(server.url + "/").status_code == 200


# -- redirects, cookies, sessions --------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_redirect(url, session, method):
    response = session.request(method, url + "/leave")
    assert [r.status_code for r in response.history] == [302]
    assert response.history[0].headers["Location"] == "/landed?from=leave"
    assert response.text == "GET /landed?from=leave\n"


def test_several_cookies_in_one_response(site):
    _, server = site
    connection = http.client.HTTPConnection(*server.address, timeout=10)
    connection.request("GET", "/cookies")
    response = connection.getresponse()
    fields = response.headers.get_all("Set-Cookie")
    response.read()
    connection.close()
    assert sorted(field.partition("=")[0] for field in fields) == ["first", "second", "third"]
    second, third = (next(f for f in fields if f.startswith(n)) for n in ("second", "third"))
    assert second.startswith('second="two words"') and "httponly" in second.lower()
    assert "samesite=lax" in third.lower() and "max-age=60" in third.lower()


def test_cookies_come_back(url, session):
    session.get(url + "/cookies")
    cookies = session.get(url + "/echo-cookies").json()
    assert {name: value.strip('"') for name, value in cookies.items()} == {
        "first": "1",
        "second": "two words",
        "third": "3",
    }


def test_signed_session(url, session):
    """The session is in the cookie, so it holds whichever worker answers."""
    counts = []
    for _ in range(6):
        counts.append(session.get(url + "/count").json()["count"])
        session.get(url + "/", headers={"Connection": "close"})  # the next one connects anew
    assert counts == [1, 2, 3, 4, 5, 6]


# -- forms and uploads -------------------------------------------------------------------------


def test_urlencoded_form(site, session):
    name, server = site
    fields = {"name": ["Ærøskøbing & co"], "tag": ["a=b", "c+d", "日本"]}
    if name == "django":  # its token, from the page and from the cookie
        page = session.get(server.url + "/form").text
        fields["csrfmiddlewaretoken"] = re.search(r"value=(\w+)", page)[1]
    response = session.post(server.url + "/form", data=fields)
    fields.pop("csrfmiddlewaretoken", None)
    assert response.status_code == 200
    assert response.json() == fields


def test_csrf_check_holds(site, session):
    name, server = site
    if name != "django":
        assert session.post(server.url + "/form", data={"a": "b"}).json() == {"a": ["b"]}
        return
    session.get(server.url + "/form")
    assert session.post(server.url + "/form", data={"a": "b"}).status_code == 403


def check_form_upload(url, session, blob):
    with open(blob.path, "rb") as file:
        response = session.post(
            url + "/files", files={"file": ("blob.bin", file)}, data={"note": "größer"}
        )
    assert response.status_code == 200
    assert response.json() == {
        "size": len(blob.data),
        "sha256": blob.sha256,
        "filename": "blob.bin",
        "note": "größer",
    }


def test_multipart_upload_of_50_mib(url, session, blob):
    check_form_upload(url, session, blob)


def test_streamed_multipart_upload_of_50_mib(streaming_url, session, blob):
    check_form_upload(streaming_url, session, blob)


def test_multipart_upload_by_curl(url, curl, blob):
    done = curl("-F", f"file=@{blob.path}", "-F", "note=from curl", url + "/files")
    assert b'"%s"' % blob.sha256.encode() in done.stdout
    assert b"from curl" in done.stdout


def check_raw_upload(url, session, blob, method):
    with open(blob.path, "rb") as file:
        response = session.request(method, url + "/raw", data=file)
    assert response.json() == {
        "size": len(blob.data),
        "sha256": blob.sha256,
        "CONTENT_LENGTH": str(len(blob.data)),
        "HTTP_TRANSFER_ENCODING": None,
        "wsgi.input_terminated": True,
    }


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_raw_upload_of_50_mib(url, session, blob, method):
    check_raw_upload(url, session, blob, method)


def test_streamed_raw_upload_of_50_mib(streaming_url, session, blob):
    check_raw_upload(streaming_url, session, blob, "POST")


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_chunked_upload(url, session, blob, size):
    """A body from a generator arrives whole, as if it had come with a Content-Length."""
    data = blob.data[:size]
    step = max(1, size // 7)
    pieces = (data[at : at + step] for at in range(0, size, step))
    response = session.post(url + "/raw", data=pieces)
    assert response.request.headers["Transfer-Encoding"] == "chunked"
    assert response.json() == {
        "size": size,
        "sha256": sha256(data),
        "CONTENT_LENGTH": str(size),
        "HTTP_TRANSFER_ENCODING": None,
        "wsgi.input_terminated": True,
    }
    assert session.get(url + "/").status_code == 200


def test_chunked_form(site, session):
    """A form whose length the client did not say is read all the same."""
    name, server = site
    fields = [b"a=1&", b"b=2&", b"a=3"]
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    if name == "django":
        page = session.get(server.url + "/form").text
        headers["X-CSRFToken"] = re.search(r"value=(\w+)", page)[1]
    response = session.post(server.url + "/form", data=iter(fields), headers=headers)
    assert response.json() == {"a": ["1", "3"], "b": ["2"]}


def test_chunked_multipart_upload(url, session, blob):
    data = blob.data[:2_500_000]
    boundary = b"----fastforkTest"
    body = b"".join([
        b"--%s\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nchunked\r\n" % boundary,
        b"--%s\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f.bin\"\r\n"
        b"Content-Type: application/octet-stream\r\n\r\n" % boundary,
        data,
        b"\r\n--%s--\r\n" % boundary,
    ])  # fmt: skip
    pieces = (body[at : at + 100_001] for at in range(0, len(body), 100_001))
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary.decode()}"}
    response = session.post(url + "/files", data=pieces, headers=headers)
    assert response.json() == {
        "size": len(data),
        "sha256": sha256(data),
        "filename": "f.bin",
        "note": "chunked",
    }


# -- downloads ---------------------------------------------------------------------------------


def test_streamed_download(url, session, blob):
    response = session.get(url + "/stream")
    assert response.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in response.headers
    assert len(response.content) == len(blob.data)
    assert sha256(response.content) == blob.sha256


def test_streamed_download_http10(url, curl, blob):
    """Without chunks the end of the connection is the end of the body."""
    done = curl("-0", "-D", "/dev/stderr", url + "/stream")
    assert sha256(done.stdout) == blob.sha256
    assert b"transfer-encoding" not in done.stderr.lower()


def test_file_download(url, session, blob):
    response = session.get(url + "/file")
    assert response.headers["Content-Length"] == str(len(blob.data))
    assert "attachment" in response.headers["Content-Disposition"]
    assert sha256(response.content) == blob.sha256
    assert session.get(url + "/").status_code == 200


def test_file_download_head(url, session, blob):
    response = session.head(url + "/file")
    assert response.status_code == 200
    assert response.headers["Content-Length"] == str(len(blob.data))
    assert session.get(url + "/").status_code == 200


def test_download_left_halfway(site, session):
    """A client that goes away in the middle costs the others nothing."""
    _, server = site
    for path in "/stream", "/file":
        response = session.get(server.url + path, stream=True)
        assert len(response.raw.read(100_000)) == 100_000
        response.close()
    for _ in range(4):
        answer = session.get(server.url + "/", headers={"Connection": "close"})
        assert answer.status_code == 200
