"""The verb `repair`: what would this part look like without the defect?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from inspector.generator.references import PlacedReferences
from inspector.records import BgrImage


@dataclass(frozen=True, slots=True)
class Twin:
    """The defect-free version of a part: generated inside `mask`, byte for byte the source elsewhere.

    `pixels` is (H, W, 3) uint8 BGR. `mask` is (H, W) bool: where any pixel may differ from the
    source (the repaired regions with their feathering). `method` is one of `net`, `paste`, `texture`, `telea`, `ns`.
    `fallback` is why it was painted without the references or the peel that the recipe has, None when it was not.
    `peel` names the peel that the net was bent by, None for the base net and for other methods.
    """

    pixels: BgrImage
    mask: NDArray[np.bool_]
    method: str
    regions: int
    fallback: str | None = None
    peel: str | None = None


class Repairer(Protocol):
    """One way of painting a twin. Thread-safe and deterministic."""

    @property
    def method(self) -> str:
        """Name stored with every twin."""
        ...

    def repair(self, pixels: BgrImage, mask: NDArray[np.bool_], references: PlacedReferences | None) -> Twin:
        """Paint what a good part shows where `mask` (H, W, bool) is set.

        `references` are good parts placed in the frame, None where there are none: a part without a fixed pose, or
        one that is not recognised. Nothing changes more than 32 px away from the mask. Raises `ValueError` for a
        mask of another size than the frame or an empty mask.
        """
        ...
