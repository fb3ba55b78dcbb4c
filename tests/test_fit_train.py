"""`fit --train`: a real, tiny training; honest halves, a checked export, and the comparison that decides."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from inspector.detector.change_net import ChangeNet, light_gain
from inspector.detector.features import CELL_PX, MARGIN_PX
from inspector.detector.good_part import learn_good_part
from inspector.detector.recipe_store import NET, RecipeStore
from inspector.errors import FitError, MissingExtraError
from inspector.records import BgrImage
from pipelines.fit import NET_ORIGIN, TRAINED, fit_recipe, no_progress
from pipelines.fit_template import fit_asked
from tests.part_images import paint_board, paint_surface, write_images

pytest.importorskip("torch", reason="training needs PyTorch, the extra `train`")

from inspector.detector.training import change_stage, compare_net
from inspector.detector.training.change_stage import NETS, NetTeacher
from inspector.detector.training.compare_net import ChangeNets, CompareNet, export_nets

WIDTH, HEIGHT = 480, 360
ROWS, COLUMNS = 60, 70
ONE_LOOK = (0,) * 8


def laid_boards(count: int) -> list[BgrImage]:
    """Registered good parts: one picture under different light and noise, with the banks' margin."""
    board = paint_board(3, width=COLUMNS * CELL_PX + 2 * MARGIN_PX, height=ROWS * CELL_PX + 2 * MARGIN_PX)
    shots = [np.random.default_rng(seed) for seed in range(count)]
    lit = [board * shot.uniform(0.95, 1.05) + shot.normal(0, 2, board.shape) for shot in shots]
    return [np.clip(image, 0, 255).astype(np.uint8) for image in lit]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train") / "good"
    return write_images(folder, [paint_board(seed, width=WIDTH, height=HEIGHT) for seed in range(8)])


def test_training_is_reproducible_when_steps_decide() -> None:
    """The same seed and steps give the same graph, another seed another; each image has a net that never saw it."""
    pictures, part = laid_boards(8), np.ones((ROWS, COLUMNS), np.bool_)
    first, second = (NetTeacher(10.0, most_steps=2)(pictures, part, ONE_LOOK, no_progress) for _ in range(2))
    other = NetTeacher(10.0, most_steps=2, seed=2)(pictures, part, ONE_LOOK, no_progress)
    assert first.graph == second.graph != other.graph
    assert first.unseen_by == (0, 0, 1, 1, 0, 0, 1, 1) and first.steps == 2
    assert len(first.goods) == NETS


def test_a_few_steps_teach_to_see_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """After some seconds a white blot stands out from the part around it, in both nets, through ONNX Runtime."""
    monkeypatch.setattr(change_stage, "BATCH", 4)
    pictures, part = laid_boards(8), np.ones((ROWS, COLUMNS), np.bool_)
    taught = NetTeacher(10.0, most_steps=40)(pictures, part, ONE_LOOK, no_progress)
    spoilt = pictures[0].copy()
    spoilt[MARGIN_PX + 100 : MARGIN_PX + 140, MARGIN_PX + 120 : MARGIN_PX + 160] = 250
    gain = light_gain(spoilt, taught.good_by_look[0].picture, part)
    said = ChangeNet(taught.graph).compare(spoilt, taught.good_by_look[0], gain)
    calm = np.ones((ROWS, COLUMNS), np.bool_)
    calm[20:40, 25:45] = False
    for cells in said:
        assert cells[27:33, 32:38].mean() > np.quantile(cells[calm], 0.99)


def test_time_ends_the_training() -> None:
    """Without a number of steps it stops when the minutes are over, after at least one step."""
    taught = NetTeacher(0.01)(laid_boards(8), np.ones((ROWS, COLUMNS), np.bool_), ONE_LOOK, no_progress)
    assert 1 <= taught.steps < 200


def test_an_export_that_differs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ONNX Runtime computes is compared with PyTorch, and nothing else is stored."""
    boards = laid_boards(2)
    pair, good = ChangeNets([CompareNet((4, 4, 4, 4)) for _ in range(NETS)]).eval(), learn_good_part(boards)
    assert export_nets(pair, boards[0], good)
    monkeypatch.setattr(compare_net, "MOST_DIFFERENCE", -1.0)
    with pytest.raises(FitError, match="differs from the trained one"):
        export_nets(pair, boards[0], good)


def test_fit_compares_the_net_and_says_so(good: Path, tmp_path: Path) -> None:
    """The comparison holds the net alone and joined; two steps win nothing, so that nothing of it is stored."""
    report = fit_recipe("board", good, tmp_path, train_minutes=10.0, most_steps=2)
    compared = [tuple(item["heads"]) for item in report.choices["candidates"]]
    assert ("net",) in compared and ("energy", "contrast", "net") in compared
    assert report.choices[TRAINED]["steps"] == 2
    assert report.choices[TRAINED]["used"] == ("net" in report.choices["heads"])
    recipe = RecipeStore(tmp_path).load("board")
    assert (NET in recipe.manifest.files) == report.choices[TRAINED]["used"]
    plain = fit_recipe("plain", good, tmp_path)
    assert plain.choices[TRAINED] is None
    assert plain.choices[NET_ORIGIN] in (None, "general")
    # The net that ships may join the banks, but was not made for this part: it never judges alone.
    assert {tuple(item["heads"]) for item in plain.choices["candidates"]} == set(compared) - {("net",)}


def test_what_cannot_be_trained_is_refused(good: Path, tmp_path: Path) -> None:
    """Surfaces, too few images, small parts and template recipes: each says why."""
    surface = write_images(tmp_path / "surface", [paint_surface(seed) for seed in range(8)])
    few = write_images(tmp_path / "few", [paint_board(seed) for seed in range(3)])
    for folder, reason in ((surface, "fixed pose"), (few, "at least 8")):
        with pytest.raises(FitError, match=reason):
            fit_recipe("board", folder, tmp_path, train_minutes=0.1)
    small = [picture[:190] for picture in laid_boards(8)]
    with pytest.raises(FitError, match="at least 192 px"):
        NetTeacher(0.1)(small, np.ones((38, COLUMNS), np.bool_), ONE_LOOK, no_progress)
    with pytest.raises(FitError, match="--train"):
        fit_asked(
            "board",
            tmp_path,
            mode="template",
            good=good,
            labels=None,
            ignore_mask=None,
            false_alarm_target=0.05,
            release=True,
            train_minutes=1.0,
        )


def test_without_torch_it_says_how_to_get_it(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only training needs PyTorch, and the error names the extra."""
    monkeypatch.delitem(sys.modules, "inspector.detector.training.change_stage")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r'pip install "line-inspector\[train\]"'):
        fit_recipe("board", good, tmp_path, train_minutes=0.1)
