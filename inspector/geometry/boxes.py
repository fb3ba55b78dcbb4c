"""Boxes `x0, y0, x1, y1` in pixels, ends exclusive: clip, grow, overlap, merge."""

from __future__ import annotations

from inspector.records import BoxPx


def box_area(box: BoxPx) -> int:
    """Pixels inside; 0 for an empty box."""
    return max(0, box[2] - box[0]) * max(0, box[3] - box[1])


def clip_box(box: BoxPx, size: tuple[int, int]) -> BoxPx | None:
    """The part of a box inside a frame of (width, height), None when nothing is left."""
    clipped = (max(0, box[0]), max(0, box[1]), min(size[0], box[2]), min(size[1], box[3]))
    return clipped if box_area(clipped) else None


def grow_box(box: BoxPx, margin: int, size: tuple[int, int]) -> BoxPx | None:
    """The box with `margin` pixels more on every side, clipped to the frame."""
    return clip_box((box[0] - margin, box[1] - margin, box[2] + margin, box[3] + margin), size)


def intersect(one: BoxPx, other: BoxPx) -> BoxPx | None:
    """The common part, None when there is none."""
    common = (max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3]))
    return common if common[2] > common[0] and common[3] > common[1] else None


def overlap(one: BoxPx, other: BoxPx) -> float:
    """Intersection over union, 0..1."""
    common = intersect(one, other)
    if common is None:
        return 0.0
    shared = box_area(common)
    return shared / (box_area(one) + box_area(other) - shared)


def enclose(one: BoxPx, other: BoxPx) -> BoxPx:
    """The smallest box around two boxes."""
    return (min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3]))


def merge_boxes(boxes: list[BoxPx], gap_px: int = 0) -> list[BoxPx]:
    """Boxes that overlap or lie within `gap_px` of each other become one, until none do; sorted.

    The gap is measured along each axis: two boxes merge when both their x and y distances are at most `gap_px`.
    """
    merged: list[BoxPx] = []
    for box in sorted(boxes):
        current, absorbed = box, True
        while absorbed:
            absorbed = False
            for index, other in enumerate(merged):
                if _within(current, other, gap_px):
                    current, absorbed = enclose(current, merged.pop(index)), True
                    break
        merged.append(current)
    return sorted(merged)


def _within(one: BoxPx, other: BoxPx, gap_px: int) -> bool:
    horizontal = max(one[0], other[0]) - min(one[2], other[2])
    vertical = max(one[1], other[1]) - min(one[3], other[3])
    return horizontal <= gap_px and vertical <= gap_px
