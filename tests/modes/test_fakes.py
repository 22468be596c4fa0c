"""The fake servers against the clients that they are for, without fastfork."""

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import psycopg2
import psycopg2.errors
import pymysql
import pytest
import requests
from fake_http import FakeHttp
from fake_mysql import FakeMysql
from fake_postgres import FakePostgres
from harness import wait_for


@pytest.fixture(scope="module")
def postgres():
    with FakePostgres() as fake:
        yield fake


@pytest.fixture(scope="module")
def mysql():
    with FakeMysql() as fake:
        yield fake


@pytest.fixture(params=["psycopg2", "psycopg", "pymysql"])
def database(request):
    """(fake, a way to connect to it, what a mistake raises)"""
    if request.param == "pymysql":
        fake = request.getfixturevalue("mysql")
        return fake, lambda: pymysql.connect(port=fake.port), pymysql.err.ProgrammingError
    fake = request.getfixturevalue("postgres")
    if request.param == "psycopg2":
        return fake, lambda: psycopg2.connect(fake.dsn), psycopg2.errors.SyntaxError
    return fake, lambda: psycopg.connect(fake.dsn), psycopg.errors.SyntaxError


def test_a_conversation(database):
    fake, connect, mistake = database
    connection = connect()
    cursor = connection.cursor()
    cursor.execute("select 42")
    assert cursor.fetchall() in ([("42",)], (("42",),))
    cursor.execute("select sleep(%s)", [0.01])
    assert cursor.fetchone() == ("",)
    for number in range(8):                         # psycopg prepares what comes again
        cursor.execute("select %s", [number])
        assert cursor.fetchone() == (str(number),)
    connection.commit()
    with pytest.raises(mistake, match="not understood"):
        cursor.execute("delete %s", [1])
    connection.rollback()
    cursor.execute("select 1")
    assert cursor.fetchone() == ("1",)
    connection.close()
    wait_for(lambda: fake.clients == 0)


def test_a_transaction_that_has_failed(postgres):
    """Nothing works in it any more."""
    for connect in psycopg2.connect, psycopg.connect:
        connection = connect(postgres.dsn)
        cursor = connection.cursor()
        for statement in "delete", "select 1":
            with pytest.raises((psycopg.Error, psycopg2.Error)):
                cursor.execute(statement)
        connection.rollback()
        cursor.execute("select 1")
        connection.close()


def test_how_many_at_once(database):
    fake, connect, _ = database
    fake.forget()

    def ask(statement):
        connection = connect()
        cursor = connection.cursor()
        cursor.execute(statement)
        found = cursor.fetchone()
        connection.close()
        return found

    for _ in range(3):
        ask("select 1")
    assert (fake.now, fake.most) == (0, 1)
    with ThreadPoolExecutor(5) as pool:
        assert list(pool.map(ask, ["select meet(5)"] * 5)) == [("met",)] * 5
    assert (fake.now, fake.most) == (0, 5)


def test_who_comes_alone(mysql, monkeypatch):
    monkeypatch.setattr("fakes.PATIENCE", 0.1)
    mysql.forget()
    connection = pymysql.connect(port=mysql.port)
    with connection.cursor() as cursor, pytest.raises(pymysql.Error, match="1 of 2 came"):
        cursor.execute("select meet(2)")
    connection.close()


def test_a_client_that_goes(postgres):
    """Its statement ends, though its time is not over."""
    postgres.forget()
    connection = psycopg2.connect(postgres.dsn, async_=True)
    while connection.poll() != psycopg2.extensions.POLL_OK:
        pass
    connection.cursor().execute("select pg_sleep(3600)")
    wait_for(lambda: postgres.now == 1)
    connection.close()
    wait_for(lambda: postgres.now == postgres.clients == 0)


def test_http():
    with FakeHttp() as fake, requests.Session() as session:
        session.trust_env = False
        assert session.get(f"{fake.url}/42").text == "42"
        assert session.get(f"{fake.url}/nothing").status_code == 400
        other = threading.Thread(target=session.get, args=[f"{fake.url}/meet(2)"])
        other.start()
        with requests.Session() as second:
            second.trust_env = False
            assert second.get(f"{fake.url}/meet(2)").text == "met"
        other.join()
        assert fake.most == 2
