"""Naming what a recipe found in a frame: the recipe's names, and the golden image where the part is located."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from inspector.detector.look import Floats, GoldenView, describe_looks
from inspector.detector.manifest import PartSettings
from inspector.detector.naming import Namer
from inspector.detector.recipe import Recipe
from inspector.detector.screen import halve, whole_halvings
from inspector.records import BgrImage, Detection, Scoring


@dataclass(frozen=True, slots=True)
class Describer:
    """Describes detections as a recipe's names were learned.

    `goldens` are the golden images of its views, reduced by `reduction`; there are none where the part has no pose.
    """

    goldens: tuple[BgrImage, ...]
    reduction: int

    def describe(self, pixels: BgrImage, scoring: Scoring, detections: Sequence[Detection]) -> Floats:
        """(N, FEATURES) looks of N detections, at least one, in the frame that was scored."""
        view = None
        if self.goldens and scoring.registration is not None:
            view = GoldenView(self.goldens[scoring.view or 0], self.reduction, scoring.registration.matrix)
        return describe_looks(pixels, detections, scoring.anomaly_map.cell_px, view)


@dataclass(frozen=True, slots=True)
class DetectionNamer:
    """The names of one recipe. Thread-safe: everything is only read."""

    describer: Describer
    namer: Namer

    def name(self, pixels: BgrImage, scoring: Scoring, detections: Sequence[Detection]) -> tuple[Detection, ...]:
        """The detections, at least one, each with a name and its confidence. Deterministic."""
        namings = self.namer.name(self.describer.describe(pixels, scoring, detections))
        return tuple(
            replace(detection, name=naming.name, name_confidence=naming.confidence)
            for detection, naming in zip(detections, namings, strict=True)
        )


def open_describer(recipe: Recipe) -> Describer:
    """For a located or a surface recipe."""
    settings = recipe.manifest.settings
    if not isinstance(settings, PartSettings):
        return Describer((), 1)
    reduction = whole_halvings(settings.ratio)
    return Describer(tuple(halve(golden, reduction) for golden in recipe.goldens), reduction)


def open_namer(recipe: Recipe) -> DetectionNamer | None:
    """The names of a recipe; None when it was taught none."""
    return DetectionNamer(open_describer(recipe), recipe.namer) if recipe.namer is not None else None
