"""A smooth picture of a region from its surroundings alone: the base where a part has no references."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.generator.paste import Base
from inspector.generator.regions import MaskRegion, expand_box
from inspector.generator.surroundings import GUARD_PX, FloatImage
from inspector.records import BgrImage, BoxPx

MARGIN_PX = 64
KNOWN_ENOUGH = 1.0
"""Weight, in pixels, from which a cell of the pyramid is believed wholly."""


def fill_base(pixels: BgrImage, mask: NDArray[np.bool_], region: MaskRegion, box: BoxPx | None = None) -> Base:
    """A region of `mask` (H, W, bool) closed over smoothly from around it, at `box` or else the region's own box.

    Pull and push over a pyramid (Gortler et al., 1996): what is unknown takes the average of the nearest that is
    known. Where nothing is known, in a region as large as the frame, it is grey 128. Known pixels are the frame's.
    """
    wanted = box or region.box_xyxy_px
    height, width = mask.shape
    x0, y0, x1, y1 = expand_box(wanted, MARGIN_PX, width, height)
    guard = np.ones((2 * GUARD_PX + 1, 2 * GUARD_PX + 1), np.uint8)
    unknown = cv2.dilate(np.ascontiguousarray(mask[y0:y1, x0:x1]).view(np.uint8), guard) > 0
    filled = fill_unknown(pixels[y0:y1, x0:x1].astype(np.float32), np.asarray(unknown, np.bool_))
    inside = filled[wanted[1] - y0 : wanted[3] - y0, wanted[0] - x0 : wanted[2] - x0]
    return Base(wanted, np.ascontiguousarray(inside), (), np.zeros(0))


def fill_unknown(image: FloatImage, unknown: NDArray[np.bool_]) -> FloatImage:
    """(h, w, 3) float32 with its `unknown` pixels, (h, w) bool, filled smoothly from the others."""
    weight = np.where(unknown, np.float32(0.0), np.float32(1.0))
    levels = [(image * weight[..., None], weight)]
    while max(levels[-1][1].shape) > 1:
        total, known = levels[-1]
        size = ((known.shape[1] + 1) // 2, (known.shape[0] + 1) // 2)
        total, known = (
            cv2.resize(item, size, interpolation=cv2.INTER_AREA) * np.float32(4.0) for item in (total, known)
        )
        # A cell knows at most one pixel's worth: otherwise far and wide surroundings outvote what is near.
        share = np.minimum(known, KNOWN_ENOUGH) / np.maximum(known, np.float32(1e-6))
        levels.append((total * share[..., None], known * share))
    total, known = levels[-1]
    filled = np.where(known[..., None] > 0, total / np.maximum(known, np.float32(1e-6))[..., None], np.float32(128.0))
    for total, known in reversed(levels[:-1]):
        size = (known.shape[1], known.shape[0])
        coarse = cv2.resize(filled, size, interpolation=cv2.INTER_LINEAR).reshape(total.shape)
        filled = total + (1.0 - known[..., None]) * coarse
    return np.asarray(filled, np.float32)
