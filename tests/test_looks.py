"""Looks of one pose: found in the pictures, statistics of their own that share a spread, one recipe for all of them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from inspector.detector.features import CELL_PX, MARGIN_PX
from inspector.detector.general_net import BLOCKS, prepare_general_net
from inspector.detector.good_images import FEWEST_IMAGES
from inspector.detector.look_groups import group_looks
from inspector.detector.part_model import SHARED_COUNT, MomentSums
from inspector.detector.recipe_store import RecipeStore
from inspector.images import decode_image, read_image_bytes
from inspector.records import BgrImage
from pipelines.fit import fit_recipe, no_progress
from tests.part_images import paint_board, write_images

WIDTH, HEIGHT = 480, 360
EACH = 10
CHIPS, CHIP_PX = ((150, 130), (260, 200)), 18


def paint_variant(seed: int, variant: int, *, defect: bool = False) -> BgrImage:
    """The usual board; variant 1 has two chips that the other lacks, in one outline and one pose."""
    board = paint_board(seed, width=WIDTH, height=HEIGHT, defect=defect)
    if variant:
        for x, y in CHIPS:
            cv2.rectangle(board, (x, y), (x + CHIP_PX, y + CHIP_PX), (60, 90, 140), -1)
    return board


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two variants, one after the other: the names say nothing of them."""
    pictures = [paint_variant(seed, seed % 2) for seed in range(2 * EACH)]
    return write_images(tmp_path_factory.mktemp("looks") / "good", pictures)


def points(count: int, groups: int, apart: float) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    dice = np.random.default_rng(count)
    middles = dice.normal(0, apart, (groups, 60))
    return [(middles[index % groups] + dice.normal(0, 1, 60)).astype(np.float32) for index in range(count)]


def test_groups_are_found_where_there_are_some() -> None:
    """Three clear groups are told apart whatever their order; one cloud, and too few pictures, stay one."""
    groups, left = group_looks(points(36, 3, 3.0))
    assert sorted(map(sorted, groups)) == [list(range(number, 36, 3)) for number in range(3)]
    assert left < 0.5
    for looks in (points(36, 1, 3.0), points(2 * FEWEST_IMAGES - 1, 2, 5.0)):
        assert group_looks(looks) == ((tuple(range(len(looks))),), 1.0)


def test_a_look_with_few_pictures_is_no_group() -> None:
    """Statistics need some pictures: three of another kind are odd ones, not a look."""
    looks = points(20, 1, 0.0)
    strange = [look + np.float32(6.0) for look in points(3, 1, 0.0)]
    assert len(group_looks([*looks, *strange])[0]) == 1


def test_looks_have_own_means_and_share_their_spread() -> None:
    """In closed form, with and without an image, what a direct computation gives."""
    dice = np.random.default_rng(3)
    shape, usual = (2, 9, 9), np.zeros(2, np.float32)
    looks = [index % 2 for index in range(12)]
    images = [dice.normal(5.0 * look, 1.0 + look, shape).astype(np.float32) for look in looks]
    sums = MomentSums(shape, 2)
    for image, look in zip(images, looks, strict=True):
        sums.add(image, look)
    for left_out in (None, 4):
        kept = [index for index in range(12) if index != left_out]
        own = np.stack([images[index] for index in kept if looks[index] == 0])
        other = np.stack([images[index] for index in kept if looks[index] == 1])
        squares = [((group - group.mean(axis=0)) ** 2).sum(axis=0) for group in (own, other)]
        shared = (squares[0] + squares[1]) / (len(kept) - 2)
        variance = (squares[0] + shared * SHARED_COUNT) / (len(own) - 1 + SHARED_COUNT)
        expected = np.stack([cv2.blur(channel, (3, 3)) for channel in variance.astype(np.float32)])
        found = sums.statistics(usual) if left_out is None else sums.without(images[left_out], usual)
        np.testing.assert_allclose(found.mean, own.mean(axis=0), atol=0.01)
        np.testing.assert_allclose(found.inverse_sd, 1.0 / np.sqrt(expected + 1e-4), rtol=0.01)


def test_the_general_net_compares_with_good_parts_of_the_look() -> None:
    """Each picture's good part was learned without it and without the other look; few pictures have no net."""
    shape = (7 * CELL_PX + 2 * MARGIN_PX, 11 * CELL_PX + 2 * MARGIN_PX, 3)
    pictures = [np.full(shape, 60 + 100 * (index % 2), np.uint8) for index in range(2 * FEWEST_IMAGES)]
    part, looks = np.ones((7, 11), np.bool_), tuple(index % 2 for index in range(2 * FEWEST_IMAGES))
    taught = prepare_general_net(pictures, part, looks, no_progress)
    assert taught is not None and len(taught.goods) == 2 * BLOCKS
    for picture, number in zip(pictures, taught.learned_without, strict=True):
        assert int(taught.goods[number].picture.max()) == int(picture.max())
    assert [int(item.picture.max()) for item in taught.good_by_look] == [60, 160]
    assert prepare_general_net(pictures[:-2], part, looks[:-2], no_progress) is None


def test_a_recipe_of_two_looks_judges_each_by_its_own(good: Path, tmp_path: Path) -> None:
    """Good parts of both are OK; a defect is NG in both, and so is a part between them: one chip of two."""
    report = fit_recipe("variants", good, tmp_path)
    assert sorted(len(names) for names in report.choices["looks"]) == [EACH, EACH]
    assert "2 looks" in report.choices["views_reason"]
    recipe = RecipeStore(tmp_path).load("variants")
    assert len(recipe.manifest.further_views) == 1
    assert recipe.manifest.further_views[0].golden == recipe.manifest.golden
    scorer = recipe.scorer()
    views = set()
    for variant in (0, 1):
        fine = scorer.score_frame(paint_variant(90, variant))
        spoilt = scorer.score_frame(paint_variant(91, variant, defect=True))
        assert fine.score < scorer.thresholds.review <= scorer.thresholds.ng <= spoilt.score
        views.add(fine.view)
        assert fine.view == spoilt.view
    assert len(views) == 2
    missing = paint_variant(92, 1)
    x, y = CHIPS[0]
    chip = np.s_[y - 3 : y + CHIP_PX + 3, x - 3 : x + CHIP_PX + 3]
    missing[chip] = paint_variant(92, 0)[chip]
    assert scorer.score_frame(missing).score >= scorer.thresholds.ng


def test_what_means_one_view_joins_the_looks(good: Path, tmp_path: Path) -> None:
    """A mask is drawn for one pose, which the looks have: they are judged as one, and the fit says so."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:30, :30] = 255
    path = tmp_path / "mask.png"
    cv2.imwrite(str(path), mask)
    report = fit_recipe("masked", good, tmp_path, ignore_mask=path)
    assert "looks" not in report.choices
    assert "judged as one because of --ignore" in report.choices["views_reason"]
    frame = decode_image(read_image_bytes(sorted(good.iterdir())[0]))
    assert RecipeStore(tmp_path).load("masked").scorer().score_frame(frame).view is None
