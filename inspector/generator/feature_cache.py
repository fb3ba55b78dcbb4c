"""Features of references, computed once: on a lattice of blocks in the pose of the view, each with its surroundings.

A block is encoded with `ENCODER_REACH_PX` around it, so its features are those of the whole image, to the bit: the
kernels compute in integers. The least recently used blocks are forgotten.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from inspector.generator.repair_model import ENCODER_REACH_PX, FEATURE_CELL_PX, STRIDE_PX, Features
from inspector.generator.view_images import ViewImages
from inspector.records import BgrImage, BoxPx

BLOCK_PX = 256
LIMIT_BYTES = 96_000_000


@dataclass(frozen=True, slots=True)
class _Block:
    column: int
    row: int


@dataclass(frozen=True, slots=True)
class ReferenceImage:
    """Image `index` of a view, reduced by 2 ** level. Two are equal when they are the same picture."""

    images: ViewImages
    index: int
    level: int

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in reduced pixels."""
        width, height = self.images.size
        return width >> self.level, height >> self.level

    def cut(self, box: BoxPx) -> BgrImage:
        """A box of it, in reduced pixels."""
        return self.images.cut(self.index, self.level, box)


class FeatureCache:
    """Thread-safe; what two threads miss at once is computed twice, with the same result."""

    def __init__(self, encode: Callable[[BgrImage], Features], limit_bytes: int = LIMIT_BYTES) -> None:
        self._encode = encode
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._blocks: OrderedDict[tuple[ReferenceImage, _Block], Features] = OrderedDict()
        self._held_bytes = 0
        self.computed = 0
        """Blocks encoded so far."""

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._blocks.clear()
            self._held_bytes = 0

    def read(self, image: ReferenceImage, box: BoxPx) -> Features:
        """Features of `box` of a reference.

        `box` is a multiple of `STRIDE_PX` on all sides and may reach over the right and lower edge, where the image
        is continued by its mirror.
        """
        x0, y0, x1, y1 = box
        rows, columns = (y1 - y0) // FEATURE_CELL_PX, (x1 - x0) // FEATURE_CELL_PX
        places = [
            _Block(column, row)
            for row in range(y0 // BLOCK_PX, (y1 - 1) // BLOCK_PX + 1)
            for column in range(x0 // BLOCK_PX, (x1 - 1) // BLOCK_PX + 1)
        ]
        blocks = [self._read_block(image, place) for place in places]
        result = np.zeros((blocks[0].shape[0], rows, columns), np.float32)
        for place, block in zip(places, blocks, strict=True):
            _place(result, block, (x0, y0), (place.column * BLOCK_PX, place.row * BLOCK_PX))
        return result

    def _read_block(self, image: ReferenceImage, place: _Block) -> Features:
        key = (image, place)
        with self._lock:
            if key in self._blocks:
                self._blocks.move_to_end(key)
                return self._blocks[key]
        features = self._compute(image, place)
        with self._lock:
            self.computed += 1
            if key not in self._blocks:
                self._blocks[key] = features
                self._held_bytes += features.nbytes
            while self._held_bytes > self._limit_bytes and len(self._blocks) > 1:
                _, forgotten = self._blocks.popitem(last=False)
                self._held_bytes -= forgotten.nbytes
        return features

    def _compute(self, image: ReferenceImage, place: _Block) -> Features:
        width, height = (-(-side // STRIDE_PX) * STRIDE_PX for side in image.size)
        x0, y0 = place.column * BLOCK_PX, place.row * BLOCK_PX
        x1, y1 = min(x0 + BLOCK_PX, width), min(y0 + BLOCK_PX, height)
        left, top = min(x0, ENCODER_REACH_PX), min(y0, ENCODER_REACH_PX)
        right, below = min(width, x1 + ENCODER_REACH_PX), min(height, y1 + ENCODER_REACH_PX)
        inside = (x0 - left, y0 - top, min(right, image.size[0]), min(below, image.size[1]))
        cut = image.cut(inside)
        missing = (below - inside[3], right - inside[2])
        if any(missing):
            mirrored = cv2.copyMakeBorder(cut, 0, missing[0], 0, missing[1], cv2.BORDER_REFLECT_101)
            cut = np.asarray(mirrored, np.uint8)
        features = self._encode(np.ascontiguousarray(cut))
        rows, columns = (y1 - y0) // FEATURE_CELL_PX, (x1 - x0) // FEATURE_CELL_PX
        first_row, first_column = top // FEATURE_CELL_PX, left // FEATURE_CELL_PX
        return np.ascontiguousarray(features[:, first_row : first_row + rows, first_column : first_column + columns])


def _place(result: Features, block: Features, corner: tuple[int, int], at: tuple[int, int]) -> None:
    """Copy what of a block at `at` lies in the result at `corner`, both in pixels."""
    column, row = ((at[axis] - corner[axis]) // FEATURE_CELL_PX for axis in (0, 1))
    into = (slice(max(0, row), row + block.shape[1]), slice(max(0, column), column + block.shape[2]))
    target = result[:, into[0], into[1]]
    first_row, first_column = max(0, -row), max(0, -column)
    target[:] = block[:, first_row : first_row + target.shape[1], first_column : first_column + target.shape[2]]
