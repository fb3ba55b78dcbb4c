"""The visible mark on a stored twin: the word GENERATED in small letters beside each repaired region.

It lies where a twin may differ anyway, at most `REACH_PX` from the mask, and outside the mask itself wherever
there is room, so that what was repaired can still be seen and measured.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.generator.regions import MaskRegion, expand_box, place_mask, split_mask
from inspector.records import BgrImage

REACH_PX = 32
LARGE_FRAME_PX = 2500
WORDS = ("GENERATED", "GEN")

GLYPH_ROWS = {
    "A": (0b01110, 0b10001, 0b10001, 0b11111, 0b10001, 0b10001, 0b10001),
    "D": (0b11110, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b11110),
    "E": (0b11111, 0b10000, 0b10000, 0b11110, 0b10000, 0b10000, 0b11111),
    "G": (0b01110, 0b10001, 0b10000, 0b10111, 0b10001, 0b10001, 0b01111),
    "N": (0b10001, 0b11001, 0b10101, 0b10011, 0b10001, 0b10001, 0b10001),
    "R": (0b11110, 0b10001, 0b10001, 0b11110, 0b10100, 0b10010, 0b10001),
    "T": (0b11111, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100),
}


def mark_generated(pixels: BgrImage, mask: NDArray[np.bool_]) -> BgrImage:
    """A copy of a twin's pixels with the mark beside each region of the repair mask (H, W, bool).

    A picture too small for even the short mark is returned unmarked; its metadata still says what it is.
    """
    marked = pixels.copy()
    for region in split_mask(mask):
        _mark_region(marked, region, mask)
    return marked


def _mark_region(marked: BgrImage, region: MaskRegion, mask: NDArray[np.bool_]) -> None:
    height, width = mask.shape
    crop = expand_box(region.box_xyxy_px, REACH_PX, width, height)
    own = place_mask(region, crop)
    distance = cv2.distanceTransform((~own).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    near = np.asarray(distance <= REACH_PX, np.bool_)
    beside = near & ~mask[crop[1] : crop[3], crop[0] : crop[2]]
    largest = 2 if width >= LARGE_FRAME_PX else 1
    stamps = [_draw_stamp(WORDS[0], scale) for scale in range(largest, 0, -1)] + [_draw_stamp(WORDS[1], 1)]
    for allowed in (beside, near):
        for stamp in stamps:
            corner = _find_room(allowed, stamp.shape)
            if corner is not None:
                x, y = crop[0] + corner[0], crop[1] + corner[1]
                marked[y : y + stamp.shape[0], x : x + stamp.shape[1]] = stamp[..., None]
                return


def _draw_stamp(word: str, scale: int) -> NDArray[np.uint8]:
    """White letters on black, (h, w) uint8, with a rim of one letter pixel."""
    stamp = np.zeros((9, 6 * len(word) + 1), np.uint8)
    for index, letter in enumerate(word):
        for row, bits in enumerate(GLYPH_ROWS[letter]):
            for column in range(5):
                if bits >> (4 - column) & 1:
                    stamp[1 + row, 1 + 6 * index + column] = 255
    return np.kron(stamp, np.ones((scale, scale), np.uint8))


def _find_room(allowed: NDArray[np.bool_], size: tuple[int, ...]) -> tuple[int, int] | None:
    """Left top (x, y) of the first place, from above, where a box of (height, width) is allowed altogether."""
    height, width = size
    if height > allowed.shape[0] or width > allowed.shape[1]:
        return None
    sums = cv2.integral(allowed.astype(np.uint8))
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    places = np.argwhere(inside == height * width)
    return (int(places[0][1]), int(places[0][0])) if len(places) else None
