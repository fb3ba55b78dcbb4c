"""The light of a frame: how references must be lit to look as their surroundings do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.generator.references import GAIN_RANGE, add_up
from inspector.generator.surroundings import FloatImage, Surroundings
from inspector.records import BgrImage, BoxPx

FIELD_SIDE_PX = 32
FIELD_STEP_PX = 8
"""Between such steps, on a lattice of the frame, the field is laid out straight."""
FIT_SAMPLES = 1500
FIELD_WIDTHS = (3.0, 6.0, 12.0)
"""Sides of the field for each standard deviation of the averages that make it, wide to narrow."""
OUTLIER_LEVELS = 12.0
WHOLLY_KNOWN = 0.999
RIDGE = 0.1
LEAST_VARIANCE = 1e-3


@dataclass(frozen=True, slots=True)
class MixedLight:
    """The weighted mean of K references in the light of the frame: (sum of gain x reference, + offset) x field.

    `gains` are (K, 3) with the weights in them, `offset` (3,), for each channel. `field` is (h, w, 3) float32 over
    `covered` of the frame, at a low resolution.
    """

    gains: FloatImage
    offset: FloatImage
    field: FloatImage
    covered: BoxPx

    def mix(self, references: Iterable[BgrImage], box: BoxPx, level: int = 0) -> FloatImage:
        """The mean of references (h, w, 3) uint8 cut at `box` and reduced by 2 ** level: (h, w, 3) float32.

        What is mixed in parts is the same as what is mixed as a whole.
        """
        return self.shine_on(add_up(references, self.gains, self.offset), box, level)

    def shine_on(self, mean: FloatImage, box: BoxPx, level: int = 0) -> FloatImage:
        """The field over a sum (h, w, 3) at `box`, reduced by 2 ** level; the sum is changed."""
        return np.asarray(cv2.multiply(mean, self._lay_field(box, level, mean.shape), dst=mean), np.float32)

    def _lay_field(self, box: BoxPx, level: int, shape: tuple[int, ...]) -> FloatImage:
        """The field over `box`: looked up on a lattice that is the same for every box, straight in between."""
        step = max(1, FIELD_STEP_PX >> level)
        by_axis = []
        for axis, side in ((0, shape[1]), (1, shape[0])):
            first = (box[axis] >> level) // step - 1
            count = ((box[axis] >> level) + side - 1) // step + 2 - first
            middle = (first + np.arange(count) + 0.5) * (step << level)
            cell = (self.covered[axis + 2] - self.covered[axis]) / self.field.shape[1 - axis]
            by_axis.append(_weigh_cells((middle - self.covered[axis]) / cell - 0.5, self.field.shape[1 - axis]))
        rows, columns = self.field.shape[:2]
        coarse = np.matmul(by_axis[0], (by_axis[1] @ self.field.reshape(rows, -1)).reshape(-1, columns, 3))
        size = (coarse.shape[1] * step, coarse.shape[0] * step)
        fine = cv2.resize(coarse.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        top, left = ((box[axis] >> level) % step + step for axis in (1, 0))
        return np.asarray(fine[top : top + shape[0], left : left + shape[1]], np.float32)


def _weigh_cells(places: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """(S, count): how much each cell counts at (S,) places between them, linearly; at the ends the last alone."""
    return np.maximum(0.0, 1.0 - np.abs(np.clip(places, 0, count - 1)[:, None] - np.arange(count)))


def leave_light(covered: BoxPx) -> MixedLight:
    """One reference as it is."""
    return MixedLight(np.ones((1, 3), np.float32), np.zeros(3, np.float32), np.ones((1, 1, 3), np.float32), covered)


def learn_light(around: Surroundings, references: NDArray[np.float32]) -> tuple[MixedLight, NDArray[np.float64]]:
    """The light of K references as they lie in the surroundings, (K, h, w, 3) float32, and their weights (K,) float64.

    Gain and offset of each, then the weights, which sum to 1, are fitted on the ring; then one smooth field to their
    mean: with a field for each the twin is the same to 0.03 dB and takes 3 ms longer.
    """
    rows, columns = around.sample_ring(FIT_SAMPLES)
    x, y = references[:, rows, columns], around.source[rows, columns]
    lines = np.ascontiguousarray(x.transpose(0, 2, 1)), np.ascontiguousarray(y.T)
    gain, offset = fit_lines(lines[0], np.broadcast_to(lines[1], lines[0].shape))
    errors = x * gain[:, None] + offset[:, None] - y
    weights = weigh_references(errors.reshape(len(x), -1))
    shares = weights.astype(np.float32)[:, None]
    gains, offset = shares * gain, (shares * offset).sum(axis=0)
    left = np.abs(np.tensordot(shares[:, 0], errors, axes=1)).max(axis=1)
    limit = max(OUTLIER_LEVELS, 4.0 * float(np.median(left)))
    field = _fit_field(around, add_up(references, gains, offset), limit)
    return MixedLight(gains, offset, field, around.covered), weights


def weigh_references(errors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Weights that sum to 1 and leave the least mean square of the weighted errors (K, N): (K,) float64.

    A ridge keeps them from cancelling each other's noise where the ring is small.
    """
    count = len(errors)
    covariance = (errors @ errors.T / errors.shape[1]).astype(np.float64)
    ridge = RIDGE * np.trace(covariance) / count + LEAST_VARIANCE
    weights = np.linalg.solve(covariance + ridge * np.eye(count), np.ones(count))
    return np.asarray(weights / weights.sum(), np.float64)


def fit_lines(x: NDArray[np.float32], y: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Robust gains and offsets with y ≈ gain * x + offset along the last axis of two arrays of one shape.

    Noise in x pulls a least-squares slope towards 0; weighting it by the correlation against the plain ratio of the
    means keeps flat or badly aligned rings from losing their contrast.
    """
    kept = np.ones(x.shape, np.float32)
    gain = offset = np.zeros(x.shape[:-1], np.float32)
    for attempt in range(2):
        count = kept.sum(axis=-1)
        mean_x, mean_y = (x * kept).sum(axis=-1) / count, (y * kept).sum(axis=-1) / count
        dx, dy = (x - mean_x[..., None]) * kept, (y - mean_y[..., None]) * kept
        var_x, var_y, covariance = ((one * other).sum(axis=-1) for one, other in ((dx, dx), (dy, dy), (dx, dy)))
        trust = np.maximum(covariance, 0.0) ** 2 / np.maximum(var_x * var_y, 1e-6)
        ratio = (mean_y + 1.0) / (mean_x + 1.0)
        slope = trust * covariance / np.maximum(var_x, 1e-6) + (1.0 - trust) * ratio
        gain = np.clip(slope, *GAIN_RANGE).astype(np.float32)
        offset = (mean_y - gain * mean_x).astype(np.float32)
        if attempt == 0:
            residual = np.abs(y - gain[..., None] * x - offset[..., None])
            kept = (residual <= np.maximum(4.0, 3.0 * np.median(residual, axis=-1))[..., None]).astype(np.float32)
    return gain, offset


def _fit_field(around: Surroundings, mean: FloatImage, limit: float) -> FloatImage:
    """The smooth ratio frame / `mean` (H, W, 3), known on the ring and carried into the hole: (h, w, 3) float32.

    Normalised convolution (Knutsson and Westin, 1993) from wide to narrow: near the ring the local light counts,
    deep inside the hole the average of all around it.
    """
    height, width = around.ring.shape
    scale = min(0.5, FIELD_SIDE_PX / max(height, width))
    rows, columns = max(2, round(height * scale)), max(2, round(width * scale))
    size = (2 * columns, 2 * rows)
    known = cv2.resize(around.ring.astype(np.float32), size, interpolation=cv2.INTER_AREA) > WHOLLY_KNOWN
    source = cv2.resize(around.source, size, interpolation=cv2.INTER_AREA)
    matched = cv2.resize(mean, size, interpolation=cv2.INTER_AREA)
    weight = (known & (np.abs(matched - source).max(axis=2) <= limit)).astype(np.float32)[..., None]
    planes = np.concatenate([(source + 4.0) * weight, (np.maximum(matched, 0.0) + 4.0) * weight, weight], axis=2)
    planes = np.asarray(cv2.resize(planes, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)
    wanted, given = planes[..., :3].sum(axis=(0, 1)), planes[..., 3:6].sum(axis=(0, 1))
    overall = np.where(given > 0, wanted / np.maximum(given, 1e-6), 1.0)
    field = np.broadcast_to(overall, (rows, columns, 3))
    for share in FIELD_WIDTHS:
        blurred = _blur(planes, max(0.5, max(rows, columns) / share))
        near = blurred[..., 6:]
        local = (blurred[..., :3] + 1e-3 * field) / (blurred[..., 3:6] + 1e-3)
        field = field + near / (near + 0.1) * (local - field)
    return np.asarray(np.clip(field, *GAIN_RANGE), np.float32)


def _blur(image: FloatImage, sigma: float) -> FloatImage:
    """Gaussian over the rows and columns of (h, w, C), mirrored at the edges."""
    by_row, by_column = (
        cv2.GaussianBlur(np.eye(side, dtype=np.float32), (1, 0), 0.001, sigmaY=sigma, borderType=cv2.BORDER_REFLECT)
        for side in image.shape[:2]
    )
    across = np.matmul(by_column, image)
    return np.asarray(np.matmul(by_row, across.reshape(len(image), -1)).reshape(image.shape), np.float32)
