"""The trained net that tells noise from detail: weights checked, run through ONNX Runtime tile by tile."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspector.errors import WeightsError
from inspector.generator.exposure.brightening import CHANNELS
from inspector.generator.exposure.response import FloatImage
from inspector.images import sha256_hex

WEIGHTS_DIR = Path(__file__).parent.parent / "weights"
GRAPH_FILE, FACTS_FILE = "exposure.onnx", "exposure.json"
MOST_WEIGHT_BYTES = 64 * 1024 * 1024
COLOURS = 3
TILE_PX = 1280
"""Longest side of what one run restores; the memory of a run grows with its area."""


UNUSABLE_GRAPH = (
    runtime_errors.Fail,
    runtime_errors.InvalidArgument,
    runtime_errors.InvalidGraph,
    runtime_errors.InvalidProtobuf,
    runtime_errors.NotImplemented,
    runtime_errors.RuntimeException,
)
"""What ONNX Runtime raises for bytes that it cannot run; they have no base but `Exception`."""


class NetFacts(BaseModel):
    """What stands beside the graph: its hash, and what a caller must know to run it without seams."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    parameters: int = Field(ge=1)
    steps: int = Field(ge=1)
    reach_px: int = Field(ge=0, le=1024)
    multiple_px: int = Field(ge=1, le=64)
    licence: str


class LowLightNet:
    """A loaded net. May be used by several threads; the same input gives the same output on one host."""

    def __init__(self, session: onnxruntime.InferenceSession, facts: NetFacts) -> None:
        self._session = session
        self.facts = facts

    def restore(self, bright: FloatImage, tile_px: int = TILE_PX) -> FloatImage:
        """(H, W, 6) as `brighten` makes it → (H, W, 3) float32 values 0..1 without their noise.

        Tiles overlap by the reach of the net on every side that is not the frame's own, so none of them shows.
        """
        height, width = bright.shape[:2]
        unit = self.facts.multiple_px
        padded = np.pad(bright, ((0, -height % unit), (0, -width % unit), (0, 0)), mode="edge")
        restored = np.empty((*padded.shape[:2], COLOURS), np.float32)
        for top, bottom in _split(padded.shape[0], tile_px, unit):
            for left, right in _split(padded.shape[1], tile_px, unit):
                restored[top:bottom, left:right] = self._restore_tile(padded, (left, top, right, bottom))
        return np.clip(restored[:height, :width], 0.0, 1.0)

    def _restore_tile(self, padded: FloatImage, tile: tuple[int, int, int, int]) -> FloatImage:
        left, top, right, bottom = tile
        reach = self.facts.reach_px
        y0, x0 = max(0, top - reach), max(0, left - reach)
        window = padded[y0 : bottom + reach, x0 : right + reach].transpose(2, 0, 1)[None]
        answer: NDArray[np.float32] = self._session.run(None, {"bright": np.ascontiguousarray(window)})[0]
        return answer[0, :, top - y0 : bottom - y0, left - x0 : right - x0].transpose(1, 2, 0)


def _split(length: int, tile_px: int, unit: int) -> list[tuple[int, int]]:
    """Spans of equal length, in whole units, that cover a length of whole units."""
    count = -(-length // tile_px)
    edges = [index * (length // unit) // count * unit for index in range(count + 1)]
    return list(pairwise(edges))


def open_net(folder: Path = WEIGHTS_DIR, threads: int = 2) -> LowLightNet:
    """The net of a folder; `WeightsError` when its files are missing, truncated, changed or foreign."""
    graph = _read(folder / GRAPH_FILE)
    try:
        facts = NetFacts.model_validate_json(_read(folder / FACTS_FILE))
    except ValidationError as error:
        raise WeightsError(f"{FACTS_FILE}: not the facts of the low-light net: {error.errors()[0]['msg']}") from error
    if sha256_hex(graph) != facts.sha256:
        raise WeightsError(f"{GRAPH_FILE}: does not match its hash in {FACTS_FILE}; install the package again")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        channels = session.get_inputs()[0].shape[1]
    except (*UNUSABLE_GRAPH, IndexError) as error:
        raise WeightsError(f"{GRAPH_FILE}: not a graph that can be run: {error}") from error
    if channels != CHANNELS:
        raise WeightsError(f"{GRAPH_FILE}: takes {channels} channels, not {CHANNELS}; it belongs to another version")
    return LowLightNet(session, facts)


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_WEIGHT_BYTES:
            raise WeightsError(f"{path.name}: {path.stat().st_size} bytes are no weights of this net")
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(
            f"{path}: cannot be read ({error.strerror}); without it no dark frame is lit, all else works"
        ) from error
