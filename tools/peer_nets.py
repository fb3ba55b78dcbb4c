"""The nets that anomaly detectors of the field run on every frame, as ONNX graphs of the published shapes.

Random weights: they stand for the cost and say nothing about accuracy. Shapes from: ResNet (He et al. 2016) and
WideResNet-50-2 (Zagoruyko and Komodakis 2016) as PaDiM (Defard et al. 2021) and PatchCore (Roth et al. 2022) use
them, and the small patch description network of EfficientAD (Batzner et al. 2024), teacher and student.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8


class NetBuilder:
    """Adds layers to one graph; every method takes and returns the name of a tensor of known channels."""

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self.channels: dict[str, int] = {"image": 3}

    def conv(
        self, source: str, channels: int, side: int, *, stride: int = 1, pad: int | None = None, relu: bool = True
    ) -> str:
        """A convolution with bias (batch normalisation is folded into it), then a rectifier."""
        name, before = f"t{len(self._nodes)}", self.channels[source]
        weights = self._random.normal(0.0, (2.0 / (before * side * side)) ** 0.5, (channels, before, side, side))
        self._weights.append(numpy_helper.from_array(weights.astype(np.float32), f"{name}_w"))
        self._weights.append(numpy_helper.from_array(np.zeros(channels, np.float32), f"{name}_b"))
        pads = [side // 2 if pad is None else pad] * 4
        inputs = [source, f"{name}_w", f"{name}_b"]
        self._nodes.append(helper.make_node("Conv", inputs, [name], strides=[stride, stride], pads=pads))
        self.channels[name] = channels
        return self.relu(name) if relu else name

    def relu(self, source: str) -> str:
        return self._add("Relu", [source], self.channels[source])

    def add(self, one: str, other: str) -> str:
        return self.relu(self._add("Add", [one, other], self.channels[one]))

    def max_pool(self, source: str) -> str:
        return self._add(
            "MaxPool", [source], self.channels[source], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]
        )

    def mean_pool(self, source: str) -> str:
        return self._add("AveragePool", [source], self.channels[source], kernel_shape=[2, 2], strides=[2, 2])

    def mean(self, source: str, name: str) -> None:
        """A number from a layer, so that what is timed is the net and not the copying of its output."""
        self._nodes.append(helper.make_node("ReduceMean", [source], [name], keepdims=0))

    def model(self, outputs: list[str]) -> bytes:
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "height", "width"])
        results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in outputs]
        graph = helper.make_graph(self._nodes, "peer", [image], results, self._weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR_VERSION
        encoded: bytes = model.SerializeToString()
        return encoded

    def _add(self, op: str, inputs: list[str], channels: int, **attributes: Any) -> str:
        name = f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [name], **attributes))
        self.channels[name] = channels
        return name


def resnet18_padim() -> bytes:
    """ResNet-18 up to its third stage, whose three outputs PaDiM compares. Without the comparison."""
    net = NetBuilder()
    layer = net.max_pool(net.conv("image", 64, 7, stride=2))
    outputs = []
    for stage, channels in enumerate((64, 128, 256)):
        for block in range(2):
            stride = 2 if stage > 0 and block == 0 else 1
            inner = net.conv(net.conv(layer, channels, 3, stride=stride), channels, 3, relu=False)
            same = stride == 1 and net.channels[layer] == channels
            layer = net.add(inner, layer if same else net.conv(layer, channels, 1, stride=stride, pad=0, relu=False))
        net.mean(layer, f"stage{stage}")
        outputs.append(f"stage{stage}")
    return net.model(outputs)


def wide_resnet50_patchcore() -> bytes:
    """WideResNet-50-2 up to its third stage, whose last two outputs PatchCore compares. Without the neighbours."""
    net = NetBuilder()
    layer = net.max_pool(net.conv("image", 64, 7, stride=2))
    outputs = []
    for stage, (width, channels, blocks) in enumerate(((128, 256, 3), (256, 512, 4), (512, 1024, 6))):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            inner = net.conv(net.conv(layer, width, 1, pad=0), width, 3, stride=stride)
            inner = net.conv(inner, channels, 1, pad=0, relu=False)
            same = stride == 1 and net.channels[layer] == channels
            layer = net.add(inner, layer if same else net.conv(layer, channels, 1, stride=stride, pad=0, relu=False))
        if stage > 0:
            net.mean(layer, f"stage{stage}")
            outputs.append(f"stage{stage}")
    return net.model(outputs)


def efficientad_small() -> bytes:
    """EfficientAD-S: the patch description network as teacher (384 channels) and as student (768)."""
    net = NetBuilder()
    outputs = []
    for name, channels in (("teacher", 384), ("student", 768)):
        layer = net.mean_pool(net.conv("image", 128, 4, pad=0))
        layer = net.mean_pool(net.conv(layer, 256, 4, pad=0))
        layer = net.conv(layer, 256, 3, pad=0)
        net.mean(net.conv(layer, channels, 4, pad=0, relu=False), name)
        outputs.append(name)
    return net.model(outputs)


PEERS = {
    "ResNet-18 (PaDiM)": resnet18_padim,
    "WideResNet-50-2 (PatchCore)": wide_resnet50_patchcore,
    "EfficientAD-S teacher + student": efficientad_small,
}
