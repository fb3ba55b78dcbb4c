"""A thing to be photographed, drawn as height and material, and the flat layers it turns into.

Lengths are millimetres on the thing; a `Relief` is the drawing board, a `Layer` its picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np

from inspector.scenes import light
from inspector.scenes.light import F32, U8

Number: TypeAlias = "float | F32"


@dataclass(frozen=True, slots=True)
class Layer:
    """A picture to be laid over another: below * through / 255 + colour.

    `pixels` is (H, W, 4) uint8: BGR already weighted by its coverage, and `through`, the share of what
    lies below that remains, shadow included. `anchor_px` is where the layer's origin (x, y) lies in it.
    """

    pixels: U8
    anchor_px: tuple[float, float]

    def tinted(self, gains_bgr: tuple[float, float, float]) -> Layer:
        """The same layer with its colours multiplied."""
        return Layer(np.asarray(cv2.multiply(self.pixels, np.array((*gains_bgr, 1.0))), np.uint8), self.anchor_px)


@dataclass(frozen=True, slots=True)
class Patch:
    """One shape on a relief: a window and in it the distance to the outline (mm, negative inside)."""

    rows: slice
    columns: slice
    x: F32
    y: F32
    distance: F32
    px_per_mm: float

    @property
    def cover(self) -> F32:
        """Antialiased coverage 0..1."""
        return np.asarray(np.clip(0.5 - self.distance * self.px_per_mm, 0.0, 1.0), np.float32)

    def rounded_edge(self, bevel_mm: float) -> F32:
        """0 at the outline, 1 from `bevel_mm` inside: a quarter circle between."""
        inside = np.clip(-self.distance / bevel_mm, 0.0, 1.0)
        return np.asarray(np.sqrt(np.maximum(0.0, 1.0 - (1.0 - inside) ** 2)), np.float32)


class Relief:
    """Height (mm), albedo (linear BGR planes), metal, gloss and coverage on one pixel grid.

    `box_mm` is (x0, y0, x1, y1) around the thing's origin; leave room for its shadow.
    """

    def __init__(self, box_mm: tuple[float, float, float, float], px_per_mm: float) -> None:
        self.box_mm, self.px_per_mm = box_mm, px_per_mm
        columns = max(1, int(np.ceil((box_mm[2] - box_mm[0]) * px_per_mm)))
        rows = max(1, int(np.ceil((box_mm[3] - box_mm[1]) * px_per_mm)))
        self.albedo = np.zeros((3, rows, columns), np.float32)
        self.height = np.zeros((rows, columns), np.float32)
        self.metal = np.zeros((rows, columns), np.float32)
        self.gloss = np.zeros((rows, columns), np.float32)
        self.coverage = np.zeros((rows, columns), np.float32)

    def box(self, x: float, y: float, width: float, height: float, radius: float = 0.0) -> Patch:
        """A rectangle with rounded corners around (x, y)."""
        rows, columns, dx, dy = self._window(x, y, width / 2, height / 2)
        qx = np.abs(dx) - (width / 2 - radius)
        qy = np.abs(dy) - (height / 2 - radius)
        outside = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0))
        distance = outside + np.minimum(np.maximum(qx, qy), 0) - radius
        return Patch(rows, columns, dx, dy, np.asarray(distance, np.float32), self.px_per_mm)

    def disc(self, x: float, y: float, radius: float) -> Patch:
        """A circle around (x, y)."""
        rows, columns, dx, dy = self._window(x, y, radius, radius)
        return Patch(rows, columns, dx, dy, np.asarray(np.hypot(dx, dy) - radius, np.float32), self.px_per_mm)

    def lay(
        self,
        patch: Patch,
        albedo: F32,
        height: Number,
        *,
        metal: Number = 0.0,
        gloss: Number = 0.2,
        cover: Number = 1.0,
    ) -> None:
        """Put solid material: all channels are replaced where the patch covers."""
        share = np.asarray(patch.cover * cover, np.float32)
        window = (patch.rows, patch.columns)
        for plane, colour in zip(self.albedo, albedo, strict=True):
            plane[window] += share * (colour - plane[window])
        for channel, value in ((self.height, height), (self.metal, metal), (self.gloss, gloss)):
            channel[window] += share * (value - channel[window])
        self.coverage[window] = np.maximum(self.coverage[window], share)

    def mark(self, patch: Patch, albedo: F32, opacity: Number = 1.0) -> None:
        """Print on what is there: only the colour changes."""
        share = np.asarray(patch.cover * opacity, np.float32)
        window = (patch.rows, patch.columns)
        for plane, colour in zip(self.albedo, albedo, strict=True):
            plane[window] += share * (colour - plane[window])

    def print_mask(self, mask: U8, albedo: F32, opacity: float = 1.0) -> None:
        """Print a (H, W) uint8 mask of the whole relief."""
        x, y, width, height = cv2.boundingRect(mask)
        share = mask[y : y + height, x : x + width].astype(np.float32) * np.float32(opacity / 255.0)
        for plane, colour in zip(self.albedo, albedo, strict=True):
            plane[y : y + height, x : x + width] += share * (colour - plane[y : y + height, x : x + width])

    def to_px(self, x: float, y: float) -> tuple[float, float]:
        """Millimetres to pixels of this relief."""
        return (x - self.box_mm[0]) * self.px_per_mm - 0.5, (y - self.box_mm[1]) * self.px_per_mm - 0.5

    def ring(self, x: float, y: float, outer: float, inner: float) -> Patch:
        """The area between two circles around (x, y)."""
        disc = self.disc(x, y, outer)
        distance = np.maximum(disc.distance, inner - (disc.distance + outer))
        return Patch(disc.rows, disc.columns, disc.x, disc.y, np.asarray(distance, np.float32), self.px_per_mm)

    def speckle(self, rng: np.random.Generator, amount: float, grain_mm: float) -> None:
        """Uneven colour of real material: multiplies the albedo by 1 ± `amount` in grains."""
        grain = grain_noise(self.height.shape, rng, grain_mm * self.px_per_mm)
        self.albedo *= np.maximum(0.0, 1.0 + amount * grain)

    def roughen_metal(self, rng: np.random.Generator, depth_mm: float = 0.012, grain_mm: float = 0.22) -> None:
        """Solder and tin are never flat: uneven heights where there is metal, so that highlights break up."""
        grains = grain_noise(self.height.shape, rng, grain_mm * self.px_per_mm)
        fine = grain_noise(self.height.shape, rng, 0.06 * self.px_per_mm)
        self.height += self.metal * (depth_mm * grains + 0.2 * depth_mm * fine)

    def turned(self, quarter_turns: int) -> Relief:
        """The same thing turned counter-clockwise by quarter turns around its origin."""
        turns = quarter_turns % 4
        x0, y0, x1, y1 = self.box_mm
        for _ in range(turns):
            x0, y0, x1, y1 = y0, -x1, y1, -x0
        other = Relief((x0, y0, x1, y1), self.px_per_mm)
        for name in ("albedo", "height", "metal", "gloss", "coverage"):
            setattr(other, name, np.ascontiguousarray(np.rot90(getattr(self, name), turns, axes=(-2, -1))))
        return other

    def photograph(self, *, oversampling: int = 1, shadow_grid_px_per_mm: float = 12.0) -> Layer:
        """Shade and expose; `oversampling` pixels become one."""
        grid = min(shadow_grid_px_per_mm, 1.5 * self.px_per_mm / oversampling)
        lit = light.cast_shadow(self.height, self.px_per_mm, grid_px_per_mm=grid)
        sky = light.ambient_occlusion(self.height, self.px_per_mm)
        key, dome = float(light.KEY_COLOUR_BGR[1]) * light.KEY_DIRECTION[2], float(light.DOME_COLOUR_BGR[1])
        remaining = (key * lit + dome * sky) * np.float32(1.0 / (key + dome))
        full = self.height.shape
        pixels = np.zeros((*full, 4), np.uint8)
        pixels[..., 3] = light.factor_to_u8(remaining) * (1.0 - self.coverage) + 0.5
        pixels[(*self._solid(), slice(0, 3))] = self._shade_solid(lit, sky)
        if oversampling > 1:
            size = (full[1] // oversampling, full[0] // oversampling)
            pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
        scale = self.px_per_mm / oversampling
        return Layer(pixels, (-self.box_mm[0] * scale - 0.5, -self.box_mm[1] * scale - 0.5))

    def _solid(self) -> tuple[slice, slice]:
        """The window that holds everything but shadow."""
        x, y, width, height = cv2.boundingRect((self.coverage > 0).astype(np.uint8))
        return slice(y, y + height), slice(x, x + width)

    def _shade_solid(self, lit: F32, sky: F32) -> U8:
        """The exposed picture of the solid window, weighted by coverage."""
        solid = self._solid()
        height = np.asarray(cv2.GaussianBlur(self.height, (0, 0), 1.0)[solid], np.float32)
        materials = (self.metal[solid], self.gloss[solid])
        albedo = self.albedo[:, solid[0], solid[1]]
        picture = light.shade(albedo, height, *materials, self.px_per_mm, lit[solid], sky[solid])
        cover = np.asarray(np.round(self.coverage[solid] * 255.0), np.uint8)
        return np.asarray(cv2.multiply(picture, cv2.merge([cover] * 3), scale=1.0 / 255.0), np.uint8)

    def _window(self, x: float, y: float, half_width: float, half_height: float) -> tuple[slice, slice, F32, F32]:
        margin = 2.0
        column, row = self.to_px(x, y)
        reach_x, reach_y = half_width * self.px_per_mm + margin, half_height * self.px_per_mm + margin
        x0, x1 = _clip_range(column - reach_x, column + reach_x, self.height.shape[1])
        y0, y1 = _clip_range(row - reach_y, row + reach_y, self.height.shape[0])
        dx = (np.arange(x0, x1, dtype=np.float32) - column) / self.px_per_mm
        dy = (np.arange(y0, y1, dtype=np.float32) - row) / self.px_per_mm
        grid_x, grid_y = np.meshgrid(dx.astype(np.float32), dy.astype(np.float32))
        return slice(y0, y1), slice(x0, x1), grid_x, grid_y


def grain_noise(shape: tuple[int, ...], rng: np.random.Generator, grain_px: float) -> F32:
    """Smooth noise (H, W) float32 of mean 0 and deviation 1; `grain_px` is the size of its grains."""
    shrink = max(1, int(grain_px))
    rows, columns = -(-shape[0] // shrink) + 2, -(-shape[1] // shrink) + 2
    coarse = rng.standard_normal((rows, columns), np.float32)
    if grain_px > 0.4:
        coarse = np.asarray(cv2.GaussianBlur(coarse, (0, 0), max(0.5, grain_px / shrink / 2)), np.float32)
    coarse /= max(1e-6, float(coarse.std()))
    if shrink > 1:
        coarse = np.asarray(
            cv2.resize(coarse, (columns * shrink, rows * shrink), interpolation=cv2.INTER_CUBIC), np.float32
        )
    return np.ascontiguousarray(coarse[: shape[0], : shape[1]], np.float32)


def lay_over(canvas: U8, layer: Layer, x: float, y: float, angle_deg: float = 0.0) -> None:
    """Put a layer's origin at canvas pixel (x, y), turned counter-clockwise, in place.

    `canvas` is (H, W, 4) uint8 as `Layer.pixels`: the layer covers its transparency too.
    """
    height, width = layer.pixels.shape[:2]
    cosine, sine = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    turn = np.array([[cosine, sine], [-sine, cosine]])
    corners = np.array([(0, 0), (width, 0), (0, height), (width, height)]) - layer.anchor_px
    spots = corners @ turn.T + (x, y)
    left, top = np.floor(spots.min(axis=0)) - 1
    right, bottom = np.ceil(spots.max(axis=0)) + 1
    x0, x1 = _clip_range(left, right, canvas.shape[1])
    y0, y1 = _clip_range(top, bottom, canvas.shape[0])
    if x1 <= x0 or y1 <= y0:
        return
    shift = turn @ (-layer.anchor_px[0], -layer.anchor_px[1]) + (x - x0, y - y0)
    move = np.column_stack([turn, shift])
    edge = (0.0, 0.0, 0.0, 255.0)
    placed = cv2.warpAffine(layer.pixels, move, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR, borderValue=edge)
    through = cv2.extractChannel(placed, 3)
    window = canvas[y0:y1, x0:x1]
    below = cv2.multiply(window, cv2.merge([through] * 4), scale=1.0 / 255.0)
    cv2.insertChannel(np.zeros_like(through), placed, 3)
    canvas[y0:y1, x0:x1] = cv2.add(below, placed)


def _clip_range(start: float, stop: float, size: int) -> tuple[int, int]:
    first = int(np.clip(np.floor(start), 0, size))
    return first, int(np.clip(np.ceil(stop) + 1, first, size))
