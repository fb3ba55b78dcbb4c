"""Learning a part of several views: one located model for each, and scores that mean the same whatever the view.

Each view is calibrated by its own held-out scores, so that the false-alarm target holds for the parts that show it
(Mondrian conformal prediction, Vovk et al. 2005), and with that for the recipe, whatever the mixture of views in
production. The scores of all views are then stretched to the thresholds of the first: one pair serves the recipe.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from inspector.detector.calibration import Calibration, alarm_intervals
from inspector.detector.good_images import GoodImages, Progress, SomeImages
from inspector.detector.judged_regions import JudgedRegions, Region, stretch_scores
from inspector.detector.part_learning import LearnedPart, TeachNet, learn_part
from inspector.detector.part_scorer import PartModel
from inspector.detector.region_calibration import ROUNDING
from inspector.detector.region_file import ELSEWHERE
from inspector.detector.screen_misses import ScreenMisses, add_misses
from inspector.records import Thresholds


@dataclass(frozen=True, slots=True)
class LearnedView:
    """A view as it was learned by itself, and its model in the common unit.

    `indices` (its good images), `golden` and `odd` count the images of the fit.
    """

    learned: LearnedPart
    model: PartModel
    indices: tuple[int, ...]

    @property
    def golden(self) -> int:
        return self.indices[self.learned.golden]

    @property
    def odd(self) -> tuple[int, ...]:
        return tuple(self.indices[index] for index in self.learned.calibration.odd)


@dataclass(frozen=True, slots=True)
class LearnedViews:
    """The views, the first of which gives the common thresholds, and what the thresholds promise for all of them."""

    views: tuple[LearnedView, ...]
    calibration: Calibration
    screen_misses: ScreenMisses | None

    @property
    def net_graph(self) -> bytes | None:
        """The nets that some views judge by, the same for all; None where no view does."""
        return next((view.learned.net_graph for view in self.views if view.learned.net_graph is not None), None)


def learn_views(
    images: GoodImages,
    groups: tuple[tuple[int, ...], ...],
    false_alarm_target: float,
    progress: Progress,
    teach: TeachNet | None = None,
) -> LearnedViews:
    """Learn each group of good images as a located part of its own. Raises what `learn_part` and `teach` raise."""
    learned = []
    for number, indices in enumerate(groups, start=1):
        heard = _tell(progress, f"view {number} of {len(groups)}")
        learned.append(learn_part(SomeImages(images, indices), false_alarm_target, len(indices), heard, teach=teach))
    common = learned[0].calibration.thresholds
    views = tuple(
        LearnedView(part, judge_in_common(part.model, common), indices)
        for part, indices in zip(learned, groups, strict=True)
    )
    return LearnedViews(views, _describe_all(views, common), _sum_misses(views))


def judge_in_common(model: PartModel, common: Thresholds) -> PartModel:
    """The model with its scores stretched so that its thresholds fall on the common ones: one region, all of it."""
    if model.thresholds == common:
        return model
    # Scores are stretched in single precision: a threshold just above a held-out score must stay above it.
    own = Thresholds(model.thresholds.review * ROUNDING, model.thresholds.ng * ROUNDING)
    labels = np.zeros((model.window.rows, model.window.columns), np.uint8)
    return replace(model, thresholds=common, regions=JudgedRegions(labels, (Region(ELSEWHERE, own),), common))


def _describe_all(views: tuple[LearnedView, ...], common: Thresholds) -> Calibration:
    """The intervals are those of all held-out images together."""
    kept = np.concatenate([_kept_in_common(view, common) for view in views])
    interval, ng_interval = alarm_intervals(kept, common)
    promise = "; ".join(f"view {n}: {view.learned.calibration.promise}" for n, view in enumerate(views, start=1))
    odd = tuple(sorted(index for view in views for index in view.odd))
    return Calibration(common, interval, ng_interval, odd, promise)


def _kept_in_common(view: LearnedView, common: Thresholds) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    calibration = view.learned.calibration
    kept = np.delete(np.asarray(view.learned.held_out_scores, np.float32), list(calibration.odd))
    if view.model.regions is not None:
        kept = stretch_scores(kept, view.model.regions.regions[0].own, common)
    return kept.astype(np.float64)


def _sum_misses(views: tuple[LearnedView, ...]) -> ScreenMisses | None:
    misses = None
    for view in views:
        misses = add_misses(misses, view.learned.screen_misses)
    return misses


def _tell(progress: Progress, prefix: str) -> Progress:
    return lambda stage, done: progress(f"{prefix}: {stage}", done)
