"""Retention by age and by size, in small batches beside the running line.

Rows go first and files after them, so that a kill in between leaves at worst files without rows, which
the next run sweeps away. What is unsent, under review, or waiting for evidence stays, rows and
pictures alike. Inspections are cut from the old end of each station's chain only; a row that must
stay stops the cut there, while pictures behind it may still go.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, delete, select, true
from sqlalchemy.orm import InstrumentedAttribute, Session

from inspector.store.chain_cut import cut_chain, find_needed
from inspector.store.cloud_tables import CloudAuditRow
from inspector.store.database import Database
from inspector.store.frames import FrameFiles, PictureFile, delete_picture, picture_inspection_id
from inspector.store.tables import (
    CameraHealthRow,
    CommandRow,
    EvidenceRow,
    InspectionRow,
    OutboxRow,
    StationRow,
    TriggerRow,
)

DAY_US = 86_400_000_000
SENT_MESSAGES_KEPT_US = DAY_US
ANSWERED_COMMANDS_KEPT_US = 7 * DAY_US
ORPHAN_GRACE_US = 3_600_000_000
PAUSE_S = 0.02
PICTURES_A_LOOK = 500


@dataclass(slots=True)
class RetentionReport:
    """What one run removed. `held_by` names for each station the row that stopped its cut, and why."""

    removed_inspections: int = 0
    removed_triggers: int = 0
    removed_pictures: int = 0
    removed_messages: int = 0
    freed_mb: float = 0.0
    picture_mb: float = 0.0
    held_by: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _PictureRules:
    older_than_us: int
    orphans_before_us: int
    limit_bytes: float


def apply_retention(
    db: Database,
    frames: FrameFiles,
    evidence: FrameFiles,
    *,
    retention_days: float,
    retention_mb: float,
    now_us: int,
    outgoing: FrameFiles | None = None,
    batch: int = 50,
) -> RetentionReport:
    """Remove inspections and pictures older than `retention_days`, then the oldest pictures beyond `retention_mb`
    (10^6 bytes, all roots together). `outgoing` holds what was sent to cloud models; its audit log stays.
    Sent messages go after a day, answered commands after a week.

    Rows go `batch` at a time, since a commit of the line waits as long as one batch takes.
    May be killed and repeated at any moment. Raises the `StoreError`s of the database and the files.
    """
    report = RetentionReport()
    older_than_us = now_us - int(retention_days * DAY_US)
    with db.read() as session:
        stations = session.scalars(select(StationRow.station)).all()
    for station in stations:
        _cut_station(db, station, older_than_us, now_us, batch, report)
    roots = [frames, evidence, *([outgoing] if outgoing is not None else [])]
    _remove_pictures(db, roots, retention_mb * 1e6, older_than_us, now_us, report)
    report.removed_messages = _delete_old(
        db,
        OutboxRow.outbox_id,
        OutboxRow.created_utc_us,
        OutboxRow.sent_utc_us < now_us - SENT_MESSAGES_KEPT_US,
        now_us - SENT_MESSAGES_KEPT_US,
        batch,
    )
    _delete_old(
        db,
        CommandRow.command_id,
        CommandRow.received_utc_us,
        CommandRow.answered_utc_us.is_not(None),
        now_us - ANSWERED_COMMANDS_KEPT_US,
        batch,
    )
    _delete_old(db, CameraHealthRow.health_id, CameraHealthRow.sampled_utc_us, true(), older_than_us, batch)
    db.checkpoint_if_due()
    return report


def _cut_station(
    db: Database, station: str, older_than_us: int, now_us: int, batch: int, report: RetentionReport
) -> None:
    while True:
        cut = cut_chain(db, station, older_than_us=older_than_us, now_us=now_us, batch=batch)
        report.removed_inspections += cut.inspections
        report.removed_triggers += cut.triggers
        if cut.held_by is not None:
            report.held_by[station] = cut.held_by
        if cut.inspections < batch:
            return
        time.sleep(PAUSE_S)  # the line goes first


def _remove_pictures(
    db: Database,
    roots: Sequence[FrameFiles],
    limit_bytes: float,
    older_than_us: int,
    now_us: int,
    report: RetentionReport,
) -> None:
    """Oldest files first: orphans, what is too old, and what is beyond the limit."""
    with db.read() as session:
        oldest_open = session.scalar(
            select(TriggerRow.accepted_utc_us)
            .where(TriggerRow.closed.is_(False))
            .order_by(TriggerRow.accepted_utc_us)
            .limit(1)
        )
    orphans_before_us = min(now_us - ORPHAN_GRACE_US, oldest_open if oldest_open is not None else now_us)
    rules = _PictureRules(older_than_us, orphans_before_us, limit_bytes)
    found = [picture for root in roots for picture in root.pictures()]
    pictures = sorted(found, key=lambda picture: picture.mtime_us)
    left_bytes = sum(picture.size_bytes for picture in pictures)
    for start in range(0, len(pictures), PICTURES_A_LOOK):
        chosen = _choose_pictures(db, pictures[start : start + PICTURES_A_LOOK], rules, left_bytes)
        for picture in chosen:
            report.removed_pictures += delete_picture(picture.path)
            report.freed_mb += picture.size_bytes / 1e6
            left_bytes -= picture.size_bytes
    report.picture_mb = left_bytes / 1e6
    for root in roots:
        root.remove_empty_folders()


def _choose_pictures(
    db: Database, pictures: Sequence[PictureFile], rules: _PictureRules, left_bytes: float
) -> list[PictureFile]:
    """Which of these files go now."""
    ids = sorted({picture_inspection_id(picture.key) for picture in pictures if picture.key is not None})
    with db.read() as session:
        decided_us, keys = _known_keys(session, ids)
        needed = find_needed(session, ids)
    chosen: list[PictureFile] = []
    for picture in pictures:
        inspection_id = picture_inspection_id(picture.key) if picture.key is not None else ""
        if inspection_id in needed:
            continue
        if picture.key in keys:
            goes = decided_us[inspection_id] < rules.older_than_us or left_bytes > rules.limit_bytes
        else:
            goes = picture.mtime_us < rules.orphans_before_us
        if goes:
            chosen.append(picture)
            left_bytes -= picture.size_bytes
    return chosen


def _known_keys(session: Session, ids: Sequence[str]) -> tuple[dict[str, int], set[str]]:
    """When each inspection was decided, and the keys of all pictures that rows refer to."""
    decided_us: dict[str, int] = {}
    keys: set[str | None] = set()
    wanted = (
        select(
            InspectionRow.inspection_id,
            InspectionRow.decided_utc_us,
            InspectionRow.frame_key,
            EvidenceRow.visual_key,
            EvidenceRow.twin_key,
            EvidenceRow.thumbnail_key,
        )
        .outerjoin(EvidenceRow, EvidenceRow.inspection_id == InspectionRow.inspection_id)
        .where(InspectionRow.inspection_id.in_(ids))
    )
    for inspection_id, decided_utc_us, *found in session.execute(wanted):
        decided_us[inspection_id] = decided_utc_us
        keys.update(found)
    keys.update(session.scalars(select(CloudAuditRow.payload_key).where(CloudAuditRow.inspection_id.in_(decided_us))))
    return decided_us, {key for key in keys if key is not None}


def _delete_old(
    db: Database,
    key: InstrumentedAttribute[int],
    time_us: InstrumentedAttribute[int],
    removable: ColumnElement[bool],
    older_than_us: int,
    batch: int,
) -> int:
    """Delete removable rows from the old end of a table, in key order, until the rows get too young."""
    removed = 0
    after = 0
    while True:
        wanted = select(key, time_us, removable).where(key > after).order_by(key).limit(batch)
        with db.read() as session:
            rows: Sequence[Any] = session.execute(wanted).all()
        ids = [row[0] for row in rows if row[1] < older_than_us and row[2]]
        if ids:
            with db.write() as session:
                session.execute(delete(key.class_).where(key.in_(ids)).execution_options(synchronize_session=False))
            removed += len(ids)
            time.sleep(PAUSE_S)
        if len(rows) < batch or rows[-1][1] >= older_than_us:
            return removed
        after = rows[-1][0]
