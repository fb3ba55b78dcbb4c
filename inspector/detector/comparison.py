"""Comparing features with what was learned, as compiled graphs: numpy would hold the interpreter's lock for it."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from inspector.detector.graphs import GraphBuilder, open_session

Cells: TypeAlias = NDArray[np.float32]
HalfCells: TypeAlias = NDArray[np.float16]

STRIP_VALUES = 65_536
"""Values of one strip of rows: what stays in the cache of a core."""


class PositionDistance:
    """Root mean square z of features against the statistics of their position, the least over ±`tolerance` cells.

    Thread-safe.
    """

    def __init__(self, tolerance: int) -> None:
        self.tolerance = tolerance
        self._session = open_session(_distance_graph(tolerance))

    def compute(self, features: Cells, mean: HalfCells, inverse_sd: HalfCells) -> Cells:
        """(h, w) float32 of (C, h, w) features; the statistics are (C, h + 2 * tolerance, w + 2 * tolerance)."""
        channels, height, width = features.shape
        rows = max(1, STRIP_VALUES // (channels * width))
        rim = 2 * self.tolerance
        strips = []
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            inputs = {
                "features": np.ascontiguousarray(features[:, top:bottom]),
                "mean": np.ascontiguousarray(mean[:, top : bottom + rim]),
                "inverse_sd": np.ascontiguousarray(inverse_sd[:, top : bottom + rim]),
            }
            strips.append(self._session.run(None, inputs)[0])
        return np.asarray(np.concatenate(strips), np.float32)


class LargestDeviation:
    """The largest of all channels' deviations from the mean of their position, in standard deviations. Thread-safe."""

    def __init__(self) -> None:
        self._session = open_session(_largest_deviation_graph())

    def compute(self, features: Cells, mean: HalfCells, inverse_sd: HalfCells) -> Cells:
        """(h, w) float32: the largest over C of |features - mean| * inverse_sd, all (C, h, w)."""
        channels, height, width = features.shape
        rows = max(1, STRIP_VALUES // (channels * width))
        strips = []
        for top in range(0, height, rows):
            band = np.s_[:, top : top + rows]
            inputs = {
                "features": np.ascontiguousarray(features[band]),
                "mean": np.ascontiguousarray(mean[band]),
                "inverse_sd": np.ascontiguousarray(inverse_sd[band]),
            }
            strips.append(self._session.run(None, inputs)[0])
        return np.asarray(np.concatenate(strips), np.float32)


class LargestZ:
    """The largest of all filters' z-scores. Thread-safe."""

    def __init__(self, limit: float) -> None:
        self._session = open_session(_largest_z_graph(limit))

    def compute(self, features: Cells, level: Cells, gain: Cells, offset: Cells) -> Cells:
        """(h, w) float32, 0 to the limit: the largest over C of features / level * gain - offset.

        `features`, `gain` and `offset` are (C, h, w), `level` is (C,).
        """
        channels, height, width = features.shape
        rows = max(1, STRIP_VALUES // (channels * width))
        inverse = (1.0 / level).astype(np.float32)[:, None, None]
        strips = []
        for top in range(0, height, rows):
            band = np.s_[:, top : top + rows]
            inputs = {
                "features": np.ascontiguousarray(features[band]),
                "inverse_level": inverse,
                "gain": np.ascontiguousarray(gain[band]),
                "offset": np.ascontiguousarray(offset[band]),
            }
            strips.append(self._session.run(None, inputs)[0])
        return np.asarray(np.concatenate(strips), np.float32)


def _distance_graph(tolerance: int) -> bytes:
    """For each shift the features are moved over the statistics, not the other way round: one copy less."""
    graph = GraphBuilder()
    rim = 2 * tolerance
    for name in ("mean", "inverse_sd"):
        graph.add("Cast", [name], f"{name}_32", to=TensorProto.FLOAT)
    pads = graph.constant("pads", np.array([0, rim, rim, 0, rim, rim], np.int64))
    graph.add("Pad", ["features", pads], "padded")
    shifted = []
    for dy in range(rim + 1):
        for dx in range(rim + 1):
            name = f"shift_{dy}_{dx}"
            graph.slice("padded", f"{name}_moved", (1, 2), (rim - dy, rim - dx), (-dy, -dx))
            graph.add("Sub", [f"{name}_moved", "mean_32"], f"{name}_difference")
            graph.add("Mul", [f"{name}_difference", "inverse_sd_32"], f"{name}_z")
            graph.add("Mul", [f"{name}_z", f"{name}_z"], f"{name}_square")
            graph.add("ReduceMean", [f"{name}_square"], f"{name}_mean", axes=[0], keepdims=0)
            shifted.append(graph.slice(f"{name}_mean", f"{name}_back", (0, 1), (dy, dx), (dy - rim, dx - rim)))
    graph.add("Min", shifted, "least")
    graph.add("Sqrt", ["least"], "distance")
    inputs = [_cells("features"), _cells("mean", TensorProto.FLOAT16), _cells("inverse_sd", TensorProto.FLOAT16)]
    return graph.model("position_distance", inputs, _plane("distance"))


def _largest_deviation_graph() -> bytes:
    graph = GraphBuilder()
    for name in ("mean", "inverse_sd"):
        graph.add("Cast", [name], f"{name}_32", to=TensorProto.FLOAT)
    graph.add("Sub", ["features", "mean_32"], "difference")
    graph.add("Mul", ["difference", "inverse_sd_32"], "z")
    graph.add("Abs", ["z"], "deviation")
    graph.add("ReduceMax", ["deviation"], "largest", axes=[0], keepdims=0)
    inputs = [
        _cells("features"),
        _cells("mean", TensorProto.FLOAT16),
        _cells("inverse_sd", TensorProto.FLOAT16),
    ]
    return graph.model("largest_deviation", inputs, _plane("largest"))


def _largest_z_graph(limit: float) -> bytes:
    graph = GraphBuilder()
    graph.add("Mul", ["features", "inverse_level"], "levelled")
    graph.add("Mul", ["levelled", "gain"], "scaled")
    graph.add("Sub", ["scaled", "offset"], "z")
    graph.add("ReduceMax", ["z"], "largest", axes=[0], keepdims=0)
    limits = [graph.constant(name, np.array(value, np.float32)) for name, value in (("low", 0.0), ("high", limit))]
    graph.add("Clip", ["largest", *limits], "limited")
    level = helper.make_tensor_value_info("inverse_level", TensorProto.FLOAT, ["channels", 1, 1])
    return graph.model("largest_z", [_cells("features"), level, _cells("gain"), _cells("offset")], _plane("limited"))


def _cells(name: str, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["channels", f"{name}_rows", f"{name}_columns"])


def _plane(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", "columns"])
