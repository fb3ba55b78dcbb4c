"""The feature banks: fixed convolutions as one compiled ONNX graph, the same for a tile and a whole frame.

A graph takes (H + 2 * MARGIN_PX, W + 2 * MARGIN_PX, 3) uint8 BGR, H and W multiples of 4, and returns
(C, H / 4, W / 4) float32. No operation in it pads, so a tile cut from a frame with its margin gives exactly
the cells that the whole frame gives there.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors

from inspector.detector.graphs import GraphBuilder, open_session
from inspector.errors import RecipeTamperedError
from inspector.records import BgrImage

CELL_PX = 4
MARGIN_PX = 18
CONTEXT_CELLS = 4
"""Cells of context that the second, coarser half of a bank sees on each side."""


BAD_GRAPH = (
    runtime_errors.InvalidProtobuf,
    runtime_errors.InvalidGraph,
    runtime_errors.InvalidArgument,
    runtime_errors.NotImplemented,
    runtime_errors.RuntimeException,
    runtime_errors.Fail,
    ValueError,
)


PART_CHANNELS = (
    "luma",
    "red_green",
    "blue_yellow",
    "energy_x",
    "energy_y",
    "energy_diagonal",
    "energy_antidiagonal",
    "energy_spot",
    "luma_contrast",
    "red_green_contrast",
    "blue_yellow_contrast",
    "slope_x",
    "slope_y",
    "coarse_energy_x",
    "coarse_energy_y",
)


@dataclass(frozen=True, slots=True)
class Whitening:
    """`mixing` (C, C) and `centre` (C,): whitened = mixing @ (features - centre)."""

    mixing: NDArray[np.float64]
    centre: NDArray[np.float64]

    def apply(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(C, h, w) features as the whitened bank would return them."""
        mixed = np.einsum("cd,dhw->chw", self.mixing, features - self.centre[:, None, None], optimize=True)
        return np.asarray(mixed, np.float32)


def _first_kernels() -> NDArray[np.float32]:
    """(8, 3, 4, 4): three opponent colours, four slopes of luma and a spot, all on 0..1 samples."""
    luma = np.array([1.0, 1.0, 1.0]) / 3.0
    red_green = np.array([0.0, -0.5, 0.5])
    blue_yellow = np.array([0.5, -0.25, -0.25])
    box = np.outer([1, 1, 1, 1], [1, 1, 1, 1]) / 16.0
    across, along = np.array([-1.0, -1.0, 1.0, 1.0]) / 2.0, np.array([1.0, 2.0, 2.0, 1.0]) / 6.0
    slope_x, slope_y = np.outer(along, across), np.outer(across, along)
    diagonal, antidiagonal = (slope_x + slope_y) / np.sqrt(2), (slope_x - slope_y) / np.sqrt(2)
    ring = np.full((4, 4), -1.0 / 12.0)
    ring[1:3, 1:3] = 0.25
    colours = [np.einsum("c,hw->chw", weights, box) for weights in (luma, red_green, blue_yellow)]
    shapes = [np.einsum("c,hw->chw", luma, kernel) for kernel in (slope_x, slope_y, diagonal, antidiagonal, ring)]
    return (np.stack(colours + shapes) / 255.0).astype(np.float32)


def _second_kernels() -> NDArray[np.float32]:
    """(2, 1, 3, 3): Sobel slopes of the luma cells."""
    sobel = np.outer([1.0, 2.0, 1.0], [-1.0, 0.0, 1.0]) / 4.0
    return np.stack([sobel, sobel.T])[:, None].astype(np.float32)


def build_part_bank(whitening: Whitening | None = None) -> bytes:
    """The bank for registered parts: colour, oriented energy, contrast and slope at two scales (`PART_CHANNELS`).

    With `whitening` its channels are mixed so that they vary independently and equally over good parts.
    """
    graph = GraphBuilder()
    graph.add("Cast", ["pixels"], "samples", to=TensorProto.FLOAT)
    graph.add("Transpose", ["samples"], "planes3", perm=[2, 0, 1])
    graph.add("Unsqueeze", ["planes3", graph.constant("batch_axis", np.array([0], np.int64))], "planes")
    graph.add("Conv", ["planes", graph.constant("first", _first_kernels())], "fine", strides=[2, 2])
    graph.add("Split", ["fine", graph.constant("halves", np.array([3, 5], np.int64))], "colour_fine", axis=1)
    graph.nodes[-1].output.append("shape_fine")
    graph.add("AveragePool", ["colour_fine"], "colour_wide", kernel_shape=[3, 3], strides=[2, 2])
    graph.add("Abs", ["shape_fine"], "shape_abs")
    graph.add("AveragePool", ["shape_abs"], "energy_wide", kernel_shape=[3, 3], strides=[2, 2])
    graph.add("Sqrt", [graph.crop("energy_wide", "energy_cells", CONTEXT_CELLS)], "energy")
    graph.crop("colour_wide", "colour", CONTEXT_CELLS)
    graph.add("AveragePool", ["colour_wide"], "surround_wide", kernel_shape=[9, 9], strides=[1, 1])
    graph.add("Sub", ["colour", "surround_wide"], "contrast")
    graph.slice("colour_wide", "luma_wide", (1,), (0,), (1,))
    graph.add("Conv", ["luma_wide", graph.constant("second", _second_kernels())], "slope_wide")
    graph.crop("slope_wide", "slope", CONTEXT_CELLS - 1)
    graph.add("Abs", ["slope_wide"], "slope_abs")
    graph.add("AveragePool", ["slope_abs"], "coarse_wide", kernel_shape=[3, 3], strides=[1, 1])
    graph.add("Sqrt", [graph.crop("coarse_wide", "coarse_cells", CONTEXT_CELLS - 2)], "coarse")
    graph.add("Concat", ["colour", "energy", "contrast", "slope", "coarse"], "features", axis=1)
    if whitening is None:
        return graph.bank("part_bank", "features")
    mixing = graph.constant("mixing", whitening.mixing[:, :, None, None].astype(np.float32))
    offset = graph.constant("offset", (-whitening.mixing @ whitening.centre).astype(np.float32))
    graph.add("Conv", ["features", mixing, offset], "whitened")
    return graph.bank("whitened_part_bank", "whitened")


class FeatureBank:
    """A compiled bank. Thread-safe: ONNX Runtime sessions may run side by side."""

    def __init__(self, model: bytes, threads: int = 1) -> None:
        try:
            self._session = open_session(model, threads)
        except BAD_GRAPH as error:
            raise RecipeTamperedError(f"a feature bank is not a graph of ours: {error}") from error

    def compute(self, padded: BgrImage) -> NDArray[np.float32]:
        """(C, H / 4, W / 4) float32 of (H + 2 * MARGIN_PX, W + 2 * MARGIN_PX, 3) uint8."""
        (features,) = self._session.run(None, {"pixels": np.ascontiguousarray(padded)})
        return np.asarray(features[0], np.float32)


def pad_to_cells(pixels: BgrImage) -> BgrImage:
    """Mirror the margin around an image and fill its last cells: (H, W, 3) → whole cells plus MARGIN_PX."""
    height, width = pixels.shape[:2]
    bottom, right = -height % CELL_PX + MARGIN_PX, -width % CELL_PX + MARGIN_PX
    mirrored = cv2.copyMakeBorder(pixels, MARGIN_PX, bottom, MARGIN_PX, right, cv2.BORDER_REFLECT_101)
    return np.asarray(mirrored, np.uint8)
