"""From a seed and a part number to a photograph of that part on the line, with the truth about it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.images import encode_jpeg
from inspector.records import BgrImage
from inspector.scenes import station
from inspector.scenes.board_line import BoardProduct
from inspector.scenes.casting_line import CastingProduct
from inspector.scenes.defects import FAMILIES, MadeDefect, SceneDefect, kinds_of, plan_defects
from inspector.scenes.light import U8
from inspector.scenes.product import LotStock, Product
from inspector.scenes.variation import Lot, Pose, Shot, defect_rng, draw_lot, draw_shot, lot_number, part_rng

FULL_WIDTH_PX, FULL_HEIGHT_PX = 3840, 2160
FULL_PX_PER_MM = 32.0
JPEG_QUALITY = 92
SETUP_OFFSET = 1_500_000_000
"""Parts for setting up are numbered from here; a production run never gets there."""
SETUP_LOT_SIZE = 2
_LOTS_KEPT = 1
_MASK_LEVEL = 60
"""A single mask pixel spread over four by the warp still counts."""


@dataclass(frozen=True, slots=True)
class RenderedPart:
    """One part as the camera sees it. `mask` (H, W) bool is True where a defect changed the picture."""

    pixels: BgrImage
    part_number: int
    part_id: str
    lot: str
    defects: tuple[SceneDefect, ...]
    mask: NDArray[np.bool_]

    @property
    def is_defective(self) -> bool:
        return bool(self.defects)


@dataclass(frozen=True, slots=True)
class _LotSetup:
    lot: Lot
    stock: LotStock
    gain: U8


class SceneRenderer:
    """Renders parts of one scene at random access; static things are drawn once.

    `scene` is "board" or "casting". The same (scene, seed, part number, frame size, rate, lot size and
    kinds) give the same bytes on the same machine. Not thread-safe. At 4K it holds about 250 MB.
    """

    def __init__(
        self,
        scene: str,
        seed: int,
        width_px: int = FULL_WIDTH_PX,
        height_px: int = FULL_HEIGHT_PX,
        *,
        defect_rate: float = 0.2,
        lot_size: int = 50,
        kinds: tuple[str, ...] | None = None,
    ) -> None:
        if scene not in FAMILIES:
            raise ValueError(f"unknown scene {scene!r}; there are {', '.join(FAMILIES)}")
        self.kinds = kinds_of(scene) if kinds is None else kinds
        unknown = set(self.kinds) - set(FAMILIES[scene])
        if unknown:
            raise ValueError(f"scene {scene!r} has no defects {sorted(unknown)}")
        self.scene, self.seed, self.defect_rate, self.lot_size = scene, seed, defect_rate, lot_size
        self.width_px, self.height_px = width_px, height_px
        self.px_scale = min(width_px / FULL_WIDTH_PX, height_px / FULL_HEIGHT_PX)
        px_per_mm = FULL_PX_PER_MM * self.px_scale
        self._product: Product = BoardProduct(px_per_mm) if scene == "board" else CastingProduct(px_per_mm)
        self._belt = station.draw_belt(width_px, height_px, self.px_scale)
        self._noise = station.draw_noise(width_px, height_px, seed)
        self._lots: OrderedDict[int, _LotSetup] = OrderedDict()

    def render(self, part_number: int, *, defect_rate: float | None = None) -> RenderedPart:
        """The photograph of a part, numbered from 1. `defect_rate` overrides that of the line: with 0 it is the
        same part in the same pose with the same noise, without its defects."""
        setup = self._set_up_lot(lot_number(part_number, self.lot_size))
        shot = draw_shot(self.seed, part_number, self.px_scale)
        fate = defect_rng(self.seed, part_number)
        planned = plan_defects(fate, self.kinds, self.defect_rate if defect_rate is None else defect_rate)
        part = setup.stock.assemble(part_rng(self.seed, part_number), planned, fate)
        move = self._place_part(shot.pose)
        pixels = self._photograph(part.canvas, move, shot, setup.gain)
        defects, mask = self._project_defects(part.defects, move)
        part_id = f"{self._product.part_prefix}-{part_number:06d}"
        return RenderedPart(pixels, part_number, part_id, setup.lot.name, defects, mask)

    def render_empty(self) -> BgrImage:
        """The belt without a part."""
        gain = station.draw_gain(self.width_px, self.height_px, (1.0, 1.0, 1.0))
        frame = station.apply_gain(np.ascontiguousarray(self._belt[:, : self.width_px]), gain, 1.0)
        return station.add_noise(frame, self._noise, (0.5, 0.5))

    def lot_name(self, part_number: int) -> str:
        """The lot a part belongs to."""
        return draw_lot(self.seed, lot_number(part_number, self.lot_size)).name

    def pose_of(self, part_number: int) -> Pose:
        """Where a part lies."""
        return draw_shot(self.seed, part_number, self.px_scale).pose

    def _set_up_lot(self, number: int) -> _LotSetup:
        if number not in self._lots:
            lot = draw_lot(self.seed, number)
            gain = station.draw_gain(self.width_px, self.height_px, lot.gains_bgr)
            self._lots[number] = _LotSetup(lot, self._product.stock_for(lot), gain)
            while len(self._lots) > _LOTS_KEPT:
                self._lots.popitem(last=False)
        self._lots.move_to_end(number)
        return self._lots[number]

    def _place_part(self, pose: Pose) -> NDArray[np.float64]:
        """(2, 3) from canvas pixels to frame pixels."""
        centre = self._product.centre_px
        move = cv2.getRotationMatrix2D(centre, pose.rotation_deg, pose.scale)
        move[0, 2] += (self.width_px - 1) / 2 + pose.shift_x_px - centre[0]
        move[1, 2] += (self.height_px - 1) / 2 + pose.shift_y_px - centre[1]
        return np.asarray(move, np.float64)

    def _photograph(self, canvas: U8, move: NDArray[np.float64], shot: Shot, gain: U8) -> BgrImage:
        size = (self.width_px, self.height_px)
        edge = (0.0, 0.0, 0.0, 255.0)
        placed = cv2.warpAffine(canvas, move, size, flags=cv2.INTER_LINEAR, borderValue=edge)
        start = int(shot.belt_offset * (self._belt.shape[1] - self.width_px))
        belt = self._belt[:, start : start + self.width_px]
        through = cv2.extractChannel(placed, 3)
        frame = cv2.multiply(belt, cv2.merge([through] * 3), scale=1.0 / 255.0)
        frame = cv2.add(frame, cv2.cvtColor(placed, cv2.COLOR_BGRA2BGR))
        frame = station.apply_gain(np.asarray(frame, np.uint8), gain, shot.exposure)
        frame = cv2.GaussianBlur(frame, (5, 5), shot.blur_x_px, sigmaY=shot.blur_y_px)
        return station.add_noise(np.asarray(frame, np.uint8), self._noise, shot.noise_offset)

    def _project_defects(
        self, made: tuple[MadeDefect, ...], move: NDArray[np.float64]
    ) -> tuple[tuple[SceneDefect, ...], NDArray[np.bool_]]:
        mask = np.zeros((self.height_px, self.width_px), np.bool_)
        defects = []
        for defect in made:
            shifted = move.copy()
            shifted[:, 2] += move[:, :2] @ defect.origin_px
            placed = cv2.warpAffine(defect.mask, shifted, (self.width_px, self.height_px), flags=cv2.INTER_LINEAR)
            x, y, width, height = cv2.boundingRect(np.asarray(placed > _MASK_LEVEL, np.uint8))
            if width == 0 or height == 0:
                continue
            seen = placed[y : y + height, x : x + width] > _MASK_LEVEL
            mask[y : y + height, x : x + width] |= seen
            defects.append(SceneDefect(defect.kind, defect.severity, (x, y, x + width, y + height), seen))
        return tuple(defects), mask


def render_part(
    scene: str,
    seed: int,
    part_number: int,
    *,
    width_px: int = FULL_WIDTH_PX,
    height_px: int = FULL_HEIGHT_PX,
    defect_rate: float = 0.2,
    lot_size: int = 50,
) -> RenderedPart:
    """One part from nothing. For more than one keep a `SceneRenderer`: its set-up costs seconds at 4K."""
    renderer = SceneRenderer(scene, seed, width_px, height_px, defect_rate=defect_rate, lot_size=lot_size)
    return renderer.render(part_number)


def write_good_images(
    directory: Path,
    scene: str,
    seed: int,
    count: int,
    width_px: int = FULL_WIDTH_PX,
    height_px: int = FULL_HEIGHT_PX,
    first_part: int = 1,
    on_image: Callable[[Path], None] | None = None,
) -> tuple[Path, ...]:
    """Write `count` photographs of good parts as `good_000001.jpg` … and return their paths.

    `first_part` counts set-up parts, which are numbered apart: none is ever a part of a production run.
    They come from many small lots, so that a recipe sees how lots differ. `on_image` is told each path.
    """
    directory.mkdir(parents=True, exist_ok=True)
    renderer = SceneRenderer(scene, seed, width_px, height_px, defect_rate=0.0, lot_size=SETUP_LOT_SIZE)
    paths = []
    for number in range(first_part, first_part + count):
        path = directory / f"good_{number:06d}.jpg"
        path.write_bytes(encode_jpeg(renderer.render(SETUP_OFFSET + number).pixels, JPEG_QUALITY))
        paths.append(path)
        if on_image is not None:
            on_image(path)
    return tuple(paths)
