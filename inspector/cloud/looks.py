"""How a region looks, in a few hundred bytes: enough to see that the same thing was asked about before.

Two looks are alike when they lie at the same place, have about the same size, and no cell of their reduced
pictures differs much once the light is compensated; a small shift between the two is allowed. The largest local
difference counts beside the mean one, which alone would overlook a blot beside a strong edge.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.geometry.boxes import clip_box
from inspector.records import BgrImage, BoxPx

CELLS = 24
SHIFT_CELLS = 4
BLUR_CELLS = 1.2
SURROUNDINGS = 0.15
"""Share of the region's longer side that belongs to its look on each side."""
SMALLEST_PX = 24
LARGEST_DIFFERENCE = 30.0
MEAN_DIFFERENCE = 5.5
LIGHT_DIFFERENCE = 30.0
"""Grey levels: of the worst cell, of all cells on average, and of the mean light."""
SIZE_RATIO = 1.6
PLACE_SHARE = 0.6
"""Distance of the two centres, in longer sides of the larger region."""
_BOX = struct.Struct("<4i")
_LOOK_BYTES = _BOX.size + CELLS * CELLS


@dataclass(frozen=True, slots=True)
class Look:
    """A region of a frame: its box and (CELLS, CELLS) uint8 grey, the region with some surroundings, reduced."""

    box_xyxy_px: BoxPx
    cells: NDArray[np.uint8]


def take_look(pixels: BgrImage, box: BoxPx) -> Look:
    """The look of a region of a frame, (H, W, 3) uint8 BGR."""
    x0, y0, x1, y1 = box
    side = max(x1 - x0, y1 - y0, SMALLEST_PX) * (1 + 2 * SURROUNDINGS)
    left, top = round((x0 + x1 - side) / 2), round((y0 + y1 - side) / 2)
    height, width = pixels.shape[:2]
    wanted = (left, top, round(left + side), round(top + side))
    inside = clip_box(wanted, (width, height))
    if inside is None:
        return Look(box, np.zeros((CELLS, CELLS), np.uint8))
    patch = cv2.cvtColor(pixels[inside[1] : inside[3], inside[0] : inside[2]], cv2.COLOR_BGR2GRAY)
    # Beyond the frame its edge goes on, so that a look has the same scale everywhere.
    beyond = (inside[1] - wanted[1], wanted[3] - inside[3], inside[0] - wanted[0], wanted[2] - inside[2])
    squared = cv2.copyMakeBorder(patch, *beyond, cv2.BORDER_REPLICATE)
    cells = cv2.resize(squared, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    return Look(box, np.asarray(cv2.GaussianBlur(cells, (0, 0), BLUR_CELLS), np.uint8))


def are_alike(one: Look, other: Look) -> bool:
    """Whether two looks of frames of one camera show the same thing at the same place."""
    return _lie_together(one.box_xyxy_px, other.box_xyxy_px) and _look_alike(one.cells, other.cells)


def are_covered(asked: Sequence[Look], known: Sequence[Look]) -> bool:
    """Whether each of these looks is alike to one of the known ones; False for none at all."""
    return bool(asked) and all(any(are_alike(look, other) for other in known) for look in asked)


def are_near_duplicates(one: Sequence[Look], other: Sequence[Look]) -> bool:
    """Whether each look of the one is alike to one of the other, and the other way round.

    Both ways, since an answer may be about any of the regions that were shown.
    """
    return are_covered(one, other) and are_covered(other, one)


def pack_looks(looks: Sequence[Look]) -> bytes:
    """For the database."""
    return b"".join(_BOX.pack(*look.box_xyxy_px) + look.cells.tobytes() for look in looks)


def unpack_looks(packed: bytes) -> tuple[Look, ...]:
    """The inverse of `pack_looks`; `ValueError` for bytes of another length."""
    if len(packed) % _LOOK_BYTES:
        raise ValueError(f"{len(packed)} bytes are no looks of {_LOOK_BYTES} bytes each")
    found = []
    for start in range(0, len(packed), _LOOK_BYTES):
        x0, y0, x1, y1 = _BOX.unpack_from(packed, start)
        cells = np.frombuffer(packed, np.uint8, CELLS * CELLS, start + _BOX.size).reshape(CELLS, CELLS)
        found.append(Look((x0, y0, x1, y1), cells))
    return tuple(found)


def _lie_together(one: BoxPx, other: BoxPx) -> bool:
    sides = [(box[2] - box[0], box[3] - box[1]) for box in (one, other)]
    longer = [max(*side, SMALLEST_PX) for side in sides]
    if max(longer) > SIZE_RATIO * min(longer):
        return False
    dx = (one[0] + one[2] - other[0] - other[2]) / 2
    dy = (one[1] + one[3] - other[1] - other[3]) / 2
    return float(np.hypot(dx, dy)) <= PLACE_SHARE * max(longer)


def _look_alike(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """The best of the small shifts between the two decides."""
    inner = one[SHIFT_CELLS:-SHIFT_CELLS, SHIFT_CELLS:-SHIFT_CELLS].astype(np.float32)
    size = inner.shape[0]
    for dy in range(2 * SHIFT_CELLS + 1):
        for dx in range(2 * SHIFT_CELLS + 1):
            difference = inner - other[dy : dy + size, dx : dx + size]
            light = float(difference.mean())
            if abs(light) > LIGHT_DIFFERENCE:
                continue
            local = np.abs(difference - light)
            if float(local.max()) <= LARGEST_DIFFERENCE and float(local.mean()) <= MEAN_DIFFERENCE:
                return True
    return False
