"""Cutting a period into pieces that people recognise: minutes, hours, shifts, days, months of the site's clock.

Boundaries are computed on the local wall clock and kept as µs UTC, so a day of a daylight-saving change has 23
or 25 hours and nothing is counted twice or lost.
"""

from __future__ import annotations

import bisect
import itertools
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from inspector.clock import to_datetime, to_utc_us
from inspector.config import SiteConfig
from inspector.shifts import shift_at
from reports.formats import clean_text

US_PER_S = 1_000_000

STEPS_S = (("10 seconds", 10, 600), ("minute", 60, 3600), ("5 minutes", 300, 5 * 3600), ("hour", 3600, 2 * 86_400))
"""Name, length and longest period of each equal step, in seconds."""

MAX_BUCKETS = 62


@dataclass(frozen=True, slots=True)
class Bucket:
    """A piece of time: [start, end) in µs UTC, a full name for tables and a short one for axes."""

    start_utc_us: int
    end_utc_us: int
    label: str
    short_label: str


@dataclass(frozen=True, slots=True)
class BucketPlan:
    """Buckets without gaps that cover a period. `unit` is a word for people: minute, hour, shift, day, month."""

    unit: str
    buckets: tuple[Bucket, ...]

    def find(self, utc_us: int) -> int | None:
        """Position of the bucket that holds a moment; None outside all of them."""
        position = bisect.bisect_right(self.buckets, utc_us, key=lambda bucket: bucket.start_utc_us) - 1
        if position < 0 or utc_us >= self.buckets[position].end_utc_us:
            return None
        return position


def plan_buckets(since_utc_us: int, until_utc_us: int, site: SiteConfig) -> BucketPlan:
    """The finest unit that needs at most about sixty buckets for [since, until).

    Up to two days equal steps of 10 seconds to an hour; then shifts where the site has more than one and they
    are few enough; then days; then months. An empty period has no buckets.
    """
    span_s = (until_utc_us - since_utc_us) / US_PER_S
    zone = zoneinfo.ZoneInfo(site.timezone)
    if span_s <= 0:
        return BucketPlan("hour", ())
    for unit, step_s, longest_s in STEPS_S:
        if span_s <= longest_s:
            return BucketPlan(unit, _steps(since_utc_us, until_utc_us, step_s, zone))
    if len(site.shifts) > 1 and span_s * len(site.shifts) <= MAX_BUCKETS * 86_400:
        return BucketPlan("shift", _shifts(since_utc_us, until_utc_us, site))
    if span_s <= MAX_BUCKETS * 86_400:
        return BucketPlan("day", _days(since_utc_us, until_utc_us, zone))
    return BucketPlan("month", _months(since_utc_us, until_utc_us, zone))


def _steps(since_us: int, until_us: int, step_s: int, zone: zoneinfo.ZoneInfo) -> tuple[Bucket, ...]:
    """Equal steps in elapsed time, aligned to the local clock at the beginning."""
    local = to_datetime(since_us).astimezone(zone)
    past_s = (local.minute * 60 + local.second) % step_s
    start = since_us - past_s * US_PER_S - local.microsecond
    step = step_s * US_PER_S
    clock = "%H:%M:%S" if step_s < 60 else "%H:%M"
    buckets = []
    for begin in range(start, until_us, step):
        here = to_datetime(begin).astimezone(zone)
        # The hour that the end of daylight saving repeats needs its zone to be told apart.
        twice = here.replace(fold=1 - here.fold).utcoffset() != here.utcoffset()
        short = here.strftime(f"{clock} %Z" if twice else clock)
        buckets.append(Bucket(begin, begin + step, f"{here:%a} {here.day} {here:%b} {short}", short))
    return tuple(buckets)


def _shifts(since_us: int, until_us: int, site: SiteConfig) -> tuple[Bucket, ...]:
    zone = zoneinfo.ZoneInfo(site.timezone)
    buckets: list[Bucket] = []
    begin = since_us
    while begin < until_us:
        shift = shift_at(site, to_datetime(begin))
        day = shift.start_utc.astimezone(zone)
        date_text = f"{day.day} {day:%b}"
        start, begin = to_utc_us(shift.start_utc), to_utc_us(shift.end_utc)
        label = f"{day:%a} {date_text} {clean_text(shift.name)}"
        buckets.append(Bucket(start, begin, label, f"{date_text} {clean_text(shift.name, 6)}"))
    return tuple(buckets)


def _days(since_us: int, until_us: int, zone: zoneinfo.ZoneInfo) -> tuple[Bucket, ...]:
    marks = {
        _local_us(day, time(0, 0), zone): (f"{day:%a} {day.day} {day:%b %Y}", f"{day.day} {day:%b}")
        for day in _dates(since_us, until_us, zone)
    }
    return _between(marks, since_us, until_us)


def _months(since_us: int, until_us: int, zone: zoneinfo.ZoneInfo) -> tuple[Bucket, ...]:
    first, last = (to_datetime(moment).astimezone(zone).date() for moment in (since_us, until_us))
    count = (last.year - first.year) * 12 + last.month - first.month + 2
    months = [date(first.year + (first.month - 1 + i) // 12, (first.month - 1 + i) % 12 + 1, 1) for i in range(count)]
    marks = {_local_us(day, time(0, 0), zone): (f"{day:%b %Y}", f"{day:%b %y}") for day in months}
    return _between(marks, since_us, until_us)


def _dates(since_us: int, until_us: int, zone: zoneinfo.ZoneInfo) -> Iterator[date]:
    """Local dates from the day before to the day after the period, so that its ends are always covered."""
    day = to_datetime(since_us).astimezone(zone).date() - timedelta(days=1)
    last = to_datetime(until_us).astimezone(zone).date() + timedelta(days=1)
    while day <= last:
        yield day
        day += timedelta(days=1)


def _local_us(day: date, clock: time, zone: zoneinfo.ZoneInfo) -> int:
    return to_utc_us(datetime.combine(day, clock, tzinfo=zone).astimezone(UTC))


def _between(marks: dict[int, tuple[str, str]], since_us: int, until_us: int) -> tuple[Bucket, ...]:
    """Consecutive marks as buckets, those that touch [since, until)."""
    starts = sorted(marks)
    return tuple(
        Bucket(begin, end, *marks[begin])
        for begin, end in itertools.pairwise(starts)
        if end > since_us and begin < until_us
    )
