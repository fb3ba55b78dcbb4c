"""The contrast bank: how strongly spots, lines, steps and colour spots stand out at each cell, whatever their sign.

Same contract as the part bank: (H + 2 * MARGIN_PX, W + 2 * MARGIN_PX, 3) uint8 BGR in, (C, H / 4, W / 4)
float32 out, no padding inside. The logarithm of the light makes a pit in the shadow as strong as one in the sun.
It sees what the energies of the part bank average away: small marks on a part whose light and wear vary widely.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from inspector.detector.features import CELL_PX, MARGIN_PX
from inspector.detector.graphs import GraphBuilder
from inspector.detector.surface_bank import COARSE_PX, coarse_kernels, spot

DARKEST_LEVEL = 4.0
"""Added to the grey level before the logarithm, so that noise in the dark stays noise."""
GAIN = 50.0
"""Brings the contrasts of an ordinary part to about one, where half floats are fine enough."""


def build_contrast_bank() -> bytes:
    """The compiled bank. Order of channels: two spots, eight lines, four steps, two colour spots."""
    graph = GraphBuilder()
    graph.add("Cast", ["pixels"], "samples", to=TensorProto.FLOAT)
    graph.add("Transpose", ["samples"], "planes3", perm=[2, 0, 1])
    graph.add("Unsqueeze", ["planes3", graph.constant("batch_axis", np.array([0], np.int64))], "planes")
    reach = CELL_PX * (COARSE_PX // 2)
    mixing = np.array([[1, 1, 1], [0, -1.5, 1.5], [1.5, -0.75, -0.75]]) / 3.0
    shrink = np.einsum("oc,hw->ochw", mixing, np.full((2, 2), 0.25)).astype(np.float32)
    cropped = graph.crop("planes", "seen", MARGIN_PX - reach)
    graph.add("Conv", [cropped, graph.constant("halve", shrink)], "half", strides=[2, 2])
    graph.add("Split", ["half", graph.constant("kinds", np.array([1, 2], np.int64))], "grey", axis=1)
    graph.nodes[-1].output.append("tint")
    graph.add("Add", ["grey", graph.constant("dark", np.array(DARKEST_LEVEL, np.float32))], "lifted")
    graph.add("Log", ["lifted"], "light")
    graph.add("AveragePool", ["light"], "light_cells", kernel_shape=[2, 2], strides=[2, 2])
    graph.add("AveragePool", ["tint"], "tint_cells", kernel_shape=[2, 2], strides=[2, 2])
    graph.add("Conv", ["light_cells", graph.constant("shapes", coarse_kernels())], "shape_answers")
    colour = np.zeros((2, 2, COARSE_PX, COARSE_PX), np.float32)
    colour[0, 0] = colour[1, 1] = spot(COARSE_PX, 1.25) / 128.0
    graph.add("Conv", ["tint_cells", graph.constant("colours", colour)], "colour_answers")
    graph.add("Concat", ["shape_answers", "colour_answers"], "answers", axis=1)
    graph.add("Abs", ["answers"], "contrast_light")
    graph.add("Mul", ["contrast_light", graph.constant("gain", np.array(GAIN, np.float32))], "contrast")
    return graph.bank("contrast_bank", "contrast")
