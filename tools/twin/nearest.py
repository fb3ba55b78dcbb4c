"""The plain classical baseline: the nearest of all good images, registered, in the light of the part.

Not the product's `paste`, on purpose: what anybody could write in an afternoon with OpenCV, and the number to beat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.geometry.registration import Matrix, compose, make_reference, register, warp
from inspector.images import decode_image, read_image_bytes
from inspector.records import BgrImage, BoxPx

THUMBNAIL_PX = 64
SHORTLIST = 12
"""All good images are compared as thumbnails; so many of them are registered to the frame."""
REFINED = 3
"""So many of those that fit best around the mask are refined by ECC before the best is taken."""
LEAST_CONFIDENCE = 0.3
GUARD_PX = 4
RING_SHARE, RING_PX = 0.6, (40, 160)
ECC_SIDE_PX = 256
ECC_ITERATIONS, ECC_EPSILON = 50, 1e-4

Mask = NDArray[np.bool_]
FloatImage = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A good image and where it lies: `matrix` maps frame pixels to its pixels."""

    pixels: BgrImage
    matrix: Matrix


class NearestGood:
    """Paints masks of frames of one part in a fixed pose. Keeps every good image decoded, and the last frame's work."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._good = [decode_image(read_image_bytes(path)) for path in paths]
        self._thumbnails = np.stack([_thumbnail(pixels) for pixels in self._good])
        self._frame: BgrImage | None = None
        self._candidates: list[_Candidate] = []

    def paint(self, pixels: BgrImage, mask: Mask) -> BgrImage | None:
        """The frame with its mask filled; None when no good image can be registered. No pixel outside is changed."""
        if self._frame is not pixels:
            self._frame, self._candidates = pixels, self._register(pixels)
        if not self._candidates:
            return None
        crop = _surroundings(mask)
        x0, y0, x1, y1 = crop
        source = pixels[y0:y1, x0:x1].astype(np.float32)
        hole = np.ascontiguousarray(mask[y0:y1, x0:x1])
        guard = np.ones((2 * GUARD_PX + 1, 2 * GUARD_PX + 1), np.uint8)
        ring = np.asarray(cv2.dilate(hole.view(np.uint8), guard) == 0, np.bool_)
        if not ring.any():
            ring = ~hole if not hole.all() else np.ones(hole.shape, np.bool_)
        laid = [_match_light(source, _cut(candidate, crop), ring) for candidate in self._candidates]
        order = np.argsort([error for _, error in laid])[:REFINED]
        tried = [laid[index] for index in order]
        for index in order:
            refined = _refine(source, laid[index][0], ring)
            if refined is not None:
                tried.append(_match_light(source, _cut(self._candidates[index], crop, refined), ring))
        best, _ = min(tried, key=lambda item: item[1])
        painted = pixels.copy()
        painted[y0:y1, x0:x1][hole] = np.clip(np.rint(best), 0, 255).astype(np.uint8)[hole]
        return painted

    def _register(self, pixels: BgrImage) -> list[_Candidate]:
        alike = self._thumbnails @ _thumbnail(pixels)
        reference = make_reference(pixels, "affine")
        found = []
        for index in np.argsort(-alike)[:SHORTLIST]:
            good = self._good[index]
            if good.shape != pixels.shape:
                continue
            registration = register(reference, good)
            if registration.confidence >= LEAST_CONFIDENCE:
                found.append(_Candidate(good, registration.matrix))
        return found


def _thumbnail(pixels: BgrImage) -> NDArray[np.float32]:
    """A flat thumbnail of zero mean and length 1: the product of two is their correlation."""
    small = cv2.resize(
        cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), (THUMBNAIL_PX, THUMBNAIL_PX), None, 0, 0, cv2.INTER_AREA
    )
    flat = cv2.GaussianBlur(small, (0, 0), 1.0).astype(np.float32).ravel()
    flat -= flat.mean()
    return np.asarray(flat / max(float(np.linalg.norm(flat)), 1e-6), np.float32)


def _surroundings(mask: Mask) -> BoxPx:
    left, top, wide, high = cv2.boundingRect(mask.view(np.uint8))
    reach = int(np.clip(RING_SHARE * max(wide, high), *RING_PX))
    height, width = mask.shape
    return (max(0, left - reach), max(0, top - reach), min(width, left + wide + reach), min(height, top + high + reach))


def _cut(candidate: _Candidate, crop: BoxPx, moved: Matrix | None = None) -> FloatImage:
    """The good image where the frame shows `crop`; `moved` maps pixels of the crop to pixels of the crop as laid."""
    x0, y0, x1, y1 = crop
    matrix = compose(candidate.matrix, np.array([[1.0, 0.0, x0], [0.0, 1.0, y0]]))
    matrix = matrix if moved is None else compose(matrix, moved)
    cut = warp(candidate.pixels, matrix, (x1 - x0, y1 - y0), interpolation=cv2.INTER_CUBIC)
    return np.asarray(cut, np.float32)


def _match_light(source: FloatImage, laid: FloatImage, ring: Mask) -> tuple[FloatImage, float]:
    """`laid` with the gain and offset per channel that fit the ring best, and the mean error left there."""
    matched = np.empty_like(laid)
    for channel in range(3):
        x, y = laid[..., channel][ring], source[..., channel][ring]
        spread = float(x.var())
        gain = float(((x - x.mean()) * (y - y.mean())).mean()) / spread if spread > 1.0 else 1.0
        gain = float(np.clip(gain, 0.4, 2.5))
        matched[..., channel] = gain * laid[..., channel] + (float(y.mean()) - gain * float(x.mean()))
    return matched, float(np.abs(source - matched)[ring].mean())


def _refine(source: FloatImage, laid: FloatImage, ring: Mask) -> Matrix | None:
    """ECC on the ring (Evangelidis and Psarakis, 2008); None when it diverges."""
    scale = min(1.0, ECC_SIDE_PX / max(ring.shape))
    size = (max(8, round(ring.shape[1] * scale)), max(8, round(ring.shape[0] * scale)))
    ours, theirs = (
        cv2.resize(cv2.cvtColor(np.clip(image, 0, 255), cv2.COLOR_BGR2GRAY), size, interpolation=cv2.INTER_AREA)
        for image in (source, laid)
    )
    known = cv2.resize(ring.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    still: NDArray[np.float32] = np.eye(2, 3, dtype=np.float32)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, ECC_ITERATIONS, ECC_EPSILON)
    try:
        _, found = cv2.findTransformECC(ours, theirs, still, cv2.MOTION_EUCLIDEAN, criteria, known, 5)
    except cv2.error:
        return None
    matrix = np.asarray(found, np.float64)
    matrix[:, 2] /= scale
    return matrix if np.isfinite(matrix).all() and float(np.abs(matrix[:, 2]).max()) < 16.0 else None
