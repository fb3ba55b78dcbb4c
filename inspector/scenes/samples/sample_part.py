"""One sample: a part or surface that can be photographed again and again, and spoilt with exact masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from inspector.scenes.defects import Use
from inspector.scenes.light import F32, U8
from inspector.scenes.samples import finishes, photo, spoiling
from inspector.scenes.samples.kinds import KINDS, draw_kind
from inspector.scenes.samples.mixtures import cloud, lay_on_texture, wrap_in_texture
from inspector.scenes.samples.photo import Camera, Rig
from inspector.scenes.samples.spoiling import Mask, Stage
from inspector.scenes.samples.workpiece import Placement, Stamp, Workpiece, assemble, close_up

LEAST_SIDE_PX = 64
"""Below this no maker has room for its details."""
WHOLE_SHARE = 0.5
"""How often a part is seen whole and straight."""
MOST_CLOSER = 2.0
"""How much closer than whole a part is seen at most."""
TEXTURED_GROUND_SHARE = 0.2
WRAPPED_SHARE = 0.15
CLOUDED_SHARE = 0.5
UNEVEN_SHARE = 0.5
DUSTY_SHARE = 0.3
_BORDER_PX = 6
_METER_STREAM = 1
_VIEW_STREAM = 2
_SPOIL_STREAM = 3


@dataclass(frozen=True, slots=True)
class SamplePart:
    """A part or surface under its station's light and camera.

    With `registered`, all its pictures show the same place, pixel on pixel; without, they only share the material.
    `restlessness` is how much more than usual its pieces and its station differ from picture to picture.
    """

    seed: int
    kind: str
    side_px: int
    registered: bool
    work: Workpiece
    rig: Rig
    camera: Camera
    restlessness: float

    def render(self, seed: int, *, variation: float = 1.0, misregistration_px: float = 0.0) -> U8:
        """A good photograph, (side, side, 3) uint8 BGR: another piece at another moment. Deterministic.

        `variation` scales what differs between pieces and moments (0: hardly anything, 1: a usual line).
        `misregistration_px` is how far corners may be off through shift, turn and scale.
        """
        return self._photograph(self.work, seed, variation, misregistration_px)

    def _photograph(self, work: Workpiece, seed: int, variation: float, misregistration_px: float) -> U8:
        dice = np.random.default_rng([self.seed, _VIEW_STREAM, seed])
        variation *= self.restlessness
        rig = photo.vary_rig(self.rig, dice, variation)
        camera = photo.vary_camera(self.camera, dice, variation)
        whole = self.side_px + 2 * _BORDER_PX
        surface = assemble(work, dice, variation, whole)
        light, height = photo.shade(surface, rig), surface.height
        pliable = self.work.pliable_px * variation
        pose = _draw_pose(dice, whole, misregistration_px)
        if pliable > 0 or misregistration_px > 0:
            light, height = photo.bend(light, height, dice, pliable, pose)
        return photo.develop(_inner(light, self.side_px), _inner(height, self.side_px), camera, dice)

    def spoil(
        self, image: U8, seed: int, families: Use | Sequence[str] | None = None, *, view: int | None = None
    ) -> tuple[U8, Mask, str]:
        """A copy of one of this part's photographs with one defect, its mask (side, side) bool, and its kind.

        With `view`, the seed that `image` was rendered from (at the usual variation, registered), a faulty loose piece
        is photographed again at that very moment; without, the difference it makes to an ideal picture is added.

        Outside the mask no byte differs; inside every pixel does. `families` is a use ("train", "judge") or a list
        of names; all when None. Raises ValueError for an image of another size or an unknown family, and RuntimeError
        when none of the families can be seen on this picture.
        """
        if image.shape != (self.side_px, self.side_px, 3):
            raise ValueError(f"this part's pictures are {self.side_px} px a side, not {image.shape}")
        dice = np.random.default_rng([self.seed, _SPOIL_STREAM, seed])
        kinds = spoiling.choose_families(families, bool(self.work.placements))
        for number in dice.permutation(len(kinds)):
            kind = kinds[int(number)]
            if kind in spoiling.LOOSE_PIECE_FAMILIES:
                made = self._spoil_piece(image, kind, dice, view)
            else:
                stage = Stage(image, self.rig.lamps[0].direction[:2])
                made = spoiling.paint_kind(image, kind, dice, stage, self._on_part(dice))
            if made is not None:
                return made[0], made[1], kind
        raise RuntimeError(f"none of {', '.join(kinds)} can be seen on this picture")

    def _on_part(self, dice: np.random.Generator) -> F32:
        """Where defects belong: on the part if it has an outline, now and then anywhere."""
        cover = _inner(self.work.relief.coverage, self.side_px)
        if not self.registered or not cover.any() or dice.random() < 0.15:
            return np.ones((self.side_px, self.side_px), np.float32)
        return cover

    def _spoil_piece(self, image: U8, kind: str, dice: np.random.Generator, view: int | None) -> tuple[U8, Mask] | None:
        """Fault one loose piece."""
        good = self._ideal(self.work) if view is None else image
        for _ in range(spoiling.ATTEMPTS):
            faulty = replace(self.work, placements=_with_fault(self.work.placements, kind, dice, self.side_px))
            bad = self._ideal(faulty) if view is None else self._photograph(faulty, view, 1.0, 0.0)
            change = bad.astype(np.float32) - good
            spoilt = np.clip(image + change + 0.5, 0, 255).astype(np.uint8)
            kept = spoiling.keep_visible(image, np.where(np.abs(change).max(axis=2)[..., None] < 3, image, spoilt))
            if kept is not None:
                return kept
        return None

    def _ideal(self, work: Workpiece) -> U8:
        """The middle of all photographs: no variation, no noise, no compression."""
        dice = np.random.default_rng([self.seed, _METER_STREAM])
        surface = assemble(work, dice, 0.0, self.side_px)
        camera = replace(self.camera, noise=0.0, jpeg=0)
        return photo.develop(photo.shade(surface, self.rig), surface.height, camera, dice)


def make_part(seed: int, side_px: int, kind: str | None = None) -> SamplePart:
    """Draw a part or surface; the same seed gives the same part in any process.

    `kind` is one of `KINDS`, drawn by their shares when None. Raises ValueError for a side below `LEAST_SIDE_PX`.
    """
    if side_px < LEAST_SIDE_PX:
        raise ValueError(f"a sample needs at least {LEAST_SIDE_PX} px a side, not {side_px}")
    dice = np.random.default_rng([seed])
    chosen = kind or draw_kind(dice)
    work = _draw_work(chosen, dice, side_px)
    rig, camera = photo.draw_rig(dice), photo.draw_camera(dice)
    metered = _metered(work, rig, camera, seed, side_px)
    restlessness = float(np.clip(np.exp(dice.normal(0.0, 0.4)), 0.4, 2.0))
    return SamplePart(seed, chosen, side_px, work.registered, work, rig, metered, restlessness)


def _draw_work(kind: str, dice: np.random.Generator, side_px: int) -> Workpiece:
    """The workpiece as a whole, or turned and closer: only a piece of it is in the picture."""
    if dice.random() < WHOLE_SHARE:
        return _make_work(kind, dice, side_px)
    closer = float(dice.choice([1.0, np.exp(dice.uniform(0.1, np.log(MOST_CLOSER)))]))
    work = _make_work(kind, dice, int(side_px * closer))
    if not work.registered:
        return work
    turn_deg = float(dice.choice([0.0, 90.0, 180.0, 270.0, dice.uniform(0, 360)]) + dice.normal(0, 2.0))
    extent = np.array(work.relief.height.shape[::-1])
    reach = (closer - 1.0) / 2 * side_px
    centre = extent / 2 - 0.5 + dice.uniform(-reach, reach, 2)
    return close_up(work, side_px, (float(centre[0]), float(centre[1])), turn_deg)


def _make_work(kind: str, dice: np.random.Generator, side_px: int) -> Workpiece:
    """The workpiece as its maker made it, or on another ground, or with the structure of a texture."""
    work = KINDS[kind](dice, side_px)
    look = dice.random()
    if work.registered and look < TEXTURED_GROUND_SHARE:
        lay_on_texture(work, dice, side_px)
    elif work.registered and look > 1.0 - WRAPPED_SHARE:
        wrap_in_texture(work, dice, side_px)
    elif not work.registered and look < CLOUDED_SHARE:
        cloud(work, dice)
    if dice.random() < UNEVEN_SHARE:
        finishes.speckle(work, dice, None, 0.5)
    if dice.random() < DUSTY_SHARE:
        finishes.dust(work, dice)
    return work


def _metered(work: Workpiece, rig: Rig, camera: Camera, seed: int, side_px: int) -> Camera:
    """The camera with its exposure set for this part, as a person sets it up: dark, usual or bright."""
    dice = np.random.default_rng([seed, _METER_STREAM])
    light = photo.shade(assemble(work, dice, 0.0, side_px), rig)[::4, ::4]
    if work.overexposed_ground:
        ground = float(np.percentile(light.mean(axis=2), 90))
        return replace(camera, exposure=float(dice.uniform(1.0, 1.5)) / max(1e-4, ground))
    bright = float(np.percentile(light, 97))
    middle = float(light.mean())
    wanted = float(np.exp(dice.normal(np.log(0.16), 0.95)))
    exposure = min(wanted / max(1e-4, middle), float(dice.uniform(0.7, 1.6)) / max(1e-4, bright))
    return replace(camera, exposure=exposure)


def _inner(field: F32, side: int) -> F32:
    """The middle (side, side) of a field."""
    top, left = (field.shape[0] - side) // 2, (field.shape[1] - side) // 2
    return np.ascontiguousarray(field[top : top + side, left : left + side])


def _draw_pose(dice: np.random.Generator, side: int, reach_px: float) -> F32:
    """A small shift, turn and scale, (2, 3), that moves no corner by more than about `reach_px`."""
    draws = dice.uniform(-1, 1, 4)
    middle = (side - 1) / 2
    turn_deg = float(np.rad2deg(draws[0] * reach_px / (2 * side)))
    matrix = cv2.getRotationMatrix2D((middle, middle), turn_deg, float(1.0 + draws[1] * reach_px / (2 * side)))
    matrix = matrix + np.array([[0.0, 0.0, draws[2]], [0.0, 0.0, draws[3]]]) * reach_px * 0.5
    return np.asarray(matrix, np.float32)


def _with_fault(placements: list[Placement], kind: str, dice: np.random.Generator, side: int) -> list[Placement]:
    """The placements with one of them missing, misplaced, exchanged or doubled."""
    faulty = list(placements)
    number = int(dice.integers(0, len(faulty)))
    victim = faulty[number]
    reach = max(victim.stamp.colour.shape[:2])
    if kind == "missing_part":
        faulty[number] = replace(victim, stamp=_empty(victim.stamp))
    elif kind == "misplaced_part":
        away = dice.normal(0, 1, 2)
        away *= reach * dice.uniform(0.1, 0.35) / max(1e-6, float(np.hypot(*away)))
        turn = victim.turn_deg + float(dice.choice([0.0, dice.uniform(-40, 40), 90.0]))
        faulty[number] = replace(victim, x=victim.x + float(away[0]), y=victim.y + float(away[1]), turn_deg=turn)
    elif kind == "wrong_part":
        others = [placed.stamp for placed in placements if placed.stamp is not victim.stamp]
        if others and dice.random() < 0.6:
            faulty[number] = replace(victim, stamp=others[int(dice.integers(0, len(others)))])
        else:
            tint = np.append(dice.uniform(0.3, 1.8, 3), 1.0).astype(np.float32)
            other = replace(victim.stamp, colour=np.asarray(victim.stamp.colour * tint, np.float32))
            faulty[number] = replace(victim, stamp=other)
    else:
        x, y = (float(value) for value in dice.uniform(0.1, 0.9, 2) * side)
        faulty.append(replace(victim, x=x, y=y, turn_deg=float(dice.uniform(0, 360))))
    return faulty


def _empty(stamp: Stamp) -> Stamp:
    return replace(stamp, colour=np.zeros_like(stamp.colour), form=np.zeros_like(stamp.form))
