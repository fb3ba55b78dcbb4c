"""Outlines beyond `Relief`'s boxes and discs, as patches with the distance to the outline.

Lengths are in the relief's unit (pixels here: samples are drawn at one pixel a unit); angles in radians.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inspector.scenes.light import F32
from inspector.scenes.relief import Patch, Relief

Point = tuple[float, float]


def pair(values: NDArray[np.floating]) -> Point:
    """Two values as plain numbers."""
    return float(values[0]), float(values[1])


def _square(relief: Relief, x: float, y: float, reach: float) -> Patch:
    return relief.box(x, y, 2 * reach, 2 * reach)


def with_distance(patch: Patch, distance: F32) -> Patch:
    """The same window with another outline."""
    return Patch(patch.rows, patch.columns, patch.x, patch.y, np.asarray(distance, np.float32), patch.px_per_mm)


def grown(patch: Patch, by: float) -> Patch:
    """The outline moved outwards (inwards when negative)."""
    return with_distance(patch, patch.distance - np.float32(by))


def without(patch: Patch, hole: Patch) -> Patch:
    """The patch less another of the same window."""
    return with_distance(patch, np.maximum(patch.distance, -hole.distance))


def whole(relief: Relief) -> Patch:
    """Everything."""
    rows, columns = relief.height.shape
    return relief.box(columns / 2, rows / 2, 4.0 * columns, 4.0 * rows)


def turned_box(
    relief: Relief, x: float, y: float, width: float, height: float, turn: float, radius: float = 0.0
) -> Patch:
    """A rectangle with rounded corners, turned around its middle."""
    window = _square(relief, x, y, float(np.hypot(width, height)) / 2 + 1)
    along = window.x * np.cos(turn) + window.y * np.sin(turn)
    across = -window.x * np.sin(turn) + window.y * np.cos(turn)
    qx, qy = np.abs(along) - (width / 2 - radius), np.abs(across) - (height / 2 - radius)
    outside = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0))
    return Patch(
        window.rows,
        window.columns,
        np.asarray(along, np.float32),
        np.asarray(across, np.float32),
        np.asarray(outside + np.minimum(np.maximum(qx, qy), 0) - radius, np.float32),
        window.px_per_mm,
    )


def capsule(relief: Relief, start: Point, end: Point, radius: float, end_radius: float | None = None) -> Patch:
    """A rod with round ends; its radius changes from `radius` to `end_radius`."""
    last = radius if end_radius is None else end_radius
    middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    length = float(np.hypot(end[0] - start[0], end[1] - start[1]))
    window = _square(relief, *middle, length / 2 + max(radius, last) + 1)
    dx, dy = (end[0] - start[0]) / max(length, 1e-6), (end[1] - start[1]) / max(length, 1e-6)
    along = np.clip(window.x * dx + window.y * dy, -length / 2, length / 2)
    gap = np.hypot(window.x - along * dx, window.y - along * dy)
    share = along / max(length, 1e-6) + 0.5
    return with_distance(window, np.asarray(gap - (radius + (last - radius) * share), np.float32))


def polygon(relief: Relief, points: Sequence[Point], radius: float = 0.0) -> Patch:
    """A closed polygon of any form, its corners rounded by `radius` (the outline grows by it)."""
    corners = np.array(points, np.float64)
    low, high = corners.min(axis=0), corners.max(axis=0)
    centre = (low + high) / 2
    size = high - low + 2 * radius + 2
    window = relief.box(float(centre[0]), float(centre[1]), float(size[0]), float(size[1]))
    px, py = window.x, window.y
    nearest = np.full(px.shape, np.inf, np.float32)
    inside = np.zeros(px.shape, np.bool_)
    moved = (corners - centre).astype(np.float32)
    for (ax, ay), (bx, by) in zip(moved, np.roll(moved, -1, axis=0), strict=True):
        ex, ey = bx - ax, by - ay
        wx, wy = px - ax, py - ay
        share = np.clip((wx * ex + wy * ey) / max(1e-9, float(ex * ex + ey * ey)), 0, 1)
        nearest = np.minimum(nearest, (wx - ex * share) ** 2 + (wy - ey * share) ** 2)
        if by != ay:
            crossing = ((ay > py) != (by > py)) & (px < ex * (py - ay) / (by - ay) + ax)
            inside ^= crossing
    distance = np.sqrt(nearest) * np.where(inside, -1.0, 1.0)
    return with_distance(window, np.asarray(distance - radius, np.float32))


def regular(relief: Relief, x: float, y: float, apothem: float, sides: int, turn: float) -> Patch:
    """A regular polygon by the distance from its middle to a side."""
    window = _square(relief, x, y, apothem / float(np.cos(np.pi / sides)) + 1)
    sector = 2 * np.pi / sides
    angle = np.arctan2(window.y, window.x) - turn
    folded = np.mod(angle + sector / 2, sector) - sector / 2
    return with_distance(window, np.asarray(np.hypot(window.x, window.y) * np.cos(folded) - apothem, np.float32))


def gear(
    relief: Relief, x: float, y: float, radius: float, teeth: int, depth: float, turn: float, flat: float
) -> Patch:
    """A toothed disc; `radius` at the tips, `flat` (0..1) from sine-like to steep teeth."""
    window = _square(relief, x, y, radius + 1)
    angle = np.arctan2(window.y, window.x) - turn
    wave = np.sin(angle * teeth)
    steep = np.tanh(wave * (1.0 + 6.0 * flat)) / np.tanh(1.0 + 6.0 * flat)
    return with_distance(
        window, np.asarray(np.hypot(window.x, window.y) - (radius - depth / 2 + depth / 2 * steep), np.float32)
    )


def lobes(
    relief: Relief, x: float, y: float, radius: float, dice: np.random.Generator, unrest: float, orders: int = 6
) -> Patch:
    """An irregular round blob; `unrest` 0..1."""
    window = _square(relief, x, y, radius * (1.0 + 1.2 * unrest) + 2)
    angle = np.arctan2(window.y, window.x)
    edge = np.full(angle.shape, radius, np.float32)
    for order in range(1, orders + 1):
        height = radius * unrest * dice.normal(0, 0.5) / order
        edge += np.float32(height) * np.cos(order * angle + dice.uniform(0, 2 * np.pi)).astype(np.float32)
    return with_distance(window, np.asarray(np.hypot(window.x, window.y) - edge, np.float32))


def ellipse(relief: Relief, x: float, y: float, long: float, short: float, turn: float) -> Patch:
    """An ellipse by its half axes; the distance is approximate away from the outline."""
    window = _square(relief, x, y, max(long, short) + 1)
    along = window.x * np.cos(turn) + window.y * np.sin(turn)
    across = -window.x * np.sin(turn) + window.y * np.cos(turn)
    scaled = np.sqrt((along / long) ** 2 + (across / short) ** 2)
    slope = np.sqrt((along / long**2) ** 2 + (across / short**2) ** 2)
    distance = np.where(scaled < 1e-3, -min(long, short), scaled * (scaled - 1.0) / np.maximum(slope, 1e-6))
    return Patch(
        window.rows,
        window.columns,
        np.asarray(along, np.float32),
        np.asarray(across, np.float32),
        np.asarray(np.maximum(distance, -min(long, short)), np.float32),
        window.px_per_mm,
    )


def dome(patch: Patch, radius: float) -> F32:
    """Height of a body with a round cross-section of this radius at the outline: 0 at the edge, `radius` inside."""
    return np.asarray(np.float32(radius) * patch.rounded_edge(radius), np.float32)


def chamfer(patch: Patch, width: float) -> F32:
    """0 at the outline, 1 from `width` inside: a straight slope between."""
    return np.asarray(np.clip(-patch.distance / np.float32(width), 0.0, 1.0), np.float32)
