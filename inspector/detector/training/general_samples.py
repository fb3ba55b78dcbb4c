"""Samples of many parts for the general net: rendered ones, and those of a few folders of photographs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.detector.good_part import learn_good_part
from inspector.detector.net_samples import CROP_PX, RIM_PX, TrainingSample, finish_sample, mix_in, paint_some
from inspector.detector.training.general_config import GeneralStage
from inspector.errors import DatasetError
from inspector.records import BgrImage
from inspector.scenes.samples.bank import Bank, BankedFault, open_bank
from inspector.scenes.samples.crops import cut_square, turn_together
from inspector.scenes.samples.photographs import register_photographs
from inspector.scenes.samples.stage_file import fill_in

SIDE_PX = CROP_PX + 2 * RIM_PX
CLOSEST, FARTHEST = 0.6, 1.6
"""How many pixels of a photograph a pixel of the crop may show, beside the source's scale."""
FEWEST_OTHERS, MOST_OTHERS = 4, 12
MIXED_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class _Stack:
    """Registered photographs of one part, (N, H, W, 3), and perhaps one of a fault, which shows view `fault.view`."""

    images: NDArray[np.uint8]
    scale: float = 1.0
    faulty: BgrImage | None = None
    fault: BankedFault | None = None


class GeneralSamples:
    """Every sample depends on the stage, the step and its number in the batch alone."""

    def __init__(self, stage: GeneralStage, folders: Mapping[str, Path]) -> None:
        """Raises `DatasetError` for a bank that is not finished, has no faults or too few views, and for photographs
        that do not register."""
        self._seed = stage.seed
        self._bank = _open(fill_in(stage.rendered.bank, folders))
        self._registered = [number for number, part in enumerate(self._bank.parts) if part.registered]
        self._photographs = [
            _Stack(register_photographs(fill_in(item.folder, folders)), item.scale) for item in stage.photographs
        ]
        shares = [stage.rendered.share, stage.rendered.faulty_share, *(item.share for item in stage.photographs)]
        self._shares = np.array(shares) / sum(shares)

    def batch(self, step: int, count: int) -> list[TrainingSample]:
        """The samples of one step."""
        return [self._draw(np.random.default_rng((self._seed, step, number))) for number in range(count)]

    def _draw(self, dice: np.random.Generator) -> TrainingSample:
        stack = self._choose(dice)
        order = _choose_views(stack, dice)
        left, top, cut = _choose_place(stack, dice)
        shown = [np.asarray(stack.images[index]) for index in order]
        if stack.faulty is not None:
            shown.append(stack.faulty)
        crops = [cut_square(image, left, top, cut, SIDE_PX) for image in shown]
        crops, _ = turn_together(dice, crops)
        target = crops[0]
        pixels = crops.pop() if stack.faulty is not None else target.copy()
        good = learn_good_part(crops[1:])
        fellow = crops[int(dice.integers(1, len(crops)))]
        if stack.faulty is not None:
            step = cv2.absdiff(pixels, target).max(axis=2).astype(np.float32)
        else:
            if dice.random() < MIXED_SHARE:
                mix_in(pixels, fellow, dice)
            step = paint_some(pixels, (fellow, target), dice)
        return finish_sample(pixels, step, good, dice)

    def _choose(self, dice: np.random.Generator) -> _Stack:
        source = int(dice.choice(len(self._shares), p=self._shares))
        if source == 0:
            return _Stack(self._bank.images[self._registered[int(dice.integers(len(self._registered)))]])
        if source == 1:
            number = int(dice.integers(len(self._bank.faults)))
            fault = self._bank.faults[number]
            faulty = np.asarray(self._bank.faulty[number])
            return _Stack(self._bank.images[fault.part], faulty=faulty, fault=fault)
        return self._photographs[source - 2]


def _open(folder: Path) -> Bank:
    try:
        bank = open_bank(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{folder}: not a bank of rendered parts: {error}") from error
    if not bank.faults:
        raise DatasetError(f"{folder}: this bank has no faults: render one with --faulty-views")
    if bank.images.shape[1] <= FEWEST_OTHERS:
        raise DatasetError(f"{folder}: {bank.images.shape[1]} views of each part, {FEWEST_OTHERS + 1} are needed")
    return bank


def _choose_views(stack: _Stack, dice: np.random.Generator) -> list[int]:
    """The target's view and those of the good part."""
    views = len(stack.images)
    order = [int(index) for index in dice.permutation(views)]
    if stack.fault is not None:
        order.remove(stack.fault.view)
        order.insert(0, stack.fault.view)
    most = min(views - 1, MOST_OTHERS)
    return order[: 1 + int(dice.integers(min(FEWEST_OTHERS, most), most + 1))]


def _choose_place(stack: _Stack, dice: np.random.Generator) -> tuple[int, int, int]:
    """(left, top, side) of the square that the crop shows; a fault lies in it."""
    height, width = stack.images.shape[1:3]
    closeness = math.exp(dice.uniform(math.log(CLOSEST), math.log(FARTHEST)))
    cut = int(min(height, width, SIDE_PX * stack.scale * closeness))
    if stack.fault is None:
        return int(dice.integers(0, width - cut + 1)), int(dice.integers(0, height - cut + 1)), cut
    x0, y0, x1, y1 = stack.fault.box
    places = []
    for first, last, length in ((x0, x1, width), (y0, y1, height)):
        middle, rim = int(dice.integers(first, last)), cut // 8
        places.append(int(np.clip(middle - int(dice.integers(rim, cut - rim)), 0, length - cut)))
    return places[0], places[1], cut
