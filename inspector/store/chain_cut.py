"""Removing the oldest inspections of a station: always a prefix of its chain, never one that is still needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from sqlalchemy import delete, exists, insert, select
from sqlalchemy.orm import Session

from inspector.records import VerdictKind
from inspector.store.cloud_tables import EscalationRow
from inspector.store.database import Database
from inspector.store.evidence import OWED
from inspector.store.tables import (
    ChainCheckpointRow,
    DispositionRow,
    EvidenceRow,
    InspectionRow,
    OpinionRow,
    OutboxRow,
    RetiredSourceRow,
    ReviewRow,
    TriggerRow,
)
from inspector.store.totals import add_totals, move_trigger, name_bucket
from inspector.store.triggers import source_sha256


@dataclass(frozen=True, slots=True)
class ChainCut:
    """What one transaction removed. `held_by` says which row stopped the cut and why, None: age did."""

    inspections: int
    triggers: int
    held_by: str | None


def cut_chain(db: Database, station: str, *, older_than_us: int, now_us: int, batch: int) -> ChainCut:
    """Remove at most `batch` of a station's oldest inspections in one transaction and leave a checkpoint.

    The cut stops at the first row that is young enough or must stay (see `find_needed`).
    """
    with db.read() as session:  # most runs find nothing to do and should not take the write lock
        rows, held_by = _find_removable(session, station, older_than_us, batch)
    if not rows:
        return ChainCut(0, 0, held_by)
    with db.write() as session:
        rows, held_by = _find_removable(session, station, older_than_us, batch)
        triggers = _remove(session, station, rows, now_us) if rows else 0
    return ChainCut(len(rows), triggers, held_by)


def find_needed(session: Session, inspection_ids: Sequence[str]) -> dict[str, str]:
    """Which of these inspections must stay, and why: unsent, evidence or question open, under review, unfinished."""
    needed: dict[str, str] = {}
    unsent = select(OutboxRow.inspection_id).where(
        OutboxRow.sent_utc_us.is_(None), OutboxRow.inspection_id.in_(inspection_ids)
    )
    pending = select(EvidenceRow.inspection_id).where(
        EvidenceRow.state.in_(OWED), EvidenceRow.inspection_id.in_(inspection_ids)
    )
    under_review = select(InspectionRow.inspection_id).where(
        InspectionRow.inspection_id.in_(inspection_ids),
        InspectionRow.verdict == VerdictKind.REVIEW.value,
        ~exists().where(DispositionRow.trigger_id == InspectionRow.trigger_id),
    )
    open_question = select(EscalationRow.inspection_id).where(
        EscalationRow.finished_utc_us.is_(None), EscalationRow.inspection_id.in_(inspection_ids)
    )
    unfinished = (
        select(InspectionRow.inspection_id)
        .join(TriggerRow, TriggerRow.trigger_id == InspectionRow.trigger_id)
        .where(InspectionRow.inspection_id.in_(inspection_ids), TriggerRow.closed.is_(False))
    )
    for reason, wanted in (
        ("its part still owes an inspection", unfinished),
        ("it is under review", under_review),
        ("a cloud model is still to be asked about it", open_question),
        ("its evidence is pending", pending),
        ("a message about it is unsent", unsent),
    ):
        needed |= {inspection_id: reason for inspection_id in session.scalars(wanted) if inspection_id is not None}
    return needed


@dataclass(frozen=True, slots=True)
class _ChainRow:
    """What removing an inspection needs to know about it."""

    inspection_id: str
    trigger_id: str
    chain_index: int
    row_hash: str
    decided_utc_us: int


def _find_removable(
    session: Session, station: str, older_than_us: int, batch: int
) -> tuple[list[_ChainRow], str | None]:
    """The longest removable prefix, up to `batch` rows, and what stops it."""
    found = session.execute(
        select(
            InspectionRow.inspection_id,
            InspectionRow.trigger_id,
            InspectionRow.chain_index,
            InspectionRow.row_hash,
            InspectionRow.decided_utc_us,
        )
        .where(InspectionRow.station == station)
        .order_by(InspectionRow.chain_index)
        .limit(batch)
    )
    oldest = [_ChainRow(*columns) for columns in found]
    aged = list(takewhile(lambda row: row.decided_utc_us < older_than_us, oldest))
    needed = find_needed(session, [row.inspection_id for row in aged]) if aged else {}
    removable = list(takewhile(lambda row: row.inspection_id not in needed, aged))
    if len(removable) == len(aged):
        return removable, None
    held = aged[len(removable)].inspection_id
    return removable, f"inspection {held}: {needed[held]}"


def _remove(session: Session, station: str, rows: Sequence[_ChainRow], now_us: int) -> int:
    """Delete the rows and the triggers they leave empty, and move the checkpoint; returns the triggers."""
    ids = [row.inspection_id for row in rows]
    last_index, last_hash = rows[-1].chain_index, rows[-1].row_hash
    trigger_ids = {row.trigger_id for row in rows}
    for table in (ReviewRow, OpinionRow, InspectionRow):
        session.execute(delete(table).where(table.inspection_id.in_(ids)).execution_options(synchronize_session=False))
    emptied = session.scalars(
        select(TriggerRow).where(
            TriggerRow.trigger_id.in_(trigger_ids),
            ~exists().where(InspectionRow.trigger_id == TriggerRow.trigger_id),
        )
    ).all()
    _move_checkpoint(session, station, last_index, last_hash, len(rows), emptied, now_us)
    _remove_triggers(session, emptied)
    return len(emptied)


def _remove_triggers(session: Session, triggers: Sequence[TriggerRow]) -> None:
    ids = [row.trigger_id for row in triggers]
    retired = [
        {
            "station": row.station,
            "source_sha256": source_sha256(row.source_identity),
            "epoch": row.epoch,
            "sequence": row.sequence,
            "accepted_utc_us": row.accepted_utc_us,
            "camera": row.cameras[0],
        }
        for row in triggers
        if row.source_identity is not None
    ]
    if retired:
        session.execute(insert(RetiredSourceRow), retired)
    for table in (DispositionRow, TriggerRow):
        session.execute(delete(table).where(table.trigger_id.in_(ids)).execution_options(synchronize_session=False))


def _move_checkpoint(
    session: Session,
    station: str,
    chain_index: int,
    row_hash: str,
    removed_rows: int,
    triggers: Sequence[TriggerRow],
    now_us: int,
) -> None:
    """Remember the last removed hash, and add the removed verdicts to the counts so that totals still add up."""
    old = session.get(ChainCheckpointRow, station)
    counts = add_totals(old.verdict_counts if old else {}, {})
    for row in triggers:
        bucket = name_bucket(row.verdict, row.closed)
        counts = move_trigger(counts, row.purpose, leaves=None, enters=bucket, turned_late=row.late)
    checkpoint = old or ChainCheckpointRow(station=station, removed_rows=0)
    checkpoint.chain_index, checkpoint.row_hash = chain_index, row_hash
    checkpoint.removed_rows += removed_rows
    checkpoint.verdict_counts, checkpoint.cut_utc_us = counts, now_us
    session.add(checkpoint)
    session.flush()
