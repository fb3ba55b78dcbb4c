"""The noise of a frame, told from its detail: how the variance of a sensor's samples grows with light.

Electrons are counted, so the variance is affine in light (EMVA 1288, the photon transfer curve): shot noise is the
slope, read noise the foot. Rounding to 8 bits adds a twelfth of a squared step of the response at that level.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.generator.exposure.response import FloatImage, Response, light_levels, value_slope
from inspector.records import BgrImage

BLOCK_PX = 8
LEVELS = 12
"""Groups of blocks of similar light."""
FLAT_SHARE = 0.25
"""The quarter of the blocks with the least variation counts as flat: what varies there is noise."""
FLAT_BIAS = 0.64
"""Mean of the lowest `FLAT_SHARE` of block variances of plain noise, as a share of the true variance."""
CLIPPED_SHARE = 0.5
"""Blocks with more samples at black or white than this say nothing about noise."""
CLIPPED_POWER = 1.55
"""Cutting a share p of a normal distribution off at one end leaves (1 - p) ** 1.55 of its variance, within 3 %."""
MIN_BLOCKS = 24
LEAST_OWN_SHARE = 0.25
FITS = 8
HIGH_PASS = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
"""Keeps the variance of noise, removes planes and straight edges along rows and columns (Immerkær, 1996)."""


@dataclass(frozen=True, slots=True)
class NoiseCurve:
    """Variance of light (0..1, where 1 is white) at a level: `shot` times light plus `read`, and rounding."""

    shot: float
    read: float
    response: Response

    def sigma_light(self, light: FloatImage) -> FloatImage:
        """Standard deviation of light at these levels, rounding included."""
        step = np.float32(1 / 255) / value_slope(light, self.response)
        variance = np.float32(self.shot) * light + np.float32(self.read) + np.square(step) / np.float32(12)
        return np.asarray(np.sqrt(variance), np.float32)

    def without_grain(self, golden: NoiseCurve, gain: float) -> NoiseCurve:
        """This curve of a dark frame less what the golden image, with `gain` times the light, shows as well.

        A grain of the material dims with the light, so its variance falls with the square of the gain. At least
        `LEAST_OWN_SHARE` stays: no frame has less noise than a share of what is measured in it.
        """
        return NoiseCurve(
            max(self.shot - golden.shot / gain, LEAST_OWN_SHARE * self.shot),
            max(self.read - golden.read / gain**2, LEAST_OWN_SHARE * self.read),
            self.response,
        )


def estimate_noise(pixels: BgrImage, response: Response) -> NoiseCurve:
    """The noise curve of a frame (H, W, 3) uint8 from its flattest places, all channels together.

    Frames without enough unclipped places, such as black or tiny ones, give the curve of rounding alone.
    """
    light = light_levels(response)[pixels]
    means, variances = _block_statistics(light, pixels)
    if len(means) < MIN_BLOCKS:
        return NoiseCurve(0.0, 0.0, response)
    order = np.argsort(means, kind="stable")
    groups = np.array_split(order, min(LEVELS, len(order) // (MIN_BLOCKS // 2)))
    levels = np.array([means[group].mean() for group in groups])
    flat = np.array([_flat_variance(variances[group]) for group in groups])
    rounding = np.square(1 / 255 / value_slope(levels.astype(np.float32), response)) / 12
    shot, read = _fit_affine(levels, np.maximum(flat - rounding, 0.0))
    return NoiseCurve(shot, read, response)


def _block_statistics(light: FloatImage, pixels: BgrImage) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean light and high-pass variance of every block that is not mostly clipped, (N,) each."""
    rough = np.square(cv2.filter2D(light, -1, HIGH_PASS, borderType=cv2.BORDER_REFLECT_101))
    clipped = ((pixels == 0) | (pixels == 255)).astype(np.float32)
    means, variances, share = (_average_blocks(plane) for plane in (light, rough, clipped))
    kept = share <= CLIPPED_SHARE
    return means[kept], variances[kept] / (1 - share[kept]) ** CLIPPED_POWER


def _average_blocks(plane: FloatImage) -> NDArray[np.float64]:
    rows, columns = plane.shape[0] // BLOCK_PX, plane.shape[1] // BLOCK_PX
    whole = plane[: rows * BLOCK_PX, : columns * BLOCK_PX]
    blocks = whole.reshape(rows, BLOCK_PX, columns, BLOCK_PX, plane.shape[2]).mean(axis=(1, 3), dtype=np.float64)
    return np.asarray(blocks, np.float64)


def _flat_variance(variances: NDArray[np.float64]) -> float:
    lowest = np.sort(variances)[: max(1, round(FLAT_SHARE * len(variances)))]
    return float(lowest.mean() / FLAT_BIAS)


def _fit_affine(levels: NDArray[np.float64], variances: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and foot, neither negative, of least relative error: each level's variance is known to some per cent."""
    slope, foot = 0.0, float(np.median(variances))
    for _ in range(FITS):
        weights = 1 / np.maximum(slope * levels + foot, 1e-12)
        slope, foot = _weighted_line(levels, variances, np.square(weights))
    return slope, foot


def _weighted_line(
    levels: NDArray[np.float64], variances: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[float, float]:
    total = weights.sum()
    level, variance = (levels * weights).sum() / total, (variances * weights).sum() / total
    spread = (weights * np.square(levels - level)).sum()
    slope = float((weights * (levels - level) * (variances - variance)).sum() / spread) if spread > 0 else 0.0
    foot = float(variance - slope * level)
    if slope < 0:
        return 0.0, float(variance)
    if foot < 0:
        return float((weights * levels * variances).sum() / (weights * np.square(levels)).sum()), 0.0
    return slope, foot
