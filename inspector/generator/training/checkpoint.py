"""Where a training stands: written as a whole, read back with its stage, refused when it is damaged or another's."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from inspector.errors import WeightsError
from inspector.generator.training.config import RepairStage

CHECKPOINT_FILE = "checkpoint.pt"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """States of the net, of its moving average and of the optimizer after `step` steps and `seconds`.

    `folders` are those that were named when it was trained.
    """

    stage: RepairStage
    folders: Mapping[str, Path]
    step: int
    seconds: float
    net: Mapping[str, Any]
    average: Mapping[str, Any]
    optimizer: Mapping[str, Any]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """A reader sees the old one or all of the new one, whenever the writer is killed."""
    unfinished = path.with_suffix(".new")
    with unfinished.open("wb") as file:
        torch.save(
            {
                "net": checkpoint.net,
                "average": checkpoint.average,
                "optimizer": checkpoint.optimizer,
                "step": checkpoint.step,
                "seconds": checkpoint.seconds,
                "stage": checkpoint.stage.model_dump_json(),
                "folders": {name: str(folder) for name, folder in checkpoint.folders.items()},
            },
            file,
        )
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)


def read_checkpoint(path: Path, device: str = "cpu") -> Checkpoint:
    """Raises `WeightsError` for a file that is missing, truncated or no checkpoint. Only tensors are unpickled."""
    try:
        stored = torch.load(path, map_location=device, weights_only=True)
        return Checkpoint(
            stage=RepairStage.model_validate_json(stored["stage"]),
            folders={name: Path(folder) for name, folder in stored.get("folders", {}).items()},
            step=int(stored["step"]),
            seconds=float(stored["seconds"]),
            net=stored["net"],
            average=stored["average"],
            optimizer=stored["optimizer"],
        )
    except OSError as error:
        raise WeightsError(f"{path}: the checkpoint cannot be read: {error.strerror}") from error
    except (RuntimeError, EOFError, pickle.UnpicklingError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: no checkpoint of a training, or damaged: {_first_line(error)}") from error
    except ValidationError as error:
        raise WeightsError(f"{path}: a checkpoint of another version: {error}") from error


def load_state(net: nn.Module, state: Mapping[str, Any], path: Path) -> None:
    """Give a net its weights. Raises `WeightsError` when they are those of another shape."""
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"{path}: a checkpoint of a net of another shape: {' '.join(str(error).split())}") from error


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
