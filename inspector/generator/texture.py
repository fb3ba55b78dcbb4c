"""The classical twin without references: a smooth fill, lines that run on into it, and grain like that around it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inspector.generator.fill import fill_base
from inspector.generator.grain import restore_grain_at
from inspector.generator.references import PlacedReferences
from inspector.generator.regions import (
    blend_into,
    check_repair_input,
    choose_feather_px,
    expand_box,
    feather_alpha,
    place_mask,
    split_mask,
)
from inspector.generator.repairer import Twin
from inspector.records import BgrImage


class TextureRepairer:
    """A Gaussian texture on a smooth ground, fitted to the surroundings of each region. Ignores references."""

    method = "texture"

    def repair(self, pixels: BgrImage, mask: NDArray[np.bool_], references: PlacedReferences | None) -> Twin:
        """See `Repairer.repair`."""
        check_repair_input(pixels, mask, references)
        twin, changed = pixels.copy(), np.zeros(mask.shape, np.bool_)
        regions = split_mask(mask)
        for region in regions:
            feather_px = choose_feather_px(region)
            inner = expand_box(region.box_xyxy_px, feather_px + 1, mask.shape[1], mask.shape[0])
            filled = fill_base(pixels, mask, region, inner).pixels
            painted = restore_grain_at(inner, pixels, mask, filled)
            blend_into(twin, changed, inner, painted, feather_alpha(place_mask(region, inner), feather_px))
        return Twin(twin, changed, self.method, len(regions))
