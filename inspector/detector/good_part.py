"""What a good part looks like at each pixel: the median of good pictures and how far they spread around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.records import BgrImage

SPREAD_STEPS = 2
"""Steps of a stored spread to a grey level."""
MOST_PICTURES = 40
NEAR_PX, WIDE_PX = 5, 17
"""A pixel's spread is pooled over its neighbours, and drawn towards that of its wider surroundings..."""
WIDE_COUNT = 2.0
"""...as if so many pictures more had shown that."""
STRIP_ROWS = 64


@dataclass(frozen=True, slots=True)
class GoodPart:
    """`picture` (H, W, 3) uint8, the median, and `spread` (H, W, 3) uint8, the standard deviation in half grey levels
    (127.5 at most)."""

    picture: BgrImage
    spread: NDArray[np.uint8]


def learn_good_part(pictures: Sequence[BgrImage]) -> GoodPart:
    """Of at least two registered pictures of one size, or of `MOST_PICTURES` evenly over them."""
    count = min(len(pictures), MOST_PICTURES)
    chosen = [pictures[index * len(pictures) // count] for index in range(count)]
    picture = np.concatenate(
        [_median([image[row : row + STRIP_ROWS] for image in chosen]) for row in range(0, len(chosen[0]), STRIP_ROWS)]
    )
    middle = picture.astype(np.float32)
    squares = np.zeros_like(middle)
    for image in chosen:
        away = image - middle
        squares += away * away
    near = cv2.blur(squares / np.float32(count - 1), (NEAR_PX, NEAR_PX))
    wide = cv2.blur(near, (WIDE_PX, WIDE_PX))
    variance = (near * np.float32(count - 1) + wide * np.float32(WIDE_COUNT)) / np.float32(count - 1 + WIDE_COUNT)
    return GoodPart(picture, np.clip(np.sqrt(variance) * SPREAD_STEPS + 0.5, 0, 255).astype(np.uint8))


def _median(pictures: Sequence[BgrImage]) -> BgrImage:
    """By odd-even transposition: minima and maxima of bytes are far faster than sorting along an axis."""
    rows = [np.ascontiguousarray(picture) for picture in pictures]
    for turn in range(len(rows)):
        for index in range(turn % 2, len(rows) - 1, 2):
            one, other = rows[index], rows[index + 1]
            rows[index], rows[index + 1] = np.minimum(one, other), np.maximum(one, other)
    middle = len(rows) // 2
    if len(rows) % 2:
        return rows[middle]
    return ((rows[middle - 1].astype(np.uint16) + rows[middle]) // 2).astype(np.uint8)
