"""Rates, counts, pieces of time and how they are written."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspector.clock import to_utc_us
from inspector.config import SiteConfig
from inspector.records import VerdictKind
from reports.formats import SiteClock, clean_text, format_interval, format_rate, format_share
from reports.rates import Rate, VerdictCounts, sum_counts
from reports.time_buckets import plan_buckets
from tests.report_line import plant

DAY_US = 86_400_000_000


def site(**values: object) -> SiteConfig:
    return plant(**values).site


def berlin(*moment: int) -> int:
    """µs UTC of a UTC moment."""
    year, month, day, hour, minute = moment
    return to_utc_us(datetime(year, month, day, hour, minute, tzinfo=UTC))


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [(0, 10, 0.0, 0.27753), (5, 10, 0.23659, 0.76341), (10, 10, 0.72247, 1.0), (81, 263, 0.25527, 0.36615)],
)
def test_wilson_interval(count: int, total: int, low: float, high: float) -> None:
    """The 95 % interval has the published values (81 of 263: Newcombe 1998, table I)."""
    interval = Rate(count, total).interval
    assert interval is not None
    assert interval == pytest.approx((low, high), abs=6e-5)


@given(st.integers(0, 5000), st.integers(0, 5000))
def test_interval_contains_the_rate(count: int, more: int) -> None:
    """The interval lies in 0..1 and around the rate; nothing divided by nothing has neither."""
    rate = Rate(count, count + more)
    if not rate.total:
        assert (rate.value, rate.interval) == (None, None)
        assert format_rate(rate) == "–"
        return
    assert rate.interval is not None and rate.value is not None
    assert 0.0 <= rate.interval[0] <= rate.value + 1e-12
    assert rate.value - 1e-12 <= rate.interval[1] <= 1.0


def test_a_rate_is_a_part_of_a_whole() -> None:
    """More than the whole, or less than nothing, cannot be written down."""
    with pytest.raises(ValueError, match="3 of 2"):
        Rate(3, 2)
    with pytest.raises(ValueError, match="not negative"):
        VerdictCounts(ok=-1)


@given(st.floats(0, 1))
def test_percentages_never_round_to_certainty(share: float) -> None:
    """100 % means all and 0 % none; anything between never looks like either."""
    text = format_share(share).replace("\N{NO-BREAK SPACE}", " ")
    assert (text == "100 %") == (share == 1.0)
    assert (text == "0 %") == (share == 0.0)


def test_intervals_are_shown_where_counts_are_small() -> None:
    """999 parts carry their interval, 1000 do not need it."""
    assert format_interval(Rate(990, 999)) != ""
    assert format_interval(Rate(990, 1000)) == ""


def test_counts_add_up() -> None:
    """Triggers are the four verdicts and the pending ones, alone and summed."""
    one = VerdictCounts.from_kinds({VerdictKind.OK: 3, VerdictKind.NG: 1, VerdictKind.NOT_INSPECTED: 2, None: 4})
    both = sum_counts([one, VerdictCounts(review=5)])
    assert (one.triggers, one.decided, one.inspected) == (10, 6, 4)
    assert both == VerdictCounts(ok=3, ng=1, review=5, not_inspected=2, pending=4)


def test_text_from_outside_is_one_bounded_line() -> None:
    """Line breaks, control characters and direction overrides are shown as such; letters of any script stay."""
    assert clean_text("A\n\x00B\u202eC") == "A��B�C"
    assert clean_text("部品 №7 é") == "部品 №7 é"
    assert len(clean_text("x" * 10_000)) == 120


def test_times_are_written_on_the_clock_of_the_site() -> None:
    """Summer and winter have their own offset."""
    clock = SiteClock("Europe/Berlin")
    assert clock.minute(berlin(2026, 7, 1, 6, 0)) == "1 Jul 2026, 08:00"
    assert clock.offset(berlin(2026, 1, 1, 6, 0)) == "Europe/Berlin, UTC+01:00"
    assert clock.offset(berlin(2026, 7, 1, 6, 0)) == "Europe/Berlin, UTC+02:00"


@given(
    st.integers(to_utc_us(datetime(2025, 1, 1, tzinfo=UTC)), to_utc_us(datetime(2027, 1, 1, tzinfo=UTC))),
    st.floats(1e-6, 900).map(lambda days: max(1, int(days * DAY_US))),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "America/St_Johns"]),
)
def test_buckets_cover_a_period_without_gap_or_overlap(since: int, span: int, timezone: str) -> None:
    """Every moment of any period lies in exactly one bucket, in every zone, over every change of clocks."""
    until = since + span
    plan = plan_buckets(since, until, site(timezone=timezone))
    assert plan.buckets[0].start_utc_us <= since and plan.buckets[-1].end_utc_us >= until
    assert all(one.end_utc_us == other.start_utc_us for one, other in itertools.pairwise(plan.buckets))
    assert len(plan.buckets) <= 66
    for moment in (since, until - 1, since + span // 2):
        position = plan.find(moment)
        assert position is not None
        assert plan.buckets[position].start_utc_us <= moment < plan.buckets[position].end_utc_us
    assert plan.find(plan.buckets[-1].end_utc_us) is None


@pytest.mark.parametrize(
    ("seconds", "unit"),
    [(60, "10 seconds"), (1800, "minute"), (7200, "5 minutes"), (86_400, "hour"), (604_800, "shift"),
     (50 * 86_400, "day"), (200 * 86_400, "month")],
)  # fmt: skip
def test_the_unit_fits_the_period(seconds: int, unit: str) -> None:
    """A minute is cut into seconds, a week into the site's shifts, half a year into months."""
    since = berlin(2026, 6, 1, 4, 0)
    assert plan_buckets(since, since + seconds * 1_000_000, site()).unit == unit


def test_a_site_without_shifts_gets_days() -> None:
    """One shift a day is a day."""
    since = berlin(2026, 6, 1, 4, 0)
    assert plan_buckets(since, since + 7 * DAY_US, site(shifts=[{"name": "day", "start": "00:00"}])).unit == "day"


def test_the_hour_that_comes_twice_is_told_apart() -> None:
    """On the day daylight saving ends, 02:00 appears twice, each with its zone, and is two buckets."""
    plan = plan_buckets(berlin(2026, 10, 24, 22, 0), berlin(2026, 10, 25, 10, 0), site())
    labels = [bucket.short_label for bucket in plan.buckets]
    assert labels[:5] == ["00:00", "01:00", "02:00 CEST", "02:00 CET", "03:00"]


def test_days_of_clock_changes_have_their_own_length() -> None:
    """The day daylight saving begins has 23 hours, the day it ends 25."""
    for month, hours in ((3, 23), (10, 25)):
        day = 29 if month == 3 else 25
        plan = plan_buckets(
            berlin(2026, month, day - 3, 12, 0),
            berlin(2026, month, day + 2, 12, 0),
            site(shifts=[{"name": "day", "start": "00:00"}]),
        )
        lengths = [(bucket.end_utc_us - bucket.start_utc_us) // 3_600_000_000 for bucket in plan.buckets]
        assert sorted(set(lengths)) == sorted({24, hours})


def test_an_empty_period_has_no_bucket() -> None:
    """Nothing to cut."""
    assert plan_buckets(5, 5, site()).buckets == ()
