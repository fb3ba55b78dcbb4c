"""The transactional outbox: messages wait here, in order, until the broker has acknowledged them.

Delivery is at least once: a row is marked sent after the acknowledgement, so a kill in between sends
it again; `inspection_id` makes the duplicate harmless.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from inspector.records import Message
from inspector.store.database import Database
from inspector.store.rows import message_from_row, outbox_values
from inspector.store.tables import OutboxRow, table_of

IDS_PER_STATEMENT = 200
_INSERT_MESSAGE = insert(table_of(OutboxRow))


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A message that was not acknowledged yet."""

    outbox_id: int
    station: str
    message: Message
    created_utc_us: int


def queue_messages(db: Database, station: str, messages: Sequence[Message], now_us: int) -> None:
    """Queue messages that announce nothing else in the database (status, alarms)."""
    if messages:
        with db.write() as session:
            insert_messages(session, station, messages, now_us)


def insert_messages(session: Session, station: str, messages: Sequence[Message], now_us: int) -> None:
    """`queue_messages` inside the transaction of what the messages announce."""
    if messages:
        session.connection().execute(_INSERT_MESSAGE, [outbox_values(station, message, now_us) for message in messages])


def next_messages(db: Database, after_id: int, limit: int) -> list[OutboxEntry]:
    """Unsent messages behind `after_id`, in the order they were committed."""
    wanted = (
        select(OutboxRow)
        .where(OutboxRow.sent_utc_us.is_(None), OutboxRow.outbox_id > after_id)
        .order_by(OutboxRow.outbox_id)
        .limit(limit)
    )
    with db.read() as session:
        return [
            OutboxEntry(row.outbox_id, row.station, message_from_row(row), row.created_utc_us)
            for row in session.scalars(wanted)
        ]


def mark_sent(db: Database, ids: Sequence[int], now_us: int) -> None:
    """The broker acknowledged these. Marking one twice keeps its first time."""
    for start in range(0, len(ids), IDS_PER_STATEMENT):
        batch = ids[start : start + IDS_PER_STATEMENT]
        with db.write() as session:
            session.execute(
                update(OutboxRow)
                .where(OutboxRow.outbox_id.in_(batch), OutboxRow.sent_utc_us.is_(None))
                .values(sent_utc_us=now_us)
                .execution_options(synchronize_session=False)
            )
    db.checkpoint_if_due()


def count_unsent(db: Database) -> int:
    """How many messages wait."""
    with db.read() as session:
        return session.scalar(select(func.count()).where(OutboxRow.sent_utc_us.is_(None))) or 0


def oldest_unsent_us(db: Database) -> int | None:
    """When the message that waits longest was committed (µs UTC); None when nothing waits."""
    oldest = select(OutboxRow.created_utc_us).where(OutboxRow.sent_utc_us.is_(None)).order_by(OutboxRow.outbox_id)
    with db.read() as session:
        return session.scalar(oldest.limit(1))
