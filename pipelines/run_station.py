"""The verdict process of one station: recover, open the cameras, take parts, answer commands."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import cv2
import structlog
from threadpoolctl import threadpool_limits

from inspector import __version__
from inspector.cameras.camera import Camera
from inspector.cameras.open_camera import make_camera
from inspector.clock import UtcClock, utc_now_us
from inspector.config import CameraConfig, PlantConfig, StationConfig, config_sha256
from inspector.detector.recipe_store import RecipeStore
from inspector.errors import ConfigError, StoreError
from inspector.records import Inspection, Provenance
from inspector.store.database import Database, lock_data_dir
from inspector.store.disk import DiskWatch
from inspector.store.frames import FrameFiles
from inspector.store.processes import beat, record_camera_health
from inspector.store.stations import ensure_station
from inspector.store.triggers import (
    AcceptanceState,
    count_accepted,
    has_closed_source,
    identity_state,
    open_triggers,
)
from pipelines.station_commands import CommandDesk
from pipelines.station_intake import Gate, Intake, IntakePorts, intake_for
from pipelines.station_lane import LaneSettings, StationCamera, VerdictLane
from pipelines.station_recipe import ActiveRecipe

COMMAND_POLL_S = 0.025
BEAT_S = 1.0
HEALTH_S = 10.0
RECIPE_RETRY_S = 2.0
DRAIN_S = 10.0
SERVICE_RESTART = "service_restart"

CameraFactory = Callable[[CameraConfig, Callable[[str], AcceptanceState], Callable[[str], bool]], Camera]

log = structlog.get_logger(__name__)


def run_station(
    config: PlantConfig,
    data_dir: Path,
    station: str,
    stop: threading.Event,
    *,
    clock: UtcClock = utc_now_us,
    camera_factory: CameraFactory = make_camera,
    on_commit: Callable[[Inspection, float], None] = lambda inspection, commit_ms: None,
) -> None:
    """Run one station until `stop` is set or every camera is exhausted and inspected.

    `station` is the full id `site/line/station`. Raises `DataDirLockedError` while another process serves
    the station, `ConfigError` for an unknown station, and whatever ended a thread that must not end.
    """
    settings = config.stations().get(station)
    if settings is None:
        raise ConfigError(f"no station {station!r} in the configuration; known: {', '.join(config.stations())}")
    # Frames are inspected side by side; the threads of OpenCV and BLAS would only contend with the workers.
    cv2.setNumThreads(1)
    with threadpool_limits(1), lock_data_dir(data_dir, "station-" + station.replace("/", "-")):
        db = Database.open(data_dir)
        try:
            _Station(config, settings, station, db, data_dir, clock, camera_factory, on_commit).run(stop)
        finally:
            db.close()


def _look_up_source(db: Database, station: str, camera: str, identity: str) -> AcceptanceState:
    """What the store knows of a frame, by the name that `StationCamera.name_source` gave it."""
    return identity_state(db, station, f"{camera}/{identity}")


def _has_closed_source(db: Database, station: str, camera: str, prefix: str) -> bool:
    return has_closed_source(db, station, f"{camera}/{prefix}")


class _Station:
    """The wiring of one station; `run` reads as the life of the process."""

    def __init__(
        self,
        config: PlantConfig,
        settings: StationConfig,
        station: str,
        db: Database,
        data_dir: Path,
        clock: UtcClock,
        camera_factory: CameraFactory,
        on_commit: Callable[[Inspection, float], None],
    ) -> None:
        self._db = db
        self._station = station
        self._clock = clock
        self._gate = Gate()
        self._stop_intake = threading.Event()
        self._lane_settings = LaneSettings(
            station=station,
            plant=config,
            settings=settings,
            provenance=Provenance(software_version=__version__, config_sha256=config_sha256(config)),
        )
        self._recipe = self._restore_recipe(RecipeStore(data_dir), settings)
        self._lane = VerdictLane(self._lane_settings, db, FrameFiles(data_dir / "frames"), clock, on_commit)
        self._cameras = [
            StationCamera(
                camera,
                camera_factory(
                    camera,
                    partial(_look_up_source, db, station, camera.id),
                    partial(_has_closed_source, db, station, camera.id),
                ),
            )
            for camera in settings.cameras
        ]
        self._intakes = self._make_intakes()
        self._commands = CommandDesk(self._lane_settings, db, self._recipe, self._gate, self._intakes, clock)
        self._disk = DiskWatch(data_dir, config.store.min_free_mb)

    def run(self, stop: threading.Event) -> None:
        self._lane.start()
        try:
            self._recover()
            self._load_recipe()
            for camera in self._cameras:
                camera.source.open(count_accepted(self._db, self._station, camera.settings.id))
            for intake in self._intakes.values():
                intake.start()
            self._serve(stop)
        finally:
            self._shut_down()
        self._raise_crash()

    def _restore_recipe(self, recipes: RecipeStore, settings: StationConfig) -> ActiveRecipe:
        """The recipe, lot and pause that survived the last run, else those of the configuration."""
        name, _, version = settings.recipe.partition("@")
        state = ensure_station(
            self._db,
            self._station,
            recipe_name=name,
            recipe_version=int(version) if version else None,
            now_us=self._clock(),
        )
        self._gate.set("paused", "paused by command" if state.paused else None)
        wanted = f"{state.recipe_name}@{state.recipe_version}" if state.recipe_version else str(state.recipe_name)
        return ActiveRecipe(recipes, wanted, settings.cameras)

    def _make_intakes(self) -> dict[str, Intake]:
        ports = IntakePorts(
            self._lane_settings, self._lane, self._recipe, self._db, self._gate, self._clock, self._stop_intake
        )
        return {camera.settings.id: intake_for(camera)(ports, camera) for camera in self._cameras}

    def _recover(self) -> None:
        """Close the triggers whose frames died with the last process; sources that still have theirs repeat them."""
        cameras = {camera.settings.id: camera for camera in self._cameras}
        for trigger, missing in open_triggers(self._db, self._station):
            for camera_id in missing:
                camera = cameras.get(camera_id)
                named = trigger.source_identity
                if camera is not None and named is not None and camera.owns_and_has(named):
                    continue
                self._lane.commit_uninspected(trigger, camera_id, SERVICE_RESTART)
                log.warning("lost_at_restart", station=self._station, sequence=trigger.sequence)

    def _serve(self, stop: threading.Event) -> None:
        next_beat = next_health = 0.0
        next_recipe = time.monotonic() + RECIPE_RETRY_S
        while not stop.is_set() and not self._is_finished():
            now = time.monotonic()
            if now >= next_recipe and self._recipe.current() is None:
                self._load_recipe()
                next_recipe = now + RECIPE_RETRY_S
            if now >= next_beat:
                self._watch_disk()
                self._beat()
                next_beat = now + BEAT_S
            if now >= next_health:
                self._record_health()
                next_health = now + HEALTH_S
            self._commands.serve_open_commands()
            self._raise_crash()
            stop.wait(COMMAND_POLL_S)

    def _is_finished(self) -> bool:
        return all(intake.finished.is_set() for intake in self._intakes.values())

    def _load_recipe(self) -> None:
        loaded = self._recipe.try_load_wanted()
        self._gate.set("recipe", None if loaded else f"no recipe: {self._recipe.problem}")
        if not loaded:
            log.error("recipe_unavailable", station=self._station, reason=self._recipe.problem)

    def _watch_disk(self) -> None:
        low = self._disk.is_low()
        self._gate.set("disk", f"disk: less than {self._disk.min_free_mb} MB free" if low else None)

    def _beat(self, state: str | None = None) -> None:
        reasons = list(self._gate.reasons().values())
        if self._lane.disk_full.is_set():
            reasons.append("disk full: accepted parts wait for space")
        with suppress(StoreError):  # the heartbeat stops with the disk; delivery looks at the disk itself
            beat(
                self._db,
                f"station:{self._station}",
                os.getpid(),
                state or ("degraded" if reasons else "online"),
                reasons,
                self._clock(),
            )

    def _record_health(self) -> None:
        with suppress(StoreError):
            health = [camera.source.health() for camera in self._cameras]
            record_camera_health(self._db, self._station, health, self._clock())

    def _shut_down(self) -> None:
        """Stop taking parts, finish what was accepted, hand back the rest."""
        self._stop_intake.set()
        for intake in self._intakes.values():
            if intake.is_started():
                intake.join()
        self._lane.close(DRAIN_S)
        self._record_health()
        for camera in self._cameras:
            camera.source.close()
        self._beat("offline")

    def _raise_crash(self) -> None:
        for crash in (self._lane.crashed, *(intake.crashed for intake in self._intakes.values())):
            if crash is not None:
                raise crash
