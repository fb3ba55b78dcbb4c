"""The ways to paint a twin that a trial compares, by name. What the product does not offer is missing, never faked."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from inspector.detector.recipe import Recipe
from inspector.errors import InputError
from inspector.generator.choose import IGNORE_REFERENCES, choose_repairer, load_repairers
from inspector.generator.references import PlacedReferences
from inspector.generator.repairer import Repairer, Twin
from inspector.records import BgrImage
from pipelines.twin import TwinPainter, read_choice
from tools.twin.nearest import NearestGood
from tools.twin.sets import TrialSet

NEAREST = "nearest"
FALLBACK = "telea"
NET, AUTO = "net", "auto"
PEEL = "net+peel"
CLASSICAL = (NEAREST, "paste", FALLBACK, "ns")
PRODUCT_METHODS = ("paste", "texture", FALLBACK, "ns", AUTO, NET)
METHODS = (*CLASSICAL, "texture", AUTO, NET, PEEL)
OURS = (NET, AUTO)
"""What is shown as ours: the net, and where there is none what the product takes by itself."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Painted:
    """What a method painted. `refused` says why it could not; the picture was then painted without a reference."""

    pixels: BgrImage
    method: str
    refused: str | None = None


class ProductPainter:
    """The product's own repair of one recipe, by the names of `inspector repair --method`.

    A painter that is given the `repairers` of another shares its models, not what it cached of the references.
    """

    def __init__(self, recipe: Recipe, threads: int, repairers: dict[str, Repairer] | None = None) -> None:
        self.repairers = repairers if repairers is not None else load_repairers(threads)
        self._choice = read_choice(recipe)
        self._painter = TwinPainter(recipe, threads, repairers=self.repairers)

    def paint(self, pixels: BgrImage, mask: Mask, method: str) -> Twin:
        """The twin inside a mask that is not empty. Raises `InputError` for what cannot work here."""
        twin = self._painter.paint(pixels, mask, method)
        if twin is None:
            raise InputError("the mask is empty")
        return twin

    def name_auto(self) -> str:
        """What `auto` takes where references can be placed, or where the recipe has none."""
        return self._painter.name_method(AUTO)

    def place(self, pixels: BgrImage, mask: Mask | None = None) -> tuple[PlacedReferences | None, str | None]:
        """The references as they lie in a frame, or why a recipe that has some cannot use them."""
        return self._painter.place(pixels, mask)

    def paint_placed(
        self, pixels: BgrImage, mask: Mask, method: str, placed: PlacedReferences | None, reason: str | None = None
    ) -> Twin:
        """As `paint`, for a frame whose references are placed already."""
        repairer = choose_repairer(method, self.repairers, self._choice, placed is not None, reason)
        fallback = reason if method not in IGNORE_REFERENCES else None
        return replace(repairer.repair(pixels, mask, placed), fallback=fallback)


class SetPainter:
    """Every method on one data set. References are placed once for a frame and a mask, however many methods follow."""

    def __init__(self, trial_set: TrialSet, threads: int, peeled: Repairer | str = "no peel was given") -> None:
        """`peeled` is the net with the line's peel on, or why there is none."""
        self._peeled = peeled
        self._product = ProductPainter(trial_set.recipe, threads)
        self._nearest = NearestGood(trial_set.good) if trial_set.recipe.mode == "located" else None
        self._frame: BgrImage | None = None
        self._mask: Mask | None = None
        self._placed: tuple[PlacedReferences | None, str | None] = (None, None)

    def paint(self, pixels: BgrImage, mask: Mask, method: str) -> Painted:
        """What `method` shows in a mask (H, W) bool of a frame; never fails for what it cannot do."""
        try:
            return self._paint(pixels, mask, method)
        except InputError as error:
            return Painted(self._product.paint(pixels, mask, FALLBACK).pixels, FALLBACK, str(error))

    def paint_all(self, pixels: BgrImage, mask: Mask) -> dict[str, Painted]:
        """Every method; what `auto` comes down to is not painted twice."""
        painted = {method: self.paint(pixels, mask, method) for method in METHODS if method != AUTO}
        chosen = painted[self._product.name_auto()]
        return painted | {AUTO: chosen if chosen.refused is None else self.paint(pixels, mask, AUTO)}

    def _paint(self, pixels: BgrImage, mask: Mask, method: str) -> Painted:
        if method == NEAREST:
            if self._nearest is None:
                raise InputError("a surface without a pose has no nearest good image")
            nearest = self._nearest.paint(pixels, mask)
            if nearest is None:
                raise InputError("no good image can be registered")
            return Painted(nearest, NEAREST)
        if self._frame is not pixels or self._mask is not mask:
            self._frame, self._mask, self._placed = pixels, mask, self._product.place(pixels, mask)
        if method == PEEL:
            if isinstance(self._peeled, str):
                raise InputError(self._peeled)
            twin = self._peeled.repair(pixels, mask, self._placed[0])
            return Painted(twin.pixels, PEEL, self._placed[1])
        twin = self._product.paint_placed(pixels, mask, method, *self._placed)
        return Painted(twin.pixels, twin.method, twin.fallback)
