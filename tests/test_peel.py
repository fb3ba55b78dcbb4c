"""Peels: trained on one line, attached when they are better, swapped without a trace, refused when they do not fit."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspector.detector.look import FEATURES
from inspector.detector.manifest import CalibrationRecord, NamedExamples, NamesRecord, RecipeVersion
from inspector.detector.naming import learn_names
from inspector.detector.recipe_store import PEEL, CalibratedContent, RecipeStore
from inspector.errors import FitError, MissingExtraError, RecipeTamperedError, WeightsError
from inspector.generator.choose import load_repairers
from inspector.generator.net import NetRepairer
from inspector.generator.peel import RANK, Peel, attach_peel, pack_peel, unpack_peel
from inspector.generator.peel_tiles import GoodPart, LineTiles
from inspector.generator.repair_model import RepairModel, RepairTile, load_repair_model
from pipelines.fit import fit_recipe
from pipelines.peel import PeelReport, choose_method, list_peels, train_recipe_peel
from pipelines.repair import repair_image
from pipelines.twin import TwinPainter
from tests.part_images import paint_surface, write_images
from tests.small_line import RECIPE, call_inspector, draw_part, teach
from tests.tiny_weights import write_tiny_net

torch = pytest.importorskip("torch")

STEPS = 20


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Base weights in `noisy` (paints noise), `other` (the same with another seed) and `still` (paints nothing),
    good images in `good`, a recipe in `data`."""
    root = tmp_path_factory.mktemp("peels")
    write_tiny_net(root / "noisy", 1, noise=0.02)
    write_tiny_net(root / "other", 2, noise=0.02)
    write_tiny_net(root / "still", 1, noise=0.0)
    teach(root / "data", root / "good")
    return root


@pytest.fixture(scope="module")
def trained(root: Path) -> tuple[Path, PeelReport]:
    """A data directory whose recipe has a peel, and what its training said. Read-only."""
    shutil.copytree(root / "data", root / "peeled")
    report = train_recipe_peel(
        RECIPE, root / "good", root / "peeled", minutes=5, most_steps=STEPS, threads=1, weights=root / "noisy"
    )
    return root / "peeled", report


@pytest.fixture(scope="module")
def base(root: Path) -> RepairModel:
    return load_repair_model(folder=root / "noisy")


@pytest.fixture
def data_dir(trained: tuple[Path, PeelReport], tmp_path: Path) -> Path:
    """A data directory of its own with the peel."""
    shutil.copytree(trained[0], tmp_path / "data")
    return tmp_path / "data"


def make_peel(model: RepairModel, recipe: str = RECIPE) -> Peel:
    """Random factors for every convolution of the trunk."""
    random = np.random.default_rng(5)
    factors = {}
    for name, stored in model.weights.tensors.items():
        if name.startswith("trunk.") and name.endswith(".weight"):
            b = random.normal(0, 0.05, (stored.shape[0], RANK)).astype(np.float32)
            factors[name] = (b, random.normal(0, 0.1, (RANK, int(np.prod(stored.shape[1:])))).astype(np.float32))
    return Peel(model.weights.sha256, recipe, factors, {"steps": "1"})


def make_tile() -> RepairTile:
    frame = draw_part(1)[:192, :256]
    hole = np.zeros((192, 256), np.bool_)
    hole[60:100, 90:150] = True
    base = np.asarray(cv2.GaussianBlur(frame, (0, 0), 3), np.uint8)
    return RepairTile(frame, base, hole, np.zeros((8, 24, 32), np.float32))


def spoil(data_dir: Path, content: bytes) -> None:
    path = data_dir / "recipes" / RECIPE / "2" / PEEL
    path.chmod(0o644)
    path.write_bytes(content)


# --- the file and the swap --------------------------------------------------------------------------


def test_a_peel_comes_back_as_it_was_written(base: RepairModel) -> None:
    """Factors as float16, the base, the recipe and what it took."""
    peel = make_peel(base)
    found = unpack_peel(pack_peel(peel, "test", "0" * 64))
    assert (found.base_sha256, found.recipe, found.details) == (base.weights.sha256, RECIPE, {"steps": "1"})
    assert found.sha256 and set(found.factors) == set(peel.factors)
    for name, (b, a) in peel.factors.items():
        assert np.array_equal(found.factors[name][0], b.astype(np.float16).astype(np.float32))
        assert np.array_equal(found.factors[name][1], a.astype(np.float16).astype(np.float32))


def test_a_damaged_or_foreign_file_is_refused(base: RepairModel, root: Path) -> None:
    """Truncated anywhere, one bit changed, something after the end, nothing at all, and weights that are no peel."""
    content = pack_peel(make_peel(base), "test", "0" * 64)
    changed = bytearray(content)
    changed[len(content) // 2] ^= 1
    for damaged in (content[:-1], content[:40], content[:3], b"", bytes(changed), content + b"x"):
        with pytest.raises(WeightsError, match=r"peel\.weights"):
            unpack_peel(damaged)
    with pytest.raises(WeightsError, match="which is no peel"):
        unpack_peel((root / "noisy" / "repair.weights").read_bytes())


def test_the_base_is_the_same_to_the_bit_without_the_peel(base: RepairModel) -> None:
    """Before, beside and after a peel the base paints the same bytes; the peel paints others, each time the same."""
    tile, peel = make_tile(), make_peel(base)
    before = base.predict([tile])[0]
    bent = attach_peel(base, peel, RECIPE)
    with_peel = bent.predict([tile])[0]
    assert np.array_equal(base.predict([tile])[0], before)
    assert not np.array_equal(with_peel, before)
    del bent
    assert np.array_equal(base.predict([tile])[0], before)
    assert np.array_equal(attach_peel(base, peel, RECIPE).predict([tile])[0], with_peel)


def test_a_bent_net_computes_base_plus_factors(base: RepairModel) -> None:
    """The weights are those of the base plus b a, to half a step of their 8 bits; nothing else changes."""
    peel = make_peel(base)
    bent = attach_peel(base, peel, RECIPE)
    for name, stored in base.weights.tensors.items():
        found = bent.weights.tensor(name)
        if name not in peel.factors:
            assert bent.weights.tensors[name] is stored
            continue
        b, a = peel.factors[name]
        wanted = stored.decode() + (b @ a).reshape(stored.shape)
        step = np.abs(wanted.reshape(len(wanted), -1)).max(axis=1) / 127
        assert (np.abs(found - wanted).reshape(len(wanted), -1).max(axis=1) <= 0.51 * step).all()


def test_swapping_takes_little_processor_time(base: RepairModel) -> None:
    """Decoding, bending, filling and opening the trunk of the tiny net: no part of it grows with use."""
    peel = make_peel(base)
    spent = []
    for _ in range(5):
        started = time.process_time()
        attach_peel(base, peel, RECIPE)
        spent.append(time.process_time() - started)
    assert sorted(spent)[2] < 0.05


def test_peels_that_do_not_fit_are_refused(base: RepairModel, root: Path) -> None:
    """A second one on top, one of another recipe, of another base, of foreign tensors, of other shapes."""
    peel = make_peel(base)
    with pytest.raises(WeightsError, match="would overlap"):
        attach_peel(attach_peel(base, peel, RECIPE), peel, RECIPE)
    with pytest.raises(WeightsError, match="trained for recipe plate, not for board"):
        attach_peel(base, peel, "board")
    with pytest.raises(WeightsError, match="other base weights"):
        attach_peel(load_repair_model(folder=root / "other"), peel, RECIPE)
    name, (b, a) = next(iter(peel.factors.items()))
    for foreign in ("encoder.stem.weight", "trunk.nothing.weight"):
        with pytest.raises(WeightsError, match="no weight of the trunk"):
            attach_peel(base, dataclasses.replace(peel, factors={foreign: (b, a)}), RECIPE)
    for factors in ((b[:-1], a), (b, a[:, :-1]), (b[:, :-1], a), (b[0], a)):
        with pytest.raises(WeightsError, match="do not fit"):
            attach_peel(base, dataclasses.replace(peel, factors={name: factors}), RECIPE)


def test_recipes_share_one_base_and_one_cache(root: Path) -> None:
    """A repairer with a peel encodes with the base's encoder into the base's cache."""
    base = NetRepairer(load_repair_model(folder=root / "noisy"))
    bent = base.with_peel(make_peel(base.model), RECIPE)
    assert bent.cache is base.cache and base.model.peel is None and bent.model.peel == RECIPE
    tile = make_tile()
    assert np.array_equal(bent.model.encode(tile.frame), base.model.encode(tile.frame))


# --- training and attaching -------------------------------------------------------------------------


def test_training_makes_a_new_version_that_paints_better(trained: tuple[Path, PeelReport], root: Path) -> None:
    """Measured on images that did not teach; the very files of the old version beside the peel; the same scores."""
    data_dir, report = trained
    printed = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert (printed["attached"], printed["version"], printed["from_version"], printed["released"]) == (True, 2, 1, True)
    assert printed["psnr_after_db"] > printed["psnr_before_db"] + 1.0
    assert (printed["images"], printed["held_out"], printed["masks"], printed["steps"]) == (10, 2, 8, STEPS)
    assert set(printed["psnr_db"]) == {"paste", "texture", "telea", "ns"}
    store = RecipeStore(data_dir)
    old, new = store.load(f"{RECIPE}@1"), store.load(RECIPE)
    assert set(new.manifest.files) == {*old.manifest.files, PEEL}
    assert {name: new.manifest.files[name] for name in old.manifest.files} == old.manifest.files
    assert [item.version for item in new.manifest.same_scores] == [1]
    assert old.peel is None and new.peel is not None and unpack_peel(new.peel).recipe == RECIPE
    frame = draw_part(7, defect=True)
    assert old.scorer().score_frame(frame).score == new.scorer().score_frame(frame).score


def test_the_same_steps_give_the_same_peel(root: Path) -> None:
    """Nothing but the number of steps depends on time: with steps counted, two trainings agree to the bit."""
    from inspector.generator.training.peel_stage import train_peel

    base = NetRepairer(load_repair_model(folder=root / "noisy"))
    parts = [GoodPart(paint_surface(seed), None) for seed in range(2)]
    one, other = (
        train_peel(base.model.weights, LineTiles(base, parts), RECIPE, minutes=5, most_steps=3, threads=1).peel
        for _ in range(2)
    )
    for name, pair in one.factors.items():
        assert all(np.array_equal(x, y) for x, y in zip(pair, other.factors[name], strict=True))
        assert np.any(pair[0])


def test_a_peel_that_is_no_better_changes_nothing(root: Path, tmp_path: Path) -> None:
    """One step on a net that paints nothing leaves all as it was: it is said, and no version is written."""
    shutil.copytree(root / "data", tmp_path / "data")
    report = train_recipe_peel(
        RECIPE, root / "good", tmp_path / "data", minutes=5, most_steps=1, threads=1, weights=root / "still"
    )
    printed = report.to_json()
    assert (printed["attached"], printed["version"], printed["released"]) == (False, None, False)
    assert any(note.startswith("not attached: on 8 masks of 2 held-out images") for note in printed["notes"])
    assert [ref.version for ref in RecipeStore(tmp_path / "data").versions(RECIPE)] == [1]


def test_calibrations_names_and_later_peels(root: Path, data_dir: Path) -> None:
    """A calibration and names carry the peel over; another training replaces it, even when its file was damaged."""
    store = RecipeStore(data_dir)
    peeled = store.load(RECIPE)
    same = (RecipeVersion(version=peeled.ref.version, sha256=peeled.ref.sha256),)
    calibrated = CalibratedContent(
        peeled.thresholds,
        (0.0, 0.1),
        (0.0, 0.1),
        "none",
        CalibrationRecord(same_scores=same, from_database=0, from_folder=9, odd=(), target=0.05),
    )
    looks = np.random.default_rng(3).normal(size=(12, FEATURES)).astype(np.float32)
    learned = learn_names(looks, ["dot", "scratch"] * 6)
    names = NamesRecord(
        same_scores=same, names=(NamedExamples(name="dot", examples=6, right=6, unknown=0),), from_folder=12,
        from_reviews=0,
    )  # fmt: skip
    for ref in (store.save_calibrated(peeled, calibrated), store.save_named(peeled, learned.namer, names)):
        found = store.load(ref, require_released=False)
        assert (found.peel, found.manifest.peel) == (peeled.peel, peeled.manifest.peel)
    spoil(data_dir, b"damaged")
    damaged = store.load(f"{RECIPE}@2")
    with pytest.raises(RecipeTamperedError, match=r"peel\.weights does not match"):
        store.save_calibrated(damaged, calibrated)
    report = train_recipe_peel(
        f"{RECIPE}@2", root / "good", data_dir, minutes=5, most_steps=STEPS // 2, threads=1, weights=root / "noisy",
        release=False,
    )  # fmt: skip
    assert report.ref is not None and not report.released and report.ref.version == 5
    again = store.load(report.ref, require_released=False)
    assert again.peel is not None and again.peel != peeled.peel
    assert again.manifest.peel is not None and again.manifest.peel.steps == STEPS // 2


def test_a_surface_has_peels_too(root: Path, tmp_path: Path) -> None:
    """Without references the net is bent by what lies around the holes; pasting is not measured."""
    write_images(tmp_path / "good", [paint_surface(seed) for seed in range(6)])
    fit_recipe("surface", tmp_path / "good", tmp_path / "data")
    report = train_recipe_peel(
        "surface", tmp_path / "good", tmp_path / "data", minutes=5, most_steps=STEPS, threads=1, weights=root / "noisy"
    )
    assert report.ref is not None and report.record.psnr_db["paste"] is None
    painter = TwinPainter(RecipeStore(tmp_path / "data").load("surface"), repairers=load_repairers(1, root / "noisy"))
    pixels = paint_surface(40)
    mask = np.zeros(pixels.shape[:2], np.bool_)
    mask[100:140, 100:150] = True
    twin = painter.paint(pixels, mask, "net")
    assert twin is not None and twin.peel is not None and twin.fallback is None


def test_too_little_to_train_with_is_said(root: Path, tmp_path: Path) -> None:
    """Too few images; images of another part; and nothing was stored."""
    few = tmp_path / "few"
    write_images(few, [draw_part(number) for number in range(3)])
    with pytest.raises(FitError, match="3 good images are too few"):
        train_recipe_peel(RECIPE, few, root / "data", weights=root / "noisy")
    write_images(
        tmp_path / "foreign", [np.asarray(cv2.resize(paint_surface(seed), (320, 240)), np.uint8) for seed in range(6)]
    )
    with pytest.raises(FitError, match="0 of 5 images can teach; left out, 5 images that do not register"):
        train_recipe_peel(RECIPE, tmp_path / "foreign", root / "data", weights=root / "noisy")
    assert [ref.version for ref in RecipeStore(root / "data").versions(RECIPE)] == [1]


def test_without_pytorch_the_extra_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service comes without PyTorch: the error says what to install."""
    for name in [name for name in sys.modules if name.startswith("inspector.generator.training.peel_stage")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r'pip install "line-inspector\[train\]"'):
        train_recipe_peel(RECIPE, root / "good", root / "data", weights=root / "noisy")


def test_auto_takes_what_measured_best() -> None:
    """The net with its peel, unless a classical method is better."""
    assert choose_method(30.0, {"paste": 29.9, "telea": None}) == "net"
    assert choose_method(30.0, {"paste": 30.1, "ns": 20.0}) == "paste"


# --- at work ----------------------------------------------------------------------------------------


def test_the_twin_is_painted_with_the_peel_and_says_so(root: Path, data_dir: Path, tmp_path: Path) -> None:
    """The method stays `net`; the base, shared with other recipes, paints what it painted before."""
    repairers = load_repairers(1, root / "noisy")
    pixels = draw_part(9, defect=True)
    mask = np.zeros(pixels.shape[:2], np.bool_)
    mask[105:140, 180:212] = True
    store = RecipeStore(data_dir)
    plain = TwinPainter(store.load(f"{RECIPE}@1"), repairers=repairers)
    before = plain.paint(pixels, mask, "net")
    peeled = TwinPainter(store.load(RECIPE), repairers=repairers)
    twin, after = peeled.paint(pixels, mask, "net"), plain.paint(pixels, mask, "net")
    assert before is not None and twin is not None and after is not None
    assert (twin.method, twin.fallback, before.peel) == ("net", None, None)
    assert twin.peel is not None and twin.peel.startswith(f"{RECIPE} ")
    assert np.array_equal(before.pixels, after.pixels) and not np.array_equal(before.pixels, twin.pixels)


@pytest.mark.parametrize("harm", ["truncated", "changed", "missing", "other_base", "no_base"])
def test_a_peel_that_cannot_be_used_costs_no_verdict(root: Path, data_dir: Path, harm: str) -> None:
    """The recipe loads and scores, the twin is painted without the peel and says why, `peel list` says so too."""
    path = data_dir / "recipes" / RECIPE / "2" / PEEL
    content = path.read_bytes()
    weights = root / {"other_base": "other", "no_base": "nowhere"}.get(harm, "noisy")
    if harm == "missing":
        path.unlink()
    elif harm in ("truncated", "changed"):
        spoil(data_dir, content[:-1] if harm == "truncated" else content[:-1] + bytes([content[-1] ^ 1]))
    reason = {"other_base": "other base weights", "no_base": "no trained repair model"}.get(harm, r"peel\.weights")
    recipe = RecipeStore(data_dir).load(RECIPE)
    pixels = draw_part(9, defect=True)
    assert recipe.scorer().score_frame(pixels).detections
    mask = np.zeros(pixels.shape[:2], np.bool_)
    mask[105:140, 180:212] = True
    painter = TwinPainter(recipe, repairers=load_repairers(1, weights))
    twin = painter.paint(pixels, mask)
    assert twin is not None and twin.peel is None and twin.fallback is not None
    assert painter.peel_problem is not None and re.search(reason, painter.peel_problem)
    assert twin.fallback == f"peel not used: {painter.peel_problem}"
    (listed,) = list_peels(data_dir, weights)
    assert listed.version == 2 and listed.released and listed.problem is not None


def test_the_list_of_peels(root: Path, data_dir: Path, trained: tuple[Path, PeelReport]) -> None:
    """Each version with a peel, with what it gained; none where there is none."""
    (listed,) = list_peels(data_dir, root / "noisy")
    record = trained[1].record
    assert (listed.recipe, listed.version, listed.problem) == (RECIPE, 2, None)
    assert (listed.psnr_before_db, listed.psnr_after_db) == (record.psnr_before_db, record.psnr_after_db)
    assert list_peels(root / "data", root / "noisy") == []
    done = call_inspector("peel", "list", "--data-dir", data_dir, "--json")
    (printed,) = json.loads(done.stdout)["peels"]
    assert (printed["recipe"], printed["version"], printed["released"]) == (RECIPE, 2, True)


def test_repair_reports_why_the_peel_was_not_used(data_dir: Path, tmp_path: Path) -> None:
    """`inspector repair` with a damaged peel paints all the same, and its report says so."""
    spoil(data_dir, b"damaged")
    image, mask = tmp_path / "part.png", tmp_path / "mask.png"
    cv2.imwrite(str(image), draw_part(9, defect=True))
    white = np.zeros((240, 320), np.uint8)
    white[105:140, 180:212] = 255
    cv2.imwrite(str(mask), white)
    report = repair_image(RECIPE, image, mask, "auto", tmp_path / "twin.png", data_dir).to_json()
    assert report["peel"] is None and report["generated"]
    assert report["fallback"].startswith("peel not used: ") and "does not match its hash" in report["fallback"]
