"""The base of a training crop: references in the light of the frame, weighted by how well they explain the ring.

The same steps as the product's, on crops that are registered already.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.generator.harmonic import extend_smoothly
from inspector.generator.paste import _fit_field, _fit_line, _sample
from inspector.records import BgrImage

WORK_SIDE_PX = 96
RIDGE = 0.1
FADE_PX = 10.0
"""What the ring is off by is carried into the hole so far."""


def lay_references(
    frame: BgrImage, hole: NDArray[np.bool_], references: list[BgrImage]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(S, S, 3) float32 base and (K,) weights that sum to 1, learned outside `hole`."""
    side = frame.shape[0]
    work = min(WORK_SIDE_PX, side // 2)
    size = (work, work)
    ring = cv2.resize(hole.view(np.uint8) * np.uint8(255), size, interpolation=cv2.INTER_AREA) == 0
    source = cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    laid, errors = [], []
    for reference in references:
        small = cv2.resize(reference, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        gain, offset, field = _fit(source, small, np.asarray(ring, np.bool_))
        errors.append((_lay(small, gain, offset, field) - source)[ring].ravel())
        laid.append(_lay(reference.astype(np.float32), gain, offset, field))
    weights = least_variance(np.stack(errors, axis=1))
    base = np.zeros(frame.shape, np.float32)
    for weight, image in zip(weights, laid, strict=True):
        base += weight * image
    left = extend_smoothly(frame.astype(np.float32) - base, ~hole)
    depth = cv2.distanceTransform(hole.view(np.uint8), cv2.DIST_L2, 3)[..., None]
    return base + np.exp(-depth / np.float32(FADE_PX)) * left * hole[..., None], weights


def _fit(source, small, ring):
    gain, offset = np.ones(3, np.float32), np.zeros(3, np.float32)
    x, y = _sample(small, ring), _sample(source, ring)
    for channel in range(3):
        gain[channel], offset[channel] = _fit_line(x[:, channel], y[:, channel])
    return gain, offset, _fit_field(source, small * gain + offset, ring)


def _lay(image, gain, offset, field):
    return (image * gain + offset) * cv2.resize(field, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def fill_smoothly(frame: BgrImage, hole: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(S, S, 3) float32: the hole closed over smoothly from its surroundings."""
    return extend_smoothly(frame.astype(np.float32), ~hole, otherwise=128.0)


def least_variance(errors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights that sum to 1 and minimise the squared weighted error: (n, K) → (K,), with a ridge.

    The classical combination of forecasts (Bates and Granger, 1969).
    """
    count = errors.shape[1]
    moments = errors.T.astype(np.float64) @ errors / max(1, len(errors))
    ridge = RIDGE * float(np.trace(moments)) / count + 1e-3
    weights = np.linalg.solve(moments + ridge * np.eye(count), np.ones(count))
    return np.asarray(weights / weights.sum(), np.float32)
