"""The YAML of a training stage."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspector.errors import ConfigError


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Photographs(_Strict):
    """A folder of good images of one part."""

    folder: Path
    share: float = Field(1.0, gt=0)


class Rendered(_Strict):
    """A stored bank of rendered parts."""

    bank: Path
    share: float = Field(1.0, gt=0)


class RepairSamples(_Strict):
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


class Shape(_Strict):
    """The widths of the net: the trunk at 1/4, 1/8, 1/16 and 1/32, and the reference encoder."""

    widths: tuple[int, int, int, int] = (32, 64, 112, 160)
    reference_width: int = 24
    reference_channels: int = 48


class RepairStage(_Strict):
    """One stage: from a checkpoint (or from nothing) for so many steps."""

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
    """Train with the weights and activations as they will be stored and computed."""


def load_stage(path: Path) -> RepairStage:
    """Read a stage; relative paths are relative to the file. Raises `ConfigError` naming what is wrong."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error
    try:
        return RepairStage.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {error}") from error
