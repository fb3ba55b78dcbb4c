"""From stored weights to a running net: the graph's placeholders are filled, and ONNX Runtime takes it from there.

A graph is shipped without its weights: an initializer with a type and a shape and no values is a placeholder, named
as its tensor in the weight file. A float32 placeholder gets the decoded values. A convolution in QDQ form gets its
weights as the file's exact 8-bit integers with one scale per output channel, and its bias as 32-bit integers:

    x -> QuantizeLinear -> DequantizeLinear ------------------------> Conv -> [Relu] -> QuantizeLinear -> ...
         DequantizeLinear(int8 weight, scale, axis 0) ----------------^
         DequantizeLinear(int32 bias, input scale * scale, axis 0) ---^

The session fuses that into one integer kernel (docs/weights.md has the rules that keep it so).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors

from inspector.errors import WeightsError
from inspector.generator.weight_file import WeightFile
from inspector.images import sha256_hex

LARGEST_GRAPH_BYTES = 16 * 1024 * 1024
LARGEST_BIAS_STEPS = 2.0**30
"""A bias takes at most this many steps, so that what is added to it stays within 32 bits."""
SMALLEST_STEP = 2.0**-100
_RUNTIME_ERRORS = (
    runtime_errors.Fail,
    runtime_errors.InvalidArgument,
    runtime_errors.InvalidGraph,
    runtime_errors.InvalidProtobuf,
    runtime_errors.NotImplemented,
    runtime_errors.RuntimeException,
)


def open_weighted_session(graph: bytes, weights: WeightFile, threads: int = 1) -> onnxruntime.InferenceSession:
    """A session on the CPU of a graph with placeholders. May be used by several threads at once.

    Raises `WeightsError` when the weights are not for this graph, or the graph cannot be run.
    """
    filled = fill_graph(graph, weights)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(filled, options, providers=["CPUExecutionProvider"])
    except _RUNTIME_ERRORS as error:
        raise WeightsError(f"{weights.path}: its graph cannot be run: {error}") from error


def fill_graph(graph: bytes, weights: WeightFile) -> bytes:
    """The graph with every placeholder filled. The same inputs give the same bytes.

    Raises `WeightsError` when the file does not name the hash of this graph, when the graph holds external data or a
    placeholder that no rule above fills, or when a tensor is missing or has another shape.
    """
    if sha256_hex(graph) not in weights.metadata.graph_sha256.values():
        names = ", ".join(weights.metadata.graph_sha256)
        raise WeightsError(f"{weights.path} holds weights for other graphs ({names}), or the graph was changed")
    model = parse_graph(graph)
    filler = _Filler(model.graph, weights)
    for convolution in model.graph.node:
        if convolution.op_type == "Conv":
            filler.fill_convolution(convolution)
    for placeholder in filler.placeholders():
        if placeholder.data_type != TensorProto.FLOAT:
            raise WeightsError(f"{weights.path}: its graph has a placeholder {placeholder.name} that nothing fills")
        filler.fill(placeholder, filler.check_shape(placeholder, weights.tensor(placeholder.name)))
    return bytes(model.SerializeToString())


def parse_graph(graph: bytes) -> onnx.ModelProto:
    """The model of untrusted bytes. Raises `WeightsError` for too many, for none at all and for external data."""
    if len(graph) > LARGEST_GRAPH_BYTES:
        raise WeightsError(f"a graph of {len(graph)} bytes is larger than any without its weights")
    try:
        model = onnx.load_from_string(graph)
    except DecodeError as error:
        raise WeightsError(f"the graph is not an ONNX model: {error}") from error
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise WeightsError("the graph takes constants from other files")
    return model


def is_placeholder(tensor: onnx.TensorProto) -> bool:
    """Whether an initializer has a shape and no values."""
    return math.prod(tensor.dims) > 0 and not any(
        getattr(tensor, values) for values in ("raw_data", "float_data", "int32_data", "int64_data", "double_data")
    )


@dataclass(frozen=True, slots=True)
class _Dequantized:
    """An operand that a DequantizeLinear makes: its integers and their scale, both initializers."""

    integers: onnx.TensorProto
    scale: onnx.TensorProto


class _Filler:
    """Fills the initializers of one graph in place."""

    def __init__(self, graph: onnx.GraphProto, weights: WeightFile) -> None:
        self._weights = weights
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._filled: set[str] = set()
        self._makers = {output: node for node in graph.node for output in node.output}

    def placeholders(self) -> Iterator[onnx.TensorProto]:
        """Those that are still empty."""
        return (tensor for tensor in self._constants.values() if is_placeholder(tensor))

    def fill_convolution(self, node: onnx.NodeProto) -> None:
        """Weight and bias of a convolution in QDQ form; others are left as they are."""
        weight = self._dequantized(node.input[1])
        if weight is not None and weight.integers.name in self._filled:
            raise WeightsError(f"{self._weights.path}: two convolutions of the graph share {weight.integers.name}")
        if weight is None or not is_placeholder(weight.integers):
            return
        integers, scale = self._weights.folded(weight.integers.name)
        stored = self._weights.tensors[weight.integers.name].shape
        integers = self.check_shape(weight.integers, integers.reshape(stored))
        bias = self._dequantized(node.input[2]) if len(node.input) > 2 else None
        if bias is not None:
            values = self.check_shape(bias.integers, self._weights.tensor(bias.integers.name))
            step = self._input_scale(node)
            integers, scale = _coarsen_rows(integers, scale, values, step)
            steps = (scale * step).astype(np.float32)
            self.fill(bias.integers, np.rint(values.astype(np.float64) / steps).astype(np.int32))
            self.fill(bias.scale, steps)
        self.fill(weight.integers, integers)
        self.fill(weight.scale, scale)

    def fill(self, placeholder: onnx.TensorProto, values: NDArray[np.generic]) -> None:
        """Give a placeholder its values, whose type and shape must be its own."""
        made = numpy_helper.from_array(np.ascontiguousarray(values), placeholder.name)
        if made.data_type != placeholder.data_type or list(made.dims) != list(placeholder.dims):
            raise WeightsError(
                f"{self._weights.path}: {placeholder.name} of the graph is not {values.dtype} of shape {values.shape}"
            )
        placeholder.CopyFrom(made)
        self._filled.add(placeholder.name)

    def check_shape(self, placeholder: onnx.TensorProto, values: NDArray[Any]) -> NDArray[Any]:
        """`values`, or `WeightsError` when the graph wants another shape."""
        if list(placeholder.dims) != list(values.shape):
            raise WeightsError(
                f"{self._weights.path}: tensor {placeholder.name} has shape {values.shape}, "
                f"the graph wants {tuple(placeholder.dims)}"
            )
        return values

    def _dequantized(self, name: str) -> _Dequantized | None:
        maker = self._makers.get(name)
        if maker is None or maker.op_type != "DequantizeLinear":
            return None
        integers, scale = (self._constants.get(source) for source in maker.input[:2])
        if integers is None or scale is None:
            return None
        if not any(attribute.name == "axis" and attribute.i == 0 for attribute in maker.attribute):
            raise WeightsError(f"{self._weights.path}: the graph scales {integers.name} along another axis than 0")
        return _Dequantized(integers, scale)

    def _input_scale(self, node: onnx.NodeProto) -> np.float32:
        maker = self._makers.get(node.input[0])
        scale = (
            self._constants.get(maker.input[1]) if maker is not None and maker.op_type == "DequantizeLinear" else None
        )
        if scale is None or is_placeholder(scale):
            raise WeightsError(f"{self._weights.path}: the input of {node.name} in the graph has no scale of its own")
        return np.float32(numpy_helper.to_array(scale).item())


def _coarsen_rows(
    integers: NDArray[np.int8], scale: NDArray[np.float32], bias: NDArray[np.float32], step: np.float32
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Rows whose weights are so small beside their bias that it would not fit 32 bits of their steps.

    They get larger steps and are rounded again; what they lose is below 2^-30 of the bias for each input.
    """
    smallest = (np.maximum(np.abs(bias) / LARGEST_BIAS_STEPS, SMALLEST_STEP) / np.float64(step)).astype(np.float32)
    coarse = scale < smallest
    if not coarse.any():
        return integers, scale
    ratio = np.where(coarse, scale / smallest, 1).reshape(-1, *([1] * (integers.ndim - 1)))
    return np.rint(integers * ratio).astype(np.int8), np.where(coarse, smallest, scale).astype(np.float32)
