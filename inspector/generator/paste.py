"""The first twin: the registered reference, matched to the light of this part, in the suspicious regions.

Per region: align the reference to the undisturbed ring around the mask, fit gain and offset per channel
there, let a smooth gain field follow the local light, blend. All is learned on a crop reduced to about
`WORK_SIDE_PX`; only what is painted is computed at full resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.generator.regions import (
    MaskRegion,
    blend_into,
    check_repair_input,
    choose_feather_px,
    expand_box,
    feather_alpha,
    place_mask,
    split_mask,
)
from inspector.generator.repairer import Twin
from inspector.geometry.registration import compose, warp_to_frame
from inspector.records import BgrImage, BoxPx

GUARD_PX = 4
"""A defect often reaches a little over its mask; so close to it nothing is learned."""
SEARCH_PX = 8
MAX_RING_PX = 160
"""How far around a region its surroundings are looked at."""
WORK_SIDE_PX = 192
GAIN_SIDE_PX = 48
GAIN_RANGE = (0.4, 2.5)
MIN_RING_PX = 64
FIT_SAMPLES = 4000
FloatImage = NDArray[np.float32]


class PasteRepairer:
    """Registered reference with local gain matching. Needs a reference: `ValueError` without one."""

    method = "paste"

    def repair(self, pixels: BgrImage, mask: NDArray[np.bool_], reference: BgrImage | None) -> Twin:
        """See `Repairer.repair`."""
        if reference is None:
            raise ValueError("paste needs a reference registered to the frame")
        check_repair_input(pixels, mask, reference)
        twin, changed = pixels.copy(), np.zeros(mask.shape, np.bool_)
        regions = split_mask(mask)
        for region in regions:
            surroundings = _view_surroundings(pixels, mask, reference, region)
            light, warp = _learn_light(surroundings)
            feather_px = choose_feather_px(region)
            inner = expand_box(region.box_xyxy_px, feather_px + 1, mask.shape[1], mask.shape[0])
            painted = light.apply(_cut_reference(reference, surroundings, warp, inner), surroundings.crop, inner)
            blend_into(twin, changed, inner, painted, feather_alpha(place_mask(region, inner), feather_px))
        return Twin(twin, changed, self.method, len(regions))


def lay_reference(golden: BgrImage, matrix: NDArray[np.float64], mask: NDArray[np.bool_]) -> BgrImage:
    """The golden image laid onto a frame by a reference → frame matrix, only as far around `mask` as it is used.

    Returns (H, W, 3) of the mask's size; far from the mask it is black.
    """
    height, width = mask.shape
    laid = np.zeros((height, width, 3), np.uint8)
    for region in split_mask(mask):
        x0, y0, x1, y1 = expand_box(region.box_xyxy_px, MAX_RING_PX, width, height)
        moved = compose(np.array([[1.0, 0.0, -x0], [0.0, 1.0, -y0]]), matrix)
        laid[y0:y1, x0:x1] = warp_to_frame(golden, moved, (x1 - x0, y1 - y0))
    return laid


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """A crop around one region, reduced: float32 BGR of frame and reference, and the trusted ring (bool)."""

    crop: BoxPx
    source: FloatImage
    reference: FloatImage
    ring: NDArray[np.bool_]

    @property
    def scale_xy(self) -> tuple[float, float]:
        """Reduced pixels a frame pixel."""
        x0, y0, x1, y1 = self.crop
        return self.ring.shape[1] / (x1 - x0), self.ring.shape[0] / (y1 - y0)


def _view_surroundings(
    pixels: BgrImage, mask: NDArray[np.bool_], reference: BgrImage, region: MaskRegion
) -> _Surroundings:
    height, width = mask.shape
    crop = expand_box(region.box_xyxy_px, int(np.clip(region.size_px * 0.6, 40, MAX_RING_PX)), width, height)
    x0, y0, x1, y1 = crop
    scale = min(1.0, WORK_SIDE_PX / max(x1 - x0, y1 - y0))
    size = (max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale)))
    guard = np.ones((2 * GUARD_PX + 1, 2 * GUARD_PX + 1), np.uint8)
    untrusted = cv2.dilate(np.ascontiguousarray(mask[y0:y1, x0:x1]).view(np.uint8) * np.uint8(255), guard)
    return _Surroundings(
        crop,
        _reduce(pixels[y0:y1, x0:x1], size).astype(np.float32),
        _reduce(reference[y0:y1, x0:x1], size).astype(np.float32),
        _reduce(np.asarray(untrusted, np.uint8), size) == 0,
    )


def _reduce(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


# --- alignment --------------------------------------------------------------------------------------


def _find_warp(around: _Surroundings) -> NDArray[np.float64] | None:
    """The (2, 3) map reference → frame in reduced pixels of least ring error; None where standing still is best."""
    source, reference, ring = _grey(around.source), _grey(around.reference), around.ring.astype(np.uint8)
    whole = _search_shift(source, reference, ring)
    best, best_error = None, 0.98 * _ring_error(source, reference, ring)
    for warp in (whole, _refine_warp(source, reference, ring, whole)):
        if warp is None:
            continue
        moved = cv2.warpAffine(
            reference, warp, reference.shape[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
        error = _ring_error(source, np.asarray(moved, np.float32), ring)
        if error < best_error:
            best, best_error = warp, error
    return best


def _grey(crop: FloatImage) -> FloatImage:
    return np.asarray(cv2.GaussianBlur(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), (0, 0), 1.0), np.float32)


def _search_shift(source: FloatImage, reference: FloatImage, ring: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Best shift by whole pixels within ±`SEARCH_PX`, by masked normalised cross-correlation."""
    reach = SEARCH_PX
    padded = cv2.copyMakeBorder(reference, reach, reach, reach, reach, cv2.BORDER_REFLECT_101)
    match = cv2.matchTemplate(padded, source, cv2.TM_CCOEFF_NORMED, mask=ring.astype(np.float32))
    match = np.where(np.isfinite(match), match, -1.0)
    row, column = np.unravel_index(int(np.argmax(match)), match.shape)
    return np.array([[1.0, 0.0, SEARCH_PX - float(column)], [0.0, 1.0, SEARCH_PX - float(row)]])


def _refine_warp(
    source: FloatImage, reference: FloatImage, ring: NDArray[np.uint8], start: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Sub-pixel shift and turn by enhanced correlation (Evangelidis and Psarakis, 2008); None when it diverges."""
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 10, 1e-3)
    try:
        _, found = cv2.findTransformECC(
            reference, source, start.astype(np.float32), cv2.MOTION_EUCLIDEAN, criteria, ring, 3
        )
    except cv2.error:
        return None
    refined = np.asarray(found, np.float64)
    centre = np.array([reference.shape[1] / 2, reference.shape[0] / 2, 1.0])
    drift = np.hypot(*(refined @ centre - start @ centre))
    return refined if np.isfinite(refined).all() and drift <= 3.0 and abs(refined[1, 0]) < 0.1 else None


def _ring_error(source: FloatImage, reference: FloatImage, ring: NDArray[np.uint8]) -> float:
    """Mean absolute ring difference after the best gain and offset, in grey levels."""
    x, y = _sample(reference, ring > 0), _sample(source, ring > 0)
    gain, offset = _fit_line(x, y)
    return float(np.abs(y - gain * x - offset).mean())


def _cut_reference(
    reference: BgrImage, around: _Surroundings, warp: NDArray[np.float64] | None, inner: BoxPx
) -> FloatImage:
    """The reference at full resolution inside `inner`, moved by `warp` (reduced pixels of `around`)."""
    x0, y0, x1, y1 = inner
    if warp is None:
        return reference[y0:y1, x0:x1].astype(np.float32)
    scale_x, scale_y = around.scale_xy
    reduce = np.array([[scale_x, 0.0, (scale_x - 1) / 2], [0.0, scale_y, (scale_y - 1) / 2], [0.0, 0.0, 1.0]])
    moved = np.linalg.inv(reduce) @ np.vstack([warp, [0.0, 0.0, 1.0]]) @ reduce
    left, top, right, bottom = around.crop
    moved[:2, 2] += (left - x0, top - y0)
    crop = reference[top:bottom, left:right]
    cut = cv2.warpAffine(crop, moved[:2], (x1 - x0, y1 - y0), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(cut, np.float32)


# --- light ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Light:
    """How the reference looks in the light of the frame: (gain · reference + offset) · field, per channel.

    `field` is (h, w, 3) float32 over the crop of the surroundings at a low resolution.
    """

    gain: FloatImage
    offset: FloatImage
    field: FloatImage

    def apply(self, reference: FloatImage, crop: BoxPx, inner: BoxPx) -> FloatImage:
        """The reference cut at `inner` in the light of the frame; `crop` is where the field lies."""
        scale_x = (crop[2] - crop[0]) / self.field.shape[1]
        scale_y = (crop[3] - crop[1]) / self.field.shape[0]
        enlarge = np.array(
            [
                [scale_x, 0.0, (scale_x - 1) / 2 + crop[0] - inner[0]],
                [0.0, scale_y, (scale_y - 1) / 2 + crop[1] - inner[1]],
            ]
        )
        size = (reference.shape[1], reference.shape[0])
        field = cv2.warpAffine(self.field, enlarge, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray((reference * self.gain + self.offset) * field, np.float32)


def _learn_light(around: _Surroundings) -> tuple[_Light, NDArray[np.float64] | None]:
    """Align and fit on the ring; with hardly any ring (the region is the frame) the reference is taken as it is."""
    gain, offset = np.ones(3, np.float32), np.zeros(3, np.float32)
    if np.count_nonzero(around.ring) < MIN_RING_PX or min(around.ring.shape) < 8:
        return _Light(gain, offset, np.ones((1, 1, 3), np.float32)), None
    warp, reference = _find_warp(around), around.reference
    if warp is not None:
        moved = cv2.warpAffine(
            reference, warp, reference.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
        reference = np.asarray(moved, np.float32)
    x, y = _sample(reference, around.ring), _sample(around.source, around.ring)
    for channel in range(3):
        gain[channel], offset[channel] = _fit_line(x[:, channel], y[:, channel])
    return _Light(gain, offset, _fit_field(around.source, reference * gain + offset, around.ring)), warp


def _sample(image: FloatImage, ring: NDArray[np.bool_]) -> FloatImage:
    """At most about `FIT_SAMPLES` of the ring's pixels, evenly taken."""
    inside = image[ring]
    return inside[:: max(1, len(inside) // FIT_SAMPLES)]


def _fit_line(x: FloatImage, y: FloatImage) -> tuple[float, float]:
    """Robust gain and offset with y ≈ gain·x + offset.

    Noise in x pulls a least-squares slope towards 0; weighting it by the correlation against the plain ratio
    of the means keeps flat or badly aligned rings from losing their contrast.
    """
    kept_x, kept_y, gain, offset = x, y, 1.0, 0.0
    for _ in range(2):
        mean_x, mean_y = float(kept_x.mean()), float(kept_y.mean())
        dx, dy = kept_x - np.float32(mean_x), kept_y - np.float32(mean_y)
        var_x, var_y, covariance = float(dx @ dx), float(dy @ dy), float(dx @ dy)
        trust = max(0.0, covariance) ** 2 / max(var_x * var_y, 1e-6)
        ratio = (mean_y + 1.0) / (mean_x + 1.0)
        slope = trust * covariance / max(var_x, 1e-6) + (1.0 - trust) * ratio
        gain = float(np.clip(slope, *GAIN_RANGE))
        offset = mean_y - gain * mean_x
        residual = np.abs(y - np.float32(gain) * x - np.float32(offset))
        near = residual <= max(4.0, 3.0 * float(np.median(residual)))
        kept_x, kept_y = x[near], y[near]
    return gain, offset


def _fit_field(source: FloatImage, matched: FloatImage, ring: NDArray[np.bool_]) -> FloatImage:
    """Smooth ratio source / matched, known on the ring and carried into the hole: (h, w, 3) float32.

    Normalised convolution (Knutsson and Westin, 1993) from wide to narrow: near the ring the local light counts,
    deep inside the hole the average of all around it.
    """
    scale = min(1.0, GAIN_SIDE_PX / max(ring.shape))
    size = (max(2, round(ring.shape[1] * scale)), max(2, round(ring.shape[0] * scale)))
    difference = np.abs(source - matched).max(axis=2)
    limit = max(12.0, 4.0 * float(np.median(_sample(difference, ring))))
    weight = (ring & (difference <= limit)).astype(np.float32)[..., None]
    if not weight.any():
        return np.ones((1, 1, 3), np.float32)
    small_weight = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)[..., None]
    wanted = cv2.resize((source + 4.0) * weight, size, interpolation=cv2.INTER_AREA)
    given = cv2.resize((np.maximum(matched, 0.0) + 4.0) * weight, size, interpolation=cv2.INTER_AREA)
    field = np.ones((size[1], size[0], 3), np.float32) * (wanted.sum(axis=(0, 1)) / given.sum(axis=(0, 1)))
    for share in (3.0, 6.0, 12.0, 24.0):
        sigma = max(0.5, max(size) / share)
        known = _blur(small_weight, sigma)[..., None]
        local = (_blur(wanted, sigma) + 1e-3 * field) / (_blur(given, sigma) + 1e-3)
        field = field + known / (known + 0.1) * (local - field)
    return np.asarray(np.clip(field, *GAIN_RANGE), np.float32)


def _blur(image: FloatImage, sigma: float) -> FloatImage:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT), np.float32)
