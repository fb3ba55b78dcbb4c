"""What a trial must have left behind: every question accounted for, every limit kept, nothing mixed up.

Reads the database with SQL of its own, so that a mistake in the product's queries cannot hide itself.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inspector.cloud.question import read_question
from inspector.store.cloud_audit import verify_audit
from inspector.store.database import Database
from inspector.store.frames import FrameFiles
from inspector.store.hash_chain import verify_chain
from tests.cloud.faulty_servers import FaultyServer, make_answer, name_case

HOUR_US = 3_600_000_000


@dataclass
class TrialAudit:
    """Counts, and what is wrong."""

    counts: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def require(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            self.failures.append(f"{what}: {found!r}, wanted {wanted!r}")


def audit_trial(
    data_dir: Path, log: Path, servers: Sequence[FaultyServer], limits: dict[str, dict[str, float]], kills: int
) -> TrialAudit:
    """Check everything that a stopped and drained trial promises."""
    audit = TrialAudit()
    rows = sqlite3.connect(f"file:{data_dir / 'inspector.db'}?mode=ro", uri=True)
    rows.row_factory = sqlite3.Row
    escalations = {row["escalation_id"]: row for row in rows.execute("SELECT * FROM escalation")}
    opinions = [(row, json.loads(row["details"])) for row in rows.execute("SELECT * FROM opinion")]
    cases = name_cases(data_dir, rows)
    _check_questions(audit, rows, escalations)
    _check_answers(audit, rows, escalations, opinions, cases)
    _check_servers(audit, rows, escalations, servers, cases, count_too_late(log), kills)
    audit.counts["budgets exceeded"] = 0
    for station, limit in limits.items():
        check_budget(audit, rows, station, limit)
    rows.close()
    _check_chains(audit, data_dir, list(limits))
    return audit


def name_cases(data_dir: Path, rows: sqlite3.Connection) -> dict[str, str]:
    """{escalation: what the servers call it}, by the pictures in the files of the audit log."""
    files = FrameFiles(data_dir / "outgoing")
    return {
        row["escalation_id"]: name_case(read_question(files.read(row["payload_key"])).images[-1].content)
        for row in rows.execute("SELECT escalation_id, payload_key FROM cloud_audit")
    }


def count_too_late(log: Path) -> Counter[str]:
    """{escalation: attempts whose time was up} by the process's own log: on a busy machine an answer may come then."""
    lines = [json.loads(line) for line in log.read_text(errors="replace").splitlines() if line.startswith("{")]
    failed = [line for line in lines if line["event"] == "escalation_attempt_failed"]
    return Counter(line["escalation_id"] for line in failed if "in time" in line["reason"])


def _check_questions(audit: TrialAudit, rows: sqlite3.Connection, escalations: dict[str, sqlite3.Row]) -> None:
    reviews = {row[0] for row in rows.execute("SELECT inspection_id FROM inspection WHERE verdict = 'REVIEW'")}
    asked = Counter(row["inspection_id"] for row in escalations.values())
    lost = len(reviews - asked.keys()) + sum(row["finished_utc_us"] is None for row in escalations.values())
    audit.require("REVIEW parts without a question, or whose question is neither answered nor refused", lost, 0)
    audit.require("questions about other parts", len(asked.keys() - reviews), 0)
    states = Counter(row["state"] for row in escalations.values())
    audit.require("states", set(states) <= {"answered", "reused", "failed"}, True)
    audit.counts |= {"escalations": len(escalations), "lost": lost, **{name: states[name] for name in sorted(states)}}


def _check_answers(
    audit: TrialAudit,
    rows: sqlite3.Connection,
    escalations: dict[str, sqlite3.Row],
    opinions: list[tuple[sqlite3.Row, dict[str, Any]]],
    cases: dict[str, str],
) -> None:
    """One opinion and one message for each answer, with the words that were said to this question."""
    answered = {name for name, row in escalations.items() if row["state"] in ("answered", "reused")}
    given = Counter(details["escalation_id"] for _, details in opinions)
    audit.require("answers without exactly one opinion", [name for name in answered if given[name] != 1], [])
    audit.require("opinions without an answer", len(given.keys() - answered), 0)
    for row, details in opinions:
        source = details["same_as"] or details["escalation_id"]
        said = make_answer(cases[source])
        if (row["verdict"], details["text"]) != (said["verdict"], said["reason"]):
            audit.failures.append(f"escalation {source}: another answer than was given")
    topics = [row[0] for row in rows.execute("SELECT topic FROM outbox")]
    audit.counts["answers with cached context"] = sum(bool(details["cached_tokens"]) for _, details in opinions)
    audit.require("escalation messages", sum(topic.endswith("/escalation") for topic in topics), len(answered))


def _check_servers(
    audit: TrialAudit,
    rows: sqlite3.Connection,
    escalations: dict[str, sqlite3.Row],
    servers: Sequence[FaultyServer],
    cases: dict[str, str],
    too_late: Counter[str],
    kills: int,
) -> None:
    """Nothing arrived that was not debited and logged before. What was answered is asked again after a kill, or when
    the answer came after the process had stopped waiting for it; never otherwise."""
    debited = Counter(row[0] for row in rows.execute("SELECT escalation_id FROM cloud_spend"))
    logged = Counter(row[0] for row in rows.execute("SELECT escalation_id FROM cloud_audit"))
    received = sum((server.received_of for server in servers), Counter[str]())
    answered = sum((server.answered_of for server in servers), Counter[str]())
    refused = sum((server.refused_of for server in servers), Counter[str]())
    audit.require(
        "requests that the schema does not allow", [item for server in servers for item in server.violations], []
    )
    audit.require("pictures tell questions apart", len(set(cases.values())), len(cases))
    audit.require("requests about nothing that was logged", received.keys() - set(cases.values()), set())
    audit.require("debits and log agree", debited, logged)
    more = [name for name, case in cases.items() if received[case] > debited[name]]
    audit.require("questions that arrived more often than they were debited", more, [])
    repeats = 0
    for name, row in escalations.items():
        case = cases.get(name, "")
        complete = answered[case] + refused[case]
        again = max(0, complete - 1)
        repeats += again
        if again > row["kills"] + too_late[name]:
            audit.failures.append(
                f"escalation {name}: {complete} complete answers, {row['kills']} kills, {too_late[name]} too late"
            )
    failed = [name for name, row in escalations.items() if row["state"] == "failed"]
    unexplained = [name for name in failed if not refused[cases.get(name, "")]]
    audit.require("questions that failed without a final refusal", unexplained, [])
    interrupted = sum(row["kills"] for row in escalations.values())
    audit.require("interrupted attempts exceed kills", interrupted <= kills, True)
    audit.require(
        "repeats exceed kills and answers that came too late", repeats <= kills + sum(too_late.values()), True
    )
    audit.counts |= {"requests": sum(debited.values()), "interrupted": interrupted, "repeats": repeats}


def check_budget(audit: TrialAudit, rows: sqlite3.Connection, station: str, limit: dict[str, float]) -> None:
    """Over every window that ends with a debit."""
    spent = rows.execute(
        "SELECT debited_steady_us AS at, size_bytes AS size, money_micro AS money FROM cloud_spend "
        "WHERE station = ? ORDER BY at",
        (station,),
    ).fetchall()
    fullest = Counter[str]()
    for last in spent:
        for name, window_us in (("hour", HOUR_US), ("day", 24 * HOUR_US), ("month", 720 * HOUR_US)):
            inside = [row for row in spent if last["at"] - window_us < row["at"] <= last["at"]]
            fullest[f"requests_{name}"] = max(fullest[f"requests_{name}"], len(inside))
            fullest[f"bytes_{name}"] = max(fullest[f"bytes_{name}"], sum(row["size"] for row in inside))
            fullest[f"money_{name}"] = max(fullest[f"money_{name}"], sum(row["money"] for row in inside))
    for key, found in (
        ("requests_per_hour", fullest["requests_hour"]),
        ("requests_per_day", fullest["requests_day"]),
        ("bytes_per_day", fullest["bytes_day"]),
        ("money_per_month", fullest["money_month"] / 1e6),
    ):
        if found > limit[key]:
            audit.failures.append(f"{station}: {key} is {limit[key]}, but {found} were debited")
            audit.counts["budgets exceeded"] = audit.counts.get("budgets exceeded", 0) + 1
    audit.counts[f"fullest hour of {station.rsplit('/', 1)[1]}"] = (
        f"{fullest['requests_hour']}/{limit['requests_per_hour']:g}"
    )


def _check_chains(audit: TrialAudit, data_dir: Path, stations: list[str]) -> None:
    db = Database.open(data_dir)
    try:
        files = FrameFiles(data_dir / "outgoing")
        report = verify_audit(db, lambda key: files.read(key) if files.exists(key) else None)
        audit.require("files of the audit log that are gone", report.files_gone, 0)
        audit.counts["audit_rows"] = report.rows
        for station in stations:
            verify_chain(db, station)
    finally:
        db.close()
