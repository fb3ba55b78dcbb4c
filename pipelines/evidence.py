"""The evidence lane: for every NG and REVIEW part the twin, the annotated visual and the message about them.

    describe_inspection  →  TwinPainter.paint (place references, repair)  →  paint_visual  →  encode

`make_evidence` works on one image and one recipe with no broker and no database; `run_evidence` does it for
whatever the database owes, as time allows. A verdict never fails because a picture did.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import structlog
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from inspector.clock import UtcClock, utc_now_us
from inspector.cloud.question import make_escalation_id
from inspector.config import PlantConfig
from inspector.detector.recipe import Recipe
from inspector.detector.recipe_store import RecipeStore
from inspector.errors import DiskFullError, InspectorError, RecipeError, StoreError
from inspector.generator.choose import find_model_problem, load_repairers
from inspector.generator.mark import mark_generated
from inspector.generator.repairer import Twin
from inspector.generator.view_images import DecodedTiles
from inspector.images import decode_image, encode_jpeg
from inspector.mqtt.messages import evidence_message
from inspector.records import BgrImage, Detection, Inspection, RecipeRef
from inspector.store.database import Database
from inspector.store.evidence import (
    MAX_ATTEMPTS,
    EvidenceTask,
    fail_evidence,
    finish_evidence,
    finish_repaint,
    next_evidence,
)
from inspector.store.frames import FrameFiles, frame_key
from inspector.store.outbox import insert_messages
from inspector.store.processes import beat
from inspector.store.reviews import Opinion, load_opinion, make_opinion_id
from inspector.store.stored import StoredInspection
from pipelines.twin import TwinPainter, mask_detections
from reports.cloud_words import brief_opinion
from reports.text_fonts import FontSet
from reports.visual import describe_origin, encode_visual, paint_visual
from reports.visual_facts import VisualFacts, VisualRegion, format_name
from reports.visual_thumbnail import render_thumbnail
from reports.xmp import embed_packet, write_packet

PROCESS = "evidence"
POLL_S = 0.1
BEAT_S = 1.0
DISK_RETRY_S = 1.0
CACHED_RECIPES = 4
TWIN_JPEG_QUALITY = 95
VISUAL_SUFFIX = "-visual.jpg"

TwinWay: TypeAlias = tuple[str | None, str | None, str | None]
"""The method of a twin, None without one, why it was not the recipe's own, and the peel that bent it."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Evidence:
    """The pictures of one inspection, encoded as JPEG with XMP. Without a twin `twin_method` is None too."""

    visual: bytes
    thumbnail: bytes
    twin: bytes | None
    twin_method: str | None
    twin_fallback: str | None = None
    """Why the twin was painted without the recipe's references or its peel."""
    twin_peel: str | None = None
    """The peel that the repair net was bent by."""


def make_evidence(
    pixels: BgrImage,
    recipe: Recipe | None,
    inspection: Inspection | StoredInspection,
    *,
    timezone: str = "UTC",
    max_regions: int = 4,
    fonts: FontSet | None = None,
) -> Evidence:
    """Twin, visual and thumbnail of one inspected frame: (H, W, 3) uint8 BGR, never altered.

    Without a recipe or with nothing detected there is no twin. Raises `RecipeMismatchError` for a frame of another
    size than the recipe's.
    """
    painter = TwinPainter(recipe) if recipe is not None else None
    facts = describe_inspection(inspection, timezone, max_regions)
    return explain_part(pixels, painter, facts, inspection.verdict.detections, fonts or FontSet())


def explain_part(
    pixels: BgrImage,
    painter: TwinPainter | None,
    facts: VisualFacts,
    detections: tuple[Detection, ...],
    fonts: FontSet,
) -> Evidence:
    """`make_evidence` for a caller that has read the recipe already."""
    mask = mask_detections(pixels, detections)
    twin = painter.paint(pixels, mask) if painter is not None else None
    painted = paint_visual(pixels, twin, facts, fonts)
    return Evidence(
        visual=encode_visual(painted, twin, facts),
        thumbnail=render_thumbnail(painted, facts, fonts),
        twin=encode_twin(twin, mask, facts) if twin is not None else None,
        twin_method=twin.method if twin is not None else None,
        twin_fallback=twin.fallback if twin is not None else None,
        twin_peel=twin.peel if twin is not None else None,
    )


def describe_inspection(
    inspection: Inspection | StoredInspection, timezone: str = "UTC", max_regions: int = 4
) -> VisualFacts:
    """What the visual says about an inspection."""
    trigger, verdict = inspection.trigger, inspection.verdict
    return VisualFacts(
        inspection_id=str(inspection.inspection_id),
        verdict=verdict.kind,
        score=verdict.score,
        thresholds=verdict.thresholds,
        station=trigger.station,
        camera=inspection.camera,
        decided_utc_us=inspection.decided_utc_us,
        timezone=timezone,
        recipe=str(inspection.recipe) if inspection.recipe is not None else None,
        part_id=trigger.part_id,
        lot=trigger.lot,
        attempt=trigger.attempt,
        purpose=trigger.purpose.value,
        reasons=verdict.reasons,
        regions=tuple(
            VisualRegion(item.box_xyxy_px, item.score, format_name(item), item.size_px, item.region)
            for item in verdict.detections
        ),
        mm_per_px=inspection.mm_per_px,
        frame_sha256=inspection.frame_sha256,
        software_version=inspection.provenance.software_version,
        max_regions=max_regions,
    )


def encode_twin(twin: Twin, mask: NDArray[np.bool_], facts: VisualFacts) -> bytes:
    """The twin as a JPEG of its own, marked beside each region in its pixels and in XMP."""
    jpeg = encode_jpeg(mark_generated(twin.pixels, mask), TWIN_JPEG_QUALITY)
    return embed_packet(jpeg, write_packet(describe_origin(facts, twin, "twin")))


def name_opinion(inspection_id: str) -> str:
    """The id that the opinion about an inspection has, whether or not there is one."""
    return make_opinion_id(make_escalation_id(inspection_id))


# --- the process ------------------------------------------------------------------------------------


def run_evidence(config: PlantConfig, data_dir: Path, stop: threading.Event, clock: UtcClock = utc_now_us) -> None:
    """Make what the database owes, oldest first, until `stop` is set. Raises `StoreError` for a broken database."""
    cv2.setNumThreads(1)  # the verdict lane needs the other core
    with threadpool_limits(1):
        db = Database.open(data_dir)
        lane = EvidenceLane(config, db, data_dir, clock)
        try:
            while not stop.is_set():
                if not lane.work_once():
                    stop.wait(DISK_RETRY_S if lane.problem else POLL_S)
            lane.say_goodbye()
        finally:
            db.close()


class EvidenceLane:
    """Takes one piece of owed evidence after the other and makes it."""

    def __init__(self, config: PlantConfig, db: Database, data_dir: Path, clock: UtcClock) -> None:
        self._config = config
        self._db = db
        self._clock = clock
        self._frames = FrameFiles(data_dir / "frames")
        self._pictures = FrameFiles(data_dir / "evidence")
        self._recipes = RecipeStore(data_dir)
        self._painters: OrderedDict[RecipeRef, TwinPainter] = OrderedDict()
        self._repairers = load_repairers(threads=1)
        self._model_problem = None if "net" in self._repairers else find_model_problem()
        self._decoded = DecodedTiles()
        self._fonts = FontSet()
        self._next_beat_s = 0.0
        self.problem: str | None = None
        """Why nothing can be made at the moment; None when all is well."""

    def work_once(self) -> bool:
        """Make one piece of evidence; False when nothing is owed or nothing can be stored now."""
        try:
            self._beat()
            task = next_evidence(self._db)
            if task is None:
                self.problem = None
                return False
            self._make(task)
        except DiskFullError as error:
            if self.problem is None:
                log.error("evidence_waits_for_disk", reason=str(error))
            self.problem = str(error)
            return False
        self.problem = None
        return True

    def say_goodbye(self) -> None:
        """The last beat."""
        try:
            beat(self._db, PROCESS, os.getpid(), "offline", ("stopped",), self._clock())
        except DiskFullError as error:
            log.warning("evidence_beat_failed", reason=str(error))

    def _beat(self) -> None:
        now_s = time.monotonic()
        if now_s >= self._next_beat_s:
            self._next_beat_s = now_s + BEAT_S
            reasons = tuple(reason for reason in (self.problem, self._model_problem) if reason is not None)
            beat(self._db, PROCESS, os.getpid(), "degraded" if reasons else "online", reasons, self._clock())

    def _make(self, task: EvidenceTask) -> None:
        started = time.monotonic()
        try:
            method, fallback, peel = self._repaint(task) if task.repaint else self._paint(task)
        except DiskFullError:
            raise
        except InspectorError as error:
            self._record_failure(task, str(error))
            return
        except (cv2.error, ArithmeticError, ValueError, IndexError, RuntimeError) as error:
            log.exception("evidence_broke", inspection_id=task.inspection_id)
            self._record_failure(task, f"{type(error).__name__}: {error}")
            return
        log.info(
            "evidence_repainted" if task.repaint else "evidence_made",
            inspection_id=task.inspection_id,
            twin_method=method,
            twin_fallback=fallback,
            twin_peel=peel,
            seconds=round(time.monotonic() - started, 3),
            waited_s=round((self._clock() - task.queued_utc_us) / 1e6, 3),
        )

    def _paint(self, task: EvidenceTask) -> TwinWay:
        """Make and store everything; returns how the twin was painted."""
        inspection = task.inspection
        pixels, painter = self._read_material(task)
        opinion = self._read_opinion(inspection.inspection_id)
        facts = self._describe(inspection, opinion)
        evidence = explain_part(pixels, painter, facts, inspection.detections, self._fonts)
        self._store(inspection, evidence, painted_opinion=opinion is not None)
        return evidence.twin_method, evidence.twin_fallback, evidence.twin_peel

    def _repaint(self, task: EvidenceTask) -> TwinWay:
        """The visual with the opinion that came after it, under the same key; nothing else of the evidence changes."""
        inspection = task.inspection
        pixels, painter = self._read_material(task)
        facts = self._describe(inspection, self._read_opinion(inspection.inspection_id))
        mask = mask_detections(pixels, inspection.detections)
        twin = painter.paint(pixels, mask) if painter is not None else None
        visual = encode_visual(paint_visual(pixels, twin, facts, self._fonts), twin, facts)
        self._write(inspection, VISUAL_SUFFIX, visual)
        finish_repaint(self._db, inspection.inspection_id, self._clock())
        return (twin.method, twin.fallback, twin.peel) if twin is not None else (None, None, None)

    def _read_material(self, task: EvidenceTask) -> tuple[BgrImage, TwinPainter | None]:
        """The frame, and what a twin is made from; the last attempt does without: half an explanation is better."""
        inspection = task.inspection
        if inspection.frame_key is None:
            raise StoreError("the frame was not kept")
        pixels = decode_image(self._frames.read(inspection.frame_key), bit_depth=self._bit_depth(inspection))
        last = task.attempts >= MAX_ATTEMPTS - 1
        return pixels, None if last or inspection.recipe is None else self._load_painter(inspection.recipe)

    def _describe(self, inspection: StoredInspection, opinion: Opinion | None) -> VisualFacts:
        facts = describe_inspection(inspection, self._config.site.timezone, self._config.evidence.max_regions)
        return replace(facts, opinion=brief_opinion(opinion)) if opinion is not None else facts

    def _read_opinion(self, inspection_id: str) -> Opinion | None:
        """What the cloud has said by now; no picture waits for it."""
        with self._db.read() as session:
            return load_opinion(session, name_opinion(inspection_id))

    def _bit_depth(self, inspection: StoredInspection) -> int:
        station = self._config.stations().get(inspection.station)
        cameras = station.cameras if station is not None else ()
        return next((camera.bit_depth for camera in cameras if camera.id == inspection.camera), 16)

    def _load_painter(self, ref: RecipeRef) -> TwinPainter | None:
        """What paints the twins of a recipe, None when the recipe cannot be read any more."""
        if ref not in self._painters:
            try:
                recipe = self._recipes.load(ref, require_released=False)
                painter = TwinPainter(recipe, threads=1, repairers=self._repairers, decoded=self._decoded)
            except RecipeError as error:
                log.error("no_twin_without_recipe", recipe=str(ref), reason=str(error))
                return None
            self._painters[ref] = painter
            while len(self._painters) > CACHED_RECIPES:
                self._painters.popitem(last=False)
        self._painters.move_to_end(ref)
        return self._painters[ref]

    def _store(self, inspection: StoredInspection, evidence: Evidence, *, painted_opinion: bool) -> None:
        """Files first, then one transaction for their names and the message."""
        visual_key = self._write(inspection, VISUAL_SUFFIX, evidence.visual)
        thumbnail_key = self._write(inspection, "-thumbnail.jpg", evidence.thumbnail)
        twin_key = self._write(inspection, "-twin.jpg", evidence.twin) if evidence.twin is not None else None
        now = self._clock()
        message = evidence_message(
            topic_root=self._config.mqtt.topic_root,
            station=inspection.station,
            inspection_id=inspection.inspection_id,
            finished_utc_us=now,
            visual_key=visual_key,
            twin_key=twin_key,
            twin_method=evidence.twin_method,
            thumbnail=evidence.thumbnail,
            base_url=self._config.evidence.base_url,
        )
        finish_evidence(
            self._db,
            inspection.inspection_id,
            visual_key=visual_key,
            twin_key=twin_key,
            thumbnail_key=thumbnail_key,
            twin_method=evidence.twin_method,
            messages=(message,),
            now_us=now,
            unpainted_opinion_id=None if painted_opinion else name_opinion(inspection.inspection_id),
        )

    def _write(self, inspection: StoredInspection, suffix: str, content: bytes) -> str:
        key = frame_key(inspection.station, inspection.decided_utc_us, inspection.inspection_id, suffix)
        self._pictures.write(key, content)
        return key

    def _record_failure(self, task: EvidenceTask, reason: str) -> None:
        """Count the attempt; when it was the last one, say on MQTT that there will be no pictures."""
        now = self._clock()
        log.warning(
            "evidence_attempt_failed", inspection_id=task.inspection_id, attempts=task.attempts + 1, reason=reason
        )
        if not fail_evidence(self._db, task.inspection_id, reason, now):
            return
        station = task.inspection.station
        message = evidence_message(
            topic_root=self._config.mqtt.topic_root,
            station=station,
            inspection_id=task.inspection_id,
            finished_utc_us=now,
            visual_key=None,
            reason=reason,
        )
        with self._db.write() as session:
            insert_messages(session, station, (message,), now)
