"""`inspector evaluate`: how good a recipe is on a labelled test set."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from inspector.detector.name_detections import DetectionNamer, open_namer
from inspector.detector.naming import UNKNOWN
from inspector.detector.recipe_store import RecipeStore
from inspector.detector.scorer import Scorer
from inspector.errors import ImageError, RecipeMismatchError
from inspector.images import decode_image, read_image_bytes
from inspector.records import RecipeRef, Scoring, VerdictKind
from pipelines.dataset import TestImage, open_test_set, read_mask
from pipelines.inspect_frame import decide_verdict, name_detections
from pipelines.metrics import PixelMeasures, image_measures

NOTHING_FOUND = "nothing found"


@dataclass(frozen=True, slots=True)
class EvaluatedImage:
    """What the recipe said about one test image. A refused image has an infinite score and its `refusal`.

    `name` is that of the worst region, None where none was found or the recipe has no names.
    """

    image: TestImage
    score: float
    alarm: bool
    latency_ms: float
    scoring: Scoring | None
    refusal: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class NameMeasures:
    """How a recipe's names agree with the folders' names, by the worst region of each image.

    `accuracy` and `unknown_rate` are shares of the images with a taught name in which something was found, None
    without any. `confusion` counts {folder: {name, "unknown" or "nothing found": images}} for every defect's folder.
    """

    accuracy: float | None
    unknown_rate: float | None
    confusion: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class EvaluateReport:
    """What `evaluate --json` prints; None is printed as null and means that it cannot be computed."""

    ref: RecipeRef
    images: int
    image_auroc: float | None
    image_ap: float | None
    image_f1_max: float | None
    pixel_auroc: float | None
    pixel_ap: float | None
    aupro: float | None
    review_threshold: float
    ng_threshold: float
    false_alarm_rate: float | None
    miss_rate: float | None
    latency_ms: dict[str, float | None]
    refused: int
    miss_rate_by_defect: dict[str, float]
    names: NameMeasures | None = None
    screen_misses: dict[str, Any] | None = None
    """What the fit measured about defects that the coarse screen passes over; None where there is none."""

    def to_json(self) -> dict[str, Any]:
        """The fields of the design page, and a few more."""
        return {
            "recipe": self.ref.name,
            "version": self.ref.version,
            "images": self.images,
            "image_auroc": self.image_auroc,
            "image_ap": self.image_ap,
            "image_f1_max": self.image_f1_max,
            "pixel_auroc": self.pixel_auroc,
            "pixel_ap": self.pixel_ap,
            "aupro": self.aupro,
            "review_threshold": self.review_threshold,
            "ng_threshold": self.ng_threshold,
            "false_alarm_rate": self.false_alarm_rate,
            "miss_rate": self.miss_rate,
            "latency_ms": self.latency_ms,
            "refused": self.refused,
            "miss_rate_by_defect": self.miss_rate_by_defect,
            "name_accuracy": self.names.accuracy if self.names else None,
            "name_unknown_rate": self.names.unknown_rate if self.names else None,
            "name_confusion": self.names.confusion if self.names else None,
            "screen_misses": self.screen_misses,
        }


def evaluate_recipe(
    reference: str,
    dataset_dir: Path,
    data_dir: Path,
    *,
    progress: Callable[[str, float], None] | None = None,
) -> EvaluateReport:
    """Inspect every test image of a data set and compare with its labels.

    An alarm is any verdict but OK; a refused image (unreadable, another size, or odd) is an alarm and ranks above
    all scores. Pixel measures need a mask for every defective image. Raises `DatasetError` and `RecipeError`.
    """
    recipe = RecipeStore(data_dir).load(reference, require_released=False)
    test_set = open_test_set(dataset_dir)
    scorer, namer = recipe.scorer(threads=1), open_namer(recipe)
    pixels = PixelMeasures()
    evaluated: list[EvaluatedImage] = []
    for index, image in enumerate(test_set.images):
        result = evaluate_image(image, scorer, namer)
        if test_set.has_masks and result.scoring is not None:
            _add_pixels(pixels, result)
        evaluated.append(replace(result, scoring=None))
        if progress is not None:
            progress("evaluate", (index + 1) / len(test_set.images))
    names = measure_names(evaluated, namer.namer.names) if namer is not None else None
    report = summarise(recipe.ref, scorer, evaluated, pixels, names)
    return replace(report, screen_misses=recipe.manifest.choices.get("screen_misses"))


def evaluate_image(image: TestImage, scorer: Scorer, namer: DetectionNamer | None = None) -> EvaluatedImage:
    """Inspect one image from its bytes, as the verdict lane would. Never raises for a bad image: it is refused."""
    try:
        encoded = read_image_bytes(image.path)
        started = time.perf_counter()
        pixels = decode_image(encoded)
        scoring = scorer.score_frame(pixels)
        verdict = decide_verdict(scoring, scorer.thresholds)
        if namer is not None and verdict.detections:
            verdict = name_detections(verdict, pixels, scoring, namer)
        latency_ms = (time.perf_counter() - started) * 1e3
    except (ImageError, RecipeMismatchError) as error:
        return EvaluatedImage(image, math.inf, True, math.nan, None, str(error))
    refusal = "; ".join(scoring.oddities) or None
    score = math.inf if refusal else scoring.score
    name = verdict.detections[0].name if namer is not None and verdict.detections else None
    return EvaluatedImage(image, score, verdict.kind is not VerdictKind.OK, latency_ms, scoring, refusal, name)


def measure_names(evaluated: list[EvaluatedImage], taught: tuple[str, ...]) -> NameMeasures:
    """Compare the worst regions' names with the folders' names."""
    confusion: dict[str, Counter[str]] = defaultdict(Counter)
    judged: list[tuple[str, str]] = []
    for result in evaluated:
        if result.image.defect is None:
            continue
        confusion[result.image.defect][result.name or NOTHING_FOUND] += 1
        if result.image.defect in taught and result.name is not None:
            judged.append((result.image.defect, result.name))
    return NameMeasures(
        accuracy=_mean([true == found for true, found in judged]),
        unknown_rate=_mean([found == UNKNOWN for _, found in judged]),
        confusion={folder: dict(sorted(counts.items())) for folder, counts in sorted(confusion.items())},
    )


def summarise(
    ref: RecipeRef,
    scorer: Scorer,
    evaluated: list[EvaluatedImage],
    pixels: PixelMeasures,
    names: NameMeasures | None = None,
) -> EvaluateReport:
    """All measures of an evaluated test set."""
    good = [result.alarm for result in evaluated if result.image.defect is None]
    defective = [not result.alarm for result in evaluated if result.image.defect is not None]
    kinds = sorted({result.image.defect for result in evaluated if result.image.defect is not None})
    image_level = image_measures(
        [result.score for result in evaluated], [result.image.defect is not None for result in evaluated]
    )
    pixel_level = pixels.measures()
    return EvaluateReport(
        ref=ref,
        images=len(evaluated),
        image_auroc=image_level["image_auroc"],
        image_ap=image_level["image_ap"],
        image_f1_max=image_level["image_f1_max"],
        pixel_auroc=pixel_level["pixel_auroc"],
        pixel_ap=pixel_level["pixel_ap"],
        aupro=pixel_level["aupro"],
        review_threshold=scorer.thresholds.review,
        ng_threshold=scorer.thresholds.ng,
        false_alarm_rate=_mean(good),
        miss_rate=_mean(defective),
        latency_ms=_percentiles([result.latency_ms for result in evaluated if math.isfinite(result.latency_ms)]),
        refused=sum(result.refusal is not None for result in evaluated),
        miss_rate_by_defect={
            kind: float(np.mean([not result.alarm for result in evaluated if result.image.defect == kind]))
            for kind in kinds
        },
        names=names,
    )


def _add_pixels(pixels: PixelMeasures, result: EvaluatedImage) -> None:
    if result.scoring is None:
        return
    encoded = read_image_bytes(result.image.path)
    frame = decode_image(encoded)
    pixels.add(result.scoring.anomaly_map, read_mask(result.image, (frame.shape[1], frame.shape[0])))


def _mean(flags: list[bool]) -> float | None:
    return float(np.mean(flags)) if flags else None


def _percentiles(latencies: list[float]) -> dict[str, float | None]:
    if not latencies:
        return {f"p{level}": None for level in (50, 95, 99)}
    return {f"p{level}": round(float(np.percentile(latencies, level)), 2) for level in (50, 95, 99)}
