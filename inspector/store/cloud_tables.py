"""The tables of the cloud: questions and their states, what was debited, and the log of what left the plant."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from inspector.store.tables import Base


class EscalationRow(Base):
    """One question about one inspection.

        queued ⇄ sending → answered
           │        └────→ failed            queued → expired
        waiting → queued                     a near-duplicate of an open question; promoted when that one fails
        waiting → reused                     … answered together with it; or reused from the beginning

    Times that rules depend on are `_steady_us`: the plant's steady clock, which does not jump.
    """

    __tablename__ = "escalation"

    escalation_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    inspection_id: Mapped[str] = mapped_column(
        String(36), ForeignKey("inspection.inspection_id", ondelete="CASCADE"), unique=True
    )
    station: Mapped[str] = mapped_column(String(128))
    camera: Mapped[str] = mapped_column(String(32))
    recipe_name: Mapped[str] = mapped_column(String(32))
    reason: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16))
    same_as: Mapped[str | None] = mapped_column(String(36))
    """The escalation whose answer is, or was, reused."""
    looks: Mapped[bytes] = mapped_column(LargeBinary)
    """Empty where nothing may be reused."""
    attempts: Mapped[int] = mapped_column(Integer)
    kills: Mapped[int] = mapped_column(Integer)
    """Attempts whose process died; nobody knows whether they arrived."""
    queued_utc_us: Mapped[int] = mapped_column(BigInteger)
    queued_steady_us: Mapped[int] = mapped_column(BigInteger)
    waited_us: Mapped[int] = mapped_column(BigInteger)
    """From the verdict to the queue."""
    due_steady_us: Mapped[int] = mapped_column(BigInteger)
    finished_utc_us: Mapped[int | None] = mapped_column(BigInteger)
    problem: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        Index("escalation_open", "state", "due_steady_us", sqlite_where=finished_utc_us.is_(None)),
        Index("escalation_by_look", "station", "queued_utc_us"),
        Index("escalation_by_same", "same_as", sqlite_where=same_as.is_not(None)),
    )


class CloudCursorRow(Base):
    """How far a station's committed inspections were looked at."""

    __tablename__ = "cloud_cursor"

    station: Mapped[str] = mapped_column(String(128), primary_key=True)
    chain_index: Mapped[int] = mapped_column(BigInteger)


class CloudSpendRow(Base):
    """What one attempt was debited, before it was sent. Money is in millionths; `money_micro` is what was reserved
    until the answer says what it cost."""

    __tablename__ = "cloud_spend"

    escalation_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer, primary_key=True)
    station: Mapped[str] = mapped_column(String(128))
    provider: Mapped[str] = mapped_column(String(32))
    debited_steady_us: Mapped[int] = mapped_column(BigInteger)
    debited_utc_us: Mapped[int] = mapped_column(BigInteger)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    reserved_micro: Mapped[int] = mapped_column(BigInteger)
    money_micro: Mapped[int] = mapped_column(BigInteger)
    settled: Mapped[bool] = mapped_column(Boolean)

    __table_args__ = (Index("cloud_spend_by_time", "station", "debited_steady_us"),)


class CloudAuditRow(Base):
    """What was about to leave the plant: written before it left, chained over all stations, never removed."""

    __tablename__ = "cloud_audit"

    position: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    escalation_id: Mapped[str] = mapped_column(String(36))
    attempt: Mapped[int] = mapped_column(Integer)
    inspection_id: Mapped[str] = mapped_column(String(36))
    station: Mapped[str] = mapped_column(String(128))
    reason: Mapped[str] = mapped_column(String(16))
    provider: Mapped[str] = mapped_column(String(32))
    destination: Mapped[str] = mapped_column(Text)
    policy_version: Mapped[str] = mapped_column(String(16))
    send: Mapped[str] = mapped_column(String(8))
    images: Mapped[int] = mapped_column(Integer)
    payload_key: Mapped[str] = mapped_column(Text)
    payload_sha256: Mapped[str] = mapped_column(String(64))
    payload_bytes: Mapped[int] = mapped_column(BigInteger)
    recorded_utc_us: Mapped[int] = mapped_column(BigInteger)
    prev_hash: Mapped[str] = mapped_column(String(64))
    row_hash: Mapped[str] = mapped_column(String(64))

    __table_args__ = (Index("cloud_audit_by_inspection", "inspection_id"),)


class CloudStateRow(Base):
    """One row: the steady clock, and the tip of the audit log."""

    __tablename__ = "cloud_state"

    state_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    steady_us: Mapped[int] = mapped_column(BigInteger)
    boot_id: Mapped[str] = mapped_column(String(64))
    boot_us: Mapped[int] = mapped_column(BigInteger)
    wall_us: Mapped[int] = mapped_column(BigInteger)
    audit_rows: Mapped[int] = mapped_column(BigInteger)
    audit_hash: Mapped[str] = mapped_column(String(64))
