"""From nets to what ships: graphs without weights, each in float32 and in 8 bits, and one file of weights."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inspector.errors import WeightsError
from inspector.generator.quantize_graph import empty_graph, quantize_graph, take_weights
from inspector.generator.training.fake_mxfp4 import is_kept_whole
from inspector.generator.weight_file import Encoding, StoredTensor, WeightMetadata, store_tensor, write_weights
from inspector.images import sha256_hex

OPSET = 17
MOST_DIFFERENCE = 1e-4
"""Between PyTorch and ONNX Runtime in float32, as a share of full scale; more refuses the export."""
RANGE_MARGIN = 1.05
CLIPPED_SHARE = 1e-4
SAMPLING_SEED = 7
MOST_SAMPLED = 50_000
"""Values of a tensor that are looked at in one feed."""
Feeds = Iterable[Mapping[str, NDArray[np.float32]]]


@dataclass(frozen=True, slots=True)
class ExportedGraph:
    """One net as float32 ONNX with its weights, and the range of every tensor in it."""

    name: str
    model: bytes
    ranges: dict[str, tuple[float, float]]


def export_graph(name: str, net: nn.Module, inputs: dict[str, Tensor], output: str, feeds: Feeds) -> ExportedGraph:
    """Export, check against PyTorch, and measure what every tensor reaches on `feeds`.

    Raises `WeightsError` when ONNX Runtime computes something else than PyTorch.
    """
    net.eval()
    sizes = {key: {0: "count", 2: "rows", 3: "columns"} for key in (*inputs, output)}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The other exporter needs a package more and writes a graph that the kernels' rules were not tried on.
        warnings.simplefilter("ignore", DeprecationWarning)
        path = Path(folder) / "net.onnx"
        torch.onnx.export(
            _Named(name, net),
            tuple(inputs.values()),
            path,
            input_names=list(inputs),
            output_names=[output],
            dynamic_axes=sizes,
            opset_version=OPSET,
            dynamo=False,
        )
        model = path.read_bytes()
    _check_parity(name, net, inputs, model)
    return ExportedGraph(name, model, measure_ranges(model, feeds))


class _Named(nn.Module):
    """Puts the name of a net before those of its weights: several nets share one file."""

    def __init__(self, name: str, net: nn.Module) -> None:
        super().__init__()
        self.add_module(name, net)
        self._name = name

    def forward(self, *inputs: Tensor) -> Tensor:
        result: Tensor = getattr(self, self._name)(*inputs)
        return result


def _check_parity(name: str, net: nn.Module, inputs: dict[str, Tensor], model: bytes) -> None:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = net(*inputs.values()).numpy()
    found = session.run(None, {key: value.numpy() for key, value in inputs.items()})[0]
    difference = float(np.abs(found - expected).max()) / max(1.0, float(np.abs(expected).max()))
    if not difference <= MOST_DIFFERENCE:
        raise WeightsError(f"{name}: ONNX Runtime differs from PyTorch by {difference:.2g}; the export is refused")


def measure_ranges(model: bytes, feeds: Feeds) -> dict[str, tuple[float, float]]:
    """The range of every float tensor: what all but `CLIPPED_SHARE` at either end reach, over all `feeds` together.

    255 steps from the lowest to the highest ever seen are too coarse for the many, so the few values beyond are
    clipped. They are few and matter much: what a net adds is made of its rare large activations (docs/weights.md).
    """
    watched = onnx.load_from_string(model)
    known = {item.name for item in watched.graph.output}
    for node in watched.graph.node:
        watched.graph.output.extend(
            onnx.helper.make_empty_tensor_value_info(result) for result in node.output if result not in known
        )
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    seen: dict[str, list[NDArray[np.float32]]] = {}
    dice = np.random.default_rng(SAMPLING_SEED)
    for feed in feeds:
        values: list[Any] = session.run(names, dict(feed))
        for key, value in [*zip(names, values, strict=True), *feed.items()]:
            if value.dtype == np.float32 and value.size:
                seen.setdefault(key, []).append(dice.choice(value.ravel(), min(value.size, MOST_SAMPLED)))
    return {key: _find_range(np.concatenate(found)) for key, found in seen.items()}


def _find_range(values: NDArray[np.float32]) -> tuple[float, float]:
    low, high = np.quantile(values, [CLIPPED_SHARE, 1.0 - CLIPPED_SHARE]) * RANGE_MARGIN
    return min(0.0, float(low)), max(0.0, float(high))


def store_graphs(
    folder: Path, name: str, graphs: list[ExportedGraph], metadata: Mapping[str, Any], encoding: Encoding = "mxfp4"
) -> Path:
    """Write `NAME.weights` and `NAME-GRAPH.onnx` (8 bits) and `NAME-GRAPH-float.onnx` for each graph.

    First and last convolutions are stored as int8 when the others are MXFP4; biases as float32.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, StoredTensor] = {}
    hashes = {}
    for graph in graphs:
        for form, content in (("", quantize_graph(graph.model, graph.ranges)), ("-float", empty_graph(graph.model))):
            hashes[f"{graph.name}{form}"] = sha256_hex(content)
            (folder / f"{name}-{graph.name}{form}.onnx").write_bytes(content)
        for key, values in take_weights(graph.model).items():
            tensors[key] = store_tensor(values, _choose_encoding(key, values, encoding))
    path = folder / f"{name}.weights"
    write_weights(path, tensors, WeightMetadata(graph_sha256=hashes, **metadata))
    return path


def _choose_encoding(name: str, values: NDArray[np.float32], encoding: Encoding) -> Encoding:
    if values.ndim == 1:
        return "f32"
    return "int8" if encoding == "mxfp4" and is_kept_whole(name.removesuffix(".weight")) else encoding
