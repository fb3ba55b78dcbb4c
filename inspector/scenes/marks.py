"""Damage and dirt that can happen to any part: scratches, stains, cracks, fibres, painted onto a canvas.

Every function takes a window of a canvas ((h, w, 4) uint8, see `relief.Layer`), a random source, the
severity 0..1 and the scale in pixels per millimetre, and changes the window in place.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.scenes.light import F32, U8
from inspector.scenes.relief import grain_noise

Path = NDArray[np.float64]
_SHIFT = 4


def blend(window: U8, share: F32, colour: F32) -> None:
    """Mix a colour (exposed BGR, float32 (3,) or (h, w, 3)) into the opaque part of the window, in place."""
    weight = (share * (1.0 - window[..., 3].astype(np.float32) / 255.0))[..., None]
    picture = window[..., :3].astype(np.float32)
    picture += weight * (colour - picture)
    window[..., :3] = np.round(np.clip(picture, 0.0, 255.0))


def scale_light(window: U8, factor: F32) -> None:
    """Multiply the light of the window by (h, w), in place; the factor acts on exposed values."""
    picture = window[..., :3].astype(np.float32) * factor[..., None]
    window[..., :3] = np.round(np.minimum(picture, 255.0))


def exposed(hex_colour: str) -> F32:
    """A colour as it looks in the picture, BGR float32 (3,)."""
    red, green, blue = (int(hex_colour[i : i + 2], 16) for i in (1, 3, 5))
    return np.array([blue, green, red], np.float32)


def wander(rng: np.random.Generator, start: tuple[float, float], heading: float, length: float, unrest: float) -> Path:
    """A path (n, 2) in pixels whose heading changes by a random walk; `unrest` in radians per step."""
    steps = int(np.clip(length / 4.0, 8, 160))
    turns = np.cumsum(rng.normal(0.0, unrest, steps))
    headings = heading + turns
    moves = np.stack([np.cos(headings), np.sin(headings)], axis=1) * (length / steps)
    return np.vstack([[start], np.asarray(start) + np.cumsum(moves, axis=0)])


def stroke(shape: tuple[int, ...], path: Path, widths: F32, offset: float = 0.0) -> F32:
    """Coverage 0..1 of a line along a path with a width (px) for each point, drawn fourfold."""
    fine = 4
    sheet = np.zeros((shape[0] * fine, shape[1] * fine), np.uint8)
    points = np.round(((path + 0.5 + offset) * fine - 0.5) * (1 << _SHIFT)).astype(np.int32)
    for start, end, width in zip(points[:-1], points[1:], widths, strict=False):
        thickness = max(1, round(float(width) * fine))
        cv2.line(sheet, tuple(map(int, start)), tuple(map(int, end)), (255,), thickness, cv2.LINE_AA, _SHIFT)
    small = cv2.resize(sheet, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(small.astype(np.float32) / 255.0, np.float32)


def scratch(
    window: U8, rng: np.random.Generator, severity: float, px_per_mm: float, bright: str, allowed: F32 | None = None
) -> None:
    """A groove through the middle of the window with finer ones beside it: bare material between a dark and a
    shining flank."""
    height, width = window.shape[:2]
    heading = float(rng.uniform(-0.9, 0.9)) + (np.pi if rng.random() < 0.5 else 0.0)
    length = (0.5 + 0.45 * severity) * min(height, width)
    start = (width / 2 - np.cos(heading) * length / 2, height / 2 - np.sin(heading) * length / 2)
    path = wander(rng, start, heading, length, 0.010)
    free = np.ones((height, width), np.float32) if allowed is None else allowed
    across = np.array([-np.sin(heading), np.cos(heading)])
    for number in range(1 + int(rng.integers(1, 4))):
        aside = 0.0 if number == 0 else float(rng.uniform(-0.32, 0.32))
        first = 0 if number == 0 else int(rng.integers(0, len(path) // 2))
        last = len(path) if number == 0 else first + int(rng.integers(len(path) // 3, len(path)))
        piece = path[first:last] + across * (aside * px_per_mm)
        wide = (0.10 + 0.14 * severity) if number == 0 else 0.05
        _scratch_once(window, rng, piece, wide * px_per_mm, px_per_mm, bright, free)


def _scratch_once(
    window: U8, rng: np.random.Generator, path: Path, width_px: float, px_per_mm: float, bright: str, free: F32
) -> None:
    count = len(path)
    taper = np.sin(np.linspace(0.12, np.pi - 0.12, count)) ** 0.5
    pressure = 1.0 + 0.5 * np.convolve(rng.standard_normal(count + 8), np.ones(9) / 9, "valid")
    widths = np.asarray(np.maximum(0.6, width_px * taper * pressure), np.float32)
    core = cv2.GaussianBlur(stroke(window.shape, path, widths), (3, 3), 0)
    flank = stroke(window.shape, path, widths * 1.4, offset=0.05 * px_per_mm)
    scale_light(window, 1.0 - 0.5 * np.clip(flank - core, 0, 1) * free)
    skips = np.clip(0.80 + 0.22 * grain_noise(core.shape, rng, 0.5 * px_per_mm), 0.25, 0.95)
    tone = np.clip(1.0 + 0.09 * grain_noise(core.shape, rng, 0.12 * px_per_mm), 0.7, 1.2)
    blend(window, np.asarray(core * skips * free, np.float32), exposed(bright) * tone[..., None])


def stain(
    window: U8, rng: np.random.Generator, severity: float, px_per_mm: float, tint: str, allowed: F32 | None = None
) -> None:
    """A dried drop: a ragged film of `tint`, thick at its rim, with a gloss of its own."""
    height, width = window.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = (x - width / 2) / (width / 2), (y - height / 2) / (height / 2)
    ragged = 0.13 * grain_noise((height, width), rng, 0.28 * width) + 0.04 * grain_noise(
        (height, width), rng, 0.08 * width
    )
    inside = 0.70 - np.hypot(x, y * float(rng.uniform(1.0, 1.35))) + ragged
    film = np.clip(inside / 0.05, 0, 1)
    rim = np.exp(-((inside - 0.05) ** 2) / (2 * 0.035**2))
    cloud = np.clip(0.5 + 0.25 * grain_noise((height, width), rng, 0.2 * width), 0, 1)
    depth = film * (0.35 + 0.30 * severity) * (0.55 + 0.45 * cloud) + 0.35 * rim * film
    free = np.ones_like(film) if allowed is None else allowed
    below = window[..., :3].astype(np.float32)
    filtered = exposed(tint) * (0.35 + 0.65 * below / 135.0)
    blend(window, np.asarray(np.clip(depth, 0, 0.92) * free, np.float32), np.minimum(filtered, 255.0))
    shine = cv2.GaussianBlur(np.asarray(rim * (x * -0.6 + y * -0.7 > 0.15), np.float32), (0, 0), 0.05 * px_per_mm + 0.5)
    blend(window, np.asarray(0.35 * shine * film * free, np.float32), exposed("#fff6e0"))


def crack(
    window: U8,
    rng: np.random.Generator,
    severity: float,
    px_per_mm: float,
    start: tuple[float, float],
    heading: float,
    allowed: F32,
    halo: str = "#b9bc9c",
) -> None:
    """A jagged dark line from `start` (window pixels), the material beside it turned pale."""
    length = 0.9 * (0.45 + 0.55 * severity) * max(window.shape[:2]) * 0.9
    path = wander(rng, start, heading, length, 0.0)
    across = np.array([-np.sin(heading), np.cos(heading)])
    jag = np.cumsum(rng.normal(0, 0.075, len(path)) * (rng.random(len(path)) < 0.5)) + rng.normal(0, 0.03, len(path))
    path = path + (jag * px_per_mm)[:, None] * across
    taper = np.linspace(1.0, 0.3, len(path))
    widths = np.asarray(np.maximum(0.8, (0.09 + 0.10 * severity) * px_per_mm * taper), np.float32)
    core = stroke(window.shape, path, widths)
    pale = cv2.GaussianBlur(core, (0, 0), 0.16 * px_per_mm + 0.4)
    blend(window, np.asarray(np.clip(1.6 * pale, 0, 0.45) * allowed, np.float32), exposed(halo))
    blend(window, np.asarray(0.94 * core * allowed, np.float32), exposed("#0c0d0c"))


def fibre(window: U8, rng: np.random.Generator, severity: float, px_per_mm: float) -> None:
    """A textile fibre or hair lying on the part, with its shadow."""
    height, width = window.shape[:2]
    heading = float(rng.uniform(0, 2 * np.pi))
    length = (0.6 + 0.6 * severity) * min(height, width)
    start = (width / 2 - np.cos(heading) * length * 0.35, height / 2 - np.sin(heading) * length * 0.35)
    path = wander(rng, start, heading, length, 0.11)
    widths = np.full(len(path), max(1.0, (0.09 + 0.05 * severity) * px_per_mm), np.float32)
    body = stroke(window.shape, path, widths)
    below = stroke(window.shape, path, widths * 1.3, offset=0.16 * px_per_mm)
    scale_light(window, 1.0 - 0.5 * cv2.GaussianBlur(below, (0, 0), 0.06 * px_per_mm + 0.4))
    colour = ("#e7e4da", "#10131c", "#7d1f1c", "#1d3f86")[int(rng.integers(0, 4))]
    blend(window, np.asarray(0.95 * body, np.float32), exposed(colour))
    shine = stroke(window.shape, path, widths * 0.35, offset=-0.02 * px_per_mm)
    blend(window, np.asarray(0.35 * shine, np.float32), exposed("#f4f2ea"))


def tarnish(window: U8, rng: np.random.Generator, severity: float, ring: F32) -> None:
    """Oxidised metal: brown to violet blotches where `ring` (h, w) 0..1 allows."""
    height, width = window.shape[:2]
    blot = np.clip(0.55 + 0.5 * severity + 0.5 * grain_noise((height, width), rng, 0.25 * width), 0, 1)
    fine = np.clip(0.8 + 0.25 * grain_noise((height, width), rng, 0.05 * width), 0, 1)
    side = float(rng.uniform(0, 2 * np.pi))
    y, x = np.mgrid[-1.0 : 1.0 : height * 1j, -1.0 : 1.0 : width * 1j]
    part = np.clip(0.35 + 0.8 * severity + (np.cos(side) * x + np.sin(side) * y), 0, 1)
    share = np.asarray(ring * blot * fine * part * 0.85, np.float32)
    blend(window, share, exposed(("#5a3418", "#4a2a33", "#3e3020")[int(rng.integers(0, 3))]))


def dust(canvas: U8, rng: np.random.Generator, px_per_mm: float, count: int) -> None:
    """Harmless specks that every part carries, in place."""
    for _ in range(count):
        x, y = int(rng.integers(0, canvas.shape[1])), int(rng.integers(0, canvas.shape[0]))
        radius = max(1, round(float(rng.gamma(2.0, 0.022)) * px_per_mm))
        pale = bool(rng.random() < 0.7)
        reach = radius + 2
        window = canvas[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        spot = np.zeros(window.shape[:2], np.uint8)
        centre = (min(x, reach), min(y, reach))
        cv2.ellipse(
            spot,
            centre,
            (radius, max(1, int(radius * rng.uniform(0.4, 1)))),
            float(rng.uniform(0, 180)),
            0,
            360,
            (255,),
            -1,
        )
        share = cv2.GaussianBlur(spot, (3, 3), 0).astype(np.float32) * (float(rng.uniform(0.1, 0.3)) / 255)
        blend(window, np.asarray(share, np.float32), exposed("#cfccc0" if pale else "#15140f"))
