"""The scorer of a part with several views: find which one a frame shows, and judge it there.

A frame is registered to the reference of every view at registration scale, which is the cheap part; only the view
that fits best is judged. What reaches no view's confidence limit is REVIEW with that reason, as with one view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from inspector.detector.part_scorer import PartModel, PartScorer, RegisteredFrame, check_frame_size
from inspector.detector.screen import halve, whole_halvings
from inspector.geometry.registration import reduce_for_registration, scale_matrix
from inspector.geometry.views import register_reduced
from inspector.records import BgrImage, Registration, Scoring, Thresholds


@dataclass(frozen=True, slots=True)
class PlacedView:
    """The view that a frame shows, by its number, and the frame as it is registered to it."""

    number: int
    frame: RegisteredFrame


class ViewsScorer:
    """`Scorer` of a part with several views, all of one frame size. Thread-safe: nothing is kept between frames."""

    def __init__(self, models: Sequence[PartModel], scorers: Sequence[PartScorer]) -> None:
        """One scorer for each model, in the same order."""
        self._models = tuple(models)
        self._scorers = tuple(scorers)

    @property
    def thresholds(self) -> Thresholds:
        """The common ones."""
        return self._models[0].thresholds

    @property
    def frame_size(self) -> tuple[int, int] | None:
        return self._models[0].frame_size

    def score_frame(self, pixels: BgrImage) -> Scoring:
        """See `Scorer.score_frame`."""
        placed = place_view(self._models, pixels)
        return replace(self._scorers[placed.number].score_registered(placed.frame), view=placed.number)


def place_view(models: Sequence[PartModel], pixels: BgrImage) -> PlacedView:
    """The view that a frame fits best. Raises `RecipeMismatchError` for a frame of another size.

    Of the views whose confidence limit it reaches, that with the best match of detail: sides of one outline have much
    the same grey values, but not the same detail. Where it reaches none, that of the highest confidence.
    """
    check_frame_size(pixels, models[0].frame_size)
    halving = whole_halvings(models[0].ratio)
    halved = halve(pixels, halving)
    small = reduce_for_registration(halved)
    found = [register_reduced(model.reference, small) for model in models]
    number = _choose(found, [model.confidence_limit for model in models])
    registration = found[number][0]
    matrix = scale_matrix(scale_matrix(registration.matrix, models[number].reference.scale), 1.0 / halving)
    return PlacedView(number, RegisteredFrame(pixels, halved, halving, replace(registration, matrix=matrix)))


def _choose(found: Sequence[tuple[Registration, float]], limits: Sequence[float]) -> int:
    numbers = range(len(found))
    recognised = [number for number in numbers if found[number][0].confidence >= limits[number]]
    if recognised:
        return max(recognised, key=lambda number: found[number][1])
    return max(numbers, key=lambda number: found[number][0].confidence)
