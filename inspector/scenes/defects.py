"""The defect families of each scene, which of them are for training and which for judging, and the truth.

"train" families may be shown to models that learn to make or name defects; "judge" families are kept
back so that a detector is never judged on what it was taught.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import cv2
import numpy as np

from inspector.records import BoxPx
from inspector.scenes.light import U8

Use: TypeAlias = Literal["train", "judge"]

FAMILIES: dict[str, dict[str, Use]] = {
    "board": {
        "missing_component": "train",
        "shifted_component": "judge",
        "tombstone": "judge",
        "solder_bridge": "train",
        "scratch": "train",
        "flux_residue": "train",
        "crack": "judge",
        "missing_hole": "judge",
        "pad_discoloration": "judge",
        "foreign_fibre": "train",
    },
    "casting": {
        "scratch": "train",
        "dent": "train",
        "porosity": "train",
        "crack": "judge",
        "burr": "judge",
        "stain": "train",
        "missing_hole": "judge",
    },
}

SECOND_DEFECT_SHARE = 0.12
VISIBLE_STEP = 10
"""Grey levels (largest channel) from which a change belongs to the mask."""
LEAST_MEAN_STEP = 16.0
"""Mean change over the mask, in grey levels of the largest channel, that a defect must have to be used."""


@dataclass(frozen=True, slots=True)
class PlannedDefect:
    """A defect to be made: its kind and how bad it is, 0..1."""

    kind: str
    severity: float


@dataclass(frozen=True, slots=True)
class MadeDefect:
    """A defect on the part: `mask` (h, w) uint8 0/255 lies at `origin_px` (x, y) of the part's canvas."""

    kind: str
    severity: float
    mask: U8
    origin_px: tuple[int, int]


@dataclass(frozen=True, slots=True)
class SceneDefect:
    """A defect in the frame. `mask` (h, w) bool is the content of the box: True where the picture differs."""

    kind: str
    severity: float
    box_xyxy_px: BoxPx
    mask: np.ndarray[tuple[int, int], np.dtype[np.bool_]]


def kinds_of(scene: str, use: Use | None = None) -> tuple[str, ...]:
    """The families of a scene, all or those for one use."""
    return tuple(kind for kind, its_use in FAMILIES[scene].items() if use is None or its_use == use)


def plan_defects(rng: np.random.Generator, kinds: tuple[str, ...], rate: float) -> tuple[PlannedDefect, ...]:
    """None for a good part, mostly one, now and then two of different kinds."""
    if rng.random() >= rate or not kinds:
        return ()
    count = 2 if len(kinds) > 1 and rng.random() < SECOND_DEFECT_SHARE else 1
    chosen = rng.choice(len(kinds), size=count, replace=False)
    return tuple(PlannedDefect(kinds[int(i)], round(float(rng.uniform(0.15, 1.0)), 2)) for i in chosen)


def change_canvas(canvas: U8, window: tuple[int, int, int, int], change: Callable[[U8], None]) -> MadeDefect | None:
    """Apply `change` to a window (x0, y0, x1, y1) of a canvas so that its mask is exact, in place.

    The mask is where the change is visible. Faint differences further than two pixels from it are taken
    back, so that outside the mask the canvas is what it was. None, and nothing changed, when the change
    is too faint to count as a defect.
    """
    height, width = canvas.shape[:2]
    x0, y0, x1, y1 = max(0, window[0]), max(0, window[1]), min(width, window[2]), min(height, window[3])
    if x1 <= x0 or y1 <= y0:
        return None
    before = canvas[y0:y1, x0:x1]
    after = before.copy()
    change(after)
    step = cv2.absdiff(before, after).max(axis=2)
    seen = np.where(step >= VISIBLE_STEP, np.uint8(255), np.uint8(0))
    seen = np.asarray(cv2.morphologyEx(seen, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)), np.uint8)
    if not seen.any() or float(step[seen > 0].mean()) < LEAST_MEAN_STEP:
        return None
    near = cv2.dilate(seen, np.ones((5, 5), np.uint8))
    before[:] = np.where(near[..., None] > 0, after, before)
    return MadeDefect("", 0.0, seen, (x0, y0))
