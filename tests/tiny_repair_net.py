"""A repair net of the real layout and hardly any width, exported as the shipped one is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from inspector.generator.training.export import export_graph, store_graphs
from inspector.generator.training.fake_mxfp4 import bake, fake_quantize
from inspector.generator.training.nets import RepairNet
from inspector.generator.weight_file import Encoding

CHANNELS = 8
METADATA = {"model": "repair", "licence": "CC-BY-SA-4.0", "training_config_sha256": "1" * 64}


def build_tiny_net(seed: int = 1) -> RepairNet:
    """Untrained, with a residual that is not small and weights that MXFP4 holds exactly."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    net = RepairNet((8, 8, 8, 8), 8, CHANNELS)
    torch.nn.init.normal_(net.trunk.last.weight, std=0.05)
    for name, values in net.named_parameters():
        if name.endswith("bias"):  # Equal ones would be exported as one.
            torch.nn.init.normal_(values, std=0.02)
    fake_quantize(net)
    bake(net)
    net.eval()
    return net


def export_tiny_net(folder: Path, net: RepairNet, encoding: Encoding = "mxfp4") -> Path:
    """The files of the net in `folder`, with ranges from noise."""
    generator = torch.Generator().manual_seed(5)
    reference = torch.rand(2, 3, 64, 64, generator=generator)
    target = torch.rand(2, 7, 64, 64, generator=generator) - 0.5
    features = net.encoder(reference).detach()
    graphs = [
        export_graph("encoder", net.encoder, {"reference": reference}, "features", [{"reference": reference.numpy()}]),
        export_graph(
            "trunk",
            net.trunk,
            {"target": target, "features": features},
            "residual",
            [{"target": target.numpy().astype(np.float32), "features": features.numpy()}],
        ),
    ]
    return store_graphs(folder, "repair", graphs, METADATA, encoding)
