"""What is smooth is computed at a fraction of the resolution, on a lattice of the frame, and laid out where needed."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.generator.surroundings import FloatImage, grow_mask, reduce_padded
from inspector.geometry.registration import Matrix, compose, invert, scaling
from inspector.records import BgrImage, BoxPx


@dataclass(frozen=True, slots=True)
class ReducedCrop:
    """The frame at `box`, reduced by 2 ** `level`; the corner of `box` is on multiples of that.

    `frame` is (h, w, 3) uint8; the last row and column may reach over the box. `hole` is (h, w) bool where anything
    is masked, close to a mask, or outside of the box.
    """

    box: BoxPx
    level: int
    frame: BgrImage
    hole: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SmoothLayer:
    """`values` (h, w, 3) float32 at `box` of the frame, one for each cell of 2 ** `level` px, as in `ReducedCrop`."""

    box: BoxPx
    level: int
    values: FloatImage

    @property
    def from_frame(self) -> Matrix:
        """From frame pixels to cells."""
        corner = np.array([[1.0, 0.0, self.box[0]], [0.0, 1.0, self.box[1]]])
        return invert(compose(corner, scaling(2**self.level)))

    def cut(self, box: BoxPx) -> SmoothLayer:
        """The layer at a box inside of its own whose corner is on the lattice too."""
        rows, columns = (_cells(box, self.box, self.level, axis) for axis in (1, 0))
        return SmoothLayer(box, self.level, self.values[rows, columns])

    def lay(self, box: BoxPx) -> FloatImage:
        """The layer at a part of its box whose corner is on the lattice: (h, w, 3) float32 at full resolution.

        What is laid in parts is the same as what is laid as a whole.
        """
        rows, columns = (_cells(box, self.box, self.level, axis) for axis in (1, 0))
        if self.level == 0:
            return self.values[rows, columns]
        # One cell more on every side, as far as there are any: between the cells the layer is linear.
        above, before = min(1, rows.start), min(1, columns.start)
        part = self.values[rows.start - above : rows.stop + 1, columns.start - before : columns.stop + 1]
        size = (part.shape[1] << self.level, part.shape[0] << self.level)
        fine = cv2.resize(part, size, interpolation=cv2.INTER_LINEAR)
        top, left = above << self.level, before << self.level
        return np.asarray(fine[top : top + box[3] - box[1], left : left + box[2] - box[0]], np.float32)


def align_box(box: BoxPx, level: int, size: tuple[int, int]) -> BoxPx:
    """`box` grown to multiples of 2 ** level and cut at the frame of (width, height)."""
    side = 2**level
    x0, y0, x1, y1 = box
    x0, y0 = max(0, x0 // side * side), max(0, y0 // side * side)
    return x0, y0, min(size[0], -(-x1 // side) * side), min(size[1], -(-y1 // side) * side)


def reduce_crop(pixels: BgrImage, mask: NDArray[np.bool_], box: BoxPx, level: int) -> ReducedCrop:
    """The frame (H, W, 3) and what of it is known at `box`, whose corner is on multiples of 2 ** level."""
    x0, y0, x1, y1 = box
    frame = reduce_padded(pixels[y0:y1, x0:x1], level, cv2.BORDER_REPLICATE)
    return ReducedCrop(box, level, frame, grow_mask(mask, box, level))


def _cells(box: BoxPx, within: BoxPx, level: int, axis: int) -> slice:
    """The cells of `within` that `box` touches along an axis."""
    start, stop = box[axis] - within[axis], box[axis + 2] - within[axis]
    return slice(start >> level, -(-stop >> level))
