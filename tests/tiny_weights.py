"""A repair net that is small and untrained, exported by the product's own way: enough to bend, swap and refuse."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np


def write_tiny_net(folder: Path, seed: int, *, noise: float) -> Path:
    """Weights and graphs in `folder`. The residual it paints is random, about `noise` of full scale; 0 paints none.

    Needs PyTorch.
    """
    import torch

    from inspector.generator.training.export import export_graph, store_graphs
    from inspector.generator.training.nets import RepairNet

    torch.manual_seed(seed)
    net = RepairNet((8, 8, 8, 8), 8, 8)
    for name, parameter in net.named_parameters():
        if name.endswith(".bias"):
            # The exporter lets equal constants share one place, and each bias needs its own.
            torch.nn.init.normal_(parameter, std=noise if name == "trunk.last.bias" else 0.01)
    torch.nn.init.normal_(net.trunk.last.weight, std=noise)
    random = np.random.default_rng(seed)
    reference = torch.from_numpy(random.uniform(0, 1, (2, 3, 64, 64)).astype(np.float32))
    target = torch.from_numpy(random.uniform(-1, 1, (2, 7, 64, 64)).astype(np.float32))
    features = torch.from_numpy(random.uniform(-3, 3, (2, 8, 8, 8)).astype(np.float32))
    encoder, trunk = {"reference": reference}, {"target": target, "features": features}
    with warnings.catch_warnings():
        # The exporter warns of its successor.
        warnings.simplefilter("ignore")
        graphs = [
            export_graph(name, part, inputs, output, [{key: value.numpy() for key, value in inputs.items()}])
            for name, part, inputs, output in (
                ("encoder", net.encoder, encoder, "features"),
                ("trunk", net.trunk, trunk, "residual"),
            )
        ]
    metadata = {"model": "repair", "licence": "test", "training_config_sha256": "0" * 64}
    return store_graphs(folder, "repair", graphs, metadata)
