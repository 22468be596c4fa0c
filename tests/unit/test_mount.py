from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from fastfork import app, mount
from fastfork.app import BootError
from fastfork.kinds import ConfigError
from fastfork.mount import Mounted


def answering(name):
    """An application that answers who it is and what it was told of the path."""

    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{name}|{environ['SCRIPT_NAME']}|{environ['PATH_INFO']}".encode("latin-1")]

    return application


def ask(mounted, path, script="", method="GET"):
    """(status, body), by way of the validator of PEP 3333."""
    environ = {"PATH_INFO": path, "SCRIPT_NAME": script, "REQUEST_METHOD": method,
               "QUERY_STRING": ""}  # fmt: skip
    setup_testing_defaults(environ)
    said = []
    result = validator(mounted)(environ, lambda status, headers, exc_info=None:
                                said.append((status, dict(headers))) or (lambda data: None))
    body = b"".join(result)
    result.close()
    return said[0][0], said[0][1], body


def placed(*prefixes):
    return Mounted((prefix, answering(prefix)) for prefix in prefixes)


# (mounted, path, answer); "" stands for 404
TABLE = [
    (("/v1", "/v2"), "/v1", "/v1|/v1|"),
    (("/v1", "/v2"), "/v1/", "/v1|/v1|/"),
    (("/v1", "/v2"), "/v2/servers/1", "/v2|/v2|/servers/1"),
    (("/v1", "/v2"), "/v1//x", "/v1|/v1|//x"),
    (("/v1",), "/v10", ""),
    (("/v1",), "/v", ""),
    (("/v1",), "/", ""),
    (("/v1",), "//v1", ""),
    (("/v1",), "/V1", ""),
    (("/v1",), "*", ""),
    (("/", "/v1"), "/v1/x", "/v1|/v1|/x"),
    (("/", "/v1"), "/v10", "/||/v10"),
    (("/", "/v1"), "/", "/||/"),
    (("/", "/a", "/a/b"), "/a/b/c", "/a/b|/a/b|/c"),
    (("/a/b", "/a", "/"), "/a/bc", "/a|/a|/bc"),
    (("/", "/longer", "/a/b"), "/a/b", "/a/b|/a/b|"),
]


@pytest.mark.parametrize(("prefixes", "path", "answer"), TABLE)
def test_the_longest_prefix_at_a_boundary(prefixes, path, answer):
    environ = {"PATH_INFO": path, "SCRIPT_NAME": "", "REQUEST_METHOD": "GET"}
    said = []
    body = b"".join(placed(*prefixes)(environ, lambda status, headers: said.append(status)))
    assert (said, body) == ((["200 OK"], answer.encode()) if answer else
                            (["404 Not Found"], b"Not Found\n"))  # fmt: skip


def test_the_script_name_of_a_proxy_stays_before_it():
    assert ask(placed("/v1"), "/v1/x", script="/behind")[2] == b"/v1|/behind/v1|/x"
    assert ask(placed("/"), "/v1/x", script="/behind")[2] == b"/|/behind|/v1/x"


def test_a_prefix_in_other_letters():
    """The environ has the bytes of UTF-8 as characters."""
    path = "/größe/1".encode().decode("latin-1")
    mounted = Mounted([("/größe", answering("it"))])
    assert ask(mounted, path)[2].decode() == "it|/größe|/1"


def test_nothing_there():
    status, headers, body = ask(placed("/v1"), "/v2")
    assert (status, body) == ("404 Not Found", b"Not Found\n")
    assert headers["Content-Length"] == "10"
    status, headers, body = ask(placed("/v1"), "/v2", method="HEAD")
    assert (status, headers["Content-Length"], body) == ("404 Not Found", "10", b"")


def test_the_answer_is_the_application_s_own_object():
    """So that what the server does for files and lists is done."""
    answer = [b"x"]
    mounted = Mounted([("/v1", lambda environ, start_response: answer)])
    assert mounted({"PATH_INFO": "/v1", "SCRIPT_NAME": ""}, None) is answer


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        ([("/v1", "a:b"), ("/v1", "c:d")], "--mount '/v1' is given twice."),
        ([("/a%20b", "a:b")], "--mount '/a%20b' is not usable: write its characters as they are, "
                              "not as percent escapes."),
        ([("/v1", "a b")], "APP of --mount /v1 'a b' is not usable: it must be pkg.mod:attr, "
                           "pkg.mod:factory(), pkg.mod or paste:FILE#NAME."),
    ],
)  # fmt: skip
def test_unusable(pairs, sentence):
    with pytest.raises(ConfigError) as caught:
        mount.parse(pairs)
    assert str(caught.value) == sentence


def test_load(module):
    module("one", "def make(name):\n    return lambda e, s: [name, e['PATH_INFO']]\n")
    loaded = app.load(mount.parse([("/a", "one:make('A')"), ("/", "one:make('B')")]))
    assert loaded({"PATH_INFO": "/a/x", "SCRIPT_NAME": ""}, None) == ["A", "/x"]
    assert loaded({"PATH_INFO": "/b", "SCRIPT_NAME": ""}, None) == ["B", "/b"]


def test_load_says_which_one_cannot_be(module):
    module("one", "def app(e, s): pass\n")
    with pytest.raises(BootError) as caught:
        app.load(mount.parse([("/a", "one:app"), ("/b", "one:ap")]))
    assert caught.value.sentence == "one has no attribute 'ap' (perhaps 'app' is meant)."
