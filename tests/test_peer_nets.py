"""The nets that the product is compared with: the published number of weights, and they run."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from inspector.detector.graphs import open_session

SOURCE = Path(__file__).resolve().parents[1] / "tools" / "peer_nets.py"
MILLIONS = {"ResNet-18 (PaDiM)": 2.78, "WideResNet-50-2 (PatchCore)": 24.85, "EfficientAD-S teacher + student": 6.96}
"""Counted from the published layers: both ResNets without their last stage and classifier."""


def load_peers() -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("peer_nets", SOURCE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    peers: dict[str, Any] = module.PEERS
    return peers


@pytest.mark.parametrize("name", sorted(MILLIONS))
def test_a_peer_has_the_published_shape_and_runs(name: str) -> None:
    """A comparison with a net that is not the published one would be worth nothing."""
    encoded = load_peers()[name]()
    model = onnx.load_from_string(encoded)
    onnx.checker.check_model(model)
    weights = sum(math.prod(weight.dims) for weight in model.graph.initializer)
    assert weights / 1e6 == pytest.approx(MILLIONS[name], rel=0.01)
    image = np.random.default_rng(1).normal(0, 1, (1, 3, 64, 96)).astype(np.float32)
    answers = open_session(encoded).run(None, {"image": image})
    assert all(np.isfinite(answer) for answer in answers)
