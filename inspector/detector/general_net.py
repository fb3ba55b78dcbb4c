"""The general net: trained once, on other parts than the customer's; it compares any part with good ones."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

from inspector.detector.change_net import TaughtNet, light_gain, relight
from inspector.detector.good_images import Progress
from inspector.detector.good_part import learn_good_part
from inspector.detector.part_model import Mask
from inspector.errors import WeightsError
from inspector.images import sha256_hex
from inspector.records import BgrImage

GRAPH_FILE, FACTS_FILE = "general.onnx", "general.json"
BLOCKS = 4
FEWEST_IMAGES = 8
"""Good parts are learned without a quarter of the images, and a spread needs some."""
LARGEST_PX = 700_000
"""Of the part on the screen: the net takes about 80 ms of a core for so many, which a line at full pace can spare."""


@cache
def read_general_net() -> bytes:
    """The graph as it ships. Raises `WeightsError` when it is missing, truncated or another than its facts tell."""
    folder = resources.files("inspector.detector") / "weights"
    try:
        graph = (folder / GRAPH_FILE).read_bytes()
        facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
        expected = facts["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"the general net cannot be read: {error}") from error
    if sha256_hex(graph) != expected:
        raise WeightsError(f"{GRAPH_FILE} is not the file that {FACTS_FILE} describes: reinstall the package")
    return graph


def prepare_general_net(pictures: list[BgrImage], part: Mask, progress: Progress) -> TaughtNet | None:
    """The general net beside what it compares laid good pictures with; None for few pictures and large parts."""
    height, width = pictures[0].shape[:2]
    if len(pictures) < FEWEST_IMAGES or height * width > LARGEST_PX:
        return None
    # Neighbours in the order of their names are often the same piece.
    blocks = tuple(index * BLOCKS // len(pictures) for index in range(len(pictures)))
    first = learn_good_part(pictures).picture
    lit = [relight(picture, light_gain(picture, first, part)) for picture in pictures]
    goods = []
    for left_out in range(BLOCKS):
        goods.append(learn_good_part([image for image, block in zip(lit, blocks, strict=True) if block != left_out]))
        progress("compare", (left_out + 1) / BLOCKS)
    return TaughtNet(read_general_net(), (0,) * len(pictures), blocks, tuple(goods), learn_good_part(lit), 0, 0.0)
