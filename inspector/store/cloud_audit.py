"""The log of what was about to leave the plant: a hash chain over all stations, written before anything leaves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from inspector.errors import ChainBrokenError, StoreError
from inspector.store.canonical_json import canonical_json
from inspector.store.cloud_tables import CloudAuditRow, CloudStateRow
from inspector.store.database import Database
from inspector.store.hash_chain import GENESIS_HASH
from inspector.store.steady_clock import load_state

_FETCH = {"yield_per": 500}


@dataclass(frozen=True, slots=True)
class Departure:
    """What is about to leave: the file with its exact bytes, where to, why, and under which policy."""

    escalation_id: str
    attempt: int
    inspection_id: str
    station: str
    reason: str
    provider: str
    destination: str
    policy_version: str
    send: str
    images: int
    payload_key: str
    payload_sha256: str
    payload_bytes: int
    recorded_utc_us: int


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A row of the log."""

    position: int
    departure: Departure
    prev_hash: str
    row_hash: str


@dataclass(frozen=True, slots=True)
class AuditReport:
    """A log that verifies. `files_gone` were removed by retention; their hashes stay."""

    rows: int
    tip_hash: str
    files_checked: int
    files_gone: int


def append_departure(session: Session, departure: Departure) -> int:
    """Put a departure at the end of the log, inside the transaction that allows it; returns its position.

    The steady clock must have been advanced in this transaction: it keeps the row with the tip.
    """
    state = load_state(session)
    if state is None:
        raise StoreError("the cloud's state is not in this database; advance its clock first")
    position = state.audit_rows + 1
    values = asdict(departure)
    row_hash = hash_departure(position, state.audit_hash, values)
    session.execute(
        insert(CloudAuditRow).values(position=position, prev_hash=state.audit_hash, row_hash=row_hash, **values)
    )
    session.execute(update(CloudStateRow).values(audit_rows=position, audit_hash=row_hash))
    return position


def hash_departure(position: int, prev_hash: str, values: Mapping[str, Any]) -> str:
    """Lower-case hex SHA-256 of a row in its place."""
    content = {"position": position, "prev_hash": prev_hash, "departure": dict(values)}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def stream_audit(db: Database, station: str | None = None) -> Iterator[AuditEntry]:
    """The whole log in order, or what one station sent."""
    wanted = select(CloudAuditRow).order_by(CloudAuditRow.position)
    if station is not None:
        wanted = wanted.where(CloudAuditRow.station == station)
    with db.read() as session:
        for row in session.scalars(wanted, execution_options=_FETCH):
            yield _entry(row)


def verify_audit(db: Database, read_file: Callable[[str], bytes | None]) -> AuditReport:
    """Check every row, its place, and the file it names; `ChainBrokenError` names the first that is wrong.

    `read_file` gives the bytes of a key, None for a file that is gone. Files are never changed, so a changed one
    is an error; retention removes old ones, so a missing one is counted.
    """
    last_hash, position, checked, gone = GENESIS_HASH, 0, 0, 0
    with db.read() as session:
        rows = session.scalars(select(CloudAuditRow).order_by(CloudAuditRow.position), execution_options=_FETCH)
        for entry in map(_entry, rows):
            position += 1
            _verify_entry(entry, position, last_hash)
            last_hash = entry.row_hash
            content = read_file(entry.departure.payload_key)
            if content is not None and hashlib.sha256(content).hexdigest() != entry.departure.payload_sha256:
                raise ChainBrokenError(f"{_describe(entry)}: the file {entry.departure.payload_key} was changed")
            checked, gone = checked + (content is not None), gone + (content is None)
        state = load_state(session)
    tip = (state.audit_rows, state.audit_hash) if state is not None else (0, GENESIS_HASH)
    if tip != (position, last_hash):
        raise ChainBrokenError(
            f"the cloud audit log ends at row {position}, but row {tip[0]} was written last; "
            "the newest rows were removed or changed"
        )
    return AuditReport(position, last_hash, checked, gone)


def _verify_entry(entry: AuditEntry, expected: int, prev_hash: str) -> None:
    if entry.position != expected:
        raise ChainBrokenError(f"{_describe(entry)}: row {expected} before it is missing")
    if entry.prev_hash != prev_hash:
        raise ChainBrokenError(f"{_describe(entry)} does not follow the row before it")
    if entry.row_hash != hash_departure(expected, prev_hash, asdict(entry.departure)):
        raise ChainBrokenError(f"{_describe(entry)} was changed: its values do not match its hash")


def _describe(entry: AuditEntry) -> str:
    return f"cloud audit row {entry.position}: escalation {entry.departure.escalation_id}"


def _entry(row: CloudAuditRow) -> AuditEntry:
    departure = Departure(
        escalation_id=row.escalation_id,
        attempt=row.attempt,
        inspection_id=row.inspection_id,
        station=row.station,
        reason=row.reason,
        provider=row.provider,
        destination=row.destination,
        policy_version=row.policy_version,
        send=row.send,
        images=row.images,
        payload_key=row.payload_key,
        payload_sha256=row.payload_sha256,
        payload_bytes=row.payload_bytes,
        recorded_utc_us=row.recorded_utc_us,
    )
    return AuditEntry(row.position, departure, row.prev_hash, row.row_hash)
