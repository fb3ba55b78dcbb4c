"""The difference between a part and its twin as a score: measured as a head of the detector's, and not used as one.

The twin of a whole part comes from the references alone: each in the light of the frame, averaged with the weights
that leave the least difference around each place. What remains is divided by what good images, each left out in turn,
show at that place, so that 1.0 is an ordinary good part as everywhere else. `tools/measure_twin_head.py` compares it
with a recipe's detector.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.generator.light import LEAST_VARIANCE, RIDGE
from inspector.generator.paste import MOST_REFERENCES
from inspector.generator.references import ReferenceBank
from inspector.generator.view_images import reduce_by
from inspector.geometry.registration import Matrix, compose, invert, scaling, warp
from inspector.records import AnomalyMap, BgrImage

WORK_SIDE_PX = 400
MOST_LEFT_OUT = 20
LIGHT_CELL_PX = 8
LIGHT_SHARE = 6.0
"""The light may change over this part of the view's longer side."""
LIGHT_FLOOR = 8.0
WEIGHT_CELL_PX = 4
WEIGHT_WIDTH_PX = 24.0
SMOOTH_PX = 4.0
RIM_PX = 5
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _ViewModel:
    """One view reduced by 2 ** `level`: `stack` (N, h, w, 3) float32, `part` and its `inside` (h, w) bool.

    `spread` is (h, w) float32 grey levels, `unit` what the worst place of a median good image shows in spreads.
    """

    level: int
    stack: Floats
    part: NDArray[np.bool_]
    inside: NDArray[np.bool_]
    spread: Floats
    unit: float


class TwinDifference:
    """How much a frame differs from its own twin. Needs a bank with at least three images in a view."""

    def __init__(self, bank: ReferenceBank) -> None:
        self._bank = bank
        self._models: dict[int, _ViewModel] = {}

    def score_frame(self, pixels: BgrImage) -> tuple[float, AnomalyMap] | None:
        """Score and map of a frame (H, W, 3) in units of the usual good part; None where it cannot be placed."""
        placed = self._bank.place(pixels)
        if placed is None or len(placed) < 3:
            return None
        if placed.view not in self._models:
            self._models[placed.view] = _learn_view(self._bank, placed.view)
        model = self._models[placed.view]
        height, width = model.part.shape
        reduced = reduce_by(pixels, model.level)
        to_reduced = _at_level(placed.to_frame, model.level)
        laid = np.asarray(warp(reduced, to_reduced, (width, height)), np.float32)
        scores = _compare(laid, model.stack, model.part) / (model.spread * np.float32(model.unit))
        scores = np.where(model.inside, scores, np.float32(0.0))
        cell_px = 2**model.level
        size = (-(-pixels.shape[1] // cell_px), -(-pixels.shape[0] // cell_px))
        in_frame = warp(scores, to_reduced, size, cv2.BORDER_CONSTANT, forward=True)
        return float(scores.max()), AnomalyMap(np.asarray(in_frame, np.float32), cell_px)


def _at_level(to_frame: Matrix, level: int) -> Matrix:
    return compose(invert(scaling(2**level)), compose(to_frame, scaling(2**level)))


def _learn_view(bank: ReferenceBank, number: int) -> _ViewModel:
    view = bank.views[number]
    width, height = view.images.size
    level = view.images.thumbnail_level
    while max(width, height) >> level > WORK_SIDE_PX:
        level += 1
    size = (width >> level, height >> level)
    stack = np.stack([view.images.cut(index, level, (0, 0, *size)) for index in range(len(view.images))])
    floats = stack.astype(np.float32)
    part = cv2.resize(view.reference.part.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    inside = cv2.erode(part.astype(np.uint8), np.ones((RIM_PX, RIM_PX), np.uint8), borderValue=0) > 0
    count = min(len(floats), MOST_LEFT_OUT)
    left_out = [index * len(floats) // count for index in range(count)]
    held_out = np.stack([_compare(floats[index], np.delete(floats, index, axis=0), part) for index in left_out])
    spread = cv2.dilate(np.sqrt((held_out**2).mean(axis=0)), np.ones((3, 3), np.uint8))
    usual: Floats = np.asarray(spread + np.median(spread[inside]) + 1e-3).astype(np.float32)
    unit = float(np.median([(image / usual)[inside].max() for image in held_out]))
    return _ViewModel(level, floats, np.asarray(part), np.asarray(inside), usual, max(unit, 1e-3))


def _compare(laid: Floats, stack: Floats, part: NDArray[np.bool_]) -> Floats:
    """(h, w) grey levels: how far a part in the view's pose is from its twin, the largest of the channels, smoothed."""
    lit = np.stack([_light_up(reference, laid, part) for reference in stack])
    errors = np.abs(lit - laid).mean(axis=3)[:, part].mean(axis=1)
    nearest = lit[np.argsort(errors, kind="stable")[:MOST_REFERENCES]]
    weights = _weigh_locally(nearest - laid)
    twin = (nearest * weights[..., None]).sum(axis=0)
    return np.asarray(cv2.GaussianBlur(np.abs(laid - twin).max(axis=2), (0, 0), SMOOTH_PX), np.float32)


def _light_up(reference: Floats, laid: Floats, part: NDArray[np.bool_]) -> Floats:
    """A reference in the light of the frame, by the ratio of their local means on the part."""
    height, width = part.shape
    cells = (max(1, width // LIGHT_CELL_PX), max(1, height // LIGHT_CELL_PX))
    weight = part.astype(np.float32)[..., None]
    ours, theirs = (_local_mean((image + LIGHT_FLOOR) * weight, cells) for image in (laid, reference))
    ratio = cv2.resize(ours / np.maximum(theirs, 1e-2), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray((reference + LIGHT_FLOOR) * ratio - LIGHT_FLOOR, np.float32)


def _local_mean(image: Floats, cells: tuple[int, int]) -> Floats:
    small = cv2.resize(image, cells, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), max(cells) / LIGHT_SHARE), np.float32)


def _weigh_locally(errors: Floats) -> Floats:
    """(K, h, w) weights that sum to 1 and leave the least variance around each place; `errors` are (K, h, w, 3)."""
    count, height, width = errors.shape[:3]
    cells = (max(1, width // WEIGHT_CELL_PX), max(1, height // WEIGHT_CELL_PX))
    small = np.stack([cv2.resize(error, cells, interpolation=cv2.INTER_AREA) for error in errors])
    covariance = np.einsum("ihwc,jhwc->hwij", small, small).reshape(cells[1], cells[0], count * count)
    sigma = WEIGHT_WIDTH_PX / WEIGHT_CELL_PX
    blurred = np.stack([cv2.GaussianBlur(plane, (0, 0), sigma) for plane in np.moveaxis(covariance, 2, 0)], axis=-1)
    local = blurred.reshape(cells[1], cells[0], count, count).astype(np.float64)
    ridge = RIDGE * np.trace(local, axis1=2, axis2=3) / count + LEAST_VARIANCE
    local += ridge[..., None, None] * np.eye(count)
    weights = np.linalg.solve(local, np.ones((*local.shape[:3], 1)))[..., 0]
    weights /= weights.sum(axis=-1, keepdims=True)
    planes = np.moveaxis(weights.astype(np.float32), 2, 0)
    return np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in planes])
