"""Pages that ask a fake server (tests/modes/fakes.py): the path says through which client, the
query what.  RECIPES are modules to be imported first, the files of docs/greenlets.md."""

import contextlib
import importlib
import os
import socket
from urllib.parse import unquote_plus

import psycopg
import psycopg2
import pymysql
import requests
import urllib3

POSTGRES, MYSQL, HTTP = os.environ["POSTGRES"], int(os.environ["MYSQL"]), os.environ["HTTP"]
RECIPES = {name: importlib.import_module(name) for name in os.environ["RECIPES"].split()}

psycopg_connect = getattr(RECIPES.get("psycopg_side_by_side"), "Connection", psycopg).connect
pool = urllib3.PoolManager(num_pools=1, maxsize=50)


def database(connect, *args, **kwargs):
    def page(query):
        with contextlib.closing(connect(*args, **kwargs)) as connection:
            cursor = connection.cursor()
            if query.startswith("digits "):
                digits = "1" * int(query.removeprefix("digits "))
                if connect is psycopg_connect:
                    cursor.execute("select %s", [digits])
                else:
                    cursor.execute(f"select {digits}")
            else:
                cursor.execute(query)
            return cursor.fetchone()[0]

    return page


def by_requests(query):
    with requests.Session() as session:
        session.trust_env = False
        return session.get(f"{HTTP}/{query.removeprefix('select ')}").text


def by_urllib3(query):
    return pool.request("GET", f"{HTTP}/{query.removeprefix('select ')}").data.decode()


def by_socket(query):
    host, _, port = HTTP.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(f"GET /{query.removeprefix('select ')} HTTP/1.0\r\n\r\n".encode())
        with sock.makefile("rb") as answer:
            return answer.read().rpartition(b"\r\n")[2].decode()


PAGES = {
    "/psycopg2": database(psycopg2.connect, POSTGRES),
    "/psycopg": database(psycopg_connect, POSTGRES),
    "/pymysql": database(pymysql.connect, port=MYSQL),
    "/requests": by_requests,
    "/urllib3": by_urllib3,
    "/socket": by_socket,
}


def app(environ, start_response):
    query = unquote_plus(environ["QUERY_STRING"])
    if "sleep" not in query:  # all others have the time that they need
        environ["fastfork.extend_deadline"](3600)
    body = PAGES[environ["PATH_INFO"]](query).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
