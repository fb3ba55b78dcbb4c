"""Is there about as much light as when the recipe was taught?"""

from __future__ import annotations

import cv2
import numpy as np

from inspector.records import BgrImage

DARKEST_SHARE, BRIGHTEST_SHARE = 0.5, 1.6
SLACK_LEVELS = 6.0


def mean_level(pixels: BgrImage) -> float:
    """Mean of all samples, 0..255."""
    return float(np.mean(cv2.mean(pixels)[:3]))


def light_limits(levels: list[float]) -> tuple[float, float]:
    """Mean levels outside of which a frame is odd: half of the darkest good image, 1.6 times the brightest."""
    low = max(0.0, DARKEST_SHARE * min(levels) - SLACK_LEVELS)
    return low, min(255.0, BRIGHTEST_SHARE * max(levels) + SLACK_LEVELS)


def describe_light(level: float, limits: tuple[float, float]) -> tuple[str, ...]:
    """The oddity in words, or nothing."""
    if limits[0] <= level <= limits[1]:
        return ()
    return (f"mean level {level:.0f} outside {limits[0]:.0f} to {limits[1]:.0f}",)
