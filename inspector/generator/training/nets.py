"""The repair net in PyTorch: a reference encoder whose output is cached, and a one-step trunk.

All convolutions run at a quarter of the resolution or less (space to depth first, depth to space last), without
attention and without normalisation, so that a tile gives the same pixels wherever it is cut. Tensors are
(N, C, H, W) float32, images 0..1, H and W multiples of `STRIDE_PX`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDE_PX = 32
CELL_PX = 4
REFERENCE_CELL_PX = 8
TARGET_CHANNELS = 7
"""What the frame differs from the base around the hole (3), base (3), hole (1)."""
RESIDUAL_GAIN = 4.0
"""Differences are small; so they have about the spread of the base."""


class Block(nn.Module):
    """Two 3x3 convolutions beside a straight way without an activation, so that the signal can never die out on it."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(functional.relu(self.first(x)))


class ReferenceEncoder(nn.Module):
    """(N, 3, H, W) of one reference → (N, C, H / 8, W / 8). It sees nothing of the frame, so it is cached exactly."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3 * CELL_PX**2, width, 3, padding=1)
        self.down = nn.Conv2d(width, channels, 3, stride=2, padding=1)
        self.last = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, reference: Tensor) -> Tensor:
        cells = functional.pixel_unshuffle(reference - 0.5, CELL_PX)
        halved = functional.relu(self.down(functional.relu(self.stem(cells))))
        return self.last(halved)


class RepairTrunk(nn.Module):
    """Masked frame, base, mask and the mean of the reference features → residual over the base, (N, 3, H, W)."""

    def __init__(self, widths: tuple[int, int, int, int], reference_channels: int) -> None:
        super().__init__()
        a, b, c, d = widths
        self.stem = nn.Conv2d(TARGET_CHANNELS * CELL_PX**2, a, 1)
        self.enter_a = Block(a)
        self.down_b = nn.Conv2d(a, b, 3, stride=2, padding=1)
        self.fuse = nn.Conv2d(b + reference_channels, b, 1)
        self.enter_b = Block(b)
        self.down_c = nn.Conv2d(b, c, 3, stride=2, padding=1)
        self.enter_c = Block(c)
        self.down_d = nn.Conv2d(c, d, 3, stride=2, padding=1)
        self.middle = nn.Sequential(Block(d), Block(d, dilation=2))
        self.up_c = nn.Conv2d(d, c, 1)
        self.leave_c = Block(c)
        self.up_b = nn.Conv2d(c, b, 1)
        self.leave_b = Block(b)
        self.up_a = nn.Conv2d(b, a, 1)
        self.leave_a = Block(a)
        self.last = nn.Conv2d(a, 3 * CELL_PX**2, 1)

    def forward(self, target: Tensor, features: Tensor) -> Tensor:
        """`target` is (N, 7, H, W): `RESIDUAL_GAIN` (frame - base), 0 in the hole; base - 0.5; hole."""
        cells = functional.pixel_unshuffle(target, CELL_PX)
        at_a = self.enter_a(self.stem(cells))
        at_b = self.down_b(at_a)
        at_b = self.enter_b(self.fuse(torch.cat([at_b, features], dim=1)))
        at_c = self.enter_c(self.down_c(at_b))
        at_d = self.middle(self.down_d(at_c))
        at_c = self.leave_c(at_c + _double(self.up_c(at_d)))
        at_b = self.leave_b(at_b + _double(self.up_b(at_c)))
        at_a = self.leave_a(at_a + _double(self.up_a(at_b)))
        return functional.pixel_shuffle(self.last(at_a), CELL_PX)


class RepairNet(nn.Module):
    """Encoder and trunk as they are trained; they are exported apart."""

    def __init__(self, widths: tuple[int, int, int, int], reference_width: int, reference_channels: int) -> None:
        super().__init__()
        self.encoder = ReferenceEncoder(reference_width, reference_channels)
        self.trunk = RepairTrunk(widths, reference_channels)
        start_evenly(self)

    def forward(self, target: Tensor, references: Tensor, weights: Tensor) -> Tensor:
        """`references` (N, K, 3, H, W) 0..1; `weights` (N, K) sum to 1, or are all 0 where there is no reference."""
        count, kept = references.shape[:2]
        features = self.encoder(references.flatten(0, 1)).unflatten(0, (count, kept))
        return self.trunk(target, (features * weights[:, :, None, None, None]).sum(dim=1))


def start_evenly(net: RepairNet) -> None:
    """Signals keep their size through the depth (He et al., 2015), blocks start nearly straight, the residual at 0."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in net.modules():
        if isinstance(module, Block):
            with torch.no_grad():
                module.second.weight.mul_(0.3)
    nn.init.normal_(net.trunk.last.weight, std=1e-3)


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="nearest")
