"""Choice by evidence: the fixed banks stay unless another choice finds more painted defects than luck would."""

from __future__ import annotations

import numpy as np
import pytest

from inspector.detector.comparison import Cells
from inspector.detector.evidence import DEFAULT_HEADS, JOINED_HEADS, choose_heads, sign_test
from inspector.detector.features import CELL_PX, MARGIN_PX
from inspector.detector.part_heads import Head
from inspector.detector.part_model import HeadName, PartLevel, PartStatistics
from inspector.geometry.tiles import Tile
from inspector.records import BgrImage
from inspector.scenes.overlays import FAMILIES, judge_families

GRID = (60, 70)
IMAGES = 20


class ScriptedHead:
    """A head that scores every good image between 0.8 and 1.2, and painted windows as it is told."""

    def __init__(self, name: HeadName, noisy: bool, on_defect: float) -> None:
        self.name: HeadName = name
        empty = np.zeros((1, 1, 1), np.float16)
        self.levels: tuple[PartLevel, ...] = (PartLevel(PartStatistics(empty, empty), 1),)
        worst = np.linspace(0.8, 6.0 if noisy else 1.2, IMAGES)
        self.held_out: list[Cells] = [np.zeros(GRID, np.float32) for _ in range(IMAGES)]
        for image, score in zip(self.held_out, worst, strict=True):
            image[0, 0] = score
        self._on_defect = on_defect

    def score_window(self, index: int, padded: BgrImage, window: Tile) -> Cells:
        """The middle of the window holds the defect."""
        assert padded.shape[:2] == tuple(side * CELL_PX + 2 * MARGIN_PX for side in (window.rows, window.columns))
        scores = np.zeros((window.rows, window.columns), np.float32)
        scores[window.rows // 2, window.columns // 2] = self._on_defect
        return scores


def choose(*heads: Head, net_may_replace: bool = True) -> tuple[HeadName, ...]:
    dice = np.random.default_rng(5)
    size = (GRID[0] * CELL_PX + 2 * MARGIN_PX, GRID[1] * CELL_PX + 2 * MARGIN_PX, 3)
    pictures = [dice.integers(60, 200, size, dtype=np.uint8) for _ in range(IMAGES)]
    judged = [np.ones(GRID, np.bool_)] * IMAGES
    looks = (0,) * IMAGES
    choice = choose_heads(
        list(heads), pictures, judged, looks, 0.05, lambda stage, done: None, net_may_replace=net_may_replace
    )
    assert choice.painted > IMAGES
    compared = {DEFAULT_HEADS, *((head.name,) for head in heads if head.name != "net" or net_may_replace)}
    compared |= {JOINED_HEADS} if any(head.name == "net" for head in heads) else set()
    assert {item.heads for item in choice.candidates} == compared
    return choice.heads


@pytest.mark.parametrize(
    ("energy", "contrast", "chosen"),
    [
        (ScriptedHead("energy", False, 3.0), ScriptedHead("contrast", True, 0.0), ("energy",)),
        (ScriptedHead("energy", True, 0.0), ScriptedHead("contrast", False, 3.0), ("contrast",)),
        (ScriptedHead("energy", False, 3.0), ScriptedHead("contrast", False, 3.0), DEFAULT_HEADS),
        (ScriptedHead("energy", False, 0.0), ScriptedHead("contrast", False, 0.0), DEFAULT_HEADS),
    ],
)
def test_a_head_that_drowns_the_other_is_left_out(energy: Head, contrast: Head, chosen: tuple[HeadName, ...]) -> None:
    """A noisy head raises the common threshold above what the quiet one finds; without such evidence both stay."""
    assert choose(energy, contrast) == chosen


def with_odd_images(head: ScriptedHead) -> ScriptedHead:
    """The same head, to which two good images look like defects."""
    for image in head.held_out[:2]:
        image[0, 0] = 30.0
    return head


@pytest.mark.parametrize(
    ("net", "bank_is_noisy", "chosen"),
    [
        (ScriptedHead("net", False, 3.0), False, JOINED_HEADS),
        (ScriptedHead("net", False, 3.0), True, ("net",)),
        (ScriptedHead("net", False, 0.0), False, DEFAULT_HEADS),
        (with_odd_images(ScriptedHead("net", False, 40.0)), False, DEFAULT_HEADS),
    ],
)
def test_a_net_must_find_more_at_the_same_false_alarms(
    net: Head, bank_is_noisy: bool, chosen: tuple[HeadName, ...]
) -> None:
    """It joins banks that find less, replaces banks that drown it, and is left out when good images alarm it."""
    banks = [ScriptedHead("energy", bank_is_noisy, 0.0), ScriptedHead("contrast", bank_is_noisy, 0.0)]
    assert choose(*banks, net) == chosen


def test_a_net_never_replaces_banks_that_look_closer() -> None:
    """Full resolution is not part of the comparison, so what it needs cannot lose it."""
    banks = [ScriptedHead("energy", True, 0.0), ScriptedHead("contrast", True, 0.0)]
    assert choose(*banks, ScriptedHead("net", False, 3.0), net_may_replace=False) == DEFAULT_HEADS


def test_the_sign_test_is_one_sided_and_exact() -> None:
    """Binomial tails by hand; no difference and a loss are never evidence."""
    assert sign_test(5, 0) == pytest.approx(1 / 32)
    assert sign_test(9, 1) == pytest.approx(11 / 1024)
    assert sign_test(0, 0) == sign_test(3, 3) == sign_test(2, 7) == 1.0


def test_judging_families_are_kept_from_training() -> None:
    """What ranks the heads is nothing that a head may have been taught with."""
    assert judge_families() and all(FAMILIES[kind] == "judge" for kind in judge_families())
