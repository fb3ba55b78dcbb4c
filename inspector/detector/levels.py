"""An image's own level: the mean answer of each filter over it, which takes out gain, focus and noise."""

from __future__ import annotations

import numpy as np

from inspector.detector.comparison import Cells

SMALLEST_LEVEL = 1e-3
"""Only constant images come near it."""
LEVEL_STEP = 3


def image_level(features: Cells) -> Cells:
    """(C,) mean answer of each filter over an image, from every third cell: takes out gain, focus and noise."""
    sampled = features[:, LEVEL_STEP // 2 :: LEVEL_STEP, LEVEL_STEP // 2 :: LEVEL_STEP]
    sampled = sampled if sampled.size else features
    return np.asarray(sampled.reshape(len(features), -1).mean(axis=1) + SMALLEST_LEVEL, np.float32)
