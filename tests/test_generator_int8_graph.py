"""Graphs without weights: filled exactly, run as integer kernels, and refused with weights that are not theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from inspector.errors import WeightsError
from inspector.generator.int8_graph import fill_graph, is_placeholder, open_weighted_session
from inspector.generator.quantize_graph import empty_graph, quantize_graph, take_weights
from inspector.generator.weight_file import (
    Encoding,
    WeightFile,
    WeightMetadata,
    read_weights,
    store_tensor,
    write_weights,
)
from inspector.images import sha256_hex

Floats = NDArray[np.float32]
SIDE = 32


@dataclass
class FloatNet:
    """Writes a float32 graph from `x` (1, 3, 32, 32) with random convolutions."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(4))

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def constant(self, name: str, values: NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def convolve(self, source: str, name: str, channels: tuple[int, int], side: int = 3, stride: int = 1) -> str:
        fan_in = channels[0] * side * side
        weight = self.random.standard_normal((channels[1], channels[0], side, side)) * np.sqrt(2 / fan_in)
        bias = self.random.standard_normal(channels[1]) * 0.1
        inputs = [
            source,
            self.constant(f"{name}.weight", weight.astype(np.float32)),
            self.constant(f"{name}.bias", bias.astype(np.float32)),
        ]
        attributes = {"kernel_shape": [side] * 2, "pads": [side // 2] * 4, "strides": [stride] * 2}
        return self.add("Conv", inputs, f"{name}.out", **attributes)

    def model(self, output: str = "y") -> bytes:
        planes = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, "c", "h", "w"])
        graph = helper.make_graph(self.nodes, "net", [planes], [result], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        return bytes(model.SerializeToString())


def build_unet(activation: str) -> bytes:
    """Every operation that the generator's nets are made of: residual, skip, both ways up, depth to space."""
    net = FloatNet()

    def activate(source: str, name: str) -> str:
        if activation == "Clip":
            limits = [
                net.constant(f"{name}.{end}", np.array(value, np.float32)) for end, value in (("lo", 0), ("hi", 6))
            ]
            return net.add("Clip", [source, *limits], name)
        slope = {"alpha": 0.1} if activation == "LeakyRelu" else {}
        return net.add(activation, [source], name, **slope)

    stem = net.add("SpaceToDepth", ["x"], "stem", blocksize=2)
    skip = activate(net.convolve(stem, "c1", (12, 16)), "a1")
    down = activate(net.convolve(skip, "c2", (16, 24), stride=2), "a2")
    branch = net.convolve(down, "c3", (24, 24))
    deep = activate(net.add("Add", [down, branch], "sum"), "a3")
    scales = net.constant("twice", np.array([1, 1, 2, 2], np.float32))
    settings = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    up = net.add("Resize", [deep, "", scales], "up", mode="nearest", **settings)
    both = net.add("Concat", [up, skip], "both", axis=1)
    wide = net.convolve(activate(net.convolve(both, "c4", (40, 16)), "a4"), "c5", (16, 12), side=1)
    net.add("DepthToSpace", [wide], "y", blocksize=2, mode="DCR")
    return net.model()


def measure_ranges(model: bytes, planes: Floats) -> dict[str, tuple[float, float]]:
    """The lowest and highest value of each tensor between input and output."""
    watched = onnx.load_from_string(model)
    names = [node.output[0] for node in watched.graph.node if node.output[0] != "y"]
    for name in names:
        watched.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    values = run(watched.SerializeToString(), planes, names)
    return {"x": (0.0, 1.0)} | {name: (float(v.min()), float(v.max())) for name, v in zip(names, values, strict=True)}


def run(model: bytes, planes: NDArray[Any], names: list[str] | None = None) -> list[Floats]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return [np.asarray(answer, np.float32) for answer in session.run(names or ["y"], {"x": planes})]


def write_file(path: Path, weights: dict[str, Floats], encoding: Encoding, *graphs: bytes) -> WeightFile:
    stored = {name: store_tensor(values, encoding if values.ndim > 1 else "f32") for name, values in weights.items()}
    hashes = {f"graph{index}": sha256_hex(graph) for index, graph in enumerate(graphs)}
    metadata = WeightMetadata(model="t", licence="test", training_config_sha256="0" * 64, graph_sha256=hashes)
    write_weights(path, stored, metadata)
    return read_weights(path)


def fused_operations(model: bytes, folder: Path) -> list[str]:
    """What ONNX Runtime makes of a graph."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node]


@pytest.fixture
def planes() -> Floats:
    return np.random.default_rng(9).random((1, 3, SIDE, SIDE), np.float32)


def relative_error(answer: Floats, truth: Floats) -> float:
    return float(np.sqrt(np.square(answer - truth).mean() / truth.var()))


# --- what runs --------------------------------------------------------------------------------------


def test_float_graph_filled_with_float_weights_is_the_original(tmp_path: Path, planes: Floats) -> None:
    """The shipped graph holds none of the weights, and with them it answers with the same bytes."""
    model = build_unet("Relu")
    graph, weights = empty_graph(model), take_weights(model)
    assert len(weights) == 10 and len(graph) < len(model) - sum(values.nbytes for values in weights.values()) + 100
    session = open_weighted_session(graph, write_file(tmp_path / "w", weights, "f32", graph))
    assert session.run(None, {"x": planes})[0].tobytes() == run(model, planes)[0].tobytes()


@pytest.mark.parametrize("activation", ["Relu", "Clip", "LeakyRelu"])
@pytest.mark.parametrize("encoding", ["int8", "mxfp4"])
def test_quantized_graph_runs_in_integer_kernels(
    tmp_path: Path, planes: Floats, activation: str, encoding: Encoding
) -> None:
    """No convolution is left in float32, and the answer is near that of the decoded weights in float32."""
    model = build_unet(activation)
    graph, floats, weights = (
        quantize_graph(model, measure_ranges(model, planes)),
        empty_graph(model),
        take_weights(model),
    )
    file = write_file(tmp_path / "w", weights, encoding, graph, floats)
    operations = fused_operations(fill_graph(graph, file), tmp_path)
    assert operations.count("QLinearConv") == 5 and not {"Conv", "FusedConv"} & set(operations)
    assert operations.count("QuantizeLinear") == operations.count("DequantizeLinear") == 1
    assert operations.count("QLinearAdd") == operations.count("QLinearConcat") == 1
    assert operations.count("QLinearLeakyRelu") == (4 if activation == "LeakyRelu" else 0)
    integer = open_weighted_session(graph, file).run(None, {"x": planes})[0]
    assert relative_error(integer, open_weighted_session(floats, file).run(None, {"x": planes})[0]) < 0.06


def test_bytes_of_an_image_are_taken_as_they_are(tmp_path: Path) -> None:
    """With the range (0, 1) a pixel's byte is its rounded value: the same answer, without a conversion."""
    model = build_unet("Relu")
    pixels = np.random.default_rng(3).integers(0, 256, (1, 3, SIDE, SIDE), np.uint8)
    planes = (pixels / 255).astype(np.float32)
    ranges = measure_ranges(model, planes)
    graphs = [quantize_graph(model, ranges), quantize_graph(model, ranges, in_bytes=frozenset({"x"}))]
    file = write_file(tmp_path / "w", take_weights(model), "mxfp4", *graphs)
    sessions = [open_weighted_session(graph, file) for graph in graphs]
    assert sessions[1].get_inputs()[0].type == "tensor(uint8)"
    answers = [session.run(None, {"x": x})[0] for session, x in zip(sessions, (planes, pixels), strict=True)]
    assert answers[0].tobytes() == answers[1].tobytes()
    with pytest.raises(WeightsError, match="x, an input in bytes, has no range"):
        quantize_graph(model, {}, in_bytes=frozenset({"x"}))


def test_a_rounded_result_keeps_its_name(tmp_path: Path, planes: Floats) -> None:
    """A graph may end in a convolution: `y` is what its integers stand for."""
    net = FloatNet()
    net.convolve("x", "c", (3, 4))
    net.nodes[0].output[0] = "y"
    model = net.model()
    answer = run(model, planes)[0]
    graph = quantize_graph(model, {"x": (0, 1), "y": (float(answer.min()), float(answer.max()))})
    filled = fill_graph(graph, write_file(tmp_path / "w", take_weights(model), "int8", graph))
    assert "QLinearConv" in fused_operations(filled, tmp_path)
    assert relative_error(run(filled, planes)[0], answer) < 0.03


def test_more_threads_change_no_byte(tmp_path: Path, planes: Floats) -> None:
    """Integer sums have no order."""
    model = build_unet("Relu")
    graph = quantize_graph(model, measure_ranges(model, planes))
    file = write_file(tmp_path / "w", take_weights(model), "mxfp4", graph)
    assert fill_graph(graph, file) == fill_graph(graph, file)
    answers = [open_weighted_session(graph, file, threads).run(None, {"x": planes})[0] for threads in (1, 2)]
    assert answers[0].tobytes() == answers[1].tobytes()


def one_convolution(weight: Floats, bias: Floats) -> bytes:
    net = FloatNet()
    net.convolve("x", "c", (weight.shape[1], weight.shape[0]))
    net.constants = [numpy_helper.from_array(weight, "c.weight"), numpy_helper.from_array(bias, "c.bias")]
    net.nodes[0].output[0] = "sum"
    net.add("Identity", ["sum"], "y")
    return net.model()


@pytest.mark.parametrize("integers", ["random", "largest", "alternating"])
def test_full_range_of_integers_does_not_saturate(tmp_path: Path, integers: str) -> None:
    """±127 against 255 everywhere is summed exactly: the rounded result is that of an integer reference."""
    random = np.random.default_rng(2)
    shape = (8, 3, 3, 3)
    values = {
        "random": random.integers(-127, 128, shape),
        "largest": np.full(shape, 127),
        "alternating": random.choice([-127, 127], shape),
    }[integers]
    values[:, 0, 0, 0] = 127
    weight = (values / 128).astype(np.float32)
    pixels = random.integers(0, 256, (1, 3, SIDE, SIDE)) if integers == "random" else np.full((1, 3, SIDE, SIDE), 255)
    model = one_convolution(weight, np.zeros(8, np.float32))
    exact = integer_convolution(values, pixels)
    low, high = min(0.0, float(exact.min())) / 2**15, max(0.0, float(exact.max())) / 2**15
    graph = quantize_graph(model, {"x": (0, 255 / 256), "sum": (low, high)})
    file = write_file(tmp_path / "w", {"c.weight": weight, "c.bias": np.zeros(8, np.float32)}, "int8", graph)
    assert (file.folded("c.weight")[0].reshape(shape) == values).all()
    answer = open_weighted_session(graph, file).run(None, {"x": (pixels / 256).astype(np.float32)})[0][0]
    step = np.float32((high - low) / 255)
    assert np.abs(answer - exact / 2**15).max() <= step * 0.501


def integer_convolution(weight: NDArray[np.int64], pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    padded = np.pad(pixels[0], ((0, 0), (1, 1), (1, 1)))
    total = np.zeros((len(weight), SIDE, SIDE), np.int64)
    for y in range(3):
        for x in range(3):
            total += np.einsum("oc,chw->ohw", weight[:, :, y, x], padded[:, y : y + SIDE, x : x + SIDE])
    return total


@pytest.mark.parametrize("encoding", ["int8", "mxfp4"])
def test_channels_with_hardly_any_weights_keep_their_bias(tmp_path: Path, planes: Floats, encoding: Encoding) -> None:
    """Zero, tiny and normal weights beside a bias of 0.7: it neither overflows nor loses its precision."""
    weight = np.zeros((3, 3, 3, 3), np.float32)
    weight[1], weight[2] = 1e-12, 0.02
    bias = np.array([0.7, -0.7, 0.7], np.float32)
    model = one_convolution(weight, bias)
    graph = quantize_graph(model, {"x": (0, 1), "sum": (-2, 2)})
    file = write_file(tmp_path / "w", {"c.weight": weight, "c.bias": bias}, encoding, graph)
    answer = open_weighted_session(graph, file).run(None, {"x": planes})[0]
    assert np.abs(answer[0, :2] - bias[:2, None, None]).max() <= 0.51 * 4 / 255
    filled = {tensor.name: tensor for tensor in onnx.load_from_string(fill_graph(graph, file)).graph.initializer}
    steps = numpy_helper.to_array(filled["c.bias"]) * numpy_helper.to_array(filled["c.bias_scale"]).astype(np.float64)
    assert np.abs(steps - bias).max() < 1e-4


# --- what is refused --------------------------------------------------------------------------------


def edited(graph: bytes, change: Callable[[onnx.ModelProto], None]) -> bytes:
    model = onnx.load_from_string(graph)
    change(model)
    return bytes(model.SerializeToString())


@pytest.fixture
def simple() -> tuple[bytes, dict[str, Floats]]:
    """A graph of one convolution in QDQ form, and its weights."""
    random = np.random.default_rng(5)
    weights = {"c.weight": random.standard_normal((4, 3, 3, 3)), "c.bias": random.standard_normal(4)}
    typed = {name: values.astype(np.float32) for name, values in weights.items()}
    return quantize_graph(one_convolution(*typed.values()), {"x": (0, 1), "sum": (-9, 9)}), typed


def test_weights_of_another_graph_are_refused(tmp_path: Path, simple: tuple[bytes, dict[str, Floats]]) -> None:
    """One changed byte of the graph makes it another."""
    graph, weights = simple
    file = write_file(tmp_path / "w", weights, "mxfp4", graph)
    open_weighted_session(graph, file)
    with pytest.raises(WeightsError, match=r"weights for other graphs \(graph0\), or the graph was changed"):
        fill_graph(graph[:-1] + bytes([graph[-1] ^ 1]), file)


def test_tensors_that_the_graph_wants_otherwise_are_named(
    tmp_path: Path, simple: tuple[bytes, dict[str, Floats]]
) -> None:
    """Missing, of another shape, or in an encoding that does not fold."""
    graph, weights = simple
    cases: list[tuple[dict[str, Floats], Encoding, str]] = [
        ({"c.weight": weights["c.weight"]}, "mxfp4", "holds no tensor c.bias"),
        ({"c.bias": weights["c.bias"]}, "mxfp4", "holds no tensor c.weight"),
        ({**weights, "c.weight": weights["c.weight"][:, :, :, :2]}, "mxfp4", r"\(4, 3, 3, 2\), the graph wants"),
        ({**weights, "c.bias": weights["c.bias"][:3]}, "mxfp4", r"c\.bias has shape \(3,\), the graph wants \(4,\)"),
        (weights, "f16", "stored as f16, which does not fold"),
    ]
    for given, encoding, sentence in cases:
        with pytest.raises(WeightsError, match=sentence):
            fill_graph(graph, write_file(tmp_path / "w", given, encoding, graph))


def test_graphs_that_cannot_be_believed_are_refused(tmp_path: Path, simple: tuple[bytes, dict[str, Floats]]) -> None:
    """No model at all, constants in other files, another axis, placeholders nobody fills, an unknown operation."""
    graph, weights = simple

    def outside(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].data_location = TensorProto.EXTERNAL

    def other_axis(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            for attribute in node.attribute:
                attribute.i = 1 if attribute.name == "axis" else attribute.i

    def stranger(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(onnx.TensorProto(name="z", data_type=TensorProto.INT64, dims=[2]))

    def unscaled(model: onnx.ModelProto) -> None:
        next(node for node in model.graph.node if node.op_type == "Conv").input[0] = "x"

    def unknown(model: onnx.ModelProto) -> None:
        model.graph.node[-1].op_type = "Sprinkle"

    cases = [
        (b"\xff\xff\xff no model", "is not an ONNX model"),
        (b"\0" * (16 * 1024 * 1024 + 1), "larger than any without its weights"),
        (edited(graph, outside), "constants from other files"),
        (edited(graph, other_axis), "along another axis than 0"),
        (edited(graph, stranger), "placeholder z that nothing fills"),
        (edited(graph, unscaled), "has no scale of its own"),
        (edited(graph, unknown), "cannot be run"),
    ]
    for bad, sentence in cases:
        with pytest.raises(WeightsError, match=sentence):
            open_weighted_session(bad, write_file(tmp_path / "w", weights, "mxfp4", bad))


@pytest.mark.parametrize(("missing", "end"), [("a1", "output"), ("stem", "input"), ("c5.out", "output"), ("up", "")])
def test_a_convolution_without_a_range_is_refused_at_export(planes: Floats, missing: str, end: str) -> None:
    """It would run in float32, slower than the float32 graph, and nobody would know. Moved values need no range."""
    model = build_unet("Relu")
    ranges = measure_ranges(model, planes)
    if missing == "stem":
        ranges.pop("x")
    ranges.pop(missing)
    if not end:
        quantize_graph(model, ranges)
        return
    with pytest.raises(WeightsError, match=f"{missing}, the {end} of a convolution, has no range"):
        quantize_graph(model, ranges)


def test_a_convolution_may_stay_in_float(tmp_path: Path, planes: Floats) -> None:
    """Only when it is named: the others run as integers, and its weights may be f16."""
    model = build_unet("Relu")
    ranges = measure_ranges(model, planes)
    ranges.pop("c5.out")
    graph, weights = quantize_graph(model, ranges, in_float=frozenset({"c5.weight"})), take_weights(model)
    stored = {name: store_tensor(values, "int8" if values.ndim > 1 else "f32") for name, values in weights.items()}
    stored["c5.weight"] = store_tensor(weights["c5.weight"], "f16")
    metadata = WeightMetadata(
        model="t", licence="test", training_config_sha256="0" * 64, graph_sha256={"net": sha256_hex(graph)}
    )
    write_weights(tmp_path / "w", stored, metadata)
    filled = fill_graph(graph, read_weights(tmp_path / "w"))
    assert fused_operations(filled, tmp_path).count("QLinearConv") == 4
    assert relative_error(run(filled, planes)[0], run(model, planes)[0]) < 0.06


def test_convolutions_that_share_weights_are_refused(
    tmp_path: Path, planes: Floats, simple: tuple[bytes, dict[str, Floats]]
) -> None:
    """A bias counts steps of its convolution's input, so it cannot serve two; at export and at load."""
    net = FloatNet()
    net.add("Relu", [net.convolve("x", "c", (3, 3))], "a")
    net.add("Conv", ["a", "c.weight", "c.bias"], "y", kernel_shape=[3, 3], pads=[1] * 4)
    with pytest.raises(WeightsError, match=r"two convolutions share c\.weight"):
        quantize_graph(net.model(), {"x": (0, 1), "a": (0, 5), "y": (-5, 5)})

    def twice(model: onnx.ModelProto) -> None:
        again = next(node for node in model.graph.node if node.op_type == "Conv")
        model.graph.node.append(helper.make_node("Conv", again.input, ["other"], kernel_shape=[3, 3]))

    graph = edited(simple[0], twice)
    with pytest.raises(WeightsError, match=r"two convolutions of the graph share c\.weight"):
        fill_graph(graph, write_file(tmp_path / "w", simple[1], "mxfp4", graph))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_ranges_that_are_no_range_are_refused(bad: float) -> None:
    """Measured on a net that had already gone wrong."""
    with pytest.raises(WeightsError, match="x has the range"):
        quantize_graph(build_unet("Relu"), {"x": (0.0, bad)})


def test_placeholders_are_initializers_without_values(simple: tuple[bytes, dict[str, Floats]]) -> None:
    """Weight, bias and their scales; the scales of the activations are in the graph."""
    tensors = onnx.load_from_string(simple[0]).graph.initializer
    empty = {tensor.name for tensor in tensors if is_placeholder(tensor)}
    assert empty == {"c.weight", "c.weight_scale", "c.bias", "c.bias_scale"}
    assert {"x_scale", "x_zero", "sum_scale", "sum_zero"} == {tensor.name for tensor in tensors} - empty
