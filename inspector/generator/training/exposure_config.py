"""The configuration of one training run of the low-light net: a YAML file, checked, hashed."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspector.errors import ConfigError
from inspector.images import sha256_hex


class ExposureTraining(BaseModel):
    """Everything that decides what is learned; two runs with equal configurations learn the same."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(ge=0)
    widths: tuple[int, int, int]
    blocks: tuple[int, int, int]
    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    side_px: int = Field(ge=32, multiple_of=8)
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(ge=1)
    average_decay: float = Field(ge=0, lt=1)
    checkpoint_every: int = Field(ge=1)
    reduced: float = Field(ge=0, le=1)
    grain: float = Field(ge=0, le=1)
    sigma_error: float = Field(ge=0, le=1)
    sets: dict[str, float]
    scenes: float = Field(ge=0)
    surfaces: float = Field(ge=0)
    scene_parts: int = Field(ge=1)
    surface_count: int = Field(ge=1)

    @property
    def sha256(self) -> str:
        """Of all that a checkpoint depends on: a run may be made longer or shorter, but not continued as another."""
        return sha256_hex(self.model_dump_json(exclude={"steps", "checkpoint_every"}).encode())


def read_training(path: Path) -> ExposureTraining:
    """The configuration in a YAML file; `ConfigError` names what is wrong with it."""
    try:
        return ExposureTraining.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ConfigError(f"{path}: {error}") from error
