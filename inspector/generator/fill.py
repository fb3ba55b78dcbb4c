"""A smooth picture of a region from its surroundings alone: the base where a part has no references."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.generator.harmonic import extend_smoothly
from inspector.generator.paste import Base
from inspector.generator.regions import MaskRegion, expand_box
from inspector.generator.surroundings import GUARD_PX
from inspector.records import BgrImage, BoxPx

MARGIN_PX = 64
NOTHING_KNOWN = 128.0


def fill_base(pixels: BgrImage, mask: NDArray[np.bool_], region: MaskRegion, box: BoxPx | None = None) -> Base:
    """A region of `mask` (H, W, bool) closed over smoothly from around it, at `box` or else the region's own box.

    Where nothing is known, in a region as large as the frame, it is grey 128. Known pixels are the frame's.
    """
    wanted = box or region.box_xyxy_px
    height, width = mask.shape
    x0, y0, x1, y1 = expand_box(wanted, MARGIN_PX, width, height)
    guard = np.ones((2 * GUARD_PX + 1, 2 * GUARD_PX + 1), np.uint8)
    unknown = cv2.dilate(np.ascontiguousarray(mask[y0:y1, x0:x1]).view(np.uint8), guard)
    filled = extend_smoothly(pixels[y0:y1, x0:x1].astype(np.float32), np.asarray(unknown == 0), NOTHING_KNOWN)
    inside = filled[wanted[1] - y0 : wanted[3] - y0, wanted[0] - x0 : wanted[2] - x0]
    return Base(wanted, np.ascontiguousarray(inside), (), np.zeros(0))
