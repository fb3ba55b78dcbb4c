"""Building small ONNX graphs and running them: one place for the versions and the session's settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8


@dataclass(frozen=True, slots=True)
class GraphBuilder:
    """Collects the nodes and constants of one ONNX graph."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """Add an array under a name."""
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add an operation with one output and return the output's name."""
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def crop(self, source: str, output: str, cells: int) -> str:
        """Drop `cells` rows and columns on every side."""
        return self.slice(source, output, (2, 3), (cells, cells), (-cells, -cells))

    def slice(
        self, source: str, output: str, axes: tuple[int, ...], starts: tuple[int, ...], ends: tuple[int, ...]
    ) -> str:
        """The part from `starts` to `ends` along `axes`; an end of 0 is the end of the axis."""
        open_ends = tuple(end or np.iinfo(np.int64).max for end in ends)
        names = [
            self.constant(f"{output}_{what}", np.array(values, np.int64))
            for what, values in (("starts", starts), ("ends", open_ends), ("axes", axes))
        ]
        return self.add("Slice", [source, *names], output)

    def bank(self, name: str, output: str) -> bytes:
        """A feature bank: from `pixels` (H, W, 3) uint8 to (1, C, h, w) float32."""
        pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["height", "width", 3])
        cells = helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, "channels", "rows", "columns"])
        return self.model(name, [pixels], cells)

    def model(self, name: str, inputs: list[onnx.ValueInfoProto], output: onnx.ValueInfoProto) -> bytes:
        """The finished graph, checked."""
        graph = helper.make_graph(self.nodes, name, inputs, [output], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())


def open_session(model: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """A session on the CPU. May be used by several threads at once; the GIL is released while it runs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
