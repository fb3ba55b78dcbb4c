"""The repair net as it runs: an encoder of references and a one-step trunk, 8-bit kernels from MXFP4 weights.

Images are BGR. The encoder sees nothing of the frame, so what it makes of a reference is cached and used again
exactly; see `feature_cache`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspector.errors import WeightsError
from inspector.generator.int8_graph import open_weighted_session
from inspector.generator.weight_file import WeightFile, read_weights
from inspector.records import BgrImage

NAME = "repair"
STRIDE_PX = 32
"""Sides of a tile are multiples of this."""
FEATURE_CELL_PX = 8
ENCODER_REACH_PX = 32
"""No feature depends on a pixel further from its cell than this."""
RESIDUAL_GAIN = np.float32(4.0)
"""As in training: what the frame differs from its base is small."""
TRUNK_REACH_PX = 320
"""Nothing in a cell of `STRIDE_PX` of the residual depends on what lies further from that cell than this."""
MOST_PX_AT_ONCE = 2048 * 2048
"""What the trunk takes in one run at most."""
FloatImage = NDArray[np.float32]
Features = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RepairTile:
    """What the trunk sees of one place, sides multiples of `STRIDE_PX`.

    `frame` and `base` are (h, w, 3) uint8, `hole` (h, w) bool where nothing of the frame may be believed, `features`
    (C, h / 8, w / 8) float32 of the references, all 0 without any.
    """

    frame: BgrImage
    base: BgrImage
    hole: NDArray[np.bool_]
    features: Features


class RepairModel:
    """Two sessions over one file of weights. Thread-safe, deterministic."""

    def __init__(self, weights: WeightFile, encoder: bytes, trunk: bytes, threads: int = 1) -> None:
        """Raises `WeightsError` when the graphs do not belong to the weights."""
        self.weights = weights
        self.peel: str | None = None
        self._graph = trunk
        self.threads = threads
        self._encoder = open_weighted_session(encoder, weights, threads)
        self._trunk = open_weighted_session(trunk, weights, threads)
        taken = {item.name: item.shape for item in self._trunk.get_inputs()}
        if set(taken) != {"target", "features"} or [item.name for item in self._encoder.get_inputs()] != ["reference"]:
            raise WeightsError(f"{weights.path}: its graphs are no encoder and trunk of the repair net")
        channels = taken["features"][1]
        if not isinstance(channels, int):
            raise WeightsError(f"{weights.path}: its trunk does not say how many features it takes")
        self.feature_channels = channels

    def bent(self, weights: WeightFile, peel: str) -> RepairModel:
        """A model with another trunk and this one's encoder; see `peel`."""
        other = copy.copy(self)
        other.weights, other.peel = weights, peel
        other._trunk = open_weighted_session(self._graph, weights, self.threads)
        return other

    def encode(self, reference: BgrImage) -> Features:
        """(C, h / 8, w / 8) float32 of a reference tile (h, w, 3) uint8."""
        found: list[Any] = self._encoder.run(None, {"reference": _planes(reference)[None]})
        return np.asarray(found[0][0], np.float32)

    def predict(self, tiles: list[RepairTile]) -> list[FloatImage]:
        """What is to be added to each base, (h, w, 3) float32 in grey levels. Tiles of one size run together."""
        results: dict[int, FloatImage] = {}
        for size in dict.fromkeys(tile.hole.shape for tile in tiles):
            numbers = [number for number, tile in enumerate(tiles) if tile.hole.shape == size]
            most = max(1, MOST_PX_AT_ONCE // (size[0] * size[1]))
            for start in range(0, len(numbers), most):
                together = numbers[start : start + most]
                feed = {
                    "target": np.stack([make_target(tiles[number]) for number in together]),
                    "features": np.stack([tiles[number].features for number in together]),
                }
                found: list[Any] = self._trunk.run(None, feed)
                for number, residual in zip(together, found[0], strict=True):
                    results[number] = np.ascontiguousarray(residual.transpose(1, 2, 0)) * np.float32(255.0)
        return [results[number] for number in range(len(tiles))]


def load_repair_model(threads: int = 1, folder: Path | None = None, form: str = "") -> RepairModel:
    """The shipped model, or that of `folder`. `form` is empty for 8 bits, `-float` for float32 kernels.

    Raises `WeightsError` for files that are missing, truncated, changed or not ours.
    """
    place = _find_folder(folder)
    weights = read_weights(place / f"{NAME}.weights")
    return RepairModel(weights, read_graph(place, f"encoder{form}"), read_graph(place, f"trunk{form}"), threads)


def find_base_sha256(folder: Path | None = None) -> str:
    """The hash of the shipped weights, or of those in `folder`: a peel belongs to one. Raises `WeightsError`."""
    return read_weights(_find_folder(folder) / f"{NAME}.weights").sha256


def _find_folder(folder: Path | None) -> Path:
    return folder or Path(str(resources.files("inspector.generator") / "weights"))


def read_graph(folder: Path, part: str) -> bytes:
    """A graph beside the weights. Raises `WeightsError` when it cannot be read."""
    path = folder / f"{NAME}-{part}.onnx"
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: the graph of the repair model cannot be read: {error.strerror}") from error


def _planes(image: BgrImage) -> FloatImage:
    return np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) / np.float32(255.0)


def make_target(tile: RepairTile) -> FloatImage:
    """The trunk's first input, (7, h, w): as in `training.nets.RepairTrunk`."""
    target = np.empty((7, *tile.hole.shape), np.float32)
    base = _planes(tile.base)
    np.multiply(_planes(tile.frame) - base, RESIDUAL_GAIN, out=target[:3])
    target[:3, tile.hole] = 0.0
    np.subtract(base, 0.5, out=target[3:6])
    target[6] = tile.hole
    return target
