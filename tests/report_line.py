"""A line's history for report tests: every row goes through the store's own functions into a real SQLite file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from inspector.config import PlantConfig
from inspector.images import encode_jpeg
from inspector.records import (
    BgrImage,
    BoxPx,
    CameraHealth,
    Detection,
    Inspection,
    PartIdSource,
    Provenance,
    Purpose,
    RecipeRef,
    Thresholds,
    Trigger,
    Verdict,
    VerdictKind,
)
from inspector.store.database import Database
from inspector.store.evidence import finish_evidence
from inspector.store.frames import FrameFiles, frame_key
from inspector.store.inspections import commit_inspection
from inspector.store.processes import record_camera_health
from inspector.store.reviews import add_disposition, add_review
from inspector.store.stations import ensure_station
from inspector.store.triggers import accept_trigger

STATION = "plant/line1/st1"
START_US = 1_782_885_600_000_000
"""2026-07-01 06:00 UTC, 08:00 in Berlin."""

US_PER_S = 1_000_000
RECIPE = RecipeRef("board", 3, "ab" * 32)
PROVENANCE = Provenance("0.1.0", "cd" * 32)
THRESHOLDS = Thresholds(review=0.5, ng=0.8)
OK, NG, REVIEW, NOT_INSPECTED = (
    VerdictKind.OK,
    VerdictKind.NG,
    VerdictKind.REVIEW,
    VerdictKind.NOT_INSPECTED,
)
SCORES = {OK: 0.21, NG: 1.3, REVIEW: 0.63, NOT_INSPECTED: None}
BOX: BoxPx = (200, 120, 260, 170)


def plant(**site: Any) -> PlantConfig:
    """A plant with one station, in Berlin with two shifts unless told otherwise."""
    shifts = [{"name": "early", "start": "06:00"}, {"name": "late", "start": "18:00"}]
    camera = {"id": "cam0", "kind": "folder", "path": "/nowhere"}
    station = {"id": "st1", "name": "End of line", "recipe": "board", "deadline_ms": 300, "cameras": [camera]}
    values = {"id": "plant", "name": "Plant North", "timezone": "Europe/Berlin", "shifts": shifts, **site}
    return PlantConfig.model_validate({"site": values, "lines": [{"id": "line1", "stations": [station]}]})


def part_picture(seed: int, width_px: int = 640, height_px: int = 360) -> BgrImage:
    """Something that looks like a photographed part."""
    noise = np.random.default_rng(seed).normal(0, 4, (height_px, width_px, 3))
    base = np.full((height_px, width_px, 3), (96, 104, 92), np.float64) + noise
    pixels = np.clip(base, 0, 255).astype(np.uint8)
    cv2.rectangle(pixels, (width_px // 8, height_px // 8), (width_px * 7 // 8, height_px * 7 // 8), (58, 92, 60), -1)
    for column in range(6):
        centre = (width_px * (column + 2) // 9, height_px // 2)
        cv2.circle(pixels, centre, height_px // 14, (170, 180, 178), -1, cv2.LINE_AA)
    return pixels


@dataclass
class RecordedLine:
    """Writes parts of one station, one every ten seconds from `START_US` unless told when."""

    db: Database
    station: str = STATION
    cameras: tuple[str, ...] = ("cam0",)
    parts: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        ensure_station(self.db, self.station, recipe_name="board", recipe_version=None, now_us=START_US)
        self.frames = FrameFiles(self.db.data_dir / "frames")
        self.pictures = FrameFiles(self.db.data_dir / "evidence")

    def accept(
        self,
        *,
        at_us: int | None = None,
        purpose: Purpose = Purpose.PRODUCTION,
        part_id: str | None = "",
        lot: str | None = "L1",
        attempt: int = 1,
    ) -> Trigger:
        """A trigger without inspection: pending. `part_id` "" numbers the part."""
        self.parts += 1
        return accept_trigger(
            self.db,
            self.station,
            cameras=self.cameras,
            accepted_utc_us=START_US + (self.parts - 1) * 10 * US_PER_S if at_us is None else at_us,
            purpose=purpose,
            part_id=f"P{self.parts:04d}" if part_id == "" else part_id,
            part_id_source=PartIdSource.COMMAND,
            lot=lot,
            attempt=attempt,
        ).trigger

    def inspect(
        self,
        trigger: Trigger,
        kind: VerdictKind,
        *,
        camera: str = "cam0",
        names: Sequence[str] = (),
        reasons: Sequence[str] = (),
        score: float | None = None,
        late: bool = False,
        truth: dict[str, Any] | None = None,
        keep_frame: BgrImage | None = None,
        frame_size: tuple[int, int] = (640, 360),
        box: BoxPx = BOX,
        recipe: RecipeRef | None = RECIPE,
    ) -> Inspection:
        """Commit the verdict of one camera for a trigger; NG and REVIEW owe evidence."""
        scored = kind is not NOT_INSPECTED
        detections = tuple(Detection(box, 1.0 - 0.1 * rank, name, 900) for rank, name in enumerate(names))
        given = tuple(reasons) or (("no_frame: none came",) if kind is NOT_INSPECTED else ())
        value = SCORES[kind] if score is None else score
        verdict = Verdict(kind, value if scored else None, THRESHOLDS if scored else None, detections, given)
        key = None
        if keep_frame is not None:
            key = frame_key(self.station, trigger.accepted_utc_us, str(trigger.trigger_id), ".jpg")
            self.frames.write(key, encode_jpeg(keep_frame))
        inspection = Inspection(
            trigger=trigger,
            camera=camera,
            verdict=verdict,
            decided_utc_us=trigger.accepted_utc_us + 80_000,
            provenance=PROVENANCE,
            recipe=recipe if scored else None,
            captured_utc_us=trigger.accepted_utc_us,
            frame_sha256="ef" * 32 if scored else None,
            frame_width_px=frame_size[0] if scored else None,
            frame_height_px=frame_size[1] if scored else None,
            frame_key=key,
            late=late,
            timings_ms={"capture_to_decision": 60.0 + self.parts % 50} if scored else {},
            truth=truth,
        )
        commit_inspection(self.db, inspection, (), wants_evidence=kind in (NG, REVIEW))
        return inspection

    def part(self, kind: VerdictKind, *, inspect: dict[str, Any] | None = None, **accept: Any) -> Inspection:
        """Accept and inspect."""
        return self.inspect(self.accept(**accept), kind, **(inspect or {}))

    def show(self, inspection: Inspection, thumbnail: bytes, visual: bytes | None) -> None:
        """The evidence of an NG or REVIEW inspection is made; None: the full visual is gone again."""
        when, name = inspection.decided_utc_us, str(inspection.inspection_id)
        keys = {what: frame_key(self.station, when, name, f"-{what}.jpg") for what in ("thumbnail", "visual")}
        self.pictures.write(keys["thumbnail"], thumbnail)
        if visual is not None:
            self.pictures.write(keys["visual"], visual)
        finish_evidence(
            self.db,
            name,
            visual_key=keys["visual"],
            twin_key=None,
            thumbnail_key=keys["thumbnail"],
            twin_method=None,
            messages=(),
            now_us=when + 1_000_000,
        )

    def review(self, inspection: Inspection, truth: VerdictKind) -> None:
        """A person changed the truth about a part."""
        when = inspection.decided_utc_us + 5_000_000
        name = str(inspection.inspection_id)
        cause = add_review(self.db, name, reviewer="kim", finding=truth.value, now_us=when)
        trigger_id = str(inspection.trigger.trigger_id)
        add_disposition(self.db, trigger_id, truth.value, cause="review", cause_id=cause, messages=(), now_us=when)

    def camera_sample(self, at_us: int, *, connected: bool = True, dropped: int = 0, reason: str | None = None) -> None:
        """One sample of the camera's health."""
        health = CameraHealth(
            camera="cam0",
            connected=connected,
            frames_per_s=2.0 if connected else None,
            last_frame_age_s=0.4,
            dropped=dropped,
            level=118.0 if connected else None,
            focus=412.0 if connected else None,
            reason=reason,
        )
        record_camera_health(self.db, self.station, [health], at_us)


def open_line(data_dir: Path, **kwargs: Any) -> RecordedLine:
    """A fresh database with one station."""
    return RecordedLine(Database.open(data_dir), **kwargs)
