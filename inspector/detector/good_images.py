"""Good images as `fit` sees them: decoded when asked for, filled up with copies when there are too few."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from inspector.geometry.registration import warp_to_reference
from inspector.records import BgrImage

FEWEST_IMAGES = 8
"""Fewer good images than this are filled up with slightly moved and lit copies."""


class GoodImages(Protocol):
    """Good images, decoded one at a time because twenty 4K frames do not fit in memory beside everything else."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> BgrImage:
        """(H, W, 3) uint8 BGR; the same pixels at each call."""
        ...


class Progress(Protocol):
    """Told the stage and the share of it that is done, 0..1."""

    def __call__(self, stage: str, done: float, /) -> None: ...


class SomeImages:
    """Some of the good images."""

    def __init__(self, images: GoodImages, indices: Sequence[int]) -> None:
        self._images = images
        self._indices = tuple(indices)

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, index: int) -> BgrImage:
        """See `GoodImages.read`."""
        return self._images.read(self._indices[index])


class FilledUp:
    """Good images, when too few of them followed by copies moved by up to a pixel and lit a little differently."""

    def __init__(self, images: GoodImages, count: int = FEWEST_IMAGES) -> None:
        self._images = images
        self._count = max(count, len(images))

    def __len__(self) -> int:
        return self._count

    def read(self, index: int) -> BgrImage:
        """See `GoodImages.read`."""
        real = len(self._images)
        pixels = self._images.read(index % real)
        return pixels if index < real else jitter(pixels, seed=index)


def jitter(pixels: BgrImage, seed: int) -> BgrImage:
    """The same part photographed again: up to 1 px and 3 % of light away, with a little noise. Deterministic."""
    random = np.random.default_rng(seed)
    dx, dy = random.uniform(-1.0, 1.0, 2)
    gain = 1.0 + random.uniform(-0.03, 0.03)
    moved = warp_to_reference(pixels, np.array([[1.0, 0.0, dx], [0.0, 1.0, dy]]), (pixels.shape[1], pixels.shape[0]))
    noise = random.standard_normal(pixels.shape, np.float32) * np.float32(1.5)
    lit = np.clip(moved * np.float32(gain) + noise + np.float32(0.5), 0, 255)
    return np.asarray(lit.astype(np.uint8), np.uint8)
