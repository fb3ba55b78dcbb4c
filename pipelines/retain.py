"""Retention: removes what is older or larger than the plant keeps, in small batches, beside everything else."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import structlog

from inspector.clock import utc_now_us
from inspector.config import PlantConfig
from inspector.errors import StoreError
from inspector.store.database import Database
from inspector.store.frames import FrameFiles
from inspector.store.retention import apply_retention

FIRST_S = 60.0
EVERY_S = 600.0

log = structlog.get_logger(__name__)


def run_retention(config: PlantConfig, data_dir: Path, stop: threading.Event) -> None:
    """Apply retention a minute after the start and then every ten minutes until `stop` is set."""
    db = Database.open(data_dir)
    # Age is counted by the monotonic clock from the start: a wall clock that jumps must not delete history.
    started_us, started_ns = utc_now_us(), time.monotonic_ns()
    try:
        pause = FIRST_S
        while not stop.wait(pause):
            pause = EVERY_S
            try:
                report = apply_retention(
                    db,
                    FrameFiles(data_dir / "frames"),
                    FrameFiles(data_dir / "evidence"),
                    retention_days=config.store.retention_days,
                    retention_mb=config.store.retention_mb,
                    outgoing=FrameFiles(data_dir / "outgoing"),
                    now_us=started_us + (time.monotonic_ns() - started_ns) // 1000,
                )
            except StoreError as error:
                log.error("retention_failed", reason=str(error))
            else:
                log.info("retention", report=str(report))
    finally:
        db.close()
