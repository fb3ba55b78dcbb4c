"""Export: a float32 graph becomes its shipped form, in float32 or in 8 bits (QDQ), with placeholders for the weights.

What is quantized is said by `ranges`: each tensor named there is rounded to 8 unsigned bits. The rules that ONNX
Runtime's fused kernels ask for are applied here: nothing is rounded between a node and a Relu or Clip that alone
reads it, what only moves values moves the integers, and weights are signed, one scale per output channel.
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
    graph: bytes,
    ranges: Mapping[str, tuple[float, float]],
    in_float: frozenset[str] = frozenset(),
    in_bytes: frozenset[str] = frozenset(),
) -> bytes:
    """The QDQ form of a float32 graph, with placeholders for the weights and biases of its convolutions.

    `ranges` holds the lowest and the highest value of each tensor to round; 0 is always represented exactly.
    `in_float` names the weights of convolutions that stay in float32; `in_bytes` inputs of the graph that the caller
    hands over as uint8, rounded: with the range (0, 1) these are the bytes of an image. Raises `WeightsError` when
    another convolution's input or output has no range, because it would silently run in float32.
    """
    model = onnx.load_from_string(graph)
    writer = _QdqWriter(model.graph, ranges, in_float)
    for tensor in model.graph.input:
        writer.take_input(tensor, tensor.name in in_bytes)
    for node in model.graph.node:
        writer.copy(node)
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend(writer.nodes)
    model.graph.initializer.extend(writer.constants)
    onnx.checker.check_model(_with_zeros(model))
    return bytes(model.SerializeToString())


@dataclass(frozen=True, slots=True)
class _Rounding:
    """A tensor in 8 bits: the names of its integers, and of the initializers for their scale and zero point."""

    integers: str
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
    _results: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._weights = _weight_names(self.graph)
        self._results = {result.name for result in self.graph.output}
        self.constants.extend(tensor for tensor in self.graph.initializer if tensor.name not in self._weights)

    def take_input(self, tensor: onnx.ValueInfoProto, is_bytes: bool) -> None:
        """Round an input of the graph, or declare it to be rounded."""
        if not is_bytes:
            self.round(tensor.name)
            return
        if tensor.name not in self.ranges:
            raise WeightsError(f"{tensor.name}, an input in bytes, has no range")
        tensor.type.tensor_type.elem_type = TensorProto.UINT8
        self._keep(tensor.name, self._rounding(tensor.name, tensor.name))

    def copy(self, source: onnx.NodeProto) -> None:
        """The node reading the rounded tensors, and the rounding of its outputs."""
        moved = self._roundings.get(source.input[0]) if _only_moves(source) else None
        node = onnx.NodeProto()
        node.CopyFrom(source)
        if moved is not None:
            node.input[0], node.output[0] = moved.integers, f"{source.output[0]}_quantized"
            self.nodes.append(node)
            self._keep(source.output[0], _Rounding(node.output[0], moved.scale, moved.zero))
            return
        operands = self._operands(source) if source.op_type == "Conv" else []
        node.input[:] = [self._read(name) for name in source.input[: len(source.input) - len(operands)]] + operands
        self.nodes.append(node)
        node.output[:] = [self.round(name) for name in source.output]

    def round(self, name: str) -> str:
        """Round a tensor by its range, where it has one and no activation absorbs it.

        Returns what the node that makes it is to call it: a rounded result of the graph keeps its name to the end.
        """
        if name not in self.ranges or self._absorber(name) is not None:
            return name
        exact = f"{name}_exact" if name in self._results else name
        rounding = self._rounding(name, f"{name}_quantized")
        self._add("QuantizeLinear", [exact, rounding.scale, rounding.zero], rounding.integers)
        self._keep(name, rounding)
        return exact

    def _rounding(self, name: str, integers: str) -> _Rounding:
        low, high = min(0.0, self.ranges[name][0]), max(0.0, self.ranges[name][1])
        if not np.isfinite(self.ranges[name]).all():
            raise WeightsError(f"{name} has the range {self.ranges[name]}")
        scale = max((high - low) / LEVELS, SMALLEST_SCALE)
        zero = int(np.clip(round(-low / scale), 0, LEVELS))
        self._constant(f"{name}_scale", np.array(scale, np.float32))
        self._constant(f"{name}_zero", np.array(zero, np.uint8))
        return _Rounding(integers, f"{name}_scale", f"{name}_zero")

    def _keep(self, name: str, rounding: _Rounding) -> None:
        self._roundings[name] = rounding
        if name in self._results:
            self._dequantize(rounding, name)

    def _dequantize(self, rounding: _Rounding, output: str) -> str:
        if output not in self._written:
            self._written.add(output)
            self._add("DequantizeLinear", [rounding.integers, rounding.scale, rounding.zero], output)
        return output

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
        if name not in self._written:
            self._written.add(name)
            self.constants.append(_placeholder(name, TensorProto.FLOAT, self._dims(name)))
        return name

    def _integer_weight(self, name: str) -> str:
        """The dequantized placeholder of a weight (4 axes) or a bias (1 axis)."""
        if name in self._written:
            raise WeightsError(f"two convolutions share {name}; what a bias counts depends on its convolution's input")
        self._written.add(name)
        dims = self._dims(name)
        kind = TensorProto.INT32 if len(dims) == 1 else TensorProto.INT8
        self.constants.append(_placeholder(name, kind, dims))
        self.constants.append(_placeholder(f"{name}_scale", TensorProto.FLOAT, dims[:1]))
        self._add("DequantizeLinear", [name, f"{name}_scale"], f"{name}_rounded", axis=0)
        return f"{name}_rounded"

    def _dims(self, name: str) -> list[int]:
        return next(list(tensor.dims) for tensor in self.graph.initializer if tensor.name == name)

    def _read(self, name: str) -> str:
        """What a node reads instead of a tensor: where that is rounded, what its integers stand for."""
        if name not in self._roundings:
            return name
        return self._dequantize(self._roundings[name], name if name in self._results else f"{name}_rounded")

    def _constant(self, name: str, values: NDArray[Any]) -> None:
        self.constants.append(numpy_helper.from_array(values, name))

    def _add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))


def _weight_names(graph: onnx.GraphProto) -> set[str]:
    constants = {tensor.name for tensor in graph.initializer}
    used = {name for node in graph.node if node.op_type == "Conv" for name in node.input[1:]}
    return used & constants


def _only_moves(node: onnx.NodeProto) -> bool:
    """Whether every value that a node makes is one that it reads."""
    if node.op_type != "Resize":
        return node.op_type in _MOVES
    modes = [attribute.s for attribute in node.attribute if attribute.name == "mode"]
    return bool((modes or [b"nearest"]) == [b"nearest"])


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
