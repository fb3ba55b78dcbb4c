"""Where training crops come from: folders of photographs of one part, registered to each other, and rendered parts."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.errors import DatasetError
from inspector.records import BgrImage
from inspector.scenes.samples.bank import open_bank
from inspector.scenes.samples.crops import cut_square
from inspector.scenes.samples.photographs import register_photographs

CANDIDATES = 16
"""Among so many other photographs the references of a crop are chosen."""

PLACES_TRIED = 3
REDUCTION = 8
RICH_SHARE = 0.7


class Source(Protocol):
    """Gives crops of one part as it was photographed several times."""

    def draw(
        self, rng: np.random.Generator, hole: NDArray[np.bool_], most_others: int
    ) -> tuple[BgrImage, list[BgrImage]]:
        """A crop as large as `hole` (S, S) and up to `most_others` of the same place in other photographs.

        The likest come first; what lies in the hole has no say in that.
        """
        ...


class PhotographSource:
    """A folder of good images of one part, brought into the pose of one of them."""

    def __init__(self, folder: Path, least_confidence: float = 0.6) -> None:
        """See `register_photographs`."""
        self.images = register_photographs(folder, least_confidence)

    def draw(
        self, rng: np.random.Generator, hole: NDArray[np.bool_], most_others: int
    ) -> tuple[BgrImage, list[BgrImage]]:
        """See `Source.draw`. The scale varies from 0.6 to 2 source pixels a crop pixel."""
        side = hole.shape[0]
        count, height, width = self.images.shape[:3]
        cut = int(min(side * np.exp(rng.uniform(np.log(0.6), np.log(2.0))), height, width))
        target = int(rng.integers(0, count))
        left, top = self._choose_place(rng, target, cut)
        others = np.delete(np.arange(count), target)
        others = rng.choice(others, min(CANDIDATES, len(others)), replace=False)
        crops = [cut_square(self.images[index], left, top, cut, side) for index in (target, *others)]
        return crops[0], order_by_likeness(crops[0], crops[1:], hole)[:most_others]

    def _choose_place(self, rng: np.random.Generator, target: int, cut: int) -> tuple[int, int]:
        """Of a few random places usually the richest: much of a photograph is background."""
        height, width = self.images.shape[1:3]
        tries = PLACES_TRIED if rng.random() < RICH_SHARE else 1
        places = [(int(rng.integers(0, width - cut + 1)), int(rng.integers(0, height - cut + 1))) for _ in range(tries)]
        return max(places, key=lambda place: _detail(self.images[target], place[0], place[1], cut))


class RenderedSource:
    """A stored bank of rendered parts and surfaces (`inspector.scenes.samples.bank`)."""

    def __init__(self, folder: Path) -> None:
        """Raises `DatasetError` for a folder without a finished bank."""
        try:
            self._bank = open_bank(folder)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{folder}: not a bank of rendered parts: {error}") from error

    def draw(
        self, rng: np.random.Generator, hole: NDArray[np.bool_], most_others: int
    ) -> tuple[BgrImage, list[BgrImage]]:
        """See `Source.draw`. Surfaces have no others: their photographs do not show the same place."""
        side = hole.shape[0]
        images = self._bank.images
        parts, views, whole = images.shape[:3]
        part, order = int(rng.integers(0, parts)), rng.permutation(views)
        cut = int(min(whole, side * rng.uniform(0.5, 1.1)))
        left, top = (int(value) for value in rng.integers(0, whole - cut + 1, 2))
        shown = order if self._bank.parts[part].registered and most_others else order[:1]
        crops = [cut_square(np.asarray(images[part, index]), left, top, cut, side) for index in shown]
        return crops[0], order_by_likeness(crops[0], crops[1:], hole)[:most_others]


def order_by_likeness(target: BgrImage, others: list[BgrImage], hole: NDArray[np.bool_]) -> list[BgrImage]:
    """Least squared difference outside of `hole` first, at an eighth of the resolution and without the mean."""
    side = hole.shape[0] // REDUCTION
    shown = cv2.resize((~hole).view(np.uint8) * np.uint8(255), (side, side), interpolation=cv2.INTER_AREA) == 255
    if not shown.any():
        return others

    def reduce(image: BgrImage) -> NDArray[np.float32]:
        small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)[shown]
        return np.asarray(small - small.mean(axis=0), np.float32)

    ours = reduce(target)
    return sorted(others, key=lambda other: float(np.square(reduce(other) - ours).mean()))


def _detail(image: NDArray[np.uint8], left: int, top: int, cut: int) -> float:
    """The spread of a coarse sample of a square."""
    return float(image[top : top + cut : 8, left : left + cut : 8].std())
