"""The filter bank for surfaces: spots, lines and steps at several sizes on the logarithm of the light.

Same contract as the part bank: (H + 2 * MARGIN_PX, W + 2 * MARGIN_PX, 3) uint8 BGR in, (C, H / 4, W / 4)
float32 out, no padding inside. Each linear filter gives two channels, its positive and its negative part.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from inspector.detector.features import MARGIN_PX
from inspector.detector.graphs import GraphBuilder

FINE_PX, COARSE_PX = 7, 9
"""Kernel sides, in pixels of the halved and of the quartered image."""
ORIENTATIONS = 8


def _grid(side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    half = side // 2
    ys, xs = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    return xs, ys


def _normalise(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Zero mean and unit energy, so that white noise gives every filter the same response."""
    kernel = kernel - kernel.mean()
    return np.asarray(kernel / np.sqrt((kernel**2).sum()), np.float64)


def spot(side: int, sigma: float) -> NDArray[np.float64]:
    """Difference of Gaussians."""
    xs, ys = _grid(side)
    square = xs**2 + ys**2
    inner = np.exp(-square / (2 * sigma**2)) / sigma**2
    outer = np.exp(-square / (2 * (1.6 * sigma) ** 2)) / (1.6 * sigma) ** 2
    return _normalise(inner - outer)


def line(side: int, sigma: float, length: float, angle: float) -> NDArray[np.float64]:
    """Second derivative of a Gaussian across, Gaussian of `length` along `angle`."""
    xs, ys = _grid(side)
    along, across = xs * np.cos(angle) + ys * np.sin(angle), -xs * np.sin(angle) + ys * np.cos(angle)
    profile = (1.0 - across**2 / sigma**2) * np.exp(-(across**2) / (2 * sigma**2))
    return _normalise(profile * np.exp(-(along**2) / (2 * length**2)))


def step(side: int, sigma: float, length: float, angle: float) -> NDArray[np.float64]:
    """First derivative of a Gaussian across, Gaussian of `length` along `angle`."""
    xs, ys = _grid(side)
    along, across = xs * np.cos(angle) + ys * np.sin(angle), -xs * np.sin(angle) + ys * np.cos(angle)
    return _normalise(across * np.exp(-(across**2) / (2 * sigma**2)) * np.exp(-(along**2) / (2 * length**2)))


def fine_kernels() -> NDArray[np.float32]:
    """(10, 1, 7, 7): two spots and eight thin lines."""
    angles = np.arange(ORIENTATIONS) * np.pi / ORIENTATIONS
    kernels = [spot(FINE_PX, 0.8), spot(FINE_PX, 1.3), *(line(FINE_PX, 0.8, 2.2, angle) for angle in angles)]
    return np.stack(kernels)[:, None].astype(np.float32)


def coarse_kernels() -> NDArray[np.float32]:
    """(14, 1, 9, 9): two spots, eight wide lines, four steps."""
    angles = np.arange(ORIENTATIONS) * np.pi / ORIENTATIONS
    kernels = [spot(COARSE_PX, 1.1), spot(COARSE_PX, 1.8)]
    kernels += [line(COARSE_PX, 0.8, 2.5, angle) for angle in angles]
    kernels += [step(COARSE_PX, 1.25, 2.0, angle) for angle in angles[::2]]
    return np.stack(kernels)[:, None].astype(np.float32)


def build_surface_bank() -> bytes:
    """The compiled bank. Order of channels: fine +/-, coarse +/-, colour +/-, fine energy."""
    graph = GraphBuilder()
    graph.add("Cast", ["pixels"], "samples", to=TensorProto.FLOAT)
    graph.add("Transpose", ["samples"], "planes3", perm=[2, 0, 1])
    graph.add("Unsqueeze", ["planes3", graph.constant("batch_axis", np.array([0], np.int64))], "planes")
    mixing = np.array([[1, 1, 1], [0, -1.5, 1.5], [1.5, -0.75, -0.75]]) / 3.0
    halve = np.einsum("oc,hw->ochw", mixing, np.full((2, 2), 0.25)).astype(np.float32)
    graph.add("Conv", ["planes", graph.constant("halve", halve)], "half", strides=[2, 2])
    graph.add("Split", ["half", graph.constant("kinds", np.array([1, 2], np.int64))], "grey", axis=1)
    graph.nodes[-1].output.append("tint")
    graph.add("Add", ["grey", graph.constant("dark", np.array(4.0, np.float32))], "lifted")
    graph.add("Log", ["lifted"], "light")
    graph.add("Mul", ["tint", graph.constant("tint_scale", np.array(1 / 128, np.float32))], "tint_scaled")
    margin = MARGIN_PX // 2
    fine = _signed(graph, graph.crop("light", "fine_input", margin - FINE_PX // 2), "fine", fine_kernels())
    graph.add("MaxPool", [fine], "fine_cells", kernel_shape=[2, 2], strides=[2, 2])
    graph.add("AveragePool", [fine], "fine_energy", kernel_shape=[2, 2], strides=[2, 2])
    graph.add("ReduceMean", ["fine_energy"], "fine_mean", axes=[1], keepdims=1)
    # One pixel of the odd margin goes, so that quarters line up with cells; the rest is the kernel's reach.
    graph.add("Concat", ["light", "tint_scaled"], "light_and_tint", axis=1)
    even = graph.crop("light_and_tint", "even", margin - 2 * (COARSE_PX // 2))
    graph.add("AveragePool", [even], "quarter", kernel_shape=[2, 2], strides=[2, 2])
    graph.add("Split", ["quarter", graph.constant("quarter_kinds", np.array([1, 2], np.int64))], "light_4", axis=1)
    graph.nodes[-1].output.append("tint_4")
    coarse = _signed(graph, "light_4", "coarse", coarse_kernels())
    tint_kernel = np.zeros((2, 2, COARSE_PX, COARSE_PX), np.float32)
    tint_kernel[0, 0] = tint_kernel[1, 1] = spot(COARSE_PX, 1.25)
    tint = _signed(graph, "tint_4", "colour", tint_kernel)
    graph.add("Concat", ["fine_cells", coarse, tint, "fine_mean"], "features", axis=1)
    return graph.bank("surface_bank", "features")


def _signed(graph: GraphBuilder, source: str, name: str, kernels: NDArray[np.float32]) -> str:
    """Convolve; positive and negative parts as separate channels."""
    graph.add("Conv", [source, graph.constant(f"{name}_kernels", kernels)], f"{name}_linear")
    graph.add("Relu", [f"{name}_linear"], f"{name}_positive")
    graph.add("Relu", [graph.add("Neg", [f"{name}_linear"], f"{name}_opposite")], f"{name}_negative")
    return graph.add("Concat", [f"{name}_positive", f"{name}_negative"], f"{name}_parts", axis=1)
