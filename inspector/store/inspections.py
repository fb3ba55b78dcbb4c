"""Committing verdicts: one transaction carries the inspection and every message that announces it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, bindparam, func, insert, select, update
from sqlalchemy.orm import Session

from inspector.errors import StoreError
from inspector.records import SEVERITY, Inspection, Message, Purpose, VerdictKind
from inspector.store.database import Database
from inspector.store.hash_chain import hash_row
from inspector.store.outbox import insert_messages
from inspector.store.rows import detection_values, inspection_values
from inspector.store.stations import get_station
from inspector.store.stored import StoredInspection, load_stored
from inspector.store.tables import (
    DetectionRow,
    EvidenceRow,
    InspectionRow,
    StationRow,
    TriggerRow,
    table_of,
)
from inspector.store.totals import LATE, PENDING, Totals, count_triggers, move_trigger, name_bucket

_INSPECTION, _TRIGGER, _STATION = table_of(InspectionRow), table_of(TriggerRow), table_of(StationRow)
_FIND_INSPECTION = select(_INSPECTION.c.inspection_id).where(_INSPECTION.c.inspection_id == bindparam("id"))
_FIND_TRIGGER = select(_TRIGGER).where(_TRIGGER.c.trigger_id == bindparam("id"))
_INSERT_INSPECTION = insert(_INSPECTION)
_INSERT_DETECTION = insert(table_of(DetectionRow))
_INSERT_EVIDENCE = insert(table_of(EvidenceRow))
_MOVE_TIP = (
    update(_STATION)
    .where(_STATION.c.station == bindparam("of_station"))
    .values(chain_index=bindparam("chain_index"), chain_hash=bindparam("chain_hash"), totals=bindparam("totals"))
)
_SET_RESULT = (
    update(_TRIGGER)
    .where(_TRIGGER.c.trigger_id == bindparam("of_trigger"))
    .values(verdict=bindparam("verdict"), late=bindparam("late"), closed=bindparam("closed"))
)


@dataclass(frozen=True, slots=True)
class VerdictCounts:
    """Triggers by the verdict of their worst view; `triggers` is always the sum of the five others.

    `late` counts, among them, those with a view after the station's deadline.
    """

    triggers: int = 0
    ok: int = 0
    ng: int = 0
    review: int = 0
    not_inspected: int = 0
    late: int = 0
    pending: int = 0


def commit_inspection(
    db: Database, inspection: Inspection, messages: Sequence[Message], *, wants_evidence: bool
) -> bool:
    """Commit an inspection, its detections, its place in the chain, its messages and the evidence it asks for.

    Upstream is at least once: False, and nothing is written, when the inspection is there already.
    Raises `StoreError` for a trigger that was never accepted and `ValueError` for numbers that are not finite.
    """
    with db.write() as session:
        return insert_inspection(session, inspection, messages, wants_evidence=wants_evidence)


def insert_inspection(
    session: Session, inspection: Inspection, messages: Sequence[Message], *, wants_evidence: bool
) -> bool:
    """`commit_inspection` inside the caller's transaction."""
    values = inspection_values(inspection)
    detections = detection_values(inspection)
    connection = session.connection()
    if connection.execute(_FIND_INSPECTION, {"id": values["inspection_id"]}).one_or_none() is not None:
        return False
    trigger = connection.execute(_FIND_TRIGGER, {"id": values["trigger_id"]}).one_or_none()
    if trigger is None:
        raise StoreError(f"trigger {values['trigger_id']} of {values['station']} was never accepted")
    result = _judge_part(session, trigger, values)
    _update_station(session, values, detections, trigger, result)
    connection.execute(_INSERT_INSPECTION, values)
    if detections:
        connection.execute(_INSERT_DETECTION, detections)
    insert_messages(session, values["station"], messages, values["decided_utc_us"])
    if wants_evidence:
        connection.execute(_INSERT_EVIDENCE, _pending_evidence(inspection))
    connection.execute(_SET_RESULT, {"of_trigger": trigger.trigger_id, **result})
    return True


def load_inspection(db: Database, inspection_id: str) -> StoredInspection:
    """Raises `StoreError` when there is none (any more)."""
    with db.read() as session:
        found = load_stored(session, select(InspectionRow).where(InspectionRow.inspection_id == inspection_id))
    if not found:
        raise StoreError(f"inspection {inspection_id} is not in this database; retention may have removed it")
    return found[0]


def recent_inspections(
    db: Database,
    station: str | None = None,
    *,
    limit: int = 50,
    since_utc_us: int | None = None,
    until_utc_us: int | None = None,
    verdicts: Sequence[VerdictKind] | None = None,
    purpose: Purpose | None = None,
) -> list[StoredInspection]:
    """The newest inspections first, decided in [since, until); by place in the chain where a station is given."""
    wanted = select(InspectionRow)
    if station is not None:
        wanted = wanted.where(InspectionRow.station == station).order_by(InspectionRow.chain_index.desc())
    else:
        wanted = wanted.order_by(InspectionRow.decided_utc_us.desc(), InspectionRow.sequence.desc())
    if since_utc_us is not None:
        wanted = wanted.where(InspectionRow.decided_utc_us >= since_utc_us)
    if until_utc_us is not None:
        wanted = wanted.where(InspectionRow.decided_utc_us < until_utc_us)
    if verdicts is not None:
        wanted = wanted.where(InspectionRow.verdict.in_([kind.value for kind in verdicts]))
    if purpose is not None:
        wanted = wanted.join(TriggerRow, TriggerRow.trigger_id == InspectionRow.trigger_id).where(
            TriggerRow.purpose == purpose.value
        )
    with db.read() as session:
        return load_stored(session, wanted.limit(limit))


def chain_inspections(db: Database, station: str, after: int, limit: int) -> list[StoredInspection]:
    """The inspections of a station behind a place in its chain, in the order of the chain."""
    wanted = (
        select(InspectionRow)
        .where(InspectionRow.station == station, InspectionRow.chain_index > after)
        .order_by(InspectionRow.chain_index)
        .limit(limit)
    )
    with db.read() as session:
        return load_stored(session, wanted)


def count_inspections(
    db: Database, since_utc_us: int | None = None, until_utc_us: int | None = None
) -> dict[tuple[str, VerdictKind], int]:
    """{(station, verdict): inspections} decided in [since, until)."""
    wanted = select(InspectionRow.station, InspectionRow.verdict, func.count()).group_by(
        InspectionRow.station, InspectionRow.verdict
    )
    if since_utc_us is not None:
        wanted = wanted.where(InspectionRow.decided_utc_us >= since_utc_us)
    if until_utc_us is not None:
        wanted = wanted.where(InspectionRow.decided_utc_us < until_utc_us)
    with db.read() as session:
        return {(station, VerdictKind(verdict)): count for station, verdict, count in session.execute(wanted)}


def count_verdicts(
    db: Database,
    station: str,
    *,
    since_utc_us: int | None = None,
    until_utc_us: int | None = None,
    purpose: Purpose | None = None,
) -> VerdictCounts:
    """Count the triggers accepted in [since, until) by their worst view; purpose None counts all purposes.

    Without a range this is everything ever accepted, what retention removed included, and costs nothing;
    a range counts what is still there.
    """
    with db.read() as session:
        if since_utc_us is None and until_utc_us is None:
            row = session.execute(select(StationRow.totals).where(StationRow.station == station)).one_or_none()
            totals: Totals = row.totals if row is not None else {}
        else:
            totals = count_triggers(session, station, since_utc_us, until_utc_us)
    wanted = totals.values() if purpose is None else [totals.get(purpose.value, {})]
    summed = Counter[str]()
    for counts in wanted:
        summed.update(counts)
    return VerdictCounts(
        triggers=summed.total() - summed[LATE],
        ok=summed["OK"],
        ng=summed["NG"],
        review=summed["REVIEW"],
        not_inspected=summed["NOT_INSPECTED"],
        late=summed[LATE],
        pending=summed[PENDING],
    )


def _judge_part(session: Session, trigger: Row[Any], values: dict[str, Any]) -> dict[str, Any]:
    """The part's result so far is its worst view; the trigger closes with the last camera it owes."""
    worst = max(
        (VerdictKind(verdict) for verdict in (trigger.verdict, values["verdict"]) if verdict is not None),
        key=SEVERITY.__getitem__,
    )
    owed = set(trigger.cameras) - {values["camera"]}
    if owed and not trigger.closed:
        done = select(InspectionRow.camera).where(InspectionRow.trigger_id == trigger.trigger_id)
        owed -= set(session.scalars(done))
    return {
        "verdict": worst.value,
        "late": trigger.late or values["late"],
        "closed": trigger.closed or not owed,
    }


def _update_station(
    session: Session,
    values: dict[str, Any],
    detections: list[dict[str, Any]],
    trigger: Row[Any],
    result: dict[str, Any],
) -> None:
    """Give the row its place in the station's chain, move the tip there, and count the part's result."""
    station = get_station(session, values["station"])
    values["chain_index"] = station.chain_index + 1
    values["prev_hash"] = station.chain_hash
    values["row_hash"] = hash_row(station.chain_hash, values, detections, trigger._asdict())
    totals = move_trigger(
        station.totals,
        trigger.purpose,
        leaves=name_bucket(trigger.verdict, trigger.closed),
        enters=name_bucket(result["verdict"], result["closed"]),
        turned_late=result["late"] and not trigger.late,
    )
    session.connection().execute(
        _MOVE_TIP,
        {
            "of_station": values["station"],
            "chain_index": values["chain_index"],
            "chain_hash": values["row_hash"],
            "totals": totals,
        },
    )


def _pending_evidence(inspection: Inspection) -> dict[str, Any]:
    return {
        "inspection_id": str(inspection.inspection_id),
        "state": "pending",
        "attempts": 0,
        "handed_out": 0,
        "queued_utc_us": inspection.decided_utc_us,
    }
