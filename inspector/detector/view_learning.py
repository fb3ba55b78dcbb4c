"""Learning a part of several views: one located model for each, and scores that mean the same whatever the view.

Each view is calibrated by its own held-out scores, so that the false-alarm target holds for the parts that show it
(Mondrian conformal prediction, Vovk et al. 2005), and with that for the recipe, whatever the mixture of views in
production. The scores of all views are then stretched to the thresholds of the first: one pair serves the recipe.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from inspector.detector.calibration import Calibration, alarm_intervals
from inspector.detector.good_images import GoodImages, Progress
from inspector.detector.judged_regions import JudgedRegions, Region, stretch_scores
from inspector.detector.looks import lay_look, mean_look
from inspector.detector.part_learning import LearnedPart, TeachNet, learn_part
from inspector.detector.part_scorer import PartModel
from inspector.detector.region_calibration import ROUNDING
from inspector.detector.region_file import ELSEWHERE
from inspector.detector.screen_misses import ScreenMisses
from inspector.detector.views import reduce_good_image
from inspector.geometry.registration import Reference
from inspector.geometry.views import register_reduced
from inspector.records import BgrImage, Thresholds


class ImagesOfView:
    """Those good images that show one view."""

    def __init__(self, images: GoodImages, indices: tuple[int, ...]) -> None:
        self._images = images
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, index: int) -> BgrImage:
        """See `GoodImages.read`."""
        return self._images.read(self._indices[index])


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
        taught = [view.learned.taught for view in self.views if view.model.net is not None]
        return taught[0].graph if taught and taught[0] is not None else None


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
        own = ImagesOfView(images, indices)
        part = learn_part(own, false_alarm_target, len(indices), heard, teach=teach)
        learned.append(replace(part, model=replace(part.model, look=learn_look(own, part.model.reference))))
    common = learned[0].calibration.thresholds
    views = tuple(
        LearnedView(part, judge_in_common(part.model, common), indices)
        for part, indices in zip(learned, groups, strict=True)
    )
    return LearnedViews(views, _describe_all(views, common), _sum_misses(views))


def learn_look(images: GoodImages, reference: Reference) -> BgrImage:
    """The mean of good images in the reference's pose, as they are registered."""
    laid = []
    for index in range(len(images)):
        small = reduce_good_image(images.read(index))
        laid.append(lay_look(reference, small, register_reduced(reference, small)[0].matrix))
    return mean_look(laid)


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
    counted = [view.learned.screen_misses for view in views if view.learned.screen_misses is not None]
    if not counted:
        return None
    return ScreenMisses(*(sum(getattr(item, name) for item in counted) for name in ("painted", "called", "missed")))


def _tell(progress: Progress, prefix: str) -> Progress:
    return lambda stage, done: progress(f"{prefix}: {stage}", done)
