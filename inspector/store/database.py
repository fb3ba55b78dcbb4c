"""The connection to SQLite; the only file that knows the dialect.

WAL with `synchronous=FULL`: a commit that returned survives a kill and a power cut. Every write is
`BEGIN IMMEDIATE` and short. Python's own transaction control is switched off (`isolation_level=None`),
else `BEGIN IMMEDIATE` would never be sent and a SELECT would start no snapshot.

Writers of several processes wait for each other by asking again every half millisecond: SQLite's own
busy handler sleeps up to 100 ms, which starves a commit whenever another process writes at the same pace.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from inspector.errors import DataDirReadOnlyError, DiskFullError, StoreError
from inspector.store.canonical_json import canonical_json
from inspector.store.locks import lock_data_dir as lock_data_dir
from inspector.store.locks import wait_for_lock
from inspector.store.os_errors import named_os_errors
from inspector.store.schema import upgrade_schema

DATABASE_FILE = "inspector.db"
BUSY_TIMEOUT_S = 30.0
ASK_AGAIN_S = 0.0005
CHECKPOINT_EVERY_S = 2.0
FALLBACK_CHECKPOINT_PAGES = 4_000
WAL_BYTES_KEPT = 64 * 1024 * 1024


class Database:
    """One SQLite file in a data directory. Thread-safe; not to be used across a fork."""

    def __init__(self, data_dir: Path) -> None:
        """Use `open`."""
        self._data_dir = data_dir
        path = data_dir / DATABASE_FILE
        self._writer = _create_engine(path, busy_timeout_s=0.0, begin=_begin_immediately)
        self._reader = _create_engine(path, busy_timeout_s=BUSY_TIMEOUT_S, begin=_begin_snapshot)
        self._plain = _create_engine(path, busy_timeout_s=BUSY_TIMEOUT_S, begin=None)
        self._write_turn = threading.RLock()
        self._checkpoint_due = time.monotonic() + CHECKPOINT_EVERY_S

    @classmethod
    def open(cls, data_dir: Path) -> Database:
        """Create what is missing and migrate to the newest schema; several processes may do so at once.

        Raises `DataDirReadOnlyError`, `DiskFullError`, `SchemaVersionError` (made by a newer program) or
        `StoreError` (not a database of this program, or a broken one).
        """
        with named_os_errors(data_dir):
            data_dir.mkdir(parents=True, exist_ok=True)
        database = cls(data_dir)
        try:
            with wait_for_lock(data_dir / "migrate.lock"), database._named_errors():
                _switch_to_wal(database._plain)
                with database._writer.begin() as connection:
                    upgrade_schema(connection)
        except BaseException:
            database.close()
            raise
        return database

    @property
    def data_dir(self) -> Path:
        return self._data_dir

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that holds the write lock from its first moment and commits at exit.

        Any exception rolls back. Raises `DiskFullError`, `DataDirReadOnlyError` or `StoreError` for what
        SQLite reports. Keep it short: everybody else's commit waits.
        """
        try:
            with self._named_errors(), self._write_turn, Session(self._writer, expire_on_commit=False) as session:
                session.connection()
                yield session
                session.commit()
        except DiskFullError:
            self._reuse_log()
            raise

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A consistent snapshot; never waits for writers and never makes them wait."""
        with self._named_errors(), Session(self._reader, expire_on_commit=False) as session:
            yield session

    def close(self) -> None:
        for engine in (self._writer, self._reader, self._plain):
            engine.dispose()

    def checkpoint_if_due(self) -> None:
        """Copy the write-ahead log into the database, at most every `CHECKPOINT_EVERY_S`.

        Called by work outside the verdict lane, so that a commit there rarely pays for it; a passive
        checkpoint waits for nobody.
        """
        if time.monotonic() < self._checkpoint_due:
            return
        self._checkpoint_due = time.monotonic() + CHECKPOINT_EVERY_S
        self._checkpoint()

    def durability(self) -> dict[str, Any]:
        """What a connection reports about how safe a commit is; 2 is `synchronous=FULL`."""
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "wal_autocheckpoint")
        with self._named_errors(), self._plain.connect() as connection:
            return {name: connection.execute(text(f"PRAGMA {name}")).scalar_one() for name in names}

    def integrity(self) -> list[str]:
        """Everything that is wrong with the file; empty when it is sound. Reads the whole file."""
        try:
            with self._named_errors(), self._plain.connect() as connection:
                found = [str(row[0]) for row in connection.execute(text("PRAGMA integrity_check"))]
                orphans = [
                    f"{row[0]} row {row[1]} refers to a missing {row[2]}"
                    for row in connection.execute(text("PRAGMA foreign_key_check"))
                ]
        except StoreError as error:
            return [str(error)]
        return [line for line in found if line != "ok"] + orphans

    def _checkpoint(self) -> None:
        with self._named_errors(), self._plain.connect() as connection:
            connection.execute(text("PRAGMA wal_checkpoint(PASSIVE)"))

    def _reuse_log(self) -> None:
        """On a full disk: what the log holds is copied out, so that the next write needs no new space for it."""
        with suppress(StoreError):
            self._checkpoint()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise _name_error(error, self._data_dir) from error
        except SQLAlchemyError as error:
            raise StoreError(f"{self._data_dir / DATABASE_FILE}: {error}") from error


def _create_engine(path: Path, *, busy_timeout_s: float, begin: Callable[[Connection], None] | None) -> Engine:
    engine = create_engine(
        URL.create("sqlite+pysqlite", database=str(path)),
        connect_args={"timeout": busy_timeout_s, "check_same_thread": False, "isolation_level": None},
        json_serializer=canonical_json,
        pool_size=4,
        max_overflow=32,
        pool_use_lifo=True,
        hide_parameters=True,
    )
    event.listen(engine, "connect", _configure_connection)
    if begin is not None:
        event.listen(engine, "begin", begin)
    return engine


def _configure_connection(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    for pragma in (
        "synchronous=FULL",
        "foreign_keys=ON",
        f"wal_autocheckpoint={FALLBACK_CHECKPOINT_PAGES}",
        f"journal_size_limit={WAL_BYTES_KEPT}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_snapshot(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _begin_immediately(connection: Connection) -> None:
    """Take the write lock now, in turn with the other processes."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            return
        except OperationalError as error:
            if _primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(ASK_AGAIN_S)


def _switch_to_wal(engine: Engine) -> None:
    """WAL is a property of the file; it must be switched on outside a transaction."""
    with engine.connect() as connection:
        mode = connection.execute(text("PRAGMA journal_mode=WAL")).scalar_one()
    if mode != "wal":
        raise StoreError(f"{engine.url.database}: this file system gives no write-ahead log; use a local disk")


def _name_error(error: DBAPIError, data_dir: Path) -> StoreError:
    """The error of ours for what SQLite reports; by primary result code, not by text."""
    code = _primary_code(error)
    where = data_dir / DATABASE_FILE
    if code == sqlite3.SQLITE_READONLY or (
        code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR) and not os.access(data_dir, os.W_OK)
    ):
        return DataDirReadOnlyError(f"{where} cannot be written; check its owner and mount")
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return DiskFullError(f"{where}: {error.orig}; free some space, nothing accepted is lost")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreError(f"{where} is not a sound database ({error.orig}); restore it from a backup or move it away")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreError(f"{where} was held by another process for more than {BUSY_TIMEOUT_S:g} s")
    return StoreError(f"{where}: {error.orig}")


def _primary_code(error: DBAPIError) -> int:
    code: int = getattr(error.orig, "sqlite_errorcode", 0)
    return code & 0xFF
