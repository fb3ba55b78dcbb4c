"""The patch classifier of template recipes: a small convolutional net, taught in numpy, exported to ONNX.

Three convolutions with stride 2, one hidden layer, two heads: a class (0 is "nothing") and the four edges of the
box. Training needs no extra library; inference runs the exported graph, several nets side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from inspector.detector.graphs import GraphBuilder
from inspector.detector.template_patches import FACTS, PATCH_PX, Floats

Weights: TypeAlias = list[Floats]
"""Weight and bias of the three convolutions (rows ordered kernel row, kernel column, channel), the hidden layer and
the heads."""

CONVOLUTIONS = ((5, 2, 2, 16), (3, 2, 1, 32), (3, 2, 1, 64))
"""Kernel side, stride, padding, channels."""
INPUT_CHANNELS = 3
HIDDEN = 96
DROPPED = 0.2
EDGES = 4
LABEL_SMOOTHING = 0.05
EDGE_SLOPE = 4.0
"""The loss of an edge turns from squared to absolute at 1 / `EDGE_SLOPE` units (6 px)."""
FIRST_DECAY, SECOND_DECAY, WEIGHT_DECAY = 0.9, 0.999, 1e-4


def convolution_outputs() -> int:
    """Values that the last convolution hands to the hidden layer, for a patch."""
    side = PATCH_PX
    for kernel, stride, padding, _ in CONVOLUTIONS:
        side = (side + 2 * padding - kernel) // stride + 1
    return side * side * CONVOLUTIONS[-1][3]


def random_weights(classes: int, random: np.random.Generator) -> Weights:
    """He initialisation; `classes` counts "nothing" too."""
    shapes = []
    channels = INPUT_CHANNELS
    for kernel, _, _, out in CONVOLUTIONS:
        shapes.append((kernel * kernel * channels, out, 2.0))
        channels = out
    shapes += [(convolution_outputs() + FACTS, HIDDEN, 2.0), (HIDDEN, classes + EDGES, 1.0)]
    weights: Weights = []
    for inputs, outputs, gain in shapes:
        weights.append((random.standard_normal((inputs, outputs)) * np.sqrt(gain / inputs)).astype(np.float32))
        weights.append(np.zeros(outputs, np.float32))
    return weights


@dataclass(slots=True)
class _Pass:
    """What the backward pass needs of the forward one."""

    columns: list[Floats]
    shapes: list[tuple[int, ...]]
    maps: list[Floats]
    features: Floats
    hidden: Floats
    kept: Floats
    answers: Floats


class NetTrainer:
    """Adam (Kingma and Ba 2015) on cross entropy and a smooth absolute loss of the edges. Deterministic from a seed."""

    def __init__(self, classes: int, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._classes = classes
        self.weights = random_weights(classes, self._random)
        self._mean = [np.zeros_like(weight) for weight in self.weights]
        self._square = [np.zeros_like(weight) for weight in self.weights]
        self._steps = 0

    def learn(self, patches: Floats, facts: Floats, labels: NDArray[np.int64], edges: Floats, rate: float) -> None:
        """One step on a batch: (N, 48, 48, 3), (N, facts), (N,), (N, 4); edges count where the label is not 0."""
        forward = self._forward(patches, facts)
        slopes = self._slopes(forward.answers, labels, edges)
        self._update(self._backward(forward, slopes), rate)

    def _forward(self, patches: Floats, facts: Floats) -> _Pass:
        columns, shapes, maps = [], [], []
        source = patches
        for index, (kernel, stride, padding, channels) in enumerate(CONVOLUTIONS):
            unrolled, grid = unroll(source, kernel, stride, padding)
            answer = unrolled @ self.weights[2 * index] + self.weights[2 * index + 1]
            np.maximum(answer, 0, out=answer)
            columns.append(unrolled)
            shapes.append(source.shape)
            maps.append(answer)
            source = answer.reshape(*grid, channels)
        features = np.concatenate([source.reshape(len(source), -1), facts], axis=1)
        hidden = np.maximum(features @ self.weights[6] + self.weights[7], 0)
        kept = (self._random.random(hidden.shape, np.float32) >= DROPPED).astype(np.float32) / np.float32(1 - DROPPED)
        hidden = hidden * kept
        return _Pass(columns, shapes, maps, features, hidden, kept, hidden @ self.weights[8] + self.weights[9])

    def _slopes(self, answers: Floats, labels: NDArray[np.int64], edges: Floats) -> Floats:
        """The derivative of the loss by the answers."""
        wanted = np.eye(self._classes, dtype=np.float32)[labels]
        wanted = wanted * np.float32(1 - LABEL_SMOOTHING) + np.float32(LABEL_SMOOTHING / self._classes)
        slopes = np.empty_like(answers)
        slopes[:, : self._classes] = softmax(answers[:, : self._classes]) - wanted
        off = np.clip((answers[:, self._classes :] - edges) * np.float32(EDGE_SLOPE), -1.0, 1.0)
        slopes[:, self._classes :] = off * (labels > 0)[:, None]
        return slopes / np.float32(len(labels))

    def _backward(self, forward: _Pass, slopes: Floats) -> Weights:
        weights = self.weights
        hidden = (slopes @ weights[8].T) * (forward.hidden > 0) * forward.kept
        tail = [forward.features.T @ hidden, hidden.sum(axis=0), forward.hidden.T @ slopes, slopes.sum(axis=0)]
        source: Floats = np.asarray((hidden @ weights[6].T)[:, :-FACTS], np.float32)
        gradients: Weights = []
        for index in reversed(range(len(CONVOLUTIONS))):
            answer = forward.maps[index]
            sloped = np.asarray(source.reshape(answer.shape) * (answer > 0), np.float32)
            gradients = [forward.columns[index].T @ sloped, sloped.sum(axis=0), *gradients]
            if index:
                source = roll_up(sloped @ weights[2 * index].T, forward.shapes[index], *CONVOLUTIONS[index][:3])
        return [*gradients, *tail]

    def _update(self, gradients: Weights, rate: float) -> None:
        self._steps += 1
        bias = (1 - FIRST_DECAY**self._steps, 1 - SECOND_DECAY**self._steps)
        for weight, mean, square, gradient in zip(self.weights, self._mean, self._square, gradients, strict=True):
            mean += np.float32(1 - FIRST_DECAY) * (gradient - mean)
            square += np.float32(1 - SECOND_DECAY) * (gradient * gradient - square)
            step = mean / np.float32(bias[0]) / (np.sqrt(square / np.float32(bias[1])) + np.float32(1e-8))
            if weight.ndim > 1:
                step += np.float32(WEIGHT_DECAY) * weight
            weight -= np.float32(rate) * step


def softmax(answers: Floats) -> Floats:
    """(N, K) probabilities."""
    raised = np.exp(answers - answers.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float32)


def unroll(source: Floats, kernel: int, stride: int, padding: int) -> tuple[Floats, tuple[int, int, int]]:
    """The windows of a convolution over (N, H, W, C) as rows, with (N, rows, columns) of their grid."""
    count, height, width, channels = source.shape
    padded = np.zeros((count, height + 2 * padding, width + 2 * padding, channels), np.float32)
    padded[:, padding : padding + height, padding : padding + width] = source
    rows, columns = ((side + 2 * padding - kernel) // stride + 1 for side in (height, width))
    windows = np.empty((count, rows, columns, kernel * kernel, channels), np.float32)
    for y in range(kernel):
        for x in range(kernel):
            windows[:, :, :, y * kernel + x] = padded[
                :, y : y + stride * rows : stride, x : x + stride * columns : stride
            ]
    return windows.reshape(count * rows * columns, -1), (count, rows, columns)


def roll_up(windows: Floats, shape: tuple[int, ...], kernel: int, stride: int, padding: int) -> Floats:
    """The transpose of `unroll`: what each pixel of (N, H, W, C) gets from the windows it was part of."""
    count, height, width, channels = shape
    rows, columns = ((side + 2 * padding - kernel) // stride + 1 for side in (height, width))
    windows = windows.reshape(count, rows, columns, kernel * kernel, channels)
    padded = np.zeros((count, height + 2 * padding, width + 2 * padding, channels), np.float32)
    for y in range(kernel):
        for x in range(kernel):
            padded[:, y : y + stride * rows : stride, x : x + stride * columns : stride] += windows[
                :, :, :, y * kernel + x
            ]
    return padded[:, padding : padding + height, padding : padding + width]


def export_nets(nets: list[Weights]) -> bytes:
    """One ONNX graph of all nets: `patches` (N, 48, 48, 3) float32 and `facts` (N, facts) float32 in.

    Out: `answers`, (N, nets, classes + 4) float32; the classes are not yet probabilities.
    """
    graph = GraphBuilder()
    graph.add("Transpose", ["patches"], "planes", perm=[0, 3, 1, 2])
    answers = [_add_net(graph, f"net{index}", weights) for index, weights in enumerate(nets)]
    graph.add("Concat", answers, "answers", axis=1)
    inputs = [
        helper.make_tensor_value_info("patches", TensorProto.FLOAT, ["count", PATCH_PX, PATCH_PX, INPUT_CHANNELS]),
        helper.make_tensor_value_info("facts", TensorProto.FLOAT, ["count", FACTS]),
    ]
    width = len(nets[0][9])
    output = helper.make_tensor_value_info("answers", TensorProto.FLOAT, ["count", len(nets), width])
    return graph.model("template_patches", inputs, output)


def _add_net(graph: GraphBuilder, name: str, weights: Weights) -> str:
    source, channels = "planes", INPUT_CHANNELS
    for index, (kernel, stride, padding, out) in enumerate(CONVOLUTIONS):
        rolled = weights[2 * index].reshape(kernel, kernel, channels, out).transpose(3, 2, 0, 1)
        filters = graph.constant(f"{name}_filters{index}", np.ascontiguousarray(rolled))
        bias = graph.constant(f"{name}_bias{index}", weights[2 * index + 1])
        shape: dict[str, Any] = {"strides": [stride] * 2, "pads": [padding] * 4, "kernel_shape": [kernel] * 2}
        graph.add("Conv", [source, filters, bias], f"{name}_conv{index}", **shape)
        source, channels = graph.add("Relu", [f"{name}_conv{index}"], f"{name}_map{index}"), out
    graph.add("Transpose", [source], f"{name}_last", perm=[0, 2, 3, 1])
    graph.add("Flatten", [f"{name}_last"], f"{name}_flat", axis=1)
    graph.add("Concat", [f"{name}_flat", "facts"], f"{name}_features", axis=1)
    hidden = [graph.constant(f"{name}_{what}", weights[index]) for index, what in ((6, "hidden"), (7, "hidden_bias"))]
    graph.add("Gemm", [f"{name}_features", *hidden], f"{name}_sum")
    graph.add("Relu", [f"{name}_sum"], f"{name}_kept")
    heads = [graph.constant(f"{name}_{what}", weights[index]) for index, what in ((8, "heads"), (9, "heads_bias"))]
    graph.add("Gemm", [f"{name}_kept", *heads], f"{name}_heads_out")
    axis = graph.constant(f"{name}_axis", np.array([1], np.int64))
    return graph.add("Unsqueeze", [f"{name}_heads_out", axis], f"{name}_answers")
