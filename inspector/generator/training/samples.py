"""Training samples of the repair net, made ahead of the training in numbered shards.

Shard i depends on the configuration and i alone, so a run is the same however fast its workers are, and a resumed
run goes on with the very next sample.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.generator.masks import draw_mask
from inspector.generator.training.augment import move_a_little, relight
from inspector.generator.training.config import RepairSamples
from inspector.generator.training.repair_base import fill_smoothly, lay_references
from inspector.generator.training.sources import PhotographSource, RenderedSource, Source
from inspector.scenes.samples.crops import turn_together
from inspector.scenes.samples.stage_file import fill_in

GUARD_PX = 4
"""The hole is the mask grown by this much: a defect often reaches a little over its mask."""


@dataclass(frozen=True, slots=True)
class SampleBatch:
    """N samples: `frame` and `base` (N, S, S, 3) and `references` (N, K, S, S, 3) uint8 BGR, `hole` (N, S, S) bool,
    `weights` (N, K) float32, all 0 for a surface without references."""

    frame: NDArray[np.uint8]
    base: NDArray[np.uint8]
    hole: NDArray[np.bool_]
    references: NDArray[np.uint8]
    weights: NDArray[np.float32]


def open_sources(config: RepairSamples, folders: Mapping[str, Path]) -> list[tuple[float, Source]]:
    """Every source of the configuration with its share; `folders` are those it names as ${NAME}."""
    photographs = [(item.share, PhotographSource(fill_in(item.folder, folders))) for item in config.photographs]
    rendered = [(item.share, RenderedSource(fill_in(item.bank, folders))) for item in config.rendered]
    return [*photographs, *rendered]


class SampleMaker:
    """Draws samples from sources."""

    def __init__(self, config: RepairSamples, sources: list[tuple[float, Source]]) -> None:
        self._config = config
        self._sources = [source for _, source in sources]
        shares = np.array([share for share, _ in sources], np.float64)
        self._shares = shares / shares.sum()

    def make_batch(self, seed: tuple[int, ...], count: int) -> SampleBatch:
        """`count` samples, the same for the same seed."""
        rng = np.random.default_rng(seed)
        side, kept = self._config.side_px, self._config.references
        batch = SampleBatch(
            np.zeros((count, side, side, 3), np.uint8),
            np.zeros((count, side, side, 3), np.uint8),
            np.zeros((count, side, side), np.bool_),
            np.zeros((count, kept, side, side, 3), np.uint8),
            np.zeros((count, kept), np.float32),
        )
        for index in range(count):
            self._make_one(rng, batch, index)
        return batch

    def _make_one(self, rng: np.random.Generator, batch: SampleBatch, index: int) -> None:
        config = self._config
        source = self._sources[int(rng.choice(len(self._sources), p=self._shares))]
        wanted = 0 if rng.random() < config.surface_share else int(rng.integers(1, config.references + 1))
        hole = self._draw_hole(rng)
        frame, others = source.draw(rng, hole, wanted)
        (frame, *others), turn = turn_together(rng, [frame, *others])
        hole = np.ascontiguousarray(turn.apply(hole))
        frame = relight(rng, frame, config.light)
        batch.frame[index], batch.hole[index] = frame, hole
        if not others:
            base = fill_smoothly(frame, hole)
        else:
            others = [relight(rng, other, 0.3 * config.light) for other in others]
            off = config.misregistration_px * (4.0 if rng.random() < 0.1 else 1.0)
            base, weights = lay_references(frame, hole, [move_a_little(rng, other, 0.5 * off, 0.1) for other in others])
            for place, other in enumerate(others):
                batch.references[index, place] = move_a_little(rng, other, off, 0.3)
            batch.weights[index, : len(others)] = weights
        batch.base[index] = np.clip(np.rint(base), 0, 255).astype(np.uint8)

    def _draw_hole(self, rng: np.random.Generator) -> NDArray[np.bool_]:
        side, config = self._config.side_px, self._config
        mask = draw_mask(rng, side, side, config.least_mask_px, config.most_mask_px)
        if rng.random() < 0.3:
            mask |= draw_mask(rng, side, side, config.least_mask_px, config.most_mask_px // 2)
        grown = cv2.dilate(mask.view(np.uint8), np.ones((2 * GUARD_PX + 1, 2 * GUARD_PX + 1), np.uint8)) > 0
        return np.asarray(grown if not grown.all() else mask, np.bool_)


def write_shard(maker: SampleMaker, folder: Path, number: int, seed: int, count: int) -> None:
    """Shard `number` as one file; a reader sees all of it or nothing."""
    batch = maker.make_batch((seed, number), count)
    unfinished = folder / f".{number:06d}-{os.getpid()}.npz"
    with unfinished.open("wb") as file:
        np.savez(
            file,
            frame=batch.frame,
            base=batch.base,
            hole=batch.hole,
            references=batch.references,
            weights=batch.weights,
        )
    unfinished.rename(shard_path(folder, number))


def read_shard(folder: Path, number: int) -> SampleBatch:
    """A shard written by `write_shard`."""
    with np.load(shard_path(folder, number)) as stored:
        return SampleBatch(stored["frame"], stored["base"], stored["hole"], stored["references"], stored["weights"])


def list_shards(folder: Path) -> list[int]:
    """Numbers of the finished shards of a folder."""
    return sorted(int(path.stem) for path in folder.glob("[0-9]*.npz"))


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.npz"
