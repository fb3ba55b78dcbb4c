"""Export: a float32 graph becomes its shipped form, in float32 or in 8 bits (QDQ), with placeholders for the weights.

What is quantized is said by `ranges`: each tensor named there is rounded to 8 unsigned bits. The rules that ONNX
Runtime's fused kernels ask for are applied here: nothing is rounded between a node and a Relu or Clip that alone
reads it, what only moves values keeps the scale of its input, and weights are signed, one scale per output channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from inspector.errors import WeightsError
from inspector.generator.int8_graph import is_placeholder

LEVELS = 255
SMALLEST_SCALE = 1e-8
_ABSORBED = frozenset({"Relu", "Clip"})
_MOVES = frozenset({"DepthToSpace", "SpaceToDepth", "Transpose", "Reshape", "Slice", "MaxPool", "Identity"})


def take_weights(graph: bytes) -> dict[str, NDArray[np.float32]]:
    """Weights and biases of a graph's convolutions, by name, as `store_tensor` takes them."""
    model = onnx.load_from_string(graph)
    wanted = _weight_names(model.graph)
    return {
        tensor.name: np.asarray(numpy_helper.to_array(tensor), np.float32)
        for tensor in model.graph.initializer
        if tensor.name in wanted
    }


def empty_graph(graph: bytes) -> bytes:
    """The same float32 graph with placeholders for the weights and biases of its convolutions."""
    model = onnx.load_from_string(graph)
    wanted = _weight_names(model.graph)
    for tensor in model.graph.initializer:
        if tensor.name in wanted:
            tensor.CopyFrom(_placeholder(tensor.name, tensor.data_type, list(tensor.dims)))
    return bytes(model.SerializeToString())


def quantize_graph(
    graph: bytes, ranges: Mapping[str, tuple[float, float]], in_float: frozenset[str] = frozenset()
) -> bytes:
    """The QDQ form of a float32 graph, with placeholders for the weights and biases of its convolutions.

    `ranges` holds the lowest and the highest value of each tensor to round; 0 is always represented exactly.
    `in_float` names the weights of convolutions that stay in float32. Raises `WeightsError` when another
    convolution's input or output has no range, because it would silently run in float32.
    """
    model = onnx.load_from_string(graph)
    writer = _QdqWriter(model.graph, ranges, in_float)
    for tensor in model.graph.input:
        writer.round(tensor.name)
    for node in model.graph.node:
        writer.copy(node)
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(writer.nodes)
    model.graph.initializer.extend(writer.constants)
    onnx.checker.check_model(_with_zeros(model))
    return bytes(model.SerializeToString())


@dataclass(slots=True)
class _Rounding:
    """The shared scale and zero point of a tensor: names of initializers."""

    scale: str
    zero: str


@dataclass(slots=True)
class _QdqWriter:
    """Copies a graph node by node, with QuantizeLinear and DequantizeLinear where they belong."""

    graph: onnx.GraphProto
    ranges: Mapping[str, tuple[float, float]]
    in_float: frozenset[str]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    _roundings: dict[str, _Rounding] = field(default_factory=dict)
    _weights: set[str] = field(default_factory=set)
    _written: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._weights = _weight_names(self.graph)
        self.constants.extend(tensor for tensor in self.graph.initializer if tensor.name not in self._weights)

    def copy(self, source: onnx.NodeProto) -> None:
        """The node reading the rounded tensors, and the rounding of its outputs."""
        node = onnx.NodeProto()
        node.CopyFrom(source)
        del node.input[:]
        node.input.extend(self._dequantized(name) for name in source.input)
        if source.op_type == "Conv":
            node.input[1:] = self._operands(source)
        self.nodes.append(node)
        if source.op_type in _MOVES or _is_nearest(source):
            self._round_moved(source)
        else:
            for name in source.output:
                self.round(name)

    def round(self, name: str) -> None:
        """Round a tensor by its range, where it has one and no activation absorbs it."""
        if name not in self.ranges or self._absorber(name) is not None:
            return
        low, high = min(0.0, self.ranges[name][0]), max(0.0, self.ranges[name][1])
        scale = max((high - low) / LEVELS, SMALLEST_SCALE)
        zero = int(np.clip(round(-low / scale), 0, LEVELS))
        self._constant(f"{name}_scale", np.array(scale, np.float32))
        self._constant(f"{name}_zero", np.array(zero, np.uint8))
        self._add_rounding(name, _Rounding(f"{name}_scale", f"{name}_zero"))

    def _round_moved(self, node: onnx.NodeProto) -> None:
        rounding = self._roundings.get(node.input[0])
        is_result = node.output[0] in {result.name for result in self.graph.output}
        if rounding is not None and not is_result:
            self._add_rounding(node.output[0], rounding)

    def _add_rounding(self, name: str, rounding: _Rounding) -> None:
        constants = [rounding.scale, rounding.zero]
        self._add("QuantizeLinear", [name, *constants], f"{name}_quantized")
        self._add("DequantizeLinear", [f"{name}_quantized", *constants], f"{name}_rounded")
        self._roundings[name] = rounding

    def _absorber(self, name: str) -> onnx.NodeProto | None:
        """The activation that alone reads a tensor."""
        readers = [node for node in self.graph.node if name in node.input]
        return readers[0] if len(readers) == 1 and readers[0].op_type in _ABSORBED else None

    def _operands(self, node: onnx.NodeProto) -> list[str]:
        """Weight and bias of a convolution: placeholders, dequantized unless it stays in float32."""
        if any(name not in self._weights for name in node.input[1:]):
            raise WeightsError(f"the convolution that makes {node.output[0]} computes its weights")
        if node.input[1] in self.in_float:
            return [self._float_weight(name) for name in node.input[1:]]
        absorber = self._absorber(node.output[0])
        if node.input[0] not in self._roundings:
            raise WeightsError(f"{node.input[0]}, the input of a convolution, has no range")
        rounded = node.output[0] if absorber is None else absorber.output[0]
        if rounded not in self.ranges:
            raise WeightsError(f"{rounded}, the output of a convolution, has no range")
        return [self._integer_weight(name) for name in node.input[1:]]

    def _float_weight(self, name: str) -> str:
        self._add_placeholder(name, TensorProto.FLOAT, self._dims(name))
        return name

    def _integer_weight(self, name: str) -> str:
        """The dequantized placeholder of a weight (4 axes) or a bias (1 axis)."""
        dims = self._dims(name)
        if self._add_placeholder(name, TensorProto.INT32 if len(dims) == 1 else TensorProto.INT8, dims):
            self._add_placeholder(f"{name}_scale", TensorProto.FLOAT, dims[:1])
            self._add("DequantizeLinear", [name, f"{name}_scale"], f"{name}_rounded", axis=0)
        return f"{name}_rounded"

    def _dims(self, name: str) -> list[int]:
        return next(list(tensor.dims) for tensor in self.graph.initializer if tensor.name == name)

    def _add_placeholder(self, name: str, kind: int, dims: list[int]) -> bool:
        """False when it is there: convolutions may share weights."""
        if name in self._written:
            return False
        self._written.add(name)
        self.constants.append(_placeholder(name, kind, dims))
        return True

    def _dequantized(self, name: str) -> str:
        return f"{name}_rounded" if name in self._roundings else name

    def _constant(self, name: str, values: NDArray[Any]) -> None:
        self.constants.append(numpy_helper.from_array(values, name))

    def _add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))


def _weight_names(graph: onnx.GraphProto) -> set[str]:
    constants = {tensor.name for tensor in graph.initializer}
    used = {name for node in graph.node if node.op_type == "Conv" for name in node.input[1:]}
    return used & constants


def _is_nearest(node: onnx.NodeProto) -> bool:
    modes = [attribute.s for attribute in node.attribute if attribute.name == "mode"]
    return bool(node.op_type == "Resize" and (modes or [b"nearest"]) == [b"nearest"])


def _placeholder(name: str, kind: int, dims: list[int]) -> onnx.TensorProto:
    return onnx.TensorProto(name=name, data_type=kind, dims=dims)


def _with_zeros(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose placeholders hold zeros, which the checker accepts."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if is_placeholder(tensor):
            kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
            tensor.CopyFrom(numpy_helper.from_array(np.zeros(tuple(tensor.dims), kind), tensor.name))
    return copy
