"""A frame beside its own template: lay the template on the frame, find what differs by more than two pixels' play."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.errors import ImageSizeError
from inspector.geometry.boxes import merge_boxes
from inspector.geometry.registration import Matrix, make_reference, register, warp_to_frame
from inspector.records import BgrImage, BoxPx, Registration

Grey8 = NDArray[np.uint8]

TOLERANCE_PX = 2
MERGE_GAP_PX = 3
FEWEST_PIXELS = 4
MOST_PROPOSALS = 256
SURE_CONFIDENCE = 0.9
MOST_UNREACHED = 0.12
"""Share of the frame that a laid template may miss."""


@dataclass(frozen=True, slots=True)
class LaidPair:
    """A frame and its template laid onto it: (H, W, 3) uint8 BGR both; `difference` is (H, W) uint8.

    The difference is 0 where each image finds its colour in the other within `TOLERANCE_PX`, in grey levels
    of the worst colour channel elsewhere.
    """

    frame: BgrImage
    template: BgrImage
    difference: Grey8
    registration: Registration


def lay_pair(frame: BgrImage, template: BgrImage) -> LaidPair:
    """Register a template to its frame and compare them: (H, W, 3) uint8 BGR both.

    Raises `ImageSizeError` when their sizes differ.
    """
    if frame.shape != template.shape:
        raise ImageSizeError(
            f"the template is {template.shape[1]}x{template.shape[0]} px, "
            f"its frame {frame.shape[1]}x{frame.shape[0]}; they must be equal"
        )
    size = (frame.shape[1], frame.shape[0])
    reference = make_reference(template, "affine")
    # Boards fill their frames: what looks like background is bare board, and carries the defects too.
    reference = replace(reference, part=np.ones_like(reference.part), outline=np.ones_like(reference.outline))
    registration = register(reference, frame)
    laid = warp_to_frame(template, registration.matrix, size)
    known = reach_of(registration.matrix, size)
    difference = compare_known(laid, frame, registration.matrix)
    lost = float(np.count_nonzero(~known)) / known.size > MOST_UNREACHED
    if lost or registration.confidence < SURE_CONFIDENCE:
        # A template with next to nothing on it cannot be registered, and need not be; and the wrong template must
        # not be laid so far off that little is left to compare.
        still = tolerant_difference(template, frame)
        if lost or still.mean() <= difference.mean():
            return LaidPair(frame, template, still, Registration(np.eye(2, 3), registration.confidence))
    return LaidPair(frame, laid, difference, registration)


def compare_known(laid: BgrImage, frame: BgrImage, matrix: Matrix) -> Grey8:
    """`tolerant_difference`, 0 in the rim of the frame that the template laid by `matrix` does not reach.

    What is mirrored into that rim would look like defects.
    """
    known = reach_of(matrix, (frame.shape[1], frame.shape[0]))
    return np.asarray(np.where(known, tolerant_difference(laid, frame), 0), np.uint8)


def reach_of(matrix: Matrix, size: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) bool: where a frame of (width, height) can be compared with a template laid by `matrix`."""
    whole = np.full((size[1], size[0]), 255, np.uint8)
    reached = cv2.warpAffine(whole, matrix, size, borderValue=0)
    side = 2 * (TOLERANCE_PX + 1) + 1
    return np.asarray(cv2.erode(reached, np.ones((side, side), np.uint8)) == 255, np.bool_)


def tolerant_difference(one: BgrImage, other: BgrImage, tolerance_px: int = TOLERANCE_PX) -> Grey8:
    """(H, W) uint8: how far either image leaves the range of colours that the other has within `tolerance_px`."""
    side = 2 * tolerance_px + 1
    disc = np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)
    worst = np.maximum(_outside(one, other, disc), _outside(other, one, disc))
    return np.asarray(worst.max(axis=2), np.uint8)


def _outside(ranged: BgrImage, checked: BgrImage, disc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    above = cv2.subtract(checked, cv2.dilate(ranged, disc))
    below = cv2.subtract(cv2.erode(ranged, disc), checked)
    return np.asarray(np.maximum(above, below), np.uint8)


def differing_share(difference: Grey8, least_difference: int) -> float:
    """Share of the frame, 0..1, that differs by `least_difference` grey levels or more."""
    return float(np.count_nonzero(difference >= least_difference)) / difference.size


def propose_regions(difference: Grey8, least_difference: int) -> list[BoxPx]:
    """Boxes around what differs by `least_difference` or more; regions that nearly touch are one. Sorted.

    Of more than `MOST_PROPOSALS` the largest are kept.
    """
    above = (difference >= least_difference).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    large = sorted(
        (row for row in stats[1:].tolist() if row[cv2.CC_STAT_AREA] >= FEWEST_PIXELS),
        key=lambda row: -row[cv2.CC_STAT_AREA],
    )
    # Merging is quadratic; a template of another board leaves thousands of crumbs.
    boxes = [(x, y, x + width, y + height) for x, y, width, height, _ in large[: 4 * MOST_PROPOSALS]]
    merged = merge_boxes(boxes, MERGE_GAP_PX)
    if len(merged) > MOST_PROPOSALS:
        merged = sorted(sorted(merged, key=lambda box: (box[0] - box[2]) * (box[3] - box[1]))[:MOST_PROPOSALS])
    return merged
