"""The last pixel: where a placed reference truly lies around one region."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.generator.light import FIT_SAMPLES, fit_lines
from inspector.generator.surroundings import FloatImage, Surroundings
from inspector.geometry.registration import Matrix, compose, invert

SEARCH_PX = 8
"""Reduced pixels that a reference may be off."""
LEAST_GAIN = 0.02
"""Share of the ring's error that a move must take away: standing still is the likeliest."""
MAX_DRIFT_PX = 3.0
MAX_TURN = 0.1
ITERATIONS = 10
FEW_ITERATIONS = 5


def find_warp(around: Surroundings, reference: FloatImage) -> NDArray[np.float64] | None:
    """The (2, 3) map reference -> frame in reduced pixels of least ring error; None where standing still is best.

    `reference` is (h, w, 3) float32 as it was placed. Looked for within `SEARCH_PX`, by whole pixels and then finer.
    """
    source, placed = blur_grey(around.source), blur_grey(reference)
    whole = _search_shift(source, placed, around.ring)
    return _choose(source, placed, around, [whole, _refine(source, placed, around.ring, whole)])


def refine_warp(
    around: Surroundings, reference: FloatImage, start: NDArray[np.float64] | None
) -> NDArray[np.float64] | None:
    """As `find_warp` for a reference that shares its pose with one whose warp is known: only the last of it differs."""
    source, placed = blur_grey(around.source), blur_grey(reference)
    begin = np.eye(2, 3) if start is None else start
    return _choose(source, placed, around, [start, _refine(source, placed, around.ring, begin, FEW_ITERATIONS)])


def to_frame_px(warp: NDArray[np.float64], around: Surroundings) -> Matrix:
    """A warp of reduced pixels as it is in the frame."""
    return compose(compose(around.to_frame, warp), invert(around.to_frame))


def blur_grey(crop: FloatImage) -> FloatImage:
    """(h, w) float32, smooth enough for gradients."""
    return np.asarray(cv2.GaussianBlur(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), (0, 0), 1.0), np.float32)


def _choose(
    source: FloatImage, placed: FloatImage, around: Surroundings, warps: list[NDArray[np.float64] | None]
) -> NDArray[np.float64] | None:
    known = [warp for warp in warps if warp is not None]
    moved = [placed] + [
        cv2.warpAffine(placed, warp, placed.shape[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        for warp in known
    ]
    rows, columns = around.sample_ring(FIT_SAMPLES)
    x = np.stack([np.asarray(image, np.float32)[rows, columns] for image in moved])
    y = np.broadcast_to(source[rows, columns], x.shape)
    gain, offset = fit_lines(x, y)
    errors = np.abs(y - gain[:, None] * x - offset[:, None]).mean(axis=1)
    errors[0] *= 1.0 - LEAST_GAIN
    best = int(np.argmin(errors))
    return None if best == 0 else known[best - 1]


def _search_shift(source: FloatImage, placed: FloatImage, ring: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Best shift by whole pixels within ±`SEARCH_PX`, by masked normalised cross-correlation."""
    reach = SEARCH_PX
    padded = cv2.copyMakeBorder(placed, reach, reach, reach, reach, cv2.BORDER_REFLECT_101)
    match = cv2.matchTemplate(padded, source, cv2.TM_CCOEFF_NORMED, mask=ring.astype(np.float32))
    match = np.where(np.isfinite(match), match, -1.0)
    row, column = np.unravel_index(int(np.argmax(match)), match.shape)
    return np.array([[1.0, 0.0, reach - float(column)], [0.0, 1.0, reach - float(row)]])


def _refine(
    source: FloatImage,
    placed: FloatImage,
    ring: NDArray[np.bool_],
    start: NDArray[np.float64],
    iterations: int = ITERATIONS,
) -> NDArray[np.float64] | None:
    """Sub-pixel shift and turn by enhanced correlation (Evangelidis and Psarakis, 2008); None when it diverges."""
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, iterations, 1e-3)
    try:
        _, found = cv2.findTransformECC(
            placed, source, start.astype(np.float32), cv2.MOTION_EUCLIDEAN, criteria, ring.astype(np.uint8), 3
        )
    except cv2.error:
        return None
    refined = np.asarray(found, np.float64)
    centre = np.array([placed.shape[1] / 2, placed.shape[0] / 2, 1.0])
    drift = np.hypot(*(refined @ centre - start @ centre))
    plausible = np.isfinite(refined).all() and drift <= MAX_DRIFT_PX and abs(refined[1, 0]) < MAX_TURN
    return refined if plausible else None
