"""The ways to paint a twin that a trial compares, by name. What the product does not offer is missing, never faked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspector.detector.recipe import Recipe
from inspector.errors import InputError
from inspector.generator.choose import choose_repairer
from inspector.generator.repairer import Twin
from inspector.records import BgrImage
from pipelines.evidence import read_good_part, register_reference
from tools.twin.nearest import NearestGood
from tools.twin.sets import TrialSet

NEAREST = "nearest"
FALLBACK = "telea"
PEEL = "net+peel"
CLASSICAL = (NEAREST, "paste", FALLBACK, "ns")
PRODUCT_METHODS = ("paste", FALLBACK, "ns", "auto", "net")
METHODS = (*CLASSICAL, "auto", "net", PEEL)

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Painted:
    """What a method painted. `refused` says why it did not, and then the picture is what Telea painted instead."""

    pixels: BgrImage
    method: str
    refused: str | None = None


class ProductPainter:
    """The product's own repair of one recipe, by the names of `inspector repair --method`."""

    def __init__(self, recipe: Recipe, threads: int) -> None:
        self._good_part = read_good_part(recipe)

    def open_again(self, recipe: Recipe, threads: int) -> ProductPainter:
        """A painter that has cached nothing of the recipe's references yet."""
        return ProductPainter(recipe, threads)

    def place(self, pixels: BgrImage, mask: Mask) -> BgrImage | None:
        """The references as they lie in a frame, None where they do not."""
        return register_reference(pixels, self._good_part, mask)

    def paint(self, pixels: BgrImage, mask: Mask, method: str) -> Twin | None:
        """The twin; None when the part cannot be registered. Raises `InputError` for what cannot work here."""
        placed = self.place(pixels, mask) if method in ("auto", "paste") else None
        return self.paint_placed(pixels, mask, method, placed)

    def paint_placed(self, pixels: BgrImage, mask: Mask, method: str, placed: BgrImage | None) -> Twin:
        """The twin of a frame whose references are placed already."""
        return choose_repairer(method, placed is not None).repair(pixels, mask, placed)


class SetPainter:
    """Every method on one data set."""

    def __init__(self, trial_set: TrialSet, threads: int) -> None:
        self._set = trial_set
        self._product = ProductPainter(trial_set.recipe, threads)
        self._nearest = NearestGood(trial_set.good) if trial_set.recipe.mode == "located" else None

    def paint(self, pixels: BgrImage, mask: Mask, method: str) -> Painted:
        """What `method` shows in a mask (H, W) bool of a frame; never fails for what it cannot do."""
        try:
            painted = self._paint(pixels, mask, method)
        except InputError as error:
            return self._fall_back(pixels, mask, str(error))
        return painted or self._fall_back(pixels, mask, "the part cannot be registered")

    def _paint(self, pixels: BgrImage, mask: Mask, method: str) -> Painted | None:
        if method == NEAREST:
            if self._nearest is None:
                raise InputError("a surface without a pose has no nearest good image")
            nearest = self._nearest.paint(pixels, mask)
            return Painted(nearest, NEAREST) if nearest is not None else None
        if method == PEEL:
            raise InputError("this version has no peels")
        twin = self._product.paint(pixels, mask, method)
        return Painted(twin.pixels, twin.method) if twin is not None else None

    def _fall_back(self, pixels: BgrImage, mask: Mask, why: str) -> Painted:
        twin = self._product.paint(pixels, mask, FALLBACK)
        if twin is None:
            raise InputError(f"{self._set.name}: not even {FALLBACK} paints here")
        return Painted(twin.pixels, FALLBACK, why)
