"""Good parts in one pose that look different: other sides that match in outline, other variants, other positions.

A position's mean and spread over all of them would fit none. They are told apart by how they look once they are laid on
each other: groups are kept where an image is explained much better by the others of its group than by all others.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.detector.good_images import FEWEST_IMAGES
from inspector.geometry.registration import Matrix, Reference, warp
from inspector.records import BgrImage

Floats = NDArray[np.float64]

CELL_PX = 2
BLUR_CELLS = 6.0
"""Light that differs over so many cells is no look."""
MOST_GROUPS = 8
MOST_LEFT = 0.75
"""Of the squared differences from the others' mean: groups have to leave no more of them."""
ENOUGH = 1.05
"""The fewest groups that leave at most so many times what the best number of groups leaves."""
STARTS = 20
ROUNDS = 30


def lay_look(reference: Reference, small: BgrImage, matrix: Matrix) -> BgrImage:
    """A frame reduced for registration in a reference's pose; `matrix` maps reference to frame at that size."""
    return np.asarray(warp(small, matrix, (reference.grey.shape[1], reference.grey.shape[0])), np.uint8)


def mean_look(laid: Sequence[BgrImage]) -> BgrImage:
    """(h, w, 3) uint8: the mean of pictures in one pose."""
    total = np.zeros(laid[0].shape, np.float32)
    for picture in laid:
        total += picture
    return (total / np.float32(len(laid)) + np.float32(0.5)).astype(np.uint8)


def look_distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Mean squared difference of two looks of the same part."""
    return float(np.square(one - other).mean())


def describe_look(laid: BgrImage, part: NDArray[np.bool_]) -> NDArray[np.float32]:
    """What a picture in the reference's pose shows in cells of the part, without its light: one row of numbers."""
    size = (max(1, laid.shape[1] // CELL_PX), max(1, laid.shape[0] // CELL_PX))
    cells = cv2.resize(cv2.cvtColor(laid, cv2.COLOR_BGR2LAB), size, interpolation=cv2.INTER_AREA).astype(np.float32)
    detail = cells - cv2.GaussianBlur(cells, (0, 0), BLUR_CELLS)
    inside = cv2.resize(part.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    return np.ascontiguousarray(detail[inside]).ravel()


def group_looks(looks: Sequence[NDArray[np.float32]]) -> tuple[tuple[tuple[int, ...], ...], float]:
    """Groups of at least `FEWEST_IMAGES` looks, the largest first, and the share of squared differences they leave.

    One group, and 1.0, where no groups explain the looks. Deterministic.
    """
    count = len(looks)
    one = (tuple(range(count)),), 1.0
    if count < 2 * FEWEST_IMAGES:
        return one
    points = _coordinates(np.stack(looks))
    whole = _left(points, np.zeros(count, np.int64))
    found: dict[int, tuple[float, NDArray[np.int64]]] = {}
    for number in range(2, min(MOST_GROUPS, count // FEWEST_IMAGES) + 1):
        labels = _split(points, number)
        if np.bincount(labels, minlength=number).min() >= FEWEST_IMAGES:
            found[number] = _left(points, labels) / whole, labels
    if not found:
        return one
    best = min(share for share, _ in found.values())
    if best > MOST_LEFT:
        return one
    number = min(number for number, (share, _) in found.items() if share <= ENOUGH * best)
    share, labels = found[number]
    groups = [tuple(int(index) for index in np.flatnonzero(labels == label)) for label in range(number)]
    return tuple(sorted(groups, key=lambda group: (-len(group), group[0]))), share


def _coordinates(looks: NDArray[np.float32]) -> Floats:
    """Points with the same distances in as few dimensions as there are looks."""
    centred = looks - looks.mean(axis=0)
    variances, axes = np.linalg.eigh((centred @ centred.T).astype(np.float64))
    return np.asarray(axes * np.sqrt(np.maximum(variances, 0.0)))


def _left(points: Floats, labels: NDArray[np.int64]) -> float:
    """Squared differences of each point from the mean of the others of its group."""
    total = 0.0
    for label in np.unique(labels):
        group = points[labels == label]
        away = (group - group.mean(axis=0)) * (len(group) / max(1, len(group) - 1))
        total += float((away**2).sum())
    return total


def _split(points: Floats, number: int) -> NDArray[np.int64]:
    """k-means from a few seeded starts (k-means++, Arthur and Vassilvitskii 2007)."""
    dice = np.random.default_rng(number)
    tried = [_settle(points, _seed(points, number, dice)) for _ in range(STARTS)]
    distances = min(tried, key=lambda found: float(found.min(axis=1).sum()))
    return np.asarray(distances.argmin(axis=1), np.int64)


def _settle(points: Floats, centres: Floats) -> Floats:
    """(points, centres) squared distances once the centres have come to rest (Lloyd 1982)."""
    distances = _distances(points, centres)
    for _ in range(ROUNDS):
        labels = distances.argmin(axis=1)
        taken = [points[labels == label] for label in range(len(centres))]
        moved = np.stack([item.mean(axis=0) if len(item) else old for item, old in zip(taken, centres, strict=True)])
        if np.array_equal(moved, centres):
            break
        centres = moved
        distances = _distances(points, centres)
    return distances


def _seed(points: Floats, number: int, dice: np.random.Generator) -> Floats:
    chosen = [int(dice.integers(len(points)))]
    nearest = _distances(points, points[chosen])[:, 0]
    while len(chosen) < number:
        share = nearest / nearest.sum() if nearest.sum() > 0 else None
        chosen.append(int(dice.choice(len(points), p=share)))
        nearest = np.minimum(nearest, _distances(points, points[chosen[-1:]])[:, 0])
    return points[chosen].copy()


def _distances(points: Floats, centres: Floats) -> Floats:
    return np.asarray(((points[:, None] - centres[None]) ** 2).sum(axis=2))
