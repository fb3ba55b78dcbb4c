"""The budget ledger: every attempt is debited before it is sent, and settled when the answer says what it cost."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from inspector.records import Charge, Spent
from inspector.store.cloud_tables import CloudSpendRow
from inspector.store.database import Database

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
MONTH_US = 30 * DAY_US


@dataclass(frozen=True, slots=True)
class SpendTotals:
    """All attempts of a station: how many, their bytes, and the money they cost or may have cost."""

    station: str
    attempts: int
    size_bytes: int
    money_micro: int


def read_spent(session: Session, station: str, steady_us: int) -> Spent:
    """What a station has debited in the hour, the 24 hours and the 30 days before `steady_us`."""
    row, since = CloudSpendRow, CloudSpendRow.debited_steady_us
    hour, day = since > steady_us - HOUR_US, since > steady_us - DAY_US
    found = session.execute(
        select(
            func.count().filter(hour),
            func.count().filter(day),
            func.coalesce(func.sum(row.size_bytes).filter(day), 0),
            func.coalesce(func.sum(row.money_micro), 0),
        ).where(row.station == station, since > steady_us - MONTH_US)
    ).one()
    return Spent(*(int(value) for value in found))


def debit(
    session: Session,
    escalation_id: str,
    attempt: int,
    station: str,
    provider: str,
    charge: Charge,
    steady_us: int,
    now_us: int,
) -> None:
    """Book the most that an attempt can cost, inside the transaction that allows it."""
    session.execute(
        insert(CloudSpendRow).values(
            escalation_id=escalation_id,
            attempt=attempt,
            station=station,
            provider=provider,
            debited_steady_us=steady_us,
            debited_utc_us=now_us,
            size_bytes=charge.size_bytes,
            reserved_micro=charge.money_micro,
            money_micro=charge.money_micro,
            settled=False,
        )
    )


def settle(session: Session, escalation_id: str, attempt: int, money_micro: int) -> None:
    """What an attempt really cost; requests and bytes stay booked."""
    session.execute(
        update(CloudSpendRow)
        .where(CloudSpendRow.escalation_id == escalation_id, CloudSpendRow.attempt == attempt)
        .values(money_micro=money_micro, settled=True)
    )


def sum_spend(
    db: Database, since_utc_us: int | None = None, until_utc_us: int | None = None
) -> tuple[SpendTotals, ...]:
    """All that was debited in a period, by station."""
    row = CloudSpendRow
    wanted = select(row.station, func.count(), func.sum(row.size_bytes), func.sum(row.money_micro)).group_by(
        row.station
    )
    if since_utc_us is not None:
        wanted = wanted.where(row.debited_utc_us >= since_utc_us)
    if until_utc_us is not None:
        wanted = wanted.where(row.debited_utc_us < until_utc_us)
    with db.read() as session:
        return tuple(SpendTotals(*found) for found in session.execute(wanted.order_by(row.station)))
