"""The YAML of a training stage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from inspector.scenes.samples.stage_file import Photographs, Rendered, Strict, read_stage


class RepairSamples(Strict):
    """How samples are drawn. Lengths are pixels of the crop."""

    side_px: int = Field(256, ge=64, multiple_of=32)
    references: int = Field(3, ge=1, le=5)
    surface_share: float = Field(0.3, ge=0, le=1)
    least_mask_px: int = Field(12, ge=4)
    most_mask_px: int = Field(170, ge=8)
    misregistration_px: float = Field(1.0, ge=0)
    light: float = Field(0.15, ge=0)
    photographs: tuple[Photographs, ...] = ()
    rendered: tuple[Rendered, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.photographs and not self.rendered:
            raise ValueError("no photographs and no rendered parts: there is nothing to learn from")
        if self.most_mask_px < 2 * self.least_mask_px:
            raise ValueError("most_mask_px must be at least twice least_mask_px")
        return self


Width = Annotated[int, Field(ge=4, le=1024)]


class Shape(Strict):
    """The widths of the net: the trunk at 1/4, 1/8, 1/16 and 1/32, and the reference encoder."""

    widths: tuple[Width, Width, Width, Width] = (32, 64, 112, 160)
    reference_width: Width = 24
    reference_channels: Width = 48


class RepairStage(Strict):
    """One stage: from another's checkpoint (or from nothing) for so many steps."""

    kind: Literal["repair"] = "repair"
    seed: int = 1
    shape: Shape = Shape()
    samples: RepairSamples
    start_from: Path | None = None
    steps: int = Field(20_000, gt=0)
    batch: int = Field(8, gt=0)
    learning_rate: float = Field(1e-3, gt=0)
    final_learning_rate: float = Field(1e-5, gt=0)
    warmup_steps: int = Field(200, ge=0)
    weight_average: float = Field(0.999, ge=0, lt=1)
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    shard_samples: int = Field(256, gt=0)
    shards_kept: int = Field(8, gt=0)
    passes: float = Field(3.0, gt=0)
    """How often each sample is seen before its shard is replaced."""
    workers: int = Field(1, ge=1)
    checkpoint_every_steps: int = Field(500, gt=0)
    quantize: bool = False
    """Train with the weights rounded as they will be stored."""


def load_stage(path: Path) -> RepairStage:
    """Read a stage. Raises `ConfigError` naming what is wrong."""
    return read_stage(path, RepairStage)
