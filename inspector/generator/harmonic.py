"""Values known around a hole, carried into it as smoothly as can be: the membrane that the known values hold.

Discrete Laplace equation, coarse to fine: averages are pulled up a pyramid and pushed down again (Gortler et al.,
1996), and at each level the membrane is relaxed a few times (Jacobi), which is enough where the start is that good.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.records import BoxPx

FloatImage = NDArray[np.float32]
RELAXATIONS = 6
MARGIN_CELLS = 8
"""At each level so many cells around the hole are enough: the membrane is held by the nearest known ones."""
FADE_PX = 10.0
"""What a base is off by at the rim of a hole is carried into it about so far."""
_NEIGHBOURS = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]], np.float32) / 4.0


@dataclass(frozen=True, slots=True)
class _Level:
    """`values` (h, w, 3), 0 where `unknown` (h, w) is 1; it lies at `box` of the level below, reduced by half."""

    values: FloatImage
    unknown: NDArray[np.uint8]
    box: BoxPx


def extend_smoothly(values: FloatImage, known: NDArray[np.bool_], otherwise: float = 0.0) -> FloatImage:
    """(h, w, 3) float32: `values` where `known` (h, w), the membrane elsewhere; `otherwise` where nothing is known."""
    if not known.any():
        return np.full(values.shape, otherwise, np.float32)
    result = np.array(values, np.float32)
    unknown = (~known).astype(np.uint8)
    if not unknown.any():
        return result
    box = _around(unknown, 1)
    x0, y0, x1, y1 = box
    unknown = np.ascontiguousarray(unknown[y0:y1, x0:x1])
    start = result[y0:y1, x0:x1] * (1 - unknown[..., None]).astype(np.float32)
    levels = [_Level(np.asarray(start, np.float32), unknown, box)]
    while levels[-1].unknown.any():
        levels.append(_reduce(levels[-1]))
    filled = levels[-1].values
    for above, level in zip(reversed(levels), reversed(levels[:-1]), strict=False):
        filled = _fill_level(level, filled, above.box)
    result[y0:y1, x0:x1] = filled
    return result


def carry_in(frame: FloatImage, base: FloatImage, hole: NDArray[np.bool_]) -> FloatImage:
    """The base with what it is off by around the `hole` carried into it, fading: (h, w, 3) float32."""
    return np.asarray(base + carry(frame - base, hole), np.float32)


def carry(misfit: FloatImage, hole: NDArray[np.bool_], level: int = 0) -> FloatImage:
    """The `misfit` (h, w, 3) float32 of a base around the `hole`, carried into it and fading; 0 outside of it.

    As in seamless cloning (Perez et al., 2003), but deep inside the base alone is right. One pixel given is
    2 ** level pixels of the frame.
    """
    depth = cv2.distanceTransform(hole.view(np.uint8), cv2.DIST_L2, 3)
    # The middle of the outermost cell lies half a cell deep, as does that of the outermost pixel.
    fade, start = np.float32(FADE_PX / 2**level), np.float32(0.5 - 0.5 / 2**level)
    share = np.where(hole, np.exp((start - depth) / fade), np.float32(0.0))
    return np.asarray(share[..., None] * extend_smoothly(misfit, ~hole), np.float32)


def _reduce(level: _Level) -> _Level:
    """Half of the part of a level around its hole. A cell of which anything is known is known.

    Otherwise narrow rings would fade out within two levels.
    """
    x0, y0, x1, y1 = box = _around(level.unknown, 2)
    unknown, values = level.unknown[y0:y1, x0:x1], level.values[y0:y1, x0:x1]
    border = (0, (y0 - y1) % 2, 0, (x0 - x1) % 2, cv2.BORDER_CONSTANT)
    unknown = np.asarray(cv2.copyMakeBorder(unknown, *border, value=[1]), np.uint8)
    values = np.asarray(cv2.copyMakeBorder(values, *border, value=[0.0]), np.float32)
    rows, columns = unknown.shape[0] // 2, unknown.shape[1] // 2
    counts = 4 - unknown.reshape(rows, 2, columns, 2).sum(axis=(1, 3), dtype=np.uint8)
    means = np.asarray(cv2.resize(values, (columns, rows), interpolation=cv2.INTER_AREA)).reshape(rows, columns, 3)
    share = np.float32(4.0) / np.maximum(counts, 1).astype(np.float32)
    return _Level(np.asarray(means * share[..., None], np.float32), (counts == 0).astype(np.uint8), box)


def _fill_level(level: _Level, coarse: FloatImage, box: BoxPx) -> FloatImage:
    """The level with its hole filled; `coarse` is what lies at `box` of it, at half of the resolution."""
    x0, y0, x1, y1 = box
    doubled = cv2.resize(coarse, (2 * coarse.shape[1], 2 * coarse.shape[0]), interpolation=cv2.INTER_LINEAR)
    filled = level.values.copy()
    cv2.copyTo(np.ascontiguousarray(doubled[: y1 - y0, : x1 - x0]), level.unknown[y0:y1, x0:x1], filled[y0:y1, x0:x1])
    for _ in range(RELAXATIONS):
        around = cv2.filter2D(filled, -1, _NEIGHBOURS, borderType=cv2.BORDER_REPLICATE)
        cv2.copyTo(around, level.unknown, filled)
    return filled


def _around(unknown: NDArray[np.uint8], cell: int) -> BoxPx:
    """The box of the unknown cells with a margin, its corner on a multiple of `cell`."""
    left, top, wide, high = cv2.boundingRect(unknown)
    height, width = unknown.shape
    x0, y0 = (max(0, edge - MARGIN_CELLS) // cell * cell for edge in (left, top))
    return x0, y0, min(width, left + wide + MARGIN_CELLS), min(height, top + high + MARGIN_CELLS)
