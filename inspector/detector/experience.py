"""Does a frame look like those the recipe was taught with? Light and sharpness of the whole frame, against limits.

What lies outside is odd: the score says little about it, so it goes to review with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.records import BgrImage

DARKEST_SHARE, BRIGHTEST_SHARE = 0.5, 1.6
SLACK_LEVELS = 6.0
DULLEST_SHARE, SHARPEST_SHARE = 0.85, 1.5
"""A blur of two pixels takes 25 to 70 % of the sharpness; parts of one product differ by a few percent."""
PATCH_PX = 96
MOST_PATCHES = 5
"""Along one side: sharpness needs samples, not every pixel."""
NOISE_SIGMA_PX, FINE_SIGMA_PX, COARSE_SIGMA_PX = 0.7, 1.2, 3.8
SMALLEST_STRUCTURE = 0.5
"""In grey levels; only frames without any structure come near it."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is measured of one frame: `level` is its mean, 0..255; `sharpness` is fine structure over coarse, 0..1."""

    level: float
    sharpness: float


@dataclass(frozen=True, slots=True)
class Experience:
    """(lowest, highest) level and sharpness of a frame that is not odd."""

    level: tuple[float, float]
    sharpness: tuple[float, float]


def look_at(pixels: BgrImage) -> Look:
    """Level and sharpness of a frame, (H, W, 3) uint8 BGR, reduced as the scorer reduces it."""
    return Look(float(np.mean(cv2.mean(pixels)[:3])), _sharpness(pixels))


def learn_experience(looks: Sequence[Look]) -> Experience:
    """The limits that follow from the good images."""
    levels, sharpness = [look.level for look in looks], [look.sharpness for look in looks]
    return Experience(
        level=(
            max(0.0, DARKEST_SHARE * min(levels) - SLACK_LEVELS),
            min(255.0, BRIGHTEST_SHARE * max(levels) + SLACK_LEVELS),
        ),
        sharpness=(DULLEST_SHARE * min(sharpness), SHARPEST_SHARE * max(sharpness)),
    )


def describe_oddities(look: Look, experience: Experience) -> tuple[str, ...]:
    """What is odd about a frame, in words; nothing when nothing is."""
    found = []
    low, high = experience.level
    if not low <= look.level <= high:
        found.append(f"mean level {look.level:.0f} outside {low:.0f} to {high:.0f}")
    low, high = experience.sharpness
    if look.sharpness < low:
        found.append(f"sharpness {look.sharpness:.2f} below {low:.2f}: out of focus, moving, or nothing there")
    elif look.sharpness > high:
        found.append(f"sharpness {look.sharpness:.2f} above {high:.2f}: noise, or another product")
    return tuple(found)


def _sharpness(pixels: BgrImage) -> float:
    """Root mean square of the finest band over that of the next, in patches spread over the frame.

    The ratio of two bands of one frame does not know the light, and hardly what is in the picture.
    """
    fine, coarse, count = 0.0, 0.0, 0
    for y in _starts(pixels.shape[0]):
        for x in _starts(pixels.shape[1]):
            patch = pixels[y : y + PATCH_PX, x : x + PATCH_PX]
            grey = _blur(cv2.cvtColor(patch, cv2.COLOR_BGR2GRAY).astype(np.float32), NOISE_SIGMA_PX)
            middle = _blur(grey, FINE_SIGMA_PX)
            fine += float(cv2.norm(grey, middle, cv2.NORM_L2SQR))
            coarse += float(cv2.norm(middle, _blur(middle, COARSE_SIGMA_PX), cv2.NORM_L2SQR))
            count += grey.size
    return float(np.sqrt(fine / count) / (np.sqrt(coarse / count) + SMALLEST_STRUCTURE))


def _blur(grey: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), sigma), np.float32)


def _starts(length: int) -> list[int]:
    """Where patches begin along a side: edge to edge when they fit, else spread evenly."""
    fitting = -(-length // PATCH_PX)
    if fitting <= MOST_PATCHES:
        return [min(index * PATCH_PX, max(0, length - PATCH_PX)) for index in range(fitting)]
    return [round(index * (length - PATCH_PX) / (MOST_PATCHES - 1)) for index in range(MOST_PATCHES)]
