"""Found boxes against labelled ones: average precision, precision, recall and F, as usual for detectors.

A found box is right when its class is and it overlaps an unclaimed labelled box by more than `IOU_THRESHOLD`, better
scores choosing first. Average precision is the area under the precision-recall curve at all points (Everingham et
al. 2010, as changed in that year), after precision is made monotone.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspector.geometry.boxes import overlap
from inspector.records import BoxPx, Detection

IOU_THRESHOLD = 0.33
PLATEAU = 0.001
ANY_NAME = "anomaly"


@dataclass(frozen=True, slots=True)
class LabelledBox:
    """One labelled defect: its box in frame pixels and the name of its class."""

    box_xyxy_px: BoxPx
    name: str


@dataclass(frozen=True, slots=True)
class BoxImage:
    """What was found in one image and what is there."""

    found: tuple[Detection, ...]
    labelled: tuple[LabelledBox, ...]


@dataclass(frozen=True, slots=True)
class RankedBoxes:
    """All found boxes, best score first: `scores` (N,) and `right` (N,) bool; `labelled` counts what is there."""

    scores: NDArray[np.float64]
    right: NDArray[np.bool_]
    labelled: int

    def average_precision(self) -> float | None:
        """Area under the precision-recall curve; None when nothing is labelled."""
        if not self.labelled:
            return None
        hits = np.cumsum(self.right)
        recall = hits / self.labelled
        precision = hits / np.arange(1, len(hits) + 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        return float((np.diff(recall, prepend=0.0) * precision).sum())

    def at(self, threshold: float) -> tuple[float | None, float | None, float | None]:
        """Precision, recall and F of what scores `threshold` or more; None where there is nothing to divide by."""
        chosen = self.scores >= threshold
        hits, found = int(self.right[chosen].sum()), int(chosen.sum())
        precision = hits / found if found else None
        recall = hits / self.labelled if self.labelled else None
        score = 2 * hits / (found + self.labelled) if found + self.labelled else None
        return precision, recall, score


def rank_boxes(images: list[BoxImage]) -> RankedBoxes:
    """Match the boxes of all images, each class by itself."""
    judged: list[tuple[float, bool]] = []
    for image in images:
        unclaimed: dict[str, list[BoxPx]] = defaultdict(list)
        for box in image.labelled:
            unclaimed[box.name].append(box.box_xyxy_px)
        for found in sorted(image.found, key=lambda item: -item.score):
            candidates = unclaimed[found.name]
            overlaps = [overlap(found.box_xyxy_px, box) for box in candidates]
            best = int(np.argmax(overlaps)) if overlaps else -1
            right = best >= 0 and overlaps[best] > IOU_THRESHOLD
            if right:
                candidates.pop(best)
            judged.append((found.score, right))
    judged.sort(key=lambda item: -item[0])
    scores = np.array([score for score, _ in judged], np.float64)
    return RankedBoxes(scores, np.array([right for _, right in judged], np.bool_), sum(len(i.labelled) for i in images))


def average_precisions(images: list[BoxImage]) -> dict[str, float]:
    """Average precision of each labelled class, by name."""
    names = sorted({box.name for image in images for box in image.labelled})
    by_name = {}
    for name in names:
        only = [
            BoxImage(
                tuple(found for found in image.found if found.name == name),
                tuple(box for box in image.labelled if box.name == name),
            )
            for image in images
        ]
        by_name[name] = rank_boxes(only).average_precision() or 0.0
    return by_name


def without_names(images: list[BoxImage]) -> list[BoxImage]:
    """The same boxes as one class; of several names found for one box the best remains."""
    return [BoxImage(_best_names(image.found), tuple(_unnamed(box) for box in image.labelled)) for image in images]


def _best_names(found: tuple[Detection, ...]) -> tuple[Detection, ...]:
    best: dict[BoxPx, Detection] = {}
    for item in sorted(found, key=lambda item: -item.score):
        best.setdefault(item.box_xyxy_px, Detection(item.box_xyxy_px, item.score, ANY_NAME, item.area_px))
    return tuple(best.values())


def _unnamed(box: LabelledBox) -> LabelledBox:
    return LabelledBox(box.box_xyxy_px, ANY_NAME)


def best_threshold(ranked: RankedBoxes) -> float:
    """The score from which F is best: the middle of all that are within `PLATEAU` of it. 0.5 when nothing is found."""
    if not len(ranked.scores):
        return 0.5
    found = np.arange(1, len(ranked.scores) + 1)
    score = 2 * np.cumsum(ranked.right) / (found + ranked.labelled)
    near = np.flatnonzero(score >= score.max() - PLATEAU)
    return float((ranked.scores[near[0]] + ranked.scores[near[-1]]) / 2)
