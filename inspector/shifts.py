"""Which shift a moment belongs to, in the site's time zone, daylight saving included (pure)."""

from __future__ import annotations

import zoneinfo
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from inspector.config import SiteConfig

DAYS_AROUND = 2
"""Local days looked at on both sides of a moment; two, because a zone may skip a whole local day."""


@dataclass(frozen=True, slots=True)
class ShiftWindow:
    """One shift on one day: [start_utc, end_utc), both aware and in UTC."""

    name: str
    start_utc: datetime
    end_utc: datetime


def shift_at(site: SiteConfig, utc: datetime) -> ShiftWindow:
    """The shift that contains the aware moment `utc`; `ValueError` for a naive one.

    A shift lasts until the next one begins, so on the day of a change of clocks it is an hour longer
    or shorter. A beginning that the clocks show twice counts at its first showing; one that they skip
    counts with the offset before the change (PEP 495, fold 0), so 02:30 becomes 03:30 summer time.
    """
    if utc.tzinfo is None:
        raise ValueError(f"need an aware time, got {utc.isoformat()}")
    zone = zoneinfo.ZoneInfo(site.timezone)
    today = utc.astimezone(zone).date()
    days = [today + timedelta(days=offset) for offset in range(-DAYS_AROUND, DAYS_AROUND + 1)]
    beginnings = sorted(
        (
            (datetime.combine(day, shift.start, zone).astimezone(UTC), shift.name)
            for day in days
            for shift in site.shifts
        ),
        key=lambda beginning: beginning[0],
    )
    started = [beginning for beginning in beginnings if beginning[0] <= utc]
    coming = [beginning for beginning in beginnings if beginning[0] > utc]
    start_utc, name = started[-1]
    return ShiftWindow(name, start_utc, coming[0][0])
