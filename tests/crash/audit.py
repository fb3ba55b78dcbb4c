"""Compares the ledger's book with the database and says, in counts, what was lost, repeated or changed.

Reads both files with sqlite3 alone. Only the hash chain is verified by the product itself, in a process of
its own, because its canonical form is the product's.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VERIFY_CHAIN = """
import sys
from pathlib import Path
from inspector.store.database import Database
from inspector.store.hash_chain import verify_chain
print(verify_chain(Database.open(Path(sys.argv[1])), sys.argv[2]).rows)
"""


@dataclass
class Audit:
    """Counts for people, and requirements: a count that must have one certain value."""

    facts: list[tuple[str, str]] = field(default_factory=list)
    requirements: list[tuple[str, int, int]] = field(default_factory=list)

    def note(self, what: str, value: object) -> None:
        self.facts.append((what, str(value)))

    def require(self, what: str, found: int, expected: int) -> None:
        self.requirements.append((what, found, expected))

    def has_failed(self) -> bool:
        return any(found != expected for _, found, expected in self.requirements)

    def render(self) -> str:
        lines = [f"  {what:<66} {value}" for what, value in self.facts]
        lines.append("")
        for what, found, expected in self.requirements:
            mark = "ok" if found == expected else "FAILED"
            wanted = f"of {expected}" if expected else ""
            lines.append(f"  {what:<66} {found:>7} {wanted:<10} {mark}")
        return "\n".join(lines)

    @staticmethod
    def count_owed(database: Path) -> int:
        """Triggers without inspection, messages not sent, pictures not made, commands not answered."""
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            return sum(
                connection.execute(f"SELECT count(*) FROM {condition}").fetchone()[0]
                for condition in (
                    "trigger WHERE NOT closed",
                    "outbox WHERE sent_utc_us IS NULL",
                    "evidence WHERE state = 'pending'",
                    "command WHERE answered_utc_us IS NULL",
                )
            )


def audit_books(
    book: Path,
    data_dir: Path,
    stations: tuple[str, ...],
    count_verified: Callable[[Path, str], int] | None = None,
) -> Audit:
    """Every requirement of the trial, checked."""
    audit = Audit()
    with sqlite3.connect(book) as ledger, sqlite3.connect(data_dir / "inspector.db") as database:
        ledger.row_factory = database.row_factory = sqlite3.Row
        _audit_triggers(audit, ledger, database)
        messages = _read_messages(ledger)
        _audit_delivery(audit, messages, database)
        _audit_payloads(audit, messages)
        _audit_order(audit, messages, database, stations)
        _audit_database(audit, database, stations)
    verify = count_verified or count_verified_rows
    for station in stations:
        rows = _count(database, "inspection WHERE station = ?", station)
        audit.require(f"rows of {station} in a hash chain that verifies", verify(data_dir, station), rows)
    return audit


def count_verified_rows(data_dir: Path, station: str) -> int:
    """Rows in the station's hash chain by the product's own verification; -1 when it refuses the chain."""
    command = [sys.executable, "-c", VERIFY_CHAIN, str(data_dir), station]
    verified = subprocess.run(command, cwd=data_dir, check=False, stdout=subprocess.PIPE, text=True)
    return int(verified.stdout) if verified.returncode == 0 else -1


def _count(connection: sqlite3.Connection, condition: str, *values: object) -> int:
    found: int = connection.execute(f"SELECT count(*) FROM {condition}", values).fetchone()[0]
    return found


def _audit_triggers(audit: Audit, ledger: sqlite3.Connection, database: sqlite3.Connection) -> None:
    """Every accepted trigger ends in exactly one inspection, and there are no others."""
    inspections: dict[str, int] = defaultdict(int)
    triggers: dict[str, int] = defaultdict(int)
    for row in database.execute(
        "SELECT part_id, count(i.inspection_id) AS n FROM trigger t LEFT JOIN inspection i USING (trigger_id) "
        "GROUP BY t.trigger_id"
    ):
        inspections[row["part_id"]] += row["n"]
        triggers[row["part_id"]] += 1
    dropped = [row["part_id"] for row in ledger.execute("SELECT part_id FROM dropped")]
    requests = ledger.execute("SELECT part_id, ok, sends FROM request").fetchall()
    accepted = [row["part_id"] for row in requests if row["ok"] == 1]
    refused = [row["part_id"] for row in requests if row["ok"] == 0]
    audit.note("files dropped", len(dropped))
    audit.note("trigger commands (sent again until answered)", f"{len(requests)} ({sum(r['sends'] for r in requests)})")
    audit.note("trigger commands refused", len(refused))
    verdicts = database.execute("SELECT verdict, count(*) FROM inspection GROUP BY verdict ORDER BY verdict").fetchall()
    audit.note("verdicts", ", ".join(f"{row[1]} {row[0]}" for row in verdicts))
    audit.require("files that ended in exactly one inspection", _ones(inspections, dropped), len(dropped))
    audit.require("commands answered", sum(row["ok"] is not None for row in requests), len(requests))
    audit.require("accepted commands that ended in exactly one inspection", _ones(inspections, accepted), len(accepted))
    audit.require("refused commands that were inspected all the same", sum(inspections[part] for part in refused), 0)
    issued = {*dropped, *accepted}
    audit.require("parts with more than one trigger", sum(count > 1 for count in triggers.values()), 0)
    audit.require("triggers that nobody issued", sum(part not in issued for part in triggers), 0)


def _ones(inspections: dict[str, int], parts: list[str]) -> int:
    return sum(inspections.get(part) == 1 for part in parts)


def _read_messages(ledger: sqlite3.Connection) -> list[tuple[str, dict[str, Any]]]:
    """(topic, payload) of every message in the order of arrival, without what the broker had retained."""
    rows = ledger.execute("SELECT topic, payload FROM received WHERE NOT retained ORDER BY number")
    return [(row["topic"], json.loads(row["payload"])) for row in rows]


def _audit_delivery(audit: Audit, messages: list[tuple[str, dict[str, Any]]], database: sqlite3.Connection) -> None:
    """Every inspection was delivered at least once, as it stands in the database."""
    told = [payload for topic, payload in messages if topic.endswith("/inspection")]
    first = {payload["inspection_id"]: payload for payload in reversed(told)}
    stored = {row["inspection_id"]: row["verdict"] for row in database.execute("SELECT * FROM inspection")}
    audit.note("messages received", len(messages))
    audit.note("inspection messages received more than once", len(told) - len(first))
    audit.note("sent late (is_historical)", sum("is_historical" in payload for payload in told))
    audit.require("inspections delivered at least once", sum(i in first for i in stored), len(stored))
    audit.require("inspections delivered that are not in the database", sum(i not in stored for i in first), 0)
    same = sum(payload["verdict"] == stored.get(i) for i, payload in first.items())
    audit.require("inspections delivered with the verdict of the database", same, len(first))
    pictures = {row["inspection_id"] for row in database.execute("SELECT inspection_id FROM evidence")}
    shown = {payload["inspection_id"] for topic, payload in messages if topic.endswith("/evidence")}
    audit.require("evidence delivered at least once", len(pictures & shown), len(pictures))


def _audit_payloads(audit: Audit, messages: list[tuple[str, dict[str, Any]]]) -> None:
    """No id ever carries two payloads; only the flag that says how late this delivery is may differ."""
    by_id: dict[str, set[str]] = defaultdict(set)
    by_inspection: dict[tuple[str, str], set[str]] = defaultdict(set)
    for topic, payload in messages:
        text = json.dumps({key: value for key, value in payload.items() if key != "is_historical"}, sort_keys=True)
        if "message_id" in payload:
            by_id[payload["message_id"]].add(text)
        if "inspection_id" in payload:
            by_inspection[topic, payload["inspection_id"]].add(text)
    audit.note("different message ids", len(by_id))
    audit.require("message ids with two payloads", sum(len(texts) > 1 for texts in by_id.values()), 0)
    audit.require("inspection ids with two payloads", sum(len(texts) > 1 for texts in by_inspection.values()), 0)


def _audit_order(
    audit: Audit,
    messages: list[tuple[str, dict[str, Any]]],
    database: sqlite3.Connection,
    stations: tuple[str, ...],
) -> None:
    """Per station, inspections arrive first in the order in which they were committed."""
    out_of_order = 0
    for station in stations:
        rows = database.execute("SELECT inspection_id, chain_index FROM inspection WHERE station = ?", (station,))
        position = {row["inspection_id"]: row["chain_index"] for row in rows}
        heard = dict.fromkeys(
            payload["inspection_id"] for topic, payload in messages if topic == f"inspector/v1/{station}/inspection"
        )
        places = [position[inspection_id] for inspection_id in heard if inspection_id in position]
        out_of_order += sum(later < earlier for earlier, later in itertools.pairwise(places))
    audit.require("inspections first heard out of the order of commit", out_of_order, 0)


def _audit_database(audit: Audit, database: sqlite3.Connection, stations: tuple[str, ...]) -> None:
    audit.require("triggers still open", _count(database, "trigger WHERE NOT closed"), 0)
    audit.require("messages still unsent", _count(database, "outbox WHERE sent_utc_us IS NULL"), 0)
    for station in stations:
        row = database.execute(
            "SELECT count(*), count(DISTINCT sequence), max(sequence) FROM trigger WHERE station = ?", (station,)
        ).fetchone()
        audit.require(f"sequence numbers of {station} without gap or repetition", row[1], row[2] or 0)
        audit.require(f"triggers of {station} with a number of their own", row[1], row[0])
    problems = [row[0] for row in database.execute("PRAGMA integrity_check") if row[0] != "ok"]
    audit.require("problems found by the integrity check", len(problems), 0)
    audit.require("broken foreign keys", len(database.execute("PRAGMA foreign_key_check").fetchall()), 0)
