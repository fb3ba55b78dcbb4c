"""What a peel is trained on: tiles of a line's good parts, cut by the repairer itself around random masks.

So the base, the hole, the registration and the features of the references are those that the net meets at work.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inspector.generator.masks import draw_mask
from inspector.generator.net import NetRepairer
from inspector.generator.references import PlacedReferences
from inspector.generator.repair_model import RepairTile
from inspector.records import BgrImage


@dataclass(frozen=True, slots=True)
class GoodPart:
    """A good image (H, W, 3) uint8 and the references placed in it, itself not among them; None for a surface."""

    pixels: BgrImage
    references: PlacedReferences | None


class LineTiles:
    """Draws tiles from the good parts of one line. What lies in a tile's hole is what should be painted there."""

    def __init__(self, repairer: NetRepairer, parts: list[GoodPart]) -> None:
        self._repairer = repairer
        self._parts = parts

    def draw(self, rng: np.random.Generator) -> RepairTile:
        """One tile with a hole, the same for the same state of `rng`."""
        while True:
            part = self._parts[int(rng.integers(0, len(self._parts)))]
            mask = draw_mask(rng, part.pixels.shape[0], part.pixels.shape[1])
            tiles = [tile for tile in self._repairer.cut_tiles(part.pixels, mask, part.references) if tile.hole.any()]
            if tiles:
                return tiles[int(rng.integers(0, len(tiles)))]
