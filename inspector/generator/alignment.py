"""The last pixel: where placed references truly lie around one region. All of them at once, on samples of the ring."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.generator.references import GAIN_RANGE
from inspector.generator.surroundings import FloatImage, Surroundings
from inspector.geometry.registration import Matrix, compose, invert

SEARCH_PX = 8
"""Reduced pixels that a reference may be off."""
LEAST_GAIN = 0.02
"""Share of the ring's error that a move must take away: standing still is the likeliest."""
MAX_DRIFT_PX = 3.0
MAX_TURN = 0.1
STEPS = 6
SMALLEST_STEP_PX = 0.02
SAMPLES = 1200
LEAST_SHARE = 1e-3
"""Further from the ring nothing is known; no sample looks there."""
Points = NDArray[np.float32]
Warps = NDArray[np.float64]
"""(K, 3, 3), from the frame to each reference."""


def find_warps(around: Surroundings, references: NDArray[np.float32]) -> list[Matrix | None]:
    """For each of (K, h, w, 3) float32 references as they were placed, best first, the (2, 3) map reference -> frame.

    In reduced pixels; None where standing still is as good. All share one pose, so that what the first is off by,
    looked for within `SEARCH_PX`, is where the others are looked for. Each is then moved and turned by Gauss-Newton
    steps of the inverse compositional kind (Baker and Matthews, 2004) with gain and offset free.
    """
    source, placed = _blur_known(around), [_blur_grey(reference) for reference in references]
    rows, columns = around.sample_ring(SAMPLES)
    points = np.stack([columns, rows], axis=1).astype(np.float32)
    target = source[rows, columns]
    whole = np.repeat(_search_shift(source, placed[0], around.ring)[None], len(placed), axis=0)
    refined = _refine(source, placed, points, target, whole)
    still = np.repeat(np.eye(3)[None], len(placed), axis=0)
    tried = (still, whole, refined)
    errors = np.stack([_ring_errors(_sample(placed, warps, points), target) for warps in tried])
    errors[0] *= 1.0 - LEAST_GAIN
    best = np.argmin(errors, axis=0)
    return [invert(tried[place][number][:2]) if place else None for number, place in enumerate(best)]


def to_frame_px(warp: Matrix, around: Surroundings) -> Matrix:
    """A warp of reduced pixels as it is in the frame."""
    return compose(compose(around.to_frame, warp), invert(around.to_frame))


def _blur_grey(crop: FloatImage) -> FloatImage:
    """(h, w) float32, smooth enough for gradients."""
    return np.asarray(cv2.GaussianBlur(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), (0, 0), 1.0), np.float32)


def _blur_known(around: Surroundings) -> FloatImage:
    """The frame as by `_blur_grey`, from the ring alone: what is masked must not show in how references are moved."""
    ring = around.ring.astype(np.float32)
    share = cv2.GaussianBlur(ring, (0, 0), 1.0)
    return np.asarray(_blur_grey(around.source * ring[..., None]) / np.maximum(share, LEAST_SHARE), np.float32)


def _search_shift(source: FloatImage, placed: FloatImage, ring: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Frame to reference: the best shift by whole pixels, by masked normalised cross-correlation."""
    reach = SEARCH_PX
    padded = cv2.copyMakeBorder(placed, reach, reach, reach, reach, cv2.BORDER_REFLECT_101)
    match = cv2.matchTemplate(padded, source, cv2.TM_CCOEFF_NORMED, mask=ring.astype(np.float32))
    match = np.where(np.isfinite(match), match, -1.0)
    row, column = np.unravel_index(int(np.argmax(match)), match.shape)
    return np.array([[1.0, 0.0, float(column) - reach], [0.0, 1.0, float(row) - reach], [0.0, 0.0, 1.0]])


def _refine(
    source: FloatImage, placed: list[FloatImage], points: Points, target: NDArray[np.float32], start: Warps
) -> Warps:
    """Frame to reference, from `start`, for each reference; `start` itself where one runs away."""
    rows, columns = points[:, 1].astype(np.intp), points[:, 0].astype(np.intp)
    slope_x = cv2.Scharr(source, cv2.CV_32F, 1, 0, scale=1 / 32)[rows, columns]
    slope_y = cv2.Scharr(source, cv2.CV_32F, 0, 1, scale=1 / 32)[rows, columns]
    centre = points.mean(axis=0)
    arm = points - centre
    # Turning is measured at the ring's own radius, so that the three unknowns are all of about a pixel.
    radius = max(1.0, float(np.sqrt((arm**2).sum(axis=1).mean())))
    jacobian = np.stack([slope_x, slope_y, (slope_y * arm[:, 0] - slope_x * arm[:, 1]) / radius], axis=1)
    warps, trusted = start, np.ones((len(placed), len(points)), np.float32)
    for _ in range(STEPS):
        residual = _fit_light(_sample(placed, warps, points), target, trusted)
        size = np.abs(residual)
        trusted = (size <= np.maximum(4.0, 3.0 * np.median(size, axis=1))[:, None]).astype(np.float32)
        normal = np.matmul(jacobian.T * trusted[:, None], jacobian)
        normal += (1e-3 * np.trace(normal, axis1=1, axis2=2) + 1e-6)[:, None, None] * np.eye(3, dtype=np.float32)
        step = np.linalg.solve(normal, ((trusted * residual) @ jacobian)[..., None])[..., 0]
        warps = warps @ np.linalg.inv(_turns(step.astype(np.float64), centre, radius))
        if np.abs(step).max() < SMALLEST_STEP_PX:
            break
    middle = np.array([*centre, 1.0])
    drift = np.hypot(*((warps - start) @ middle).T[:2])
    good = np.isfinite(warps).all(axis=(1, 2)) & (drift <= MAX_DRIFT_PX) & (np.abs(warps[:, 1, 0]) < MAX_TURN)
    return np.where(good[:, None, None], warps, start)


def _turns(steps: NDArray[np.float64], centre: Points, radius: float) -> Warps:
    """The moves by (x, y) and the turns about `centre` that (K, 3) steps ask for."""
    angle = steps[:, 2] / radius
    turns = np.repeat(np.eye(3)[None], len(steps), axis=0)
    turns[:, 0, 0] = turns[:, 1, 1] = np.cos(angle)
    turns[:, 1, 0] = np.sin(angle)
    turns[:, 0, 1] = -turns[:, 1, 0]
    turns[:, :2, 2] = steps[:, :2] + centre - turns[:, :2, :2] @ centre
    return turns


def _fit_light(
    seen: NDArray[np.float32], target: NDArray[np.float32], trusted: NDArray[np.float32]
) -> NDArray[np.float32]:
    """What (K, S) samples in the best light, by the trusted of them, differ from the target by."""
    count = np.maximum(trusted.sum(axis=1, keepdims=True), 1.0)
    mean_seen = (seen * trusted).sum(axis=1, keepdims=True) / count
    mean_target = (target * trusted).sum(axis=1, keepdims=True) / count
    free, wanted = (seen - mean_seen) * trusted, target - mean_target
    slope = (free * wanted).sum(axis=1, keepdims=True) / np.maximum((free * free).sum(axis=1, keepdims=True), 1e-3)
    return np.asarray(np.clip(slope, *GAIN_RANGE) * (seen - mean_seen) - wanted, np.float32)


def _ring_errors(seen: NDArray[np.float32], target: NDArray[np.float32]) -> NDArray[np.float32]:
    """(K,): mean absolute ring difference of each reference in the best light."""
    return np.asarray(np.abs(_fit_light(seen, target, np.ones_like(seen))).mean(axis=1), np.float32)


def _sample(placed: list[FloatImage], warps: Warps, points: Points) -> NDArray[np.float32]:
    """The values of each image at its warp of the points: (K, S)."""
    turned = warps.astype(np.float32)
    places = np.matmul(turned[:, :2, :2], points.T) + turned[:, :2, 2:]
    return np.concatenate(
        [
            np.asarray(
                cv2.remap(image, place[:1], place[1:], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101), np.float32
            )
            for image, place in zip(placed, places, strict=True)
        ]
    )
