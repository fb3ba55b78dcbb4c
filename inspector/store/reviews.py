"""What people and the cloud said about an inspection, and the disposition that follows; all append-only."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from inspector.errors import StoreError
from inspector.records import ID_NAMESPACE, Message, VerdictKind
from inspector.store.database import Database
from inspector.store.outbox import insert_messages
from inspector.store.tables import DispositionRow, InspectionRow, OpinionRow, ReviewRow, TriggerRow

OPINION_VERDICTS = {"good": VerdictKind.OK, "defect": VerdictKind.NG}
"""What an opinion can decide; `unsure` decides nothing."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the cloud said: `verdict` is `good`, `defect` or `unsure`, `details` the rest of the record."""

    opinion_id: str
    inspection_id: str
    verdict: str
    details: dict[str, Any]
    received_utc_us: int


@dataclass(frozen=True, slots=True)
class GivenOpinion:
    """An opinion with the part it is about; `verdict` is the edge's."""

    opinion: Opinion
    station: str
    sequence: int
    verdict: VerdictKind
    part_id: str | None


@dataclass(frozen=True, slots=True)
class Disposition:
    """The current truth of a part: `cause` is `review` or `opinion`, `cause_id` its record."""

    trigger_id: str
    disposition: str
    cause: str
    cause_id: str
    decided_utc_us: int


def add_review(
    db: Database,
    inspection_id: str,
    *,
    reviewer: str,
    finding: str,
    defect_name: str | None = None,
    comment: str | None = None,
    now_us: int,
) -> str:
    """What a person found; returns the review's id."""
    review_id = str(uuid.uuid5(ID_NAMESPACE, f"review/{inspection_id}/{reviewer}/{now_us}"))
    with db.write() as session:
        _require_inspection(session, inspection_id)
        if session.get(ReviewRow, review_id) is None:
            session.execute(
                insert(ReviewRow).values(
                    review_id=review_id,
                    inspection_id=inspection_id,
                    reviewer=reviewer,
                    finding=finding,
                    defect_name=defect_name,
                    comment=comment,
                    reviewed_utc_us=now_us,
                )
            )
    return review_id


def make_opinion_id(escalation_id: str) -> str:
    """UUIDv5 of the question: it has one answer."""
    return str(uuid.uuid5(ID_NAMESPACE, f"opinion/{escalation_id}"))


def insert_opinion(
    session: Session, opinion_id: str, inspection_id: str, *, verdict: str, details: Mapping[str, Any], now_us: int
) -> bool:
    """An opinion inside the transaction that closes its question; False when it was recorded before."""
    if session.get(OpinionRow, opinion_id) is not None:
        return False
    session.execute(
        insert(OpinionRow).values(
            opinion_id=opinion_id,
            inspection_id=inspection_id,
            verdict=verdict,
            details=dict(details),
            received_utc_us=now_us,
        )
    )
    return True


def load_opinion(session: Session, opinion_id: str) -> Opinion | None:
    """None when there is none (any more)."""
    row = session.get(OpinionRow, opinion_id)
    if row is None:
        return None
    return _opinion(row)


def add_disposition(
    db: Database,
    trigger_id: str,
    disposition: str,
    *,
    cause: str,
    cause_id: str,
    messages: Sequence[Message],
    now_us: int,
) -> bool:
    """A review or an opinion changed the truth of a part: the row and its messages in one transaction.

    False, and nothing is written, when this cause was recorded before.
    """
    with db.write() as session:
        return insert_disposition(
            session, trigger_id, disposition, cause=cause, cause_id=cause_id, messages=messages, now_us=now_us
        )


def insert_disposition(
    session: Session,
    trigger_id: str,
    disposition: str,
    *,
    cause: str,
    cause_id: str,
    messages: Sequence[Message],
    now_us: int,
) -> bool:
    """`add_disposition` inside the caller's transaction."""
    disposition_id = make_disposition_id(trigger_id, cause, cause_id)
    known = select(DispositionRow.position).where(DispositionRow.disposition_id == disposition_id)
    trigger = session.get(TriggerRow, trigger_id)
    if trigger is None:
        raise StoreError(f"trigger {trigger_id} is not in this database; retention may have removed it")
    if session.scalar(known) is not None:
        return False
    session.execute(
        insert(DispositionRow).values(
            disposition_id=disposition_id,
            trigger_id=trigger_id,
            disposition=disposition,
            cause=cause,
            cause_id=cause_id,
            decided_utc_us=now_us,
        )
    )
    insert_messages(session, trigger.station, messages, now_us)
    return True


def make_disposition_id(trigger_id: str, cause: str, cause_id: str) -> str:
    """UUIDv5 of what decided: the same cause is recorded once."""
    return str(uuid.uuid5(ID_NAMESPACE, f"disposition/{trigger_id}/{cause}/{cause_id}"))


def judge_part(db: Database, trigger_id: str) -> VerdictKind:
    """What the reviews of a part's views say about the part, the newest of each view counting.

    NG as soon as one view shows a defect; OK when no view is owed, or not OK and not reviewed; else REVIEW.
    """
    newest_last = (
        select(ReviewRow.inspection_id, ReviewRow.finding)
        .join(InspectionRow, InspectionRow.inspection_id == ReviewRow.inspection_id)
        .where(InspectionRow.trigger_id == trigger_id)
        .order_by(ReviewRow.reviewed_utc_us, ReviewRow.review_id)
    )
    views = select(InspectionRow.inspection_id, InspectionRow.verdict).where(InspectionRow.trigger_id == trigger_id)
    with db.read() as session:
        closed = session.scalar(select(TriggerRow.closed).where(TriggerRow.trigger_id == trigger_id))
        findings = {row.inspection_id: row.finding for row in session.execute(newest_last)}
        truths = [findings.get(inspection_id, verdict) for inspection_id, verdict in session.execute(views)]
    if VerdictKind.NG.value in findings.values():
        return VerdictKind.NG
    settled = closed and all(truth == VerdictKind.OK.value for truth in truths)
    return VerdictKind.OK if settled else VerdictKind.REVIEW


def load_findings(db: Database) -> dict[str, VerdictKind]:
    """{trigger id: OK or NG} of every part that a person settled, by the newest review."""
    settled = (VerdictKind.OK.value, VerdictKind.NG.value)
    wanted = (
        select(DispositionRow.trigger_id, DispositionRow.disposition)
        .where(DispositionRow.cause == "review", DispositionRow.disposition.in_(settled))
        .order_by(DispositionRow.position)
    )
    with db.read() as session:
        return {row.trigger_id: VerdictKind(row.disposition) for row in session.execute(wanted)}


def list_opinions(db: Database, since_utc_us: int | None, until_utc_us: int | None) -> list[GivenOpinion]:
    """Opinions received in [since, until), oldest first, each with the part it is about."""
    wanted = (
        select(OpinionRow, InspectionRow.station, InspectionRow.sequence, InspectionRow.verdict, TriggerRow.part_id)
        .join(InspectionRow, InspectionRow.inspection_id == OpinionRow.inspection_id)
        .join(TriggerRow, TriggerRow.trigger_id == InspectionRow.trigger_id)
        .order_by(OpinionRow.received_utc_us, OpinionRow.opinion_id)
    )
    if since_utc_us is not None:
        wanted = wanted.where(OpinionRow.received_utc_us >= since_utc_us)
    if until_utc_us is not None:
        wanted = wanted.where(OpinionRow.received_utc_us < until_utc_us)
    with db.read() as session:
        return [
            GivenOpinion(_opinion(row), station, sequence, VerdictKind(verdict), part_id)
            for row, station, sequence, verdict, part_id in session.execute(wanted)
        ]


def newest_opinions(session: Session, inspection_ids: Sequence[str]) -> dict[str, Opinion]:
    """{inspection id: its newest opinion} of those that have one."""
    wanted = (
        select(OpinionRow)
        .where(OpinionRow.inspection_id.in_(inspection_ids))
        .order_by(OpinionRow.received_utc_us, OpinionRow.opinion_id)
    )
    return {row.inspection_id: _opinion(row) for row in session.scalars(wanted)}


def judge_by_opinions(session: Session, trigger_id: str) -> VerdictKind | None:
    """What the opinions that may decide say about a part whose result is REVIEW; None: nothing changes.

    An opinion decides about its view when its details say `decides`. NG as soon as one view is held defective; OK
    when every view is OK or held good. A part that a person reviewed, or with a view that was NG or not inspected,
    is left alone.
    """
    trigger = session.get(TriggerRow, trigger_id, populate_existing=True)
    reviewed = select(DispositionRow.position).where(
        DispositionRow.trigger_id == trigger_id, DispositionRow.cause == "review"
    )
    if trigger is None or trigger.verdict != VerdictKind.REVIEW.value or session.scalar(reviewed.limit(1)) is not None:
        return None
    views = select(InspectionRow.inspection_id, InspectionRow.verdict).where(InspectionRow.trigger_id == trigger_id)
    verdicts = {row.inspection_id: row.verdict for row in session.execute(views)}
    given = (
        select(OpinionRow)
        .where(OpinionRow.inspection_id.in_(verdicts))
        .order_by(OpinionRow.received_utc_us, OpinionRow.opinion_id)
    )
    for opinion in session.scalars(given):
        may_decide = opinion.details.get("decides") and verdicts[opinion.inspection_id] != VerdictKind.OK.value
        if may_decide and opinion.verdict in OPINION_VERDICTS:
            verdicts[opinion.inspection_id] = OPINION_VERDICTS[opinion.verdict].value
    if VerdictKind.NG.value in verdicts.values():
        return VerdictKind.NG
    settled = trigger.closed and all(verdict == VerdictKind.OK.value for verdict in verdicts.values())
    return VerdictKind.OK if settled else None


def current_disposition(db: Database, trigger_id: str) -> Disposition | None:
    """The last disposition of a part; None: its worst verdict counts."""
    newest = (
        select(DispositionRow)
        .where(DispositionRow.trigger_id == trigger_id)
        .order_by(DispositionRow.position.desc())
        .limit(1)
    )
    with db.read() as session:
        row = session.scalar(newest)
        if row is None:
            return None
        return Disposition(row.trigger_id, row.disposition, row.cause, row.cause_id, row.decided_utc_us)


def _require_inspection(session: Session, inspection_id: str) -> None:
    if session.get(InspectionRow, inspection_id) is None:
        raise StoreError(f"inspection {inspection_id} is not in this database; retention may have removed it")


def _opinion(row: OpinionRow) -> Opinion:
    return Opinion(row.opinion_id, row.inspection_id, row.verdict, dict(row.details), row.received_utc_us)
