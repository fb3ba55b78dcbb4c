"""Commands: committed before the broker gets its acknowledgement, answered exactly as often as they come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select

from inspector.errors import StoreError
from inspector.records import Message
from inspector.store.database import Database
from inspector.store.outbox import insert_messages
from inspector.store.tables import CommandRow


@dataclass(frozen=True, slots=True)
class Command:
    """A command that waits for its answer."""

    command_id: int
    station: str
    verb: str
    request_id: str
    arguments: dict[str, Any]
    response_topic: str | None
    correlation: bytes | None
    received_utc_us: int


def record_command(
    db: Database,
    station: str,
    verb: str,
    request_id: str,
    arguments: Mapping[str, Any],
    response_topic: str | None,
    correlation: bytes | None,
    now_us: int,
) -> bool:
    """Commit a command; False when its `request_id` is known already (the broker delivered it twice)."""
    known = select(CommandRow.command_id).where(CommandRow.station == station, CommandRow.request_id == request_id)
    with db.write() as session:
        if session.scalar(known) is not None:
            return False
        session.execute(
            insert(CommandRow).values(
                station=station,
                verb=verb,
                request_id=request_id,
                arguments=dict(arguments),
                response_topic=response_topic,
                correlation=correlation.hex() if correlation is not None else None,
                received_utc_us=now_us,
            )
        )
    return True


def open_commands(db: Database, station: str) -> list[Command]:
    """Commands without an answer, in the order they were received."""
    wanted = (
        select(CommandRow)
        .where(CommandRow.station == station, CommandRow.answered_utc_us.is_(None))
        .order_by(CommandRow.command_id)
    )
    with db.read() as session:
        return [_command(row) for row in session.scalars(wanted)]


def answer_command(db: Database, command_id: int, message: Message | None, now_us: int) -> bool:
    """Mark a command answered and queue the answer in one transaction; False when it was answered before."""
    with db.write() as session:
        row = session.get(CommandRow, command_id)
        if row is None:
            raise StoreError(f"there is no command {command_id}")
        if row.answered_utc_us is not None:
            return False
        row.answered_utc_us = now_us
        if message is not None:
            row.answer_topic, row.answer_payload = message.topic, message.payload
            insert_messages(session, row.station, [message], now_us)
    return True


def answered_message(db: Database, station: str, request_id: str) -> Message | None:
    """The answer a command got, to answer its duplicate alike; None when it is unknown, open or had no answer."""
    wanted = select(CommandRow).where(CommandRow.station == station, CommandRow.request_id == request_id)
    with db.read() as session:
        row = session.scalar(wanted)
        if row is None or row.answer_topic is None or row.answer_payload is None:
            return None
        return Message(topic=row.answer_topic, payload=row.answer_payload, correlation=_command(row).correlation)


def _command(row: CommandRow) -> Command:
    return Command(
        command_id=row.command_id,
        station=row.station,
        verb=row.verb,
        request_id=row.request_id,
        arguments=dict(row.arguments),
        response_topic=row.response_topic,
        correlation=bytes.fromhex(row.correlation) if row.correlation is not None else None,
        received_utc_us=row.received_utc_us,
    )
