"""Training of the learned head: two small nets, each on one half of the good images, side by side on two cores."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from inspector.detector.change_net import STRIDE_PX, TaughtNet, light_gain, relight
from inspector.detector.good_part import GoodPart, learn_good_part
from inspector.detector.net_samples import CROP_PX, SampleMaker
from inspector.detector.part_model import Mask
from inspector.detector.training.compare_net import ChangeNets, CompareNet, export_nets, find_loss
from inspector.errors import FitError
from inspector.records import BgrImage

NETS = 2
BLOCKS = 4
WIDTHS = (16, 24, 48, 64)
LEFT_OUT_GOODS = 4
BATCH = 8
LEARNING_RATE = 2e-3
WARMUP_STEPS = 50
CLIP_NORM = 1.0
Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class NetTeacher:
    """How the pair is trained: for `minutes`, or until `most_steps` are done."""

    minutes: float
    most_steps: int | None = None
    seed: int = 1

    def __call__(self, pictures: list[BgrImage], part: Mask, looks: tuple[int, ...], progress: Progress) -> TaughtNet:
        """Train on laid good pictures of one size with the banks' margin, each beside good ones of its look.

        Deterministic but for how many steps fit into the time: with `most_steps` and time enough the result is the
        same. Raises `FitError` for too small pictures, when the training diverges, and when ONNX Runtime
        computes something else than PyTorch.
        """
        started = time.monotonic()
        height, width = pictures[0].shape[:2]
        if min(height, width) < CROP_PX + 2 * STRIDE_PX:
            raise FitError(
                f"the part is {width}x{height} px on the screen; training needs at least {CROP_PX + 2 * STRIDE_PX} px"
            )
        unseen_by = _halve(looks)
        lit = _relight_all(pictures, part, looks)
        torch.set_num_threads(1)
        torch.manual_seed(self.seed)
        nets = [CompareNet(WIDTHS) for _ in range(NETS)]
        runs, goods = [], list[GoodPart]()
        for number, net in enumerate(nets):
            seen = [index for index, unseen in enumerate(unseen_by) if unseen != number]
            without, without_of = _learn_goods(lit, looks, seen)
            shown = [lit[index] for index in seen]
            samples = SampleMaker(
                shown, [looks[index] for index in seen], without, without_of, part, self.seed * NETS + number
            )
            runs.append(_Run(net, samples, self))
            goods += _good_by_look(lit, looks, seen)
        steps = _train_all(runs, time.monotonic() + 60.0 * self.minutes, progress)
        trained = ChangeNets(nets).eval()
        if not all(bool(torch.isfinite(parameter).all()) for parameter in trained.parameters()):
            raise FitError(f"the training of the learned head diverged within {steps} steps")
        good_by_look = _good_by_look(lit, looks, range(len(lit)))
        graph = export_nets(trained, lit[0], good_by_look[looks[0]])
        learned_without = tuple(
            unseen * len(good_by_look) + look for unseen, look in zip(unseen_by, looks, strict=True)
        )
        seconds = time.monotonic() - started
        return TaughtNet(graph, unseen_by, learned_without, tuple(goods), tuple(good_by_look), steps, seconds)


def _halve(looks: tuple[int, ...]) -> tuple[int, ...]:
    """Which net does not see an image: neighbours by name, which are often the same piece, stay together."""
    unseen_by = [0] * len(looks)
    for look in range(max(looks) + 1):
        own = [index for index, shown in enumerate(looks) if shown == look]
        for number, index in enumerate(own):
            unseen_by[index] = number * BLOCKS // len(own) % NETS
    return tuple(unseen_by)


def _relight_all(pictures: list[BgrImage], part: Mask, looks: tuple[int, ...]) -> list[BgrImage]:
    """Each picture in the light of the median of its look."""
    medians = [good.picture for good in _good_by_look(pictures, looks, range(len(pictures)))]
    return [
        relight(picture, light_gain(picture, medians[look], part))
        for picture, look in zip(pictures, looks, strict=True)
    ]


def _good_by_look(pictures: list[BgrImage], looks: tuple[int, ...], seen: Sequence[int]) -> list[GoodPart]:
    """Learned from those pictures of each look that are `seen`."""
    numbers = range(max(looks) + 1)
    return [learn_good_part([pictures[index] for index in seen if looks[index] == look]) for look in numbers]


def _learn_goods(pictures: list[BgrImage], looks: tuple[int, ...], seen: list[int]) -> tuple[list[GoodPart], list[int]]:
    """Good parts of each look without a part of its `seen` pictures each, and for each of these the one without it."""
    goods, without = list[GoodPart](), [0] * len(seen)
    for look in range(max(looks) + 1):
        own = [place for place, index in enumerate(seen) if looks[index] == look]
        for number, place in enumerate(own):
            without[place] = len(goods) + number % LEFT_OUT_GOODS
        for left_out in range(LEFT_OUT_GOODS):
            kept = [pictures[seen[place]] for number, place in enumerate(own) if number % LEFT_OUT_GOODS != left_out]
            goods.append(learn_good_part(kept))
    return goods, without


@dataclass(frozen=True, slots=True)
class _Run:
    net: CompareNet
    samples: SampleMaker
    teacher: NetTeacher

    def train(self, end: float, stopped: threading.Event, progress: Callable[[float], None]) -> int:
        """Train until the monotonic time `end`, or all steps; the steps done."""
        optimizer = torch.optim.AdamW(self.net.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
        self.net.train()
        started, most, step, done = time.monotonic(), self.teacher.most_steps, 0, 0.0
        while step == 0 or (done < 1.0 and time.monotonic() < end and not stopped.is_set()):
            for group in optimizer.param_groups:
                fall = max(0.01, 0.5 * (1.0 + float(np.cos(np.pi * done))))
                group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / WARMUP_STEPS) * fall
            optimizer.zero_grad(set_to_none=True)
            find_loss(self.net, [self.samples.draw() for _ in range(BATCH)]).backward()
            nn.utils.clip_grad_norm_(self.net.parameters(), CLIP_NORM)
            optimizer.step()
            step += 1
            done = step / most if most is not None else (time.monotonic() - started) / (end - started)
            progress(min(1.0, done))
        return step


def _train_all(runs: list[_Run], end: float, progress: Progress) -> int:
    """Each net in its own thread; the steps of the slower one."""
    stopped = threading.Event()
    with ThreadPoolExecutor(len(runs)) as pool:
        # Only the first says how far it is: the others go alongside.
        told: list[Callable[[float], None]] = [lambda done: progress("train", done)]
        told += [lambda done: None] * (len(runs) - 1)
        waiting = [pool.submit(run.train, end, stopped, tell) for run, tell in zip(runs, told, strict=True)]
        try:
            return min(future.result() for future in waiting)
        finally:
            stopped.set()
