"""Clocks of the cloud trial: time runs faster than it does, and jumps when the trial says so.

The processes of a trial share one file with two offsets; a day offline is a jump of both clocks, a wrong wall clock
a jump of one.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from inspector.store.steady_clock import ClockReading

SPEED = 300
"""Seconds of the trial in one real second: pauses of minutes, budgets of hours and days pass while it runs."""


@dataclass
class TrialClock:
    """`path` holds {"began_us", "wall_us", "both_us"}: when the trial began by boot time, and the two offsets."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> TrialClock:
        path.write_text(json.dumps({"began_us": _boot_us(), "wall_us": 1_800_000_000_000_000, "both_us": 0}))
        return cls(path)

    def __call__(self) -> ClockReading:
        values = json.loads(self.path.read_text())
        passed_us = (_boot_us() - values["began_us"]) * SPEED + values["both_us"]
        return ClockReading(values["wall_us"] + passed_us, "trial", 1_000_000 + passed_us)

    def jump_wall(self, seconds: float) -> None:
        """The wall clock alone, there or back."""
        self._add("wall_us", seconds)

    def pass_time(self, seconds: float) -> None:
        """Time that really passed."""
        self._add("both_us", seconds)

    def _add(self, name: str, seconds: float) -> None:
        values = json.loads(self.path.read_text())
        values[name] += int(seconds * 1e6)
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps(values))
        temporary.replace(self.path)


def _boot_us() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
