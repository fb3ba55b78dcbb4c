"""Sums over all triggers ever accepted, kept up to date with each transaction so that reading them costs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from inspector.store.tables import TriggerRow

PENDING = "pending"
LATE = "late"

Totals: TypeAlias = dict[str, dict[str, int]]
"""{purpose: {verdict, `pending` or `late`: triggers}}; what is zero is left out."""


def name_bucket(verdict: str | None, closed: bool) -> str:
    """Under which name a trigger is counted."""
    return verdict if closed and verdict is not None else PENDING


def move_trigger(
    totals: Mapping[str, Any], purpose: str, *, leaves: str | None, enters: str | None, turned_late: bool = False
) -> Totals:
    """The sums after one trigger changed from one name to another; None: it was, or will be, nowhere."""
    counts: dict[str, int] = dict(totals.get(purpose, {}))
    for name, change in ((leaves, -1), (enters, 1), (LATE if turned_late else None, 1)):
        if name is not None:
            counts[name] = counts.get(name, 0) + change
    return {**totals, purpose: {name: count for name, count in counts.items() if count}}


def add_totals(one: Mapping[str, Any], other: Mapping[str, Any]) -> Totals:
    """Both sums together."""
    together: Totals = {purpose: dict(counts) for purpose, counts in one.items()}
    for purpose, counts in other.items():
        into = together.setdefault(purpose, {})
        for name, count in counts.items():
            into[name] = into.get(name, 0) + count
    return together


def count_triggers(session: Session, station: str, since_utc_us: int | None, until_utc_us: int | None) -> Totals:
    """Count the triggers that are still there, accepted in [since, until)."""
    groups = (
        select(TriggerRow.purpose, TriggerRow.verdict, TriggerRow.closed, TriggerRow.late, func.count())
        .where(TriggerRow.station == station)
        .group_by(TriggerRow.purpose, TriggerRow.verdict, TriggerRow.closed, TriggerRow.late)
    )
    if since_utc_us is not None:
        groups = groups.where(TriggerRow.accepted_utc_us >= since_utc_us)
    if until_utc_us is not None:
        groups = groups.where(TriggerRow.accepted_utc_us < until_utc_us)
    totals: Totals = {}
    for purpose, verdict, closed, late, count in session.execute(groups):
        counted = {name_bucket(verdict, closed): count}
        totals = add_totals(totals, {purpose: {**counted, LATE: count} if late else counted})
    return totals
