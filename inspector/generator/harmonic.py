"""Values known around a hole, carried into it as smoothly as can be: the membrane that the known values hold.

Discrete Laplace equation, coarse to fine: averages are pulled up a pyramid and pushed down again (Gortler et al.,
1996), and at each level the membrane is relaxed a few times (Jacobi), which is enough where the start is that good.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

FloatImage = NDArray[np.float32]
RELAXATIONS = 6
FADE_PX = 10.0
"""What a base is off by at the rim of a hole is carried into it about so far."""
_NEIGHBOURS = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]], np.float32) / 4.0


def extend_smoothly(values: FloatImage, known: NDArray[np.bool_], otherwise: float = 0.0) -> FloatImage:
    """(h, w, 3) float32: `values` where `known` (h, w), the membrane elsewhere; `otherwise` where nothing is known."""
    if not known.any():
        return np.full(values.shape, otherwise, np.float32)
    levels = [(values * known[..., None].astype(np.float32), known.astype(np.float32))]
    while max(levels[-1][1].shape) > 1 and not levels[-1][1].all():
        total, weight = levels[-1]
        size = ((weight.shape[1] + 1) // 2, (weight.shape[0] + 1) // 2)
        total = cv2.resize(total, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], 3)
        share = cv2.resize(weight, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0])
        # A cell of which anything is known is known, or narrow rings would fade out within two levels.
        full = (share > 0).astype(np.float32)
        levels.append((total * (full / np.maximum(share, np.float32(1e-6)))[..., None], full))
    filled = levels[-1][0]
    for total, weight in reversed(levels[:-1]):
        unknown = 1.0 - weight[..., None]
        filled = cv2.resize(filled, (weight.shape[1], weight.shape[0]), interpolation=cv2.INTER_LINEAR)
        filled = total + unknown * filled.reshape(total.shape)
        for _ in range(RELAXATIONS):
            around = cv2.filter2D(filled, -1, _NEIGHBOURS, borderType=cv2.BORDER_REPLICATE).reshape(total.shape)
            filled = total + unknown * around
    return np.asarray(filled, np.float32)


def carry_in(frame: FloatImage, base: FloatImage, hole: NDArray[np.bool_]) -> FloatImage:
    """The base with what it is off by around the `hole` carried into it, fading: (h, w, 3) float32.

    As in seamless cloning (Perez et al., 2003), but deep inside the base alone is right.
    """
    left = extend_smoothly(frame - base, ~hole)
    depth = cv2.distanceTransform(hole.view(np.uint8), cv2.DIST_L2, 3)
    share = np.where(hole, np.exp(-depth / np.float32(FADE_PX)), np.float32(0.0))
    return np.asarray(base + share[..., None] * left, np.float32)
