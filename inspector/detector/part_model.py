"""Located parts: what each position of a registered part looks like, and how far a part is from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.detector.comparison import Cells, HalfCells, PositionDistance
from inspector.detector.good_part import GoodPart

SMALLEST_SD = 0.01
"""Whitened features have a standard deviation of about one over good parts; this only keeps constant sets finite."""
SD_FLOOR_SHARE = 1.0
"""A position that happened to be quiet in the few good images is hardly quieter than the usual one."""

SHARED_COUNT = 40.0
LEAST_SAID = 0.5
"""Half of what the worst place of an ordinary good part shows."""

Mask: TypeAlias = NDArray[np.bool_]
HeadName: TypeAlias = Literal["energy", "contrast", "net"]
"""What a located part can be judged by: the whitened part bank, the contrast bank, and a net that compares."""


@dataclass(frozen=True, slots=True)
class PartStatistics:
    """Mean and inverse standard deviation for each channel and cell of a window of the part: both (C, h, w) float16."""

    mean: HalfCells
    inverse_sd: HalfCells


@dataclass(frozen=True, slots=True)
class PartLevel:
    """One scale of looking: its statistics, how far it smooths (cells) and the distance that scores 1.0."""

    statistics: PartStatistics
    smooth_cells: int
    unit: float = 1.0


@dataclass(frozen=True, slots=True)
class NetLevel:
    """The learned head: the picture it compares with, and what its nets say of good parts by position.

    `good` is laid over the window with the banks' margin. The statistics of `level` have one channel for each net.
    `joint_unit` is what banks and net agree on (`join_heads`) that scores 1.0 where both judge.
    """

    good: GoodPart
    level: PartLevel
    joint_unit: float


class PositionModel:
    """Statistics made ready for scoring with the tolerance of `comparison`. Read only, so thread-safe."""

    def __init__(self, statistics: PartStatistics, comparison: PositionDistance) -> None:
        self._comparison = comparison
        tolerance = comparison.tolerance
        rim = ((0, 0), (tolerance, tolerance), (tolerance, tolerance))
        self._mean = np.pad(statistics.mean, rim, mode="edge")
        self._inverse_sd = np.pad(statistics.inverse_sd, rim, mode="edge")

    def distance(self, features: Cells, row: int, column: int) -> Cells:
        """(h, w) distance of (C, h, w) features whose first cell is (`row`, `column`) of the statistics."""
        rim = 2 * self._comparison.tolerance
        window = np.s_[:, row : row + features.shape[1] + rim, column : column + features.shape[2] + rim]
        return self._comparison.compute(features, self._mean[window], self._inverse_sd[window])


def smooth(distance: Cells, cells: int) -> Cells:
    """Box mean over `cells`, so that one noisy cell is not a defect."""
    return np.asarray(cv2.blur(distance, (cells, cells), borderType=cv2.BORDER_REFLECT_101), np.float32)


def net_scores(said: Cells, level: PartLevel) -> Cells:
    """(h, w) in units of the level, never negative: the mean of what the nets say (`said`, smoothed) above good."""
    above = (said - level.statistics.mean) * level.statistics.inverse_sd.astype(np.float32)
    return np.asarray(np.maximum(above.mean(axis=0), 0.0) / np.float32(level.unit), np.float32)


def join_heads(maps: dict[HeadName, Cells], joint_unit: float) -> Cells:
    """One map of several heads: the larger of the banks, and its geometric mean with a net's.

    What alarms banks and nets on good parts differs, so that a defect stands out in what they agree on. Neither can
    silence the other: each counts as `LEAST_SAID` at least.
    """
    banks = [cells for name, cells in maps.items() if name != "net"]
    if not banks:
        return maps["net"]
    largest = np.maximum.reduce(banks)
    if "net" not in maps:
        return np.asarray(largest, np.float32)
    least = np.float32(LEAST_SAID)
    agreed = np.sqrt(np.maximum(largest, least) * np.maximum(maps["net"], least))
    return np.asarray(agreed / np.float32(joint_unit), np.float32)


class MomentSums:
    """Running sums over good images of one or several looks; the statistics without any image follow in closed form.

    Looks have means of their own. Each look's variance is drawn towards that of all looks around their own means, as if
    `SHARED_COUNT` images more had shown that: few images stand behind a look.
    """

    def __init__(self, shape: tuple[int, ...], looks: int = 1) -> None:
        self._counts = [0] * looks
        self._sum = [np.zeros(shape, np.float32) for _ in range(looks)]
        self._squares = [np.zeros(shape, np.float32) for _ in range(looks)]

    @property
    def count(self) -> int:
        return sum(self._counts)

    def add(self, features: Cells, look: int = 0) -> None:
        """One more good image: (C, h, w) float32."""
        self._counts[look] += 1
        self._sum[look] += features
        self._squares[look] += features * features

    def usual_variance(self, part: Mask) -> Cells:
        """(C,) median variance over the cells of the part."""
        if len(self._counts) == 1:
            mean = self._sum[0] / self.count
            variance = np.maximum(self._squares[0] / self.count - mean * mean, 0.0)
            variance *= self.count / max(1, self.count - 1)
        else:
            variance = self._around_own_means(np.s_[:]) / np.float32(self._freedom())
        return np.asarray(np.median(variance[:, part], axis=1), np.float32)

    def statistics(self, usual_variance: Cells, look: int = 0) -> PartStatistics:
        """Of all images of a look."""
        total, squares, count = self._sum[look], self._squares[look], self._counts[look]
        if len(self._counts) == 1:
            return _statistics(total, squares, count, usual_variance)
        return self._shared(total, squares, count, np.s_[:], 0.0, self._freedom(), usual_variance)

    def without(
        self, features: Cells, usual_variance: Cells, row: int = 0, column: int = 0, look: int = 0
    ) -> PartStatistics:
        """Of all images of a look but one, in the window of that image's `features` from cell (`row`, `column`) on."""
        window = np.s_[:, row : row + features.shape[1], column : column + features.shape[2]]
        count = self._counts[look]
        total, squares = self._sum[look][window] - features, self._squares[look][window] - features * features
        if len(self._counts) == 1:
            return _statistics(total, squares, count - 1, usual_variance)
        away = features - self._sum[look][window] / np.float32(count)
        gone = away * away * np.float32(count / (count - 1))
        return self._shared(total, squares, count - 1, window, gone, self._freedom() - 1, usual_variance)

    def _shared(
        self,
        total: Cells,
        squares: Cells,
        count: int,
        window: tuple[slice, ...] | slice,
        gone: Cells | float,
        freedom: int,
        usual_variance: Cells,
    ) -> PartStatistics:
        mean = total / np.float32(count)
        own = np.maximum(squares - total * mean, 0.0)
        all_looks = np.maximum(self._around_own_means(window) - gone, 0.0) / np.float32(freedom)
        variance = (own + all_looks * np.float32(SHARED_COUNT)) / np.float32(count - 1 + SHARED_COUNT)
        return _floored(np.asarray(mean, np.float32), np.asarray(variance, np.float32), usual_variance)

    def _around_own_means(self, window: tuple[slice, ...] | slice) -> Cells:
        """Squares of all images around their look's mean, added up."""
        looks = zip(self._sum, self._squares, self._counts, strict=True)
        parts = [np.maximum(squares[window] - total[window] ** 2 / np.float32(n), 0.0) for total, squares, n in looks]
        return np.asarray(np.sum(parts, axis=0), np.float32)

    def _freedom(self) -> int:
        return self.count - len(self._counts)


def _statistics(total: Cells, squares: Cells, count: int, usual_variance: Cells) -> PartStatistics:
    mean = total / count
    variance = np.maximum(squares / count - mean * mean, 0.0) * (count / max(1, count - 1))
    return _floored(np.asarray(mean, np.float32), np.asarray(variance, np.float32), usual_variance)


def _floored(mean: Cells, variance: Cells, usual_variance: Cells) -> PartStatistics:
    """Mean and standard deviation, the variance pooled over 3x3 cells and floored by the usual one."""
    for channel in variance:
        channel[:] = cv2.blur(channel, (3, 3))
    floor = SD_FLOOR_SHARE**2 * usual_variance[:, None, None] + SMALLEST_SD**2
    return PartStatistics(mean.astype(np.float16), (1.0 / np.sqrt(variance + floor)).astype(np.float16))
