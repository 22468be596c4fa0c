"""Handlers in threads: how many there are, what they cost, and that their deadlines and their
slow clients are each one's own; and threads that are the application's."""

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from harness import MODES, PATIENCE, wait_for
from running import SITES, read_head, rest_of
from tools import content, get, post, slow_client, wake

LARGE = 3_000_000


@pytest.fixture
def three(begin):
    """A worker with three threads for handlers."""
    return begin("plain_site:app", "threads", "--threads", "3")


def tasks(pid):
    """Ids of the threads of a process."""
    return {int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()}


def switches(pid, task):
    """How often it has gone to sleep and was interrupted, and its ticks of CPU time."""
    status = Path(f"/proc/{pid}/task/{task}/status").read_text()
    times = Path(f"/proc/{pid}/task/{task}/stat").read_text().rpartition(")")[2].split()[11:13]
    return [line for line in status.splitlines() if "ctxt_switches" in line], times


def meet(site, count):
    """So many handlers at once, which wait for each other; the threads that they ran in."""
    room = site.name()
    with ExitStack() as stack:
        clients = [stack.enter_context(site.server.connect()) for _ in range(count)]
        for number, client in enumerate(clients):
            client.send(get(f"/meet?name={number}&room={room}&count={count}"))
        found = [json.loads(client.read_response().body) for client in clients]
    assert [answer["local"] for answer in found] == [str(number) for number in range(count)]
    return {answer["thread"] for answer in found}


# -- the pool ------------------------------------------------------------------------------
def test_no_thread_before_it_is_needed(three):
    """And one for one request after the other."""
    worker = three.worker
    before = tasks(worker)
    for _ in range(10):
        assert three.server.get("/").body == b"hello"
    assert len(tasks(worker) - before) <= 1
    threads = meet(three, 3)
    assert len(threads) == 3 and worker not in threads
    assert tasks(worker) - before == threads


def test_never_more_than_allowed(three):
    """Of five requests three are with handlers; the others have their turn when those are done."""
    names, until = [three.name() for _ in range(5)], three.name()
    before = tasks(three.worker)
    with ExitStack() as stack:
        clients = [stack.enter_context(three.server.connect()) for _ in names]
        for client, name in zip(clients, names, strict=True):
            client.send(get(f"/stand?name={name}&until={until}"))
        wait_for(lambda: sum((three.notes / name).exists() for name in names) == 3)
        three.note(until)
        found = [int(client.read_response().body) for client in clients]
    assert max(found) == 3
    assert all((three.notes / name).exists() for name in names)
    assert len(tasks(three.worker) - before) == 3


def test_an_idle_thread_costs_nothing(begin):
    """It sleeps from its last request to its next: while another one's time runs out it is not
    awake once.  (One that has answered a moment ago may be on its way to sleep.)"""
    site = begin("plain_site:app", "threads", "--threads", "3", "--request-timeout", "500ms",
                 "--request-grace", "1h")
    threads = meet(site, 3)

    def awake():
        name = site.name()
        with site.server.connect() as client:
            client.send(get(f"/late?name={name}&how=steps"))
            site.wait_note(f"{name}-begun")
            before = {task: switches(site.worker, task) for task in threads}
            assert client.read_response().status == 504
            return [task for task in threads if switches(site.worker, task) != before[task]]

    assert any(len(awake()) == 1 for _ in range(3))


# -- clients -------------------------------------------------------------------------------
def test_slow_clients_hold_no_thread(three):
    """Neither those who read slowly nor those who send slowly: the loop looks after them."""
    with ExitStack() as stack:
        readers = [stack.enter_context(slow_client(three.server)) for _ in range(3)]
        for reader in readers:
            reader.send(get(f"/numbered?name={three.name()}&count=8000&width=999"))
            read_head(reader)
        senders = [stack.enter_context(three.server.connect()) for _ in range(3)]
        names = [three.name() for _ in senders]
        for sender, name in zip(senders, names, strict=True):
            sender.send(post(f"/upload?name={name}", content(LARGE)[:1000],
                             f"Content-Length: {LARGE}"))
        meet(three, 3)
        assert [three.text(name) for name in names] == [""] * 3
        for sender in senders:
            sender.send(content(LARGE)[1000:])
            assert json.loads(sender.read_response().body)["size"] == LARGE
        for reader in readers:
            wake(reader)
            assert rest_of(reader) == b"".join(b"%0999d\n" % n for n in range(8000))


# -- deadlines -----------------------------------------------------------------------------
def test_deadlines_of_several_at_once(begin):
    """Two are late, one has asked for more time: each finds what is its own."""
    site = begin("plain_site:app", "threads", "--request-timeout", "300ms",
                 "--request-grace", "1h")
    worker, until = site.worker, site.name()
    patient, first, second = (site.name() for _ in range(3))
    with ExitStack() as stack:
        one, two, three = (stack.enter_context(site.server.connect()) for _ in range(3))
        one.send(get(f"/stand?name={patient}&until={until}&extend=3600"))
        site.wait_note(patient)
        two.send(get(f"/late?name={first}&how=computes"))
        three.send(get(f"/late?name={second}&how=steps"))
        assert two.read_response().status == three.read_response().status == 504
        for name in first, second:
            site.wait_note(name, f"RequestTimeout in the handler of {name}")
        site.note(until)
        assert one.read_response().status == 200
    assert site.worker == worker
    assert site.server.stderr.count("RequestTimeout is raised in it") == 2


def test_a_thread_that_cannot_be_reached(begin):
    """It waits in C: its client has 504 all the same, the other handlers go on, and when its grace
    is over the worker goes with it."""
    site = begin("plain_site:app", "threads", "--request-timeout", "300ms",
                 "--request-grace", "1s")
    worker, name = site.worker, site.name()
    with site.server.connect() as client:
        client.send(get(f"/late?name={name}&how=blocks"))
        site.wait_note(f"{name}-begun")
        meet(site, 2)
        assert client.read_response().status == 504
        assert client.at_eof()
    site.server.wait_stderr("is killed")
    wait_for(lambda: (found := site.server.workers()) and worker not in found)
    assert site.text(name) == ""


def test_more_time_at_the_last_moment(begin):
    """RequestTimeout was on its way to a handler that asks for more time before it meets it."""
    site = begin("plain_site:app", "threads", "--request-timeout", "300ms", "--request-grace", "1h")
    with site.server.connect() as client:
        client.get("/extends?for=350")      # 504 if that took much longer here
    assert "RequestTimeout" not in site.server.stderr


def test_the_log_swallows_no_deadline(begin):
    """It came while the core wrote that the one before it was raised."""
    site = begin("slow_log:app", "threads", "--request-timeout", "300ms", "--request-grace", "1h")
    with site.server.connect() as client:
        assert client.get("/").status == 504
    site.wait_note("in the log")


def test_a_handler_that_begins_when_its_time_is_up(begin):
    """It meets RequestTimeout all the same."""
    site = begin("late_threads:app", "threads", "--request-timeout", "300ms",
                 "--request-grace", "1h")
    with site.server.connect() as client:
        assert client.get("/late?name=x&how=computes").status == 504
    site.server.wait_stderr("RequestTimeout is raised in it")


@pytest.mark.parametrize("mode", MODES)
def test_a_deadline_does_not_hit_who_comes_next(begin, mode):
    """A handler that ends at its deadline leaves nothing behind for the next one, which runs at
    once in the same thread."""
    site = begin("plain_site:app", mode, "--request-timeout", "300ms", "--request-grace", "1h")
    with site.server.connect() as client:
        for milliseconds in 290, 296, 298, 299, 300, 301, 302, 305:
            assert client.get(f"/busy?for={milliseconds}").status in (200, 504)
            for _ in range(5):
                answer = client.get("/")
                assert (answer.status, answer.body) == (200, b"hello"), milliseconds
    assert "is killed" not in site.server.stderr


# -- threads of the application ------------------------------------------------------------
@pytest.mark.parametrize("mode", MODES)
def test_threads_of_the_application_go_on(begin, mode):
    """While the worker waits for a request, and while a handler waits."""
    site = begin("background:app", mode)

    def goes_on():
        before = len(site.text("ticks"))
        wait_for(lambda: len(site.text("ticks")) >= before + 10)

    goes_on()
    with site.server.connect() as client:
        name, until = site.name(), site.name()
        client.send(get(f"/stand?name={name}&until={until}"))
        site.wait_note(name)
        goes_on()
        site.note(until)
        assert client.read_response().status == 200
    goes_on()


# -- settings ------------------------------------------------------------------------------
@pytest.mark.parametrize("flags", [["--green", "gevent"], ["--greenlets", "10"]])
def test_not_together(flags):
    """One way to run handlers at a time: a sentence says so, and nothing has begun."""
    done = subprocess.run(
        [sys.executable, "-m", "fastfork", "serve", "plain_site:app", "-b", "127.0.0.1:0",
         "--threads", "4", *flags], cwd=SITES, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2, done.stderr
    assert "threads" in done.stderr and "Traceback" not in done.stderr
    assert "There is no flag" not in done.stderr
