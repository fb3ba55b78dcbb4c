"""Building the reference bank at fit: which good images show the same view, and which of them are worth their bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.generator.bank_file import MOST_STORED, StoredView, pack_bank
from inspector.generator.view_images import choose_thumbnail_level, reduce_by, tile_boxes
from inspector.geometry.registration import (
    Matrix,
    Reference,
    make_reference,
    reduce_for_registration,
    scale_matrix,
    warp,
)
from inspector.geometry.views import (
    COMPARE_SIZE,
    FEWEST_OF_VIEW,
    FoundView,
    ViewMember,
    find_views,
    join_matching,
    normalise_light,
)
from inspector.images import decode_image, encode_jpeg
from inspector.records import BgrImage

BUDGET_BYTES = 18_500_000
"""Of the images; thumbnails come on top. The other files of a 4K recipe take about 26 MB, and 50 are allowed."""
IMAGE_QUALITY = 95
THUMBNAIL_QUALITY = 95
MOST_CONSIDERED = 96


class ImageSource(Protocol):
    """Good images of one size, decoded one at a time."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> BgrImage:
        """(H, W, 3) uint8 BGR; the same pixels at each call."""
        ...


@dataclass(frozen=True, slots=True)
class Pose:
    """How the part of a recipe is registered, where `fit` knows it: the golden image, and the model of its motion."""

    golden: int
    model: str
    any_angle: bool


@dataclass(frozen=True, slots=True)
class BuiltBank:
    """The file, and for each view the indices of the good images in it, the golden one first.

    `left_out` are good images that show no view, of `considered` that were looked at.
    """

    content: bytes
    views: tuple[tuple[int, ...], ...]
    considered: int
    left_out: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Member:
    index: int
    matrix: Matrix
    confidence: float
    detail: float
    laid: NDArray[np.float32]
    """The reduced image in the view's pose with mean 0 and spread 1: the light does not count as variety."""


@dataclass(frozen=True, slots=True)
class _FoundView:
    reference: Reference
    members: list[_Member]


def build_bank(images: ImageSource, pose: Pose | None = None, budget_bytes: int = BUDGET_BYTES) -> BuiltBank | None:
    """The bank of a recipe's good images, all of one size; None where no two of them show the same view.

    Each view is discovered: the images that register to its golden one with enough confidence and detail, at least
    two. With `pose` the first view is that of the recipe. When not all fit into `budget_bytes`, those are kept that
    leave the others nearest to one of them.
    """
    count = min(len(images), MOST_CONSIDERED)
    considered = sorted({index * len(images) // count for index in range(count)} | ({pose.golden} if pose else set()))
    reduced = {index: reduce_for_registration(images.read(index)).copy() for index in considered}
    found = _find_views(images, reduced, pose)
    if not found:
        return None
    first = images.read(found[0].members[0].index)
    size = (first.shape[1], first.shape[0])
    stored, indices = _store_views(images, found, size, budget_bytes)
    shown = {member.index for view in found for member in view.members}
    left_out = tuple(index for index in considered if index not in shown)
    return BuiltBank(pack_bank(stored, size), indices, len(considered), left_out)


def learn_limit(values: list[float], lowest: float, least_margin: float) -> float:
    """Below nearly all good images by twice their spread, at least by `least_margin`: a defect lowers a match too."""
    middle, worst = float(np.median(values)), float(np.quantile(values, 0.05))
    return float(max(lowest, worst - max(least_margin, 2.0 * (middle - worst))))


# --- views ------------------------------------------------------------------------------------------


def _find_views(images: ImageSource, reduced: dict[int, BgrImage], pose: Pose | None) -> list[_FoundView]:
    model, any_angle = (pose.model, pose.any_angle) if pose else ("affine", False)
    found = find_views(
        reduced,
        lambda golden: make_reference(images.read(golden), model, any_angle=any_angle),
        join_matching,
        pose.golden if pose else None,
    )
    return [_FoundView(view.reference, [_lay(view, member, reduced) for member in view.members]) for view in found]


def _lay(view: FoundView, member: ViewMember, reduced: dict[int, BgrImage]) -> _Member:
    reference, registration = view.reference, member.registration
    laid = warp(reduced[member.index], registration.matrix, (reference.grey.shape[1], reference.grey.shape[0]))
    cells = cv2.resize(laid, COMPARE_SIZE, interpolation=cv2.INTER_AREA).astype(np.float32)
    matrix = scale_matrix(registration.matrix, reference.scale)
    return _Member(member.index, matrix, registration.confidence, member.detail, normalise_light(cells))


# --- which images are kept ----------------------------------------------------------------------------


def _store_views(
    images: ImageSource, found: list[_FoundView], size: tuple[int, int], budget_bytes: int
) -> tuple[tuple[StoredView, ...], tuple[tuple[int, ...], ...]]:
    """Images are warped and encoded in the order of their worth, until the budget is spent."""
    kept: list[list[tuple[_Member, tuple[bytes, ...]]]] = [[] for _ in found]
    spent = 0
    for number, member in _rank(found)[:MOST_STORED]:
        laid = warp(images.read(member.index), member.matrix, size, interpolation=cv2.INTER_CUBIC)
        tiles = tuple(
            encode_jpeg(np.asarray(laid[y0:y1, x0:x1], np.uint8), IMAGE_QUALITY, all_colours=True)
            for x0, y0, x1, y1 in tile_boxes(size)
        )
        cost = sum(map(len, tiles))
        if len(kept[number]) >= FEWEST_OF_VIEW and spent + cost > budget_bytes:
            break
        spent += cost
        kept[number].append((member, tiles))
    stored = []
    for view, items in zip(found, kept, strict=True):
        others = view.members[1:]
        level = choose_thumbnail_level(size, len(items))
        stored.append(
            StoredView(
                view.reference,
                learn_limit([member.confidence for member in others], 0.3, 0.25),
                learn_limit([member.detail for member in others], 0.1, 0.2),
                tuple(tiles for _, tiles in items),
                tuple(_encode_thumbnail(tiles, size, level) for _, tiles in items),
            )
        )
    return tuple(stored), tuple(tuple(member.index for member, _ in items) for items in kept)


def _encode_thumbnail(tiles: tuple[bytes, ...], size: tuple[int, int], level: int) -> bytes:
    whole = np.empty((size[1], size[0], 3), np.uint8)
    for (x0, y0, x1, y1), tile in zip(tile_boxes(size), tiles, strict=True):
        whole[y0:y1, x0:x1] = decode_image(tile)
    return encode_jpeg(reduce_by(whole, level), THUMBNAIL_QUALITY, all_colours=True)


def _rank(found: list[_FoundView]) -> list[tuple[int, _Member]]:
    """(view, member): the golden images and one more of each view first, then by what each brings to the others.

    What a member brings never grows while others are taken before it, so that the views' orders can be merged.
    """
    ranked = [(gain, number, member) for number, view in enumerate(found) for gain, member in _rank_view(view.members)]
    return [(number, member) for _, number, member in sorted(ranked, key=lambda item: -item[0])]


def _rank_view(members: list[_Member]) -> list[tuple[float, _Member]]:
    """The golden image, then always the one that shortens most the ways from all others to the nearest taken one."""
    distances = _distances(members)
    nearest, taken = distances[0].copy(), [0]
    ranked = [(np.inf, members[0])]
    while len(taken) < len(members):
        gain = np.maximum(nearest[None] - distances, 0.0).sum(axis=1)
        gain[taken] = -1.0
        place = int(np.argmax(gain))
        ranked.append((np.inf if len(taken) < FEWEST_OF_VIEW else float(gain[place]), members[place]))
        nearest = np.minimum(nearest, distances[place])
        taken.append(place)
    return ranked


def _distances(members: list[_Member]) -> NDArray[np.float32]:
    """Mean absolute difference of every two members in their common pose."""
    stack = np.stack([member.laid.ravel() for member in members])
    return np.stack([np.abs(stack - row).mean(axis=1) for row in stack])
