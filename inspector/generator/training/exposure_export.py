"""Writes a taught low-light net as ONNX: `python -m inspector.generator.training.exposure_export CHECKPOINT --out DIR`.

Weights are stored as float16 and computed with as float32. An export whose answers differ from torch's is refused.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime
import structlog
import torch
from numpy.typing import NDArray
from onnx import TensorProto, checker, helper, numpy_helper

from inspector.errors import WeightsError
from inspector.generator.exposure.brightening import CHANNELS
from inspector.generator.exposure.net import FACTS_FILE, GRAPH_FILE, NetFacts
from inspector.generator.training.exposure_config import ExposureTraining
from inspector.generator.training.exposure_net import (
    COLOURS,
    MULTIPLE_PX,
    SHRINK,
    ExposureNet,
    ResidualBlock,
    count_parameters,
    reach_px,
)
from inspector.images import sha256_hex

OPSET, IR_VERSION = 17, 8
LICENCE = "CC-BY-SA-4.0"
LARGEST_DIFFERENCE = 2e-4
"""A twentieth of a grey level."""
PARITY_SIZES = ((96, 96), (64, 200), (8, 8))

log = structlog.get_logger(__name__)


class _Graph:
    """Collects nodes and float16 constants."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, values: NDArray[np.float32]) -> str:
        self.constants.append(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        return self.add("Cast", [f"{name}_half"], name, to=TensorProto.FLOAT)

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def convolve(
        self, source: str, name: str, layer: torch.nn.Conv2d, weight: NDArray[np.float32] | None = None
    ) -> str:
        filters = layer.weight.detach().numpy() if weight is None else weight
        bias = layer.bias.detach().numpy() if layer.bias is not None else np.zeros(len(filters), np.float32)
        inputs = [
            source,
            self.constant(f"{name}_filters", np.asarray(filters, np.float32)),
            self.constant(f"{name}_bias", np.asarray(bias, np.float32)),
        ]
        return self.add(
            "Conv",
            inputs,
            name,
            kernel_shape=list(layer.kernel_size),
            strides=list(layer.stride),
            pads=[int(side) for side in layer.padding] * 2,
        )

    def chain(self, source: str, name: str, blocks: torch.nn.Sequential) -> str:
        for index, block in enumerate(cast(Iterable[ResidualBlock], blocks)):
            first = self.convolve(source, f"{name}{index}_first", block.first)
            risen = self.add("Relu", [first], f"{name}{index}_risen")
            second = self.convolve(risen, f"{name}{index}_second", block.second)
            source = self.add("Add", [source, second], f"{name}{index}")
        return source

    def enlarge(self, source: str, name: str) -> str:
        return self.add("DepthToSpace", [source], name, blocksize=SHRINK, mode="CRD")


def round_to_half(net: ExposureNet) -> ExposureNet:
    """A copy of the net with the weights that float16 can hold."""
    rounded = copy.deepcopy(net).float().cpu().eval()
    with torch.no_grad():
        for parameter in rounded.parameters():
            parameter.copy_(parameter.half().float())
    return rounded


def build_graph(net: ExposureNet) -> bytes:
    """The net as ONNX: `bright` (N, 6, H, W) → `lit` (N, 3, H, W), sides multiples of `MULTIPLE_PX`."""
    graph = _Graph()
    graph.add("SpaceToDepth", ["bright"], "shrunk", blocksize=SHRINK)
    # ONNX puts the offset before the channel, torch after it.
    stem = net.stem.weight.detach().numpy()
    order = np.arange(CHANNELS * SHRINK**2).reshape(CHANNELS, SHRINK**2).T.ravel()
    half = graph.convolve("shrunk", "stem", net.stem, stem[:, order])
    half = graph.chain(half, "down_half", net.down_half)
    quarter = graph.chain(graph.convolve(half, "to_quarter", net.to_quarter), "down_quarter", net.down_quarter)
    eighth = graph.chain(graph.convolve(quarter, "to_eighth", net.to_eighth), "bottom", net.bottom)
    risen = graph.enlarge(graph.convolve(eighth, "from_eighth", net.from_eighth), "eighth_large")
    quarter = graph.chain(graph.add("Add", [quarter, risen], "quarter"), "up_quarter", net.up_quarter)
    risen = graph.enlarge(graph.convolve(quarter, "from_quarter", net.from_quarter), "quarter_large")
    half = graph.chain(graph.add("Add", [half, risen], "half"), "up_half", net.up_half)
    noise = graph.enlarge(graph.convolve(half, "head", net.head), "noise")
    ends = {"starts": 0, "ends": COLOURS, "axes": 1}
    for name, value in ends.items():
        graph.constants.append(numpy_helper.from_array(np.array([value], np.int64), name))
    colours = graph.add("Slice", ["bright", *ends], "colours")
    graph.add("Sub", [colours, noise], "lit")
    inputs = [helper.make_tensor_value_info("bright", TensorProto.FLOAT, ["count", CHANNELS, "height", "width"])]
    outputs = [helper.make_tensor_value_info("lit", TensorProto.FLOAT, ["count", COLOURS, "height", "width"])]
    made = helper.make_graph(graph.nodes, "low_light", inputs, outputs, graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    checker.check_model(model)
    return bytes(model.SerializeToString())


def check_parity(graph: bytes, net: ExposureNet) -> float:
    """The largest difference between ONNX Runtime and torch on random pictures; `WeightsError` when it is too large."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(3)
    largest = 0.0
    for height, width in PARITY_SIZES:
        bright = random.random((1, CHANNELS, height, width), np.float32)
        with torch.no_grad():
            wanted = net(torch.from_numpy(bright)).numpy()
        largest = max(largest, float(np.abs(session.run(None, {"bright": bright})[0] - wanted).max()))
    if not largest <= LARGEST_DIFFERENCE:
        raise WeightsError(f"the export differs from the taught net by {largest:g}, more than {LARGEST_DIFFERENCE:g}")
    return largest


def export(checkpoint: Path, out: Path) -> NetFacts:
    """Write graph and facts of a checkpoint's averaged net; `WeightsError` for a bad export."""
    state: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
    config = ExposureTraining.model_validate(state["config"])
    net = ExposureNet(config.widths, config.blocks)
    net.load_state_dict(state["average"])
    rounded = round_to_half(net)
    graph = build_graph(rounded)
    difference = check_parity(graph, rounded)
    facts = NetFacts(
        sha256=sha256_hex(graph),
        parameters=count_parameters(net),
        steps=int(state["step"]) + int(state["steps_before"]),
        reach_px=reach_px(config.blocks),
        multiple_px=MULTIPLE_PX,
        licence=LICENCE,
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / GRAPH_FILE).write_bytes(graph)
    (out / FACTS_FILE).write_text(facts.model_dump_json(indent=2) + "\n", encoding="utf-8")
    log.info("exported", bytes=len(graph), largest_difference=difference, **facts.model_dump())
    return facts


def main() -> None:
    """The command line of the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder for the graph and its facts")
    asked = parser.parse_args()
    export(asked.checkpoint, asked.out)


if __name__ == "__main__":
    main()
