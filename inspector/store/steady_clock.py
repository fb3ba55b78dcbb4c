"""A clock for rules that must not jump: budgets, pauses and deadlines of the cloud.

While the machine runs it counts the kernel's boot time, whatever the wall clock does. Over a restart of the
machine the wall clock says how long that took; a wall clock that went back adds nothing. So a jump of the wall
clock neither gives budget nor takes it, and after a boot with a wrong clock less is spent, never more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from inspector.clock import utc_now_us
from inspector.store.cloud_tables import CloudStateRow
from inspector.store.hash_chain import GENESIS_HASH

STATE_ID = 1
BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class ClockReading:
    """What the machine's clocks say: µs UTC, which boot this is, and µs since it (suspension included)."""

    wall_us: int
    boot_id: str
    boot_us: int


ClockReader = Callable[[], ClockReading]
"""Injected where a test needs clocks that jump."""


def read_clocks() -> ClockReading:
    """The clocks of this machine."""
    boot_us = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
    return ClockReading(utc_now_us(), BOOT_ID_FILE.read_text(encoding="ascii").strip(), boot_us)


def advance_clock(session: Session, reading: ClockReading) -> int:
    """Move the steady clock to now, inside a write transaction; returns µs that never go back."""
    row = load_state(session)
    if row is None:
        session.execute(insert(CloudStateRow).values(state_id=STATE_ID, **_first(reading)))
        return reading.wall_us
    steady_us = _steady(row, reading)
    session.execute(
        update(CloudStateRow).values(
            steady_us=steady_us, boot_id=reading.boot_id, boot_us=reading.boot_us, wall_us=reading.wall_us
        )
    )
    return steady_us


def peek_clock(session: Session, reading: ClockReading) -> int:
    """The steady clock now, without moving it."""
    row = load_state(session)
    return reading.wall_us if row is None else _steady(row, reading)


def load_state(session: Session) -> CloudStateRow | None:
    """The one row, None before the first use; always what the database holds."""
    return session.scalar(select(CloudStateRow).execution_options(populate_existing=True))


def _steady(row: CloudStateRow, reading: ClockReading) -> int:
    same_boot = row.boot_id == reading.boot_id
    passed = reading.boot_us - row.boot_us if same_boot else reading.wall_us - row.wall_us
    return row.steady_us + max(0, passed)


def _first(reading: ClockReading) -> dict[str, object]:
    return {
        "steady_us": reading.wall_us,
        "boot_id": reading.boot_id,
        "boot_us": reading.boot_us,
        "wall_us": reading.wall_us,
        "audit_rows": 0,
        "audit_hash": GENESIS_HASH,
    }
