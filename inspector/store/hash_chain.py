"""The audit chain: each inspection of a station carries a hash over its predecessor's hash and itself.

What is hashed is canonical JSON of the inspection's columns, its detections and the facts of its
trigger (part, lot, purpose, …). Columns that are null are left out, so that a later schema can add
nullable columns without breaking old rows. Changing, removing or inserting a row breaks the chain
from there on; the last hash stands in the station's row, the last removed one in the checkpoint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, case, func, select
from sqlalchemy.orm import Session

from inspector.errors import ChainBrokenError, StoreError
from inspector.records import SEVERITY, VerdictKind
from inspector.store.canonical_json import canonical_json
from inspector.store.database import Database
from inspector.store.tables import ChainCheckpointRow, DetectionRow, InspectionRow, StationRow, TriggerRow, table_of
from inspector.store.totals import add_totals, count_triggers

GENESIS_HASH = "0" * 64
VERIFY_BATCH = 500
_INSPECTION_UNHASHED = frozenset({"prev_hash", "row_hash"})
_DETECTION_UNHASHED = frozenset({"inspection_id"})
_TRIGGER_UNHASHED = frozenset({"closed", "verdict", "late"})


@dataclass(frozen=True, slots=True)
class ChainReport:
    """A chain that verifies: `rows` are there, `removed_rows` before them were cut by retention."""

    station: str
    rows: int
    removed_rows: int
    tip_index: int
    tip_hash: str


@dataclass(frozen=True, slots=True)
class _Link:
    """One inspection with everything its hash covers."""

    inspection: Mapping[str, Any]
    detections: Sequence[Mapping[str, Any]]
    trigger: Mapping[str, Any]

    def describe(self) -> str:
        row = self.inspection
        return f"station {row['station']}, row {row['chain_index']}: inspection {row['inspection_id']}"


def hash_row(
    prev_hash: str,
    inspection: Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    trigger: Mapping[str, Any],
) -> str:
    """Lower-case hex SHA-256 of a row in its place; the mappings hold column values."""
    content = {
        "prev_hash": prev_hash,
        "inspection": _hashed(inspection, _INSPECTION_UNHASHED),
        "detections": [_hashed(detection, _DETECTION_UNHASHED) for detection in detections],
        "trigger": _hashed(trigger, _TRIGGER_UNHASHED),
    }
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def verify_chain(db: Database, station: str) -> ChainReport:
    """Read a station's whole chain in one snapshot; `ChainBrokenError` names the first row that is wrong."""
    with db.read() as session:
        tip = session.get(StationRow, station)
        if tip is None:
            raise StoreError(f"station {station} is not in this database; it never started here")
        cut = session.get(ChainCheckpointRow, station)
        index, last_hash = (cut.chain_index, cut.row_hash) if cut else (0, GENESIS_HASH)
        start = index
        for link in _links(session, station):
            _verify_link(link, index + 1, last_hash)
            index, last_hash = link.inspection["chain_index"], link.inspection["row_hash"]
        if (index, last_hash) != (tip.chain_index, tip.chain_hash):
            raise ChainBrokenError(
                f"station {station}: the chain ends at row {index}, but row {tip.chain_index} was committed last; "
                "the newest rows were removed or changed"
            )
        _verify_results(session, station)
        removed = cut.verdict_counts if cut else {}
        if tip.totals != add_totals(removed, count_triggers(session, station, None, None)):
            raise ChainBrokenError(
                f"station {station}: its totals are not those of its triggers; triggers were added, changed or removed"
            )
        return ChainReport(station, index - start, cut.removed_rows if cut else 0, index, last_hash)


def _verify_link(link: _Link, expected_index: int, prev_hash: str) -> None:
    row = link.inspection
    if row["chain_index"] != expected_index:
        raise ChainBrokenError(f"{link.describe()}: row {expected_index} before it is missing")
    if row["prev_hash"] != prev_hash:
        raise ChainBrokenError(f"{link.describe()} does not follow the row before it")
    if row["row_hash"] != hash_row(prev_hash, row, link.detections, link.trigger):
        raise ChainBrokenError(f"{link.describe()} was changed: its values do not match its hash")


def _links(session: Session, station: str) -> Iterator[_Link]:
    """Every inspection in chain order, read in batches."""
    inspection, detection, trigger = table_of(InspectionRow), table_of(DetectionRow), table_of(TriggerRow)
    after = 0
    while True:
        rows = _read(
            session,
            select(inspection)
            .where(inspection.c.station == station, inspection.c.chain_index > after)
            .order_by(inspection.c.chain_index)
            .limit(VERIFY_BATCH),
        )
        if not rows:
            return
        ids = [row["inspection_id"] for row in rows]
        found = select(detection).where(detection.c.inspection_id.in_(ids))
        detections: dict[str, list[Mapping[str, Any]]] = {}
        for values in _read(session, found.order_by(detection.c.inspection_id, detection.c.rank)):
            detections.setdefault(values["inspection_id"], []).append(values)
        parts = select(trigger).where(trigger.c.trigger_id.in_({row["trigger_id"] for row in rows}))
        triggers = {values["trigger_id"]: values for values in _read(session, parts)}
        for row in rows:
            yield _Link(row, detections.get(row["inspection_id"], []), triggers.get(row["trigger_id"], {}))
        after = rows[-1]["chain_index"]


def _read(session: Session, wanted: Select[Any]) -> list[dict[str, Any]]:
    return [row._asdict() for row in session.connection().execute(wanted)]


def _verify_results(session: Session, station: str) -> None:
    """The result in each trigger row must be its worst view, since counts and reports read it there.

    A trigger that lost its first views to retention can only be checked from below.
    """
    severity = case({kind.value: rank for kind, rank in SEVERITY.items()}, value=InspectionRow.verdict)
    results = (
        select(
            TriggerRow.sequence,
            TriggerRow.cameras,
            TriggerRow.verdict,
            TriggerRow.closed,
            func.max(severity),
            func.count(InspectionRow.camera.distinct()),
        )
        .join(InspectionRow, InspectionRow.trigger_id == TriggerRow.trigger_id)
        .where(TriggerRow.station == station)
        .group_by(TriggerRow.trigger_id)
    )
    for sequence, cameras, verdict, closed, worst, inspected in session.execute(results):
        rank = SEVERITY[VerdictKind(verdict)] if verdict else -1
        complete = inspected >= len(cameras)
        if rank < worst or (complete and (rank != worst or not closed)):
            raise ChainBrokenError(
                f"station {station}, trigger {sequence}: its result {verdict} is not that of its inspections"
            )


def _hashed(values: Mapping[str, Any], unhashed: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and name not in unhashed}
