"""The `counters` message: triggers and verdicts of a station since the current shift began."""

from __future__ import annotations

import time
from datetime import datetime

from inspector.clock import UtcClock, to_datetime, to_utc_us
from inspector.config import PlantConfig
from inspector.mqtt.messages import counters_message
from inspector.records import Message
from inspector.shifts import ShiftWindow, shift_at
from inspector.store.database import Database
from inspector.store.inspections import VerdictCounts, count_verdicts

EVERY_S = 1.0
SHARE = 0.05
"""Counting a long shift takes time: at most this share of the delivery's, so then it comes less often."""


class ShiftCounters:
    """Counts when it is time to, and tells when the result is news. All purposes are counted."""

    def __init__(self, config: PlantConfig, station: str, db: Database, clock: UtcClock) -> None:
        self._config = config
        self._station = station
        self._db = db
        self._clock = clock
        self._last: tuple[datetime, VerdictCounts] | None = None
        self._next_s = 0.0

    def start_over(self) -> None:
        """Whatever was published before may be lost: the next count is news."""
        self._last, self._next_s = None, 0.0

    def next_message(self, now_s: float) -> Message | None:
        """The message to publish now, if any; `StoreError` when it cannot be counted."""
        if now_s < self._next_s:
            return None
        self._next_s = now_s + EVERY_S
        now_us = self._clock()
        shift = shift_at(self._config.site, to_datetime(now_us))
        began_s = time.monotonic()
        counts = count_verdicts(self._db, self._station, since_utc_us=to_utc_us(shift.start_utc))
        self._next_s = now_s + max(EVERY_S, (time.monotonic() - began_s) / SHARE)
        if self._last == (shift.start_utc, counts):
            return None
        self._last = (shift.start_utc, counts)
        return self._message(shift, counts, now_us)

    def _message(self, shift: ShiftWindow, counts: VerdictCounts, now_us: int) -> Message:
        return counters_message(
            topic_root=self._config.mqtt.topic_root,
            station=self._station,
            shift=shift.name,
            since_utc_us=to_utc_us(shift.start_utc),
            as_of_utc_us=now_us,
            triggers=counts.triggers,
            ok=counts.ok,
            ng=counts.ng,
            review=counts.review,
            not_inspected=counts.not_inspected,
            late=counts.late,
            pending=counts.pending,
        )
