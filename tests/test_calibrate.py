"""`calibrate`: thresholds again from parts a person confirmed good, never from others, as a new recipe version."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspector.detector.calibration import binomial_interval, calibrate_confirmed, conformal_rank, fewest_confirmed
from inspector.detector.recipe_store import RecipeStore
from inspector.errors import DatasetError, FitError, RecipeNotFoundError, RecipeTamperedError
from inspector.images import sha256_hex
from inspector.records import Inspection, Purpose, RecipeRef, Thresholds, Verdict, VerdictKind
from inspector.store.database import Database
from inspector.store.inspections import commit_inspection, count_verdicts, recent_inspections
from inspector.store.reviews import add_disposition, add_review, insert_opinion, make_opinion_id
from pipelines.calibrate import calibrate_recipe
from pipelines.dataset import ImageFolder
from pipelines.fit import fit_recipe
from pipelines.review import review_inspection
from pipelines.run_station import run_station
from tests.part_images import paint_surface, write_images
from tests.small_line import STATION, draw_part, folder_camera, jpeg_part, small_plant
from tests.store_samples import NOON_US, PROVENANCE, accept, open_station

OK, NG, REVIEW = VerdictKind.OK, VerdictKind.NG, VerdictKind.REVIEW


@pytest.fixture(scope="module")
def taught(taught_plate: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of 12 parts in `data`, and 60 further good parts in `fresh`."""
    root = shutil.copytree(taught_plate, tmp_path_factory.mktemp("calibrate") / "plate")
    write_parts(root / "fresh", range(5000, 5060))
    return root


@pytest.fixture
def data_dir(taught: Path, tmp_path: Path) -> Path:
    """A data directory of its own with the recipe."""
    shutil.copytree(taught / "data", tmp_path / "data")
    return tmp_path / "data"


def write_parts(folder: Path, numbers: Sequence[int]) -> Path:
    folder.mkdir(parents=True)
    for number in numbers:
        (folder / f"part{number}.jpg").write_bytes(jpeg_part(number))
    return folder


class Line:
    """Production under one recipe version, with scores as given."""

    def __init__(self, data_dir: Path, reference: str = "plate") -> None:
        recipe = RecipeStore(data_dir).load(reference)
        self.ref: RecipeRef = recipe.ref
        self.thresholds: Thresholds = recipe.thresholds
        self.db: Database = open_station(data_dir)
        self.parts = 0

    def produce(
        self,
        score: float | None,
        confirmed: VerdictKind | None = None,
        *,
        cause: str = "review",
        reasons: tuple[str, ...] = (),
        purpose: Purpose = Purpose.PRODUCTION,
        attempt: int = 1,
        frame: str | None = None,
    ) -> Inspection:
        """Inspect a part with this score; a person, or the cloud, may confirm what it is."""
        self.parts += 1
        kind = OK
        if reasons or score is None or score >= self.thresholds.review:
            kind = NG if score is not None and score >= self.thresholds.ng and not reasons else REVIEW
        if kind is REVIEW and not reasons:
            reasons = ("score between the review and the NG threshold",)
        trigger = accept(self.db, NOON_US + self.parts, purpose=purpose, attempt=attempt)
        inspection = Inspection(
            trigger=trigger,
            camera="top",
            verdict=Verdict(kind, score, self.thresholds, (), reasons),
            decided_utc_us=NOON_US + self.parts,
            provenance=PROVENANCE,
            recipe=self.ref,
            frame_sha256=frame or sha256_hex(str(self.parts).encode()),
        )
        assert commit_inspection(self.db, inspection, [], wants_evidence=False)
        if confirmed is not None:
            self.confirm(inspection, confirmed, cause)
        return inspection

    def confirm(self, inspection: Inspection, truth: VerdictKind, cause: str = "review") -> None:
        name, now_us = str(inspection.inspection_id), NOON_US + 10_000_000
        if cause == "review":
            record = add_review(self.db, name, reviewer="kim", finding=truth.value, now_us=now_us)
        else:
            record = make_opinion_id(name)
            with self.db.write() as session:
                insert_opinion(session, record, name, verdict=truth.value, details={}, now_us=now_us)
        trigger_id = str(inspection.trigger.trigger_id)
        add_disposition(self.db, trigger_id, truth.value, cause=cause, cause_id=record, messages=(), now_us=now_us)


@pytest.fixture
def line(data_dir: Path) -> Line:
    return Line(data_dir)


def good_scores(count: int, seed: int = 1) -> list[float]:
    return [float(score) for score in np.random.default_rng(seed).normal(1.0, 0.05, count)]


# --- from photographs -------------------------------------------------------------------------------


def test_sixty_photographs_narrow_the_promise_and_it_holds(taught: Path, data_dir: Path) -> None:
    """60 further good parts give a narrower interval than the 12 taught ones; 60 more alarm at a rate inside it."""
    before = RecipeStore(data_dir).load("plate")
    report = calibrate_recipe("plate", data_dir, good_dir=taught / "fresh")
    after = RecipeStore(data_dir).load("plate")
    low, high = report.calibration.interval
    assert high - low < before.manifest.false_alarm_interval[1] - before.manifest.false_alarm_interval[0]
    assert "with 60 good images" in after.manifest.promise and "1/61" in after.manifest.promise
    scorer = after.scorer()
    scores = [scorer.score_frame(draw_part(number)).score for number in range(6000, 6060)]
    alarms = sum(score >= after.thresholds.review for score in scores)
    seen_low, seen_high = binomial_interval(alarms, len(scores))
    assert low <= seen_high and seen_low <= high, f"{alarms} false alarms of {len(scores)}"
    assert scorer.score_frame(draw_part(1, defect=True)).score > after.thresholds.ng


def test_the_new_version_has_the_same_files_and_says_where_it_comes_from(taught: Path, data_dir: Path) -> None:
    """Arrays, graph and golden image are byte for byte the old ones; the manifest names version, parts and target."""
    report = calibrate_recipe("plate", data_dir, good_dir=taught / "fresh", false_alarm_target=0.1)
    old, new = (RecipeStore(data_dir).load(f"plate@{version}").manifest for version in (1, 2))
    assert (report.ref.version, report.from_version, report.released) == (2, 1, True)
    assert (new.files, new.images, new.settings) == (old.files, old.images, old.settings)
    assert new.choices == old.choices | {"promise": new.promise} and new.promise != old.promise
    record = new.calibration
    assert record is not None and old.calibration is None
    assert (record.from_database, record.from_folder, record.target) == (0, 60, 0.1)
    assert [(item.version, item.sha256) for item in record.same_scores] == [
        (1, RecipeStore(data_dir).resolve("plate@1").sha256)
    ]
    assert new.false_alarm_target == 0.1 and new.ng_false_alarm_interval == report.calibration.ng_interval
    assert new.thresholds != old.thresholds


def test_the_same_parts_give_the_same_thresholds(taught: Path, data_dir: Path) -> None:
    """From the old version or from the calibrated one: nothing of the earlier calibration leaks into the next."""
    values = [
        calibrate_recipe(name, data_dir, good_dir=taught / "fresh").to_json()
        for name in ("plate@1", "plate@1", "plate")
    ]
    same = ("images", "review_threshold", "ng_threshold", "false_alarm_interval", "ng_false_alarm_interval", "odd")
    assert all({key: value[key] for key in same} == {key: values[0][key] for key in same} for value in values)
    assert [value["from_version"] for value in values] == [1, 1, 3]


def test_taught_images_and_copies_prove_nothing(taught: Path, data_dir: Path, tmp_path: Path) -> None:
    """Images of the fit are left out by their hash, whatever their name, and a copy counts once; both are said."""
    mixed = tmp_path / "mixed"
    shutil.copytree(taught / "fresh", mixed)
    for image in sorted((taught / "good").iterdir()):
        shutil.copy(image, mixed / f"renamed_{image.name}")
    shutil.copy(mixed / "part5000.jpg", mixed / "part5000_copy.jpg")
    report = calibrate_recipe("plate", data_dir, good_dir=mixed)
    assert len(report.confirmed.from_folder) == 60
    assert any("12 images were taught" in note and "renamed_good000.jpg" in note for note in report.notes)
    assert any("1 images were counted already" in note and "part5000_copy.jpg" in note for note in report.notes)
    with pytest.raises(FitError, match=r"0 confirmed good parts.*12 images were taught"):
        calibrate_recipe("plate", data_dir, good_dir=taught / "good")


def test_odd_photographs_set_no_threshold(taught: Path, data_dir: Path, tmp_path: Path) -> None:
    """A defective part among the good is named and left out; a dark one is said to be odd; the threshold stays."""
    spoiled = tmp_path / "spoiled"
    shutil.copytree(taught / "fresh", spoiled)
    (spoiled / "defect.jpg").write_bytes(jpeg_part(1, defect=True))
    (spoiled / "dark.png").write_bytes(encode_png((draw_part(2) * 0.2).astype(np.uint8)))
    clean = calibrate_recipe("plate@1", data_dir, good_dir=taught / "fresh", release=False)
    report = calibrate_recipe("plate@1", data_dir, good_dir=spoiled, release=False)
    assert report.odd == ("defect.jpg",) and any("dark.png" in note for note in report.notes)
    assert any("1 parts score like no other good part" in note for note in report.notes)
    assert report.calibration.thresholds.review == pytest.approx(clean.calibration.thresholds.review, rel=0.1)
    assert report.calibration.interval[0] > clean.calibration.interval[0]


def encode_png(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    done, encoded = cv2.imencode(".png", pixels)
    assert done
    return encoded.tobytes()


def test_surfaces_calibrate_too(tmp_path: Path) -> None:
    """A position-free recipe, with fresh photographs of more than one size."""
    fit_recipe("metal", write_images(tmp_path / "good", [paint_surface(seed) for seed in range(12)]), tmp_path)
    fresh = [paint_surface(seed, width=300 + 10 * (seed % 3)) for seed in range(100, 124)]
    fresh_dir = write_images(tmp_path / "fresh", fresh)
    report = calibrate_recipe("metal", tmp_path, good_dir=fresh_dir, false_alarm_target=0.1)
    recipe = RecipeStore(tmp_path).load("metal")
    assert (recipe.mode, recipe.ref.version, len(report.confirmed.from_folder)) == ("surface", 2, 24)
    scorer = recipe.scorer()
    alarms = sum(scorer.score_frame(image).score >= recipe.thresholds.review for image in fresh)
    assert alarms == 1, "the 23rd of 24 scores is the least that keeps 10 %"
    assert scorer.score_frame(paint_surface(7, defect=True)).score > recipe.thresholds.review


def test_bad_folders_and_images_are_named(taught: Path, data_dir: Path, tmp_path: Path) -> None:
    """No folder, a broken image, an image of another size; nothing is stored."""
    with pytest.raises(DatasetError, match="missing is not a folder"):
        calibrate_recipe("plate", data_dir, good_dir=tmp_path / "missing")
    shutil.copytree(taught / "fresh", tmp_path / "broken")
    (tmp_path / "broken" / "part5003.jpg").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"part5003\.jpg"):
        calibrate_recipe("plate", data_dir, good_dir=tmp_path / "broken")
    shutil.copytree(taught / "fresh", tmp_path / "sizes")
    (tmp_path / "sizes" / "part5004.jpg").write_bytes(encode_png(draw_part(1, width_px=200, height_px=150)))
    with pytest.raises(DatasetError, match=r"part5004\.jpg: frame is 200x150 px"):
        calibrate_recipe("plate", data_dir, good_dir=tmp_path / "sizes")
    assert [ref.version for ref in RecipeStore(data_dir).versions("plate")] == [1]


def test_recipes_that_cannot_be_calibrated(taught: Path, data_dir: Path) -> None:
    """A name that does not exist, a version that was changed, a target that is no rate."""
    with pytest.raises(RecipeNotFoundError, match="no recipe named bolt"):
        calibrate_recipe("bolt", data_dir, good_dir=taught / "fresh")
    with pytest.raises(FitError, match="between 0 and"):
        calibrate_recipe("plate", data_dir, good_dir=taught / "fresh", false_alarm_target=0.7)
    path = data_dir / "recipes" / "plate" / "1" / "arrays.npz"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(RecipeTamperedError, match=r"arrays\.npz"):
        calibrate_recipe("plate", data_dir, good_dir=taught / "fresh")


def test_manifests_of_older_programs_still_load(data_dir: Path) -> None:
    """Without the optional fields a recipe is one that was fitted, not calibrated."""
    path = data_dir / "recipes" / "plate" / "1" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["calibration"], manifest["ng_false_alarm_interval"]
    path.chmod(0o644)
    path.write_text(json.dumps(manifest))
    (data_dir / "recipes" / "plate" / "released.json").unlink()
    loaded = RecipeStore(data_dir).load("plate@1", require_released=False).manifest
    assert loaded.calibration is None and loaded.ng_false_alarm_interval is None


# --- from production --------------------------------------------------------------------------------


def test_stored_scores_are_enough(line: Line, data_dir: Path) -> None:
    """150 confirmed parts keep a target of 1 %: the threshold is an order statistic of their scores."""
    scores = good_scores(150)
    for score in scores:
        line.produce(score, OK)
    report = calibrate_recipe("plate", data_dir, false_alarm_target=0.01)
    assert (len(report.confirmed.from_database), len(report.confirmed.from_folder)) == (150, 0)
    kept = sorted(score for score in scores)[: 150 - len(report.odd)]
    rank = conformal_rank(len(kept), 0.01)
    assert rank is not None
    assert report.calibration.thresholds.review == pytest.approx(max(1.0, kept[rank - 1]), abs=1e-9)
    assert report.calibration.interval[1] < 0.06 and report.false_alarm_target == 0.01


def test_a_station_then_reviews_then_calibration(taught: Path, data_dir: Path, tmp_path: Path) -> None:
    """What a station stored and a person confirmed gives the very thresholds that the photographs themselves give."""
    incoming = tmp_path / "incoming"
    shutil.copytree(taught / "fresh", incoming)
    for image in sorted(incoming.iterdir())[24:]:
        image.unlink()
    stop, config = threading.Event(), small_plant(folder_camera(incoming))
    station = threading.Thread(target=run_station, args=(config, data_dir, STATION, stop))
    station.start()
    db = Database.open(data_dir)
    try:
        deadline = time.monotonic() + 60
        while count_verdicts(db, STATION).triggers < 24 or count_verdicts(db, STATION).pending:
            assert time.monotonic() < deadline, "the station did not inspect 24 parts"
            time.sleep(0.05)
    finally:
        stop.set()
        station.join(30)
    for inspection in recent_inspections(db, STATION):
        review_inspection(inspection.inspection_id, "good", data_dir, reviewer="kim")
    db.close()
    report = calibrate_recipe("plate@1", data_dir, release=False)
    for file in data_dir.glob("inspector.db*"):
        file.unlink()
    from_files = calibrate_recipe("plate@1", data_dir, good_dir=incoming, release=False)
    assert (len(report.confirmed.from_database), len(from_files.confirmed.from_folder)) == (24, 24)
    assert report.calibration.thresholds == from_files.calibration.thresholds


def test_nothing_confirmed_is_said(line: Line, data_dir: Path) -> None:
    """OK parts that nobody looked at confirm nothing; the sentence says how many there are and are needed."""
    for score in good_scores(40):
        line.produce(score)
    with pytest.raises(FitError, match=r"plate@1: 0 confirmed good parts, at least 20 are needed"):
        calibrate_recipe("plate", data_dir)


def test_a_smaller_target_needs_more_parts(line: Line, data_dir: Path) -> None:
    """25 parts are enough for 5 % and not for 1 %."""
    for score in good_scores(25):
        line.produce(score, OK)
    with pytest.raises(FitError, match=r"25 confirmed good parts, at least 99 are needed .* 0\.01"):
        calibrate_recipe("plate", data_dir, false_alarm_target=0.01)
    assert calibrate_recipe("plate", data_dir).released


def test_what_is_no_confirmed_good_production_part_does_not_count(line: Line, data_dir: Path, taught: Path) -> None:
    """Only production, first attempts, with a score, confirmed by a person, of this recipe, each frame once."""
    for score in good_scores(20):
        line.produce(score, OK)
    first_taught = sha256_hex((taught / "good" / "good000.jpg").read_bytes())
    line.produce(1.0, OK, purpose=Purpose.VERIFICATION)
    line.produce(1.0, OK, purpose=Purpose.SIMULATED)
    line.produce(1.0, OK, attempt=2)
    line.produce(1.0, OK, reasons=("registration confidence 0.10 below 0.50",))
    line.produce(None, OK, reasons=("the detector failed",))
    line.produce(1.0, OK, cause="opinion")
    line.produce(1.0, REVIEW)
    line.produce(1.0, OK, frame=first_taught)
    line.produce(1.0, OK, frame="e" * 64)
    line.produce(1.0, OK, frame="e" * 64)
    other = line.ref
    line.ref = RecipeRef(other.name, other.version, "b" * 64)
    line.produce(1.0, OK)
    line.ref = RecipeRef("bolt", other.version, other.sha256)
    line.produce(1.0, OK)
    assert len(calibrate_recipe("plate", data_dir).confirmed.from_database) == 21


def test_the_newest_disposition_decides(line: Line, data_dir: Path) -> None:
    """A part called good and later defective is a defect."""
    parts = [line.produce(score, OK) for score in good_scores(22)]
    line.db.close()
    line.db = Database.open(data_dir)
    name, trigger_id = str(parts[3].inspection_id), str(parts[3].trigger.trigger_id)
    record = add_review(line.db, name, reviewer="lee", finding="NG", now_us=NOON_US + 1)
    add_disposition(line.db, trigger_id, "NG", cause="review", cause_id=record, messages=(), now_us=NOON_US + 1)
    report = calibrate_recipe("plate", data_dir)
    assert (len(report.confirmed.from_database), len(report.confirmed.defect_scores)) == (21, 1)


def test_reviewing_only_what_alarmed_is_no_fair_sample(line: Line, data_dir: Path, taught: Path) -> None:
    """Good parts confirmed only because they alarmed would raise the threshold: they are left out, and it is said."""
    for score in good_scores(300):
        line.produce(score)
    for number in range(30):
        line.produce(line.thresholds.review + 0.01 * number, OK)
    with pytest.raises(FitError, match=r"0 confirmed good parts.*30 of 30 good parts .* no fair sample"):
        calibrate_recipe("plate", data_dir)
    report = calibrate_recipe("plate", data_dir, good_dir=taught / "fresh")
    assert (len(report.confirmed.from_database), len(report.confirmed.from_folder)) == (0, 60)


def test_alarms_among_all_confirmed_parts_are_a_fair_sample(line: Line, data_dir: Path) -> None:
    """Where every part was looked at, overkill counts: the threshold rises above it."""
    high = [line.thresholds.review + 0.005 * number for number in range(20)]
    for score in good_scores(40) + high:
        line.produce(score, OK)
    for score in (high[0], high[1]):
        line.produce(score)
    report = calibrate_recipe("plate", data_dir)
    assert len(report.confirmed.from_database) == 60
    assert report.calibration.thresholds.review > report.previous.review
    assert any("2 parts that are not OK wait for a review" in note for note in report.notes)


def test_a_version_that_passes_a_known_defect_is_not_released(line: Line, data_dir: Path) -> None:
    """It is stored, and a person may release it; the known defect that both catch does not hinder."""
    high = [line.thresholds.review + 0.01 * number for number in range(40)]
    for score in high:
        line.produce(score, OK)
    line.produce(50.0, NG)
    assert calibrate_recipe("plate@1", data_dir).released
    line.produce(line.thresholds.review + 0.001, NG)
    report = calibrate_recipe("plate@1", data_dir)
    assert (report.defects_passed, report.released) == (1, False)
    assert any("not released" in note and str(report.ref) in note for note in report.notes)
    assert [entry.version for entry in RecipeStore(data_dir).released("plate")] == [1, 2]


def test_parts_of_older_versions_with_the_same_scores_count_on(line: Line, data_dir: Path) -> None:
    """The promise tightens with the number of parts over calibrations; another fit starts anew."""
    for score in good_scores(30):
        line.produce(score, OK)
    first = calibrate_recipe("plate", data_dir)
    line.db.close()
    later = Line(data_dir)
    later.parts = line.parts
    assert later.ref == first.ref
    for score in good_scores(30, seed=2):
        later.produce(score, OK)
    second = calibrate_recipe("plate", data_dir)
    assert len(second.confirmed.from_database) == 60
    assert np.ptp(second.calibration.interval) < np.ptp(first.calibration.interval)
    record = RecipeStore(data_dir).load("plate").manifest.calibration
    assert record is not None and [item.version for item in record.same_scores] == [2, 1]


def test_a_frame_in_database_and_folder_counts_once(line: Line, data_dir: Path, taught: Path) -> None:
    """The stored score is used, the photograph left out."""
    images = ImageFolder(tuple(sorted((taught / "fresh").iterdir())))
    for index, score in enumerate(good_scores(10)):
        line.produce(score, OK, frame=images.sha256(index))
    report = calibrate_recipe("plate", data_dir, good_dir=taught / "fresh")
    assert (len(report.confirmed.from_database), len(report.confirmed.from_folder)) == (10, 50)


# --- the numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "fewest"), [(0.05, 20), (0.1, 20), (0.02, 49), (0.01, 99), (0.001, 999)])
def test_the_fewest_parts_are_those_the_promise_needs(target: float, fewest: int) -> None:
    """With so many the smallest promise 1/(n + 1) reaches the target."""
    assert fewest_confirmed(target) == fewest and 1 / (fewest + 1) <= target + 1e-12
    assert conformal_rank(fewest, target) is not None
    assert fewest == 20 or conformal_rank(fewest - 1, target) is None


def test_thousands_of_parts_are_no_problem() -> None:
    """The exact interval of 20,000 parts is narrow, lies around the target, and is computed at all."""
    scores = np.random.default_rng(5).gamma(20.0, 0.05, 20_000).tolist()
    found = calibrate_confirmed(scores, 0.05)
    low, high = found.interval
    assert 0.045 < low < 0.05 < high < 0.055
    assert 0.0 <= found.ng_interval[0] < found.ng_interval[1] < low


@pytest.mark.parametrize("target", [0.05, 0.01])
def test_the_interval_holds_for_heavy_tails_too(target: float) -> None:
    """Over many draws with rare high scores, some called odd, the true rate lies in the 95 % interval nearly always."""
    random = np.random.default_rng(7)
    inside = []
    for _ in range(150):
        low, high = (found := calibrate_confirmed(random.lognormal(0.2, 0.5, 200).tolist(), target)).interval
        rate = (random.lognormal(0.2, 0.5, 5000) >= found.thresholds.review).mean()
        inside.append(low <= rate <= high)
    assert np.mean(inside) >= 0.9


def test_too_many_odd_parts_are_an_error() -> None:
    """When leaving out odd parts breaks the promise it is refused, not extrapolated."""
    scores = [*np.random.default_rng(6).normal(1.0, 0.02, 18).tolist(), 5.0, 6.0]
    with pytest.raises(FitError, match="2 of 20 confirmed good parts score like no other"):
        calibrate_confirmed(scores, 0.05)
