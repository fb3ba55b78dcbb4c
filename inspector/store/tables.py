"""The tables. Times are integer µs UTC; ids are UUIDs as 36-character text; JSON is canonical text.

Order is by sequence, never by time. `station` is always the full id `site/line/station`.
"""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Metadata of the schema; migrations compare against it."""

    type_annotation_map = {dict[str, Any]: JSON, list[Any]: JSON}


def table_of(row: type[Base]) -> Table:
    """The Core table of a row class: statements on it skip the ORM, which costs a millisecond a commit."""
    return cast(Table, row.__table__)


class StationRow(Base):
    """What must survive a restart: run epoch, next sequence, recipe, lot, pause, tip of the hash chain.

    Two counts outlive retention: `accepted` is {camera: triggers ever accepted}, `totals` is
    {purpose: {"OK": n, "NG": n, "REVIEW": n, "NOT_INSPECTED": n, "pending": n, "late": n}} over all
    triggers ever accepted, by the verdict of their worst view.
    """

    __tablename__ = "station"

    station: Mapped[str] = mapped_column(String(128), primary_key=True)
    epoch: Mapped[int] = mapped_column(BigInteger)
    next_sequence: Mapped[int] = mapped_column(BigInteger)
    recipe_name: Mapped[str | None] = mapped_column(String(32))
    recipe_version: Mapped[int | None] = mapped_column(Integer)
    lot: Mapped[str | None] = mapped_column(String(128))
    paused: Mapped[bool] = mapped_column(Boolean)
    chain_index: Mapped[int] = mapped_column(BigInteger)
    chain_hash: Mapped[str] = mapped_column(String(64))
    accepted: Mapped[dict[str, Any]] = mapped_column(JSON)
    totals: Mapped[dict[str, Any]] = mapped_column(JSON)


class TriggerRow(Base):
    """An accepted trigger. `closed` turns true with the last inspection it owes.

    `verdict` is the worst view so far and `late` says that any view was late: both follow from the
    inspections and are kept here so that counting a shift costs one index range.
    """

    __tablename__ = "trigger"

    trigger_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    station: Mapped[str] = mapped_column(String(128), ForeignKey("station.station"))
    epoch: Mapped[int] = mapped_column(BigInteger)
    sequence: Mapped[int] = mapped_column(BigInteger)
    accepted_utc_us: Mapped[int] = mapped_column(BigInteger)
    cameras: Mapped[list[Any]] = mapped_column(JSON)
    purpose: Mapped[str] = mapped_column(String(16))
    part_id: Mapped[str | None] = mapped_column(Text)
    part_id_source: Mapped[str] = mapped_column(String(16))
    lot: Mapped[str | None] = mapped_column(Text)
    attempt: Mapped[int] = mapped_column(Integer)
    source_identity: Mapped[str | None] = mapped_column(Text)
    request_id: Mapped[str | None] = mapped_column(String(128))
    closed: Mapped[bool] = mapped_column(Boolean)
    verdict: Mapped[str | None] = mapped_column(String(16))
    late: Mapped[bool] = mapped_column(Boolean)

    __table_args__ = (
        UniqueConstraint("station", "epoch", "sequence"),
        Index(
            "trigger_by_source", "station", "source_identity", unique=True, sqlite_where=source_identity.is_not(None)
        ),
        Index("trigger_by_request", "station", "request_id", unique=True, sqlite_where=request_id.is_not(None)),
        Index("trigger_by_part", "station", "part_id", sqlite_where=part_id.is_not(None)),
        Index("trigger_by_time", "station", "accepted_utc_us"),
        Index("trigger_open", "station", "sequence", sqlite_where=closed.is_(False)),
    )


class RetiredSourceRow(Base):
    """A frame that was inspected and whose trigger retention has removed: a file that still lies in the
    watched folder must not be inspected again. Kept for ever; `source_sha256` is over the source identity."""

    __tablename__ = "retired_source"

    station: Mapped[str] = mapped_column(String(128), primary_key=True)
    source_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    epoch: Mapped[int] = mapped_column(BigInteger)
    sequence: Mapped[int] = mapped_column(BigInteger)
    accepted_utc_us: Mapped[int] = mapped_column(BigInteger)
    camera: Mapped[str] = mapped_column(String(32))

    __table_args__ = ({"sqlite_with_rowid": False},)


class InspectionRow(Base):
    """One frame under one recipe version; a row is written once and never changed."""

    __tablename__ = "inspection"

    inspection_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    trigger_id: Mapped[str] = mapped_column(String(36), ForeignKey("trigger.trigger_id"))
    station: Mapped[str] = mapped_column(String(128))
    sequence: Mapped[int] = mapped_column(BigInteger)
    camera: Mapped[str] = mapped_column(String(32))
    view: Mapped[str] = mapped_column(String(32))
    instance: Mapped[int] = mapped_column(Integer)
    verdict: Mapped[str] = mapped_column(String(16))
    score: Mapped[float | None] = mapped_column(Float)
    review_threshold: Mapped[float | None] = mapped_column(Float)
    ng_threshold: Mapped[float | None] = mapped_column(Float)
    reasons: Mapped[list[Any]] = mapped_column(JSON)
    late: Mapped[bool] = mapped_column(Boolean)
    captured_utc_us: Mapped[int | None] = mapped_column(BigInteger)
    decided_utc_us: Mapped[int] = mapped_column(BigInteger)
    recipe_name: Mapped[str | None] = mapped_column(String(32))
    recipe_version: Mapped[int | None] = mapped_column(Integer)
    recipe_sha256: Mapped[str | None] = mapped_column(String(64))
    frame_sha256: Mapped[str | None] = mapped_column(String(64))
    frame_key: Mapped[str | None] = mapped_column(Text)
    frame_width_px: Mapped[int | None] = mapped_column(Integer)
    frame_height_px: Mapped[int | None] = mapped_column(Integer)
    mm_per_px: Mapped[float | None] = mapped_column(Float)
    calibration_id: Mapped[str | None] = mapped_column(String(64))
    registration_confidence: Mapped[float | None] = mapped_column(Float)
    timings_ms: Mapped[dict[str, Any]] = mapped_column(JSON)
    truth: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    software_version: Mapped[str] = mapped_column(String(32))
    config_sha256: Mapped[str] = mapped_column(String(64))
    chain_index: Mapped[int] = mapped_column(BigInteger)
    prev_hash: Mapped[str] = mapped_column(String(64))
    row_hash: Mapped[str] = mapped_column(String(64))

    __table_args__ = (
        UniqueConstraint("station", "sequence", "camera", "view", "instance"),
        UniqueConstraint("station", "chain_index"),
        Index("inspection_by_trigger", "trigger_id"),
        Index("inspection_by_time", "station", "decided_utc_us"),
        Index("inspection_suspicious", "station", "decided_utc_us", sqlite_where=verdict != "OK"),
    )


class DetectionRow(Base):
    """One suspicious region of an inspection, worst first by `rank`."""

    __tablename__ = "detection"

    inspection_id: Mapped[str] = mapped_column(
        String(36), ForeignKey("inspection.inspection_id", ondelete="CASCADE"), primary_key=True
    )
    rank: Mapped[int] = mapped_column(Integer, primary_key=True)
    x0_px: Mapped[int] = mapped_column(Integer)
    y0_px: Mapped[int] = mapped_column(Integer)
    x1_px: Mapped[int] = mapped_column(Integer)
    y1_px: Mapped[int] = mapped_column(Integer)
    score: Mapped[float] = mapped_column(Float)
    name: Mapped[str] = mapped_column(String(64))
    area_px: Mapped[int] = mapped_column(Integer)
    name_confidence: Mapped[float | None] = mapped_column(Float)
    size_px: Mapped[float | None] = mapped_column(Float)
    region: Mapped[str | None] = mapped_column(String(64))

    __table_args__ = ({"sqlite_with_rowid": False},)


class OutboxRow(Base):
    """A message to be published. Written in the transaction of what it announces; drained in id order."""

    __tablename__ = "outbox"

    outbox_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    station: Mapped[str] = mapped_column(String(128))
    topic: Mapped[str] = mapped_column(Text)
    payload: Mapped[str] = mapped_column(Text)
    qos: Mapped[int] = mapped_column(Integer)
    retain: Mapped[bool] = mapped_column(Boolean)
    created_utc_us: Mapped[int] = mapped_column(BigInteger)
    sent_utc_us: Mapped[int | None] = mapped_column(BigInteger)
    inspection_id: Mapped[str | None] = mapped_column(String(36))
    correlation: Mapped[str | None] = mapped_column(Text)
    """MQTT 5 correlation data of a command's answer, as hex."""

    __table_args__ = (
        Index("outbox_unsent", "outbox_id", sqlite_where=sent_utc_us.is_(None)),
        Index("outbox_unsent_inspection", "inspection_id", sqlite_where=sent_utc_us.is_(None)),
        {"sqlite_autoincrement": True},
    )


class CommandRow(Base):
    """A command that was acknowledged to the broker after this row was committed, and its answer."""

    __tablename__ = "command"

    command_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    station: Mapped[str] = mapped_column(String(128))
    verb: Mapped[str] = mapped_column(String(32))
    request_id: Mapped[str] = mapped_column(String(128))
    arguments: Mapped[dict[str, Any]] = mapped_column(JSON)
    response_topic: Mapped[str | None] = mapped_column(Text)
    correlation: Mapped[str | None] = mapped_column(Text)
    received_utc_us: Mapped[int] = mapped_column(BigInteger)
    answered_utc_us: Mapped[int | None] = mapped_column(BigInteger)
    answer_topic: Mapped[str | None] = mapped_column(Text)
    answer_payload: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        UniqueConstraint("station", "request_id"),
        Index("command_open", "station", "command_id", sqlite_where=answered_utc_us.is_(None)),
        {"sqlite_autoincrement": True},
    )


class EvidenceRow(Base):
    """The evidence owed for one NG or REVIEW inspection, and where it lies once made."""

    __tablename__ = "evidence"

    inspection_id: Mapped[str] = mapped_column(
        String(36), ForeignKey("inspection.inspection_id", ondelete="CASCADE"), primary_key=True
    )
    state: Mapped[str] = mapped_column(String(16))
    """`pending`, `done` or `failed`; `repaint` when an opinion came after the picture, which stays until then."""
    attempts: Mapped[int] = mapped_column(Integer)
    """Failures that were reported."""
    handed_out: Mapped[int] = mapped_column(Integer)
    """Times the task was taken: a picture that kills the process never reports a failure."""
    visual_key: Mapped[str | None] = mapped_column(Text)
    twin_key: Mapped[str | None] = mapped_column(Text)
    thumbnail_key: Mapped[str | None] = mapped_column(Text)
    twin_method: Mapped[str | None] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(Text)
    queued_utc_us: Mapped[int] = mapped_column(BigInteger)
    finished_utc_us: Mapped[int | None] = mapped_column(BigInteger)

    __table_args__ = (Index("evidence_by_state", "state", "queued_utc_us"),)


class ReviewRow(Base):
    """What a person said about an inspection; append-only."""

    __tablename__ = "review"

    review_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    inspection_id: Mapped[str] = mapped_column(String(36), ForeignKey("inspection.inspection_id"), index=True)
    reviewer: Mapped[str] = mapped_column(String(80))
    finding: Mapped[str] = mapped_column(String(16))
    defect_name: Mapped[str | None] = mapped_column(String(64))
    comment: Mapped[str | None] = mapped_column(Text)
    reviewed_utc_us: Mapped[int] = mapped_column(BigInteger)


class OpinionRow(Base):
    """What the cloud said about an inspection; append-only."""

    __tablename__ = "opinion"

    opinion_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    inspection_id: Mapped[str] = mapped_column(String(36), ForeignKey("inspection.inspection_id"), index=True)
    verdict: Mapped[str] = mapped_column(String(16))
    details: Mapped[dict[str, Any]] = mapped_column(JSON)
    received_utc_us: Mapped[int] = mapped_column(BigInteger)


class DispositionRow(Base):
    """The current truth of a trigger's part, as a history: the highest position counts; append-only."""

    __tablename__ = "disposition"

    position: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    disposition_id: Mapped[str] = mapped_column(String(36), unique=True)
    trigger_id: Mapped[str] = mapped_column(String(36), ForeignKey("trigger.trigger_id"))
    disposition: Mapped[str] = mapped_column(String(16))
    cause: Mapped[str] = mapped_column(String(16))
    """`review` or `opinion`; without any row the part's worst verdict counts."""
    cause_id: Mapped[str] = mapped_column(String(36))
    decided_utc_us: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (Index("disposition_by_trigger", "trigger_id", "position"), {"sqlite_autoincrement": True})


class CameraHealthRow(Base):
    """One sample of a camera's health, about each ten seconds."""

    __tablename__ = "camera_health"

    health_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    station: Mapped[str] = mapped_column(String(128))
    camera: Mapped[str] = mapped_column(String(32))
    sampled_utc_us: Mapped[int] = mapped_column(BigInteger)
    connected: Mapped[bool] = mapped_column(Boolean)
    frames_per_s: Mapped[float | None] = mapped_column(Float)
    last_frame_age_s: Mapped[float | None] = mapped_column(Float)
    dropped: Mapped[int] = mapped_column(BigInteger)
    level: Mapped[float | None] = mapped_column(Float)
    focus: Mapped[float | None] = mapped_column(Float)
    reason: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (Index("camera_health_by_time", "station", "camera", "sampled_utc_us"),)


class ProcessRow(Base):
    """Heartbeat of each process of the service, for `status`, /healthz and /metrics."""

    __tablename__ = "process"

    process: Mapped[str] = mapped_column(String(160), primary_key=True)
    """`station:<station>`, `evidence`, `delivery`, `cloud`."""
    pid: Mapped[int] = mapped_column(Integer)
    beat_utc_us: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(16))
    reasons: Mapped[list[Any]] = mapped_column(JSON)


class ChainCheckpointRow(Base):
    """Where retention cut a station's chain: rows up to and including `chain_index` are gone.

    One row a station; the counts are sums over all cuts. `verdict_counts` counts the removed triggers
    as {purpose: {"OK": n, "NG": n, "REVIEW": n, "NOT_INSPECTED": n, "late": n}}.
    """

    __tablename__ = "chain_checkpoint"

    station: Mapped[str] = mapped_column(String(128), primary_key=True)
    chain_index: Mapped[int] = mapped_column(BigInteger)
    row_hash: Mapped[str] = mapped_column(String(64))
    removed_rows: Mapped[int] = mapped_column(BigInteger)
    verdict_counts: Mapped[dict[str, Any]] = mapped_column(JSON)
    cut_utc_us: Mapped[int] = mapped_column(BigInteger)
