"""How values are written for people: counts, rates, times of the site's clock, text that strangers sent."""

from __future__ import annotations

import unicodedata
import zoneinfo
from dataclasses import dataclass

from inspector.clock import to_datetime
from reports.rates import Rate

NO_VALUE = "–"
NO_BREAK = "\N{NO-BREAK SPACE}"
PERCENT = f"{NO_BREAK}%"
MAX_TEXT = 120
DIRECTION_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They can make a part id read backwards."""


def format_count(count: int) -> str:
    """1240 → 1,240."""
    return f"{count:,}"


def format_share(share: float) -> str:
    """A share as a percentage that never rounds to 0 % or 100 % unless it is exactly that."""
    if share in (0.0, 1.0):
        return f"{share * 100:.0f}{PERCENT}"
    for digits in (1, 2, 3, 4):
        text = f"{share * 100:.{digits}f}"
        if float(text) not in (0.0, 100.0):
            return f"{text}{PERCENT}"
    return f"under 0.0001{PERCENT}" if share < 0.5 else f"over 99.9999{PERCENT}"


def format_rate(rate: Rate) -> str:
    """The percentage alone; the count goes beside it. A dash when there is nothing to divide by."""
    return NO_VALUE if rate.value is None else format_share(rate.value)


def format_of(rate: Rate) -> str:
    """3 of 40."""
    return f"{rate.count:,} of {rate.total:,}"


def format_interval(rate: Rate) -> str:
    """The 95 % interval where the total is small; empty otherwise."""
    interval = rate.interval
    if interval is None or not rate.small:
        return ""
    low, high = interval
    return f"{low * 100:.1f}–{high * 100:.1f}{PERCENT}"


def format_score(score: float | None) -> str:
    """Four significant digits."""
    return NO_VALUE if score is None else f"{score:.4g}"


def format_ms(value_ms: float | None) -> str:
    """Whole milliseconds."""
    return NO_VALUE if value_ms is None else f"{value_ms:,.0f}{NO_BREAK}ms"


def clean_text(text: str, limit: int = MAX_TEXT) -> str:
    """Text from outside as one bounded line: control and direction-changing characters become �."""
    cleaned = "".join("�" if _misleads(char) else char for char in text[: limit + 1])
    return cleaned if len(cleaned) <= limit else cleaned[: limit - 1] + "…"


def clean_name(name: str) -> str:
    """The name of a defect or a reason as words: missing_component → missing component."""
    return clean_text(name.replace("_", " "))


def plural(count: int, one: str, many: str = "") -> str:
    """1 part, 2 parts."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _misleads(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or char in DIRECTION_CONTROLS


@dataclass(frozen=True, slots=True)
class SiteClock:
    """Writes µs UTC on the wall clock of the site."""

    timezone: str

    def minute(self, utc_us: int) -> str:
        """21 Nov 2026, 06:00."""
        here = to_datetime(utc_us).astimezone(zoneinfo.ZoneInfo(self.timezone))
        return f"{here.day} {here:%b %Y, %H:%M}"

    def second(self, utc_us: int) -> str:
        """21 Nov 2026, 06:00:12."""
        here = to_datetime(utc_us).astimezone(zoneinfo.ZoneInfo(self.timezone))
        return f"{here.day} {here:%b %Y, %H:%M:%S}"

    def offset(self, utc_us: int) -> str:
        """The zone with its offset at a moment: Europe/Berlin, UTC+01:00."""
        here = to_datetime(utc_us).astimezone(zoneinfo.ZoneInfo(self.timezone))
        sign_hours, minutes = f"{here:%z}"[:3], f"{here:%z}"[3:5]
        return self.timezone if self.timezone == "UTC" else f"{self.timezone}, UTC{sign_hours}:{minutes}"

    def iso(self, utc_us: int) -> str:
        """For the datetime attribute."""
        return to_datetime(utc_us).strftime("%Y-%m-%dT%H:%M:%SZ")
