"""A smooth picture of a region from its surroundings alone: the base where a part has no references."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.generator.harmonic import extend_smoothly
from inspector.generator.regions import expand_box
from inspector.generator.surroundings import FloatImage, grow_mask, reduce_padded
from inspector.records import BgrImage, BoxPx

MARGIN_PX = 64
NOTHING_KNOWN = 128.0


@dataclass(frozen=True, slots=True)
class FilledBase:
    """`pixels` (h, w, 3) float32 at `box` of the frame."""

    box: BoxPx
    pixels: FloatImage

    def lay(self, box: BoxPx, level: int = 0) -> FloatImage:
        """See `Base.lay`; `box` lies inside of its own."""
        x0, y0, x1, y1 = box
        left, top = self.box[:2]
        part = self.pixels[y0 - top : y1 - top, x0 - left : x1 - left]
        return reduce_padded(part, level, cv2.BORDER_REPLICATE).copy()


def fill_base(pixels: BgrImage, mask: NDArray[np.bool_], box: BoxPx) -> FilledBase:
    """What is masked at `box` of a frame (H, W, 3) closed over smoothly from around it.

    Where nothing is known, in a region as large as the frame, it is grey 128. Known pixels are the frame's.
    """
    height, width = mask.shape
    x0, y0, x1, y1 = around = expand_box(box, MARGIN_PX, width, height)
    known = ~grow_mask(mask, around)
    filled = extend_smoothly(pixels[y0:y1, x0:x1].astype(np.float32), known, NOTHING_KNOWN)
    return FilledBase(around, filled)
