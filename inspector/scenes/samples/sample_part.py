"""One sample: a part or surface that can be photographed again and again, and spoilt with exact masks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from inspector.scenes.light import F32, U8
from inspector.scenes.samples import photo
from inspector.scenes.samples.kinds import KINDS, draw_kind
from inspector.scenes.samples.photo import Camera, Rig
from inspector.scenes.samples.workpiece import Workpiece, assemble

LEAST_SIDE_PX = 64
_METER_STREAM = 1
_VIEW_STREAM = 2


@dataclass(frozen=True, slots=True)
class SamplePart:
    """A part or surface under its station's light and camera.

    With `registered`, all its pictures show the same place, pixel on pixel; without, they only share the material.
    """

    seed: int
    kind: str
    side_px: int
    registered: bool
    work: Workpiece
    rig: Rig
    camera: Camera

    def render(self, seed: int, *, variation: float = 1.0, misregistration_px: float = 0.0) -> U8:
        """A good photograph, (side, side, 3) uint8 BGR: another piece at another moment. Deterministic.

        `variation` scales what differs between pieces and moments (0: hardly anything, 1: a usual line).
        `misregistration_px` is how far corners may be off through shift, turn and scale.
        """
        dice = np.random.default_rng([self.seed, _VIEW_STREAM, seed])
        rig = photo.vary_rig(self.rig, dice, variation)
        camera = photo.vary_camera(self.camera, dice, variation)
        surface = assemble(self.work, dice, variation, self.side_px + 2 * _BORDER_PX)
        light = photo.shade(surface, rig)
        pliable = self.work.pliable_px * variation
        pose = _draw_pose(dice, self.side_px + 2 * _BORDER_PX, misregistration_px)
        height = surface.height
        if pliable > 0 or misregistration_px > 0:
            light, height = photo.bend(light, height, dice, pliable, pose)
        inner = slice(_BORDER_PX, _BORDER_PX + self.side_px)
        return photo.develop(np.ascontiguousarray(light[inner, inner]), height[inner, inner], camera, dice)


_BORDER_PX = 6


def make_part(seed: int, side_px: int, kind: str | None = None) -> SamplePart:
    """Draw a part or surface; the same seed gives the same part on any machine.

    `kind` is one of `KINDS`, drawn by their shares when None.
    """
    if side_px < LEAST_SIDE_PX:
        raise ValueError(f"a sample needs at least {LEAST_SIDE_PX} px a side, not {side_px}")
    dice = np.random.default_rng([seed])
    chosen = kind or draw_kind(dice)
    work = KINDS[chosen](dice, side_px)
    rig, camera = photo.draw_rig(dice), photo.draw_camera(dice)
    return SamplePart(seed, chosen, side_px, work.registered, work, rig, _metered(work, rig, camera, seed, side_px))


def _metered(work: Workpiece, rig: Rig, camera: Camera, seed: int, side_px: int) -> Camera:
    """The camera with its exposure set for this part, as a person sets it up: dark, usual or bright."""
    dice = np.random.default_rng([seed, _METER_STREAM])
    light = photo.shade(assemble(work, dice, 0.0, side_px), rig)
    if work.overexposed_ground:
        ground = float(np.percentile(light[:: 4, :: 4].mean(axis=2), 90))
        return replace(camera, exposure=float(dice.uniform(1.0, 1.5)) / max(1e-4, ground))
    bright = float(np.percentile(light[:: 4, :: 4], 97))
    middle = float(light[:: 4, :: 4].mean())
    wanted = float(np.exp(dice.normal(np.log(0.22), 0.55)))
    exposure = min(wanted / max(1e-4, middle), float(dice.uniform(0.7, 1.6)) / max(1e-4, bright))
    return replace(camera, exposure=exposure)


def _draw_pose(dice: np.random.Generator, side: int, reach_px: float) -> F32:
    """A small shift, turn and scale, (2, 3), that moves no corner by more than about `reach_px`."""
    draws = dice.uniform(-1, 1, 4)
    middle = (side - 1) / 2
    turn = draws[0] * reach_px / (2.0 * side)
    matrix = cv2.getRotationMatrix2D((middle, middle), float(np.rad2deg(turn)), float(1.0 + draws[1] * reach_px / (2 * side)))
    matrix[:, 2] += draws[2:] * reach_px * 0.5
    return np.asarray(matrix, np.float32)


