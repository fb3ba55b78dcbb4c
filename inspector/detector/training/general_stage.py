"""Training the general net: resumable, the same for the same configuration, on CPU or CUDA."""

from __future__ import annotations

import math
import os
import pickle
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
import torch
from pydantic import ValidationError
from torch import nn

from inspector.detector.training.compare_net import CompareNet, find_loss
from inspector.detector.training.general_config import GeneralStage
from inspector.detector.training.general_samples import GeneralSamples
from inspector.errors import ConfigError, FitError, WeightsError

log = structlog.get_logger(__name__)

CHECKPOINT_FILE = "checkpoint.pt"
WEIGHT_DECAY = 1e-2
LEAST_RATE_SHARE = 0.01
CLIP_NORM = 1.0
LOG_EVERY_STEPS = 100
FILTER_DIMENSIONS = 4
TRACED_STEPS = 400
FREE_TO_CHANGE = {"checkpoint_every_steps"}
"""What a resumed stage may have otherwise: the weights do not depend on it."""


def train_general(
    stage: GeneralStage,
    run_folder: Path,
    *,
    folders: Mapping[str, Path] | None = None,
    device: str = "cpu",
    threads: int = 1,
    budget_s: float | None = None,
) -> Path:
    """Run the stage, or go on with it, and return the checkpoint. Stops early after `budget_s`, ready to go on.

    On a CPU the weights depend on the number of `threads`. `folders` are those that the stage names as ${NAME}.
    Raises `ConfigError` when the run is another stage's, `DatasetError` when no samples can be made of the folders,
    `WeightsError` for a damaged checkpoint, `FitError` when the loss is no number any more.
    """
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    run_folder.mkdir(parents=True, exist_ok=True)
    run = _Run(stage, run_folder / CHECKPOINT_FILE, device)
    if run.step < stage.steps:
        samples = GeneralSamples(stage, folders or {})
        started = time.monotonic()
        while run.step < stage.steps and (budget_s is None or time.monotonic() - started < budget_s):
            run.take_step(samples)
        run.save()
    return run.checkpoint


def load_averaged(path: Path) -> tuple[CompareNet, GeneralStage, int]:
    """The averaged net of a checkpoint, its stage and how many steps it has seen. Raises `WeightsError`."""
    stored = _read(path, "cpu")
    stage = _stored_stage(stored, path)
    net = CompareNet(stage.widths)
    _load(net, stored["average"], path)
    return net.eval(), stage, int(stored["step"])


class _Run:
    """The nets, the optimizer and where they stand."""

    def __init__(self, stage: GeneralStage, checkpoint: Path, device: str) -> None:
        torch.manual_seed(stage.seed)
        self._stage, self.checkpoint, self._device = stage, checkpoint, device
        self._net = CompareNet(stage.widths).to(device)
        for parameter in self._net.parameters():
            if parameter.dim() == FILTER_DIMENSIONS:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self._average = CompareNet(stage.widths).to(device)
        self._average.load_state_dict(self._net.state_dict())
        self._optimizer = torch.optim.AdamW(self._net.parameters(), lr=stage.learning_rate, weight_decay=WEIGHT_DECAY)
        self._losses: deque[torch.Tensor] = deque(maxlen=TRACED_STEPS)
        self.step = 0
        if checkpoint.exists():
            self._resume()
        self._net.train()

    def take_step(self, samples: GeneralSamples) -> None:
        """One more."""
        stage = self._stage
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(stage, self.step)
        loss = find_loss(self._net, samples.batch(self.step, stage.batch), self._device)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._net.parameters(), CLIP_NORM)
        self._optimizer.step()
        self._follow()
        self._losses.append(loss.detach())
        self.step += 1
        if self.step % LOG_EVERY_STEPS == 0:
            log.info("trained", step=self.step, loss=round(self._loss(), 4))
        if self.step % stage.checkpoint_every_steps == 0:
            self.save()

    def save(self) -> None:
        """Write the checkpoint, unless the net is lost: a reader sees the old one or all of the new one."""
        if self._losses:
            self._loss()
        unfinished = self.checkpoint.with_suffix(".new")
        with unfinished.open("wb") as file:
            torch.save(
                {
                    "net": self._net.state_dict(),
                    "average": self._average.state_dict(),
                    "optimizer": self._optimizer.state_dict(),
                    "step": self.step,
                    "stage": self._stage.model_dump_json(),
                },
                file,
            )
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(self.checkpoint)

    def _follow(self) -> None:
        """Move the average towards the net, its running statistics too."""
        keep = min(self._stage.weight_average, (1.0 + self.step) / (10.0 + self.step))
        with torch.no_grad():
            for slow, fast in zip(self._average.state_dict().values(), self._net.state_dict().values(), strict=True):
                if slow.dtype.is_floating_point:
                    slow.lerp_(fast, 1.0 - keep)

    def _loss(self) -> float:
        loss = float(torch.stack(list(self._losses)).mean())
        if not math.isfinite(loss):
            raise FitError(f"the loss is no number at step {self.step}: a lower learning rate may help")
        return loss

    def _resume(self) -> None:
        stored = _read(self.checkpoint, self._device)
        theirs = _stored_stage(stored, self.checkpoint).model_dump(exclude=FREE_TO_CHANGE)
        ours = self._stage.model_dump(exclude=FREE_TO_CHANGE)
        if ours != theirs:
            differing = ", ".join(key for key in ours if ours[key] != theirs[key])
            raise ConfigError(f"{self.checkpoint} is of another stage ({differing}): give another folder")
        _load(self._net, stored["net"], self.checkpoint)
        _load(self._average, stored["average"], self.checkpoint)
        self._optimizer.load_state_dict(stored["optimizer"])
        self.step = int(stored["step"])


def learning_rate(stage: GeneralStage, step: int) -> float:
    """Warm-up, then a half cosine down to a hundredth."""
    fall = max(LEAST_RATE_SHARE, 0.5 * (1.0 + math.cos(math.pi * step / stage.steps)))
    return stage.learning_rate * min(1.0, (step + 1) / max(1, stage.warmup_steps)) * fall


def _read(path: Path, device: str) -> dict[str, Any]:
    """Only tensors and plain values are unpickled."""
    try:
        stored: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        missing = {"net", "average", "optimizer", "step", "stage"} - set(stored)
    except OSError as error:
        raise WeightsError(f"{path}: the checkpoint cannot be read: {error.strerror}") from error
    except (RuntimeError, EOFError, pickle.UnpicklingError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: no checkpoint of a training, or damaged") from error
    if missing:
        raise WeightsError(f"{path}: no checkpoint of this training: {', '.join(sorted(missing))} missing")
    return stored


def _stored_stage(stored: dict[str, Any], path: Path) -> GeneralStage:
    try:
        return GeneralStage.model_validate_json(stored["stage"])
    except ValidationError as error:
        raise WeightsError(f"{path}: a checkpoint of another version: {error}") from error


def _load(net: nn.Module, state: dict[str, Any], path: Path) -> None:
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"{path}: a checkpoint of a net of another shape") from error
