"""The base of a training crop, by the product's own steps on crops that are registered already."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inspector.generator.harmonic import extend_smoothly
from inspector.generator.kriging import carry_in
from inspector.generator.light import learn_light
from inspector.generator.surroundings import Surroundings
from inspector.generator.view_images import reduce_by
from inspector.records import BgrImage

WORK_SIDE_PX = 80


def lay_references(
    frame: BgrImage, hole: NDArray[np.bool_], references: list[BgrImage]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(S, S, 3) float32 base and (K,) weights that sum to 1, learned outside `hole`; S is a multiple of 32."""
    side = frame.shape[0]
    whole = (0, 0, side, side)
    level = 0
    while side >> level > WORK_SIDE_PX:
        level += 1
    ring = reduce_by(np.repeat((~hole).view(np.uint8)[..., None] * np.uint8(255), 3, axis=2), level)[..., 0] == 255
    around = Surroundings(whole, level, reduce_by(frame, level).astype(np.float32), np.asarray(ring, np.bool_))
    if not around.can_teach:
        first = np.eye(1, len(references), dtype=np.float32)[0]
        return carry_in(frame.astype(np.float32), references[0].astype(np.float32), hole), first
    reduced = [reduce_by(reference, level).astype(np.float32) for reference in references]
    light, weights = learn_light(around, np.stack(reduced))
    base = light.mix(references, whole)
    return carry_in(frame.astype(np.float32), base, hole), np.asarray(weights, np.float32)


def fill_smoothly(frame: BgrImage, hole: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(S, S, 3) float32: the hole closed over smoothly from its surroundings."""
    return extend_smoothly(frame.astype(np.float32), ~hole, otherwise=128.0)
