"""The crash trial's audit finds what it looks for: each sabotage of sound books fails the requirement it should."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from tests.crash.audit import Audit, audit_books
from tests.crash.ledger import TABLES

STATION = "crash/line1/files"
PRODUCT_TABLES = """
CREATE TABLE trigger (trigger_id TEXT, station TEXT, part_id TEXT, sequence INTEGER, closed INTEGER);
CREATE TABLE inspection (inspection_id TEXT, trigger_id TEXT, station TEXT, verdict TEXT, chain_index INTEGER);
CREATE TABLE outbox (sent_utc_us INTEGER);
CREATE TABLE evidence (inspection_id TEXT, state TEXT);
CREATE TABLE command (answered_utc_us INTEGER);
"""


def message(number: int, **changes: object) -> str:
    values = {"message_id": f"m{number}", "inspection_id": f"i{number}", "verdict": "OK"}
    return json.dumps(values | changes)


@pytest.fixture
def books(tmp_path: Path) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """A ledger's book and a database of three files, one command and four inspections, all sound."""
    book, database = sqlite3.connect(tmp_path / "book.db"), sqlite3.connect(tmp_path / "inspector.db")
    book.executescript(TABLES)
    database.executescript(PRODUCT_TABLES)
    topic = f"inspector/v1/{STATION}/inspection"
    for number in range(1, 5):
        database.execute("INSERT INTO trigger VALUES (?, ?, ?, ?, 1)", (f"t{number}", STATION, f"P{number}", number))
        values = (f"i{number}", f"t{number}", STATION, "OK", number)
        database.execute("INSERT INTO inspection VALUES (?, ?, ?, ?, ?)", values)
        book.execute("INSERT INTO received (topic, retained, payload) VALUES (?, 0, ?)", (topic, message(number)))
        if number < 4:
            book.execute("INSERT INTO dropped VALUES (?, ?)", (f"P{number}", f"P{number}.jpg"))
    book.execute("INSERT INTO request VALUES ('r', 'P4', 1, 1, '{}')")
    database.execute("INSERT INTO evidence VALUES ('i1', 'done')")
    evidence = json.dumps({"message_id": "e1", "inspection_id": "i1", "state": "done"})
    book.execute(
        "INSERT INTO received (topic, retained, payload) VALUES (?, 0, ?)",
        (topic.replace("inspection", "evidence"), evidence),
    )
    for connection in (book, database):
        connection.commit()
    return book, database


def failed(tmp_path: Path) -> set[str]:
    """The requirements that failed, but for the hash chain, which these tables do not have."""
    audit = audit_books(tmp_path / "book.db", tmp_path, (STATION,), lambda data_dir, station: 4)
    return {what for what, found, expected in audit.requirements if found != expected and "hash chain" not in what}


def test_sound_books_pass(tmp_path: Path, books: tuple[sqlite3.Connection, sqlite3.Connection]) -> None:
    """Books that agree fail nothing; late and repeated deliveries of the same message are allowed."""
    topic = f"inspector/v1/{STATION}/inspection"
    repeated = message(2)[:-1] + ',"is_historical":true}'
    books[0].execute("INSERT INTO received (topic, retained, payload) VALUES (?, 0, ?)", (topic, repeated))
    books[0].commit()
    assert failed(tmp_path) == set()


@pytest.mark.parametrize(
    ("where", "sabotage", "requirement"),
    [
        (1, "DELETE FROM inspection WHERE inspection_id = 'i2'", "files that ended in exactly one inspection"),
        (1, "INSERT INTO inspection VALUES ('i9', 't2', 'x', 'OK', 9)", "files that ended in exactly one inspection"),
        (1, "DELETE FROM inspection WHERE inspection_id = 'i4'",
         "accepted commands that ended in exactly one inspection"),
        (0, "UPDATE request SET ok = NULL", "commands answered"),
        (0, "UPDATE request SET ok = 0", "refused commands that were inspected all the same"),
        (1, "UPDATE trigger SET part_id = 'P1' WHERE part_id = 'P2'", "parts with more than one trigger"),
        (0, "DELETE FROM dropped WHERE part_id = 'P1'", "triggers that nobody issued"),
        (0, "DELETE FROM received WHERE payload LIKE '%i3%'", "inspections delivered at least once"),
        (1, "DELETE FROM inspection WHERE inspection_id = 'i3'",
         "inspections delivered that are not in the database"),
        (1, "UPDATE inspection SET verdict = 'NG' WHERE inspection_id = 'i1'",
         "inspections delivered with the verdict of the database"),
        (0, "DELETE FROM received WHERE topic LIKE '%/evidence'", "evidence delivered at least once"),
        (0, "INSERT INTO received (topic, retained, payload) SELECT topic, 0, replace(payload, 'OK', 'NG') "
         "FROM received WHERE payload LIKE '%i2%'", "message ids with two payloads"),
        (0, "INSERT INTO received (topic, retained, payload) SELECT topic, 0, replace(payload, 'm2', 'm9') "
         "FROM received WHERE payload LIKE '%i2%'", "inspection ids with two payloads"),
        (0, "UPDATE received SET number = number + 10 WHERE payload LIKE '%i1%'",
         "inspections first heard out of the order of commit"),
        (1, "UPDATE trigger SET closed = 0 WHERE sequence = 1", "triggers still open"),
        (1, "INSERT INTO outbox VALUES (NULL)", "messages still unsent"),
        (1, "UPDATE trigger SET sequence = 7 WHERE sequence = 4",
         f"sequence numbers of {STATION} without gap or repetition"),
        (1, "UPDATE trigger SET sequence = 3 WHERE sequence = 4", f"triggers of {STATION} with a number of their own"),
    ],
)  # fmt: skip
def test_sabotage_is_found(
    tmp_path: Path,
    books: tuple[sqlite3.Connection, sqlite3.Connection],
    where: int,
    sabotage: str,
    requirement: str,
) -> None:
    """Each loss, repetition or change fails the requirement that speaks of it."""
    books[where].execute(sabotage)
    books[where].commit()
    assert requirement in failed(tmp_path)


def test_a_chain_that_does_not_verify_fails(
    tmp_path: Path, books: tuple[sqlite3.Connection, sqlite3.Connection]
) -> None:
    """What the product's own verification refuses counts as no row verified."""
    audit = audit_books(tmp_path / "book.db", tmp_path, (STATION,))
    assert (f"rows of {STATION} in a hash chain that verifies", -1, 4) in audit.requirements
    assert audit.has_failed() and "FAILED" in audit.render()


def test_what_is_owed_is_counted(tmp_path: Path, books: tuple[sqlite3.Connection, sqlite3.Connection]) -> None:
    """Open triggers, unsent messages, pending pictures and unanswered commands keep the trial waiting."""
    assert Audit.count_owed(tmp_path / "inspector.db") == 0
    books[1].execute("UPDATE trigger SET closed = 0 WHERE sequence = 1")
    books[1].execute("INSERT INTO outbox VALUES (NULL)")
    books[1].execute("UPDATE evidence SET state = 'pending'")
    books[1].execute("INSERT INTO command VALUES (NULL)")
    books[1].commit()
    assert Audit.count_owed(tmp_path / "inspector.db") == 4
