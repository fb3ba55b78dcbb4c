"""The end of a training: what a checkpoint holds becomes the shipped files, checked on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils import parametrize

from inspector.generator.training.config import RepairStage
from inspector.generator.training.export import ExportedGraph, export_graph, store_graphs
from inspector.generator.training.fake_mxfp4 import bake, fake_quantize
from inspector.generator.training.nets import RepairNet
from inspector.generator.training.repair_stage import build_net, to_tensors
from inspector.generator.training.samples import SampleMaker, open_sources
from inspector.images import sha256_hex

CALIBRATION_SAMPLES = 48
CALIBRATION_SEED = 99
LICENCE = "CC-BY-SA-4.0"


def load_averaged(checkpoint: Path) -> tuple[RepairStage, RepairNet, dict[str, float]]:
    """The stage, the averaged net and what was spent: steps and seconds."""
    stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
    stage = RepairStage.model_validate_json(stored["stage"])
    net = build_net(stage)
    if stage.quantize:
        fake_quantize(net)
    net.load_state_dict(stored["average"])
    if stage.quantize:
        bake(net)
    assert not any(parametrize.is_parametrized(module) for module in net.modules())
    net.eval()
    return stage, net, {"steps": float(stored["step"]), "seconds": float(stored["seconds"])}


def export_repair(checkpoint: Path, folder: Path, encoding: str = "mxfp4") -> Path:
    """Write the weights and graphs of a checkpoint to `folder`. Raises `WeightsError` for a bad export."""
    stage, net, spent = load_averaged(checkpoint)
    maker = SampleMaker(stage.samples, open_sources(stage.samples))
    batch = to_tensors(maker.make_batch((CALIBRATION_SEED, stage.seed), CALIBRATION_SAMPLES), "cpu")
    references = batch.references.flatten(0, 1)
    with torch.no_grad():
        features = net.encoder(references).unflatten(0, batch.references.shape[:2])
        pooled = (features * batch.weights[:, :, None, None, None]).sum(dim=1)

    def encoder_feeds() -> Iterator[Mapping[str, NDArray[np.float32]]]:
        shown = batch.weights.flatten() > 0
        for reference in references[shown].split(8):
            yield {"reference": reference.numpy()}

    def trunk_feeds() -> Iterator[Mapping[str, NDArray[np.float32]]]:
        for target, feature in zip(batch.target.split(8), pooled.split(8), strict=True):
            yield {"target": target.numpy(), "features": feature.numpy()}

    graphs: list[ExportedGraph] = [
        export_graph("encoder", net.encoder, {"reference": references[:2]}, "features", list(encoder_feeds())),
        export_graph(
            "trunk", net.trunk, {"target": batch.target[:2], "features": pooled[:2]}, "residual", list(trunk_feeds())
        ),
    ]
    metadata = {
        "model": "repair",
        "licence": LICENCE,
        "training_config_sha256": sha256_hex(stage.model_dump_json().encode()),
        "details": {"steps": f"{spent['steps']:.0f}", "training_s": f"{spent['seconds']:.0f}"},
    }
    return store_graphs(folder, "repair", graphs, metadata, encoding)
