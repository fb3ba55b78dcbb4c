"""Training of a peel: a few minutes on the good images of one line, the base frozen."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from inspector.generator.peel import RANK, Peel
from inspector.generator.training.config import RepairSamples
from inspector.generator.training.nets import RepairNet
from inspector.generator.training.repair_stage import SQUARE_WEIGHT, to_tensors
from inspector.generator.training.samples import SampleMaker
from inspector.generator.training.sources import Source
from inspector.generator.weight_file import WeightFile

BATCH = 12
LEARNING_RATE = 2e-3
WARMUP_STEPS = 20
POOL = 6
"""Batches in memory; each step takes one of them, and an old one is replaced every few steps."""
STEPS_A_POOL_BATCH = 3
Progress = Callable[[float], None]


class LowRank(nn.Module):
    """A parametrisation of one weight: the base plus b a."""

    def __init__(self, weight: Tensor, generator: torch.Generator) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        self.b = nn.Parameter(torch.zeros(rows, RANK))
        self.a = nn.Parameter(torch.randn(RANK, columns, generator=generator) / columns**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.b @ self.a).view_as(weight)


@dataclass(frozen=True, slots=True)
class TrainedPeel:
    """The peel and what it took."""

    peel: Peel
    steps: int
    seconds: float


def read_net(weights: WeightFile, shape: tuple[tuple[int, int, int, int], int, int]) -> RepairNet:
    """The base in PyTorch, with the very weights that are shipped."""
    net = RepairNet(*shape)
    state = {name: torch.from_numpy(weights.tensor(name).copy()) for name in net.state_dict()}
    net.load_state_dict(state)
    net.eval()
    return net


def read_shape(weights: WeightFile) -> tuple[tuple[int, int, int, int], int, int]:
    """Widths of trunk and encoder, from the shapes of the stored tensors."""

    def rows(name: str) -> int:
        return weights.tensors[f"{name}.weight"].shape[0]

    widths = (rows("trunk.stem"), rows("trunk.down_b"), rows("trunk.down_c"), rows("trunk.down_d"))
    return widths, rows("encoder.stem"), rows("encoder.last")


def train_peel(
    weights: WeightFile, source: Source, recipe: str, *, minutes: float, seed: int = 1, progress: Progress | None = None
) -> TrainedPeel:
    """Train for `minutes` on the samples of one line. Deterministic but for how many steps fit into the time."""
    started = time.monotonic()
    net = read_net(weights, read_shape(weights))
    net.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    adapters = {
        name: LowRank(module.weight, generator)
        for name, module in net.named_modules()
        if isinstance(module, nn.Conv2d) and name.startswith("trunk.")
    }
    modules = dict(net.named_modules())
    for name, adapter in adapters.items():
        parametrize.register_parametrization(modules[name], "weight", adapter)
    optimizer = torch.optim.AdamW([p for one in adapters.values() for p in one.parameters()], lr=LEARNING_RATE)
    maker = SampleMaker(
        RepairSamples(side_px=128, least_mask_px=10, most_mask_px=72, surface_share=0.1), [(1.0, source)]
    )
    pool = [to_tensors(maker.make_batch((seed, number), BATCH), "cpu") for number in range(POOL)]
    step, budget_s = 0, 60.0 * minutes
    while (spent := time.monotonic() - started) < budget_s:
        if step % STEPS_A_POOL_BATCH == 0:
            pool[step // STEPS_A_POOL_BATCH % POOL] = to_tensors(maker.make_batch((seed, POOL + step), BATCH), "cpu")
        left = 1.0 - spent / budget_s
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / WARMUP_STEPS) * max(0.02, left)
        batch = pool[int(np.random.default_rng((seed, step)).integers(0, POOL))]
        error = net(batch.target, batch.references, batch.weights) - batch.wanted
        loss = ((error.abs() + SQUARE_WEIGHT * error.square()) * batch.cost).sum() / (3.0 * batch.cost.sum())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        if progress is not None:
            progress(min(1.0, spent / budget_s))
    factors = {
        f"{name}.weight": (adapter.b.detach().numpy().copy(), adapter.a.detach().numpy().copy())
        for name, adapter in adapters.items()
    }
    seconds = time.monotonic() - started
    details = {"steps": str(step), "training_s": f"{seconds:.0f}"}
    return TrainedPeel(Peel(weights.sha256, recipe, factors, details), step, seconds)
