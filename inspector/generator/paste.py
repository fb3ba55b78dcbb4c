"""The classical twin: the nearest good images, registered and lit as this part is, in the suspicious regions.

Per region: choose the good images most like the undisturbed ring around the mask, align each of them there, fit gain
and offset per channel and a smooth field that follows the local light, then average them with the weights that
leave the least variance on the ring, and blend. All is learned on a crop reduced to about `WORK_SIDE_PX`; only what
is painted is computed at full resolution, each reference interpolated once.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.generator.alignment import find_warps, to_frame_px
from inspector.generator.kriging import RIM_PX, carry_in
from inspector.generator.light import Light, learn_lights, leave_light
from inspector.generator.references import PlacedReferences
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
from inspector.generator.surroundings import GUARD_PX, FloatImage, grow_mask, view_surroundings
from inspector.geometry.registration import Matrix
from inspector.records import BgrImage, BoxPx

MOST_REFERENCES = 5
RIDGE = 0.1
LEAST_VARIANCE = 1e-3


class PasteRepairer:
    """Registered references with local light. Needs them: `ValueError` without any."""

    method = "paste"

    def repair(self, pixels: BgrImage, mask: NDArray[np.bool_], references: PlacedReferences | None) -> Twin:
        """See `Repairer.repair`."""
        check_repair_input(pixels, mask, references)
        if references is None:
            raise ValueError("paste needs a reference registered to the frame")
        twin, changed = pixels.copy(), np.zeros(mask.shape, np.bool_)
        regions = split_mask(mask)
        for region in regions:
            feather_px = choose_feather_px(region)
            inner = expand_box(region.box_xyxy_px, feather_px + 1, mask.shape[1], mask.shape[0])
            base = lay_base(pixels, mask, region, references, inner)
            blend_into(twin, changed, inner, base.pixels, feather_alpha(place_mask(region, inner), feather_px))
        return Twin(twin, changed, self.method, len(regions))


@dataclass(frozen=True, slots=True)
class Base:
    """The classical picture of a region.

    `pixels` is (h, w, 3) float32 BGR, 0..255 and a little beyond, at `box` of the frame. `indices` are the references
    it was made of and `weights` (K,) float64 their weights, which sum to 1; both are empty without references.
    """

    box: BoxPx
    pixels: FloatImage
    indices: tuple[int, ...]
    weights: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MatchedReferences:
    """What was learned around a region: the references chosen, best first, and how each is moved and lit."""

    covered: BoxPx
    references: PlacedReferences
    indices: tuple[int, ...]
    corrections: tuple[Matrix | None, ...]
    lights: tuple[Light, ...]
    weights: NDArray[np.float64]

    def layer(self, number: int, box: BoxPx) -> FloatImage:
        """The chosen reference `number` in the place and light of the frame: (h, w, 3) float32 at `box`."""
        # Linear: twice as fast as cubic, and in the average of several the same to 0.1 dB.
        laid = self.references.lay_reduced(self.indices[number], box, 0, self.corrections[number])
        return self.lights[number].apply(laid, self.covered, box)

    def combine(self, box: BoxPx) -> Base:
        """All of them by their weights."""
        total = np.zeros((box[3] - box[1], box[2] - box[0], 3), np.float32)
        for number, weight in enumerate(self.weights):
            cv2.scaleAdd(self.layer(number, box), float(weight), total, dst=total)
        return Base(box, total, self.indices, self.weights)


def lay_base(
    pixels: BgrImage,
    mask: NDArray[np.bool_],
    region: MaskRegion,
    references: PlacedReferences,
    box: BoxPx | None = None,
) -> Base:
    """The best classical picture of a region of `mask` (H, W, bool), at `box` or else the region's own box.

    `box` must contain the region and may reach as far around it as the caller likes.
    """
    wanted = box or region.box_xyxy_px
    outer = expand_box(wanted, GUARD_PX + RIM_PX, mask.shape[1], mask.shape[0])
    base = match_references(pixels, mask, region, references).combine(outer)
    x0, y0, x1, y1 = outer
    hole = grow_mask(mask, outer)
    carried = carry_in(pixels[y0:y1, x0:x1].astype(np.float32), base.pixels, hole)
    inside = carried[wanted[1] - y0 : wanted[3] - y0, wanted[0] - x0 : wanted[2] - x0]
    return Base(wanted, np.ascontiguousarray(inside), base.indices, base.weights)


def match_references(
    pixels: BgrImage, mask: NDArray[np.bool_], region: MaskRegion, references: PlacedReferences
) -> MatchedReferences:
    """Choose, align and light up to `MOST_REFERENCES` references; with hardly any ring the golden one as it is."""
    around = view_surroundings(pixels, mask, region)
    if not around.can_teach:
        return MatchedReferences(around.covered, references, (0,), (None,), (leave_light(),), np.ones(1))
    chosen = references.nearest(around.crop, around.ring, around.source, MOST_REFERENCES)
    placed = [references.lay_reduced(index, around.crop, around.level) for index in chosen]
    warps = find_warps(around, np.stack(placed).astype(np.float32))
    corrections = tuple(None if warp is None else to_frame_px(warp, around) for warp in warps)
    moved = [
        image if correction is None else references.lay_reduced(index, around.crop, around.level, correction)
        for image, index, correction in zip(placed, chosen, corrections, strict=True)
    ]
    lit = learn_lights(around, np.stack(moved).astype(np.float32))
    weights = weigh_references(lit.errors)
    return MatchedReferences(around.covered, references, chosen, corrections, tuple(lit.lights), weights)


def weigh_references(errors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Weights that sum to 1 and leave the least mean square of the weighted errors (K, N): (K,) float64.

    A ridge keeps them from cancelling each other's noise where the ring is small.
    """
    count = len(errors)
    covariance = (errors @ errors.T / errors.shape[1]).astype(np.float64)
    ridge = RIDGE * np.trace(covariance) / count + LEAST_VARIANCE
    weights = np.linalg.solve(covariance + ridge * np.eye(count), np.ones(count))
    return np.asarray(weights / weights.sum(), np.float64)
