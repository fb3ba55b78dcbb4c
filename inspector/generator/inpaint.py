"""Twins without a reference: the region is filled from its own surroundings (parts with no fixed pose)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.generator.references import PlacedReferences
from inspector.generator.regions import (
    MaskRegion,
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

CROP_MARGIN_PX = 32
INPAINT_RADIUS_PX = 4.0
MAX_FILL_SIDE_PX = 160
"""Larger regions are filled at a lower resolution: the time grows with the area, the detail is invented anyway."""


class TeleaRepairer:
    """Fast marching inpainting (Telea, 2004). Ignores references."""

    method = "telea"

    def repair(self, pixels: BgrImage, mask: NDArray[np.bool_], references: PlacedReferences | None) -> Twin:
        """See `Repairer.repair`."""
        return _repair_with(cv2.INPAINT_TELEA, self.method, pixels, mask, references)


class NavierStokesRepairer:
    """Inpainting along isophotes (Bertalmio, Bertozzi, Sapiro, 2001). Ignores references."""

    method = "ns"

    def repair(self, pixels: BgrImage, mask: NDArray[np.bool_], references: PlacedReferences | None) -> Twin:
        """See `Repairer.repair`."""
        return _repair_with(cv2.INPAINT_NS, self.method, pixels, mask, references)


def _repair_with(
    flag: int, method: str, pixels: BgrImage, mask: NDArray[np.bool_], references: PlacedReferences | None
) -> Twin:
    check_repair_input(pixels, mask, references)
    twin, changed = pixels.copy(), np.zeros(mask.shape, np.bool_)
    regions = split_mask(mask)
    for region in regions:
        _fill_region(flag, pixels, twin, changed, region, mask)
    return Twin(twin, changed, method, len(regions))


def _fill_region(
    flag: int,
    pixels: BgrImage,
    twin: BgrImage,
    changed: NDArray[np.bool_],
    region: MaskRegion,
    all_masked: NDArray[np.bool_],
) -> None:
    height, width = all_masked.shape
    feather_px = choose_feather_px(region)
    crop = expand_box(region.box_xyxy_px, CROP_MARGIN_PX + feather_px, width, height)
    source = pixels[crop[1] : crop[3], crop[0] : crop[2]].copy()
    own = place_mask(region, crop)
    hole = all_masked[crop[1] : crop[3], crop[0] : crop[2]]
    if hole.all():
        filled = np.broadcast_to(source.reshape(-1, 3).mean(axis=0).astype(np.float32), source.shape)
    else:
        # OpenCV looks under the mask for slopes: up to 4 grey levels of what is hidden there showed in a fill.
        source[hole] = source[~hole].mean(axis=0).astype(np.uint8)
        filled = _inpaint(flag, source, hole, region.size_px)
    blend_into(twin, changed, crop, filled, feather_alpha(own, feather_px))


def _inpaint(flag: int, source: BgrImage, hole: NDArray[np.bool_], size_px: int) -> NDArray[np.float32]:
    holes = hole.astype(np.uint8)
    if size_px <= MAX_FILL_SIDE_PX:
        return np.asarray(cv2.inpaint(source, holes, INPAINT_RADIUS_PX, flag), np.float32)
    scale = MAX_FILL_SIDE_PX / size_px
    size = (max(1, round(source.shape[1] * scale)), max(1, round(source.shape[0] * scale)))
    # A low-resolution pixel that touches the hole at all is unknown, or the defect would bleed back in.
    small_hole = (cv2.resize(holes.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0).astype(np.uint8)
    small = cv2.resize(source, size, interpolation=cv2.INTER_AREA)
    if small_hole.all():
        return np.asarray(cv2.inpaint(source, holes, INPAINT_RADIUS_PX, flag), np.float32)
    filled = cv2.inpaint(small, small_hole, INPAINT_RADIUS_PX, flag)
    return np.asarray(cv2.resize(filled, (source.shape[1], source.shape[0]), interpolation=cv2.INTER_CUBIC), np.float32)
