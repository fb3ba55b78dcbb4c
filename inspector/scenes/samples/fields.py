"""Random fields that real surfaces are made of: octaves of noise, grinding streaks, cells, weaves.

Every function draws from the given generator only, and returns a float32 array (H, W); `px` are pixels of it.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.scenes.light import F32, U8
from inspector.scenes.relief import grain_noise

Shape = tuple[int, int]
_SHIFT = 4


def normalized(field: NDArray[np.floating]) -> F32:
    """The field with mean 0 and deviation 1."""
    centred = field - field.mean()
    return np.asarray(centred / max(1e-6, float(centred.std())), np.float32)


def octaves(shape: Shape, dice: np.random.Generator, coarsest_px: float, slope: float = 1.0) -> F32:
    """Noise of many sizes, mean 0, deviation 1; an octave's amplitude falls as its size to the power of `slope`."""
    total = np.zeros(shape, np.float32)
    size = float(coarsest_px)
    while size >= 1.0:
        total += np.float32((size / coarsest_px) ** slope) * grain_noise(shape, dice, size)
        size /= 2.0
    return normalized(total)


def ridges(shape: Shape, dice: np.random.Generator, coarsest_px: float, slope: float = 0.8) -> F32:
    """Creases and folds: octaves of noise folded at zero, mean 0, deviation 1."""
    total = np.zeros(shape, np.float32)
    size = float(coarsest_px)
    while size >= 2.0:
        total -= np.float32((size / coarsest_px) ** slope) * np.abs(grain_noise(shape, dice, size))
        size /= 2.0
    return normalized(total)


def turned_field(field: F32, shape: Shape, angle_deg: float) -> F32:
    """A field turned around its middle and cut to `shape`; it must be as large as the diagonal of `shape`."""
    height, width = field.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle_deg, 1.0)
    matrix[:, 2] += ((shape[1] - width) / 2, (shape[0] - height) / 2)
    return np.asarray(
        cv2.warpAffine(field, matrix, (shape[1], shape[0]), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101),
        np.float32,
    )


def diagonal_of(shape: Shape) -> int:
    """The side of a square that can be turned under a window of `shape`."""
    return int(np.ceil(np.hypot(*shape))) + 4


def streaks(
    shape: Shape, dice: np.random.Generator, angle_deg: float, length_px: float, width_px: float, octave_count: int = 3
) -> F32:
    """Streaks of grinding or brushing, mean 0, deviation 1; `angle_deg` counter-clockwise from the x axis."""
    side = diagonal_of(shape)
    total = np.zeros((side, side), np.float32)
    for number in range(octave_count):
        wide, long = max(0.8, width_px * 2.0**number), max(2.0, length_px * 0.7**number)
        rows, columns = max(4, int(side / wide)), max(3, int(side / long) + 2)
        coarse = dice.standard_normal((rows, columns), np.float32)
        total += np.float32(0.75**number) * cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR)
    return normalized(turned_field(total, shape, angle_deg))


def hairlines(
    shape: Shape, dice: np.random.Generator, angle_deg: float, spread_deg: float, count: int, length_px: float
) -> F32:
    """Fine single lines of use and grinding, 0..1."""
    sheet = np.zeros(shape, np.uint8)
    for _ in range(count):
        middle = np.array([dice.uniform(0, shape[1]), dice.uniform(0, shape[0])])
        angle = np.deg2rad(angle_deg + dice.normal(0, spread_deg))
        long = dice.exponential(length_px)
        reach = np.array([np.cos(angle), -np.sin(angle)]) * long / 2
        sag = np.array([np.sin(angle), np.cos(angle)]) * dice.normal(0, 0.02) * long
        points = np.array([middle - reach, middle + sag, middle + reach]) * (1 << _SHIFT)
        value = int(dice.integers(40, 256))
        cv2.polylines(sheet, [points.astype(np.int32)], False, (value,), 1, cv2.LINE_AA, _SHIFT)
    return np.asarray(sheet.astype(np.float32) / 255.0, np.float32)


def spectrum(
    shape: Shape, dice: np.random.Generator, slope: float, stretch: float = 1.0, angle_deg: float = 0.0
) -> F32:
    """Noise with amplitude 1/f^slope, stretched along a direction, mean 0, deviation 1."""
    side = cv2.getOptimalDFTSize(max(shape))
    noise = dice.standard_normal((side, side), np.float32)
    fy = np.fft.fftfreq(side)[:, None]
    fx = np.fft.rfftfreq(side)[None, :]
    turn = np.deg2rad(angle_deg)
    along = fx * np.cos(turn) - fy * np.sin(turn)
    across = fx * np.sin(turn) + fy * np.cos(turn)
    radius = np.sqrt((along * stretch) ** 2 + across**2)
    filtered = np.fft.irfft2(np.fft.rfft2(noise) / np.maximum(radius, 1.5 / side) ** slope, s=(side, side))
    return normalized(filtered[: shape[0], : shape[1]])


def band_noise(shape: Shape, dice: np.random.Generator, period_px: float, width: float = 0.25) -> F32:
    """Noise of nearly one wavelength: grains, labyrinths, orange peel; mean 0, deviation 1."""
    fine = grain_noise(shape, dice, period_px * (0.5 - width / 2))
    blurred = cv2.GaussianBlur(fine, (0, 0), period_px * (0.4 + width / 2))
    return normalized(fine - blurred)


def cells(shape: Shape, dice: np.random.Generator, cell_px: float, disorder: float) -> tuple[F32, NDArray[np.int32]]:
    """Distance (px) to the border of the own cell, and the number of the cell, for cells around scattered seeds."""
    free = np.full(shape, 255, np.uint8)
    rows, columns = int(shape[0] / cell_px) + 2, int(shape[1] / cell_px) + 2
    grid_y, grid_x = np.mgrid[0:rows, 0:columns].astype(np.float64)
    grid_x[1::2] += 0.5
    grid_y += dice.uniform(-0.5, 0.5, grid_y.shape) * disorder
    grid_x += dice.uniform(-0.5, 0.5, grid_x.shape) * disorder
    ys = np.round(grid_y * cell_px).astype(np.int64).ravel()
    xs = np.round(grid_x * cell_px).astype(np.int64).ravel()
    inside = (ys >= 0) & (ys < shape[0]) & (xs >= 0) & (xs < shape[1])
    free[ys[inside], xs[inside]] = 0
    _, labels = cv2.distanceTransformWithLabels(free, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    numbers = np.asarray(labels, np.int32)
    border = np.zeros(shape, np.bool_)
    border[:, 1:] |= numbers[:, 1:] != numbers[:, :-1]
    border[1:, :] |= numbers[1:, :] != numbers[:-1, :]
    distance = cv2.distanceTransform(np.where(border, 0, 255).astype(np.uint8), cv2.DIST_L2, 5)
    return np.asarray(distance, np.float32), numbers


def per_cell(numbers: NDArray[np.int32], dice: np.random.Generator) -> F32:
    """A random value, mean 0 and deviation 1, for every cell."""
    values = dice.standard_normal(int(numbers.max()) + 1).astype(np.float32)
    return np.asarray(values[numbers], np.float32)


def spots(shape: Shape, dice: np.random.Generator, count: int, radius_px: float, spread: float = 0.6) -> F32:
    """Scattered soft-edged specks, 0..1; radii are log-normal around `radius_px`."""
    sheet = np.zeros(shape, np.uint8)
    for _ in range(count):
        centre = (int(dice.uniform(0, shape[1]) * 16), int(dice.uniform(0, shape[0]) * 16))
        radius = max(8, int(16 * radius_px * np.exp(dice.normal(0, spread))))
        axes = (radius, max(8, int(radius * dice.uniform(0.5, 1.0))))
        value = int(dice.integers(90, 256))
        cv2.ellipse(sheet, centre, axes, float(dice.uniform(0, 180)), 0, 360, (value,), -1, cv2.LINE_AA, _SHIFT)
    return np.asarray(sheet.astype(np.float32) / 255.0, np.float32)


def warped(field: F32, dice: np.random.Generator, cell_px: float, reach_px: float) -> F32:
    """The field with its places moved smoothly by up to about `reach_px`."""
    ys, xs = np.mgrid[0 : field.shape[0], 0 : field.shape[1]].astype(np.float32)
    moves = [np.float32(reach_px) * grain_noise(field.shape, dice, cell_px) for _ in range(2)]
    moved = cv2.remap(field, xs + moves[0], ys + moves[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(moved, np.float32)


def text_sheet(shape: Shape) -> U8:
    """An empty sheet to print on, 0..255."""
    return np.zeros(shape, np.uint8)
