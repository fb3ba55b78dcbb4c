"""What a base is off by around a hole, carried into it: kriging, and texture drawn as the surroundings have it.

Errors around a hole are taken for a stationary random field. Its covariance is that of the known errors, from their
spectrum; the best linear guess inside follows from those at the rim (simple kriging; Matheron, 1963). Lines that
run into the hole run on, and what is only at its rim fades as fast as it varies. Fields with the same covariance are
drawn by giving the known errors random phases (Galerne, Gousseau and Morel, 2011); kriged to the rim they fit the hole
without a seam (Galerne and Leclaire, 2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FloatImage = NDArray[np.float32]
Known = NDArray[np.bool_]

RIM_PX = 32
"""So far around a hole errors should be known: a covariance needs samples. Pixels of the resolution it is closed at."""
LARGEST_HOLE_PX = 128
"""Longer holes are closed at a lower resolution: what is fine does not reach deep."""
MOST_POINTS = 300
POINTS_RIM_PX = 6.0
"""As many known pixels at most, and no farther from the hole, decide what is inside."""
LEAST_KNOWN = 16
OUTLIER_RMS = 1.5
"""What is off by more is cut off there: beside a hole in a defective part it is the rest of the defect."""
PAD_PX = 24
"""The spectrum is that of a torus, on which the crop must not touch itself."""
NUGGET = 0.01
LEAST_VARIANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Texture:
    """A stationary random field of C channels on a torus of `size` (rows, columns), learned from known samples.

    `spectrum` (rows, columns // 2 + 1) float32 is its power, the mean of the channels; `pattern` the same with a last
    axis for the channels, complex64: what is drawn gets its amplitudes and, between channels, its phases.
    """

    spectrum: FloatImage
    pattern: NDArray[np.complex64]
    size: tuple[int, int]

    @classmethod
    def learn(cls, values: FloatImage, known: Known) -> Texture:
        """From `values` (h, w, C) where `known` (h, w); the mean is taken for 0. Some must be known."""
        shown = cv2.copyTo(values, known.view(np.uint8))
        size = (cv2.getOptimalDFTSize(known.shape[0] + PAD_PX), cv2.getOptimalDFTSize(known.shape[1] + PAD_PX))
        share = np.float32(1.0 / np.sqrt(np.count_nonzero(known)))
        pattern = np.fft.rfft2(np.asarray(shown * share, np.float32), size, axes=(0, 1)).astype(np.complex64)
        return cls((pattern.real**2 + pattern.imag**2).mean(axis=2), pattern, size)

    def extend(self, values: FloatImage, known: Known) -> FloatImage:
        """The field that `values` (h, w, C) at the rim of what is `known` ask for, everywhere: (h, w, C) float32."""
        rows, columns = _choose_points(known)
        covariance = np.fft.irfft2(self.spectrum, self.size).astype(np.float32)
        # What is before the first row or column is, on a torus, counted from the last: as negative indices are.
        between = covariance[rows[:, None] - rows, columns[:, None] - columns].astype(np.float64)
        between[np.diag_indices(len(rows))] += NUGGET * float(covariance[0, 0]) + LEAST_VARIANCE
        # A covariance with a nugget is positive definite. NumPy's solver would wake the threads of BLAS for 1 ms of
        # work: on a busy host they wait for each other, up to 300 ms.
        _, solved = cv2.solve(between, values[rows, columns].astype(np.float64), flags=cv2.DECOMP_CHOLESKY)
        weights = np.zeros((*self.size, values.shape[2]), np.float32)
        weights[rows, columns] = solved
        field = self._to_pixels(np.fft.rfft2(weights, axes=(0, 1)) * self.spectrum[..., None])
        return field[: known.shape[0], : known.shape[1]]

    def draw(self, random: np.random.Generator) -> FloatImage:
        """A field at random, (*size, C) float32. It can be laid beside itself: its opposite edges fit."""
        noise = random.standard_normal(self.size, dtype=np.float32)
        return self._to_pixels(np.fft.rfft2(noise)[..., None] * self.pattern)

    def _to_pixels(self, transform: NDArray[np.complexfloating]) -> FloatImage:
        return np.asarray(np.fft.irfft2(transform, self.size, axes=(0, 1)), np.float32)


def carry_in(
    frame: FloatImage,
    base: FloatImage,
    hole: NDArray[np.bool_],
    largest_px: int = LARGEST_HOLE_PX,
    outlier_rms: float = OUTLIER_RMS,
) -> FloatImage:
    """The base with what it is off by around the `hole` carried into it: (h, w, 3) float32, unchanged outside.

    `frame` (h, w, 3) counts outside of the hole alone. See `carry`.
    """
    carried = carry(frame - base, hole, largest_px, outlier_rms)
    return np.asarray(base + carried * hole[..., None], np.float32)


def carry(
    misfit: FloatImage,
    hole: NDArray[np.bool_],
    largest_px: int = LARGEST_HOLE_PX,
    outlier_rms: float = OUTLIER_RMS,
) -> FloatImage:
    """What a base is off by around the `hole` (h, w), and carried into it: (h, w, 3) float32.

    `misfit` (h, w, 3) counts outside of the hole alone. A hole with a side above `largest_px` is closed at a half, a
    quarter and so on of the resolution. What is off by more than `outlier_rms` times the root mean square is cut off
    there, around the hole as well. With hardly anything known nothing is carried.
    """
    known = ~hole
    # Copied under a mask: five times as fast as multiplied by it.
    errors = _clip_outliers(np.asarray(cv2.copyTo(misfit, known.view(np.uint8)), np.float32), known, outlier_rms)
    if known.all() or np.count_nonzero(known) < LEAST_KNOWN or not errors.any():
        return errors
    carried = _extend_reduced(errors, known, _choose_level(hole, largest_px))
    return np.asarray(cv2.copyTo(carried, hole.view(np.uint8), dst=errors), np.float32)


def _clip_outliers(errors: FloatImage, known: Known, outlier_rms: float) -> FloatImage:
    limit = outlier_rms * cv2.norm(errors) / float(np.sqrt(errors.shape[2] * max(1, np.count_nonzero(known))))
    return np.asarray(np.clip(errors, -limit, limit), np.float32)


def _choose_level(hole: NDArray[np.bool_], largest_px: int) -> int:
    _, _, wide, high = cv2.boundingRect(hole.view(np.uint8))
    level = 0
    while max(wide, high) >> level > largest_px:
        level += 1
    return level


def _extend_reduced(errors: FloatImage, known: Known, level: int) -> FloatImage:
    """The errors extended at a resolution reduced by 2 ** level; a cell is known where half of it is."""
    if level == 0:
        return Texture.learn(errors, known).extend(errors, known)
    factor = 2**level
    height, width = known.shape
    border = (0, -height % factor, 0, -width % factor, cv2.BORDER_CONSTANT)
    share = cv2.copyMakeBorder(known.astype(np.float32), *border)
    size = (share.shape[1] // factor, share.shape[0] // factor)
    share = cv2.resize(share, size, interpolation=cv2.INTER_AREA)
    reduced = cv2.resize(cv2.copyMakeBorder(errors, *border), size, interpolation=cv2.INTER_AREA)
    enough = np.asarray(share >= 0.5)
    if np.count_nonzero(enough) < LEAST_KNOWN:
        return np.zeros_like(errors)
    values = np.asarray(reduced / np.maximum(share, 0.5)[..., None] * enough[..., None], np.float32)
    extended = values
    if not enough.all():
        extended = np.ascontiguousarray(Texture.learn(values, enough).extend(values, enough))
        cv2.copyTo(values, enough.view(np.uint8), dst=extended)
    doubled = cv2.resize(extended, (size[0] * factor, size[1] * factor), interpolation=cv2.INTER_LINEAR)
    return np.asarray(doubled[:height, :width], np.float32)


def _choose_points(known: Known) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of known pixels near unknown ones: at random, the nearer the likelier, the same every time."""
    depth = cv2.distanceTransform(known.view(np.uint8), cv2.DIST_L2, 3)
    near = known & (depth <= POINTS_RIM_PX)
    rows, columns = np.nonzero(near if near.any() else known)
    if len(rows) > MOST_POINTS:
        # Weighted draws without replacement: the largest of u ** (1 / weight) (Efraimidis and Spirakis, 2006).
        keys = np.random.default_rng(0).random(len(rows)) ** np.square(depth[rows, columns])
        chosen = np.sort(np.argpartition(-keys, MOST_POINTS)[:MOST_POINTS])
        rows, columns = rows[chosen], columns[chosen]
    return rows, columns
