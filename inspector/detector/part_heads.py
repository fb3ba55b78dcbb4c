"""The heads that a located part can be judged by, as `fit` sees them: what each says of good images it has not seen.

Each head's maps are in units of what the worst place of a median good image shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from inspector.detector.calibration import score_unit
from inspector.detector.comparison import Cells, HalfCells, LargestDeviation, PositionDistance
from inspector.detector.features import FeatureBank
from inspector.detector.part_model import HeadName, Mask, MomentSums, PartLevel, PartStatistics, PositionModel, smooth
from inspector.geometry.tiles import Tile
from inspector.records import BgrImage

TOLERANCE_CELLS = 1
SCREEN_SMOOTH_CELLS = 5
CONTRAST_SMOOTH_CELLS = 7


class Head(Protocol):
    """One head, learned."""

    name: HeadName
    level: PartLevel
    held_out: list[Cells]
    """Each good image's map, scored without itself, in units of the level; 0 where it is not judged."""

    def score_window(self, index: int, padded: BgrImage, window: Tile) -> Cells:
        """(rows, columns) map of a window of good image `index` that was painted over, scored without that image.

        `padded` is the painted window with the banks' margin, `window` its cells within the part's.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Sums:
    """What a bank's features of good images add up to."""

    features: list[HalfCells]
    moments: MomentSums
    usual: Cells

    def without(self, index: int, window: Tile | None = None) -> PartStatistics:
        cells = self.features[index]
        if window is not None:
            cells = cells[:, window.row : window.row + window.rows, window.column : window.column + window.columns]
        row, column = (window.row, window.column) if window is not None else (0, 0)
        return self.moments.without(cells.astype(np.float32), self.usual, row, column)


def _add_up(features: list[HalfCells], part: Mask) -> _Sums:
    moments = MomentSums(features[0].shape)
    for image in features:
        moments.add(image.astype(np.float32))
    return _Sums(features, moments, moments.usual_variance(part))


class EnergyHead:
    """Root mean square z of the whitened part bank."""

    name: HeadName = "energy"

    def __init__(self, bank: FeatureBank, features: list[HalfCells], judged: list[Mask], part: Mask) -> None:
        self._bank = bank
        self._comparison = PositionDistance(TOLERANCE_CELLS)
        self._sums = _add_up(features, part)
        maps = [self._distance(image.astype(np.float32), self._sums.without(i)) for i, image in enumerate(features)]
        statistics = self._sums.moments.statistics(self._sums.usual)
        self.level, self.held_out = _in_units(statistics, SCREEN_SMOOTH_CELLS, maps, judged)

    def score_window(self, index: int, padded: BgrImage, window: Tile) -> Cells:
        """See `Head.score_window`."""
        distance = self._distance(self._bank.compute(padded), self._sums.without(index, window))
        return distance / np.float32(self.level.unit)

    def _distance(self, features: Cells, others: PartStatistics) -> Cells:
        return smooth(PositionModel(others, self._comparison).distance(features, 0, 0), SCREEN_SMOOTH_CELLS)


class ContrastHead:
    """Largest deviation of the contrast bank."""

    name: HeadName = "contrast"

    def __init__(self, bank: FeatureBank, features: list[HalfCells], judged: list[Mask], part: Mask) -> None:
        self._bank = bank
        self._largest = LargestDeviation()
        self._sums = _add_up(features, part)
        maps = [self._deviation(image.astype(np.float32), self._sums.without(i)) for i, image in enumerate(features)]
        statistics = self._sums.moments.statistics(self._sums.usual)
        self.level, self.held_out = _in_units(statistics, CONTRAST_SMOOTH_CELLS, maps, judged)

    def score_window(self, index: int, padded: BgrImage, window: Tile) -> Cells:
        """See `Head.score_window`."""
        deviation = self._deviation(self._bank.compute(padded), self._sums.without(index, window))
        return deviation / np.float32(self.level.unit)

    def _deviation(self, features: Cells, others: PartStatistics) -> Cells:
        return smooth(self._largest.compute(features, others.mean, others.inverse_sd), CONTRAST_SMOOTH_CELLS)


def combine(heads: list[Head]) -> list[Cells]:
    """Each good image's held-out map by several heads: the largest of them at each cell."""
    combined = [image.copy() for image in heads[0].held_out]
    for head in heads[1:]:
        for image, other in zip(combined, head.held_out, strict=True):
            np.maximum(image, other, out=image)
    return combined


def _in_units(
    statistics: PartStatistics, smooth_cells: int, maps: list[Cells], judged: list[Mask]
) -> tuple[PartLevel, list[Cells]]:
    held_out = [np.where(mask, image, np.float32(0.0)) for image, mask in zip(maps, judged, strict=True)]
    unit = score_unit([float(image.max()) for image in held_out])
    level = PartLevel(statistics, smooth_cells, unit)
    return level, [np.asarray(image / np.float32(unit), np.float32) for image in held_out]
