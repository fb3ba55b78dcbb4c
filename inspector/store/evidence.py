"""Evidence owed for NG and REVIEW inspections: a queue with retries, in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select

from inspector.errors import StoreError
from inspector.records import Message
from inspector.store.database import Database
from inspector.store.outbox import insert_messages
from inspector.store.stored import StoredInspection, load_stored
from inspector.store.tables import EvidenceRow, InspectionRow

MAX_ATTEMPTS = 3
MAX_HANDED_OUT = 10


@dataclass(frozen=True, slots=True)
class EvidenceTask:
    """Make the pictures of this inspection; `attempts` have failed before."""

    inspection: StoredInspection
    attempts: int
    queued_utc_us: int

    @property
    def inspection_id(self) -> str:
        return self.inspection.inspection_id


def next_evidence(db: Database) -> EvidenceTask | None:
    """The oldest evidence that is owed; what failed before comes after what did not. None: nothing to do.

    A task that was handed out ten times and never finished nor failed kills its process; it is given up.
    """
    wanted = (
        select(EvidenceRow)
        .where(EvidenceRow.state == "pending")
        .order_by(EvidenceRow.attempts, EvidenceRow.queued_utc_us)
        .limit(1)
    )
    with db.read() as session:
        if session.scalar(wanted) is None:
            return None
    with db.write() as session:
        while (row := session.scalar(wanted)) is not None:
            row.handed_out += 1
            if row.handed_out <= MAX_HANDED_OUT:
                found = load_stored(
                    session, select(InspectionRow).where(InspectionRow.inspection_id == row.inspection_id)
                )
                return EvidenceTask(found[0], row.attempts, row.queued_utc_us)
            row.state, row.reason = "failed", f"the process died {MAX_HANDED_OUT} times while making it"
            session.flush()
    return None


def finish_evidence(
    db: Database,
    inspection_id: str,
    *,
    visual_key: str | None,
    twin_key: str | None,
    thumbnail_key: str | None,
    twin_method: str | None,
    messages: Sequence[Message],
    now_us: int,
) -> bool:
    """The pictures are stored: mark it done and queue its messages in one transaction; False if it was done."""
    with db.write() as session:
        row = session.get(EvidenceRow, inspection_id)
        if row is None:
            raise StoreError(f"no evidence is owed for inspection {inspection_id}")
        if row.state == "done":
            return False
        row.state, row.reason, row.finished_utc_us = "done", None, now_us
        row.visual_key, row.twin_key, row.thumbnail_key = visual_key, twin_key, thumbnail_key
        row.twin_method = twin_method
        station = session.scalars(
            select(InspectionRow.station).where(InspectionRow.inspection_id == inspection_id)
        ).one()
        insert_messages(session, station, messages, now_us)
    db.checkpoint_if_due()
    return True


def fail_evidence(db: Database, inspection_id: str, reason: str, now_us: int) -> bool:
    """One attempt failed; True when that was the last one and the evidence is given up."""
    with db.write() as session:
        row = session.get(EvidenceRow, inspection_id)
        if row is None:
            raise StoreError(f"no evidence is owed for inspection {inspection_id}")
        if row.state != "pending":
            return row.state == "failed"
        row.attempts += 1
        row.reason = reason
        if row.attempts >= MAX_ATTEMPTS:
            row.state, row.finished_utc_us = "failed", now_us
        return row.state == "failed"


def count_pending(db: Database) -> int:
    """How many inspections still wait for their evidence."""
    with db.read() as session:
        return session.scalar(select(func.count()).where(EvidenceRow.state == "pending")) or 0
