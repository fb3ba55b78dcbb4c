"""Does a part lie flat before the camera, or is it seen in perspective? Decided at fit, by the good images."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.detector.part_scorer import RegisteredFrame, register_halved
from inspector.geometry.registration import Matrix, Reference, scale_matrix, warp
from inspector.records import BgrImage

MOST_COMPARED = 12
DETAIL_SIGMA_PX = 2.0
LEAST_GAIN = 0.25
"""Share of the unmatched detail that perspective must explain: where parts differ among themselves more than they are
tilted, its two more numbers were seen to cost more than they bring."""
LEAST_SHARE_BETTER = 0.75


@dataclass(frozen=True, slots=True)
class MotionChoice:
    """`model` is `affine` or `perspective`; `reason` is a sentence."""

    model: str
    reason: str


def choose_motion(reference: Reference, golden: BgrImage, frames: list[RegisteredFrame]) -> MotionChoice:
    """Perspective when it lays the detail of good images better on each other, clearly and for most of them.

    `golden` is the reference's frame and `frames` the good images registered without perspective, all halved alike.
    Detail is compared at a finer scale than that at which poses are estimated, so a pose gains nothing from having
    more numbers to choose.
    """
    tilted = replace(reference, model="perspective")
    chosen = [frames[index * len(frames) // MOST_COMPARED] for index in range(MOST_COMPARED)]
    compared = chosen if len(frames) > MOST_COMPARED else frames
    size = (golden.shape[1], golden.shape[0])
    part = cv2.resize(reference.part.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    detail = _detail(golden)[part]
    flat, deep = [], []
    for frame in compared:
        other = register_halved(tilted, frame.pixels, frame.halved, frame.halving)
        flat.append(1.0 - _detail_match(detail, frame, frame.registration.matrix, part))
        deep.append(1.0 - _detail_match(detail, frame, other.registration.matrix, part))
    before, after = float(np.median(flat)), float(np.median(deep))
    better = float(np.mean(np.asarray(deep) < np.asarray(flat)))
    model = "perspective" if after < (1.0 - LEAST_GAIN) * before and better >= LEAST_SHARE_BETTER else "affine"
    said = f"the unmatched detail of registered good images is {before:.3f} without perspective, {after:.3f} with it"
    return MotionChoice(model, said)


def _detail(pixels: BgrImage) -> NDArray[np.float32]:
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY).astype(np.float32)
    return np.asarray(grey - cv2.GaussianBlur(grey, (0, 0), DETAIL_SIGMA_PX), np.float32)


def _detail_match(
    detail: NDArray[np.float32], frame: RegisteredFrame, matrix: Matrix, part: NDArray[np.bool_]
) -> float:
    """Correlation, -1..1, of the reference's detail on its part with that of a frame laid on it."""
    halved = scale_matrix(matrix, frame.halving)
    laid = warp(frame.halved, halved, (part.shape[1], part.shape[0]))
    theirs = _detail(np.asarray(laid, np.uint8))[part]
    norm = float(np.sqrt(float(detail @ detail) * float(theirs @ theirs)))
    return float(detail @ theirs) / norm if norm > 1e-6 * len(detail) else 0.0
