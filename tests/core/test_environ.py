"""The environ dictionary (PEP 3333, environ Variables; RFC 3875)."""

import os
import sys

import pytest
from answers import Recorder, chunked, request

from fastfork import __version__


def environ_of(wire, raw, **options):
    """The environ of the only request in `raw`."""
    app = Recorder()
    connection = wire(app, **options)
    assert connection.one(raw).status == 200
    return app.environ


def test_minimal_request(wire):
    environ = environ_of(wire, request("GET", "/a/b?c=d", host="example.org:81"))
    assert type(environ) is dict
    assert environ["REQUEST_METHOD"] == "GET"
    assert environ["SCRIPT_NAME"] == ""
    assert environ["PATH_INFO"] == "/a/b"
    assert environ["QUERY_STRING"] == "c=d"
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert environ["HTTP_HOST"] == "example.org:81"
    assert environ["SERVER_NAME"]
    assert environ["SERVER_PORT"].isdigit()
    assert environ["SERVER_SOFTWARE"] == f"fastfork/{__version__}"
    assert environ["wsgi.version"] == (1, 0)
    assert environ["wsgi.url_scheme"] == "http"
    assert environ["wsgi.errors"] is sys.stderr
    assert environ["wsgi.multithread"] is False
    assert environ["wsgi.multiprocess"] is False
    assert environ["wsgi.run_once"] is False
    assert environ["wsgi.input_terminated"] is True
    assert callable(environ["wsgi.file_wrapper"])
    assert environ["wsgi.input"].read() == b""


def test_every_cgi_value_is_a_native_string_of_latin_1(wire):
    """PEP 3333, Unicode Issues."""
    raw = (b"POST /%ff%e2%82%ac?q=%ff HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
           b"Content-Type: a/\xff\r\nA: \xe9\xe8\r\n\r\n")
    environ = environ_of(wire, raw)
    for name, value in environ.items():
        assert type(name) is str, name
        if "." not in name:
            assert type(value) is str, name
            value.encode("latin-1")


def test_there_is_nothing_of_the_process_environment(wire, monkeypatch):
    """Trap of WSGI servers: all of os.environ in environ."""
    monkeypatch.setenv("FASTFORK_SECRET", "hidden")
    environ = environ_of(wire, request())
    assert not environ.keys() & os.environ.keys()


@pytest.mark.parametrize("several", [True, False])
def test_multiprocess_is_true_to_the_facts(wire, several):
    """Trap of WSGI servers: wsgi.multiprocess is always False."""
    assert environ_of(wire, request(), multiprocess=several)["wsgi.multiprocess"] is several


def test_peer(wire, recorder):
    connection = wire(recorder)
    connection.connect("192.0.2.7", 12345)
    connection.one(request())
    assert recorder.environ["REMOTE_ADDR"] == "192.0.2.7"
    assert recorder.environ["REMOTE_PORT"] == "12345"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_protocol(wire, version):
    assert environ_of(wire, request(version=version))["SERVER_PROTOCOL"] == f"HTTP/{version}"


@pytest.mark.parametrize("target, path, query", [
    ("/", "/", ""),
    ("/?", "/", ""),
    ("/?a", "/", "a"),
    ("/a?b?c", "/a", "b?c"),
    ("/a?b=%20+%2f", "/a", "b=%20+%2f"),
    ("/a%20b", "/a b", ""),
    ("/a+b", "/a+b", ""),
    ("/a%2Fb%2fc", "/a/b/c", ""),
    ("/%C3%A9", "/\xc3\xa9", ""),
    ("/%e2%82%ac", "/\xe2\x82\xac", ""),
    ("/%ff", "/\xff", ""),
    ("/%25%32%30", "/%20", ""),
    ("/%3F?x", "/?", "x"),
    ("/%23", "/#", ""),
    ("//a//b/", "//a//b/", ""),
    ("/a/../b/./c", "/a/../b/./c", ""),
    ("/a;b=c", "/a;b=c", ""),
    ("/a?http://x/y", "/a", "http://x/y"),
    ("/a:b@c", "/a:b@c", ""),
    ("http://h/a%20b?c", "/a b", "c"),
    ("http://h:81/", "/", ""),
    ("http://h", "/", ""),
    ("http://h?q", "/", "q"),
    ("HTTP://h/a", "/a", ""),
])
def test_target(wire, target, path, query):
    """PATH_INFO is decoded once, QUERY_STRING not at all."""
    environ = environ_of(wire, request("GET", target))
    assert environ["SCRIPT_NAME"] == ""
    assert environ["PATH_INFO"] == path
    assert environ["QUERY_STRING"] == query


@pytest.mark.parametrize("target", ["/%", "/%4", "/%zz", "/a%4gb", "/%%20", "/%u20ac"])
def test_broken_percent_encoding_is_kept_or_refused(wire, recorder, target):
    """RFC 3986, 2.1: such a target is not one; it must not become a server's error."""
    answer = wire(recorder).one(request("GET", target))
    if answer.status == 200:
        assert recorder.environ["PATH_INFO"] == target.replace("%%20", "% ")
    else:
        assert answer.status == 400


def test_host_of_the_absolute_form_wins(wire):
    """RFC 9112, 3.2.2: the received Host must be ignored then."""
    environ = environ_of(wire, request("GET", "http://inner:82/a", host="outer"))
    assert environ["HTTP_HOST"] == "inner:82"


def test_content_type_and_length_have_no_prefix(wire):
    environ = environ_of(wire, request("POST", "/", "Content-Type: text/plain; charset=x",
                                       body=b"abc"))
    assert environ["CONTENT_TYPE"] == "text/plain; charset=x"
    assert environ["CONTENT_LENGTH"] == "3"
    assert "HTTP_CONTENT_TYPE" not in environ
    assert "HTTP_CONTENT_LENGTH" not in environ


def test_content_type_and_length_are_absent_or_empty_without_a_body(wire):
    environ = environ_of(wire, request())
    assert environ.get("CONTENT_TYPE", "") == ""
    assert environ.get("CONTENT_LENGTH", "") == ""


@pytest.mark.parametrize("name, key", [
    ("Accept", "HTTP_ACCEPT"),
    ("accept-LANGUAGE", "HTTP_ACCEPT_LANGUAGE"),
    ("X-A", "HTTP_X_A"),
    ("x-1", "HTTP_X_1"),
    ("A.B", "HTTP_A.B"),
    ("Content-Typeset", "HTTP_CONTENT_TYPESET"),
    ("Content", "HTTP_CONTENT"),
])
def test_header_names(wire, name, key):
    assert environ_of(wire, request("GET", "/", f"{name}: value"))[key] == "value"


@pytest.mark.parametrize("name", ["X_A", "x_a", "X-A_B", "Content_Length", "_", "Host_", "Proxy",
                                  "PROXY", "Transfer_Encoding"])
def test_names_with_underscores_and_proxy_are_dropped(wire, name):
    """Trap of WSGI servers: `X_A` passed as HTTP_X_A spoofs `X-A`; Proxy is httpoxy."""
    plain = environ_of(wire, request("GET", "/"))
    assert environ_of(wire, request("GET", "/", f"{name}: 5")).keys() == plain.keys()


@pytest.mark.parametrize("name", ["X_A", "x_a", "X-A_B", "_", "Content_Length", "Host_"])
def test_names_with_underscores_may_be_refused(wire, recorder, name):
    connection = wire(recorder, header_map="refuse")
    answer = connection.one(request("GET", "/", f"{name}: 5"))
    assert (answer.status, recorder.environs, connection.closed) == (400, [], True)


@pytest.mark.parametrize("name, key", [
    ("X_A", "HTTP_X_A"), ("x_a", "HTTP_X_A"), ("X-A_B", "HTTP_X_A_B"), ("_", "HTTP__"),
    ("Host_", "HTTP_HOST_")])
def test_names_with_underscores_may_be_let_through(wire, name, key):
    raw = request("GET", "/", f"{name}: 5")
    assert environ_of(wire, raw, header_map="dangerous")[key] == "5"


def test_what_is_let_through_joins_its_namesake(wire):
    raw = request("GET", "/", "X_A: 1", "X-A: 2")
    assert environ_of(wire, raw, header_map="dangerous")["HTTP_X_A"] == "1, 2"


@pytest.mark.parametrize("field", ["Content_Length: 5", "Content_Type: a/b",
                                   "Transfer_Encoding: chunked", "Proxy: http://y"])
def test_the_keys_of_the_server_cannot_be_let_through(wire, field):
    environ = environ_of(wire, request("POST", "/", field), header_map="dangerous")
    assert environ.keys() == environ_of(wire, request("POST", "/")).keys()
    assert environ["wsgi.input"].read() == b""


def test_underscore_does_not_join_its_namesake(wire):
    environ = environ_of(wire, request("GET", "/", "X_A: bad", "X-A: good", "X_A: bad"))
    assert environ["HTTP_X_A"] == "good"


def test_repeated_fields_are_joined(wire):
    """RFC 9110, 5.3; cookies with a semicolon as RFC 6265, 5.4 writes them."""
    environ = environ_of(wire, request(
        "GET", "/", "A: 1", "Cookie: c=1", "a: 2, 3", "B: x", "A:", "Cookie: d=2"))
    assert [v.strip() for v in environ["HTTP_A"].split(",")] == ["1", "2", "3", ""]
    assert environ["HTTP_COOKIE"] == "c=1; d=2"
    assert environ["HTTP_B"] == "x"


def test_values_are_latin_1(wire):
    """Trap of WSGI servers: non-ASCII header values arrive empty."""
    raw = b"GET / HTTP/1.1\r\nHost: x\r\nA: \xe9 \xe2\x82\xac \xff\r\n\r\n"
    assert environ_of(wire, raw)["HTTP_A"] == "\xe9 \xe2\x82\xac \xff"


def test_chunked_body_arrives_with_its_length(wire):
    """werkzeug, webob and dulwich need CONTENT_LENGTH and no HTTP_TRANSFER_ENCODING."""
    environ = environ_of(wire, request(
        "POST", "/", "Transfer-Encoding: chunked", body=chunked(b"abc", b"defg")))
    assert environ["CONTENT_LENGTH"] == "7"
    assert "HTTP_TRANSFER_ENCODING" not in environ
    assert environ["wsgi.input_terminated"] is True


def test_trailers_stay_out(wire):
    """Trap 5: trailers come as headers after the headers."""
    environ = environ_of(wire, request(
        "POST", "/", "Transfer-Encoding: chunked", "A: 1",
        body=chunked(b"abc", end=b"0\r\nA: 2\r\nX-Trailer: t\r\nCookie: c\r\nHost: y\r\n\r\n")))
    assert environ["HTTP_A"] == "1"
    assert environ["HTTP_HOST"] == "x"
    assert "HTTP_X_TRAILER" not in environ
    assert "HTTP_COOKIE" not in environ


def test_each_request_has_an_environ_of_its_own(wire):
    """The application may do to environ what it likes (PEP 3333, Specification Details)."""
    seen = []

    def app(environ, start_response):
        seen.append(dict(environ))
        environ["mine"] = 1
        environ["wsgi.url_scheme"] = "gopher"
        for name in list(environ):
            if name.startswith("HTTP_") or name == "SERVER_NAME":
                del environ[name]
        start_response("200 OK", [])
        return []

    connection = wire(app)
    first = request("GET", "/same", "A: 1")
    assert connection.one(first).status == connection.one(first).status == 200
    assert connection.one(request("GET", "/other")).status == 200
    assert "mine" not in seen[1]
    for other in seen[1:]:
        assert other["wsgi.url_scheme"] == "http"
        assert other["SERVER_NAME"] == seen[0]["SERVER_NAME"]
    assert seen[1]["HTTP_A"] == "1"
    assert "HTTP_A" not in seen[2]


def test_environ_outlives_its_request(wire, recorder):
    """An application may keep environ for later work in a thread."""
    connection = wire(recorder)
    connection.one(request("POST", "/kept", "A: 1", body=b"body"))
    connection.one(request("POST", "/next", "A: 2", body=b"next"))
    connection.connection.eof()
    kept = recorder.environs[0]
    assert (kept["PATH_INFO"], kept["HTTP_A"]) == ("/kept", "1")
