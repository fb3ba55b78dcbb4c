"""The scorer of a part with several views: find which one a frame shows, and judge it there.

A frame is registered to the reference of every view at registration scale, which is the cheap part; only the view
that fits best is judged. What reaches no view's confidence limit is REVIEW with that reason, as with one view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from inspector.detector.look_groups import describe_look, lay_look, look_distance
from inspector.detector.part_scorer import PartModel, PartScorer, RegisteredFrame, check_frame_size
from inspector.detector.screen import halve, whole_halvings
from inspector.geometry.registration import Matrix, Reference, reduce_for_registration, register, scale_matrix
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

    Of the views whose confidence limit it reaches, that whose good images it looks like most: several sides of one
    outline, and looks in one pose, register alike. Where it reaches none, that of the highest confidence.
    """
    check_frame_size(pixels, models[0].frame_size)
    halving = whole_halvings(models[0].ratio)
    halved = halve(pixels, halving)
    small = reduce_for_registration(halved)
    found = _register(models, small)
    number = _choose(models, found, small)
    matrix = scale_matrix(scale_matrix(found[number].matrix, models[number].reference.scale), 1.0 / halving)
    return PlacedView(number, RegisteredFrame(pixels, halved, halving, replace(found[number], matrix=matrix)))


def _register(models: Sequence[PartModel], small: BgrImage) -> list[Registration]:
    """To each model's reference: looks in one pose have one."""
    known: list[tuple[PartModel, Registration]] = []
    for model in models:
        same = (registration for other, registration in known if _same_pose(other.reference, model.reference))
        registration = next(same, None) or register(replace(model.reference, scale=1.0), small)
        known.append((model, registration))
    return [registration for _, registration in known]


def _same_pose(one: Reference, other: Reference) -> bool:
    return one is other or np.array_equal(one.grey, other.grey)


def _choose(models: Sequence[PartModel], found: Sequence[Registration], small: BgrImage) -> int:
    numbers = range(len(models))
    recognised = [number for number in numbers if found[number].confidence >= models[number].confidence_limit]
    if not recognised:
        best = max(registration.confidence for registration in found)
        recognised = [number for number in numbers if found[number].confidence == best]
    if len(recognised) == 1:
        return recognised[0]
    return min(recognised, key=lambda number: _distance(models[number], small, found[number].matrix))


def _distance(model: PartModel, small: BgrImage, matrix: Matrix) -> float:
    if model.look is None:
        raise ValueError("a model among several has no look")
    part = model.reference.part
    shown = describe_look(lay_look(model.reference, small, matrix), part)
    return look_distance(shown, describe_look(model.look, part))
