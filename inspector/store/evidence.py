"""Evidence owed for NG and REVIEW inspections: a queue with retries, in the database.

pending → done ⇄ repaint        an opinion that came after the picture
pending → failed
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from inspector.errors import StoreError
from inspector.records import Message
from inspector.store.database import Database
from inspector.store.outbox import insert_messages
from inspector.store.rows import message_from_row
from inspector.store.stored import StoredInspection, load_stored
from inspector.store.tables import EvidenceRow, InspectionRow, OpinionRow, OutboxRow

PENDING, REPAINT, DONE, FAILED = "pending", "repaint", "done", "failed"
OWED = (PENDING, REPAINT)
MAX_ATTEMPTS = 3
MAX_HANDED_OUT = 10


@dataclass(frozen=True, slots=True)
class EvidenceTask:
    """Make the pictures of this inspection; `attempts` have failed before. `repaint`: the visual alone, again."""

    inspection: StoredInspection
    attempts: int
    queued_utc_us: int
    repaint: bool

    @property
    def inspection_id(self) -> str:
        return self.inspection.inspection_id


def next_evidence(db: Database) -> EvidenceTask | None:
    """The oldest evidence that is owed; what failed before comes after what did not, and what is there already last.

    None: nothing to do. A task that was handed out ten times and never finished nor failed kills its process; it is
    given up.
    """
    wanted = (
        select(EvidenceRow)
        .where(EvidenceRow.state.in_(OWED))
        .order_by(EvidenceRow.state == REPAINT, EvidenceRow.attempts, EvidenceRow.queued_utc_us)
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
                return EvidenceTask(found[0], row.attempts, row.queued_utc_us, row.state == REPAINT)
            row.state = FAILED if row.state == PENDING else DONE
            row.reason = f"the process died {MAX_HANDED_OUT} times while making it"
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
    unpainted_opinion_id: str | None = None,
) -> bool:
    """The pictures are stored: mark it done and queue its messages in one transaction; False if it was done.

    `unpainted_opinion_id` names the opinion that was not there when they were painted: if it is now, they are owed
    again.
    """
    with db.write() as session:
        row = session.get(EvidenceRow, inspection_id)
        if row is None:
            raise StoreError(f"no evidence is owed for inspection {inspection_id}")
        if row.state not in OWED:
            return False
        row.state, row.reason, row.finished_utc_us = DONE, None, now_us
        row.visual_key, row.twin_key, row.thumbnail_key = visual_key, twin_key, thumbnail_key
        row.twin_method = twin_method
        station = session.scalars(
            select(InspectionRow.station).where(InspectionRow.inspection_id == inspection_id)
        ).one()
        insert_messages(session, station, messages, now_us)
        if unpainted_opinion_id is not None and session.get(OpinionRow, unpainted_opinion_id) is not None:
            owe_repaint(session, inspection_id, now_us)
    db.checkpoint_if_due()
    return True


def owe_repaint(session: Session, inspection_id: str, now_us: int) -> None:
    """An opinion was recorded, in this transaction: a visual that was painted without it is painted again.

    One that was not painted yet, or could not be, is left as it is.
    """
    session.flush()
    session.execute(
        update(EvidenceRow)
        .where(EvidenceRow.inspection_id == inspection_id, EvidenceRow.state == DONE)
        .values(state=REPAINT, attempts=0, handed_out=0, queued_utc_us=now_us)
    )


def finish_repaint(db: Database, inspection_id: str, now_us: int) -> None:
    """The visual was painted again, under the same key: mark it done and repeat its message as it was, once.

    A message that retention has removed is not repeated.
    """
    with db.write() as session:
        row = session.get(EvidenceRow, inspection_id)
        if row is None or row.state != REPAINT:
            return
        row.state = DONE
        sent = session.scalars(
            select(OutboxRow)
            .where(OutboxRow.inspection_id == inspection_id, OutboxRow.topic.endswith("/evidence"))
            .order_by(OutboxRow.outbox_id.desc())
            .limit(1)
        ).first()
        if sent is not None:
            insert_messages(session, sent.station, (message_from_row(sent),), now_us)
    db.checkpoint_if_due()


def fail_evidence(db: Database, inspection_id: str, reason: str, now_us: int) -> bool:
    """One attempt failed; True when that was the last one and there are no pictures.

    Of a visual that cannot be painted again the one from before stays.
    """
    with db.write() as session:
        row = session.get(EvidenceRow, inspection_id)
        if row is None:
            raise StoreError(f"no evidence is owed for inspection {inspection_id}")
        if row.state not in OWED:
            return row.state == FAILED
        row.attempts += 1
        row.reason = reason
        if row.attempts >= MAX_ATTEMPTS:
            row.state, row.finished_utc_us = (FAILED if row.state == PENDING else DONE), now_us
        return row.state == FAILED


def count_pending(db: Database) -> int:
    """How many inspections still wait for their evidence, or for it to be painted again."""
    with db.read() as session:
        return session.scalar(select(func.count()).where(EvidenceRow.state.in_(OWED))) or 0
