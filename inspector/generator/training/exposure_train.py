"""Teaches the low-light net: `python -m inspector.generator.training.exposure_train CONFIG --data DIR --out DIR`.

Every step draws its batch from (seed, step) alone, so that a run continued from a checkpoint learns what an
uninterrupted one would. The same code runs on a CPU and on CUDA.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import structlog
import torch
from torch import Tensor

from inspector.errors import ConfigError, DatasetError
from inspector.generator.training.exposure_batches import Batch, Look, draw_batch
from inspector.generator.training.exposure_config import ExposureTraining, read_training
from inspector.generator.training.exposure_images import (
    PictureSet,
    draw_surfaces,
    read_good_images,
    render_scenes,
)
from inspector.generator.training.exposure_net import ExposureNet, count_parameters, log_error

VALIDATED_EVERY = 10
"""Each tenth training image is only validated on."""
VALIDATION_CROPS = 64
LARGEST_GRADIENT = 1.0
CHECKPOINT = "exposure.pt"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Sources:
    """What is trained on and how often, and what is validated on."""

    training: tuple[PictureSet, ...]
    validation: tuple[PictureSet, ...]
    shares: tuple[float, ...]


class ExposureTrainer:
    """The state of a run: net, its running average, optimiser and step."""

    def __init__(self, config: ExposureTraining, device: str) -> None:
        torch.manual_seed(config.seed)
        self._config = config
        self._device = torch.device(device)
        self.net = ExposureNet(config.widths, config.blocks).to(self._device)
        for values in self.net.parameters():
            if values.dim() == 4:
                values.data = values.data.contiguous(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.net).requires_grad_(False)
        self._optimiser = torch.optim.Adam(self.net.parameters(), lr=config.learning_rate)
        self.step = 0
        self.steps_before = 0
        """Of the stages that this one started from."""
        self.seconds = 0.0

    def learn(self, batch: Batch) -> float:
        """One step; the mean log error of the batch before it."""
        for group in self._optimiser.param_groups:
            group["lr"] = self._config.learning_rate * learning_share(self.step, self._config)
        inputs, truths = self._move(batch.inputs), self._move(batch.truths)
        with torch.autocast(self._device.type, torch.bfloat16):
            restored = self.net(inputs)
        loss = log_error(restored.float(), truths)
        self._optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), LARGEST_GRADIENT)
        self._optimiser.step()
        self.step += 1
        decay = min(self._config.average_decay, self.step / (self.step + 10))
        with torch.no_grad():
            for kept, fresh in zip(self.average.parameters(), self.net.parameters(), strict=True):
                kept.lerp_(fresh, 1 - decay)
        return float(loss.detach())

    def measure(self, batches: Sequence[Batch]) -> tuple[float, float]:
        """Mean PSNR in dB over the crops, of the brightened frames and of the averaged net's answers."""
        before, after = [], []
        with torch.no_grad():
            for batch in batches:
                inputs, truths = self._move(batch.inputs), self._move(batch.truths)
                before.append(log_error(inputs[:, :3].clamp(0, 1), truths))
                after.append(log_error(self.average(inputs).clamp(0, 1), truths))
        dim, lit = (float(-10 / math.log(10) * torch.stack(errors).mean()) for errors in (before, after))
        return dim, lit

    def save(self, folder: Path) -> None:
        """Write the checkpoint so that a cut never leaves half of one."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "config": self._config.model_dump(),
            "config_sha256": self._config.sha256,
            "step": self.step,
            "steps_before": self.steps_before,
            "seconds": self.seconds,
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }
        torch.save(state, folder / f"{CHECKPOINT}.part")
        (folder / f"{CHECKPOINT}.part").replace(folder / CHECKPOINT)

    def start_from(self, checkpoint: Path) -> None:
        """Take over what an earlier stage learned: the averaged weights of its checkpoint."""
        state: dict[str, Any] = torch.load(checkpoint, map_location=self._device, weights_only=True)
        self.net.load_state_dict(state["average"])
        self.average.load_state_dict(state["average"])
        self.steps_before = int(state["step"]) + int(state["steps_before"])

    def resume(self, folder: Path) -> None:
        """Continue from the folder's checkpoint, if there is one; `ConfigError` when it is of another run."""
        if not (folder / CHECKPOINT).is_file():
            return
        state: dict[str, Any] = torch.load(folder / CHECKPOINT, map_location=self._device, weights_only=True)
        if state["config_sha256"] != self._config.sha256:
            raise ConfigError(f"{folder / CHECKPOINT}: belongs to another configuration; use another --out")
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.step, self.steps_before = int(state["step"]), int(state["steps_before"])
        self.seconds = float(state["seconds"])

    def _move(self, values: np.ndarray[Any, np.dtype[np.float32]]) -> Tensor:
        return torch.from_numpy(values).to(self._device, memory_format=torch.channels_last)


def learning_share(step: int, config: ExposureTraining) -> float:
    """Share of the learning rate: a warm-up, then half a cosine down to one per cent."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def open_sources(config: ExposureTraining, data_dir: Path) -> Sources:
    """Read the sets, render the scenes, draw the surfaces; each tenth picture is held back."""
    whole = [read_good_images(data_dir, name) for name in config.sets]
    whole += [render_scenes(config.scene_parts, config.seed), draw_surfaces(config.surface_count, config.seed)]
    if any(len(item.pictures) < VALIDATED_EVERY for item in whole):
        raise DatasetError(f"every source needs {VALIDATED_EVERY} pictures or more, since each tenth is held back")
    return Sources(
        tuple(PictureSet(_pick(item, held=False)) for item in whole),
        tuple(PictureSet(_pick(item, held=True)) for item in whole),
        (*config.sets.values(), config.scenes, config.surfaces),
    )


def _pick(whole: PictureSet, *, held: bool) -> tuple[Any, ...]:
    return tuple(
        picture
        for index, picture in enumerate(whole.pictures)
        if (index % VALIDATED_EVERY == VALIDATED_EVERY - 1) == held
    )


def make_look(config: ExposureTraining) -> Look:
    """How the run varies its pictures."""
    return Look(config.reduced, config.grain, config.sigma_error)


def draw_batches(config: ExposureTraining, sources: Sources, first: int) -> Iterator[Batch]:
    """The batches of the steps from `first` on, each drawn while the one before is learned."""

    look = make_look(config)

    def draw(step: int) -> Batch:
        random = np.random.default_rng([config.seed, step])
        return draw_batch(sources.training, sources.shares, look, config.batch, config.side_px, random)

    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = pool.submit(draw, first)
        for step in range(first, config.steps):
            batch = coming.result()
            coming = pool.submit(draw, step + 1)
            yield batch


def train(
    config: ExposureTraining, data_dir: Path, out: Path, device: str, start: Path | None = None
) -> ExposureTrainer:
    """Run to the configured step, from the checkpoint in `out` where there is one, else from the weights in `start`."""
    cv2.setNumThreads(1)
    sources = open_sources(config, data_dir)
    random = np.random.default_rng([config.seed, 7])
    held = [
        draw_batch(sources.validation, sources.shares, make_look(config), config.batch, config.side_px, random)
        for _ in range(VALIDATION_CROPS // config.batch)
    ]
    trainer = ExposureTrainer(config, device)
    if start is not None:
        trainer.start_from(start)
    trainer.resume(out)
    log.info("training", parameters=count_parameters(trainer.net), step=trainer.step, device=device)
    losses: list[float] = []
    began = time.monotonic() - trainer.seconds
    for batch in draw_batches(config, sources, trainer.step):
        losses.append(trainer.learn(batch))
        if trainer.step % config.checkpoint_every == 0 or trainer.step == config.steps:
            trainer.seconds = time.monotonic() - began
            before, after = trainer.measure(held)
            log.info(
                "checkpoint",
                step=trainer.step,
                seconds=round(trainer.seconds),
                training_psnr_db=round(-10 / math.log(10) * float(np.mean(losses)), 3),
                brightened_psnr_db=round(before, 3),
                validation_psnr_db=round(after, 3),
            )
            losses.clear()
            trainer.save(out)
    return trainer


def main() -> None:
    """The command line of the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of the development sets")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--start", type=Path, help="checkpoint of the stage before")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    train(read_training(asked.config), asked.data, asked.out, asked.device, asked.start)


if __name__ == "__main__":
    main()
