"""The database that all workers of all services share: one SQLite file in WAL mode.

A connection must not go through a fork, and the application is imported before the workers are
forked: so the file is made when the application is loaded, and every process opens it at its
first transaction.
"""

import contextlib
import fcntl
import os
import sqlite3
from pathlib import Path

PATIENCE = 30.0  # seconds that a transaction may wait for others

SCHEMA = """
CREATE TABLE IF NOT EXISTS instances (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    address TEXT,
    created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))
);
CREATE TABLE IF NOT EXISTS metadata (
    instance INTEGER NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (instance, key)
);
CREATE TABLE IF NOT EXISTS volumes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    size INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS attachments (
    volume INTEGER PRIMARY KEY REFERENCES volumes (id),
    instance INTEGER NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    device TEXT NOT NULL,
    UNIQUE (instance, device)
);
"""


class Database:
    def __init__(self, path):
        self.path = str(path)
        self._connection = None
        self._owner = None
        self._create()

    def _create(self):
        Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        # Not all of SQLite's errors wait for others while a file becomes one in WAL mode.
        with open(self.path + ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with contextlib.closing(self._open()) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(SCHEMA)

    def _open(self):
        connection = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def reading(self):
        """A connection that sees the database as it is now, whoever writes in the meantime."""
        return self._transaction("BEGIN")

    def writing(self):
        """A connection that nobody else writes beside; what has failed leaves no trace."""
        return self._transaction("BEGIN IMMEDIATE")

    @contextlib.contextmanager
    def _transaction(self, begin):
        if self._owner != os.getpid():
            self._connection = self._open()
            self._owner = os.getpid()
        self._connection.rollback()  # where a RequestTimeout came between two lines of this
        self._connection.execute(begin)
        try:
            yield self._connection
        except BaseException:
            self._connection.rollback()
            raise
        self._connection.commit()
