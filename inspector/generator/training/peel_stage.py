"""Training of a peel: a few minutes on the good images of one line, the base frozen."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from inspector.errors import FitError
from inspector.generator.peel import BENT, RANK, Peel
from inspector.generator.peel_tiles import LineTiles
from inspector.generator.repair_model import RepairTile, make_target
from inspector.generator.training.nets import RepairNet
from inspector.generator.weight_file import WeightFile
from inspector.images import sha256_hex

TILES_A_STEP = 6
LEARNING_RATE = 1e-2
"""After 25 s on `aliens` 2e-2 had gained 2.6 times what 4e-3 had; 6e-2 diverged."""
WARMUP_STEPS = 20
POOL_TILES = 120
"""Tiles in memory; each step takes some of them and replaces the oldest."""
NEW_TILES_A_STEP = 2
GUARD_WEIGHT = 0.1
"""Of a pixel around the hole, beside 1 for one in it: what is blended in must fit, too."""
CLIP_NORM = 1.0
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
    config_sha256: str


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
    weights: WeightFile,
    tiles: LineTiles,
    recipe: str,
    *,
    minutes: float,
    most_steps: int | None = None,
    threads: int = 2,
    seed: int = 1,
    progress: Progress | None = None,
) -> TrainedPeel:
    """Train for `minutes` on the tiles of one line, or until `most_steps` are done.

    Deterministic but for how many steps fit into the time: with `most_steps` and time enough the result is the same.
    The encoder has no part in it: the features of the references come with the tiles. Raises `FitError` when the
    training diverges.
    """
    started = time.monotonic()
    torch.set_num_threads(threads)
    trunk = read_net(weights, read_shape(weights)).trunk
    trunk.requires_grad_(False)
    adapters = add_adapters(trunk, torch.Generator().manual_seed(seed))
    parameters = [parameter for adapter in adapters.values() for parameter in adapter.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    rng = np.random.default_rng(seed)
    pool: list[RepairTile] = []
    step, done, budget_s = 0, 0.0, 60.0 * minutes
    while step == 0 or (done < 1.0 and time.monotonic() - started < budget_s):
        for _ in range(NEW_TILES_A_STEP if pool else TILES_A_STEP):
            tile, place = tiles.draw(rng), len(pool)
            if place < POOL_TILES:
                pool.append(tile)
            else:
                pool[int(rng.integers(0, POOL_TILES))] = tile
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / WARMUP_STEPS) * max(0.02, 1.0 - done)
        chosen = [pool[index] for index in rng.choice(len(pool), min(TILES_A_STEP, len(pool)), replace=False)]
        optimizer.zero_grad(set_to_none=True)
        learn_from(trunk, chosen)
        nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        optimizer.step()
        step += 1
        done = step / most_steps if most_steps is not None else (time.monotonic() - started) / budget_s
        if progress is not None:
            progress(min(1.0, done))
    if not all(bool(torch.isfinite(parameter).all()) for parameter in parameters):
        raise FitError(f"the training of the peel for {recipe} diverged within {step} steps; nothing was changed")
    factors = {
        f"{BENT}{name}.weight": (adapter.b.detach().numpy().copy(), adapter.a.detach().numpy().copy())
        for name, adapter in adapters.items()
    }
    seconds = time.monotonic() - started
    details = {"steps": str(step), "training_s": f"{seconds:.0f}"}
    return TrainedPeel(Peel(weights.sha256, recipe, factors, details), step, seconds, _hash_settings(minutes, seed))


def _hash_settings(minutes: float, seed: int) -> str:
    """Two peels with the same hash were trained alike."""
    settings = (RANK, TILES_A_STEP, LEARNING_RATE, WARMUP_STEPS, POOL_TILES, NEW_TILES_A_STEP, GUARD_WEIGHT, CLIP_NORM)
    return sha256_hex(repr((settings, minutes, seed)).encode())


def add_adapters(trunk: nn.Module, generator: torch.Generator) -> dict[str, LowRank]:
    """Give every convolution an adapter that changes nothing yet; by the name of the convolution."""
    adapters: dict[str, LowRank] = {}
    for name, module in list(trunk.named_modules()):
        if isinstance(module, nn.Conv2d):
            adapters[name] = LowRank(module.weight, generator)
            parametrize.register_parametrization(module, "weight", adapters[name])
    return adapters


def learn_from(trunk: nn.Module, tiles: list[RepairTile]) -> None:
    """Add the gradients of some tiles: squared error in their holes over what the base itself leaves there.

    Tiles of one size run together.
    """
    wanted = [(tile.frame.astype(np.float32) - tile.base) / np.float32(255.0) for tile in tiles]
    cost = [_weigh(tile) for tile in tiles]
    scale = sum(float((one[..., None] * error**2).sum()) for one, error in zip(cost, wanted, strict=True))
    for size in dict.fromkeys(tile.hole.shape for tile in tiles):
        members = [index for index, tile in enumerate(tiles) if tile.hole.shape == size]
        target = torch.from_numpy(np.stack([make_target(tiles[index]) for index in members]))
        features = torch.from_numpy(np.stack([tiles[index].features for index in members]))
        aim = torch.from_numpy(np.stack([wanted[index].transpose(2, 0, 1) for index in members]))
        weight = torch.from_numpy(np.stack([cost[index][None] for index in members]))
        error = trunk(target, features) - aim
        ((error.square() * weight).sum() / max(scale, 1e-6)).backward()


def _weigh(tile: RepairTile) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """(h, w): 1 in the hole, `GUARD_WEIGHT` close around it."""
    hole = tile.hole.view(np.uint8)
    around = cv2.dilate(hole, np.ones((17, 17), np.uint8))
    return np.maximum(hole.astype(np.float32), np.float32(GUARD_WEIGHT) * around)
