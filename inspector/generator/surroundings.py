"""What is known around a region: a reduced crop of the frame, and the ring in it that can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.generator.regions import MaskRegion, expand_box, touch_cells
from inspector.geometry.registration import Matrix, compose, scaling
from inspector.records import BgrImage, BoxPx

GUARD_PX = 4
"""A defect often reaches a little over its mask; so close to it nothing is learned."""
GUARD_LEVEL = 2
"""A cell reduced by 2 ** this is as wide as the guard."""
MIN_RING_PX = 64
SMALLEST_SIDE_PX = 8
MAX_RING_PX = 160
"""How far around a region its surroundings are looked at."""
WORK_SIDE_PX = 160
FloatImage = NDArray[np.float32]
Image = TypeVar("Image", NDArray[np.uint8], NDArray[np.float32])


@dataclass(frozen=True, slots=True)
class Surroundings:
    """A crop around one region, reduced by 2 ** `level`.

    `source` is (h, w, 3) float32 BGR, `ring` (h, w) bool where it is neither masked nor near a mask. `crop` are
    frame pixels; the last row and column may reach over it and are never in the ring.
    """

    crop: BoxPx
    level: int
    source: FloatImage
    ring: NDArray[np.bool_]

    @property
    def to_frame(self) -> Matrix:
        """From reduced pixels to frame pixels."""
        corner = np.array([[1.0, 0.0, self.crop[0]], [0.0, 1.0, self.crop[1]]])
        return compose(corner, scaling(2**self.level))

    @property
    def covered(self) -> BoxPx:
        """What the reduced crop covers, in frame pixels: `crop`, or a little more to the right and below."""
        height, width = self.ring.shape
        x0, y0 = self.crop[:2]
        return x0, y0, x0 + (width << self.level), y0 + (height << self.level)

    def sample_ring(self, most: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows and columns of about `most` pixels of the ring, evenly taken."""
        places = np.flatnonzero(self.ring)
        rows, columns = np.divmod(places[:: max(1, len(places) // most)], self.ring.shape[1])
        return rows, columns

    @property
    def can_teach(self) -> bool:
        """Whether there is enough of a ring to learn from; the region may be the whole frame."""
        return int(np.count_nonzero(self.ring)) >= MIN_RING_PX and min(self.ring.shape) >= SMALLEST_SIDE_PX


def view_surroundings(pixels: BgrImage, mask: NDArray[np.bool_], region: MaskRegion) -> Surroundings:
    """The surroundings of a region of `mask` (H, W, bool) in a frame (H, W, 3)."""
    height, width = mask.shape
    crop = expand_box(region.box_xyxy_px, int(np.clip(region.size_px * 0.6, 40, MAX_RING_PX)), width, height)
    x0, y0, x1, y1 = crop
    level = 0
    while max(x1 - x0, y1 - y0) > WORK_SIDE_PX << level and min(x1 - x0, y1 - y0) >> level >= 2 * SMALLEST_SIDE_PX:
        level += 1
    return Surroundings(
        crop,
        level,
        reduce_padded(pixels[y0:y1, x0:x1], level, cv2.BORDER_REPLICATE).astype(np.float32),
        ~grow_mask(mask, crop, level),
    )


def reduce_padded(image: Image, level: int, border: int) -> Image:
    """Reduced by 2 ** level, sizes rounded up; beyond the edge lies what the OpenCV `border` says (255 if constant)."""
    if level == 0:
        return image
    factor = 2**level
    height, width = image.shape[:2]
    rows, columns = -height % factor, -width % factor
    if rows or columns:
        image = np.asarray(cv2.copyMakeBorder(image, 0, rows, 0, columns, border, value=255), image.dtype)
    for _ in range(level):
        # Halving is vectorised in OpenCV, other factors are not: a third of the time.
        size = (image.shape[1] // 2, image.shape[0] // 2)
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), image.dtype)
    return image


def grow_mask(mask: NDArray[np.bool_], box: BoxPx, level: int = 0) -> NDArray[np.bool_]:
    """What is masked or closer than `GUARD_PX` to a mask, at `box` of the frame, reduced by 2 ** level: (h, w) bool.

    A cell that touches any of it is set, and one that reaches over the box.
    """
    x0, y0, x1, y1 = box
    # Where the guard is some whole cells it is laid around cells: at 4 px in a sixth of the time.
    first = min(level, GUARD_LEVEL)
    inside = touch_cells(mask[y0:y1, x0:x1], 1 << first)
    reach = 2 * (GUARD_PX >> first) + 1
    grown = np.asarray(cv2.dilate(inside, np.ones((reach, reach), np.uint8)), np.uint8)
    if (y1 - y0) % (1 << first):
        grown[-1] = 1
    if (x1 - x0) % (1 << first):
        grown[:, -1] = 1
    return reduce_padded(grown * np.uint8(255), level - first, cv2.BORDER_CONSTANT) > 0
