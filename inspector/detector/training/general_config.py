"""The YAML of the general net's training stage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from inspector.scenes.samples.stage_file import Photographs, Strict

Width = Annotated[int, Field(ge=4, le=1024)]


class GoodPhotographs(Photographs):
    """A folder of good images of one part; `scale` is its pixels for a pixel of the crop, around which crops vary."""

    scale: float = Field(1.0, gt=0)


class RenderedParts(Strict):
    """A stored bank of rendered parts with faults; it may begin with ${bank}."""

    bank: Path
    share: float = Field(1.0, gt=0)
    faulty_share: float = Field(0.2, ge=0)
    """Beside `share`: samples of loose pieces that are missing, misplaced, exchanged or doubled."""


class GeneralStage(Strict):
    """The one stage of the general net."""

    kind: Literal["general"] = "general"
    seed: int = 1
    widths: tuple[Width, Width, Width, Width] = (24, 32, 64, 96)
    rendered: RenderedParts
    photographs: tuple[GoodPhotographs, ...] = ()
    steps: int = Field(20_000, gt=0)
    batch: int = Field(8, gt=0)
    learning_rate: float = Field(2e-3, gt=0)
    warmup_steps: int = Field(200, ge=0)
    weight_average: float = Field(0.999, ge=0, lt=1)
    checkpoint_every_steps: int = Field(500, gt=0)
