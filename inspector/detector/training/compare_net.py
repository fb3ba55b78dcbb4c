"""The net that compares a part with the good part: its layers, its loss, and its export."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional

from inspector.detector.change_net import STRIDE_PX
from inspector.detector.good_part import SPREAD_STEPS, GoodPart
from inspector.detector.net_samples import TrainingSample
from inspector.errors import FitError
from inspector.records import BgrImage

Widths = tuple[int, int, int, int]

PLANES = 7
DIFFERENCE_GAIN = 3.0
SPREAD_FLOOR = 3.0
"""Grey levels: where good parts hardly spread, noise is no change."""
MOST_SPREADS = 16.0
DEFECT_WEIGHT = 4.0
"""Of a changed cell beside 1 for an unchanged one: most cells show no change."""
OPSET = 17
MOST_DIFFERENCE = 1e-3
"""Between PyTorch and ONNX Runtime, in logits; more refuses the export."""


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
    """A U-Net that answers for cells of 4 px: (N, PLANES, H, W) to (N, 1, H / 4, W / 4) logits."""

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        half, cell, wide, widest = widths
        self.stem = nn.Sequential(_convolve(PLANES, half, 4, 2), _convolve(half, cell, 3, 2))
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


def to_planes(pixels: Tensor, reference: Tensor, spread: Tensor) -> Tensor:
    """(N, PLANES, H, W) of three (N, 3, H, W) in grey levels: the picture, its difference, that in spreads."""
    difference = pixels - reference
    spreads = (difference.abs() / (spread + SPREAD_FLOOR)).amax(dim=1, keepdim=True).clamp(max=MOST_SPREADS)
    return torch.cat([pixels / 255.0 - 0.5, difference * (DIFFERENCE_GAIN / 255.0), spreads / 4.0], dim=1)


def find_loss(net: nn.Module, samples: Sequence[TrainingSample], device: str = "cpu") -> Tensor:
    """Weighted cross entropy of a batch."""
    pixels, reference, spread, target, weight = (
        torch.from_numpy(np.stack([getattr(sample, name) for sample in samples])).to(device)
        for name in ("pixels", "reference", "spread", "target", "weight")
    )
    planes = to_planes(*(levels.permute(0, 3, 1, 2) for levels in (pixels, reference, spread)))
    found = net(planes.contiguous(memory_format=torch.channels_last))[:, 0].float()
    cost = weight * (1.0 + (DEFECT_WEIGHT - 1.0) * target)
    loss = functional.binary_cross_entropy_with_logits(found, target, weight=cost, reduction="sum")
    return loss / weight.sum()


class ChangeNets(nn.Module):
    """All nets on one picture, from bytes: what is exported."""

    def __init__(self, nets: Sequence[CompareNet]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, pixels: Tensor, reference: Tensor, spread: Tensor, gain: Tensor) -> Tensor:
        levels, stand, steps = (image.permute(2, 0, 1)[None].float() for image in (pixels, reference, spread))
        lit = torch.clamp(levels * gain[:, None, None], 0.0, 255.0)
        planes = to_planes(lit, stand, steps / SPREAD_STEPS)
        return torch.cat([net(planes)[0] for net in self.nets])


def export_nets(nets: nn.Module, picture: BgrImage, good: GoodPart) -> bytes:
    """The nets as ONNX; `FitError` when ONNX Runtime computes something else than PyTorch on this picture."""
    rows, columns = (side // STRIDE_PX * STRIDE_PX for side in picture.shape[:2])
    images = {"pixels": picture, "reference": good.picture, "spread": good.spread}
    inputs = {name: np.ascontiguousarray(image[:rows, :columns]) for name, image in images.items()}
    inputs["gain"] = np.array([1.1, 1.0, 0.9], np.float32)
    tensors = tuple(torch.from_numpy(values) for values in inputs.values())
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The other exporter needs a package more.
        warnings.simplefilter("ignore", DeprecationWarning)
        path = Path(folder) / "nets.onnx"
        sizes = {0: "rows", 1: "columns"}
        torch.onnx.export(
            nets,
            tensors,
            path,
            input_names=list(inputs),
            output_names=["changes"],
            dynamic_axes={**dict.fromkeys(images, sizes), "changes": {1: "cell_rows", 2: "cell_columns"}},
            opset_version=OPSET,
            dynamo=False,
        )
        graph = path.read_bytes()
    with torch.no_grad():
        expected = nets(*tensors).numpy()
    (found,) = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, inputs)
    difference = float(np.abs(expected - found).max())
    if not difference <= MOST_DIFFERENCE:
        raise FitError(f"the exported net differs from the trained one by {difference:.2g}; it was not used")
    return graph
