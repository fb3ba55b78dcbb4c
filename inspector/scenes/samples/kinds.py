"""Every kind of sample and how often it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from inspector.scenes.samples import electronics, goods, joined, mechanics, mixtures, moulded, textures
from inspector.scenes.samples.workpiece import Workpiece

Maker: TypeAlias = Callable[[np.random.Generator, int], Workpiece]

KINDS: dict[str, Maker] = {
    **electronics.MAKERS,
    **goods.MAKERS,
    **joined.MAKERS,
    **mechanics.MAKERS,
    **mixtures.MAKERS,
    **moulded.MAKERS,
    **textures.MAKERS,
}
"""The maker of every kind."""

_WEIGHTS: dict[str, float] = {
    "pcb": 3.0,
    "noise": 1.5,
    "composed": 3.0,
    "toy": 2.0,
    "inlaid": 2.0,
    "thread": 2.0,
    "ground_metal": 2.0,
}
"""How often a kind is drawn against the others' 1."""


def draw_kind(dice: np.random.Generator) -> str:
    """One of the kinds, by their weights."""
    weights = np.array([_WEIGHTS.get(kind, 1.0) for kind in KINDS])
    return str(list(KINDS)[int(dice.choice(len(weights), p=weights / weights.sum()))])
