"""A dark frame as the net sees it: at the light it should have had, beside a map of how noisy that made it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.generator.exposure.noise import NoiseCurve
from inspector.generator.exposure.response import FloatImage, light_levels, to_light, to_values, value_slope
from inspector.records import BgrImage

CHANNELS = 6
"""Blue, green, red, and the standard deviation of each."""
BRIGHTEST = 1.25
"""Noise may reach above white; cutting it there would darken the highlights."""
LARGEST_SIGMA = 0.75
SMOOTH_PX = 9
FINE = 16
"""Steps a grey level of the smoothed frame is read in."""


def brighten(pixels: BgrImage, gain: float, noise: NoiseCurve) -> FloatImage:
    """(H, W, 6) float32: the frame with `gain` times its light, coded again, 0..1.25, and its noise in the same unit.

    The noise is read off the curve at the smoothed level, so that the map itself is quiet.
    """
    bright = bright_values(gain, noise)[pixels]
    level = cv2.blur(pixels.astype(np.float32), (SMOOTH_PX, SMOOTH_PX), borderType=cv2.BORDER_REFLECT_101)
    sigma = _sigma_values(gain, noise)[np.rint(level * FINE).astype(np.uint16)]
    return np.concatenate([bright, sigma], axis=2)


def bright_values(gain: float, noise: NoiseCurve) -> NDArray[np.float32]:
    """What each of the 256 values of a file becomes, (256,) float32 in 0..1.25."""
    light = light_levels(noise.response) * np.float32(gain)
    return np.minimum(to_values(light, noise.response), np.float32(BRIGHTEST))


def _sigma_values(gain: float, noise: NoiseCurve) -> NDArray[np.float32]:
    """Standard deviation of a brightened value for each level in steps of 1 / `FINE`."""
    values = np.arange(255 * FINE + 1, dtype=np.float32) / np.float32(255 * FINE)
    light = to_light(values, noise.response)
    slope = value_slope(light * np.float32(gain), noise.response) * np.float32(gain)
    return np.asarray(np.minimum(slope * noise.sigma_light(light), LARGEST_SIGMA), np.float32)
