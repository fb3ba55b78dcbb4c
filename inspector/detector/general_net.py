"""The general net: trained once, on other parts than the customer's; it compares any part with good ones."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from inspector.detector.change_net import TaughtNet, light_gain, relight
from inspector.detector.good_images import FEWEST_IMAGES, Progress
from inspector.detector.good_part import GoodPart, learn_good_part
from inspector.detector.part_model import Mask
from inspector.errors import WeightsError
from inspector.images import sha256_hex
from inspector.records import BgrImage

WEIGHTS = Path(__file__).with_name("weights")
GRAPH_FILE, FACTS_FILE = "general.onnx", "general.json"
BLOCKS = 4
LARGEST_PX = 700_000
"""Of the part on the screen: the net takes some 95 ms of a core for so many, which a line at full pace can spare."""


@cache
def read_general_net() -> bytes:
    """The graph as it ships. Raises `WeightsError` when it is missing, truncated or another than its facts tell."""
    try:
        graph = (WEIGHTS / GRAPH_FILE).read_bytes()
        facts = json.loads((WEIGHTS / FACTS_FILE).read_text(encoding="utf-8"))
        expected = facts["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"the general net cannot be read: {error}") from error
    if sha256_hex(graph) != expected:
        raise WeightsError(f"{GRAPH_FILE} is not the file that {FACTS_FILE} describes: reinstall the package")
    return graph


def prepare_general_net(
    pictures: list[BgrImage], part: Mask, looks: tuple[int, ...], progress: Progress
) -> TaughtNet | None:
    """The general net beside what it compares laid good pictures with: good ones of the same look.

    None for few pictures and large parts.
    """
    height, width = pictures[0].shape[:2]
    numbers = range(max(looks) + 1)
    if min(looks.count(look) for look in numbers) < FEWEST_IMAGES or height * width > LARGEST_PX:
        return None
    goods: list[GoodPart] = []
    good_by_look: list[GoodPart] = []
    learned_without = [0] * len(pictures)
    for look in numbers:
        own = [index for index, shown in enumerate(looks) if shown == look]
        first = learn_good_part([pictures[index] for index in own]).picture
        lit = [relight(pictures[index], light_gain(pictures[index], first, part)) for index in own]
        # Neighbours in the order of their names are often the same piece.
        blocks = [number * BLOCKS // len(own) for number in range(len(own))]
        for number, index in enumerate(own):
            learned_without[index] = len(goods) + blocks[number]
        for left_out in range(BLOCKS):
            goods.append(learn_good_part([item for item, block in zip(lit, blocks, strict=True) if block != left_out]))
        good_by_look.append(learn_good_part(lit))
        progress("compare", (look + 1) / len(numbers))
    unseen_by = (0,) * len(pictures)
    return TaughtNet(read_general_net(), unseen_by, tuple(learned_without), tuple(goods), tuple(good_by_look), 0, 0.0)
