"""Synthetic defects painted onto photographs of any part or surface, with their exact masks.

They measure a detector where there are few real defects: each family imitates a way in which production fails
(something lies on it, is scratched, cracked, pitted, stained, missing, wrong, shifted or discoloured). Families for
"train" may be shown to models that learn; families for "judge" are kept back from them (see `FAMILIES`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.records import BgrImage
from inspector.scenes.defects import MadeDefect, Use, change_canvas
from inspector.scenes.light import U8

Mask: TypeAlias = NDArray[np.bool_]
Painter: TypeAlias = Callable[[U8, U8, np.random.Generator], None]
"""Changes a square window in place; the second array is the whole picture as it was."""

LEAST_SIDE_PX = 12
ATTEMPTS = 12


def paint_defect(pixels: BgrImage, kind: str, seed: int, inside: Mask | None = None) -> tuple[BgrImage, Mask] | None:
    """A copy of (H, W, 3) uint8 BGR with one defect of a family, and its (H, W) bool mask. Deterministic.

    The defect's centre lies where `inside` (H, W) is True. None when no place was found where it can be seen.
    """
    dice = np.random.default_rng([seed, *kind.encode()])
    canvas = pixels.copy()
    for _ in range(ATTEMPTS):
        made = _try_once(canvas, kind, dice, inside)
        if made is not None:
            mask = np.zeros(pixels.shape[:2], np.bool_)
            x0, y0 = made.origin_px
            mask[y0 : y0 + made.mask.shape[0], x0 : x0 + made.mask.shape[1]] = made.mask > 0
            return canvas, mask
    return None


def _try_once(canvas: U8, kind: str, dice: np.random.Generator, inside: Mask | None) -> MadeDefect | None:
    height, width = canvas.shape[:2]
    smallest, largest = PAINTERS[kind][1]
    long_side = max(height, width)
    # Small defects are the common ones: sizes are spread evenly over their logarithm.
    size = long_side * float(np.exp(dice.uniform(np.log(smallest), np.log(largest))))
    side = int(min(max(size, LEAST_SIDE_PX), height, width))
    x, y = int(dice.integers(0, width)), int(dice.integers(0, height))
    if inside is not None and not inside[y, x]:
        return None
    x0, y0 = int(np.clip(x - side // 2, 0, width - side)), int(np.clip(y - side // 2, 0, height - side))
    return paint_window(canvas, kind, (x0, y0, x0 + side, y0 + side), dice)


def paint_window(
    canvas: BgrImage, kind: str, window: tuple[int, int, int, int], dice: np.random.Generator
) -> MadeDefect | None:
    """Paint a defect of a family into a square window (x0, y0, x1, y1), in place. None: it could not be seen."""
    painter = PAINTERS[kind][0]
    picture = canvas.copy()
    return change_canvas(canvas, window, lambda content: painter(content, picture, dice))


def _blob(side: int, dice: np.random.Generator, roughness: float) -> NDArray[np.float32]:
    """(side, side) 0..1: an irregular disc that fades out inside the square."""
    ys, xs = np.mgrid[0:side, 0:side].astype(np.float32)
    middle = (side - 1) / 2.0
    stretch, turn = dice.uniform(0.5, 1.0), dice.uniform(0.0, np.pi)
    along = (xs - middle) * np.cos(turn) + (ys - middle) * np.sin(turn)
    across = -(xs - middle) * np.sin(turn) + (ys - middle) * np.cos(turn)
    radius = np.sqrt(along**2 + (across / stretch) ** 2) / (0.42 * side)
    cells = max(2, min(8, side // 6))
    noise = cv2.resize(
        dice.normal(0, 1, (cells, cells)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC
    )
    shape = 1.0 - radius + np.float32(roughness) * noise
    return np.asarray(np.clip(shape * max(2.0, side / 8.0), 0.0, 1.0), np.float32)


def _mix(window: U8, colour: NDArray[np.float32], share: NDArray[np.float32]) -> None:
    mixed = window.astype(np.float32) * (1.0 - share[..., None]) + colour * share[..., None]
    window[:] = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)


def _any_colour(dice: np.random.Generator) -> NDArray[np.float32]:
    """Mostly greys, dark or bright; now and then a colour."""
    grey = dice.choice([dice.uniform(0, 80), dice.uniform(170, 255)])
    tint = dice.normal(0, 30, 3) if dice.random() < 0.4 else np.zeros(3)
    return np.asarray(np.clip(grey + tint, 0, 255), np.float32)


def _paint_spot(window: U8, picture: U8, dice: np.random.Generator) -> None:
    """Something lies on the part."""
    side = window.shape[0]
    _mix(window, _any_colour(dice), _blob(side, dice, 0.25) * np.float32(dice.uniform(0.5, 1.0)))


def _paint_pit(window: U8, picture: U8, dice: np.random.Generator) -> None:
    """A dark hole with a lit rim on one side."""
    side = window.shape[0]
    shape = _blob(side, dice, 0.35)
    shift = max(1, round(side / 12))
    turn = dice.uniform(0, 2 * np.pi)
    offset = np.array([[1, 0, shift * np.cos(turn)], [0, 1, shift * np.sin(turn)]], np.float32)
    moved = cv2.warpAffine(shape, offset, (shape.shape[1], shape.shape[0]))
    light = 1.0 - dice.uniform(0.3, 0.75) * shape + dice.uniform(0.1, 0.5) * np.clip(moved - shape, 0, 1)
    window[:] = np.clip(window.astype(np.float32) * light[..., None] + 0.5, 0, 255).astype(np.uint8)


def _walk(side: int, dice: np.random.Generator, bend: float, width: float) -> NDArray[np.float32]:
    """(side, side) 0..1: a line from edge to edge of the square that changes its direction by up to `bend`."""
    drawn = np.zeros((side, side), np.uint8)
    direction = dice.uniform(0, 2 * np.pi)
    place = side / 2 - 0.45 * side * np.array([np.cos(direction), np.sin(direction)])
    step = max(2.0, side / 16)
    for _ in range(int(0.9 * side / step)):
        turn = direction + dice.uniform(-bend, bend)
        following = place + step * np.array([np.cos(turn), np.sin(turn)])
        ends = [tuple(round(16 * float(value)) for value in point) for point in (place, following)]
        cv2.line(drawn, ends[0], ends[1], 255, max(1, round(width)), cv2.LINE_AA, 4)
        place = following
    return drawn.astype(np.float32) / np.float32(255.0)


def _paint_scratch(window: U8, picture: U8, dice: np.random.Generator) -> None:
    """A nearly straight line, bright or dark."""
    side = window.shape[0]
    line = _walk(side, dice, 0.1, dice.uniform(0.01, 0.04) * side)
    _mix(window, _any_colour(dice), line * np.float32(dice.uniform(0.3, 0.9)))


def _paint_crack(window: U8, picture: U8, dice: np.random.Generator) -> None:
    """A ragged dark line."""
    side = window.shape[0]
    line = _walk(side, dice, 0.9, dice.uniform(0.01, 0.03) * side)
    _mix(window, np.full(3, dice.uniform(0, 60), np.float32), line * np.float32(dice.uniform(0.4, 0.95)))


def _paint_stain(window: U8, picture: U8, dice: np.random.Generator) -> None:
    """A large patch that is a little darker or brighter, the texture showing through."""
    side = window.shape[0]
    shape = _blob(side, dice, 0.3) * np.float32(dice.uniform(0.12, 0.35))
    gain = 1.0 + shape * (1.0 if dice.random() < 0.5 else -1.0)
    window[:] = np.clip(window.astype(np.float32) * gain[..., None] + 0.5, 0, 255).astype(np.uint8)


def _paint_tint(window: U8, picture: U8, dice: np.random.Generator) -> None:
    """A patch of another colour at the same light."""
    side = window.shape[0]
    shift = dice.normal(0, 1, 3)
    shift -= shift.mean()
    shift *= dice.uniform(20, 50) / max(1e-6, float(np.abs(shift).max()))
    moved = window.astype(np.float32) + _blob(side, dice, 0.2)[..., None] * shift.astype(np.float32)
    window[:] = np.clip(moved + 0.5, 0, 255).astype(np.uint8)


def _paint_erase(window: U8, picture: U8, dice: np.random.Generator) -> None:
    """What was there is missing: filled from its surroundings."""
    side = window.shape[0]
    hole = np.asarray(_blob(side, dice, 0.1) > 0.5, np.uint8)
    window[:] = cv2.inpaint(np.ascontiguousarray(window), hole, 3, cv2.INPAINT_TELEA)


def _paint_smear(window: U8, picture: U8, dice: np.random.Generator) -> None:
    """The texture is lost: worn, molten or smeared."""
    side = window.shape[0]
    blurred = cv2.GaussianBlur(window, (0, 0), max(1.5, side / 12)).astype(np.float32)
    share = _blob(side, dice, 0.25)[..., None]
    window[:] = (window.astype(np.float32) * (1 - share) + blurred * share + 0.5).astype(np.uint8)


def _paint_shift(window: U8, picture: U8, dice: np.random.Generator) -> None:
    """Something sits a little off its place or is turned."""
    side = window.shape[0]
    turn = dice.uniform(4, 15) * dice.choice([-1, 1])
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), turn, 1.0)
    matrix[:, 2] += dice.uniform(0.05, 0.15) * side * dice.choice([-1, 1], 2)
    moved = cv2.warpAffine(window, matrix, (window.shape[1], window.shape[0]), borderMode=cv2.BORDER_REFLECT_101)
    share = _blob(side, dice, 0.1)[..., None]
    window[:] = (window.astype(np.float32) * (1 - share) + moved.astype(np.float32) * share + 0.5).astype(np.uint8)


def _paint_swap(window: U8, picture: U8, dice: np.random.Generator) -> None:
    """The wrong thing is there: a piece from elsewhere in the picture."""
    side = window.shape[0]
    y = int(dice.integers(0, picture.shape[0] - side + 1))
    x = int(dice.integers(0, picture.shape[1] - side + 1))
    share = _blob(side, dice, 0.1)[..., None]
    piece = picture[y : y + side, x : x + side].astype(np.float32)
    window[:] = (window.astype(np.float32) * (1 - share) + piece * share + 0.5).astype(np.uint8)


PAINTERS: dict[str, tuple[Painter, tuple[float, float]]] = {
    "spot": (_paint_spot, (0.008, 0.05)),
    "pit": (_paint_pit, (0.01, 0.05)),
    "scratch": (_paint_scratch, (0.03, 0.2)),
    "crack": (_paint_crack, (0.03, 0.15)),
    "stain": (_paint_stain, (0.04, 0.25)),
    "tint": (_paint_tint, (0.02, 0.12)),
    "erase": (_paint_erase, (0.02, 0.1)),
    "smear": (_paint_smear, (0.02, 0.12)),
    "shift": (_paint_shift, (0.03, 0.12)),
    "swap": (_paint_swap, (0.02, 0.1)),
}
"""How each family is painted, and its least and largest size as shares of the picture's long side."""

FAMILIES: dict[str, Use] = {
    "spot": "train",
    "scratch": "train",
    "stain": "train",
    "swap": "train",
    "smear": "train",
    "pit": "judge",
    "crack": "judge",
    "tint": "judge",
    "erase": "judge",
    "shift": "judge",
}


def judge_families() -> list[str]:
    """The families that nothing is taught with."""
    return [kind for kind, use in FAMILIES.items() if use == "judge"]
