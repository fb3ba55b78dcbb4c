"""Which images of a set show the same view of a part: those that register to one of them, and match it in detail.

Everything here works on images reduced for registration; file names and the order of the images say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.geometry.detail import detail_match
from inspector.geometry.registration import Reference, register, to_grey
from inspector.records import BgrImage, Registration

LEAST_CONFIDENCE = 0.6
LEAST_DETAIL_MATCH = 0.25
"""What joins two good images into one view."""
FEWEST_OF_VIEW = 2
MOST_FAILED_VIEWS = 3
MOST_VIEWS = 8
COMPARE_SIZE = (96, 72)


@dataclass(frozen=True, slots=True)
class ViewMember:
    """An image, where the view's reference lies in it (at its reduced size) and how well its detail matches."""

    index: int
    registration: Registration
    detail: float


@dataclass(frozen=True, slots=True)
class FoundView:
    """A view's reference and its images, the golden one first."""

    reference: Reference
    members: tuple[ViewMember, ...]


def find_views(
    reduced: Mapping[int, BgrImage],
    make: Callable[[int], Reference],
    choose: Callable[[list[ViewMember]], list[ViewMember]],
    first: int | None = None,
    probe: int | None = None,
) -> list[FoundView]:
    """Group images, reduced for registration, by their number: at least `FEWEST_OF_VIEW` to a view, each in one.

    Views are found one after the other: `make` gives the reference of the most typical image left (of `first` for the
    first view), and `choose` takes those that belong to it, the golden one first, from all that are left. Images that
    fit no view are in none. With `probe` an image is given up as a view's reference when none of the so many images
    most like it joins it: a texture costs little then.
    """
    similarity = _compare_all(reduced)
    position = {index: place for place, index in enumerate(reduced)}
    left, tried, failed = list(reduced), set[int](), 0
    found: list[FoundView] = []
    while len(left) >= FEWEST_OF_VIEW and len(found) < MOST_VIEWS and failed < MOST_FAILED_VIEWS:
        candidates = [index for index in left if index not in tried]
        if not candidates:
            break
        golden = first if first is not None and not tried else _most_typical(candidates, left, similarity, position)
        tried.add(golden)
        reference = make(golden)
        likeness = similarity[position[golden]]
        nearest = sorted((item for item in left if item != golden), key=lambda item: -likeness[position[item]])[:probe]
        tested = {item: ViewMember(item, *register_reduced(reference, reduced[item])) for item in nearest}
        members: list[ViewMember] = []
        if join_matching(list(tested.values())):
            others = (item for item in left if item not in tested)
            tested |= {item: ViewMember(item, *register_reduced(reference, reduced[item])) for item in others}
            members = choose([tested[golden], *(tested[item] for item in left if item != golden)])
        if len(members) < FEWEST_OF_VIEW:
            failed += 1
            continue
        found.append(FoundView(reference, tuple(members)))
        joined = {member.index for member in members}
        left = [index for index in left if index not in joined]
    return found


def join_matching(registered: list[ViewMember]) -> list[ViewMember]:
    """Those that match in their coarse grey values and in their detail."""
    return [
        member
        for member in registered
        if member.registration.confidence >= LEAST_CONFIDENCE and member.detail >= LEAST_DETAIL_MATCH
    ]


def register_reduced(reference: Reference, small: BgrImage) -> tuple[Registration, float]:
    """Where a view lies in a frame that is reduced for registration, in its pixels, and how well the detail matches."""
    at_work = replace(reference, scale=1.0)
    registration = register(at_work, small)
    return registration, detail_match(at_work, to_grey(small), registration.matrix)


def normalise_light(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """An image with mean 0 and spread 1."""
    return np.asarray((image - image.mean()) / (image.std() + 1.0), np.float32)


def _compare_all(reduced: Mapping[int, BgrImage]) -> NDArray[np.float32]:
    """Correlation of every two images as they are, reduced to a few cells."""
    rows = []
    for small in reduced.values():
        cells = cv2.resize(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), COMPARE_SIZE, interpolation=cv2.INTER_AREA)
        rows.append(normalise_light(cells.astype(np.float32)).ravel())
    stack = np.stack(rows)
    return np.asarray(stack @ stack.T / stack.shape[1], np.float32)


def _most_typical(
    candidates: list[int], left: list[int], similarity: NDArray[np.float32], position: dict[int, int]
) -> int:
    """The candidate that is most like the quarter of the images nearest to it."""
    places = [position[index] for index in left]
    nearest = min(len(left), max(FEWEST_OF_VIEW, len(left) // 4))
    density = [np.sort(similarity[position[index], places])[-nearest:].mean() for index in candidates]
    return candidates[int(np.argmax(density))]
