"""What ships of the general net: its graph, checked against PyTorch, and the facts about it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from inspector.detector.general_net import FACTS_FILE, GRAPH_FILE
from inspector.detector.good_part import GoodPart
from inspector.detector.training.compare_net import ChangeNets, export_nets
from inspector.detector.training.general_stage import load_averaged
from inspector.images import sha256_hex

CHECKED_PX = 192


def export_general(checkpoint: Path, out: Path) -> Path:
    """Write the graph and its facts into `out`; the graph's path.

    Raises `WeightsError` for a damaged checkpoint, `FitError` when ONNX Runtime computes something else than PyTorch.
    """
    net, stage, step = load_averaged(checkpoint)
    dice = np.random.default_rng(stage.seed)
    shape = (CHECKED_PX, CHECKED_PX, 3)
    picture, middle, spread = (dice.integers(0, most, shape, dtype=np.uint8) for most in (256, 256, 40))
    graph = export_nets(ChangeNets([net]).eval(), picture, GoodPart(middle, spread))
    out.mkdir(parents=True, exist_ok=True)
    facts = {
        "sha256": sha256_hex(graph),
        "bytes": len(graph),
        "steps": step,
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "stage": stage.model_dump(mode="json"),
    }
    (out / GRAPH_FILE).write_bytes(graph)
    (out / FACTS_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return out / GRAPH_FILE
