"""How the cameras were doing over a period: read-only queries for reports."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Integer, case, cast, func, select
from sqlalchemy.orm import Session

from inspector.store.tables import CameraHealthRow


@dataclass(frozen=True, slots=True)
class CameraPiece:
    """A camera's samples in one equal piece of the period, counted from 0."""

    station: str
    camera: str
    piece: int
    samples: int
    connected: int
    frames_per_s: float | None
    level: float | None
    focus: float | None
    dropped: int
    """Frames dropped in this piece; a counter that starts again at zero is understood."""


def camera_pieces(session: Session, since_utc_us: int, until_utc_us: int, pieces: int) -> list[CameraPiece]:
    """Camera health over [since, until) in equal pieces; pieces without a sample are left out."""
    width = max(1, -(-(until_utc_us - since_utc_us) // pieces))
    before = func.lag(CameraHealthRow.dropped).over(
        partition_by=(CameraHealthRow.station, CameraHealthRow.camera), order_by=CameraHealthRow.health_id
    )
    # A process that restarts counts from zero again: a smaller value is all new.
    newly = case((before.is_(None), 0), (CameraHealthRow.dropped < before, CameraHealthRow.dropped))
    samples = (
        select(
            CameraHealthRow.station,
            CameraHealthRow.camera,
            ((CameraHealthRow.sampled_utc_us - since_utc_us) // width).label("piece"),
            cast(CameraHealthRow.connected, Integer).label("connected"),
            CameraHealthRow.frames_per_s,
            CameraHealthRow.level,
            CameraHealthRow.focus,
            func.coalesce(newly, CameraHealthRow.dropped - before).label("newly"),
        )
        .where(CameraHealthRow.sampled_utc_us >= since_utc_us, CameraHealthRow.sampled_utc_us < until_utc_us)
        .subquery()
    )
    query = (
        select(
            samples.c.station,
            samples.c.camera,
            samples.c.piece,
            func.count(),
            func.sum(samples.c.connected),
            func.avg(samples.c.frames_per_s),
            func.avg(samples.c.level),
            func.avg(samples.c.focus),
            func.sum(samples.c.newly),
        )
        .group_by(samples.c.station, samples.c.camera, samples.c.piece)
        .order_by(samples.c.station, samples.c.camera, samples.c.piece)
    )
    return [CameraPiece(*row) for row in session.execute(query)]


def health_span(session: Session) -> tuple[int, int] | None:
    """Times of the first and the last sample on record; None when there is none."""
    first = session.scalar(select(func.min(CameraHealthRow.sampled_utc_us)))
    last = session.scalar(select(func.max(CameraHealthRow.sampled_utc_us)))
    return None if first is None or last is None else (first, last)


def last_camera_troubles(session: Session, since_utc_us: int, until_utc_us: int) -> dict[tuple[str, str], str]:
    """The newest reason each camera gave for not being well, by (station, camera)."""
    newest = (
        select(func.max(CameraHealthRow.health_id))
        .where(
            CameraHealthRow.sampled_utc_us >= since_utc_us,
            CameraHealthRow.sampled_utc_us < until_utc_us,
            CameraHealthRow.reason.is_not(None),
        )
        .group_by(CameraHealthRow.station, CameraHealthRow.camera)
    )
    rows = session.scalars(select(CameraHealthRow).where(CameraHealthRow.health_id.in_(newest)))
    return {(row.station, row.camera): row.reason or "" for row in rows}
