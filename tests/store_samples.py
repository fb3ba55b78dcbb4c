"""A small station with triggers and inspections to put into a real database."""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inspector.records import (
    Detection,
    Inspection,
    Message,
    Provenance,
    Purpose,
    RecipeRef,
    Thresholds,
    Trigger,
    Verdict,
    VerdictKind,
)
from inspector.store.database import Database
from inspector.store.inspections import commit_inspection
from inspector.store.stations import ensure_station
from inspector.store.triggers import accept_trigger

STATION = "plant/line1/station1"
NOON_US = 1_700_000_000_000_000
DAY_US = 86_400_000_000
PROVENANCE = Provenance("0.1.0", "c" * 64)


def open_station(data_dir: Path, station: str = STATION) -> Database:
    """A migrated database on which the station has started."""
    db = Database.open(data_dir)
    ensure_station(db, station, recipe_name="board", recipe_version=1, now_us=NOON_US)
    return db


def accept(db: Database, at_us: int = NOON_US, station: str = STATION, **known: Any) -> Trigger:
    """Accept one part of a single-camera station."""
    settings = {"cameras": ("top",), "purpose": Purpose.PRODUCTION, **known}
    return accept_trigger(db, station, accepted_utc_us=at_us, **settings).trigger


def make_inspection(trigger: Trigger, kind: VerdictKind = VerdictKind.OK, **known: Any) -> Inspection:
    """An inspection as the lane makes it; NG and REVIEW get a detection."""
    suspicious = kind in (VerdictKind.NG, VerdictKind.REVIEW)
    detections = (Detection((10, 20, 50, 60), 4.5, "scratch", 300),) if suspicious else ()
    reasons = ("no frame",) if kind is VerdictKind.NOT_INSPECTED else ()
    settings = {
        "camera": "top",
        "decided_utc_us": trigger.accepted_utc_us + 40_000,
        "recipe": RecipeRef("board", 1, "a" * 64),
        "frame_sha256": "f" * 64,
        "timings_ms": {"decode": 12.5},
        **known,
    }
    verdict = Verdict(kind, 4.5 if suspicious else 1.25, Thresholds(3.0, 4.0), detections, reasons)
    return Inspection(trigger=trigger, verdict=verdict, provenance=PROVENANCE, **settings)


def announce(inspection: Inspection) -> Message:
    """The message that announces an inspection."""
    inspection_id = str(inspection.inspection_id)
    return Message("inspector/v1/inspection", f'{{"id":"{inspection_id}"}}', inspection_id=inspection_id)


def commit(
    db: Database, trigger: Trigger, kind: VerdictKind = VerdictKind.OK, *, evidence: bool = False, **known: Any
) -> Inspection:
    """Commit one inspection with its message."""
    inspection = make_inspection(trigger, kind, **known)
    assert commit_inspection(db, inspection, [announce(inspection)], wants_evidence=evidence)
    return inspection


@contextmanager
def small_file_system(where: Path, size: str) -> Iterator[Path]:
    """A tmpfs of a given size; only root may do this."""
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(where)], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


@contextmanager
def python_process(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Another interpreter that runs `script`; killed at the end if it is still alive."""
    command = [sys.executable, "-c", script, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def read_line(process: subprocess.Popen[str], timeout_s: float = 30.0) -> str:
    """The next line that the process prints; fails when it stays silent."""
    stream = process.stdout
    assert stream is not None
    ready, _, _ = select.select([stream], [], [], timeout_s)
    assert ready, f"no line within {timeout_s} s"
    return stream.readline().strip()
