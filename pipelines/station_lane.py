"""The verdict lane of one station: accepted frames in, committed inspections out, in the order of acceptance.

Workers inspect frames side by side; one committer writes them in sequence order. The verdict, its audit row
and the message that announces it are one transaction; nothing here touches the network.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import cv2
import structlog

from inspector.cameras.camera import Camera, CapturedFrame
from inspector.clock import UtcClock
from inspector.cloud.policy import is_drawn
from inspector.config import CameraBase, PlantConfig, StationConfig
from inspector.errors import DiskFullError, InspectorError
from inspector.images import encode_jpeg, sha256_hex
from inspector.mqtt.messages import inspection_message
from inspector.records import (
    Inspection,
    Provenance,
    RecipeRef,
    Trigger,
    Verdict,
    VerdictKind,
    make_inspection_id,
)
from inspector.store.database import Database
from inspector.store.frames import FrameFiles, frame_key
from inspector.store.inspections import commit_inspection
from pipelines.inspect_frame import InspectedFrame, inspect_frame
from pipelines.station_recipe import LoadedRecipe

SUFFIXES = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/bmp": ".bmp",
    "image/tiff": ".tif",
    "image/webp": ".webp",
}
DISK_RETRY_S = 1.0
KEPT_VERDICTS = frozenset({VerdictKind.NG, VerdictKind.REVIEW})

log = structlog.get_logger(__name__)
T = TypeVar("T")


class StationStoppingError(InspectorError):
    """The station stops while it waits for disk space; what it holds stays accepted and is owed."""


@dataclass(frozen=True, slots=True)
class StationCamera:
    """A camera with its settings."""

    settings: CameraBase
    source: Camera

    def name_source(self, identity: str | None) -> str | None:
        """What the source calls a frame, made unique among the cameras of the station."""
        return None if identity is None else f"{self.settings.id}/{identity}"

    def owns_and_has(self, named: str) -> bool:
        """Whether a frame named by `name_source` is this camera's and will be delivered again."""
        own, _, identity = named.partition("/")
        return own == self.settings.id and self.source.still_has(identity)


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """What one station's lane needs to know."""

    station: str
    plant: PlantConfig
    settings: StationConfig
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a worker found out about one frame: a verdict, and where its bytes are kept."""

    verdict: Verdict
    inspected: InspectedFrame | None
    recipe: RecipeRef | None
    frame_sha256: str | None
    key: str | None
    timings_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Job:
    trigger: Trigger
    camera: StationCamera
    captured: CapturedFrame
    accepted_monotonic_ns: int
    outcome: Future[_Outcome]
    done: Callable[[], None]


class VerdictLane:
    """Workers and the committer. `submit` may be called by several intake threads."""

    def __init__(
        self,
        lane: LaneSettings,
        db: Database,
        frames: FrameFiles,
        clock: UtcClock,
        on_commit: Callable[[Inspection, float], None] = lambda inspection, commit_ms: None,
    ) -> None:
        self._lane = lane
        self._db = db
        self._frames = frames
        self._clock = clock
        self._on_commit = on_commit
        self._jobs: queue.Queue[_Job | None] = queue.Queue()
        self._workers = ThreadPoolExecutor(lane.settings.workers, thread_name_prefix="inspect")
        self._committer = threading.Thread(target=self._commit_in_order, name="commit")
        self._giving_up = threading.Event()
        self.disk_full = threading.Event()
        """Set while something accepted waits for disk space."""
        self.crashed: BaseException | None = None
        """What ended the committer; the process must not go on without it."""

    def start(self) -> None:
        self._committer.start()

    def submit(
        self,
        trigger: Trigger,
        camera: StationCamera,
        captured: CapturedFrame,
        recipe: LoadedRecipe | None,
        missing_recipe: str,
        done: Callable[[], None],
    ) -> None:
        """Hand over an accepted frame; `done` is called after its commit. Call in sequence order per camera."""
        future = self._workers.submit(self._inspect, trigger, camera, captured, recipe, missing_recipe)
        self._jobs.put(_Job(trigger, camera, captured, time.monotonic_ns(), future, done))

    def commit_uninspected(self, trigger: Trigger, camera_id: str, reason: str) -> None:
        """Close a trigger for which there is no frame."""
        now = self._clock()
        inspection = Inspection(
            trigger=trigger,
            camera=camera_id,
            verdict=not_inspected(reason),
            decided_utc_us=now,
            provenance=self._lane.provenance,
        )
        self.persist(lambda: self._commit(inspection))

    def close(self, timeout_s: float) -> None:
        """Finish what is in the queue, at most `timeout_s` long; the rest stays accepted and is owed."""
        self._jobs.put(None)
        self._committer.join(timeout_s)
        self._giving_up.set()
        self._workers.shutdown(wait=True, cancel_futures=True)
        self._committer.join()

    def persist(self, write: Callable[[], T]) -> T:
        """Run a write again and again until the disk has space; raises `StationStoppingError` on stop."""
        while True:
            try:
                result = write()
            except DiskFullError as error:
                if not self.disk_full.is_set():
                    log.error("disk_full", station=self._lane.station, reason=str(error))
                self.disk_full.set()
                if self._giving_up.wait(DISK_RETRY_S):
                    raise StationStoppingError("stopped while the disk was full") from error
            else:
                self.disk_full.clear()
                return result

    def _inspect(
        self,
        trigger: Trigger,
        camera: StationCamera,
        captured: CapturedFrame,
        recipe: LoadedRecipe | None,
        missing_recipe: str,
    ) -> _Outcome:
        """Worker thread: inspect, then keep the bytes that must be kept before the commit."""
        if captured.failure is not None:
            return _failed(captured, not_inspected(captured.failure), None)
        if recipe is None:
            return _failed(captured, not_inspected(f"no recipe: {missing_recipe}"), None)
        try:
            inspected = inspect_frame(captured, camera.settings, recipe.scorer, namer=recipe.namer)
        except InspectorError as error:
            return _failed(captured, not_inspected(str(error)), recipe.ref)
        except (cv2.error, ArithmeticError, ValueError, RuntimeError) as error:
            # A stage of ours broke on a readable frame: never OK, a person should look.
            log.exception("inspection_failed", trigger_id=str(trigger.trigger_id))
            return self._keep_broken(trigger, camera, captured, recipe, f"inspection failed: {error}")
        started = time.monotonic_ns()
        key = None
        if self._must_keep(inspected.verdict, trigger, camera, captured):
            key = self._keep_frame(trigger, camera, captured.encoded, inspected)
        timings = dict(inspected.timings_ms)
        timings["keep_frame"] = (time.monotonic_ns() - started) / 1e6
        return _Outcome(inspected.verdict, inspected, recipe.ref, inspected.frame.sha256, key, timings)

    def _must_keep(self, verdict: Verdict, trigger: Trigger, camera: StationCamera, captured: CapturedFrame) -> bool:
        every = self._lane.plant.store.keep_ok_frame_every
        missed = captured.truth is not None and bool(captured.truth.get("defective"))  # the report pictures it
        sampled = every > 0 and trigger.sequence % every == 0
        return verdict.kind in KEPT_VERDICTS or missed or sampled or self._is_drawn_for_audit(trigger, camera)

    def _is_drawn_for_audit(self, trigger: Trigger, camera: StationCamera) -> bool:
        """Whether the cloud's process will ask about this part although it is OK: it needs the frame."""
        cloud = self._lane.settings.cloud
        inspection_id = make_inspection_id(trigger.station, trigger.epoch, trigger.sequence, camera.settings.id)
        return cloud.send != "none" and is_drawn(str(inspection_id), cloud.audit_share)

    def _keep_frame(
        self, trigger: Trigger, camera: StationCamera, encoded: bytes | None, inspected: InspectedFrame
    ) -> str:
        suffix = SUFFIXES.get(inspected.frame.media_type or "", ".jpg")
        content = encoded if encoded is not None else encode_jpeg(inspected.frame.pixels, 95)
        return self._write_frame(trigger, camera, content, suffix)

    def _keep_broken(
        self, trigger: Trigger, camera: StationCamera, captured: CapturedFrame, recipe: LoadedRecipe, reason: str
    ) -> _Outcome:
        verdict = Verdict(VerdictKind.REVIEW, score=None, thresholds=recipe.scorer.thresholds, reasons=(reason,))
        key = None
        if captured.encoded is not None:
            key = self._write_frame(trigger, camera, captured.encoded, ".jpg")
        outcome = _failed(captured, verdict, recipe.ref)
        return _Outcome(verdict, None, recipe.ref, outcome.frame_sha256, key, {})

    def _write_frame(self, trigger: Trigger, camera: StationCamera, content: bytes, suffix: str) -> str:
        # Derived from the trigger alone, so that reprocessing after a kill writes the same file again.
        inspection_id = str(make_inspection_id(trigger.station, trigger.epoch, trigger.sequence, camera.settings.id))
        key = frame_key(trigger.station, trigger.accepted_utc_us, inspection_id, suffix)
        self.persist(lambda: self._frames.write(key, content))
        return key

    def _commit_in_order(self) -> None:
        """Committer thread: the only place where this station's frames become inspections."""
        try:
            while (job := self._jobs.get()) is not None:
                try:
                    self._finish(job)
                except StationStoppingError:
                    log.warning("handed_back", trigger_id=str(job.trigger.trigger_id))
                    return
        except BaseException as error:
            self.crashed = error
            raise

    def _finish(self, job: _Job) -> None:
        outcome = job.outcome.result()
        inspection = self._describe(job, outcome)
        started = time.monotonic_ns()
        self.persist(lambda: self._commit(inspection))
        commit_ms = (time.monotonic_ns() - started) / 1e6
        failed = None
        if outcome.verdict.kind is VerdictKind.NOT_INSPECTED:
            failed = "; ".join(outcome.verdict.reasons)
        job.camera.source.settle(job.captured, failed=failed)
        job.done()
        self._on_commit(inspection, commit_ms)

    def _describe(self, job: _Job, outcome: _Outcome) -> Inspection:
        frame = outcome.inspected.frame if outcome.inspected else None
        registration = outcome.inspected.scoring.registration if outcome.inspected else None
        elapsed_ms = (time.monotonic_ns() - job.captured.captured_monotonic_ns) / 1e6
        waited_ms = (time.monotonic_ns() - job.accepted_monotonic_ns) / 1e6 - sum(outcome.timings_ms.values())
        return Inspection(
            trigger=job.trigger,
            camera=job.camera.settings.id,
            verdict=outcome.verdict,
            decided_utc_us=self._clock(),
            provenance=self._lane.provenance,
            recipe=outcome.recipe,
            captured_utc_us=job.captured.captured_utc_us,
            frame_sha256=outcome.frame_sha256,
            frame_width_px=frame.width_px if frame else None,
            frame_height_px=frame.height_px if frame else None,
            frame_key=outcome.key,
            mm_per_px=job.camera.settings.mm_per_px,
            calibration_id=job.camera.settings.calibration_id,
            registration_confidence=registration.confidence if registration else None,
            late=elapsed_ms > self._lane.settings.deadline_ms,
            timings_ms={
                **{name: round(value, 3) for name, value in outcome.timings_ms.items()},
                "wait": round(max(0.0, waited_ms), 3),
                "capture_to_decision": round(elapsed_ms, 3),
            },
            truth=dict(job.captured.truth) if job.captured.truth is not None else None,
        )

    def _commit(self, inspection: Inspection) -> bool:
        message = inspection_message(inspection, self._lane.plant.mqtt.topic_root)
        wants_evidence = (
            self._lane.plant.evidence.enabled
            and inspection.verdict.kind in KEPT_VERDICTS
            and inspection.frame_key is not None
        )
        committed = commit_inspection(self._db, inspection, (message,), wants_evidence=wants_evidence)
        log.info(
            "inspected",
            inspection_id=str(inspection.inspection_id),
            station=inspection.trigger.station,
            sequence=inspection.trigger.sequence,
            part_id=inspection.trigger.part_id,
            verdict=inspection.verdict.kind.value,
            score=inspection.verdict.score,
            reasons=list(inspection.verdict.reasons),
            late=inspection.late,
            repeated=not committed,
        )
        return committed


def not_inspected(reason: str) -> Verdict:
    """The verdict of a trigger that could not be inspected."""
    return Verdict(VerdictKind.NOT_INSPECTED, score=None, thresholds=None, reasons=(reason,))


def _failed(captured: CapturedFrame, verdict: Verdict, recipe: RecipeRef | None) -> _Outcome:
    sha256 = sha256_hex(captured.encoded) if captured.encoded is not None else None
    return _Outcome(verdict, None, recipe, sha256, None, {})
