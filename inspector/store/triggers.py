"""Accepting triggers: from here on an inspection is owed, whatever happens.

Sequence numbers come from the station's row in the transaction that inserts the trigger, so they
neither repeat nor skip. A frame or a command that comes twice finds its first trigger again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sqlalchemy import Row, bindparam, func, insert, select, update
from sqlalchemy.orm import Session

from inspector.records import (
    Inspection,
    Message,
    PartIdSource,
    Provenance,
    Purpose,
    Trigger,
    Verdict,
    VerdictKind,
)
from inspector.store.database import Database
from inspector.store.inspections import insert_inspection
from inspector.store.rows import storable, trigger_from_row, trigger_values
from inspector.store.stations import get_station
from inspector.store.tables import InspectionRow, RetiredSourceRow, StationRow, TriggerRow, table_of
from inspector.store.totals import PENDING, move_trigger

SKIPS_PER_TRANSACTION = 20

# Statements of the verdict lane are built once: building one costs as much CPU as running it.
_TRIGGER, _STATION, _RETIRED = table_of(TriggerRow), table_of(StationRow), table_of(RetiredSourceRow)
_INSERT_TRIGGER = insert(_TRIGGER)
_ADVANCE_STATION = (
    update(_STATION)
    .where(_STATION.c.station == bindparam("of_station"))
    .values(next_sequence=bindparam("next_sequence"), accepted=bindparam("accepted"), totals=bindparam("totals"))
)
_FIND_BY_SOURCE = select(_TRIGGER).where(
    _TRIGGER.c.station == bindparam("station"), _TRIGGER.c.source_identity == bindparam("value")
)
_FIND_BY_REQUEST = select(_TRIGGER).where(
    _TRIGGER.c.station == bindparam("station"), _TRIGGER.c.request_id == bindparam("value")
)
_FIND_CLOSED_RANGE = (
    select(_TRIGGER.c.sequence)
    .where(
        _TRIGGER.c.station == bindparam("station"),
        _TRIGGER.c.source_identity >= bindparam("first"),
        _TRIGGER.c.source_identity < bindparam("beyond"),
        _TRIGGER.c.closed,
    )
    .limit(1)
)
_FIND_RETIRED = select(_RETIRED).where(
    _RETIRED.c.station == bindparam("station"), _RETIRED.c.source_sha256 == bindparam("sha256")
)

AcceptanceState: TypeAlias = Literal["new", "open", "closed"]
"""`new`: accepted now. `open`: accepted before, an inspection is still owed. `closed`: all done."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The trigger of a frame or command, and whether anything is left to do for it."""

    trigger: Trigger
    state: AcceptanceState


@dataclass(frozen=True, slots=True)
class SkippedFrame:
    """A frame that was given up: it becomes a trigger with one NOT_INSPECTED inspection."""

    camera: str
    reason: str
    captured_utc_us: int | None = None
    part_id: str | None = None
    part_id_source: PartIdSource = PartIdSource.NONE
    lot: str | None = None
    attempt: int | None = 1
    source_identity: str | None = None


@dataclass(frozen=True, slots=True)
class _Request:
    """What a caller of `accept_trigger` knows."""

    cameras: tuple[str, ...]
    accepted_utc_us: int
    purpose: Purpose
    part_id: str | None
    part_id_source: PartIdSource
    lot: str | None
    attempt: int | None
    source_identity: str | None
    request_id: str | None


def accept_trigger(
    db: Database,
    station: str,
    *,
    cameras: tuple[str, ...],
    accepted_utc_us: int,
    purpose: Purpose,
    part_id: str | None = None,
    part_id_source: PartIdSource = PartIdSource.NONE,
    lot: str | None = None,
    attempt: int | None = 1,
    source_identity: str | None = None,
    request_id: str | None = None,
) -> Acceptance:
    """Accept a part in one short transaction; when this returns, an inspection is owed for each camera.

    A known `source_identity` or `request_id` returns its first trigger as `open` or `closed`. Without a
    `lot` the station's counts. `attempt` None counts up from the part's earlier triggers here.
    """
    request = _Request(
        cameras=cameras,
        accepted_utc_us=accepted_utc_us,
        purpose=purpose,
        part_id=_storable(part_id),
        part_id_source=part_id_source,
        lot=_storable(lot),
        attempt=attempt,
        source_identity=_storable(source_identity),
        request_id=_storable(request_id),
    )
    with db.write() as session:
        known = _find_known(session, station, request.source_identity, request.request_id)
        return known or Acceptance(_insert_trigger(session, station, request), "new")


def accept_and_skip(
    db: Database,
    station: str,
    skipped: Sequence[SkippedFrame],
    message_for: Callable[[Inspection], tuple[Message, ...]],
    *,
    purpose: Purpose,
    provenance: Provenance,
    now_us: int,
) -> list[Inspection]:
    """Accept frames that were given up and count each at once as NOT_INSPECTED with its reason.

    Trigger, inspection and messages of a frame share a transaction; many frames take few transactions.
    Frames whose `source_identity` is known already are left out. Returns the new inspections in order.
    """
    done: list[Inspection] = []
    for start in range(0, len(skipped), SKIPS_PER_TRANSACTION):
        with db.write() as session:
            batch = [
                _insert_skipped(session, station, frame, message_for, purpose, provenance, now_us)
                for frame in skipped[start : start + SKIPS_PER_TRANSACTION]
            ]
        done.extend(inspection for inspection in batch if inspection is not None)
    return done


def open_triggers(db: Database, station: str) -> list[tuple[Trigger, tuple[str, ...]]]:
    """Triggers that still owe an inspection, in sequence order, each with the cameras that are missing."""
    with db.read() as session:
        rows = session.scalars(
            select(TriggerRow)
            .where(TriggerRow.station == station, TriggerRow.closed.is_(False))
            .order_by(TriggerRow.sequence)
        ).all()
        inspected = select(InspectionRow.trigger_id, InspectionRow.camera).join(
            TriggerRow, TriggerRow.trigger_id == InspectionRow.trigger_id
        )
        done = {
            (trigger_id, camera)
            for trigger_id, camera in session.execute(
                inspected.where(TriggerRow.station == station, TriggerRow.closed.is_(False))
            )
        }
        return [
            (trigger_from_row(row), tuple(name for name in row.cameras if (row.trigger_id, name) not in done))
            for row in rows
        ]


def count_accepted(db: Database, station: str, camera: str) -> int:
    """How many triggers were ever accepted from a camera, those that retention removed included."""
    with db.read() as session:
        counts = session.scalar(select(StationRow.accepted).where(StationRow.station == station))
    return int((counts or {}).get(camera, 0))


def identity_state(db: Database, station: str, source_identity: str) -> AcceptanceState:
    """Whether a frame of the source is `new`, accepted and `open`, or `closed`."""
    with db.read() as session:
        known = _find_known(session, station, storable(source_identity), None)
    return known.state if known else "new"


def is_known(db: Database, station: str, source_identity: str) -> bool:
    """Whether a frame of the source was accepted before."""
    return identity_state(db, station, source_identity) != "new"


def has_closed_source(db: Database, station: str, prefix: str) -> bool:
    """Whether a closed trigger's source identity begins with `prefix`. Retired ones are not known by prefix."""
    first = storable(prefix)
    with db.read() as session:
        key = {"station": station, "first": first, "beyond": first + "\U0010ffff"}
        return session.connection().execute(_FIND_CLOSED_RANGE, key).first() is not None


def source_sha256(source_identity: str) -> str:
    """How a retired source identity is remembered."""
    return hashlib.sha256(source_identity.encode()).hexdigest()


def _find_known(
    session: Session, station: str, source_identity: str | None, request_id: str | None
) -> Acceptance | None:
    connection = session.connection()
    for statement, value in ((_FIND_BY_SOURCE, source_identity), (_FIND_BY_REQUEST, request_id)):
        if value is None:
            continue
        row = connection.execute(statement, {"station": station, "value": value}).one_or_none()
        if row is not None:
            return Acceptance(trigger_from_row(row), "closed" if row.closed else "open")
    if source_identity is None:
        return None
    key = {"station": station, "sha256": source_sha256(source_identity)}
    retired = connection.execute(_FIND_RETIRED, key).one_or_none()
    return Acceptance(_retired_trigger(retired, source_identity), "closed") if retired else None


def _retired_trigger(row: Row[Any], source_identity: str) -> Trigger:
    return Trigger(
        station=row.station,
        epoch=row.epoch,
        sequence=row.sequence,
        accepted_utc_us=row.accepted_utc_us,
        cameras=(row.camera,),
        source_identity=source_identity,
    )


def _insert_trigger(session: Session, station: str, request: _Request) -> Trigger:
    state = get_station(session, station)
    trigger = Trigger(
        station=station,
        epoch=state.epoch,
        sequence=state.next_sequence,
        accepted_utc_us=request.accepted_utc_us,
        cameras=request.cameras,
        purpose=request.purpose,
        part_id=request.part_id,
        part_id_source=request.part_id_source,
        lot=request.lot or state.lot,
        attempt=request.attempt or 1 + _count_attempts(session, station, request.part_id),
        source_identity=request.source_identity,
        request_id=request.request_id,
    )
    accepted = {**state.accepted, **{name: state.accepted.get(name, 0) + 1 for name in request.cameras}}
    connection = session.connection()
    connection.execute(
        _ADVANCE_STATION,
        {
            "of_station": station,
            "next_sequence": trigger.sequence + 1,
            "accepted": accepted,
            "totals": move_trigger(state.totals, trigger.purpose.value, leaves=None, enters=PENDING),
        },
    )
    connection.execute(_INSERT_TRIGGER, trigger_values(trigger))
    return trigger


def _count_attempts(session: Session, station: str, part_id: str | None) -> int:
    if part_id is None:
        return 0
    earlier = select(func.count()).where(TriggerRow.station == station, TriggerRow.part_id == part_id)
    return session.scalar(earlier) or 0


def _insert_skipped(
    session: Session,
    station: str,
    frame: SkippedFrame,
    message_for: Callable[[Inspection], tuple[Message, ...]],
    purpose: Purpose,
    provenance: Provenance,
    now_us: int,
) -> Inspection | None:
    request = _Request(
        cameras=(frame.camera,),
        accepted_utc_us=now_us,
        purpose=purpose,
        part_id=_storable(frame.part_id),
        part_id_source=frame.part_id_source,
        lot=_storable(frame.lot),
        attempt=frame.attempt,
        source_identity=_storable(frame.source_identity),
        request_id=None,
    )
    if _find_known(session, station, request.source_identity, None) is not None:
        return None
    inspection = Inspection(
        trigger=_insert_trigger(session, station, request),
        camera=frame.camera,
        verdict=Verdict(VerdictKind.NOT_INSPECTED, score=None, thresholds=None, reasons=(frame.reason,)),
        decided_utc_us=now_us,
        provenance=provenance,
        captured_utc_us=frame.captured_utc_us,
    )
    insert_inspection(session, inspection, message_for(inspection), wants_evidence=False)
    return inspection


def _storable(value: str | None) -> str | None:
    return storable(value) if value is not None else None
