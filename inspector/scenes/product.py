"""What a line makes: something that can be put together for a lot, part by part, with defects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from inspector.scenes.defects import MadeDefect, PlannedDefect
from inspector.scenes.light import U8
from inspector.scenes.variation import Lot


@dataclass(frozen=True, slots=True)
class AssembledPart:
    """One part before it is photographed: `canvas` (H, W, 4) uint8 as `relief.Layer`, and its defects."""

    canvas: U8
    defects: tuple[MadeDefect, ...]


class LotStock(Protocol):
    """Everything ready for the parts of one lot."""

    def assemble(
        self, rng: np.random.Generator, planned: tuple[PlannedDefect, ...], defect_rng: np.random.Generator
    ) -> AssembledPart:
        """Put one part together. A planned defect that finds no visible place is left out."""
        ...


class Product(Protocol):
    """One product at one scale."""

    part_prefix: str
    centre_px: tuple[float, float]
    """The middle of the part on its canvas."""

    def stock_for(self, lot: Lot) -> LotStock:
        """Prepare a lot; costs up to half a second at 4K."""
        ...
