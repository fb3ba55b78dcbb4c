"""Whether the fine structure of a registered frame is that of the reference."""

from __future__ import annotations

import cv2
import numpy as np

from inspector.geometry.registration import Grey, Matrix, Reference, warp

DETAIL_SIGMA_PX = 6.0


def detail_match(reference: Reference, grey: Grey, matrix: Matrix) -> float:
    """Correlation, -1..1, of what is finer than `DETAIL_SIGMA_PX` in the reference's part and in a frame laid on it.

    Uneven light and a vignette match between any two frames of one camera; fine structure does so only for the same
    part. `grey` is the frame reduced as the reference is, `matrix` maps reference to frame at that size.
    """
    laid = np.asarray(warp(grey, matrix, (reference.grey.shape[1], reference.grey.shape[0])), np.float32)
    ours, theirs = (_detail(image)[reference.part] for image in (reference.grey, laid))
    norm = float(np.sqrt((ours @ ours) * (theirs @ theirs)))
    return float(ours @ theirs) / norm if norm > 1e-3 * len(ours) else 0.0


def _detail(grey: Grey) -> Grey:
    return np.asarray(grey - cv2.GaussianBlur(grey, (0, 0), DETAIL_SIGMA_PX), np.float32)
