"""The heads that a located part can be judged by, as `fit` sees them: what each says of good images it has not seen.

Each head's maps are in units of what the worst place of a median good image shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from inspector.detector.calibration import score_unit
from inspector.detector.change_net import SMOOTH_CELLS, ChangeNet, TaughtNet, light_gain, smooth_each
from inspector.detector.comparison import Cells, HalfCells, LargestDeviation, PositionDistance
from inspector.detector.features import FeatureBank
from inspector.detector.good_part import GoodPart
from inspector.detector.part_model import (
    SHARED_COUNT,
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

Looks: TypeAlias = tuple[int, ...]
"""Which look each good image shows, counted from 0."""

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
    levels: tuple[PartLevel, ...]
    """One for each look."""
    held_out: list[Cells]
    """Each good image's map, scored without itself, in units of its look's level; 0 where it is not judged."""

    def score_window(self, index: int, padded: BgrImage, window: Tile) -> Cells:
        """(rows, columns) map of a window of good image `index` that was painted over, scored without that image.

        `padded` is the painted window with the banks' margin, `window` its cells within the part's.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Sums:
    """What a bank's features of good images add up to."""

    features: list[HalfCells]
    looks: Looks
    moments: MomentSums
    usual: Cells

    def without(self, index: int, window: Tile | None = None) -> PartStatistics:
        cells = self.features[index]
        if window is not None:
            cells = cells[:, window.row : window.row + window.rows, window.column : window.column + window.columns]
        row, column = (window.row, window.column) if window is not None else (0, 0)
        return self.moments.without(cells.astype(np.float32), self.usual, row, column, self.looks[index])

    def statistics(self) -> list[PartStatistics]:
        """Of each look."""
        return [self.moments.statistics(self.usual, look) for look in range(count_looks(self.looks))]


def count_looks(looks: Looks) -> int:
    return max(looks) + 1


def _add_up(features: list[HalfCells], part: Mask, looks: Looks) -> _Sums:
    moments = MomentSums(features[0].shape, count_looks(looks))
    for image, look in zip(features, looks, strict=True):
        moments.add(image.astype(np.float32), look)
    return _Sums(features, looks, moments, moments.usual_variance(part))


class EnergyHead:
    """Root mean square z of the whitened part bank."""

    name: HeadName = "energy"

    def __init__(
        self, bank: FeatureBank, features: list[HalfCells], judged: list[Mask], part: Mask, looks: Looks
    ) -> None:
        self._bank = bank
        self._comparison = PositionDistance(TOLERANCE_CELLS)
        self._sums = _add_up(features, part, looks)
        maps = [self._distance(image.astype(np.float32), self._sums.without(i)) for i, image in enumerate(features)]
        self.levels, self.held_out = _in_units(self._sums.statistics(), SCREEN_SMOOTH_CELLS, maps, judged, looks)

    def score_window(self, index: int, padded: BgrImage, window: Tile) -> Cells:
        """See `Head.score_window`."""
        distance = self._distance(self._bank.compute(padded), self._sums.without(index, window))
        return distance / np.float32(self.levels[self._sums.looks[index]].unit)

    def _distance(self, features: Cells, others: PartStatistics) -> Cells:
        return smooth(PositionModel(others, self._comparison).distance(features, 0, 0), SCREEN_SMOOTH_CELLS)


class ContrastHead:
    """Largest deviation of the contrast bank."""

    name: HeadName = "contrast"

    def __init__(
        self, bank: FeatureBank, features: list[HalfCells], judged: list[Mask], part: Mask, looks: Looks
    ) -> None:
        self._bank = bank
        self._largest = LargestDeviation()
        self._sums = _add_up(features, part, looks)
        maps = [self._deviation(image.astype(np.float32), self._sums.without(i)) for i, image in enumerate(features)]
        self.levels, self.held_out = _in_units(self._sums.statistics(), CONTRAST_SMOOTH_CELLS, maps, judged, looks)

    def score_window(self, index: int, padded: BgrImage, window: Tile) -> Cells:
        """See `Head.score_window`."""
        deviation = self._deviation(self._bank.compute(padded), self._sums.without(index, window))
        return deviation / np.float32(self.levels[self._sums.looks[index]].unit)

    def _deviation(self, features: Cells, others: PartStatistics) -> Cells:
        return smooth(self._largest.compute(features, others.mean, others.inverse_sd), CONTRAST_SMOOTH_CELLS)


class NetHead:
    """Taught nets; each good image is judged by the one that has not seen it, beside good parts learned without it."""

    name: HeadName = "net"

    def __init__(
        self, taught: TaughtNet, pictures: list[BgrImage], judged: list[Mask], part: Mask, looks: Looks
    ) -> None:
        self._net = ChangeNet(taught.graph)
        self._taught = taught
        self._looks = looks
        self._pictures = pictures
        pairs = zip(pictures, looks, strict=True)
        self._gains = [light_gain(picture, taught.good_by_look[look].picture, part) for picture, look in pairs]
        self._said = [self._say(index) for index in range(len(pictures))]
        self._part = part
        nets = sorted(set(taught.unseen_by))
        self._squares = {
            (net, look): _squares(self._of(net, look, None)) for net in nets for look in range(count_looks(looks))
        }
        maps = [self._above(said, self._without(index)) for index, said in enumerate(self._said)]
        statistics = []
        for look in range(count_looks(looks)):
            by_net = [self._statistics(net, look, None) for net in nets]
            mean, inverse_sd = ([getattr(item, name) for item in by_net] for name in ("mean", "inverse_sd"))
            statistics.append(PartStatistics(np.concatenate(mean), np.concatenate(inverse_sd)))
        self.levels, self.held_out = _in_units(statistics, SMOOTH_CELLS, maps, judged, looks)

    def score_window(self, index: int, padded: BgrImage, window: Tile) -> Cells:
        """See `Head.score_window`."""
        cells = self._net.compare_window(
            self._pictures[index], padded, window, self._good_without(index), self._gains[index]
        )
        others = self._without(index)
        here = PartStatistics(window.cut(others.mean), window.cut(others.inverse_sd))
        said = smooth_each(cells)[self._taught.unseen_by[index]]
        return self._above(said, here) / np.float32(self.levels[self._looks[index]].unit)

    def _good_without(self, index: int) -> GoodPart:
        return self._taught.goods[self._taught.learned_without[index]]

    def _say(self, index: int) -> Cells:
        """(h, w): what the net that has not seen the image says of it, smoothed."""
        found = self._net.compare(self._pictures[index], self._good_without(index), self._gains[index])
        return np.asarray(smooth_each(found)[self._taught.unseen_by[index]], np.float32)

    def _without(self, index: int) -> PartStatistics:
        return self._statistics(self._taught.unseen_by[index], self._looks[index], index)

    def _of(self, net: int, look: int, left_out: int | None) -> list[Cells]:
        """What a net says of those images of a look that it has not seen, but one."""
        kinds = zip(self._taught.unseen_by, self._looks, strict=True)
        chosen = [index for index, kind in enumerate(kinds) if kind == (net, look) and index != left_out]
        return [self._said[index] for index in chosen]

    def _statistics(self, net: int, look: int, left_out: int | None) -> PartStatistics:
        """(1, h, w) of the images of a look that a net has not seen, but one; looks share their spread."""
        said = self._of(net, look, left_out)
        cells = pooled_cells(len(said))
        own = _squares(said)
        mean = smooth(np.mean(said, axis=0, dtype=np.float32), cells)
        freedom, squares = len(said) - 1, own
        if count_looks(self._looks) > 1:
            others = [of for (of_net, of_look), of in self._squares.items() if of_net == net and of_look != look]
            count = sum(unseen == net for unseen in self._taught.unseen_by) - (left_out is not None)
            share = np.float32(SHARED_COUNT / (count - count_looks(self._looks)))
            squares, freedom = own + np.sum([own, *others], axis=0) * share, freedom + int(SHARED_COUNT)
        variance = smooth(squares / np.float32(freedom), cells)
        floor = np.median(variance[self._part]) + np.float32(SMALLEST_LOGIT_SD**2)
        inverse_sd = 1.0 / np.sqrt(variance + floor)
        return PartStatistics(mean[None].astype(np.float16), inverse_sd[None].astype(np.float16))

    def _above(self, said: Cells, statistics: PartStatistics) -> Cells:
        return net_scores(said[None], PartLevel(statistics, SMOOTH_CELLS))


def pooled_cells(images: int) -> int:
    """An odd number of cells whose square holds `POOLED_VALUES` of so many images."""
    return 2 * math.ceil((math.sqrt(POOLED_VALUES / images) - 1.0) / 2.0) + 1


def _squares(said: list[Cells]) -> Cells:
    """Squared differences from the pooled mean, added up."""
    mean = smooth(np.mean(said, axis=0, dtype=np.float32), pooled_cells(len(said)))
    return np.asarray(np.sum([(cells - mean) ** 2 for cells in said], axis=0), np.float32)


def joint_units(heads: list[Head], looks: Looks) -> tuple[float, ...]:
    """For each look what banks and net agree on at the worst place of a median good image: it scores 1.0.

    1 without a net.
    """
    if all(head.name != "net" for head in heads):
        return (1.0,) * count_looks(looks)
    worst = [float(image.max()) for image in combine(heads, (1.0,) * count_looks(looks), looks)]
    return tuple(units_of_looks(worst, looks))


def combine(heads: list[Head], units: tuple[float, ...], looks: Looks) -> list[Cells]:
    """Each good image's held-out map by several heads; `units` are their `joint_units`."""
    return [
        join_heads({head.name: head.held_out[index].copy() for head in heads}, units[look])
        for index, look in enumerate(looks)
    ]


def units_of_looks(worst: list[float], looks: Looks) -> list[float]:
    """`score_unit` of each look."""
    numbers = range(count_looks(looks))
    return [score_unit([value for value, own in zip(worst, looks, strict=True) if own == look]) for look in numbers]


def _in_units(
    statistics: list[PartStatistics], smooth_cells: int, maps: list[Cells], judged: list[Mask], looks: Looks
) -> tuple[tuple[PartLevel, ...], list[Cells]]:
    held_out = [np.where(mask, image, np.float32(0.0)) for image, mask in zip(maps, judged, strict=True)]
    units = units_of_looks([float(image.max()) for image in held_out], looks)
    levels = tuple(PartLevel(item, smooth_cells, unit) for item, unit in zip(statistics, units, strict=True))
    in_units = [
        np.asarray(image / np.float32(units[look]), np.float32) for image, look in zip(held_out, looks, strict=True)
    ]
    return levels, in_units
