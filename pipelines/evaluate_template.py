"""`inspector evaluate` on a template set: are the boxes right, and are their names?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inspector.detector.box_matching import (
    IOU_THRESHOLD,
    BoxImage,
    average_precisions,
    rank_boxes,
    without_names,
)
from inspector.detector.recipe import Recipe
from inspector.detector.recipe_store import RecipeStore
from inspector.detector.template_pair import lay_pair
from inspector.detector.template_scorer import TemplateScorer
from inspector.errors import ImageError
from inspector.images import decode_image, read_image_bytes
from inspector.records import RecipeRef, Thresholds
from pipelines.evaluate import EvaluateReport, evaluate_recipe
from pipelines.template_set import TemplatePair, check_boxes, open_labelled_pairs


@dataclass(frozen=True, slots=True)
class TemplateReport:
    """What `evaluate --json` prints for a template set; None is printed as null and cannot be computed.

    `map`, `ap_by_class` and the three measures at the review threshold are with names, or without when the
    recipe has none; `class_agnostic_ap` is always without. `refused` images count as images where nothing was found.
    """

    ref: RecipeRef
    images: int
    labelled_boxes: int
    mean_ap: float | None
    ap_by_class: dict[str, float] | None
    class_agnostic_ap: float | None
    precision: float | None
    recall: float | None
    f_score: float | None
    thresholds: Thresholds
    false_alarm_rate: float | None
    miss_rate: float | None
    latency_ms: dict[str, float | None]
    refused: int

    def to_json(self) -> dict[str, Any]:
        """The fields of the design page, and a few more."""
        return {
            "recipe": self.ref.name,
            "version": self.ref.version,
            "images": self.images,
            "labelled_boxes": self.labelled_boxes,
            "map": self.mean_ap,
            "f_score": self.f_score,
            "precision": self.precision,
            "recall": self.recall,
            "iou_threshold": IOU_THRESHOLD,
            "class_agnostic_ap": self.class_agnostic_ap,
            "ap_by_class": self.ap_by_class,
            "review_threshold": self.thresholds.review,
            "ng_threshold": self.thresholds.ng,
            "false_alarm_rate": self.false_alarm_rate,
            "miss_rate": self.miss_rate,
            "latency_ms": self.latency_ms,
            "refused": self.refused,
        }


def evaluate_any(reference: str, dataset_dir: Path, data_dir: Path) -> EvaluateReport | TemplateReport:
    """What `inspector evaluate` does: by boxes for a template recipe, by images and masks for any other."""
    recipe = RecipeStore(data_dir).load(reference, require_released=False)
    if recipe.mode == "template":
        return evaluate_template_recipe(recipe, dataset_dir)
    return evaluate_recipe(reference, dataset_dir, data_dir)


def evaluate_template_recipe(
    recipe: Recipe, dataset_dir: Path, *, progress: Callable[[str, float], None] | None = None
) -> TemplateReport:
    """Find the boxes of every frame and compare them with the labels.

    Raises `DatasetError` for a folder that is no labelled template set, `RecipeMismatchError` for another recipe.
    """
    scorer = recipe.template_scorer(threads=1)
    named = bool(recipe.manifest.choices.get("names"))
    pairs = open_labelled_pairs(dataset_dir).pairs
    images: list[BoxImage] = []
    latencies: list[float] = []
    refused = 0
    for index, pair in enumerate(pairs):
        image, latency_ms = find_boxes(pair, scorer)
        images.append(image)
        if latency_ms is None:
            refused += 1
        else:
            latencies.append(latency_ms)
        if progress is not None:
            progress("evaluate", (index + 1) / len(pairs))
    return summarise(recipe.ref, scorer.thresholds, images, latencies, refused, named=named)


def find_boxes(pair: TemplatePair, scorer: TemplateScorer) -> tuple[BoxImage, float | None]:
    """All candidates of one frame and the time from bytes to boxes, in ms; nothing and None for a bad image.

    Raises `DatasetError` for a label outside the frame.
    """
    try:
        encoded = [read_image_bytes(path) for path in (pair.shown, pair.template)]
        started = time.perf_counter()
        frame, template = (decode_image(content) for content in encoded)
        found = scorer.find_candidates(lay_pair(frame, template))
        latency_ms = (time.perf_counter() - started) * 1e3
    except ImageError:
        return BoxImage((), pair.boxes), None
    check_boxes(pair, (frame.shape[1], frame.shape[0]))
    return BoxImage(found, pair.boxes), latency_ms


def summarise(
    ref: RecipeRef, thresholds: Thresholds, images: list[BoxImage], latencies: list[float], refused: int, *, named: bool
) -> TemplateReport:
    """All measures. False alarms and misses are whole frames: an alarm is any box at the review threshold."""
    unnamed = without_names(images)
    by_name = average_precisions(images) if named else None
    precision, recall, score = rank_boxes(images if named else unnamed).at(thresholds.review)
    alarms = [any(found.score >= thresholds.review for found in image.found) for image in images]
    good = [alarm for alarm, image in zip(alarms, images, strict=True) if not image.labelled]
    bad = [not alarm for alarm, image in zip(alarms, images, strict=True) if image.labelled]
    return TemplateReport(
        ref=ref,
        images=len(images),
        labelled_boxes=sum(len(image.labelled) for image in images),
        mean_ap=float(np.mean(list(by_name.values()))) if by_name else None,
        ap_by_class=by_name,
        class_agnostic_ap=rank_boxes(unnamed).average_precision(),
        precision=precision,
        recall=recall,
        f_score=score,
        thresholds=thresholds,
        false_alarm_rate=float(np.mean(good)) if good else None,
        miss_rate=float(np.mean(bad)) if bad else None,
        latency_ms={f"p{level}": _percentile(latencies, level) for level in (50, 95, 99)},
        refused=refused,
    )


def _percentile(latencies: list[float], level: int) -> float | None:
    return round(float(np.percentile(latencies, level)), 2) if latencies else None
