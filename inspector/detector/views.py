"""Do the good images show one view of the part, or several? Decided from the images, never from their names.

Several views are told apart only where they are clear: within a view the detail of every two images matches much
better than between views, whichever of its images the others are laid on. A texture, or a part that lies at any angle,
makes groups too, but groups that dissolve when another of their images is the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspector.detector.good_images import FEWEST_IMAGES, GoodImages
from inspector.detector.look_groups import describe_look, group_looks, lay_look
from inspector.detector.screen import halve, screen_ratio, whole_halvings
from inspector.errors import FitError
from inspector.geometry.registration import Reference, make_reference, reduce_for_registration
from inspector.geometry.views import (
    LEAST_DETAIL_MATCH,
    FoundView,
    ViewMember,
    find_views,
    join_matching,
    register_reduced,
)
from inspector.records import BgrImage

FEWEST_TO_JUDGE = FEWEST_IMAGES
"""A view's statistics and thresholds rest on its own images alone. With fewer than this they would rest on copies, and
which of them are odd could not be told."""
MOST_CONSIDERED = 48
PROBED = 8
"""An image that none of so many like it matches is no view's: a texture is left after a few registrations."""
LEAST_DETAIL_WITHIN = 0.35
"""What makes a group of images a part in a fixed pose, as for the choice of the mode."""
LEAST_MARGIN = 0.1
"""Between the worst tenth of the matches within a view and the best tenth of those with other views."""
LEAST_GAP = 0.15
"""Two sides with one outline match each other in part: so much better must the images of one side match."""
CHECKED_AT = (0.1, 0.5, 0.9)
"""The images of a view that stand for its golden one in the check, by their rank of matching it."""
MOST_STRAY_SHARE = 0.1
"""Good images that show no view; with more of them the views explain too little."""


@dataclass(frozen=True, slots=True)
class ViewGroups:
    """Which good images show which view, the most frequent view first. A single view holds all but `left_out`.

    `left_out` show no view, or one with too few images of its own. `reason` is a sentence. With `one_pose` the views
    differ in their looks only, and the part may be judged as one, too.
    """

    views: tuple[tuple[int, ...], ...]
    left_out: tuple[int, ...] = ()
    reason: str = "the good images show one view"
    one_pose: bool = False


@dataclass(frozen=True, slots=True)
class _Check:
    """One image of a view as the reference: how the detail of every considered image matches it."""

    index: int
    details: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class _CheckedView:
    found: FoundView
    checks: tuple[_Check, ...]

    @property
    def indices(self) -> list[int]:
        return [member.index for member in self.found.members]


def discover_views(images: GoodImages, reduced: Mapping[int, BgrImage], *, any_angle: bool = False) -> ViewGroups:
    """The views of good images of one size; `reduced` holds some of them by index, as `reduce_good_image` makes them.

    Raises `FitError` when there are several clear views, and none with `FEWEST_TO_JUDGE` images.
    """
    considered = _draw(len(images))
    known = {index: reduced.get(index, None) for index in considered}
    small = {index: reduce_good_image(images.read(index)) if found is None else found for index, found in known.items()}

    def make(golden: int) -> Reference:
        return make_reference(small[golden], "affine", any_angle=any_angle)

    found = find_views(small, make, _join, probe=PROBED)
    one = ViewGroups((tuple(range(len(images))),))
    if len(found) < 2:
        return one
    checked: list[_CheckedView] = []
    strays = len(considered) - sum(len(view.members) for view in found)
    for view in found:
        check = _check(view, small, any_angle)
        strays += len(view.members) if check is None else 0
        if strays > MOST_STRAY_SHARE * len(considered):
            return one
        checked += [check] if check is not None else []
    clear = _keep_clear(checked)
    explained = sum(len(view.indices) for view in clear)
    if len(clear) < 2 or len(considered) - explained > MOST_STRAY_SHARE * len(considered):
        return one
    return _describe(clear, _assign(images, clear), len(images))


def discover_looks(images: GoodImages) -> ViewGroups | None:
    """The looks of a part whose good images all register to each other, each as a view of its own; None for one."""
    if len(images) < 2 * FEWEST_TO_JUDGE:
        return None
    reference = make_reference(reduce_good_image(images.read(len(images) // 2)), "affine")
    looks = [look_of(reference, reduce_good_image(images.read(index))) for index in range(len(images))]
    groups, left = group_looks(looks)
    if len(groups) < 2:
        return None
    sizes = _enumerate([str(len(group)) for group in groups])
    reason = (
        f"the good images show {len(groups)} looks of one part, of {sizes} images: the means of their own look leave "
        f"{left:.0%} of their squared differences from the mean of all"
    )
    return ViewGroups(groups, reason=reason, one_pose=True)


def look_of(reference: Reference, small: BgrImage) -> NDArray[np.float32]:
    """What a reduced frame shows in a reference's pose, see `describe_look`."""
    registration, _ = register_reduced(reference, small)
    return describe_look(lay_look(reference, small, registration.matrix), reference.part)


def reduce_good_image(pixels: BgrImage) -> BgrImage:
    """A good image as it is registered."""
    height, width = pixels.shape[:2]
    return reduce_for_registration(halve(pixels, whole_halvings(screen_ratio(width, height)))).copy()


def _draw(count: int) -> list[int]:
    """All images, or some drawn at random: names that alternate between views must not hide one."""
    if count <= MOST_CONSIDERED:
        return list(range(count))
    return sorted(int(index) for index in np.random.default_rng(count).choice(count, MOST_CONSIDERED, replace=False))


def _join(registered: list[ViewMember]) -> list[ViewMember]:
    """Those that match, down to a gap between two sides of one outline."""
    joined = join_matching(registered)
    others = sorted((member.detail for member in joined[1:]), reverse=True)
    places = range(FEWEST_TO_JUDGE - 1, len(others) - FEWEST_TO_JUDGE + 1)
    place = max(places, key=lambda item: others[item - 1] - others[item], default=None)
    if place is None:
        return joined
    best, worst = np.quantile(others[:place], (0.9, 0.1))
    if others[place - 1] - others[place] < max(LEAST_GAP, float(best - worst)):
        return joined
    return [member for member in joined if member is joined[0] or member.detail >= others[place - 1]]


def _check(view: FoundView, small: Mapping[int, BgrImage], any_angle: bool) -> _CheckedView | None:
    """None where another image of the view, as the reference, does not match most of them."""
    ranked = sorted(view.members[1:], key=lambda member: member.detail)
    own = [member.index for member in view.members]
    others = [index for index in small if index not in own]
    checks = []
    for index in sorted({ranked[round(share * (len(ranked) - 1))].index for share in CHECKED_AT}):
        reference = make_reference(small[index], "affine", any_angle=any_angle)
        details = {item: register_reduced(reference, small[item])[1] for item in own if item != index}
        if np.quantile(list(details.values()), 0.1) < LEAST_DETAIL_MATCH:
            return None
        if np.median(list(details.values())) < LEAST_DETAIL_WITHIN:
            return None
        details |= {item: register_reduced(reference, small[item])[1] for item in others}
        checks.append(_Check(index, details))
    return _CheckedView(view, tuple(checks))


def _keep_clear(views: list[_CheckedView]) -> list[_CheckedView]:
    """Those that differ from all others that are kept, the most frequent first; the smallest are doubted first."""
    kept = sorted(views, key=lambda view: (-len(view.indices), min(view.indices)))
    for view in reversed(kept.copy()):
        others = [other for other in kept if other is not view]
        if others and not _is_clear(view, [index for other in others for index in other.indices]):
            kept = others
    return kept


def _is_clear(view: _CheckedView, others: list[int]) -> bool:
    for check in view.checks:
        within = [check.details[index] for index in view.indices if index != check.index]
        between = [check.details[index] for index in others]
        if np.quantile(within, 0.1) < np.quantile(between, 0.9) + LEAST_MARGIN:
            return False
    return True


def _assign(images: GoodImages, views: list[_CheckedView]) -> list[list[int]]:
    """All images of each view, those too that were not considered."""
    groups = [sorted(view.indices) for view in views]
    considered = set(_draw(len(images)))
    for index in range(len(images)):
        if index in considered:
            continue
        small = reduce_good_image(images.read(index))
        matches = [_match(view.found.reference, small) for view in views]
        best = int(np.argmax(matches))
        if matches[best] > 0.0:
            groups[best].append(index)
    return [sorted(group) for group in groups]


def _match(reference: Reference, small: BgrImage) -> float:
    """How well the detail matches, 0 where the image does not show the view."""
    member = ViewMember(0, *register_reduced(reference, small))
    return member.detail if join_matching([member]) else 0.0


def _describe(clear: list[_CheckedView], groups: list[list[int]], count: int) -> ViewGroups:
    groups = sorted(groups, key=lambda group: (-len(group), group[0]))
    enough = tuple(tuple(group) for group in groups if len(group) >= FEWEST_TO_JUDGE)
    sizes = _enumerate([str(len(group)) for group in groups])
    if not enough:
        raise FitError(
            f"the good images show {len(groups)} views, of {sizes} images; each view needs at least {FEWEST_TO_JUDGE}, "
            "since its thresholds rest on its own images: add photographs, or fit a recipe for each view"
        )
    within, between = _usual_matches(clear)
    taken = {index for view in enough for index in view}
    return ViewGroups(
        enough,
        tuple(index for index in range(count) if index not in taken),
        f"the good images show {len(groups)} views, of {sizes} images: their detail matches by {within:.2f} within a "
        f"view and by {between:.2f} between views",
    )


def _usual_matches(clear: list[_CheckedView]) -> tuple[float, float]:
    within, between = [], []
    for view in clear:
        own = set(view.indices)
        others = {index for other in clear for index in other.indices} - own
        for check in view.checks:
            within += [check.details[index] for index in own - {check.index}]
            between += [check.details[index] for index in others]
    return float(np.median(within)), float(np.median(between))


def _enumerate(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
