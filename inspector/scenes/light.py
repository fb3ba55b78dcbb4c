"""Light of the station: a large soft box from the upper left over a diffuse dome.

Everything static is shaded once, in linear light, from a height map: Lambert for the diffuse part, a
lookup by surface normal ("lit sphere", Sloan et al. 2001) for what metal and gloss reflect, cast
shadows by marching towards the light. Results leave this file tone-mapped as uint8.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

F32: TypeAlias = NDArray[np.float32]
U8: TypeAlias = NDArray[np.uint8]

_KEY_X, _KEY_Y, _KEY_Z = -0.46, -0.52, 0.72
KEY_DIRECTION = (_KEY_X, _KEY_Y, _KEY_Z)
"""Unit vector towards the key light; x to the right, y down, z towards the camera."""

KEY_COLOUR_BGR = np.array([0.97, 1.0, 1.02], np.float32) * 0.92
DOME_COLOUR_BGR = np.array([1.06, 1.0, 0.95], np.float32) * 0.48
SHOULDER = 1.55
GAMMA = 2.2
_SPHERE_PX = 256
_EXPOSE_STEPS = 8192
_STRIP_ROWS = 96


def linear(hex_colour: str) -> F32:
    """A colour as people write it, "#rrggbb", in linear BGR 0..1, float32 (3,)."""
    red, green, blue = (int(hex_colour[i : i + 2], 16) / 255.0 for i in (1, 3, 5))
    return np.array([blue**GAMMA, green**GAMMA, red**GAMMA], np.float32)


def expose(light: F32) -> U8:
    """Linear light, 0..∞, as uint8 with a soft shoulder, so that highlights roll off as on a sensor."""
    steps = np.minimum(light * _EXPOSE_STEPS, 4.0 * _EXPOSE_STEPS - 1).astype(np.uint16)
    return np.asarray(_exposure_curve()[steps], np.uint8)


@lru_cache(maxsize=1)
def _exposure_curve() -> U8:
    value = np.arange(4 * _EXPOSE_STEPS) / _EXPOSE_STEPS
    return np.asarray(np.round(255.0 * (1.0 - np.exp(-SHOULDER * value)) ** (1.0 / GAMMA)), np.uint8)


def factor_to_u8(factor: F32) -> U8:
    """A factor 0..1 on linear light as the factor on exposed values, 0..255."""
    return np.asarray(np.round(255.0 * np.clip(factor, 0.0, 1.0) ** (1.0 / GAMMA)), np.uint8)


def slopes(height_mm: F32, px_per_mm: float) -> tuple[F32, F32]:
    """dz/dx and dz/dy of a height map, unitless."""
    scale = px_per_mm / 8.0
    dx = cv2.Sobel(height_mm, cv2.CV_32F, 1, 0, ksize=3, scale=scale, borderType=cv2.BORDER_REPLICATE)
    dy = cv2.Sobel(height_mm, cv2.CV_32F, 0, 1, ksize=3, scale=scale, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(dx, np.float32), np.asarray(dy, np.float32)


def cast_shadow(height_mm: F32, px_per_mm: float, *, soft_mm: float = 0.12, grid_px_per_mm: float = 12.0) -> F32:
    """Share of the key light that reaches each point, 0..1, of the shape of the height map.

    Marches from each point towards the light, on a grid of at most `grid_px_per_mm`; a penumbra
    grows with the distance to the edge that throws the shadow.
    """
    tallest = float(height_mm.max() - height_mm.min())
    if tallest <= 0.02:
        return np.ones_like(height_mm)
    rows, columns = height_mm.shape
    shrink = max(1.0, px_per_mm / grid_px_per_mm)
    size = (max(1, round(columns / shrink)), max(1, round(rows / shrink)))
    ground = cv2.resize(height_mm, size, interpolation=cv2.INTER_AREA)
    scale = px_per_mm * size[0] / columns
    run = (_KEY_X / _KEY_Z * scale, _KEY_Y / _KEY_Z * scale)
    lit = np.ones_like(ground)
    steps = int(np.clip(tallest * scale / 2.0, 6, 40))
    for rise in np.linspace(tallest / steps, tallest, steps):
        move = np.array([[1.0, 0.0, -run[0] * rise], [0.0, 1.0, -run[1] * rise]])
        blocker = cv2.warpAffine(ground, move, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        penumbra = soft_mm + 0.35 * rise
        lit = np.minimum(lit, np.clip(1.0 - (blocker - ground - rise) / penumbra, 0.0, 1.0))
    lit = cv2.GaussianBlur(lit, (0, 0), max(0.6, 0.5 * soft_mm * scale))
    return np.asarray(cv2.resize(lit, (columns, rows), interpolation=cv2.INTER_LINEAR), np.float32)


def ambient_occlusion(height_mm: F32, px_per_mm: float) -> F32:
    """Share of the dome that each point sees, 0..1, from how much higher its surroundings are."""
    open_sky = np.ones_like(height_mm)
    for reach_mm, weight in ((0.25, 0.9), (0.9, 0.7)):
        around = _wide_blur(height_mm, reach_mm * px_per_mm)
        open_sky *= np.exp(-weight * np.clip((around - height_mm) / reach_mm, 0.0, 2.0))
    return open_sky


def shade(albedo: F32, height_mm: F32, metal: F32, gloss: F32, px_per_mm: float, lit: F32, sky: F32) -> U8:
    """Exposed picture (H, W, 3) uint8 BGR of a surface seen from above.

    `albedo` (3, H, W) linear BGR planes; `metal` and `gloss` (H, W) 0..1: metal reflects the surroundings in
    its own colour, gloss adds a clear coat. `lit` and `sky` are the shares of key light and dome.
    """
    rows, columns = height_mm.shape
    picture = np.empty((rows, columns, 3), np.uint8)
    for top in range(0, rows, _STRIP_ROWS):
        bottom = min(rows, top + _STRIP_ROWS)
        first, last = max(0, top - 1), min(rows, bottom + 1)
        dx, dy = (slope[top - first :][: bottom - top] for slope in slopes(height_mm[first:last], px_per_mm))
        strip = slice(top, bottom)
        materials = (metal[strip], gloss[strip], lit[strip], sky[strip])
        picture[strip] = _shade_strip(albedo[:, strip], dx, dy, *materials)
    return picture


def _shade_strip(albedo: F32, dx: F32, dy: F32, metal: F32, gloss: F32, lit: F32, sky: F32) -> U8:
    up = 1.0 / np.sqrt(1.0 + dx * dx + dy * dy)
    normal_x, normal_y = np.asarray(-dx * up, np.float32), np.asarray(-dy * up, np.float32)
    key = np.maximum(normal_x * _KEY_X + normal_y * _KEY_Y + up * _KEY_Z, 0.0) * lit
    dome = sky * (0.55 + 0.45 * up)
    seen = 0.35 + 0.65 * lit * sky
    mirrored = reflect(normal_x, normal_y, 0.10) * seen
    metallic = metal * (0.55 * mirrored + 0.45 * seen * reflect(normal_x, normal_y, 0.35))
    dull = 1.0 - metal
    coat = mirrored * gloss * (0.035 + 0.5 * (1.0 - up) ** 3) * dull
    planes = []
    for colour, key_tint, dome_tint in zip(albedo, KEY_COLOUR_BGR, DOME_COLOUR_BGR, strict=True):
        light = dull * (key * float(key_tint) + dome * float(dome_tint)) + metallic
        planes.append(expose(colour * light + coat))
    return np.asarray(cv2.merge(planes), np.uint8)


def reflect(normal_x: F32, normal_y: F32, roughness: float) -> F32:
    """Light (H, W) that a mirror of this normal sends to the camera, blurred by `roughness`."""
    scale = _SPHERE_PX / 2.0 - 1.0
    sphere = _lit_sphere(roughness)
    return np.asarray(
        cv2.remap(sphere, normal_x * scale + scale, normal_y * scale + scale, cv2.INTER_LINEAR), np.float32
    )


@lru_cache(maxsize=4)
def _lit_sphere(roughness: float) -> F32:
    """What a sphere shows of the surroundings, (256, 256), indexed by normal x and y."""
    axis = np.linspace(-1.0, 1.0, _SPHERE_PX, dtype=np.float32)
    nx, ny = np.meshgrid(axis, axis)
    nz = np.sqrt(np.maximum(0.0, 1.0 - nx * nx - ny * ny))
    rx, ry, rz = 2 * nz * nx, 2 * nz * ny, 2 * nz * nz - 1
    spread = 1.0 + 2.0 * roughness

    def source(x: float, y: float, wide: float) -> F32:
        return np.asarray(np.exp(-(((rx - x) ** 2 + (ry - y) ** 2) / (2 * (wide * spread) ** 2))), np.float32)

    room = 0.10 + 0.34 * np.clip(rz, 0, 1) ** 2 - 0.08 * ry
    box = 2.1 * source(-0.42, -0.48, 0.30) + 0.55 * source(0.66, 0.12, 0.20) + 0.35 * source(0.05, 0.75, 0.22)
    camera_hole = -0.16 * source(0.0, 0.0, 0.10)
    horizon = np.clip((rz + 0.35) / 0.5, 0.18, 1.0)
    grey = np.maximum(0.03, (room + box + camera_hole) * horizon)
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), 1.0 + 40.0 * roughness), np.float32)


def _wide_blur(values: F32, sigma_px: float) -> F32:
    """Gaussian blur whose cost does not grow with the radius: reduced first when it is wide."""
    shrink = max(1, int(sigma_px / 3.0))
    if shrink == 1:
        return np.asarray(cv2.GaussianBlur(values, (0, 0), max(0.3, sigma_px)), np.float32)
    height, width = values.shape
    small = cv2.resize(values, (max(1, width // shrink), max(1, height // shrink)), interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(small, (0, 0), sigma_px / shrink)
    return np.asarray(cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
