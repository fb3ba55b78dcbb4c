"""The low-light net in torch: three resolutions, no norms, a residual on the brightened frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from inspector.generator.exposure.brightening import CHANNELS

COLOURS = 3
SHRINK = 2
"""The stem's SpaceToDepth: nothing runs at full resolution."""
MULTIPLE_PX = 8
"""Sides of the input are multiples of this."""


def zero(layer: nn.Conv2d) -> None:
    """A convolution that says nothing yet."""
    for values in layer.parameters():
        nn.init.zeros_(values)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        zero(self.second)

    def forward(self, source: Tensor) -> Tensor:
        return source + self.second(functional.relu(self.first(source)))


class ExposureNet(nn.Module):
    """(N, 6, H, W) brightened values and their noise → (N, 3, H, W) values without it.

    Half, quarter and eighth resolution with `widths` channels; `blocks` residual blocks on the way down, again on
    the way up, and at the bottom.
    """

    def __init__(self, widths: tuple[int, int, int], blocks: tuple[int, int, int]) -> None:
        super().__init__()
        half, quarter, eighth = widths
        self.stem = nn.Conv2d(CHANNELS * SHRINK**2, half, 3, padding=1)
        self.down_half = _chain(half, blocks[0])
        self.to_quarter = nn.Conv2d(half, quarter, 2, stride=2)
        self.down_quarter = _chain(quarter, blocks[1])
        self.to_eighth = nn.Conv2d(quarter, eighth, 2, stride=2)
        self.bottom = _chain(eighth, blocks[2])
        self.from_eighth = nn.Conv2d(eighth, quarter * SHRINK**2, 1)
        self.up_quarter = _chain(quarter, blocks[1])
        self.from_quarter = nn.Conv2d(quarter, half * SHRINK**2, 1)
        self.up_half = _chain(half, blocks[0])
        self.head = nn.Conv2d(half, COLOURS * SHRINK**2, 3, padding=1)
        zero(self.head)

    def forward(self, source: Tensor) -> Tensor:
        half = self.down_half(self.stem(functional.pixel_unshuffle(source, SHRINK)))
        quarter = self.down_quarter(self.to_quarter(half))
        eighth = self.bottom(self.to_eighth(quarter))
        quarter = self.up_quarter(quarter + functional.pixel_shuffle(self.from_eighth(eighth), SHRINK))
        half = self.up_half(half + functional.pixel_shuffle(self.from_quarter(quarter), SHRINK))
        noise = functional.pixel_shuffle(self.head(half), SHRINK)
        return source[:, :COLOURS] - noise


def _chain(channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))


def reach_px(blocks: tuple[int, int, int]) -> int:
    """How far an input pixel can change the output: the receptive field's radius, rounded up to `MULTIPLE_PX`."""
    radius = 2 * (1 + 4 * blocks[0] + 1) + 4 * 4 * blocks[1] + 8 * 2 * blocks[2] + MULTIPLE_PX
    return -(-radius // MULTIPLE_PX) * MULTIPLE_PX


def count_parameters(net: nn.Module) -> int:
    """How many numbers were learned."""
    return sum(parameter.numel() for parameter in net.parameters())


def log_error(restored: Tensor, truth: Tensor) -> Tensor:
    """Mean over the batch of the log of each crop's squared error: its PSNR, turned round, so that clean and noisy
    crops count alike."""
    error = (restored - truth).square().mean(dim=(1, 2, 3))
    return torch.log(error + 1e-6).mean()
