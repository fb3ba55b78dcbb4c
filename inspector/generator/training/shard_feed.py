"""Training samples made ahead by worker processes, dealt in an order that depends on the stage and the step alone."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Mapping
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import cv2
import numpy as np

from inspector.errors import DatasetError, FitError, InspectorError
from inspector.generator.training.config import RepairStage
from inspector.generator.training.samples import (
    SampleBatch,
    SampleMaker,
    list_shards,
    open_sources,
    read_shard,
    shard_path,
    write_shard,
)
from inspector.images import sha256_hex

POLL_S = 0.05
WAIT_FOR_SHARD_S = 600.0
AHEAD_SHARDS = 4


class ShardFeed:
    """Deals batches from a window of `shards_kept` shards that moves on as samples are used.

    Shards that a run left behind when it was killed are used again: a shard is either whole or not there.
    """

    def __init__(self, stage: RepairStage, folders: Mapping[str, Path], run_folder: Path, step: int) -> None:
        """`step` is the first one that will be asked for."""
        self._stage = stage
        self._folder = _own_folder(stage, folders, run_folder)
        self._loaded: dict[int, SampleBatch] = {}
        self._window = range(0)
        context = multiprocessing.get_context("spawn")
        self._oldest: Synchronized[int] = context.Value("q", self._window_of(step).start)
        self._failures: SimpleQueue[str] = context.SimpleQueue()
        self._workers: list[BaseProcess] = [
            context.Process(
                target=_make_shards,
                args=(stage, dict(folders), self._folder, self._oldest, self._failures, number),
                daemon=True,
            )
            for number in range(stage.workers)
        ]
        for worker in self._workers:
            worker.start()

    def batches(self, step: int) -> Iterator[SampleBatch]:
        """Batch after batch, beginning with that of `step`.

        Raises `DatasetError` when the samples cannot be made, `FitError` when a worker was killed.
        """
        stage = self._stage
        while True:
            self._hold(self._window_of(step))
            rng = np.random.default_rng((stage.seed, 7, step))
            picks = rng.integers(0, len(self._window) * stage.shard_samples, stage.batch)
            places = [divmod(int(pick), stage.shard_samples) for pick in picks]
            yield _gather([(self._loaded[self._window[shard]], index) for shard, index in places])
            step += 1

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.terminate()
            worker.join()

    def _window_of(self, step: int) -> range:
        """The shards that a step draws from: at first half of `shards_kept`, later all of them."""
        kept = self._stage.shards_kept
        seen = step * self._stage.batch / self._stage.passes
        newest = max(1, kept // 2) - 1 + int(seen // self._stage.shard_samples)
        return range(max(0, newest - kept + 1), newest + 1)

    def _hold(self, window: range) -> None:
        if window == self._window:
            return
        self._window = window
        self._oldest.value = window.start
        self._loaded = {number: shard for number, shard in self._loaded.items() if number in window}
        for number in list_shards(self._folder):
            if number < window.start:
                shard_path(self._folder, number).unlink(missing_ok=True)
        for number in window:
            if number not in self._loaded:
                self._wait_for(number)
                self._loaded[number] = read_shard(self._folder, number)

    def _wait_for(self, number: int) -> None:
        deadline = time.monotonic() + WAIT_FOR_SHARD_S
        while not shard_path(self._folder, number).exists():
            # Looked at before the messages: a worker that ends on its own has said why by then.
            all_alive = all(worker.is_alive() for worker in self._workers)
            if not self._failures.empty():
                raise DatasetError(self._failures.get())
            if not all_alive:
                raise FitError("a process that makes training samples died; its error is on standard error")
            if time.monotonic() > deadline:
                raise FitError(f"no training samples for {WAIT_FOR_SHARD_S:.0f} s")
            time.sleep(POLL_S)


def _own_folder(stage: RepairStage, folders: Mapping[str, Path], run_folder: Path) -> Path:
    """Where the shards of exactly these samples lie; others and unfinished ones are removed."""
    shown = f"{stage.samples.model_dump_json()} {stage.seed} {stage.shard_samples} {sorted(folders.items())}"
    own = run_folder / "shards" / sha256_hex(shown.encode())[:16]
    own.mkdir(parents=True, exist_ok=True)
    for path in own.parent.rglob("*.npz"):
        if path.parent != own or path.name.startswith("."):
            path.unlink(missing_ok=True)
    return own


def _make_shards(
    stage: RepairStage,
    folders: dict[str, Path],
    folder: Path,
    oldest: Synchronized[int],
    failures: SimpleQueue[str],
    number: int,
) -> None:
    """A worker: every `workers`-th shard from `number`, never more than a few ahead of what is used."""
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    try:
        maker = SampleMaker(stage.samples, open_sources(stage.samples, folders))
        # A trainer that was killed cannot end its workers, and the next one starts its own.
        while parent is not None and parent.is_alive():
            if number >= oldest.value + stage.shards_kept + AHEAD_SHARDS:
                time.sleep(POLL_S)
                continue
            if number >= oldest.value and not shard_path(folder, number).exists():
                write_shard(maker, folder, number, stage.seed, stage.shard_samples)
            number += stage.workers
    except InspectorError as error:
        failures.put(str(error))


def _gather(picks: list[tuple[SampleBatch, int]]) -> SampleBatch:
    return SampleBatch(
        np.stack([shard.frame[index] for shard, index in picks]),
        np.stack([shard.base[index] for shard, index in picks]),
        np.stack([shard.hole[index] for shard, index in picks]),
        np.stack([shard.references[index] for shard, index in picks]),
        np.stack([shard.weights[index] for shard, index in picks]),
    )
