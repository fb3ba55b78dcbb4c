"""What the net took away although the camera's noise does not explain it is detail, and is given back."""

from __future__ import annotations

import cv2
import numpy as np

from inspector.generator.exposure.net import COLOURS
from inspector.generator.exposure.response import FloatImage

WINDOW_PX = 15
MARGIN = 1.15
"""Variance counts as explained up to this multiple of the noise's: the noise curve is an estimate."""


def return_detail(bright: FloatImage, restored: FloatImage) -> FloatImage:
    """(H, W, 3) values: `restored` with a share of what was taken from `bright`, (H, W, 6) as `brighten` makes it.

    Where the variance taken away exceeds the noise's, the excess is detail that looks like noise, such as the grain of
    a material. Of independent detail and noise the best linear guess is the share of detail in their variance (Wiener).
    """
    taken = bright[..., :COLOURS] - restored
    variance = _smooth(np.square(taken).mean(axis=2))
    explained = _smooth(np.square(bright[..., COLOURS:]).mean(axis=2)) * np.float32(MARGIN)
    share = np.maximum(1 - explained / np.maximum(variance, np.float32(1e-9)), 0)
    return np.asarray(np.clip(restored + share[..., None] * taken, 0, 1), np.float32)


def _smooth(plane: FloatImage) -> FloatImage:
    return np.asarray(cv2.blur(plane, (WINDOW_PX, WINDOW_PX), borderType=cv2.BORDER_REFLECT_101), np.float32)
