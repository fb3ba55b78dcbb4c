"""The scorer of frames that each come with their own defect-free template.

    lay_pair  →  propose_regions  →  classify_patches (when labels taught it)  →  detections

With names a detection's score is the probability of its name; without, how strongly the frame differs from its
template there, in times the usual good pair.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from inspector.detector.graphs import open_session
from inspector.detector.template_net import EDGES, softmax
from inspector.detector.template_pair import Grey8, LaidPair, differing_share, lay_pair, propose_regions
from inspector.detector.template_patches import (
    EDGE_UNIT_PX,
    FLIPS,
    Floats,
    box_centres,
    cut_patches,
    describe_regions,
    flip_facts,
    flip_patches,
    normalise_patches,
    unflip_edges,
)
from inspector.geometry.boxes import clip_box, grow_box, overlap
from inspector.records import AnomalyMap, BgrImage, BoxPx, Detection, Scoring, Thresholds

SAME_REGION_OVERLAP = 0.3
LEAST_PROBABILITY = 0.005
"""Less probable names are not even candidates."""
MAP_CELL_PX = 8
BLUR_PX = 5
"""A thin line along an edge is misregistration; what is as wide as this counts in full."""
UNNAMED_MARGIN_PX = 7
"""The tolerance takes its width off every region, and people draw boxes with a margin."""
WEAKEST_UNIT = 12.0
"""Grey levels: no good pair is so clean that less would be a defect."""


class TemplateScorer(Protocol):
    """A detector for frames with templates. Thread-safe and deterministic."""

    @property
    def thresholds(self) -> Thresholds:
        """Below `review`: OK; from `ng`: NG."""
        ...

    def score_pair(self, pixels: BgrImage, template: BgrImage) -> Scoring:
        """Score a frame against its template: (H, W, 3) uint8 BGR both; the registration maps template to frame.

        Raises `ImageSizeError` when their sizes differ.
        """
        ...

    def find_candidates(self, pair: LaidPair) -> tuple[Detection, ...]:
        """Everything that may be a defect, best first, whatever the thresholds; one box may bear several names."""
        ...


@dataclass(frozen=True, slots=True)
class TemplateModel:
    """Everything learned for template mode. Without names the boxes have no class.

    `least_difference` is in grey levels. `unit` is the difference, in grey levels, that scores 1.0 without names.
    A frame of which more than `mismatch_limit` (a share) differs from its template is odd: it is the wrong one.
    """

    names: tuple[str, ...]
    least_difference: int
    unit: float
    mismatch_limit: float
    thresholds: Thresholds


class _PairScorer(ABC):
    """What both kinds have in common: from candidates to a scoring."""

    def __init__(self, model: TemplateModel) -> None:
        self._model = model

    @property
    def thresholds(self) -> Thresholds:
        return self._model.thresholds

    @abstractmethod
    def find_candidates(self, pair: LaidPair) -> tuple[Detection, ...]:
        """See `TemplateScorer.find_candidates`."""

    def score_pair(self, pixels: BgrImage, template: BgrImage) -> Scoring:
        """See `TemplateScorer.score_pair`."""
        model = self._model
        pair = lay_pair(pixels, template)
        best: dict[BoxPx, Detection] = {}
        for candidate in self.find_candidates(pair):
            best.setdefault(candidate.box_xyxy_px, candidate)
        candidates = tuple(best.values())
        return Scoring(
            score=max((item.score for item in candidates), default=0.0),
            anomaly_map=paint_map(candidates, pixels.shape),
            detections=tuple(item for item in candidates if item.score >= model.thresholds.review),
            registration=pair.registration,
            oddities=describe_mismatch(pair, model),
        )


def describe_mismatch(pair: LaidPair, model: TemplateModel) -> tuple[str, ...]:
    """Why a frame cannot be judged by its template; empty when it can."""
    share = differing_share(pair.difference, model.least_difference)
    if share <= model.mismatch_limit:
        return ()
    return (
        f"{100 * share:.1f} % of the frame differs from its template, {100 * model.mismatch_limit:.1f} % is the most: "
        "is it the right template?",
    )


def paint_map(candidates: tuple[Detection, ...], shape: tuple[int, ...]) -> AnomalyMap:
    """Each cell has the best score of the boxes that touch it, 0 elsewhere."""
    rows, columns = (-(-side // MAP_CELL_PX) for side in shape[:2])
    scores = np.zeros((rows, columns), np.float32)
    for item in reversed(candidates):
        x0, y0, x1, y1 = item.box_xyxy_px
        cells = np.s_[y0 // MAP_CELL_PX : -(-y1 // MAP_CELL_PX), x0 // MAP_CELL_PX : -(-x1 // MAP_CELL_PX)]
        scores[cells] = np.maximum(scores[cells], np.float32(item.score))
    return AnomalyMap(scores, MAP_CELL_PX)


class DifferenceScorer(_PairScorer):
    """`TemplateScorer` without names: the strength of each difference."""

    def find_candidates(self, pair: LaidPair) -> tuple[Detection, ...]:
        """See `TemplateScorer.find_candidates`."""
        boxes = propose_regions(pair.difference, self._model.least_difference)
        strengths = region_strengths(pair.difference, boxes)
        size = (pair.frame.shape[1], pair.frame.shape[0])
        found = [
            Detection(
                grow_box(box, UNNAMED_MARGIN_PX, size) or box,
                strength / self._model.unit,
                area_px=_differing_px(pair.difference, box, self._model),
            )
            for box, strength in zip(boxes, strengths, strict=True)
        ]
        return tuple(sorted(found, key=lambda item: -item.score))


def region_strengths(difference: Grey8, boxes: list[BoxPx]) -> list[float]:
    """Grey levels: the largest mean of the difference over a small square, in each box."""
    blurred = cv2.blur(difference, (BLUR_PX, BLUR_PX), borderType=cv2.BORDER_REFLECT_101)
    return [float(blurred[y0:y1, x0:x1].max()) for x0, y0, x1, y1 in boxes]


class ClassifyingScorer(_PairScorer):
    """`TemplateScorer` with names: every proposal is looked at by the nets in eight flips and averaged."""

    def __init__(self, model: TemplateModel, graph: bytes, threads: int = 1) -> None:
        super().__init__(model)
        self._session = open_session(graph, threads)

    def find_candidates(self, pair: LaidPair) -> tuple[Detection, ...]:
        """See `TemplateScorer.find_candidates`."""
        model = self._model
        proposals = propose_regions(pair.difference, model.least_difference)
        if not proposals:
            return ()
        chances, boxes = self._classify(pair, proposals)
        size = (pair.frame.shape[1], pair.frame.shape[0])
        kept: list[tuple[BoxPx, Floats]] = []
        for index in np.argsort(chances[:, 0], kind="stable"):
            box = clip_box(_whole_box(boxes[index]), size)
            if box is not None and all(overlap(box, other) < SAME_REGION_OVERLAP for other, _ in kept):
                kept.append((box, chances[index, 1:]))
        found = [
            Detection(box, float(chance), name, _differing_px(pair.difference, box, model))
            for box, named in kept
            for name, chance in zip(model.names, named, strict=True)
            if chance >= LEAST_PROBABILITY
        ]
        return tuple(sorted(found, key=lambda item: -item.score))

    def _classify(self, pair: LaidPair, proposals: list[BoxPx]) -> tuple[Floats, Floats]:
        """(N, classes + 1) probabilities and (N, 4) regressed boxes, averaged over flips and nets."""
        patches = normalise_patches(cut_patches(pair, proposals))
        facts = describe_regions(pair, proposals)
        classes = len(self._model.names) + 1
        chances = np.zeros((len(proposals), classes), np.float32)
        edges = np.zeros((len(proposals), EDGES), np.float32)
        for flip in range(FLIPS):
            inputs = {
                "patches": np.ascontiguousarray(flip_patches(patches, flip)),
                "facts": np.ascontiguousarray(flip_facts(facts, flip)),
            }
            answers = np.asarray(self._session.run(None, inputs)[0], np.float32)
            for net in range(answers.shape[1]):
                weight = np.float32(1.0 / (FLIPS * answers.shape[1]))
                chances += weight * softmax(answers[:, net, :classes])
                edges += weight * unflip_edges(answers[:, net, classes:], flip)
        return chances, edges * np.float32(EDGE_UNIT_PX) + box_centres(proposals)


def _whole_box(edges: Floats) -> BoxPx:
    x0, y0, x1, y1 = (round(float(edge)) for edge in edges)
    return (x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))


def _differing_px(difference: Grey8, box: BoxPx, model: TemplateModel) -> int:
    x0, y0, x1, y1 = box
    return int(np.count_nonzero(difference[y0:y1, x0:x1] >= model.least_difference))
