"""Which shift a moment belongs to."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspector.config import ShiftConfig, SiteConfig
from inspector.shifts import shift_at

BERLIN = SiteConfig(
    id="plant",
    timezone="Europe/Berlin",
    shifts=(
        ShiftConfig(name="early", start=time(6)),
        ShiftConfig(name="late", start=time(14)),
        ShiftConfig(name="night", start=time(22)),
    ),
)


def utc(year: int, month: int, day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "name", "start", "end"),
    [
        (utc(2025, 1, 15, 5, 0), "early", utc(2025, 1, 15, 5), utc(2025, 1, 15, 13)),
        (utc(2025, 1, 15, 4, 59), "night", utc(2025, 1, 14, 21), utc(2025, 1, 15, 5)),
        (utc(2025, 7, 15, 4, 0), "early", utc(2025, 7, 15, 4), utc(2025, 7, 15, 12)),
        (utc(2025, 7, 15, 21, 30), "night", utc(2025, 7, 15, 20), utc(2025, 7, 16, 4)),
    ],
)
def test_shift_follows_local_time(moment: datetime, name: str, start: datetime, end: datetime) -> None:
    """A shift begins by the wall clock of the plant, in winter and in summer, and the night one spans midnight."""
    window = shift_at(BERLIN, moment)
    assert (window.name, window.start_utc, window.end_utc) == (name, start, end)


def test_night_shift_is_shorter_or_longer_when_the_clocks_change() -> None:
    """The night of the change to summer time has seven hours, that of the change back nine."""
    spring = shift_at(BERLIN, utc(2025, 3, 30, 0, 30))
    autumn = shift_at(BERLIN, utc(2025, 10, 26, 0, 30))
    assert (spring.name, spring.end_utc - spring.start_utc) == ("night", timedelta(hours=7))
    assert (autumn.name, autumn.end_utc - autumn.start_utc) == ("night", timedelta(hours=9))


def test_shift_that_begins_in_the_skipped_or_doubled_hour() -> None:
    """02:30 becomes 03:30 when it is skipped and counts once, at its first showing, when it comes twice."""
    site = SiteConfig(
        id="plant",
        timezone="Europe/Berlin",
        shifts=(ShiftConfig(name="a", start=time(2, 30)), ShiftConfig(name="b", start=time(12))),
    )
    assert shift_at(site, utc(2025, 3, 30, 5)).start_utc == utc(2025, 3, 30, 1, 30)
    autumn = shift_at(site, utc(2025, 10, 26, 1, 45))
    assert (autumn.name, autumn.start_utc) == ("a", utc(2025, 10, 26, 0, 30))


def test_single_shift_lasts_a_local_day() -> None:
    """The default table has one shift from midnight to midnight."""
    window = shift_at(SiteConfig(id="plant", timezone="America/New_York"), utc(2025, 6, 1, 3, 59))
    assert (window.start_utc, window.end_utc) == (utc(2025, 5, 31, 4), utc(2025, 6, 1, 4))


def test_naive_time_is_refused() -> None:
    """A time without a zone could mean any shift."""
    with pytest.raises(ValueError, match="aware"):
        shift_at(BERLIN, datetime(2025, 1, 1))


@given(
    moment=st.datetimes(datetime(2000, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)),
    zone=st.sampled_from(["Europe/Berlin", "Pacific/Apia", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kolkata"]),
    starts=st.lists(st.times().map(lambda value: value.replace(microsecond=0)), min_size=1, max_size=5, unique=True),
)
def test_windows_tile_the_time(moment: datetime, zone: str, starts: list[time]) -> None:
    """Whatever zone and table: the window contains the moment, and the next one begins where it ends."""
    shifts = tuple(ShiftConfig(name=f"s{number}", start=start) for number, start in enumerate(starts))
    site = SiteConfig(id="plant", timezone=zone, shifts=shifts)
    window = shift_at(site, moment)
    assert window.start_utc <= moment < window.end_utc
    assert shift_at(site, window.end_utc).start_utc == window.end_utc
