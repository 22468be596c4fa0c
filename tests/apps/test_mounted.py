"""Django, Flask and Falcon under one service, each at a path of its own."""

import hashlib

import pytest
from harness import Server

SITES = {"django": "", "flask": "/flask", "falcon": "/v2/falcon"}


@pytest.fixture(scope="module")
def server(blob):
    with Server("--mount=/=django_site:application", "--mount", "/flask=flask_site:app",
                "--mount", "/v2/falcon=falcon_site:app", "--forwarded-allow-ips", "127.0.0.1",
                workers=2, env={"BLOB": blob.path}) as server:  # fmt: skip
        yield server


@pytest.fixture(params=SITES.items(), ids=SITES)
def site(request, server):
    """(name of the framework, URL at which it is mounted)"""
    name, prefix = request.param
    return name, server.url + prefix


def test_each_answers_at_its_path(site, session):
    name, url = site
    assert session.get(f"{url}/").text == f"hello from {name}\n"
    assert session.get(f"{url}/no/such/page").status_code == 404


def test_files_and_streams(site, session, blob):
    """What an application returns reaches the core as it is: files go by sendfile."""
    _, url = site
    assert session.get(f"{url}/static/site.css").status_code == 200
    for page in "file", "stream":
        content = session.get(f"{url}/{page}").content
        assert hashlib.sha256(content).hexdigest() == blob.sha256


def test_uploads(site, session, blob):
    _, url = site
    answer = session.post(f"{url}/raw", data=iter([blob.data[:100_000]])).json()
    assert answer["sha256"] == hashlib.sha256(blob.data[:100_000]).hexdigest()


def test_head(site, session):
    _, url = site
    response = session.head(f"{url}/")
    assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize("behind", ["", "/behind"])
def test_urls_that_they_put_together(server, session, behind):
    """With the prefix, and with that of a proxy before it."""
    headers = {"X-Forwarded-Prefix": behind} if behind else {}
    for prefix in "", "/v2/falcon":
        response = session.get(f"{server.url}{prefix}/landed?x=1", headers=headers)
        assert response.text == f"GET {behind}{prefix}/landed?x=1\n"
    response = session.get(f"{server.url}/flask", headers=headers, allow_redirects=False)
    assert response.headers["Location"] == f"{server.url}{behind}/flask/"


def test_the_announcement_names_them(server):
    assert ("/=django_site:application, /flask=flask_site:app, /v2/falcon=falcon_site:app on "
            f"{server.url}: 2 workers") in server.stderr  # fmt: skip


def test_nothing_is_mounted_there(serve):
    server = serve("--mount=/v1=probe:app")
    with server.connect() as client:
        response = client.get("/v10")
        assert (response.status, response.body) == (404, b"Not Found\n")
        head = client.request(b"HEAD / HTTP/1.1\r\nHost: test\r\n\r\n", "HEAD")
        assert (head.status, head.header("Content-Length")) == (404, "10")
        assert client.request(b"OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n").status == 404
        assert client.get("/v1").status == 200  # the connection is still in step
