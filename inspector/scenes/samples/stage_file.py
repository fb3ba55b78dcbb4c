"""The YAML of a training stage: what every stage has, and how it names folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspector.errors import ConfigError


class Strict(BaseModel):
    """Refuses what it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Photographs(Strict):
    """A folder of good images of one part; it may begin with ${photographs} (see `fill_in`)."""

    folder: Path
    share: float = Field(1.0, gt=0)


class Rendered(Strict):
    """A stored bank of rendered parts; it may begin with ${bank}."""

    bank: Path
    share: float = Field(1.0, gt=0)


StageT = TypeVar("StageT", bound=Strict)


def read_stage(path: Path, model: type[StageT]) -> StageT:
    """Read a stage. Raises `ConfigError` naming what is wrong."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {error}") from error


def fill_in(path: Path, folders: Mapping[str, Path]) -> Path:
    """`path` with ${NAME} replaced by one of `folders`, so that a stage says the same on every machine.

    Raises `ConfigError` for a name that was not given.
    """
    try:
        return Path(Template(str(path)).substitute({name: str(folder) for name, folder in folders.items()}))
    except KeyError as error:
        raise ConfigError(
            f"the stage reads {path}: say where that is with --{error.args[0].replace('_', '-')}"
        ) from error
    except ValueError as error:
        raise ConfigError(f"the stage reads {path}: {error}") from error
