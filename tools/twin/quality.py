"""How near a twin comes to the truth, inside its mask: PSNR over all masks together, and SSIM."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.records import BgrImage

WINDOW_PX, SIGMA_PX = 11, 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
LARGEST_PSNR_DB = 99.0

Mask = NDArray[np.bool_]
Grey = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MaskScore:
    """One painted mask: the sum of squared errors over `values` channel values, and its mean SSIM."""

    squared_error: float
    values: int
    ssim: float

    @property
    def psnr_db(self) -> float:
        return pool_psnr([self])


def score_mask(painted: BgrImage, truth: BgrImage, mask: Mask) -> MaskScore:
    """Compare (H, W, 3) uint8 pictures where `mask` (H, W) bool is set; `ValueError` for an empty mask."""
    if not mask.any():
        raise ValueError("an empty mask has no quality")
    left, top, wide, high = cv2.boundingRect(mask.view(np.uint8))
    reach = WINDOW_PX
    rows = slice(max(0, top - reach), top + high + reach)
    columns = slice(max(0, left - reach), left + wide + reach)
    inside = mask[rows, columns]
    one, other = painted[rows, columns], truth[rows, columns]
    difference = one[inside].astype(np.float64) - other[inside]
    ssim = map_ssim(*(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float64) for image in (one, other)))
    return MaskScore(float((difference**2).sum()), difference.size, float(ssim[inside].mean()))


def pool_psnr(scores: Sequence[MaskScore]) -> float:
    """Decibels of the mean squared error over all pixels of all masks, at most 99; a large mask counts more."""
    error = sum(score.squared_error for score in scores) / sum(score.values for score in scores)
    return min(LARGEST_PSNR_DB, 10.0 * math.log10(255.0**2 / error)) if error > 0 else LARGEST_PSNR_DB


def mean_ssim(scores: Sequence[MaskScore]) -> float:
    """The mean over the masks: a small mask counts as much as a large one."""
    return float(np.mean([score.ssim for score in scores]))


def map_ssim(one: Grey, other: Grey) -> Grey:
    """Structural similarity at each pixel of two grey images (h, w) of 0..255.

    As in Wang, Bovik, Sheikh and Simoncelli (2004): Gaussian window of 11 px and sigma 1.5, K1 0.01, K2 0.03. Beyond
    the border the image is mirrored.
    """
    mean_one, mean_other = _blur(one), _blur(other)
    var_one = _blur(one * one) - mean_one**2
    var_other = _blur(other * other) - mean_other**2
    covariance = _blur(one * other) - mean_one * mean_other
    luminance = (2.0 * mean_one * mean_other + C1) / (mean_one**2 + mean_other**2 + C1)
    return luminance * (2.0 * covariance + C2) / (var_one + var_other + C2)


def _blur(image: Grey) -> Grey:
    size = (WINDOW_PX, WINDOW_PX)
    return np.asarray(cv2.GaussianBlur(image, size, SIGMA_PX, borderType=cv2.BORDER_REFLECT_101), np.float64)
