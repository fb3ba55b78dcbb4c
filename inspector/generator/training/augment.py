"""What differs between two photographs of the same part, applied to small crops: (S, S, 3) uint8 BGR."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.records import BgrImage


def turn_together(
    rng: np.random.Generator, images: list[BgrImage], hole: NDArray[np.bool_]
) -> tuple[list[BgrImage], NDArray[np.bool_]]:
    """The same mirroring, quarter turn, channel order and tone curve for all; `hole` (S, S) turns along."""
    turns, mirror, order = int(rng.integers(0, 4)), bool(rng.integers(0, 2)), rng.permutation(3)
    grey, gamma = rng.random() < 0.2, float(np.exp(rng.normal(0.0, 0.25)))
    low, high = rng.uniform(0.0, 0.15), rng.uniform(0.8, 1.0)
    levels = (np.arange(256) / 255.0) ** gamma * (high - low) + low
    curve = np.clip(np.rint(levels * 255.0), 0, 255).astype(np.uint8)
    turned = []
    for image in images:
        changed = np.rot90(image[:, ::-1] if mirror else image, turns)[..., order]
        if grey:
            changed = np.repeat(cv2.cvtColor(np.ascontiguousarray(changed), cv2.COLOR_BGR2GRAY)[..., None], 3, axis=2)
        turned.append(np.ascontiguousarray(curve[changed]))
    return turned, np.ascontiguousarray(np.rot90(hole[:, ::-1] if mirror else hole, turns))


def move_a_little(rng: np.random.Generator, image: BgrImage, shift_px: float, turn_deg: float) -> BgrImage:
    """Registration that is off by up to `shift_px` and `turn_deg`."""
    height, width = image.shape[:2]
    turn, scale = float(rng.uniform(-turn_deg, turn_deg)), float(1.0 + rng.uniform(-0.004, 0.004))
    matrix = np.array(cv2.getRotationMatrix2D((width / 2, height / 2), turn, scale), np.float64)
    matrix[:, 2] += rng.uniform(-shift_px, shift_px, 2)
    moved = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(moved, np.uint8)


def relight(rng: np.random.Generator, image: BgrImage, strength: float) -> BgrImage:
    """Another light: gain, a smooth field across the crop, a tint, sensor noise, sometimes blur and JPEG."""
    height, width = image.shape[:2]
    coarse = rng.normal(0.0, 0.5 * strength, (3, 3, 1)) + rng.normal(0.0, 0.1 * strength, (1, 1, 3))
    gain = np.exp(coarse + rng.normal(0.0, 0.5 * strength)).astype(np.float32)
    lit = image.astype(np.float32) * cv2.resize(gain, (width, height), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.2:
        lit = np.asarray(cv2.GaussianBlur(lit, (0, 0), float(rng.uniform(0.3, 0.9))), np.float32)
    noise = float(rng.uniform(0.0, 3.0)) if rng.random() < 0.3 else 0.0
    if noise:
        lit = lit + rng.standard_normal(lit.shape, dtype=np.float32) * np.float32(noise)
    pixels = np.clip(np.rint(lit), 0, 255).astype(np.uint8)
    return press(pixels, int(rng.integers(70, 96))) if rng.random() < 0.15 else pixels


def press(pixels: BgrImage, quality: int) -> BgrImage:
    """The pixels after JPEG at `quality`."""
    encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)


def cut_square(image: NDArray[np.uint8], left: int, top: int, cut: int, side: int) -> BgrImage:
    """A square of `cut` px, resized to `side` px."""
    square = np.ascontiguousarray(image[top : top + cut, left : left + cut])
    if cut == side:
        return square
    way = cv2.INTER_AREA if cut > side else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(square, (side, side), interpolation=way), np.uint8)
