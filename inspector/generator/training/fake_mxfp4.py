"""Training with the weights as they will be stored: MXFP4 whose rows fold exactly into int8 (see `generator.mxfp4`).

The forward pass sees rounded weights, the gradient passes straight through (Bengio et al., 2013).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from inspector.generator.mxfp4 import BLOCK

LARGEST_ELEMENT = 6.0
LARGEST_ELEMENT_EXPONENT = 2
FOLDED_SPAN = 3
LOWEST_EXPONENT = -100
KEPT_WHOLE = ("stem", "last")
"""The first and the last convolution of a net hold few weights and are stored as int8 rows."""


class FakeMxfp4(nn.Module):
    """A parametrisation of one convolution's weight."""

    def forward(self, weight: Tensor) -> Tensor:
        rounded = round_to_mxfp4(weight.detach())
        return weight + (rounded - weight).detach()


def round_to_mxfp4(weight: Tensor) -> Tensor:
    """(out, ...) float32 → the nearest values that MXFP4 can hold, block exponents within 3 of the row's largest."""
    rows = weight.flatten(1)
    columns = rows.shape[1]
    blocks = functional.pad(rows, (0, -columns % BLOCK)).unflatten(1, (-1, BLOCK))
    largest = blocks.abs().amax(dim=2, keepdim=True)
    exponent = torch.floor(torch.log2(largest.clamp_min(2.0**LOWEST_EXPONENT))) - LARGEST_ELEMENT_EXPONENT
    exponent = torch.maximum(exponent, exponent.amax(dim=1, keepdim=True) - FOLDED_SPAN)
    plain = _round_elements(blocks, exponent)
    raised = _round_elements(blocks, exponent + 1.0)
    # One step up loses the saturation of the largest value and some resolution: whichever errs less is kept.
    better = ((raised - blocks) ** 2).sum(dim=2, keepdim=True) < ((plain - blocks) ** 2).sum(dim=2, keepdim=True)
    top = exponent.amax(dim=1, keepdim=True)
    better &= exponent < top
    chosen = torch.where(better, raised, plain)
    return chosen.flatten(1)[:, :columns].reshape(weight.shape)


def _round_elements(values: Tensor, exponent: Tensor) -> Tensor:
    """Onto ±{0, .5, 1, 1.5, 2, 3, 4, 6} times 2 to the exponent, ties to the even mantissa."""
    unit = torch.exp2(exponent)
    magnitude = (values / unit).abs().clamp_max(LARGEST_ELEMENT)
    step = torch.exp2(torch.floor(torch.log2(magnitude.clamp_min(1.0))) - 1.0)
    return torch.sign(values) * torch.round(magnitude / step) * step * unit


def fake_quantize(net: nn.Module) -> None:
    """Make every convolution but the first and the last ones train with rounded weights."""
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d) and not is_kept_whole(name):
            parametrize.register_parametrization(module, "weight", FakeMxfp4())


def bake(net: nn.Module) -> None:
    """Leave the rounded weights as plain parameters."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


def is_kept_whole(name: str) -> bool:
    """Whether a convolution is stored as int8."""
    return name.rsplit(".", 1)[-1] in KEPT_WHOLE
