"""Defects on photographs of samples, with masks that hold every changed pixel and no other.

Families that `overlays` knows look and are split as there; the others are added below. What concerns a loose piece
(missing, shifted, extra, wrong) is shaded: the part is assembled and lit with and without the fault, and the
difference of the two goes into the photograph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.scenes import overlays
from inspector.scenes.defects import Use
from inspector.scenes.light import F32, U8
from inspector.scenes.relief import grain_noise

Mask: TypeAlias = NDArray[np.bool_]

FAMILIES: dict[str, Use] = {
    **overlays.FAMILIES,
    "dent": "train",
    "fibre": "train",
    "short": "train",
    "extra_part": "train",
    "wrong_part": "train",
    "burr": "judge",
    "open": "judge",
    "chipped_edge": "judge",
    "hole": "judge",
    "print_fault": "judge",
    "thread_cut": "judge",
    "missing_part": "judge",
    "misplaced_part": "judge",
}
"""Every family and whether it may teach or only judge."""

LOOSE_PIECE_FAMILIES = ("missing_part", "misplaced_part", "extra_part", "wrong_part")
"""Families that need a part with loose pieces."""

EDGE_FAMILIES = ("burr", "chipped_edge", "short", "open", "print_fault")
"""Families that begin at edges of the part or of its print."""

ATTEMPTS = 16
LEAST_SIDE_PX = 10
FAINT_LEVELS = 4
"""Changes below this many grey levels in every channel are taken back."""
LEAST_MEAN_STEP = 14.0
LEAST_PIXELS = 12


@dataclass(frozen=True, slots=True)
class Stage:
    """What a painter knows of the picture: all of it (H, W, 3), and the direction of the light in it (x, y)."""

    picture: U8
    light_xy: tuple[float, float]


Painter: TypeAlias = Callable[[U8, Stage, np.random.Generator], None]
"""Changes a square window in place."""


def families_for(use: Use | None = None) -> tuple[str, ...]:
    """The families for one use, or all."""
    return tuple(kind for kind, its_use in FAMILIES.items() if use is None or its_use == use)


def paint_kind(picture: U8, kind: str, dice: np.random.Generator, stage: Stage, inside: F32) -> tuple[U8, Mask] | None:
    """A copy of the picture with one painted defect and its exact mask; its middle lies where `inside` > 0.5.

    None when no place was found where it can be seen.
    """
    side = picture.shape[0]
    painter, (least, most) = PAINTERS[kind]
    places = np.argwhere((_edges(picture) if kind in EDGE_FAMILIES else inside) * inside > 0.5)
    for _ in range(ATTEMPTS):
        size = int(np.clip(side * float(np.exp(dice.uniform(np.log(least), np.log(most)))), LEAST_SIDE_PX, side))
        y, x = places[int(dice.integers(0, len(places)))] if len(places) else dice.integers(0, side, 2)
        top, left = int(np.clip(y - size // 2, 0, side - size)), int(np.clip(x - size // 2, 0, side - size))
        spoilt = picture.copy()
        painter(spoilt[top : top + size, left : left + size], stage, dice)
        kept = keep_visible(picture, spoilt)
        if kept is not None:
            return kept
    return None


def _edges(picture: U8) -> F32:
    """(H, W) 1 on the strongest edges, 0 elsewhere."""
    grey = cv2.GaussianBlur(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.float32), (0, 0), 1.5)
    steep = np.abs(cv2.Sobel(grey, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    return np.asarray(steep >= np.percentile(steep, 90), np.float32)


def keep_visible(before: U8, after: U8) -> tuple[U8, Mask] | None:
    """The spoilt picture with faint changes taken back, and where it still differs; None when hardly anywhere."""
    step = cv2.absdiff(before, after).max(axis=2)
    mask = step >= FAINT_LEVELS
    if int(mask.sum()) < LEAST_PIXELS or float(step[mask].mean()) < LEAST_MEAN_STEP:
        return None
    return np.where(mask[..., None], after, before), mask


def _overlay(kind: str) -> Painter:
    painter = overlays.PAINTERS[kind][0]

    def paint(window: U8, stage: Stage, dice: np.random.Generator) -> None:
        painter(window, stage.picture, dice)

    return paint


def _axes(side: int, turn: float) -> tuple[F32, F32]:
    """Coordinates -1..1 along and across a direction."""
    axis = np.linspace(-1.0, 1.0, side, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    return (
        np.asarray(x * np.cos(turn) + y * np.sin(turn), np.float32),
        np.asarray(-x * np.sin(turn) + y * np.cos(turn), np.float32),
    )


def _mix(window: U8, colour: F32 | NDArray[np.float64], share: F32) -> None:
    mixed = window.astype(np.float32) * (1.0 - share[..., None]) + colour * share[..., None]
    window[:] = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)


def _emboss(window: U8, height: F32, stage: Stage, gloss: float) -> None:
    """Light a change of height (px) painted onto a photograph."""
    dx = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    dy = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    lean = -(dx * stage.light_xy[0] + dy * stage.light_xy[1])
    seen = window.astype(np.float32) * np.clip(1.0 + 0.9 * lean, 0.15, 2.2)[..., None]
    seen += 255.0 * gloss * (np.clip(lean, 0, 1.5) ** 2)[..., None]
    window[:] = np.clip(seen + 0.5, 0, 255).astype(np.uint8)


def _lump(side: int, dice: np.random.Generator, roughness: float) -> F32:
    """(side, side) 0..1 and smooth: highest in the middle, 0 before the border."""
    along, across = _axes(side, float(dice.uniform(0, np.pi)))
    radius = np.hypot(along, across / dice.uniform(0.5, 1.0)) + roughness * grain_noise((side, side), dice, side / 4)
    return np.asarray(np.clip(1.0 - (radius / 0.85) ** 2, 0, 1) ** 1.5, np.float32)


def _edged(side: int, dice: np.random.Generator, roughness: float) -> F32:
    """(side, side) 0..1: an irregular patch with an edge of about a pixel."""
    along, across = _axes(side, float(dice.uniform(0, np.pi)))
    radius = np.hypot(along, across / dice.uniform(0.45, 1.0)) / 0.7
    radius = radius + roughness * grain_noise((side, side), dice, max(2.0, side / 5))
    return np.asarray(np.clip((1.0 - radius) * side / 3.0, 0, 1), np.float32)


def _paint_dent(window: U8, stage: Stage, dice: np.random.Generator) -> None:
    """Pressed in: one side dark, the other lit."""
    side = window.shape[0]
    depth = float(dice.uniform(0.15, 0.5)) * side
    _emboss(window, np.asarray(-depth * _lump(side, dice, 0.08), np.float32), stage, float(dice.uniform(0, 0.4)))


def _paint_fibre(window: U8, stage: Stage, dice: np.random.Generator) -> None:
    """A hair or textile fibre with its shadow."""
    side = window.shape[0]
    steps = 24
    turns = dice.uniform(0, 2 * np.pi) + np.cumsum(dice.normal(0, 0.28, steps))
    path = np.cumsum(np.stack([np.cos(turns), np.sin(turns)], axis=1), axis=0) * 0.9 * side / steps
    path += side / 2 - (path.max(axis=0) + path.min(axis=0)) / 2
    wide = max(1, round(float(dice.uniform(0.006, 0.02)) * side))
    sheets = []
    for offset in (np.array(stage.light_xy) * -1.8, np.zeros(2)):
        sheet = np.zeros((side, side), np.uint8)
        points = np.round((path + offset) * 16).astype(np.int32)
        cv2.polylines(sheet, [points], False, (255,), wide, cv2.LINE_AA, 4)
        sheets.append(cv2.GaussianBlur(sheet, (0, 0), 0.7).astype(np.float32) / 255.0)
    _mix(window, np.zeros(3, np.float32), np.asarray(0.35 * sheets[0], np.float32))
    colour = dice.choice([dice.uniform(0, 60, 3), dice.uniform(190, 255, 3), dice.uniform(0, 255, 3)])
    _mix(window, np.asarray(colour, np.float32), np.asarray(dice.uniform(0.6, 1.0) * sheets[1], np.float32))


def _bar(side: int, dice: np.random.Generator, width: float) -> F32:
    """(side, side) 0..1: a bar with uneven edges through the middle."""
    along, across = _axes(side, float(dice.choice([0, np.pi / 2, np.pi / 4, dice.uniform(0, np.pi)])))
    ragged = across + 0.25 * width * grain_noise((side, side), dice, max(2.0, side / 6))
    inside = np.minimum((width - np.abs(ragged)) * side / 3.0, (0.85 - np.abs(along)) * side / 3.0)
    return np.asarray(cv2.GaussianBlur(np.clip(inside, 0, 1).astype(np.float32), (0, 0), 0.7), np.float32)


def _extreme_colour(window: U8, bright: bool) -> F32:
    """The mean colour of the brightest (darkest) tenth of the window."""
    grey = window.reshape(-1, 3).mean(axis=1)
    limit = np.percentile(grey, 90 if bright else 10)
    chosen = grey >= limit if bright else grey <= limit
    return np.asarray(window.reshape(-1, 3)[chosen].mean(axis=0), np.float32)


def _paint_short(window: U8, stage: Stage, dice: np.random.Generator) -> None:
    """A bridge of the brighter material across."""
    bar = _bar(window.shape[0], dice, float(dice.uniform(0.15, 0.4)))
    _mix(window, _extreme_colour(window, True), bar)
    _emboss(window, np.asarray(2.0 * bar, np.float32), stage, float(dice.uniform(0, 0.3)))


def _paint_open(window: U8, stage: Stage, dice: np.random.Generator) -> None:
    """A gap that shows the darker material below."""
    bar = _bar(window.shape[0], dice, float(dice.uniform(0.15, 0.4)))
    _mix(window, _extreme_colour(window, False) * np.float32(0.9), bar)
    _emboss(window, np.asarray(-1.5 * bar, np.float32), stage, 0.0)


def _paint_burr(window: U8, stage: Stage, dice: np.random.Generator) -> None:
    """Ragged bright material that stands up along an edge, with its shadow."""
    side = window.shape[0]
    along, across = _axes(side, float(dice.uniform(0, np.pi)))
    teeth = np.interp(along.ravel(), np.linspace(-1, 1, 12), np.abs(dice.normal(0, 0.28, 12)) * np.hanning(12)).reshape(
        along.shape
    )
    body = np.clip((teeth - np.abs(across - 0.2 * teeth)) * side / 2.5, 0, 1) * (np.abs(along) < 0.9)
    body = cv2.GaussianBlur(body.astype(np.float32), (0, 0), 0.6)
    moved = np.array([[1, 0, -2.0 * stage.light_xy[0]], [0, 1, -2.0 * stage.light_xy[1]]])
    shadow = cv2.warpAffine(body, moved, (side, side))
    _mix(window, np.zeros(3, np.float32), np.asarray(0.5 * shadow, np.float32))
    bright = np.clip(_extreme_colour(window, True) * np.float32(dice.uniform(0.9, 1.5)), 60, 255)
    _mix(window, bright, body)
    _emboss(window, np.asarray(2.5 * body, np.float32), stage, 0.4)


def _paint_chip(window: U8, stage: Stage, dice: np.random.Generator) -> None:
    """Broken away: facets of fresh, even material with a sharp lit border."""
    side = window.shape[0]
    patch = _edged(side, dice, 0.18)
    facets = np.zeros((side, side), np.float32)
    for _ in range(3):
        along, _ = _axes(side, float(dice.uniform(0, 2 * np.pi)))
        facets = np.minimum(facets, along * np.float32(side * dice.uniform(0.1, 0.35)))
    fresh = window.reshape(-1, 3).mean(axis=0) * dice.uniform(0.6, 1.4)
    _mix(window, np.asarray(np.clip(fresh, 0, 255), np.float32), np.asarray(0.75 * patch, np.float32))
    _emboss(window, np.asarray(patch * (facets - 2.0), np.float32), stage, 0.1)


def _paint_hole(window: U8, stage: Stage, dice: np.random.Generator) -> None:
    """Through the material: nearly black, with a lit far edge."""
    side = window.shape[0]
    hole = _edged(side, dice, 0.06)
    _emboss(window, np.asarray(-2.5 * hole, np.float32), stage, 0.2)
    _mix(
        window,
        np.full(3, dice.uniform(0, 30), np.float32),
        np.asarray(cv2.erode(hole, np.ones((3, 3), np.uint8)), np.float32),
    )


def _paint_print(window: U8, stage: Stage, dice: np.random.Generator) -> None:
    """Print that is doubled, faded or smudged in one direction."""
    side = window.shape[0]
    seen = window.astype(np.float32)
    look = int(dice.integers(0, 3))
    if look == 0:
        reach = dice.uniform(0.05, 0.15, 2) * side * dice.choice([-1, 1], 2)
        moved = cv2.warpAffine(
            window, np.array([[1, 0, reach[0]], [0, 1, reach[1]]]), (side, side), borderMode=cv2.BORDER_REFLECT_101
        )
        changed = np.minimum(seen, moved.astype(np.float32))
    elif look == 1:
        ground = np.median(seen.reshape(-1, 3), axis=0)
        changed = ground + 0.25 * (seen - ground)
    else:
        long = max(3, side // 5)
        changed = cv2.blur(seen, (long, 1) if dice.random() < 0.5 else (1, long))
    share = _edged(side, dice, 0.12)[..., None]
    window[:] = np.clip(seen + share * (changed - seen) + 0.5, 0, 255).astype(np.uint8)


def _paint_cut(window: U8, stage: Stage, dice: np.random.Generator) -> None:
    """A broken or cut thread: the structure ends at a dark slit, its frayed ends stand out."""
    side = window.shape[0]
    slit = _bar(side, dice, float(dice.uniform(0.05, 0.12)))
    wide = cv2.GaussianBlur(slit, (0, 0), side / 14)
    torn = window.astype(np.float32)
    for _ in range(2):
        field = [
            grain_noise((side, side), dice, max(2.0, side / 10)) * np.float32(side * 0.06) * wide for _ in range(2)
        ]
        ys, xs = np.mgrid[0:side, 0:side].astype(np.float32)
        moved = cv2.remap(torn, xs + field[0], ys + field[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        torn = np.asarray(moved, np.float32)
    window[:] = np.clip(torn * (1.0 - 0.75 * slit[..., None]) + 0.5, 0, 255).astype(np.uint8)


PAINTERS: dict[str, tuple[Painter, tuple[float, float]]] = {
    **{kind: (_overlay(kind), sizes) for kind, (_, sizes) in overlays.PAINTERS.items()},
    "dent": (_paint_dent, (0.03, 0.2)),
    "fibre": (_paint_fibre, (0.08, 0.35)),
    "short": (_paint_short, (0.03, 0.12)),
    "burr": (_paint_burr, (0.04, 0.2)),
    "open": (_paint_open, (0.03, 0.12)),
    "chipped_edge": (_paint_chip, (0.04, 0.2)),
    "hole": (_paint_hole, (0.03, 0.12)),
    "print_fault": (_paint_print, (0.06, 0.25)),
    "thread_cut": (_paint_cut, (0.06, 0.25)),
}
"""How each painted family is painted, and its least and largest size as shares of the picture's side."""


def choose_families(families: Use | Sequence[str] | None, has_loose_pieces: bool) -> list[str]:
    """The families that can be made, from a use or a list; ValueError for an unknown name."""
    if families is None or families == "train" or families == "judge":
        wanted: Sequence[str] = families_for(families)
    else:
        wanted = families
    unknown = [kind for kind in wanted if kind not in FAMILIES]
    if unknown:
        raise ValueError(f"no such defect families: {', '.join(unknown)}; there are {', '.join(FAMILIES)}")
    return [kind for kind in wanted if has_loose_pieces or kind not in LOOSE_PIECE_FAMILIES]
