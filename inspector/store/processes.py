"""Heartbeats of the processes and samples of the cameras' health."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, insert, select

from inspector.records import CameraHealth
from inspector.store.database import Database
from inspector.store.tables import CameraHealthRow, ProcessRow


@dataclass(frozen=True, slots=True)
class ProcessBeat:
    """The last sign of life of a process."""

    process: str
    pid: int
    beat_utc_us: int
    state: str
    reasons: tuple[str, ...]


def beat(db: Database, process: str, pid: int, state: str, reasons: Sequence[str], now_us: int) -> None:
    """A process is alive and says how it is: `online`, `degraded` or `offline`, with reasons."""
    with db.write() as session:
        session.execute(delete(ProcessRow).where(ProcessRow.process == process))
        session.execute(
            insert(ProcessRow).values(process=process, pid=pid, beat_utc_us=now_us, state=state, reasons=list(reasons))
        )


def list_processes(db: Database) -> list[ProcessBeat]:
    """Every process that ever beat, by name."""
    with db.read() as session:
        return [
            ProcessBeat(row.process, row.pid, row.beat_utc_us, row.state, tuple(row.reasons))
            for row in session.scalars(select(ProcessRow).order_by(ProcessRow.process))
        ]


def record_camera_health(db: Database, station: str, health: Sequence[CameraHealth], now_us: int) -> None:
    """One sample of each camera of a station."""
    if not health:
        return
    rows = [
        {
            "station": station,
            "camera": sample.camera,
            "sampled_utc_us": now_us,
            "connected": bool(sample.connected),
            "frames_per_s": _plain(sample.frames_per_s),
            "last_frame_age_s": _plain(sample.last_frame_age_s),
            "dropped": int(sample.dropped),
            "level": _plain(sample.level),
            "focus": _plain(sample.focus),
            "reason": sample.reason,
        }
        for sample in health
    ]
    with db.write() as session:
        session.execute(insert(CameraHealthRow), rows)


def latest_camera_health(db: Database) -> list[tuple[str, CameraHealth]]:
    """(station, newest sample) of every camera."""
    newest = select(func.max(CameraHealthRow.health_id)).group_by(CameraHealthRow.station, CameraHealthRow.camera)
    wanted = (
        select(CameraHealthRow)
        .where(CameraHealthRow.health_id.in_(newest))
        .order_by(CameraHealthRow.station, CameraHealthRow.camera)
    )
    with db.read() as session:
        return [(row.station, health_from_row(row)) for row in session.scalars(wanted)]


def health_from_row(row: CameraHealthRow) -> CameraHealth:
    return CameraHealth(
        camera=row.camera,
        connected=row.connected,
        frames_per_s=row.frames_per_s,
        last_frame_age_s=row.last_frame_age_s,
        dropped=row.dropped,
        level=row.level,
        focus=row.focus,
        reason=row.reason,
    )


def _plain(value: float | None) -> float | None:
    """NumPy scalars would be stored as blobs."""
    return float(value) if value is not None else None
