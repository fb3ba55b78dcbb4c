"""One stage of training the repair net: resumable, the same for the same configuration, on CPU or CUDA."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import structlog
import torch
from torch import Tensor, nn

from inspector.generator.training.config import RepairStage
from inspector.generator.training.nets import RESIDUAL_GAIN, RepairNet
from inspector.generator.training.samples import (
    SampleBatch,
    SampleMaker,
    open_sources,
    read_shard,
    shard_path,
    write_shard,
)

log = structlog.get_logger(__name__)

POLL_S = 0.05
WAIT_FOR_SHARD_S = 600.0
RIM_PX = 12
RIM_WEIGHT = 0.2
SQUARE_WEIGHT = 8.0
"""The loss is |d| + SQUARE_WEIGHT d²; PSNR asks for squares, sharpness for absolute values."""
LOG_EVERY_STEPS = 50
CLIP_NORM = 1.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors of `SampleBatch`, 0..1, channels before rows. `target` is what the trunk sees, `wanted` the residual."""

    target: Tensor
    references: Tensor
    weights: Tensor
    wanted: Tensor
    cost: Tensor


def train_repair(stage: RepairStage, folder: Path, *, device: str = "cpu", budget_s: float | None = None) -> Path:
    """Run the stage, or go on with it, and return the checkpoint. Stops early after `budget_s`, ready to go on.

    `folder` holds the checkpoint and the shards that are in use.
    """
    torch.manual_seed(stage.seed)
    started = time.monotonic()
    net = build_net(stage).to(device)
    average = build_net(stage).to(device)
    average.load_state_dict(net.state_dict())
    optimizer = torch.optim.AdamW(net.parameters(), lr=stage.learning_rate, betas=(0.9, 0.98), weight_decay=1e-4)
    checkpoint = folder / "checkpoint.pt"
    step, seconds = _resume(checkpoint, net, average, optimizer, device)
    shards = ShardFeed(stage, folder / "shards", step)
    trace: list[tuple[float, float]] = []
    try:
        for batch in shards.batches(step, device):
            if step >= stage.steps or (budget_s is not None and time.monotonic() - started > budget_s):
                break
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(stage, step)
            trace.append(train_step(net, average, optimizer, batch, stage, device, step))
            step += 1
            if step % LOG_EVERY_STEPS == 0:
                rate = LOG_EVERY_STEPS / max(1e-9, time.monotonic() - shards.marked_s)
                shards.marked_s = time.monotonic()
                log.info("trained", step=step, left=round(_share_left(trace[-400:]), 4), steps_per_s=round(rate, 2))
            if step % stage.checkpoint_every_steps == 0:
                _save(checkpoint, net, average, optimizer, step, seconds + time.monotonic() - started, stage)
    finally:
        shards.close()
    _save(checkpoint, net, average, optimizer, step, seconds + time.monotonic() - started, stage)
    return checkpoint


def build_net(stage: RepairStage) -> RepairNet:
    """An untrained net of the stage's shape."""
    shape = stage.shape
    return RepairNet(shape.widths, shape.reference_width, shape.reference_channels)


def train_step(
    net: RepairNet,
    average: RepairNet,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    stage: RepairStage,
    device: str,
    step: int,
) -> tuple[float, float]:
    """One step; returns the squared error in the holes that is left, and that of the base alone."""
    with torch.autocast(device, torch.bfloat16, enabled=stage.precision == "bfloat16"):
        residual = net(batch.target, batch.references, batch.weights)
    error = residual.float() - batch.wanted
    loss = ((error.abs() + SQUARE_WEIGHT * error.square()) * batch.cost).sum() / (3.0 * batch.cost.sum())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), CLIP_NORM)
    optimizer.step()
    keep = min(stage.weight_average, (1.0 + step) / (10.0 + step))
    with torch.no_grad():
        for slow, fast in zip(average.parameters(), net.parameters(), strict=True):
            slow.lerp_(fast, 1.0 - keep)
    with torch.no_grad():
        hole = batch.target[:, 6:]
        return float((error.square() * hole).sum()), float((batch.wanted.square() * hole).sum())


def _share_left(trace: list[tuple[float, float]]) -> float:
    """The squared error of the last steps as a share of their bases'."""
    left, before = np.sum(trace, axis=0)
    return float(left / before)


def learning_rate(stage: RepairStage, step: int) -> float:
    """Warm-up, then a half cosine down to the final rate."""
    if step < stage.warmup_steps:
        return stage.learning_rate * (step + 1) / stage.warmup_steps
    done = (step - stage.warmup_steps) / max(1, stage.steps - stage.warmup_steps)
    height = 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
    return stage.final_learning_rate + (stage.learning_rate - stage.final_learning_rate) * height


def to_tensors(samples: SampleBatch, device: str) -> Batch:
    """What the net sees: the frame without its hole, the base, the hole."""

    def unit(images: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, -3))).to(device).float() / 255.0

    frame, base = unit(samples.frame), unit(samples.base)
    hole = torch.from_numpy(samples.hole).to(device)[:, None].float()
    rim = np.stack([cv2.dilate(one.view(np.uint8), np.ones((2 * RIM_PX + 1,) * 2, np.uint8)) for one in samples.hole])
    around = torch.from_numpy(rim).to(device)[:, None].float()
    return Batch(
        target=torch.cat([(frame - base) * (1.0 - hole) * RESIDUAL_GAIN, base - 0.5, hole], dim=1),
        references=unit(samples.references),
        weights=torch.from_numpy(samples.weights).to(device),
        wanted=frame - base,
        cost=hole + RIM_WEIGHT * (around - hole),
    )


class ShardFeed:
    """Has shards made ahead by worker processes and deals batches from the newest `shards_kept` of them."""

    def __init__(self, stage: RepairStage, folder: Path, step: int) -> None:
        self._stage = stage
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._loaded: dict[int, SampleBatch] = {}
        self.marked_s = time.monotonic()
        first = max(0, self._newest(step) - stage.shards_kept + 1)
        for stale in folder.glob("*.npz"):
            if not stale.stem.isdigit() or int(stale.stem) < first:
                stale.unlink()
        context = get_context("spawn")
        self._workers: list[BaseProcess] = [
            context.Process(target=_make_shards, args=(stage, folder, first, index), daemon=True)
            for index in range(stage.workers)
        ]
        for worker in self._workers:
            worker.start()

    def batches(self, step: int, device: str) -> Iterator[Batch]:
        """Batch after batch, beginning with that of `step`."""
        stage = self._stage
        while True:
            newest = self._newest(step)
            window = range(max(0, newest - stage.shards_kept + 1), newest + 1)
            self._hold(window)
            rng = np.random.default_rng((stage.seed, 7, step))
            picks = rng.integers(0, len(window) * stage.shard_samples, stage.batch)
            yield to_tensors(
                _gather(
                    [(self._loaded[window[pick // stage.shard_samples]], pick % stage.shard_samples) for pick in picks]
                ),
                device,
            )
            step += 1

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.terminate()
            worker.join()

    def _newest(self, step: int) -> int:
        """The shard that a step may use first. The first window is full before the first step."""
        seen = step * self._stage.batch / self._stage.passes
        return self._stage.shards_kept // 2 - 1 + int(seen // self._stage.shard_samples)

    def _hold(self, window: range) -> None:
        for number in [number for number in self._loaded if number not in window]:
            del self._loaded[number]
            shard_path(self._folder, number).unlink(missing_ok=True)
        for number in window:
            if number not in self._loaded:
                self._wait_for(number)
                self._loaded[number] = read_shard(self._folder, number)

    def _wait_for(self, number: int) -> None:
        deadline = time.monotonic() + WAIT_FOR_SHARD_S
        while not shard_path(self._folder, number).exists():
            if not all(worker.is_alive() for worker in self._workers):
                raise RuntimeError("a process that makes training samples died; its error is on standard error")
            if time.monotonic() > deadline:
                raise RuntimeError(f"no training samples for {WAIT_FOR_SHARD_S:.0f} s")
            time.sleep(POLL_S)


AHEAD_SHARDS = 4


def _make_shards(stage: RepairStage, folder: Path, first: int, worker: int) -> None:
    """A worker: every `workers`-th shard, never more than a few ahead of what is used."""
    cv2.setNumThreads(1)
    maker = SampleMaker(stage.samples, open_sources(stage.samples))
    number = first + worker
    while True:
        waiting = [int(path.stem) for path in folder.glob("[0-9]*.npz")]
        if shard_path(folder, number).exists():
            number += stage.workers
        elif waiting and number > min(waiting) + stage.shards_kept + AHEAD_SHARDS:
            time.sleep(10 * POLL_S)
        else:
            write_shard(maker, folder, number, stage.seed, stage.shard_samples)
            number += stage.workers


def _gather(picks: list[tuple[SampleBatch, int]]) -> SampleBatch:
    return SampleBatch(
        np.stack([shard.frame[index] for shard, index in picks]),
        np.stack([shard.base[index] for shard, index in picks]),
        np.stack([shard.hole[index] for shard, index in picks]),
        np.stack([shard.references[index] for shard, index in picks]),
        np.stack([shard.weights[index] for shard, index in picks]),
    )


def _resume(
    path: Path, net: RepairNet, average: RepairNet, optimizer: torch.optim.Optimizer, device: str
) -> tuple[int, float]:
    if not path.exists():
        return 0, 0.0
    stored = torch.load(path, map_location=device, weights_only=True)
    net.load_state_dict(stored["net"])
    average.load_state_dict(stored["average"])
    optimizer.load_state_dict(stored["optimizer"])
    return int(stored["step"]), float(stored["seconds"])


def _save(
    path: Path,
    net: RepairNet,
    average: RepairNet,
    optimizer: torch.optim.Optimizer,
    step: int,
    seconds: float,
    stage: RepairStage,
) -> None:
    unfinished = path.with_suffix(".new")
    torch.save(
        {
            "net": net.state_dict(),
            "average": average.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": step,
            "seconds": seconds,
            "stage": stage.model_dump_json(),
        },
        unfinished,
    )
    unfinished.rename(path)
