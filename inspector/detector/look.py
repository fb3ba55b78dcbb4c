"""What a detection looks like, as numbers: contrast, colour, shape, texture, size and place.

Every detection is seen through two windows around the middle of its box, `NEAR_CELLS` and `WIDE_CELLS` cells of the
anomaly map wide, so that they show as much of the part whatever the frame's resolution. Light enters as its logarithm
relative to the surroundings in the window: the exposure drops out. Where the frame is registered to the recipe's golden
image, what differs from that image is described in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.geometry.registration import Matrix, compose, invert, scaling
from inspector.records import BgrImage, Detection

Floats: TypeAlias = NDArray[np.float32]
Patches: TypeAlias = NDArray[np.uint8]

WIDE_CELLS, NEAR_CELLS = 12, 6
PATCH_PX = 48
SIDE_PX = 24
"""Windows as described: the middle half of a patch, and all of it halved."""
DARKEST = 8.0
"""Added to light of 0..255 before its logarithm: below, noise would count as contrast."""
LEAST_NOISE = 0.02
BANDS = ((0.03, 0.07), (0.07, 0.13), (0.13, 0.23), (0.23, 0.36), (0.36, 0.72))
"""Rings of spatial frequency, in cycles per pixel of a window."""
FEATURES = 2 * 42 + 2 + 8
"""Of two windows, of colour and of the box."""


@dataclass(frozen=True, slots=True)
class GoldenView:
    """The golden image, reduced by `reduction`, and where it lies: `matrix` maps it, at full size, to the frame."""

    pixels: BgrImage
    reduction: int
    matrix: Matrix


@dataclass(frozen=True, slots=True)
class _Plan:
    """Weights of a window of `SIDE_PX`, made once."""

    moments: Floats
    middle: Floats
    surround: NDArray[np.int64]
    zones: Floats
    taper: Floats
    bands: Floats
    turned: Floats


def _plan() -> _Plan:
    centre = (SIDE_PX - 1) / 2.0
    ys, xs = np.mgrid[0:SIDE_PX, 0:SIDE_PX].astype(np.float32) - np.float32(centre)
    radius = np.hypot(ys, xs) / np.float32(SIDE_PX / 2.0)
    middle = np.exp(-((radius / np.float32(0.56)) ** 2))
    middle /= middle.sum()
    limits = ((0.0, 0.38), (0.38, 0.7), (0.7, 2.0))
    zones = np.stack([(radius >= low) & (radius < high) for low, high in limits]).astype(np.float32)
    down, across = np.fft.fftfreq(SIDE_PX)[:, None], np.fft.rfftfreq(SIDE_PX)[None]
    frequency, angle = np.hypot(down, across), np.arctan2(down, across)
    bands = np.stack([(frequency >= low) & (frequency < high) for low, high in BANDS]).astype(np.float32)
    turned = np.concatenate([bands * np.cos(2 * angle), bands * np.sin(2 * angle)])
    taper = np.outer(np.hanning(SIDE_PX), np.hanning(SIDE_PX))
    return _Plan(
        moments=np.stack([middle * part for part in (1.0, xs, ys, xs * xs, ys * ys, xs * ys)], axis=-1).reshape(-1, 6),
        middle=middle.ravel(),
        surround=np.flatnonzero(radius > 0.7),
        zones=(zones / zones.sum(axis=(1, 2), keepdims=True)).reshape(3, -1).T.astype(np.float32),
        taper=taper.astype(np.float32),
        bands=bands.reshape(len(BANDS), -1).T.astype(np.float32),
        turned=turned.reshape(2 * len(BANDS), -1).T.astype(np.float32),
    )


PLAN = _plan()


def describe_looks(
    pixels: BgrImage, detections: Sequence[Detection], cell_px: int, golden: GoldenView | None = None
) -> Floats:
    """(N, `FEATURES`) float32 for N detections, at least one, in (H, W, 3) uint8 BGR.

    With `golden` the light and colours are the differences from it: what was learned with must be named with.
    """
    patches = np.stack([_cut_patch(pixels, detection, cell_px) for detection in detections])
    light, colours = _log_light(patches), _describe_colours(patches)
    if golden is not None:
        laid = _lay_golden(golden, detections, cell_px)
        light, colours = light - _log_light(laid), colours - _describe_colours(laid)
    places = _describe_places(detections, cell_px, (pixels.shape[1], pixels.shape[0]))
    return np.concatenate([_describe_windows(light), colours, places], axis=1).astype(np.float32)


def _cut_patch(pixels: BgrImage, detection: Detection, cell_px: int) -> Patches:
    """(`PATCH_PX`, `PATCH_PX`, 3) of `WIDE_CELLS` cells around a detection's middle, mirrored outside the frame."""
    height, width = pixels.shape[:2]
    half = WIDE_CELLS * cell_px // 2
    x, y = _middle(detection)
    left, top, right, bottom = max(0, x - half), max(0, y - half), min(width, x + half), min(height, y + half)
    inside = pixels[top:bottom, left:right]
    rims = (top - (y - half), y + half - bottom, left - (x - half), x + half - right)
    if any(rims):
        mirrored = max(rims[:2]) < inside.shape[0] and max(rims[2:]) < inside.shape[1]
        border = cv2.BORDER_REFLECT_101 if mirrored else cv2.BORDER_REPLICATE
        inside = np.asarray(cv2.copyMakeBorder(inside, *rims, border), np.uint8)
    return np.asarray(cv2.resize(inside, (PATCH_PX, PATCH_PX), interpolation=cv2.INTER_AREA), np.uint8)


def _lay_golden(golden: GoldenView, detections: Sequence[Detection], cell_px: int) -> Patches:
    """The golden image where each patch was cut."""
    to_golden = compose(scaling(1.0 / golden.reduction), invert(golden.matrix))
    half, step = WIDE_CELLS * cell_px // 2, WIDE_CELLS * cell_px / PATCH_PX
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = []
    for detection in detections:
        x, y = _middle(detection)
        # Pixel centres lie on whole numbers: the first of a patch is half a step inside its corner.
        first = np.array([x - half, y - half]) + (step - 1.0) / 2.0
        matrix = np.column_stack([to_golden[:, :2] * step, to_golden[:, :2] @ first + to_golden[:, 2]])
        laid.append(
            cv2.warpAffine(golden.pixels, matrix, (PATCH_PX, PATCH_PX), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
        )
    return np.asarray(np.stack(laid), np.uint8)


def _middle(detection: Detection) -> tuple[int, int]:
    x0, y0, x1, y1 = detection.box_xyxy_px
    return (x0 + x1) // 2, (y0 + y1) // 2


def _log_light(patches: Patches) -> Floats:
    """(N, `PATCH_PX`, `PATCH_PX`) logarithm of the mean of the colours."""
    mean = cv2.transform(patches.reshape(-1, PATCH_PX, 3).astype(np.float32), np.full((1, 3), 1 / 3, np.float32))
    return np.asarray(np.log(mean.reshape(-1, PATCH_PX, PATCH_PX) + np.float32(DARKEST)), np.float32)


def _describe_windows(light: Floats) -> Floats:
    """Both windows of (N, `PATCH_PX`, `PATCH_PX`) light, or difference of light."""
    count, rim = len(light), (PATCH_PX - SIDE_PX) // 2
    near = light[:, rim : rim + SIDE_PX, rim : rim + SIDE_PX]
    rows = light[:, ::2] + light[:, 1::2]
    wide = (rows[:, :, ::2] + rows[:, :, 1::2]) / np.float32(4.0)
    described = _describe_light(np.concatenate([near, wide]))
    return np.concatenate([described[:count], described[count:]], axis=1)


def _describe_light(light: Floats) -> Floats:
    """Contrast, shape and texture of (N, `SIDE_PX`, `SIDE_PX`) windows."""
    around = np.sort(light.reshape(len(light), -1)[:, PLAN.surround], axis=1)
    sixth = around.shape[1] // 6
    noise = (around[:, -sixth] - around[:, sixth]) / 2.0 + np.float32(LEAST_NOISE)
    contrast = light - around[:, around.shape[1] // 2, None, None]
    return np.concatenate(
        [
            _describe_contrast(contrast, noise),
            _describe_shape(contrast / noise[:, None, None]),
            _describe_texture(light),
            _describe_slopes(light),
        ],
        axis=1,
    )


def _describe_contrast(contrast: Floats, noise: Floats) -> Floats:
    """Mean and ranks of the middle's contrast, and the mean in units of the surroundings' noise."""
    mean = contrast.reshape(len(contrast), -1) @ PLAN.middle
    quarter = SIDE_PX // 3
    inner = np.sort(contrast[:, quarter:-quarter, quarter:-quarter].reshape(len(contrast), -1), axis=1)
    ranks = inner[:, [round(share * (inner.shape[1] - 1)) for share in (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)]]
    relative = mean / noise
    scales = np.stack([mean, np.log(noise), np.sign(relative) * np.log1p(np.abs(relative))], axis=1)
    return np.concatenate([scales, ranks], axis=1)


def _describe_shape(deviation: Floats) -> Floats:
    """Of what is lighter, and of what is darker, than the noise: how much, how far spread, how long, and which way."""
    described = []
    for side in (deviation, -deviation):
        moments = np.clip(side - np.float32(1.0), 0.0, 6.0).reshape(len(side), -1) @ PLAN.moments
        total = moments[:, 0] + np.float32(1e-6)
        x, y, xx, yy, xy = (moments[:, 1:] / total[:, None]).T
        xx, yy, xy = xx - x * x, yy - y * y, xy - x * y
        spread = xx + yy + 1.0
        described += [
            np.log(total + 1e-3),
            np.log(spread),
            np.hypot(xx - yy, 2 * xy) / spread,
            (xx - yy) / spread,
        ]
    return np.stack(described, axis=1)


def _describe_texture(light: Floats) -> Floats:
    """Energy by spatial frequency; how much of it lies along one direction, and along the frame's axes."""
    level = light.reshape(len(light), -1).mean(axis=1)[:, None, None]
    energy = (np.abs(np.fft.rfft2((light - level) * PLAN.taper)) ** 2).reshape(len(light), -1).astype(np.float32)
    bands, turned = energy @ PLAN.bands + np.float32(1e-3), energy @ PLAN.turned
    along, diagonal = turned[:, : len(BANDS)] / bands, turned[:, len(BANDS) :] / bands
    return np.concatenate([np.log(bands), along, np.hypot(along, diagonal)], axis=1)


def _describe_slopes(light: Floats) -> Floats:
    """Energy and direction of the slopes in the middle, around it and outside: as histograms of slopes, but even."""
    x, y = np.zeros_like(light), np.zeros_like(light)
    x[:, :, 1:-1] = light[:, :, 2:] - light[:, :, :-2]
    y[:, 1:-1] = light[:, 2:] - light[:, :-2]
    planes = (part.reshape(len(light), -1) @ PLAN.zones for part in (x * x + y * y, x * x - y * y, 2 * x * y))
    energy, along, diagonal = planes
    energy = energy + np.float32(1e-5)
    return np.concatenate([np.log(energy), along / energy, np.hypot(along, diagonal) / energy], axis=1)


def _describe_colours(patches: Patches) -> Floats:
    """(N, 2): how much bluer and redder the middle is than the surroundings, as tenths of all light."""
    rim = (PATCH_PX - SIDE_PX) // 2
    window = patches[:, rim : rim + SIDE_PX, rim : rim + SIDE_PX].astype(np.float32).reshape(len(patches), -1, 3)
    colours = window.transpose(0, 2, 1).copy()
    total = colours[:, 0] + colours[:, 1] + colours[:, 2] + np.float32(3 * DARKEST)
    described = []
    for colour in (0, 2):
        share = colours[:, colour] / total
        described.append(10.0 * (share @ PLAN.middle - share[:, PLAN.surround].mean(axis=1)))
    return np.stack(described, axis=1)


def _describe_places(detections: Sequence[Detection], cell_px: int, size: tuple[int, int]) -> Floats:
    """Size, shape and fill of the boxes, the score, and how near the frame's edges they are."""
    edges = np.array([detection.box_xyxy_px for detection in detections], np.float32)
    areas = np.array([max(1, detection.area_px) for detection in detections], np.float32)
    scores = np.array([detection.score for detection in detections], np.float32)
    width, height = (edges[:, 2] - edges[:, 0]) / cell_px, (edges[:, 3] - edges[:, 1]) / cell_px
    slender = np.log(width / height)
    beside = np.minimum(edges[:, 0], size[0] - edges[:, 2]) / (WIDE_CELLS * cell_px)
    above = np.minimum(edges[:, 1], size[1] - edges[:, 3]) / (WIDE_CELLS * cell_px)
    columns = [
        np.log(width),
        np.log(height),
        slender,
        np.abs(slender),
        np.log(areas / (width * height * cell_px**2)),
        np.log(np.maximum(scores, 0.0) + 0.1),
        np.exp(-np.maximum(beside, 0.0)),
        np.exp(-np.maximum(above, 0.0)),
    ]
    return np.stack(columns, axis=1)
