"""A well-lit alternative of an under-exposed frame, for people to look at.

    match_exposure  →  estimate_noise  →  brighten  →  restore  →  return_detail

What it shows comes from the frame alone: the golden image says how much light is missing and how much grain the
material has, and none of its pixels is painted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inspector.generator.exposure.brightening import brighten
from inspector.generator.exposure.detail import return_detail
from inspector.generator.exposure.level import Exposure, match_exposure
from inspector.generator.exposure.net import COLOURS, LowLightNet
from inspector.generator.exposure.noise import NoiseCurve, estimate_noise
from inspector.generator.exposure.response import FloatImage
from inspector.images import is_grey
from inspector.records import BgrImage

WHITE = 255


@dataclass(frozen=True, slots=True)
class LitFrame:
    """(H, W, 3) uint8 BGR at the light of the golden image; a frame that was not dark is itself, `generated` False.

    `noise_sigma` is the noise, in grey levels at the new light, that was told from the detail and taken away (root
    mean square over the frame); `noise_left` what the same measure finds in the picture.
    """

    pixels: BgrImage
    exposure: Exposure
    noise: NoiseCurve
    noise_sigma: float
    noise_left: float
    generated: bool


def relight_frame(
    pixels: BgrImage, golden: BgrImage, net: LowLightNet, *, same_view: bool = True, gain: float | None = None
) -> LitFrame:
    """Light an under-exposed frame (H, W, 3) uint8 BGR as the golden image is lit, or by a known `gain`.

    `same_view` says that the golden image shows the part in the frame's pose. A grey frame stays grey.
    Raises `InputError` for a frame that is black or beyond mending.
    """
    exposure = match_exposure(pixels, golden, same_view=same_view, gain=gain)
    noise = estimate_noise(pixels, exposure.response)
    if exposure.is_dark:
        noise = noise.without_grain(estimate_noise(golden, exposure.response), exposure.gain)
    bright = brighten(pixels, exposure.gain, noise)
    sigma = _mean_sigma(bright[..., COLOURS:])
    if not exposure.is_dark:
        return LitFrame(pixels, exposure, noise, sigma, sigma, generated=False)
    values = return_detail(bright, net.restore(bright))
    if is_grey(pixels):
        values = np.repeat(values.mean(axis=2, keepdims=True), COLOURS, axis=2)
    lit = np.rint(values * WHITE).astype(np.uint8)
    left = estimate_noise(lit, exposure.response)
    return LitFrame(lit, exposure, noise, sigma, _mean_sigma(brighten(lit, 1.0, left)[..., COLOURS:]), generated=True)


def _mean_sigma(sigma: FloatImage) -> float:
    return float(WHITE * np.sqrt(np.square(sigma).mean(dtype=np.float64)))
