"""From what a region shows to the pixels of the twin: block by block, each read, interpolated and written once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.generator.kriging import carry
from inspector.generator.regions import (
    MaskRegion,
    blend_into,
    choose_feather_px,
    expand_box,
    feather_alpha,
    place_mask,
    split_mask,
)
from inspector.generator.smooth import ReducedCrop, SmoothLayer, align_box
from inspector.generator.surroundings import FloatImage
from inspector.generator.workers import Workers
from inspector.records import BgrImage, BoxPx

FINE_REGION_PX = 256
"""In a larger region what is smooth is computed with one value for 4 x 4 px."""
COARSE_LEVEL = 2
BLOCK_PX = 288
"""Small enough for the cache of a core: about a megabyte of floats."""
MOST_AHEAD_PX = 1024 * 1024
"""What is laid ahead takes 12 bytes a pixel until it is painted."""


class Base(Protocol):
    """The classical picture of a region."""

    def lay(self, box: BoxPx, level: int = 0) -> FloatImage:
        """(h, w, 3) float32 BGR at `box` of the frame, 0..255 and a little beyond, reduced by 2 ** level.

        The corner of `box` is on multiples of 2 ** level. What is laid in parts is the same as as a whole.
        """
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where a region is painted: `inner` is the region with its feather, on the lattice of 2 ** `level` px."""

    region: MaskRegion
    feather_px: int
    level: int
    inner: BoxPx

    def alpha(self, box: BoxPx) -> NDArray[np.float32]:
        """How much of the paint shows at a part of `inner`: (h, w) float32 0..1."""
        reach = self.feather_px + 1
        around = (box[0] - reach, box[1] - reach, box[2] + reach, box[3] + reach)
        return feather_alpha(place_mask(self.region, around), self.feather_px)[reach:-reach, reach:-reach]

    def blocks(self) -> list[BoxPx]:
        """Boxes that cover `inner` once, on its lattice."""
        x0, y0, x1, y1 = self.inner
        columns, rows = (_split_evenly(low, high) for low, high in ((x0, x1), (y0, y1)))
        return [(left, top, right, bottom) for top, bottom in rows for left, right in columns]


class LaidAhead:
    """A base whose blocks are laid by workers while the caller does other things. Each block is asked for once."""

    def __init__(self, base: Base, blocks: Sequence[BoxPx], workers: Workers) -> None:
        """`blocks` are the boxes that will be asked for at full resolution, in their order.

        With one worker, or more of them than `MOST_AHEAD_PX`, what is left is laid when it is asked for: they are held
        until then.
        """
        self._base = base
        self._ahead: dict[BoxPx, Future[FloatImage]] = {}
        held_px = 0
        for box in blocks if workers.beside else ():
            held_px += (box[2] - box[0]) * (box[3] - box[1])
            if held_px > MOST_AHEAD_PX:
                break
            self._ahead[box] = workers.start(partial(base.lay, box))

    def lay(self, box: BoxPx, level: int = 0) -> FloatImage:
        """See `Base.lay`."""
        ahead = self._ahead.pop(box, None) if level == 0 else None
        return ahead.result() if ahead is not None else self._base.lay(box, level)


@dataclass(frozen=True, slots=True)
class Painting:
    """What is painted at a place: a base at full resolution, and what is added to it, if anything."""

    place: Place
    base: Base
    added: SmoothLayer | None

    def lay(self, box: BoxPx) -> FloatImage:
        """(h, w, 3) float32 at a block of the place."""
        laid = self.base.lay(box)
        return laid if self.added is None else np.asarray(cv2.add(laid, self.added.lay(box), dst=laid), np.float32)


def place_regions(mask: NDArray[np.bool_]) -> list[Place]:
    """Where the regions of a (H, W) bool mask are painted."""
    size = (mask.shape[1], mask.shape[0])
    return [_place_region(region, size) for region in split_mask(mask)]


def _place_region(region: MaskRegion, size: tuple[int, int]) -> Place:
    feather_px = choose_feather_px(region)
    level = 0 if region.size_px <= FINE_REGION_PX else COARSE_LEVEL
    inner = align_box(expand_box(region.box_xyxy_px, feather_px + 1, *size), level, size)
    return Place(region, feather_px, level, inner)


def carry_misfit(crop: ReducedCrop, laid: FloatImage) -> SmoothLayer:
    """What a base, `laid` at the crop, is off by around the hole, and carried into it.

    So what is painted around the hole is the frame, but for the rest of a defect, and no step shows under the feather.
    """
    misfit = np.asarray(cv2.subtract(crop.frame, laid, dtype=cv2.CV_32F), np.float32)
    return SmoothLayer(crop.box, crop.level, carry(misfit, crop.hole))


class Canvas:
    """A copy of a frame (H, W, 3) that places are painted on: `pixels`, and (H, W) bool `changed` where it may differ.

    What needs no paint is done when it is made: the copy, and how much of the paint shows where.
    """

    def __init__(self, frame: BgrImage, places: Sequence[Place]) -> None:
        self.pixels = frame.copy()
        self.changed = np.zeros(frame.shape[:2], np.bool_)
        self._blocks = [[(box, place.alpha(box)) for box in place.blocks()] for place in places]

    def paint(self, paintings: Sequence[Painting], workers: Workers) -> None:
        """Paint all places, in their order."""

        def paint_block(piece: tuple[Painting, BoxPx, NDArray[np.float32]]) -> None:
            painting, box, alpha = piece
            if alpha.any():
                blend_into(self.pixels, self.changed, box, painting.lay(box), alpha)

        pairs = zip(paintings, self._blocks, strict=True)
        workers.each(paint_block, [(painting, *block) for painting, blocks in pairs for block in blocks])


def _split_evenly(low: int, high: int) -> list[tuple[int, int]]:
    """Spans of about `BLOCK_PX` at most that begin on the lattice of `low`."""
    side = 2**COARSE_LEVEL
    count = -(-(high - low) // BLOCK_PX)
    step = -(-(high - low) // (count * side)) * side
    return [(start, min(high, start + step)) for start in range(low, high, step)]
