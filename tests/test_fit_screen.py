"""Coarse to fine: what the screen misses is counted, tiles may come in any order, frames in any depth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inspector.detector import part_scorer, surface_scorer
from inspector.detector.features import FeatureBank
from inspector.detector.part_learning import LearnedPart, learn_part
from inspector.detector.part_scorer import PartScorer
from inspector.detector.recipe import Recipe
from inspector.detector.recipe_store import RecipeStore
from inspector.detector.scorer import Scorer
from inspector.detector.screen_misses import ScreenMisses, count_screen_misses
from inspector.geometry.tiles import Tile, worst_tiles
from inspector.records import BgrImage, VerdictKind
from pipelines import fit
from pipelines.dataset import ImageFolder, open_good_images
from pipelines.evaluate import evaluate_recipe
from pipelines.fit import FitReport, fit_recipe, no_progress
from pipelines.inspect_images import inspect_images
from tests.part_images import paint_board, paint_surface, write_images
from tests.small_line import draw_part

WIDTH, HEIGHT = 1400, 1050
"""Above the screen's side: looked at coarsely first, then in tiles."""


def large_board(seed: int, *, defect: bool = False) -> BgrImage:
    return paint_board(seed, width=WIDTH, height=HEIGHT, defect=defect)


def large_surface(seed: int, *, defect: bool = False) -> BgrImage:
    return paint_surface(seed, width=WIDTH, height=HEIGHT, defect=defect)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> ImageFolder:
    root = tmp_path_factory.mktemp("large")
    return open_good_images(write_images(root / "good", [large_board(seed) for seed in range(10)]))


@dataclass(frozen=True)
class Fitted:
    """A recipe of large boards in a data directory, what was learned for it, and what `fit` said."""

    data_dir: Path
    learned: LearnedPart
    report: FitReport


@pytest.fixture(scope="module")
def fitted(large: ImageFolder, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    kept: list[LearnedPart] = []

    def learn_and_keep(*values: Any, **options: Any) -> LearnedPart:
        kept.append(learn_part(*values, **options))
        return kept[-1]

    data_dir = tmp_path_factory.mktemp("fitted")
    with patch.object(fit, "learn_part", learn_and_keep):
        report = fit_recipe("large", large.paths[0].parent, data_dir)
    return Fitted(data_dir, kept[0], report)


@pytest.fixture(scope="module")
def learned(fitted: Fitted) -> LearnedPart:
    return fitted.learned


def scorer_of(learned: LearnedPart) -> PartScorer:
    return PartScorer(learned.model, FeatureBank(learned.graph), FeatureBank(learned.contrast_graph))


# --- what the screen misses -------------------------------------------------------------------------


def test_the_share_that_the_screen_misses_is_bounded(learned: LearnedPart) -> None:
    """Most painted defects are called by full resolution, few of them without a tile; the bound says so."""
    misses = learned.screen_misses
    assert misses is not None and misses.painted >= 20 and misses.called >= 0.5 * misses.painted
    assert misses.missed <= 0.2 * misses.called
    share = misses.to_json()["share_missed_at_most"]
    assert misses.missed / misses.called < share < 0.5


def test_a_blind_screen_is_found_out(learned: LearnedPart, large: ImageFolder) -> None:
    """A screen on which nothing stands out sends no defect to full resolution: all that could be called are missed."""
    model = learned.model
    blind = replace(
        model, screen=replace(model.screen, unit=1e6), contrast=replace(model.contrast, unit=1e6), regions=None
    )
    scorer = PartScorer(blind, FeatureBank(learned.graph), FeatureBank(learned.contrast_graph))
    misses = count_screen_misses(scorer, blind, large, no_progress)
    assert misses is not None and misses.called > 0 and misses.missed == misses.called
    assert misses.to_json()["share_missed_at_most"] == 1.0


def test_the_bound_is_the_exact_one() -> None:
    """None of 91 is at most 4.0 % (Clopper and Pearson); nothing called promises nothing."""
    assert ScreenMisses(92, 91, 0).to_json()["share_missed_at_most"] == pytest.approx(0.0397, abs=5e-5)
    assert ScreenMisses(5, 0, 0).to_json()["share_missed_at_most"] == 1.0


def test_the_bound_is_in_the_recipe_and_in_its_evaluation(fitted: Fitted, tmp_path: Path) -> None:
    """`fit` and `evaluate` show the same numbers; a part that is looked at wholly in full resolution has none."""
    write_images(tmp_path / "set" / "test" / "good", [large_board(50)])
    shown = evaluate_recipe("large", tmp_path / "set", fitted.data_dir).to_json()["screen_misses"]
    assert shown == fitted.report.choices["screen_misses"] and shown["painted"] >= 20
    small = write_images(tmp_path / "small", [paint_board(seed) for seed in range(8)])
    assert fit_recipe("small", small, tmp_path).choices["screen_misses"] is None


# --- tiles ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["located", "surface"])
def test_tiles_may_come_in_any_order(
    kind: str, learned: LearnedPart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same map, bit for bit, whichever tile is looked at first."""
    scorer: Scorer
    if kind == "located":
        scorer, frame = scorer_of(learned), large_board(77, defect=True)
    else:
        good = write_images(tmp_path / "good", [large_surface(seed) for seed in range(8)])
        fit_recipe("x", good, tmp_path)
        scorer, frame = RecipeStore(tmp_path).load("x").scorer(), large_surface(77, defect=True)
    expected = scorer.score_frame(frame)
    counts = []

    for seed in range(3):

        def shuffled(
            scores: NDArray[np.float32], side: int, count: int, minimum: float, seed: int = seed
        ) -> list[Tile]:
            tiles = worst_tiles(scores, side, count, minimum)
            counts.append(len(tiles))
            return [tiles[index] for index in np.random.default_rng(seed).permutation(len(tiles))]

        monkeypatch.setattr(part_scorer, "worst_tiles", shuffled)
        monkeypatch.setattr(surface_scorer, "worst_tiles", shuffled)
        found = scorer.score_frame(frame)
        assert np.array_equal(found.anomaly_map.scores, expected.anomaly_map.scores)
        assert found.score == expected.score and found.detections == expected.detections
    assert min(counts) > 1


# --- depth ------------------------------------------------------------------------------------------


def to_grey(pixels: BgrImage) -> NDArray[Any]:
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY))


def to_deep(pixels: NDArray[Any]) -> NDArray[Any]:
    """16 bits with something in the lower ones."""
    return (pixels.astype(np.uint16) << 8) + 77


WAYS: dict[str, Callable[[BgrImage], NDArray[Any]]] = {
    "colour8": lambda pixels: pixels,
    "grey8": to_grey,
    "colour16": to_deep,
    "grey16": lambda pixels: to_deep(to_grey(pixels)),
}


@pytest.fixture(scope="module")
def taught_with(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Recipe]:
    """The small part taught with images written in one of `WAYS`, once each."""

    @cache
    def teach_with(way: str) -> Recipe:
        root = tmp_path_factory.mktemp(way)
        (root / "good").mkdir()
        for number in range(12):
            cv2.imwrite(str(root / "good" / f"{number:02d}.png"), WAYS[way](draw_part(1000 + number)))
        fit_recipe("plate", root / "good", root)
        return RecipeStore(root).load("plate")

    return teach_with


@pytest.mark.parametrize("way", WAYS)
def test_frames_of_any_depth_are_inspected(way: str, taught_with: Callable[[str], Recipe], tmp_path: Path) -> None:
    """Taught and inspected as colour or grey with 8 or 16 bits: good parts are OK, a defective one is NG."""
    write = WAYS[way]
    paths = []
    for number in range(6):
        paths.append(tmp_path / f"part{number}.png")
        cv2.imwrite(str(paths[-1]), write(draw_part(number, defect=number % 2 == 1)))
    verdicts = [item.verdict.kind for item in inspect_images(taught_with(way), paths, None)]
    assert verdicts[1::2] == [VerdictKind.NG] * 3
    assert verdicts[::2].count(VerdictKind.OK) >= 2 and VerdictKind.NG not in verdicts[::2]


def test_the_depth_of_a_frame_changes_no_score(taught_with: Callable[[str], Recipe], tmp_path: Path) -> None:
    """The same grey part with 8 and with 16 bits scores the same under one recipe."""
    grey = to_grey(draw_part(5, defect=True))
    cv2.imwrite(str(tmp_path / "shallow.png"), grey)
    cv2.imwrite(str(tmp_path / "deep.png"), grey.astype(np.uint16) * 257)
    shallow, deep = inspect_images(taught_with("grey8"), [tmp_path / "shallow.png", tmp_path / "deep.png"], None)
    assert shallow.verdict == deep.verdict and shallow.verdict.kind is VerdictKind.NG
