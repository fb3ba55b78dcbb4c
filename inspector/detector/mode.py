"""Located part or surface, and how many views? Decided from the good images, with the reason."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inspector.detector.good_images import GoodImages
from inspector.detector.screen import halve, screen_ratio, whole_halvings
from inspector.detector.views import ViewGroups, discover_looks, discover_views
from inspector.geometry.detail import detail_match
from inspector.geometry.registration import Reference, make_reference, reduce_for_registration, register, to_grey
from inspector.records import BgrImage

LEAST_DETAIL_MATCH = 0.35
MOST_COMPARED = 12


@dataclass(frozen=True, slots=True)
class ModeChoice:
    """`mode` is `located` or `surface`; `reason` is a sentence; `detail_match` what it rests on, if anything.

    `groups` are the views of a located part whose good images were compared.
    """

    mode: str
    reason: str
    detail_match: float | None = None
    groups: ViewGroups | None = None


def choose_mode(images: GoodImages, sizes: set[tuple[int, int]], *, any_angle: bool = False) -> ModeChoice:
    """Located when the fine structure of good images is the same at the same place, once they are registered.

    Fine structure, because uneven light and a vignette match between any two frames of one camera. `sizes` are
    the (width, height) of all images. With `any_angle` they may show the part at any angle. Images that match each
    other in several clear groups, and not between them, are views of one part. Raises `FitError` as `discover_views`
    does.
    """
    if len(sizes) > 1:
        return ModeChoice("surface", f"the good images have {len(sizes)} different sizes")
    count = min(len(images), MOST_COMPARED)
    if count < 2:
        return ModeChoice("located", "one good image: assumed to be a part in a fixed pose")
    chosen = [index * len(images) // count for index in range(count)]
    (width, height) = next(iter(sizes))
    halving = whole_halvings(screen_ratio(width, height))
    reference: Reference | None = None
    reduced: dict[int, BgrImage] = {}
    matches = []
    for index in chosen:
        halved = halve(images.read(index), halving)
        reduced[index] = reduce_for_registration(halved).copy()
        if reference is None:
            reference = make_reference(halved, "affine", any_angle=any_angle)
            continue
        matrix = register(reference, halved).matrix.copy()
        matrix[:, 2] *= reference.scale
        matches.append(detail_match(reference, to_grey(reduced[index]), matrix))
    match = float(np.median(matches))
    groups = discover_views(images, reduced, any_angle=any_angle)
    if len(groups.views) > 1 or groups.left_out:
        return ModeChoice("located", groups.reason, match, groups)
    if match >= LEAST_DETAIL_MATCH:
        reason = f"the detail of registered good images matches by {match:.2f}"
        return ModeChoice("located", reason, match, None if any_angle else discover_looks(images))
    reason = f"the detail of registered good images matches by {match:.2f} only, {LEAST_DETAIL_MATCH} is needed"
    return ModeChoice("surface", reason, match)
