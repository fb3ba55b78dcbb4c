"""The end of a training: what a checkpoint holds becomes the shipped files, checked on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from inspector.errors import WeightsError
from inspector.generator.training.export import ExportedGraph, export_graph, store_graphs
from inspector.generator.training.repair_stage import load_averaged, to_tensors
from inspector.generator.training.samples import SampleMaker, open_sources
from inspector.generator.weight_file import Encoding
from inspector.images import sha256_hex

CALIBRATION_SAMPLES = 96
CALIBRATION_SURFACES = 0.5
"""Share of the samples that measure the ranges without references: there the net has the most to add."""
CALIBRATION_SEED = 99
RUN_TOGETHER = 8
LICENCE = "CC-BY-SA-4.0"


def export_repair(
    checkpoint: Path, folder: Path, encoding: Encoding = "mxfp4", folders: Mapping[str, Path] | None = None
) -> Path:
    """Write the weights and graphs of a checkpoint to `folder` and return the file of weights.

    The ranges of the activations are measured on samples of the training; `folders` are where these lie now, if
    not where they were. Raises `WeightsError` for a bad checkpoint or export, `DatasetError` without the samples.
    """
    net, stored = load_averaged(checkpoint)
    stage = stored.stage
    samples = stage.samples.model_copy(update={"surface_share": CALIBRATION_SURFACES})
    maker = SampleMaker(samples, open_sources(samples, {**stored.folders, **(folders or {})}))
    batch = to_tensors(maker.make_batch((CALIBRATION_SEED, stage.seed), CALIBRATION_SAMPLES), "cpu")
    references = batch.references.flatten(0, 1)
    shown = references[batch.weights.flatten() > 0]
    if not len(shown):
        raise WeightsError(f"{checkpoint}: its samples have no references, so the encoder cannot be exported")
    with torch.no_grad():
        features = net.encoder(references).unflatten(0, batch.references.shape[:2])
        pooled = (features * batch.weights[:, :, None, None, None]).sum(dim=1)

    def encoder_feeds() -> Iterator[Mapping[str, NDArray[np.float32]]]:
        for reference in shown.split(RUN_TOGETHER):
            yield {"reference": reference.numpy()}

    def trunk_feeds() -> Iterator[Mapping[str, NDArray[np.float32]]]:
        for target, feature in zip(batch.target.split(RUN_TOGETHER), pooled.split(RUN_TOGETHER), strict=True):
            yield {"target": target.numpy(), "features": feature.numpy()}

    graphs: list[ExportedGraph] = [
        export_graph("encoder", net.encoder, {"reference": shown[:2]}, "features", encoder_feeds()),
        export_graph(
            "trunk", net.trunk, {"target": batch.target[:2], "features": pooled[:2]}, "residual", trunk_feeds()
        ),
    ]
    metadata = {
        "model": "repair",
        "licence": LICENCE,
        "training_config_sha256": sha256_hex(stage.model_dump_json().encode()),
        "details": {
            "steps": str(stored.step),
            "training_s": f"{stored.seconds:.0f}",
            "parameters": str(sum(item.numel() for item in net.parameters())),
        },
    }
    return store_graphs(folder, "repair", graphs, metadata, encoding)
