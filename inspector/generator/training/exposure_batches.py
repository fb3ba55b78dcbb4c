"""Batches for the low-light net: a crop in other light, darkened by a random camera, and what it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.generator.exposure.brightening import brighten
from inspector.generator.exposure.darkening import Sensor, darken
from inspector.generator.exposure.noise import NoiseCurve
from inspector.generator.exposure.response import FloatImage, light_levels, to_values
from inspector.generator.training.exposure_images import PictureSource
from inspector.records import BgrImage

EXPOSURE = (0.03, 0.25)
FULL_WELL_E = (600.0, 20_000.0)
READ_NOISE_E = (1.0, 10.0)
LARGEST_READ_SHARE = 0.05
"""Of the electrons of white; a frame of nothing but read noise teaches nothing."""
LINEAR_SHARE = 0.35
GREY_SHARE = 0.35
MOSAIC_SHARE = 0.12
JPEG_SHARE = 0.12
SEPARATE_SHARE = 0.1
"""Of grey frames made noisy channel by channel, as software that replicates grey first would."""
GRAIN_LEVELS = (1.0, 7.0)


@dataclass(frozen=True, slots=True)
class Look:
    """How a run varies its pictures: shares 0..1 of crops that are reduced, and that get a grain of their own.

    Grain belongs to the truth: what varies more than the camera's noise explains is detail. `sigma_error` is what the
    noise estimate of a real frame is off by, as a standard deviation of its logarithm.
    """

    reduced: float
    grain: float
    sigma_error: float


@dataclass(frozen=True, slots=True)
class Batch:
    """`inputs` (N, 6, S, S) and `truths` (N, 3, S, S), float32."""

    inputs: NDArray[np.float32]
    truths: NDArray[np.float32]


def draw_batch(
    sources: Sequence[PictureSource],
    shares: Sequence[float],
    look: Look,
    size: int,
    side_px: int,
    random: np.random.Generator,
) -> Batch:
    """A batch that depends on the state of `random` alone."""
    inputs, truths = [], []
    chosen = random.choice(len(sources), size, p=np.asarray(shares) / np.sum(shares))
    for index in chosen:
        truth = _change_look(sources[int(index)].cut(side_px, look.reduced, random), look, random)
        inputs.append(_see_dark(truth, look, random).transpose(2, 0, 1))
        truths.append(truth.transpose(2, 0, 1).astype(np.float32) / np.float32(255))
    return Batch(np.ascontiguousarray(np.stack(inputs)), np.ascontiguousarray(np.stack(truths)))


def _change_look(crop: BgrImage, look: Look, random: np.random.Generator) -> BgrImage:
    """Turned, mirrored, other colours, other light, a grain of its own."""
    turned = np.rot90(crop, int(random.integers(4)))
    if random.random() < 0.5:
        turned = turned[:, ::-1]
    values = turned[..., random.permutation(3)].astype(np.float32) / np.float32(255)
    if random.random() < GREY_SHARE:
        grey = cv2.cvtColor(np.ascontiguousarray(values), cv2.COLOR_BGR2GRAY)
        values = np.repeat(grey[..., None], 3, axis=2)
    gains = np.float32(np.exp(random.normal(0, 0.2)))
    curved = np.power(values, np.float32(np.exp(random.normal(0, 0.15)))) * gains
    levels = curved * np.float32(255)
    if random.random() < look.grain:
        levels = levels + _draw_grain(values, random)
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def _draw_grain(values: FloatImage, random: np.random.Generator) -> FloatImage:
    """White or slightly coarse grain in grey levels, the same in all channels of a grey picture."""
    planes = 1 if np.array_equal(values[..., 0], values[..., 1]) else 3
    grain = random.standard_normal((*values.shape[:2], planes), np.float32)
    if random.random() < 0.5:
        blurred = cv2.GaussianBlur(grain, (0, 0), float(random.uniform(0.4, 1.0)))
        grain = np.asarray(blurred, np.float32).reshape(grain.shape)
        grain /= max(float(grain.std()), 1e-6)
    return np.asarray(grain * np.float32(random.uniform(*GRAIN_LEVELS)), np.float32)


def _see_dark(truth: BgrImage, look: Look, random: np.random.Generator) -> FloatImage:
    sensor, exposure = _draw_sensor(random)
    if random.random() < MOSAIC_SHARE:
        dark = _darken_mosaic(truth, exposure, sensor, random)
    elif random.random() < SEPARATE_SHARE:
        planes = [np.repeat(truth[..., index : index + 1], 3, axis=2) for index in range(3)]
        dark = np.dstack([darken(plane, exposure, sensor, random)[..., 0] for plane in planes])
    else:
        dark = darken(truth, exposure, sensor, random)
    if random.random() < JPEG_SHARE:
        quality = int(random.integers(88, 99))
        dark = np.asarray(cv2.imdecode(cv2.imencode(".jpg", dark, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1), np.uint8)
    error = float(np.exp(2 * random.normal(0, look.sigma_error)))
    noise = NoiseCurve(
        error / sensor.full_well_e, error * (sensor.read_noise_e / sensor.full_well_e) ** 2, sensor.response
    )
    return brighten(dark, 1 / exposure, noise)


def _draw_sensor(random: np.random.Generator) -> tuple[Sensor, float]:
    exposure, full_well, read_noise = (
        float(np.exp(random.uniform(*np.log(span)))) for span in (EXPOSURE, FULL_WELL_E, READ_NOISE_E)
    )
    read_noise = min(read_noise, LARGEST_READ_SHARE * exposure * full_well)
    return Sensor(full_well, read_noise, "linear" if random.random() < LINEAR_SHARE else "srgb"), exposure


def _darken_mosaic(truth: BgrImage, exposure: float, sensor: Sensor, random: np.random.Generator) -> BgrImage:
    """As `darken`, but through a Bayer filter: two of three colours of each pixel are interpolated."""
    light = light_levels(sensor.response)[truth]
    mosaic = light[..., 2].copy()
    mosaic[0::2, 1::2] = light[0::2, 1::2, 1]
    mosaic[1::2, 0::2] = light[1::2, 0::2, 1]
    mosaic[1::2, 1::2] = light[1::2, 1::2, 0]
    counted = random.poisson(mosaic * exposure * sensor.full_well_e)
    counted = counted + sensor.read_noise_e * random.standard_normal(mosaic.shape, np.float32)
    samples = np.clip(counted / sensor.full_well_e * 65535, 0, 65535).astype(np.uint16)
    colours = cv2.cvtColor(samples, cv2.COLOR_BayerRGGB2BGR).astype(np.float32) / np.float32(65535)
    return np.rint(to_values(colours, sensor.response) * 255).astype(np.uint8)
