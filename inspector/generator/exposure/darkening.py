"""What too little light does to a frame: fewer electrons, the same read noise, the same eight bits.

Used to train and to measure; nothing here runs on a line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inspector.generator.exposure.response import Response, light_levels, to_values
from inspector.images import is_grey
from inspector.records import BgrImage


@dataclass(frozen=True, slots=True)
class Sensor:
    """A camera: `full_well_e` electrons make its white, `read_noise_e` electrons (rms) are added to every pixel.

    10 000 e and 3 e are a machine-vision sensor of today with pixels of about 3.5 µm; 2000 e and 6 e are one with
    gain turned up, or with small pixels.
    """

    full_well_e: float = 10_000.0
    read_noise_e: float = 3.0
    response: Response = "srgb"


def darken(pixels: BgrImage, exposure: float, sensor: Sensor, random: np.random.Generator) -> BgrImage:
    """The frame that the sensor gives with `exposure` (0..1) of the light: (H, W, 3) uint8 BGR, another array.

    Light is scaled, becomes a Poisson number of electrons, gets Gaussian read noise and is cut off at black and white,
    coded and rounded to 8 bits. A frame with equal channels stays grey: its camera has one sample a pixel.
    """
    samples = pixels[..., :1] if is_grey(pixels) else pixels
    electrons = light_levels(sensor.response)[samples] * np.float32(exposure * sensor.full_well_e)
    counted = random.poisson(electrons) + sensor.read_noise_e * random.standard_normal(samples.shape, np.float32)
    light = np.clip(counted / sensor.full_well_e, 0.0, 1.0).astype(np.float32)
    dark = np.rint(to_values(light, sensor.response) * 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(dark, pixels.shape))
