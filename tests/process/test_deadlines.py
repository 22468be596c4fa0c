"""Requests that take too long: first an exception in the handler, then the end of the worker."""

import os
import signal

import pytest
from harness import alive, wait_for
from seen import holder

SOON = ("--request-timeout", "300ms", "--request-grace", "1h")
AT_ONCE = ("--request-timeout", "200ms", "--request-grace", "200ms")


def ask(client, gate, method="GET", **fields):
    extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    client.send(f"{method} /?{gate.path} HTTP/1.1\r\nHost: x\r\n{extra}\r\n".encode())
    gate.reached()


@pytest.mark.parametrize("app", ["asleep", "receiving", "locked", "busy"])
def test_a_handler_beyond_its_deadline_gets_an_exception_and_its_client_504(start, gate, app):
    server = start(f"small_apps:{app}", *SOON)
    workers = server.workers()
    with server.connect() as client:
        ask(client, gate)
        gate.open()
        response = client.read_response()
        assert response.status == 504 and response.complete
    assert server.workers() == workers
    server.wait_stderr("is beyond request_timeout (0.3 s): RequestTimeout is raised in it.")
    assert f"GET /?{gate.path}, " in server.stderr
    assert "is killed" not in server.stderr


def test_the_worker_goes_on_and_may_be_late_again(start, gates):
    server = start("small_apps:asleep", *SOON)
    (worker,) = server.workers()
    with server.connect() as client:
        for _ in range(3):
            gate = gates()
            ask(client, gate)
            gate.open()
            assert client.read_response().status == 504
    assert server.workers() == [worker]
    wait_for(lambda: server.stderr.count("RequestTimeout is raised in it.") == 3)


def test_504_in_the_access_log(start, gate, tmp_path):
    log = tmp_path / "access.log"
    server = start("small_apps:asleep", *SOON, "--access-log", str(log))
    with server.connect() as client:
        ask(client, gate)
        gate.open()
        assert client.read_response().status == 504
    wait_for(lambda: '" 504 ' in log.read_text())


HANDLERS = """
import time
import fastfork
from small_apps import answer
caught = []
def app(environ, start_response):
    if environ["PATH_INFO"] == "/caught":
        return answer(start_response, repr(caught))
    open(environ["QUERY_STRING"]).read()
    return globals()[environ["PATH_INFO"][1:]](environ, start_response)
def cleans_up(environ, start_response):
    try:
        time.sleep(3600)
    except fastfork.RequestTimeout as error:
        caught.append(type(error).__mro__[1].__name__)
        raise
def answers_itself(environ, start_response):
    try:
        time.sleep(3600)
    except fastfork.RequestTimeout:
        start_response("200 OK", [("Content-Length", "8")])
        return [b"sorry..."]
def catches_exceptions(environ, start_response):
    while True:
        try:
            time.sleep(3600)
        except Exception:
            pass
def has_begun(environ, start_response):
    start_response("200 OK", [("Content-Length", "100")])
    yield b"begun"
    time.sleep(3600)
def in_close(environ, start_response):
    class Body(list):
        def close(self):
            time.sleep(3600)
    start_response("200 OK", [("Content-Length", "4")])
    return Body([b"done"])
"""


def late(server, gate, target):
    """The answer to a request whose handler goes on too long."""
    with server.connect() as client:
        client.send(f"GET {target}?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        gate.open()
        return client.read_response()


def test_it_is_no_exception_that_except_exception_catches(web, gates):
    server = web(HANDLERS, *SOON)
    assert late(server, gates(), "/cleans_up").status == 504
    assert server.get("/caught").body == b"['BaseException']"
    assert late(server, gates(), "/catches_exceptions").status == 504


def test_a_handler_may_answer_all_the_same(web, gate):
    response = late(web(HANDLERS, *SOON), gate, "/answers_itself")
    assert (response.status, response.body) == (200, b"sorry...")


def test_a_response_that_has_begun_is_broken_off(web, gate):
    server = web(HANDLERS, *SOON)
    workers = server.workers()
    response = late(server, gate, "/has_begun")
    assert (response.status, response.body, response.complete) == (200, b"begun", False)
    assert server.get("/caught").status == 200
    assert server.workers() == workers


def test_close_of_the_iterable_belongs_to_the_request(web, gate):
    server = web(HANDLERS, *SOON)
    workers = server.workers()
    assert late(server, gate, "/in_close").body == b"done"
    assert server.get("/caught").status == 200  # by the same worker, which is free again
    assert server.workers() == workers


EXTENDS = """
from small_apps import pid, wait
def app(environ, start_response):
    if environ["PATH_INFO"] == "/long":
        environ["fastfork.extend_deadline"](3600)
    return wait(environ, start_response)
"""


def test_a_handler_may_extend_its_deadline(web, gates):
    """While one that began after it, and did not, is timed out."""
    server = web(EXTENDS, *SOON, workers=2)
    long, short = gates(), gates()
    with server.connect() as patient:
        patient.send(f"GET /long?{long.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        long.reached()
        with server.connect() as other:
            other.send(f"GET /?{short.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            short.reached()
            assert other.read_response().status == 504
        long.open()
        assert patient.read_response().status == 200


def test_extending_by_nothing_does_not_shorten(web, gate):
    server = web(EXTENDS.replace("3600", "0"), "--request-timeout", "1h")
    with server.connect() as client:
        client.send(f"GET /long?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        gate.open()
        assert client.read_response().status == 200
    assert "RequestTimeout" not in server.stderr


def test_without_a_deadline_there_is_nothing_to_extend(web):
    server = web(EXTENDS)
    assert server.get("/long").status == 200


# -- the hard deadline -------------------------------------------------------------------
def killed_for_its_deadline(server, worker):
    """What the log says of it, when it has been killed and replaced."""
    server.wait_stderr("and request_grace (0.2 s).")
    wait_for(lambda: (found := server.workers()) and worker not in found)
    assert not alive(worker)
    server.wait_stderr(" is ready.")
    return server.stderr


@pytest.mark.parametrize("app", ["busy_in_c", "stubborn"])
def test_a_handler_that_cannot_be_reached_is_killed(web, gate, app):
    """It holds the GIL in C, or it catches what it should not."""
    server = web(f"""
import time
from small_apps import _started, busy_in_c
def stubborn(environ, start_response):
    _started(environ)
    while True:
        try:
            time.sleep(3600)
        except BaseException:
            pass
app = {app}
""", *AT_ONCE)
    (worker,) = server.workers()
    with server.connect() as client:
        ask(client, gate, X_Request_ID="lost-one")
        gate.open()
        assert client.at_eof()
    log = killed_for_its_deadline(server, worker)
    assert f"Worker {worker} of web:app is killed: GET /?{gate.path}, " in log
    assert "request lost-one, is beyond request_timeout (0.2 s) and request_grace (0.2 s)." in log
    assert f"in {app}\n" in log  # its stack
    assert "out of memory" not in log and "lack of memory" not in log and "outside" not in log
    assert len(server.workers()) == 1


def test_stacks_of_all_threads_and_of_waiting_greenlets(web, gate):
    """One handler waits for its client in a greenlet, another is stuck, a thread works."""
    server = web("""
import threading
from small_apps import _started
def in_a_thread(event):
    event.wait()
def app(environ, start_response):
    if environ["PATH_INFO"] == "/reads":
        return reads(environ, start_response)
    threading.Thread(target=in_a_thread, args=[threading.Event()], daemon=True).start()
    _started(environ)
    stuck_here()
def reads(environ, start_response):
    environ["fastfork.extend_deadline"](3600)  # or it may be over before the other one comes
    open("reading", "w").close()
    return [environ["wsgi.input"].read()]
def stuck_here():
    while True:
        try:
            threading.Event().wait()
        except BaseException:
            pass
""", *AT_ONCE, "--request-buffering", "stream")
    directory = os.path.dirname(gate.path)
    (worker,) = server.workers()
    with server.connect() as reading, server.connect() as stuck:
        reading.send(b"POST /reads HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
        wait_for(lambda: os.path.exists(f"{directory}/reading"))
        ask(stuck, gate)
        gate.open()
        assert stuck.at_eof()
    log = killed_for_its_deadline(server, worker)
    assert "in stuck_here\n" in log and "in in_a_thread\n" in log
    assert "in hand: POST /reads" in log and "in reads\n" in log


def test_a_slow_sibling_is_not_hurt(start, gates):
    server = start("small_apps:busy_in_c", *AT_ONCE, workers=2)
    gate = gates()
    with server.connect() as client:
        ask(client, gate)
        gate.open()
        assert client.at_eof()
    server.wait_stderr("and request_grace (0.2 s).")
    assert server.stderr.count("is killed") == 1
    wait_for(lambda: len(server.workers()) == 2)


def test_none_without_the_setting(start, gates):
    """A worker may be busy for longer than its liveness timeout, too."""
    server = start("small_apps:wait", "--liveness-timeout", "1s", workers=2)
    gate = gates()
    with server.connect() as client:
        client.send(f"GET /?{gate.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.reached()
        busy = holder(server, gate)
        (idle,) = set(server.workers()) - {busy}
        os.kill(idle, signal.SIGSTOP)  # the measure of time: it is found to be silent
        server.wait_stderr("no sign of life")
        gate.open()
        assert int(client.read_response().body) == busy


# -- Django ------------------------------------------------------------------------------
DJANGO = """
import os, time
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.urls import path
settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, DEBUG={debug}, SECRET_KEY="no",
                   MIDDLEWARE=["django.middleware.common.CommonMiddleware",
                               "django.middleware.csrf.CsrfViewMiddleware"])
import django
django.setup()
def view(request):
    open(request.META["QUERY_STRING"]).read()
    time.sleep(3600)
urlpatterns = [path("", view), path("pid", lambda request: HttpResponse(str(os.getpid())))]
app = WSGIHandler()
"""


@pytest.mark.parametrize("debug", [False, True])
def test_a_django_view(web, gate, debug):
    server = web(DJANGO.format(debug=debug), *SOON)
    (worker,) = server.workers()
    assert late(server, gate, "/").status == 504
    assert int(server.get("/pid").body) == worker


LATE = ("--request-timeout", "200ms", "--request-grace", "400ms")


def test_several_late_requests_in_a_row_each_get_their_exception(web):
    """Sooner than the signal is repeated for one that goes on."""
    server = web("""
import time
def app(environ, start_response):
    time.sleep(3600)
""", *LATE)
    (worker,) = server.workers()
    with server.connect() as client:
        for _ in range(4):
            assert client.get("/").status == 504
    assert server.workers() == [worker]


def test_a_handler_that_ends_before_the_blow_is_spared(web):
    """The worker that is to be killed has a moment to write its stacks.  If it has answered by
    then, who is next must not be killed for it."""
    server = web("""
import time
from small_apps import pid
def spin(end):
    while time.monotonic() < end:
        pass
def app(environ, start_response):
    try:
        end = time.monotonic() + (0.66 if environ["PATH_INFO"] == "/late" else 0.15)
        spin(end)
    except BaseException:  # it is raised once
        spin(end)
    return pid(environ, start_response)
""", "--request-timeout", "300ms", "--request-grace", "300ms")
    (worker,) = server.workers()
    with server.connect() as client:
        assert client.get("/late").status == 200
        for _ in range(6):
            assert int(client.get("/").body) == worker
    assert "is killed" not in server.stderr
