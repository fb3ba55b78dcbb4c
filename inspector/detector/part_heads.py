"""The heads that a located part can be judged by, as `fit` sees them: what each says of good images it has not seen.

Each head's maps are in units of what the worst place of a median good image shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from inspector.detector.calibration import score_unit
from inspector.detector.change_net import SMOOTH_CELLS, ChangeNet, TaughtNet, light_gain, smooth_each
from inspector.detector.comparison import Cells, HalfCells, LargestDeviation, PositionDistance
from inspector.detector.features import FeatureBank
from inspector.detector.good_part import GoodPart
from inspector.detector.part_model import (
    HeadName,
    Mask,
    MomentSums,
    PartLevel,
    PartStatistics,
    PositionModel,
    join_heads,
    net_scores,
    smooth,
)
from inspector.geometry.tiles import Tile
from inspector.records import BgrImage

TOLERANCE_CELLS = 1
SCREEN_SMOOTH_CELLS = 5
CONTRAST_SMOOTH_CELLS = 7
POOLED_VALUES = 5000
"""What a net says of good parts is pooled over cells, so that each position's mean and spread rest on so many values:
the good images alone are few."""
SMALLEST_LOGIT_SD = 0.05
"""Only a net that says the same of everything comes near it."""


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


class NetHead:
    """Taught nets; each good image is judged by the one that has not seen it, beside good parts learned without it."""

    name: HeadName = "net"

    def __init__(self, taught: TaughtNet, pictures: list[BgrImage], judged: list[Mask], part: Mask) -> None:
        self._net = ChangeNet(taught.graph)
        self._taught = taught
        self._pictures = pictures
        self._gains = [light_gain(picture, taught.good.picture, part) for picture in pictures]
        self._said = [self._say(index) for index in range(len(pictures))]
        self._part = part
        maps = [self._above(said, self._without(index)) for index, said in enumerate(self._said)]
        by_net = [self._statistics(net, None) for net in sorted(set(taught.unseen_by))]
        statistics = PartStatistics(
            np.concatenate([item.mean for item in by_net]), np.concatenate([item.inverse_sd for item in by_net])
        )
        self.level, self.held_out = _in_units(statistics, SMOOTH_CELLS, maps, judged)

    def score_window(self, index: int, padded: BgrImage, window: Tile) -> Cells:
        """See `Head.score_window`."""
        cells = self._net.compare_window(
            self._pictures[index], padded, window, self._good_without(index), self._gains[index]
        )
        others = self._without(index)
        here = PartStatistics(window.cut(others.mean), window.cut(others.inverse_sd))
        said = smooth_each(cells)[self._taught.unseen_by[index]]
        return self._above(said, here) / np.float32(self.level.unit)

    def _good_without(self, index: int) -> GoodPart:
        return self._taught.goods[self._taught.learned_without[index]]

    def _say(self, index: int) -> Cells:
        """(h, w): what the net that has not seen the image says of it, smoothed."""
        found = self._net.compare(self._pictures[index], self._good_without(index), self._gains[index])
        return np.asarray(smooth_each(found)[self._taught.unseen_by[index]], np.float32)

    def _without(self, index: int) -> PartStatistics:
        return self._statistics(self._taught.unseen_by[index], index)

    def _statistics(self, net: int, left_out: int | None) -> PartStatistics:
        """(1, h, w) of the good images that a net has not seen, but one."""
        said = [
            cells
            for index, cells in enumerate(self._said)
            if self._taught.unseen_by[index] == net and index != left_out
        ]
        stack = np.stack(said)
        cells = pooled_cells(len(said))
        mean = smooth(stack.mean(axis=0), cells)
        variance = smooth(((stack - mean) ** 2).sum(axis=0) / np.float32(len(said) - 1), cells)
        floor = np.median(variance[self._part]) + np.float32(SMALLEST_LOGIT_SD**2)
        inverse_sd = 1.0 / np.sqrt(variance + floor)
        return PartStatistics(mean[None].astype(np.float16), inverse_sd[None].astype(np.float16))

    def _above(self, said: Cells, statistics: PartStatistics) -> Cells:
        return net_scores(said[None], PartLevel(statistics, SMOOTH_CELLS))


def pooled_cells(images: int) -> int:
    """An odd number of cells whose square holds `POOLED_VALUES` of so many images."""
    return 2 * math.ceil((math.sqrt(POOLED_VALUES / images) - 1.0) / 2.0) + 1


def joint_unit(heads: list[Head]) -> float:
    """What banks and net agree on at the worst place of a median good image: it scores 1.0. 1 without a net."""
    if all(head.name != "net" for head in heads):
        return 1.0
    maps = ({head.name: head.held_out[index] for head in heads} for index in range(len(heads[0].held_out)))
    return score_unit([float(join_heads(each, 1.0).max()) for each in maps])


def combine(heads: list[Head], unit: float) -> list[Cells]:
    """Each good image's held-out map by several heads; `unit` is their `joint_unit`."""
    count = len(heads[0].held_out)
    return [join_heads({head.name: head.held_out[index].copy() for head in heads}, unit) for index in range(count)]


def _in_units(
    statistics: PartStatistics, smooth_cells: int, maps: list[Cells], judged: list[Mask]
) -> tuple[PartLevel, list[Cells]]:
    held_out = [np.where(mask, image, np.float32(0.0)) for image, mask in zip(maps, judged, strict=True)]
    unit = score_unit([float(image.max()) for image in held_out])
    level = PartLevel(statistics, smooth_cells, unit)
    return level, [np.asarray(image / np.float32(unit), np.float32) for image in held_out]
