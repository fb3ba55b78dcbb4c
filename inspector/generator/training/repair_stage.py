"""One stage of training the repair net: resumable, the same for the same configuration, on CPU or CUDA."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inspector.errors import ConfigError, FitError
from inspector.generator.training.checkpoint import (
    CHECKPOINT_FILE,
    Checkpoint,
    load_state,
    read_checkpoint,
    write_checkpoint,
)
from inspector.generator.training.config import RepairStage
from inspector.generator.training.fake_mxfp4 import bake, fake_quantize
from inspector.generator.training.nets import RESIDUAL_GAIN, RepairNet
from inspector.generator.training.samples import SampleBatch
from inspector.generator.training.shard_feed import ShardFeed
from inspector.scenes.samples.stage_file import fill_in

log = structlog.get_logger(__name__)

RIM_PX = 12
RIM_WEIGHT = 0.2
SQUARE_WEIGHT = 8.0
"""The loss is |d| + SQUARE_WEIGHT d²; PSNR asks for squares, sharpness for absolute values."""
ERROR_FLOOR = 0.01
"""Of full scale: bases better than this are not pressed further."""
LOG_EVERY_STEPS = 50
TRACED_STEPS = 400
CLIP_NORM = 1.0
FREE_TO_CHANGE = {"workers", "checkpoint_every_steps"}
"""What a resumed stage may have otherwise: the weights do not depend on it."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors of `SampleBatch`, 0..1, channels before rows. `target` is what the trunk sees, `wanted` the residual."""

    target: Tensor
    references: Tensor
    weights: Tensor
    wanted: Tensor
    cost: Tensor


def train_repair(
    stage: RepairStage,
    run_folder: Path,
    *,
    folders: Mapping[str, Path] | None = None,
    device: str = "cpu",
    threads: int | None = None,
    budget_s: float | None = None,
) -> Path:
    """Run the stage, or go on with it, and return the checkpoint. Stops early after `budget_s`, ready to go on.

    On a CPU the weights depend on the number of `threads`, which are torch's own choice if not given.
    `run_folder` holds the checkpoint and the shards in use; `folders` are those that the stage names as ${NAME}.
    Raises `ConfigError` when the run is another stage's, `DatasetError` when no samples can be made of the folders,
    `WeightsError` for a damaged checkpoint, `FitError` when the loss is no number any more.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    run = _Run(stage, run_folder, folders or {}, device)
    feed = ShardFeed(stage, run.folders, run_folder, run.step) if run.step < stage.steps else None
    try:
        for samples in feed.batches(run.step) if feed is not None else ():
            if run.step >= stage.steps or (budget_s is not None and run.spent_s() > budget_s):
                break
            run.take_step(to_tensors(samples, device))
    finally:
        if feed is not None:
            feed.close()
    run.save()
    return run.checkpoint


class _Run:
    """The nets, the optimizer and where they stand."""

    def __init__(self, stage: RepairStage, run_folder: Path, folders: Mapping[str, Path], device: str) -> None:
        torch.manual_seed(stage.seed)
        # On CUDA the fastest kernels add in no fixed order. What has no other kernel warns.
        torch.use_deterministic_algorithms(True, warn_only=True)
        run_folder.mkdir(parents=True, exist_ok=True)
        self.folders = folders
        self.checkpoint = run_folder / CHECKPOINT_FILE
        self._stage, self._device = stage, device
        self._net, self._average = start_net(stage, folders).to(device), build_net(stage).to(device)
        if stage.quantize:
            fake_quantize(self._net)
            fake_quantize(self._average)
        self._average.load_state_dict(self._net.state_dict())
        self._optimizer = torch.optim.AdamW(
            self._net.parameters(), lr=stage.learning_rate, betas=(0.9, 0.98), weight_decay=1e-4
        )
        self.step, self._seconds_before = 0, 0.0
        self._trace: deque[Tensor] = deque(maxlen=TRACED_STEPS)
        if self.checkpoint.exists():
            self._resume()
        self._started_s = self._marked_s = time.monotonic()

    def spent_s(self) -> float:
        """Since this process began with it."""
        return time.monotonic() - self._started_s

    def take_step(self, batch: Batch) -> None:
        """One step, and what is due after it."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self._stage, self.step)
        self._trace.append(train_step(self._net, self._average, self._optimizer, batch, self._stage, self.step))
        self.step += 1
        if self.step % LOG_EVERY_STEPS == 0:
            rate = LOG_EVERY_STEPS / max(1e-9, time.monotonic() - self._marked_s)
            self._marked_s = time.monotonic()
            log.info("trained", step=self.step, left=round(self._share_left(), 4), steps_per_s=round(rate, 2))
        if self.step % self._stage.checkpoint_every_steps == 0:
            self.save()

    def save(self) -> None:
        """Write the checkpoint, unless the net is lost."""
        if self._trace:
            self._share_left()
        states = (self._net.state_dict(), self._average.state_dict(), self._optimizer.state_dict())
        seconds = self._seconds_before + self.spent_s()
        write_checkpoint(self.checkpoint, Checkpoint(self._stage, self.folders, self.step, seconds, *states))

    def _resume(self) -> None:
        stored = read_checkpoint(self.checkpoint, self._device)
        ours, theirs = (item.model_dump(exclude=FREE_TO_CHANGE) for item in (self._stage, stored.stage))
        if ours != theirs:
            differing = ", ".join(key for key in ours if ours[key] != theirs[key])
            raise ConfigError(f"{self.checkpoint} is of another stage ({differing}): give another folder")
        load_state(self._net, stored.net, self.checkpoint)
        load_state(self._average, stored.average, self.checkpoint)
        self._optimizer.load_state_dict(dict(stored.optimizer))
        self.step, self._seconds_before = stored.step, stored.seconds

    def _share_left(self) -> float:
        """The squared error of the last steps as a share of their bases'."""
        left, before = torch.stack(list(self._trace)).sum(dim=0).tolist()
        if not math.isfinite(left):
            raise FitError(f"the loss is no number at step {self.step}: a lower learning rate may help")
        return float(left / max(before, 1e-12))


def build_net(stage: RepairStage) -> RepairNet:
    """An untrained net of the stage's shape."""
    shape = stage.shape
    return RepairNet(shape.widths, shape.reference_width, shape.reference_channels)


def start_net(stage: RepairStage, folders: Mapping[str, Path]) -> RepairNet:
    """What a stage begins with: an untrained net, or the averaged weights that another stage ended with."""
    if stage.start_from is None:
        return build_net(stage)
    path = fill_in(stage.start_from, folders)
    net, _ = load_averaged(path)
    begun = build_net(stage)
    load_state(begun, net.state_dict(), path)
    return begun


def load_averaged(path: Path) -> tuple[RepairNet, Checkpoint]:
    """The averaged net of a checkpoint, its weights rounded where it was trained so. Raises `WeightsError`."""
    stored = read_checkpoint(path)
    net = build_net(stored.stage)
    if stored.stage.quantize:
        fake_quantize(net)
    load_state(net, stored.average, path)
    bake(net)
    net.eval()
    return net, stored


def train_step(
    net: RepairNet,
    average: RepairNet,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    stage: RepairStage,
    step: int,
) -> Tensor:
    """One step; returns the squared error in the holes that is left, and that of the base alone: (2,) float32."""
    with torch.autocast(batch.target.device.type, torch.bfloat16, enabled=stage.precision == "bfloat16"):
        residual = net(batch.target, batch.references, batch.weights)
    error = residual.float() - batch.wanted
    # Each crop counts alike, however good its base: otherwise the few bad ones are all that is learned from.
    size = (batch.wanted.square() * batch.cost).sum((1, 2, 3)) / (3.0 * batch.cost.sum((1, 2, 3))).clamp_min(1.0)
    cost = batch.cost / (size.sqrt() + ERROR_FLOOR)[:, None, None, None]
    loss = ((error.abs() + SQUARE_WEIGHT * error.square()) * cost).sum() / (3.0 * batch.cost.sum())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), CLIP_NORM)
    optimizer.step()
    keep = min(stage.weight_average, (1.0 + step) / (10.0 + step))
    with torch.no_grad():
        for slow, fast in zip(average.parameters(), net.parameters(), strict=True):
            slow.lerp_(fast, 1.0 - keep)
        hole = batch.target[:, 6:]
        return torch.stack([(error.square() * hole).sum(), (batch.wanted.square() * hole).sum()])


def learning_rate(stage: RepairStage, step: int) -> float:
    """Warm-up, then a half cosine down to the final rate."""
    if step < stage.warmup_steps:
        return stage.learning_rate * (step + 1) / stage.warmup_steps
    done = (step - stage.warmup_steps) / max(1, stage.steps - stage.warmup_steps)
    height = 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
    return stage.final_learning_rate + (stage.learning_rate - stage.final_learning_rate) * height


def to_tensors(samples: SampleBatch, device: str) -> Batch:
    """What the net sees: the frame without its hole, the base, the hole."""

    def unit(images: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, -3))).to(device).float() / 255.0

    frame, base = unit(samples.frame), unit(samples.base)
    hole = torch.from_numpy(samples.hole).to(device)[:, None].float()
    kernel: NDArray[Any] = np.ones((2 * RIM_PX + 1, 2 * RIM_PX + 1), np.uint8)
    rim = np.stack([cv2.dilate(one.view(np.uint8), kernel) for one in samples.hole])
    around = torch.from_numpy(rim).to(device)[:, None].float()
    return Batch(
        target=torch.cat([(frame - base) * (1.0 - hole) * RESIDUAL_GAIN, base - 0.5, hole], dim=1),
        references=unit(samples.references),
        weights=torch.from_numpy(samples.weights).to(device),
        wanted=frame - base,
        cost=hole + RIM_WEIGHT * (around - hole),
    )
