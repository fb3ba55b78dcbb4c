"""Training of the learned head: two small nets, each on one half of the good images, side by side on two cores."""

from __future__ import annotations

import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional

from inspector.detector.change_net import NETS, STRIDE_PX, TaughtNet, light_gain
from inspector.detector.net_samples import CROP_PX, SampleMaker
from inspector.detector.part_model import Mask
from inspector.errors import FitError
from inspector.records import BgrImage

BLOCKS = 4
WIDTHS = (16, 24, 48, 64)
LEFT_OUT_MEDIANS = 4
MOST_IN_MEDIAN = 40
BATCH = 8
LEARNING_RATE = 2e-3
WARMUP_STEPS = 50
DEFECT_WEIGHT = 4.0
"""Of a changed cell beside 1 for an unchanged one: most cells show no change."""
DIFFERENCE_GAIN = 3.0
CLIP_NORM = 1.0
OPSET = 17
MOST_DIFFERENCE = 1e-3
"""Between PyTorch and ONNX Runtime, in logits; more refuses the export."""
STRIP_ROWS = 64
Progress = Callable[[str, float], None]


def _convolve(channels: int, filters: int, side: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, filters, side, stride, 1, bias=False), nn.BatchNorm2d(filters), nn.ReLU(inplace=True)
    )


class _Level(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _convolve(width, width), _convolve(width, width)

    def forward(self, cells: Tensor) -> Tensor:
        found: Tensor = cells + self.second(self.first(cells))
        return found


class CompareNet(nn.Module):
    """A U-Net that answers for cells of 4 px: (N, 6, H, W) to (N, 1, H / 4, W / 4) logits."""

    def __init__(self, widths: tuple[int, int, int, int] = WIDTHS) -> None:
        super().__init__()
        half, cell, wide, widest = widths
        self.stem = nn.Sequential(_convolve(6, half, 4, 2), _convolve(half, cell, 3, 2))
        self.level4 = _Level(cell)
        self.level8 = nn.Sequential(_convolve(cell, wide, 3, 2), _Level(wide))
        self.level16 = nn.Sequential(_convolve(wide, widest, 3, 2), _Level(widest))
        self.up8, self.merge8 = nn.Conv2d(widest, wide, 1), _convolve(wide, wide)
        self.up4, self.merge4 = nn.Conv2d(wide, cell, 1), _convolve(cell, cell)
        self.answer = nn.Conv2d(cell, 1, 1)

    def forward(self, planes: Tensor) -> Tensor:
        fine = self.level4(self.stem(planes))
        wide = self.level8(fine)
        widest = self.level16(wide)
        wide = self.merge8(wide + functional.interpolate(self.up8(widest), scale_factor=2.0, mode="nearest"))
        fine = self.merge4(fine + functional.interpolate(self.up4(wide), scale_factor=2.0, mode="nearest"))
        found: Tensor = self.answer(fine)
        return found


def to_planes(pixels: Tensor, reference: Tensor) -> Tensor:
    """(N, 6, H, W) of two (N, 3, H, W) pictures with levels 0..255: the picture, and its difference."""
    return torch.cat([pixels / 255.0 - 0.5, (pixels - reference) * (DIFFERENCE_GAIN / 255.0)], dim=1)


class ChangePair(nn.Module):
    """All nets on one picture, from bytes: what is exported."""

    def __init__(self, nets: list[CompareNet]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, pixels: Tensor, reference: Tensor, gain: Tensor) -> Tensor:
        levels, stand = (image.permute(2, 0, 1)[None].float() for image in (pixels, reference))
        planes = to_planes(torch.clamp(levels * gain[:, None, None], 0.0, 255.0), stand)
        return torch.cat([net(planes)[0] for net in self.nets])


@dataclass(frozen=True, slots=True)
class NetTeacher:
    """How the pair is trained: for `minutes`, or until `most_steps` are done."""

    minutes: float
    most_steps: int | None = None
    seed: int = 1

    def __call__(self, pictures: list[BgrImage], part: Mask, progress: Progress) -> TaughtNet:
        """Train on laid good pictures of one size with the banks' margin.

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
        # Neighbours in the order of their names are often the same piece.
        unseen_by = tuple(index * BLOCKS // len(pictures) % NETS for index in range(len(pictures)))
        reference = _median(pictures)
        lit = [_relight(picture, light_gain(picture, reference, part)) for picture in pictures]
        torch.set_num_threads(1)
        torch.manual_seed(self.seed)
        nets = [CompareNet() for _ in range(NETS)]
        runs = []
        for number, net in enumerate(nets):
            seen = [picture for picture, unseen in zip(lit, unseen_by, strict=True) if unseen != number]
            references = [
                _median([picture for index, picture in enumerate(seen) if index % LEFT_OUT_MEDIANS != left_out])
                for left_out in range(LEFT_OUT_MEDIANS)
            ]
            runs.append(_Run(net, SampleMaker(seen, references, part, self.seed * NETS + number), self))
        steps = _train_all(runs, time.monotonic() + 60.0 * self.minutes, progress)
        pair = ChangePair(nets).eval()
        if not all(bool(torch.isfinite(parameter).all()) for parameter in pair.parameters()):
            raise FitError(f"the training of the learned head diverged within {steps} steps")
        graph = export_pair(pair, lit[0], reference)
        medians = tuple(
            _median([picture for picture, unseen in zip(lit, unseen_by, strict=True) if unseen != number])
            for number in range(NETS)
        )
        return TaughtNet(graph, unseen_by, medians, reference, steps, time.monotonic() - started)


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
            self._loss().backward()
            nn.utils.clip_grad_norm_(self.net.parameters(), CLIP_NORM)
            optimizer.step()
            step += 1
            done = step / most if most is not None else (time.monotonic() - started) / (end - started)
            progress(min(1.0, done))
        return step

    def _loss(self) -> Tensor:
        drawn = [self.samples.draw() for _ in range(BATCH)]
        pixels, reference, target, weight = (
            torch.from_numpy(np.stack([getattr(sample, name) for sample in drawn]))
            for name in ("pixels", "reference", "target", "weight")
        )
        planes = to_planes(pixels.permute(0, 3, 1, 2), reference.permute(0, 3, 1, 2))
        found = self.net(planes)[:, 0]
        cost = weight * (1.0 + (DEFECT_WEIGHT - 1.0) * target)
        loss = functional.binary_cross_entropy_with_logits(found, target, weight=cost, reduction="sum")
        return loss / weight.sum()


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


def _median(pictures: list[BgrImage]) -> BgrImage:
    """Of all, or of `MOST_IN_MEDIAN` evenly over them; in strips, which keeps the memory small."""
    count = min(len(pictures), MOST_IN_MEDIAN)
    chosen = [pictures[index * len(pictures) // count] for index in range(count)]
    strips = [
        np.median(np.stack([picture[row : row + STRIP_ROWS] for picture in chosen]), axis=0)
        for row in range(0, chosen[0].shape[0], STRIP_ROWS)
    ]
    return np.concatenate(strips).astype(np.uint8)


def _relight(picture: BgrImage, gain: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> BgrImage:
    return np.clip(picture * gain + np.float32(0.5), 0, 255).astype(np.uint8)


def export_pair(pair: nn.Module, picture: BgrImage, reference: BgrImage) -> bytes:
    """The pair as ONNX; `FitError` when ONNX Runtime computes something else than PyTorch."""
    rows, columns = (side // STRIDE_PX * STRIDE_PX for side in picture.shape[:2])
    pixels, stand = (np.ascontiguousarray(image[:rows, :columns]) for image in (picture, reference))
    inputs = {"pixels": pixels, "reference": stand, "gain": np.array([1.1, 1.0, 0.9], np.float32)}
    tensors = tuple(torch.from_numpy(values) for values in inputs.values())
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The other exporter needs a package more.
        warnings.simplefilter("ignore", DeprecationWarning)
        path = Path(folder) / "pair.onnx"
        sizes = {0: "rows", 1: "columns"}
        torch.onnx.export(
            pair,
            tensors,
            path,
            input_names=list(inputs),
            output_names=["changes"],
            dynamic_axes={"pixels": sizes, "reference": sizes, "changes": {1: "cell_rows", 2: "cell_columns"}},
            opset_version=OPSET,
            dynamo=False,
        )
        graph = path.read_bytes()
    with torch.no_grad():
        expected = pair(*tensors).numpy()
    (found,) = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, inputs)
    difference = float(np.abs(expected - found).max())
    if not difference <= MOST_DIFFERENCE:
        raise FitError(f"the exported net differs from the trained one by {difference:.2g}; it was not used")
    return graph
