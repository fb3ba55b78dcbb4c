"""Whether the fine structure of a registered frame is that of the reference."""

from __future__ import annotations

import cv2
import numpy as np

from inspector.geometry.registration import Grey, Mask, Matrix, Reference, lay_known, warp

DETAIL_SIGMA_PX = 6.0


def detail_match(reference: Reference, grey: Grey, matrix: Matrix, known: Mask | None = None) -> float:
    """Correlation, -1..1, of what is finer than `DETAIL_SIGMA_PX` in the reference's part and in a frame laid on it.

    Uneven light and a vignette match between any two frames of one camera; fine structure does so only for the same
    part. `grey` is the frame reduced as the reference is, `matrix` maps reference to frame at that size.
    What `known` (h, w) leaves out of the frame has no say, also in what is called coarse beside it.
    """
    size = (reference.grey.shape[1], reference.grey.shape[0])
    laid = np.asarray(warp(grey, matrix, size), np.float32)
    seen = None if known is None else lay_known(known, matrix, size)
    part = reference.part if seen is None else reference.part & seen
    ours, theirs = (_detail(image, seen)[part] for image in (reference.grey, laid))
    norm = float(np.sqrt((ours @ ours) * (theirs @ theirs)))
    return float(ours @ theirs) / norm if norm > 1e-3 * len(ours) else 0.0


def _detail(grey: Grey, seen: Mask | None) -> Grey:
    """What is finer than the mean of the seen pixels around each."""
    if seen is None:
        return np.asarray(grey - cv2.GaussianBlur(grey, (0, 0), DETAIL_SIGMA_PX), np.float32)
    weight = seen.astype(np.float32)
    coarse, share = (cv2.GaussianBlur(image, (0, 0), DETAIL_SIGMA_PX) for image in (grey * weight, weight))
    return np.asarray(grey - coarse / np.maximum(share, np.float32(1e-3)), np.float32)
