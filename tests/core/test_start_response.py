"""start_response: which statuses and fields go out, and which raise (PEP 3333, The
start_response() Callable, Other HTTP Features, Unicode Issues; RFC 9110, 5; RFC 9112, 4).

What is refused raises in the call, where the application can see it, and nothing of it is sent.
"""

import gc
import sys
import weakref
from typing import NamedTuple
from wsgiref.util import is_hop_by_hop

import pytest
from answers import answers, request

TOKEN = ("!#$%&'*+-.^_`|~0123456789"
         "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")    # RFC 9110, 5.6.2
CONTROLS = [*range(9), *range(10, 32), 127]         # all but the tab
NO_TOKEN = [chr(n) for n in range(256) if chr(n) not in TOKEN]


def outcome(wire, *arguments, body=b"fine"):
    """What start_response raised (None: nothing), and all that was sent.  An application that
    catches the error answers 418 instead."""
    raised = []

    def app(environ, start_response):
        try:
            start_response(*arguments)
        except Exception as error:
            raised.append(error)
            start_response("418 Caught", [])
            return [b"caught"]
        return [body]

    raw = wire(app).feed(request())
    assert raw.count(b"HTTP/1.1 ") == 1
    assert raw.count(b"\r\n\r\n") == 1
    return (raised[0] if raised else None), raw


def assert_refused(wire, *arguments, kinds=(ValueError, TypeError)):
    error, raw = outcome(wire, *arguments)
    assert isinstance(error, kinds), (error, raw)
    assert raw.startswith(b"HTTP/1.1 418 Caught\r\n")
    (answer,) = answers(raw)
    assert answer.body == b"caught"
    assert {name for name, _ in answer.headers} == {"Server", "Date", "Content-Length"}


# -- the status -----------------------------------------------------------------------------

@pytest.mark.parametrize("status", ["200", "200 ", "200  two blanks", "200 a\tb", "404 \xe9\xff",
                                    "299 ~!@#$%^&*()_+{}:\"<>?", "200 200 200", "599 Last"])
def test_status_goes_out_as_given(wire, status):
    """RFC 9112, 4: the reason may be empty, the blank before it may not be missing."""
    error, raw = outcome(wire, status, [])
    assert error is None
    line = status if " " in status else status + " "
    assert raw.startswith(f"HTTP/1.1 {line}\r\n".encode("latin-1"))


@pytest.mark.parametrize("place", ["{}200 OK", "2{}00 OK", "20{} OK", "200{}OK", "200 {}OK",
                                   "200 OK{}", "200 OK{}X: y"])
def test_controls_in_the_status(wire, place):
    for code in CONTROLS:
        assert_refused(wire, place.format(chr(code)), [])
    assert_refused(wire, place.format("\r\n"), [])
    assert_refused(wire, place.format("\n\n"), [])


@pytest.mark.parametrize("status", [
    "\uff12\uff10\uff10 OK", "\xb2\xb2\xb2 OK", "2\xb20 OK", "200\xa0OK", "200-OK", "200.0 OK",
    "0200 OK", "+200 OK", "2e2 OK", "200 \udc80", "200 \u0100", "20", "2", "   ", "200\tOK"])
def test_no_status_line(wire, status):
    assert_refused(wire, status, [])


@pytest.mark.parametrize("status", [200, 200.0, b"200 OK", bytearray(b"200 OK"), ("200 OK",), None])
def test_status_is_a_native_string(wire, status):
    """PEP 3333, A Note on String Types."""
    assert_refused(wire, status, [], kinds=TypeError)


@pytest.mark.parametrize("code", ["000", "001", "099", "100", "101", "103", "199",
                                  "600", "700", "999"])
def test_status_is_of_a_final_response(wire, code):
    """RFC 9110, 15: a status has five classes, and the first of them is no answer."""
    assert_refused(wire, f"{code} Odd", [], kinds=ValueError)


@pytest.mark.parametrize("code", [200, 226, 299, 300, 308, 399, 400, 418, 451, 499, 500, 511, 599])
def test_any_final_status_is_the_applications(wire, code):
    error, raw = outcome(wire, f"{code} Odd", [])
    assert error is None
    assert raw.startswith(b"HTTP/1.1 %d Odd\r\n" % code)


# -- names and values -----------------------------------------------------------------------

def test_every_character_of_a_name(wire):
    """RFC 9110, 5.1: a name is a token, no more and no less."""
    for character in TOKEN:
        for name in (character, f"A{character}", f"{character}b"):
            error, raw = outcome(wire, "200 OK", [(name, "1")])
            assert error is None
            assert b"\r\n" + name.encode() + b": 1\r\n" in raw
    for character in NO_TOKEN:
        for name in (character, f"A{character}", f"{character}b", f"A{character}b"):
            assert_refused(wire, "200 OK", [(name, "1")], kinds=ValueError)


def test_every_character_of_a_value(wire):
    """RFC 9110, 5.5: visible ones, blank, tab and obs-text; no control character."""
    for code in range(256):
        for value in (f"a{chr(code)}b", f"{chr(code)}b", f"a{chr(code)}"):
            if code in CONTROLS:
                assert_refused(wire, "200 OK", [("A", value)], kinds=ValueError)
            else:
                error, raw = outcome(wire, "200 OK", [("A", value)])
                assert error is None
                assert b"\r\nA: " + value.encode("latin-1") + b"\r\n" in raw


@pytest.mark.parametrize("split", ["\r\n", "\n", "\r", "\0", "\r\n\r\n", "\r\n ", "\n\t", "\x0b",
                                   "\x0c", "\x85\r\n", "\u010d\u010a", "\u560d\u560a", "\u2028"])
@pytest.mark.parametrize("field", [
    ("{}A", "b"), ("A{}", "b"), ("A{}B: c", "d"), ("A", "{}b"), ("A", "b{}"), ("A", "b{}C: d"),
    ("Content-Type", "a/b{}Set-Cookie: c=d"), ("Location", "/{}"), ("Connection", "close{}"),
    ("Connection", "keep-alive{}X: y"), ("Content-Length", "4{}"), ("Content-Length", "{}4"),
    ("Date", "{}"), ("Server", "{}"), ("Content-Length{}", "4"), ("Connection{}", "close")])
def test_nothing_splits_the_head(wire, field, split):
    """However it is tried, by wide characters that lose their upper half as well."""
    bad = tuple(part.format(split) for part in field)
    assert_refused(wire, "200 OK", [bad])
    assert_refused(wire, "200 OK", [("Content-Type", "a/b"), bad, ("Last", "c")])


@pytest.mark.parametrize("field", [
    (b"A", "b"), ("A", b"b"), ("A", 1), (1, "b"), ("A", None), (None, "b"), ("A", ["b"]),
    ("A", bytearray(b"b")), ("A", True), ("Content-Length", 4), ("Connection", None),
    ("Date", 0), (b"Content-Length", b"4")])
def test_names_and_values_are_native_strings(wire, field):
    assert_refused(wire, "200 OK", [field], kinds=TypeError)


class Text(str):
    """As the safe strings of template engines."""


def test_subclasses_of_str_are_strings(wire):
    """Frameworks pass them; PEP 3333's own words on types are about bytes and str."""
    fields = [(Text("A"), Text("one")), (Text("Content-Length"), Text("4")), ("B", Text("two"))]
    for _ in range(3):      # and no memory of one gets in the way of another
        error, raw = outcome(wire, Text("201 Made"), fields)
        assert error is None
        assert raw.startswith(b"HTTP/1.1 201 Made\r\nA: one\r\nB: two\r\n")
        assert b"\r\nContent-Length: 4\r\n" in raw
    assert_refused(wire, Text("200 a\r\nB: c"), [])
    assert_refused(wire, "200 OK", [(Text("A"), Text("b\r\nC: d"))])


def test_a_field_that_was_sent_before_is_checked_again(wire):
    """The same objects, when they are the same; equal ones, when they are not; and a bad value
    behind a name that was good."""
    name, good, bad = "X-Name", "good", "b\r\nad"

    def app(environ, start_response):
        value = bad if environ["PATH_INFO"] == "/bad" else good
        start_response("200 OK", [(name, value)])
        return [b"x"]

    connection = wire(app)
    for path in ["/", "/", "/bad", "/", "/bad"]:
        answer = connection.one(request("GET", path))
        assert answer.status == (500 if path == "/bad" else 200)
        assert answer.all("x-name") == ([] if path == "/bad" else ["good"])
        if connection.closed:
            connection.connect()


class Pair(NamedTuple):
    name: str
    value: str


class Fields(list):
    pass


@pytest.mark.parametrize("headers", [Fields([("A", "b")]), [Pair("A", "b")]])
def test_lists_and_tuples_of_other_classes(wire, headers):
    error, raw = outcome(wire, "200 OK", headers)
    assert error is None
    assert b"\r\nA: b\r\n" in raw


@pytest.mark.parametrize("headers", [
    (("A", "b"),), {("A", "b")}, iter([("A", "b")]), [["A", "b"]], [("A", "b", "c")], [("A",)],
    [()], ["A: b"], [b"ab"], {"A": "b"}, {"A": "b"}.items(), None, "", 0],
    ids=lambda h: type(h).__name__ + repr(h)[:20])
def test_headers_are_a_list_of_pairs(wire, headers):
    """PEP 3333: a list of (name, value) tuples."""
    assert_refused(wire, "200 OK", headers)


def test_the_list_is_left_alone_and_not_kept(wire):
    """PEP 3333 allows the server to change it; this one neither does nor looks again."""
    headers = [("A", "b"), ("Content-Length", "1"), ("Connection", "close"), ("Date", "today")]
    before = list(headers)

    def app(environ, start_response):
        start_response("200 OK", headers)
        assert headers == before
        headers[0] = ("A", "changed\r\nB: c")
        headers.append(("Late", "d"))
        yield b"x"

    raw = wire(app).feed(request())
    assert b"\r\nA: b\r\n" in raw
    assert b"changed" not in raw
    assert b"Late" not in raw


def test_order_and_repetitions_are_kept(wire):
    headers = [("B", "1"), ("A", "2"), ("B", "3"), ("b", "1"), ("Set-Cookie", "x=y"),
               ("Set-Cookie", "x=y"), ("Vary", "a"), ("vary", "b")]
    error, raw = outcome(wire, "200 OK", headers)
    assert error is None
    lines = raw.split(b"\r\n")[1:]
    assert lines[:len(headers)] == [f"{n}: {v}".encode() for n, v in headers]


# -- fields that are the server's -----------------------------------------------------------

HOP_BY_HOP = ["Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "TE", "Trailers",
              "Transfer-Encoding", "Upgrade"]


@pytest.mark.parametrize("value", ["chunked", "close", "", "x"])
@pytest.mark.parametrize("case", [str, str.upper, str.lower, str.swapcase])
@pytest.mark.parametrize("name", [*HOP_BY_HOP, "Trailer"])
def test_hop_by_hop_fields_raise(wire, name, case, value):
    """PEP 3333, Other HTTP Features; Trailer is how RFC 9110 spells what RFC 2616 called
    Trailers there."""
    assert name == "Trailer" or is_hop_by_hop(name)
    assert_refused(wire, "200 OK", [(case(name), value)], kinds=ValueError)


@pytest.mark.parametrize("name", ["Transfer-Encodings", "X-Transfer-Encoding", "Transfer_Encoding",
                                  "TEA", "T", "Upgrades", "Keep-Alives", "Content-Lengths",
                                  "Content_Length", "Connections", "Dates", "Servers", "Trail"])
def test_names_like_those_are_ordinary(wire, name):
    error, raw = outcome(wire, "200 OK", [(name, "x")])
    assert error is None
    assert b"\r\n" + name.encode() + b": x\r\n" in raw
    (answer,) = answers(raw)
    assert answer.all("content-length") == ["4"]
    assert len(answer.all("date")) == len(answer.all("server")) == 1


@pytest.mark.parametrize("options", ["upgrade", "keep-alive", "x-a", "", ",", "close-not", "te",
                                     '"close"', "Transfer-Encoding, keep-alive"])
def test_connection_of_the_application_does_not_go_out(wire, options):
    """Of it `close` alone is heard; what the connection does is the server's to say."""
    error, raw = outcome(wire, "200 OK", [("Connection", options)])
    assert error is None
    (answer,) = answers(raw)
    assert answer.all("connection") == []


@pytest.mark.parametrize("value", ["4", "04", "0" * 30 + "4"])
def test_content_length_of_the_application(wire, value):
    error, raw = outcome(wire, "200 OK", [("Content-Length", value)])
    assert error is None
    (answer,) = answers(raw)
    assert [int(v) for v in answer.all("content-length")] == [4]
    assert answer.body == b"fine"


@pytest.mark.parametrize("value", [
    "", " ", "-4", "+4", "4.0", "4e0", "0x4", "4,", "4, 4", "4;", "4 4", "4_0", "\xb2", "\xbc",
    "four", "None", "18446744073709551620", "4294967300" * 2, "9" * 5000])
def test_content_length_that_is_none(wire, value):
    assert_refused(wire, "200 OK", [("Content-Length", value)], kinds=ValueError)


@pytest.mark.parametrize("values", [("4", "4"), ("4", "5"), ("0", "4"), ("4", "")])
def test_more_than_one_content_length(wire, values):
    assert_refused(wire, "200 OK", [("Content-Length", values[0]), ("content-length", values[1])],
                   kinds=ValueError)


@pytest.mark.parametrize("name", ["Date", "DATE", "date"])
def test_date_of_the_application(wire, name):
    error, raw = outcome(wire, "200 OK", [(name, "Sun, 06 Nov 1994 08:49:37 GMT")])
    assert error is None
    (answer,) = answers(raw)
    assert answer.all("date") == ["Sun, 06 Nov 1994 08:49:37 GMT"]


@pytest.mark.parametrize("name", ["Server", "SERVER", "server"])
@pytest.mark.parametrize("value", ["mine/1.0", "", "\xe9"])
def test_server_of_the_application(wire, name, value):
    error, raw = outcome(wire, "200 OK", [(name, value)])
    assert error is None
    (answer,) = answers(raw)
    assert answer.all("server") == [value]


def test_the_next_answer_has_date_and_server_again(wire):
    def app(environ, start_response):
        start_response("200 OK", [("Date", "d"), ("Server", "s")]
                       if environ["PATH_INFO"] == "/own" else [])
        return [b"x"]

    own, ours = wire(app).ask(request("GET", "/own") + request())
    assert (own.all("date"), own.all("server")) == (["d"], ["s"])
    assert len(ours.header("date")) == 29
    assert ours.all("server") == ["fastfork"]


@pytest.mark.parametrize("value", ["fastfork", "x/1.0 (a comment)", "a"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_server_header(wire, value, method):
    connection = wire(ok, server_header=value)
    for raw in (request(method), request(method, "/own"), request(method)):
        expected = ["own"] if b"/own" in raw else [value]
        assert connection.one(raw, method).all("server") == expected


def test_no_server_header(wire):
    """No field at all, neither in an answer nor in a refusal; the application's own stays."""
    connection = wire(ok, server_header="none")
    assert connection.one(request()).all("server") == []
    assert connection.one(request("GET", "/own")).all("server") == ["own"]
    assert connection.one(request("GET", "/fails")).all("server") == []
    assert connection.one(b"\0").all("server") == []


def test_no_date_header(wire):
    """RFC 9110, 6.6.1: for a server without a clock; or where another one adds it."""
    connection = wire(ok, date_header="off")
    assert connection.one(request()).all("date") == []
    assert connection.one(request("GET", "/own")).all("date") == ["today"]
    assert connection.one(request("GET", "/fails")).all("date") == []
    assert connection.one(b"\0").all("date") == []


def test_neither(wire):
    connection = wire(ok, date_header="off", server_header="none")
    assert connection.feed(request()) == b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"


@pytest.mark.parametrize("raw", [request(), request("GET", "/fails"), b"\0"])
def test_both_by_default(wire, raw):
    answer = wire(ok).one(raw)
    assert answer.all("server") == ["fastfork"]
    assert len(answer.header("date")) == 29


def ok(environ, start_response):
    if environ["PATH_INFO"] == "/fails":
        raise ValueError
    start_response("200 OK", [("Date", "today"), ("Server", "own")]
                   if environ["PATH_INFO"] == "/own" else [])
    return [b"x"]


# -- called again ---------------------------------------------------------------------------

def test_a_second_call_that_is_caught_changes_nothing(wire):
    """PEP 3333: it is a fatal error without exc_info; an application that goes on nevertheless
    has the answer that it began."""
    def app(environ, start_response):
        start_response("201 First", [("A", "first"), ("Content-Length", "2")])
        with pytest.raises(RuntimeError):
            start_response("202 Second", [("B", "second"), ("Content-Length", "9")])
        return [b"ok"]

    answer = wire(app).one(request())
    assert (answer.status, answer.body) == (201, b"ok")
    assert answer.all("a") == ["first"]
    assert answer.all("b") == []


def test_a_refused_first_call_does_not_count(wire):
    def app(environ, start_response):
        with pytest.raises(ValueError, match="hop-by-hop"):
            start_response("201 First", [("A", "first"), ("TE", "x")])
        start_response("202 Second", [("B", "second")])
        return [b"ok"]

    answer = wire(app).one(request())
    assert (answer.status, answer.body) == (202, b"ok")
    assert answer.all("a") == []
    assert answer.all("b") == ["second"]


def test_a_refused_call_alone_is_no_start(wire):
    """Nothing half made goes out."""
    def app(environ, start_response):
        with pytest.raises(ValueError, match="hop-by-hop"):
            start_response("201 First", [("A", "first"), ("TE", "x")])
        return [b"ok"]

    answer = wire(app).one(request())
    assert answer.status == 500
    assert answer.all("a") == []


def raised():
    try:
        raise KeyError("the one")
    except KeyError:
        return sys.exc_info()


def test_a_refused_replacement_leaves_no_mixture(wire):
    """exc_info with a bad field: neither the old answer with new fields nor the reverse."""
    def app(environ, start_response):
        start_response("201 First", [("A", "first"), ("Content-Length", "2")])
        with pytest.raises(ValueError, match="not a status"):
            start_response("5 Second", [("B", "second")], raised())
        if environ["PATH_INFO"] == "/again":
            start_response("503 Third", [("C", "third")], raised())
        return [b"fine"]

    connection = wire(app)
    answer = connection.one(request("GET", "/again"))
    assert (answer.status, answer.body) == (503, b"fine")
    assert [answer.all(n) for n in "abc"] == [[], [], ["third"]]
    answer = connection.one(request())
    assert answer.status in (201, 500)
    assert answer.all("b") == []
    assert answer.all("a") == (["first"] if answer.status == 201 else [])


def test_many_replacements_before_the_head(wire):
    def app(environ, start_response):
        start_response("200 OK", [])
        for n in range(100):
            start_response(f"{200 + n} N", [(f"X-{n}", "v"), ("Content-Length", "9")], raised())
        start_response("599 Last", [("Last", "1")], raised())
        return [b"fine"]

    answer = wire(app).one(request())
    assert (answer.status, answer.body) == (599, b"fine")
    assert {n for n, _ in answer.headers} == {"Last", "Server", "Date", "Content-Length"}


@pytest.mark.parametrize("sends", ["yield", "write"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_exc_info_after_the_head_raises_that_very_error(wire, sends, method):
    """PEP 3333: "if exc_info is provided, and the HTTP headers have already been sent,
    start_response must raise an error, and should re-raise using the exc_info tuple"."""
    given, seen = raised(), []

    def app(environ, start_response):
        write = start_response("200 OK", [("Content-Length", "8")])
        if sends == "write":
            write(b"sent")
        else:
            yield b"sent"
        try:
            start_response("500 Late", [("B", "c")], given)
        except KeyError as error:
            seen.append(error)
        yield b"more"

    raw = wire(app).feed(request(method))
    assert raw.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"500 Late" not in raw
    if method == "GET":
        assert raw.endswith(b"\r\n\r\nsentmore")
    if seen or method == "GET":     # to HEAD nothing more is asked of it
        assert seen == [given[1]]
        assert seen[0].__traceback__ is not None


def test_exc_info_leaves_no_cycle(wire):
    """PEP 3333 warns of them: the traceback holds the frame, and the frame what it was doing."""
    class Held:
        pass

    gone = []

    def app(environ, start_response):
        held = Held()
        gone.append(weakref.ref(held))
        try:
            raise ValueError
        except ValueError:
            start_response("500 Error", [], sys.exc_info())
        return [b"fine"]

    connection = wire(app)
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            assert connection.one(request()).status == 500
        assert [ref() for ref in gone] == [None] * 3
    finally:
        gc.enable()


@pytest.mark.parametrize("exc_info", [(), (None, None, None), 5, "error", (ValueError,), False,
                                      (ValueError, ValueError, None), (None,) * 4], ids=repr)
@pytest.mark.parametrize("late", [False, True])
def test_odd_exc_info(wire, exc_info, late):
    """Whatever it is, the head that has gone stays the only one."""
    def app(environ, start_response):
        write = start_response("200 OK", [("Content-Length", "4")])
        if late:
            write(b"fi")
        start_response("202 New", [("Content-Length", "4")], exc_info)
        return [b"fine"]

    connection = wire(app)
    raw = connection.feed(request())
    assert raw.count(b"HTTP/1.1 ") == 1
    if late:
        assert raw.startswith(b"HTTP/1.1 200 OK\r\n")
        assert raw.endswith(b"\r\n\r\nfi")
        assert connection.closed
    else:
        assert raw.startswith((b"HTTP/1.1 202 New\r\n", b"HTTP/1.1 500 "))
