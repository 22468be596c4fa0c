"""What a proxy says of its client: believed from trusted peers, removed from all others.

The peer is 10.0.0.1 unless a case says otherwise, and 10.0.0.0/8, fd00::/8 and unix are trusted.
"""

import ipaddress
import logging
import random
import tempfile

import pytest
from answers import Recorder, request

TRUSTED = ("10.0.0.0/8", "fd00::/8", "unix")
PROXY = ("10.0.0.1", 555)
ALL = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port",
       "x-forwarded-prefix", "forwarded")
NAMES = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port",
         "X-Forwarded-Prefix", "Forwarded", "X-Forwarded-Ssl", "X-Forwarded-Client-Cert",
         "X-Forwarded-", "x-FORWARDED-for")


def key_of(name):
    return "HTTP_" + name.upper().replace("-", "_")


@pytest.fixture
def told(wire):
    """`told(*fields)` is the environ that the application sees; None if the request was refused,
    in which case it was refused properly."""
    def make(*fields, peer=PROXY, trusted=TRUSTED, target="/", host="x", version="1.1",
             **settings):
        recorder = Recorder()
        connection = wire(recorder, forwarded_allow_ips=trusted, **settings)
        connection.connect(*peer)
        raw = request("GET", target, *fields, host=host, version=version)
        answer = connection.ask(raw + request("GET", "/behind", version=version))[0]
        if answer.status == 200:
            return recorder.environs[0]
        assert answer.status == 400
        assert answer.header("connection") == "close"
        assert connection.closed
        assert recorder.environs == []
        return None
    return make


def client_of(environ):
    return environ["REMOTE_ADDR"], environ["REMOTE_PORT"]


# -- whom to trust -------------------------------------------------------------------------

@pytest.mark.parametrize("trusted, peer, believed", [
    ((), "127.0.0.1", False),
    ((), "", False),
    (("127.0.0.1",), "127.0.0.1", True),
    (("127.0.0.1/32",), "127.0.0.1", True),
    (("127.0.0.1",), "127.0.0.2", False),
    (("127.0.0.1",), "::1", False),
    (("127.0.0.1",), "", False),
    (("10.0.0.0/8",), "10.255.255.255", True),
    (("10.0.0.0/8",), "11.0.0.0", False),
    (("10.0.0.0/8",), "9.255.255.255", False),
    (("192.168.4.0/22",), "192.168.7.255", True),
    (("192.168.4.0/22",), "192.168.8.0", False),
    (("192.168.4.0/22",), "192.168.3.255", False),
    (("192.168.1.128/25",), "192.168.1.128", True),
    (("192.168.1.128/25",), "192.168.1.127", False),
    (("192.168.1.2/31",), "192.168.1.3", True),
    (("192.168.1.2/31",), "192.168.1.4", False),
    (("0.0.0.0/0",), "203.0.113.9", True),
    (("0.0.0.0/0",), "2001:db8::1", False),
    (("0.0.0.0/0",), "", False),
    (("::1",), "::1", True),
    (("::1",), "::2", False),
    (("2001:db8::/32",), "2001:db8:ffff::1", True),
    (("2001:db8::/32",), "2001:db9::1", False),
    (("2001:db8::/33",), "2001:db8:8000::1", False),
    (("::/0",), "2001:db8::1", True),
    (("::/0",), "10.0.0.1", False),
    (("10.0.0.0/8",), "::ffff:10.1.2.3", True),
    (("10.0.0.0/8",), "::ffff:11.1.2.3", False),
    (("::ffff:10.0.0.0/104",), "10.1.2.3", True),
    (("::ffff:10.0.0.0/104",), "::ffff:10.1.2.3", True),
    (("::ffff:10.0.0.0/104",), "11.1.2.3", False),
    (("::/0",), "::ffff:10.1.2.3", False),
    (("unix",), "", True),
    (("unix",), "127.0.0.1", False),
    (("*",), "203.0.113.9", True),
    (("*",), "2001:db8::1", True),
    (("*",), "", True),
    (("192.0.2.1", "2001:db8::/32", "unix"), "192.0.2.1", True),
    (("192.0.2.1", "2001:db8::/32", "unix"), "2001:db8::9", True),
    (("192.0.2.1", "2001:db8::/32", "unix"), "", True),
    (("192.0.2.1", "2001:db8::/32", "unix"), "192.0.2.2", False),
])
def test_peers(told, trusted, peer, believed):
    environ = told("X-Forwarded-Proto: https", "X-Forwarded-Ssl: on", peer=(peer, 7),
                   trusted=trusted)
    assert environ["wsgi.url_scheme"] == ("https" if believed else "http")
    assert environ.get("HTTP_X_FORWARDED_PROTO") == ("https" if believed else None)
    assert environ.get("HTTP_X_FORWARDED_SSL") == ("on" if believed else None)


def test_trust_is_asked_for_each_connection(wire, recorder):
    connection = wire(recorder, forwarded_allow_ips=TRUSTED)
    for peer in ("10.0.0.1", "11.0.0.1", "10.0.0.2", ""):
        connection.connect(peer, 1)
        for _ in range(2):
            connection.one(request("GET", "/", "X-Forwarded-Proto: https"))
    assert [e["wsgi.url_scheme"] for e in recorder.environs] == [
        "https", "https", "http", "http", "https", "https", "https", "https"]


# -- removed from everybody else -----------------------------------------------------------

@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("trusted", [(), ("192.0.2.1",)])
def test_removed(told, name, trusted):
    environ = told(f"{name}: 1", f"{name}: 2", "X-Real-IP: 3", trusted=trusted)
    assert key_of(name) not in environ
    assert environ["HTTP_X_REAL_IP"] == "3"
    assert client_of(environ) == ("10.0.0.1", "555")


def test_removed_fields_are_not_judged(told):
    environ = told('Forwarded: for="', "X-Forwarded-Host: a b", "X-Forwarded-Port: x",
                   "X-Forwarded-Prefix: //", "X-Forwarded-For: " + "," * 1000, trusted=())
    assert not [key for key in environ if "FORWARDED" in key]


@pytest.mark.parametrize("name", ["Forwardedx", "X-Forwarded", "X-Forward-For", "Forwarded-For"])
def test_other_names_are_left_alone(told, name):
    assert told(f"{name}: 1", f"{name}: 2", trusted=())[key_of(name)] == "1, 2"


def test_names_with_underscores_are_never_believed(told):
    for header_map in ("drop", "dangerous"):
        environ = told("X_Forwarded_For: 203.0.113.9", "X-Forwarded_Proto: https",
                       header_map=header_map)
        assert client_of(environ) == ("10.0.0.1", "555")
        assert environ["wsgi.url_scheme"] == "http"
        assert not [key for key in environ if "FORWARDED" in key]
    assert told("X_Forwarded_For: 203.0.113.9", header_map="refuse") is None


def test_the_operator_is_told_once(wire, recorder):
    connection = wire(recorder)
    connection.one(request("GET", "/", "X-Forwarded-For: 1.1.1.1", "Forwarded: for=1.1.1.1"))
    connection.connect("192.0.2.1", 4)
    connection.one(request("GET", "/", "Forwarded: for=1.1.1.1"))
    assert connection.logged(logging.WARNING) == [
        "127.0.0.1 sent X-Forwarded-For and is not in forwarded_allow_ips: such fields are removed"]


def test_the_operator_is_told_of_unix_peers(wire, recorder):
    connection = wire(recorder)
    connection.connect("", 0)
    connection.one(request("GET", "/", "X-Forwarded-Proto: https"))
    assert connection.logged(logging.WARNING) == [
        "a unix peer sent X-Forwarded-Proto and is not in forwarded_allow_ips: "
        "such fields are removed"]


def test_trusted_peers_are_not_told_of(wire, recorder):
    connection = wire(recorder, forwarded_allow_ips=TRUSTED, forwarded_fields=("forwarded",))
    connection.connect(*PROXY)
    connection.one(request("GET", "/", "X-Forwarded-For: 1.1.1.1", "Forwarded: for=1.1.1.1"))
    assert connection.log == []


# -- forwarded_fields ----------------------------------------------------------------------

@pytest.mark.parametrize("believed", ALL)
def test_only_the_named_fields_are_believed(told, believed):
    fields = ["X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: https", "X-Forwarded-Host: h",
              "X-Forwarded-Port: 99", "X-Forwarded-Prefix: /p", "Forwarded: for=203.0.113.8"]
    environ = told(*fields, forwarded_fields=(believed,))
    assert [key for key in environ if "FORWARDED" in key] == [key_of(believed)]
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"], environ["HTTP_HOST"],
            environ["SERVER_PORT"], environ["SCRIPT_NAME"]) == {
        "x-forwarded-for": ("203.0.113.9", "http", "x", "80", ""),
        "x-forwarded-proto": ("10.0.0.1", "https", "x", "80", ""),
        "x-forwarded-host": ("10.0.0.1", "http", "h", "80", ""),
        "x-forwarded-port": ("10.0.0.1", "http", "x:99", "99", ""),
        "x-forwarded-prefix": ("10.0.0.1", "http", "x", "80", "/p"),
        "forwarded": ("203.0.113.8", "http", "x", "80", ""),
    }[believed]


def test_malformed_but_not_believed(told):
    assert told('Forwarded: "', forwarded_fields=("x-forwarded-for",))


def test_no_field_is_believed(told):
    environ = told("X-Forwarded-For: 203.0.113.9", "Forwarded: for=203.0.113.9",
                   forwarded_fields=())
    assert client_of(environ) == ("10.0.0.1", "555")


def test_believed_fields_stay_as_they_came(told):
    environ = told("X-Forwarded-For: 203.0.113.9 ,10.0.0.3", "X-Forwarded-Ssl: on",
                   "x-forwarded-FOR: 10.0.0.2", "X-Forwarded-Ssl: off")
    assert environ["HTTP_X_FORWARDED_FOR"] == "203.0.113.9 ,10.0.0.3, 10.0.0.2"
    assert environ["HTTP_X_FORWARDED_SSL"] == "on, off"
    assert environ["REMOTE_ADDR"] == "203.0.113.9"


# -- X-Forwarded-For -----------------------------------------------------------------------

@pytest.mark.parametrize("value, address, port", [
    # one entry
    ("203.0.113.9", "203.0.113.9", ""),
    ("203.0.113.9:567", "203.0.113.9", "567"),
    ("203.0.113.9:0", "203.0.113.9", "0"),
    ("203.0.113.9:65535", "203.0.113.9", "65535"),
    ("2001:db8::1", "2001:db8::1", ""),
    ("2001:DB8:0:0::1", "2001:db8::1", ""),
    ("[2001:db8::1]", "2001:db8::1", ""),
    ("[2001:db8::1]:567", "2001:db8::1", "567"),
    ("::ffff:203.0.113.9", "203.0.113.9", ""),
    ("[::ffff:203.0.113.9]:7", "203.0.113.9", "7"),
    # from the right to the first that is not trusted
    ("198.51.100.1, 203.0.113.9", "203.0.113.9", ""),
    ("198.51.100.1,203.0.113.9", "203.0.113.9", ""),
    ("198.51.100.1 \t , \t203.0.113.9\t", "203.0.113.9", ""),
    ("198.51.100.1, 203.0.113.9:5, 10.0.0.3:6", "203.0.113.9", "5"),
    ("198.51.100.1:4, 10.1.1.1, fd00::1, [fd00::2]:9, ::ffff:10.3.3.3", "198.51.100.1", "4"),
    # all of them trusted: the leftmost
    ("10.0.0.2", "10.0.0.2", ""),
    ("10.0.0.4:4, 10.0.0.3:3, 10.0.0.2", "10.0.0.4", "4"),
    # no address ends the walk where it is
    ("unknown", "10.0.0.1", "555"),
    ("_hidden", "10.0.0.1", "555"),
    ("203.0.113.9, unknown", "10.0.0.1", "555"),
    ("203.0.113.9, unknown, 10.0.0.2", "10.0.0.2", ""),
    # Empty elements are none (RFC 9110, 5.6.1.2).
    ("203.0.113.9, , 10.0.0.2:2", "203.0.113.9", ""),
    ("203.0.113.9,", "203.0.113.9", ""),
    (",", "10.0.0.1", "555"),
    ("", "10.0.0.1", "555"),
    (", 203.0.113.9", "203.0.113.9", ""),
    ("garbage, 203.0.113.9", "203.0.113.9", ""),
    ('"203.0.113.9', "10.0.0.1", "555"),
    ('", 203.0.113.9', "203.0.113.9", ""),
    *((entry, "10.0.0.1", "555") for entry in [
        "203.0.113", "203.0.113.9.1", "203.0.113.256", "0203.0.113.9", "203.0.113.9 ", "0x7f.1",
        "203.0.113.9:", "203.0.113.9:x", "203.0.113.9:_x", "203.0.113.9:65536",
        "203.0.113.9:123456", "203.0.113.9:-1", "203.0.113.9:+1", "203.0.113.9:1:2",
        "203.0.113.9 198.51.100.1", "203.0.113.9;x", "[203.0.113.9]", "[203.0.113.9]:1",
        "[2001:db8::1", "2001:db8::1]", "[2001:db8::1]567", "[2001:db8::1]:", "[2001:db8::1]x:1",
        "[[2001:db8::1]]", "2001:db8::1::2", "2001:db8:::1", "2001:db8::12345", "fe80::1%eth0",
        "[]", "[]:1", ":", ":80", "::1%", "localhost", "203.0.113.9\xff", "\xb2.0.0.1",
        "203.0.113.9:\xb2", "1" * 1000, ":" * 1000] if entry == entry.strip()),
])
def test_for(told, value, address, port):
    assert client_of(told(f"X-Forwarded-For: {value}")) == (address, port)


def test_for_repeated(told):
    """Who sends the field himself cannot get in front of what the proxy adds."""
    environ = told("X-Forwarded-For: 127.0.0.1", "X-Forwarded-For: 203.0.113.9")
    assert environ["REMOTE_ADDR"] == "203.0.113.9"


def test_for_with_everybody_trusted(told):
    environ = told("X-Forwarded-For: 198.51.100.1:1, 203.0.113.9", trusted=("*",))
    assert client_of(environ) == ("198.51.100.1", "1")


def test_for_from_a_unix_peer(told):
    assert client_of(told("X-Forwarded-For: 203.0.113.9", peer=("", 0))) == ("203.0.113.9", "")
    assert client_of(told("X-Forwarded-For: unix:", peer=("", 0))) == ("", "")


@pytest.mark.parametrize("name", ["For", "Proto", "Host", "Port"])
@pytest.mark.parametrize("count", [100, 101])
def test_lists_are_bounded(told, name, count):
    entry = {"For": "10.0.0.2", "Proto": "https", "Host": "h", "Port": "1"}[name]
    environ = told(f"X-Forwarded-{name}: " + ",".join([entry] * count))
    assert (environ is None) == (count > 100)


# -- X-Forwarded-Proto ---------------------------------------------------------------------

@pytest.mark.parametrize("value, scheme", [
    ("https", "https"), ("http", "http"), ("HTTPS", "https"), ("Https", "https"),
    ("https, http", "http"), ("http, https", "https"), ("http,https", "https"),
    ("", "http"), ("ftp", "http"), ("https:", "http"), ("wss", "http"), ("https,", "https"),
    ("https, ftp", "http"), ("https https", "http"), ('"https"', "http"), ("\xff", "http"),
])
def test_proto(told, value, scheme):
    assert told(f"X-Forwarded-Proto: {value}")["wsgi.url_scheme"] == scheme


@pytest.mark.parametrize("clients, protos, scheme", [
    ("203.0.113.9", "https, http", "http"),
    ("203.0.113.9, 10.0.0.2", "https, http", "https"),
    ("203.0.113.9, 10.0.0.2", "http, https, http", "https"),
    ("203.0.113.9, 10.0.0.3, 10.0.0.2", "https, http", "https"),
    ("203.0.113.9, 10.0.0.2", "https", "https"),
    ("198.51.100.1, 203.0.113.9", "https, http", "http"),
    ("10.0.0.3, 10.0.0.2", "https, http", "https"),
    ("unknown", "https, http", "http"),
    ("unknown, 10.0.0.2", "https, http", "https"),
])
def test_proto_of_the_same_hop(told, clients, protos, scheme):
    """The element that the proxy wrote who has seen the client."""
    environ = told(f"X-Forwarded-For: {clients}", f"X-Forwarded-Proto: {protos}")
    assert environ["wsgi.url_scheme"] == scheme


# -- X-Forwarded-Host, -Port, -Prefix ------------------------------------------------------

def place_of(environ):
    return environ["HTTP_HOST"], environ["SERVER_NAME"], environ["SERVER_PORT"]


@pytest.mark.parametrize("value, place", [
    ("example.org", ("example.org", "example.org", "80")),
    ("example.org:8443", ("example.org:8443", "example.org", "8443")),
    ("Example.ORG", ("Example.ORG", "Example.ORG", "80")),
    ("192.0.2.1:1", ("192.0.2.1:1", "192.0.2.1", "1")),
    ("[2001:db8::1]", ("[2001:db8::1]", "[2001:db8::1]", "80")),
    ("[2001:db8::1]:8443", ("[2001:db8::1]:8443", "[2001:db8::1]", "8443")),
    ("evil, example.org", ("example.org", "example.org", "80")),
    ("", ("x", "127.0.0.1", "80")),
])
def test_host(told, value, place):
    assert place_of(told(f"X-Forwarded-Host: {value}")) == place


@pytest.mark.parametrize("value", [
    "a b", "a/b", "a@b", "a?b", "a#b", "a\\b", "http://a", "a;,b@", "a:b", "a:1:2", ":80", "a:0",
    "a:65536", "a:99999999999999999999", "[::1", "[]", "[g::1]", "[::1]x", '"a"', "<a>", "\xe9",
])
def test_bad_host(told, value):
    assert told(f"X-Forwarded-Host: {value}") is None


def test_host_of_the_same_hop(told):
    environ = told("X-Forwarded-For: 203.0.113.9, 10.0.0.2", "X-Forwarded-Host: evil, seen, inside")
    assert environ["HTTP_HOST"] == "seen"


def test_host_of_http_1_0(told):
    environ = told("X-Forwarded-Host: h", host=None, version="1.0")
    assert environ["HTTP_HOST"] == environ["SERVER_NAME"] == "h"


def test_host_in_place_of_an_absolute_target(told):
    environ = told("X-Forwarded-Host: h", target="http://inside/")
    assert environ["HTTP_HOST"] == "h"


@pytest.mark.parametrize("fields, host, place", [
    (["Port: 8080"], "x", ("x:8080", "8080")),
    (["Port: 8080"], "x:99", ("x:8080", "8080")),
    (["Port: 80"], "x:99", ("x", "80")),
    (["Port: 443"], "x:99", ("x:443", "443")),
    (["Port: 443", "Proto: https"], "x:99", ("x", "443")),
    (["Port: 80", "Proto: https"], "x:99", ("x:80", "80")),
    (["Port: 8443", "Host: h"], "x", ("h:8443", "8443")),
    (["Port: 8443", "Host: h:1"], "x", ("h:8443", "8443")),
    (["Port: 443", "Host: h:1", "Proto: https"], "x", ("h", "443")),
    (["Port: 8443"], "[::1]:5", ("[::1]:8443", "8443")),
    (["Port: 8443"], "", ("", "8443")),
    (["Port: 1, 2"], "x", ("x:2", "2")),
    (["Port: 1, 2", "For: 203.0.113.9, 10.0.0.2"], "x", ("x:1", "1")),
    (["Port: "], "x:99", ("x:99", "80")),
    (["Port: 1"], "x", ("x:1", "1")),
    (["Port: 65535"], "x", ("x:65535", "65535")),
])
def test_port(told, fields, host, place):
    environ = told(*(f"X-Forwarded-{field}" for field in fields), host=host)
    assert (environ["HTTP_HOST"], environ["SERVER_PORT"]) == place


def test_port_without_host(told):
    environ = told("X-Forwarded-Port: 8443", host=None, version="1.0")
    assert environ["SERVER_PORT"] == "8443"
    assert "HTTP_HOST" not in environ


@pytest.mark.parametrize("value", [
    "0", "65536", "-1", "+1", "1.0", "x", "8o", "80 80", "0x50", "9" * 30, "\xb2", "80;"])
def test_bad_port(told, value):
    assert told(f"X-Forwarded-Port: {value}") is None


@pytest.mark.parametrize("value, name", [
    ("/", ""), ("", ""), ("/a", "/a"), ("/a/", "/a"), ("/a/b", "/a/b"), ("/a%20b", "/a b"),
    ("/%C3%A9", "/\xc3\xa9"), ("/\xe9", "/\xe9"), ("/a,b;c=d", "/a,b;c=d"), ("/..", "/.."),
])
def test_prefix(told, value, name):
    environ = told(f"X-Forwarded-Prefix: {value}", target="/path")
    assert environ["SCRIPT_NAME"] == name
    assert environ["PATH_INFO"] == "/path"


@pytest.mark.parametrize("value", [
    "a", "//", "//evil.example", "/a//b", "/a//", "http://h/", "/a b", "/a\tb", "/a?b", "/a#b",
    "/%2fevil.example", "/%2F", "/a%0d%0aSet-Cookie:x", "/%00", "/%7f", "?", "/a, /b",
])
def test_bad_prefix(told, value):
    assert told(f"X-Forwarded-Prefix: {value}") is None


def test_prefix_repeated(told):
    assert told("X-Forwarded-Prefix: /a", "X-Forwarded-Prefix: /b") is None


# -- Forwarded (RFC 7239) ------------------------------------------------------------------

@pytest.mark.parametrize("value, address, port", [
    ("for=203.0.113.9", "203.0.113.9", ""),
    ("For=203.0.113.9", "203.0.113.9", ""),
    ('for="203.0.113.9"', "203.0.113.9", ""),
    ('for="203.0.113.9:567"', "203.0.113.9", "567"),
    ('for="203.0.113.9:_port"', "203.0.113.9", ""),
    ('for="[2001:db8::1]"', "2001:db8::1", ""),
    ('for="[2001:db8::1]:567"', "2001:db8::1", "567"),
    ('for="\\203.0.11\\3.9"', "203.0.113.9", ""),
    ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60", ""),
    ("by=203.0.113.43; for=192.0.2.60 ;\tproto=http", "192.0.2.60", ""),
    ("for=192.0.2.43, for=198.51.100.17", "198.51.100.17", ""),
    ("for=192.0.2.43,for=10.0.0.2", "192.0.2.43", ""),
    ('for=10.0.0.5;by=x, for="10.0.0.4:4"', "10.0.0.5", ""),
    ("for=192.0.2.43, for=unknown, for=10.0.0.2", "10.0.0.2", ""),
    ("for=192.0.2.43, for=_hidden", "10.0.0.1", "555"),
    ("for=192.0.2.43, proto=http", "10.0.0.1", "555"),
    ('for=192.0.2.43, for=""', "10.0.0.1", "555"),
    ('for="for=192.0.2.43, for=1.2.3.4"', "10.0.0.1", "555"),
    ("for=192.0.2.43, for=198.51.100.17;x=y", "198.51.100.17", ""),
    ('x=", for=192.0.2.43", for=198.51.100.17', "198.51.100.17", ""),
    ('x="\\", for=192.0.2.43", for=198.51.100.17', "198.51.100.17", ""),
    ('x="\\\\", for=198.51.100.17', "198.51.100.17", ""),
    # RFC 9110, 5.6.1.2: empty elements of a list are ignored
    (", for=198.51.100.17 ,, ,", "198.51.100.17", ""),
    (";for=198.51.100.17;;", "198.51.100.17", ""),
    ("for=198.51.100.17, ;", "198.51.100.17", ""),
    ("", "10.0.0.1", "555"),
    (",", "10.0.0.1", "555"),
])
def test_forwarded(told, value, address, port):
    assert client_of(told(f"Forwarded: {value}")) == (address, port)


@pytest.mark.parametrize("value", [
    "for", "for=", "=203.0.113.9", "for =203.0.113.9", "for= 203.0.113.9", "203.0.113.9",
    "for=203.0.113.9:80", "for=[2001:db8::1]", "for=2001:db8::1", "for=203.0.113.9 x=y",
    "for=203.0.113.9;for=203.0.113.9", "for=203.0.113.9;FOR=10.0.0.2", "for=a=b", "for=a/b",
    'for="', 'for="203.0.113.9', 'for="203.0.113.9\\"', 'for="a"b', 'for="a""b"', 'for=a"b"',
    '"for"=a', "for='203.0.113.9:1'", "for=\xe9", 'for="203.0.113.9", "', "for=a, b", "@", "\\",
])
def test_malformed(told, value):
    assert told(f"Forwarded: {value}") is None
    assert told(f"Forwarded: {value}, for=203.0.113.9") is None


@pytest.mark.parametrize("opened", ['for="', 'for="x', 'x="\\', 'for=1.1.1.1;by="', '"', 'x="\\"'])
@pytest.mark.parametrize("appended", [
    "for=203.0.113.9", 'for="203.0.113.9:99"', 'for="[2001:db8::1]";by="_x"',
    'for=203.0.113.9;host="a.b:1";by=""',
])
def test_an_open_quote_swallows_nothing(told, opened, appended):
    """A client must not be able to hide what the proxy appends to its field."""
    assert told(f"Forwarded: {opened}, {appended}") is None
    assert told(f"Forwarded: {opened}", f"Forwarded: {appended}") is None


@pytest.mark.parametrize("count", [100, 101])
def test_elements_are_bounded(told, count):
    environ = told("Forwarded: " + ", ".join(["for=10.0.0.2"] * count))
    assert (environ is None) == (count > 100)


@pytest.mark.parametrize("value, scheme, host", [
    ("proto=https", "https", "x"),
    ("PROTO=HTTPS", "https", "x"),
    ("proto=ftp", "http", "x"),
    ("host=h", "http", "h"),
    ('for=203.0.113.9;proto=https;host="h:81"', "https", "h:81"),
    ("for=1.1.1.1;proto=https;host=evil, for=203.0.113.9;proto=http;host=h", "http", "h"),
    ("for=203.0.113.9;proto=https;host=h, for=10.0.0.2;proto=http;host=inside", "https", "h"),
    # the outermost that is believed says nothing: the next
    ("for=203.0.113.9, for=10.0.0.2;proto=https;host=h", "https", "h"),
    ("for=1.1.1.1;proto=https;host=evil, for=203.0.113.9, for=10.0.0.2", "http", "x"),
    ("for=1.1.1.1;proto=https;host=evil, for=unknown", "http", "x"),
    ("proto=https;host=evil, by=_x", "http", "x"),
])
def test_forwarded_proto_and_host(told, value, scheme, host):
    environ = told(f"Forwarded: {value}")
    assert (environ["wsgi.url_scheme"], environ["HTTP_HOST"]) == (scheme, host)


@pytest.mark.parametrize("value", ['"a b"', '""', '"a/b"', '"a:0"', '":80"', '"\\[::1"'])
def test_forwarded_bad_host(told, value):
    assert told(f"Forwarded: host={value}") is None


# -- both ----------------------------------------------------------------------------------

@pytest.mark.parametrize("fields, good", [
    (["Forwarded: for=203.0.113.9", "X-Forwarded-For: 203.0.113.9"], True),
    (["Forwarded: for=203.0.113.9", "X-Forwarded-For: 203.0.113.8"], False),
    (["Forwarded: for=203.0.113.9", "X-Forwarded-For: 2001:db8::1"], False),
    (['Forwarded: for="[2001:db8::1]"', "X-Forwarded-For: 2001:DB8:0::1"], True),
    (['Forwarded: for="[2001:db8::1]"', "X-Forwarded-For: 2001:db8::2"], False),
    (["Forwarded: for=203.0.113.9", "X-Forwarded-For: unknown"], False),
    (["Forwarded: for=unknown", "X-Forwarded-For: 203.0.113.9"], False),
    (["Forwarded: for=unknown", "X-Forwarded-For: unknown"], True),
    (["Forwarded: for=1.1.1.1, for=203.0.113.9", "X-Forwarded-For: 203.0.113.9"], True),
    (["Forwarded: for=203.0.113.9", "X-Forwarded-For: 203.0.113.9, 10.0.0.2"], True),
    (["Forwarded: proto=https", "X-Forwarded-For: 203.0.113.9"], True),
    (["Forwarded: proto=https", "X-Forwarded-Proto: https"], True),
    (["Forwarded: proto=https", "X-Forwarded-Proto: HTTPS"], True),
    (["Forwarded: proto=https", "X-Forwarded-Proto: http"], False),
    (["Forwarded: proto=ftp", "X-Forwarded-Proto: http"], True),
    (["Forwarded: host=h", "X-Forwarded-Host: H"], True),
    (["Forwarded: host=h", "X-Forwarded-Host: i"], False),
    (["Forwarded: host=h", "X-Forwarded-Host: h:80"], False),
])
def test_agreement(told, fields, good):
    assert (told(*fields) is not None) == good
    assert (told(*reversed(fields)) is not None) == good


def test_the_port_of_either(told):
    for fields in (['Forwarded: for="203.0.113.9:7"', "X-Forwarded-For: 203.0.113.9"],
                   ["Forwarded: for=203.0.113.9", "X-Forwarded-For: 203.0.113.9:7"]):
        assert client_of(told(*fields)) == ("203.0.113.9", "7")


def test_a_silent_forwarded_leaves_the_client_to_the_other(told):
    environ = told("Forwarded: for=1.1.1.1, proto=https", "X-Forwarded-For: 203.0.113.9")
    assert environ["REMOTE_ADDR"] == "203.0.113.9"
    assert environ["wsgi.url_scheme"] == "https"


# -- the rest of the server ----------------------------------------------------------------

def test_nothing_stays_for_the_next_request(wire, recorder):
    connection = wire(recorder, forwarded_allow_ips=TRUSTED)
    connection.connect(*PROXY)
    connection.ask(
        request("GET", "/1", "X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: https",
                "X-Forwarded-Host: h:81", "X-Forwarded-Prefix: /p") + request("GET", "/2"))
    first, second = recorder.environs
    assert first["REMOTE_ADDR"] == "203.0.113.9"
    assert client_of(second) == ("10.0.0.1", "555")
    assert place_of(second) == ("x", "127.0.0.1", "80")
    assert second["wsgi.url_scheme"] == "http"
    assert second["SCRIPT_NAME"] == ""


def test_access_log(wire, recorder):
    """It shows whom the application sees; a request that is refused came from the proxy."""
    with tempfile.TemporaryFile() as file:
        connection = wire(recorder, forwarded_allow_ips=TRUSTED, access_log_fd=file.fileno())
        connection.connect(*PROXY)
        for fields in (["X-Forwarded-For: 203.0.113.9"], [], ["Forwarded: for=unknown"],
                       ['Forwarded: for="[2001:db8::1]:5"'], ["Forwarded: for"]):
            connection.feed(request("GET", "/", *fields))
        connection.worker.flush_access_log()
        file.seek(0)
        assert [line.split(b" ")[0] for line in file] == [
            b"203.0.113.9", b"10.0.0.1", b"10.0.0.1", b"2001:db8::1", b"10.0.0.1"]


PIECES = ["for=", "FOR=", "proto=", "host=", "by=", "203.0.113.9", "10.0.0.2", "2001:db8::1",
          "[2001:db8::1]", "[", "]", ":80", ":", "unknown", "_x", "https", "http", ",", ", ", ";",
          '"', "\\", " ", "\t", "=", "/", "//", "a", "\xff", "%2f", "%", "65536", "0", "1" * 50,
          "a," * 99, "::", ".", "x.example"]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_a_trusted_peer_says(wire, seed):
    """An answer of the application or a 400; the client has an address, or the proxy's."""
    seeded = random.Random(seed)
    app = Recorder()
    connection = wire(app, forwarded_allow_ips=TRUSTED)
    for _ in range(500):
        connection.connect(*PROXY)
        app.environs.clear()
        fields = [f"{seeded.choice(NAMES)}: "
                  + "".join(seeded.choices(PIECES, k=seeded.randrange(1, 9)))
                  for _ in range(seeded.randrange(1, 4))]
        (answer,) = connection.ask(request("GET", "/", *fields))
        assert answer.status == (200 if app.environs else 400), fields
        for environ in app.environs:
            ipaddress.ip_address(environ["REMOTE_ADDR"])
            assert environ["REMOTE_PORT"] == "" or 0 <= int(environ["REMOTE_PORT"]) <= 65535
            assert 1 <= int(environ["SERVER_PORT"]) <= 65535
            assert environ["wsgi.url_scheme"] in ("http", "https")
            assert environ["SERVER_NAME"]
            assert environ["HTTP_HOST"]
            assert environ["SCRIPT_NAME"][:1] in ("", "/")
            assert "//" not in environ["SCRIPT_NAME"]
    assert not [entry for entry in connection.log if entry[0] >= logging.WARNING]
