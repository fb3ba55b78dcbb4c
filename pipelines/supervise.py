"""`inspector run`: one verdict process a station, one each for evidence, cloud and delivery, restarted when they die.

The processes share nothing but the database. Stopping takes the order of the data: stations finish what they
accepted, evidence and cloud stop, delivery sends what is left and says `offline`. The cloud's process runs only
when some station lets something leave.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from inspector.clock import utc_now_us
from inspector.config import PlantConfig
from inspector.errors import StoreError
from inspector.store.database import Database, lock_data_dir
from inspector.store.escalations import count_open, next_inspections
from inspector.store.evidence import count_pending
from inspector.store.outbox import count_unsent
from inspector.store.processes import beat
from pipelines.serve_metrics import serve_metrics

BACKOFF_FIRST_S = 0.2
BACKOFF_MAX_S = 30.0
HEALTHY_AFTER_S = 30.0
DEGRADED_AFTER = 5
STOP_GRACE_S = {"station": 15.0, "evidence": 5.0, "cloud": 5.0, "delivery": 10.0}
DRAIN_S = 120.0
ASK_DRAIN_S = 10.0
"""A finite run waits for the cloud, too, but not long: it may be away, and its questions keep."""
WATCH_S = 0.1
BEAT_S = 1.0

log = structlog.get_logger(__name__)


@dataclass
class Child:
    """One process of the service and its history of deaths."""

    kind: str
    arguments: list[str]
    name: str
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths_in_a_row: int = 0
    start_at: float = 0.0
    finished: bool = False
    last_status: int | None = field(default=None)

    def describe(self) -> str:
        return f"{self.name} died {self.deaths_in_a_row} times in a row, last with status {self.last_status}"


class Supervisor:
    """Starts the processes of a plant, restarts those that die and stops them in order."""

    def __init__(self, config: PlantConfig, config_path: Path, data_dir: Path) -> None:
        common = [str(config_path.resolve()), str(data_dir), str(os.getpid())]
        self._data_dir = data_dir
        self.children = [Child("delivery", ["delivery", *common], "delivery")]
        if config.evidence.enabled:
            self.children.append(Child("evidence", ["evidence", *common], "evidence"))
        self._asking = [name for name, station in config.stations().items() if station.cloud.send != "none"]
        if self._asking:
            self.children.append(Child("cloud", ["cloud", *common], "cloud"))
        self.children += [
            Child("station", ["station", *common, station], f"station:{station}") for station in config.stations()
        ]
        self._config = config
        self._random = random.Random()

    def run(self, stop: threading.Event) -> None:
        """Supervise until `stop` is set or every station has finished (simulated runs end)."""
        with lock_data_dir(self._data_dir):
            db = Database.open(self._data_dir)
            try:
                with serve_metrics(self._config, self._data_dir, db):
                    self._watch(db, stop, self._stations_finished)
                    # A finite run ends when everything it owes is done, not when the last part was inspected.
                    # Its questions come last, and what their answers left is delivered and painted after them.
                    for is_open, seconds in (
                        (self._is_owing, DRAIN_S),
                        (self._is_asking, ASK_DRAIN_S),
                        (self._is_owing, ASK_DRAIN_S),
                    ):
                        self._watch_while(db, stop, is_open, seconds)
                    self._stop_in_order()
            finally:
                self._kill_all()
                db.close()

    def _watch_while(
        self, db: Database, stop: threading.Event, is_open: Callable[[Database], bool], seconds: float
    ) -> None:
        deadline = time.monotonic() + seconds
        self._watch(db, stop, lambda: not is_open(db) or time.monotonic() > deadline)

    def _watch(self, db: Database, stop: threading.Event, is_done: Callable[[], bool]) -> None:
        """Keep every process alive until `stop` is set or `is_done`."""
        next_beat = 0.0
        while not stop.is_set() and not is_done():
            now = time.monotonic()
            for child in self.children:
                self._reap(child, now)
                if child.process is None and not child.finished and now >= child.start_at:
                    self._start(child, now)
            if now >= next_beat:
                self._beat(db)
                next_beat = now + BEAT_S
            stop.wait(WATCH_S)

    def _stations_finished(self) -> bool:
        return all(child.finished for child in self.children if child.kind == "station")

    def _is_owing(self, db: Database) -> bool:
        return count_unsent(db) > 0 or (self._config.evidence.enabled and count_pending(db) > 0)

    def _is_asking(self, db: Database) -> bool:
        unseen = any(next_inspections(db, station, 1) for station in self._asking)
        return unseen or (bool(self._asking) and count_open(db) > 0)

    def _start(self, child: Child, now: float) -> None:
        child.process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.child_process", *child.arguments], stdin=subprocess.DEVNULL
        )
        child.started = now
        log.info("process_started", process=child.name, pid=child.process.pid)

    def _reap(self, child: Child, now: float) -> None:
        if child.process is None or (status := child.process.poll()) is None:
            return
        child.process, child.last_status = None, status
        if status == 0 and child.kind == "station":
            child.finished = True
            log.info("process_finished", process=child.name)
            return
        child.deaths_in_a_row = 1 if now - child.started > HEALTHY_AFTER_S else child.deaths_in_a_row + 1
        pause = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** (child.deaths_in_a_row - 1))
        child.start_at = now + pause * self._random.uniform(0.8, 1.2)
        log.error("process_died", process=child.name, status=status, restart_in_s=round(child.start_at - now, 2))

    def _beat(self, db: Database) -> None:
        troubled = [child.describe() for child in self.children if child.deaths_in_a_row >= DEGRADED_AFTER]
        try:
            beat(db, "supervisor", os.getpid(), "degraded" if troubled else "online", troubled, utc_now_us())
        except StoreError as error:
            log.error("beat_failed", reason=str(error))

    def _stop_in_order(self) -> None:
        for kind in ("station", "evidence", "cloud", "delivery"):
            group = [child.process for child in self.children if child.kind == kind and child.process is not None]
            for process in group:
                process.terminate()
            deadline = time.monotonic() + STOP_GRACE_S[kind]
            for process in group:
                try:
                    process.wait(max(0.1, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    log.error("process_killed_at_stop", kind=kind, pid=process.pid)
                    process.kill()
                    process.wait()

    def _kill_all(self) -> None:
        for child in self.children:
            if child.process is not None and child.process.poll() is None:
                child.process.kill()
                child.process.wait()
