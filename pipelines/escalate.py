"""The cloud process: plans questions from what was committed and asks them, beside everything else.

One thread looks at committed inspections, another one asks; the verdict lane knows of neither. Started by the
supervisor, niced, and only when some station lets something leave.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from random import Random

import cv2
import structlog

from inspector.cloud.open_provider import open_provider
from inspector.cloud_settings import StationCloudConfig
from inspector.config import PlantConfig
from inspector.errors import DiskFullError
from inspector.store.database import Database, lock_data_dir
from inspector.store.escalations import expire_escalations, recover_sending
from inspector.store.processes import beat
from inspector.store.steady_clock import ClockReader, advance_clock, peek_clock, read_clocks
from pipelines.escalation_plan import StationPlanner
from pipelines.escalation_send import ProviderOpener, QuestionSender

PROCESS = "cloud"
LOCK = "cloud"
POLL_S = 0.1
BEAT_S = 1.0
DISK_RETRY_S = 1.0
EXPIRE_EVERY_S = 60.0

log = structlog.get_logger(__name__)


def asking_stations(config: PlantConfig) -> dict[str, StationCloudConfig]:
    """The stations that let something leave the plant, by full id."""
    return {name: station.cloud for name, station in config.stations().items() if station.cloud.send != "none"}


def run_escalation(
    config: PlantConfig,
    data_dir: Path,
    stop: threading.Event,
    *,
    clocks: ClockReader = read_clocks,
    opener: ProviderOpener = open_provider,
    random: Random | None = None,
) -> None:
    """Plan and ask until `stop` is set. Raises `StoreError` for a broken database, `DataDirLockedError` for a second
    process."""
    cv2.setNumThreads(1)  # the verdict lane needs the other core
    stations = asking_stations(config)
    with lock_data_dir(data_dir, LOCK):
        db = Database.open(data_dir)
        try:
            recover_killed(db, clocks)
            sender = QuestionSender(config, stations, db, data_dir, clocks, opener, random or Random())
            planners = [StationPlanner(config, name, rules, db, data_dir, clocks) for name, rules in stations.items()]
            asking = _Asking(sender, stop)
            asking.start()
            try:
                _plan_until(planners, asking, stations, db, clocks, stop)
            finally:
                stop.set()
                asking.join()
                sender.close()
            _say(db, "offline", ("stopped",), clocks)
            if asking.crashed is not None:
                raise asking.crashed
        finally:
            db.close()


def recover_killed(db: Database, clocks: ClockReader) -> None:
    """Put back what a killed predecessor was sending."""
    reading = clocks()
    with db.write() as session:
        steady_us = advance_clock(session, reading)
    again, given_up = recover_sending(db, steady_us, reading.wall_us)
    if again or given_up:
        log.warning("escalations_recovered", again=again, given_up=given_up)


def _plan_until(
    planners: list[StationPlanner],
    asking: _Asking,
    stations: dict[str, StationCloudConfig],
    db: Database,
    clocks: ClockReader,
    stop: threading.Event,
) -> None:
    next_beat_s, next_expiry_s, disk_problem = 0.0, 0.0, ""
    while not stop.is_set():
        now_s = time.monotonic()
        try:
            if now_s >= next_beat_s:
                next_beat_s = now_s + BEAT_S
                reasons = (*asking.problems, *([disk_problem] if disk_problem else []))
                _say(db, "degraded" if reasons else "online", reasons, clocks)
            if now_s >= next_expiry_s:
                next_expiry_s = now_s + EXPIRE_EVERY_S
                _expire(db, stations, clocks)
            worked = sum(planner.plan_once() for planner in planners) > 0
        except DiskFullError as error:
            if not disk_problem:
                log.error("escalation_waits_for_disk", reason=str(error))
            disk_problem = str(error)
            stop.wait(DISK_RETRY_S)
            continue
        disk_problem = ""
        if not worked:
            stop.wait(POLL_S)


def _expire(db: Database, stations: dict[str, StationCloudConfig], clocks: ClockReader) -> None:
    reading = clocks()
    with db.read() as session:
        steady_us = peek_clock(session, reading)
    for station, rules in stations.items():
        expired = expire_escalations(db, station, steady_us - int(rules.give_up_h * 3.6e9), reading.wall_us)
        if expired:
            log.warning("escalations_expired", station=station, count=expired)


def _say(db: Database, state: str, reasons: tuple[str, ...], clocks: ClockReader) -> None:
    beat(db, PROCESS, os.getpid(), state, reasons, clocks().wall_us)


class _Asking(threading.Thread):
    """The thread that asks; if it ends by an error, the whole process stops and is restarted."""

    def __init__(self, sender: QuestionSender, stop: threading.Event) -> None:
        super().__init__(name="ask", daemon=True)
        self._sender = sender
        self._stop_asking = stop
        self._disk_problem = ""
        self.crashed: BaseException | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        return (*self._sender.problems, *([self._disk_problem] if self._disk_problem else []))

    def run(self) -> None:
        try:
            self._ask_until()
        except BaseException as error:
            self.crashed = error
            self._stop_asking.set()
            raise

    def _ask_until(self) -> None:
        while not self._stop_asking.is_set():
            try:
                worked = self._sender.send_once()
                self._disk_problem = ""
            except DiskFullError as error:
                self._disk_problem = str(error)
                self._stop_asking.wait(DISK_RETRY_S)
                continue
            if not worked:
                self._stop_asking.wait(POLL_S)
