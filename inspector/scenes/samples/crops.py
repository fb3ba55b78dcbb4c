"""Square crops of several photographs of one part, cut and turned alike: (S, S, 3) uint8 BGR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.scenes.light import U8


@dataclass(frozen=True, slots=True)
class Turn:
    """Mirrored or not, then so many quarter turns."""

    quarters: int
    mirrored: bool

    def apply(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """A view of (S, S) or (S, S, C) pixels, turned."""
        return np.rot90(pixels[:, ::-1] if self.mirrored else pixels, self.quarters)


def turn_together(rng: np.random.Generator, images: list[U8]) -> tuple[list[U8], Turn]:
    """The same mirroring, quarter turn, channel order and tone curve for all; how they turned, for their masks."""
    turn = Turn(int(rng.integers(0, 4)), bool(rng.integers(0, 2)))
    order = rng.permutation(3)
    grey, gamma = rng.random() < 0.2, float(np.exp(rng.normal(0.0, 0.25)))
    low, high = rng.uniform(0.0, 0.15), rng.uniform(0.8, 1.0)
    levels = (np.arange(256) / 255.0) ** gamma * (high - low) + low
    curve = np.clip(np.rint(levels * 255.0), 0, 255).astype(np.uint8)
    turned = []
    for image in images:
        changed = turn.apply(image)[..., order]
        if grey:
            changed = np.repeat(cv2.cvtColor(np.ascontiguousarray(changed), cv2.COLOR_BGR2GRAY)[..., None], 3, axis=2)
        turned.append(np.asarray(cv2.LUT(np.ascontiguousarray(changed), curve), np.uint8))
    return turned, turn


def cut_square(image: U8, left: int, top: int, cut: int, side: int) -> U8:
    """A square of `cut` px, resized to `side` px."""
    square = np.ascontiguousarray(image[top : top + cut, left : left + cut])
    if cut == side:
        return square
    way = cv2.INTER_AREA if cut > side else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(square, (side, side), interpolation=way), np.uint8)
