"""The station around the part: conveyor belt, uneven light, sensor noise."""

from __future__ import annotations

import cv2
import numpy as np

from inspector.scenes import light
from inspector.scenes.light import F32, U8, linear
from inspector.scenes.relief import grain_noise

BELT_LENGTH = 1.3
"""Length of the belt's picture in frame widths; parts see different stretches of it."""
NOISE_LEVEL = 1.7
NOISE_ROOM_PX = 128
_GAIN_ONE = 200
_NOISE_TILE_PX = 1000


def draw_belt(width_px: int, height_px: int, px_scale: float) -> U8:
    """A worn conveyor belt of coated fabric, (H, `BELT_LENGTH` * W, 3) uint8 BGR; the same every time.

    It lies below the plane of focus: drawn at half the resolution.
    """
    rng = np.random.default_rng(31)
    full, scale = (height_px, int(width_px * BELT_LENGTH)), px_scale / 2
    shape = (-(-full[0] // 2), -(-full[1] // 2))
    pitch = 15.0 * scale
    x = np.arange(shape[1], dtype=np.float32) * np.float32(2 * np.pi / pitch)
    y = np.arange(shape[0], dtype=np.float32)[:, None] * np.float32(2 * np.pi / pitch)
    weave = np.sin(x + y) * np.sin(x - y)
    fine = grain_noise(shape, rng, 2.0 * scale)
    height = 0.020 * weave + 0.007 * fine + 0.02 * grain_noise(shape, rng, 40 * scale)
    dx, dy = light.slopes(np.asarray(height, np.float32), 32.0 * scale)
    tilt = -light.KEY_DIRECTION[0] * dx - light.KEY_DIRECTION[1] * dy
    wear = 0.10 * grain_noise(shape, rng, 220 * scale) + 0.05 * grain_noise(shape, rng, 25 * scale)
    brightness = np.maximum(0.2, 1.0 + 0.9 * tilt + wear + _scuffs(shape, rng, scale) - _dirt(shape, rng, scale))
    picture = cv2.merge(
        [light.expose(np.asarray(brightness * float(part), np.float32)) for part in linear("#34393b") * np.float32(0.9)]
    )
    return np.asarray(cv2.resize(picture, full[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def _scuffs(shape: tuple[int, int], rng: np.random.Generator, px_scale: float) -> F32:
    """Bright scratches along the direction of travel."""
    sheet = np.zeros(shape, np.uint8)
    for _ in range(90):
        x, y = float(rng.uniform(0, shape[1])), float(rng.uniform(0, shape[0]))
        length = float(rng.exponential(260)) * px_scale
        sag = float(rng.normal(0, 6)) * px_scale
        points = np.array([(x, y), (x + length / 2, y + sag), (x + length, y + sag / 3)]) * 16
        cv2.polylines(sheet, [points.astype(np.int32)], False, (int(rng.integers(30, 130)),), 1, cv2.LINE_AA, 4)
    return np.asarray(cv2.GaussianBlur(sheet, (0, 0), max(0.5, 0.9 * px_scale)).astype(np.float32) / 255.0, np.float32)


def _dirt(shape: tuple[int, int], rng: np.random.Generator, px_scale: float) -> F32:
    """Dark spots and crumbs."""
    sheet = np.zeros(shape, np.uint8)
    for _ in range(420):
        centre = (int(rng.uniform(0, shape[1])), int(rng.uniform(0, shape[0])))
        radius = max(1, round(float(rng.gamma(1.6, 2.6)) * px_scale))
        axes = (radius, max(1, int(radius * rng.uniform(0.4, 1.0))))
        cv2.ellipse(sheet, centre, axes, float(rng.uniform(0, 180)), 0, 360, (int(rng.integers(40, 190)),), -1)
    soft = cv2.GaussianBlur(sheet, (0, 0), max(0.5, 1.6 * px_scale)).astype(np.float32) / 255.0
    return np.asarray(0.7 * soft, np.float32)


def draw_gain(width_px: int, height_px: int, gains_bgr: tuple[float, float, float]) -> U8:
    """Vignetting, the fall-off of the light from the upper left and the white balance, (H, W, 3) uint8.

    Multiply a frame by it and divide by `GAIN_ONE`.
    """
    small = (max(2, height_px // 16), max(2, width_px // 16))
    y, x = np.mgrid[-1.0 : 1.0 : small[0] * 1j, -1.0 : 1.0 : small[1] * 1j]
    vignette = 1.0 - 0.13 * (x * x * 0.75 + y * y * 0.35) - 0.02 * (x * x + y * y) ** 2
    fall_off = 1.0 - 0.055 * x - 0.05 * y
    glow = 0.09 * np.exp(-((x + 0.35) ** 2 / 0.30 + (y + 0.45) ** 2 / 0.45))
    gain = (vignette * fall_off + glow) * 0.98
    planes = [np.clip(gain * part * _GAIN_ONE, 0, 255).astype(np.float32) for part in gains_bgr]
    full = cv2.resize(cv2.merge(planes), (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.round(full), np.uint8)


def apply_gain(frame: U8, gain: U8, exposure: float) -> U8:
    """Light the frame."""
    return np.asarray(cv2.multiply(frame, gain, scale=exposure / _GAIN_ONE), np.uint8)


def draw_noise(width_px: int, height_px: int, seed: int) -> U8:
    """Sensor noise around 128, larger than the frame by `NOISE_ROOM_PX`, (H, W, 3) uint8.

    Photon noise grows with the root of the light; after the tone curve it is about even, so one field
    of constant deviation stands for shot and read noise. Demosaicing correlates neighbours. One tile
    is repeated: nobody sees it, and it costs a tenth.
    """
    rng = np.random.default_rng([seed, 77])
    side = min(_NOISE_TILE_PX, max(height_px, width_px) + NOISE_ROOM_PX)
    luma = rng.standard_normal((side, side), np.float32) * np.float32(NOISE_LEVEL)
    coarse = rng.standard_normal((side // 2, side // 2, 3), np.float32) * np.float32(0.75 * NOISE_LEVEL)
    planes = [plane + luma + 128.0 for plane in cv2.split(cv2.resize(coarse, (side, side)))]
    tile = np.asarray(np.round(np.clip(cv2.merge(planes), 0, 255)), np.uint8)
    rows, columns = height_px + NOISE_ROOM_PX, width_px + NOISE_ROOM_PX
    repeated = np.tile(tile, (-(-rows // side), -(-columns // side), 1))
    return np.ascontiguousarray(repeated[:rows, :columns])


def add_noise(frame: U8, noise: U8, offset: tuple[float, float]) -> U8:
    """The frame with the stretch of the noise field at `offset` (0..1 each)."""
    top, left = int(offset[0] * NOISE_ROOM_PX), int(offset[1] * NOISE_ROOM_PX)
    window = noise[top : top + frame.shape[0], left : left + frame.shape[1]]
    return np.asarray(cv2.addWeighted(frame, 1.0, window, 1.0, -128.0), np.uint8)
