"""Handlers that wait for databases and other servers: how many do so at once is counted by those
(fakes.py)."""

import re
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from fake_http import FakeHttp
from fake_mysql import FakeMysql
from fake_postgres import FakePostgres
from harness import MODES, ROOT, wait_for
from running import Site
from tools import get

AT_ONCE = 20
SERVERS = {"psycopg2": "postgres", "psycopg": "postgres", "pymysql": "mysql", "requests": "http",
           "urllib3": "http", "socket": "http"}  # fmt: skip

# Which let others run while they wait, and which file of the documentation they need for it.
SIDE_BY_SIDE = {
    "greenlets": ["psycopg2", "psycopg"],
    "gevent": list(SERVERS),
    "threads": list(SERVERS),
}
RECIPES = {"greenlets": "psycopg2_side_by_side psycopg_side_by_side",
           "gevent": "psycopg2_side_by_side"}  # fmt: skip
PAIRS = [(mode, client) for mode, clients in SIDE_BY_SIDE.items() for client in clients]
# (A thread that waits in C cannot be reached; it is killed with its worker.)
LATE = [(mode, client) for mode, client in PAIRS if mode != "threads"]


@pytest.fixture(scope="module")
def fakes():
    with FakePostgres() as postgres, FakeMysql() as mysql, FakeHttp() as http:
        yield {"postgres": postgres, "mysql": mysql, "http": http}


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    """A directory with the files that docs/greenlets.md shows, as they stand there."""
    directory = tmp_path_factory.mktemp("recipes")
    text = Path(ROOT, "docs", "greenlets.md").read_text()
    blocks = re.findall(r"^```python\n(# (\w+\.py)\n.*?)^```$", text, re.DOTALL | re.MULTILINE)
    for block, name in blocks:
        (directory / name).write_text(block)
    assert {name for _, name in blocks} == {
        "psycopg2_side_by_side.py", "psycopg_side_by_side.py"}
    return directory


@pytest.fixture(scope="module")
def backed(fakes, recipes, tmp_path_factory):
    """`backed(mode, *flags)`: a server of one worker, started when it is first asked for."""
    started = {}

    def of(*wanted):
        if wanted not in started:
            mode, *flags = wanted
            env = {"POSTGRES": fakes["postgres"].dsn, "MYSQL": str(fakes["mysql"].port),
                   "HTTP": fakes["http"].url, "RECIPES": RECIPES.get(mode, ""),
                   "PYTHONPATH": str(recipes)}  # fmt: skip
            started[wanted] = Site(
                "backends:app", mode, tmp_path_factory.mktemp("notes"), *flags, env=env)
        return started[wanted]

    yield of
    for site in started.values():
        site.server.close()


def ask(client, statement):
    return get(f"/{client}?{quote_plus(statement)}")


def answers_of(site, client, statement, count):
    """Of so many requests at the same time."""
    with ExitStack() as stack:
        connections = [stack.enter_context(site.server.connect()) for _ in range(count)]
        for connection in connections:
            connection.send(ask(client, statement))
        return [connection.read_response() for connection in connections]


@pytest.mark.parametrize(("mode", "client"), PAIRS)
def test_all_wait_at_once(backed, fakes, mode, client):
    """Each is answered when the last one has come."""
    fake = fakes[SERVERS[client]]
    site = backed(mode, *(["--threads", str(AT_ONCE)] if mode == "threads" else []))
    wait_for(lambda: fake.now == 0)
    fake.forget()
    answers = answers_of(site, client, f"select meet({AT_ONCE})", AT_ONCE)
    assert {(answer.status, answer.body) for answer in answers} == {(200, b"met")}
    assert fake.most == AT_ONCE


@pytest.mark.parametrize("client", SERVERS)
def test_one_after_the_other(backed, fakes, client):
    """In the default mode, which shows that the others do not get there by chance."""
    fake = fakes[SERVERS[client]]
    wait_for(lambda: fake.now == 0)
    fake.forget()
    answers = answers_of(backed("default"), client, "select sleep(0.05)", 4)
    assert {answer.status for answer in answers} == {200}
    assert (fake.most, len([s for s in fake.statements if "sleep" in s])) == (1, 4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("client", ["psycopg2", "psycopg"])
def test_a_long_statement(backed, mode, client):
    """More than the buffers of a connection hold, both ways."""
    answer = answers_of(backed(mode), client, "digits 10000000", 1)[0]
    assert (answer.status, answer.body.count(b"1")) == (200, 10_000_000)


@pytest.mark.parametrize(("mode", "client"), LATE)
def test_deadline(backed, fakes, mode, client):
    """It ends the wait and the connection, and not the worker."""
    fake = fakes[SERVERS[client]]
    site = backed(mode, "--request-timeout", "300ms", "--request-grace", "1h")
    worker = site.worker
    wait_for(lambda: fake.now == 0)
    with site.server.connect() as connection:
        assert connection.request(ask(client, "select sleep(3600)")).status == 504
        wait_for(lambda: fake.now == 0)
        answer = connection.request(ask(client, "select 7"))
        assert (answer.status, answer.body) == (200, b"7")
    assert site.worker == worker
