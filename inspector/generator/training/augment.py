"""What differs between two photographs of the same part, applied to small crops: (S, S, 3) uint8 BGR."""

from __future__ import annotations

import cv2
import numpy as np

from inspector.records import BgrImage


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
