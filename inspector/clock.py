"""The wall clock, in the unit of the database. Durations use `time.monotonic_ns`, never this."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

UtcClock = Callable[[], int]
"""Returns µs since 1970 UTC. Injected where a test needs a clock that jumps."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc_now_us() -> int:
    """Integer µs UTC."""
    return time.time_ns() // 1000


def to_datetime(utc_us: int) -> datetime:
    """Aware UTC datetime of integer µs; exact, unlike a detour over float seconds."""
    return _EPOCH + timedelta(microseconds=utc_us)


def to_utc_us(moment: datetime) -> int:
    """Integer µs UTC of an aware datetime; ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError("a time without a zone cannot be compared; add Z or an offset")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def to_rfc3339(utc_us: int) -> str:
    """RFC 3339 with six decimals and `Z`, as in every message."""
    return to_datetime(utc_us).strftime("%Y-%m-%dT%H:%M:%S.%f") + "Z"
