"""`inspector inspect`: one-off verdicts and visuals for image files. No database, no broker."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inspector import __version__
from inspector.cameras.camera import CapturedFrame
from inspector.clock import utc_now_us
from inspector.config import FolderCamera
from inspector.detector.name_detections import open_namer
from inspector.detector.recipe import Recipe
from inspector.errors import ImageError, RecipeMismatchError
from inspector.images import read_image_bytes
from inspector.records import UNNAMED, Inspection, PartIdSource, Provenance, Purpose, Trigger, Verdict, VerdictKind
from pipelines.evidence import make_evidence
from pipelines.inspect_frame import InspectedFrame, inspect_frame
from pipelines.station_lane import not_inspected

ONE_OFF_STATION = "local/bench/inspect"
ONE_OFF_CAMERA = "file"


@dataclass(frozen=True, slots=True)
class ImageVerdict:
    """The verdict of one file and where its visual was written."""

    image: Path
    verdict: Verdict
    recipe: str
    timings_ms: dict[str, float]
    visual: Path | None
    view: int | None = None
    """The view of the recipe that it was judged by, from 1; None where the recipe has but one."""

    def names(self) -> tuple[str, ...]:
        """What the regions are called, each name once, worst first; empty without names."""
        names = dict.fromkeys(detection.name for detection in self.verdict.detections)
        return tuple(name for name in names if name != UNNAMED)

    def to_json(self) -> dict[str, Any]:
        thresholds = self.verdict.thresholds
        return {
            "image": str(self.image),
            "verdict": self.verdict.kind.value,
            "score": self.verdict.score,
            "review_threshold": thresholds.review if thresholds else None,
            "ng_threshold": thresholds.ng if thresholds else None,
            "reasons": list(self.verdict.reasons),
            "detections": [
                {
                    "box_xyxy_px": list(detection.box_xyxy_px),
                    "score": detection.score,
                    "name": detection.name,
                    "name_confidence": detection.name_confidence,
                    "area_px": detection.area_px,
                    "size_px": detection.size_px,
                    "region": detection.region,
                }
                for detection in self.verdict.detections
            ],
            "recipe": self.recipe,
            "view": self.view,
            "timings_ms": self.timings_ms,
            "visual": str(self.visual) if self.visual else None,
        }


def inspect_images(recipe: Recipe, images: Sequence[Path], out: Path | None) -> Iterator[ImageVerdict]:
    """Verdicts in the order given. With `out`, a visual for every image that is not OK.

    An unreadable image or one of another size is NOT_INSPECTED with the reason; the others go on.
    """
    scorer, namer = recipe.scorer(threads=2), open_namer(recipe)
    settings = FolderCamera(id=ONE_OFF_CAMERA, path=Path(), mm_per_px=recipe.mm_per_px)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images, start=1):
        try:
            captured = CapturedFrame(
                captured_utc_us=utc_now_us(),
                captured_monotonic_ns=time.monotonic_ns(),
                encoded=read_image_bytes(image),
                part_id=image.stem,
                part_id_source=PartIdSource.FILE_NAME,
            )
            inspected = inspect_frame(captured, settings, scorer, namer=namer)
        except (ImageError, RecipeMismatchError) as error:
            yield ImageVerdict(image, not_inspected(str(error)), str(recipe.ref), {}, None)
            continue
        visual = None
        if out is not None and inspected.verdict.kind is not VerdictKind.OK:
            visual = _write_visual(recipe, inspected, image, number, out)
        view = inspected.scoring.view
        shown = view + 1 if view is not None else None
        yield ImageVerdict(image, inspected.verdict, str(recipe.ref), inspected.timings_ms, visual, shown)


def _write_visual(recipe: Recipe, inspected: InspectedFrame, image: Path, number: int, out: Path) -> Path:
    evidence = make_evidence(inspected.frame.pixels, recipe, describe_one_off(recipe, inspected, image, number))
    visual = out / f"{number:04d}_{image.stem}_visual.jpg"
    visual.write_bytes(evidence.visual)
    return visual


def describe_one_off(recipe: Recipe, inspected: InspectedFrame, image: Path, number: int) -> Inspection:
    """An inspection that is shown but never stored."""
    now = utc_now_us()
    frame = inspected.frame
    registration = inspected.scoring.registration
    return Inspection(
        trigger=Trigger(
            station=ONE_OFF_STATION,
            epoch=now,
            sequence=number,
            accepted_utc_us=now,
            cameras=(ONE_OFF_CAMERA,),
            purpose=Purpose.SETUP,
            part_id=image.stem,
            part_id_source=PartIdSource.FILE_NAME,
        ),
        camera=ONE_OFF_CAMERA,
        verdict=inspected.verdict,
        decided_utc_us=now,
        provenance=Provenance(software_version=__version__, config_sha256=""),
        recipe=recipe.ref,
        captured_utc_us=frame.captured_utc_us,
        frame_sha256=frame.sha256,
        frame_width_px=frame.width_px,
        frame_height_px=frame.height_px,
        registration_confidence=registration.confidence if registration else None,
        timings_ms=inspected.timings_ms,
    )
